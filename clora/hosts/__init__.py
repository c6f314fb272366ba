"""One adapter per host; each supplies a denoiser, text encoding and token positions."""

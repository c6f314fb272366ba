"""Adapters: one per host, each supplying a denoiser, text encoding and token positions."""

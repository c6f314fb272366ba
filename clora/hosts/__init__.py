"""Adapters: one file per host, each supplying a denoiser, text encoding and token positions."""

"""The host's package."""

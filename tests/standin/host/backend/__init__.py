"""Forge's own package."""

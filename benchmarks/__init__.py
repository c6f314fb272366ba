"""Measurements. Each is a command that prints tables."""

"""Draws the figures of the documents."""

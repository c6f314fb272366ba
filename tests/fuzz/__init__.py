"""Hostile input for every outer edge: python -m tests.fuzz --seconds 60. Right is an answer or one sentence."""

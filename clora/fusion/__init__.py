"""Masks and predictions become one prediction (paper section 3.3)."""

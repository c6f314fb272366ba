"""Folders of the host."""

data_path = "."

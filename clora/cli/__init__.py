"""The command line: clora compose, demo, serve and evaluate."""

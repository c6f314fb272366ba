"""From a composition to encoded variants and image plans, step by step; written once for all hosts."""

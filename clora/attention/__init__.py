"""Attention maps: read from a host's own forward, averaged for each variant (paper section 3.1)."""

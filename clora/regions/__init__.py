"""Regions the user asks for, masks cut from attention maps, and where subjects were found (paper section 3.3)."""

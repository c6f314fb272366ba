"""A package of reForge."""

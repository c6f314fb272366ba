"""A judge of identity, trained on renders only: which characters and things are in a picture, and in which style."""

from .judge import Finding, Judge, Verdict

__all__ = ["Finding", "Judge", "Verdict"]

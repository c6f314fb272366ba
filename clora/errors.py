"""The one exception whose text is shown to users."""

from __future__ import annotations


class CLoRAError(Exception):
    """A user's mistake or an unusable file: one sentence with cause, place and remedy.

    Hosts show `str(error)` as it is (panel, API answer, command line with exit code 2) and stop before sampling.
    """

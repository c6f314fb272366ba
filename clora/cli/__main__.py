"""`python -m clora.cli` is the command `clora`."""

from .main import main

main()

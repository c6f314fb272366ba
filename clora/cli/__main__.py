"""`python -m clora.cli` runs the command `clora`."""

import sys

from .main import main

sys.exit(main())

"""``python -m aiopde``: the same as the command ``aiopde``."""

import sys

from .cli import main

sys.exit(main())

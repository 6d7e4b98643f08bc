"""``python -m aiopde``: the same as the command ``aiopde``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())

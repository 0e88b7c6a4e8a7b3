"""``python -m velum``: the same as the command ``velum``."""

import sys

from velum.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m skinfluence`."""

import sys

from skinfluence._cli import main

if __name__ == "__main__":
    sys.exit(main())

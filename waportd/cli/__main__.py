"""Runs ``waportctl`` as ``python3 -m waportd.cli``."""

import sys

from waportd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())

"""The program ``waportd``, also as ``python3 -m waportd``."""

import sys

from waportd.shortcuts import collector_paused

with collector_paused():
    from waportd.daemon import main

if __name__ == "__main__":
    sys.exit(main())

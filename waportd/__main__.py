"""The program ``waportd``, also as ``python3 -m waportd``."""

import gc
import sys

# Nothing that is imported becomes garbage: to look for it meanwhile takes a tenth of the start, and later some of
# every search.
gc.disable()
from waportd.daemon import main  # noqa: E402

gc.freeze()
gc.enable()

if __name__ == "__main__":
    sys.exit(main())

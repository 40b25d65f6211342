"""What all tests share."""

import sys
from pathlib import Path

# The tests run from the checkout: its package is the one that is tested, not one that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent / "unit"))

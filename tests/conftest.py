"""What all tests share."""

import sys
from pathlib import Path

# The tests run from the checkout: its package is the one that is tested, not one that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent / "unit"))
# Last: what a test imports by a plain name is the tests' own.
sys.path.append(str(Path(__file__).resolve().parent.parent / "tools"))

from rows import EVERYTHING


def pytest_collection_modifyitems(config, items):
    """Leave what takes long to `make reliability`."""
    long = [] if EVERYTHING else [item for item in items if item.get_closest_marker("thorough")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]

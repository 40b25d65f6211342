"""A fleet's engine and hosts, as they really are."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

pytest.register_assert_rewrite("engine_contract")

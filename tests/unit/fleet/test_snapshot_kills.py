"""A host that is killed while it publishes or restores a snapshot: each step of it is tried."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_a_kill_at_any_step_leaves_a_whole_snapshot_and_the_next_one_clears_up(tmp_path):
    done = subprocess.run(
        [sys.executable, HERE / "killing.py", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": f"{HERE.parents[2]}:{HERE}"},
    )
    assert done.returncode == 0, done.stderr
    publishing, restoring = map(int, done.stdout.split())
    assert publishing > 20
    assert restoring > 15

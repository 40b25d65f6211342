"""The API over TCP, in a process of its own: all of it is real but systemd and WhatsApp (`serve.py`)."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@contextlib.contextmanager
def served_api(folder):
    """Serve it with its state below a folder; give its address and a token. Fails where the daemon complains."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/unit'}"}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, HERE / "serve.py", folder / "state"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as server,
    ):
        try:
            line = server.stdout.readline()
            assert line, (folder / "log").read_text()
            yield json.loads(line)
        finally:
            server.terminate()
    complaints = (folder / "log").read_text()
    assert "Traceback" not in complaints, complaints
    assert server.returncode == 0

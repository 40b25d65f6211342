"""schemathesis holds the API to its OpenAPI document: with what it allows, what it forbids, and in any order."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXAMPLES = 25
"""Calls of each operation that are made up, beside those that follow from its description."""


@pytest.fixture
def served(tmp_path):
    """The API over TCP; gives its address and a token."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/unit'}"}
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, HERE / "serve.py", tmp_path / "state"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as server,
    ):
        try:
            line = server.stdout.readline()
            assert line, (tmp_path / "log").read_text()
            yield json.loads(line)
        finally:
            server.terminate()
    complaints = (tmp_path / "log").read_text()
    assert "Traceback" not in complaints, complaints
    assert server.returncode == 0


def test_every_call_keeps_what_the_document_promises(served, tmp_path):
    # From a file: what it reads over HTTP it does not take for a call of the API.
    document = tmp_path / "openapi.json"
    with urllib.request.urlopen(f"{served['url']}/openapi.json") as answer:
        document.write_bytes(answer.read())
    run = subprocess.run(
        [
            ROOT / ".venv/bin/schemathesis",
            f"--config-file={HERE / 'schemathesis.toml'}",
            "run",
            document,
            f"--url={served['url']}",
            f"--header=Authorization: Bearer {served['token']}",
            f"--max-examples={EXAMPLES}",
            "--continue-on-failure",
            "--request-timeout=70",
            "--generation-database=none",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    count = sum(map(len, json.loads(document.read_text())["paths"].values()))
    assert re.search(rf"Selected: {count}/{count}\n\s+Tested: {count}\n", run.stdout), run.stdout
    assert "No issues found" in run.stdout, run.stdout

"""schemathesis holds the API to its OpenAPI document: with what it allows, what it forbids, and in any order."""

import json
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest
from serving import served_api

from waportd.api.parameters import OPTIONS

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXAMPLES = 25
"""Calls of each operation that are made up, beside those that follow from its description."""


def exact(node):
    """Return the document with all that each option accepts, of which it shows only what people and generators need."""
    options = {one.name: one for one in OPTIONS.members if one.simple}
    if isinstance(node, list):
        return [exact(one) for one in node]
    if not isinstance(node, dict):
        return node
    return {
        name: options[name].exact if name in options and value == options[name].schema else exact(value)
        for name, value in node.items()
    }


@pytest.fixture
def served(tmp_path):
    """The API over TCP; gives its address and a token."""
    with served_api(tmp_path) as served:
        yield served


def test_every_call_keeps_what_the_document_promises(served, tmp_path):
    # From a file: what it reads over HTTP it does not take for a call of the API.
    document = tmp_path / "openapi.json"
    with urllib.request.urlopen(f"{served['url']}/openapi.json") as answer:
        described = json.load(answer)
    narrowed = exact(described)
    assert narrowed != described
    document.write_text(json.dumps(narrowed))
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

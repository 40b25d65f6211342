"""The OpenAPI document as developers of web apps use it: linters read it, and generators make clients that work."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from serving import served_api

from waportd.api import openapi
from waportd.api.server import operations

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / "build/openapi"
PROGRAMS = TOOLS / "node_modules/.bin"


def run(*command, folder, **environment):
    """Return what a program writes; fail where it fails."""
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the document, from which the tools' modules can be found."""
    assert (TOOLS / "installed").exists(), "run `tools/install-deps test`"
    made = tmp_path_factory.mktemp("openapi")
    (made / "openapi.json").write_text(json.dumps(openapi.document(operations())))
    (made / "node_modules").symlink_to(TOOLS / "node_modules")
    return made


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The API over TCP; gives its address and a token."""
    with served_api(tmp_path_factory.mktemp("daemon")) as served:
        yield served


def test_spectral_has_nothing_to_say(folder):
    said = run(
        PROGRAMS / "spectral",
        "lint",
        "openapi.json",
        f"--ruleset={HERE / 'spectral.yaml'}",
        "--fail-severity=hint",
        folder=folder,
    )
    assert "No results" in said


def test_redocly_has_nothing_to_say(folder):
    said = run(
        PROGRAMS / "redocly",
        "lint",
        "openapi.json",
        f"--config={HERE / 'redocly.yaml'}",
        "--format=json",
        folder=folder,
        REDOCLY_TELEMETRY="off",
        REDOCLY_SUPPRESS_UPDATE_NOTICE="true",
    )
    found = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert found["problems"] == []


def test_a_web_app_in_typescript_works_with_a_generated_client(folder, served):
    run(PROGRAMS / "openapi-typescript", "openapi.json", "--output=schema.d.ts", folder=folder)
    (folder / "package.json").write_text('{"type": "module"}')
    for name in ("app.ts", "tsconfig.json"):
        shutil.copy(HERE / name, folder)
    run(PROGRAMS / "tsc", "--project", "tsconfig.json", folder=folder)
    run("node", "made/app.js", served["url"], served["token"], folder=folder)


def test_a_web_app_in_python_works_with_a_generated_client(folder, served):
    said = run(
        TOOLS / "venv/bin/openapi-python-client",
        "generate",
        "--path=openapi.json",
        "--meta=none",
        "--output-path=waportd_api",
        f"--config={HERE / 'python-client.yaml'}",
        folder=folder,
    )
    assert "WARNING" not in said, said
    python = TOOLS / "venv/bin/python"
    run(python, HERE / "app.py", served["url"], served["token"], folder=folder, PYTHONPATH=str(folder))

"""`make audit`: real npm and real debsecan, which ask a registry and a tracker of our own."""

from __future__ import annotations

import datetime as dt
import gzip
import http.server
import json
import os
import platform
import subprocess
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIT = Path(__file__).resolve().parents[2] / "tools/audit"
LOCK = {
    "name": "app",
    "version": "1.0.0",
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "app", "version": "1.0.0", "dependencies": {"leaky": "1.0.0"}, "devDependencies": {"tester": "1.0.0"}},
        "node_modules/leaky": {"version": "1.0.0"},
        "node_modules/tester": {"version": "1.0.0", "dev": True},
    },
}  # fmt: skip
ADVISORY = {
    "id": 1,
    "url": "https://github.com/advisories/GHSA-aaaa-bbbb-cccc",
    "title": "it leaks",
    "severity": "high",
    "vulnerable_versions": "<2.0.0",
    "cwe": [],
    "cvss": {"score": 7.5, "vectorString": None},
}
STATUS = """\
Package: python3-leaky
Status: install ok installed
Architecture: all
Version: 1.0-1
Description: leaks

Package: leaky-tool
Status: install ok installed
Architecture: all
Version: 1.0-1
Description: leaks, and is none of ours
"""
TRACKED = """\
VERSION 1
CVE-2026-0001,,it leaks
CVE-2026-0002,,it leaks too

python3-leaky,0,B RF,2.0-1,
leaky-tool,1,B RF,2.0-1,


"""
"""What debsecan reads: names of vulnerabilities; whose they are, with flags and the version that fixes each."""


class Lists(http.server.ThreadingHTTPServer):
    """A registry and a tracker."""

    advisories: dict[str, list[Any]] = {}  # noqa: RUF012
    tracked = "VERSION 1\n\n\n\n"
    closed = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Request(http.server.BaseHTTPRequestHandler):
    server: Lists

    def do_POST(self) -> None:
        asked = json.loads(gzip.decompress(self.rfile.read(int(self.headers["Content-Length"]))))
        answer = {name: listed for name, listed in self.server.advisories.items() if name in asked}
        if self.server.closed or self.path != "/-/npm/v1/security/advisories/bulk":
            self.send_error(405)
        else:
            self._answer(json.dumps(answer).encode())

    def do_GET(self) -> None:
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
        if self.path == f"/tracker/{suite}" and not self.server.closed:
            self._answer(zlib.compress(self.server.tracked.encode()))
        elif self.path == "/leaky":
            versions = {number: {"name": "leaky", "version": number} for number in ("1.0.0", "2.0.0")}
            self._answer(json.dumps({"name": "leaky", "versions": versions}).encode())
        else:
            self.send_error(404)

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def lists() -> Iterator[Lists]:
    with Lists() as lists:
        threading.Thread(target=lists.serve_forever, daemon=True).start()
        yield lists
        lists.shutdown()


def audit(lists: Lists, folder: Path, *excepted: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    (folder / "package.json").write_text(json.dumps(LOCK["packages"][""]))
    (folder / "package-lock.json").write_text(json.dumps(LOCK))
    (folder / "status").write_text(STATUS)
    (folder / "exceptions.yaml").write_text(yaml.safe_dump(list(excepted)))
    return subprocess.run(
        [
            AUDIT, "--folder", folder, "--exceptions", folder / "exceptions.yaml", "--registry", lists.url,
            "--tracker", f"{lists.url}/tracker", "--status", folder / "status",
        ],
        env={**os.environ, "npm_config_cache": str(folder / "cache"), "npm_config_fetch_retries": "0"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )  # fmt: skip


def exempt(identifier: str, until: dt.date = dt.date(2999, 1, 1)) -> dict[str, Any]:
    return {"advisory": identifier, "reason": "nobody calls it", "until": until}


def test_nothing_known_is_nothing_to_do(lists: Lists, tmp_path: Path) -> None:
    done = audit(lists, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "node modules: 0 known" in done.stdout
    assert "Python packages: 0 known" in done.stdout


def test_what_is_known_of_a_shipped_module_or_a_python_package_fails(lists: Lists, tmp_path: Path) -> None:
    lists.advisories = {"leaky": [ADVISORY], "tester": [ADVISORY]}
    lists.tracked = TRACKED
    done = audit(lists, tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "audit: CVE-2026-0001 in python3-leaky: apt upgrade fixes it",
        "audit: GHSA-aaaa-bbbb-cccc in leaky: it leaks",
    ]


def test_an_exception_holds_until_its_end_and_as_long_as_there_is_something(
    lists: Lists, tmp_path: Path
) -> None:
    lists.advisories = {"leaky": [ADVISORY]}
    lists.tracked = TRACKED
    both = exempt("GHSA-aaaa-bbbb-cccc"), exempt("CVE-2026-0001")
    done = audit(lists, tmp_path, *both)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("nobody calls it") == 2
    today = dt.datetime.now(dt.UTC).date()
    done = audit(lists, tmp_path, exempt("GHSA-aaaa-bbbb-cccc", today), both[1], exempt("CVE-2025-9999"))
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"audit: GHSA-aaaa-bbbb-cccc in leaky: it leaks; the exception ended on {today}",
        "audit: CVE-2025-9999 is excepted, but is no longer reported",
    ]


def test_nobody_to_ask_is_no_success(lists: Lists, tmp_path: Path) -> None:
    lists.closed = True
    done = audit(lists, tmp_path, exempt("CVE-2025-9999"))
    assert done.returncode == 75
    assert done.stdout.count("skipped: nobody could be asked") == 2
    assert "405" in done.stdout


def test_an_exception_needs_a_reason(lists: Lists, tmp_path: Path) -> None:
    done = audit(lists, tmp_path, {"advisory": "CVE-2025-9999", "until": dt.date(2999, 1, 1)})
    assert done.returncode == 1
    assert "an exception has advisory, reason and until" in done.stderr

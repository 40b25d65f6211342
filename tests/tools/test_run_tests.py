"""A run of all tests, whose parts are several processes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
sys.path.insert(0, sys.argv[1])
loader = SourceFileLoader("run_tests", sys.argv[1] + "/run-tests")
module = sys.modules["run_tests"] = module_from_spec(spec_from_loader("run_tests", loader))
loader.exec_module(module)
"""
BUILD = f"{PROGRAM}sys.exit(not module.built())"
RUN_BESIDE = f"""{PROGRAM}
module.__file__ = sys.argv[2]; all = module.run_beside(sys.argv[3:])
print('in all:', all)
print('which:', all.failures)
"""
PART = """#!/bin/sh
echo begin >>seen
sleep 0.5
echo end >>seen
case $1 in
crash) exit 1 ;;
fault) echo 'failed: tests.of::fault: assert 1 == 2'; echo '=== 2 passed, 1 failed, 0 skipped in 0.5s ==='; exit 1 ;;
*) echo "of $1"; echo '=== 3 passed, 0 failed, 1 skipped in 0.5s ===' ;;
esac
"""
MAKE = """#!/bin/sh
echo begin "$@" >>made
sleep 0.3
echo end >>made
exit $(cat outcome)
"""
RUN_ALL = f"""{PROGRAM}
from pathlib import Path
module.CHECKOUT, module.__file__, module.PARTS = Path.cwd(), sys.argv[2], dict.fromkeys(sys.argv[3:])
sys.argv[1:] = []
module.main()
"""
RUN_SOME = f"""{PROGRAM}
from pathlib import Path
module.WITH_SYSTEMD = ()
module.CHECKOUT = Path.cwd()
module.PARTS = {{
    "python": lambda: module.pytest("some"),
    "node": lambda: module.node("node", Path.cwd().glob("some/*.test.js")),
    "command": lambda: module.check("false", "with a", "word"),
}}
sys.argv[1:] = ["python", "node", "command"]
sys.exit(module.main())
"""
SOME_PYTHON = """
def test_it_holds():
    pass

def test_it_fails():
    assert "a" + "b" == "c", "of\\nlines"
"""
SOME_NODE = """
const test = require("node:test");
test("it holds", () => {});
test("another", () => require("node:assert").equal(1, 2));
test("all of it", async (t) => {
  await t.test("it fails", () => { throw new Error("not so"); });
});
"""
LONG_PART = """#!/bin/sh
trap 'sleep 0.5; echo "$1 ended" >>seen; exit 1' INT
echo "$1 begins" >>seen
while :; do sleep 0.1; done
"""


@pytest.fixture
def parts(tmp_path):
    """Have so many parts of a run want the package at the same time, where `make` ends as asked; return how they end."""
    (tmp_path / ".run/test").mkdir(parents=True)
    make = tmp_path / "make"
    make.write_text(MAKE)
    make.chmod(0o755)

    def start(run, outcome=0, count=2):
        (tmp_path / "outcome").write_text(str(outcome))
        surroundings = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "RUN_TESTS_STARTED": run}
        command = [sys.executable, "-c", BUILD, ROOT / "tools"]
        started = [subprocess.Popen(command, cwd=tmp_path, env=surroundings) for _ in range(count)]
        return [one.wait(60) for one in started]

    start.made = lambda: (tmp_path / "made").read_text().splitlines()
    return start


def test_the_package_is_built_once_in_a_run_and_again_in_the_next_one(parts):
    assert parts("1") == [0, 0]
    assert parts.made() == ["begin deb", "end"]
    assert parts("2") == [0, 0]
    assert parts.made() == ["begin deb", "end"] * 2


def test_a_package_that_cannot_be_built_fails_each_part_that_needs_it(parts):
    assert parts("1", outcome=1) == [1, 1]
    assert parts("1") == [0, 0]
    assert parts.made() == ["begin deb", "end"] * 3


def test_parts_run_beside_each_other_and_each_one_counts(tmp_path):
    (tmp_path / ".run/test").mkdir(parents=True)
    part = tmp_path / "part"
    part.write_text(PART)
    part.chmod(0o755)
    names = ["one", "two", "crash", "fault", "three"]
    command = [sys.executable, "-c", RUN_BESIDE, ROOT / "tools", part, *names]
    said = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    # One that says no numbers has failed.
    assert "in all: 11 passed, 2 failed, 3 skipped" in said
    assert "which: ['crash: the runner failed, or ran no test', 'tests.of::fault: assert 1 == 2']" in said
    assert all(f"of {name}\n" in said for name in ("one", "two", "three"))
    now = most = 0
    for line in (tmp_path / "seen").read_text().splitlines():
        now += 1 if line == "begin" else -1
        most = max(most, now)
    assert most == 3


def test_the_last_lines_name_what_failed(tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some/test_python.py").write_text(SOME_PYTHON)
    (tmp_path / "some/node.test.js").write_text(SOME_NODE)
    run = subprocess.run(
        [sys.executable, "-c", RUN_SOME, ROOT / "tools"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    python, *of_node, command, total = run.stdout.splitlines()[-5:]
    assert python.startswith("failed: some.test_python::test_it_fails: AssertionError: of lines")
    place = "failed: .*some/node\\.test\\.js:{}:[0-9]+ {}"
    assert re.fullmatch(place.format(4, "another: .*1 [!=]=+ 2.*"), of_node[0])
    assert re.fullmatch(place.format(6, "it fails: 'not so'"), of_node[1])
    assert command == "failed: false 'with a' word"
    assert total.startswith("=== 2 passed, 5 failed, 0 skipped in ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_ends_it_ends_its_parts_and_waits_for_them(tmp_path, number):
    (tmp_path / ".run/test").mkdir(parents=True)
    part, seen = tmp_path / "part", tmp_path / "seen"
    part.write_text(LONG_PART)
    part.chmod(0o755)
    seen.touch()
    command = [sys.executable, "-c", RUN_ALL, ROOT / "tools", part, "one", "two"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True) as run:
        deadline = time.monotonic() + 60
        while seen.read_text().count("begins") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        # As a terminal does, or as a supervisor that knows of this process alone.
        (os.killpg if number == signal.SIGINT else os.kill)(run.pid, number)
        assert run.wait(60) != 0
    assert sorted(seen.read_text().splitlines())[1::2] == ["one ended", "two ended"]

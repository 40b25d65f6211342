"""The table of attacks in docs/security.md names tests that there are, and all attacks that the tests try."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_, _, _SECTION = (ROOT / "docs/security.md").read_text("utf-8").partition("\n## Attacks that are tried\n")
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in _SECTION.partition("\n## ")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| Attack")
]
NAMED = re.compile(r"`(tests/[^`]+)::([^`]+)`")


def named(row):
    return NAMED.findall(row[-1])


def test_each_attack_has_what_stops_it_and_a_test():
    assert len(ROWS) > 50
    assert len({attack for attack, *_ in ROWS}) == len(ROWS)
    for row in ROWS:
        assert len(row) == 3, row
        assert all(row), row
        assert named(row), f"no test: {row[0]}"
        assert not NAMED.sub("", row[-1]).strip(" ,"), f"more than tests: {row[-1]}"


@pytest.mark.parametrize(("file", "name"), sorted({each for row in ROWS for each in named(row)}))
def test_each_test_that_is_named_is_there(file, name):
    text = (ROOT / file).read_text("utf-8")
    found = {
        ".py": rf"^ *(?:async )?def {re.escape(name)}\(",
        ".js": rf"^ *(?:it|describe|test|fuzz)\(\s*(['\"`]){re.escape(name)}\1",
    }[Path(file).suffix]
    assert re.search(found, text, re.MULTILINE), f"{file} has no test {name!r}"


@pytest.mark.parametrize(
    "file",
    sorted(one for form in ("test_*.py", "*.test.js") for one in Path(ROOT, "tests/hostile").glob(form)),
    ids=lambda one: one.name,
)
def test_each_hostile_test_is_named(file):
    path = str(file.relative_to(ROOT))
    begin = {".py": r"^(?:async )?def (test_\w+)", ".js": r"^fuzz\('([^']+)'"}[file.suffix]
    tests = re.findall(begin, file.read_text("utf-8"), re.MULTILINE)
    assert tests
    missing = set(tests) - {name for row in ROWS for where, name in named(row) if where == path}
    assert not missing, f"docs/security.md does not tell what {path} tries: {sorted(missing)}"


def test_a_report_goes_to_somebody_who_reads_it():
    """An address that is put into debian/control is the one that is named, and a placeholder is named as such."""
    control = (ROOT / "debian/control").read_text("utf-8")
    [address] = re.findall(r"(?m)^Maintainer: .*<(.+)>$", control)
    report = (ROOT / "SECURITY.md").read_text("utf-8")
    assert f"`{address}`" in report
    assert address.endswith("@localhost") == (f"`{address}` in `debian/control` is a placeholder" in report)

"""The table of modules in docs/architecture.md, and the order of imports that `make lint` holds the code to."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRIVATE = re.compile(
    r"""\bsetattr\([^"']*["'](?:[\w.]*\.)?(_(?!_)\w+)["']|^from waportd\S* import .*\b(_[A-Za-z]\w*)""",
    re.MULTILINE,
)
"""What a test puts something in the place of, or imports, where its name is private."""
BESIDE = {"__main__", "cli", "client", "compat"}
"""What the text below the table says of."""


def rows_of_the_table():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    _, _, table = text.partition("| Module | Concept |\n|---|---|\n")
    rows = [line.split("|")[1] for line in table.partition("\n\n")[0].splitlines()]
    return [set(re.findall(r"`(\w+)/?`", row)) for row in rows]


def test_the_table_of_modules_is_the_order_that_lint_enforces():
    with (ROOT / "pyproject.toml").open("rb") as file:
        contract = tomllib.load(file)["tool"]["importlinter"]["contracts"][0]
    layers = [set(re.split(r" [:|] ", layer)) for layer in contract["layers"]]
    enforced = [layer for layer in reversed(layers) if not layer <= BESIDE]
    assert enforced == [row for row in rows_of_the_table() if row != {"web"}]  # which is not Python


def test_no_test_replaces_or_imports_what_is_private():
    """Of other uses ruff says so (SLF001)."""
    files = {path: path.read_text("utf-8") for path in ROOT.glob("tests/**/*.py")}
    found = {str(path.relative_to(ROOT)): PRIVATE.findall(text) for path, text in files.items()}
    assert {path: names for path, names in found.items() if names} == {}

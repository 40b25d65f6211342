"""Names of constants: they say in what unit they are."""

import ast
import itertools
from pathlib import Path

import pytest

import waportd.api

UNITS = {"Seconds": "_S", "Bytes": "_BYTES"}


def constants(path: Path) -> list[tuple[str, str]]:
    """Return the names that a module gives at its top, each with the text below it."""
    body = ast.parse(path.read_text()).body
    found = []
    for statement, below in itertools.pairwise(body):
        match statement, below:
            case (
                ast.Assign(targets=[ast.Name(name)]) | ast.AnnAssign(target=ast.Name(name)),
                ast.Expr(ast.Constant(str(words))),
            ):
                found.append((name, words))
    return found


@pytest.mark.parametrize(
    "path", sorted(Path(waportd.api.__file__).parent.glob("*.py")), ids=lambda path: path.stem
)
def test_a_constant_in_seconds_or_bytes_ends_with_its_unit(path):
    for name, words in constants(path):
        unit = UNITS.get(words.split()[0].strip("."), "")
        assert name.endswith(unit), f"{name}: {words}"


def test_the_constants_are_found():
    names = dict(constants(Path(waportd.api.__file__).with_name("sse.py")))
    assert names["HEARTBEAT_S"].startswith("Seconds")

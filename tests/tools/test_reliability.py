"""What docs/reliability.md says of how it came about."""

import json
import re
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from multiprocessing import Pool
from pathlib import Path

from rows import Row, note

ROOT = Path(__file__).resolve().parents[2]


def head():
    """Return the head of the page as `tools/reliability` writes it."""
    loader = SourceFileLoader("reliability", str(ROOT / "tools/reliability"))
    module = module_from_spec(spec_from_loader("reliability", loader))
    loader.exec_module(module)
    return module.HEAD


def test_the_page_names_each_file_whose_rows_it_has():
    recipe = re.search(r"(?ms)^reliability:.*?\n\n", (ROOT / "Makefile").read_text())[0]
    assert set(re.findall(r"tests/guest/(test_\w+\.py)", recipe)) == set(
        re.findall(r"`(test_\w+\.py)`", head())
    )


def test_the_page_begins_as_it_is_written():
    assert (ROOT / "docs/reliability.md").read_text().startswith(head())


def add(number, report):
    note(Row("trixie", f"fault {number}", "nothing", None), report)


def test_rows_of_machines_that_run_beside_each_other_are_all_kept(tmp_path):
    report = tmp_path / "run/faults.json"
    with Pool(4) as processes:
        processes.starmap(add, [(number, report) for number in range(40)])
    rows = json.loads(report.read_text())
    assert sorted(row["fault"] for row in rows) == sorted(f"fault {number}" for number in range(40))
    assert {row["module"] for row in rows} == {"tests/tools/test_reliability.py"}

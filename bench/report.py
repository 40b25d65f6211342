"""Write what was measured: bench/results.json, docs/benchmarks.md and its plots."""

import argparse
import json
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pygal
from pygal.style import CleanStyle

from bench.answers import answers

ROOT = Path(__file__).resolve().parent.parent
GROUPS = {
    "warm": "Answers from memory",
    "start": "Starts",
    "daemon": "The daemon",
    "scale": "With many assigned users",
    "messages": "Messages",
    "snapshots": "Snapshots of a login",
    "fleet_snapshots": "Snapshots of a login in a fleet",
    "fleet_engine": "Many hosts",
    "fleet_failover": "A host dies",
    "browsers": "Sessions with real browsers",
    "linked": "Linked sessions, on a page as heavy as the real one",
}
IMAGES = "docs/images"
STYLE = CleanStyle(
    font_family="sans-serif", label_font_size=12, major_label_font_size=12, legend_font_size=13
)

_INTRODUCTION = (
    "`make bench` measures waportd side by side with the least that would do the same, in one run: the two take "
    "turns, round after round, in alternating order; what is shown are medians, and of the **ratios** of all rounds "
    "the median and the middle half. Absolute times are this machine's; the ratios are the result. "
    "The same rows for programs: [bench/results.json](../bench/results.json)."
)

_QUICK = (
    "**This page is of a quick run** (`make bench QUICK=1`, then `python3 -m bench.report --quick --from .run/bench`): a "
    "few rounds, 20 servers in place of 200, two browsers in place of eight. It shows where things stand; a ratio near its "
    "target may fall on either side."
)

Row = dict[str, Any]


def main() -> None:
    """Write the report of what lies in ``.run/bench``."""
    parser = argparse.ArgumentParser(prog="bench.report", description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, default=ROOT / ".run/bench", metavar="DIR")
    parser.add_argument("--into", type=Path, default=ROOT, metavar="DIR", help="default: this checkout")
    parser.add_argument("--quick", action="store_true", help="say that it was a quick run")
    arguments = parser.parse_args()
    measured = {
        name: json.loads((arguments.source / f"{name}.json").read_text("utf-8"))
        for name in GROUPS
        if (arguments.source / f"{name}.json").exists()
    }
    for folder in ("bench", "docs", IMAGES):
        (arguments.into / folder).mkdir(parents=True, exist_ok=True)
    rows = [each for group in measured.values() for each in group]
    results = arguments.into / "bench/results.json"
    results.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
    plots = _plots(measured, arguments.into)
    (arguments.into / "docs/benchmarks.md").write_text(
        _document(measured, plots, quick=arguments.quick), "utf-8"
    )
    missed = [each["what"] for each in rows if each["met"] is False]
    print(f"{arguments.into}/docs/benchmarks.md: {len(rows)} rows, {len(missed)} targets missed")
    for what in missed:
        print(f"  missed: {what}")


def _document(measured: dict[str, list[Row]], plots: list[tuple[str, str]], *, quick: bool) -> str:
    parts = [
        "# Benchmarks",
        _INTRODUCTION,
        *([_QUICK] if quick else []),
        _machine(),
        *answers(row for rows in measured.values() for row in rows),
    ]
    for name, rows in measured.items():
        parts += [f"## {GROUPS[name]}", _table(rows)]
        parts += [
            f"![{title}](images/{file})" for title, file in plots if file.startswith(f"benchmarks-{name}")
        ]
    notes = (ROOT / "bench/notes.md").read_text("utf-8").strip()
    parts.append(notes)
    return "\n\n".join(parts) + "\n"


def _table(rows: list[Row]) -> str:
    lines = [
        "| What | Against | Ours | Theirs | Ratio | Middle half | Target | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in rows:
        verdict = {None: "", True: "met", False: "**missed**"}[each["met"]]
        first, third = each["spread"]
        cells = [
            each["what"],
            each["against"],
            f"{each['ours']:g} {each['unit']}",
            "" if each["theirs"] is None else f"{each['theirs']:g} {each['unit']}",
            "" if each["ratio"] is None else f"{each['ratio']:.3g}",
            f"{first:.3g} to {third:.3g} ({each['rounds']})" if each["rounds"] > 1 else "",
            each["target"] or "",
            verdict,
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _machine() -> str:
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    total = re.search(r"^MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text("utf-8"), re.MULTILINE)
    cores = len(re.findall(r"^processor\s*:", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE))
    debian = (
        Path("/etc/debian_version").read_text("utf-8").strip()
        if Path("/etc/debian_version").exists()
        else "?"
    )
    versions = {
        "Python": platform.python_version(),
        "node": _said("node", "--version"),
        "systemd": _said("systemctl", "--version").split("\n")[0].split(" ")[1],
        "browser": re.sub(r"[^0-9.]", "", _said("chromium-headless-shell", "--version")),
    }
    return (
        f"Measured on {time.strftime('%Y-%m-%d', time.gmtime())}: {cores} cores of {cpu[1] if cpu else 'a processor'}, "
        f"{int(total[1]) >> 20 if total else '?'} GiB, Linux {platform.release()}, Debian {debian}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ". The rows in parentheses are rounds."
    )


def _said(*command: str) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip() or "? ?"


def _plots(measured: dict[str, list[Row]], into: Path) -> list[tuple[str, str]]:
    plots = []
    for name, rows in measured.items():
        judged = [each for each in rows if each["ratio"] is not None]
        if judged:
            plots.append((f"{GROUPS[name]}: ratios", f"benchmarks-{name}.svg"))
            _bars(judged, GROUPS[name], into / IMAGES / f"benchmarks-{name}.svg")
    memory = [
        (int(match[1]), each["ours"])
        for each in measured.get("browsers", [])
        if (match := re.search(r"and the daemon: (\d+)$", each["what"]))
    ]
    if memory:
        plots.append(("Memory by number of sessions", "benchmarks-browsers-memory.svg"))
        _line(memory, into / IMAGES / "benchmarks-browsers-memory.svg")
    return plots


def _bars(rows: list[Row], title: str, path: Path) -> None:
    chart = pygal.HorizontalBar(
        style=STYLE, title=f"{title}: ours as a multiple of theirs", show_legend=False, height=90 + 46 * len(rows),
        width=1000, print_values=True, value_formatter=lambda value: f"{value:.2f}", js=[], truncate_label=70,
    )  # fmt: skip
    ordered = list(reversed(rows))
    chart.x_labels = [f"{each['what']} | {each['against']}" for each in ordered]
    colours = {None: "#8a8a8a", True: "#3a7d44", False: "#b3392f"}
    chart.add("ratio", [{"value": each["ratio"], "color": colours[each["met"]]} for each in ordered])
    path.write_bytes(chart.render())


def _line(points: list[tuple[int, float]], path: Path) -> None:
    chart = pygal.XY(
        style=STYLE, title="Sessions that wait for a scan: memory of all with the daemon, MiB (PSS)",
        show_legend=False, width=1000, height=400, js=[], range=(0, max(value for _, value in points)),
    )  # fmt: skip
    chart.add("MiB", points)
    path.write_bytes(chart.render())


if __name__ == "__main__":
    main()

"""Measure what is named, or everything, and write the rows as JSON."""

import argparse
import dataclasses
import importlib
import json
import sys
import time
from pathlib import Path

from bench import place

GROUPS = (
    "warm",
    "start",
    "daemon",
    "scale",
    "messages",
    "snapshots",
    "fleet_snapshots",
    "browsers",
    "linked",
)

OUTSIDE = ("fleet_engine", "fleet_failover")
"""Those that need no systemd, but what lies in the account's own home, which `tools/with-systemd` does not show: an etcd,
and booted machines."""


def main() -> int:
    """Return 1 where a measurement could not be made."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it works")
    parser.add_argument("--output", type=Path, default=place.ROOT / ".run/bench", metavar="DIR")
    parser.add_argument("group", nargs="*", choices=[*GROUPS, *OUTSIDE, []])
    arguments = parser.parse_args()
    if kept := [folder for folder in place.SESSIONS if folder.exists()]:
        parser.error(f"{kept[0]} holds sessions: run this as root, who gets a home for it alone")
    arguments.output.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for name in arguments.group or GROUPS:
        started = time.monotonic()
        print(f"== {name}", flush=True)
        rows = importlib.import_module(f"bench.{name}").rows(quick=arguments.quick)
        for each in rows:
            verdict = "" if each.met is None else "  met" if each.met else "  MISSED"
            ratio = "" if each.ratio is None else f"  ratio {each.ratio:g} {list(each.spread)}"
            print(
                f"   {each.what} | {each.against}: {each.ours:g} / {each.theirs} {each.unit}{ratio} "
                f"{each.target or ''}{verdict}",
                flush=True,
            )
        (arguments.output / f"{name}.json").write_text(
            json.dumps([dataclasses.asdict(each) for each in rows], indent=1, ensure_ascii=False), "utf-8"
        )
        print(f"== {name}: {time.monotonic() - started:.0f} s", flush=True)
    print(f"== all in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

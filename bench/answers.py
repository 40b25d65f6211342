"""What people ask before they choose a machine, answered from what was measured."""

import re
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]

HOSTS_GIB = (4, 8, 16, 64)
LEFT = 0.25
"""The share of a host's memory that the system and the web app have, as whatsapp.slice leaves it."""
KINDS = {
    "waiting for a scan": ("the first session that waits for a scan (PSS)", "each further session adds"),
    "linked, 100 chats": ("the first linked session, 100 chats (PSS)", "each further one adds, 100 chats"),
    "linked, 5,000 chats": (
        "the first linked session, 5,000 chats (PSS)",
        "each further one adds, 5,000 chats",
    ),
}
"""What a session does, and the rows that say what the first one takes, and what each further one adds."""

_MEMORY = (
    "**How many users fit on a host?** Memory decides. A quarter of it is left to the system and the web app; the rest "
    "holds so many sessions, extrapolated from those that were measured together:"
)


def answers(rows: Iterable[Row]) -> list[str]:
    """Return paragraphs of Markdown. What was not measured is left out."""
    ours = {each["what"]: each["ours"] for each in rows}
    parts = [*_how_many(ours), *_how_long(ours)]
    return ["## What people ask", *parts] if parts else []


def _how_many(ours: dict[str, float]) -> list[str]:
    daemon = ours.get("daemon, idle (PSS)", 0.0)
    fits = {}
    for kind, (first, further) in KINDS.items():
        one, each = _find(ours, first), _find(ours, further)
        if one is not None and each is not None:
            fits[kind] = [int((size * 1024 * (1 - LEFT) - daemon - one) / each) + 1 for size in HOSTS_GIB] + [
                f"{each:.0f} MiB"
            ]
    if not fits:
        return []
    head = ["Sessions", *(f"{size} GB" for size in HOSTS_GIB), "each"]
    lines = [head, ["---"] * len(head), *([kind, *map(str, row)] for kind, row in fits.items())]
    return [
        _MEMORY,
        "\n".join(f"| {' | '.join(line)} |" for line in lines),
        "A session that is stopped, or asleep after nobody asked for a code, takes none.",
    ]


def _how_long(ours: dict[str, float]) -> list[str]:
    code = _find(ours, "PUT of a stopped user until its code")
    killed = _find(ours, "kill -9 of a server until its port answers")
    ready = _find(ours, "PUT of a stopped linked user until it is ready, 100 chats")
    daemon = _find(ours, "daemon start until its first answer")
    idle = _find(ours, "processor time of a linked session in which nothing happens, 100 chats")
    costs = [
        ready and f"A stopped session of 100 chats is ready {_seconds(ready)} after it is asked for.",
        killed and f"The port of a server that was killed answers after {_seconds(killed)}.",
        daemon and f"The daemon answers {_seconds(daemon)} after its start; sessions run on meanwhile.",
    ]
    parts = [
        code
        and f"**How long does a person wait for a code?** {_seconds(code)} from the request, where no server ran "
        "before. What WhatsApp takes for its page comes on top.",
        any(costs) and f"**What does a restart cost?** {' '.join(each for each in costs if each)}",
        idle
        and f"**What does a session cost that does nothing?** {idle:.2g} % of a core: {int(100 / idle)} of them keep "
        "one busy.",
    ]
    return [each for each in parts if each]


def _find(ours: dict[str, float], words: str) -> float | None:
    """Return the value of the first row that has these words: how many were measured stands behind them."""
    found = re.compile(rf"{re.escape(words)}\b|{re.escape(words)}$")
    return next((value for what, value in ours.items() if found.search(what)), None)


def _seconds(milliseconds: float) -> str:
    return f"{milliseconds / 1000:.2g} s" if milliseconds >= 100 else f"{milliseconds:.0f} ms"

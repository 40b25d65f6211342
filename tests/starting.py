"""How many linked sessions start at a time, and how often: as the lines that their servers print say, with their moments."""

import re
from typing import NamedTuple

TURN = 30.0
"""Seconds for which a start that takes long holds up the others."""
KILLED = "killed"
"""What a test notes in place of a server that it kills: that one says nothing of it."""

_BEGINS = re.compile(r": starting the browser\b|its page is reloaded")
_TRIES = re.compile(r"its page is reloaded|opening another browser")
_LISTENS = re.compile(r": listening\b")
_READY = re.compile(r" -> ready\b")
_ENDS = re.compile(
    rf"{_READY.pattern}|next try at|restarts at|opening another browser|: stopping\b|{_LISTENS.pattern}|^{KILLED}$"
)


class Line(NamedTuple):
    """What a server printed."""

    moment: float
    """Seconds since the epoch."""
    port: int
    text: str


def lines_of(port, text, since=0.0):
    """Return the lines of one server, from a file in which each begins with its moment."""
    parted = (line.split(maxsplit=1) for line in text.splitlines())
    return [Line(float(moment), port, said) for moment, said in parted if float(moment) >= since]


def most_at_a_time(lines):
    """Return how many browsers at most were on their way to a session that is ready at a time."""
    begun, last, spans = {}, {}, []
    for moment, port, text in sorted(lines):
        if _BEGINS.search(text):
            begun.setdefault(port, moment)
        elif _ENDS.search(text) and port in begun:
            # Who was killed reported no end: the start was over by the time of what is known last.
            end = last[port] if _LISTENS.search(text) else moment
            began = begun.pop(port)
            spans.append((began, min(end, began + TURN)))
        last[port] = moment
    return max((sum(begin <= now < end for begin, end in spans) for now, _ in spans), default=0)


def starts(lines, port):
    """Return how many browsers were started for a user, or could not be."""
    return sum(
        line.port == port and bool(_BEGINS.search(line.text) or "next try at" in line.text) for line in lines
    )


def tries(lines, port):
    """Return what was tried after trouble, in order."""
    return [line.text for line in sorted(lines) if line.port == port and _TRIES.search(line.text)]


def is_back(lines, port):
    """Return whether a session that met a fault in these lines is ready again."""
    told = [
        line.text
        for line in sorted(lines)
        if line.port == port and (_BEGINS.search(line.text) or _ENDS.search(line.text))
    ]
    return bool(told) and bool(_READY.search(told[-1]))

"""WhatsApp's page as a server, or a look at it, has found it: what is shown of that, and how bad it is."""

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple

from waportd.client import Upstream, User

CORE = ("link", "login", "ready", "receive", "send")
"""Features without which there is no session (server/surface.js)."""


class Verdict(enum.IntEnum):
    """How bad it is, as exit statuses of ``doctor --upstream``. A promise, as those of `Exit`."""

    FINE = 0
    OPTIONAL = 1
    """Features are affected that sessions do not need."""
    BROKEN = 2
    """No code, or no session."""
    UNREACHED = 3
    """The page was not reached, or refused this browser: nothing can be said of it."""


class Finding(NamedTuple):
    """What was found, and what it means."""

    verdict: Verdict
    message: str
    hint: str | None
    document: dict[str, Any]
    """All of it, for programs."""


_HINT = "use a newer waportd, or another engine (`waportctl engine`): see docs/operations.md, 'The day WhatsApp changes'"


def rows(found: Upstream) -> list[tuple[str, str | None]]:
    """Return what runs, and what it lacks: names and values to show below each other."""
    lacking: dict[str, list[str]] = {}
    for each in found.missing:
        name = ".".join(filter(None, (each.module, each.member)))
        lacking.setdefault(each.feature, []).append(f"{name} ({each.found})")
    failed = [shim for shim, outcome in found.shims.items() if outcome == "failed"]
    return [
        ("WhatsApp Web", found.build),
        ("Pinned page", found.pinned),
        ("Library", f"whatsapp-web.js {found.library} ({found.engine})" if found.library else None),
        *((f"No {feature}", ", ".join(members)) for feature, members in lacking.items()),
        ("Failed shims", ", ".join(failed) or None),
    ]


def judge(found: dict[str, Any]) -> Finding:
    """Say what a look at the page (server/upstream.js) means."""
    error, code = found["error"], found["code"]
    if error and not found["reached"]:
        return Finding(Verdict.UNREACHED, error["message"], error["hint"], found)
    verdict, message = _lacks(found["upstream"])
    if error:
        return Finding(Verdict.BROKEN, error["message"], error["hint"], found)
    if verdict is not Verdict.BROKEN and code and code["shown"] is False:
        verdict, message = _differs(code)
    return Finding(verdict, message, _HINT if verdict else None, found)


def _differs(code: Mapping[str, Any]) -> tuple[Verdict, str]:
    if min(code["differing"]) > code["parts"]["given"]:
        # Under a switch of WhatsApp's the page appends an address for help.
        message = "the page shows the same code with more parts: try whether a phone accepts ours"
        return Verdict.OPTIONAL, message
    return Verdict.BROKEN, "the code to scan differs from the one on the page: no phone will accept it"


def _lacks(upstream: Mapping[str, Any]) -> tuple[Verdict, str]:
    features = list(dict.fromkeys(each["feature"] for each in upstream["missing"]))
    failed = [shim for shim, outcome in upstream["shims"].items() if outcome == "failed"]
    if core := [feature for feature in features if feature in CORE]:
        return Verdict.BROKEN, f"WhatsApp's page has changed: no {', no '.join(core)}, and so no sessions"
    if features or failed:
        affected = ", ".join([*features, *(f"shim {shim}" for shim in failed)])
        return Verdict.OPTIONAL, f"WhatsApp's page has changed: sessions work, without {affected}"
    return Verdict.FINE, "WhatsApp's page has everything that waportd needs"


def judge_server(user: User) -> Finding:
    """Say what it means that a user's server has found."""
    session = user.session
    document = {"upstream": session.raw.get("upstream") if session else None}
    if session is None or not session.answering or session.upstream is None or session.upstream.build is None:
        return Finding(
            Verdict.UNREACHED,
            (session and session.cause and session.message)
            or f"the server of user {user.user} has not seen WhatsApp's page since its start",
            (session and session.cause and session.hint)
            or f"`waportctl qr {user.user}` makes it load the page; `waportctl doctor --upstream` needs no user",
            document,
        )
    verdict, message = _lacks(session.upstream.raw)
    if session.cause == "upstream_changed":
        return Finding(Verdict.BROKEN, session.message, session.hint, document)
    return Finding(verdict, message, _HINT if verdict else None, document)


def code_words(code: Mapping[str, Any] | None) -> str | None:
    """Describe a code without its secrets."""
    if code is None:
        return None
    said = f"after {code['ms'] / 1000:.1f} s"
    if code["shown"] is None:
        return f"{said}; the page does not say which it shows"
    if code["shown"]:
        return f"{said}, the same as the page shows"
    parts, differing = code["parts"], ", ".join(map(str, code["differing"]))
    return f"{said}; it has {parts['given']} parts, that of the page {parts['shown']}, and they differ in {differing}"

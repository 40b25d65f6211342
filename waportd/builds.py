"""The versions of WhatsApp's page that servers found, and a log line for each: once, however many users have it."""

import logging
from typing import NamedTuple

from waportd.model import Missing, Upstream

_REMEMBERED_VERSIONS = 200
"""Versions that are remembered. WhatsApp has a new one each day or two; a server that makes up versions is ignored
at some point."""
_NAMED_MEMBERS = 5
"""Missing members that a sentence names."""


class News(NamedTuple):
    """A sentence for the log."""

    level: int
    """A level of `logging`."""
    text: str


class Builds:
    """Remembers what was said."""

    def __init__(self) -> None:
        self._said: dict[tuple[str | None, ...], set[Missing | str]] = {}

    def news(self, upstream: Upstream | None) -> News | None:
        """Return what is new about the version that a server has found; None where all of it was said before.

        A version is checked in parts, and not every account gets the same: what is found missing later is new.
        """
        if upstream is None or upstream.build is None or not upstream.checked:
            return None
        version = (upstream.build, upstream.library, upstream.engine, upstream.pinned)
        first = version not in self._said
        if first and len(self._said) >= _REMEMBERED_VERSIONS:
            return None
        said = self._said.setdefault(version, set())
        missing = [each for each in upstream.missing if each not in said]
        failed = [shim for shim, outcome in upstream.shims if outcome == "failed" and shim not in said]
        said.update(missing, failed)
        if not first and not missing and not failed:
            return None
        findings = [_describe(missing)] if missing else []
        if failed:
            findings.append(f"fixes in the page for the library failed: {', '.join(failed)}")
        found = "; ".join(findings) or "all that was checked is there"
        return News(logging.WARNING if findings else logging.INFO, f"{_name(upstream)}: {found}")


def _name(upstream: Upstream) -> str:
    pinned = f", pinned page {upstream.pinned}" if upstream.pinned else ""
    return f"WhatsApp Web {upstream.build} (whatsapp-web.js {upstream.library}, engine {upstream.engine}{pinned})"


def _describe(missing: list[Missing]) -> str:
    features = dict.fromkeys(each.feature for each in missing)
    named = [f"{_member(each)} ({each.found})" for each in missing[:_NAMED_MEMBERS]]
    more = f" and {len(missing) - _NAMED_MEMBERS} more" if len(missing) > _NAMED_MEMBERS else ""
    return f"changed for {', '.join(features)}: {', '.join(named)}{more}"


def _member(missing: Missing) -> str:
    return ".".join(filter(None, (missing.module, missing.member)))

"""Reads a server's reports about its session: events of its stream, and the document in each.

A server runs a browser with a foreign page, so nothing it says is trusted.
"""

import datetime as dt
import json
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from waportd.model import (
    SIZES,
    Missing,
    PairingCode,
    Passkey,
    PasskeyStage,
    Session,
    SessionState,
    Storage,
    Turn,
    Upstream,
    Webhook,
)
from waportd.plain import one_line

_MAX_EVENT_BYTES = 256 * 1024
"""Bytes of one event; a document is about 1 KiB."""
_TEXT_CHARS = 1000
"""Characters kept of a text that a server sends."""
_WORD_CHARS = 60
"""Characters kept of a name: of a feature, a module, a member."""
_LIST_ENTRIES = 200
"""Entries kept of a list that a server sends: more than all checks of WhatsApp's page."""
_MOST_BYTES = 2**53
"""More than any disk has, and the largest whole number that JSON carries safely (RFC 8259, section 6)."""
_OPTIONS_BYTES = 32 * 1024
"""Bytes of a challenge, which is as much as a server shows; usually some 250."""
_MAX_DEPTH = 16
"""How deep its objects and lists may be nested; those of WebAuthn's extensions are five deep."""
_WITH_PASSKEY = {SessionState.PASSKEY_REQUIRED, SessionState.PAIRING}
_LATEST_TIME_S = 2.0**33
"""Seconds since the epoch (year 2242): a later time is not one of a session, and may not fit a date."""


class BadEvent(ValueError):
    """A server sent something else than the document of a session."""


async def parse_events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[str, None]:
    """Yield the data of each event of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    Lines end with LF or CRLF. An event that the end of the stream cuts off is dropped. Raises BadEvent for an
    event of more than 256 KiB.
    """
    pending = b""
    data: list[bytes] = []
    size = 0
    async for chunk in chunks:
        *lines, pending = (pending + chunk).split(b"\n")
        for line in (line.removesuffix(b"\r") for line in lines):
            if line.startswith(b"data:"):
                value = line[5:].removeprefix(b" ")
                size += len(value) + 1
                data.append(value)
            elif not line and data:
                yield b"\n".join(data).decode("utf-8", "replace")
                data, size = [], 0
            if size > _MAX_EVENT_BYTES:
                raise BadEvent("an event is larger than 256 KiB")
        if len(pending) > _MAX_EVENT_BYTES:
            raise BadEvent("a line is larger than 256 KiB")


def parse_session(text: str) -> Session:
    """Read the document that a server sends of its session.

    A server runs a browser with a foreign page, so nothing it says is trusted: it raises BadEvent for an invalid
    member, cuts long texts and ignores unknown members.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadEvent("not JSON") from error
    if not isinstance(document, dict):
        raise BadEvent("not a JSON object")
    try:
        state = SessionState(str(document.get("state")))
    except ValueError as error:
        raise BadEvent("unknown state") from error
    pairing = document.get("pairing")
    return Session(
        state=state,
        since=_time(document, "since") or 0.0,
        message=read_text(document, "message") or "",
        cause=read_text(document, "cause"),
        hint=read_text(document, "hint"),
        qr=read_text(document, "qr"),
        expires_at=_time(document, "expires_at"),
        attempt=_number(document, "attempt") or 0,
        attempts=_number(document, "attempts") or 0,
        pairing=read_pairing(pairing) if isinstance(pairing, dict) else None,
        passkey=read_passkey(document.get("passkey")) if state in _WITH_PASSKEY else None,
        linked=document.get("linked") is True,
        turn=_turn(document.get("turn")),
        progress=_number(document, "progress"),
        phone_number=read_text(document, "phone_number"),
        pushname=read_text(document, "pushname"),
        platform=read_text(document, "platform"),
        browser_running=_browser_runs(document.get("browser")),
        webhook=_webhook(document.get("webhook")),
        upstream=_upstream(document.get("upstream")),
        storage=_storage(document.get("storage")),
        last_message_at=_last_message_at(document.get("journal")),
    )


def _last_message_at(journal: object) -> float | None:
    return _time(journal, "last_message_at") if isinstance(journal, dict) else None


def read_pairing(document: dict[str, Any]) -> PairingCode | None:
    """Read a pairing code; None where there is none."""
    code, expires_at = read_text(document, "code"), _time(document, "expires_at")
    return PairingCode(code, expires_at) if code and expires_at else None


def read_passkey(document: object) -> Passkey | None:
    """Read WhatsApp's passkey request. One that makes no sense counts as none: a person could do nothing about it."""
    if not isinstance(document, dict):
        return None
    try:
        stage = PasskeyStage(str(document.get("stage")))
        return Passkey(
            stage,
            _options(document.get("options")) if stage is PasskeyStage.ASKED else None,
            _time(document, "expires_at"),
            _comparison(document) if stage is PasskeyStage.CODE else None,
        )
    except ValueError:
        return None


def _options(said: object) -> str:
    """Return the complete challenge as JSON: its content matters only to the signer."""
    if not isinstance(said, dict) or not isinstance(said.get("challenge"), str) or _is_deep(said):
        raise BadEvent("options are not what they should be")
    text = json.dumps(said, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if len(text.encode()) > _OPTIONS_BYTES:
        raise BadEvent("options are too large")
    return text


def _is_deep(value: object, left: int = _MAX_DEPTH) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return left == 0 or any(_is_deep(one, left - 1) for one in inner)


def _comparison(document: dict[str, Any]) -> str:
    code = _word(document, "code")
    if not code:
        raise BadEvent("there is no code to compare")
    return code


def _webhook(document: object) -> Webhook:
    if not isinstance(document, dict):
        return Webhook()
    names = ("queued", "delivered", "failed", "dropped", "undelivered")
    figures = {name: _number(document, name) or 0 for name in names}
    return Webhook(
        **{name: max(0, figure) for name, figure in figures.items()},
        error=read_text(document, "error"),
        error_at=_time(document, "error_at"),
        oldest_at=_time(document, "oldest_at"),
    )


def _upstream(document: object) -> Upstream | None:
    if not isinstance(document, dict):
        return None
    checked, missing, shims = (
        document.get("checked") or [],
        document.get("missing") or [],
        document.get("shims") or {},
    )
    if not isinstance(checked, list) or not isinstance(missing, list) or not isinstance(shims, dict):
        raise BadEvent("upstream is not what it should be")
    return Upstream(
        build=read_text(document, "build"),
        library=read_text(document, "library"),
        engine=read_text(document, "engine"),
        pinned=read_text(document, "pinned"),
        checked=tuple(_word({"checked": part}, "checked") for part in checked[:_LIST_ENTRIES]),
        missing=tuple(map(_missing, missing[:_LIST_ENTRIES])),
        shims=tuple(
            (_word({"shim": name}, "shim"), _word(shims, name)) for name in list(shims)[:_LIST_ENTRIES]
        ),
    )


def _storage(document: object) -> Storage | None:
    if document is None:
        return None
    if not isinstance(document, dict):
        raise BadEvent("storage is not what it should be")
    measured_at = _time(document, "measured_at")
    if measured_at is None:
        raise BadEvent("storage was measured at no time")
    # A server from before an upgrade counts the journal to the login, and has no snapshots.
    complete = {"journal": 0, "snapshots": 0, **document}
    return Storage(
        **{kind: _bytes(complete, kind) for kind in SIZES},
        measured_at=measured_at,
        snapshot_at=_time(document, "snapshot_at"),
        restored_at=_time(document, "restored_at"),
    )


def _bytes(document: dict[str, Any], name: str) -> int:
    value = document.get(name)
    if type(value) is not int or not 0 <= value < _MOST_BYTES:
        raise BadEvent(f"{name} is not a number of bytes")
    return value


def _missing(entry: object) -> Missing:
    if not isinstance(entry, dict):
        raise BadEvent("missing is not a list of objects")
    return Missing(*(_word(entry, name) for name in ("feature", "module", "member", "found")))


def _word(document: dict[str, Any], name: str) -> str:
    return (read_text(document, name) or "")[:_WORD_CHARS]


def _browser_runs(browser: object) -> bool:
    return isinstance(browser, dict) and browser.get("running") is True


def _turn(said: object) -> Turn | None:
    return next((turn for turn in Turn if turn == said), None)


def read_text(document: dict[str, Any], name: str) -> str | None:
    """Read a text member, made harmless and cut; None for other members."""
    value = document.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadEvent(f"{name} is not a string")
    # Owners of phones choose these names, which appear in pages, logs and terminals.
    return one_line(value[:_TEXT_CHARS])


def _number(document: dict[str, Any], name: str) -> int | None:
    value = document.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e9 < value < 1e9:  # noqa: PLR2004
        raise BadEvent(f"{name} is not a number")
    return int(value)


def _time(document: dict[str, Any], name: str) -> float | None:
    value = document.get(name)
    if value is None:
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
        seconds = moment.timestamp()
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise BadEvent(f"{name} is not a time") from error
    if moment.tzinfo is None or not 0 <= seconds < _LATEST_TIME_S:
        raise BadEvent(f"{name} is not a time")
    return seconds

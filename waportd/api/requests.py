"""Reads what callers send; whatever is not as it should be is a BadRequest that says what is allowed."""

import json
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from waportd.config import MEMORY_MAX, WEBHOOK_URL, Kind
from waportd.drawing import Format
from waportd.errors import BadRequest
from waportd.model import Port, User, is_user
from waportd.supervisor import Options, Supervisor, Wait

MAX_WAIT = 60.0
"""Seconds that a long poll may last."""
MAX_TIMEOUT = 600.0
"""Seconds that a caller may wait for a server to get ready."""
_MAX_PORT = 65535
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


def supervisor_of(request: web.Request) -> Supervisor:
    """Return the application's supervisor."""
    supervisor: Supervisor = request.app["supervisor"]
    return supervisor


def user_in_path(request: web.Request) -> User:
    """Read ``{user}`` of the path."""
    return _user(request.match_info["user"])


def user_in_query(request: web.Request) -> User:
    """Read ``?user_id=``."""
    text = _one(request, "user_id")
    if text is None:
        raise BadRequest("user_id is missing", hint=f"call {request.path}?user_id=1")
    return _user(text)


def port_in_path(request: web.Request) -> Port:
    """Read ``{port}`` of the path."""
    text = request.match_info["port"]
    if not _PORT.fullmatch(text) or int(text) > _MAX_PORT:
        raise BadRequest(f"{text!r:.80} is not a port", hint="a port is a number from 1 to 65535")
    return Port(int(text))


def wait_in_query(request: web.Request) -> Wait:
    """Read ``?wait=`` of a call that starts a server."""
    text = _one(request, "wait")
    try:
        return Wait.LISTENING if text is None else Wait(text)
    except ValueError:
        raise BadRequest(f"wait={text!r:.80} is not known", hint=f"allowed: {', '.join(Wait)}") from None


def seconds_in_query(request: web.Request, name: str, most: float) -> float | None:
    """Read a number of seconds from the query; None where it is missing."""
    text = _one(request, name)
    if text is None:
        return None
    if not _SECONDS.fullmatch(text) or float(text) > most:
        raise BadRequest(f"{name}={text!r:.80} is not a time", hint=f"seconds from 0 to {most:g}")
    return float(text)


def flag_in_query(request: web.Request, name: str) -> bool:
    """Read ``?name=true|false``; False where it is missing."""
    text = _one(request, name)
    if text not in {None, "true", "false", "1", "0"}:
        raise BadRequest(f"{name}={text!r:.80} is not known", hint="allowed: true, false")
    return text in {"true", "1"}


def format_in_request(request: web.Request) -> Format | None:
    """Read ``?format=``, or else the Accept header; None stands for JSON, which is what all else gets."""
    text = _one(request, "format")
    try:
        if text is not None:
            return None if text == "json" else Format(text)
    except ValueError:
        raise BadRequest(
            f"format={text!r:.80} is not known", hint=f"allowed: json, {', '.join(Format)}"
        ) from None
    accepted = _accepted(",".join(request.headers.getall("Accept", [])))
    return max(_MEDIA_TYPES, key=lambda offer: accepted(_MEDIA_TYPES[offer]))


_MEDIA_TYPES = {
    None: "application/json",
    Format.SVG: "image/svg+xml",
    Format.PNG: "image/png",
    Format.TXT: "text/plain",
}
"""What an Accept header can choose; of equals the first."""


def _accepted(header: str) -> Callable[[str], float]:
    """Return how welcome a media type is: the quality of the range that fits it best (RFC 9110, section 12.5.1)."""
    ranges: dict[str, float] = {}
    for part in header.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        quality = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        ranges[name] = float(quality) if _QUALITY.fullmatch(quality) else 0.0

    def quality_of(media_type: str) -> float:
        fitting = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        return next((ranges[name] for name in fitting if name in ranges), 0.0)

    return quality_of


async def options_in_body(request: web.Request) -> Options | None:
    """Read the optional body of a PUT."""
    body = await request.read()
    if not body.strip():
        return None
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest(
            "the body is not JSON", hint='send {"webhook_url": "http://…"}, or nothing'
        ) from None
    if not isinstance(document, dict):
        raise BadRequest("the body is not a JSON object", hint='send {"webhook_url": "http://…"}, or nothing')
    unknown = sorted(set(document) - set(_OPTIONS))
    if unknown:
        raise BadRequest(f"unknown member {unknown[0]!r:.80}", hint=f"allowed: {', '.join(_OPTIONS)}")
    options = Options()
    if "webhook_url" in document:
        options["webhook_url"] = _parsed("webhook_url", document, str, WEBHOOK_URL)
    if "memory_max" in document:
        options["memory_max"] = _parsed("memory_max", document, (int, str), MEMORY_MAX)
    if "autostart" in document:
        if not isinstance(document["autostart"], bool):
            raise BadRequest("autostart: must be true or false")
        options["autostart"] = document["autostart"]
    return options


_OPTIONS = ("webhook_url", "memory_max", "autostart")


def _parsed(name: str, document: dict[str, Any], types: type | tuple[type, ...], kind: Kind) -> Any:
    """Read a member as the configuration reads the key it overrides; null stands for that key's value."""
    value = document[name]
    if value is None:
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, types):
            raise ValueError  # noqa: TRY301, TRY004
        return kind.parse(str(value))
    except ValueError:
        raise BadRequest(f"{name}: must be null, or {kind.allowed}") from None


def _user(text: str) -> User:
    if not is_user(text):
        raise BadRequest(
            f"{text!r:.80} is not a user",
            hint="1 to 64 letters, digits, '_', '.', '@' or '-', the first one a letter or digit",
        )
    return User(text)


def _one(request: web.Request, name: str) -> str | None:
    values = request.query.getall(name, [])
    if len(values) > 1:
        raise BadRequest(f"{name} is given {len(values)} times")
    return values[0] if values else None

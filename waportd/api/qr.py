"""``/v1/users/{user}/qr``: the code to scan, from memory; changes are waited for, not polled."""

import hashlib
import time

from aiohttp import web

from waportd.api.representation import qr, respond
from waportd.api.requests import MAX_WAIT, seconds_in_query, supervisor_of, user_in_path
from waportd.api.warm import mark_lasting


def routes() -> list[web.RouteDef]:
    """Return the routes of this resource."""
    return [web.get("/v1/users/{user}/qr", show)]


async def show(request: web.Request) -> web.Response:
    """Show the code, starting the server where that is of use.

    ``?wait=25`` holds the answer until it is another than the caller's: than the one named by If-None-Match, or
    else than the one at the time of the call. 304 where an If-None-Match still holds.
    """
    name = user_in_path(request)
    wait = seconds_in_query(request, "wait", MAX_WAIT) or 0.0
    supervisor = supervisor_of(request)
    instance = await supervisor.ask(name)
    document = qr(instance)
    if not wait:
        mark_lasting(request, instance)
    known = request.headers.get("If-None-Match")
    seen = known or _etag(document)
    if wait and _etag(document) == seen:
        # An expiry changes the answer and nothing in the picture, so the wait ends with it at the latest.
        expires_at = instance.session.expires_at if instance.session and document["qr"] else None
        patience = wait if expires_at is None else min(wait, max(0.05, expires_at - time.time() + 0.05))
        await supervisor.picture.wait(name, lambda now: now is None or _etag(qr(now)) != seen, patience)
        document = qr(supervisor.known(name))
    etag = _etag(document)
    if etag == known:
        return web.Response(status=304, headers={"ETag": etag, "Cache-Control": "no-store"})
    return respond(document, ETag=etag)


def _etag(document: dict[str, object]) -> str:
    # A digest, since headers end in logs and the code is a secret.
    return f'"{hashlib.sha256(repr(document).encode()).hexdigest()[:16]}"'

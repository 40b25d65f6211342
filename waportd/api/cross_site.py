"""Refuses what a browser sends for a page of another site.

The API itself uses no cookies, but a proxy in front of it may, or may have its own login: any page that somebody visits
could make the browser call with those. Browsers say which site calls (Fetch Metadata; ``Origin`` where there is none);
other programs say nothing, and are not affected.
"""

import urllib.parse

from aiohttp import web

from waportd.api.problems import Handler
from waportd.errors import Forbidden


@web.middleware
async def refuse_other_sites(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer calls of our own pages and of programs. The pages themselves may be visited from anywhere."""
    if request.path.startswith(("/v1/", "/api/", "/metrics")) and _is_foreign(request):
        raise Forbidden(
            "a page of another site may not call",
            hint="call from the site's server; a proxy has to pass the Host header on",
        )
    return await handler(request)


def _is_foreign(request: web.Request) -> bool:
    headers = request.headers
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        # "none" is what somebody typed.
        return site not in {"same-origin", "none"}
    origin = headers.get("Origin")
    if origin is None:
        return False
    return urllib.parse.urlsplit(origin).netloc not in {request.host, headers.get("X-Forwarded-Host")}

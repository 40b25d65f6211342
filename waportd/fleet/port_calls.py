"""Answers calls of users' own servers here that came to another host's port (`forwarded_ports`).

That host has checked who calls. The server checks the rest, as for any caller of this host.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL

from waportd.api.passing import tied
from waportd.errors import NotHere, Unauthorized
from waportd.fleet.passage import body_of, headers_of, pass_back
from waportd.fleet.peer_calls import SERVERS
from waportd.fleet.peer_faults import reported
from waportd.model import Desired, User
from waportd.quotas import READ_BYTES
from waportd.registry import Instance, Registry
from waportd.server_client import close_http, not_answering, why

COMING_S: Final = 5.0
"""Seconds in which a user comes to this host who is on the way, and systemd holds the port then."""
_CONNECT_S: Final = 5.0
"""Seconds for the connection; for the answer, a caller waits as long as it likes."""
_AGAIN_S: Final = 0.1
"""Seconds until a port is tried again that systemd does not hold yet."""


class PortCalls:
    """The side of the host that has the user."""

    def __init__(self, registry: Registry, admit: Callable[[Mapping[str, Any]], str]) -> None:
        """``admit`` returns which host showed a certificate, and raises HostRefused. An event loop has to run."""
        self._registry = registry
        self._admit = admit
        self._http = aiohttp.ClientSession(
            # No connection is used twice: the next server on that port may belong to another user.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            read_bufsize=READ_BYTES,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """End all calls."""
        await close_http(self._http)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a call of another host."""
        return await reported(request, self._answered(request))

    async def _answered(self, request: web.BaseRequest) -> web.StreamResponse:
        if (certificate := request.get_extra_info("peercert")) is None:
            raise Unauthorized("other hosts call with a certificate")
        self._admit(certificate)
        named, _, target = request.rel_url.raw_path_qs.removeprefix(SERVERS).partition("/")
        user = User(unquote(named))
        deadline = asyncio.get_running_loop().time() + COMING_S
        with tied(request):
            instance = await self._registry.wait(user, lambda found: found is not None, COMING_S)
            if instance is None:
                raise NotHere(f"user {user} is not on this host", hint="ask again in a moment", retry_after=1)
            answer = await self._asked(request, instance, target, deadline)
            try:
                return await pass_back(request, answer)
            finally:
                answer.close()

    async def _asked(
        self, request: web.BaseRequest, instance: Instance, target: str, deadline: float
    ) -> aiohttp.ClientResponse:
        """Call the server of a user, again where systemd does not hold the port yet. Raises ServerFailed."""
        user, port = instance.assignment.user, instance.assignment.port
        while True:
            try:
                return await self._http.request(
                    request.method,
                    URL(f"http://127.0.0.1:{port}/{target}", encoded=True),
                    headers=headers_of(request.headers),
                    data=body_of(request),
                    allow_redirects=False,
                )
            except (aiohttp.ClientError, OSError) as error:
                found = self._registry.get(user)
                if (
                    not isinstance(error, aiohttp.ClientConnectorError)
                    or found is None
                    or found.assignment.desired is not Desired.RUNNING
                    or asyncio.get_running_loop().time() > deadline
                ):
                    raise not_answering(port, why(error)) from None
            await asyncio.sleep(_AGAIN_S)

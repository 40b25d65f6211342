"""A listener on loopback that passes everything on to the API's socket, for a browser, which cannot open one.

Anyone who can open the socket may do everything, so the listener lets only the caller's own browser in: by a link
that works once and leaves a cookie, by the uid at the other end of the connection, and by refusing names and pages
of other hosts.
"""

import hmac
import http.client
import http.cookies
import http.server
import os
import secrets
import sys
import urllib.parse
from collections.abc import Iterator
from typing import Any, ClassVar

from waportd.client import UnixConnection
from waportd.tcp_table import ESTABLISHED, sockets

_DROPPED = {
    *("connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-authorization"),
    *("cookie", "host", "origin", "referer", "authorization", "content-length"),
}
"""Headers that hold for one connection only, or that are not the daemon's business."""
_MAX_BODY = 64 * 1024
_CHUNK = 64 * 1024
_TIMEOUT = 200.0
"""Seconds without a byte from the daemon after which a request is given up: the longest wait of the API."""


def own_uids() -> set[int]:
    """Return whose browser may call: the caller's, and theirs who became root with sudo."""
    uids = {os.getuid()}
    sudo = os.environ.get("SUDO_UID", "")
    if os.getuid() == 0 and sudo.isdecimal():
        uids.add(int(sudo))
    return uids


class Proxy(http.server.ThreadingHTTPServer):
    """The listener on 127.0.0.1."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, path: str, port: int, uids: set[int], page: str = "/") -> None:
        """``page``: where the link leads to."""
        super().__init__(("127.0.0.1", port), _Handler)
        self.path = path
        self.page = page
        self.port = self.server_address[1]
        self.uids = uids
        self.once: str | None = secrets.token_urlsafe(32)
        """What the link holds, until it is used."""
        self.key = secrets.token_urlsafe(32)
        """What the cookie holds."""
        # Cookies do not know ports: two of these on one machine must not take each other's.
        self.cookie = f"waportctl_{secrets.token_hex(4)}"

    @property
    def link(self) -> str:
        """The link that lets one browser in."""
        return f"http://127.0.0.1:{self.port}/waportctl?key={self.once}"

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse a connection of any other user of this machine, before a byte of it is read."""
        del request
        return peer_uid(client_address[1], self.port) in self.uids

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a browser that disconnects."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers one connection of the browser."""

    server: Proxy
    protocol_version = "HTTP/1.1"
    timeout = 300
    _methods: ClassVar = ("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE")

    def version_string(self) -> str:
        return "waportctl"

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Say nothing: the link would be in it."""

    def _handle(self) -> None:
        names = {f"127.0.0.1:{self.server.port}", f"localhost:{self.server.port}"}
        host, origin = self.headers.get_all("Host") or [], self.headers.get_all("Origin") or []
        if len(host) != 1 or host[0] not in names:
            self._refuse(421, "This is a listener for 127.0.0.1 only.")
        elif origin and origin != [f"http://{host[0]}"]:
            self._refuse(403, "Pages of other hosts may not call this listener.")
        elif urllib.parse.urlsplit(self.path).path == "/waportctl":
            self._let_in()
        elif not self._is_let_in():
            self._refuse(403, "Open the link that waportctl printed. It works once, in one browser.")
        else:
            self._pass_on()

    do_GET = do_HEAD = do_PUT = do_PATCH = do_POST = do_DELETE = _handle  # noqa: N815  # the standard library's names

    def _let_in(self) -> None:
        given = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("key", [""])[0]
        # Taken from its place before it is compared, so that of two requests one gets it.
        once, self.server.once = self.server.once, None
        if once is None or not hmac.compare_digest(given.encode(), once.encode()):
            self.server.once = once
            self._refuse(403, "This link was already used. Run the command again, which printed it.")
            return
        self.send_response(303)
        self.send_header("Location", self.server.page)
        self.send_header(
            "Set-Cookie", f"{self.server.cookie}={self.server.key}; Path=/; HttpOnly; SameSite=Strict"
        )
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _is_let_in(self) -> bool:
        cookies = http.cookies.SimpleCookie()
        try:
            cookies.load(self.headers.get("Cookie", ""))
        except http.cookies.CookieError:
            return False
        cookie = cookies.get(self.server.cookie)
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.server.key.encode())

    def _pass_on(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _MAX_BODY or "Transfer-Encoding" in self.headers:
            self._refuse(413, "The request is larger than the API accepts.")
            return
        body = self.rfile.read(int(length)) or None
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _DROPPED}
        upstream = UnixConnection(self.server.path, _TIMEOUT)
        try:
            try:
                upstream.connect()
                upstream.request(self.command, self.path, body, headers)
                answer = upstream.getresponse()
            except (OSError, http.client.HTTPException):
                self._refuse(503, "waportd does not answer. `systemctl status waportd` shows why.")
                return
            self._relay(answer)
        finally:
            upstream.close()

    def _relay(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.headers.items():
            if name.lower() not in {"connection", "keep-alive", "transfer-encoding"}:
                self.send_header(name, value)
        whole = "Content-Length" in answer.headers or self.command == "HEAD" or answer.status in {204, 304}
        if not whole:
            # A stream: it ends with the connection.
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        for chunk in _chunks(answer):
            self.wfile.write(chunk)

    def _refuse(self, status: int, text: str) -> None:
        self.close_connection = True
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield data as it arrives; a stream that breaks off ends."""
    try:
        while chunk := answer.read1(_CHUNK):
            yield chunk
    except (OSError, http.client.HTTPException):
        return


def peer_uid(port: int, own_port: int) -> int | None:
    """Return the uid of the socket at 127.0.0.1:``port`` that is connected to ours; None where there is none.

    Only an established connection with an inode counts: one that its program has closed already reads as root's.
    """
    loopback = "0100007F" if sys.byteorder == "little" else "7F000001"
    wanted = ((loopback, port), (loopback, own_port), ESTABLISHED)
    return next((each.uid for each in sockets() if each[:3] == wanted and each.inode), None)

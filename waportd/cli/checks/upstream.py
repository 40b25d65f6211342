"""The way to WhatsApp: the proxy, the site and the clock."""

import base64
import email.utils
import http.client
import re
import socket
import ssl
import time
import urllib.parse

from waportd import proxies
from waportd.cli import socks, terminal
from waportd.cli.checks.finding import Findings, fail, ok, skip, warn
from waportd.cli.checks.host import Host

UPSTREAM = "web.whatsapp.com"


_UPSTREAM_TIMEOUT = 8.0


_CLOCK_SKEW = 120.0
"""Seconds that the clock may be off; certificates and logins suffer from more."""


_ANSWERS_BADLY = 500


def proxy(host: Host) -> Findings:
    """Check which proxy the browsers take, and who else can read its password."""
    instances, file = host.config.instances, host.config_file
    if proxies.has_password(instances.proxy) and file.stat().st_mode & 0o004:
        yield fail(
            f"everybody on this host can read {file}, which holds the password of the proxy",
            f"chmod o= {file}; if others may have read it, also change the password",
        )
    if any(argument.startswith("--proxy-server=") and "@" in argument for argument in instances.browser_args):
        yield warn(
            "the browser ignores name and password in --proxy-server, and everybody on this host can read them there",
            "remove it from instances.browser_args, and set instances.proxy",
        )
    way, whose = _way(host)
    if way and " in the environment " in whose:
        scheme, separator, rest = way.partition("://")
        # What Chromium does with variables (net/proxy_resolution/proxy_config_service_linux.cc).
        if separator and scheme != "http":
            yield fail(
                f"the browser takes {proxies.shown(way)}{whose} as an HTTP proxy without TLS, whatever its scheme",
                f"set it as instances.proxy in {file}, and remove it from the environment",
            )
        if "@" in rest:
            yield fail(
                f"the browser ignores name and password in the environment: {proxies.shown(way)}{whose}",
                f"set it as instances.proxy in {file}, and remove it from the environment, which everybody can read",
            )
    own = [f"user {user.user}: {user.proxy}" for user in host.users or [] if user.own_proxy]
    parts = [f"browsers: {proxies.shown(way) if way else 'no proxy'}{whose}", *own, "webhook: never a proxy"]
    yield ok("; ".join(parts))


def _way(host: Host) -> tuple[str | None, str]:
    """Return the proxy of the browsers of users without one of their own, and who says so."""
    chosen = host.config.instances.proxy
    if chosen != proxies.AUTO:
        return None if chosen == proxies.NONE else chosen, " (instances.proxy)"
    for argument in reversed(host.config.instances.browser_args):
        if argument.startswith("--proxy-server="):
            return argument.partition("=")[2], " (instances.browser_args)"
    environment = host.systemctl("show", "whatsapp@5001.service", "--property=Environment", "--value")
    for word in environment.split():
        name, _, value = word.strip('"').partition("=")
        if name.lower() in {"https_proxy", "all_proxy"} and value:
            return value, f" ({name} in the environment of the unit)"
    return None, ""


class _NoWayError(Exception):
    """The proxy does not lead to the site."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.message, self.fix = message, fix


def _connect(way: str | None) -> http.client.HTTPSConnection:
    """Connect with the site, through a proxy if there is one. Raises _NoWayError."""
    if way is None:
        return http.client.HTTPSConnection(UPSTREAM, timeout=_UPSTREAM_TIMEOUT)
    parts, shown = urllib.parse.urlsplit(way), proxies.shown(way)
    if parts.scheme == "socks5":
        return _connect_by_socks(parts.hostname or "", parts.port or 1080, shown)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port or 80, timeout=_UPSTREAM_TIMEOUT
    )
    headers = {}
    if parts.username is not None:
        login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    connection.set_tunnel(UPSTREAM, 443, headers)
    try:
        connection.connect()
    except ssl.SSLError as error:
        connection.close()
        raise _NoWayError(*_no_tls(error)) from None
    except OSError as error:
        connection.close()
        status = re.match(r"Tunnel connection failed: (\d+)", str(error))
        if status and status[1] == "407":
            raise _NoWayError(
                f"the proxy {shown} wants a name and a password, or different ones", "set instances.proxy"
            ) from None
        if status:
            why = f"the proxy {shown} does not lead to {UPSTREAM}: it answers {status[1]}"
            raise _NoWayError(why, "check its rules, and whether it reaches the site itself") from None
        raise _NoWayError(*_unreachable(shown, error)) from None
    return connection


def _connect_by_socks(host: str, port: int, shown: str) -> http.client.HTTPSConnection:
    connection = http.client.HTTPSConnection(UPSTREAM, timeout=_UPSTREAM_TIMEOUT)
    try:
        way = socket.create_connection((host, port), _UPSTREAM_TIMEOUT)
    except OSError as error:
        raise _NoWayError(*_unreachable(shown, error)) from None
    try:
        socks.lead(way, UPSTREAM, 443)
        connection.sock = ssl.create_default_context().wrap_socket(way, server_hostname=UPSTREAM)
    except socks.SocksLoginError:
        way.close()
        raise _NoWayError(
            f"the proxy {shown} wants a name and a password, but browsers send none to a SOCKS proxy",
            "use an HTTP proxy (instances.proxy), or let the SOCKS proxy admit this host without a login",
        ) from None
    except socks.SocksRefusedError as error:
        way.close()
        why = f"the proxy {shown} does not lead to {UPSTREAM}: {error}"
        raise _NoWayError(why, "check its rules, and whether it reaches the site itself") from None
    except ssl.SSLError as error:
        way.close()
        raise _NoWayError(*_no_tls(error)) from None
    except OSError as error:
        way.close()
        raise _NoWayError(*_unreachable(shown, error)) from None
    return connection


def _unreachable(shown: str, error: OSError) -> tuple[str, str]:
    why = error.strerror or type(error).__name__
    return f"the proxy {shown} cannot be reached: {why}", "check that it runs, its host and its port"


def _no_tls(error: ssl.SSLError) -> tuple[str, str]:
    return (
        f"no TLS with {UPSTREAM} through the proxy: {error.reason}",
        "check the clock (timedatectl), and whether the proxy opens TLS",
    )


def _untried(host: Host, way: str | None) -> tuple[str, str | None] | None:
    """Return why the site is not tried that way, and what does try it; None where it is tried."""
    if host.offline:
        return f"{UPSTREAM} was not tried (--offline)", None
    others = ("--proxy-pac-url", "--proxy-auto-detect", "--host-resolver-rules")
    if any(argument.startswith(others) for argument in host.config.instances.browser_args):
        return f"the browsers reach {UPSTREAM} in another way (instances.browser_args)", None
    if way is not None and not way.startswith(("http://", "socks5://")):
        return (
            f"{UPSTREAM} was not tried: only a browser can take a proxy of this kind",
            "waportctl doctor --upstream",
        )
    return None


def upstream(host: Host) -> Findings:
    """Check whether WhatsApp can be reached from here, as the browsers do, and whether the clock is right."""
    way, _ = _way(host)
    if untried := _untried(host, way):
        yield skip(*untried)
        return
    try:
        connection = _connect(way)
    except _NoWayError as trouble:
        yield fail(trouble.message, trouble.fix)
        return
    try:
        connection.request("HEAD", "/", headers={"User-Agent": "Mozilla/5.0 waportctl"})
        answer = connection.getresponse()
    except socket.gaierror as error:
        yield fail(f"{UPSTREAM} has no address: {error.strerror}", f"check DNS: getent hosts {UPSTREAM}")
        return
    except ssl.SSLCertVerificationError as error:
        yield fail(
            f"the certificate of {UPSTREAM} is not accepted: {error.verify_message}",
            "check the clock (timedatectl) and for a proxy that opens TLS; apt install --reinstall ca-certificates",
        )
        return
    except (OSError, http.client.HTTPException) as error:
        yield fail(
            f"{UPSTREAM} cannot be reached: {error or type(error).__name__}",
            f"check network and firewall: curl -I https://{UPSTREAM}; with a proxy: instances.proxy",
        )
        return
    finally:
        connection.close()
    if answer.status >= _ANSWERS_BADLY:
        yield warn(
            f"{UPSTREAM} answers with status {answer.status}", "wait: the problem is on WhatsApp's side"
        )
    else:
        yield ok(f"{UPSTREAM} answers")
    if date := email.utils.parsedate_to_datetime(answer.headers["Date"]) if answer.headers["Date"] else None:
        skew = time.time() - date.timestamp()
        if abs(skew) > _CLOCK_SKEW:
            yield warn(f"the clock is off by {terminal.span(abs(skew))}", "timedatectl set-ntp true")

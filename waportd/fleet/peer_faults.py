"""What a call to another host that failed means, in words and with the fix: it is silent, or it refused."""

import json
import logging
from collections.abc import Awaitable
from typing import Final

import aiohttp
from aiohttp import web

from waportd.errors import HostRefused, HostSilent, WaportdError
from waportd.plain import one_line

log = logging.getLogger(__name__)

_CERTIFICATES: Final = {
    9: ("clock", "a certificate that begins later than now, by this host's clock"),
    10: ("expired", "a certificate that has expired"),
    62: ("wrong_name", "the certificate of another host"),
}
"""X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED and _HOSTNAME_MISMATCH (OpenSSL's x509_vfy.h): cause and words."""
_RETRY_AFTER_S: Final = 5
"""Seconds after which a host that was silent may be back, or its users elsewhere."""
_MAX_TEXT: Final = 500
"""Characters that are repeated of what another host says."""


class BadAddress(OSError):
    """The list of members has no address of a host, or none that can be used."""


def silence(host: str, what: str, cause: str | None = None) -> HostSilent:
    """Return the error for a host that gave no sign; ``what`` follows its name."""
    return HostSilent(
        f"host {host} {what}",
        cause=cause,
        retry_after=_RETRY_AFTER_S,
        hint=f"look whether host {host} is up, and reached: `waportctl doctor` there and here",
    )


def bad_answer(host: str, why: str) -> HostRefused:
    """Return the error for an answer that is none of the fleet's."""
    return HostRefused(
        f"the answer of host {host} {why}",
        cause="bad_answer",
        hint="run the same version of waportd on all hosts",
    )


def misnamed(host: str, answers: str) -> HostRefused:
    """Return the error for a host that takes itself for another one."""
    return HostRefused(
        f"host {host}, by its certificate, says that it is host {one_line(answers)[:_MAX_TEXT]}",
        cause="wrong_name",
        hint=f"give host {host} its own name in its configuration",
    )


def problem(error: WaportdError) -> web.Response:
    """Return the answer with which a host refuses a call of another one, for `refusal` there."""
    document = {"code": error.code, "cause": error.cause, "detail": error.message, "hint": error.hint}
    return web.json_response(document, status=error.status, content_type="application/problem+json")


async def reported(request: web.BaseRequest, answer: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """Return the answer to a call of another host, or the `problem` of what it raised: no exception gets through."""
    try:
        return await answer
    except WaportdError as error:
        return problem(error)
    except ConnectionError:
        return web.Response(status=400)  # the caller has gone, and nobody reads it
    except Exception:
        log.exception("Cannot answer %s %s", request.method, request.path)
        return problem(
            WaportdError(
                "an unexpected error", hint="the journal of that host has it: `journalctl -u waportd`"
            )
        )


def refusal(host: str, status: int, content: bytes) -> HostRefused:
    """Return the error that another host sent, in its words."""
    try:
        sent = json.loads(content)
        detail, cause, hint = (str(sent[name] or "")[:_MAX_TEXT] for name in ("detail", "cause", "hint"))
        code = str(sent["code"])[:_MAX_TEXT]
    except (ValueError, TypeError, KeyError, RecursionError):
        return bad_answer(host, f"has the HTTP status {status}")
    return HostRefused(
        f"host {host} refused: {one_line(detail)}", cause=one_line(cause or code), hint=one_line(hint)
    )


def fault(host: str, error: OSError | aiohttp.ClientError) -> HostSilent | HostRefused:
    """Return what a fault of the connection means."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return _certificate(host, error)
        case aiohttp.ClientConnectorSSLError():
            return HostRefused(
                f"what answers at the address of host {host} does not speak TLS 1.3",
                cause="no_tls",
                hint=f"correct the address of host {host}, or free that port there",
            )
        case aiohttp.ClientConnectorError():
            reason = error.os_error.strerror or "the connection was reset"
            return silence(host, f"is not reached: {reason}", HostSilent.NOT_REACHED)
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            # That is all that asyncio's TLS lets see of a host that does not take our certificate.
            return HostRefused(
                f"host {host} closed the connection without an answer",
                cause="closed",
                hint="the certificate of this host may have expired: `waportctl doctor` here",
            )
        case aiohttp.ClientError():
            return bad_answer(host, "is not complete, too large, or not HTTP")
    return silence(host, f"cannot be asked: {error}")


def _certificate(host: str, error: aiohttp.ClientConnectorCertificateError) -> HostRefused:
    code = getattr(error.certificate_error, "verify_code", 0)
    cause, what = _CERTIFICATES.get(code, ("certificate", "a certificate that this fleet's CA has not made"))
    return HostRefused(
        f"the address of host {host} answers with {what}",
        cause=cause,
        hint=f"correct the address of host {host} if another host has it; otherwise `waportctl fleet invite {host}` on "
        f"the host that has the fleet's CA, then `waportctl fleet join` on {host}",
    )

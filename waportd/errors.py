"""One hierarchy of errors. Each has a code for programs, and a message and a hint for people."""

from collections.abc import Collection
from typing import ClassVar


class WaportdError(Exception):
    """Base of all errors that waportd reports. Its text holds no secret, and says the cause and how to fix it."""

    code: str = "internal_error"
    status: int = 500
    """HTTP status."""
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        cause: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.cause = cause
        self.retry_after = retry_after
        """Seconds after which asking again makes sense."""

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers of such an answer."""
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


class BadRequest(WaportdError):
    """The caller sent something that cannot be understood."""

    code = "bad_request"
    status = 400
    title = "Bad request"


class Unauthorized(WaportdError):
    """The caller did not authenticate, or not with valid credentials."""

    code = "unauthorized"
    status = 401
    title = "Unauthorized"

    def __init__(self, message: str, *, hint: str | None = None, presented: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.presented = presented
        """The caller sent an invalid token."""

    def headers(self) -> dict[str, str]:
        """Name the scheme (RFC 6750, section 3)."""
        challenge = 'Bearer realm="waportd"'
        return {"WWW-Authenticate": f'{challenge}, error="invalid_token"' if self.presented else challenge}


class Forbidden(WaportdError):
    """The caller is known and may not do this."""

    code = "forbidden"
    status = 403
    title = "Forbidden"


class LinkInvalid(Forbidden):
    """The connect link is unknown, or not for this user."""

    code = "link_invalid"
    title = "The link is not valid"


class LinkExpired(Forbidden):
    """The connect link has expired."""

    code = "link_expired"
    title = "The link has expired"


class UnknownUser(WaportdError):
    """No port is assigned to that user."""

    code = "unknown_user"
    status = 404
    title = "Unknown user"


class UnknownHost(WaportdError):
    """The fleet has no host of that name."""

    code = "unknown_host"
    status = 404
    title = "Unknown host"


class UnknownToken(WaportdError):
    """There is no token with that id."""

    code = "unknown_token"
    status = 404
    title = "Unknown token"


class NotFound(WaportdError):
    """There is nothing at that address."""

    code = "not_found"
    status = 404
    title = "Not found"


class MethodNotAllowed(WaportdError):
    """The address exists, but not for that method."""

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"

    def __init__(self, message: str, *, allowed: Collection[str]) -> None:
        super().__init__(message, hint=f"allowed: {', '.join(sorted(allowed))}")
        self.allowed = allowed

    def headers(self) -> dict[str, str]:
        """Name the allowed methods (RFC 9110, section 15.5.6)."""
        return {"Allow": ", ".join(sorted(self.allowed))}


class Conflict(WaportdError):
    """The request does not fit the current state."""

    code = "conflict"
    status = 409
    title = "Conflict"


class AlreadyLinked(WaportdError):
    """A phone is linked already, so there is no code."""

    code = "already_linked"
    status = 409
    title = "Already linked"


class UnknownEngine(WaportdError):
    """That version of whatsapp-web.js is not installed."""

    code = "unknown_engine"
    status = 409
    title = "Unknown engine"


class NoCode(WaportdError):
    """There is no code to draw now; ``cause`` says what there is instead."""

    code = "no_code"
    status = 409
    title = "No code to scan"


class NoPasskeyRequest(WaportdError):
    """WhatsApp does not ask this user for a passkey now."""

    code = "no_passkey_request"
    status = 409
    title = "No passkey is wanted"


class TooManyRequests(WaportdError):
    """There were more requests than are allowed."""

    code = "too_many_requests"
    status = 429
    title = "Too many requests"


class TooLarge(WaportdError):
    """The request's body is larger than is accepted."""

    code = "too_large"
    status = 413
    title = "Request too large"


class TooSlow(WaportdError):
    """The request's body did not arrive in time."""

    code = "too_slow"
    status = 408
    title = "Request too slow"


class PortsExhausted(WaportdError):
    """No port of the configured ranges is free."""

    code = "ports_exhausted"
    status = 503
    title = "No port is free"


class TooManyRunning(WaportdError):
    """A limit of the configuration does not let another server start."""

    code = "limit_reached"
    status = 503
    title = "No room for another server"

    def __init__(self, message: str, *, limit: str, hint: str, retry_after: int) -> None:
        super().__init__(message, hint=hint, retry_after=retry_after)
        self.limit = limit
        """Its key in the section ``limits``."""


class ServerFailed(WaportdError):
    """The user's server did not start, or ended; ``cause`` says why."""

    code = "server_failed"
    status = 502
    title = "The user's server does not run"


class NotRunning(WaportdError):
    """The user's server does not run and cannot answer; ``cause`` says why."""

    code = "not_running"
    status = 503
    title = "The user's server does not run now"


class NotLinked(WaportdError):
    """No phone is linked, so there are no messages."""

    code = "not_linked"
    status = 409
    title = "No phone is linked"


class Refused(WaportdError):
    """The user's server refuses a call and says why; the code is its own."""

    code = "refused"
    status = 502
    title = "The user's server refused"

    def __init__(
        self,
        message: str,
        status: int,
        code: str,
        *,
        hint: str | None = None,
        cause: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message, hint=hint, cause=cause, retry_after=retry_after)
        self.status = status
        self.code = code


class PerhapsSent(WaportdError):
    """It is not known whether a message was sent."""

    code = "perhaps_sent"
    status = 504
    title = "Perhaps sent"


class StartTimeout(WaportdError):
    """The user's server did not get far enough within the timeout."""

    code = "timeout"
    status = 504
    title = "Not in time"


class ShuttingDown(WaportdError):
    """The daemon is restarting; the same request will be answered in a moment."""

    code = "restarting"
    status = 503
    title = "Restarting"


class NotHere(WaportdError):
    """Another host of the fleet has to be asked; a call that one host has passed on is not passed on again."""

    code = "not_here"
    status = 421
    title = "Another host has to be asked"


class LoginComing(WaportdError):
    """A user comes to a host, and the login is still on its way. Until it is there, nobody may start a server without it."""

    code = "login_coming"
    status = 503
    title = "The user's login is on its way"

    def __init__(self, user: str, host: str) -> None:
        super().__init__(
            f"user {user} comes to host {host}, and the login is on its way",
            hint="ask again in a moment",
            retry_after=1,
        )


class HostSilent(WaportdError):
    """A host did not answer in time, or is not reached. What was asked may or may not have happened.

    With the cause `NOT_REACHED` it has not.
    """

    code = "host_silent"
    status = 503
    title = "A host of the fleet does not answer"
    NOT_REACHED: ClassVar = "not_reached"


class HostRefused(WaportdError):
    """A host refused a call, or showed no valid certificate; ``cause`` says which of these, for programs."""

    code = "host_refused"
    status = 502
    title = "A host of the fleet refused"

    def __init__(self, message: str, *, cause: str, hint: str, status: int = 502) -> None:
        super().__init__(message, cause=cause, hint=hint)
        self.status = status


class StoreError(WaportdError):
    """The store cannot be read or written."""

    code = "store_error"
    status = 507
    title = "The store failed"


class StoreTooNewError(StoreError):
    """The store is that of a newer waportd. A retry does not help."""

    code = "store_too_new"
    title = "The store is too new"


class ConfigError(WaportdError):
    """The configuration is not valid; the message lists every fault."""

    code = "config_error"
    title = "The configuration is not valid"

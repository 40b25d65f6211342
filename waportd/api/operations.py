"""One call of the API: where it is, who may make it, what it takes, and what it answers.

The OpenAPI document, the routes and the check of what callers send are all made from it.
"""

import dataclasses
import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from waportd.api import audit
from waportd.api.parameters import (
    EXPIRES,
    OF_USER,
    SIGNATURE,
    USER,
    USER_ID,
    Body,
    Parameter,
    read_body,
    read_parameters,
)
from waportd.api.problems import Handler, answer_to, problem
from waportd.errors import (
    BadRequest,
    Conflict,
    HostRefused,
    HostSilent,
    NotHere,
    PortsExhausted,
    ServerFailed,
    ShuttingDown,
    StartTimeout,
    StoreError,
    TooManyRunning,
    WaportdError,
)
from waportd.model import User
from waportd.systemd.manager import AccessDenied, BusTimeout, SystemdError, UnitBusy, UnitMasked
from waportd.value_types import Schema

CHANGE_ERRORS = (
    Conflict,
    UnitBusy,
    UnitMasked,
    ServerFailed,
    SystemdError,
    AccessDenied,
    ShuttingDown,
    StartTimeout,
    BusTimeout,
    StoreError,
)
"""What may prevent a change of a server."""
START_ERRORS = (*CHANGE_ERRORS, PortsExhausted, TooManyRunning)
"""What may prevent a start."""
HOST_ERRORS = (NotHere, HostSilent, HostRefused)
"""What may prevent a call of another host of a fleet."""
UNKNOWN_FLEET: Final[Mapping[int, str]] = {
    503: "The engine of the fleet has not answered yet (`engine_unavailable`)"
}
"""What may prevent an answer about all hosts of a fleet."""
ALL_HOSTS: Final[Mapping[int, str]] = {
    503: "On a host of a fleet, whose engine does not answer (`engine_unavailable`)"
}
"""What may prevent a change on all hosts of a fleet."""


class Scope(enum.IntEnum):
    """The least right that a caller needs; on the unix socket, anyone who may call may call everything."""

    PUBLIC = enum.auto()
    """Everybody: it reveals nothing about any user."""
    TOKEN = enum.auto()
    """Callers with any token."""
    METRICS = enum.auto()
    """Of a token only: for monitoring."""
    READ = enum.auto()
    """Of a token only: reads all documents, sees no code and changes nothing."""
    LINK = enum.auto()
    """Callers with a connect link of that user, and all that USER admits."""
    USER = enum.auto()
    """Callers with a token of that user, and all that ADMIN admits."""
    ADMIN = enum.auto()
    """Callers with a token for all users."""


READERS: Final = frozenset({Scope.READ})
WATCHERS: Final = frozenset({Scope.READ, Scope.METRICS})


@dataclass(frozen=True, slots=True)
class Answer:
    """What an operation answers when it succeeds."""

    description: str
    schema: Schema | None = None
    """Of the JSON document; None where there is none."""
    others: Mapping[str, Schema] | None = None
    """Its other forms than JSON, by content type."""
    headers: Mapping[str, str] | None = None
    """The meaning of the headers that matter to callers."""
    example: object = None
    """A JSON document of this kind."""


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One method of one path. Its handler's docstring describes it: a summary, then details."""

    method: str
    path: str
    handler: Handler
    scope: Scope
    answers: Mapping[int, Answer]
    parameters: tuple[Parameter[Any], ...] = ()
    body: Body[Any] | None = None
    errors: tuple[type[WaportdError], ...] = ()
    """Errors beyond those that every operation has."""
    lenient: bool = False
    """Unknown parameters are ignored: the web front end's own page sends arbitrary ones."""
    also: frozenset[Scope] = frozenset()
    """Which of METRICS and READ allow it, too."""
    endless: bool = False
    """The answer is an endless stream, so HEAD is not answered."""
    refusals: Mapping[int, str] = dataclasses.field(default_factory=dict)
    """Errors of the user's server, or of the fleet: what they are about, by status."""
    narrowed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Regular expressions of parts of the path, where another operation has a path that would fit this one, too."""
    discreet: bool = False
    """Its path shows who writes to which person, so no journal line holds it."""
    traffic: bool = False
    """It changes no settings, and may be made many times a second: the caller is not recorded."""
    creates: bool = False
    """It makes a user who is not there yet."""
    anywhere: bool = False
    """Each host of a fleet answers it for the users of all."""
    on_error: Callable[[WaportdError], web.Response] = problem
    """Answers an error; the web front end's own page needs another shape."""

    @property
    def whose(self) -> Parameter[User] | None:
        """What names the user whose host answers it; None where each host of a fleet does."""
        if self.anywhere:
            return None
        return next((one for one in self.parameters if one in {USER, USER_ID}), None)

    def route(self) -> web.RouteDef:
        """Return the route that answers it."""
        path = self.path
        for name, pattern in self.narrowed.items():
            path = path.replace(f"{{{name}}}", f"{{{name}:{pattern}}}")
        if self.method == "GET":
            return web.get(path, self.answer, allow_head=not self.endless)
        return web.route(self.method, path, self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, after a check against the description."""
        status = web.HTTPInternalServerError.status_code  # of what is cut short
        try:
            if not self.lenient and request.query_string:
                self._refuse_unknown(request)
            read_parameters(request, self.parameters)
            owner = next((one.of(request) for one in self.parameters if one.kind is OF_USER), None)
            access = request.app["access"]
            access.admit(request, self.scope, owner, self.also)
            if self.method in audit.CHANGING and not self.traffic:
                access.begin_change(request)
            if self.body is not None:
                await read_body(request, self.body)
            response = await self.handler(request)
            if not response.prepared and response.status != 204:  # noqa: PLR2004  # which has no content
                # It may have waited: the caller's rights have to be valid still.
                request.app["access"].confirm(request)
            status = response.status
        except Exception as error:  # noqa: BLE001  # reported by `answer_to`
            response = answer_to(error, request, self.on_error)
            status = response.status
        finally:
            # However it ends: it may have changed something by then.
            request.app["access"].note(request, status, self._told_as(request))
        return response

    def _told_as(self, request: web.Request) -> str:
        """Return the path as the journal has it."""
        if not self.discreet:
            return request.path
        return self.path.replace("{user}", request.match_info.get("user", "{user}"))

    def _refuse_unknown(self, request: web.Request) -> None:
        parameters = [parameter for parameter in self.described if parameter.place == "query"]
        known = [parameter.name for parameter in parameters]
        former = [parameter.former for parameter in parameters]
        for name in request.query:
            if name not in known and name not in former:
                raise BadRequest(
                    f"unknown parameter {name!r:.80}", hint=f"allowed: {', '.join(known) or 'none'}"
                )

    @property
    def described(self) -> tuple[Parameter[Any], ...]:
        """All parameters, including those of a connect link."""
        return (*self.parameters, EXPIRES, SIGNATURE) if self.scope is Scope.LINK else self.parameters

    @property
    def words(self) -> tuple[str, str]:
        """Summary and description, as Markdown."""
        summary, _, rest = (self.handler.__doc__ or "").partition("\n\n")
        lines = [re.sub(r"\s+", " ", part).strip() for part in rest.split("\n\n")]
        return summary.strip().replace("``", "`"), "\n\n".join(filter(None, lines)).replace("``", "`")

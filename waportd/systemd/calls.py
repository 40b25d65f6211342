"""Calls of systemd's manager over D-Bus, and errors for its answers."""

import asyncio
import time
from typing import TYPE_CHECKING, Any, TypeVar

from waportd.concurrency import Background
from waportd.systemd.connection import Connection, RemoteError, Variant
from waportd.systemd.manager import (
    AccessDenied,
    BusLost,
    BusTimeout,
    LoadFailed,
    NoSuchUnit,
    SystemdError,
    UnitBusy,
    UnitMasked,
)
from waportd.systemd.properties import PATH, SYSTEMD
from waportd.systemd.rights import DENIALS, Refuser, refuser

if TYPE_CHECKING:
    from collections.abc import Callable

MANAGER = f"{SYSTEMD}.Manager"
PROPERTIES = "org.freedesktop.DBus.Properties"
DBUS = "org.freedesktop.DBus"

_Result = TypeVar("_Result")
States = tuple[str, str, str]
"""Load, active and sub state of a unit."""


class AlreadySubscribed(SystemdError):
    """This connection has asked for signals before."""


class NothingToClean(SystemdError):
    """The unit has no directories."""


_ERRORS: dict[str, type[SystemdError]] = {
    f"{SYSTEMD}.NoSuchUnit": NoSuchUnit,
    f"{SYSTEMD}.UnitMasked": UnitMasked,
    f"{SYSTEMD}.UnitBusy": UnitBusy,
    f"{SYSTEMD}.AlreadySubscribed": AlreadySubscribed,
    f"{SYSTEMD}.NothingToClean": NothingToClean,
    f"{SYSTEMD}.LoadFailed": LoadFailed,
    f"{SYSTEMD}.BadUnitSetting": LoadFailed,
    **dict.fromkeys(DENIALS, AccessDenied),
    # While systemd re-executes itself (as in an upgrade of its package) it is not on the bus.
    f"{DBUS}.Error.ServiceUnknown": BusTimeout,
    f"{DBUS}.Error.NameHasNoOwner": BusTimeout,
}
_HINTS: dict[type[SystemdError], str] = {
    NoSuchUnit: "install the unit files (`waportd generate-units`), then `systemctl daemon-reload`",
    UnitMasked: "`systemctl unmask` it if it is meant to run",
    UnitBusy: "stop the unit first",
    LoadFailed: "`systemd-analyze verify` of the unit says where; a drop-in may be wrong",
    AccessDenied: "the daemon must run as user waportd, with waportd's polkit rule and D-Bus policy installed",
    BusTimeout: "systemd may be restarting itself; try again",
}
_WAYS_OUT: dict[Refuser, str] = {
    Refuser.BUS: (
        "`systemctl reload dbus`: the bus has not read waportd's policy since waportd's user was made; if that does not "
        "help, install the policy again"
    ),
    Refuser.NO_POLKIT: (
        "systemd asks polkit whether waportd may do this, and polkit does not start: `systemctl unmask polkit`, then "
        "`systemctl start polkit`; if that fails, `journalctl --unit polkit` says why"
    ),
}


class Calls:
    """Calls to systemd on one connection. A call may take ``timeout`` seconds."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self.connection = connection
        self._timeout = timeout
        self.background = Background()
        self.on_call: Callable[[str, float], None] = lambda _method, _seconds: None
        """Called after each call with its method and how long the answer took."""

    @property
    def lost(self) -> asyncio.Future[BusLost]:
        """Done when the connection to the bus is gone, with the error to end on."""
        return self.connection.lost

    async def list_units(self, pattern: str) -> dict[str, States]:
        """Return load, active and sub state of each loaded unit that matches."""
        [units] = await self.ask("ListUnitsByPatterns", "(asas)", [], [pattern], reply="(a(ssssssouso))")
        return {name: (load, active, sub) for name, _, load, active, sub, *_ in units}

    async def get_property(self, path: str, interface: str, name: str) -> Any:
        """Return one value of an object."""
        answer = await self.call(path, PROPERTIES, "Get", "(ss)", interface, name, reply="(v)")
        return answer.unpack()[0]

    async def ask(
        self, method: str, signature: str = "()", *arguments: Any, reply: str = "()"
    ) -> tuple[Any, ...]:
        """Call a method of the manager, and return the values of its answer. Raises what `call` raises."""
        answer = await self.call(PATH, MANAGER, method, signature, *arguments, reply=reply)
        values: tuple[Any, ...] = answer.unpack()
        return values

    async def call(
        self,
        path: str,
        interface: str,
        method: str,
        signature: str = "()",
        *arguments: Any,
        reply: str = "()",
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Any:
        """Return the method's answer, a Variant. Raises the SystemdError that systemd's answer stands for."""
        began = time.monotonic()
        try:
            return await self.connection.call(
                path, interface, method, Variant(signature, arguments), reply, timeout or self._timeout
            )
        except RemoteError as error:
            subject = next((argument for argument in arguments if isinstance(argument, str)), "")
            who = refuser(error.message)
            kind = AccessDenied if who is Refuser.NO_POLKIT else _ERRORS.get(error.name, SystemdError)
            hint = _WAYS_OUT.get(who) or _HINTS.get(kind)
            raise kind(f"{method} {subject}: {error.message}", hint=hint) from None
        finally:
            self.on_call(method, time.monotonic() - began)

    async def unless_lost(self, future: asyncio.Future[_Result]) -> _Result:
        """Return the future's result; raise BusLost where the bus goes away before there is one."""
        first: set[asyncio.Future[Any]] = {future, self.lost}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if future.done():
                return future.result()
            lost = self.lost.result()
            raise BusLost(lost.message, hint=lost.hint)
        finally:
            future.cancel()

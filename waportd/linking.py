"""Links a phone without scanning a code: by a code to type on the phone, and by a passkey that WhatsApp asks for."""

import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from waportd.assignments import Assignments
from waportd.errors import AlreadyLinked, NoPasskeyRequest, TooManyRequests
from waportd.model import AT_REST, PairingCode, Passkey, Port, User
from waportd.pairing import PairingLimit
from waportd.quotas import PASSKEYS, Pace, retry_after
from waportd.readiness import shows_pairing_code
from waportd.registry import Instance, Registry
from waportd.server_client import ServerClient
from waportd.systemd.journal import log_fields

log = logging.getLogger(__name__)

_NEWS_WAIT_S = 5.0
"""Seconds until a server's answer has also come by its event stream."""


class _Ensure(Protocol):
    """The use case that gives a user a running server."""

    def __call__(self, user: User, *, undo_stop: bool) -> Coroutine[Any, Any, tuple[Instance, bool]]: ...


class Linking:
    """Asks servers for pairing codes, and takes the steps of a passkey. Its limits outlive a user who is deleted."""

    def __init__(
        self,
        registry: Registry,
        assignments: Assignments,
        servers: ServerClient,
        ensure: _Ensure,
        note_poll: Callable[[Instance], None],
    ) -> None:
        self._registry = registry
        self._assignments = assignments
        self._servers = servers
        self._ensure = ensure
        self._note_poll = note_poll
        self._pairing = PairingLimit()
        self._passkeys = Pace(*PASSKEYS)

    def forget(self, user: User) -> None:
        """Drop the code of a user who is gone."""
        self._pairing.forget(user)

    async def pairing_code(self, user: User, phone: str, *, undo_stop: bool = True) -> PairingCode:
        """Return a code to type on the phone of that number, digits only, starting the server for it.

        The same code again while it is valid. Raises AlreadyLinked, TooManyRequests, StartTimeout where WhatsApp gave
        none in time, and what `Supervisor.ensure` raises.
        """
        instance = self._registry.get(user)
        if instance is not None and instance.assignment.linked:
            raise AlreadyLinked(
                f"user {user} has a linked phone",
                hint=f"`POST /v1/users/{user}/logout` unlinks it; then retry",
            )
        instance, _ = await self._ensure(user, undo_stop=undo_stop)
        port, of = instance.assignment.port, (instance.process.pid, phone)
        self._pairing.admit(user, phone, of, time.monotonic())
        ends_in = 0.0
        try:
            log.info("asking for a pairing code", extra=log_fields(user, port))
            code = await self._servers.pairing_code(port, phone)
            ends_in = code.expires_at - time.time()
        finally:
            self._pairing.settle(user, of, time.monotonic() + ends_in)
        return code

    async def end_pairing(self, user: User) -> None:
        """Have a running server show codes to scan in place of a pairing code, unless a phone has answered.

        Raises UnknownUser, ServerFailed.
        """
        instance = self._assignments.known(user)
        if instance.session is None or instance.process.state in AT_REST:
            return  # a call would wake a server that rests behind its socket
        await self._servers.end_pairing(instance.assignment.port)
        self._pairing.end(user, time.monotonic())
        await self._registry.wait(user, lambda now: now is None or not shows_pairing_code(now), _NEWS_WAIT_S)

    def passkey(self, user: User) -> Passkey:
        """Return WhatsApp's passkey request, and note that somebody asks for it.

        Raises UnknownUser, NoPasskeyRequest.
        """
        instance = self._assignments.known(user)
        if instance.passkey is None:
            raise NoPasskeyRequest(
                f"WhatsApp does not ask for a passkey of user {user} now",
                hint=f"`GET /v1/users/{user}/qr` shows the next step",
            )
        self._note_poll(instance)
        return instance.passkey

    async def give_passkey(self, user: User, credential: bytes) -> Passkey:
        """Pass what the user's passkey has signed to the server; return the next request.

        Raises UnknownUser, NoPasskeyRequest, TooManyRequests, Refused with the reason, ServerFailed.
        """
        port = self._passkey_port(user)
        return await self._after_passkey(user, self._servers.give_passkey(port, credential))

    async def confirm_passkey(self, user: User, code: str) -> Passkey:
        """Confirm that the phone shows that code, too; return the next request. Raises as `give_passkey`."""
        port = self._passkey_port(user)
        return await self._after_passkey(user, self._servers.confirm_passkey(port, code))

    async def cancel_passkey(self, user: User) -> None:
        """Have the server show codes to scan again in place of a passkey request.

        Raises UnknownUser, NoPasskeyRequest, Refused, ServerFailed.
        """
        self.passkey(user)
        await self._servers.cancel_passkey(self._assignments.known(user).assignment.port)
        self._pairing.end(user, time.monotonic())
        await self._registry.wait(user, lambda now: now is None or now.passkey is None, _NEWS_WAIT_S)

    def _passkey_port(self, user: User) -> Port:
        """Return the port of a server that awaits a person's answer about a passkey, and count the answer."""
        self.passkey(user)
        if wait := self._passkeys.count(user, time.monotonic()):
            most, window = PASSKEYS
            raise TooManyRequests(
                f"user {user} has sent {most} answers about a passkey within {window:.0f} s, which is the limit",
                hint=f"wait {retry_after(wait)} s",
                retry_after=retry_after(wait),
            )
        return self._assignments.known(user).assignment.port

    async def _after_passkey(self, user: User, answer: Coroutine[Any, Any, Passkey]) -> Passkey:
        """Return what a server answers, once its event stream shows that, too."""
        before = self._assignments.known(user).passkey
        wanted = await answer
        if wanted != before:
            await self._registry.wait(user, lambda now: now is None or now.passkey != before, _NEWS_WAIT_S)
        return wanted

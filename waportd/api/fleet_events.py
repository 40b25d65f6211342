"""The events of a whole fleet: the streams of all hosts, merged into one.

While somebody reads, and for a minute longer, this host follows every other one, and keeps the newest document of each
user as it came. What no host shows is made here: the users of a silent host are ``unreachable``, and a user who is
between two hosts is ``moving``.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import weakref
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping
from typing import Final, NoReturn

import aiohttp
from aiohttp import web

from waportd.api import documents, elsewhere
from waportd.api.access import of_this_host
from waportd.api.documents import UserDocument
from waportd.api.passing import FOREVER_S
from waportd.api.sse import text_of, written
from waportd.change_log import Change, ChangeLog
from waportd.concurrency import Background
from waportd.errors import HostRefused, HostSilent
from waportd.host import Fleet, HostCall
from waportd.model import Assignment, User
from waportd.registry import Registry
from waportd.session_reader import BadEvent, parse_events

log = logging.getLogger(__name__)

KEPT_S: Final = 60.0
"""Seconds for which the hosts are followed after the last reader has left."""
ANSWER_S: Final = 3.0
"""Seconds that a host has to send all its users; after that they are shown as the fleet knows them."""
LOOK_S: Final = 1.0
"""Seconds between two looks at what the fleet knows."""
RETRY_S: Final = 1.0
"""Seconds from the end of a host's stream to the next try."""
_SILENCE_S: Final = 40.0
"""Seconds without a byte after which a stream counts as dead: a host sends a comment every 15 s."""
_AT_ONCE: Final = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """What is shown of a user."""

    host: str
    """The host that it is about; empty where none shows the user just now."""
    text: str
    """The user's document."""
    said: bool
    """The host said it; otherwise it was made here."""


class FleetEvents:
    """The log of all hosts, which is kept while somebody reads it."""

    def __init__(self, registry: Registry, fleet: Fleet) -> None:
        self._registry, self._fleet = registry, fleet
        self._log: FleetLog | None = None
        self._readers = 0
        self._end: asyncio.TimerHandle | None = None

    @contextlib.contextmanager
    def reading(self) -> "Iterator[FleetLog]":
        """Give the log."""
        if self._end is not None:
            self._end.cancel()
            self._end = None
        if self._log is None or self._log.released:
            self._log = FleetLog(self._registry, self._fleet)
        self._readers += 1
        try:
            yield self._log
        finally:
            self._readers -= 1
            if not self._readers:
                self._end = asyncio.get_running_loop().call_later(KEPT_S, self._forget)

    async def close(self, _: web.Application | None = None) -> None:
        """End all streams."""
        if self._end is not None:
            self._end.cancel()
        if self._log is not None:
            await self._log.close()

    def _forget(self) -> None:
        log, self._log, self._end = self._log, None, None
        if log is not None:
            log.end()


class FleetLog(ChangeLog[Shown]):
    """Follows all hosts."""

    def __init__(self, registry: Registry, fleet: Fleet) -> None:
        super().__init__()
        self._registry, self._fleet = registry, fleet
        self._shown: dict[User, Shown] = {}
        self._whole: set[str] = set()
        """The hosts that have sent all their users, and whose streams are open."""
        self._silences: dict[str, str] = {}
        """Why each of the others is not heard, for people."""
        self._silent_since: dict[str, float] = {}
        self._missing: set[User] = set()
        """The users who were on no host at the last look, and belong to one that is heard."""
        self._frames: weakref.WeakKeyDictionary[Change[Shown], bytes] = weakref.WeakKeyDictionary()
        self._streams: dict[str, asyncio.Task[None] | None] = {}
        self._background = Background()
        self._work = asyncio.create_task(self._run(), name="follow the fleet's events")
        self._work.add_done_callback(self._ended)
        self.is_whole = False
        """All hosts were heard, or waited for."""

    def __len__(self) -> int:
        return len(self._shown)

    def end(self) -> None:
        """Stop following."""
        self.release()
        self._work.cancel()

    async def close(self) -> None:
        """Stop following, and return when that has ended."""
        self.end()
        await asyncio.gather(self._work, return_exceptions=True)

    def frame(self, change: Change[Shown]) -> bytes:
        """Return a change as an event, which is written once however many read it."""
        frame = self._frames.get(change)
        if frame is None:
            identifier = f"{self.epoch}-{change.version}"
            if change.value is None:
                text = text_of({"user": change.user})
                frame = written("deleted", text, identifier)
            else:
                frame = written("user", change.value.text, identifier)
            self._frames[change] = frame
        return frame

    async def _run(self) -> None:
        try:
            self._background.run(self._follow_this_host(), "follow this host")
            while True:
                self._look()
                await asyncio.sleep(LOOK_S if self.is_whole else 0.1)
        finally:
            await self._background.close()

    def _ended(self, work: asyncio.Task[None]) -> None:
        if not work.cancelled() and (error := work.exception()) is not None:
            log.error("Cannot follow the events of the fleet", exc_info=error)
            self.release()  # who reads it comes back, and gets a new one

    # What the hosts say

    async def _follow_this_host(self) -> None:
        registry, name, known = self._registry, self._fleet.name, 0
        while not registry.released:
            changes = registry.changes_since(known, _AT_ONCE)
            for change in changes:
                known = change.version
                if change.value is not None:
                    self._take(name, change.user, text_of(documents.user(change.value)))
                elif change.left:
                    self._let_go(name, change.user)
                else:
                    self._remove(name, change.user)
            if changes:
                await asyncio.sleep(0)
            else:
                self._whole.add(name)
                await registry.wait_for_change(known, FOREVER_S)
        self.release()

    async def _follow(self, host: str) -> NoReturn:
        while True:
            try:
                call = HostCall("GET", "/v1/events?host=self", of_this_host())
                async with self._fleet.call(host, call) as answer:
                    silence = f"host {host} answers with the HTTP status {answer.status}"
                    if answer.status == web.HTTPOk.status_code:
                        await self._read(host, answer)
                        silence = f"host {host} has ended its stream of events"
            except (HostSilent, HostRefused) as error:
                silence = error.message
            except TimeoutError:
                silence = f"host {host} said nothing for {_SILENCE_S:g} s"
            except (aiohttp.ClientError, OSError, BadEvent, ValueError, TypeError, KeyError):
                silence = f"the stream of host {host} is cut off, or is not understood"
            self._lose(host, silence)
            await asyncio.sleep(RETRY_S)

    async def _read(self, host: str, answer: aiohttp.ClientResponse) -> None:
        named: set[User] = set()
        async with contextlib.aclosing(parse_events(_pieces(answer))) as events:
            async for text in events:
                document = json.loads(text)
                if "users" in document:
                    self._complete(host, named)
                elif "port" in document:
                    user = User(document["user"])
                    named.add(user)
                    self._take(host, user, text)
                elif document.get("left"):
                    self._let_go(host, User(document["user"]))
                elif "user" in document:
                    self._remove(host, User(document["user"]))

    def _take(self, host: str, user: User, text: str) -> None:
        """Show what a host says of a user."""
        before = self._shown.get(user)
        if before is not None and before.said and before.host == self._fleet.owners().get(user) != host:
            return  # the user has just gone there, and this host does not know it yet
        self._show(user, Shown(host, text, said=True))

    def _let_go(self, host: str, user: User) -> None:
        """Take note that a user went from a host to another one, which shows the user when the login is there."""
        before = self._shown.get(user)
        if before is not None and before.host == host:
            self._shown[user] = dataclasses.replace(before, host="")

    def _remove(self, host: str, user: User) -> None:
        """Take note that a user was deleted on a host."""
        before = self._shown.get(user)
        if before is not None and before.host == host:
            self._forget_user(user)

    def _complete(self, host: str, named: Collection[User]) -> None:
        """Take note that a host has named all its users: others that it had are gone, or elsewhere."""
        self._whole.add(host)
        self._silences.pop(host, None)
        self._silent_since.pop(host, None)
        for user, shown in self._shown.items():
            if shown.host == host and user not in named:
                self._shown[user] = dataclasses.replace(shown, host="")

    def _lose(self, host: str, silence: str) -> None:
        self._whole.discard(host)
        self._silences[host] = silence
        self._silent_since.setdefault(host, asyncio.get_running_loop().time())

    # What the fleet knows

    def _look(self) -> None:
        """Follow the hosts that there are now, and show what none of them does."""
        now = asyncio.get_running_loop().time()
        owners, alive = self._fleet.owners(), self._fleet.lives()
        if not alive:
            return  # nothing is known yet
        others = {*alive, *owners.values()} - {self._fleet.name}
        for host in self._whole & others:
            if not alive.get(host):
                self._drop(host)  # and ask again: nothing ends a connection to a host without power
        self._follow_only(others, now)
        silent = {host for host in others - self._whole if now - self._silent_since[host] > ANSWER_S}
        self.is_whole = self.is_whole or (others | {self._fleet.name}) <= self._whole | silent
        for host in silent:
            for one in self._fleet.assignments(host):
                self._make(one, host, elsewhere.unreachable(one, host, self._silences[host]))
        self._show_moving(owners)
        for user, shown in list(self._shown.items()):
            if user not in owners and shown.host not in self._whole:
                self._forget_user(user)

    def _follow_only(self, hosts: Collection[str], now: float) -> None:
        for host in hosts - self._streams.keys():
            self._silences[host] = f"host {host} has not named all its users within {ANSWER_S:g} s"
            self._silent_since[host] = now
            self._streams[host] = self._background.run(self._follow(host), f"follow host {host}")
        for host in self._streams.keys() - hosts:
            self._drop(host)

    def _drop(self, host: str) -> None:
        """End the stream of a host."""
        if (task := self._streams.pop(host)) is not None:
            task.cancel()
        self._whole.discard(host)

    def _show_moving(self, owners: Mapping[User, str]) -> None:
        """Show the users whose hosts are heard, and do not show them: at the second look, a new user may be on the way."""
        missing = {
            user
            for user, host in owners.items()
            if host in self._whole and ((shown := self._shown.get(user)) is None or shown.host != host)
        }
        hosts = {owners[user] for user in missing & self._missing}
        for host in hosts:
            for one in self._fleet.assignments(host):
                if one.user in missing & self._missing:
                    self._make(one, host, elsewhere.moving(one, host))
        self._missing = missing

    def _make(self, assignment: Assignment, host: str, document: UserDocument) -> None:
        before = self._shown.get(assignment.user)
        if before is None or before.said or before.host != host:
            self._show(assignment.user, Shown(host, text_of(document), said=False))

    def _show(self, user: User, shown: Shown) -> None:
        before = self._shown.get(user)
        self._shown[user] = shown
        if before is None or before.text != shown.text:
            self.note(user, shown)

    def _forget_user(self, user: User) -> None:
        del self._shown[user]
        self.note_removal(user)


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    while True:
        async with asyncio.timeout(_SILENCE_S):
            piece = await answer.content.readany()
        if not piece:
            return
        yield piece

"""What tests of the supervisor and its API share."""

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from fakes import MemoryStore

from waportd.api.access import Access
from waportd.config import Config, PortRange
from waportd.connect_links import Links
from waportd.model import User, service_unit, socket_unit
from waportd.tokens import Tokens


def _own_ports():
    """Return the first of 200 ports that no other run of these tests uses, and the socket that keeps them."""
    for base in range(20001, 32001, 200):
        keeper = socket.socket()
        try:
            keeper.bind(("127.0.0.1", base + 199))
        except OSError:
            keeper.close()
        else:
            return base, keeper
    raise OSError("no ports are left for this run of the tests")


BASE, _KEEPER = _own_ports()
"""The port that user 1 prefers in these tests. Fake servers listen on real ports, and other runs are under way."""
OVERFLOW = BASE + 100
"""The first port of those who do not get the one they prefer; 98 of them."""
SPARE = BASE + 198
"""A port that none of them gets."""


def config_in(folder):
    """Return a configuration whose store is in a folder, and whose ports are out of everybody's way."""
    config = Config()
    return dataclasses.replace(
        config,
        store=dataclasses.replace(config.store, directory=folder),
        ports=dataclasses.replace(
            config.ports,
            base=BASE,
            range=PortRange(BASE, BASE + 99),
            overflow=PortRange(OVERFLOW, OVERFLOW + 97),
        ),
        limits=dataclasses.replace(config.limits, min_available_memory=0),
    )


def add_engine(config, version, **manifest):
    """Put an engine where the daemon looks for it."""
    folder = config.engines / version
    folder.mkdir(parents=True)
    about = {"library": version, "integrity": "sha512-AA==", "source": "npm", "installed_at": 1767225600}
    (folder / "engine.json").write_text(json.dumps(about | manifest), "utf-8")
    return folder


async def another_key():
    """Return the key that connect links are signed with after a change."""
    return b"another key"


def access_for(*allowed, store=None):
    """Return an access that admits these over the unix socket; nobody: who can open it."""
    return Access(allowed, Tokens(store or MemoryStore()), Links(b"key", another_key))


async def settled(supervisor):
    """Wait until what the supervisor does automatically is done."""
    async with asyncio.timeout(10):
        await supervisor.idle()


async def give_way(supervisor, config, user):
    """Have the socket of an idle user closed, since there may be one only and another user gets it, who leaves again."""
    one = dataclasses.replace(config.limits, max_sockets=1)
    await supervisor.reconfigure(dataclasses.replace(config, limits=one))
    # What a new configuration sets off would open it again.
    await settled(supervisor)
    other = User("another")
    await supervisor.assign(other)
    await supervisor.delete(other)
    assert supervisor.known(user).assignment.socket_boot is None


def has_session(state):
    return lambda instance: instance.answering and instance.session.state is state


def is_process(state):
    return lambda instance: instance.process.state is state


def calls_for(systemd, port):
    """What was asked of systemd for a port. The next one's may be cleaned ahead, at any moment."""
    return [call for call in systemd.calls if call[1] in {service_unit(port), socket_unit(port)}]


async def until(supervisor, user, condition):
    """Wait until the condition holds for the user's instance; return it."""
    instance = await supervisor.registry.wait(user, lambda now: now is not None and condition(now), 5)
    assert instance is not None
    assert condition(instance), instance
    return instance


@dataclasses.dataclass
class Event:
    """A server-sent event as it arrived."""

    name: str
    data: dict
    id: str | None


class Events:
    """Reads an event stream that an aiohttp client opened."""

    def __init__(self, answer):
        self.answer = answer
        self.heartbeats = 0

    async def next(self):
        """Return the next event; None where the stream has ended."""
        fields = {}
        async with asyncio.timeout(20):
            while line := await self.answer.content.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == ":":
                    self.heartbeats += 1
                elif name:
                    fields[name] = value
                elif "event" in fields:
                    return Event(fields["event"], json.loads(fields["data"]), fields.get("id"))
        return None

    async def until(self, name):
        """Return the events up to the next one of that name, which is the last."""
        events = []
        while not events or events[-1].name != name:
            event = await self.next()
            assert event is not None, f"the stream ended before {name}"
            events.append(event)
        return events


def scanned(picture, suffix):
    """Return what a scanner (zbar) reads from a picture: of type png or pgm."""
    with tempfile.NamedTemporaryFile(suffix=f".{suffix}") as file:
        file.write(picture)
        file.flush()
        command = ["zbarimg", "--quiet", "--raw", "--nodbus", file.name]
        return subprocess.run(command, capture_output=True, check=True, timeout=60, text=True).stdout.rstrip(
            "\n"
        )


def rendered_svg(svg):
    """Return an SVG drawn by librsvg on a black page, as PNG."""
    command = ["rsvg-convert", "--background-color=black"]
    return subprocess.run(command, input=svg, capture_output=True, check=True, timeout=60).stdout


def rendered_text(text, size=4):
    """Return half blocks as a terminal with white letters on black shows them, as PGM."""
    shown = {" ": (0, 0), "▀": (255, 0), "▄": (0, 255), "█": (255, 255)}
    rows = []
    for line in text.splitlines():
        for half in (0, 1):
            rows += [bytes(shown[char][half] for char in line for _ in range(size))] * size
    return b"P5 %d %d 255\n" % (len(rows[0]), len(rows)) + b"".join(rows)


@contextlib.contextmanager
def unprivileged():
    """Give a folder, and continue as a user who is not root: permissions do not hold root back."""
    folder = Path(tempfile.mkdtemp())
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)


async def all_fail(supervisor, systemd, users=3, cause="never_ready"):
    """Have so many linked users fail in the same way; return the alarm that is raised."""
    for number in range(1, users + 1):
        instance, _ = await supervisor.ensure(User(str(number)))
        failing = {"linked": True, "cause": cause, "message": f"message for user {number}"}
        systemd.servers[instance.assignment.port].say("error", upstream={"build": "2.3000.1"}, **failing)
    return await raised(supervisor)


async def raised(supervisor):
    """Return the alarm, once there is one."""
    async with asyncio.timeout(5):
        while supervisor.alarm is None:
            await asyncio.sleep(0.01)
    return supervisor.alarm


async def over(supervisor):
    """Return once there is no alarm any more."""
    async with asyncio.timeout(5):
        while supervisor.alarm is not None:
            await asyncio.sleep(0.01)

"""waportctl against the API on fakes: in this process, and on a terminal of its own."""

import asyncio
import codecs
import contextlib
import dataclasses
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from pathlib import Path

import pytest

from waportd.cli import bounded, caller, engine_files
from waportd.cli.following import Follower
from waportd.cli.main import main

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Keep the environment of anyone who runs the tests out of them."""
    for name in ("WAPORTD_SOCKET", "NO_COLOR", "SUDO_UID"):
        monkeypatch.delenv(name, raising=False)
    # On a busy host an answer takes two seconds, too, and the notice of that is not what is tested.
    monkeypatch.setattr(caller, "NOTICE", 60.0)


@pytest.fixture
def untried_by_systemd(monkeypatch):
    """Root would have systemd try a library as nobody; there is none here, and those of the tests are ours."""
    real = bounded.run
    monkeypatch.setattr(engine_files, "SANDBOX", ("env",))

    def run(command, **options):
        return real(
            [word for word in command if not word.startswith(("--property=", "--setenv="))], **options
        )

    monkeypatch.setattr(bounded, "run", run)


@dataclasses.dataclass
class Said:
    """What a run of the program came to."""

    status: int
    out: str
    err: str


@pytest.fixture
def socket_path(tmp_path):
    return tmp_path / "api.sock"


@pytest.fixture
def ctl(socket_path, capfd):
    """Run waportctl beside the event loop, its output no terminal."""

    async def run(*arguments):
        capfd.readouterr()
        status = await asyncio.to_thread(main, ["--socket", str(socket_path), *map(str, arguments)])
        return Said(status, *capfd.readouterr())

    return run


@pytest.fixture
async def followed(monkeypatch):
    """An event: the command in this process has seen how things are, and waits for what comes."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    real = Follower.next

    def follow(self, wait):
        loop.call_soon_threadsafe(event.set)
        return real(self, wait)

    monkeypatch.setattr(Follower, "next", follow)
    return event


PATIENCE_S = 60
"""Seconds until a test gives up on what it waits for."""


def _found(text, shown):
    return [text] * shown.count(text) if isinstance(text, str) else set(text.findall(shown))


class Terminal:
    """The program on a terminal, as a person sits before it."""

    def __init__(self, process, descriptor):
        self._process = process
        self._descriptor = descriptor
        self.seen = ""
        # What is read may end within a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self):
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # nobody has the other end open any more
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self.seen += self._decoder.decode(data)
        self._news.set()

    @property
    def text(self):
        """What was shown so far, without colours and movements."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen).replace("\r", "")

    async def until(self, text, times=1):
        """Wait until the text is shown, so many times; each match of a pattern counts once."""
        async with asyncio.timeout(PATIENCE_S):
            while len(_found(text, self.text)) < times:
                self._news.clear()
                await self._news.wait()

    def type(self, text):
        os.write(self._descriptor, text.encode())

    @property
    def echoes(self):
        """Whether what is typed is shown."""
        return bool(termios.tcgetattr(self._descriptor)[3] & termios.ECHO)

    def interrupt(self):
        """Do what Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    async def end(self, patience=PATIENCE_S):
        """Return the exit status, when the program has ended."""
        async with asyncio.timeout(patience):
            return await self._process.wait()

    async def close(self):
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)


@pytest.fixture
async def terminal(socket_path):
    """Start waportctl on a terminal of so many columns and lines."""
    terminals = []

    async def start(*arguments, columns=100, lines=50, **environment):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        kept = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "waportd.cli", "--socket", socket_path, *map(str, arguments)),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=ROOT,
            env={**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
            start_new_session=True,
            # What runs in the background of a script ignores Ctrl-C, and so would all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.close(theirs)
        terminals.append(Terminal(process, ours))
        return terminals[-1]

    yield start
    for terminal in terminals:
        await terminal.close()

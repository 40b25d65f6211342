"""The client as a person uses it: a call that takes long says so, and why it may."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

from waportd.cli import terminal
from waportd.client import SOCKET, Answer, Client

NOTICE = 2.0
"""Seconds until a person who waits sees that the call still runs."""
_LOOK = 5.0
"""Seconds for systemctl, which takes a hundredth of one."""


class Caller(Client):
    """Reports on standard error what it waits for. Long polls are silent: what they wait for is shown already."""

    def _exchange(self, method: str, path: str, *arguments: Any, **options: Any) -> Answer:
        if path.partition("?")[0].endswith("/qr"):
            return super()._exchange(method, path, *arguments, **options)
        with _noticed(self.socket == SOCKET):
            return super()._exchange(method, path, *arguments, **options)

    def _wait(self, seconds: float) -> None:
        terminal.complain(f"waportd accepts no more changes by this account for {seconds:g} s; waiting")
        time.sleep(seconds)


@contextlib.contextmanager
def _noticed(packaged: bool) -> Iterator[None]:  # noqa: FBT001
    """Report after a while that the block still runs."""
    timer = threading.Timer(NOTICE, _notice, (packaged,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _notice(packaged: bool) -> None:  # noqa: FBT001
    state = _state_of_daemon() if packaged else None
    terminal.complain(
        f"waportd has not answered yet{f' (waportd.service is {state})' if state else ''}; waiting"
    )


def _state_of_daemon() -> str | None:
    import subprocess

    command = ["systemctl", "is-active", "waportd.service"]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LOOK, check=False)
        return done.stdout.strip() or None
    return None

"""Runs a program and keeps only part of its output, which may be untrusted and endless."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any, Final

MOST: Final = 64 * 1024
"""Bytes that are kept of each of the two outputs: the last ones."""


def run(command: Sequence[str], *, seconds: float, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program, and return its exit status and the end of what it said, unless ``stdout`` is a file.

    Raises subprocess.TimeoutExpired where it, or what it has started, is not done in time: all of them are killed then,
    as they are when the caller is interrupted. Raises OSError where it cannot be started.
    """
    deadline = time.monotonic() + seconds
    options = {"stdout": subprocess.PIPE, **options}
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, **options) as process:
        try:
            outputs = _read(process, deadline)
            status = process.wait(max(0.0, deadline - time.monotonic()))
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, status, *outputs)


def _read(process: "subprocess.Popen[bytes]", deadline: float) -> tuple[str, str]:
    """Return the ends of both outputs, when nobody can write there any more."""
    kept = (bytearray(), bytearray())
    with selectors.DefaultSelector() as selector:
        for pipe, end in zip((process.stdout, process.stderr), kept, strict=True):
            if pipe is not None:
                selector.register(pipe, selectors.EVENT_READ, end)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(process.args, left)
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, MOST)
                key.data.extend(chunk)
                del key.data[:-MOST]
                if not chunk:
                    selector.unregister(key.fileobj)
    return kept[0].decode(errors="replace"), kept[1].decode(errors="replace")

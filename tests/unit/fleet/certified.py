"""The CA of a fleet and that of a stranger; and a look at the modes of files while they are written."""

import contextlib
import os
import stat
from datetime import UTC, datetime, timedelta

from waportd.fleet.certificates import Authority

FLEET = Authority.create("shop")
STRANGER = Authority.create("other")
LONG_AGO = datetime.now(UTC) - timedelta(days=1000)
"""When a host's certificate was made that has expired."""


@contextlib.contextmanager
def watched_files(monkeypatch):
    """Let every file be as open as it is asked for, and collect its mode at creation and when it gets its name."""
    seen = []
    really_open, really_replace = os.open, os.replace

    def open_(path, flags, mode=0o777, *, dir_fd=None):
        descriptor = really_open(path, flags, mode, dir_fd=dir_fd)
        if flags & os.O_CREAT:
            seen.append((str(path), stat.S_IMODE(os.fstat(descriptor).st_mode)))
        return descriptor

    def replace(source, target, *, src_dir_fd=None, dst_dir_fd=None):
        mode = os.stat(source, dir_fd=src_dir_fd).st_mode
        seen.append((str(target), stat.S_IMODE(mode)))
        really_replace(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "replace", replace)
    umask = os.umask(0)
    try:
        yield seen
    finally:
        os.umask(umask)

"""Runs in a machine as somebody: reads from each line what to try, and writes the result of it, in JSON.

"yes" is done, "no" is refused by the machine, a number is an HTTP status, and any other text is what went wrong.
"""

import errno
import http.client
import itertools
import json
import os
import socket
import sys
import time
from pathlib import Path

PATIENCE = 60.0
REFUSED = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.EROFS, errno.ECONNREFUSED}
DENIED = (
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
)
BUSY = "org.freedesktop.systemd1.UnitBusy"

# A loopback address of its own for each call: none is refused because others from there showed a wrong token.
sources = (f"127.1.{number // 250}.{number % 250 + 1}" for number in itertools.count())


class Connection(http.client.HTTPConnection):
    """HTTP to a path or to an address."""

    def __init__(self, where):
        super().__init__("localhost", timeout=PATIENCE)
        self._where = where

    def connect(self):
        if isinstance(self._where, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(PATIENCE)
            self.sock.connect(self._where)
        else:
            own = next(sources) if self._where[0] == "127.0.0.1" else ""
            self.sock = socket.create_connection(self._where, PATIENCE, (own, 0))


def call(where, method, path, headers, body):
    connection = Connection(where)
    content = None if body is None else json.dumps(body)
    connection.request(
        method, path, content, headers if body is None else {**headers, "Content-Type": "application/json"}
    )
    status = connection.getresponse().status
    connection.close()
    return status


def read(path):
    with Path(path).open("rb") as file:
        file.read(1)
    return "yes"


def write(path):
    """Open for writing, and write nothing; in a folder, make a file."""
    path = Path(path)
    if path.is_dir():
        mark = path / ".mark"
        mark.touch(exist_ok=False)
        mark.unlink()
    else:
        os.close(os.open(path, os.O_WRONLY))
    return "yes"


def enumerate_folder(path):
    list(Path(path).iterdir())
    return "yes"


def ask_systemd(method, signature, arguments):
    from gi.repository import Gio, GLib

    parsed = GLib.Variant.parse(GLib.VariantType(f"({signature})"), arguments, None, None)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            Gio.bus_get_sync(Gio.BusType.SYSTEM).call_sync(
                "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                method, parsed, None, Gio.DBusCallFlags.NONE, int(PATIENCE * 1000),
            )  # fmt: skip
        except GLib.Error as error:
            name = Gio.DBusError.get_remote_error(error)
            # A bus that does not know a session's user id ends the connection.
            if name in DENIED or error.matches(Gio.io_error_quark(), Gio.IOErrorEnum.CLOSED):
                return "no"
            if name != BUSY or time.monotonic() > deadline:
                return str(error)
            time.sleep(0.1)
        else:
            return "yes"


KINDS = {
    "call": call, "read": read, "write": write, "list": enumerate_folder, "systemd": ask_systemd,
}  # fmt: skip


def main():
    for line in sys.stdin:
        kind, *arguments = json.loads(line)
        try:
            outcome = KINDS[kind](*arguments)
        except OSError as error:
            outcome = "no" if error.errno in REFUSED else repr(error)
        except http.client.HTTPException as error:
            outcome = repr(error)
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()


main()

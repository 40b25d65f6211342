"""Runs in a machine as the web app: asks again and again, and writes in JSON lines what each answer was.

    witness.py SOCKET USER PORT

It continues until it is stopped.
"""

import contextlib
import http.client
import json
import socket
import sys
import threading
import time

PATIENCE = 30.0
"""Seconds until a caller gives up."""
PAUSE = 0.05


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def outcome(connection, path):
    with contextlib.closing(connection):
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
        return answer.status


def ask(what, connect, path):
    while True:
        began = time.monotonic()
        said = outcome(connect(), path)
        line = {"what": what, "said": said, "at": time.time(), "took": time.monotonic() - began}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        time.sleep(PAUSE)


def main():
    path, user, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    callers = [
        ("API", lambda: UnixConnection(path), f"/api/qr?user_id={user}"),
        ("port", lambda: http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE), "/health"),
    ]
    for caller in callers:
        threading.Thread(target=ask, args=caller).start()


main()

"""Calls of a machine's API by processes that stay: to start one for each call takes longer than the calls, which are many."""

import json
from collections import defaultdict

from testbed.guests import Answer, GuestError

_CALLER = """
import http.client, json, socket, sys

class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(120)
        self.sock.connect(sys.argv[1])

for line in sys.stdin:
    method, path, body = json.loads(line)
    content = None if body is None else json.dumps(body)
    headers = {"Accept": "*/*"} | ({} if body is None else {"Content-Type": "application/json"})
    connection = Connection("localhost")
    try:
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        said = answer.status, answer.read().decode()
    except (OSError, http.client.HTTPException) as error:
        said = None, repr(error)
    connection.close()
    print(json.dumps(said), flush=True)
"""


class Callers:
    """Users of a machine who call its API, each in as many processes as it has calls at a time."""

    def __init__(self, machine, socket):
        self._command = "/usr/bin/python3", "-c", _CALLER, socket
        self._machine = machine
        self._idle = defaultdict(list)

    def ask(self, user, method, path, body):
        """Return the answer. Raise GuestError when there is none."""
        process = self._take(user)
        try:
            process.stdin.write(json.dumps([method, path, body]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            _end(process)
            raise GuestError(f"{method} {path}: the machine, or the caller in it, ended")
        self._idle[user].append(process)
        status, text = json.loads(line)
        if status is None:
            raise GuestError(f"{method} {path}: {text}")
        return Answer(status, text)

    def _take(self, user):
        while True:
            try:
                process = self._idle[user].pop()
            except IndexError:
                return self._machine.start(*self._command, user=user)
            if process.poll() is None:
                return process
            _end(process)

    def end(self):
        """Let go of those who wait."""
        for processes in self._idle.values():
            while processes:
                _end(processes.pop())


def _end(process):
    process.kill()
    with process:
        pass

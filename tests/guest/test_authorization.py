"""Who may do what: every cell of the table in tools/authorization.py, on a machine with a group, users and sessions."""

import contextlib
import json
import re
from pathlib import Path

import authorization
import pytest
from harness import CONFIG, SOCKET, STATE, server, until

ATTEMPTS = (Path(__file__).parent / "attempts.py").read_text()
PASSED_ON = re.compile(r"(?:/v1/users/\{user\})?/(messages|chats|numbers|contacts|groups|media)(?:/|$)")
"""Calls about messages: at the user's server, or through to it."""
WHO = "5511988887777%40c.us"
MESSAGE = "true_5511988887777%40c.us_3EB0AA"
IDS = {"messages": MESSAGE, "media": MESSAGE, "groups": "120363040000000001%40g.us"}
"""What ids look like, where they are not those of people."""
LISTEN = ("127.0.0.1", 8080)
AFAR = "192.0.2.1"
"""An address of the machine that is not loopback."""
ADD_ADDRESS = f"""
import fcntl, socket, struct
request = struct.pack("16sH2s4s8s", b"lo:1", socket.AF_INET, bytes(2), socket.inet_aton("{AFAR}"), bytes(8))
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8916, request)  # SIOCSIFADDR, netdevice(7)
"""
OTHER_UNIT = """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
StateDirectory=other
[Install]
WantedBy=multi-user.target
"""

QUERIES = {
    "PUT /v1/users/{user}": "wait=none",
    "POST /v1/users/{user}/start": "wait=none",
    "GET /api/qr": "user_id=2",
    "GET /api/port": "user_id=2",
    "GET /api/whatsapp-status": "user_id=2",
}
BODIES = {
    "PUT /v1/users/{user}, with options": {"autostart": True},
    "POST /v1/users/{user}/pairing-code": {"phone": "5511999990002"},
    "POST /v1/users/{user}/passkey": {},
    "POST /v1/users/{user}/passkey/confirm": {"code": "ABCD-EFGH"},
    "POST /v1/tokens": {"name": "another", "scope": "admin"},
    "POST /pairing-code": {"phone": "5511999990002"},
    "POST /passkey": {},
    "POST /passkey/confirm": {"code": "ABCD-EFGH"},
    "POST /send": {"phone": "5511988887777", "message": "hello"},
    "POST /v1/users/{user}/messages": {"to": "5511988887777", "text": "hello"},
    "POST /v1/users/{user}/messages/redeliver": {"all": True},
    "PATCH /v1/users/{user}/messages/{id}": {"text": "hello"},
    "POST /v1/users/{user}/messages/{id}/reaction": {"reaction": "👍"},
    "POST /v1/users/{user}/messages/{id}/forward": {"to": "5511988887777"},
    "POST /v1/users/{user}/groups": {"subject": "friends", "participants": ["5511988887777"]},
    "PATCH /v1/users/{user}/groups/{id}": {"subject": "friends"},
    "POST /v1/users/{user}/groups/{id}/participants": {"action": "add", "participants": ["5511988887777"]},
}
DONE = {
    # A server without a browser has nothing to copy.
    "POST /snapshot": 400,
    "POST /v1/users/{user}/pairing-code": 409,  # a phone is linked
    "DELETE /v1/users/{user}/pairing-code": 204,
    **dict.fromkeys(
        # No passkey is wanted of who is linked.
        (
            f"{method} {path}"
            for path in ("/v1/users/{user}/passkey", "/passkey")
            for method in ("GET", "POST", "DELETE")
        ),
        409,
    ),
    "POST /v1/users/{user}/passkey/confirm": 409,
    "POST /passkey/confirm": 409,
    "POST /v1/users/{user}/connect-link": 201,
    "POST /v1/tokens": 201,
    "DELETE /v1/tokens/{id}": 204,
    "DELETE /v1/connect-links": 204,
    "DELETE /v1/users/{user}": 204,
    "POST /qr/new": 202,
    "POST /begin": 200,
    "POST /pairing-code": 409,  # a phone is linked
    "DELETE /pairing-code": 204,
    "GET /media/{id}": 404,
    # This one belongs to no fleet.
    "GET /v1/hosts/{host}": 404,
    **{f"POST /v1/hosts/{{host}}/{verb}": 404 for verb in ("drain", "activate", "evict")},
}
"""What is answered where it is not 200."""
FILES = {
    "the store": "/var/lib/waportd/waportd.db",
    "the store's folder": "/var/lib/waportd",
    "the user's environment file": "/var/lib/waportd/instances/5002.env",
    "the session's login": "/var/lib/whatsapp/5002/.wwebjs_auth_5002/session-waportd_5002/Default/IndexedDB/login",
    "the session's folder": "/var/lib/whatsapp/5002",
    "the session's cache": "/var/cache/whatsapp/5002",
    "all sessions' folder": STATE,
    "the server's environment": "/proc/{server}/environ",
    "the server's open files": "/proc/{server}/fd",
    "the server's root": "/proc/{server}/root",
    "the server's command line": "/proc/{server}/cmdline",
    "the daemon's environment": "/proc/{daemon}/environ",
    "the configuration": CONFIG,
    "the folder of the API's socket": "/run/waportd",
    "the units of this boot": "/run/systemd/system",
    "the units": "/usr/lib/systemd/system/whatsapp@.service",
    "the program": "/usr/lib/waportd/whatsapp_server.js",
    "the engines' folder": "/var/lib/waportd-engines",
    "an engine": "/var/lib/waportd-engines/1.34.6/engine.json",
}
LIMIT = "[('MemoryMax', <uint64 536870912>)]"
NETWORK = "[('IPAddressAllow', <[(2, [byte 0xa9, 0xfe, 0, 0], uint32 16)]>)]"
BUS = {
    "start a server": ("StartUnit", "ss", "('whatsapp@5004.service', 'replace')"),
    "restart a server": ("RestartUnit", "ss", "('whatsapp@5004.service', 'replace')"),
    "limit a server": ("SetUnitProperties", "sba(sv)", f"('whatsapp@5004.service', true, {LIMIT})"),
    "signal a server": ("KillUnit", "ssi", "('whatsapp@5004.service', 'all', 23)"),
    "stop a server": ("StopUnit", "ss", "('whatsapp@5004.service', 'replace')"),
    "stop a server's port": ("StopUnit", "ss", "('whatsapp@5004.socket', 'replace')"),
    "forget that a server failed": ("ResetFailedUnit", "s", "('whatsapp@5002.service',)"),
    "delete what a server kept": ("CleanUnit", "sas", "('whatsapp@5005.service', ['cache'])"),
    "put off a server's next start": ("StartUnit", "ss", "('whatsapp-pause@5004.service', 'replace')"),
    "restart such a pause": ("RestartUnit", "ss", "('whatsapp-pause@5004.service', 'replace')"),
    "end such a pause": ("StopUnit", "ss", "('whatsapp-pause@5004.service', 'replace')"),
    # polkit does not know which property it is; docs/security.md names the result.
    "let a server reach denied networks": (
        "SetUnitProperties",
        "sba(sv)",
        f"('whatsapp@5004.service', true, {NETWORK})",
    ),
    "move what a server kept": ("StartUnit", "ss", "('whatsapp-move@5006:5007:check.service', 'replace')"),
    "stop such a move": ("StopUnit", "ss", "('whatsapp-move@5006:5007.service', 'replace')"),
    "start another unit": ("StartUnit", "ss", "('other.service', 'replace')"),
    "limit another unit": ("SetUnitProperties", "sba(sv)", f"('other.service', true, {LIMIT})"),
    "stop another unit": ("StopUnit", "ss", "('other.service', 'replace')"),
    "delete what another unit kept": ("CleanUnit", "sas", "('other.service', ['state'])"),
    "forget all failures": ("ResetFailed", "", "()"),
    "enable a unit": ("EnableUnitFiles", "asbb", "(['other.service'], true, true)"),
    "set a variable for all units": ("SetEnvironment", "as", "(['OTHER=1'],)"),
    "reload the units": ("Reload", "", "()"),
}

SEND_AND_CLOSE = """
const request = 'POST /disconnect HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 0\\r\\n\\r\\n';
for (const host of ['127.0.0.1', '::1'])
    for (let i = 0; i < 20; i += 1) {
        const socket = require('node:net').connect(Number(process.argv[1]), host, () =>
            socket.write(request, () => socket.destroy()));
    }
"""


class Somebody:
    """A process that tries what it is asked to."""

    def __init__(self, machine, user=None, become=()):
        self._process = machine.start(*become, "python3", "-c", ATTEMPTS, user=user)

    def tries(self, kind, *arguments):
        self._process.stdin.write(json.dumps([kind, *arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process ended"
        return json.loads(line)

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Everybody:
    """Who the table names."""

    def __init__(self, site, stack):
        self._site = site

        def somebody(**how):
            return stack.enter_context(contextlib.closing(Somebody(site.machine, **how)))

        self._local = {
            "root": somebody(),
            "app": somebody(user="webapp"),
            "member": somebody(user="colleague"),
            "other": somebody(user="stranger"),
            "alien": somebody(become=site.as_service(server(5001), site.uid(5001))),
            "own": somebody(become=site.as_service(server(5002), site.uid(5002))),
            "daemon": somebody(become=site.as_service("waportd", "waportd", "waportd", "systemd-journal")),
        }
        self._shown = {"nobody": ({}, "")}
        for who, secret in {
            "wrong": f"waportd_{'0' * 12}_{'A' * 43}",
            "admin": self.new_token("admin")["token"],
            "token 1": self.new_token("user:1")["token"],
            "token 2": self.new_token("user:2")["token"],
            "read": self.new_token("read")["token"],
            "metrics": self.new_token("metrics")["token"],
        }.items():
            self._shown[who] = ({"Authorization": f"Bearer {secret}"}, "")
        for user in ("1", "2"):
            path = site.call("POST", f"/v1/users/{user}/connect-link", 201)["path"]
            self._shown[f"link {user}"] = ({}, path.partition(f"user={user}&")[2])

    def new_token(self, scope):
        return self._site.call("POST", "/v1/tokens", 201, {"name": "somebody", "scope": scope})

    def tries(self, who, kind, *arguments):
        return self._local[who].tries(kind, *arguments)

    def calls_api(self, who, method, path, query, body):
        if who in self._local:
            return self.tries(who, "call", SOCKET, method, f"{path}?{query}", {}, body)
        headers, shown = self._shown[who]
        target = f"{path}?{'&'.join(filter(None, (query, shown)))}"
        return self.tries("other", "call", LISTEN, method, target, headers, body)

    def calls_server(self, who, method, port, path, body):
        if who in self._local:
            return self.tries(who, "call", ("127.0.0.1", port), method, path, {}, body)
        return self.tries("root", "call", (AFAR, port), method, path, {}, body)

    def come_back(self):
        """Make what a deletion has deleted: the user, and the tokens for them."""
        self._site.ask("PUT", "/v1/users/2?wait=none")
        secret = self.new_token("user:2")["token"]
        self._shown["token 2"] = ({"Authorization": f"Bearer {secret}"}, "")


@pytest.fixture(scope="module")
def guarded(site):
    """Sessions of users 1 and 2, a server of 3 from before there was a list, one of 4 to be played with."""
    site.use_light_servers()
    site.machine.run("useradd", "--system", "--groups", "waportd", "colleague")
    site.call("PUT", "/v1/users/3?wait=listening", 201)
    site.configure(api={"allow_users": ["webapp"], "listen": [":".join(map(str, LISTEN))]})
    site.hold_addresses()
    site.link_light("1")
    site.link_light("2")
    site.call("PUT", "/v1/users/4?wait=listening", 201)
    site.call("GET", "/api/port?user_id=5")
    site.machine.run("mkdir", "/var/lib/waportd-engines/1.34.6")
    site.machine.run("tee", FILES["an engine"], given="{}")
    return site


@pytest.fixture(scope="module")
def everybody(guarded):
    machine = guarded.machine
    machine.run("python3", "-c", ADD_ADDRESS)
    machine.run("tee", "/run/systemd/system/other.service", given=OTHER_UNIT)
    machine.systemctl("daemon-reload")
    with contextlib.ExitStack() as stack:
        yield Everybody(guarded, stack)


def assert_holds(table, row, attempt):
    """Try each cell of a row; `attempt` returns the result for somebody."""
    expected = dict(zip(table.columns, table.rows[row], strict=True))
    assert {who: str(attempt(who)) for who in table.columns} == expected


def rows(table):
    return pytest.mark.parametrize("row", table.rows)


@rows(authorization.FILES)
def test_who_may_touch_a_file(guarded, everybody, row):
    what, _, kind = row.rpartition(", ")
    pids = {"server": guarded.main_pid(server(5002)), "daemon": guarded.main_pid("waportd")}
    if what == "the journal":
        attempt = (
            "read",
            guarded.machine.run("sh", "-c", "ls /*/log/journal/*/system.journal").stdout.split()[0],
        )
    else:
        attempt = (kind, FILES[what].format(**pids))
    assert_holds(authorization.FILES, row, lambda who: everybody.tries(who, *attempt))


@rows(authorization.BUS)
def test_who_may_have_systemd_do_what(everybody, row):
    assert_holds(authorization.BUS, row, lambda who: everybody.tries(who, "systemd", *BUS[row]))


def test_the_table_knows_every_call_of_a_server(guarded):
    told = status(guarded, "webapp", 5002, "/").json["endpoints"]
    assert {line.partition(" –")[0] for line in told} == {
        row for row in authorization.SERVER.rows if "," not in row
    }


@rows(authorization.SERVER)
def test_who_may_call_a_users_server(guarded, everybody, row):
    guarded.link_light("2")
    call, _, without_list = row.partition(", ")
    method, path = call.split()
    passes = PASSED_ON.match(path)
    target = path.format(id=IDS.get(passes[1], WHO) if passes else "", number="5511988887777")
    body = BODIES.get(row, BODIES.get(f"{method} /v1/users/{{user}}{path}") if passes else None)

    def attempt(who):
        said = everybody.calls_server(who, method, 5003 if without_list else 5002, target, body)
        if passes and isinstance(said, int) and said not in {400, 401, 403}:
            return "yes"  # whatever happened to it, the call got there
        return "yes" if said == DONE.get(row, 200) else said

    assert_holds(authorization.SERVER, row, attempt)


@rows(authorization.API)
def test_who_may_call_the_api(guarded, everybody, row):
    guarded.link_light("2")
    call = row.partition(",")[0]
    method, path = call.split()

    def attempt(who):
        if row == "DELETE /v1/users/{user}":
            everybody.come_back()
        passes = PASSED_ON.match(path)
        identifier = everybody.new_token("user:3")["id"] if path == "/v1/tokens/{id}" else ""
        if passes:
            identifier = IDS.get(passes[1], WHO)
        target = path.format(
            user=2, port=5002, name="base.css", id=identifier, number="5511988887777", host="a"
        )
        said = everybody.calls_api(who, method, target, QUERIES.get(call, ""), BODIES.get(row))
        if passes and isinstance(said, int) and said not in {400, 401, 403}:
            return "yes"  # whatever the server made of it, the call got there
        return "yes" if said == DONE.get(row, 200) else said

    assert_holds(authorization.API, row, attempt)


def status(site, user, port, path="/status", host="localhost"):
    return site.machine.curl(user, "GET", f"http://{host}:{port}{path}")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_a_server_knows_its_caller_on_both_addresses_and_says_why_it_refuses(guarded, host):
    guarded.show_code("2")
    assert status(guarded, "webapp", 5002, host=host).status == 200
    answer = status(guarded, "stranger", 5002, host=host)
    assert answer.status == 403
    assert "may not call this server: it is not in api.allow_users" in answer.json["error"]


def test_a_caller_who_sends_and_is_gone_does_not_pass_for_root(guarded):
    """The server looks when all of them are gone: it stands still meanwhile."""
    site = guarded
    site.link_light("4")
    site.machine.systemctl("kill", "--kill-whom=main", "--signal=STOP", server(5004))
    try:
        site.machine.run("node", "-e", SEND_AND_CLOSE, "5004", user="stranger")
    finally:
        site.machine.systemctl("kill", "--kill-whom=main", "--signal=CONT", server(5004))
    assert status(site, "webapp", 5004).json["ready"]
    told = until(
        lambda: (
            "a caller is refused" in (text := site.machine.journal("WAPORTD_PORT=5004", "--output=cat"))
            and text
        ),
        "the refusal",
    )
    assert "uid=unknown" in told
    assert "POST /disconnect" not in told
    assert site.call("GET", "/v1/users/4")["session"]["state"] == "ready"
    assert site.machine.show(server(5004), "NRestarts") == "0"


def test_a_changed_list_holds_from_the_servers_next_start(guarded):
    site = guarded
    site.show_code("5")
    try:
        site.configure(api={"allow_users": []})
        assert status(site, "stranger", 5005).status == 403
        site.call("POST", "/v1/users/5/restart")
        # Without a list, every local user may call.
        assert status(site, "stranger", 5005).status == 200
    finally:
        site.configure(api={"allow_users": ["webapp"]})
    site.machine.systemctl("restart", server(5005))
    assert status(site, "stranger", 5005).status == 403

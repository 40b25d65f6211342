"""A fleet of three booted machines, and an etcd beside them: who runs a user when hosts, daemons and the network fail.

The sessions have no browser. What must never be is that one runs on two hosts. The machines run on one kernel, whose
control groups show at any time which sessions live on which of them.
"""

import dataclasses
import json
import threading
import time

import pytest
from fleet_machines import (
    FAILOVER_AFTER_S,
    NAMES,
    SETTINGS,
    TIMING,
    WHOLE_S,
    FleetHost,
    all_are_linked,
    fleet_on,
    join,
    owners,
)
from harness import until
from rows import EVERYTHING, MACHINES, Row, note
from testbed import guests, network

from waportd.fleet.placement import ranked

RELEASES = guests.RELEASES if EVERYTHING else guests.RELEASES[-1:]
USERS = 6
USERS_OF_A = [user for user in map(str, range(1, 100)) if ranked(user, dict.fromkeys(NAMES, 1))[0] == "a"][
    :USERS
]
"""Users who go to the first host, where all have as much room."""
GET = """
import json, sys, urllib.error, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=10) as answer:
        print(json.dumps([answer.status, json.load(answer)]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, json.load(error)]))
except OSError:
    print(json.dumps([0, None]))
"""
LISTENER = """
import sys
from waportd.tcp_table import LISTENING, sockets
print(*{one.uid for one in sockets() if one.state == LISTENING and one.local[1] == int(sys.argv[1])})
"""
"""Whose program listens: root's, where systemd itself does."""


@dataclasses.dataclass
class Lives:
    """Looks all the time which sessions live on which host."""

    hosts: list[FleetHost]
    seen: set[str] = dataclasses.field(default_factory=set)
    """The hosts on which a session was seen."""
    twice: list[tuple[float, int, list[str]]] = dataclasses.field(default_factory=list)

    def __enter__(self):
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        assert self.seen, "nothing was seen"
        assert self.twice == [], "sessions that ran on two hosts"

    def _run(self):
        while not self._ended.wait(0.02):
            lives = {}
            for host in self.hosts:
                for port in host.ports():
                    lives.setdefault(port, []).append(host.name)
            now = time.monotonic()
            self.seen |= {name for names in lives.values() for name in names}
            self.twice += [(now, port, names) for port, names in lives.items() if len(names) > 1]


@pytest.fixture(scope="module")
def fleet(root, package, installed, tmp_path_factory):
    disks = [(root, installed(root))] * len(NAMES)
    release = root.name.partition("-")[0]
    with fleet_on(disks, package, tmp_path_factory.mktemp("fleet"), release) as hosts:
        yield hosts


@pytest.fixture(scope="module")
def settled(fleet):
    """Six users, all of them on the first host; they are linked, as far as servers without a browser are."""
    a, b, c = fleet
    for user in USERS_OF_A:
        a.site.link_light(user)
    assert owners(*fleet) == dict.fromkeys(USERS_OF_A, "a")
    # A server copies its login when it stops; otherwise after a minute.
    a.ctl("restart", "--all", "--yes")
    for user in USERS_OF_A:
        until(lambda user=user: b.keeps_login(user) and c.keeps_login(user), "the login on the other hosts")
        assert not a.keeps_login(user)
    return fleet


def noted(host, fault, saw, began):
    note(Row(host.release, fault, saw, round(time.monotonic() - began, 1)), MACHINES)


def test_users_of_a_host_without_power_are_on_others_and_it_gives_them_up_when_it_is_back(settled):
    a, b, c = settled
    with Lives(settled):
        began = time.monotonic()
        a.machine.cut_off()
        until(lambda: len(owners(b, c)) == USERS, "the users on other hosts")
        taken = time.monotonic()
        assert taken - began > TIMING.ttl_s - TIMING.renew_s + FAILOVER_AFTER_S
        all_are_linked(b, c)
        before = owners(b, c)
        assert set(before.values()) == {"b", "c"}, "each takes its share"
        noted(b, "a host of three loses its power", f"its {USERS} users run on the two others", began)
        a.machine.boot()
        until(a.holds_lease, "the next lease")
        until(lambda: a.users() == {}, "the loss")
        time.sleep(WHOLE_S)
        assert owners(b, c) == before
        assert a.ports() == set()


def test_a_host_that_is_cut_off_ends_its_sessions_before_others_run_them(settled):
    a, b, c = settled
    with Lives(settled):
        cut = next(host for host in (b, c) if owners(host))
        others = [host for host in settled if host is not cut]
        ports = cut.ports()
        began = time.monotonic()
        cut.port.unplug()
        until(lambda: not cut.ports(), "the end of its sessions")
        ended = time.monotonic() - began
        assert ended < TIMING.ttl_s
        until(lambda: len(owners(*others)) == USERS, "all users on the others")
        all_are_linked(*others)
        saw = f"its {len(ports)} sessions end after {ended:.1f} s; they run on the two others"
        noted(a, "a host of three is cut off from the network", saw, began)
        cut.port.plug()
        until(cut.holds_lease, "the next lease")
        until(lambda: cut.users() == {}, "the loss")
        assert not cut.ports()


def test_a_daemon_that_is_killed_stopped_and_started_disturbs_no_session(settled):
    host = next(host for host in settled if host.ports())
    ports = host.ports()
    pids = {port: host.site.main_pid(f"whatsapp@{port}.service") for port in ports}
    with Lives(settled):
        host.machine.systemctl("kill", "--signal=KILL", "waportd")
        until(lambda: host.site.ask("GET", "/v1/users?host=self").status == 200, "the daemon's return")
        host.machine.systemctl("stop", "waportd")
        time.sleep(WHOLE_S)
        host.machine.systemctl("start", "waportd")
        until(lambda: list(host.users().values()).count("running") == len(ports), "the daemon's picture")
    assert {port: host.site.main_pid(f"whatsapp@{port}.service") for port in ports} == pids


def test_any_host_answers_for_a_user_who_is_elsewhere_by_the_one_that_has_the_user(settled):
    owner, other = (next(host for host in settled if bool(owners(host)) is has) for has in (True, False))
    user = next(iter(owners(owner)))
    port = owner.site.call("GET", f"/v1/users/{user}")["port"]
    shown = other.site.call("PUT", f"/v1/users/{user}")
    assert (shown["host"], shown["port"]) == (owner.name, port)
    listed = other.site.call("GET", "/v1/users")["users"]
    assert {row["user"]: row["host"] for row in listed} == owners(*settled)
    hosts = other.site.call("GET", "/v1/hosts")["hosts"]
    assert [(host["name"], host["alive"]) for host in hosts] == [(name, True) for name in NAMES]
    # Wherever a new user is made, the port is nobody else's, and the next call knows the user.
    made = other.site.call("PUT", "/v1/users/new?wait=none", 201)
    assert made["port"] not in {row["port"] for row in listed}
    assert other.site.call("GET", "/v1/users/new")["host"] == made["host"]
    other.site.call("DELETE", "/v1/users/new", 204)


def test_the_port_of_a_user_elsewhere_answers_on_a_host_that_forwards_ports(settled):
    owner = next(host for host in settled if owners(host))
    here = next(host for host in settled if host is not owner)
    user = next(iter(owners(owner)))
    port = owner.site.call("GET", f"/v1/users/{user}")["port"]

    def ask(path="session", *before):
        """Call the port as a web app on this host does; return the status, 0 for none, and what is answered."""
        said = here.machine.run(
            *before, "/usr/bin/python3", "-c", GET, f"http://localhost:{port}/{path}"
        ).stdout
        return json.loads(said)

    def is_waportds_own():
        return bool(int(here.machine.run("/usr/bin/python3", "-c", LISTENER, str(port)).stdout))

    assert ask()[0] == 0, "nothing is there"
    here.machine.run("sh", "-c", f"echo forward_ports: true >> {SETTINGS}")
    here.machine.systemctl("restart", "waportd")
    until(lambda: ask()[0] == 200, "the port")
    _, session = ask()
    assert (session["user"], session["port"], session["state"]) == (user, port, "ready")
    assert ask(f"qr?user_id={user}x")[0] == 409, "the server's own refusals come through"
    # A session of another user, which this host runs as a service with DynamicUser=, may not call.
    status, refused = ask("session", "setpriv", "--reuid=61200", "--regid=61200", "--clear-groups")
    assert (status, refused["code"]) == (403, "forbidden")
    assert f"localhost:{port}" not in here.machine.journal("--unit=waportd"), "no call is logged"
    assert "users of other hosts answer here, too" in here.ctl("fleet", "doctor")
    with Lives(settled):
        here.ctl("move", user, "--to", here.name, "--yes")
        here.site.until_session(user, "ready")
        assert ask()[1]["state"] == "ready"
        assert not is_waportds_own(), "systemd has it for the server"
        here.ctl("move", user, "--to", owner.name, "--yes")
        owner.site.until_session(user, "ready")
        until(lambda: ask()[0] == 200, "the port, again by way of the other host")
        assert is_waportds_own()
    here.machine.run("sed", "--in-place", "/forward_ports/d", SETTINGS)
    here.machine.systemctl("restart", "waportd")
    until(lambda: ask()[0] == 0, "the end of it")


def test_a_token_is_known_on_all_hosts_and_a_deleted_one_on_none(settled):
    a, b, c = settled

    def known(host):
        return {token["name"] for token in host.site.call("GET", "/v1/tokens")["tokens"]}

    made = a.site.call("POST", "/v1/tokens", 201, {"name": "web app", "scope": "admin"})
    until(lambda: "web app" in known(b) and "web app" in known(c), "the token on the other hosts")
    b.ctl("token", "revoke", made["id"])
    until(lambda: not any("web app" in known(host) for host in settled), "its end on all hosts")


def pids(*hosts):
    """Return the process of each session that lives."""
    return {
        port: host.site.main_pid(f"whatsapp@{port}.service")
        for host in hosts
        for port in sorted(host.ports())
    }


def test_while_the_engine_is_away_all_sessions_run_on_and_nobody_is_made(settled):
    a, *_ = settled
    all_are_linked(*settled)
    before, where = pids(*settled), owners(*settled)
    assert len(before) == USERS
    with Lives(settled):
        began = time.monotonic()
        settled.engine.kill()
        for host in settled:
            until(lambda host=host: host.keeper_says().startswith("failsafe"), "failsafe")
        refused = a.site.ask("PUT", "/v1/users/later?wait=none")
        assert (refused.status, refused.json["code"]) == (503, "engine_unavailable")
        # Who is here may be restarted meanwhile.
        host = next(host for host in settled if host.users())
        user = next(iter(host.users()))
        assert host.site.ask("POST", f"/v1/users/{user}/restart").status == 200
        time.sleep(2 * WHOLE_S)
        settled.engine.start()
        for host in settled:
            until(lambda host=host: host.keeper_says().startswith("holds the lease"), "the engine's return")
        saw = "all sessions run on, by agreement of all hosts; nobody moves"
        noted(a, f"the engine of three hosts is away for {2 * WHOLE_S:.0f} s", saw, began)
        time.sleep(WHOLE_S)
    now = pids(*settled)
    assert owners(*settled) == where
    assert len({port for port in before if now.get(port) == before[port]}) == USERS - 1, "one was restarted"


def test_for_a_host_that_does_not_reach_the_engine_another_one_renews(settled):
    cut = next(host for host in settled if host.ports())
    before, where = pids(cut), owners(*settled)
    with Lives(settled):
        began = time.monotonic()
        cut.port.cut(network.HUB)
        until(lambda: "renews the lease" in cut.keeper_says(), "help by another host")
        time.sleep(WHOLE_S)
        assert pids(cut) == before
        cut.port.heal(network.HUB)
        until(lambda: cut.keeper_says().startswith("holds the lease"), "the engine's return")
        noted(cut, "a host of three does not reach the engine", "another host renews its lease", began)
    assert owners(*settled) == where


def test_a_host_is_emptied_while_everything_runs_and_taken_into_use_again(settled):
    all_are_linked(*settled)
    source = max(settled, key=lambda host: len(host.ports()))
    others = [host for host in settled if host is not source]
    before = pids(*others)
    with Lives(settled):
        began = time.monotonic()
        said = others[0].ctl("host", "drain", source.name, "--wait", "--yes")
        assert f"{source.name} has no users any more." in said
        assert (source.users(), source.ports()) == ({}, set())
        until(lambda: len(owners(*others)) == USERS, "the users on other hosts")
        all_are_linked(*others)
        noted(source, "a host of three is drained", "its users run on the two others", began)
        assert before.items() <= pids(*others).items(), "nobody else was disturbed"
        others[0].ctl("host", "activate", source.name)
        user = next(iter(owners(*others)))
        others[0].ctl("move", user, "--to", source.name, "--yes")
        until(lambda: set(owners(source)) == {user}, "the user who was sent there")
        all_are_linked(source)


EXPIRED = """
from datetime import UTC, datetime, timedelta
from pathlib import Path
from waportd.fleet.certificates import Authority
long_ago = datetime.now(UTC) - timedelta(days=800)
print(Authority.load(Path("/etc/waportd/fleet")).issue("{name}", ["{address}"], now=long_ago).decode())
"""
"""A certificate of two years that has ended, as the first host would have made it."""


def test_a_host_whose_certificate_has_expired_keeps_its_lease_and_gets_the_next_one(settled):
    a = settled[0]
    owner = next(host for host in settled[1:] if host.ports())
    before, user = pids(owner), next(iter(owner.users()))
    expired = a.machine.run(
        "/usr/bin/python3", "-c", EXPIRED.format(name=owner.name, address=owner.port.address)
    ).stdout
    with Lives(settled):
        began = time.monotonic()
        owner.machine.run("tee", f"{SETTINGS.rpartition('/')[0]}/host.pem", given=expired)
        owner.machine.systemctl("reload", "waportd-lease")
        owner.machine.systemctl("restart", "waportd")
        until(lambda: a.site.ask("GET", f"/v1/users/{user}").status == 502, "the refusal of the certificate")
        refused = a.site.ask("GET", f"/v1/users/{user}").json
        assert (refused["code"], refused["cause"]) == ("host_refused", "expired")
        found = owner.machine.run("waportctl", "fleet", "doctor", check=False)
        assert found.returncode == 1
        assert "the certificate has expired" in found.stdout
        time.sleep(WHOLE_S)
        assert owner.holds_lease()
        assert pids(owner) == before
        join(a, owner)
        until(lambda: a.site.ask("GET", f"/v1/users/{user}").status == 200, "the next certificate")
        assert pids(owner) == before
        saw = "its sessions run on; calls for its users get a 502 until it has the next one"
        noted(owner, "the certificate of a host of three has expired", saw, began)
    assert a.machine.run("waportctl", "fleet", "doctor", check=False).returncode == 0


@pytest.mark.thorough
def test_a_host_that_is_cut_off_from_the_others_alone_runs_on(settled):
    a, *others = settled
    before, where = pids(*settled), owners(*settled)
    with Lives(settled):
        for other in others:
            a.port.cut(other.port.address)
        time.sleep(WHOLE_S)
        for other in others:
            a.port.heal(other.port.address)
    assert (pids(*settled), owners(*settled)) == (before, where)


@pytest.mark.thorough
def test_a_host_that_stood_still_for_too_long_kills_its_sessions_at_once(settled):
    """Others run its users by then. Only the clock shows it: no call of its own has failed."""
    all_are_linked(*settled)
    paused = max(settled, key=lambda host: len(host.ports()))
    others = [host for host in settled if host is not paused]
    began = time.monotonic()
    with paused.stands_still():
        until(lambda: len(owners(*others)) == USERS, "all users on the others")
        all_are_linked(*others)
    resumed = time.monotonic()
    while paused.ports():
        assert time.monotonic() - resumed < 1.0, "its sessions run on"
        time.sleep(0.005)
    overlap = time.monotonic() - resumed
    until(paused.holds_lease, "the next lease")
    until(lambda: paused.users() == {}, "the loss")
    assert paused.ports() == set()
    saw = f"its users run on the others; its own sessions are dead {1000 * overlap:.0f} ms after it continues"
    noted(paused, "a host of three stands still until its users are taken", saw, began)


HOLD = "import socket, time; held = socket.create_server(('127.0.0.1', {port})); time.sleep(3600)"


@pytest.mark.thorough
def test_a_user_does_not_go_where_another_program_has_the_port(settled):
    all_are_linked(*settled)
    dies = next(host for host in settled if host.ports())
    others = {host.name: host for host in settled if host is not dies}
    user = next(iter(dies.users()))
    first, second = (others[name] for name in ranked(user, dict.fromkeys(others, 1)))
    are_kept(dies)
    port = dies.site.call("GET", f"/v1/users/{user}")["port"]

    def complaint():
        return (
            f"another program has port {port} here"
            in first.machine.run("waportctl", "fleet", "doctor", check=False).stdout
        )

    began = time.monotonic()
    first.machine.run("systemd-run", "--unit=foreign", "/usr/bin/python3", "-c", HOLD.format(port=port))
    until(complaint, "the complaint")
    refused = second.machine.run("waportctl", "move", user, "--to", first.name, "--yes", check=False)
    assert refused.returncode == 1
    assert f"another program has port {port} on {first.name}" in refused.stderr
    with Lives(settled):
        dies.machine.cut_off()
        until(lambda: len(owners(*others.values())) == USERS, "the users on the others")
        assert user in second.users()
        all_are_linked(*others.values())
        noted(
            second,
            "a host dies, and another one cannot have a user's port",
            "the third takes the user",
            began,
        )
        dies.machine.boot()
        until(dies.holds_lease, "the next lease")
        until(lambda: dies.users() == {}, "the loss")
    first.machine.systemctl("stop", "foreign")
    until(lambda: not complaint(), "its end")


@pytest.mark.thorough
def test_while_the_engine_is_away_the_sessions_of_all_end_if_a_host_is_silent(settled):
    """It may run users of its own, or be about to take some: nobody knows."""
    a, _, c = settled
    with Lives(settled):
        began = time.monotonic()
        settled.engine.kill()
        c.port.unplug()
        for host in settled:
            until(lambda host=host: not host.ports(), "the end of the sessions")
        assert time.monotonic() - began < TIMING.deadline_s + TIMING.stop_s + 4 * TIMING.ask_s + 2
        c.port.plug()
        settled.engine.start()
        for host in settled:
            until(host.holds_lease, "the next lease")
        all_are_linked(*settled)
        assert set(owners(*settled)) == set(USERS_OF_A)
        saw = "all sessions end, and are back when the engine is"
        noted(a, "the engine of three hosts is away, and one of them is cut off", saw, began)


@pytest.mark.thorough
def test_an_engine_that_has_lost_everything_gets_it_back_from_the_hosts(settled):
    a, b, _ = settled
    all_are_linked(*settled)
    where = owners(*settled)
    made = a.site.call("POST", "/v1/tokens", 201, {"name": "survivor", "scope": "admin"})
    until(lambda: knows_token(b, made["id"]), "the token on another host")
    with Lives(settled):
        began = time.monotonic()
        settled.engine.set_up_again()
        until(lambda: not any(host.ports() for host in settled) or all(map(is_settled, settled)), "the news")
        for host in settled:
            until(lambda host=host: host.holds_lease() and is_settled(host), "the fleet as it was")
        until(lambda: owners(*settled) == where, "the users where they were")
        all_are_linked(*settled)
        saw = "each host puts back its users; they are linked, where they were"
        noted(a, "the engine of three hosts is set up anew, with nothing", saw, began)
    assert all(knows_token(host, made["id"]) for host in settled)
    a.ctl("token", "revoke", made["id"])
    a.site.call("PUT", "/v1/users/later?wait=none", 201)
    a.site.call("DELETE", "/v1/users/later", 204)


@pytest.mark.thorough
def test_of_a_host_and_the_engine_that_are_lost_a_copy_of_the_engine_brings_the_users_back(settled):
    all_are_linked(*settled)
    dies = max(settled, key=lambda host: len(host.ports()))
    others = [host for host in settled if host is not dies]
    are_kept(dies)
    copy = settled.engine.save()
    with Lives(settled):
        began = time.monotonic()
        dies.machine.cut_off()
        settled.engine.restore(copy)
        until(lambda: len(owners(*others)) == USERS, "all users on the others")
        all_are_linked(*others)
        saw = "from a copy of the engine: its users run on the two others, linked"
        noted(others[0], "a host of three and the engine are lost", saw, began)
        dies.machine.boot()
        until(dies.holds_lease, "the next lease")
        until(lambda: dies.users() == {}, "the loss")


def are_kept(host):
    """Have the logins of a host's users on both of the others: who has just taken somebody may have the one copy."""
    host.ctl("restart", "--all", "--yes")
    enough = f"each of {len(host.users())} logins is on 2 other hosts"
    until(lambda: enough in host.machine.run("waportctl", "fleet", "doctor", check=False).stdout, enough)


def knows_token(host, token):
    return token in {one["id"] for one in host.site.call("GET", "/v1/tokens")["tokens"]}


def is_settled(host):
    said = host.machine.run("waportctl", "fleet", "status", "--json", check=False).stdout
    return bool(said) and json.loads(said).get("settled") is True


def test_the_hosts_are_listed_and_one_that_lives_is_not_removed(settled):
    a, b, _ = settled
    listed = json.loads(a.ctl("fleet", "status", "--json"))
    assert listed["settled"]
    assert [(host["name"], host["alive"]) for host in listed["hosts"]] == [(name, True) for name in NAMES]
    assert sum(host["users"] for host in listed["hosts"]) == USERS
    # As docs/fleet.md shows them.
    a.machine.run(
        *("sh", "-euc", "systemctl status waportd-lease; journalctl -u waportd -u waportd-lease"),
    )
    refused = a.machine.run("waportctl", "host", "evict", b.name, "--yes", check=False)
    assert refused.returncode == 1
    assert "host b holds its lease: it is alive" in refused.stderr
    kept = b.machine.run("dpkg", "--remove", "waportd-fleet", check=False)
    assert kept.returncode == 1
    assert "this host is a member of a fleet; first: waportctl fleet leave" in kept.stderr
    again = b.machine.run(
        "waportctl", "fleet", "init", "x", "--address", "192.0.2.1:1", "--engine", "http://e:1", check=False
    )
    assert "this host is b of a fleet already" in again.stderr


@pytest.mark.thorough
def test_hosts_leave_and_join_again_and_the_last_one_keeps_its_sessions(settled):
    a, b, c = settled
    user = next(iter(owners(a, c)))
    a.ctl("move", user, "--to", "b", "--yes")
    with Lives(settled):
        b.ctl("fleet", "leave", "--yes")
        assert (b.users(), b.ports()) == ({}, set())
        until(lambda: len(owners(a, c)) == USERS, "the users on other hosts")
        all_are_linked(a, c)
        assert_is_on_its_own(b)
        b.machine.run("dpkg", "--remove", "waportd-fleet")
        assert b.site.call("PUT", "/v1/users/own?wait=none", 201)["user"] == "own"
        b.site.call("DELETE", "/v1/users/own", 204)
        b.install(b.package)
        join(a, b)
        b.hurry()
        until(b.holds_lease, "its lease in the fleet")
        a.ctl("move", user, "--to", "b", "--yes")
        until(lambda: set(owners(b)) == {user}, "the user who was sent there")
        all_are_linked(b)
        for host in (c, b):
            host.ctl("fleet", "leave", "--yes")
        until(lambda: len(owners(a)) == USERS, "all users on the last host")
        all_are_linked(a)
        before = pids(a)
        a.ctl("fleet", "leave", "--yes")
        assert_is_on_its_own(a)
        assert (pids(a), len(a.users())) == (before, USERS)
        assert a.site.ask("POST", f"/v1/users/{user}/restart").status == 200
        all_are_linked(a)
        before = pids(a)
        first_again(a, settled.engine)
        assert pids(a) == before
        assert set(owners(a)) == set(USERS_OF_A)


def assert_is_on_its_own(host):
    """Find nothing of a fleet."""
    places = "/etc/waportd/fleet /etc/systemd/system/*waportd* /etc/systemd/system/whatsapp-*"
    assert host.machine.run("sh", "-c", f"ls -d {places} 2>/dev/null || true").stdout == ""
    assert not host.holds_lease()


def first_again(host, engine):
    """Begin a fleet with a host that has left one."""
    address = f"{host.port.address}:7467"
    host.ctl("fleet", "init", host.name, "--address", address, "--engine", engine.url)
    until(host.holds_lease, "the lease of the new fleet")

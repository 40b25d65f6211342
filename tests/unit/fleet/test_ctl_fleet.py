"""`host`, `fleet` and `move --to` of waportctl, on an engine in memory; systemctl is played, files and store are real."""

import dataclasses
import json
import os
import sqlite3
import subprocess

import pytest
from memory_engine import Client, MemoryEngine

from waportd.cli import bounded, fleets, leaving, moving
from waportd.cli.checks import membership
from waportd.cli.checks.membership import Look
from waportd.cli.exit_status import Exit
from waportd.cli.main import main
from waportd.config import Bus
from waportd.fleet import administration, bundle, enrolment, own_etcd, units
from waportd.fleet.directory import MARK
from waportd.fleet.engine import HostState, Order, Row
from waportd.fleet.founding import found
from waportd.fleet.settings import Settings
from waportd.fleet.store import FleetStore, forget_fleet
from waportd.fleet.timing import Timing
from waportd.model import Assignment, Port, User
from waportd.store import SqliteStore, read_assignments

_MANY = 200


@pytest.fixture
def engine():
    engine = MemoryEngine()
    for name in "abc":
        engine.lease = engine.acquire(name)
        engine.set_up(name)
    return engine


def add(engine, host, *users, linked=True):
    lease = dataclasses.replace(engine.lease, host=host, incarnation=engine.state.leases[host])
    for user in users:
        engine.create(lease, Row(user, 5000 + int(user), host, document={"linked": linked}))


@pytest.fixture
def daemons(engine, monkeypatch):
    """Called at each look at the engine: what the daemons do meanwhile."""
    steps, looks = [], []

    def client(*_, **__):
        one = Client(engine)

        async def noticed(call, _way):
            if call == "state":
                looks.append(call)
                assert len(looks) < _MANY, "this does not end"
                for step in steps:
                    step()

        one.noticed = noticed
        return one

    monkeypatch.setattr(fleets, "Etcd", client)
    monkeypatch.setattr(moving, "POLL_S", 0.001)
    return steps


@pytest.fixture
def folder(tmp_path):
    """The configuration of host a."""
    config = tmp_path / "config.yaml"
    config.write_text(f"store: {{directory: {tmp_path}/store}}\n")
    (tmp_path / "store").mkdir()
    folder = tmp_path / "fleet"
    folder.mkdir()
    enrolment.found(folder, "shop", "a", ["192.0.2.1"])
    Settings("a", "192.0.2.1:7467", ("http://192.0.2.9:2379",), folder=folder).save()
    return folder


@pytest.fixture
def ctl(folder, daemons, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def run(*words):
        status = main([*words, "--config", str(folder.parent / "config.yaml")])
        return status, *capsys.readouterr()

    return run


def move_one(engine, source):
    """Do what a daemon does of a drain or an order."""

    def step():
        for move in administration.due(engine.state, source).moves[:1]:
            lease = dataclasses.replace(engine.lease, host=source, incarnation=engine.state.leases[source])
            engine.move(lease, move.row, move.host)

    return step


def state_of(engine, name):
    return next(host.state for host in engine.state.hosts if host.name == name)


class TestDrain:
    def test_it_waits_until_nobody_is_left(self, engine, daemons, ctl):
        add(engine, "a", "1", "2", "3")
        daemons.append(move_one(engine, "a"))
        status, out, err = ctl("host", "drain", "a", "--wait")
        assert (status, err) == (Exit.OK, "")
        assert [line for line in out.splitlines() if line.endswith("left")][-1] == "0 users left"
        assert out.endswith("a has no users any more.\n")
        assert "a" not in engine.owners().values()

    def test_without_wait_it_only_begins(self, engine, ctl):
        add(engine, "a", "1")
        status, out, _ = ctl("host", "drain", "a")
        assert status == Exit.OK
        assert "`waportctl host drain a --wait`" in out
        assert (state_of(engine, "a"), engine.owners()) == (HostState.DRAINING, {"1": "a"})

    def test_who_does_not_leave_is_named_with_the_reason(self, engine, daemons, ctl):
        add(engine, "a", "1", "2")
        engine.set_up("b", HostState.DRAINING)
        engine.set_up("c", capacity=1)

        def fail():
            for row in (move.row for move in administration.due(engine.state, "a").moves):
                known = engine.state.orders.get(row.user, Order(row.user, "c", row.token))
                failed = "the store of snapshots is full"
                engine.order(dataclasses.replace(known, host="c", failed=failed))

        daemons.append(fail)
        status, _, err = ctl("host", "drain", "a", "--wait")
        assert status == Exit.FAILED
        assert "user 1: the store of snapshots is full" in err
        daemons.clear()
        add(engine, "c", "3")
        status, out, _ = ctl("host", "drain", "a", "--wait", "--json")
        assert status == Exit.FAILED
        document = json.loads(out)
        assert document["left"] == 2
        assert document["stuck"]["1"].startswith("no host has room for user 1: a is draining, b is draining")

    def test_another_drain_tries_those_again_who_have_failed(self, engine, daemons, ctl):
        add(engine, "a", "1")
        row = engine.row("1")
        engine.order(Order("1", "b", row.token, "the store of snapshots is full"))
        daemons.append(move_one(engine, "a"))
        assert ctl("host", "drain", "a", "--wait")[0] == Exit.OK

    @pytest.mark.parametrize(
        ("state", "alive", "says"), [("active", False, "host b is silent"), ("left", True, "b has left")]
    )
    def test_a_host_that_cannot_is_refused(self, engine, ctl, state, alive, says):
        engine.set_up("b", state)
        if not alive:
            engine.lose("b")
        for command in ("drain", "activate")[: 1 if not alive else 2]:
            status, _, err = ctl("host", command, "b")
            assert status == Exit.FAILED
            assert says in err
        assert "there is no host x" in ctl("host", "drain", "x")[2]

    def test_when_the_drain_is_ended_elsewhere_it_says_so(self, engine, daemons, ctl):
        add(engine, "a", "1")
        daemons.append(lambda: engine.set_up("a") if state_of(engine, "a") == "draining" else None)
        status, _, err = ctl("host", "drain", "a", "--wait")
        assert status == Exit.FAILED
        assert "somebody has ended the drain" in err

    def test_activate_ends_it(self, engine, ctl):
        ctl("host", "drain", "b")
        assert ctl("host", "activate", "b")[0] == Exit.OK
        assert state_of(engine, "b") == "active"


class TestMove:
    def test_a_user_goes_where_it_says(self, engine, daemons, ctl):
        add(engine, "a", "1", "2")
        daemons.append(move_one(engine, "a"))
        status, out, _ = ctl("move", "1", "--to", "b")
        assert status == Exit.OK
        assert "user 1: on host b now (port 5001)" in out
        assert engine.owners() == {"1": "b", "2": "a"}
        assert "on host b already" in ctl("move", "1", "--to", "b")[1]

    def test_a_dry_run_changes_nothing(self, engine, ctl):
        add(engine, "a", "1")
        status, out, _ = ctl("move", "1", "--to", "b", "--dry-run")
        assert status == Exit.OK
        assert "goes from host a to host b, with port 5001" in out
        assert engine.state.orders == {}

    def test_why_a_user_has_stayed_is_said(self, engine, daemons, ctl):
        add(engine, "a", "1")

        def refuse():
            order = engine.state.orders.get("1")
            if order and not order.failed:
                engine.order(dataclasses.replace(order, failed="the snapshot cannot be kept"))

        daemons.append(refuse)
        for _ in range(2):
            status, _, err = ctl("move", "1", "--to", "b")
            assert status == Exit.FAILED
            assert "user 1 has stayed on host a: the snapshot cannot be kept" in err

    def test_what_cannot_be_is_refused_at_once(self, engine, ctl):
        add(engine, "a", "1")
        assert ctl("move", "7", "--to", "b")[0] == Exit.UNKNOWN_USER
        assert "there is no host x" in ctl("move", "1", "--to", "x")[2]
        engine.set_up("b", capacity=0)
        assert "b is full (0 of 0)" in ctl("move", "1", "--to", "b")[2]
        engine.lose("a")
        assert "host a is silent" in ctl("move", "1", "--to", "c")[2]

    def test_who_has_not_gone_in_time_may_yet_go(self, engine, ctl, monkeypatch):
        monkeypatch.setattr(moving, "MOVE_S", 0.05)
        add(engine, "a", "1")
        assert ctl("move", "1", "--to", "b")[0] == Exit.NOT_IN_TIME

    def test_on_a_host_of_its_own_it_says_that_there_is_no_fleet(self, folder, ctl):
        enrolment.leave(folder)
        status, _, err = ctl("move", "1", "--to", "b")
        assert status == Exit.FAILED
        assert "this host belongs to no fleet" in err


def test_a_rebalance_orders_what_its_dry_run_shows(engine, ctl):
    add(engine, "a", "1", "2", "3")
    status, out, _ = ctl("fleet", "rebalance", "--dry-run", "--json")
    assert status == Exit.OK
    shown = {each["user"]: each["target"] for each in json.loads(out)}
    assert sorted(shown.values()) == ["b", "c"]
    assert engine.state.orders == {}
    assert ctl("fleet", "rebalance")[0] == Exit.OK
    assert {user: order.host for user, order in engine.state.orders.items()} == shown
    add(engine, "b", "4")
    add(engine, "c", "5")
    engine.next(rows=tuple(row for row in engine.state.rows if row.user not in "23"))
    assert "Each host has its share" in ctl("fleet", "rebalance")[1]


class System:
    """systemctl, and the folder of units."""

    def __init__(self, folder):
        self.units, self.calls, self.bound = folder, [], []

    def __call__(self, command, **_):
        self.calls.append(" ".join(command[1:]))
        if "stop waportd-lease.service" in self.calls[-1]:
            self.bound = sorted(path.name for path in self.units.glob("whatsapp@*.d"))
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def system(tmp_path, monkeypatch):
    system = System(tmp_path / "units")
    monkeypatch.setattr(bounded, "run", system)
    monkeypatch.setattr(leaving, "SYSTEM_UNITS", system.units)
    monkeypatch.setattr(units, "runtime_folder", lambda **_: tmp_path / "run")
    units.write(system.units, units.render_units(bus=Bus.SYSTEM, timing=Timing(), programs=tmp_path))
    (system.units / "whatsapp@.service.d/90-mine.conf").write_text("[Service]\n")
    return system


class TestInit:
    @pytest.fixture
    def init(self, engine, ctl, system, folder, tmp_path, monkeypatch):
        """Begin a fleet, with some options; return what was said, and the settings of the host."""
        enrolment.leave(folder)
        for name in "abc":
            engine.lose(name)
            engine.set_up(name, HostState.LEFT)
        monkeypatch.setattr(fleets, "SYSTEM_UNITS", system.units)
        monkeypatch.setattr(fleets, "sessions_folder", lambda _: tmp_path / "private/whatsapp")

        def run(*options):
            said = ctl(
                "fleet", "init", "a", "--address", "192.0.2.1:7467", "--engine", "http://e:1", *options
            )
            return said, Settings.load(folder) if folder.exists() else None

        return run

    def test_hosts_keep_the_logins_for_one_another(self, init, ctl, tmp_path):
        (status, _, err), settings = init()
        assert (status, err) == (Exit.OK, "")
        assert (settings.snapshots, settings.copies, settings.mount) == ("peers", 2, None)
        made = tmp_path / "b.bundle"
        assert ctl("fleet", "invite", "b", str(made), "--address", "192.0.2.2:7467")[0] == Exit.OK
        assert (bundle.read(made).snapshots, bundle.read(made).copies) == ("peers", 2)

    def test_a_folder_is_made_a_store_and_the_daemon_may_write_there(self, init, system, tmp_path):
        (status, _, err), settings = init("--snapshots", f"{tmp_path}/logins")
        assert (status, err) == (Exit.OK, "")
        assert settings.mount == tmp_path / "logins"
        assert (settings.mount / MARK).exists()
        drop_in = (system.units / "waportd.service.d/50-fleet.conf").read_text()
        assert f"ReadWritePaths=-{tmp_path}/logins" in drop_in

    def test_a_bucket_is_made_a_store_and_its_key_goes_with_the_bundles(
        self, init, ctl, folder, tmp_path, bucket_server
    ):
        bucket, key = bucket_server.bucket(), tmp_path / "credentials"
        key.write_text("[default]\naws_access_key_id = some\naws_secret_access_key = thing\n")
        (status, _, err), settings = init("--snapshots", str(bucket), "--bucket-key", str(key))
        assert (status, err) == (Exit.OK, "")
        assert (settings.bucket, settings.mount) == (bucket, None)
        assert (folder / "s3.key").stat().st_mode & 0o777 == 0o600
        made = tmp_path / "b.bundle"
        assert ctl("fleet", "invite", "b", str(made), "--address", "192.0.2.2:7467")[0] == Exit.OK
        enrolment.leave(folder)
        status, _, err = ctl("fleet", "join", str(made))
        assert (status, err) == (Exit.OK, "")
        assert Settings.load(folder).bucket == bucket
        assert (folder / "s3.key").read_bytes() == key.read_bytes()

    def test_a_bucket_that_cannot_be_used_begins_no_fleet(self, init, tmp_path, bucket_server):
        key = tmp_path / "credentials"
        key.write_text("[default]\naws_access_key_id = some\naws_secret_access_key = thing\n")
        where = f"s3:{bucket_server.url}/none"
        (status, _, err), settings = init("--snapshots", where, "--bucket-key", str(key))
        assert (status, settings) == (Exit.FAILED, None)
        assert "The specified bucket does not exist" in err
        (status, _, err), settings = init("--snapshots", where, "--bucket-key", f"{tmp_path}/none")
        assert (status, settings) == (Exit.FAILED, None)
        assert "No such file" in err

    def test_ports_of_other_hosts_users_are_forwarded_where_that_is_asked(self, init, ctl, folder, tmp_path):
        _, settings = init("--forward-ports")
        assert settings.forward_ports
        made = tmp_path / "b.bundle"
        ctl("fleet", "invite", "b", str(made), "--address", "192.0.2.2:7467")
        enrolment.leave(folder)
        assert ctl("fleet", "join", str(made))[0] == Exit.OK
        assert not Settings.load(folder).forward_ports, "each host decides for itself"
        enrolment.leave(folder)
        assert ctl("fleet", "join", str(made), "--forward-ports")[0] == Exit.OK
        assert Settings.load(folder).forward_ports

    def test_etcd_is_there_or_on_the_hosts(self, ctl, folder, system):
        enrolment.leave(folder)
        for options in ((), ("--etcd", "--engine", "http://e:1")):
            status, _, err = ctl("fleet", "init", "a", "--address", "192.0.2.1:7467", *options)
            assert status == Exit.USAGE
            assert "one that is there (--engine URL), or one on its hosts (--etcd)" in err
        assert not folder.exists()

    def test_a_host_without_etcd_says_what_to_install(self, ctl, folder, system, monkeypatch):
        enrolment.leave(folder)
        monkeypatch.setattr(own_etcd, "PROGRAM", "no-such-account")
        status, _, err = ctl("fleet", "init", "a", "--address", "192.0.2.1:7467", "--etcd")
        assert status == Exit.FAILED
        assert "this host has no etcd\napt install etcd-server" in err
        assert not folder.exists()

    def test_an_etcd_that_is_set_up_for_something_else_is_left_alone(
        self, ctl, folder, system, tmp_path, monkeypatch
    ):
        enrolment.leave(folder)
        defaults = tmp_path / "default-etcd"
        defaults.write_text("# ETCD_NAME=x\n\nETCD_LISTEN_CLIENT_URLS=http://0.0.0.0:2379\n")
        monkeypatch.setattr(own_etcd, "PROGRAM", "root")
        monkeypatch.setattr(own_etcd, "DEFAULTS", defaults)
        status, _, err = ctl("fleet", "init", "a", "--address", "192.0.2.1:7467", "--etcd")
        assert status == Exit.FAILED
        assert f"etcd on this host is set up for something else: {defaults} has settings" in err
        assert (folder.exists(), system.calls) == (False, [])

    def test_logins_may_stay_where_they_are(self, init):
        _, settings = init("--snapshots", "none")
        assert settings.snapshots == ""

    def test_a_folder_that_others_would_look_for_elsewhere_is_refused(self, init):
        (status, _, err), settings = init("--snapshots", "some/folder")
        assert (status, settings) == (Exit.FAILED, None)
        assert "snapshots: it has to be peers, an absolute path" in err


class TestDoctor:
    def test_it_checks_the_fleet_alone(self, folder, ctl, monkeypatch):
        async def look(_settings):
            return Look({"http://192.0.2.9:2379": "no answer"}, (), None)

        monkeypatch.setattr(membership, "ask_engine", look)
        status, out, _ = ctl("fleet", "doctor")
        assert status == Exit.FAILED
        assert "http://192.0.2.9:2379 does not answer" in out
        assert "1 failed, 0 warnings, 1 passed" in out

    def test_on_a_host_of_its_own_it_says_so(self, folder, ctl):
        enrolment.leave(folder)
        status, _, err = ctl("fleet", "doctor")
        assert status == Exit.FAILED
        assert "belongs to no fleet" in err


class TestCertificate:
    def test_the_next_one_comes_with_another_bundle_and_nothing_else_changes(
        self, ctl, system, folder, tmp_path
    ):
        made = tmp_path / "a.bundle"
        before, settings = (folder / "host.pem").read_bytes(), Settings.load(folder)
        assert ctl("fleet", "invite", "a", str(made), "--address", "192.0.2.1:7467")[0] == Exit.OK
        status, out, err = ctl("fleet", "join", str(made))
        assert (status, err) == (Exit.OK, "")
        assert out.startswith("This host is a of the fleet shop until 20")
        assert (folder / "host.pem").read_bytes() != before
        assert Settings.load(folder) == settings
        assert system.calls == ["reload waportd-lease.service", "restart waportd.service"]

    def test_that_of_another_host_is_refused(self, ctl, system, folder, tmp_path):
        made = tmp_path / "b.bundle"
        before = (folder / "host.pem").read_bytes()
        assert ctl("fleet", "invite", "b", str(made), "--address", "192.0.2.2:7467")[0] == Exit.OK
        status, _, err = ctl("fleet", "join", str(made))
        assert status == Exit.FAILED
        assert "this host is a in the fleet shop already" in err
        assert ((folder / "host.pem").read_bytes(), system.calls) == (before, [])


class TestLeave:
    def test_the_users_go_first_then_all_that_makes_the_host_one_of_the_fleet(
        self, engine, daemons, ctl, system, folder, tmp_path
    ):
        add(engine, "a", "1", "2")
        daemons.append(move_one(engine, "a"))
        (folder / "authority.pem").unlink()
        (tmp_path / "store/snapshots/9/5").mkdir(parents=True)
        status, out, err = ctl("fleet", "leave")
        assert (status, err) == (Exit.OK, "")
        assert not (tmp_path / "store/snapshots").exists(), "the logins of other hosts' users"
        assert "is on its own" in out
        assert state_of(engine, "a") == "left"
        assert "a" not in engine.owners().values()
        assert not folder.exists()
        assert [path.name for path in system.units.rglob("*.*") if path.is_file()] == ["90-mine.conf"]
        stop, end = (
            system.calls.index("stop waportd.socket waportd-tcp.socket waportd.service"),
            len(system.calls) - 1,
        )
        assert system.calls[end] == "start waportd.socket waportd-tcp.socket waportd.service"
        assert (
            stop
            < system.calls.index("daemon-reload")
            < system.calls.index("stop waportd-lease.service")
            < end
        )

    def test_sessions_are_unbound_before_the_lease_ends(self, engine, ctl, system):
        for name in "bc":
            engine.set_up(name, HostState.LEFT)
        add(engine, "a", "1")
        status, out, _ = ctl("fleet", "leave")
        assert status == Exit.OK, out
        assert system.bound == ["whatsapp@.service.d"], "an administrator's own is left"
        assert engine.owners() == {"1": "a"}

    def test_who_does_not_leave_keeps_the_host_in_the_fleet(self, engine, ctl, system, folder):
        add(engine, "a", "1")
        for name in "bc":
            engine.set_up(name, HostState.DRAINING)
        (folder / "authority.pem").unlink()
        status, _, err = ctl("fleet", "leave")
        assert status == Exit.FAILED
        assert "user 1: no host has room" in err
        assert (folder / "fleet.yaml").exists()
        assert system.calls == []

    def test_the_ca_does_not_get_lost(self, engine, ctl, system, folder):
        status, _, err = ctl("fleet", "leave")
        assert status == Exit.FAILED
        assert f"{folder}/authority.pem" in err
        assert state_of(engine, "a") == "active"

    def test_a_user_who_comes_at_the_last_moment_is_not_lost(self, engine, daemons, ctl, system, folder):
        (folder / "authority.pem").unlink()
        daemons.append(lambda: add(engine, "a", "9") if system.calls and not engine.row("9") else None)
        status, _, err = ctl("fleet", "leave")
        assert status == Exit.FAILED
        assert "has a new user since" in err
        assert system.calls[-1].startswith("start ")
        assert (folder / "fleet.yaml").exists()
        daemons[:] = [move_one(engine, "a")]
        assert ctl("fleet", "leave")[0] == Exit.OK

    def test_what_was_cut_off_is_completed(self, engine, ctl, system, folder):
        (folder / "fleet.yaml").unlink()
        assert ctl("fleet", "leave")[0] == Exit.OK
        assert not folder.exists()
        assert "this host belongs to no fleet" in ctl("fleet", "leave")[2]


async def test_who_has_left_can_begin_a_fleet_and_keeps_the_users(engine, tmp_path):
    """What the earlier fleet said of them would have them deleted here."""
    path = tmp_path / "waportd.db"
    client = Client(engine)

    async def store():
        local = await SqliteStore.open(path)
        lease = dataclasses.replace(engine.lease, host="a", incarnation=engine.state.leases["a"])
        return FleetStore(local, client, lambda: lease)

    one = await store()
    await one.load()
    await one.put([Assignment(User("1"), Port(5001), created_at=1.0)])
    await one.close()
    for name in "abc":
        engine.set_up(name, HostState.LEFT)
    forget_fleet(path)
    assert [each.user for each in read_assignments(path)] == ["1"]
    engine.lose("a")
    await found(client, "a", "192.0.2.1:7467", 100)
    assert (engine.owners(), state_of(engine, "a")) == ({}, "active")
    engine.acquire("a")
    two = await store()
    assert [each.user for each in await two.load()] == ["1"]
    await two.send()
    await two.close()
    assert engine.owners() == {"1": "a"}
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM fleet_row").fetchone() == (1,)

"""Logins that move with their users, on a real etcd: with the folders of sessions as a server keeps them."""

import asyncio
import dataclasses
import hashlib
import json
import shutil
import time

import pytest
from aiohttp import web
from talking import identity
from test_agent import Machine, PlayedUsers, until
from testbed.ports import free_port, own_address

from waportd.fleet import addresses
from waportd.fleet.chunks import FleetKeys
from waportd.fleet.directory import Directory
from waportd.fleet.engine import Host, HostState, Order
from waportd.fleet.holdings import Holdings, opened
from waportd.fleet.login_files import export, put
from waportd.fleet.logins import Logins
from waportd.fleet.object_server import ObjectServer
from waportd.fleet.others import Others
from waportd.fleet.remote_objects import RemoteObjects
from waportd.fleet.snapshot_store import SnapshotStore
from waportd.fleet.store import LoginComing
from waportd.fleet.stores import HostStores, SameStores
from waportd.model import Assignment, Port, Process, ProcessState, Storage, User
from waportd.registry import Instance
from waportd.systemd.manager import JobFailed

RELEASE = "trixie"
KEYS = FleetKeys.create()
NAME = "Default/IndexedDB/000003.log"


class Units:
    """Takes the place of systemd: does what the units of logins do."""

    def __init__(self, machine):
        self._machine = machine
        self.failing = False
        self.exports = 0

    async def start(self, unit):
        if self.failing:
            raise JobFailed(f"{unit} failed")
        what, _, port = unit.removesuffix(".service").partition("@")
        place, folder = self._machine.sessions / port, self._machine.carried / port
        if what == "whatsapp-export":
            self.exports += 1
            await asyncio.to_thread(export, place / f".wwebjs_auth_{port}", folder)
        else:
            await asyncio.to_thread(put, folder, place)


class Users(PlayedUsers):
    """Those of a host with the folders of its sessions."""

    def __init__(self, sessions):
        super().__init__()
        self._sessions = sessions

    async def clean(self, port):
        await super().clean(port)
        shutil.rmtree(self._sessions / f"{port}", ignore_errors=True)


class Home(Machine):
    """A host with the folders of its sessions. It keeps the logins of the others' users, if no folder is shared."""

    def __init__(self, site, name, folder, shared, copies):
        super().__init__(site, name, folder)
        self.shared, self.copies = shared, copies
        self.kept, self.identity = folder / "snapshots", identity(folder.parent, name)
        here = own_address()
        self.address = f"{here}:{free_port(here) - addresses.DAEMON}"
        self.sessions, self.carried = folder / "sessions", folder / "logins"
        self.sessions.mkdir()

    def played_users(self):
        return Users(self.sessions)

    async def serve(self, **options):
        await super().serve(**options)
        if not self.shared:
            answer = ObjectServer(
                Holdings(self.name, self.own_store, self.host.follower), self.others.admit
            ).answer
            self.handler = web.Server(answer)
            listener = addresses.listen(self.address, addresses.DAEMON)
            self.server = await asyncio.get_running_loop().create_server(
                self.handler, sock=listener, ssl=self.identity.server
            )

    def stores(self):
        if self.shared:
            return SameStores({"folder": Directory(self.shared)})
        self.own_store = opened(self.kept)
        newest = lambda: self.host.follower.state  # noqa: E731
        self.others = Others(self.identity, self.host.engine, newest, lambda row: False)
        other = lambda host: RemoteObjects(self.others, host)  # noqa: E731
        return HostStores(self.name, self.own_store, other, newest, self.copies)

    def logins(self):
        self.units, self.instances = Units(self), {}
        self.carrying = Logins(
            self.host,
            SnapshotStore(KEYS, self.stores()),
            self.instances.values(),
            self.units,
            self.carried,
            "prefix",
        )
        self._begin("logins", self.carrying.run())
        return self.carrying

    async def save(self, user):
        await super().save(user)
        await self.carrying.save(user)

    async def power_off(self):
        await self.end("logins")
        await super().power_off()

    async def end(self, name):
        serves = name == "daemon" and self.store and not self.shared
        await super().end(name)
        if serves:
            self.server.close()
            await self.handler.shutdown(0)
            await self.others.close()

    def auth(self, port):
        return self.sessions / f"{port}/.wwebjs_auth_{port}"

    async def link(self, user, port, content):
        """Have a user here whose server has copied the login."""
        await self.new(user, port)
        self.copy(user, port, content, 1)

    def copy(self, user, port, content, number, *, journal=b"{}\n"):
        """Copy a login as a server does, and have the daemon hear of it."""
        folder = self.auth(port) / f"snapshots/{number}"
        (folder / NAME).parent.mkdir(parents=True)
        (folder / NAME).write_bytes(content)
        described = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        document = {"version": 1, "at": time.time() * 1000, "files": {NAME: described}}
        (folder / "snapshot.json").write_text(json.dumps(document))
        (self.auth(port) / "messages").mkdir(exist_ok=True)
        (self.auth(port) / "messages/1.jsonl").write_bytes(journal)
        self.show(user, port, copied_at=float(number))

    def show(self, user, port, *, linked=True, copied_at=None, runs=True):
        assignment = dataclasses.replace(self.users.running[User(user)], linked=linked)
        storage = Storage(1, 1, 1, 1.0, snapshot_at=copied_at)
        process = Process(ProcessState.RUNNING if runs else ProcessState.STOPPED)
        self.instances[user] = Instance(dataclasses.replace(assignment, storage=storage), process)

    def login(self, port):
        """Return what the server on a port would find."""
        profile = self.auth(port) / f"session-prefix_{port}"
        return (profile / NAME).read_bytes() if profile.exists() else None


@pytest.fixture
async def homes(site, tmp_path, request):
    """Three hosts. The parameter says where logins lie: in a folder, or on how many other hosts."""
    where = getattr(request, "param", 2)
    shared = tmp_path / "shared" if where == "folder" else None
    if shared:
        Directory.create(shared)
    engine = site.engine()
    three = [Home(site, name, tmp_path / name, shared, where) for name in ("a", "b", "c")]
    for home in three:
        await home.keep()
        host = Host(home.name, home.address, HostState.ACTIVE, "2.0.0", 100, 1.5, False, None)
        await engine.describe(host)
    await engine.state()
    await engine.settle(three[0].lease)
    for home in three:
        await home.serve()
        await until(lambda home=home: home.users.resumed, "the first look")
    yield three
    for home in three:
        await home.power_off()


def published(site, user="1"):
    """Return what names the snapshots of a user."""

    async def look():
        rows = (await site.engine().state()).rows
        return next((row.snapshot for row in rows if row.user == user), None)

    return look


def kept(*homes):
    """Return the users whose snapshots these hosts have."""
    return {
        path.name for home in homes for path in (home.shared or home.kept).glob("*/") if any(path.rglob("*"))
    }


async def moved(homes, user="1"):
    """Switch the owner off; return who has the user then."""
    owner = next(home for home in homes if user in home.has)
    others = [home for home in homes if home is not owner]
    await owner.power_off()
    return await until(lambda: next((home for home in others if user in home.has), None), "the takeover")


@pytest.mark.parametrize("homes", ["folder", 2, 1], indirect=True)
async def test_a_login_is_on_the_next_host_before_its_user_is(homes, site):
    a, *_ = homes
    await a.link("1", 5001, b"login")
    await until(published(site), "the snapshot")
    assert a.shared or not kept(a), "it would be lost with the session"
    taker = await moved(homes)
    assert taker.login(5001) == b"login"
    assert (taker.auth(5001) / "messages/1.jsonl").read_bytes() == b"{}\n"
    assert not any(taker.carried.iterdir()), "nothing is left lying about"


async def test_what_a_server_copies_later_and_at_its_end_is_published_too(homes, site):
    a, *_ = homes
    await a.link("1", 5001, b"first")
    first = await until(published(site), "the snapshot")
    a.copy("1", 5001, b"second", 2)

    async def is_newer():
        found = await published(site)()
        return found if found != first else None

    second = await until(is_newer, "the second snapshot")
    a.copy("1", 5001, b"last", 3)
    a.show("1", 5001, copied_at=2.0, runs=False)  # the daemon heard of no third copy

    async def is_last():
        return await published(site)() not in {first, second}

    await until(is_last, "the last snapshot")
    taker = await moved(homes)
    assert taker.login(5001) == b"last"


async def test_a_login_that_has_not_changed_is_copied_once(homes, site):
    a, *_ = homes
    await a.link("1", 5001, b"login")
    await until(published(site), "the snapshot")
    exports = a.units.exports
    await asyncio.sleep(2.5)
    assert a.units.exports == exports == 1
    instances = a.instances
    for name in ("logins", "daemon"):
        await a.end(name)
    await a.serve()
    a.instances.update(instances)
    await asyncio.sleep(2.5)
    assert a.units.exports == 0, "nor does another daemon"


async def test_a_user_waits_as_long_as_the_login_cannot_be_had(homes, site, monkeypatch):
    monkeypatch.setattr("waportd.fleet.agent.RETRY_S", 0.2)
    a, b, c = homes
    await a.link("1", 5001, b"login")
    await until(published(site), "the snapshot")
    b.units.failing = c.units.failing = True
    await a.power_off()

    async def is_taken():
        row = next(row for row in (await site.engine().state()).rows if row.user == "1")
        return {"b": b, "c": c}.get(row.host)

    taker = await until(is_taken, "the takeover")
    with pytest.raises(LoginComing):
        await taker.store.put([Assignment(User("1"), Port(5001), created_at=2.0)])
    await asyncio.sleep(1)
    assert taker.has == [], "a start without the login would show a code"
    taker.units.failing = False
    await until(lambda: taker.has == ["1"], "the user")
    assert taker.login(5001) == b"login"


async def test_a_user_without_a_snapshot_comes_without(homes):
    a, *_ = homes
    await a.new("1", 5001)
    taker = await moved(homes)
    assert taker.login(5001) is None


async def test_on_the_way_back_the_newer_login_takes_the_place_of_the_older(homes, site):
    a, *_ = homes
    await a.link("1", 5001, b"older")
    (a.auth(5001) / "session-prefix_5001/Default/IndexedDB").mkdir(parents=True)
    (a.auth(5001) / f"session-prefix_5001/{NAME}").write_bytes(b"older")
    first = await until(published(site), "the snapshot")
    taker = await moved(homes)
    taker.copy("1", 5001, b"newer", 2)

    async def is_newer():
        return await published(site)() != first

    await until(is_newer, "the newer snapshot")
    await a.keep()
    await a.serve()
    await until(lambda: not a.has, "the loss")
    row = taker.store.rows[User("1")]
    await taker.engine.move(taker.lease, row, "a")
    await until(lambda: a.has == ["1"], "the way back")
    assert a.login(5001) == b"newer"


async def test_what_a_user_has_left_is_deleted_once_the_new_owner_has_published(homes, site):
    a, *_ = homes
    await a.link("1", 5001, b"older")
    first = await until(published(site), "the snapshot")
    taker = await moved(homes)
    await a.keep()
    await a.serve()
    await until(lambda: not a.has and a.store.left, "the loss")
    await asyncio.sleep(1.5)
    assert a.auth(5001).exists(), "it may be the only login"
    taker.copy("1", 5001, b"newer", 2)

    async def is_newer():
        return await published(site)() != first

    await until(is_newer, "the newer snapshot")
    await until(lambda: not a.auth(5001).exists() and not a.store.left, "the end of what was left")


async def test_nobody_gets_the_login_that_an_earlier_user_of_the_port_has_left(homes, site):
    a, b, _ = homes
    await b.new("2", 5001)
    (a.auth(5001) / f"session-prefix_5001/{NAME}").parent.mkdir(parents=True)
    (a.auth(5001) / f"session-prefix_5001/{NAME}").write_bytes(b"of another user")
    await b.engine.move(b.lease, b.store.rows[User("2")], "a")
    await until(lambda: a.has == ["2"], "the user")
    assert a.login(5001) is None


async def test_a_disk_that_was_put_back_does_not_run_its_old_login(homes, site):
    a, *_ = homes
    await a.link("1", 5001, b"old")
    await until(published(site), "the snapshot")
    await a.host.begin(User("1"))
    await until(lambda: not a.store.unsent.is_set(), "all of it in the engine")
    await a.end("logins")
    await a.end("daemon")
    saved = a.folder.with_name("saved")
    shutil.copytree(a.folder, saved, ignore=shutil.ignore_patterns("run"))
    first = await published(site)()
    await a.serve()
    await until(lambda: a.users.resumed, "the first look")
    await a.host.begin(User("1"))
    a.copy("1", 5001, b"new", 2)

    async def is_newer():
        return await published(site)() != first

    await until(is_newer, "the newer snapshot")
    await a.end("logins")
    await a.end("daemon")
    shutil.rmtree(a.folder / "sessions")
    for path in a.folder.glob("waportd.db*"):
        path.unlink()
    shutil.copytree(saved, a.folder, dirs_exist_ok=True)
    await a.serve()
    await until(lambda: a.login(5001) == b"new", "the newer login")
    await until(lambda: a.has == ["1"], "the user")


@pytest.mark.parametrize("homes", [1], indirect=True)
async def test_a_login_that_has_not_changed_gets_another_host_when_the_one_that_has_it_dies(
    homes, site, monkeypatch
):
    monkeypatch.setattr("waportd.fleet.logins.COPIES_S", 1.0)
    a, *others = homes
    await a.end("logins")
    await a.end("daemon")
    await a.serve()
    await until(lambda: a.users.resumed, "the first look")
    await a.link("1", 5001, b"login")
    await until(published(site), "the snapshot")
    await asyncio.sleep(3.5)
    assert a.units.exports == 1, "as long as they live"
    holder, other = sorted(others, key=lambda home: kept(home) == set())
    assert kept(other) == set()
    await holder.power_off()
    await until(lambda: kept(other) == {"1"}, "another copy")

    async def is_named():
        (row,) = (await site.engine().state()).rows
        return row.copies == (other.name,)

    await until(is_named, "its place in the row")
    assert a.units.exports == 2


@pytest.mark.parametrize("homes", ["folder", 2], indirect=True)
async def test_snapshots_of_an_unlinked_and_of_a_deleted_user_are_deleted(homes, site):
    a, *_ = homes
    await a.link("1", 5001, b"login")
    await a.link("2", 5002, b"login")
    for user in ("1", "2"):
        await until(published(site, user), "the snapshot")
    assert kept(*homes) == {"1", "2"}
    a.show("1", 5001, linked=False)
    await a.store.remove(User("2"))
    del a.instances["2"]
    await until(lambda: not kept(*homes), "the end of the snapshots")
    assert await published(site)() is None


async def test_who_is_sent_to_another_host_has_the_last_login_there(homes, site):
    a, b, _ = homes
    await a.link("1", 5001, b"first")
    await until(published(site), "the snapshot")
    a.copy("1", 5001, b"last", 2)
    await site.engine().order(Order("1", "b", a.store.rows["1"].token))
    await until(lambda: (a.has, b.has) == ([], ["1"]), "the move")
    assert b.login(5001) == b"last"


async def test_whose_login_was_never_copied_stays(homes, site):
    a, *_ = homes
    await a.new("1", 5001)
    engine = site.engine()
    await engine.order(Order("1", "b", a.store.rows["1"].token))

    async def failed():
        return (await engine.state()).orders["1"].failed

    assert "has made no copy of the login yet" in await until(failed, "the reason")
    assert a.has == ["1"]

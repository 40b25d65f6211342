"""etcd on the hosts themselves: the settings that `fleet init --etcd` and `join --etcd` write, each on a real etcd."""

import asyncio
import contextlib
import os
import shutil
import subprocess

import pytest
from testbed import etcd
from testbed.ports import own_address

from waportd.fleet import enrolment, own_etcd
from waportd.fleet.engine import EngineUnavailable, Host, HostState
from waportd.fleet.etcd import Etcd
from waportd.fleet.etcd.members import Members
from waportd.fleet.identity import Identity

NAMES = ("a", "b", "c")
LONG_S = 30.0
SOURCE = "127.0.0.1"
"""From where connections on loopback come: members check that it is an address of the certificate."""


class OwnEtcd:
    """A host, as far as its etcd goes."""

    def __init__(self, folder, release, number):
        self.name, self.ip = NAMES[number], own_address(number)
        self.folder, self.release = folder / self.name, release
        self.folder.mkdir()
        self.data = self.folder / "data"
        self.process = None

    def start(self, cluster):
        settings = own_etcd.environment(self.name, self.ip, self.folder, cluster, self.data)
        (self.folder / "units").mkdir(exist_ok=True)
        own_etcd.write(self.folder, self.folder / "units", settings, os.getgid())
        written = (self.folder / own_etcd.ENVIRONMENT).read_text().splitlines()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [etcd.program(self.release, "etcd")],
                env=dict(line.split("=", 1) for line in written),
                stdout=log,
                stderr=log,
            )

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()

    @property
    def tls(self):
        return Identity.load(self.folder, self.name).client

    @property
    def url(self):
        return own_etcd.client_url(self.ip)

    @contextlib.asynccontextmanager
    async def engine(self, limit_s=LONG_S, tls=None):
        engine = Etcd([self.url], tls=tls or self.tls, limit_s=limit_s)
        try:
            yield engine
        finally:
            await engine.close()

    @contextlib.asynccontextmanager
    async def members(self, *urls):
        members = Members(urls or [self.url], self.tls)
        try:
            yield members
        finally:
            await members.close()

    async def until_it_answers(self):
        async with self.engine(limit_s=1.0) as engine, asyncio.timeout(LONG_S):
            while True:
                with contextlib.suppress(EngineUnavailable):
                    await engine.epoch()
                    break
                assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]


@pytest.fixture(params=["bookworm", "trixie"])
def hosts(request, tmp_path):
    hosts = [OwnEtcd(tmp_path, request.param, number) for number in range(3)]
    yield hosts
    for host in hosts:
        host.stop()


async def begin(first):
    enrolment.found(first.folder, "shop", first.name, [first.ip, SOURCE])
    first.start(own_etcd.new_cluster("shop", first.name, first.ip))
    await first.until_it_answers()


async def enter(first, host):
    """Do what `fleet join --etcd` does."""
    bundle = enrolment.invite(first.folder, host.name, [first.url], [host.ip, SOURCE])
    enrolment.join(host.folder, bundle)
    own = own_etcd.peer_url(host.ip)
    async with host.members(first.url) as members:
        host.start(own_etcd.joined_cluster(host.name, host.ip, await members.add(own)))
        await members.promote(own, LONG_S)


async def test_one_after_the_other_three_hosts_are_one_cluster_that_outlives_any_of_them(hosts):
    first, *others = hosts
    await begin(first)
    async with first.engine() as engine:
        described = await engine.describe(Host("a", "x:1", HostState.ACTIVE, "2", 9, 0.0, False, None))
    for host in others:
        await enter(first, host)
    async with first.members() as members:
        known = {one.name: one for one in await members.all()}
        assert {name: one.clients for name, one in known.items()} == {one.name: (one.url,) for one in hosts}
        assert not any(one.is_learner for one in known.values())
    first.stop()
    for host in others:
        async with host.engine() as engine:
            assert (await engine.state()).hosts == (described,)


async def test_a_member_that_never_starts_holds_nobody_up(hosts):
    first, second, _ = hosts
    await begin(first)
    async with first.members() as members:
        added = await members.add(own_etcd.peer_url(second.ip))
        assert [one.is_learner for one in added if not one.name] == [True]
        assert await members.add(own_etcd.peer_url(second.ip)) == added, "the next try continues"
        with pytest.raises(EngineUnavailable, match="in sync"):
            await members.promote(own_etcd.peer_url(second.ip), 0.5)
        async with first.engine() as engine:
            await engine.describe(Host("a", "x:1", HostState.ACTIVE, "2", 9, 0.0, False, None))
        await members.remove(own_etcd.peer_url(second.ip))
        assert [one.name for one in await members.all()] == ["a"]


async def test_a_member_that_leaves_is_none_any_more(hosts):
    first, second, _ = hosts
    await begin(first)
    await enter(first, second)
    async with first.members() as members:
        await members.remove(own_etcd.peer_url(second.ip))
        second.stop()
        assert [one.name for one in await members.all()] == ["a"]
        await members.remove(own_etcd.peer_url(second.ip))
    units = second.folder / "units"
    assert own_etcd.is_there(second.folder)
    own_etcd.forget(units, second.data)
    assert not any(units.iterdir())
    assert not second.data.exists()


async def test_nobody_is_answered_without_a_certificate_of_the_fleet(hosts, tmp_path):
    first, second, _ = hosts
    await begin(first)
    enrolment.found(second.folder, "shop", second.name, [second.ip])  # another CA
    shutil.copy(first.folder / "ca.pem", second.folder / "ca.pem")
    async with first.engine(limit_s=2.0, tls=second.tls) as engine:
        with pytest.raises(EngineUnavailable) as caught:
            await engine.epoch()
    assert caught.value.cause in {"certificate", "unreachable"}
    assert (first.folder / own_etcd.CERTIFICATE).stat().st_mode & 0o777 == 0o640

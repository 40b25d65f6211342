"""What `doctor` says of a host that belongs to a fleet: real files and sockets; what the engine says is played."""

import asyncio
import dataclasses
import os
import socket
import time

import pytest
from bucket_server import CREDENTIALS, KEY
from testbed.ports import own_address

from waportd.cli.checks import Verdict, membership
from waportd.cli.checks import fleet as checks
from waportd.cli.checks.host import Host as Machine
from waportd.cli.checks.membership import Look
from waportd.config import Config
from waportd.fleet import enrolment
from waportd.fleet.engine import Host, HostState, Row, State
from waportd.fleet.s3_objects import S3Objects
from waportd.fleet.settings import Settings

URLS = ("http://192.0.2.7:2379", "http://192.0.2.8:2379", "http://192.0.2.9:2379")


def host(name, address="127.0.0.1:1", **values):
    options = {"state": HostState.ACTIVE, "version": "2.0", "alive": True, **values}
    return Host(name, address, capacity=100, joined_at=0.0, incarnation=1, **options)


def row(user, at="a", **values):
    document = values.pop("document", {"linked": True})
    return Row(
        user, 5000 + int(user), at, 1, document=document, **{"snapshot": "m", "copies": ("b", "c"), **values}
    )


def state(*rows, hosts=(), settled=True):
    return State(hosts or (host("a"), host("b"), host("c")), rows, 9, "e", settled=settled)


def with_webhook(url):
    config = Config()
    return dataclasses.replace(config, instances=dataclasses.replace(config.instances, webhook_url=url))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "fleet"
    folder.mkdir()
    enrolment.found(folder, "shop", "a", ["127.0.0.1"])
    Settings("a", "127.0.0.1:1", URLS, snapshots="peers", folder=folder).save()
    return folder


@pytest.fixture
def reachable(monkeypatch):
    async def reached(*_):
        return True

    monkeypatch.setattr(membership, "is_reached", reached)


@pytest.fixture
def examined(folder, reachable, monkeypatch):
    """Return what is found, given what the engine says."""

    def examine(seen, alarms=(), members=None, webhook=""):
        async def look(_settings):
            return Look(members or dict.fromkeys(URLS), alarms, seen)

        monkeypatch.setattr(membership, "ask_engine", look)
        config = with_webhook(webhook)
        config = dataclasses.replace(config, store=dataclasses.replace(config.store, directory=folder))
        return [(each.verdict, each.message) for each in membership.examine(folder, config)]

    return examine


def problems(found):
    return [message for verdict, message in found if verdict is not Verdict.OK]


def test_a_host_on_its_own_is_not_looked_at(tmp_path):
    assert list(checks.fleet(Machine("", tmp_path / "config.yaml"))) == []


def test_a_fleet_that_is_well(examined):
    found = examined(state(row("1"), row("2", at="b")))
    assert problems(found) == []
    assert [message for _, message in found] == [
        "host a of the fleet shop, with a certificate for 730 days",
        "all members of etcd answer: 3",
        "a holds its lease",
        "the other hosts are reached: 2",
        "each of 1 logins is on 2 other hosts",
    ]


@pytest.mark.parametrize(
    ("days", "verdict", "says"),
    [(20, Verdict.WARN, "expires in 20 days"), (-1, Verdict.FAIL, "has expired: the other hosts refuse")],
)
def test_the_end_of_the_certificate(examined, monkeypatch, days, verdict, says):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + (730 - days) * 86_400)
    found = [each for each in examined(state()) if each[0] is verdict]
    assert says in found[0][1]


def test_members_of_etcd_that_do_not_answer(examined):
    members = {URLS[0]: None, URLS[1]: "no answer within 3 s", URLS[2]: None}
    assert problems(examined(state(), members=members)) == [
        f"{URLS[1]} does not answer: no answer within 3 s"
    ]
    found = examined(None, members=dict.fromkeys(URLS, "refused"))
    assert [verdict for verdict, _ in found] == [Verdict.OK, *[Verdict.FAIL] * 3]


def test_an_engine_without_space(examined):
    assert problems(examined(state(), {"NOSPACE"})) == [
        "etcd is out of space: nobody is made, moved or started"
    ]


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"alive": False}, "a holds no lease: nothing runs here"),
        ({"state": HostState.LEFT}, "is not on the list"),
    ],
)
def test_a_host_that_runs_nothing(examined, own, says):
    found = examined(state(hosts=(host("a", **own), host("b"))))
    assert any(says in message for message in problems(found))


def test_other_hosts_that_are_silent_or_older(examined):
    found = problems(examined(state(hosts=(host("a"), host("b", alive=False), host("c", version="1.0")))))
    assert found == [
        "host b is silent: its users go to other hosts",
        "the hosts have different versions of waportd: a 2.0, b 2.0, c 1.0",
    ]


def test_an_epoch_that_is_not_settled(examined):
    assert "put back what they hold" in problems(examined(state(settled=False)))[0]


def test_logins_that_are_in_too_few_places(examined):
    rows = (row("1", copies=("b",)), row("2"), row("3", snapshot=None, copies=()), row("4", document={}))
    assert problems(examined(state(*rows))) == [
        "the logins of these users are on no other host yet: 3",
        "the logins of these users are on fewer than 2 other hosts that are up: 1",
    ]
    # Of two hosts there can be one copy, and a host that is silent has none.
    two = (host("a"), host("b"))
    assert problems(examined(state(row("1", copies=("b",)), hosts=two))) == []
    silent = (host("a"), host("b"), host("c", alive=False))
    assert "fewer than 2" in problems(examined(state(row("1"), hosts=silent)))[-1]


def test_webhooks_that_lead_to_a_host_where_nothing_listens(examined):
    with socket.create_server(("127.0.0.1", 0)) as app:
        there = f"http://localhost:{app.getsockname()[1]}/hook"
        own = row("1", document={"linked": True, "webhook_url": there})
        assert problems(examined(state(own), webhook=there)) == []
    assert problems(examined(state(own), webhook=there)) == [
        "nothing on this host takes the webhooks of these users, if they come here: 1",
        f"nothing on this host answers at instances.webhook_url: {there}",
    ]
    assert problems(examined(state(hosts=(host("a"),)), webhook=there)) == []


def test_a_way_between_hosts_that_is_shut(folder, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as keeper:
        address = f"127.0.0.1:{keeper.getsockname()[1]}"

        async def look(_settings):
            return Look(dict.fromkeys(URLS), (), state(hosts=(host("a"), host("b", address))))

        monkeypatch.setattr(membership, "ask_engine", look)
        found = [
            each for each in membership.examine(folder, with_webhook("")) if each.verdict is Verdict.FAIL
        ]
        port = int(address.rpartition(":")[2]) + 1
    assert [each.message for each in found] == [
        f"host b is not reached at 127.0.0.1:{port}: calls for its users fail"
    ]
    assert f"TCP port {port}" in found[0].fix


def test_what_is_wrong_with_its_files_is_one_finding(folder):
    (folder / "host.pem").unlink()
    [found] = membership.examine(folder, with_webhook(""))
    assert (found.verdict, "host.pem" in found.message) == (Verdict.FAIL, True)
    (folder / "fleet.yaml").write_text("name: [")
    [found] = membership.examine(folder, with_webhook(""))
    assert found.verdict is Verdict.FAIL


def test_a_port_that_keeps_a_user_from_coming_here_is_named(examined):
    theirs = dataclasses.replace(row("7", "b"), port=5007)
    hosts = (host("a", held=(5007, 5008)), host("b", held=(5001,)))
    assert problems(examined(state(theirs, hosts=hosts, settled=True))) == [
        "another program has port 5007 here, so user 7 of host b cannot come here"
    ]


class TestForwardedPorts:
    @pytest.fixture
    def elsewhere(self, folder):
        """The row of a user of another host, and what listens on that port here."""
        Settings("a", "127.0.0.1:1", URLS, snapshots="peers", forward_ports=True, folder=folder).save()
        with socket.create_server((own_address(), 0)) as listener:
            yield dataclasses.replace(row("7", "b"), port=listener.getsockname()[1]), listener

    def test_those_that_answer_are_counted(self, examined, elsewhere):
        found = examined(state(row("1"), elsewhere[0]))
        assert not problems(found)
        assert "the ports of 1 users of other hosts answer here, too" in [said for _, said in found]

    def test_one_that_does_not_answer_is_named(self, examined, elsewhere):
        elsewhere[1].close()
        assert problems(examined(state(elsewhere[0]))) == [
            "the ports of these users of other hosts do not answer here: 7"
        ]

    def test_one_that_another_program_has_is_named(self, folder, examined, elsewhere):
        os.chown(folder, 61184, -1)  # what listens is not waportd's then
        assert problems(examined(state(elsewhere[0]))) == [
            f"another program has port {elsewhere[0].port} here: calls for user 7 reach that one"
        ]

    def test_nobody_looks_where_they_are_not_forwarded(self, examined):
        assert not problems(examined(state(row("7", "b"))))


class TestBucket:
    def test_one_that_answers_is_named(self, folder, examined, bucket_server):
        bucket = bucket_server.bucket()
        where = dataclasses.replace(Settings.load(folder), snapshots=str(bucket), folder=folder)
        where.save()
        (folder / "s3.key").write_text(CREDENTIALS)
        assert problems(examined(state(row("1")))) == [
            f"logins are not kept: {bucket} is not the place of the fleet's snapshots: it has no object waportd-snapshots"
        ]
        asyncio.run(S3Objects(bucket, KEY).create())
        found = examined(state(row("1")))
        assert not problems(found)
        assert f"the bucket of the logins answers: {bucket}" in [said for _, said in found]

    def test_a_key_that_is_missing_is_named(self, folder, examined):
        where = dataclasses.replace(
            Settings.load(folder), snapshots="s3:https://s3.example.org/b", folder=folder
        )
        where.save()
        assert problems(examined(state(row("1")))) == [
            f"logins are not kept: {folder}/s3.key: No such file or directory"
        ]

"""The events of all hosts as one stream: of real hosts on fakes, over real TLS."""

import asyncio
import dataclasses

import pytest
from support import Events

from waportd.api import fleet_events
from waportd.fleet.engine import HostState
from waportd.model import User
from waportd.tokens import Kind


@pytest.fixture
def fleet(fleet, monkeypatch):
    monkeypatch.setattr("waportd.api.events.PIECE_PAUSE_S", 0.01)
    monkeypatch.setattr(fleet_events, "LOOK_S", 0.05)
    monkeypatch.setattr(fleet_events, "RETRY_S", 0.05)
    monkeypatch.setattr(fleet_events, "ANSWER_S", 30)
    return fleet


@pytest.fixture
def impatient(monkeypatch):
    """Give a host little time to answer, in a test of one that does not."""
    monkeypatch.setattr(fleet_events, "ANSWER_S", 0.5)


@pytest.fixture
async def a(fleet):
    """A host that has user 1."""
    a = await fleet.add("a")
    await a.has("1")
    return a


@pytest.fixture
async def b(fleet, a):
    """A host that has user 2."""
    fleet.describe("a", state=HostState.DRAINING)
    b = await fleet.add("b")
    await b.has("2")
    return b


class Following:
    """A reader of a host's events."""

    def __init__(self, site, path="/v1/events", **options):
        self._open = site.api.get(path, **options)

    async def __aenter__(self):
        self.answer = await self._open.__aenter__()
        assert self.answer.status == 200, await self.answer.text()
        self.events = Events(self.answer)
        return self

    async def __aexit__(self, *error):
        self.answer.close()

    async def first(self, users=2):
        """Return the host and the state of each user, as sent up to `complete`."""
        events = await self.events.until("complete")
        assert events[-1].data["users"] == users
        self.last = events[-1].id
        return {event.data["user"]: said(event) for event in events[:-1]}

    async def next(self, user, *wanted):
        """Return the events about a user up to one that says this; other users may be named between them."""
        seen = []
        while not seen or seen[-1] != wanted:
            event = await self.events.next()
            assert event is not None, f"the stream ended after {seen}"
            self.last = event.id
            if event.data["user"] == user:
                seen.append(said(event))
        return seen


def said(event):
    if event.name != "user":
        return (event.name,)
    return event.data["host"], event.data["process"]["state"]


async def waited_for(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def gone(site, user):
    """Have a user go from a host, as a move does; return the assignment."""
    assignment = site.supervisor.known(User(user)).assignment
    await site.store.give_away(User(user))
    await site.supervisor.lose(User(user))
    return assignment


async def test_any_host_sends_the_users_of_all_and_then_their_changes(a, b):
    for site in (a, b):
        async with Following(site) as following:
            assert await following.first() == {"1": ("a", "running"), "2": ("b", "running")}
            for user, there in (("1", a), ("2", b)):
                await there.call("POST", f"/v1/users/{user}/stop")
                await following.next(user, there.name, "stopped")
                await there.call("POST", f"/v1/users/{user}/start")
                await following.next(user, there.name, "running")


async def test_one_host_alone_is_followed_where_that_is_asked_for(a, b):
    async with Following(a, "/v1/events?host=self") as following:
        assert await following.first(users=1) == {"1": ("a", "running")}
    assert (await a.call("GET", "/v1/events?host=b", 400))["code"] == "bad_request"


async def test_a_new_user_and_a_deleted_one(a, b):
    async with Following(a) as following:
        await following.first()
        await b.has("9")
        await following.next("9", "b", "running")
        await a.call("DELETE", "/v1/users/9", 204)
        assert ("b", "moving") not in await following.next("9", "deleted")


async def test_a_reader_who_comes_back_gets_what_is_new(a, b):
    async with Following(a) as following:
        await following.first()
    await b.call("POST", "/v1/users/2/stop")
    async with Following(a, headers={"Last-Event-ID": following.last}) as again:
        assert "1" not in await again.first()
    async with Following(a, headers={"Last-Event-ID": "0-1"}) as anew:
        assert (await anew.events.next()).name == "reset"
        assert set(await anew.first()) == {"1", "2"}


async def test_who_moves_is_moving_and_then_there_and_never_deleted(fleet, a, b):
    async with Following(a) as at_a, Following(b) as at_b:
        for following in (at_a, at_b):
            await following.first()
        assignment = await gone(b, "2")
        fleet.put(dataclasses.replace(fleet.row("2"), host="a"))
        for following in (at_a, at_b):
            assert ("deleted",) not in await following.next("2", "a", "moving")
        await a.store.put([assignment])
        await a.supervisor.gain(assignment)
        for following in (at_a, at_b):
            assert ("deleted",) not in await following.next("2", "a", "stopped")


async def test_what_an_old_host_still_says_of_a_user_does_not_count(fleet, a, b):
    async with Following(a) as following:
        await following.first()
        assignment = b.supervisor.known(User("2")).assignment
        fleet.put(dataclasses.replace(fleet.row("2"), host="a"))
        await a.store.put([assignment])
        await a.supervisor.gain(assignment)
        await following.next("2", "a", "stopped")
        # The other one is slow to notice.
        instance = b.supervisor.known(User("2"))
        b.supervisor.registry.put(
            dataclasses.replace(instance, process=dataclasses.replace(instance.process, message="old"))
        )
        await b.supervisor.lose(User("2"))
        await a.call("POST", "/v1/users/2/start")
        assert {host for host, *_ in await following.next("2", "a", "running")} == {"a"}


async def test_a_stream_of_one_user_ends_when_the_user_moves_and_is_led_to_the_new_host(fleet, a, b):
    async with Following(a, "/v1/users/2/events") as following:
        assert (await following.events.next()).name == "user"
        assignment = await gone(b, "2")
        fleet.put(dataclasses.replace(fleet.row("2"), host="a"))
        while (event := await following.events.next()) is not None:
            assert event.name != "deleted"
    await a.store.put([assignment])
    await a.supervisor.gain(assignment)
    async with Following(b, "/v1/users/2/events") as again:
        assert (await again.events.next()).data["host"] == "a"


async def test_those_of_a_silent_host_are_unreachable_until_it_is_back(fleet, a, b, impatient):
    async with Following(a) as following:
        await following.first()
        fleet.describe("b", alive=False)
        await following.next("2", "b", "unreachable")
        fleet.describe("b", alive=True)
        await following.next("2", "b", "running")


async def test_a_host_that_does_not_answer_delays_nobody_for_long(fleet, a, impatient):
    fleet.describe("a", state=HostState.DRAINING)
    await fleet.add("b", serves=False)
    fleet.coming("2", fleet.sites["b"])
    async with Following(a) as following:
        assert await following.first() == {"1": ("a", "running"), "2": ("b", "unreachable")}


async def test_the_hosts_are_followed_only_while_somebody_reads(fleet, a, b, monkeypatch):
    monkeypatch.setattr(fleet_events, "KEPT_S", 0.1)
    monkeypatch.setattr("waportd.api.events.HEARTBEAT_S", 0.1)
    own = b.supervisor.registry.waiting
    async with Following(a) as following, Following(a) as second:
        await following.first()
        await second.first()
        await waited_for(lambda: b.supervisor.registry.waiting != own)
        assert b.supervisor.registry.waiting == {None: own[None] + 1}, "one stream for all readers"
    await waited_for(lambda: b.supervisor.registry.waiting == own)
    async with Following(a) as later:
        assert set(await later.first()) == {"1", "2"}


async def test_who_may_only_read_follows_all_and_with_a_token_of_one_user_nobody_does(a, b):
    for kind, user, status in ((Kind.READ, None, 200), (None, None, 200), (None, User("1"), 403)):
        _, text = await a.access.tokens.create("watch", user, kind)
        async with a.tcp.get("/v1/events", headers={"Authorization": f"Bearer {text}"}) as answer:
            assert answer.status == status
            if status == 200:
                assert len(await Events(answer).until("complete")) == 3


async def test_a_stream_that_breaks_here_ends_and_the_next_one_is_whole(fleet, a, b, monkeypatch, caplog):
    async with Following(a) as following:
        await following.first()
        real = a.others.assignments

        def broken(_host):
            raise RuntimeError("a bug")

        monkeypatch.setattr(a.others, "assignments", broken)
        fleet.coming("9", b)
        while await following.events.next() is not None:
            pass
        assert "Cannot follow the events of the fleet" in caplog.text
        monkeypatch.setattr(a.others, "assignments", real)
    fleet.remove("9")
    async with Following(a) as again:
        assert set(await again.first()) == {"1", "2"}


async def test_the_end_of_the_daemon_ends_the_streams(a, b):
    async with Following(a) as following:
        await following.first()
        async with asyncio.timeout(5):
            await a.end()
            while await following.events.next() is not None:
                pass

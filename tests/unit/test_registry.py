"""The registry: what is put is seen, and who waits is woken once it is so."""

import asyncio
import dataclasses

import pytest

from waportd.model import Assignment, Port, Process, ProcessState, Session, SessionState, User
from waportd.quotas import WOKEN_PER_TURN
from waportd.registry import Instance, Registry

ANA, BEA = User("ana"), User("bea")


def instance(user: User = ANA, port: int = 5001, **members) -> Instance:
    return Instance(Assignment(user, Port(port)), **members)


RUNNING = instance(process=Process(ProcessState.RUNNING))


def runs(now: Instance | None) -> bool:
    return now is not None and now.process.state is ProcessState.RUNNING


async def waiting(registry: Registry, user: User = ANA, until=runs, patience: float = 10) -> asyncio.Task:
    """Begin to wait, and return once the wait has begun."""
    before = registry.waiting.get(user, 0)
    task = asyncio.create_task(registry.wait(user, until, patience))
    await asyncio.sleep(0)
    assert registry.waiting[user] == before + 1
    return task


@pytest.fixture
def registry():
    return Registry()


class TestKeeping:
    def test_an_instance_is_found_by_user_and_by_port(self, registry):
        registry.put(instance())
        assert registry.get(ANA) == registry.on_port(Port(5001)) == instance()
        assert registry.owners() == {5001: ANA}
        assert list(registry) == [instance()]
        assert len(registry) == 1

    def test_who_has_no_port_is_nobody(self, registry):
        assert registry.get(ANA) is None
        assert registry.on_port(Port(5001)) is None
        assert len(registry) == 0

    def test_a_user_who_moves_leaves_the_port_before(self, registry):
        registry.put(instance())
        registry.put(instance(port=20000))
        assert registry.on_port(Port(5001)) is None
        assert registry.on_port(Port(20000)) == instance(port=20000)
        assert len(registry) == 1

    def test_a_removed_user_leaves_nothing(self, registry):
        registry.put(instance())
        registry.remove(ANA)
        registry.remove(ANA)
        assert registry.owners() == {}
        assert list(registry) == []


class TestWaiting:
    async def test_a_condition_that_holds_is_answered_at_once(self, registry):
        registry.put(RUNNING)
        assert await registry.wait(ANA, runs, 0) == RUNNING

    async def test_a_wait_ends_with_the_change_that_fulfils_it(self, registry):
        registry.put(instance())
        waiter = await waiting(registry)
        registry.put(instance(process=Process(ProcessState.STARTING)))
        await asyncio.sleep(0)
        assert not waiter.done()
        registry.put(RUNNING)
        assert await waiter == RUNNING

    async def test_a_user_who_is_not_there_yet_can_be_waited_for(self, registry):
        waiter = await waiting(registry)
        registry.put(RUNNING)
        assert await waiter == RUNNING

    async def test_the_removal_of_a_user_can_be_waited_for(self, registry):
        registry.put(RUNNING)
        waiter = await waiting(registry, until=lambda now: now is None)
        registry.remove(ANA)
        assert await waiter is None

    async def test_when_time_is_up_the_instance_is_returned_as_it_is(self, registry):
        registry.put(instance())
        assert await registry.wait(ANA, runs, 0.01) == instance()

    @pytest.mark.parametrize("patience", [0, -1])
    async def test_without_patience_there_is_no_wait(self, registry, patience):
        assert await registry.wait(ANA, runs, patience) is None

    async def test_all_who_wait_are_woken(self, registry):
        waiters = [await waiting(registry) for _ in range(100)]
        registry.put(RUNNING)
        assert await asyncio.gather(*waiters) == [RUNNING] * 100

    async def test_nobody_is_woken_for_another_user(self, registry):
        asked = []
        waiter = await waiting(registry, until=lambda now: asked.append(now) or runs(now))
        registry.put(instance(BEA, 5002))
        await asyncio.sleep(0)
        assert asked == [None]
        registry.put(RUNNING)
        await waiter

    async def test_nobody_is_woken_when_nothing_changed(self, registry):
        registry.put(instance())
        asked = []
        waiter = await waiting(registry, until=lambda now: asked.append(now) or runs(now))
        registry.put(dataclasses.replace(instance()))
        await asyncio.sleep(0)
        assert len(asked) == 1
        registry.put(RUNNING)
        await waiter

    async def test_a_state_that_lasted_only_a_moment_does_not_end_a_wait(self, registry):
        waiter = await waiting(registry)
        registry.put(RUNNING)
        registry.put(instance())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiter.done()
        registry.put(RUNNING)
        assert await waiter == RUNNING

    async def test_release_ends_every_wait_now_and_later(self, registry):
        registry.put(instance())
        waiters = [await waiting(registry), await waiting(registry, BEA)]
        registry.release()
        assert await asyncio.gather(*waiters) == [instance(), None]
        assert await registry.wait(ANA, runs, 10) == instance()

    async def test_no_wait_leaves_anything_behind(self, registry):
        given_up = await waiting(registry)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        await registry.wait(ANA, runs, 0.001)
        fulfilled = await waiting(registry)
        registry.put(RUNNING)
        await fulfilled
        assert registry.waiting == {}

    async def test_one_who_gives_up_does_not_take_the_others_along(self, registry):
        first, second = await waiting(registry), await waiting(registry)
        first.cancel()
        await asyncio.sleep(0)
        registry.put(RUNNING)
        assert await second == RUNNING


class TestLiveQr:
    NOW = 1000.0
    SHOWN = instance(session=Session(SessionState.QR, qr="CODE", expires_at=NOW + 20), answering=True)

    def but(self, **members) -> Instance:
        session = dataclasses.replace(self.SHOWN.session, **members)
        return dataclasses.replace(self.SHOWN, session=session)

    def test_a_code_that_is_valid_can_be_scanned(self):
        assert self.SHOWN.live_qr(self.NOW) == "CODE"

    def test_an_expired_code_is_never_given(self):
        assert self.SHOWN.live_qr(self.NOW + 19.999) == "CODE"
        assert self.SHOWN.live_qr(self.NOW + 20) is None

    def test_a_code_without_an_end_is_never_given(self):
        assert self.but(expires_at=None).live_qr(self.NOW) is None

    @pytest.mark.parametrize("state", sorted(set(SessionState) - {SessionState.QR}))
    def test_a_session_that_is_past_its_code_gives_none(self, state):
        assert self.but(state=state).live_qr(self.NOW) is None

    def test_a_server_that_is_not_heard_gives_none(self):
        assert dataclasses.replace(self.SHOWN, answering=False).live_qr(self.NOW) is None

    def test_a_server_that_has_said_nothing_gives_none(self):
        assert instance(answering=True).live_qr(self.NOW) is None


class TestChanges:
    def users(self, registry, since, most=100):
        return [change.user for change in registry.changes_since(since, most)]

    def test_each_user_appears_once_with_the_newest_state_in_the_order_of_change(self, registry):
        registry.put(instance())
        registry.put(instance(BEA, 5002))
        registry.put(RUNNING)
        assert self.users(registry, 0) == [BEA, ANA]
        assert registry.changes_since(0, 100)[-1].value == RUNNING
        assert self.users(registry, 2) == [ANA]
        assert self.users(registry, registry.version) == []

    def test_what_is_too_much_at_once_comes_next(self, registry):
        for number in range(10):
            registry.put(instance(User(str(number)), 5001 + number))
        seen = []
        while changes := registry.changes_since(seen[-1].version if seen else 0, 3):
            assert len(changes) <= 3
            seen += changes
        assert [change.user for change in seen] == [str(number) for number in range(10)]

    def test_a_removal_is_a_change_too(self, registry):
        registry.put(RUNNING)
        registry.remove(ANA)
        assert registry.change_of(ANA) == registry.changes_since(1, 1)[0]
        assert registry.change_of(ANA).value is None
        assert registry.change_of(BEA) is None

    def test_what_changes_nothing_is_none(self, registry):
        registry.put(RUNNING)
        before = registry.change_of(ANA)
        registry.put(dataclasses.replace(RUNNING))
        registry.remove(BEA)
        assert registry.change_of(ANA) is before
        assert registry.version == before.version

    def test_the_oldest_removals_are_forgotten_and_it_knows_that(self, registry, monkeypatch):
        monkeypatch.setattr("waportd.change_log.REMEMBERED_CHANGES", 2)
        for number in range(4):
            registry.put(instance(User(str(number)), 5001 + number))
            registry.remove(User(str(number)))
        # 0 was removed as 2nd change, 1 as 4th; 2 and 3 are remembered.
        assert self.users(registry, 0) == ["2", "3"]
        assert [version for version in range(10) if registry.remembers(version)] == [4, 5, 6, 7, 8]

    def test_who_came_back_is_not_forgotten(self, registry, monkeypatch):
        monkeypatch.setattr("waportd.change_log.REMEMBERED_CHANGES", 1)
        registry.put(RUNNING)
        registry.remove(ANA)
        registry.put(RUNNING)
        registry.put(instance(BEA, 5002))
        registry.remove(BEA)
        assert self.users(registry, 0) == [ANA, BEA]
        assert registry.remembers(0)

    def test_no_two_pictures_share_their_versions(self, registry):
        assert registry.epoch != Registry().epoch

    async def test_a_change_of_anybody_ends_a_wait(self, registry):
        registry.put(RUNNING)
        waiter = asyncio.create_task(registry.wait_for_change(registry.version, 10))
        await asyncio.sleep(0)
        assert not waiter.done()
        registry.put(instance(BEA, 5002))
        await waiter
        await registry.wait_for_change(1, 10)
        assert registry.waiting == {}

    async def test_a_wait_for_a_change_ends_with_its_time_or_by_release(self, registry):
        await registry.wait_for_change(0, 0.01)
        waiter = asyncio.create_task(registry.wait_for_change(0, 10))
        await asyncio.sleep(0)
        registry.release()
        await waiter
        await registry.wait_for_change(0, 10)


async def test_a_thousand_who_wait_are_woken_in_turns_and_others_are_served_in_between():
    """All at once would take the event loop for as long as a thousand writes take."""
    registry, told = Registry(), []

    async def follow():
        await registry.wait_for_change(registry.version, 60)
        told.append(asyncio.get_running_loop().time())

    followers = [asyncio.create_task(follow()) for _ in range(1000)]
    own = asyncio.create_task(registry.wait(ANA, lambda found: found is not None, 60))
    await asyncio.sleep(0)
    registry.put(instance())
    steps = []
    while len(told) < len(followers):
        before = len(told)
        await asyncio.sleep(0.001)
        steps.append(len(told) - before)
    assert max(steps) <= 4 * WOKEN_PER_TURN  # on a busy machine a timer may be late
    assert own.done()
    await asyncio.gather(*followers, own)


async def test_all_who_wait_for_their_turn_are_let_go_at_the_end():
    registry = Registry()
    followers = [asyncio.create_task(registry.wait_for_change(0, 60)) for _ in range(100)]
    await asyncio.sleep(0)
    registry.put(instance())
    registry.release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert all(follower.done() for follower in followers)

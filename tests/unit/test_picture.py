"""The picture: what is put is seen, and whoever waits is woken once it is so."""

import asyncio
import dataclasses

import pytest

from waportd.model import Assignment, Port, Process, ProcessState, Session, SessionState, User
from waportd.picture import Instance, Picture

ANA, BEA = User("ana"), User("bea")


def instance(user: User = ANA, port: int = 5001, **members) -> Instance:
    return Instance(Assignment(user, Port(port)), **members)


RUNNING = instance(process=Process(ProcessState.RUNNING))


def runs(now: Instance | None) -> bool:
    return now is not None and now.process.state is ProcessState.RUNNING


async def waiting(picture: Picture, user: User = ANA, until=runs, patience: float = 10) -> asyncio.Task:
    """Begin to wait, and return once the wait has begun."""
    task = asyncio.create_task(picture.wait(user, until, patience))
    await asyncio.sleep(0)
    assert user in picture._waiters
    return task


@pytest.fixture
def picture():
    return Picture()


class TestKeeping:
    def test_an_instance_is_found_by_user_and_by_port(self, picture):
        picture.put(instance())
        assert picture.get(ANA) == picture.on_port(Port(5001)) == instance()
        assert picture.owners() == {5001: ANA}
        assert list(picture) == [instance()]
        assert len(picture) == 1

    def test_who_has_no_port_is_nobody(self, picture):
        assert picture.get(ANA) is None
        assert picture.on_port(Port(5001)) is None
        assert len(picture) == 0

    def test_a_user_who_moves_leaves_the_port_before(self, picture):
        picture.put(instance())
        picture.put(instance(port=20000))
        assert picture.on_port(Port(5001)) is None
        assert picture.on_port(Port(20000)) == instance(port=20000)
        assert len(picture) == 1

    def test_a_removed_user_leaves_nothing(self, picture):
        picture.put(instance())
        picture.remove(ANA)
        picture.remove(ANA)
        assert picture.owners() == {}
        assert list(picture) == []


class TestWaiting:
    async def test_a_condition_that_holds_is_answered_at_once(self, picture):
        picture.put(RUNNING)
        assert await picture.wait(ANA, runs, 0) == RUNNING

    async def test_a_wait_ends_with_the_change_that_fulfils_it(self, picture):
        picture.put(instance())
        waiter = await waiting(picture)
        picture.put(instance(process=Process(ProcessState.STARTING)))
        await asyncio.sleep(0)
        assert not waiter.done()
        picture.put(RUNNING)
        assert await waiter == RUNNING

    async def test_a_user_who_is_not_there_yet_can_be_waited_for(self, picture):
        waiter = await waiting(picture)
        picture.put(RUNNING)
        assert await waiter == RUNNING

    async def test_the_removal_of_a_user_can_be_waited_for(self, picture):
        picture.put(RUNNING)
        waiter = await waiting(picture, until=lambda now: now is None)
        picture.remove(ANA)
        assert await waiter is None

    async def test_when_time_is_up_the_instance_is_returned_as_it_is(self, picture):
        picture.put(instance())
        assert await picture.wait(ANA, runs, 0.01) == instance()

    @pytest.mark.parametrize("patience", [0, -1])
    async def test_without_patience_there_is_no_wait(self, picture, patience):
        assert await picture.wait(ANA, runs, patience) is None

    async def test_all_who_wait_are_woken(self, picture):
        waiters = [await waiting(picture) for _ in range(100)]
        picture.put(RUNNING)
        assert await asyncio.gather(*waiters) == [RUNNING] * 100

    async def test_nobody_is_woken_for_another_user(self, picture):
        asked = []
        waiter = await waiting(picture, until=lambda now: asked.append(now) or runs(now))
        picture.put(instance(BEA, 5002))
        await asyncio.sleep(0)
        assert asked == [None]
        picture.put(RUNNING)
        await waiter

    async def test_nobody_is_woken_when_nothing_changed(self, picture):
        picture.put(instance())
        asked = []
        waiter = await waiting(picture, until=lambda now: asked.append(now) or runs(now))
        picture.put(dataclasses.replace(instance()))
        await asyncio.sleep(0)
        assert len(asked) == 1
        picture.put(RUNNING)
        await waiter

    async def test_a_state_that_lasted_only_a_moment_does_not_end_a_wait(self, picture):
        waiter = await waiting(picture)
        picture.put(RUNNING)
        picture.put(instance())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiter.done()
        picture.put(RUNNING)
        assert await waiter == RUNNING

    async def test_release_ends_every_wait_now_and_later(self, picture):
        picture.put(instance())
        waiters = [await waiting(picture), await waiting(picture, BEA)]
        picture.release()
        assert await asyncio.gather(*waiters) == [instance(), None]
        assert await picture.wait(ANA, runs, 10) == instance()

    async def test_no_wait_leaves_anything_behind(self, picture):
        given_up = await waiting(picture)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        await picture.wait(ANA, runs, 0.001)
        fulfilled = await waiting(picture)
        picture.put(RUNNING)
        await fulfilled
        assert picture._waiters == {}

    async def test_one_who_gives_up_does_not_take_the_others_along(self, picture):
        first, second = await waiting(picture), await waiting(picture)
        first.cancel()
        await asyncio.sleep(0)
        picture.put(RUNNING)
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
    def users(self, picture, since, most=100):
        return [change.user for change in picture.changes_since(since, most)]

    def test_each_user_appears_once_with_the_newest_state_in_the_order_of_change(self, picture):
        picture.put(instance())
        picture.put(instance(BEA, 5002))
        picture.put(RUNNING)
        assert self.users(picture, 0) == [BEA, ANA]
        assert picture.changes_since(0, 100)[-1].instance == RUNNING
        assert self.users(picture, 2) == [ANA]
        assert self.users(picture, picture.version) == []

    def test_what_is_too_much_at_once_comes_next(self, picture):
        for number in range(10):
            picture.put(instance(User(str(number)), 5001 + number))
        seen = []
        while changes := picture.changes_since(seen[-1].version if seen else 0, 3):
            assert len(changes) <= 3
            seen += changes
        assert [change.user for change in seen] == [str(number) for number in range(10)]

    def test_a_removal_is_a_change_too(self, picture):
        picture.put(RUNNING)
        picture.remove(ANA)
        assert picture.change_of(ANA) == picture.changes_since(1, 1)[0]
        assert picture.change_of(ANA).instance is None
        assert picture.change_of(BEA) is None

    def test_what_changes_nothing_is_none(self, picture):
        picture.put(RUNNING)
        before = picture.change_of(ANA)
        picture.put(dataclasses.replace(RUNNING))
        picture.remove(BEA)
        assert picture.change_of(ANA) is before
        assert picture.version == before.version

    def test_the_oldest_removals_are_forgotten_and_it_knows_that(self, picture, monkeypatch):
        monkeypatch.setattr("waportd.picture._REMEMBERED", 2)
        for number in range(4):
            picture.put(instance(User(str(number)), 5001 + number))
            picture.remove(User(str(number)))
        # 0 was removed as 2nd change, 1 as 4th; 2 and 3 are remembered.
        assert self.users(picture, 0) == ["2", "3"]
        assert [version for version in range(10) if picture.remembers(version)] == [4, 5, 6, 7, 8]

    def test_who_came_back_is_not_forgotten(self, picture, monkeypatch):
        monkeypatch.setattr("waportd.picture._REMEMBERED", 1)
        picture.put(RUNNING)
        picture.remove(ANA)
        picture.put(RUNNING)
        picture.put(instance(BEA, 5002))
        picture.remove(BEA)
        assert self.users(picture, 0) == [ANA, BEA]
        assert picture.remembers(0)

    def test_no_two_pictures_share_their_versions(self, picture):
        assert picture.epoch != Picture().epoch

    async def test_a_change_of_anybody_ends_a_wait(self, picture):
        picture.put(RUNNING)
        waiter = asyncio.create_task(picture.wait_for_change(picture.version, 10))
        await asyncio.sleep(0)
        assert not waiter.done()
        picture.put(instance(BEA, 5002))
        await waiter
        await picture.wait_for_change(1, 10)
        assert picture._waiters == {}

    async def test_a_wait_for_a_change_ends_with_its_time_or_by_release(self, picture):
        await picture.wait_for_change(0, 0.01)
        waiter = asyncio.create_task(picture.wait_for_change(0, 10))
        await asyncio.sleep(0)
        picture.release()
        await waiter
        await picture.wait_for_change(0, 10)

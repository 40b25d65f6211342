"""The next port is clean before anybody needs it."""

import asyncio

import pytest
from support import BASE

from waportd.model import Port, User, service_unit, socket_unit
from waportd.systemd.manager import SystemdError

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


async def has_cleaned(systemd, port):
    """Wait until the port has been cleaned."""
    async with asyncio.timeout(5):
        while ("clean", service_unit(port)) not in systemd.calls:
            await asyncio.sleep(0.01)


class TestCleaningAhead:
    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch):
        monkeypatch.setattr("waportd.cleaning_ahead.CLEAN_NEXT_DELAY_S", 0.01)

    async def test_the_next_users_port_is_cleaned_before_that_user_comes(self, supervisor, systemd):
        await supervisor.ensure(ONE)
        await has_cleaned(systemd, PORT + 1)
        systemd.calls.clear()
        await supervisor.ensure(TWO)
        assert ("clean", service_unit(PORT + 1)) not in systemd.calls
        await has_cleaned(systemd, PORT + 2)

    async def test_a_port_that_was_had_since_is_cleaned_again(self, supervisor, systemd):
        await supervisor.ensure(ONE)
        await has_cleaned(systemd, PORT + 1)
        await supervisor.ensure(TWO)
        await supervisor.delete(TWO)
        systemd.calls.clear()
        await supervisor.ensure(TWO)
        assert ("clean", service_unit(PORT + 1)) in systemd.calls

    async def test_who_comes_later_than_a_minute_after_that_gets_it_cleaned_again(
        self, supervisor, systemd, monkeypatch
    ):
        monkeypatch.setattr("waportd.cleaning_ahead.PRECLEANED_TTL_S", 0.05)
        await supervisor.ensure(ONE)
        await has_cleaned(systemd, PORT + 1)
        await asyncio.sleep(0.1)
        systemd.calls.clear()
        await supervisor.ensure(TWO)
        assert ("clean", service_unit(PORT + 1)) in systemd.calls

    async def test_who_comes_meanwhile_waits_for_it_however_long_it_takes(
        self, supervisor, systemd, monkeypatch
    ):
        monkeypatch.setattr("waportd.cleaning_ahead.PRECLEANED_TTL_S", 0.05)
        done, clean = asyncio.Event(), systemd.clean

        async def clean_slowly(unit):
            await clean(unit)
            if unit == service_unit(PORT + 1):
                await done.wait()

        systemd.clean = clean_slowly
        await supervisor.ensure(ONE)
        await has_cleaned(systemd, PORT + 1)
        await asyncio.sleep(0.1)
        # Long enough for a second user who a busy machine holds up.
        monkeypatch.setattr("waportd.cleaning_ahead.PRECLEANED_TTL_S", 60.0)
        second = asyncio.create_task(supervisor.ensure(TWO))
        await asyncio.sleep(0.05)
        assert not second.done()
        assert systemd.calls.count(("start", socket_unit(PORT + 1))) == 0
        done.set()
        await second
        assert systemd.calls.count(("clean", service_unit(PORT + 1))) == 1

    async def test_what_fails_is_no_failure_of_a_user_and_tried_again_for_who_gets_the_port(
        self, supervisor, systemd
    ):
        clean, failures = systemd.clean, []

        async def clean_badly(unit):
            if unit == service_unit(PORT + 1) and len(failures) < 2:
                failures.append(unit)
                systemd.change(unit, active_state="failed", sub_state="failed")
                raise SystemdError("not everything could be deleted")
            await clean(unit)

        systemd.clean = clean_badly
        await supervisor.ensure(ONE)
        async with asyncio.timeout(5):
            while systemd.units.get(service_unit(PORT + 1)) is None or not failures:
                await asyncio.sleep(0.01)
            while systemd.units[service_unit(PORT + 1)].active_state == "failed":
                await asyncio.sleep(0.01)
        with pytest.raises(SystemdError, match="not everything"):
            await supervisor.ensure(TWO)
        await supervisor.ensure(TWO)
        assert ("clean", service_unit(PORT + 1)) in systemd.calls

    async def test_a_port_that_has_an_owner_is_not_touched(self, supervisor, systemd):
        await supervisor.ensure(TWO)
        await supervisor.ensure(ONE)
        await has_cleaned(systemd, PORT + 2)
        await asyncio.sleep(0.05)
        assert systemd.calls.count(("clean", service_unit(PORT + 1))) == 1

    async def test_a_unit_that_runs_and_that_nobody_owns_is_not_touched(self, supervisor, systemd):
        systemd.change(service_unit(PORT + 1), active_state="active", sub_state="running")
        await supervisor.ensure(ONE)
        await asyncio.sleep(0.05)
        assert ("clean", service_unit(PORT + 1)) not in systemd.calls

"""Codes and passkeys of a session that is to be linked."""

import asyncio
import time

import pytest
from fakes import iso
from support import BASE, has_session, is_process, settled, until

from waportd.errors import ServerFailed, StartTimeout
from waportd.model import PasskeyStage, Port, ProcessState, SessionState, User
from waportd.readiness import Wait

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


class TestPasskey:
    """WhatsApp wants a passkey: something for a person to do, and no end, unless nothing can be done."""

    @pytest.fixture
    async def server(self, supervisor, systemd):
        await supervisor.ensure(ONE)
        return systemd.servers[PORT]

    @pytest.mark.parametrize("stage", PasskeyStage)
    async def test_who_asks_for_a_code_gets_it_at_once_and_changes_nothing(
        self, supervisor, systemd, server, stage
    ):
        told = server.ask_for_passkey(stage)
        before = await until(supervisor, ONE, lambda now: now.passkey is not None)
        for wait in Wait.NONE, Wait.LISTENING, Wait.QR:
            instance, _ = await supervisor.ensure(ONE, wait=wait, timeout=5)
            assert instance.session == before.session
        await supervisor.poll(ONE)
        await settled(supervisor)
        assert systemd.servers[PORT] is server
        assert server.document["passkey"] == told
        assert [call for call in systemd.calls if call[0] in {"restart", "stop"}] == []
        # Somebody follows it: so the server hears of it.
        assert server.calls.count("qr") == 1

    async def test_who_waits_for_a_code_when_it_comes_gets_it(self, supervisor, systemd):
        systemd.prepare = lambda server: setattr(server, "on_ask", server.ask_for_passkey)
        instance, _ = await supervisor.ensure(ONE, wait=Wait.QR, timeout=5)
        assert instance.session.state is SessionState.PASSKEY_REQUIRED

    async def test_who_waits_for_ready_keeps_waiting_and_learns_the_next_step(self, supervisor, server):
        server.ask_for_passkey()
        await until(supervisor, ONE, lambda now: now.passkey is not None)
        with pytest.raises(StartTimeout, match="passkey_required") as caught:
            await supervisor.ensure(ONE, wait=Wait.READY, timeout=0.2)
        assert "connect link" in caught.value.hint
        asyncio.get_running_loop().call_later(0.05, server.link)
        instance, _ = await supervisor.ensure(ONE, wait=Wait.READY, timeout=5)
        assert instance.session.state is SessionState.READY

    async def test_where_nothing_can_be_done_it_is_an_end(self, supervisor, server):
        def nothing():
            server.say("passkey_required", cause="passkey_button_missing", message="no button", hint="update")

        server.on_ask = nothing
        with pytest.raises(ServerFailed) as caught:
            await supervisor.ensure(ONE, wait=Wait.QR, timeout=5)
        assert (caught.value.cause, caught.value.hint) == ("passkey_button_missing", "update")

    async def test_where_nothing_could_be_done_a_new_question_counts(self, supervisor, server):
        server.say("passkey_required", message="it cannot be given", since=iso(time.time() - 10))
        await until(supervisor, ONE, has_session(SessionState.PASSKEY_REQUIRED))
        waiting = asyncio.create_task(supervisor.ensure(ONE, wait=Wait.QR, timeout=5))
        await asyncio.sleep(0.05)
        server.show_code()
        instance, _ = await waiting
        assert instance.session.qr

    async def test_the_time_until_it_is_over_is_none_that_a_code_took(self, supervisor, server, monkeypatch):
        observed = []
        monkeypatch.setattr(supervisor.metrics.first_codes, "observe", observed.append)
        server.show_code()
        await until(supervisor, ONE, has_session(SessionState.QR))
        assert len(observed) == 1
        server.ask_for_passkey()
        await until(supervisor, ONE, lambda now: now.passkey is not None)
        await supervisor.ensure(ONE)
        server.show_code()
        await until(supervisor, ONE, has_session(SessionState.QR))
        assert len(observed) == 1

    async def test_a_server_that_ends_takes_it_along(self, supervisor, systemd, server):
        server.ask_for_passkey("code")
        await until(supervisor, ONE, lambda now: now.passkey is not None)
        await systemd.exit(PORT)
        instance = await until(supervisor, ONE, is_process(ProcessState.STOPPED))
        assert (instance.passkey, instance.session) == (None, None)

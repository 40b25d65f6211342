"""The use cases, on a systemd and servers in memory."""

import asyncio
import time

import pytest
from support import BASE, calls_for, has_session, is_process, settled, until

from waportd.errors import ServerFailed, StartTimeout, UnknownUser
from waportd.model import Assignment, Desired, Port, ProcessState, SessionState, User, service_unit
from waportd.readiness import Wait
from waportd.systemd.manager import SystemdError

ONE, TWO = User("1"), User("2")
PORT = Port(BASE)


@pytest.mark.also_without("cleaning_ahead", "first_answers")
async def test_a_new_user_gets_a_port_and_a_running_server(supervisor, systemd, store):
    instance, created = await supervisor.ensure(ONE)
    assert created
    assert instance.assignment.port == PORT
    assert instance.process.state is ProcessState.RUNNING
    assert store.rows[ONE].port == PORT
    assert ("start", service_unit(PORT)) in systemd.calls


async def test_ensuring_again_changes_nothing(supervisor, systemd):
    await supervisor.ensure(ONE)
    before = calls_for(systemd, PORT)
    _, created = await supervisor.ensure(ONE)
    assert not created
    assert calls_for(systemd, PORT) == before


@pytest.mark.also_without("cleaning_ahead", "first_answers")
async def test_fifty_concurrent_ensures_start_one_server(supervisor, systemd):
    systemd.delay = 0.05
    results = await asyncio.gather(*(supervisor.ensure(ONE) for _ in range(50)))
    assert systemd.calls.count(("start", service_unit(PORT))) == 1
    assert {instance.assignment.port for instance, _ in results} == {PORT}
    assert sum(created for _, created in results) == 1


@pytest.mark.also_without("first_answers")
async def test_waiting_for_a_code(supervisor, systemd):
    systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)
    instance, _ = await supervisor.ensure(ONE, wait=Wait.QR)
    assert instance.session.qr == f"ref1,noise{PORT},identity,secret,1"


@pytest.mark.also_without("first_answers")
async def test_waiting_for_ready(supervisor, systemd):
    systemd.prepare = lambda server: setattr(server, "on_ask", server.link)
    instance, _ = await supervisor.ensure(ONE, wait=Wait.READY)
    assert instance.session.state is SessionState.READY
    assert (await until(supervisor, ONE, lambda now: now.assignment.linked)).assignment.linked


async def test_when_a_phone_was_linked_is_kept_until_it_is_unlinked(supervisor, store, systemd):
    began = time.time()
    systemd.prepare = lambda server: server.link()
    await supervisor.ensure(ONE, wait=Wait.READY)
    linked_at = (await until(supervisor, ONE, lambda now: now.assignment.linked)).assignment.linked_at
    assert began <= linked_at <= time.time()
    # The session comes back with its login: that is no other link.
    await supervisor.restart(ONE)
    await until(supervisor, ONE, lambda now: now.session and now.session.state is SessionState.READY)
    assert store.rows[ONE].linked_at == linked_at
    await supervisor.log_out(ONE)
    assert (store.rows[ONE].linked, store.rows[ONE].linked_at) == (False, None)


async def test_who_waits_for_a_code_gets_one_although_the_user_was_linked_and_the_login_is_gone(
    start_supervisor, store, systemd
):
    store.rows[ONE] = Assignment(ONE, PORT, linked=True, autostart=False)
    systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)
    supervisor = await start_supervisor()
    instance, _ = await supervisor.ensure(ONE, wait=Wait.QR, timeout=5)
    assert instance.session.qr == f"ref1,noise{PORT},identity,secret,1"
    assert not instance.assignment.linked


async def test_not_waiting(supervisor, systemd):
    systemd.delay = 0.2
    instance, _ = await supervisor.ensure(ONE, wait=Wait.NONE)
    assert instance.process.state is not ProcessState.RUNNING
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))


async def test_a_code_that_does_not_come_in_time_is_a_timeout_that_names_the_state(supervisor):
    with pytest.raises(StartTimeout, match=r"is not qr after 0.2 s .*process running"):
        await supervisor.ensure(ONE, wait=Wait.QR, timeout=0.2)


@pytest.mark.also_without("first_answers")
async def test_a_session_that_cannot_show_a_code_fails_with_its_cause(supervisor, systemd):
    def no_browser(server):
        server.say("error", cause="browser_missing", message="no browser", hint="apt install chromium")

    systemd.prepare = lambda server: setattr(server, "on_ask", lambda: no_browser(server))
    with pytest.raises(ServerFailed) as caught:
        await supervisor.ensure(ONE, wait=Wait.QR)
    assert (caught.value.cause, caught.value.hint) == ("browser_missing", "apt install chromium")


async def test_an_error_from_before_the_question_does_not_count(supervisor, systemd):
    systemd.prepare = lambda server: server.say("error", cause="browser_missing", message="no browser")
    await supervisor.ensure(ONE)
    await until(supervisor, ONE, has_session(SessionState.ERROR))
    server = systemd.servers[PORT]
    server.on_ask = lambda: asyncio.get_running_loop().call_later(0.05, server.show_code)
    instance, _ = await supervisor.ensure(ONE, wait=Wait.QR)
    assert instance.session.qr


async def test_an_expired_code_is_never_live(supervisor, systemd):
    systemd.prepare = lambda server: server.show_code(lifetime=-1)
    await supervisor.ensure(ONE)
    instance = await until(supervisor, ONE, has_session(SessionState.QR))
    assert instance.live_qr(instance.session.expires_at + 0.01) is None


async def test_a_poll_of_an_unknown_user_assigns_and_starts(supervisor):
    await supervisor.poll(ONE)
    await until(supervisor, ONE, is_process(ProcessState.RUNNING))


async def test_polls_are_relayed_now_and_then(supervisor, systemd):
    await supervisor.ensure(ONE)
    for _ in range(50):
        await supervisor.poll(ONE)
    await settled(supervisor)
    assert systemd.servers[PORT].calls.count("qr") == 1


@pytest.mark.also_without("cleaning_ahead", "first_answers")
async def test_delete_removes_the_session_and_frees_the_port(supervisor, systemd, store, config):
    await supervisor.ensure(ONE)
    await supervisor.delete(ONE)
    assert calls_for(systemd, PORT)[-1] == ("clean", service_unit(PORT))
    assert not store.rows
    assert supervisor.registry.get(ONE) is None
    assert not list(config.store.instances.iterdir())
    instance, created = await supervisor.ensure(ONE)
    assert created
    assert instance.assignment.port == PORT


@pytest.mark.parametrize("verb", ["stop", "restart", "log_out", "delete", "start_server"])
async def test_a_user_without_a_port_is_unknown(supervisor, verb):
    with pytest.raises(UnknownUser):
        await getattr(supervisor, verb)(ONE)


async def test_a_new_webhook_restarts_a_running_server(supervisor, systemd, config):
    await supervisor.ensure(ONE)
    instance, _ = await supervisor.ensure(ONE, {"webhook_url": "http://localhost:9/hook"})
    assert ("restart", service_unit(PORT)) in systemd.calls
    assert instance.assignment.webhook_url == "http://localhost:9/hook"
    environment = (config.store.instances / f"{PORT}.env").read_text(encoding="utf-8")
    assert "http://localhost:9/hook" in environment


async def test_a_users_own_memory_limit_is_set_before_the_start(supervisor, systemd):
    await supervisor.ensure(ONE, {"memory_max": 512 << 20})
    limit = ("limit_memory", f"{service_unit(PORT)}={512 << 20}")
    assert systemd.calls.index(limit) < systemd.calls.index(("start", service_unit(PORT)))


@pytest.mark.also_without("cleaning_ahead", "first_answers")
async def test_closing_leaves_the_servers_alone(start_supervisor, systemd):
    supervisor = await start_supervisor()
    await supervisor.ensure(ONE)
    await supervisor.close()
    assert systemd.servers
    assert systemd.units[service_unit(PORT)].active_state == "active"


async def test_a_deletion_that_failed_can_be_repeated(supervisor, systemd, store):
    await supervisor.ensure(ONE)
    clean = systemd.clean

    async def fail(_unit):
        raise SystemdError("not everything could be deleted")

    systemd.clean = fail
    with pytest.raises(SystemdError):
        await supervisor.delete(ONE)
    assert store.rows[ONE].desired is Desired.DELETED
    systemd.clean = clean
    await supervisor.delete(ONE)
    assert not store.rows


async def test_the_second_of_two_deletions_finds_nobody(supervisor, systemd):
    await supervisor.ensure(ONE)
    outcomes = await asyncio.gather(
        supervisor.delete(ONE), supervisor.delete(ONE), supervisor.poll(ONE), return_exceptions=True
    )
    assert outcomes[0] is None
    assert isinstance(outcomes[1], UnknownUser)


async def test_a_version_of_whatsapps_page_is_logged_once_for_all_users(supervisor, systemd, caplog):
    caplog.set_level("INFO")
    upstream = {"build": "2.3000.1", "library": "1.34.7", "engine": "bundled", "checked": ["boot"]}
    for user, port in ((ONE, PORT), (TWO, Port(BASE + 1))):
        await supervisor.ensure(user)
        systemd.servers[port].say("ready", linked=True, upstream=upstream)
        await until(supervisor, user, has_session(SessionState.READY))
    assert [record.getMessage() for record in caplog.records if "2.3000.1" in record.getMessage()] == [
        "WhatsApp Web 2.3000.1 (whatsapp-web.js 1.34.7, engine bundled): all that was checked is there"
    ]


async def test_a_session_that_changes_all_the_time_fills_no_journal(
    start_supervisor, systemd, caplog, monkeypatch
):
    caplog.set_level("INFO")
    monkeypatch.setattr("waportd.observer.SESSION_LINES", (3, 60.0))
    supervisor = await start_supervisor()
    await supervisor.ensure(ONE)
    await supervisor.ensure(TWO)
    for number in range(6):
        systemd.servers[PORT].say(("disconnected", "generating")[number % 2], message=f"flip {number}")
        await until(
            supervisor, ONE, lambda now, last=number: now.session and now.session.message == f"flip {last}"
        )
    lines = [
        record for record in caplog.records if record.getMessage().startswith(("session ", "the session"))
    ]
    assert sum(record.WAPORTD_USER == ONE for record in lines) == 4
    assert "changes all the time" in caplog.text
    systemd.servers[supervisor.known(TWO).assignment.port].say("disconnected", message="of another")
    await until(supervisor, TWO, lambda now: now.session and now.session.message == "of another")
    assert "session disconnected: of another" in caplog.text

"""The client library: against the real API, and against servers that behave badly."""

import ast
import asyncio
import contextlib
import dataclasses
import datetime as dt
import json
import os
import pwd
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web
from fake_journal import FakeJournal
from support import BASE, all_fail, until

from waportd import client as library
from waportd.client import (
    ApiError,
    BadRequest,
    Client,
    Conflict,
    LastHours,
    NoRoom,
    NotAllowed,
    NotFound,
    NotInTime,
    ServerFailed,
    UnknownUser,
    User,
    WaportdUnavailable,
)
from waportd.errors import WaportdError
from waportd.model import Port, service_unit
from waportd.quotas import PASSKEYS, Share
from waportd.systemd import changes

SOURCE = Path(library.__file__)


@pytest.fixture
def client(api, tmp_path):
    with contextlib.closing(Client(tmp_path / "api.sock")) as client:
        yield client


def on_thread(function, *arguments, **options):
    """Call the client beside the event loop on which the API runs."""
    return asyncio.to_thread(function, *arguments, **options)


class Scripted:
    """A server on a unix socket that answers each connection with the next of some functions."""

    def __init__(self, path, *handlers):
        self.path = path
        self.requests = []
        self.failure = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(5)
        self._listener.settimeout(20)
        self._handlers = handlers
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return Client(self.path, timeout=10)

    def __exit__(self, kind, *_):
        self._listener.close() if kind else None
        self._thread.join(30)
        self._listener.close()
        if not kind:
            assert self.failure is None
            assert not self._thread.is_alive()

    def _run(self):
        try:
            for handler in self._handlers:
                connection, _ = self._listener.accept()
                connection.settimeout(20)
                with connection, connection.makefile("rb") as reader:
                    handler(connection, lambda reader=reader: self._read(reader))
        except OSError as error:
            self.failure = error

    def _read(self, reader):
        """Read a request; return its headers' lines."""
        lines = []
        while line := reader.readline().strip():
            lines.append(line.decode())
        if lengths := [line for line in lines if line.lower().startswith("content-length")]:
            reader.read(int(lengths[0].split(":")[1]))
        self.requests.append(lines)
        return lines


def answer(document, status="200 OK", **headers):
    body = json.dumps(document).encode()
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body)}",
        *(f"{n.replace('_', '-')}: {v}" for n, v in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def stream(*chunks):
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + b"".join(
        chunk.encode() for chunk in chunks
    )


USER = {"user": "2", "port": 5002}


@pytest.fixture
def opened(monkeypatch):
    """The connections that clients open on unix sockets, each with its thread."""
    opened, connect = [], library.UnixConnection.connect

    def note(connection):
        opened.append((threading.get_ident(), connection))
        connect(connection)

    monkeypatch.setattr(library.UnixConnection, "connect", note)
    return opened


def refused(path, status, document, **headers):
    """Return the error that results from such an answer."""

    def refuse(connection, read):
        read()
        connection.sendall(answer(document, f"{status} No", **headers))

    with Scripted(path, refuse) as client, pytest.raises(ApiError) as error:
        client.restart("2")
    return error.value


# Against the real API


async def test_a_user_is_ensured_and_shown_in_types(client, supervisor, systemd):
    user = await on_thread(client.ensure, 2)
    assert (user.user, user.port, user.url) == ("2", BASE + 1, f"http://localhost:{BASE + 1}")
    assert user.unit == service_unit(Port(BASE + 1))
    assert user.process.state == "running"
    assert user.created_at.utcoffset().total_seconds() == 0
    assert (user.memory, user.cpu, user.storage) == (None, None, None)
    user = await on_thread(client.status, "2")
    assert (user.memory, user.cpu) == (64 << 20, 1.5)
    sizes = {"login": 7, "cache": 5, "journal": 3, "measured_at": "2026-01-01T00:00:00.000Z"}
    systemd.servers[Port(BASE + 1)].say("generating", storage=sizes)
    await until(supervisor, "2", lambda now: now.storage is not None)
    kept = (await on_thread(client.status, "2")).storage
    assert (kept.login, kept.cache, kept.journal) == (7, 5, 3)
    assert kept.measured_at == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert await on_thread(client.status, "2") == await on_thread(client.start, 2)
    assert [shown.user for shown in await on_thread(client.users)] == ["2"]
    assert (await on_thread(client.users, usage=True))[0].memory == 64 << 20
    with pytest.raises(dataclasses.FrozenInstanceError):
        user.port = 1


async def test_each_action_does_what_it_says(client, systemd):
    await on_thread(client.ensure, "1")
    pid = (await on_thread(client.status, "1")).process.pid
    assert (await on_thread(client.restart, "1")).process.pid != pid
    assert (await on_thread(client.stop, "1")).process.state == "stopped"
    assert (await on_thread(client.start, "1")).process.state == "running"
    moved = await on_thread(client.move, "1", (await on_thread(client.status, "1")).port + 7)
    assert moved.process.state == "running"
    assert (await on_thread(client.move, "1")).port == moved.port - 7
    with pytest.raises(Conflict):
        await on_thread(client.move, "1", moved.port - 7)
    assert (await on_thread(client.logout, "1")).linked is False
    assert await on_thread(client.delete, "1") is None
    with pytest.raises(UnknownUser) as error:
        await on_thread(client.status, "1")
    assert (error.value.status, error.value.code) == (404, "unknown_user")
    assert error.value.hint in str(error.value)


async def test_options_are_sent(client, systemd):
    options = {
        "webhook_url": "http://h/1?token=x",
        "memory_max": "512M",
        "ignore": ["groups"],
        "send_rate": 9,
    }
    user = await on_thread(client.ensure, "1", "none", **options)
    assert user.own_webhook
    assert (user.ignore, user.send_rate, user.webhook_events) == (("groups",), 9, None)
    assert user.memory_max == 512 << 20
    with pytest.raises(BadRequest, match="unknown member 'colour'"):
        await on_thread(client.ensure, "1", colour="red")


async def test_a_code_is_waited_for_and_never_in_a_repr(client, systemd):
    await on_thread(client.ensure, "1")
    server = systemd.servers[Port(BASE)]
    seen = await on_thread(client.qr, "1")
    assert seen.qr is None
    waiting = asyncio.ensure_future(on_thread(client.qr, "1", timeout=20, known=seen))
    await asyncio.sleep(0)
    code = server.show_code()
    shown = await waiting
    assert shown.qr == code
    assert not shown.ready
    assert shown.expires_at.timestamp() > 0
    assert code not in repr(shown)
    assert await on_thread(client.qr, "1", known=shown) is shown
    server.link()
    assert (await on_thread(client.qr, "1", timeout=20, known=shown)).ready


async def test_the_former_name_of_a_timeout_is_taken_for_one_release(client, systemd):
    await on_thread(client.ensure, "1")
    server = systemd.servers[Port(BASE)]
    server.show_code()
    seen = await on_thread(client.qr, "1")
    began = time.monotonic()
    with pytest.warns(DeprecationWarning, match="timeout, not wait"):
        assert await on_thread(client.qr, "1", wait=0.2, known=seen) is seen
    assert time.monotonic() - began >= 0.2
    with pytest.raises(TypeError, match="leave wait out"):
        client.qr("1", timeout=1, wait=1)
    with pytest.raises(TypeError, match="leave wait out"):
        client.messages("1", timeout=1, wait=1)


async def test_a_pairing_code_is_handed_out_and_never_in_a_repr(client, systemd):
    pairing = await on_thread(client.pairing_code, "1", "+55 11 99999-8888")
    assert pairing.code == "CODE-8888"
    assert pairing.expires_at.tzinfo is not None
    assert "CODE" not in repr(pairing)
    with pytest.raises(BadRequest, match="country code"):
        await on_thread(client.pairing_code, "1", "12")


async def test_from_a_pairing_code_there_is_a_way_back(client, systemd):
    await on_thread(client.pairing_code, "1", "+55 11 99999-8888")
    await on_thread(client.end_pairing, "1")
    assert (await on_thread(client.status, "1")).session.state == "qr"
    # The next code of the same phone is another one.
    with pytest.raises(NoRoom, match="pairing codes"):
        await on_thread(client.pairing_code, "1", "+55 11 99999-8888")
    with pytest.raises(UnknownUser):
        await on_thread(client.end_pairing, "nobody")


@pytest.fixture
def hours(monkeypatch):
    """A clock by which paces are counted, and which those who wait set forward."""

    class Clock:
        now = 1000.0

        def __init__(self):
            self.waits = []

        def __getattr__(self, name):
            return getattr(time, name)

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.waits.append(seconds)
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr("waportd.api.access.time", clock)
    monkeypatch.setattr(library, "time", clock)
    return clock


async def test_who_changes_too_much_waits_and_continues_automatically(
    client, access, caplog, monkeypatch, hours
):
    """As a script that sets up thousands of users: all calls are made, none twice."""
    monkeypatch.setattr("waportd.api.access.UID", Share(1024, None, (3, 100)))
    for _ in range(2):
        for user in ("1", "2"):
            await on_thread(client.ensure, user)
            await on_thread(client.delete, user)
    assert hours.waits == [60.0, 60.0]
    lines = [record.getMessage() for record in caplog.records if record.name == "waportd.client"]
    assert lines == ["waportd accepts no more changes from this caller for 60 s; waiting"] * 2


async def test_who_has_to_wait_for_longer_learns_that_at_once(client, tmp_path, access, monkeypatch, hours):
    monkeypatch.setattr("waportd.api.access.UID", Share(1024, None, (50, 2)))
    await on_thread(client.ensure, "1")
    await on_thread(client.delete, "1")
    with pytest.raises(NoRoom) as caught:
        await on_thread(client.ensure, "1")
    assert (caught.value.cause, caught.value.retry_after) == ("too_many_changes", 3600)
    hours.now += 3600 - 30
    with contextlib.closing(Client(tmp_path / "api.sock", pace=0)) as hasty, pytest.raises(NoRoom):
        await on_thread(hasty.ensure, "1", "none")
    assert hours.waits == []
    await on_thread(client.ensure, "1")
    assert hours.waits == [30.0]


async def test_a_passkey_is_given_and_never_in_a_repr(client, systemd, supervisor):
    await on_thread(client.ensure, "1")
    server = systemd.servers[Port(BASE)]
    for method, arguments in (
        ("passkey", ()),
        ("give_passkey", ({},)),
        ("confirm_passkey", ("A",)),
        ("cancel_passkey", ()),
    ):
        with pytest.raises(Conflict) as error:
            await on_thread(getattr(client, method), "1", *arguments)
        assert error.value.code == "no_passkey_request"
    assert (await on_thread(client.qr, "1")).passkey is None
    told = server.ask_for_passkey()
    await until(supervisor, "1", lambda now: now.passkey is not None)
    shown = await on_thread(client.qr, "1")
    assert shown.passkey == await on_thread(client.passkey, "1")
    assert (shown.status, shown.passkey.stage, shown.passkey.options) == (
        "passkey_required",
        "asked",
        told["options"],
    )
    assert shown.passkey.expires_at.tzinfo is not None
    assert "challenge" not in repr(shown)
    assert (await on_thread(client.give_passkey, "1", {"id": "x"})).stage == "given"
    assert server.given == [{"id": "x"}]
    with pytest.raises(Conflict) as error:
        await on_thread(client.give_passkey, "1", {"id": "x"})
    assert error.value.code == "passkey_given"


async def test_a_refused_passkey_says_why(client, systemd, supervisor):
    await on_thread(client.ensure, "1")
    server = systemd.servers[Port(BASE)]
    server.ask_for_passkey()
    await until(supervisor, "1", lambda now: now.passkey is not None)
    refusal = {"error": "for another site", "code": "passkey_wrong_site", "hint": "open the connect link"}
    server.on_passkey = lambda _: web.json_response(refusal, status=400)
    with pytest.raises(BadRequest, match="for another site; open the connect link") as error:
        await on_thread(client.give_passkey, "1", {})
    assert (error.value.code, error.value.hint) == ("passkey_wrong_site", "open the connect link")
    refused = [BadRequest] * (PASSKEYS[0] - 1) + [NoRoom]
    for kind in refused:
        with pytest.raises(kind):
            await on_thread(client.give_passkey, "1", {})


async def test_a_passkeys_code_is_confirmed_or_given_up(client, systemd, supervisor):
    await on_thread(client.ensure, "1")
    server = systemd.servers[Port(BASE)]
    server.ask_for_passkey("code")
    await until(supervisor, "1", lambda now: now.passkey is not None)
    code = (await on_thread(client.passkey, "1")).code
    assert code == "ABCD-EFGH"
    assert code not in repr(await on_thread(client.qr, "1"))
    with pytest.raises(Conflict) as error:
        await on_thread(client.confirm_passkey, "1", "ABCD-EFGG")
    assert error.value.code == "passkey_code_changed"
    assert (await on_thread(client.confirm_passkey, "1", code)).stage == "given"
    await on_thread(client.cancel_passkey, "1")
    assert (await on_thread(client.qr, "1")).status == "qr"


async def test_a_code_is_drawn(client, systemd, supervisor):
    await on_thread(client.ensure, "1")
    with pytest.raises(Conflict) as error:
        await on_thread(client.picture, "1")
    assert error.value.code == "no_code"
    systemd.servers[Port(BASE)].show_code()
    await until(supervisor, "1", lambda now: now.live_qr(0))
    svg = await on_thread(client.picture, "1")
    assert svg.content_type.startswith("image/svg+xml")
    assert (await on_thread(client.picture, "1", "png")).body.startswith(b"\x89PNG")


async def test_tokens_and_links_are_made_and_taken_back(client):
    made = await on_thread(client.create_token, "flask", "user:2")
    assert made.token
    assert made.token not in repr(made)
    listed = await on_thread(client.tokens)
    assert [(token.name, token.scope, token.token) for token in listed] == [("flask", "user:2", None)]
    await on_thread(client.revoke_token, made.id)
    assert await on_thread(client.tokens) == []
    assert (await on_thread(client.caller)).scope == "admin"
    link = await on_thread(client.connect_link, "2", 60)
    assert link.path.startswith("/connect?user=2&")
    assert "signature" not in repr(link)
    with pytest.raises(BadRequest, match="frame_ancestors"):
        await on_thread(client.connect_link, "2", 60, "https://app.example.com/settings")


async def test_what_a_server_found_in_the_page_is_reported(client, supervisor, systemd):
    user = await on_thread(client.ensure, "1")
    missing = {
        "feature": "groups",
        "module": "WAWebGroupCreateJob",
        "member": "createGroup",
        "found": "number",
    }
    upstream = {"build": "2.3000.1", "checked": ["boot"], "missing": [missing], "shims": {"wids": "applied"}}
    systemd.servers[Port(user.port)].say("qr", upstream=upstream)
    await until(supervisor, "1", lambda now: now.session and now.session.upstream.build)
    found = (await on_thread(client.status, "1")).session.upstream
    assert (found.build, found.ok, found.checked) == ("2.3000.1", False, ("boot",))
    assert [each.member for each in found.missing] == ["createGroup"]
    assert found.shims == {"wids": "applied"}


async def test_an_alarm_is_reported(client, supervisor, systemd):
    assert (await on_thread(client.health)).alarm is None
    await all_fail(supervisor, systemd)
    alarm = (await on_thread(client.health)).alarm
    assert (alarm.cause, alarm.users, alarm.build) == ("never_ready", 3, "2.3000.1")
    assert alarm.since.tzinfo is not None


async def test_the_daemon_and_its_host_are_reported(client):
    await on_thread(client.ensure, "1")
    health = await on_thread(client.health)
    assert (health.status, health.users, health.running, health.unassigned_ports) == ("ok", 1, 1, ())
    host = await on_thread(client.host)
    assert host.memory_total > host.memory_available > 0
    assert (host.cpus, len(host.load), host.running) == (os.cpu_count(), 3, 1)


async def test_a_daemon_of_its_own_has_no_hosts(client):
    assert await on_thread(client.hosts) == []


async def test_the_last_hours_come_in_columns(client, supervisor):
    assert (await on_thread(client.last_hours)).times == ()
    await on_thread(client.ensure, "1")
    for _ in range(2):
        await supervisor.history.sample()
    hours = await on_thread(client.last_hours, 1)
    assert (hours.step_s, hours.cpus, len(hours.times)) == (60, os.cpu_count(), 2)
    assert hours.since == hours.times[0] < hours.times[1]
    assert hours.figures["servers_memory"] == (64 << 20, 64 << 20)
    assert hours.figures["servers_cpu"][0] is None
    # What is no column of numbers counts as missing.
    strange = LastHours.of(
        {"times": ["x", 5], "linked": ["1", True], "load": [0.5], "idle": 3, "queued": [1, 2.5]}
    )
    assert strange.times == (None, None)
    assert strange.figures == {"linked": (None, None), "queued": (1, 2.5)}


async def test_who_changed_what_is_reported(client, monkeypatch):
    journal = FakeJournal()
    monkeypatch.setattr(changes.journal, "Reader", journal.open)
    ours = {
        "LOGGER": "waportd.audit",
        "_SYSTEMD_UNIT": "waportd.service",
        "WAPORTD_ACTION": "PUT /v1/users/2",
    }
    for user, days in (("2", 9), ("3", 1), ("2", 1)):
        at = time.time() - days * 86_400
        journal.write("a change", at=at, WAPORTD_USER=user, WAPORTD_TOKEN="t1", WAPORTD_STATUS="201", **ours)
    [change] = await on_thread(client.changes, 2)
    assert (change.user, change.token, change.action, change.status) == ("2", "t1", "PUT /v1/users/2", "201")
    assert change.caller is change.uid is change.link is change.address is None
    assert abs((dt.datetime.now(dt.UTC) - change.time).total_seconds() - 86_400) < 60
    assert [one.user for one in await on_thread(partial(client.changes, since=30 * 86_400, limit=2))] == [
        "3",
        "2",
    ]
    journal.readable = False
    with pytest.raises(ApiError) as raised:
        await on_thread(client.changes)
    assert raised.value.code == "journal_unavailable"


async def test_a_server_that_does_not_start_says_why(client, systemd):
    systemd.fail_to_start(service_unit(Port(BASE)), result="exit-code", exit_code=1, exit_status=203)
    with pytest.raises(ServerFailed) as error:
        await on_thread(client.ensure, "1")
    assert error.value.cause == "node_missing"
    assert "apt install nodejs" in str(error.value)


async def test_what_takes_too_long_is_not_in_time(client):
    with pytest.raises(NotInTime) as error:
        await on_thread(client.ensure, "1", "ready", timeout=0.1)
    assert error.value.retry_after == 5


async def test_ports_are_reported(client):
    port = await on_thread(client.port, "2")
    assert port == BASE + 1
    info = await on_thread(client.port_info, port)
    assert (info.user, info.preferred_by, info.holders) == ("2", "2", ())
    assert (await on_thread(client.port_info, BASE + 2)).user is None
    assert (await on_thread(client.port_info, BASE - 2)).preferred_by is None
    with pytest.raises(BadRequest):
        await on_thread(client.port, "no user")


async def test_threads_share_a_client_and_each_keeps_one_connection(client, api, opened):
    await on_thread(client.ensure, "1")

    def call():
        for _ in range(20):
            assert client.status("1").user == "1"
        return threading.get_ident()

    threads = await asyncio.gather(*(asyncio.to_thread(call) for _ in range(8)))
    callers = [thread for thread, _ in opened]
    assert set(threads) <= set(callers)
    assert len(callers) == len(set(callers))


async def test_events_of_one_and_of_all_come_typed(client, systemd, supervisor):
    await on_thread(client.ensure, "1")
    code = systemd.servers[Port(BASE)].show_code()
    await until(supervisor, "1", lambda now: now.live_qr(0))
    both = client.events("1")
    first = {event.event: event for event in [await on_thread(next, both), await on_thread(next, both)]}
    assert first["user"].user.session.state == "qr"
    assert first["qr"].qr.qr == code
    everybody = client.events()
    assert (await on_thread(next, everybody)).user.user == "1"
    assert (await on_thread(next, everybody)).raw == {"users": 1}
    await on_thread(client.delete, "1")
    assert [event.event for event in await on_thread(list, both)][-1] == "deleted"
    while (last := await on_thread(next, everybody)).event != "deleted":
        pass
    assert last.raw["user"] == "1"
    everybody.close()


# Connections


def test_a_kept_connection_that_was_closed_is_replaced(tmp_path, opened):
    def once(connection, read):
        read()
        connection.sendall(answer(USER))

    with Scripted(tmp_path / "s", once, once, once) as client:
        for call in (client.status, client.status, client.restart):
            assert call("2").port == 5002
            assert select.select([opened[-1][1].sock], [], [], 20)[0]  # it is closed


def test_a_request_that_met_a_closing_connection_is_sent_again(tmp_path):
    def close_on_second(connection, read):
        read()
        connection.sendall(answer(USER))
        read()

    def once(connection, read):
        read()
        connection.sendall(answer(USER))

    server = Scripted(tmp_path / "s", close_on_second, once)
    with server as client:
        client.status("2")
        assert client.status("2").port == 5002
    assert [lines[0] for lines in server.requests] == ["GET /v1/users/2 HTTP/1.1"] * 3


def test_what_may_not_be_done_twice_is_not_sent_again(tmp_path):
    def close_on_second(connection, read):
        read()
        connection.sendall(answer(USER))
        read()

    server = Scripted(tmp_path / "s", close_on_second)
    with server as client:
        client.status("2")
        with pytest.raises(WaportdUnavailable) as error:
            client.create_token("flask")
    assert error.value.reason == "connection_lost"
    assert len(server.requests) == 2


def test_a_fresh_connection_is_not_tried_twice(tmp_path):
    with Scripted(tmp_path / "s", lambda _, read: read()) as client, pytest.raises(WaportdUnavailable):
        client.status("2")


def test_an_answer_that_breaks_off_is_an_error(tmp_path):
    def half(connection, read):
        read()
        connection.sendall(answer(USER)[:-5])

    with Scripted(tmp_path / "s", half) as client, pytest.raises(WaportdUnavailable) as error:
        client.status("2")
    assert error.value.reason == "connection_lost"


def test_a_forked_child_opens_a_connection_of_its_own(tmp_path, monkeypatch):
    def once(connection, read):
        read()
        connection.sendall(answer({**USER, "port": len(server.requests)}))

    server = Scripted(tmp_path / "s", once, once)
    with server as client:
        assert client.status("2").port == 1
        pid = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: pid + 1)
        assert client.status("2").port == 2


def test_a_silent_daemon_is_a_timeout(tmp_path):
    done = threading.Event()

    def silent(_, read):
        read()
        done.wait(20)

    with Scripted(tmp_path / "s", silent) as client:
        with pytest.raises(WaportdUnavailable) as error:
            client.request("GET", "/v1/users?x=secret", timeout=0.05)
        done.set()
    assert error.value.reason == "timeout"
    assert "secret" not in str(error.value)


def test_a_missing_socket_is_reported(tmp_path):
    with pytest.raises(WaportdUnavailable) as error:
        Client(tmp_path / "none").status("1")
    assert error.value.reason == "no_socket"
    assert "systemctl start waportd.socket" in error.value.hint


def test_a_socket_without_a_listener_is_reported(tmp_path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s"))
        with pytest.raises(WaportdUnavailable) as error:
            Client(tmp_path / "s").status("1")
    assert error.value.reason == "refused"


def test_who_may_not_open_the_socket_learns_of_the_group(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(library.UnixConnection, "connect", refuse)
    with pytest.raises(WaportdUnavailable) as error:
        Client(tmp_path / "s").status("1")
    assert error.value.reason == "permission_denied"
    assert f"usermod --append --groups waportd {pwd.getpwuid(os.geteuid()).pw_name}" in error.value.hint
    assert "log in again" in error.value.hint


def test_over_tcp_a_token_is_sent():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = Client(url=url, token="s3cret")
        assert "s3cret" not in repr(client)

        def serve():
            connection, _ = listener.accept()
            with connection:
                requests.append(connection.recv(4096).decode())
                connection.sendall(answer({"users": [USER]}))

        requests = []
        thread = threading.Thread(target=serve)
        thread.start()
        assert client.users()[0].user == "2"
        thread.join(10)
        client.close()
    assert "Authorization: Bearer s3cret" in requests[0]
    with pytest.raises(WaportdUnavailable) as error:
        client.users()
    assert error.value.reason == "refused"


@pytest.mark.parametrize("url", ["ftp://h", "127.0.0.1:8080", "http://", ""])
def test_a_url_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="must look like"):
        Client(url=url)


# Errors and results


def _errors(kind=WaportdError):
    for sub in kind.__subclasses__():
        # Those of a fleet are between its hosts.
        if not sub.__module__.startswith("waportd.fleet"):
            yield sub
        yield from _errors(sub)


def test_every_error_of_the_api_has_a_class_that_says_what_it_is(tmp_path):
    for number, error in enumerate(_errors()):
        document = {"code": error.code, "detail": "x"}
        kind = type(refused(tmp_path / str(number), error.status, document))
        assert kind is not ApiError or error.status in {421, 500, 503, 507}, error


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "unknown_user", UnknownUser),
        (404, "not_found", NotFound),
        (409, "no_code", Conflict),
        (409, "something_new", Conflict),
        (429, "too_many_requests", NoRoom),
        (503, "limit_reached", NoRoom),
        (503, "restarting", ApiError),
        (401, "", NotAllowed),
        (500, "internal_error", ApiError),
    ],
)
def test_an_error_goes_by_its_code_else_by_its_status(tmp_path, status, code, kind):
    document = {"code": code, "detail": "why", "hint": "so"}
    error = refused(tmp_path / "s", status, document, Retry_After="7")
    assert type(error) is kind
    assert error.retry_after == 7
    assert str(error) == "why; so"


def test_an_answer_that_is_no_problem_document_is_an_error_all_the_same(tmp_path):
    def proxy(connection, read):
        read()
        connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\n<html")

    with Scripted(tmp_path / "s", proxy) as client, pytest.raises(ServerFailed) as error:
        client.status("2")
    assert error.value.code == "http_502"


def test_new_members_are_kept_in_raw_and_missing_ones_have_defaults():
    user = User.of({**USER, "colour": "crimson", "session": {"state": "new_state", "mood": 1}})
    assert user.raw["colour"] == "crimson"
    assert user.session.state == "new_state"
    assert user.process.state == "stopped"
    assert "crimson" not in repr(user)


# Streams


def test_events_are_typed_and_resumed_after_a_restart(tmp_path):
    qr = {"user": "2", "port": 5002, "status": "qr", "qr": "a,b,c,d,1"}

    def first(connection, read):
        read()
        connection.sendall(
            stream(
                "retry: 10\n\n: heartbeat\n\n",
                f"event: user\nid: e-1\ndata: {json.dumps(USER)}\n\n",
                f"id: e-2\r\nevent:qr\r\ndata: {json.dumps(qr)[:20]}\r\ndata: {json.dumps(qr)[20:]}\r\n\r\n",
                "event: user\ndata: half of an ev",
            )
        )

    def second(connection, read):
        read()
        connection.sendall(answer({"code": "restarting", "detail": "d"}, "503 Service Unavailable"))

    def third(connection, read):
        read()
        connection.sendall(
            stream(
                'event: new\ndata: {"x": 1}\n\n',
                'event: deleted\nid: e-3\ndata: {"user": "2"}\n\n',
                "event: user\ndata: {}\n\n",
            )
        )

    server = Scripted(tmp_path / "s", first, second, third)
    with server as client:
        events = list(client.events("2"))
    assert [event.event for event in events] == ["user", "qr", "new", "deleted"]
    assert events[0].user.port == 5002
    assert events[1].qr.qr == "a,b,c,d,1"
    assert events[2].raw == {"x": 1}
    assert "Accept: text/event-stream" in server.requests[0]
    assert server.requests[0][0] == "GET /v1/users/2/events HTTP/1.1"
    assert [line for lines in server.requests for line in lines if line.startswith("Last-Event")] == [
        "Last-Event-ID: e-2"
    ] * 2


def test_a_stream_that_never_was_is_an_error(tmp_path):
    with pytest.raises(WaportdUnavailable):
        next(Client(tmp_path / "none").events())

    def unknown(connection, read):
        read()
        connection.sendall(answer({"code": "unknown_user", "detail": "d"}, "404 Not Found"))

    with Scripted(tmp_path / "s", unknown) as client, pytest.raises(UnknownUser):
        next(client.events("2"))


def test_a_stream_that_does_not_come_back_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(library, "RECONNECT_S", 0.1)

    def once(connection, read):
        read()
        connection.sendall(stream("retry: 10\n\n", 'event: user\ndata: {"user": "2"}\n\n'))

    with Scripted(tmp_path / "s", once) as client:
        events = client.events()
        assert next(events).user.user == "2"
        (tmp_path / "s").unlink()
        with pytest.raises(WaportdUnavailable) as error:
            next(events)
    assert error.value.reason == "no_socket"


def test_a_log_is_followed_over_a_restart(tmp_path):
    def line(number, text):
        document = {"time": "2026-01-01T00:00:00.000Z", "priority": 4, "source": "systemd", "message": text}
        return f"event: log\nid: {number}\ndata: {json.dumps(document)}\n\n"

    def first(connection, read):
        read()
        connection.sendall(stream("retry: 10\n\n", line(1, "old"), line(2, "new")))

    def second(connection, read):
        read()
        connection.sendall(stream(line(3, "newer")))

    server = Scripted(tmp_path / "s", first, second)
    with server as client:
        lines = client.follow_logs("2", lines=5)
        told = [next(lines) for _ in range(3)]
        lines.close()
    assert [line.message for line in told] == ["old", "new", "newer"]
    assert (told[0].priority, told[0].source, told[0].time.year) == (4, "systemd", 2026)
    assert [lines[0].split()[1] for lines in server.requests] == ["/v1/users/2/logs?lines=5&follow=true"] * 2
    assert "Last-Event-ID: 2" in server.requests[1]


# One file for any Python


def test_the_one_file_works_alone(tmp_path):
    shutil.copy(SOURCE, tmp_path / "whatsapp_client.py")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules); import whatsapp_client; "
        "foreign = {name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names; "
        "print(foreign)"
    )
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", program, tmp_path]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout == "{'whatsapp_client'}\n"
    )


def test_the_package_imports_none_of_the_daemon_with_it():
    program = (
        "import sys, waportd.client; "
        "print(sorted(name for name in sys.modules if name.startswith(('waportd', 'aiohttp', 'asyncio', 'gi'))))"
    )
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "['waportd', 'waportd.client']\n"


def test_it_is_python_3_9():
    ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 9))

"""``web``: the listener lets one browser in and nobody else, and passes everything on."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import urllib.parse

import pytest
from support import BASE, until

from waportd.cli.exit_status import Exit
from waportd.cli.loopback import Proxy, own_uids, peer_uid


@contextlib.contextmanager
def serving(path, uids):
    proxy = Proxy(str(path), 0, uids)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join(10)
        proxy.server_close()


@pytest.fixture
def proxy(api, socket_path):
    with serving(socket_path, {os.getuid()}) as proxy:
        yield proxy


@contextlib.contextmanager
def calling(port, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        yield connection.getresponse()
    finally:
        connection.close()


def call(proxy, method, path, body=None, **headers):
    with calling(proxy.port, method, path, body, **headers) as answer:
        return answer.status, answer.headers, answer.read()


def let_in(proxy):
    """Open the link as a browser does; return the cookie."""
    link = urllib.parse.urlsplit(proxy.link)
    status, headers, _ = call(proxy, "GET", f"{link.path}?{link.query}")
    assert status == 303
    assert headers["Location"] == "/"
    assert headers["Set-Cookie"].endswith("; Path=/; HttpOnly; SameSite=Strict")
    return headers["Set-Cookie"].partition(";")[0]


async def test_the_link_lets_one_browser_in_once(proxy):
    link = urllib.parse.urlsplit(proxy.link)
    cookie = await asyncio.to_thread(let_in, proxy)
    status, _, body = await asyncio.to_thread(call, proxy, "GET", f"{link.path}?{link.query}")
    assert status == 403
    assert b"already used" in body
    status, _, body = await asyncio.to_thread(call, proxy, "GET", "/v1/users", Cookie=cookie)
    assert (status, json.loads(body)) == (200, {"users": []})


@pytest.mark.parametrize("path", ["/v1/users", "/", "/waportctl", "/waportctl?key=", "/waportctl?key=guess"])
async def test_nobody_gets_in_without(proxy, path):
    status, _, _ = await asyncio.to_thread(call, proxy, "GET", path)
    assert status == 403
    await asyncio.to_thread(let_in, proxy)  # a wrong guess does not use the link up


async def test_a_wrong_cookie_is_none(proxy):
    cookie = await asyncio.to_thread(let_in, proxy)
    name, _, key = cookie.partition("=")
    for wrong in (f"{name}=guess", f"waportctl={key}", f"{name}={key[:-1]}", "=", f"{name}"):
        assert (await asyncio.to_thread(call, proxy, "GET", "/v1/users", Cookie=wrong))[0] == 403
    assert (await asyncio.to_thread(call, proxy, "GET", "/v1/users", Cookie=f"a=b; {cookie}"))[0] == 200


async def test_pages_and_names_of_others_are_refused(proxy):
    cookie = await asyncio.to_thread(let_in, proxy)

    def status(**headers):
        return call(proxy, "GET", "/v1/users", Cookie=cookie, **headers)[0]

    def statuses():
        return [
            status(Host="evil.example"),
            status(Host=f"evil.example:{proxy.port}"),
            status(Origin="https://evil.example"),
            status(Origin="null"),
            status(Origin=f"http://127.0.0.1:{proxy.port + 1}"),
            status(Origin=f"http://127.0.0.1:{proxy.port}"),
            status(Host=f"localhost:{proxy.port}", Origin=f"http://localhost:{proxy.port}"),
        ]

    assert await asyncio.to_thread(statuses) == [421, 421, 403, 403, 403, 200, 200]


async def test_all_methods_bodies_and_errors_pass(proxy):
    cookie = await asyncio.to_thread(let_in, proxy)

    def use():
        made = call(proxy, "PUT", "/v1/users/1?wait=none", b'{"autostart": false}', Cookie=cookie)
        unknown = call(proxy, "POST", "/v1/users/9/stop", Cookie=cookie)
        gone = call(proxy, "DELETE", "/v1/users/1", Cookie=cookie)
        known = call(proxy, "GET", "/v1/users/1/qr", Cookie=cookie)[1]["ETag"]
        same = call(proxy, "GET", "/v1/users/1/qr", Cookie=cookie, If_None_Match=known)
        return made, unknown, gone, same

    made, unknown, gone, same = await asyncio.to_thread(use)
    assert made[0] == 201
    assert json.loads(made[2])["autostart"] is False
    assert unknown[0] == 404
    assert unknown[1]["Content-Type"].startswith("application/problem+json")
    assert (gone[0], gone[2]) == (204, b"")
    assert same[0] in {200, 304}


async def test_events_pass_as_they_come(proxy, supervisor, systemd):
    cookie = await asyncio.to_thread(let_in, proxy)
    await supervisor.ensure("1")
    with contextlib.ExitStack() as stack:

        def begin():
            return stack.enter_context(calling(proxy.port, "GET", "/v1/users/1/events", Cookie=cookie))

        answer = await asyncio.to_thread(begin)
        assert answer.headers["Content-Type"].startswith("text/event-stream")

        def until_line(part):
            while part not in (line := answer.readline()):
                assert line
            return line

        await asyncio.to_thread(until_line, b"event: user")
        code = systemd.servers[BASE].show_code()
        await until(supervisor, "1", lambda now: now.live_qr(0))
        await asyncio.to_thread(until_line, code.encode())


async def test_a_body_that_is_too_long_never_reaches_the_daemon(proxy):
    cookie = await asyncio.to_thread(let_in, proxy)
    status, _, _ = await asyncio.to_thread(call, proxy, "PUT", "/v1/users/1", b"x" * 70_000, Cookie=cookie)
    assert status == 413


def test_a_daemon_that_went_is_reported(tmp_path):
    with serving(tmp_path / "none", {os.getuid()}) as proxy:
        status, _, body = call(proxy, "GET", "/", Cookie=let_in(proxy))
    assert status == 503
    assert b"systemctl status waportd" in body


def test_another_user_of_the_machine_is_not_heard(tmp_path):
    with serving(tmp_path / "none", {os.getuid() + 1}) as proxy, pytest.raises(ConnectionError):
        call(proxy, "GET", "/")


def test_who_calls_is_known_by_the_connection(tmp_path):
    with serving(tmp_path / "none", set()) as proxy:
        assert peer_uid(1, proxy.port) is None


def test_who_became_root_with_sudo_may_call(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert own_uids() == {0}
    monkeypatch.setenv("SUDO_UID", "1000")
    assert own_uids() == {0, 1000}
    monkeypatch.setattr(os, "getuid", lambda: 1001)
    assert own_uids() == {1001}


async def test_the_program_prints_the_link_and_ends_with_ctrl_c(api, terminal):
    screen = await terminal("web", "--no-browser", columns=200)
    await screen.until("ends with Ctrl-C")
    assert "http://127.0.0.1:" in screen.text
    screen.interrupt()
    assert await screen.end() == Exit.OK


@pytest.mark.parametrize(("linked", "page"), [(False, "/connect?user=1"), (True, "/#1")])
async def test_a_users_page_is_opened(api, terminal, supervisor, systemd, linked, page):
    await supervisor.ensure("1")
    if linked:
        systemd.servers[BASE].link()
        await until(supervisor, "1", lambda now: now.assignment.linked)
    screen = await terminal("open", "1", "--no-browser", columns=200)
    await screen.until("ends with Ctrl-C")
    [(port, link)] = re.findall(r"http://127\.0\.0\.1:(\d+)(/\S+)", screen.text)

    def location():
        with calling(int(port), "GET", link) as answer:
            return answer.status, answer.headers["Location"]

    assert await asyncio.to_thread(location) == (303, page)
    screen.interrupt()
    assert await screen.end() == Exit.OK


async def test_the_page_of_a_user_that_is_not_there_is_not_opened(api, ctl, supervisor):
    assert (await ctl("open", "1", "--no-browser")).status == Exit.UNKNOWN_USER
    assert supervisor.registry.get("1") is None


async def test_it_ends_with_the_one_who_started_it_by_ssh(api, socket_path):
    """Without a terminal there is no Ctrl-C: the pipe at its input closes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "waportd.cli", "--socket", socket_path, "web", "--no-browser"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert (await process.stdout.readline()).startswith(b"http://127.0.0.1:")
    process.stdin.close()
    async with asyncio.timeout(30):
        assert await process.wait() == Exit.OK


async def test_a_port_that_is_taken_is_reported(proxy, ctl):
    said = await ctl("web", "--no-browser", "--listen", proxy.port)
    assert said.status == Exit.FAILED
    assert f"port {proxy.port}" in said.err
    assert "--listen" in said.err


TRIES = """
import http.client, json, socket, sys
port, target, cookie = int(sys.argv[1]), *sys.argv[2:]
def outcome(attempt):
    try:
        return repr(attempt())
    except TimeoutError:
        return "open"
    except (ConnectionError, http.client.HTTPException):
        return "refused"
def silent():
    with socket.create_connection(("127.0.0.1", port), 3) as one:
        if not one.recv(1):
            raise ConnectionResetError
def asked(path, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers)
    return connection.getresponse().status
print(json.dumps([
    outcome(silent), outcome(lambda: asked("/", {})), outcome(lambda: asked(target, {})),
    outcome(lambda: asked("/v1/users", {"Cookie": cookie})),
]))
"""
"""Says nothing, asks, opens the link, and shows a stolen cookie."""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize(("who", "whose"), [(65534, 0), (0, 65534)], ids=["stranger", "root"])
def test_another_user_is_really_not_heard(tmp_path, who, whose):
    """Before a byte is read, with the link and with the cookie of somebody who was let in; not even root."""
    with serving(tmp_path / "none", {os.getuid()}) as proxy:
        cookie = let_in(proxy)
        proxy.once = "a-link-of-its-own"
        link = urllib.parse.urlsplit(proxy.link)

        def tried(uid):
            shown = (str(proxy.port), f"{link.path}?{link.query}", cookie)
            program = [sys.executable, "-I", "-c", TRIES, *shown]
            return json.loads(subprocess.run(program, user=uid, capture_output=True, check=True).stdout)

        proxy.uids = {whose}
        assert tried(who) == ["refused"] * 4
        assert proxy.once, "the link was used up"
        # That the attempts are good ones: who may, gets in.
        proxy.uids = {who}
        assert tried(who) == ["open", "403", "303", "503"]

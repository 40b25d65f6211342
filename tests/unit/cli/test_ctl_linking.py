"""``qr``: a code in a pipe, and live on a terminal."""

import json

import pytest
from support import BASE, until

from waportd.cli.exits import Exit
from waportd.drawing import Format, draw
from waportd.model import Port, User

PORT = Port(BASE)


@pytest.fixture
def codes(systemd):
    """Servers that show a code as soon as they are asked for one."""

    def prepare(server):
        server.on_ask = server.show_code

    systemd.prepare = prepare


async def test_in_a_pipe_the_code_comes_once_and_alone(api, ctl, codes, systemd):
    said = await ctl("qr", "1")
    assert said.status == Exit.OK
    assert said.out == f"{systemd.servers[PORT].picture['qr']}\n"
    assert said.err == ""
    document = json.loads((await ctl("qr", "1", "--json")).out)
    assert (document["status"], document["attempt"]) == ("qr", 1)


async def test_a_linked_phone_needs_no_code(api, ctl, supervisor, systemd):
    await supervisor.ensure(User("1"))
    systemd.servers[PORT].link()
    await until(supervisor, "1", lambda now: now.session and now.session.state == "ready")
    said = await ctl("qr", "1")
    assert said.status == Exit.OK
    assert said.out == ""
    assert said.err.startswith("user 1: ")


async def test_a_code_that_does_not_come_is_not_in_time(api, ctl):
    assert (await ctl("qr", "1", "--timeout", "0.2")).status == Exit.NOT_IN_TIME


async def test_a_session_that_gave_up_says_what_to_do(api, ctl, supervisor, systemd):
    await supervisor.ensure(User("1"))
    systemd.servers[PORT].say("passkey_required", message="WhatsApp wants a passkey", hint="remove it")
    await until(supervisor, "1", lambda now: now.session and now.session.state == "passkey_required")
    said = await ctl("qr", "1")
    assert said.status == Exit.FAILED
    assert said.err == "user 1: WhatsApp wants a passkey\nremove it\n"


async def test_on_a_terminal_the_code_is_drawn_until_a_phone_is_linked(api, terminal, codes, systemd):
    screen = await terminal("qr", "1")
    await screen.until("code 1 of 5")
    await screen.until("Linked devices")
    server = systemd.servers[PORT]
    first = draw(server.picture["qr"], Format.TXT).decode().splitlines()
    assert all(line in screen.text for line in first)
    assert server.picture["qr"] not in screen.text
    await screen.until("58 s left")  # the time runs down by itself
    second = draw(server.show_code(), Format.TXT).decode().splitlines()
    await screen.until("code 2 of 5")
    await screen.until(second[12])
    server.link()
    assert await screen.end() == Exit.OK
    # The code was on a screen of its own, which is gone.
    assert screen.seen.count("\x1b[?1049h") == screen.seen.count("\x1b[?1049l") == 1


async def test_an_error_is_shown_with_its_way_out_until_it_is_mended(api, terminal, supervisor, systemd):
    await supervisor.ensure(User("1"))
    server = systemd.servers[PORT]
    server.say(
        "error", cause="browser_missing", message="no browser is installed", hint="apt install chromium"
    )
    screen = await terminal("qr", "1")
    await screen.until("no browser is installed")
    await screen.until("apt install chromium")
    server.show_code()
    await screen.until("code 1 of 5")


async def test_a_small_terminal_is_told_the_size_that_is_needed(api, terminal, codes):
    screen = await terminal("qr", "1", columns=40, lines=10)
    await screen.until("needs a terminal of")
    assert "█" not in screen.text
    screen.interrupt()
    assert await screen.end() == Exit.INTERRUPTED


async def test_a_terminal_that_is_given_a_time_ends_in_it(api, terminal):
    screen = await terminal("qr", "1", "--timeout", "0.5")
    assert await screen.end() == Exit.NOT_IN_TIME


async def test_a_pairing_code_comes_alone_in_a_pipe_and_explained_on_a_terminal(api, ctl, terminal):
    said = await ctl("pair", "1", "+55 11 99999-8888")
    assert (said.status, said.out, said.err) == (Exit.OK, "CODE-8888\n", "")
    assert json.loads((await ctl("--json", "pair", "1", "5511999998888")).out)["code"] == "CODE-8888"
    screen = await terminal("pair", "1", "5511999998888")
    assert await screen.end() == Exit.OK
    assert "CODE-8888" in screen.text
    assert "Link with phone number" in screen.text
    wrong = await ctl("pair", "1", "12")
    assert wrong.status == Exit.FAILED
    assert "country code" in wrong.err


async def test_a_connect_link_comes_alone(api, ctl):
    said = await ctl("connect-link", "2", "--ttl", "60")
    assert said.status == Exit.OK
    assert said.out.startswith("/connect?user=2&")
    assert said.out.count("\n") == 1
    assert "the address of your web app" in said.err
    assert set(json.loads((await ctl("connect-link", "2", "--json")).out)) == {"url", "path", "expires_at"}

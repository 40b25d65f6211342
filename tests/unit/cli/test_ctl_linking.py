"""``qr``: a code in a pipe, and live on a terminal."""

import asyncio
import datetime as dt
import json
import re
from types import SimpleNamespace

import pytest
from support import BASE, until

from waportd.cli import linking
from waportd.cli.exit_status import Exit
from waportd.client import QR, ConnectLink, Passkey
from waportd.model import Port, User
from waportd.qr_image import Format, draw

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
    assert said.out == f"{systemd.servers[PORT].document['qr']}\n"
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
    systemd.servers[PORT].say("logged_out", message="logged out on the phone", hint="ask for a code")
    await until(supervisor, "1", lambda now: now.session and now.session.state == "logged_out")
    said = await ctl("qr", "1")
    assert said.status == Exit.FAILED
    assert said.err == "user 1: logged out on the phone\nask for a code\n"


@pytest.fixture
async def asking(api, supervisor, systemd):
    """User 1's server, of which WhatsApp wants a passkey."""
    await supervisor.ensure(User("1"))
    server = systemd.servers[PORT]
    server.ask_for_passkey()
    await until(supervisor, "1", lambda now: now.session and now.session.passkey)
    return server


async def test_in_a_pipe_the_step_with_the_passkey_is_waited_for(asking, ctl, followed):
    run = asyncio.create_task(ctl("qr", "1"))
    await asyncio.wait_for(followed.wait(), 30)
    asking.ask_for_passkey("code")
    asking.link()
    said = await run
    assert (said.status, said.out) == (Exit.OK, "")
    assert "WhatsApp wants the passkey of this account" in said.err


async def test_in_a_pipe_it_is_said_what_is_asked_and_nothing_secret(asking, ctl):
    said = await ctl("qr", "1", "--timeout", "0.2")
    assert (said.status, said.out) == (Exit.NOT_IN_TIME, "")
    assert "WhatsApp wants the passkey of this account, within 9 minutes" in said.err
    assert "`waportctl connect-link 1`" in said.err
    assert "waportctl passkey 1" in said.err
    # What is no terminal may be a log.
    assert "/connect?" not in said.err
    assert asking.document["passkey"]["options"]["challenge"] not in said.err


async def test_who_is_shown_has_the_ways_to_give_it(asking, ctl):
    shown = (await ctl("show", "1")).out
    assert "`waportctl connect-link 1`" in shown
    assert "`waportctl passkey 1`" in shown
    assert "POST /v1" not in shown


async def test_json_has_the_step_with_the_passkey(asking, ctl):
    said = await ctl("qr", "1", "--timeout", "0.2", "--json")
    assert (said.status, said.err) == (Exit.NOT_IN_TIME, "")
    document = json.loads(said.out)
    assert (document["status"], document["qr"]) == ("passkey_required", None)
    assert document["passkey"]["stage"] == "asked"
    assert document["passkey"]["options"] == asking.document["passkey"]["options"]


async def test_on_a_terminal_each_step_with_the_passkey_is_told(api, terminal, codes, systemd):
    screen = await terminal("qr", "1", columns=200)
    await screen.until("code 1 of 5")
    server = systemd.servers[PORT]
    server.ask_for_passkey()
    await screen.until("one more step: WhatsApp wants the passkey")
    await screen.until("waportctl passkey 1")
    [link] = re.findall(r"(?m)^/connect\?user=1&\S+$", screen.text)
    assert server.document["passkey"]["options"]["challenge"] not in screen.text
    server.say("pairing", passkey={**server.ask_for_passkey("given")}, message="waiting for the phone")
    await screen.until("user 1: waiting for the phone")
    server.ask_for_passkey("code")
    await screen.until("WhatsApp shows ABCD-EFGH")
    server.ask_for_passkey()
    await screen.until(link, times=2)
    server.link()
    assert await screen.end() == Exit.OK


def test_who_is_asked_again_gets_a_link_that_holds_long_enough():
    """WhatsApp asks three times, of ten minutes each."""
    now = dt.datetime.now(dt.UTC)
    made = [
        ConnectLink(url=f"https://wa.example.com/{name}", expires_at=now + dt.timedelta(seconds=left))
        for name, left in (("first", 300), ("second", 900))
    ]
    asked = [
        QR(status="passkey_required", passkey=Passkey(stage="asked", options={"challenge": str(number)}))
        for number in range(3)
    ]
    told = []
    context = SimpleNamespace(
        client=SimpleNamespace(connect_link=lambda *_: made.pop(0)),
        screen=SimpleNamespace(text=told.append),
    )
    following = [*asked[1:], QR(status="ready")]
    follower = SimpleNamespace(shown=asked[0], has_time=True, next=lambda _: following.pop(0))
    linking.accompany(context, "1", follower)
    assert re.findall(r"https://wa\S+/(\w+)", " ".join(told)) == ["first", "second", "second"]


async def test_a_link_is_whole_on_a_narrow_terminal(asking, terminal):
    screen = await terminal("qr", "1", columns=60)
    await screen.until("waportctl passkey 1")
    assert re.search(r"(?m)^/connect\?user=1&expires=\d+&signature=[\w-]{40,}$", screen.text)
    assert max(len(line) for line in screen.text.splitlines() if " " in line) <= 60
    asking.link()
    assert await screen.end() == Exit.OK


async def test_a_passkey_that_cannot_be_given_is_told_with_its_way_out(asking, terminal):
    asking.say("passkey_required", cause="passkey_button_missing", message="no button", hint="see the log")
    screen = await terminal("qr", "1")
    await screen.until("user 1: no button\nsee the log")
    asking.show_code()
    await screen.until("code 1 of 5")


async def test_on_a_terminal_the_code_is_drawn_until_a_phone_is_linked(api, terminal, codes, systemd):
    screen = await terminal("qr", "1")
    await screen.until("code 1 of 5")
    await screen.until("Linked devices")
    server = systemd.servers[PORT]
    first = draw(server.document["qr"], Format.TXT).decode().splitlines()
    assert all(line in screen.text for line in first)
    assert server.document["qr"] not in screen.text
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


async def test_a_pairing_code_comes_alone_in_a_pipe(api, ctl):
    said = await ctl("pair", "1", "+55 11 99999-8888")
    assert (said.status, said.out, said.err) == (Exit.OK, "CODE-8888\n", "")
    assert json.loads((await ctl("--json", "pair", "1", "5511999998888")).out)["code"] == "CODE-8888"
    wrong = await ctl("pair", "1", "12")
    assert wrong.status == Exit.FAILED
    assert "country code" in wrong.err


@pytest.fixture
async def pairing(api, terminal, systemd):
    """A terminal that shows a pairing code."""
    screen = await terminal("pair", "1", "5511999998888", columns=200)
    await screen.until("CODE-8888")
    await screen.until("Link with phone number")
    return screen


async def test_on_a_terminal_a_pairing_code_is_followed_through_the_passkey_until_a_phone_is_linked(
    pairing, systemd
):
    server = systemd.servers[PORT]
    server.ask_for_passkey()
    await pairing.until("one more step: WhatsApp wants the passkey")
    server.link()
    assert await pairing.end() == Exit.OK


async def test_on_a_terminal_a_pairing_code_that_nobody_types_is_told(pairing, systemd):
    systemd.servers[PORT].say("qr_timeout", message="the pairing code was not used", hint="ask for a new one")
    assert await pairing.end() == Exit.FAILED
    assert "the pairing code was not used\nask for a new one" in pairing.text


async def test_on_a_terminal_a_pairing_code_ends_where_codes_to_scan_are_shown_again(pairing, systemd):
    await pairing.until("waiting for the pairing code to be typed")
    systemd.servers[PORT].show_code()
    assert await pairing.end() == Exit.FAILED
    assert "codes to scan are shown again" in pairing.text


async def test_a_pairing_code_is_followed_for_the_time_that_is_given(api, terminal):
    screen = await terminal("pair", "1", "5511999998888", "--timeout", "0.5")
    assert await screen.end() == Exit.NOT_IN_TIME
    assert "CODE-8888" in screen.text


async def test_a_connect_link_comes_alone(api, ctl):
    said = await ctl("connect-link", "2", "--ttl", "60")
    assert said.status == Exit.OK
    assert said.out.startswith("/connect?user=2&")
    assert said.out.count("\n") == 1
    assert "or set api.public_url" in said.err
    assert set(json.loads((await ctl("connect-link", "2", "--json")).out)) == {"url", "path", "expires_at"}

"""``qr``: a code in a pipe, and live on a terminal."""

import asyncio
import datetime as dt
import json
import re
import sys
import time
import urllib.parse
from types import SimpleNamespace

import pytest
from code_texts import real_code, rendered
from fakes import iso
from support import BASE, rendered_svg, scanned, until

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


async def test_a_session_that_gave_up_says_what_to_do(api, ctl, supervisor, systemd, monkeypatch):
    monkeypatch.setattr(linking, "BEGINS_S", 0.2)
    await supervisor.ensure(User("1"))
    systemd.servers[PORT].say("logged_out", message="logged out on the phone", hint="ask for a code")
    await until(supervisor, "1", lambda now: now.session and now.session.state == "logged_out")
    said = await ctl("qr", "1")
    assert said.status == Exit.FAILED
    assert said.err == "user 1: logged out on the phone\nask for a code\n"


@pytest.fixture
async def used_up(api, supervisor, systemd):
    """User 1's server, whose codes ran out."""
    await supervisor.ensure(User("1"))
    server = systemd.servers[PORT]
    hint = "ask again: start the user again, or reload the page after a minute"
    server.say("qr_timeout", message="codes shown: 5; none was scanned", hint=hint)
    await until(supervisor, "1", lambda now: now.session and now.session.state == "qr_timeout")
    return server


async def test_codes_that_ran_out_are_asked_for_again(used_up, ctl):
    used_up.on_ask = used_up.show_code
    said = await ctl("qr", "1")
    assert (said.status, said.err) == (Exit.OK, "")
    assert said.out == f"{used_up.document['qr']}\n"


async def test_codes_that_ran_out_are_asked_for_again_on_a_terminal(used_up, terminal):
    used_up.on_ask = used_up.show_code
    screen = await terminal("qr", "1")
    await screen.until("code 1 of 5")
    used_up.say("qr_timeout", message="codes shown: 5; none was scanned", hint="reload the page")
    assert await screen.end() == Exit.FAILED
    assert "codes shown: 5; none was scanned\n`waportctl qr 1` asks for new codes" in screen.text


async def test_a_pairing_code_after_codes_that_ran_out_is_followed(used_up, terminal):
    screen = await terminal("pair", "1", "+55 11 99999-8888")
    await screen.until("waiting for the pairing code to be typed")
    used_up.link()
    assert await screen.end() == Exit.OK


async def test_codes_that_do_not_begin_again_are_reported_without_a_page(used_up, ctl, monkeypatch):
    monkeypatch.setattr(linking, "BEGINS_S", 0.2)
    said = await ctl("qr", "1")
    assert (said.status, said.out) == (Exit.FAILED, "")
    assert said.err == "user 1: codes shown: 5; none was scanned\n`waportctl qr 1` asks for new codes\n"
    assert "the page" not in (await ctl("show", "1")).out


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


async def test_on_a_terminal_each_step_with_the_passkey_is_reported(api, terminal, codes, systemd):
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


async def test_a_passkey_that_cannot_be_given_is_reported_with_its_way_out(asking, terminal):
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
    await screen.until(re.compile(r"\d+ s left"), times=2)  # the time runs down automatically
    second = draw(server.show_code(), Format.TXT).decode().splitlines()
    await screen.until("code 2 of 5")
    await screen.until(second[12])
    server.link()
    assert await screen.end() == Exit.OK
    # The code was on a screen of its own, which is gone.
    assert screen.seen.count("\x1b[?1049h") == screen.seen.count("\x1b[?1049l") == 1


async def test_an_error_is_shown_with_its_way_out_until_it_is_fixed(api, terminal, supervisor, systemd):
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


async def test_on_a_small_terminal_the_size_that_is_needed_is_named(api, terminal, codes):
    screen = await terminal("qr", "1", columns=40, lines=10)
    await screen.until("needs a terminal of")
    assert "█" not in screen.text
    screen.interrupt()
    assert await screen.end() == Exit.INTERRUPTED


@pytest.mark.parametrize(
    ("columns", "lines", "layout"), [(80, 24, "sextants"), (80, 30, "halves"), (70, 36, "halves")]
)
async def test_a_real_code_is_read_off_a_terminal(api, terminal, systemd, columns, lines, layout):
    code = real_code(237)
    systemd.prepare = lambda server: setattr(server, "on_ask", lambda: show(server, code))
    screen = await terminal("qr", "1", columns=columns, lines=lines)
    await screen.until("s left", times=3)
    shown = frame(screen)
    assert len(shown) <= lines
    assert max(map(len, shown)) <= columns
    assert scanned(rendered("\n".join(shown)), "pgm") == code
    assert (layout == "sextants") == any("\U0001fb00" <= char <= "\U0001fb3b" for char in screen.text)
    assert ("--png FILE" in " ".join(shown)) == (layout == "sextants")


async def test_a_terminal_without_the_characters_is_shown_the_ways_out(api, terminal, systemd):
    systemd.prepare = lambda server: setattr(server, "on_ask", lambda: show(server, real_code(237)))
    screen = await terminal("qr", "1", columns=80, lines=24, TERM="linux")
    await screen.until("needs a terminal of 59 columns and 32 lines; this one has 80 and 24")
    await screen.until("waportctl qr 1 --png FILE")
    await screen.until("waportctl connect-link 1")


def show(server, code):
    server.say("qr", qr=code, expires_at=iso(time.time() + 60), attempt=1, message="scan the code")


def frame(screen):
    """Return the lines of the last frame that is complete."""
    lines = re.sub(r"\x1b\[[0-9;?]*[A-GI-Za-z]", "", screen.seen.replace("\r", "")).split("\x1b[H")[-2]
    return lines.split("\n")


@pytest.mark.parametrize(("name", "kind"), [("code.png", "png"), ("code.SVG", "svg")])
async def test_a_code_is_written_as_a_picture_that_nobody_else_reads(
    api, ctl, codes, systemd, tmp_path, name, kind
):
    file = tmp_path / name
    file.write_text("of before")
    file.chmod(0o644)
    said = await ctl("qr", "1", "--png", file)
    assert (said.status, said.out) == (Exit.OK, "")
    assert re.match(
        rf"user 1: code 1 of 5 is in {file}, valid until \d{{4}}-\S+ [\d:]+[+-]\d\d:\d\d\. On", said.err
    )
    assert file.stat().st_mode & 0o777 == 0o600
    drawn = file.read_bytes()
    picture = rendered_svg(drawn) if kind == "svg" else drawn
    assert scanned(picture, "png") == systemd.servers[PORT].document["qr"]
    assert [path.name for path in tmp_path.glob("*code*")] == [name]


async def test_a_picture_on_a_terminal_follows_the_codes_and_goes_with_the_last(
    api, terminal, codes, systemd, tmp_path
):
    file = tmp_path / "code.png"
    screen = await terminal("qr", "1", "--png", file, columns=200)
    await screen.until("code 1 of 5 is in ")
    server = systemd.servers[PORT]
    assert scanned(file.read_bytes(), "png") == server.document["qr"]
    second = server.show_code()
    await screen.until("code 2 of 5 is in ")
    assert scanned(file.read_bytes(), "png") == second
    server.link()
    assert await screen.end() == Exit.OK
    assert not file.exists()
    assert "█" not in screen.text


async def test_a_picture_that_is_not_a_code_s_stays(api, terminal, supervisor, systemd, tmp_path):
    await supervisor.ensure(User("1"))
    systemd.servers[PORT].link()
    await until(supervisor, "1", lambda now: now.session and now.session.state == "ready")
    file = tmp_path / "photo.png"
    file.write_text("a photo")
    screen = await terminal("qr", "1", "--png", file)
    assert await screen.end() == Exit.OK
    assert file.read_text() == "a photo"


async def test_a_picture_goes_to_another_program(api, socket_path, codes, systemd):
    command = (sys.executable, "-m", "waportd.cli", "--socket", socket_path, "qr", "1", "--png", "-")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    drawn, told = await process.communicate()
    assert process.returncode == Exit.OK
    assert scanned(drawn, "png") == systemd.servers[PORT].document["qr"]
    assert told.startswith(b"user 1: code 1 of 5 is on standard output, valid until ")


async def test_a_picture_goes_where_it_can(api, ctl, codes, tmp_path):
    for wrong in ("code.jpg", "code"):
        with pytest.raises(SystemExit, match="2"):
            await ctl("qr", "1", "--png", wrong)
    said = await ctl("qr", "1", "--png", tmp_path / "missing/code.png")
    assert said.status == Exit.FAILED
    assert "missing/code.png cannot be written: No such file or directory" in said.err
    assert (await ctl("qr", "1", "--json", "--png", "-")).status == Exit.USAGE


async def test_a_terminal_that_is_given_a_time_ends_in_it(api, terminal):
    screen = await terminal("qr", "1", "--timeout", "0.5")
    assert await screen.end() == Exit.NOT_IN_TIME


async def test_a_pairing_code_comes_alone_in_a_pipe(api, ctl):
    said = await ctl("pair", "1", "+55 11 99999-8888")
    assert (said.status, said.out, said.err) == (Exit.OK, "CODE-8888\n", "")
    assert json.loads((await ctl("--json", "pair", "1", "5511999998888")).out)["code"] == "CODE-8888"
    wrong = await ctl("pair", "1", "+12")
    assert wrong.status == Exit.FAILED
    assert "country code" in wrong.err


@pytest.mark.parametrize(
    ("number", "told", "way_out"),
    [
        ("11999998888", "in Brazil it would be +55 11 99999-8888", "waportctl pair 1 '+55 11 99999-8888'"),
        ("(11) 3333-8888", "in Brazil it would be +55 11 3333-8888", "waportctl pair 1 '+55 11 3333-8888'"),
        ("011 99999-8888", "in Brazil it would be +55 11 99999-8888", "waportctl pair 1 '+55 11 99999-8888'"),
        ("0055 11 99999-8888", "it would be +5511999998888", "waportctl pair 1 +5511999998888"),
        ("14155550100", "14155550100 has no country code\n", "waportctl pair 1 '+55 11 99999-8888'"),
    ],
)
async def test_a_number_without_its_country_is_asked_again_and_no_code_is_sent(
    api, ctl, supervisor, number, told, way_out
):
    said = await ctl("pair", "1", number)
    assert (said.status, said.out) == (Exit.USAGE, "")
    assert told in said.err
    assert way_out in said.err
    assert supervisor.registry.get("1") is None


@pytest.fixture
async def pairing(api, terminal, systemd):
    """A terminal that shows a pairing code."""
    screen = await terminal("pair", "1", "5511999998888", columns=200)
    await screen.until("CODE-8888")
    await screen.until("Link with phone number")
    await screen.until("For    +55 11 99999-8888")
    await screen.until("for 3 min 00 s, until ")
    return screen


async def test_on_a_terminal_a_pairing_code_is_followed_through_the_passkey_until_a_phone_is_linked(
    pairing, systemd
):
    server = systemd.servers[PORT]
    server.ask_for_passkey()
    await pairing.until("one more step: WhatsApp wants the passkey")
    server.link()
    assert await pairing.end() == Exit.OK


async def test_on_a_terminal_a_pairing_code_that_nobody_types_is_reported(pairing, systemd):
    systemd.servers[PORT].say("qr_timeout", message="the pairing code was not used", hint="ask for a new one")
    assert await pairing.end() == Exit.FAILED
    assert (
        "the pairing code was not used\n`waportctl pair 1 '+55 11 99999-8888'` asks for another"
        in pairing.text
    )


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


async def test_a_connect_link_leads_back_to_a_web_app_that_the_configuration_names(api, ctl, server):
    server._app["embedders"].allow(["https://app.example.com"])  # noqa: SLF001
    said = await ctl("connect-link", "2", "--return-to", "https://app.example.com/settings")
    assert said.status == Exit.OK
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(said.out.strip()).query)
    assert query["return_to"] == ["https://app.example.com/settings"]
    assert query["return_signature"]

    strange = await ctl("connect-link", "2", "--return-to", "https://evil.example/")
    assert strange.status == Exit.FAILED
    assert strange.out == ""
    assert "https://evil.example is not among the origins of api.frame_ancestors" in strange.err
    assert "add https://evil.example to `api.frame_ancestors`" in strange.err

    for address in ("app.example.com", "javascript:alert(1)", "https://me:secret@app.example.com/", ""):
        wrong = await ctl("connect-link", "2", "--return-to", address)
        assert wrong.status == Exit.FAILED, address
        assert "--return-to" in wrong.err or "return_to" in wrong.err, wrong.err
        assert "an http or https URL" in wrong.err

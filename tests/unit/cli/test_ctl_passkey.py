"""``passkey``: a script for the person's browser, its result, and the letters that two screens show."""

import asyncio
import base64
import json
import os
import re
import sys

import pytest
from aiohttp import web
from support import BASE, until

from waportd.cli.exit_status import Exit
from waportd.cli.passkey import result
from waportd.model import Port, User

PORT = Port(BASE)
CREDENTIAL = {
    "id": "c2VjcmV0LWlk",
    "rawId": "c2VjcmV0LWlk",
    "type": "public-key",
    "response": {
        "clientDataJSON": "secret-client-data",
        "authenticatorData": "secret-authenticator-data",
        "signature": "secret-signature",
        "userHandle": None,
    },
}
JSON = json.dumps(CREDENTIAL, indent=2)
TEXT = base64.urlsafe_b64encode(json.dumps(CREDENTIAL).encode()).decode().rstrip("=")
LINES = "\n".join(re.findall(".{1,64}", TEXT))


@pytest.fixture
async def server(api, supervisor, systemd):
    """User 1's server."""
    await supervisor.ensure(User("1"))
    return systemd.servers[PORT]


@pytest.fixture
def ask(server, supervisor):
    """Have WhatsApp come to a stage of the step; return its document when the daemon has it."""

    async def come(stage="asked", **members):
        passkey = server.ask_for_passkey(stage, **members)
        await until(supervisor, "1", lambda now: now.session and now.session.passkey is not None)
        return passkey

    return come


@pytest.fixture
def fed(ctl, monkeypatch):
    """Run waportctl with a text at standard input, or with nothing and its end still open."""

    async def run(text, *arguments, ends=True):
        ours, theirs = os.pipe()
        os.write(theirs, text.encode())
        if ends:
            os.close(theirs)
        try:
            with os.fdopen(ours) as stdin:
                monkeypatch.setattr(sys, "stdin", stdin)
                return await ctl("passkey", "1", *arguments)
        finally:
            if not ends:
                os.close(theirs)

    return run


def links_when_given(server):
    server.on_passkey = lambda _: asyncio.get_running_loop().call_soon(server.link) and None


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"{TEXT}==\n",
        LINES,
        JSON,
        f"\n '{TEXT}' \n",
        json.dumps(JSON)[1:-1].replace("\\n", "").replace('\\"', '"'),
    ],
)
def test_a_result_is_json_or_base64url_on_any_number_of_lines(text):
    assert result(text) == CREDENTIAL


@pytest.mark.parametrize(
    "text", ["", "{", TEXT[:-5], JSON[:-5], "[1]", "null", "bnVsbA", "hello", "%%%", "[" * 100_000]
)
def test_what_is_no_result_or_not_all_of_it_is_none(text):
    assert result(text) is None


@pytest.mark.parametrize("text", [TEXT, LINES, JSON])
async def test_a_result_in_a_pipe_is_given_and_the_command_ends_when_the_phone_is_linked(
    server, ask, fed, text
):
    await ask()
    links_when_given(server)
    said = await fed(text)
    assert said.status == Exit.OK
    assert server.given == [CREDENTIAL]
    assert said.out.startswith("user 1: ")


async def test_a_result_is_taken_from_a_pipe_that_stays_open(server, ask, fed):
    await ask()
    links_when_given(server)
    assert (await fed(f"{TEXT}\n", ends=False)).status == Exit.OK


async def test_nothing_of_what_is_signed_is_reported(server, ask, fed, caplog):
    asked = await ask()
    server.on_passkey = lambda _: refusal("passkey_wrong_origin")
    said = await fed(TEXT)
    told = said.out + said.err + caplog.text
    assert not re.search(f"secret|{CREDENTIAL['id']}|{TEXT[:40]}", told)
    assert asked["options"]["challenge"] not in told


@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        ("passkey_malformed", "copy everything"),
        ("passkey_wrong_origin", "https://web.whatsapp.com"),
        ("passkey_wrong_challenge", "earlier script"),
        ("passkey_wrong_type", "a new passkey"),
        ("passkey_wrong_site", "https://web.whatsapp.com"),
        ("passkey_not_verified", "fingerprint"),
        ("passkey_not_allowed", "whose phone has scanned"),
    ],
)
async def test_a_refused_result_ends_with_its_code_and_what_helps(server, ask, fed, code, way_out):
    await ask()
    server.on_passkey = lambda _: refusal(code)
    said = await fed(TEXT)
    assert said.status == Exit.FAILED
    assert f"the server says {code}" in said.err
    assert way_out in said.err
    error = json.loads((await fed(TEXT, "--json")).err)["error"]
    assert (error["code"], error["exit_status"]) == (code, Exit.FAILED)


async def test_what_whatsapp_does_not_accept_ends_with_its_reason(server, ask, fed):
    await ask()
    server.on_passkey = lambda _: (
        asyncio.get_running_loop().call_soon(server.ask_for_passkey, "failed") and None
    )
    said = await fed(TEXT, "--json")
    assert said.status == Exit.FAILED
    assert json.loads(said.err)["error"]["code"] == "passkey_failed"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no result of the script"),
        ("hello\n", "not a result of the script"),
        (TEXT[:99], "not a result of the script"),
    ],
)
async def test_without_a_result_a_pipe_learns_how_to_get_one(server, ask, fed, text, what):
    await ask()
    said = await fed(text)
    assert said.status == Exit.USAGE
    assert what in said.err
    assert "--snippet" in said.err
    assert server.given == []


async def test_where_no_passkey_is_wanted_that_is_said(server, ctl, fed):
    server.show_code()
    for options in ([], ["--snippet"], ["--cancel"]):
        said = await fed("", *options, "--json")
        assert said.status == Exit.FAILED
        error = json.loads(said.err)["error"]
        assert error["code"] == "no_passkey_request"
        assert "`waportctl qr USER`" in error["hint"]
    assert (await ctl("passkey", "7")).status == Exit.UNKNOWN_USER


async def test_codes_that_are_shown_again_end_it(server, ask, fed):
    await ask()
    server.on_passkey = lambda _: asyncio.get_running_loop().call_soon(server.show_code) and None
    said = await fed(TEXT)
    assert said.status == Exit.FAILED
    assert "nothing was linked" in said.err


async def test_it_ends_in_the_time_that_it_is_given(server, ask, fed):
    await ask("given")
    assert (await fed("", "--timeout", "0.2")).status == Exit.NOT_IN_TIME


async def test_the_script_has_the_options_of_the_request_and_is_all_that_is_printed(server, ask, ctl):
    asked = await ask()
    said = await ctl("passkey", "1", "--snippet")
    assert (said.status, said.err) == (Exit.OK, "")
    assert json.dumps(asked["options"]) in said.out
    assert "__OPTIONS__" not in said.out
    document = json.loads((await ctl("passkey", "1", "--snippet", "--json")).out)
    assert f"{document['snippet']}\n" == said.out
    assert document["passkey"]["options"] == asked["options"]


async def test_the_script_comes_as_soon_as_whatsapp_has_said_what_it_wants(ask, ctl, followed):
    await ask("opening")
    run = asyncio.create_task(ctl("passkey", "1", "--snippet"))
    await asyncio.wait_for(followed.wait(), 30)
    asked = await ask()
    assert asked["options"]["challenge"] in (await run).out


async def test_what_a_page_has_asked_for_does_nothing_to_a_terminal(server, ask, ctl):
    await ask(options={"challenge": "a\x1b]0;owned\x07\u202e</script>"})
    said = await ctl("passkey", "1", "--snippet")
    assert "\x1b" not in said.out
    assert "\x07" not in said.out
    assert "\u202e" not in said.out


async def test_it_is_stopped(server, ask, ctl):
    await ask()
    said = await ctl("passkey", "1", "--cancel")
    assert said.status == Exit.OK
    assert "stopped" in said.out
    assert server.document["state"] == "qr"


async def test_letters_that_the_phone_shows_are_confirmed(server, ask, fed, ctl):
    await ask("code")
    run = asyncio.create_task(fed("", "--code", "abcd efgh"))
    await called(server, "confirm passkey")
    server.link()
    assert (await run).status == Exit.OK


async def test_letters_that_differ_are_not_confirmed(server, ask, fed):
    await ask("code")
    said = await fed("", "--code", "ABCD-EFGX")
    assert said.status == Exit.FAILED
    assert "ABCD-EFGH" in said.err
    assert "--cancel" in said.err
    assert "confirm passkey" not in server.calls


async def test_a_script_gets_the_letters_and_how_to_continue(server, ask, fed):
    await ask("code")
    said = await fed("")
    assert said.status == Exit.NOT_IN_TIME
    assert "ABCD-EFGH" in said.err
    assert "--code" in said.err
    document = json.loads((await fed("", "--json")).out)
    assert document["passkey"]["code"] == "ABCD-EFGH"
    assert "confirm passkey" not in server.calls


async def test_letters_are_eight(ctl):
    with pytest.raises(SystemExit):
        await ctl("passkey", "1", "--code", "ABCD")


async def test_a_person_pastes_the_result_unseen_and_compares_the_letters(server, ask, terminal):
    asked = await ask()
    screen = await terminal("passkey", "1", columns=200)
    await screen.until("The result:")
    assert json.dumps(asked["options"]) in screen.text
    assert "within 9 minutes" in screen.text
    assert "Never run a script" in screen.text
    screen.type(f"{LINES}\n")
    await called(server, "passkey")
    assert server.given == [CREDENTIAL]
    server.ask_for_passkey("code")
    await screen.until("Does the phone show ABCD-EFGH?")
    screen.type("\n")
    await screen.until("[yes/no] \nDoes the phone show ABCD-EFGH? [yes/no] ")
    screen.type("yes\n")
    await called(server, "confirm passkey")
    server.link()
    assert await screen.end() == Exit.OK
    assert TEXT[:60] not in screen.text


async def test_letters_that_a_person_finds_to_differ_stop_it(server, ask, terminal):
    await ask("code")
    screen = await terminal("passkey", "1")
    await screen.until("ABCD-EFGH?")
    screen.type("no\n")
    assert await screen.end() == Exit.FAILED
    assert "nothing was linked" in screen.text
    assert "cancel passkey" in server.calls
    assert "confirm passkey" not in server.calls


async def test_a_line_longer_than_a_terminal_holds_is_taken_whole(server, ask, terminal):
    await ask()
    long = {**CREDENTIAL, "more": "x" * 5000}
    screen = await terminal("passkey", "1")
    await screen.until("The result:")
    screen.type(f"{base64.urlsafe_b64encode(json.dumps(long).encode()).decode()}\n")
    await called(server, "passkey")
    assert server.given == [long]


async def test_a_person_may_paste_again_what_was_wrong(server, ask, terminal):
    await ask()
    server.on_passkey = lambda _: refusal("passkey_wrong_origin")
    screen = await terminal("passkey", "1", columns=200)
    await screen.until("The result:")
    screen.type("hello\n")
    await screen.until("That is not the result")
    screen.type(f"{TEXT}\n")
    await screen.until("the server says passkey_wrong_origin")
    links_when_given(server)
    screen.type(f"{TEXT}\n")
    assert await screen.end() == Exit.OK


async def test_another_request_has_a_script_of_its_own(server, ask, terminal):
    first = await ask()
    screen = await terminal("passkey", "1", columns=200)
    await screen.until(first["options"]["challenge"])
    server.ask_for_passkey("failed", message="not in time")
    await screen.until("WhatsApp wants a passkey")
    second = await ask()
    await screen.until(second["options"]["challenge"])
    await screen.until("WhatsApp asks again, within 9 minutes")
    assert screen.text.count("Never run a script") == 1


async def test_who_leaves_leaves_the_terminal_as_it_was(server, ask, terminal):
    await ask()
    screen = await terminal("passkey", "1")
    await screen.until("The result:")
    assert not screen.echoes
    screen.interrupt()
    assert await screen.end() == Exit.INTERRUPTED
    assert screen.echoes


def refusal(code):
    return web.json_response({"error": f"the server says {code}", "code": code, "hint": None}, status=400)


async def called(server, what):
    """Wait until the daemon has called the server."""
    async with asyncio.timeout(30):
        while what not in server.calls:
            await asyncio.sleep(0.01)

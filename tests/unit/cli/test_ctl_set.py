"""``set``: the options of users, from the command line."""

import io
import json
import sys

import pytest
from support import BASE

from waportd.cli.exit_status import Exit
from waportd.cli.settings import KEYS
from waportd.model import Options, User

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
async def two(api, supervisor):
    for user in ("1", "2"):
        await supervisor.ensure(User(user))
    return lambda user: supervisor.known(User(user)).assignment


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("webhook_url", "https://app.example.com/hook?a=b", "https://app.example.com/hook?a=b"),
        ("webhook_url", "none", ""),
        ("webhook_secret", "none", ()),
        ("webhook_events", "message,message.sent", ("message", "message.sent")),
        ("ignore", "status", ("status",)),
        ("ignore", "none", ()),
        ("default_country", "55", "55"),
        ("default_country", "none", ""),
        ("send_rate", "20", 20),
        ("send_rate", "none", 0),
        ("memory_max", "512M", 512 << 20),
        ("memory_max", "536870912", 512 << 20),
        ("memory_max", "none", 0),
        ("autostart", "no", False),
        ("autostart", "true", True),
        ("engine", "bundled", "bundled"),
        ("proxy", "http://proxy.example:3128", "http://proxy.example:3128"),
        ("proxy", "none", "none"),
    ],
)
async def test_an_option_is_set_and_goes_back_to_its_default(two, ctl, key, text, value):
    said = await ctl("set", "1", f"{key}={text}")
    assert (said.status, said.err) == (Exit.OK, "")
    assert said.out == f"user 1: set {key} (port {BASE}, whatsapp@{BASE}.service)\n"
    assert getattr(two("1"), key) == value
    assert (await ctl("set", "1", f"{key}=")).out.startswith(f"user 1: default again: {key} (")
    assert getattr(two("1"), key) is (True if key == "autostart" else None)


def test_every_option_can_be_set():
    assert set(KEYS) == set(Options.__annotations__)


async def test_several_options_of_several_users_at_once(two, ctl):
    said = await ctl("set", "1", "2", "99", "memory_max=1G", "engine=", "autostart=no")
    assert said.status == Exit.UNKNOWN_USER
    assert [line.split(" (")[0] for line in said.out.splitlines()] == [
        f"user {user}: set memory_max, autostart; default again: engine" for user in ("1", "2")
    ]
    assert "user 99: no port is assigned" in said.err
    assert [(two(user).memory_max, two(user).autostart) for user in "12"] == [(1 << 30, False)] * 2
    shown = json.loads((await ctl("set", "1", "memory_max=", "--json")).out)
    assert (shown["user"], shown["memory_max"]) == ("1", None)


async def test_all_are_shown_before(two, ctl):
    dry = await ctl("set", "--all", "--dry-run", "memory_max=1G")
    assert dry.out == "This affects 2 users: 1, 2.\n"
    unasked = await ctl("set", "--all", "memory_max=1G")
    assert unasked.status == Exit.USAGE
    assert "Set memory_max of 2 users: 1, 2?" in unasked.err
    assert two("1").memory_max is None
    assert (await ctl("set", "--all", "--yes", "memory_max=1G")).status == Exit.OK
    assert two("2").memory_max == 1 << 30


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("1", "memory=1G"), "did you mean memory_max?"),
        (("1", "2"), "no option is named"),
        (("memory_max=1G",), "name users, or --all"),
        (("1", "autostart=maybe"), "it is whether it starts at boot, yes or no"),
        (("1", "send_rate=many"), "it is messages a minute"),
        (("1", f"webhook_secret={SECRET}"), "webhook_secret=- reads it from standard input"),
        (("1", "proxy=http://a:b@proxy:1"), "proxy=- reads it from standard input"),
        (("1", "proxy=-", "webhook_url=-"), "only one value can be read"),
    ],
)
async def test_a_wrong_option_is_reported_and_nothing_is_set(two, ctl, words, told):
    said = await ctl("set", *words)
    assert said.status == Exit.USAGE
    assert told in said.err
    assert (two("1").proxy, two("1").webhook_secret) == (None, None)


async def test_what_the_api_refuses_is_reported(two, ctl):
    said = await ctl("set", "1", "memory_max=1K")
    assert said.status == Exit.FAILED
    assert "memory_max: must be" in said.err


async def test_a_secret_is_read_from_standard_input(two, ctl, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{SECRET}\n"))
    said = await ctl("set", "1", "webhook_secret=-")
    assert said.status == Exit.OK
    assert two("1").webhook_secret == (SECRET,)
    assert SECRET not in said.out + said.err
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert (await ctl("set", "1", "webhook_secret=-")).status == Exit.USAGE


async def test_a_terminal_does_not_show_a_secret(two, terminal):
    screen = await terminal("set", "1", "webhook_secret=-")
    await screen.until("webhook_secret: ")
    screen.type(f"{SECRET}\n")
    assert await screen.end() == Exit.OK
    assert SECRET not in screen.text
    assert two("1").webhook_secret == (SECRET,)

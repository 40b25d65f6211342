"""``proxy``: which proxy a user's browser takes."""

import io
import json

import pytest

from waportd.cli.exit_status import Exit
from waportd.model import User

ONE = User("1")


@pytest.fixture
def typed(monkeypatch):
    """Have something on standard input, which is no terminal."""
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


async def test_the_password_comes_from_standard_input_and_is_not_shown(api, ctl, supervisor, typed):
    await supervisor.assign(ONE)
    typed("p@ss:w/rd %\nnot this line\n")
    said = await ctl("proxy", "1", "http://proxy:3128", "--login", "ana@corp")
    assert said.status == Exit.OK, said.err
    assert said.out == "user 1: http://ana%40corp:***@proxy:3128 (own)\n"
    assert supervisor.known(ONE).assignment.proxy == "http://ana%40corp:p%40ss%3Aw%2Frd%20%25@proxy:3128"
    shown = [await ctl("proxy", "1"), await ctl("show", "1"), await ctl("show", "1", "--json")]
    for each in shown:
        assert "http://ana%40corp:***@proxy:3128" in each.out
        assert "ss%3A" not in each.out + each.err


@pytest.mark.parametrize(
    ("given", "kept", "shown"),
    [
        ("none", "none", "none"),
        ("auto", "auto", "auto"),
        ("socks5://proxy:1080", "socks5://proxy:1080", "socks5://proxy:1080"),
        ("default", None, "auto"),
    ],
)
async def test_a_proxy_without_a_login_is_set_as_it_is(api, ctl, supervisor, given, kept, shown):
    await supervisor.assign(ONE)
    said = await ctl("proxy", "1", given, "--json")
    assert json.loads(said.out) == {"user": "1", "proxy": shown, "own_proxy": kept is not None}
    assert supervisor.known(ONE).assignment.proxy == kept


@pytest.mark.parametrize(
    ("arguments", "stdin", "why"),
    [
        (["http://ana:hidden@proxy:3128"], "", "do not put a name and a password on the command line"),
        (["http://proxy:3128", "--login", "ana"], "", "no password was given"),
        (["none", "--login", "ana"], "hidden\n", "needs a URL"),
        (["--login", "ana"], "", "needs a proxy"),
    ],
)
async def test_what_cannot_be_meant_is_refused_and_not_repeated(
    api, ctl, supervisor, typed, arguments, stdin, why
):
    await supervisor.assign(ONE)
    typed(stdin)
    said = await ctl("proxy", "1", *arguments)
    assert said.status == Exit.USAGE
    assert why in said.err
    assert "hidden" not in said.out + said.err
    assert supervisor.known(ONE).assignment.proxy is None


@pytest.mark.parametrize("proxy", ["http://proxy", "ftp://proxy:1", "socks5://proxy:1080"])
async def test_a_proxy_that_chromium_would_not_take_is_refused_without_its_password(
    api, ctl, supervisor, typed, proxy
):
    await supervisor.assign(ONE)
    typed("hidden\n")
    said = await ctl("proxy", "1", proxy, "--login", "ana")
    assert said.status == Exit.FAILED
    assert "proxy: must be" in said.err
    assert "socks4; Chromium gives these no login" in said.err
    assert "hidden" not in said.out + said.err


async def test_a_user_without_a_server_has_no_proxy(api, ctl):
    assert (await ctl("proxy", "9", "none")).status == Exit.UNKNOWN_USER

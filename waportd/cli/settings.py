"""``set``: the options of users, as `PATCH /v1/users/{user}` takes them. A secret never stands on the command line."""

import sys
from collections.abc import Callable
from typing import Any

from waportd.cli.arguments import users_or_all
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.many import Verb, for_each
from waportd.command_line import argument

COMMANDS = Commands()

_NONE, _ASKED = "none", "-"
_MOST = 8192
"""Characters of a value that is read from standard input."""
_SECRET = {"webhook_secret"}
"""Keys whose value only standard input gives: what stands on a command line, everybody on this host can read."""
_FLAGS = {**dict.fromkeys(("true", "yes", "on"), True), **dict.fromkeys(("false", "no", "off"), False)}


def _text(text: str) -> str:
    return "" if text == _NONE else text


def _list(text: str) -> list[str]:
    return [] if text == _NONE else [word for word in text.replace(",", " ").split() if word]


def _number(text: str) -> int:
    return 0 if text == _NONE else int(text)


def _size(text: str) -> int | str:
    # With a unit it is a text for the API, too.
    return _number(text) if text == _NONE or text.isdecimal() else text


def _flag(text: str) -> bool:
    return _FLAGS[text.lower()]


KEYS: dict[str, tuple[Callable[[str], Any], str]] = {
    "webhook_url": (_text, "where messages are posted, or none"),
    "webhook_secret": (_list, "what signs them, or none"),
    "webhook_events": (_list, "which events are posted, with commas between"),
    "ignore": (_list, "chats that are ignored, with commas between, or none"),
    "default_country": (_text, "the calling code of numbers without one, such as 55, or none"),
    "send_rate": (_number, "messages a minute, or none for no limit"),
    "memory_max": (
        _size,
        "what the server may use, such as 512M, or none",
    ),
    "autostart": (_flag, "whether it starts at boot, yes or no"),
    "engine": (str, "the version of whatsapp-web.js, or bundled"),
    "proxy": (str, "http://HOST:PORT, none or auto"),
}
"""The options, each with how its value is read, and what that is."""


@COMMANDS.add(
    "set",
    "set options of users",
    f"""
    Sets options that users have of their own, in place of those of the configuration. KEY= without a value goes back
    to the configuration. Options that are not named stay as they are.

    The keys: {"; ".join(f"{key} ({about})" for key, (_, about) in KEYS.items())}.

    Everybody on this host can read a command line. So webhook_secret=- reads the value from standard input, without
    showing it, and so does every other key with -. Another engine is used from the next start on; other options restart
    a server that runs, if it needs that to use them.
    """,
    *users_or_all("all users"),
    argument("options", metavar="KEY=VALUE", nargs="+", help="an option and its value; KEY= for the default"),
    examples={
        "give user 2 an address for messages": "waportctl set 2 webhook_url=https://app.example.com/hook",
        "limit the memory of two users": "waportctl set 2 3 memory_max=512M",
        "follow the configuration again": "waportctl set 2 memory_max= webhook_url=",
        "see who would be affected": "waportctl set --all --dry-run autostart=no",
        "set a secret that is in a file": "waportctl set 2 webhook_secret=- < secret.txt",
    },
    also=("configure", "option", "options", "edit"),
)
def set_options(context: Context) -> Exit:
    """Set options of users."""
    words = [*context.options.users, *context.options.options]
    named = [word for word in words if "=" not in word]
    given = dict(word.split("=", 1) for word in words if "=" in word)
    if not given:
        raise _usage("no option is named", "KEY=VALUE sets one; `waportctl set --help` lists the keys")
    if list(given.values()).count(_ASKED) > 1:
        raise _usage("only one value can be read from standard input", "set the options one after the other")
    values = {key: _value(context, key, text) for key, text in given.items()}
    default = [key for key, text in given.items() if not text]
    own = [key for key in given if key not in default]
    done = "; ".join(
        f"{what} {', '.join(keys)}" for what, keys in (("set", own), ("default again:", default)) if keys
    )
    verb = Verb(
        f"Set {', '.join(given)} of",
        lambda user: context.client.set_options(user, **values),
        lambda _: done,
        lambda _: True,
    )
    return for_each(context, verb, named)


def _value(context: Context, key: str, text: str) -> Any:
    """Return the value of an option as the API takes it. Raises Problem."""
    if key not in KEYS:
        import difflib

        near = difflib.get_close_matches(key, KEYS)
        meant = f"did you mean {near[0]}? " if near else ""
        raise _usage(f"there is no option {key}", f"{meant}The options: {', '.join(KEYS)}")
    if not text:
        return True if key == "autostart" else None
    if (key in _SECRET and text not in {_ASKED, _NONE}) or (key == "proxy" and "@" in text):
        raise _usage(
            f"do not put a secret on the command line: everybody on this host can read it ({key})",
            f"{key}=- reads it from standard input. Change the one that was given here",
        )
    if text == _ASKED:
        text = _read(context, key)
    read, about = KEYS[key]
    try:
        return read(text)
    except (KeyError, ValueError):
        raise _usage(f"{key} cannot be {text!r}", f"it is {about}") from None


def _read(context: Context, key: str) -> str:
    """Read one value from the terminal, unseen, or the first line of standard input."""
    if context.screen.interactive:
        import getpass

        text = getpass.getpass(f"{key}: ")
    else:
        text = sys.stdin.readline(_MOST)
    if not (text := text.strip()):
        raise _usage(f"no value of {key} was given", "type it on a terminal, or give it on standard input")
    return text


def _usage(message: str, hint: str) -> Problem:
    return Problem(message, hint, Exit.USAGE, "usage")

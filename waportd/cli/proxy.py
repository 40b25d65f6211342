"""``proxy``: which proxy a user's browser takes. A password comes from the terminal or standard input, never as an argument."""

import sys
import urllib.parse

from waportd.cli.arguments import USER
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.client import User
from waportd.command_line import argument

COMMANDS = Commands()


_MAX_PASSWORD = 255


@COMMANDS.add(
    "proxy",
    "show or set the proxy of the user's browser",
    """
    Without PROXY, shows which proxy the browser takes to WhatsApp, and where that is set. With PROXY, sets one and
    restarts the server if it runs.

    A proxy's password never stands on the command line, which everybody on this host can read: --login asks for
    it, or reads the first line of standard input if there is no terminal.
    """,
    USER,
    argument(
        "proxy",
        metavar="PROXY",
        nargs="?",
        help="http://HOST:PORT (or https, socks4, socks5), none, auto (what the environment of the unit says), or "
        "default (what the configuration says)",
    ),
    argument("--login", metavar="NAME", help="the name for the proxy; the password is asked for"),
    examples={
        "see which proxy user 2 has": "waportctl proxy 2",
        "set a proxy with a login": "waportctl proxy 2 http://proxy.example:3128 --login bot",
        "go back to the configuration's proxy": "waportctl proxy 2 default",
    },
)
def run(context: Context) -> Exit:
    """Show the proxy, or set another one."""
    options = context.options
    if options.proxy is None:
        if options.login:
            raise _usage(
                "--login needs a proxy", f"waportctl proxy {options.user} http://HOST:PORT --login …"
            )
        return _show(context, context.client.status(options.user))
    proxy = options.proxy
    if "@" in proxy:
        raise _usage(
            "do not put a name and a password on the command line: everybody on this host can read it",
            "waportctl proxy USER http://HOST:PORT --login NAME: it asks for the password. Change the password that was "
            "given here",
        )
    if options.login:
        proxy = _with_login(context, proxy, options.login)
    return _show(
        context,
        context.client.set_options(options.user, proxy=None if proxy == "default" else proxy),
    )


def _with_login(context: Context, proxy: str, name: str) -> str:
    scheme, separator, rest = proxy.partition("://")
    if not separator:
        raise _usage(
            f"--login needs a URL, not {proxy}", "waportctl proxy USER http://HOST:PORT --login NAME"
        )
    if context.screen.interactive:
        import getpass

        password = getpass.getpass(f"Password of {name} at {proxy}: ")
    else:
        password = sys.stdin.readline(_MAX_PASSWORD + 2).rstrip("\r\n")
    if not password:
        raise _usage(
            "no password was given", "type it on a terminal, or give it as the first line of standard input"
        )
    login = ":".join(urllib.parse.quote(text, safe="") for text in (name, password))
    return f"{scheme}://{login}@{rest}"


def _usage(message: str, hint: str) -> Problem:
    return Problem(message, hint, Exit.USAGE, "usage")


def _show(context: Context, user: User) -> Exit:
    if context.screen.as_json:
        context.screen.document({"user": user.user, "proxy": user.proxy, "own_proxy": user.own_proxy})
    else:
        whose = "own" if user.own_proxy else "of the configuration"
        context.screen.text(f"user {user.user}: {user.proxy} ({whose})")
    return Exit.OK

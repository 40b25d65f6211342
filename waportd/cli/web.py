"""``web`` and ``open``: the dashboard, or the page of one user, in a browser, through a listener on loopback."""

import os
import stat
import sys
import urllib.parse
from typing import TYPE_CHECKING

from waportd.cli import terminal
from waportd.cli.arguments import USER, port
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.command_line import argument, flag

if TYPE_CHECKING:
    from waportd.cli.loopback import Proxy

COMMANDS = Commands()

_NO_BROWSER = flag("--no-browser", help="only print the link")
_LISTEN = argument(
    "--listen",
    type=port,
    default=0,
    metavar="PORT",
    help="the port on 127.0.0.1 to listen on, e.g. for ssh -L (default: any free one)",
)


@COMMANDS.add(
    "web",
    "open the dashboard in a browser, until Ctrl-C",
    """
    Listens on 127.0.0.1, passes everything on to the API, and opens the dashboard in a browser. The link works once,
    in one browser of the same user. Where no browser can be opened, it prints the link.
    """,
    _NO_BROWSER,
    _LISTEN,
    examples={
        "open the dashboard": "waportctl web",
        "listen where `ssh -L 8080:127.0.0.1:8080 HOST` leads to": "waportctl web --no-browser --listen 8080",
    },
    also=("dashboard", "ui"),
)
def web(context: Context) -> Exit:
    """Serve the dashboard until Ctrl-C."""
    context.client.health()  # says what is missing before a browser does
    return _serve(context, "/")


@COMMANDS.add(
    "open",
    "open a user's page in a browser, until Ctrl-C",
    """
    As `waportctl web`, for one user: the connect page, which shows the code to scan, if no phone is linked, else the
    user on the dashboard. The user must exist. For a person elsewhere, `waportctl connect-link` makes a link.
    """,
    USER,
    _NO_BROWSER,
    _LISTEN,
    examples={
        "link a phone to user 2 in a browser on this machine": "waportctl open 2",
        "listen where `ssh -L 8080:127.0.0.1:8080 HOST` leads to": "waportctl open 2 --no-browser --listen 8080",
    },
    also=("browse",),
)
def open_page(context: Context) -> Exit:
    """Serve a user's page until Ctrl-C."""
    user = context.client.status(context.options.user)
    name = urllib.parse.quote(user.user, safe="")
    return _serve(context, f"/#{name}" if user.linked else f"/connect?user={name}")


def _serve(context: Context, page: str) -> Exit:
    from waportd.cli.loopback import Proxy, own_uids

    path = context.client.socket
    assert path is not None
    try:
        proxy = Proxy(path, context.options.listen, own_uids(), page)
    except OSError as error:
        raise Problem(
            f"port {context.options.listen} of 127.0.0.1 cannot be used: {error.strerror}",
            "choose another --listen",
        ) from error
    with proxy:
        try:
            _tell(context, proxy)
            _end_with_the_caller(proxy)
            proxy.serve_forever()
        except KeyboardInterrupt:
            terminal.complain("")
    return Exit.OK


def _tell(context: Context, proxy: "Proxy") -> None:
    opened = not context.options.no_browser and _open_browser(proxy.link)
    if context.screen.as_json:
        context.screen.line({"url": proxy.link})
        return
    print(proxy.link, flush=True)
    done = "Opened in the browser" if opened else "Open this link in a browser on this machine"
    terminal.complain(f"{done}. It works once, and ends with Ctrl-C.")
    if not opened and "SSH_CONNECTION" in os.environ:
        forward = f"ssh -L {proxy.port}:127.0.0.1:{proxy.port} {os.uname().nodename}"
        terminal.complain(f"From your own machine: {forward}, then open the link there.")


def _end_with_the_caller(proxy: "Proxy") -> None:
    """End it when a pipe at standard input closes: ssh without a terminal passes no Ctrl-C on, and leaves it running."""
    mode = os.fstat(sys.stdin.fileno()).st_mode if sys.stdin else 0
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):

        def wait() -> None:
            while os.read(sys.stdin.fileno(), 4096):
                pass
            proxy.shutdown()

        import threading

        threading.Thread(target=wait, daemon=True).start()


def _open_browser(link: str) -> bool:
    # A browser refuses root, and without a screen one in the terminal would take it over.
    if os.geteuid() == 0 or not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    import webbrowser

    return webbrowser.open(link)

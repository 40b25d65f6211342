"""``web``: the dashboard in a browser, through a listener on loopback."""

import os
import stat
import sys
from typing import TYPE_CHECKING

from waportd.cli import terminal
from waportd.cli.arguments import port
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.command_line import argument, flag

if TYPE_CHECKING:
    from waportd.cli.loopback import Proxy

COMMANDS = Commands()


@COMMANDS.add(
    "web",
    "open the dashboard in a browser, until Ctrl-C",
    """
    Listens on 127.0.0.1, passes everything on to the API, and opens the dashboard in a browser. The link works once,
    in one browser of the same user. Where no browser can be opened, it prints the link.
    """,
    flag("--no-browser", help="only print the link"),
    argument(
        "--listen",
        type=port,
        default=0,
        metavar="PORT",
        help="the port on 127.0.0.1 to listen on, e.g. for ssh -L (default: any free one)",
    ),
    examples={
        "open the dashboard": "waportctl web",
        "listen where `ssh -L 8080:127.0.0.1:8080 HOST` leads to": "waportctl web --no-browser --listen 8080",
    },
)
def serve(context: Context) -> Exit:
    """Serve until Ctrl-C."""
    from waportd.cli.loopback import Proxy, own_uids

    context.client.health()  # says what is missing before a browser does
    path = context.client.socket
    assert path is not None
    try:
        proxy = Proxy(path, context.options.listen, own_uids())
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

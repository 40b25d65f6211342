"""The API in a process of its own, for whoever wants to exhaust it: all of it is real but systemd and WhatsApp.

    lone_daemon.py DIRECTORY

Prints a line of JSON when it serves: the socket, the TCP port, two tokens, and a connect link's query. Ends with its
standard input. The log goes to standard error.
"""

import asyncio
import dataclasses
import json
import logging
import resource
import socket
import sys
import urllib.parse
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS / "unit"), str(TESTS.parent)]

from fakes import FakeSystemd, MemoryStore  # noqa: E402
from support import another_key  # noqa: E402

from waportd.api.access import Access  # noqa: E402
from waportd.api.server import ApiServer, make_app  # noqa: E402
from waportd.config import Config, PortRange  # noqa: E402
from waportd.links import Links  # noqa: E402
from waportd.model import User  # noqa: E402
from waportd.supervisor import Supervisor, Wait  # noqa: E402
from waportd.tokens import Tokens  # noqa: E402

DESCRIPTORS = 16384
"""As LimitNOFILE= of waportd.service, where the machine allows it."""


def config(directory, base):
    default = Config()
    (directory / "instances").mkdir()
    return dataclasses.replace(
        default,
        store=dataclasses.replace(default.store, directory=directory),
        ports=dataclasses.replace(
            default.ports,
            base=base,
            range=PortRange(base, base + 9),
            overflow=PortRange(base + 10, base + 19),
        ),
        limits=dataclasses.replace(default.limits, min_available_memory=0),
    )


async def main(directory, base):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, most), most))
    systemd = FakeSystemd()
    systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)
    supervisor = Supervisor(config(directory, base), MemoryStore(), systemd)
    await supervisor.start()
    for user in ("1", "2"):
        await supervisor.ensure(User(user), wait=Wait.QR)
    tokens, links = Tokens(MemoryStore()), Links(b"key", another_key)
    _, admin = await tokens.create("admin", None)
    _, second = await tokens.create("user 2", User("2"))
    expires, signature = links.sign(User("2"), 600)
    server = ApiServer(make_app(supervisor, Access([], tokens, links)))
    path = directory / "api.sock"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(path))
    unix.listen(1024)
    path.chmod(0o666)
    tcp = socket.create_server(("127.0.0.1", 0), backlog=1024)
    await server.start([unix, tcp])
    told = {
        "socket": str(path),
        "port": tcp.getsockname()[1],
        "admin": admin,
        "token": second,
        "link": urllib.parse.urlencode({"expires": expires, "signature": signature}),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    supervisor.picture.release()
    await server.close()
    await supervisor.close()
    await systemd.close()


if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))

"""The API in a process of its own, for those who want to exhaust it: all of it is real but systemd and WhatsApp.

    lone_daemon.py DIRECTORY FIRST_PORT [USER]

``USER`` is who api.allow_users names.
Prints a line of JSON when it serves: the socket, the TCP port, tokens, a connect link's query, and the port of user 3,
whose session anyone may be: nothing listens there. The journal has 500 lines a second of user 2's server while
somebody follows it. Ends with its standard input. The log goes to standard error.
"""

import asyncio
import contextlib
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

from fake_journal import FakeJournal  # noqa: E402
from fakes import FakeSystemd, MemoryStore  # noqa: E402
from support import another_key  # noqa: E402

from waportd.api.access import Access  # noqa: E402
from waportd.api.server import ApiServer, make_app  # noqa: E402
from waportd.config import Config, PortRange  # noqa: E402
from waportd.connect_links import Links  # noqa: E402
from waportd.model import User, service_unit  # noqa: E402
from waportd.readiness import Wait  # noqa: E402
from waportd.supervisor import Supervisor  # noqa: E402
from waportd.systemd import server_log  # noqa: E402
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


async def talk(journal, unit):
    """Write lines as a server does, while somebody follows them."""
    while True:
        for number in range(50 if journal.readers else 0):
            fields = {"_SYSTEMD_UNIT": unit, "SYSLOG_IDENTIFIER": unit.removesuffix(".service")}
            with contextlib.suppress(OSError):  # a reader that goes, in a thread of its own
                journal.write(f"line {number}", **fields)
        await asyncio.sleep(0.1)


async def main(directory, base, allowed):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(DESCRIPTORS, most), most))
    systemd = FakeSystemd()
    systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)
    supervisor = Supervisor(config(directory, base), MemoryStore(), systemd)
    await supervisor.start()
    for user in ("1", "2", "3"):
        await supervisor.ensure(User(user), wait=Wait.QR)
    ports = [supervisor.known(User(user)).assignment.port for user in ("2", "3")]
    await systemd.servers[ports[1]].stop()
    journal = FakeJournal()
    journal.write("some line of some program")
    server_log.journal.Reader = journal.open
    talking = asyncio.create_task(talk(journal, service_unit(ports[0])))
    tokens, links = Tokens(MemoryStore()), Links(b"key", another_key)
    _, admin = await tokens.create("admin", None)
    _, second = await tokens.create("user 2", User("2"))
    _, third = await tokens.create("user 3", User("3"))
    expires, signature = links.sign(User("2"), 600)
    server = ApiServer(make_app(supervisor, Access(allowed, tokens, links)))
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
        "third": third,
        "session": ports[1],
        "link": urllib.parse.urlencode({"expires": expires, "signature": signature}),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    talking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await talking
    supervisor.registry.release()
    await server.close()
    await supervisor.close()
    await systemd.close()


if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))

"""What else keeps node servers running: PM2 and supervisord, each starting one more."""

import contextlib
import itertools
import os
import shutil
import subprocess
import xmlrpc.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import place, raw
from bench.measure import timed

TOOLS = place.ROOT / "build/bench"
"""Where tools/install-deps puts what measurements alone need."""


@contextlib.contextmanager
def pm2(folder: Path) -> Iterator[Callable[[], float]]:
    """Give a function that starts one more server with PM2 and returns the milliseconds until it answers."""
    program = TOOLS / "node_modules/.bin/pm2"
    environment = {**os.environ, "PM2_HOME": str(folder / "pm2"), "WAPORTD_WEBHOOK_URL": ""}
    ports = itertools.count(5700)

    def call(*arguments: str) -> None:
        subprocess.run(
            [program, *arguments],
            env=environment,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )

    def start() -> float:
        port = str(next(ports))
        took = timed(
            lambda: (
                call("start", str(place.LIGHT_SERVER), "--name", port, "--", port),
                raw.answer_by_and_by(int(port)),
            )
        )
        call("delete", port)
        return took

    call("ping")
    try:
        start()
        yield start
    finally:
        call("kill")


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = str(path)

    def make_connection(self, _host: Any) -> Any:
        if self._connection is None or self._connection[1] is None:
            from bench.warm import UnixHTTPConnection

            self._connection = ("", UnixHTTPConnection(self._path))
        return self._connection[1]


@contextlib.contextmanager
def supervisord(folder: Path) -> Iterator[Callable[[], float]]:
    """Give a function that adds one more server to supervisord and returns the milliseconds until it answers."""
    socket = folder / "supervisor.sock"
    config = folder / "supervisord.conf"
    common = (
        f"[unix_http_server]\nfile={socket}\n[supervisord]\nnodaemon=true\nlogfile={folder}/supervisord.log\n"
        f"pidfile={folder}/supervisord.pid\n[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
    )
    config.write_text(common, "utf-8")
    ports = itertools.count(5800)
    environment = {**os.environ, "PYTHONPATH": str(TOOLS), "WAPORTD_WEBHOOK_URL": ""}
    node = shutil.which("node")
    with place.program(
        place.PYTHON, "-m", "supervisor.supervisord", "-c", config, env=environment, cwd=folder,
        stdout=subprocess.DEVNULL,
    ):  # fmt: skip
        place.until_path(socket)
        server = xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=_UnixTransport(socket))

        def start() -> float:
            port = next(ports)
            program = f"[program:p{port}]\ncommand={node} {place.LIGHT_SERVER} {port}\nstartsecs=0\n"

            def do() -> None:
                config.write_text(f"{common}{program}", "utf-8")
                server.supervisor.reloadConfig()
                server.supervisor.addProcessGroup(f"p{port}")
                raw.answer_by_and_by(port)

            took = timed(do)
            server.supervisor.stopProcess(f"p{port}")
            server.supervisor.removeProcessGroup(f"p{port}")
            return took

        start()
        yield start

"""Who listens on a port, against real sockets and processes; and what may be ended, and what never."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import textwrap

import psutil
import pytest
from support import SPARE

from waportd import port_holders as module
from waportd.model import Port
from waportd.port_holders import Holder, end_stale_server, holding, listeners

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def port():
    """Give a port that is free on every address, and that nobody else gets."""
    return Port(SPARE)


@contextlib.contextmanager
def running(*command, **options):
    """Run a program until the end of the block; it says on its output when it is ready."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def listening_python(port: Port, before: str = "", **options):
    program = f"""
        {before}
        import signal, socket
        listener = socket.create_server(("127.0.0.1", {port}))
        print("ready", flush=True)
        signal.pause()
    """
    return running(sys.executable, "-c", textwrap.dedent(program), **options)


class TestFinding:
    async def test_nobody_listens_on_a_free_port(self, port):
        assert await listeners(port) == []

    @pytest.mark.parametrize(
        ("family", "address"),
        [
            (socket.AF_INET, "127.0.0.1"),
            (socket.AF_INET, "0.0.0.0"),
            (socket.AF_INET6, "::1"),
            (socket.AF_INET6, "::"),
        ],
    )
    async def test_a_listener_on_any_address_is_found_with_user_pid_and_command(self, port, family, address):
        with socket.create_server((address, port), family=family):
            name = psutil.Process().name()
            assert await listeners(port) == [Holder(ME, os.getpid(), name)]

    async def test_another_process_is_named(self, port):
        with listening_python(port) as process:
            (holder,) = await listeners(port)
            assert holder.pid == process.pid
            assert str(holder) == f"{holder.command} (pid {process.pid}, user {ME})"

    async def test_a_process_with_two_sockets_is_named_once(self, port):
        with (
            socket.create_server(("127.0.0.1", port)),
            socket.create_server(("::1", port), family=socket.AF_INET6),
        ):
            assert len(await listeners(port)) == 1

    async def test_two_processes_are_both_named(self, port):
        with listening_python(port) as process, socket.create_server(("::1", port), family=socket.AF_INET6):
            assert {holder.pid for holder in await listeners(port)} == {process.pid, os.getpid()}

    async def test_a_connection_is_no_listener(self, port):
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
            client.bind(("127.0.0.1", port))
            client.connect(server.getsockname())
            assert await listeners(port) == []

    async def test_a_socket_that_only_holds_the_number_is_no_listener(self, port):
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", port))
            assert await listeners(port) == []

    @pytest.mark.parametrize(
        ("family", "address"),
        [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "0.0.0.0")],
    )
    async def test_who_has_bound_it_and_does_not_listen_holds_it_all_the_same(self, port, family, address):
        """No table of the kernel shows that; systemd gets EADDRINUSE."""
        with socket.socket(family) as silent:
            silent.bind((address, port))
            assert await holding(port) == [Holder(listens=False)]
        assert await holding(port) == []

    async def test_who_listens_on_it_holds_it(self, port):
        with listening_python(port) as process:
            assert [holder.pid for holder in await holding(port)] == [process.pid]
            assert await holding(port) == await listeners(port)

    async def test_who_leaves_room_for_one_who_listens_does_not_hold_it(self, port):
        """As systemd does, whose sockets have the same option."""
        with socket.socket() as modest, socket.socket() as listener:
            for one in (modest, listener):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("127.0.0.1", port))
            assert await holding(port) == []
            listener.listen()

    async def test_of_a_process_that_cannot_be_seen_the_user_is_named(self, port, monkeypatch):
        with socket.create_server(("::1", port), family=socket.AF_INET6):
            hide_processes(monkeypatch)
            assert await listeners(port) == [Holder(ME)]

    async def test_of_two_that_cannot_be_seen_each_user_is_named(self, port, monkeypatch):
        with (
            socket.create_server(("127.0.0.1", port)),
            socket.create_server(("::1", port), family=socket.AF_INET6),
        ):
            hide_processes(monkeypatch)
            uids = iter(["www-data", "ana"])
            monkeypatch.setattr(module, "name_of", lambda _: next(uids))
            assert await listeners(port) == [Holder("ana"), Holder("www-data")]

    async def test_a_process_that_ends_meanwhile_is_still_reported(self, port, monkeypatch):
        with socket.create_server(("127.0.0.1", port)):
            gone = subprocess.Popen(["true"])
            gone.wait()
            real = psutil.net_connections
            monkeypatch.setattr(
                psutil, "net_connections", lambda kind: [one._replace(pid=gone.pid) for one in real(kind)]
            )
            assert await listeners(port) == [Holder(pid=gone.pid)]

    async def test_a_name_cannot_smuggle_control_characters_into_notes_and_logs(self, port):
        rename = r"open('/proc/self/comm', 'wb').write(b'a\x1b[31m\xff\n')"
        with listening_python(port, before=rename):
            (holder,) = await listeners(port)
        assert holder.command == "a?[31m??"
        str(holder).encode()


def hide_processes(monkeypatch) -> None:
    """Let psutil see what an unprivileged daemon sees of other users' sockets: no pid."""
    real = psutil.net_connections
    monkeypatch.setattr(
        psutil, "net_connections", lambda kind: [one._replace(pid=None) for one in real(kind)]
    )


@pytest.mark.parametrize(
    ("holder", "text"),
    [
        (Holder("ana", 7, "node"), "node (pid 7, user ana)"),
        (Holder(None, 7, None), "a process (pid 7, user unknown)"),
        (Holder("ana"), "a process of user ana"),
        (Holder(), "another process"),
        (Holder(listens=False), "a process that has bound it and does not listen"),
    ],
)
def test_a_holder_is_reported_as_far_as_it_is_known(holder, text):
    assert str(holder) == text


SERVER = """
    for (const name of STUBBORN) process.on(name, () => {});
    require('node:http').createServer().listen(PORT, '127.0.0.1', () => console.log('ready'));
"""


@pytest.fixture
def old_server(tmp_path, port):
    """Run what looks like a server of the old setup; a test changes one thing about it."""
    node = shutil.which("node")
    assert node, "node is missing: apt install nodejs"
    (tmp_path / f".wwebjs_auth_{port}").mkdir()

    def run(script="whatsapp_server.js", arguments=(str(port),), stubborn=(), **options):
        text = SERVER.replace("PORT", str(port)).replace("STUBBORN", str(list(stubborn)))
        (tmp_path / script).write_text(text)
        environment = {"PATH": os.environ["PATH"]} | options.pop("env", {})
        return running(node, script, *arguments, cwd=options.pop("cwd", tmp_path), env=environment, **options)

    return run


async def ends(port: Port, process: subprocess.Popen) -> bool:
    """Let the process be ended if it may be; return whether it was, which must be what is answered."""
    (holder,) = await listeners(port)
    assert holder.pid == process.pid
    answered = await end_stale_server(port, holder)
    gone = process.poll() is not None
    assert answered is gone
    assert bool(await listeners(port)) is not gone
    return gone


class TestEnding:
    async def test_a_left_over_server_of_this_port_is_ended(self, port, old_server):
        with old_server() as process:
            assert await ends(port, process)

    async def test_one_that_got_its_port_by_environment_is_ended(self, port, old_server):
        with old_server(arguments=("5001",), env={"PORT": str(port)}) as process:
            assert await ends(port, process)

    async def test_one_that_ignores_sigterm_is_killed(self, port, old_server, monkeypatch):
        monkeypatch.setattr(module, "TERM_S", 0.2)
        with old_server(stubborn=["SIGTERM"]) as process:
            assert await ends(port, process)

    async def test_one_with_only_a_cache_folder_is_ended(self, port, old_server, tmp_path):
        (tmp_path / f".wwebjs_auth_{port}").rename(tmp_path / f".wwebjs_cache_{port}")
        with old_server() as process:
            assert await ends(port, process)

    async def test_another_script_is_left_alone(self, port, old_server):
        with old_server(script="server.js") as process:
            assert not await ends(port, process)

    async def test_a_server_that_names_another_port_is_left_alone(self, port, old_server):
        with old_server(arguments=("5999",)) as process:
            assert not await ends(port, process)

    async def test_the_environment_wins_over_the_argument_as_in_the_server(self, port, old_server):
        with old_server(env={"PORT": "5999"}) as process:
            assert not await ends(port, process)

    async def test_a_server_that_names_no_port_is_that_of_5001(self, port, old_server):
        with old_server(arguments=()) as process:
            assert not await ends(port, process)

    async def test_a_server_without_a_session_of_this_port_is_left_alone(self, port, old_server, tmp_path):
        (tmp_path / f".wwebjs_auth_{port}").rename(tmp_path / ".wwebjs_auth_5999")
        with old_server() as process:
            assert not await ends(port, process)

    async def test_a_program_that_only_names_the_script_is_left_alone(self, port, tmp_path):
        (tmp_path / f".wwebjs_auth_{port}").mkdir()
        program = f"import socket, signal; s = socket.create_server(('127.0.0.1', {port})); print('ready', flush=True); signal.pause()"
        with running(sys.executable, "-c", program, "whatsapp_server.js", str(port), cwd=tmp_path) as process:
            assert not await ends(port, process)

    async def test_a_server_of_another_user_is_left_alone(self, port, old_server, monkeypatch):
        monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
        with old_server() as process:
            assert not await ends(port, process)

    async def test_a_server_that_systemd_supervises_is_left_alone(self, port, old_server, monkeypatch):
        group = f"0::/user.slice/user@1000.service/whatsapp.slice/whatsapp@{port}.service\n"
        monkeypatch.setattr(module, "control_groups", lambda pid: group)
        with old_server() as process:
            assert not await ends(port, process)

    async def test_a_server_whose_session_cannot_be_looked_at_is_left_alone(
        self, port, old_server, monkeypatch
    ):
        def denied(process):
            raise psutil.AccessDenied(process.pid)

        monkeypatch.setattr(psutil.Process, "cwd", denied)
        with old_server() as process:
            assert not await ends(port, process)

    async def test_no_signal_is_sent_to_a_number(self, port, old_server, monkeypatch):
        """Somebody else may have it by then."""
        with old_server() as process, monkeypatch.context() as patch:
            patch.setattr(os, "kill", lambda *of: pytest.fail(f"{of}"))
            assert await ends(port, process)

    async def test_one_that_ends_while_it_is_looked_at_gets_no_signal(self, port, old_server, monkeypatch):
        look = module.is_stale_server

        def look_too_late(process, port):
            seen = look(process, port)
            os.kill(process.pid, signal.SIGKILL)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            return seen

        monkeypatch.setattr(module, "is_stale_server", look_too_late)
        with old_server() as process, monkeypatch.context() as patch:
            patch.setattr(signal, "pidfd_send_signal", lambda *of: pytest.fail(f"{of}"))
            assert await ends(port, process)

    async def test_one_that_is_gone_already_is_gone(self, port):
        gone = subprocess.Popen(["true"])
        gone.wait()
        assert await end_stale_server(port, Holder(ME, gone.pid, "node"))

    async def test_who_cannot_be_seen_is_left_alone(self, port):
        assert not await end_stale_server(port, Holder("root"))

    async def test_a_signal_reaches_nobody_else(self, port, old_server):
        with (
            old_server() as process,
            listening_python(Port(0)) as bystander,
        ):
            assert await ends(port, process)
            assert bystander.poll() is None
            bystander.send_signal(signal.SIGTERM)
            assert bystander.wait(10) == -signal.SIGTERM

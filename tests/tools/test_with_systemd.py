"""tools/with-systemd as root: a real private manager, and nothing left of it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
WITH_SYSTEMD = CHECKOUT / "tools/with-systemd"
SECONDS = 20.0

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root gets a private manager")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.02)


def copy_tools(checkout: Path) -> None:
    shutil.copytree(
        CHECKOUT / "tools/testbed", checkout / "tools/testbed", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(WITH_SYSTEMD, checkout / "tools")


def run(script: str, *options: str, cwd: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [WITH_SYSTEMD, *options, "sh", "-euc", script],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def output_of(script: str, *options: str, cwd: Path = CHECKOUT) -> str:
    result = run(script, *options, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


class Running:
    """A with-systemd whose command prints `started` and then continues."""

    def __init__(self, script: str) -> None:
        self.process = subprocess.Popen(
            [WITH_SYSTEMD, "sh", "-euc", script],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout
        self.stdout = self.process.stdout
        self.read_until("started")
        outer = psutil.Process(self.process.pid)
        self.init = next(child for child in outer.children() if child.pid)
        self.processes = outer.children(recursive=True)

    def read_until(self, line: str) -> None:
        for read in self.stdout:
            if read.strip() == line:
                return
        pytest.fail(f"ended before it printed {line!r}")

    def groups(self) -> list[Path]:
        return [
            path
            for path in Path("/sys/fs/cgroup").rglob(f"with-systemd-{self.process.pid}*")
            if path.is_dir()
        ]

    def assert_nothing_is_left(self) -> None:
        wait_until(lambda: not any(process.is_running() for process in self.processes), "processes gone")
        wait_until(lambda: not self.groups(), "control groups gone")


@contextmanager
def running(script: str) -> Iterator[Running]:
    started = Running(script)
    try:
        assert {process.name() for process in started.processes} >= {
            "systemd",
            "dbus-daemon",
            "systemd-journald",
        }
        assert started.groups()
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        started.stdout.close()


def test_exit_code_of_the_command_comes_through() -> None:
    assert run("exit 7").returncode == 7


def test_exit_code_says_which_signal_ended_the_command() -> None:
    assert run("kill -KILL $$").returncode == 128 + signal.SIGKILL


def test_a_command_that_does_not_exist_is_named() -> None:
    result = subprocess.run([WITH_SYSTEMD, "no-such-program"], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "no-such-program" in result.stderr
    assert "Traceback" not in result.stderr


def test_command_runs_unprivileged_in_the_same_folder() -> None:
    uid, folder = output_of("id -u; pwd").split()
    assert uid != "0"
    assert folder == str(CHECKOUT)


def test_manager_answers_on_the_bus_from_the_first_moment() -> None:
    names = output_of("busctl --user list --acquired --no-pager")
    assert "org.freedesktop.systemd1" in names


def test_network_is_the_hosts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(SECONDS)
        port = server.getsockname()[1]
        output_of(f"exec 3<>/dev/tcp/127.0.0.1/{port}".join(("bash -c '", "'")))
        server.accept()[0].close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_reaches_the_command_once_and_nothing_is_left(number: signal.Signals) -> None:
    trap = "trap 'echo caught; exit 9' INT TERM; echo started; while :; do sleep 0.1; done"
    with running(trap) as started:
        started.process.send_signal(number)
        rest = started.stdout.read()
        assert started.process.wait(SECONDS) == 9
        assert rest.split() == ["caught"]
        started.assert_nothing_is_left()


def test_nothing_is_left_after_a_kill_of_the_whole_process_group() -> None:
    unit = "systemd-run --user --quiet sleep 1000; echo started; sleep 1000"
    with running(unit) as started:
        os.killpg(started.process.pid, signal.SIGKILL)
        started.process.wait(SECONDS)
        started.assert_nothing_is_left()


def test_nothing_is_left_after_a_kill_of_process_1() -> None:
    with running("echo started; sleep 1000") as started:
        started.init.kill()
        assert started.process.wait(SECONDS) == 128 + signal.SIGKILL
        started.assert_nothing_is_left()


def test_nothing_is_mounted_outside() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    with running("echo started; sleep 1000"):
        assert Path("/proc/self/mountinfo").read_text() == before


def test_units_are_stopped_cleanly_at_the_end(tmp_path: Path) -> None:
    writable = tmp_path / "w"
    unit = f"trap 'echo clean > {writable}/end; exit' TERM; echo > {writable}/up; while :; do sleep 0.1; done"
    output_of(
        f'systemd-run --user --quiet sh -c "{unit}"; until [ -e {writable}/up ]; do sleep 0.1; done',
        f"--writable={writable}",
    )
    assert (writable / "end").read_text() == "clean\n"


def test_two_at_once_do_not_see_each_other() -> None:
    unit = "systemd-run --user --quiet --unit=same sleep 1000; echo started; sleep 1000"
    with running(unit) as one, running(unit) as two:
        assert not set(one.groups()) & set(two.groups())
        one.process.terminate()
        one.process.wait(SECONDS)
        one.assert_nothing_is_left()
        assert any("sleep" in process.name() for process in two.processes if process.is_running())


TEMPLATES = """
cd ~ && mkdir -p .config/systemd/user && cd .config/systemd/user
cat >echo@.socket <<'X'
[Socket]
ListenStream=%t/%i.sock
X
cat >echo@.service <<'X'
[Unit]
Requires=echo@%i.socket
After=echo@%i.socket
[Service]
Type=notify
NotifyAccess=all
ExecStart=/bin/sh -c 'echo "instance %i has $LISTEN_FDS"; systemd-notify --ready --status=up; exec sleep 1000'
X
systemctl --user daemon-reload
call() {
    name=org.freedesktop.systemd1
    busctl --user call $name /org/freedesktop/systemd1 $name.Manager "$@"
}
call StartUnit ss echo@7.service fail
until [ "$(systemctl --user is-active echo@7.service)" = active ]; do sleep 0.1; done
systemctl --user show --property=StatusText --property=ControlGroup echo@7.service
until journalctl --user --quiet --unit=echo@7.service --output=cat | grep instance; do sleep 0.1; done
"""


def test_template_socket_notify_bus_and_journal_work() -> None:
    printed = output_of(TEMPLATES)
    assert "StatusText=up" in printed
    assert "/app.slice/app-echo.slice/echo@7.service" in printed
    assert "instance 7 has 1" in printed


def test_chromium_renders_in_its_own_sandbox() -> None:
    browser = "$(command -v chromium-headless-shell || command -v chromium) --headless --disable-gpu"
    page = "data:text/html,<body><script>document.body.innerText=6*7</script>"
    assert ">42</body>" in output_of(f"{browser} --dump-dom '{page}'")


def test_checkout_below_a_closed_folder_is_reached_and_its_writable_folder_is_shared(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    checkout = tmp_path / "closed/checkout"
    copy_tools(checkout)
    (tmp_path / "closed").chmod(0o700)
    script = 'pwd; echo "$HOME"; echo written > .run/file; touch ~/kept'
    result = subprocess.run(
        ["tools/with-systemd", "--writable=.run", "--home=.run/home", "sh", "-euc", script],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert result.stdout.split() == [str(checkout), str(checkout / ".run/home")]
    assert (checkout / ".run/file").read_text() == "written\n"
    assert (checkout / ".run/home/kept").exists()


def test_without_a_session_an_ordinary_user_learns_what_to_do() -> None:
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path: only root may enter that
        checkout = Path(folder)
        checkout.chmod(0o755)
        copy_tools(checkout)
        result = subprocess.run(
            [checkout / "tools/with-systemd", "true"],
            user=65533,
            cwd="/",
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
    assert result.returncode == 1
    assert "loginctl enable-linger 65533" in result.stderr


def test_a_private_network_has_its_ports_to_itself() -> None:
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = outside.getsockname()[1]
        script = f"/usr/bin/python3 -c \"import socket; socket.create_server(('127.0.0.1', {port})); print('mine')\""
        assert output_of(script, "--private-network") == "mine\n"

"""The unit files and environment files on a real systemd: what it reads, and how the units behave."""

import dataclasses
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from testbed.ports import free_port

from waportd import units
from waportd.config import Bus, Config
from waportd.model import Assignment, Port, User

ROOT = Path(__file__).parents[2]
TIMEOUT = 60

SERVER = """
const http = require('http');
const { execFile, spawn } = require('child_process');

const server = (request, response) => {
  const [, verb, value] = request.url.split('/');
  if (verb === 'exit') process.exit(Number(value));
  const child = verb === 'spawn' ? spawn('sleep', ['600']) : {};
  response.setHeader('Connection', 'close');
  const { pid, argv, env } = process;
  response.end(JSON.stringify({ pid, child: child.pid, argv: argv.slice(2), env }));
};
for (let fd = 3; fd < 3 + Number(process.env.LISTEN_FDS); fd += 1) http.createServer(server).listen({ fd });
process.on('SIGTERM', () => setTimeout(() => process.exit(0), 300));  // as long as a browser takes
console.log('told to the journal');
execFile('systemd-notify', ['--ready', `--status=serving ${process.env.WAPORTD_USER}`]);
"""


def run(*command, check=True):
    result = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert not check or result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result


def systemctl(*arguments, check=True):
    return run("systemctl", "--user", *arguments, check=check)


def properties(unit, *names):
    text = systemctl("show", unit, *(f"--property={name}" for name in names)).stdout
    return dict(line.split("=", 1) for line in text.splitlines())


def until(condition):
    deadline = time.monotonic() + TIMEOUT
    while not (result := condition()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.02)
    return result


def ask(port, path="/", host="127.0.0.1"):
    """Ask the server on the port, which systemd starts if need be; a server that exits gives None."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    except (http.client.RemoteDisconnected, ConnectionResetError):
        return None
    finally:
        connection.close()


def is_refused(port, host="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return probe.connect_ex((host, port)) != 0


@pytest.fixture
def folder(tmp_path):
    """Give a folder whose name has what is hard for a unit file and yet allowed."""
    folder = tmp_path / "a b; 'é".replace("'", "") / "#x=1"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def config(folder):
    script = folder / "server.js"
    script.write_text(SERVER)
    defaults = Config()
    config = dataclasses.replace(
        defaults,
        store=dataclasses.replace(defaults.store, directory=folder),
        instances=dataclasses.replace(defaults.instances, script=str(script)),
        systemd=dataclasses.replace(defaults.systemd, bus=Bus.SESSION),
    )
    config.store.instances.mkdir()
    return config


def write_environment(config, assignment, settings):
    folder = units.EnvironmentFolder(config.store.instances)
    return folder.write(assignment.port, units.environment(assignment, settings))


@pytest.fixture
def assign(config):
    """Give a function that assigns a port as the daemon does, on units installed for the session bus."""
    assert units.install_session_units(config)
    systemctl("daemon-reload")
    ports = []

    def assign(user="2", config=config, **fields):
        port = Port(free_port())
        ports.append(port)
        write_environment(config, Assignment(User(user), port, **fields), config)
        return port

    yield assign
    for port in ports:
        systemctl("stop", f"whatsapp@{port}.socket", check=False)
        systemctl("reset-failed", f"whatsapp@{port}.service", f"whatsapp@{port}.socket", check=False)
        systemctl("clean", "--what=state", "--what=cache", f"whatsapp@{port}.service", check=False)
    for name in units.INSTANCE_UNITS:
        Path(os.environ["XDG_RUNTIME_DIR"], "systemd", "user", name).unlink()
    systemctl("daemon-reload")


HOSTILE = [
    "--quotes=\"double\" 'single' `backtick`",
    "--backslash=\\ \\\\ \\n \\",
    "--dollar=$PORT ${PORT} $(id) $$",
    "--percent=%i %n %% %",
    "--comment=# ; x",
    "--unicode=é 漢 \U0001f600 \u00a0",
    "--equals=PORT=1",
    "--blanks=  x  ",
    "-\\",
]


def test_a_server_sees_each_value_exactly_as_it_was_configured(assign, config):
    instances = dataclasses.replace(
        config.instances,
        browser="/opt/a b/é; #x=1",
        browser_args=tuple(HOSTILE),
        qr_lifetime=(61, 21),
        web_version="/srv/a page; #x=1.html",
    )
    config = dataclasses.replace(
        config, instances=instances, api=dataclasses.replace(config.api, allow_users=(4711,))
    )
    url = "http://h/?" + "".join(map(chr, range(0x21, 0x7F)))
    proxy = "http://a$b:c'$PORT&%22;*@p:1"
    user = "2_a.b@C-d" + "x" * 55
    systemctl("set-environment", "PORT=1", "WAPORTD_USER=other", "WAPORTD_WEBHOOK_URL=http://other/")
    try:
        port = assign(user, config, webhook_url=url, proxy=proxy)
        systemctl("start", f"whatsapp@{port}.service")
    finally:
        systemctl("unset-environment", "PORT", "WAPORTD_USER", "WAPORTD_WEBHOOK_URL")
    seen = ask(port)
    environment = seen["env"]
    assert json.loads(environment["WAPORTD_BROWSER_ARGS"]) == HOSTILE
    expected = {
        "PORT": str(port),
        "WAPORTD_USER": user,
        "WAPORTD_ALLOW_UIDS": ",".join(map(str, sorted({0, os.getuid(), 4711}))),
        "WAPORTD_WEBHOOK_URL": url,
        "WAPORTD_WEBHOOK_SECRETS": "",
        "WAPORTD_WEBHOOK_HEADERS": "{}",
        "WAPORTD_WEBHOOK_EVENTS": "message",
        "WAPORTD_WEBHOOK_TIMEOUT": "30",
        "WAPORTD_WEBHOOK_RETRY": "86400",
        "WAPORTD_IGNORE": "status",
        "WAPORTD_JOURNAL_AGE": "604800",
        "WAPORTD_JOURNAL_SIZE": "67108864",
        "WAPORTD_DEFAULT_COUNTRY": "",
        "WAPORTD_MEDIA_FROM_PRIVATE": "false",
        "WAPORTD_SEND_RATE": "0",
        "WAPORTD_CLIENT_ID_PREFIX": "waportd",
        "WAPORTD_BROWSER": "/opt/a b/é; #x=1",
        "WAPORTD_PROXY": proxy,
        "WAPORTD_ENGINE": "",
        "WAPORTD_COMPILED": str(config.engines / "compiled"),
        "WAPORTD_WEB_VERSION": "/srv/a page; #x=1.html",
        "WAPORTD_QR_MAX_RETRIES": "5",
        "WAPORTD_QR_LIFETIME": "61,21",
        "WAPORTD_START_TIMEOUT": "90",
        "WAPORTD_READY_TIMEOUT": "120",
        "WAPORTD_PROBE_INTERVAL": "10",
        "WAPORTD_IDLE_TIMEOUT": "600",
        "WAPORTD_TURN_WAIT": "10",
        "WAPORTD_SNAPSHOT_INTERVAL": "300",
        "WAPORTD_SNAPSHOTS": "2",
        "WAPORTD_CACHE_MAX": "268435456",
        "WAPORTD_MEDIA_MAX": "67108864",
    }
    assert {name: environment.get(name) for name in expected} == expected
    ours = {name for name in environment if name.startswith(("WAPORTD_", "FLASK_")) or name == "PORT"}
    assert ours == {*expected, "WAPORTD_BROWSER_ARGS"}
    # What systemd shows everybody of a unit.
    shown = systemctl("show", f"whatsapp@{port}.service").stdout
    assert "EnvironmentFiles=" in shown
    assert "%22;*@p" not in shown
    assert seen["argv"] == [str(port)]


def test_an_empty_webhook_reaches_the_server_as_empty(assign):
    port = assign(webhook_url="")
    assert ask_after_start(port)["env"]["WAPORTD_WEBHOOK_URL"] == ""


def ask_after_start(port):
    systemctl("start", f"whatsapp@{port}.service")
    return ask(port)


def test_a_server_has_private_directories_and_a_home_that_is_worth_nothing(assign):
    port = assign()
    environment = ask_after_start(port)["env"]
    for variable in ("STATE_DIRECTORY", "CACHE_DIRECTORY"):
        directory = Path(environment[variable])
        assert directory.parts[-2:] == ("whatsapp", str(port))
        assert directory.stat().st_mode & 0o777 == 0o700
    assert environment["HOME"] == environment["CACHE_DIRECTORY"]


def test_systemd_holds_both_loopback_addresses_and_starts_the_server_on_request(assign):
    port = assign()
    systemctl("start", f"whatsapp@{port}.socket")
    assert properties(f"whatsapp@{port}.service", "ActiveState") == {"ActiveState": "inactive"}
    assert ask(port)["env"]["LISTEN_FDS"] == "2"
    assert ask(port, host="::1")["env"]["PORT"] == str(port)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(("0.0.0.0", port))


def test_the_status_line_and_the_journal_have_the_servers_story(assign):
    port = assign("ana")
    systemctl("start", f"whatsapp@{port}.service")
    assert properties(f"whatsapp@{port}.service", "StatusText") == {"StatusText": "serving ana"}
    journal = ("journalctl", "--user", "--no-pager", "--output=json", f"--unit=whatsapp@{port}.service")
    entry = until(lambda: [line for line in run(*journal).stdout.splitlines() if "told to" in line])[0]
    assert json.loads(entry)["SYSLOG_IDENTIFIER"] == f"whatsapp@{port}"


@pytest.mark.parametrize("kind", ["service", "socket"])
def test_what_an_environment_links_to_is_not_read(assign, config, kind, tmp_path):
    """Root's service manager would read any file for anyone who can put a link into the folder."""
    port = assign("ana")
    (tmp_path / "other.env").write_text("TOKEN=secret-of-another\n", encoding="utf-8")
    file = config.store.instances / f"{port}.env"
    file.unlink()
    file.symlink_to(tmp_path / "other.env")
    assert systemctl("start", f"whatsapp@{port}.{kind}", check=False).returncode != 0
    assert properties(f"whatsapp@{port}.{kind}", "ActiveState", "AssertResult") == {
        "ActiveState": "inactive",
        "AssertResult": "no",
    }


@pytest.mark.parametrize("kind", ["service", "socket"])
def test_a_port_that_nobody_was_assigned_does_not_start(assign, config, kind):
    port = assign()
    units.EnvironmentFolder(config.store.instances).remove(port)
    assert systemctl("start", f"whatsapp@{port}.{kind}", check=False).returncode != 0
    assert properties(f"whatsapp@{port}.{kind}", "ActiveState", "AssertResult") == {
        "ActiveState": "inactive",
        "AssertResult": "no",
    }
    assert is_refused(port)


def test_stopping_the_socket_stops_the_server_and_frees_the_port(assign):
    port = assign()
    systemctl("start", f"whatsapp@{port}.service")
    assert not is_refused(port)
    systemctl("stop", f"whatsapp@{port}.socket")
    state = properties(f"whatsapp@{port}.service", "ActiveState", "Result")
    assert state == {"ActiveState": "inactive", "Result": "success"}
    assert is_refused(port)
    assert is_refused(port, "::1")


@pytest.mark.parametrize("target", ["active", "inactive"])
def test_stopping_the_target_returns_when_every_server_is_down(assign, target):
    systemctl("start" if target == "active" else "stop", "whatsapp.target")
    ports = [assign("1"), assign("2")]
    for port in ports:
        systemctl("start", f"whatsapp@{port}.service")
    systemctl("stop", "whatsapp.target")
    for port in ports:
        assert properties(f"whatsapp@{port}.service", "ActiveState") == {"ActiveState": "inactive"}
        assert is_refused(port)


def test_a_killed_server_is_back_at_once_and_no_request_is_refused(assign):
    port = assign()
    first = ask_after_start(port)["pid"]
    for _ in range(3):  # a fourth would be a crash loop
        os.kill(first, 9)
        assert not is_refused(port)
        second = until(lambda: ask(port))["pid"]
        assert second != first
        first = second
    assert properties(f"whatsapp@{port}.service", "NRestarts", "Slice") == {
        "NRestarts": "3",
        "Slice": "whatsapp.slice",
    }


def test_stopping_kills_what_the_server_leaves_behind(assign):
    port = assign()
    systemctl("start", f"whatsapp@{port}.service")
    child = Path("/proc", str(ask(port, "/spawn")["child"]))
    assert child.exists()
    systemctl("stop", f"whatsapp@{port}.socket")
    assert not child.exists()


def ended(port):
    state = properties(f"whatsapp@{port}.service", "ActiveState", "Result", "ExecMainStatus", "NRestarts")
    return state if state["ActiveState"] in {"inactive", "failed"} else None


@pytest.mark.parametrize(
    ("status", "state", "result"),
    [(0, "inactive", "success"), (10, "inactive", "success")],
)
def test_an_end_that_another_start_does_not_fix_is_not_restarted(assign, status, state, result):
    port = assign()
    systemctl("start", f"whatsapp@{port}.service")
    ask(port, f"/exit/{status}")
    assert until(lambda: ended(port)) == {
        "ActiveState": state,
        "Result": result,
        "ExecMainStatus": str(status),
        "NRestarts": "0",
    }
    assert not is_refused(port)


@pytest.mark.parametrize("status", [1, 2, 11])
def test_a_server_that_keeps_failing_keeps_its_port_and_is_started_again(assign, status):
    port = assign()
    systemctl("start", f"whatsapp@{port}.service")
    for _ in range(10):
        ask(port, f"/exit/{status}")
        assert not is_refused(port)
    assert int(properties(f"whatsapp@{port}.service", "NRestarts")["NRestarts"]) >= 9
    assert ask(port)["env"]["PORT"] == str(port)


def test_a_pause_has_the_next_start_wait_and_ends_with_the_port(assign):
    port = assign()
    pause = f"whatsapp-pause@{port}.service"
    systemctl("start", f"whatsapp@{port}.service")
    systemctl("start", "--no-block", pause)
    until(lambda: properties(pause, "ActiveState")["ActiveState"] == "activating")
    ask(port, "/exit/11")
    until(lambda: properties(f"whatsapp@{port}.service", "NRestarts")["NRestarts"] == "1")
    assert not is_refused(port)
    assert properties(f"whatsapp@{port}.service", "MainPID")["MainPID"] == "0"
    systemctl("stop", pause)
    assert properties(pause, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    assert ask(port)["env"]["PORT"] == str(port)
    systemctl("start", "--no-block", pause)
    until(lambda: properties(pause, "ActiveState")["ActiveState"] == "activating")
    systemctl("stop", f"whatsapp@{port}.socket")
    until(lambda: properties(pause, "ActiveState")["ActiveState"] == "inactive")


def test_a_new_environment_holds_from_the_next_start_without_a_reload(assign, config):
    port = assign("2")
    assert ask_after_start(port)["env"]["WAPORTD_USER"] == "2"
    assert write_environment(config, Assignment(User("3"), port), config)
    systemctl("restart", f"whatsapp@{port}.service")
    assert ask(port)["env"]["WAPORTD_USER"] == "3"
    assert properties(f"whatsapp@{port}.service", "NeedDaemonReload") == {"NeedDaemonReload": "no"}


def verify(folder, *, bus):
    """Let systemd read the units as it would, and return what it complains about.

    Not whether the manual pages are there: the package brings them.
    """
    for kind in ("service", "socket"):
        shutil.copy(folder / f"whatsapp@.{kind}", folder / f"whatsapp@5002.{kind}")
    for name, instance in (("pause", "5002"), ("move", "any")):
        shutil.copy(folder / f"whatsapp-{name}@.service", folder / f"whatsapp-{name}@{instance}.service")
    names = [path.name for path in folder.iterdir() if "@." not in path.name]
    scope = ["--user"] if bus is Bus.SESSION else []
    result = subprocess.run(
        ["systemd-analyze", *scope, "verify", "--man=no", *(str(folder / name) for name in sorted(names))],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"},
    )
    return result.returncode, result.stdout + result.stderr


@pytest.mark.parametrize("bus", list(Bus))
def test_systemd_finds_nothing_to_complain_about(config, tmp_path, bus):
    folder = tmp_path / "units"
    folder.mkdir()
    program = tmp_path / "waportd"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name, text in units.render_units(config, bus=bus).items():
        (folder / name).write_text(text.replace("/usr/bin/waportd", str(program)))
    assert verify(folder, bus=bus) == (0, "")
    # That it would complain:
    with (folder / "whatsapp@.service").open("a") as file:
        file.write("\n[Service]\nRestartSecs=1\nWatchdogSec=soon\n")
    assert "RestartSecs" in verify(folder, bus=bus)[1]


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("waportd.service", 1.1),
        ("whatsapp@.service", 2.2),
        ("whatsapp-move@.service", 1.0),
        ("whatsapp-networks.service", 1.7),
        ("whatsapp-networks-changed.service", 1.7),
        ("whatsapp-pause@.service", 6.5),
    ],
)
def test_the_exposure_stays_low(config, tmp_path, name, most):
    units.generate_units(tmp_path / "units", config)
    text = run("systemd-analyze", "security", "--offline=yes", str(tmp_path / "units" / name)).stdout
    match = re.search(r"Overall exposure level for \S+: ([0-9.]+)", text)
    assert match
    assert float(match[1]) <= most, text


def test_sysusers_makes_the_daemons_user(tmp_path):
    (tmp_path / "etc").mkdir()
    run("systemd-sysusers", f"--root={tmp_path}", str(ROOT / "units" / "waportd.sysusers"))
    [line] = (tmp_path / "etc" / "passwd").read_text().splitlines()
    name, _, _, _, _, home, shell = line.split(":")
    assert (name, home) == ("waportd", "/var/lib/waportd")
    assert shell.endswith("nologin")


POLKIT = """
const rules = [];
const polkit = { Result: { YES: 'yes', NO: 'no', NOT_HANDLED: null }, addRule: (rule) => rules.push(rule) };
eval(require('fs').readFileSync(process.argv[1], 'utf8'));
const questions = JSON.parse(process.argv[2]);
console.log(JSON.stringify(questions.map(([user, id, unit, verb]) =>
  rules[0]({ id, lookup: (key) => ({ unit, verb })[key] }, { user }))));
"""
MANAGE = "org.freedesktop.systemd1.manage-units"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        *(
            (("waportd", MANAGE, "whatsapp@5002.service", verb), "yes")
            for verb in ["start", "stop", "restart", "reset-failed", "set-property", "clean"]
        ),
        (("waportd", MANAGE, "whatsapp@31999.socket", "stop"), "yes"),
        (("waportd", MANAGE, "whatsapp-pause@5002.service", "start"), "yes"),
        (("waportd", MANAGE, "whatsapp-pause@5002.service", "stop"), "yes"),
        (("waportd", MANAGE, "whatsapp-pause@5002.service", "restart"), "no"),
        (("waportd", MANAGE, "whatsapp-pause@5002.socket", "start"), "no"),
        (("waportd", MANAGE, "whatsapp-pause@80.service", "start"), "no"),
        *(
            (("waportd", MANAGE, f"whatsapp-move@5002:5003{step}.service", "start"), "yes")
            for step in ("", ":back", ":check")
        ),
        *(
            (("waportd", MANAGE, "whatsapp-move@5002:5003.service", verb), "no")
            for verb in ("stop", "restart", "reset-failed", "set-property", "clean", "ref", "kill")
        ),
        *(
            (("waportd", MANAGE, f"whatsapp-move@{name}", "start"), "no")
            for name in (
                *("5002.service", "5002:80.service", "5002:5003:now.service", "5002:5003:back:check.service"),
                *(".service", "5002:5003.socket", "5002:../etc.service", "5002:5003\n.service"),
            )
        ),
        (("waportd", MANAGE, "whatsapp@5002.service", "kill"), "no"),
        (("waportd", MANAGE, "whatsapp@5002.service", None), "no"),
        (("waportd", MANAGE, None, None), "no"),
        (("waportd", MANAGE, "whatsapp@80.service", "start"), "no"),
        (("waportd", MANAGE, "whatsapp@.service", "start"), "no"),
        (("waportd", MANAGE, "whatsapp@5002.service\nssh.service", "stop"), "no"),
        (("waportd", MANAGE, "xwhatsapp@5002.service", "start"), "no"),
        (("waportd", MANAGE, "whatsapp@5002.mount", "start"), "no"),
        (("waportd", MANAGE, "ssh.service", "stop"), "no"),
        (("waportd", "org.freedesktop.systemd1.reload-daemon", None, None), "no"),
        (("waportd", "org.freedesktop.systemd1.manage-unit-files", None, None), "no"),
        (("waportd", "org.freedesktop.login1.reboot", None, None), None),
        (("www-data", MANAGE, "whatsapp@5002.service", "start"), None),
    ],
)
def test_the_polkit_rule_answers_for_the_daemons_user_and_its_units_only(question, answer):
    rule = ROOT / "units" / "waportd.rules"
    output = run("/usr/bin/node", "-e", POLKIT, str(rule), json.dumps([question])).stdout
    assert json.loads(output) == [answer]

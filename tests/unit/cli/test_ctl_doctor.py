"""``doctor``: each fault is found, with what fixes it."""

import asyncio
import base64
import contextlib
import datetime as dt
import functools
import hashlib
import http.server
import json
import os
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
import types
from pathlib import Path

import pytest
from fakes import iso
from support import BASE, add_engine, all_fail, until

from waportd import networks
from waportd.cli import checks, old_session, trial
from waportd.cli.checks import CHECKS, Host, Verdict
from waportd.cli.exit_status import Exit
from waportd.cli.main import main
from waportd.cli.trial import TrialError
from waportd.client import Client, Storage
from waportd.client import Process as ShownProcess
from waportd.client import Session as ShownSession
from waportd.client import User as Shown
from waportd.diagnosis import explain_setup
from waportd.model import Port, User, service_unit

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def site(socket_path, tmp_path):
    """Look at a machine whose configuration has these lines."""

    def look(configuration="", **changes):
        file = tmp_path / "config.yaml"
        file.write_text(configuration)
        return Host(str(socket_path), file, **changes)

    return look


def found(site, check):
    """Return the verdicts of a check, and all that it says."""
    results = list(CHECKS[check](site))
    text = "\n".join(f"{finding.message} → {finding.fix}" for finding in results)
    return [finding.verdict for finding in results], text


def test_a_configuration_with_faults_is_reported_line_by_line(site):
    verdicts, text = found(site("ports:\n  bse: 5001\n"), "configuration")
    assert verdicts == [Verdict.FAIL]
    assert "did you mean base?" in text
    assert "waportctl config check" in text


def test_node(site, tmp_path):
    assert found(site(), "node")[0] == [Verdict.OK]
    verdicts, text = found(site("instances: {node: /nowhere/node}"), "node")
    assert verdicts == [Verdict.FAIL]
    assert "apt install nodejs" in text
    old = tmp_path / "node"
    old.write_text("#!/bin/sh\necho v16.20.2\n")
    old.chmod(0o755)
    verdicts, text = found(site(f"instances: {{node: {old}}}"), "node")
    assert verdicts == [Verdict.FAIL]
    assert "16.20.2 is too old" in text


@pytest.fixture
def server_folder(tmp_path):
    """A copy of the server's files, to be damaged."""
    folder = tmp_path / "lib"
    shutil.copytree(ROOT / "server", folder / "server")
    for name in ("whatsapp_server.js", "package.json"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_the_script_and_its_parts(site, server_folder):
    setting = f"instances: {{script: {server_folder}/whatsapp_server.js}}"
    assert found(site(setting), "script")[0] == [Verdict.OK]
    (server_folder / "server/qr.js").write_text("const = 1;\n")
    verdicts, text = found(site(setting), "script")
    assert verdicts == [Verdict.FAIL]
    assert f"{server_folder}/server/qr.js:1: SyntaxError" in text
    (server_folder / "whatsapp_server.js").unlink()
    verdicts, text = found(site(setting), "script")
    assert verdicts == [Verdict.FAIL]
    assert "is missing" in text


def test_the_modules(site, server_folder):
    setting = f"instances: {{script: {server_folder}/whatsapp_server.js}}"
    assert found(site(), "modules")[0] == [Verdict.OK]
    assert "whatsapp-web.js is missing" in found(site(setting), "modules")[1]
    module = server_folder / "node_modules/whatsapp-web.js"
    module.mkdir(parents=True)
    wanted = json.loads((server_folder / "package.json").read_text())["dependencies"]["whatsapp-web.js"]
    (module / "package.json").write_text(json.dumps({"version": "0.0.1"}))
    assert f"is 0.0.1, but {wanted} is needed" in found(site(setting), "modules")[1]
    (module / "package.json").write_text(json.dumps({"version": wanted}))
    (module / "index.js").write_text("require('puppeteer-of-old')\n")
    verdicts, text = found(site(setting), "modules")
    assert verdicts == [Verdict.FAIL]
    assert "Cannot find module 'puppeteer-of-old'" in text


@pytest.fixture
def tried(monkeypatch):
    """Have root start browsers as a server does, with this outcome."""

    def pretend(*outcomes, error=None):
        def run(_config, name, *, shipped=False):
            assert name == "browser_trial.js"
            if shipped:
                return {"tried": [{"path": SHELL, "version": "150.0", "error": None}], "error": None}
            if isinstance(error, TrialError):
                raise error
            browsers = [
                {"path": path, "version": "150.0", "error": words and {"message": words, "hint": None}}
                for path, words in outcomes
            ]
            return {"tried": browsers, "error": error}

        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(trial, "run", run)

    return pretend


SHELL, CHROMIUM = "/usr/bin/chromium-headless-shell", "/usr/bin/chromium"
NO_SANDBOX = f"{SHELL} does not start: No usable sandbox!"


def test_a_browser_that_starts(site, tried):
    tried((SHELL, None))
    assert found(site(), "browser")[0] == [Verdict.OK]
    verdicts, text = found(site("instances: {browser: netscape}"), "browser")
    assert verdicts == [Verdict.FAIL]
    assert "netscape (instances.browser) is missing" in text
    verdicts, _ = found(site("instances: {browser_args: [--no-sandbox]}"), "browser")
    assert verdicts == [Verdict.WARN, Verdict.OK]


def test_one_that_does_not_start_is_reported_in_its_own_words(site, tried, monkeypatch):
    monkeypatch.setattr(checks.browser, "no_user_namespaces", lambda: None)
    tried((SHELL, f"{SHELL} does not start: libnss3.so: cannot open"))
    verdicts, text = found(site(), "browser")
    assert verdicts == [Verdict.FAIL]
    assert "libnss3.so: cannot open" in text
    assert "apt install chromium" in text


def test_another_one_that_starts_is_the_way_out(site, tried):
    tried((SHELL, NO_SANDBOX), (CHROMIUM, None))
    verdicts, text = found(site(), "browser")
    assert verdicts == [Verdict.FAIL, Verdict.OK]
    assert f"instances: {{browser: {CHROMIUM}}}" in text


def test_namespaces_are_looked_at_only_where_the_browser_does_not_start(site, tried, monkeypatch):
    refused = ("kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1")
    monkeypatch.setattr(checks.browser, "no_user_namespaces", lambda: refused)
    tried((SHELL, None))
    assert found(site(), "browser")[0] == [Verdict.OK]
    tried((SHELL, NO_SANDBOX))
    verdicts, text = found(site(), "browser")
    assert verdicts == [Verdict.FAIL]
    assert " → ".join(refused) in text.replace(")", "")
    assert refused[1] not in found(site("instances: {browser_args: [--no-sandbox]}"), "browser")[1]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    verdicts, text = found(site(), "browser")
    assert verdicts == [Verdict.FAIL]
    assert refused[1] in text


@pytest.mark.parametrize(
    ("setting", "flags", "users", "fix"),
    [
        ("user", 0, "0 0 4294967295", "sysctl -w user.max_user_namespaces=10000 (to stay"),
        ("user", os.ST_RDONLY, "0 0 4294967295", "on its host: sysctl -w user.max_user_namespaces=10000 #"),
        (
            "user",
            os.ST_RDONLY,
            "0 655360 65536",
            "on its host: nsenter --target=PID --user sysctl -w user.max_user",
        ),
        (
            "kernel",
            os.ST_RDONLY,
            "0 655360 65536",
            "on its host: sysctl -w kernel.unprivileged_userns_clone=1 #",
        ),
    ],
)
def test_a_setting_is_changed_where_that_works(
    site, tried, monkeypatch, tmp_path, setting, flags, users, fix
):
    name = "user/max_user_namespaces" if setting == "user" else "kernel/unprivileged_userns_clone"
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text("0\n")
    (tmp_path / "uid_map").write_text(f"{users}\n")
    monkeypatch.setattr(checks.browser, "SETTINGS", tmp_path)
    monkeypatch.setattr(checks.browser, "USERS", tmp_path / "uid_map")
    monkeypatch.setattr(os, "statvfs", lambda _: types.SimpleNamespace(f_flag=flags))
    tried((SHELL, NO_SANDBOX))
    verdicts, text = found(site(), "browser")
    assert verdicts == [Verdict.FAIL]
    assert f"{name.replace('/', '.')} is 0" in text
    assert fix in text


def test_a_sandbox_that_nothing_known_forbids(site, tried, monkeypatch):
    monkeypatch.setattr(checks.browser, "no_user_namespaces", lambda: None)
    tried((SHELL, NO_SANDBOX))
    verdicts, text = found(site(), "browser")
    assert verdicts == [Verdict.FAIL]
    assert "unshare --user true" in text
    assert "apt install" not in text


def test_a_unit_that_systemd_cannot_set_up(site, tried):
    why = explain_setup(226)
    tried(error=TrialError(why.message, why.hint, by_systemd=True))
    verdicts, text = found(site(), "browser")
    assert verdicts == [Verdict.FAIL]
    assert "no server can start here" in text
    assert "nesting=1" in text


@pytest.mark.parametrize("error", [None, TrialError("no sandbox", "nesting", by_systemd=True)])
def test_a_drop_in_that_forbids_the_browser_is_what_has_to_change(site, tried, monkeypatch, error):
    shown = "# /usr/lib/systemd/system/whatsapp@.service\n[Service]\n\n# /etc/systemd/system/whatsapp@.service.d/x.conf\n"
    monkeypatch.setattr(Host, "systemctl", lambda *_: shown)
    tried((SHELL, NO_SANDBOX), error=error)
    verdicts, text = found(site(), "browser")
    assert verdicts == [Verdict.FAIL]
    assert "systemctl cat whatsapp@.service" in text
    assert "nesting" not in text


def test_a_browser_that_cannot_be_tried_is_not_said_to_be_well(site, tried, monkeypatch):
    tried(error=TrialError("Failed to connect to bus"))
    verdicts, text = found(site(), "browser")
    assert verdicts == [Verdict.SKIP]
    assert "Failed to connect to bus" in text
    assert found(site("instances: {node: /nowhere/node}"), "browser")[0] == [Verdict.SKIP]
    tried(error={"message": "no browser is installed", "hint": "install one"})
    assert found(site(), "browser")[0] == [Verdict.FAIL]
    monkeypatch.setattr(checks.browser, "no_user_namespaces", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    verdicts, text = found(site(), "browser")
    assert verdicts == [Verdict.SKIP]
    assert "sudo waportctl doctor" in text


def test_missing_python_modules(site, monkeypatch):
    monkeypatch.setattr(checks.software, "MODULES", {"no_such_module": "python3-no-such-module"})
    verdicts, text = found(site(), "python")
    assert verdicts == [Verdict.FAIL]
    assert "apt install python3-no-such-module" in text


@pytest.mark.parametrize(
    ("state", "verdict", "said", "fix"),
    [
        ("active", Verdict.OK, "waportd.service is active", None),
        ("failed", Verdict.FAIL, "waportd.service has failed", "journalctl -u waportd.service -n 20; then: "),
        ("activating", Verdict.FAIL, "does not finish its start", "journalctl -u waportd.service -n 20"),
        ("inactive", Verdict.FAIL, "waportd.service is inactive", "systemctl enable --now waportd.service"),
        ("", Verdict.FAIL, "waportd.service is not installed", "systemctl enable --now waportd.service"),
    ],
)
def test_a_daemon_that_is_not_up_is_reported_with_what_helps(site, monkeypatch, state, verdict, said, fix):
    here = site("systemd: {bus: system}")
    monkeypatch.setattr(
        Host, "systemctl", lambda _, verb, *rest: state if rest == ("waportd.service",) else "active"
    )
    *_, service = CHECKS["units"](here)
    assert service.verdict is verdict
    assert said in service.message
    assert service.fix is None if fix is None else service.fix.startswith(fix)


def test_a_daemon_that_does_not_answer_in_time_is_reported_with_what_helps(site, monkeypatch):
    monkeypatch.setattr(checks.service, "Client", functools.partial(Client, timeout=0.1))
    here = site()
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as deaf:
        deaf.bind(str(here.socket))
        deaf.listen()
        verdicts, text = found(here, "socket")
    assert verdicts == [Verdict.FAIL]
    assert "has not answered" in text
    assert "systemctl status waportd" in text


@pytest.mark.parametrize(("names", "warns"), [("", True), ("api: {allow_users: [root]}", False)])
def test_servers_that_every_local_user_may_call_are_reported(site, names, warns):
    _, text = found(site(f"systemd: {{bus: system}}\n{names}"), "configuration")
    assert ("every local user may call every user's server" in text) is warns
    assert ("api: {allow_users: [www-data]}" in text) is warns


def test_a_daemon_that_is_away(site):
    verdicts, text = found(site(), "socket")
    assert verdicts == [Verdict.FAIL]
    assert "systemctl start waportd.socket" in text
    assert found(site(), "ports")[0][-1] == Verdict.SKIP


async def test_users_in_trouble_are_named_with_the_way_out(site, api, supervisor, systemd, ctl, monkeypatch):
    for user in ("1", "2", "3"):
        await supervisor.ensure(User(user))
    await systemd.stop_by_hand(service_unit(Port(BASE)))
    systemd.change(
        service_unit(Port(BASE)), active_state="failed", result="exit-code", exit_code=1, exit_status=203
    )
    systemd.servers[Port(BASE + 1)].say(
        "error", cause="browser_missing", message="no browser is installed", hint="apt install chromium"
    )
    await until(supervisor, "2", lambda now: now.session and now.session.state == "error")
    said = await ctl("doctor", "--offline", "--config", site().config_file)
    assert said.status == Exit.FAILED
    assert "user 1: node cannot be executed" in said.out
    assert "user 2: no browser is installed" in said.out
    assert "→ apt install chromium" in said.out
    document = json.loads((await ctl("doctor", "--offline", "--json", "--config", site().config_file)).out)
    assert document["ok"] is False
    # That of a fleet is of hosts that belong to one.
    assert {finding["check"] for finding in document["findings"]} == CHECKS.keys() - {"fleet"}
    assert all(set(finding) == {"check", "verdict", "message", "fix"} for finding in document["findings"])
    monkeypatch.setattr(checks.service, "__version__", "9.9.9")
    assert "the running daemon is version" in (await asyncio.to_thread(found, site(), "socket"))[1]


async def test_a_passkey_that_somebody_has_to_give_is_no_failure(site, api, supervisor, systemd):
    await supervisor.ensure(User("1"))
    server = systemd.servers[Port(BASE)]
    for cause, verdict in (
        (None, Verdict.WARN),
        ("passkey_failed", Verdict.WARN),
        ("passkey_button_missing", Verdict.FAIL),
    ):
        server.say("passkey_required", message="WhatsApp wants a passkey", cause=cause, hint="see the log")
        await until(
            supervisor,
            "1",
            lambda now, cause=cause: (
                now.session and (now.session.state, now.session.cause) == ("passkey_required", cause)
            ),
        )
        verdicts, text = await asyncio.to_thread(found, site(), "servers")
        assert verdicts == [verdict]
        assert "user 1: WhatsApp wants a passkey" in text
        assert ("→ waportctl passkey 1" in text) == (verdict is Verdict.WARN)


async def test_a_web_app_that_takes_no_messages_is_reported_for_each_user(site, api, supervisor, systemd):
    for user in ("1", "2", "3"):
        await supervisor.ensure(User(user), {"webhook_url": "http://h/?token=x"} if user == "2" else None)
    assert (await asyncio.to_thread(found, site(), "webhooks"))[0] == [Verdict.OK]
    refused = {"queued": 3, "delivered": 0, "failed": 2, "dropped": 2, "error": "HTTP 403"}
    for user, webhook in enumerate((refused, {**refused, "dropped": 0}, {**refused, "error": None})):
        systemd.servers[Port(BASE + user)].say("ready", linked=True, webhook=webhook)
        await until(supervisor, str(user + 1), lambda now: now.assignment.linked)
    verdicts, text = await asyncio.to_thread(found, site(), "webhooks")
    assert verdicts == [Verdict.WARN] * 3
    assert (
        "user 1: the web app does not take the messages: HTTP 403 (2 lost since the server started)" in text
    )
    assert "check instances.webhook_url" in text
    assert "user 2: the web app does not take the messages: HTTP 403 → check webhook_url of user 2" in text
    assert "user 3: the web app did not take all messages (2 lost since the server started)" in text
    assert "token" not in text


async def test_messages_that_wait_for_five_minutes_or_were_given_up_are_reported(
    site, api, supervisor, systemd
):
    await supervisor.ensure(User("1"))
    webhook = {"queued": 3, "undelivered": 2, "error": "HTTP 503", "oldest_at": iso(time.time() - 720)}
    systemd.servers[Port(BASE)].say("ready", linked=True, webhook=webhook)
    await until(supervisor, "1", lambda now: now.assignment.linked)
    verdicts, text = await asyncio.to_thread(found, site(), "webhooks")
    assert verdicts == [Verdict.WARN, Verdict.FAIL]
    assert (
        "2 messages were given up and kept as undelivered → when the web app takes messages: waportctl"
        in text
    )
    assert "3 messages wait for the web app, the oldest for 12m: HTTP 503 → check instances" in text
    told = {**webhook, "queued": 1, "undelivered": 1}
    systemd.servers[Port(BASE)].say("ready", linked=True, webhook=told)
    await until(supervisor, "1", lambda now: now.session.webhook.queued == 1)
    _, text = await asyncio.to_thread(found, site(), "webhooks")
    assert "1 message was given up and kept as undelivered" in text
    assert "1 message waits for the web app, for 12m: HTTP 503" in text


@pytest.mark.parametrize(
    "line", [f"webhook_secret: whsec_{'aGlkZGVu' * 4}", "webhook_headers: {Authorization: aGlkZGVu}"]
)
async def test_a_file_with_a_secret_of_the_webhook_must_be_closed(site, api, line):
    seen = site(f"instances:\n  {line}\n")
    file = seen.config_file
    file.chmod(0o640)
    assert (await asyncio.to_thread(found, seen, "webhooks"))[0] == [Verdict.OK]
    file.chmod(0o644)
    verdicts, text = await asyncio.to_thread(found, seen, "webhooks")
    assert verdicts == [Verdict.FAIL, Verdict.OK]
    assert f"everybody on this host can read {file}" in text
    assert "aGlkZGVu" not in text


async def test_an_alarm_is_reported_with_what_to_do(site, api, supervisor, systemd):
    await all_fail(supervisor, systemd)
    verdicts, text = await asyncio.to_thread(found, site(), "socket")
    assert verdicts == [Verdict.OK, Verdict.FAIL]
    assert "3 users fail in the same way" in text
    assert "(WhatsApp Web 2.3000.1) → `waportctl doctor --upstream`" in text


async def test_a_port_that_another_program_holds(site, api, ctl, supervisor, monkeypatch):
    user = types.SimpleNamespace(
        user="2",
        port=BASE,
        process=types.SimpleNamespace(
            cause="port_held", state="failed", message="port is held by nginx (pid 7)"
        ),
    )
    looked = site()
    looked.users = [user]
    verdicts, text = found(looked, "ports")
    assert verdicts[-1] == Verdict.FAIL
    assert f"waportctl port {BASE} --end-stale" in text


def test_the_web_apps_own_port(site):
    assert "the web app's port 5002" in found(site(), "ports")[1]
    assert "web app's" not in found(site("ports: {reserved: [5002]}"), "ports")[1]
    assert (
        "web app's"
        not in found(site("instances: {webhook_url: 'https://app.example:5002/hook'}"), "ports")[1]
    )


def test_ports_of_outgoing_connections(site):
    verdicts, text = found(site("ports: {overflow: 30000-40000, reserved: [5002]}"), "ports")
    assert verdicts[0] == Verdict.WARN
    assert 'sysctl -w net.ipv4.ip_local_port_range="40001 60999"' in text


@pytest.mark.parametrize(
    ("restricts", "profiles", "known"),
    [
        ("1\n", "/usr/bin/man (enforce)\n", True),
        ("1\n", "whatsapp-server (unconfined)\n", False),
        ("0\n", "", False),
        (None, None, False),
    ],
)
def test_ubuntus_restriction_of_namespaces(site, tried, monkeypatch, tmp_path, restricts, profiles, known):
    tried((SHELL, NO_SANDBOX))
    monkeypatch.setattr(checks.browser, "KERNEL", tmp_path)
    monkeypatch.setattr(checks.browser, "PROFILES", tmp_path / "profiles")
    if restricts is not None:
        (tmp_path / "apparmor_restrict_unprivileged_userns").write_text(restricts)
        (tmp_path / "profiles").write_text(profiles)
    verdicts, text = found(site(), "browser")
    assert verdicts == [Verdict.FAIL]
    assert ("apparmor_parser -r /etc/apparmor.d/whatsapp-server" in text) == known
    assert "chromium-sandbox" not in text


@pytest.mark.parametrize("kind", ["link", "script"])
def test_a_browser_from_a_snap(site, tried, tmp_path, kind):
    snap = tmp_path / "snap"
    snap.write_text("#!/bin/sh\necho Chromium 150.0 snap\n")
    snap.chmod(0o755)
    browser = tmp_path / "chromium-browser"
    if kind == "link":
        browser.symlink_to(snap)
    else:
        browser.write_text("#!/bin/sh\nif false; then exec /snap/bin/chromium; fi\necho Chromium 150.0\n")
        browser.chmod(0o755)
    tried((browser, f"{browser} does not start: it ended with exit code 46"))
    verdicts, text = found(site(f"instances: {{browser: {browser}}}"), "browser")
    assert verdicts == [Verdict.FAIL]
    assert "exit code 46 (it is a snap" in text
    assert ".deb" in text


@pytest.mark.parametrize(
    ("mebibytes", "verdict", "said"),
    [
        (300, Verdict.WARN, "hardly enough for one more session"),
        (510, Verdict.OK, "about one more session"),
        (800, Verdict.OK, "about 2 more sessions at 250 MiB each"),
    ],
)
def test_how_many_sessions_fit_is_reported(site, monkeypatch, mebibytes, verdict, said):
    memory = types.SimpleNamespace(available=mebibytes << 20)
    monkeypatch.setattr(checks.machine.psutil, "virtual_memory", lambda: memory)
    verdicts, text = found(site(), "memory")
    assert verdicts == [verdict]
    assert said in text


def test_memory_that_is_short(site):
    assert found(site("limits: {min_available_memory: 1M}"), "memory")[0] == [Verdict.OK]
    verdicts, text = found(site("limits: {min_available_memory: 900G}"), "memory")
    assert verdicts == [Verdict.FAIL]
    assert "limits.min_available_memory" in text


def keeping(user, login, cache, state="running", journal=0):
    """A user whose session keeps so much on disk; None: it was not measured."""
    storage = None if login is None else Storage(login=login, cache=cache, journal=journal)
    return Shown(user=user, storage=storage, process=ShownProcess(state=state))


MIB, GIB = 1 << 20, 1 << 30


@pytest.fixture
def grown(site, monkeypatch):
    """Look at what these users' sessions keep, with so much free on the disk of the caches."""

    def look(users, free=100 * GIB, configuration=""):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free))
        here = site(configuration)
        here.users = users
        return found(here, "growth")

    return look


def test_what_the_sessions_keep_is_summed_up_with_what_is_free(grown):
    users = [
        keeping("1", 200 * MIB, 64 * MIB, journal=20 * MIB),
        keeping("2", 100 * MIB, 0, journal=3 * GIB),
        keeping("3", None, None),
    ]
    verdicts, text = grown(users)
    assert verdicts == [Verdict.OK]
    assert (
        "2 of 3 sessions measured: logins 300 MiB, caches 64 MiB, journals 3.0 GiB, snapshots 0 MiB; 100.0 GiB are free"
        in text
    )


def test_a_login_and_a_cache_that_have_grown_are_reported_with_what_helps(grown):
    users = [
        keeping("1", 3 * GIB, 300 * MIB),
        keeping("2", GIB, 256 * MIB),
        keeping("3", 5 * MIB, 900 * MIB, state="stopped"),
    ]
    verdicts, text = grown(users)
    assert verdicts == [*[Verdict.WARN] * 3, Verdict.OK]
    assert "user 1: the login has 3.0 GiB → to make it smaller, delete it (waportctl logout 1)" in text
    assert "user 1: the cache has 300 MiB; instances.cache_max is 256 MiB" in text
    assert "waportctl restart 1" in text
    assert "waportctl start 3" in text
    assert "user 2" not in text
    assert text.index("user 3: the cache") < text.index("user 1: the cache")


def test_of_very_many_that_have_grown_the_largest_are_named(grown):
    verdicts, text = grown([keeping(str(number), 2 * GIB + number * GIB, 0) for number in range(100)])
    assert verdicts == [*[Verdict.WARN] * 11, Verdict.OK]
    assert "user 99: the login has 101.0 GiB" in text
    assert "user 89:" not in text
    assert "90 more logins and caches are too large → waportctl list --disk" in text


def test_caches_that_may_fill_the_disk_are_reported_before_they_do(grown):
    users = [keeping("1", 0, 56 * MIB), keeping("2", None, None)]
    assert grown(users, free=456 * MIB)[0] == [Verdict.OK]
    verdicts, text = grown(users, free=456 * MIB - 1)
    assert verdicts == [Verdict.WARN, Verdict.OK]
    assert "the caches may grow by 456 MiB (2 users, instances.cache_max is 256 MiB)" in text
    assert grown(users, free=456 * MIB - 1, configuration="instances: {cache_max: 64M}")[0] == [Verdict.OK]
    verdicts, text = grown(users, configuration="instances: {cache_max: 0}")
    assert verdicts == [Verdict.WARN, Verdict.OK]
    assert "the caches have no limit, and 100.0 GiB are free" in text


def test_a_daemon_that_does_not_answer_knows_no_sizes(grown):
    assert grown(None)[0] == [Verdict.SKIP]


@pytest.mark.parametrize(
    ("free", "verdict"), [(1 << 20, Verdict.FAIL), (500 << 20, Verdict.WARN), (9 << 30, Verdict.OK)]
)
def test_a_disk_that_is_full(site, monkeypatch, free, verdict):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free))
    assert set(found(site("systemd: {bus: session}"), "disk")[0]) == {verdict}


@pytest.mark.parametrize(
    ("host", "why"),
    [("web.whatsapp.invalid", "getent hosts"), ("127.0.0.1", "curl -I")],
)
def test_an_upstream_that_is_away(site, monkeypatch, host, why):
    monkeypatch.setattr(checks.upstream, "UPSTREAM", host)
    verdicts, text = found(site(), "upstream")
    assert verdicts == [Verdict.FAIL]
    assert why in text


def test_an_upstream_that_is_not_asked(site):
    assert found(site(offline=True), "upstream")[0] == [Verdict.SKIP]
    own_way = "browser_args: ['--host-resolver-rules=MAP * 127.0.0.1']"
    for setting in (own_way, "proxy: 'socks4://p:1'", "proxy: 'https://p:1'"):
        assert found(site(f"instances: {{{setting}}}"), "upstream")[0] == [Verdict.SKIP]


@pytest.fixture
def proxy_server():
    """A proxy that knows ana:p@ss, and leads nowhere."""

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_CONNECT(self):
            known = "Basic " + base64.b64encode(b"ana:p@ss").decode()
            self.send_response(403 if self.headers["Proxy-Authorization"] == known else 407)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("login", "why"),
    [
        ("", "wants a name and a password"),
        ("ana:hidden@", "wants a name and a password"),
        ("ana:p%40ss@", "it answers 403"),
    ],
)
def test_the_site_is_tried_through_the_proxy(site, proxy_server, login, why):
    here = site(f"instances: {{proxy: 'http://{login}127.0.0.1:{proxy_server}'}}")
    verdicts, text = found(here, "upstream")
    assert verdicts == [Verdict.FAIL]
    assert why in text
    assert "hidden" not in text
    assert "p%40ss" not in text


def test_a_proxy_that_is_not_there(site):
    verdicts, text = found(site("instances: {proxy: 'http://ana:hidden@127.0.0.1:9'}"), "upstream")
    assert verdicts == [Verdict.FAIL]
    assert "the proxy http://ana:***@127.0.0.1:9 cannot be reached: Connection refused" in text
    verdicts, text = found(site("instances: {proxy: 'socks5://127.0.0.1:9'}"), "upstream")
    assert verdicts == [Verdict.FAIL]
    assert "the proxy socks5://127.0.0.1:9 cannot be reached: Connection refused" in text


class SocksServer(socketserver.ThreadingTCPServer):
    """A proxy of SOCKS 5 that gives set answers, and behind it a site."""

    def __init__(self, certificate):
        super().__init__(("127.0.0.1", 0), self.Connection)
        self.certificate = certificate
        self.answers = [b"\x05\x00", b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"]
        self.asked = []

    class Connection(socketserver.BaseRequestHandler):
        def handle(self):
            for answer in self.server.answers:
                self.server.asked.append(self.request.recv(1000))
                # Byte by byte, as a network may deliver them.
                for byte in answer:
                    self.request.sendall(bytes([byte]))
            if len(self.server.answers[-1]) < 4 or self.server.answers[-1][1]:
                return
            with self.server.certificate.wrap_socket(self.request, server_side=True) as site:
                site.recv(1000)
                site.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def socks_server(tmp_path, monkeypatch):
    """A proxy of SOCKS 5 with a site behind it, whose certificate is trusted."""
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-subj", "/CN=web.whatsapp.com", "-addext", "subjectAltName=DNS:web.whatsapp.com"),
            *("-keyout", key, "-out", certificate),
        ],
        capture_output=True,
        check=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    trusting = ssl.create_default_context(cafile=certificate)
    monkeypatch.setattr(ssl, "create_default_context", lambda: trusting)
    with SocksServer(context) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def through(site, server):
    return found(site(f"instances: {{proxy: 'socks5://127.0.0.1:{server.server_address[1]}'}}"), "upstream")


def test_the_site_is_tried_through_a_socks_proxy_as_a_browser_does(site, socks_server):
    verdicts, text = through(site, socks_server)
    assert (verdicts, text) == ([Verdict.OK], "web.whatsapp.com answers → None")
    assert socks_server.asked == [b"\x05\x01\x00", b"\x05\x01\x00\x03\x10web.whatsapp.com\x01\xbb"]
    socks_server.answers[1] = b"\x05\x00\x00\x03\x05proxy\x00\x50"
    assert through(site, socks_server)[0] == [Verdict.OK]


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([b"\x05\xff"], "wants a name and a password, but browsers send none to a SOCKS proxy"),
        ([b"\x05\x00", b"\x05\x02\x00\x01"], "does not lead to web.whatsapp.com: its rules do not allow it"),
        ([b"\x05\x00", b"\x05\x63\x00\x01"], "does not lead to web.whatsapp.com: it answers 99"),
        ([b"HT"], "does not speak SOCKS 5"),
        ([b""], "it closes the connection"),
    ],
)
def test_a_socks_proxy_that_does_not_do_is_reported_with_the_reason(site, socks_server, answers, why):
    socks_server.answers = answers
    verdicts, text = through(site, socks_server)
    assert verdicts == [Verdict.FAIL]
    assert why in text


def test_a_proxy_of_a_variable_that_chromium_takes_for_another_one_is_reported(site, monkeypatch):
    monkeypatch.setattr(Host, "systemctl", lambda *_: "ALL_PROXY=socks5://ana:hidden@q:2")
    verdicts, text = found(site(), "proxy")
    assert verdicts == [Verdict.FAIL, Verdict.FAIL, Verdict.OK]
    assert "takes socks5://ana:***@q:2 (ALL_PROXY in the environment of the unit) as an HTTP proxy" in text
    assert "ignores name and password in the environment" in text
    assert "set it as instances.proxy" in text
    assert "hidden" not in text


def test_which_proxy_is_taken_is_reported_and_not_its_password(site, monkeypatch):
    monkeypatch.setattr(Host, "systemctl", lambda *_: "")
    here = site("instances: {proxy: 'http://ana:hidden@p:1'}")
    here.config_file.chmod(0o640)
    here.users = [types.SimpleNamespace(user="2", proxy="none", own_proxy=True)]
    verdicts, text = found(here, "proxy")
    assert verdicts == [Verdict.OK]
    assert "browsers: http://ana:***@p:1 (instances.proxy); user 2: none; webhook: never a proxy" in text
    here.config_file.chmod(0o644)
    verdicts, text = found(here, "proxy")
    assert verdicts == [Verdict.FAIL, Verdict.OK]
    assert "chmod o=" in text
    assert "hidden" not in text
    assert "browsers: no proxy; " in found(site(), "proxy")[1]


def test_a_proxy_that_comes_another_way_is_reported_too(site, monkeypatch):
    verdicts, text = found(site("instances: {browser_args: ['--proxy-server=http://a:hidden@p:1']}"), "proxy")
    assert verdicts == [Verdict.WARN, Verdict.OK]
    assert "set instances.proxy" in text
    assert "hidden" not in text
    monkeypatch.setattr(Host, "systemctl", lambda *_: "MALLOC_ARENA_MAX=1 https_proxy=http://q:2")
    assert "browsers: http://q:2 (https_proxy in the environment" in found(site(), "proxy")[1]
    assert "no proxy" in found(site("instances: {proxy: none}"), "proxy")[1]


def test_a_program_that_hangs_is_given_up():
    assert checks.host.call("sleep", "60", timeout=0.1) == (None, "timed out after 0.1 s")


def test_config_check_names_every_fault(tmp_path, capsys):
    file = tmp_path / "config.yaml"
    file.write_text("ports:\n  base: x\napi:\n  sockt: /a\n")
    assert main(["config", "check", str(file)]) == Exit.FAILED
    said = capsys.readouterr().out
    assert f"{file}:2: ports.base" in said
    assert f"{file}:4: api.sockt" in said
    assert main(["config", "check", str(file), "--json"]) == Exit.FAILED
    assert [fault["line"] for fault in json.loads(capsys.readouterr().out)["faults"]] == [2, 4]
    file.write_text("")
    assert main(["config", "check", str(file)]) == Exit.OK
    assert main(["config", "check", str(tmp_path / "none")]) == Exit.FAILED


def test_a_configuration_that_may_not_be_read(tmp_path, capsys, monkeypatch, site):
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    assert main(["config", "check", str(site().config_file)]) == Exit.NOT_PERMITTED
    assert found(site(), "configuration")[0] == [Verdict.SKIP]


SESSION = "systemd: {{bus: session}}\nstore: {{directory: {}}}\n"


def test_engines(site, tmp_path, monkeypatch):
    monkeypatch.setattr("waportd.config.model.ENGINES", tmp_path / "none")
    verdicts, text = found(site(), "engines")
    assert verdicts == [Verdict.OK]
    assert "bundled (whatsapp-web.js 1." in text
    verdicts, text = found(site("instances: {engine: 1.34.6}"), "engines")
    assert verdicts == [Verdict.FAIL]
    assert "there is no engine '1.34.6'; there is bundled" in text
    assert "waportctl engine install 1.34.6" in text


def test_an_engine_of_a_user_that_is_not_there(site, tmp_path):
    here = site(SESSION.format(tmp_path))
    here.users = [types.SimpleNamespace(user="2", engine="1.34.6", own_engine=True)]
    verdicts, text = found(here, "engines")
    assert verdicts == [Verdict.OK, Verdict.FAIL]
    assert "user 2 has engine 1.34.6" in text
    add_engine(here.config, "1.34.6")
    assert found(here, "engines")[0] == [Verdict.OK]


def test_a_folder_of_engines_that_others_may_change(site, tmp_path):
    here = site(SESSION.format(tmp_path))
    add_engine(here.config, "1.34.6")
    here.config.engines.chmod(0o775)
    verdicts, text = found(here, "engines")
    assert verdicts == [Verdict.OK, Verdict.FAIL]
    assert "users other than root may write" in text


def test_a_pinned_page_is_warned_of(site, tmp_path):
    page = tmp_path / "page.html"
    here = site(SESSION.format(tmp_path) + f"instances: {{web_version: {page}}}\n")
    verdicts, text = found(here, "engines")
    assert verdicts == [Verdict.OK, Verdict.FAIL]
    assert "No such file" in text
    page.write_text("<!doctype html>")
    verdicts, text = found(here, "engines")
    assert verdicts == [Verdict.OK, Verdict.WARN]
    assert f"every server loads a pinned page, {page}" in text


@pytest.mark.parametrize(
    ("page", "why"),
    [("/root/page.html", "cannot see"), ("/tmp/page.html", "cannot see"), ("/etc/shadow", "may not read")],
)
def test_a_pinned_page_that_no_server_can_read(site, tmp_path, monkeypatch, page, why):
    monkeypatch.setattr("waportd.config.model.ENGINES", tmp_path / "none")
    verdicts, text = found(site(f"instances: {{web_version: {page}}}"), "engines")
    assert verdicts == [Verdict.OK, Verdict.FAIL]
    assert why in text


LISTEN = "api: {listen: ['127.0.0.1:8080', '[::1]:8080']}\n"
HELD = "Listen=/run/waportd/api.sock (Stream)\nActiveState=active\n\nListen=127.0.0.1:8080 (Stream)\nListen=[::1]:8080 (Stream)\nActiveState="


@pytest.mark.parametrize(
    ("said", "verdict", "word"),
    [
        (HELD + "active", Verdict.OK, "systemd holds 127.0.0.1:8080, [::1]:8080"),
        (HELD + "inactive", Verdict.FAIL, "does not hold 127.0.0.1:8080, [::1]:8080"),
        (HELD.replace("[::1]", "[::2]") + "active", Verdict.FAIL, "does not hold [::1]:8080 for"),
        ("", Verdict.FAIL, "waportd generate-units --tcp"),
        (
            HELD.replace("Listen=[", "Listen=192.0.2.1:1 (Stream)\nListen=[") + "active",
            Verdict.WARN,
            "192.0.2.1:1, which",
        ),
        (
            HELD + "active\nId=waportd-tcp.socket\nUnitFileState=enabled",
            Verdict.OK,
            "systemd holds",
        ),
    ],
)
def test_an_address_that_systemd_does_not_hold_fails(site, monkeypatch, said, verdict, word):
    monkeypatch.setattr(Host, "systemctl", lambda *_: said)
    verdicts, text = found(site(LISTEN), "listen")
    assert verdicts == [verdict]
    assert word in text


def test_without_an_address_nothing_has_to_be_held(site, monkeypatch):
    monkeypatch.setattr(
        Host, "systemctl", lambda *_: "Listen=/run/waportd/api.sock (Stream)\nActiveState=active"
    )
    assert found(site(), "listen")[0] == [Verdict.OK]
    monkeypatch.setattr(Host, "systemctl", lambda *_: HELD + "active")
    verdicts, text = found(site(), "listen")
    assert verdicts == [Verdict.WARN]
    assert "systemctl disable --now waportd-tcp.socket" in text


def test_a_unit_that_holds_the_addresses_until_the_next_boot_only_is_reported(site, monkeypatch):
    monkeypatch.setattr(
        Host, "systemctl", lambda *_: HELD + "active\nId=waportd-tcp.socket\nUnitFileState=disabled"
    )
    verdicts, text = found(site(LISTEN), "listen")
    assert verdicts == [Verdict.OK, Verdict.WARN]
    assert "systemctl enable waportd-tcp.socket" in text


DENIED = "IPAddressAllow=\nIPAddressDeny=fe80::/10 169.254.0.0/16\n"
DENY = "instances: {deny_networks: [169.254.0.0/16, 'fe80::/10']}"


@pytest.mark.parametrize(
    ("said", "uid", "status", "verdict", "word"),
    [
        (DENIED, 0, 42, Verdict.OK, "sessions are kept from 169.254.0.0/16, fe80::/10"),
        (DENIED, 0, 0, Verdict.WARN, "the kernel does not keep sessions from"),
        (DENIED, 0, 1, Verdict.OK, "systemd keeps"),
        (DENIED, 1000, 0, Verdict.OK, "run as root to check the kernel"),
        ("IPAddressAllow=\nIPAddressDeny=\n", 0, 42, Verdict.WARN, "systemctl restart whatsapp-networks"),
        ("", 0, 42, Verdict.WARN, "are not kept from"),
    ],
)
def test_networks_that_sessions_are_to_be_kept_from(
    site, monkeypatch, tmp_path, said, uid, status, verdict, word
):
    monkeypatch.setattr(networks, "RESOLVER", tmp_path / "none")
    monkeypatch.setattr(Host, "systemctl", lambda *_: said)
    monkeypatch.setattr(checks.systemd, "call", lambda *_, **__: (status, ""))
    monkeypatch.setattr("os.geteuid", lambda: uid)
    verdicts, text = found(site(DENY), "networks")
    assert verdicts == [verdict]
    assert word in text


def test_a_name_server_that_is_denied_is_reported(site, monkeypatch, tmp_path):
    (tmp_path / "resolv.conf").write_text("nameserver 169.254.169.254\n")
    monkeypatch.setattr(networks, "RESOLVER", tmp_path / "resolv.conf")
    monkeypatch.setattr(Host, "systemctl", lambda *_: DENIED)
    assert found(site(DENY), "networks")[0] == [Verdict.WARN]


def test_without_networks_to_deny_nothing_has_to_be_said(site):
    assert found(site("instances: {deny_networks: []}"), "networks")[0] == [Verdict.OK]


def copied(user, minutes_ago, ready_for=600, state="ready"):
    """A linked user whose login was copied so long ago; None: it never was."""
    now = dt.datetime.now(dt.UTC)
    at = None if minutes_ago is None else now - dt.timedelta(minutes=minutes_ago)
    return Shown(
        user=user,
        port=int(user) + 5000,
        linked=True,
        storage=Storage(snapshot_at=at),
        session=ShownSession(state=state, since=now - dt.timedelta(minutes=ready_for)),
        process=ShownProcess(state="running"),
    )


@pytest.fixture
def copies(site, monkeypatch, tmp_path):
    """Look at the snapshots of these users, which lie in a folder."""
    monkeypatch.setattr(old_session, "sessions_folder", lambda _: tmp_path / "sessions")

    def look(users, configuration=""):
        here = site(f"systemd: {{bus: session}}\n{configuration}")
        here.users = users
        return found(here, "snapshots")

    return look


def keep_copy(tmp_path, port, text=b"login"):
    folder = tmp_path / f"sessions/{port}/.wwebjs_auth_{port}/snapshots/1"
    folder.mkdir(parents=True)
    (folder / "log").write_bytes(text)
    described = {"log": {"size": 5, "sha256": hashlib.sha256(b"login").hexdigest()}}
    (folder / "snapshot.json").write_text(json.dumps({"version": 1, "at": 1, "files": described}))


def test_the_oldest_snapshot_is_read_to_the_last_byte(copies, tmp_path):
    keep_copy(tmp_path, 5002)
    verdicts, text = copies([copied("1", 3), copied("2", 50), copied("3", None, ready_for=2)])
    assert verdicts == [Verdict.OK, Verdict.OK]
    assert "2 of 3 logins are copied, and no copy is too old" in text
    assert "user 2: the snapshot is complete" in text


def test_a_snapshot_that_has_changed_is_a_failure(copies, tmp_path):
    keep_copy(tmp_path, 5001, b"logim")
    verdicts, text = copies([copied("1", 3)])
    assert verdicts == [Verdict.OK, Verdict.FAIL]
    assert "'log' has changed" in text
    assert "curl -X POST http://localhost:5001/snapshot" in text


def test_snapshots_that_are_too_old_are_named_and_only_of_who_is_connected(copies):
    users = [copied("1", 61), copied("2", None), copied("3", 61, state="disconnected"), copied("4", 61, 10)]
    verdicts, text = copies(users)
    assert verdicts[:2] == [Verdict.WARN, Verdict.WARN]
    assert "user 1: the newest snapshot of the login is 1h" in text
    assert "user 2: the newest snapshot of the login was never made" in text
    assert "waportctl logs 2" in text
    assert "user 3" not in text.replace("user 3: the snapshot", "")
    verdicts, text = copies([copied("1", 61)], "instances: {snapshot_interval: 1h}")
    assert Verdict.WARN not in verdicts[:1]


def test_where_no_snapshots_are_made_that_is_said(copies):
    verdicts, text = copies([copied("1", None)], "instances: {snapshot_interval: 0}")
    assert verdicts == [Verdict.OK]
    assert "instances.snapshot_interval is 0" in text

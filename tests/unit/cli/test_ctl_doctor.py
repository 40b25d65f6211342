"""``doctor``: each fault is found, with what mends it."""

import asyncio
import json
import os
import shutil
import types
from pathlib import Path

import pytest
from support import BASE, add_engine, all_fail, until

from waportd.cli import checks
from waportd.cli.checks import CHECKS, Site, Verdict
from waportd.cli.exits import Exit
from waportd.cli.main import main
from waportd.model import Port, User, service_unit

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def site(socket_path, tmp_path):
    """Look at a machine whose configuration has these lines."""

    def look(configuration="", **changes):
        file = tmp_path / "config.yaml"
        file.write_text(configuration)
        return Site(str(socket_path), file, **changes)

    return look


def found(site, check):
    """Return the verdicts of a check, and all that it says."""
    results = list(CHECKS[check](site))
    text = "\n".join(f"{message} → {fix}" for _, message, fix in results)
    return [verdict for verdict, _, _ in results], text


def test_a_configuration_with_faults_is_told_line_by_line(site):
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
    assert f"is 0.0.1, and {wanted} is needed" in found(site(setting), "modules")[1]
    (module / "package.json").write_text(json.dumps({"version": wanted}))
    (module / "index.js").write_text("require('puppeteer-of-old')\n")
    verdicts, text = found(site(setting), "modules")
    assert verdicts == [Verdict.FAIL]
    assert "Cannot find module 'puppeteer-of-old'" in text


def test_the_browser(site, tmp_path):
    assert found(site(), "browser")[0] == [Verdict.OK]
    verdicts, text = found(site("instances: {browser: netscape}"), "browser")
    assert verdicts == [Verdict.FAIL]
    assert "netscape (instances.browser) is not there" in text
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho 'libnss3.so: cannot open' >&2; exit 127\n")
    broken.chmod(0o755)
    verdicts, text = found(site(f"instances: {{browser: {broken}}}"), "browser")
    assert verdicts == [Verdict.FAIL]
    assert "libnss3.so" in text
    assert Verdict.WARN in found(site("instances: {browser_args: [--no-sandbox]}"), "browser")[0]


def test_a_kernel_that_lets_nobody_make_namespaces(site, monkeypatch):
    refused = ("kernel.unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1")
    monkeypatch.setattr(checks, "_no_user_namespaces", lambda: refused)
    verdicts, text = found(site(), "browser")
    assert verdicts == [Verdict.OK, Verdict.FAIL]
    assert refused[1] in text


def test_missing_python_modules(site, monkeypatch):
    monkeypatch.setattr(checks, "_MODULES", {"no_such_module": "python3-no-such-module"})
    verdicts, text = found(site(), "python")
    assert verdicts == [Verdict.FAIL]
    assert "apt install python3-no-such-module" in text


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
    assert {finding["check"] for finding in document["findings"]} == set(CHECKS)
    assert all(set(finding) == {"check", "verdict", "message", "fix"} for finding in document["findings"])
    monkeypatch.setattr(checks, "__version__", "9.9.9")
    assert "the daemon that runs is version" in (await asyncio.to_thread(found, site(), "socket"))[1]


async def test_an_alarm_is_told_with_what_to_do(site, api, supervisor, systemd):
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


def test_memory_that_is_short(site):
    assert found(site("limits: {min_available_memory: 1M}"), "memory")[0] == [Verdict.OK]
    verdicts, text = found(site("limits: {min_available_memory: 900G}"), "memory")
    assert verdicts == [Verdict.FAIL]
    assert "limits.min_available_memory" in text


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
    monkeypatch.setattr(checks, "_UPSTREAM", host)
    verdicts, text = found(site(), "upstream")
    assert verdicts == [Verdict.FAIL]
    assert why in text


def test_an_upstream_that_is_not_asked(site):
    assert found(site(offline=True), "upstream")[0] == [Verdict.SKIP]
    assert found(site("instances: {browser_args: ['--proxy-server=http://p:1']}"), "upstream")[0] == [
        Verdict.SKIP
    ]


def test_a_program_that_hangs_is_given_up():
    assert checks.call("sleep", "60", timeout=0.1) == (None, "no end after 0.1 s")


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
    monkeypatch.setattr("waportd.config._ENGINES", tmp_path / "none")
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
    assert "others than root may write" in text


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
    [("/root/page.html", "do not see"), ("/tmp/page.html", "do not see"), ("/etc/shadow", "may not read")],
)
def test_a_pinned_page_that_no_server_can_read(site, tmp_path, monkeypatch, page, why):
    monkeypatch.setattr("waportd.config._ENGINES", tmp_path / "none")
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
    ],
)
def test_an_address_that_systemd_does_not_hold_fails(site, monkeypatch, said, verdict, word):
    monkeypatch.setattr(Site, "systemctl", lambda *_: said)
    verdicts, text = found(site(LISTEN), "listen")
    assert verdicts == [verdict]
    assert word in text


def test_without_an_address_nothing_has_to_be_held(site):
    assert found(site(), "listen")[0] == [Verdict.OK]

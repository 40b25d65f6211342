"""``doctor --upstream``: what a look at WhatsApp's page means, and how it is taken."""

import itertools
import json
import os
import shutil
import subprocess
import types
from pathlib import Path

import pytest
from support import BASE, add_engine, until

from waportd.cli import trial as taking
from waportd.cli import upstream
from waportd.cli.exit_status import Exit
from waportd.cli.upstream import Verdict, judge
from waportd.config import Config
from waportd.model import Port, User
from waportd.units import server_unit

ROOT = Path(__file__).resolve().parents[3]
FOUND = {
    "browser": {"path": "/usr/bin/chromium", "version": "156.0"},
    "reached": True,
    "upstream": {
        "build": "2.3000.1",
        "library": "1.34.7",
        "engine": "bundled",
        "pinned": None,
        "ok": True,
        "checked": ["boot"],
        "missing": [],
        "shims": {"message_keys": "applied"},
    },
    "code": {"ms": 1234, "shown": True, "parts": {"given": 5, "shown": 5}, "differing": []},
    "error": None,
}
CHANGED = {
    "cause": "upstream_changed",
    "message": "WhatsApp Web 2.3000.1 has changed: link needs …",
    "hint": "x",
}
NO_NETWORK = {
    "cause": "upstream_unreachable",
    "message": "web.whatsapp.com cannot be reached",
    "hint": "check DNS",
}
OTHER_CODE = {"ms": 1, "shown": False, "parts": {"given": 5, "shown": 6}, "differing": [1, 6]}


def lacking(*features, **shims):
    missing = [
        {"feature": feature, "module": "WAWebX", "member": "y", "found": "undefined"} for feature in features
    ]
    return {**FOUND["upstream"], "ok": not features, "missing": missing, "shims": shims}


@pytest.mark.parametrize(
    ("changes", "verdict", "message"),
    [
        ({}, Verdict.FINE, "has everything that waportd needs"),
        ({"code": {**FOUND["code"], "shown": None, "parts": None}}, Verdict.FINE, "has everything"),
        ({"upstream": lacking(wids="not needed", models="absent")}, Verdict.FINE, "has everything"),
        ({"upstream": lacking("groups", "groups")}, Verdict.OPTIONAL, "sessions work, without groups"),
        ({"upstream": lacking("pairing", "media_out")}, Verdict.OPTIONAL, "without pairing, media_out"),
        ({"upstream": lacking(new_codes="failed")}, Verdict.OPTIONAL, "without shim new_codes"),
        ({"upstream": lacking("groups", "send")}, Verdict.BROKEN, "no send, and so no sessions"),
        ({"upstream": lacking("link"), "code": None, "error": CHANGED}, Verdict.BROKEN, "link needs"),
        ({"code": None, "error": {**CHANGED, "cause": "no_code"}}, Verdict.BROKEN, "has changed"),
        ({"code": OTHER_CODE}, Verdict.BROKEN, "no phone will accept it"),
        ({"code": {**OTHER_CODE, "differing": [6]}}, Verdict.OPTIONAL, "with more parts"),
        ({"code": OTHER_CODE, "upstream": lacking("groups")}, Verdict.BROKEN, "no phone will accept it"),
        ({"code": None, "reached": False, "error": NO_NETWORK}, Verdict.UNREACHED, "cannot be reached"),
    ],
)
def test_what_a_look_means(changes, verdict, message):
    finding = judge({**FOUND, **changes})
    assert finding.verdict is verdict
    assert message in finding.message
    assert (finding.hint is None) is (verdict is Verdict.FINE)


@pytest.mark.parametrize("feature", upstream.CORE)
def test_each_core_feature_matters(feature):
    assert judge({**FOUND, "upstream": lacking(feature)}).verdict is Verdict.BROKEN


def test_the_core_is_that_of_the_server():
    script = "console.log(JSON.stringify(require('./server/surface').FEATURES))"
    said = subprocess.run(
        ["node", "-e", script], cwd=ROOT, capture_output=True, check=True, timeout=30
    ).stdout
    assert {name for name, feature in json.loads(said).items() if feature["core"]} == set(upstream.CORE)


@pytest.fixture
def look(ctl, tmp_path, monkeypatch):
    """Run ``doctor --upstream`` with a program in place of server/upstream.js."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / "server").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    config = tmp_path / "config.yaml"
    config.write_text(
        f"instances: {{script: {tmp_path}/whatsapp_server.js, browser_args: ['--proxy-server=http://me:SECRET@proxy'],"
        f" node: {shutil.which('node')}}}"
    )

    async def run(program, *arguments):
        (tmp_path / "server/upstream.js").write_text(program)
        return await ctl("doctor", "--upstream", "--config", config, *arguments)

    yield run
    assert not list((tmp_path / "tmp").iterdir())


def telling(found):
    """Return a program that prints this once it has read something."""
    return f"process.stdin.once('data', () => {{ console.log({json.dumps(json.dumps(found))}); process.exit(0); }});"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 0),
        ({"upstream": lacking("groups")}, 1),
        ({"upstream": lacking("link"), "error": CHANGED}, 2),
        ({"reached": False, "error": NO_NETWORK}, 3),
    ],
)
async def test_the_exit_status_shows_how_bad_it_is(look, changes, status):
    said = await look(telling({**FOUND, **changes}), "--json")
    document = json.loads(said.out)
    assert said.status == document["exit_status"] == status
    assert document["verdict"] == ["fine", "optional", "broken", "unreached"][status]
    assert {**FOUND, **changes}.items() <= document.items()
    assert document["user"] is None
    assert document["message"]


async def test_a_person_sees_what_was_found(look):
    changes = {"upstream": lacking("groups", message_keys="applied", wids="failed"), "code": OTHER_CODE}
    said = await look(telling({**FOUND, **changes}))
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    for line in (
        "Verdict broken",
        "WhatsApp Web 2.3000.1",
        "Library whatsapp-web.js 1.34.7 (bundled)",
        "No groups WAWebX.y (undefined)",
        "Failed shims wids",
        "Shims message_keys applied, wids failed",
        "Looked at boot",
        "Browser /usr/bin/chromium 156.0",
        "Code after 0.0 s; it has 5 parts, that of the page 6, and they differ in 1, 6",
    ):
        assert line in lines
    assert "→ use a newer waportd" in said.out
    assert "after 1.2 s, the same as the page shows" in (await look(telling(FOUND))).out


async def test_the_browser_is_that_of_a_session_and_its_arguments_are_shown_to_nobody_else(look):
    program = """
        process.stdin.once('data', (line) => {
            const told = JSON.parse(line);
            const shows = JSON.stringify([process.env, process.argv]);
            if (shows.includes('SECRET') || told.PORT || told.WAPORTD_WEBHOOK_URL) throw new Error('too much');
            if (!told.WAPORTD_BROWSER_ARGS.includes('SECRET')) throw new Error('too little');
            console.log(%s);
            process.exit(0);
        });
    """ % json.dumps(json.dumps(FOUND))  # fmt: skip  # noqa: UP031
    said = await look(program)
    assert said.status == Verdict.FINE, said.err


async def test_a_look_that_ends_without_a_word_says_nothing_of_the_page(look):
    said = await look("console.error('profile_error: disk full'); process.exit(7);")
    assert said.status == Verdict.UNREACHED
    assert "could not be checked: profile_error: disk full" in said.err
    assert "it ended with status 7" in (await look("process.exit(7);")).err
    assert (await look("console.log('[');")).status == Verdict.UNREACHED


async def test_a_unit_that_systemd_cannot_set_up_says_nothing_of_the_page(look):
    said = await look("process.exit(226);")
    assert said.status == Verdict.UNREACHED
    assert "the unit's sandbox cannot be set up on this system" in said.err
    assert "nesting=1" in said.err


async def test_a_look_that_takes_too_long_is_given_up(look, monkeypatch):
    monkeypatch.setattr(taking, "LIMIT", 1.0)
    said = await look("process.stdin.on('end', () => process.exit(1)).resume();")
    assert said.status == Verdict.UNREACHED


async def test_one_that_does_not_end_is_ended(look, monkeypatch):
    monkeypatch.setattr(taking, "LIMIT", 1.0)
    monkeypatch.setattr(taking, "FAREWELL", 0.5)
    said = await look("setInterval(() => {}, 1000);")
    assert (said.status, "it ended with status -9" in said.err) == (Verdict.UNREACHED, True)


async def test_without_its_program_or_with_a_wrong_configuration_nothing_is_said_of_the_page(ctl, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"instances: {{script: {tmp_path}/whatsapp_server.js}}")
    said = await ctl("doctor", "--upstream", "--config", config)
    assert (said.status, "server/upstream.js is missing" in said.err) == (Verdict.UNREACHED, True)
    config.write_text("instances: {scrip: x}")
    said = await ctl("doctor", "--upstream", "--config", config)
    assert (said.status, "did you mean script?" in said.err) == (Verdict.UNREACHED, True)


ECHO = "process.stdin.once('data', (told) => { process.stderr.write(JSON.parse(told).WAPORTD_ENGINE); process.exit(1); });"


async def test_it_looks_with_the_engine_that_is_named(look, tmp_path, monkeypatch):
    monkeypatch.setattr("waportd.config.model.ENGINES", tmp_path / "engines")
    said = await look(ECHO, "--engine", "1.34.6")
    assert (said.status, "there is no engine '1.34.6'; there is bundled" in said.err) == (
        Verdict.UNREACHED,
        True,
    )
    folder = add_engine(Config(), "1.34.6")
    assert str(folder) in (await look(ECHO, "--engine", "1.34.6")).err


@pytest.mark.parametrize("arguments", [(), ("--upstream", "--user", "1")])
async def test_an_engine_is_for_a_look_of_our_own(ctl, arguments):
    assert (await ctl("doctor", *arguments, "--engine", "bundled")).status == Exit.USAGE


async def test_a_user_without_upstream_is_a_wrong_command_line(ctl, tmp_path):
    assert (await ctl("doctor", "--user", "1")).status == Exit.USAGE


class TestOfAUser:
    async def ask(self, ctl, supervisor, systemd, state="ready", **members):
        await supervisor.ensure(User("1"))
        systemd.servers[Port(BASE)].say(state, linked=True, **members)
        await until(supervisor, "1", lambda now: now.session and now.session.state == state)
        return await ctl("doctor", "--upstream", "--user", "1", "--json")

    async def test_what_the_server_has_found_is_reported(self, api, ctl, supervisor, systemd):
        said = await self.ask(ctl, supervisor, systemd, upstream=lacking("groups"))
        document = json.loads(said.out)
        assert (said.status, document["verdict"], document["user"]) == (Verdict.OPTIONAL, "optional", "1")
        assert document["upstream"]["build"] == "2.3000.1"

    async def test_a_page_with_all_is_fine(self, api, ctl, supervisor, systemd):
        assert (await self.ask(ctl, supervisor, systemd, upstream=lacking())).status == Verdict.FINE

    async def test_a_session_that_the_page_has_ended_is_broken(self, api, ctl, supervisor, systemd):
        told = {"cause": "upstream_changed", "message": "login needs …", "hint": "another engine"}
        said = await self.ask(ctl, supervisor, systemd, "error", upstream=lacking("login"), **told)
        document = json.loads(said.out)
        assert (said.status, document["message"], document["hint"]) == (2, "login needs …", "another engine")

    async def test_a_server_that_has_not_seen_the_page_says_nothing_about_it(
        self, api, ctl, supervisor, systemd
    ):
        said = await self.ask(ctl, supervisor, systemd, "generating")
        assert said.status == Verdict.UNREACHED
        assert "waportctl qr 1" in json.loads(said.out)["hint"]
        told = {"cause": "upstream_unreachable", "message": "cannot be reached", "hint": "check DNS"}
        said = await self.ask(ctl, supervisor, systemd, "error", **told)
        document = json.loads(said.out)
        assert (said.status, document["message"], document["hint"]) == (3, "cannot be reached", "check DNS")

    async def test_one_who_has_no_server_is_unknown(self, api, ctl):
        assert (await ctl("doctor", "--upstream", "--user", "99")).status == Exit.UNKNOWN_USER


class TestAsRoot:
    """The browser's sandbox refuses root, so it runs as somebody else."""

    def command(self, monkeypatch, tmp_path, *, booted, drop_in=""):
        systemctl = tmp_path / "systemctl"
        systemctl.write_text(f"#!/bin/sh\ncat <<'END'\n{server_unit(Config())}{drop_in}END\n")
        systemctl.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(os, "chown", lambda *_: None)
        monkeypatch.setattr(taking, "BOOTED", tmp_path if booted else tmp_path / "no")
        with taking.place(Config(), Path("/usr/bin/node"), Path("/usr/lib/waportd/server/upstream.js")) as (
            command,
            folder,
        ):
            assert folder.is_dir()
        assert not folder.exists()
        assert command[-3:] == ["--", "/usr/bin/node", "/usr/lib/waportd/server/upstream.js"]
        return command

    def test_systemd_gives_it_an_id_of_its_own_and_the_restrictions_of_a_server(self, monkeypatch, tmp_path):
        command = self.command(monkeypatch, tmp_path, booted=True)
        assert command[0] == "systemd-run"
        properties = [after for before, after in itertools.pairwise(command) if before == "--property"]
        for line in (
            "DynamicUser=yes",
            "PrivateTmp=yes",
            "NoNewPrivileges=yes",
            "MemoryMax=1073741824",
            "Slice=whatsapp.slice",
            "SystemCallFilter=~@resources",
            "RuntimeMaxSec=150",
        ):
            assert line in properties
        for name in ("ExecStart", "Restart", "User", "StateDirectory", "WatchdogSec", "EnvironmentFile"):
            assert not [line for line in properties if line.startswith(f"{name}=")]

    def test_what_the_administrator_has_changed_for_all_servers_holds_too(self, monkeypatch, tmp_path):
        drop_in = (
            "\n# /etc/systemd/system/whatsapp@.service.d/override.conf\n[Unit]\nAfter=network-online.target\n"
            "[Service]\n; a comment\nProtectHome=\\\nno\nExecStartPre=+/bin/rm /\nRestartSec=5\nNice=5\n"
        )
        command = self.command(monkeypatch, tmp_path, booted=True, drop_in=drop_in)
        properties = [after for before, after in itertools.pairwise(command) if before == "--property"]
        assert properties[-3:] == ["ProtectHome= no", "Nice=5", "RuntimeMaxSec=150"]
        assert not [line for line in properties if "Exec" in line or "After" in line]

    @pytest.mark.parametrize("drop_in", ["DynamicUser=no\n", "DynamicUser=off\nUser=root\n"])
    def test_it_never_runs_as_root(self, monkeypatch, tmp_path, drop_in):
        with pytest.raises(taking.TrialError, match="DynamicUser=no"):
            self.command(monkeypatch, tmp_path, booted=True, drop_in=f"[Service]\n{drop_in}")
        self.command(monkeypatch, tmp_path, booted=True, drop_in=f"[Service]\n{drop_in}User=waweb\n")

    def test_without_systemd_it_gets_an_id_that_nobody_has(self, monkeypatch, tmp_path):
        monkeypatch.setattr(taking.pwd, "getpwall", lambda: [types.SimpleNamespace(pw_uid=65519)])
        command = self.command(monkeypatch, tmp_path, booted=False)
        number = int(command[1].removeprefix("--reuid="))
        # A process of this machine may have the next one.
        assert 61_184 <= number < 65_519
        assert command[:3] == ["setpriv", f"--reuid={number}", f"--regid={number}"]
        assert {"--clear-groups", "--no-new-privs"} <= set(command)

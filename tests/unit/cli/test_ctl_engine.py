"""``waportctl engine``: which versions there are, which one is used, and a trial on few before all get it."""

import asyncio
import contextlib
import dataclasses
import datetime as dt
import errno
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from registry import Registry, install
from support import BASE, add_engine, settled, until

from waportd.cli import canary, engine_files
from waportd.cli.exit_status import Exit
from waportd.client import Client, Process, Session, User
from waportd.config import load
from waportd.model import Port, SessionState
from waportd.model import User as Name

pytestmark = pytest.mark.usefixtures("untried_by_systemd")

SYSTEMCTL = """\
#!/bin/sh
echo "$@" >> "{asked}"
exit {status}
"""


@pytest.fixture
def config_file(config, tmp_path):
    """What the daemon reads; engines lie where its `config` has them, too."""
    path = tmp_path / "config.yaml"
    path.write_text(
        "# Ours.\n"
        f"store: {{directory: {tmp_path}}}\n"
        "systemd: {bus: session}\n"
        f"instances:\n  node: {shutil.which('node')}\n",
        "utf-8",
    )
    assert load(path).engines == config.engines
    return path


@pytest.fixture
def engine(ctl, config_file):
    """Run `waportctl engine` with that configuration."""

    async def run(action, *arguments):
        return await ctl("engine", action, *arguments, "--config", config_file)

    return run


class Daemon:
    """Takes a changed file over when `systemctl reload` is called, as the daemon does."""

    def __init__(self, supervisor, config, config_file, folder):
        self._supervisor, self._config, self._file = supervisor, config, config_file
        self._asked = folder / "asked"
        self._asked.write_text("")
        self._program = folder / "systemctl"
        self.refuse(0)
        self.deaf = False

    def refuse(self, status):
        self._program.write_text(SYSTEMCTL.format(asked=self._asked, status=status))
        self._program.chmod(0o755)

    def hang(self):
        self._program.write_text("#!/bin/sh\nsleep 60\n")

    @property
    def asked(self):
        return self._asked.read_text().splitlines()

    async def run(self):
        seen = 0
        while True:
            if len(self.asked) > seen:
                seen = len(self.asked)
                if not self.deaf:
                    instances = dataclasses.replace(
                        self._config.instances, engine=load(self._file).instances.engine
                    )
                    await self._supervisor.reconfigure(dataclasses.replace(self._config, instances=instances))
            await asyncio.sleep(0.02)


@pytest.fixture
async def daemon(api, supervisor, config, config_file, tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    daemon = Daemon(supervisor, config, config_file, folder)
    task = asyncio.create_task(daemon.run())
    yield daemon
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await settled(supervisor)


@pytest.fixture
def real_engine(config):
    """An engine that can be loaded."""
    return install(add_engine(config, "1.34.6"), "1.34.6")


def told_engine(config, port):
    """Return the engine that the environment of a port's server names, as node would see it."""
    text = (config.store.instances / f"{port}.env").read_text("utf-8")
    folder = re.search(r'^WAPORTD_ENGINE="(.*)"$', text, re.MULTILINE)[1]
    return folder.rpartition("/")[2] or "bundled"


@pytest.fixture
async def people(api, supervisor, systemd, config):
    """Users 1 and 2 are connected, 3 shows a code, 4 is stopped. What each gets to, `bad` may change by engine."""
    bad = {}

    def prepare(server):
        server.engine = told_engine(config, server.port)
        user = server.port - BASE + 1
        outcome = bad.get((user, server.engine))
        if outcome == "error":
            server.say("error", cause="upstream_changed", message="the page changed", linked=True)
        elif outcome == "code":
            server.show_code()
        elif outcome == "silent":
            server.say("authenticated", linked=True)
        elif user == 3:
            server.show_code()
        else:
            server.link()

    systemd.prepare = prepare
    for number in range(1, 5):
        await supervisor.ensure(Name(str(number)))
    await supervisor.stop(Name("4"))
    for user, state in (("1", SessionState.READY), ("2", SessionState.READY), ("3", SessionState.QR)):
        await until(supervisor, user, lambda now, state=state: now.session and now.session.state is state)
    return bad


def runs(engine):
    """Say of an instance whether it is connected with that engine."""
    return lambda now: (
        now.session and now.session.upstream.engine == engine and now.session.state is SessionState.READY
    )


def engines_of(supervisor):
    """Return what each user's server starts with next, and what it runs."""
    return {
        str(instance.assignment.user): (
            instance.engine,
            instance.session.upstream.engine if instance.process.pid and instance.session else None,
        )
        for instance in supervisor.registry
    }


class TestList:
    async def test_it_works_without_a_daemon(self, engine, config):
        add_engine(config, "1.34.6")
        said = await engine("list")
        assert said.status == Exit.OK
        header, bundled, other = said.out.splitlines()
        assert header.split() == ["ENGINE", "LIBRARY", "FROM", "AGE", "USERS", "RUN", "IT", "INTEGRITY"]
        assert bundled.split()[:4] == ["bundled", "*", "1.34.7", "waportd"]
        assert other.split()[:3] == ["1.34.6", "1.34.6", "npm"]

    async def test_it_says_who_uses_what(self, engine, config, people, supervisor):
        add_engine(config, "1.34.6")
        await supervisor.set_options(Name("1"), {"engine": "1.34.6"})
        document = json.loads((await engine("list", "--json")).out)
        assert document["default"] == "bundled"
        shown = {each["engine"]: each for each in document["engines"]}
        assert shown["1.34.6"]["users"] == ["1"]
        assert shown["1.34.6"]["running"] == []
        assert shown["bundled"]["users"] == ["2", "3", "4"]
        assert shown["bundled"]["running"] == ["1", "2", "3"]

    async def test_it_shows_a_pinned_page(self, engine, config_file):
        config_file.write_text(config_file.read_text("utf-8") + "  web_version: /srv/page.html\n", "utf-8")
        assert "pinned page, /srv/page.html" in (await engine("list")).out


class TestInstall:
    async def test_a_version_from_the_registry(self, engine, config, monkeypatch, tmp_path):
        registry = Registry()
        monkeypatch.setenv("npm_config_registry", registry.url)
        monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
        try:
            integrity = registry.publish("1.34.6")
            said = await engine("install", "1.34.6", "--json")
            assert said.status == Exit.OK, said.err
            assert json.loads(said.out) == {
                "engine": "1.34.6",
                "folder": str(config.engines / "1.34.6"),
                "integrity": integrity,
                "source": "npm",
                "pinned": False,
            }
            packed = tmp_path / "packed.tgz"
            said = await engine("pack", "1.34.6", "--output", packed, "--json")
            hashed = json.loads(said.out)["integrity"]
            assert (await engine("remove", "1.34.6")).status == Exit.UNREACHABLE
            shutil.rmtree(config.engines)
            said = await engine("install", "--file", packed, "--integrity", hashed)
            assert said.status == Exit.OK, said.err
            assert "engine 1.34.6: installed" in said.out
            assert "integrity" not in said.out
        finally:
            registry.close()

    @pytest.mark.parametrize("arguments", [(), ("1.34.6", "--file", "x.tgz")])
    async def test_it_is_either_a_version_or_a_file(self, engine, arguments):
        assert (await engine("install", *arguments)).status == Exit.USAGE

    @pytest.mark.parametrize(
        "version", ["latest", "^1.34.6", "1.34", "git+https://x/y", "-g", "../x", "bundled"]
    )
    async def test_only_one_exact_version_is_taken(self, engine, version):
        with pytest.raises(SystemExit) as caught:
            await engine("install", version)
        assert caught.value.code == Exit.USAGE

    async def test_on_the_system_bus_it_needs_root(self, ctl, tmp_path, monkeypatch):
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        path = tmp_path / "system.yaml"
        path.write_text("")
        for action in (("install", "1.34.6"), ("use", "bundled"), ("remove", "1.34.6"), ("rollback",)):
            said = await ctl("engine", *action, "--config", path)
            assert said.status == Exit.NOT_PERMITTED
            assert "only root" in said.err


class TestUse:
    async def test_it_is_for_all_and_leaves_running_servers_alone(
        self, engine, real_engine, people, supervisor, systemd, daemon, config_file
    ):
        before, calls = config_file.read_text("utf-8"), len(systemd.calls)
        said = await engine("use", "1.34.6")
        assert said.status == Exit.OK, said.err
        assert config_file.read_text("utf-8") == before.replace(
            "instances:\n", "instances:\n  engine: 1.34.6\n"
        )
        assert daemon.asked == ["--user reload waportd.service"]
        assert engines_of(supervisor)["1"] == ("1.34.6", "bundled")
        assert not {verb for verb, _ in systemd.calls[calls:]} & {"restart", "stop"}
        assert "waportctl engine rollback" in said.out

    async def test_rollback_is_one_command_and_goes_there_and_back(
        self, engine, real_engine, people, supervisor, daemon, config_file
    ):
        assert (await engine("rollback")).status == Exit.FAILED
        await engine("use", "1.34.6")
        said = await engine("rollback")
        assert said.status == Exit.OK
        assert engines_of(supervisor)["1"] == ("bundled", "bundled")
        await engine("rollback")
        assert load(config_file).instances.engine == "1.34.6"

    async def test_servers_start_again_where_that_is_asked_for(
        self, engine, real_engine, people, supervisor, daemon
    ):
        said = await engine("use", "1.34.6", "--restart")
        assert said.status == Exit.OK
        assert engines_of(supervisor) == {
            "1": ("1.34.6", "1.34.6"),
            "2": ("1.34.6", "1.34.6"),
            "3": ("1.34.6", "1.34.6"),
            "4": ("1.34.6", None),
        }
        assert "user 3: shows a code" in said.out

    async def test_what_is_not_there_is_refused_with_what_is(self, engine, people, daemon, config_file):
        before = config_file.read_text("utf-8")
        said = await engine("use", "1.99.0")
        assert said.status == Exit.FAILED
        assert "there is bundled" in said.err
        assert config_file.read_text("utf-8") == before
        assert (await engine("use", "bundled")).status == Exit.FAILED

    @pytest.mark.parametrize("how", ["refused", "not taken over"])
    async def test_a_reload_that_fails_leaves_the_file_as_it_was(
        self, engine, real_engine, people, daemon, config_file, monkeypatch, how
    ):
        monkeypatch.setattr("waportd.cli.engines.RELOAD_LIMIT", 0.5)
        daemon.deaf = True
        daemon.refuse(1 if how == "refused" else 0)
        said = await engine("use", "1.34.6")
        assert said.status == Exit.FAILED
        assert "does not use the new instances.engine" in said.err
        assert load(config_file).instances.engine == "bundled"

    async def test_a_reload_that_does_not_end_leaves_all_as_it_was(
        self, engine, real_engine, people, daemon, config_file, monkeypatch
    ):
        monkeypatch.setattr("waportd.cli.engines.RELOAD_LIMIT", 0.5)
        daemon.deaf = True
        daemon.hang()
        said = await engine("use", "1.34.6")
        assert said.status == Exit.FAILED
        assert "`systemctl reload waportd` took more than" in said.err
        assert load(config_file).instances.engine == "bundled"
        assert engine_files.read_history(load(config_file)) == engine_files.History()

    async def test_where_the_way_back_cannot_be_noted_nothing_changes(
        self, engine, real_engine, people, daemon, config_file, monkeypatch
    ):
        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(engine_files.Shelf, "write_history", full)
        with pytest.raises(OSError, match="No space"):
            await engine("use", "1.34.6")
        assert load(config_file).instances.engine == "bundled"
        assert daemon.asked == []

    async def test_a_daemon_that_takes_too_long_goes_back_with_the_file(
        self, engine, real_engine, people, supervisor, daemon, config_file, monkeypatch
    ):
        monkeypatch.setattr("waportd.cli.engines.RELOAD_LIMIT", 0.5)
        monkeypatch.setattr("waportd.cli.engines.is_taken_over", lambda *_: False)
        assert (await engine("use", "1.34.6")).status == Exit.FAILED
        assert load(config_file).instances.engine == "bundled"
        async with asyncio.timeout(10):
            while supervisor.instances.engine != "bundled":
                await asyncio.sleep(0.02)

    async def test_without_a_daemon_it_holds_when_that_starts(self, engine, real_engine, config_file):
        assert (await engine("use", "1.34.6")).status == Exit.OK
        assert load(config_file).instances.engine == "1.34.6"

    async def test_a_file_that_cannot_be_edited_is_reported_with_the_line(
        self, engine, real_engine, people, config_file
    ):
        text = "{" + ", ".join(config_file.read_text("utf-8").splitlines()[1:3]) + "}\n"
        config_file.write_text(text, "utf-8")
        for canaries in ((), ("--canary", "1")):
            said = await engine("use", "1.34.6", *canaries)
            assert said.status == Exit.FAILED
            assert "engine: 1.34.6" in said.err
            assert config_file.read_text("utf-8") == text

    async def test_a_user_may_have_another_one(self, engine, real_engine, people, supervisor):
        said = await engine("use", "1.34.6", "--user", "2", "--user", "4")
        assert said.status == Exit.OK
        assert "waportctl restart 2" in said.out
        assert engines_of(supervisor) == {
            "1": ("bundled", "bundled"),
            "2": ("1.34.6", "bundled"),
            "3": ("bundled", "bundled"),
            "4": ("1.34.6", None),
        }
        said = await engine("use", "default", "--user", "2", "--user", "4", "--json")
        assert [user["own_engine"] for user in json.loads(said.out)["users"]] == [False, False]
        assert (await engine("use", "1.34.6", "--user", "9")).status == Exit.UNKNOWN_USER
        assert (await engine("use", "default")).status == Exit.USAGE

    async def test_show_names_the_next_engine(self, ctl, engine, real_engine, people):
        assert "Next engine" not in (await ctl("show", "2")).out
        await engine("use", "1.34.6", "--user", "2")
        assert re.search(r"Next engine +1\.34\.6 \(own\)", (await ctl("show", "2")).out)


class TestTrial:
    async def test_it_tries_on_some_and_then_it_is_for_all(
        self, engine, real_engine, people, supervisor, daemon, config_file, systemd
    ):
        calls = len(systemd.calls)
        said = await engine("use", "1.34.6", "--canary", "2", "--watch", "0.2")
        assert said.status == Exit.OK, said.err
        assert "user 1: connected after" in said.out
        assert "user 2: connected after" in said.out
        assert load(config_file).instances.engine == "1.34.6"
        assert engines_of(supervisor) == {
            "1": ("1.34.6", "1.34.6"),
            "2": ("1.34.6", "1.34.6"),
            "3": ("1.34.6", "bundled"),
            "4": ("1.34.6", None),
        }
        assert not any(instance.assignment.engine for instance in supervisor.registry)
        assert [call for call in systemd.calls[calls:] if call[0] == "restart"] == [
            ("restart", f"whatsapp@{BASE}.service"),
            ("restart", f"whatsapp@{BASE + 1}.service"),
        ]
        assert (await engine("rollback")).status == Exit.OK

    async def test_who_is_not_linked_must_get_to_a_code(
        self, engine, real_engine, people, supervisor, daemon
    ):
        said = await engine("use", "1.34.6", "--canary", "9", "--watch", "0", "--json")
        document = json.loads(said.out)
        assert document["rolled_back"] is False
        assert [(each["user"], each["goal"], each["reached"]) for each in document["outcomes"]] == [
            ("1", "ready", True),
            ("2", "ready", True),
            ("3", "qr", True),
        ]
        assert all(each["limit"] >= 60 for each in document["outcomes"])

    @pytest.mark.parametrize(
        ("outcome", "why"),
        [("error", "error: the page changed"), ("silent", "authenticated: "), ("code", "qr: scan the code")],
    )
    async def test_it_is_taken_back_where_one_does_not_get_as_far(
        self, engine, real_engine, people, supervisor, daemon, config_file, outcome, why
    ):
        people[2, "1.34.6"] = outcome
        before = config_file.read_text("utf-8")
        said = await engine("use", "1.34.6", "--canary", "3", "--watch", "0", "--limit", "1")
        assert said.status == Exit.ROLLED_BACK
        assert why in said.out
        assert "Rolled back: all users have engine bundled" in said.out
        assert config_file.read_text("utf-8") == before
        assert daemon.asked == []
        assert set(engines_of(supervisor).values()) == {("bundled", "bundled"), ("bundled", None)}
        assert not any(instance.assignment.engine for instance in supervisor.registry)
        # The third was not touched any more.
        assert "user 3" not in said.out
        assert (await engine("rollback")).status == Exit.FAILED

    async def test_one_that_gets_there_and_falls_back_is_no_success(
        self, engine, real_engine, people, supervisor, daemon, systemd
    ):
        run = asyncio.create_task(engine("use", "1.34.6", "--canary", "1", "--watch", "30", "--json"))
        await until(supervisor, "1", runs("1.34.6"))
        systemd.servers[Port(BASE)].say("error", message="logged out by the site", linked=True)
        said = await run
        assert said.status == Exit.ROLLED_BACK
        document = json.loads(said.out)
        assert "logged out by the site" in document["outcomes"][0]["why"]
        assert (document["engine"], document["tried"], document["not_back"]) == ("bundled", "1.34.6", [])

    async def test_a_passkey_that_is_wanted_is_no_fault_of_the_engine(
        self, engine, real_engine, people, supervisor, daemon, systemd, monkeypatch
    ):
        for linked in ("1", "2"):
            await supervisor.stop(Name(linked))
        loop, reached, real = asyncio.get_running_loop(), asyncio.Event(), canary.other_engine
        monkeypatch.setattr(
            canary, "other_engine", lambda *given: (loop.call_soon_threadsafe(reached.set), real(*given))[1]
        )
        monkeypatch.setattr(canary, "POLL", 0.05)
        run = asyncio.create_task(engine("use", "1.34.6", "--canary", "1", "--watch", "0.5"))
        await asyncio.wait_for(reached.wait(), 30)
        systemd.servers[Port(BASE + 2)].say("passkey_required", message="WhatsApp wants a passkey")
        said = await run
        assert said.status == Exit.OK, said.out + said.err

    async def test_a_server_that_runs_another_engine_all_the_same_is_no_success(
        self, engine, real_engine, people, systemd, daemon
    ):
        systemd.prepare = lambda server: server.link()
        said = await engine("use", "1.34.6", "--canary", "1", "--watch", "0")
        assert said.status == Exit.ROLLED_BACK
        assert "runs engine bundled" in said.out

    async def test_who_does_not_come_back_is_named(self, engine, real_engine, people, daemon, monkeypatch):
        monkeypatch.setattr(canary, "LEAST", 1.0)
        people[1, "1.34.6"] = people[1, "bundled"] = "error"
        said = await engine("use", "1.34.6", "--canary", "1", "--watch", "0")
        assert said.status == Exit.ROLLED_BACK
        assert "check user 1" in said.out

    @pytest.mark.parametrize("helps", [True, False])
    async def test_on_a_day_when_everybody_fails_it_is_tried_on_those(
        self, engine, real_engine, people, supervisor, systemd, daemon, helps
    ):
        for number in (1, 2):
            systemd.servers[Port(BASE + number - 1)].say("error", message="the page changed", linked=True)
            people[number, "bundled"] = "error"
            if not helps:
                people[number, "1.34.6"] = "error"
        await supervisor.stop(Name("3"))
        await until(supervisor, "2", lambda now: now.session.state is SessionState.ERROR)
        said = await engine("use", "1.34.6", "--canary", "2", "--watch", "0")
        if helps:
            assert said.status == Exit.OK, said.out + said.err
            assert engines_of(supervisor)["1"] == ("1.34.6", "1.34.6")
        else:
            assert said.status == Exit.ROLLED_BACK
            assert "back: user 1: not connected, as before" in said.out
            assert "Rolled back" in said.out
            await until(supervisor, "1", lambda now: now.session and now.session.upstream.engine == "bundled")

    async def test_when_the_configuration_is_not_taken_over_it_is_taken_back(
        self, engine, real_engine, people, supervisor, daemon, config_file
    ):
        daemon.refuse(1)
        daemon.deaf = True
        said = await engine("use", "1.34.6", "--canary", "1", "--watch", "0")
        assert said.status == Exit.FAILED
        assert engines_of(supervisor)["1"] == ("bundled", "bundled")
        assert load(config_file).instances.engine == "bundled"

    async def test_who_cannot_be_settled_is_noted_and_a_rollback_still_leads_back(
        self, engine, real_engine, people, supervisor, daemon, config_file, monkeypatch
    ):
        settle = canary.Trial.settle

        def without_the_last(trial):
            return settle(trial) | {trial.switched[-1].user: "it does not answer"}

        monkeypatch.setattr(canary.Trial, "settle", without_the_last)
        said = await engine("use", "1.34.6", "--canary", "2", "--watch", "0")
        assert said.status == Exit.FAILED
        assert "default now, but user 2 still has it" in said.err
        assert load(config_file).instances.engine == "1.34.6"
        assert engine_files.read_history(load(config_file)) == engine_files.History("bundled", ["2"])
        said = await engine("rollback")
        assert "Back to bundled: waportctl engine rollback" in said.out
        assert (await engine("rollback")).status == Exit.OK
        assert load(config_file).instances.engine == "bundled"

    async def test_an_end_while_it_is_settled_leaves_the_way_back(
        self, engine, real_engine, people, daemon, config_file, monkeypatch
    ):
        def interrupted(_trial):
            raise KeyboardInterrupt

        monkeypatch.setattr(canary.Trial, "settle", interrupted)
        assert (await engine("use", "1.34.6", "--canary", "2", "--watch", "0")).status == Exit.INTERRUPTED
        # What the servers run, the configuration and the note agree.
        assert load(config_file).instances.engine == "1.34.6"
        assert engine_files.read_history(load(config_file)) == engine_files.History("bundled", ["1", "2"])

    async def test_without_anybody_to_try_it_on_it_is_not_used(
        self, engine, real_engine, api, daemon, config_file
    ):
        said = await engine("use", "1.34.6", "--canary", "1")
        assert said.status == Exit.FAILED
        assert "no user to try it on" in said.err
        assert load(config_file).instances.engine == "bundled"

    async def test_one_that_was_killed_is_ended_by_a_rollback(
        self, engine, real_engine, people, supervisor, daemon, config_file
    ):
        with engine_files.opened(load(config_file)) as shelf:
            shelf.write_history(engine_files.History(None, ["1", "2"]))
        await supervisor.set_options(Name("1"), {"engine": "1.34.6"})
        await supervisor.restart(Name("1"))
        assert "interrupted" in (await engine("list")).out
        assert "rollback" in (await engine("use", "1.34.6")).err
        said = await engine("rollback")
        assert said.status == Exit.OK, said.err
        assert engines_of(supervisor)["1"] == ("bundled", "bundled")
        assert "interrupted" not in (await engine("list")).out

    async def test_ctrl_c_takes_it_back(self, terminal, real_engine, people, supervisor, daemon, config_file):
        shown = await terminal(
            *("engine", "use", "1.34.6", "--canary", "1", "--watch", "60", "--config", config_file),
            PATH=os.environ["PATH"],
        )
        await shown.until("[y/N]")
        shown.type("y\n")
        await until(supervisor, "1", runs("1.34.6"))
        shown.interrupt()
        assert await shown.end() == Exit.INTERRUPTED
        assert "back: user 1: connected" in shown.text
        assert engines_of(supervisor)["1"] == ("bundled", "bundled")
        assert load(config_file).instances.engine == "bundled"

    async def test_a_person_is_asked_before(
        self, terminal, real_engine, people, systemd, daemon, config_file
    ):
        calls = len(systemd.calls)
        shown = await terminal("engine", "use", "1.34.6", "--canary", "2", "--config", config_file)
        await shown.until("Restart the servers of user 1, 2 with engine 1.34.6")
        shown.type("n\n")
        assert await shown.end() == Exit.FAILED
        assert "restart" not in {verb for verb, _ in systemd.calls[calls:]}


class TestRemove:
    async def test_who_uses_an_engine_is_named(self, engine, real_engine, people, supervisor, daemon):
        await engine("use", "1.34.6", "--user", "4")
        said = await engine("remove", "1.34.6")
        assert said.status == Exit.FAILED
        assert "it is the engine of user 4" in said.err
        assert "engine use default --user 4" in said.err
        await engine("use", "default", "--user", "4")

        await engine("use", "1.34.6", "--restart", "--user", "1")
        await engine("use", "default", "--user", "1")
        said = await engine("remove", "1.34.6")
        assert "the servers of user 1 run it" in said.err
        await supervisor.restart(Name("1"))

        await engine("use", "1.34.6")
        assert "it is the default" in (await engine("remove", "1.34.6")).err
        await engine("rollback")
        assert real_engine.exists()
        said = await engine("remove", "1.34.6")
        assert said.status == Exit.OK
        assert not real_engine.exists()
        # What was before is gone: there is no way back to it.
        assert (await engine("rollback")).status == Exit.FAILED

    @pytest.mark.parametrize("how", ["mute", "says no engine"])
    async def test_a_server_that_does_not_say_what_it_runs_may_run_it(
        self, engine, real_engine, people, supervisor, daemon, monkeypatch, how
    ):
        told = Client.users

        def untold(client, **options):
            changed = {"answering": False} if how == "mute" else {"upstream": None}
            return [
                dataclasses.replace(user, session=dataclasses.replace(user.session, **changed))
                if user.user == "1" and user.session
                else user
                for user in told(client, **options)
            ]

        monkeypatch.setattr(Client, "users", untold)
        said = await engine("remove", "1.34.6")
        assert said.status == Exit.FAILED
        assert "the servers of user 1 do not say which engine they run" in said.err
        assert "waportctl restart 1" in said.err
        assert real_engine.exists()
        await supervisor.stop(Name("1"))
        assert (await engine("remove", "1.34.6")).status == Exit.OK

    async def test_the_bundled_one_stays(self, engine):
        with pytest.raises(SystemExit):
            await engine("remove", "bundled")


def user(name="1", state="ready", process="running", **members):
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    seconds = members.pop("seconds", 5)
    session = Session(
        state=state, since=start + dt.timedelta(seconds=seconds), answering=members.pop("answering", True)
    )
    return User(user=name, process=Process(state=process, since=start), session=session, **members)


def test_the_connected_come_first_and_nobody_with_an_engine_of_their_own():
    users = [
        user("1", "qr"),
        user("2", "ready", linked=True, own_engine=True),
        user("3", "error", linked=True),
        user("4", "ready", linked=True, answering=False),
        user("5", "ready", linked=True),
        user("6", "ready", linked=True, process="stopped"),
        User(user="7"),
        user("8", "ready", linked=True),
        user("9", "generating"),
        user("10", "error"),
    ]
    assert [each.user for each in canary.candidates(users, 9)] == ["5", "8", "1", "3", "4"]
    assert [each.user for each in canary.candidates(users, 1)] == ["5"]


@pytest.mark.parametrize(("seconds", "limit"), [(-5, 60), (0, 60), (15, 60), (40, 120), (86400, 600)])
def test_a_limit_is_three_times_what_is_usual(seconds, limit):
    assert canary.limit_for(user(seconds=seconds)) == limit
    assert canary.limit_for(User(user="1")) == canary.limit_for(user(state="error", seconds=seconds)) == 180


class TestCompile:
    def compiled(self, config):
        folder = config.engines / "compiled"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    async def test_all_are_compiled_for_the_node_that_is_there(self, engine, config, real_engine):
        version = subprocess.run(
            ["node", "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
        said = await engine("compile")
        assert said.status == Exit.OK, said.err
        assert re.fullmatch(r"engine bundled: compiled, \d MiB\nengine 1.34.6: compiled, .*\n", said.out)
        assert self.compiled(config) == [f"1.34.6-{version}.code", f"bundled-{version}.code"]
        [path, _] = sorted((config.engines / "compiled").iterdir())
        assert path.stat().st_mode & 0o777 == 0o644

    async def test_what_was_made_for_another_node_is_deleted(self, engine, config, real_engine):
        folder = config.engines / "compiled"
        folder.mkdir(parents=True)
        for name in ("1.34.6-v18.0.0.code", "1.34.6-beta-v18.0.0.code"):
            (folder / name).write_text("")
        document = json.loads((await engine("compile", "1.34.6", "--json")).out)
        [made] = document["compiled"].values()
        assert self.compiled(config) == sorted([Path(made).name, "1.34.6-beta-v18.0.0.code"])

    async def test_one_that_cannot_be_loaded_leaves_nothing(self, engine, config):
        add_engine(config, "1.34.6")
        said = await engine("compile", "1.34.6")
        assert said.status == Exit.FAILED
        assert "engine 1.34.6 cannot be compiled" in said.err
        assert self.compiled(config) == []
        assert [path.name for path in config.engines.iterdir()] == ["1.34.6"]

    async def test_one_that_is_not_there_is_named(self, engine):
        said = await engine("compile", "1.0.0")
        assert said.status == Exit.FAILED
        assert "there is no engine '1.0.0'" in said.err

    async def test_it_goes_with_its_engine(self, api, engine, config, real_engine):
        await engine("compile")
        await engine("remove", "1.34.6")
        assert [name.partition("-v")[0] for name in self.compiled(config)] == ["bundled"]

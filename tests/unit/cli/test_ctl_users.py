"""The commands that show and control users."""

import asyncio
import dataclasses
import datetime as dt
import json
import re
import time

import pytest
from fakes import iso
from support import BASE, OVERFLOW, until

from waportd.cli.exit_status import Exit
from waportd.cli.terminal import state as colour
from waportd.client import Client
from waportd.model import Port, SessionState, User, service_unit

PORT = Port(BASE)


@pytest.fixture
async def three(api, supervisor, systemd):
    """Users 1, 2 and 3: linked, waiting for a scan, stopped."""
    for user in ("1", "2", "3"):
        await supervisor.ensure(User(user))
    systemd.servers[PORT].link()
    systemd.servers[Port(BASE + 1)].show_code()
    await until(supervisor, "1", lambda now: now.session and now.session.state is SessionState.READY)
    await until(supervisor, "2", lambda now: now.session and now.session.state is SessionState.QR)
    await supervisor.stop(User("3"))


async def test_list_shows_all_in_a_table(three, ctl):
    said = await ctl("list")
    assert said.status == Exit.OK
    header, *rows = said.out.splitlines()
    assert header.split() == ["USER", "PORT", "PROCESS", "SESSION", "SINCE", "PHONE", "MESSAGE"]
    assert [row.split()[:4] for row in rows] == [
        ["1", str(BASE), "running", "ready"],
        ["2", str(BASE + 1), "running", "qr"],
        ["3", str(BASE + 2), "stopped", "–"],
    ]
    assert "5511999990000" in rows[0]
    assert "\x1b" not in said.out
    assert not any(line.endswith(" ") for line in said.out.splitlines())
    assert "64 MiB" in (await ctl("list", "--memory")).out


async def test_in_a_fleet_the_list_names_the_host_of_each_user(three, ctl, monkeypatch):
    known = Client.users
    monkeypatch.setattr(
        Client, "users", lambda *a, **b: [dataclasses.replace(one, host="b") for one in known(*a, **b)]
    )
    header, first, *_ = (await ctl("list")).out.splitlines()
    assert header.split()[:3] == ["USER", "HOST", "PORT"]
    assert first.split()[:3] == ["1", "b", str(BASE)]


async def test_json_is_what_the_api_says(three, ctl, api):
    async with api.get("/v1/users") as answer:
        expected = await answer.json()
    for arguments in (("list", "--json"), ("--json", "list")):
        assert json.loads((await ctl(*arguments)).out) == expected
    shown = json.loads((await ctl("show", "2", "--json")).out)
    assert shown["session"]["state"] == "qr"
    assert (await ctl("list", "--json")).err == ""


async def test_list_says_how_to_begin(api, ctl):
    assert "waportctl qr 1" in (await ctl("list")).out


async def test_show_has_everything_and_no_code(three, ctl, systemd):
    said = await ctl("show", "1")
    for part in (f"http://localhost:{BASE}", service_unit(PORT), "+5511999990000 (Ana)", "64 MiB", "ready"):
        assert part in said.out
    shown = await ctl("show", "2")
    assert "noise" not in shown.out


async def test_show_says_which_messages_the_web_app_does_not_get(three, ctl, supervisor, systemd):
    assert "messages" not in (await ctl("show", "1")).out
    webhook = {"queued": 3, "failed": 5, "dropped": 2, "error": "nobody listens there"}
    systemd.servers[PORT].say("ready", linked=True, webhook={**webhook, "error_at": "2026-01-01T00:00:00Z"})
    await until(supervisor, "1", lambda now: now.session.webhook.error)
    said = (await ctl("show", "1")).out
    for part in ("does not take them: nobody listens there (", "3 messages are waiting", "2 messages lost"):
        assert part in said


async def test_who_waits_for_the_web_app_for_five_minutes_is_not_shown_as_well(
    three, ctl, supervisor, systemd
):
    def minutes_ago(minutes):
        return iso(time.time() - minutes * 60)

    webhook = {"queued": 3, "delivered": 40, "failed": 7, "undelivered": 2, "error": "HTTP 503"}
    for minutes, state in ((4, "ready"), (12, "undelivered")):
        told = {**webhook, "oldest_at": minutes_ago(minutes)}
        systemd.servers[PORT].say("ready", linked=True, message=f"{minutes}", webhook=told)
        await until(supervisor, "1", lambda now, minutes=minutes: now.session.message == f"{minutes}")
        [line] = [line for line in (await ctl("list")).out.splitlines() if line.startswith("1 ")]
        assert line.split()[3] == state
        if state == "ready":
            said = (await ctl("list", "--messages")).out
            assert "the web app does not take messages: HTTP 503" in said
    assert line.split()[4] == "12m"
    assert line.endswith("3 messages wait for the web app: HTTP 503")
    said = (await ctl("list", "--messages")).out.splitlines()
    assert said[0].split()[6:-1] == ["QUEUED", "OLDEST", "DELIVERED", "FAILED", "UNDELIVERED"]
    assert "3       12m     40         7       2" in said[1]
    shown = (await ctl("show", "1")).out
    assert "40 delivered, 3 waiting, 2 undelivered, 7 tries failed" in shown
    assert "waportctl messages redeliver 1" in shown


async def test_show_says_since_when_a_phone_is_linked(three, ctl, supervisor):
    def linked(out):
        [line] = [line.split(maxsplit=1)[1] for line in out.splitlines() if line.startswith("Linked")]
        return line.strip()

    instance = await until(supervisor, "1", lambda now: now.assignment.linked)
    at = dt.datetime.fromtimestamp(instance.assignment.linked_at, dt.UTC)
    since = f"yes, since {at.astimezone().isoformat(' ', 'seconds')}"
    assert linked((await ctl("show", "1")).out) == since
    assert linked((await ctl("show", "2")).out) == "no"


async def test_show_says_what_runs_and_what_it_lacks(three, ctl, supervisor, systemd):
    assert "whatsapp-web.js 1.34.7 (bundled)" in (await ctl("show", "1")).out
    member = {"feature": "groups", "module": "WAWebGroupCreateJob", "found": "undefined"}
    upstream = {
        "build": "2.3000.1",
        "library": "1.34.7",
        "engine": "bundled",
        "pinned": "/etc/waportd/page.html",
        "missing": [{**member, "member": "createGroup"}, {**member, "member": "addToGroup"}],
        "shims": {"wids": "failed", "models": "applied"},
    }
    systemd.servers[PORT].say("ready", linked=True, upstream=upstream)
    await until(supervisor, "1", lambda now: now.session.upstream.build)
    lines = [line.strip() for line in (await ctl("show", "1")).out.splitlines()]
    for line in (
        "WhatsApp Web  2.3000.1",
        "Pinned page   /etc/waportd/page.html",
        "No groups     WAWebGroupCreateJob.createGroup (undefined), WAWebGroupCreateJob.addToGroup (undefined)",
        "Failed shims  wids",
    ):
        assert line in lines
    assert json.loads((await ctl("list", "--json")).out)["users"][0]["session"]["upstream"]["ok"] is False


@pytest.mark.parametrize(
    ("states", "shown"),
    [(("ready",), ["1"]), (("running",), ["1", "2"]), (("qr", "stopped"), ["2", "3"]), (("crash_loop",), [])],
)
async def test_a_list_has_only_the_states_that_are_asked_for(three, ctl, states, shown):
    wanted = [word for state in states for word in ("--state", state)]
    said = await ctl("list", *wanted)
    assert said.status == Exit.OK
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == shown
    assert shown or said.out == "No user is in state crash_loop.\n"
    document = json.loads((await ctl("list", "--json", *wanted)).out)
    assert [user["user"] for user in document["users"]] == shown


async def test_there_is_no_state_of_another_name(api, ctl):
    with pytest.raises(SystemExit, match="2"):
        await ctl("list", "--state", "lost")


async def test_a_wide_list_is_whole_on_a_narrow_terminal(three, terminal, supervisor, systemd):
    systemd.servers[PORT].say("error", cause="browser_missing", message="no browser is installed " * 5)
    await until(supervisor, "1", lambda now: now.session.state is SessionState.ERROR)
    wide = await terminal("list", "--wide", columns=40)
    assert await wide.end() == Exit.OK
    header, first, *_ = wide.text.splitlines()
    assert header.split() == ["USER", "PORT", "PROCESS", "SESSION", "SINCE", "PHONE", "MESSAGE"]
    assert first.rstrip().endswith(("no browser is installed " * 5).strip())
    assert "\x1b[1;31merror" in wide.seen


async def test_several_users_are_shown_and_one_that_is_not_there_keeps_none_back(three, ctl):
    said = await ctl("show", "2", "99", "1", "2")
    assert said.status == Exit.UNKNOWN_USER
    assert [line.split()[1] for line in said.out.splitlines() if line.startswith("User ")] == ["2", "1"]
    assert said.err == "user 99: no port is assigned to user 99\n"
    document = json.loads((await ctl("show", "2", "99", "--json")).out)
    assert [user["user"] for user in document["users"]] == ["2"]
    assert [(user["user"], user["code"]) for user in document["failed"]] == [("99", "unknown_user")]


async def test_times_are_local_with_their_offset_and_without_fractions(three, ctl, monkeypatch):
    monkeypatch.setenv("TZ", "America/Sao_Paulo")
    time.tzset()
    try:
        shown = (await ctl("show", "1")).out
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert re.search(r"(?m)^Created +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d-03:00$", shown)


async def test_several_users_are_deleted_together_or_none(three, ctl, supervisor):
    said = await ctl("delete", "1", "99", "--yes")
    assert said.status == Exit.UNKNOWN_USER
    assert supervisor.registry.get("1")
    said = await ctl("delete", "1", "2", "1", "--yes")
    assert (said.status, said.err) == (Exit.OK, "")
    assert said.out == f"user 1: deleted; port {BASE} is free\nuser 2: deleted; port {BASE + 1} is free\n"
    assert [user.assignment.user for user in supervisor.registry] == ["3"]
    await ctl("set", "3", "autostart=no")
    assert json.loads((await ctl("delete", "3", "--yes", "--json")).out) == {"deleted": "3", "port": BASE + 2}


async def test_a_terminal_is_asked_about_all_that_are_deleted(three, terminal, supervisor):
    refused = await terminal("delete", "1", "2")
    await refused.until("Delete 2 users: 1, 2, with their sessions, and free their ports? [y/N]")
    refused.type("n\n")
    assert await refused.end() == Exit.FAILED
    assert supervisor.registry.get("1")


async def test_deleted_users_are_documents_of_their_own(three, ctl):
    document = json.loads((await ctl("delete", "1", "2", "--yes", "--json")).out)
    assert document == {
        "users": [{"deleted": "1", "port": BASE}, {"deleted": "2", "port": BASE + 1}],
        "failed": [],
    }


@pytest.mark.parametrize("command", ["show", "start", "stop", "restart", "logout", "delete"])
async def test_a_user_without_a_server_is_an_exit_status_of_its_own(api, ctl, command):
    said = await ctl(command, "99")
    assert said.status == Exit.UNKNOWN_USER
    assert said.out == ""
    assert "no port is assigned to user 99" in said.err
    assert "waportctl list" in said.err


async def test_each_action_does_what_it_says(three, ctl, supervisor):
    assert "started" in (await ctl("start", "3")).out
    assert supervisor.known("3").process.state == "running"
    assert "login kept" in (await ctl("stop", "3")).out
    assert supervisor.known("3").process.state == "stopped"
    pid = supervisor.known("1").process.pid
    assert json.loads((await ctl("--json", "restart", "1")).out)["process"]["pid"] != pid
    assert (await ctl("logout", "2", "--yes")).status == Exit.OK
    assert json.loads((await ctl("delete", "2", "--json", "--yes")).out) == {"deleted": "2", "port": BASE + 1}
    assert supervisor.registry.get("2") is None


@pytest.mark.parametrize("command", [("delete", "1"), ("logout", "1"), ("stop", "--all")])
async def test_what_is_asked_is_not_done_where_nobody_can_be_asked(three, ctl, supervisor, command):
    """As in cron, or by ssh without a terminal: a typo there would cost a login."""
    said = await ctl(*command)
    assert said.status == Exit.USAGE
    assert "--yes" in said.err
    assert supervisor.known("1").session.state is SessionState.READY


async def test_an_action_takes_several_users_and_one_that_fails_keeps_it_from_no_other(
    three, ctl, supervisor
):
    said = await ctl("stop", "1", "99", "2", "1")
    assert said.status == Exit.UNKNOWN_USER
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["user 1", "user 2"]
    assert "user 99: no port is assigned" in said.err
    assert "1 of 3 failed" in said.err
    assert {supervisor.known(user).process.state for user in ("1", "2", "3")} == {"stopped"}
    document = json.loads((await ctl("start", "2", "99", "3", "--json")).out)
    assert [user["user"] for user in document["users"]] == ["2", "3"]
    assert [(user["user"], user["code"]) for user in document["failed"]] == [("99", "unknown_user")]


@pytest.mark.parametrize(
    ("command", "concerned"),
    [("start", []), ("stop", ["1", "2"]), ("restart", ["1", "2"]), ("logout", ["1"])],
)
async def test_all_means_those_that_the_action_concerns_and_can_be_looked_at_before(
    three, ctl, supervisor, systemd, command, concerned
):
    def steps():
        # Not the cleaning of ports for anyone who comes next, which continues beside it.
        return [call for call in systemd.calls if call[0] in {"start", "stop", "restart"}]

    before = steps()
    assert json.loads((await ctl(command, "--all", "--dry-run", "--json")).out) == {"concerns": concerned}
    assert steps() == before
    said = await ctl(command, "--all", "--yes")
    assert said.status == Exit.OK
    told = [line.split(":")[0] for line in said.out.splitlines()]
    assert told == ([f"user {user}" for user in concerned] or ["No user is affected."])


async def test_stopped_linked_users_are_started_together(three, ctl, supervisor):
    await ctl("stop", "--all", "--yes")
    assert "user 1" in (await ctl("start", "--all", "--yes")).out
    states = {user: supervisor.known(user).process.state for user in ("1", "2", "3")}
    assert states == {"1": "running", "2": "stopped", "3": "stopped"}


@pytest.mark.parametrize("arguments", [("stop",), ("stop", "1", "--all")])
async def test_users_or_all_of_them_are_named(three, ctl, arguments):
    said = await ctl(*arguments)
    assert said.status == Exit.USAGE
    assert "name users, or --all" in said.err


async def test_a_terminal_is_shown_who_it_concerns_before_it_is_asked(three, terminal, supervisor):
    refused = await terminal("stop", "--all")
    await refused.until("Stop the servers of 2 users: 1, 2? [y/N]")
    refused.type("n\n")
    assert await refused.end() == Exit.FAILED
    assert supervisor.known("1").process.state == "running"


async def test_a_server_that_does_not_start_says_why_and_what_fixes_it(api, ctl, supervisor, systemd):
    await supervisor.assign(User("1"))
    systemd.fail_to_start(service_unit(PORT), result="exit-code", exit_code=1, exit_status=203)
    said = await ctl("start", "1")
    assert said.status == Exit.FAILED
    assert "node cannot be executed" in said.err
    assert "apt install nodejs" in said.err
    error = json.loads((await ctl("start", "1", "--json")).err)["error"]
    assert (error["code"], error["exit_status"]) == ("server_failed", Exit.FAILED)


async def test_what_takes_too_long_is_an_exit_status_of_its_own(three, ctl):
    said = await ctl("start", "2", "--wait", "ready", "--timeout", "0.1")
    assert said.status == Exit.NOT_IN_TIME


async def test_names_that_others_chose_cannot_control_the_terminal(three, ctl, systemd, supervisor):
    systemd.servers[PORT].say(
        "ready", ready=True, linked=True, phone_number="1", pushname="\x1b[31mA\u202e\x07"
    )
    await until(supervisor, "1", lambda now: now.session.pushname != "Ana")
    assert "([31mA)" in (await ctl("show", "1")).out
    # And were it to come from elsewhere:
    now = supervisor.known(User("1"))
    session = dataclasses.replace(now.session, pushname="\x1b[31mA\u202e\x07")
    supervisor.registry.put(dataclasses.replace(now, session=session))
    assert "(?[31mA??)" in (await ctl("show", "1")).out


@pytest.mark.parametrize("name", ["\x1b[31m", "\x9b2J", "\u202eA", "\u2028", "\U000e0041", "\x7f", "Zoë"])
async def test_nor_can_they_where_json_is_asked_for(three, ctl, api, supervisor, name):
    now = supervisor.known(User("1"))
    session = dataclasses.replace(now.session, pushname=name)
    supervisor.registry.put(dataclasses.replace(now, session=session))
    for arguments in (("show", "1"), ("list",)):
        said = (await ctl(*arguments, "--json")).out
        assert all(line.isprintable() for line in said.splitlines())
        documents = json.loads(said)
        assert documents.get("users", [documents])[0]["session"]["name"] == name
        assert ("Zoë" in said) == (name == "Zoë"), "what can be seen is shown as it is"


async def test_nor_can_an_error_in_json(api, ctl):
    said = await ctl("--socket", "/\u202e\x9b", "list", "--json")
    assert said.status == Exit.UNREACHABLE
    assert said.err.rstrip("\n").isprintable()
    assert "\u202e" in json.loads(said.err)["error"]["detail"]


def test_what_waits_for_somebody_is_yellow_and_what_fails_red():
    for state in ("qr", "passkey_required", "logged_out"):
        assert colour(state).style == "yellow"
    assert colour("error").style == "bold red"


async def test_a_terminal_gets_colours_and_nothing_wider_than_it_is(three, terminal):
    wide = await terminal("list", columns=70)
    assert await wide.end() == Exit.OK
    assert "\x1b[32mready" in wide.seen
    assert max(map(len, wide.text.splitlines())) <= 70
    assert "…" in wide.text
    plain = await terminal("list", NO_COLOR="1")
    await plain.end()
    assert "\x1b[32m" not in plain.seen


@pytest.mark.parametrize("columns", [40, 60, 80])
async def test_a_narrow_terminal_keeps_who_a_row_is_about(three, terminal, columns):
    narrow = await terminal("list", columns=columns)
    assert await narrow.end() == Exit.OK
    rows = [line.split() for line in narrow.text.splitlines() if line.strip()]
    assert [row[0] for row in rows] == ["USER", "1", "2", "3"]
    assert "SESSION" in rows[0]
    assert rows[1][rows[0].index("SESSION")] == "ready"
    assert max(map(len, narrow.text.splitlines())) <= columns


@pytest.fixture
async def measured(three, supervisor, systemd):
    """What user 1 keeps on disk was measured an hour ago."""
    at = (dt.datetime.now(dt.UTC) - dt.timedelta(minutes=61)).isoformat()
    sizes = {"login": 3 << 30, "cache": 200 << 20, "journal": 4 << 20, "measured_at": at}
    systemd.servers[PORT].say("ready", linked=True, phone_number="5511999990000", storage=sizes)
    await until(supervisor, "1", lambda now: now.storage is not None)


async def test_what_a_session_keeps_on_disk_is_shown(measured, ctl):
    assert (
        "login 3.0 GiB, cache 200 MiB, journal 4 MiB, snapshots 0 MiB, measured 1h ago"
        in (await ctl("show", "1")).out
    )
    assert "Disk" not in (await ctl("show", "2")).out
    header, *rows = (await ctl("list", "--disk")).out.splitlines()
    assert header.split()[6:11] == ["LOGIN", "CACHE", "JOURNAL", "SNAPSHOTS", "COPIED"]
    assert "3.0 GiB  200 MiB  4 MiB" in rows[0]
    assert "LOGIN" not in (await ctl("list")).out


@pytest.mark.parametrize("columns", [40, 60, 80])
async def test_a_narrow_terminal_keeps_the_figures_that_were_asked_for(measured, terminal, columns):
    narrow = await terminal("list", "--disk", columns=columns)
    assert await narrow.end() == Exit.OK
    header, first, *_ = [line for line in narrow.text.splitlines() if line.strip()]
    assert (header.split()[0], first.split()[0]) == ("USER", "1")
    assert "LOGIN" in header
    assert "3.0 GiB" in first
    assert max(map(len, narrow.text.splitlines())) <= columns


async def test_a_move_says_what_it_does_and_asks_a_terminal(three, ctl, terminal, supervisor):
    target = BASE + 7
    said = await ctl("move", "1", "--port", str(target), "--dry-run")
    assert said.out == (
        f"User 1 moves from port {BASE} to port {target}, with login, options and drop-ins. "
        "The server is down for some seconds, and connects again without a scan.\n"
    )
    assert "stays stopped" in (await ctl("move", "3", "--dry-run")).out
    plan = {"user": "1", "port": BASE, "target": None}
    assert json.loads((await ctl("move", "1", "--dry-run", "--json")).out) == plan
    refused = await terminal("move", "1", "--port", str(target))
    await refused.until("[y/N]")
    refused.type("n\n")
    assert await refused.end() == Exit.FAILED
    assert supervisor.known("1").assignment.port == BASE
    # Where nobody can be asked it is done: nothing is lost by it.
    said = await ctl("move", "1", "--port", str(target))
    assert (said.status, said.err) == (Exit.OK, "")
    assert said.out == (f"user 1: moved here from port {BASE} (port {target}, whatsapp@{target}.service)\n")
    assert supervisor.known("1").process.state == "running"
    shown = json.loads((await ctl("move", "3", "--json", "-y")).out)
    assert (shown["port"], shown["process"]["state"]) == (OVERFLOW, "stopped")


async def test_a_move_that_cannot_be_is_reported_and_so_is_a_server_that_does_not_come_back(
    three, ctl, supervisor, systemd
):
    said = await ctl("move", "1", "--port", str(BASE + 1))
    assert said.status == Exit.FAILED
    assert f"port {BASE + 1} is assigned to user 2" in said.err
    assert "name another port, or none" in said.err
    systemd.fail_to_start(service_unit(Port(BASE + 7)), result="exit-code", exit_code=1, exit_status=1)
    said = await ctl("move", "1", "--port", str(BASE + 7))
    assert said.status == Exit.FAILED
    assert f"moved here from port {BASE}" in said.out
    assert "user 1:" in said.err
    assert supervisor.known("1").assignment.port == BASE + 7
    assert (await ctl("move", "99")).status == Exit.UNKNOWN_USER


async def test_a_stopped_user_who_is_linked_is_listed_as_such(three, ctl, supervisor):
    await supervisor.stop(User("1"))
    rows = {line.split()[0]: line for line in (await ctl("list")).out.splitlines()}
    assert "linked" in rows["1"]
    assert "linked" not in rows["3"]


async def test_a_terminal_is_asked_before_a_session_is_deleted(three, terminal, supervisor):
    refused = await terminal("delete", "1")
    await refused.until("[y/N]")
    refused.type("n\n")
    assert await refused.end() == Exit.FAILED
    assert "Nothing was changed." in refused.text
    assert supervisor.known("1")
    agreed = await terminal("delete", "1")
    await agreed.until(f"with the session on port {BASE}")
    agreed.type("y\n")
    assert await agreed.end() == Exit.OK
    assert supervisor.registry.get("1") is None
    told = await terminal("logout", "2", "--yes")
    assert await told.end() == Exit.OK


async def test_who_has_read_enough_may_close_the_pipe(three, socket_path):
    command = f"{{ /usr/bin/python3 -m waportd.cli --socket {socket_path} list; echo $? >&2; }} | head -c 1"
    process = await asyncio.create_subprocess_shell(
        command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert errors == b"0\n"

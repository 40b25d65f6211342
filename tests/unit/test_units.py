"""What systemd is given to read: rendering, quoting, and files that are whole at any moment."""

import dataclasses
import itertools
import json
import os
import re
import signal
import stat
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import unprivileged

from waportd import units
from waportd.config import Address, Bus, Config, Store
from waportd.errors import ConfigError, StoreError
from waportd.model import Assignment, Port, User

ROOT = Path(__file__).parents[2]
ASSIGNMENT = Assignment(User("2"), Port(5002))


def write_environment(folder, assignment, config):
    return units.EnvironmentFolder(folder).write(assignment.port, units.environment(assignment, config))


def configured(section, **values):
    config = Config()
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def directives(text):
    """Return each section's directives in order, as systemd takes them: comments gone."""
    section, found = "", {}
    for line in text.splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            found.setdefault(section, {}).setdefault(name, []).append(value)
    return found


def rendered(name, bus=Bus.SYSTEM, config=None):
    return directives(units.render_units(config or Config(), bus=bus)[name])


@pytest.mark.parametrize(
    ("allowed", "uids"),
    [
        ((), set()),
        ((4711,), {0, 4711, os.geteuid()}),
        (("root", "no-such-account"), {0, os.geteuid()}),
        (("no-such-account",), {0, os.geteuid()}),
    ],
)
def test_a_server_knows_by_uid_who_may_call_and_root_and_the_daemon_always_may(allowed, uids):
    text = units.environment(ASSIGNMENT, configured("api", allow_users=allowed))
    [value] = re.findall(r'^WAPORTD_ALLOW_UIDS="(.*)"$', text, re.MULTILINE)
    assert value == ",".join(map(str, sorted(uids)))


def test_the_environment_holds_every_variable_once():
    text = units.environment(ASSIGNMENT, Config())
    assert text.splitlines()[1:] == [
        'PORT="5002"',
        'WAPORTD_USER="2"',
        'WAPORTD_ALLOW_UIDS=""',
        'WAPORTD_WEBHOOK_URL="http://localhost:5002/webhook"',
        'WAPORTD_WEBHOOK_SECRETS=""',
        'WAPORTD_WEBHOOK_HEADERS="{}"',
        'WAPORTD_WEBHOOK_EVENTS="message"',
        'WAPORTD_WEBHOOK_TIMEOUT="30"',
        'WAPORTD_WEBHOOK_RETRY="86400"',
        'WAPORTD_IGNORE="status"',
        'WAPORTD_JOURNAL_AGE="604800"',
        'WAPORTD_JOURNAL_SIZE="67108864"',
        'WAPORTD_DEFAULT_COUNTRY=""',
        'WAPORTD_MEDIA_FROM_PRIVATE="false"',
        'WAPORTD_SEND_RATE="0"',
        'WAPORTD_CLIENT_ID_PREFIX="waportd"',
        'WAPORTD_BROWSER="auto"',
        'WAPORTD_BROWSER_ARGS="[]"',
        'WAPORTD_PROXY="auto"',
        'WAPORTD_ENGINE=""',
        'WAPORTD_COMPILED="/var/lib/waportd-engines/compiled"',
        'WAPORTD_WEB_VERSION=""',
        'WAPORTD_QR_MAX_RETRIES="5"',
        'WAPORTD_QR_LIFETIME="60,20"',
        'WAPORTD_START_TIMEOUT="90"',
        'WAPORTD_READY_TIMEOUT="120"',
        'WAPORTD_PROBE_INTERVAL="10"',
        'WAPORTD_IDLE_TIMEOUT="600"',
        'WAPORTD_TURN_WAIT="10"',
        'WAPORTD_SNAPSHOT_INTERVAL="300"',
        'WAPORTD_SNAPSHOTS="2"',
        'WAPORTD_CACHE_MAX="268435456"',
        'WAPORTD_MEDIA_MAX="67108864"',
    ]


@pytest.mark.parametrize(
    ("own", "shown"), [(None, "http://localhost:5002/webhook"), ("", ""), ("http://x/", "http://x/")]
)
def test_a_users_own_webhook_wins_over_the_configured_one(own, shown):
    text = units.environment(dataclasses.replace(ASSIGNMENT, webhook_url=own), Config())
    assert f'WAPORTD_WEBHOOK_URL="{shown}"\n' in text


@pytest.mark.parametrize(
    ("own", "configured_one", "folder"),
    [
        (None, "bundled", ""),
        (None, "1.34.6", "/var/lib/waportd-engines/1.34.6"),
        ("1.35.0", "1.34.6", "/var/lib/waportd-engines/1.35.0"),
        ("bundled", "1.34.6", ""),
    ],
)
def test_a_users_own_engine_wins_over_the_configured_one(own, configured_one, folder):
    text = units.environment(
        dataclasses.replace(ASSIGNMENT, engine=own), configured("instances", engine=configured_one)
    )
    assert f'WAPORTD_ENGINE="{folder}"\n' in text


@pytest.mark.parametrize(
    ("own", "told"),
    [(None, "http://ana:pw@p:3128"), ("none", "none"), ("auto", "auto"), ("socks5://q:1", "socks5://q:1")],
)
def test_a_users_own_proxy_wins_over_the_configured_one(own, told):
    text = units.environment(
        dataclasses.replace(ASSIGNMENT, proxy=own), configured("instances", proxy="http://ana:pw@p:3128")
    )
    assert f'WAPORTD_PROXY="{told}"\n' in text


@pytest.mark.parametrize(
    ("option", "variable", "common", "own", "told"),
    [
        ("webhook_secret", "WAPORTD_WEBHOOK_SECRETS", ("whsec_a", "whsec_b"), ("whsec_c",), "whsec_c"),
        ("webhook_secret", "WAPORTD_WEBHOOK_SECRETS", ("whsec_a", "whsec_b"), None, "whsec_a,whsec_b"),
        ("webhook_secret", "WAPORTD_WEBHOOK_SECRETS", ("whsec_a",), (), ""),
        ("webhook_events", "WAPORTD_WEBHOOK_EVENTS", ("message",), ("call", "session"), "call,session"),
        ("ignore", "WAPORTD_IGNORE", ("groups", "status"), None, "groups,status"),
        ("ignore", "WAPORTD_IGNORE", ("groups", "status"), (), ""),
        ("default_country", "WAPORTD_DEFAULT_COUNTRY", "55", None, "55"),
        ("default_country", "WAPORTD_DEFAULT_COUNTRY", "55", "", ""),
        ("send_rate", "WAPORTD_SEND_RATE", 20, 0, "0"),
        ("send_rate", "WAPORTD_SEND_RATE", 20, None, "20"),
    ],
)
def test_what_a_user_has_of_ones_own_wins_over_the_configuration(option, variable, common, own, told):
    config = configured("instances", **{option: common})
    text = units.environment(dataclasses.replace(ASSIGNMENT, **{option: own}), config)
    assert f'{variable}="{told}"\n' in text


def test_headers_are_passed_as_json():
    headers = (("Authorization", 'Bearer "a"'), ("X-B", "c"))
    text = units.environment(ASSIGNMENT, configured("instances", webhook_headers=headers))
    [value] = re.findall(r'^WAPORTD_WEBHOOK_HEADERS="(.*)"$', text, re.MULTILINE)
    assert json.loads(re.sub(r"\\(.)", r"\1", value)) == dict(headers)


def test_on_a_session_bus_engines_lie_beside_the_store():
    config = dataclasses.replace(configured("systemd", bus=Bus.SESSION), store=Store(Path("/home/ana/w")))
    text = units.environment(dataclasses.replace(ASSIGNMENT, engine="1.34.6"), config)
    assert 'WAPORTD_ENGINE="/home/ana/w/engines/1.34.6"\n' in text


def test_a_server_learns_of_a_pinned_page():
    text = units.environment(ASSIGNMENT, configured("instances", web_version="/srv/page.html"))
    assert 'WAPORTD_WEB_VERSION="/srv/page.html"\n' in text


@pytest.mark.parametrize("character", [*map(chr, range(0x20)), "\x7f", "\x85", "\u2028", "\ud800"])
def test_no_value_can_end_its_line(character):
    hostile = f"http://x/{character}PORT=1"
    with pytest.raises(ValueError, match="WAPORTD_WEBHOOK_URL has control characters") as caught:
        units.environment(dataclasses.replace(ASSIGNMENT, webhook_url=hostile), Config())
    assert "http" not in str(caught.value)
    with pytest.raises(ValueError, match="WAPORTD_USER"):
        units.environment(dataclasses.replace(ASSIGNMENT, user=User(f"2{character}")), Config())


def test_what_means_something_within_quotes_is_escaped():
    arguments = ('--a="\\$`',)
    text = units.environment(ASSIGNMENT, configured("instances", browser_args=arguments))
    assert r'WAPORTD_BROWSER_ARGS="[\"--a=\\\"\\\\\$\`\"]"' in text


def test_every_short_text_of_special_characters_stays_one_quoted_value():
    for characters in itertools.product("\"'\\$`#; =", repeat=4):
        value = "".join(characters)
        text = units.environment(dataclasses.replace(ASSIGNMENT, webhook_url=value), Config())
        [line] = [line for line in text.splitlines() if line.startswith("WAPORTD_WEBHOOK_URL=")]
        match = re.fullmatch(r'WAPORTD_WEBHOOK_URL="((?:[^"\\$`]|\\["\\$`])*)"', line)
        assert match
        assert re.sub(r"\\(.)", r"\1", match[1]) == value


def test_an_environment_file_is_private_and_written_once(tmp_path):
    assert write_environment(tmp_path, ASSIGNMENT, Config()) is True
    path = tmp_path / "5002.env"
    assert path.read_text("utf-8") == units.environment(ASSIGNMENT, Config())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    inode = path.stat().st_ino
    assert write_environment(tmp_path, ASSIGNMENT, Config()) is False
    assert path.stat().st_ino == inode
    assert write_environment(tmp_path, dataclasses.replace(ASSIGNMENT, user=User("3")), Config()) is True
    assert [file.name for file in tmp_path.iterdir()] == ["5002.env"]


def test_a_link_in_place_of_an_environment_is_replaced(tmp_path):
    write_environment(tmp_path, ASSIGNMENT, Config())
    file = tmp_path / f"{ASSIGNMENT.port}.env"
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert write_environment(tmp_path, ASSIGNMENT, Config()) is True
    assert not file.is_symlink()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_an_environment_file_that_may_not_be_read_is_replaced():
    with unprivileged() as folder:
        write_environment(folder, ASSIGNMENT, Config())
        (folder / "5002.env").chmod(0)
        assert write_environment(folder, ASSIGNMENT, Config()) is True
        assert stat.S_IMODE((folder / "5002.env").stat().st_mode) == 0o600


def test_an_environment_file_can_be_written_by_two_at_once(tmp_path):
    owners = [dataclasses.replace(ASSIGNMENT, user=User(str(number % 2))) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda owner: write_environment(tmp_path, owner, Config()), owners))
    texts = [units.environment(owner, Config()) for owner in owners[:2]]
    assert (tmp_path / "5002.env").read_text("utf-8") in texts
    assert [file.name for file in tmp_path.iterdir()] == ["5002.env"]


def test_an_environment_file_that_others_can_read_is_made_private_again(tmp_path):
    write_environment(tmp_path, ASSIGNMENT, Config())
    (tmp_path / "5002.env").chmod(0o644)
    assert write_environment(tmp_path, ASSIGNMENT, Config()) is True
    assert stat.S_IMODE((tmp_path / "5002.env").stat().st_mode) == 0o600


@pytest.mark.parametrize("broken", ["fsync", "fchmod"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, broken):
    write_environment(tmp_path, ASSIGNMENT, Config())
    before = (tmp_path / "5002.env").read_text()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(StoreError, match=r"5002\.env cannot be changed: No space left"):
        write_environment(tmp_path, dataclasses.replace(ASSIGNMENT, user=User("3")), Config())
    assert [file.name for file in tmp_path.iterdir()] == ["5002.env"]
    assert (tmp_path / "5002.env").read_text() == before


def test_what_a_crash_left_behind_is_written_over_and_no_link_is_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / ".5002.env.new").symlink_to(victim)
    write_environment(tmp_path, ASSIGNMENT, Config())
    assert victim.read_text() == "untouched"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["5002.env", "victim"]


def test_the_content_is_on_disk_before_its_name_is(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        calls.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_replace(*names, **folders):
        calls.append("rename")
        return replace(*names, **folders)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_environment(tmp_path, ASSIGNMENT, Config())
    assert calls == ["file", "rename", "directory"]


def test_ports_with_an_environment_are_listed_and_removed(tmp_path):
    for port in (5010, 5002, 20000):
        write_environment(tmp_path, dataclasses.replace(ASSIGNMENT, port=Port(port)), Config())
    for name in (".5003.env.new", "05.env", "5004.env~", "x.env"):
        (tmp_path / name).touch()
    assert units.EnvironmentFolder(tmp_path).ports() == [5002, 5010, 20000]
    units.EnvironmentFolder(tmp_path).remove(Port(5010))
    units.EnvironmentFolder(tmp_path).remove(Port(5010))
    assert units.EnvironmentFolder(tmp_path).ports() == [5002, 20000]


def test_of_environments_that_are_no_files_of_the_daemons_no_owner_is_reported(tmp_path):
    folder = tmp_path / "instances"
    folder.mkdir()
    secret = tmp_path / "of-root.conf"
    secret.write_text('WAPORTD_USER="secret"\n', "utf-8")
    (folder / "5001.env").symlink_to(secret)
    os.mkfifo(folder / "5002.env")
    (folder / "5003.env").mkdir()
    (folder / "5004.env").write_bytes(b'WAPORTD_USER="\xff\x1b[2J"\n')
    (folder / "5005.env").symlink_to("/dev/zero")
    write_environment(folder, Assignment(User("2"), Port(5010)), Config())
    assert units.environment_owners(folder) == {5010: "2"}
    assert units.environment_webhooks(folder) == {5010: "http://localhost:5002/webhook"}
    assert units.environment_owners(tmp_path / "none") == {}


@pytest.mark.parametrize("bus", list(Bus))
def test_no_placeholder_and_no_condition_is_left(bus):
    for name, text in units.render_units(Config(), bus=bus).items():
        assert not re.search(r"@[a-z_]+@", text)
        assert not re.search(r"(?m)^#(if|else|endif)\b", text)
        assert text.startswith("# Generated by waportd 0.")
        assert f" from {name}.in;" in text.splitlines()[0]
        assert max(map(len, text.splitlines())) <= 120


def test_the_session_bus_gets_the_servers_units_and_the_system_bus_the_daemons_too():
    assert [*units.render_units(Config(), bus=Bus.SESSION)] == [
        "whatsapp@.service",
        "whatsapp@.socket",
        "whatsapp-pause@.service",
        "whatsapp-move@.service",
        "whatsapp.target",
        "whatsapp-life.target",
        "whatsapp.slice",
    ]
    assert [*units.render_units(Config(), bus=Bus.SYSTEM)][7:] == [*units.DAEMON_UNITS]


def test_the_units_name_the_programs_below_the_prefix():
    rendered = units.render_units(Config(), bus=Bus.SYSTEM, prefix=Path("/opt/waportd"))
    assert 'ExecStart="/opt/waportd/bin/waportd" --config' in rendered["waportd.service"]
    server = rendered["whatsapp@.service"]
    assert '"/opt/waportd/lib/waportd/whatsapp_server.js" %i' in server
    assert '"/opt/waportd/lib/waportd/whatsapp_move.py" system' in rendered["whatsapp-move@.service"]
    other = configured("instances", script="/srv/server.js")
    rendered = units.render_units(other, bus=Bus.SYSTEM, prefix=Path("/opt/waportd"))
    assert '"/srv/server.js" %i' in rendered["whatsapp@.service"]


def test_every_template_is_rendered():
    templates = {path.name.removesuffix(".in") for path in (ROOT / "units").glob("*.in")}
    assert templates == set(
        units.render_units(configured("api", listen=(Address("::1", 80),)), bus=Bus.SYSTEM)
    )
    assert templates - set(units.render_units(Config(), bus=Bus.SYSTEM)) == {units.TCP_UNIT}


SANDBOX = {
    "DynamicUser", "User", "NoNewPrivileges", "CapabilityBoundingSet", "AmbientCapabilities",
    "SystemCallFilter", "SystemCallArchitectures", "RestrictNamespaces", "RestrictAddressFamilies", "ProtectSystem", "PrivateTmp",
    "PrivateDevices", "LogExtraFields", "SocketBindDeny",
}  # fmt: skip


def test_what_does_not_work_on_a_session_bus_is_left_out_there_and_nothing_else():
    system = rendered("whatsapp@.service", Bus.SYSTEM)
    session = rendered("whatsapp@.service", Bus.SESSION)
    assert set(system["Service"]) > SANDBOX
    assert not SANDBOX & set(session["Service"])
    assert not [name for name in session["Service"] if name.startswith("Protect")]
    for name, values in session["Service"].items():
        assert system["Service"][name] == values
    assert system["Unit"].pop("After") == ["whatsapp@%i.socket", "network.target"]
    assert session["Unit"].pop("After") == ["whatsapp@%i.socket"]
    assert system["Unit"] == session["Unit"]
    assert "Install" not in rendered("whatsapp.target", Bus.SESSION)


@pytest.mark.parametrize("bus", list(Bus))
def test_service_and_socket_are_wired_as_measured(bus):
    config = configured("store", directory=Path("/srv/x"))
    service = rendered("whatsapp@.service", bus, config)
    socket = rendered("whatsapp@.socket", bus, config)
    assert service["Unit"]["Requires"] == ["whatsapp@%i.socket"]
    assert "whatsapp@%i.socket" in service["Unit"]["After"]
    for unit in (service, socket):
        assert unit["Unit"]["PartOf"] == ["whatsapp.target"]
        assert unit["Unit"]["AssertPathExists"] == ["/srv/x/instances/%i.env"]
        assert unit["Unit"]["AssertPathIsSymbolicLink"] == ["!/srv/x/instances/%i.env"]
        assert not {"PropagatesStopTo", "BindsTo", "Requisite"} & set(unit["Unit"])
    assert socket["Unit"]["After"] == ["whatsapp.target"]
    assert socket["Unit"]["Before"] == ["whatsapp-life.target"]
    assert socket["Socket"] == {
        "ListenStream": ["127.0.0.1:%i", "[::1]:%i"],
        "FreeBind": ["yes"],
        "Slice": ["whatsapp.slice"],
    }
    # Far more than a daemon lets happen, and than anybody asks for.
    assert int(service["Unit"]["StartLimitBurst"][0]) >= 200
    assert "StartLimitBurst" not in service["Service"]


@pytest.mark.parametrize("bus", list(Bus))
def test_a_pause_keeps_the_server_waiting_and_ends_with_its_port(bus):
    pause = rendered("whatsapp-pause@.service", bus)
    assert pause["Unit"]["Before"] == ["whatsapp@%i.service"]
    assert pause["Unit"]["PartOf"] == ["whatsapp@%i.socket"]
    assert pause["Service"]["Type"] == ["oneshot"]
    assert pause["Service"]["ExecStart"] == [f"/bin/sleep {units.LONGEST_PAUSE_S}"]
    # What needs room on a disk, or a namespace, is missing where a server cannot start for the same reason.
    needy = {"DynamicUser", "PrivateTmp", "StateDirectory", "ProtectSystem", "PrivateDevices"}
    assert not needy & set(pause["Service"])
    # The kernel ends what is among the servers when their memory runs out, and the pause with it.
    assert pause["Service"].get("Slice") == (["system.slice"] if bus is Bus.SYSTEM else None)


def test_a_move_has_no_more_of_root_than_it_takes():
    service = rendered("whatsapp-move@.service")["Service"]
    assert service["Type"] == ["oneshot"]
    assert service["ExecStart"] == [
        f'/usr/bin/python3 -I "{ROOT}/whatsapp_move.py" system %i "%S" "%C" "%E" "%t"'
    ]
    assert service["CapabilityBoundingSet"] == ["CAP_DAC_OVERRIDE"]
    assert service["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert service["ProtectSystem"] == ["strict"]
    session = rendered("whatsapp-move@.service", Bus.SESSION)["Service"]
    assert session["ExecStart"] == [
        f'/usr/bin/python3 -I "{ROOT}/whatsapp_move.py" user %i "%S" "%C" "%E" "%t"'
    ]
    assert set(session) == {"Type", "ExecStart", "TimeoutStartSec", "UMask", "NoNewPrivileges"}


@pytest.mark.parametrize("bus", list(Bus))
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "all"),
        ("EnvironmentFile", "/var/lib/waportd/instances/%i.env"),
        ("Restart", "on-failure"),
        ("SuccessExitStatus", "10"),
        ("KillMode", "mixed"),
        ("TimeoutStopSec", "15"),
        ("StateDirectory", "whatsapp/%i"),
        ("StateDirectoryMode", "0700"),
        ("CacheDirectory", "whatsapp/%i"),
        ("CacheDirectoryMode", "0700"),
        ("UMask", "0077"),
        ("Slice", "whatsapp.slice"),
        ("LimitCORE", "0"),
        ("MemoryMax", "1073741824"),
        ("OOMPolicy", "stop"),
    ],
)
def test_the_service_says(bus, name, value):
    assert rendered("whatsapp@.service", bus)["Service"][name] == [value]


def test_the_system_bus_gives_each_server_a_uid_and_keeps_chromiums_sandbox():
    service = rendered("whatsapp@.service")["Service"]
    assert service["DynamicUser"] == ["yes"]
    assert service["User"] == ["whatsapp-%i"]
    assert service["LogExtraFields"] == ["WAPORTD_PORT=%i"]
    assert service["RestrictNamespaces"] == ["user pid net"]
    assert service["SystemCallFilter"] == [
        "@system-service chroot",
        "~@resources",
        "~listen:0 io_uring_setup io_uring_enter io_uring_register",
    ]
    assert service["SystemCallErrorNumber"] == ["EPERM"]
    assert service["SocketBindDeny"] == ["ipv4:tcp", "ipv6:tcp"]
    assert "AF_NETLINK" in service["RestrictAddressFamilies"][0].split()
    assert not {"MemoryDenyWriteExecute", "PrivateUsers", "ProcSubset", "PrivateNetwork"} & set(service)


@pytest.mark.parametrize("bus", list(Bus))
def test_the_life_of_all_servers_ends_with_the_first_step_of_their_stop(bus):
    """systemd stops in the reverse order of starts, and starts nothing beside what stops and has an order with it."""
    life = rendered("whatsapp-life.target", bus)["Unit"]
    # No order with the servers' slice, or with the daemon: it would wait for their stop.
    assert {"After": life["After"], "PartOf": life["PartOf"]} == {
        "After": ["whatsapp.target"],
        "PartOf": ["whatsapp.target"],
    }
    assert "Before" not in life
    assert "whatsapp-life.target" in rendered("whatsapp.target", bus)["Unit"]["Wants"]
    if bus is Bus.SYSTEM:
        daemon = rendered("waportd.service")["Unit"]
        assert "whatsapp-life.target" in " ".join(daemon["Wants"]).split()
        after = " ".join(daemon["After"]).split()
        assert "whatsapp-life.target" not in after
        # What loses the bus fails, and nothing else orders the two.
        assert "dbus.service" in after


def test_what_networks_are_denied_is_said_at_each_start_and_when_it_changes():
    path = rendered("whatsapp-networks.path")
    assert path["Unit"]["Wants"] == ["whatsapp-networks.service"]
    assert {"/etc/resolv.conf", "/etc/waportd/config.yaml"} < set(path["Path"]["PathChanged"])
    for starter in ("waportd.service", "whatsapp.target"):
        assert "whatsapp-networks.path" in " ".join(rendered(starter)["Unit"]["Wants"]).split()
    assert "whatsapp-networks.path" not in rendered("whatsapp.target", Bus.SESSION)["Unit"]["Wants"]
    unit = rendered("whatsapp-networks.service")
    # Name servers may come and go quickly: a limit would end in servers that find nobody.
    changed = rendered("whatsapp-networks-changed.service")
    for one in (unit, changed):
        assert one["Unit"]["StartLimitIntervalSec"] == ["0"]
        assert one["Service"]["CapabilityBoundingSet"] == ["CAP_SYS_ADMIN"]
    # What changes while it reads has it read again: the path's own unit ends before it begins.
    assert path["Path"]["Unit"] == ["whatsapp-networks-changed.service"]
    assert unit["Unit"]["After"] == ["whatsapp-networks-changed.service"]
    assert path["Unit"]["Before"] == ["whatsapp-networks.service"]


def test_the_daemon_runs_with_the_least_privilege():
    unit = rendered("waportd.service")
    service = unit["Service"]
    assert service["User"] == ["waportd"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["MemoryDenyWriteExecute"] == ["yes"]
    assert service["IPAddressDeny"] == ["any"]
    assert service["IPAddressAllow"] == ["localhost"]
    assert (service["MemoryMax"], service["TasksMax"]) == (["512M"], ["128"])
    # It checks its configuration itself: RestartPreventExitStatus= does not hold for what comes before it.
    assert "ExecStartPre" not in service
    assert service["RestartPreventExitStatus"] == ["65 78"]
    assert service["ExecReload"] == [
        f"{service['ExecStart'][0]} --check-config",
        '/bin/sh -c "kill -HUP $MAINPID"',
    ]
    assert not {"PrivateUsers", "PrivateNetwork", "RuntimeDirectory"} & set(service)
    # Nor by another process of the same user, which it could get into.
    for of_the_same_user in (service, rendered("whatsapp-pause@.service")["Service"]):
        barred = " ".join(of_the_same_user["SystemCallFilter"]).split("~")[-1].split()
        assert {"symlink", "symlinkat", "mknod", "mknodat", "io_uring_setup"} <= set(barred)
        assert of_the_same_user["NoNewPrivileges"] == ["yes"]
    assert unit["Unit"]["Requires"] == ["waportd.socket"]
    socket = rendered("waportd.socket", config=configured("api", socket=Path("/run/x.sock")))["Socket"]
    assert socket["ListenStream"] == ["/run/x.sock"]
    assert socket["SocketMode"] == ["0660"]
    assert socket["SocketGroup"] == ["waportd"]


def test_no_session_depends_on_the_daemon():
    for name in units.INSTANCE_UNITS:
        assert "waportd." not in str(rendered(name).get("Unit"))


def test_the_values_come_from_the_configuration():
    config = configured("instances", node="/opt/my node/bin/node", script="/srv/é/server.js")
    assert rendered("whatsapp@.service", config=config)["Service"]["ExecStart"] == [
        '"/opt/my node/bin/node" "/srv/é/server.js" %i'
    ]
    config = configured("limits", memory_max=0)
    assert rendered("whatsapp@.service", config=config)["Service"]["MemoryMax"] == ["infinity"]


def test_the_script_is_the_checkouts_own():
    [command] = rendered("whatsapp@.service")["Service"]["ExecStart"]
    assert command == f'"/usr/bin/node" "{ROOT}/whatsapp_server.js" %i'


@pytest.mark.parametrize("path", ["/a%b", "/a$b", '/a"b', "/a'b", "/a\\b", "/a\nb", "/a "])
def test_a_path_that_means_something_else_in_a_unit_file_is_refused(path):
    with pytest.raises(ConfigError, match="cannot stand in a unit file") as caught:
        units.render_units(configured("instances", script=path), bus=Bus.SESSION)
    assert caught.value.hint


def test_units_are_generated_into_a_folder(tmp_path):
    folder = tmp_path / "new" / "units"
    files = units.generate_units(folder, Config())
    assert files == [folder / name for name in units.render_units(Config(), bus=Bus.SYSTEM)]
    assert {path.name: path.read_text("utf-8") for path in folder.iterdir()} == units.render_units(
        Config(), bus=Bus.SYSTEM
    )
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o644}
    assert units.generate_units(folder, Config()) == files


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        units.generate_units(tmp_path / "file", Config())


@pytest.fixture
def session(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "systemd" / "user"


def test_session_units_are_installed_and_a_reload_is_due_only_when_they_changed(session):
    assert units.install_session_units(Config()) is True
    assert sorted(path.name for path in session.iterdir()) == sorted(units.INSTANCE_UNITS)
    assert units.install_session_units(Config()) is False
    assert units.install_session_units(configured("limits", memory_max=2**30 * 2)) is True


def test_stale_units_of_ours_go_and_those_of_others_stay(session):
    session.mkdir(parents=True)
    (session / "whatsapp-old.service").write_text("# Generated by waportd 0.0.1 from x\n")
    (session / "other.service").write_text("[Unit]\nDescription=not Generated by waportd\n")
    (session / "other.service.d").mkdir()
    (session / "gone.service").symlink_to("/nonexistent/x")
    assert units.install_session_units(Config()) is True
    left = {path.name for path in session.iterdir()} - set(units.INSTANCE_UNITS)
    assert left == {"other.service", "other.service.d", "gone.service"}


@pytest.mark.parametrize("target", [None, "/dev/null", "/nonexistent/x"])
def test_a_unit_that_somebody_else_put_there_is_not_replaced(session, target):
    session.mkdir(parents=True)
    path = session / "whatsapp@.service"
    if target:
        path.symlink_to(target)
    else:
        path.write_text("[Service]\n")
    with pytest.raises(ConfigError, match="is in the way"):
        units.install_session_units(Config())
    assert [file.name for file in session.iterdir()] == ["whatsapp@.service"]
    assert path.is_symlink() == bool(target)


@pytest.fixture
def hang():
    """Interrupt what waits for ever."""

    def interrupt(*_):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("hang")
def test_a_pipe_in_place_of_a_unit_is_not_waited_for(tmp_path):
    """By who runs it, which may be root in a folder of somebody else's."""
    os.mkfifo(tmp_path / "waportd.service")
    with pytest.raises(ConfigError, match=r"waportd\.service is in the way"):
        units.generate_units(tmp_path, Config())
    assert [path.name for path in tmp_path.iterdir()] == ["waportd.service"]


def test_a_unit_that_is_a_link_to_one_of_ours_is_not_replaced(tmp_path):
    (tmp_path / "elsewhere").write_text(units.HEADER)
    (tmp_path / "waportd.service").symlink_to("elsewhere")
    with pytest.raises(ConfigError, match="is in the way"):
        units.generate_units(tmp_path, Config())
    assert (tmp_path / "waportd.service").is_symlink()


def test_a_folder_for_units_that_is_reached_by_a_link_of_another_user_is_refused(tmp_path, monkeypatch):
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "way").symlink_to(target)
    owner = os.lstat(tmp_path / "way").st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    stat_of = os.fstat

    def of_a_stranger(descriptor):
        found = stat_of(descriptor)
        return found if not stat.S_ISLNK(found.st_mode) else os.stat_result([*found[:4], 4711, *found[5:]])

    monkeypatch.setattr(os, "fstat", of_a_stranger)
    with pytest.raises(ConfigError, match="a link that belongs to user id 4711 is not followed"):
        units.generate_units(tmp_path / "way" / "new", Config())
    assert list(target.iterdir()) == []


def test_a_folder_for_units_is_made_with_those_above_it(tmp_path):
    written = units.generate_units(tmp_path / "a" / "b", Config())
    assert all(path.parent == tmp_path / "a" / "b" and path.is_file() for path in written)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) & 0o700 == 0o700


def test_without_a_session_the_error_says_how_to_get_one(monkeypatch):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with pytest.raises(ConfigError, match="no session bus") as caught:
        units.install_session_units(Config())
    assert "log in" in str(caught.value.hint)


def test_the_bus_policy_opens_one_call_to_one_user():
    [policy] = ET.parse(ROOT / "units" / "waportd-dbus.conf").getroot()
    assert policy.attrib == {"user": "waportd"}
    assert [rule.attrib for rule in policy] == [
        {
            "send_destination": "org.freedesktop.systemd1",
            "send_interface": "org.freedesktop.systemd1.Manager",
            "send_member": "CleanUnit",
        }
    ]

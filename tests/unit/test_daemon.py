"""The program and its parts, as far as they need neither systemd nor a bus."""

import dataclasses
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from support import SPARE

from waportd import daemon
from waportd.config import Address, Bus, Config
from waportd.daemon import SocketInUse
from waportd.errors import StoreTooNewError
from waportd.systemd import activation
from waportd.units import DAEMON_UNITS, INSTANCE_UNITS, TCP_UNIT


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    """The strictest mask a service may run with."""
    before = os.umask(0o077)
    yield
    assert os.umask(before) == 0o077


def test_a_socket_of_ones_own_is_made_with_its_folder_and_is_for_user_and_group(tmp_path, umask):
    path = tmp_path / "run" / "waportd" / "api.sock"
    with daemon.unix_listeners(path) as [listener]:
        assert listener.getsockname() == str(path)
        assert mode(path) == 0o660
        assert mode(path.parent) == mode(path.parent.parent) == 0o755
    assert not path.exists()
    listener.close()


def test_a_socket_that_was_left_over_is_replaced(tmp_path):
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with daemon.unix_listeners(path) as [listener]:
        listener.close()


def test_a_socket_in_use_is_left_alone(tmp_path):
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(SocketInUse, match="Address already in use"), daemon.unix_listeners(path):
            pass
        assert path.exists()


def test_a_store_of_a_newer_waportd_is_no_failure_that_a_restart_fixes(monkeypatch, config_file):
    async def run(_):
        raise StoreTooNewError("the store has schema version 99", hint="install the newer waportd again")

    monkeypatch.setattr(daemon.Daemon, "run", run)
    monkeypatch.setattr(daemon.journal, "set_up_logging", lambda _: None)
    assert daemon.main(["--config", str(config_file(""))]) == 65


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path):
    path = tmp_path / "api.sock"
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(SocketInUse), daemon.unix_listeners(path):
        pass
    assert path.read_text(encoding="utf-8") == "precious"


def waportd(*arguments):
    """Run the program; return its exit status, output and complaints."""
    ended = subprocess.run(
        [sys.executable, "-m", "waportd", *map(str, arguments)],
        cwd=Path(daemon.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.fixture
def config_file(tmp_path):
    def write(text):
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_valid_configuration_is_ok(config_file):
    path = config_file("ports: {base: 6001, range: 6001-6100}\n")
    assert waportd("--config", path, "--check-config") == (0, f"{path}: ok\n", "")


def test_a_valid_configuration_that_may_not_be_meant_is_ok_with_a_warning(config_file):
    path = config_file("api: {allow_users: [nosuch]}\n")
    status, said, complaint = waportd("--config", path, "--check-config")
    assert (status, said) == (0, f"{path}: ok\n")
    assert "warning: api.allow_users: there is no account nosuch" in complaint


@pytest.mark.parametrize("arguments", [["--check-config"], [], ["generate-units", "--output", "/nowhere"]])
def test_every_fault_of_a_configuration_is_reported_at_once_and_no_restart_is_worth_it(
    config_file, arguments
):
    path = config_file("ports:\n  base: many\nlimts: {}\nlog:\n  level: loud\n")
    status, said, complaint = waportd("--config", path, *arguments)
    assert (status, said) == (78, "")
    for line in (f"{path}:2: ports.base", f"{path}:3: limts", f"{path}:5: log.level"):
        assert line in complaint


def test_units_are_generated_and_named(config_file, tmp_path):
    output = tmp_path / "units"
    status, said, _ = waportd("--config", config_file(""), "generate-units", "--output", output)
    assert status == 0
    assert sorted(said.split()) == sorted(map(str, output.iterdir()))
    assert output / "whatsapp@.service" in output.iterdir()


def test_a_damaged_store_ends_the_daemon_and_stays_as_it_is(config_file, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    store = state / "waportd.db"
    store.write_text("precious", encoding="utf-8")
    socket_path = tmp_path / "api.sock"
    path = config_file(f"store: {{directory: {state}}}\napi: {{socket: {socket_path}}}\n")
    status, _, complaint = waportd("--config", path)
    assert status == 1
    assert f"the store {store} is damaged" in complaint
    assert "restore" in complaint
    assert "Traceback" not in complaint
    assert store.read_text(encoding="utf-8") == "precious"
    assert not socket_path.exists()


def test_wrong_usage_is_reported():
    status, _, complaint = waportd("--confg", "x")
    assert status == 2
    assert "usage: waportd" in complaint


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_an_address_is_opened_and_one_in_use_is_named(family, host):
    with socket.create_server((host, 0), family=family) as taken:
        address = Address(host, taken.getsockname()[1])
        with pytest.raises(
            SocketInUse, match=re.escape(f"api.listen: {address} cannot be opened")
        ) as refused:
            daemon.bind_address(address)
        assert str(address.port) in refused.value.hint
    with daemon.bind_address(address) as listener, socket.create_connection((host, address.port)):
        assert listener.family == family


def test_an_address_that_other_hosts_reach_comes_with_a_word_on_what_that_takes(caplog):
    listening("127.0.0.1", SPARE)
    assert not caplog.records
    listening("0.0.0.0", SPARE)
    assert "reverse proxy" in caplog.text
    assert "IPAddressAllow=" in caplog.text


def configured(*addresses, bus=Bus.SYSTEM):
    default = Config()
    return dataclasses.replace(
        default,
        api=dataclasses.replace(default.api, listen=tuple(Address(*address) for address in addresses)),
        systemd=dataclasses.replace(default.systemd, bus=bus),
    )


def listening(*address, bus=Bus.SESSION, inherited=()):
    """Return whether the daemon itself listens on that address."""
    opened = list(daemon.tcp_listeners(configured(address, bus=bus), list(inherited)))
    for listener in opened:
        listener.close()
    return bool(opened)


def test_an_address_that_is_taken_is_reported_and_keeps_nothing_else_from_being_served(caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert not listening("127.0.0.1", taken.getsockname()[1])
    assert "Cannot listen: api.listen: 127.0.0.1:" in caplog.text
    assert "Address already in use" in caplog.text


@pytest.fixture
def handed_over(monkeypatch, tmp_path):
    """The unix socket, as systemd hands it over."""
    monkeypatch.setattr(activation, "used", True)
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "api.sock"))
        yield unix


def test_an_address_that_systemd_holds_is_not_opened_again(handed_over, caplog):
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = held.getsockname()
        assert not listening(*address, bus=Bus.SYSTEM, inherited=[handed_over, held])
    assert not caplog.records


def test_where_systemd_runs_the_daemon_nobody_but_systemd_holds_its_addresses(handed_over, caplog):
    address = ("127.0.0.1", SPARE)
    assert not listening(*address, bus=Bus.SYSTEM, inherited=[handed_over])
    assert "waportd generate-units --tcp" in caplog.text
    assert listening(*address, bus=Bus.SESSION, inherited=[handed_over])


def test_the_unit_for_the_addresses_alone_is_generated(config_file, tmp_path):
    path = config_file("api: {listen: ['127.0.0.1:8080', '[::1]:8080']}\n")
    output = tmp_path / "units"
    assert waportd("--config", path, "generate-units", "--tcp", "--output", output) == (
        0,
        f"{output}/waportd-tcp.socket\n",
        "",
    )
    text = (output / "waportd-tcp.socket").read_text("utf-8")
    assert "\nListenStream=127.0.0.1:8080\nListenStream=[::1]:8080\n" in text
    assert "\nService=waportd.service\n" in text
    assert waportd("--config", path, "generate-units", "--output", output)[0] == 0
    assert {each.name for each in output.iterdir()} == {*INSTANCE_UNITS, *DAEMON_UNITS, TCP_UNIT}


def test_without_an_address_there_is_no_such_unit(config_file, tmp_path):
    status, _, complaint = waportd(
        "--config", config_file(""), "generate-units", "--tcp", "--output", tmp_path / "units"
    )
    assert status == 78
    assert "api.listen names no address" in complaint
    assert "systemctl disable --now waportd-tcp.socket" in complaint


def test_an_address_that_the_configuration_does_not_name_is_not_served(handed_over, caplog):
    with socket.create_server(("127.0.0.1", 0)) as held, socket.create_server(("127.0.0.1", 0)) as named:
        config = configured(named.getsockname())
        assert daemon.only_named(config, [handed_over, held, named]) == [handed_over, named]
        assert held.fileno() == -1
        assert "api.listen does not name it; as root: waportd generate-units --tcp" in caplog.text
        assert daemon.only_named(configured(), [named]) == []
    assert "as root: systemctl disable --now waportd-tcp.socket" in caplog.text


class Withdrawn(list):
    def withdraw(self, address):
        self.append(str(address))


def test_an_address_that_is_taken_out_is_withdrawn_by_a_reload_and_another_waits_for_a_restart(caplog):
    caplog.set_level("INFO")
    one, two, three = (("127.0.0.1", port) for port in (8080, 8081, 8082))
    running, server = daemon.Daemon(configured(one, two), None), Withdrawn()
    assert running.withdraw(configured(two, three), server)
    assert server == ["127.0.0.1:8080"]
    assert "api.listen: 127.0.0.1:8080 is not served any more" in caplog.text
    assert not running.withdraw(configured(one, two), server)
    assert server == ["127.0.0.1:8080"]

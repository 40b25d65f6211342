"""Which networks sessions are kept from, and what of them this host needs."""

import subprocess

import pytest

from waportd import daemon, networks
from waportd.config import Config, InvalidConfig, parse
from waportd.errors import WaportdError

DEFAULT = ("100.100.100.200/32", "168.63.129.16/32", "169.254.0.0/16", "fd00:ec2::254/128", "fe80::/10")


def wanted(resolver="", text=""):
    return networks.wanted(parse(text, "config.yaml"), resolver)


def test_by_default_link_local_networks_and_where_clouds_give_secrets():
    assert wanted() == (DEFAULT, ())
    assert wanted("nameserver 127.0.0.53\nsearch example.com\n") == (DEFAULT, ())


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("nameserver 169.254.169.254", "169.254.169.254/32"),
        ("nameserver\t169.254.169.253 # of the VPC", "169.254.169.253/32"),
        ("nameserver fe80::1%eth0", "fe80::1/128"),
        ("nameserver 168.63.129.16", "168.63.129.16/32"),
    ],
)
def test_a_name_server_stays_within_reach(line, allowed):
    assert wanted(f"# nameserver 169.254.1.1\n{line}\nnameserver 192.0.2.1\nnameserver\n").allowed == (
        allowed,
    )


def test_what_the_configuration_names_stays_within_reach():
    text = (
        "instances: {proxy: 'http://ana:secret@169.254.1.1:3128', webhook_url: 'http://[fe80::2]:80/', "
        "deny_networks: [169.254.0.0/16, 169.254.1.0/24, 'fe80::/10', 192.0.2.1]}"
    )
    assert wanted(text=text) == (
        ("169.254.0.0/16", "192.0.2.1/32", "fe80::/10"),
        ("169.254.1.1/32", "fe80::2/128"),
    )
    assert wanted("nameserver 169.254.169.254", "instances: {deny_networks: []}") == ((), ())


@pytest.mark.parametrize("network", ["10.0.0.1/8", "127.0.0.0/8", "0.0.0.0/0", "::/0", "somewhere"])
def test_what_is_no_network_or_would_keep_callers_out_is_refused(network):
    with pytest.raises(InvalidConfig, match="deny_networks"):
        parse(f"instances: {{deny_networks: ['{network}']}}", "config.yaml")


def test_what_systemd_shows_is_read_in_any_order():
    shown = f"IPAddressAllow=169.254.169.254/32\nIPAddressDeny={' '.join(DEFAULT[::-1])}\n"
    assert networks.in_force(shown) == (DEFAULT, ("169.254.169.254/32",))
    assert networks.in_force("IPAddressAllow=\nIPAddressDeny=\n") == ((), ())
    assert networks.in_force("") == ((), ())


@pytest.fixture
def systemctl(monkeypatch, tmp_path):
    """What systemctl was called with; its exit status."""
    calls = []

    def run(command, **_):
        calls.append(command)
        return subprocess.CompletedProcess(command, run.status, stderr="Access denied")

    run.status = 0
    run.calls = calls
    monkeypatch.setattr(networks.subprocess, "run", run)
    monkeypatch.setattr(networks, "RESOLVER", tmp_path / "resolv.conf")
    (tmp_path / "resolv.conf").write_text("nameserver 169.254.169.254\n")
    return run


SET = ["/usr/bin/systemctl", "set-property", "--runtime", "whatsapp.slice"]
ALLOWED = [*SET, "IPAddressAllow=", "IPAddressAllow=169.254.169.254/32"]


def test_systemd_gets_what_is_valid_now_and_forgets_what_was(systemctl):
    networks.apply(Config())
    # A name server first: it is never out of reach.
    assert systemctl.calls == [ALLOWED, [*SET, "IPAddressDeny=", f"IPAddressDeny={' '.join(DEFAULT)}"]]


def test_a_faulty_configuration_changes_nothing_but_that_name_servers_are_within_reach(
    systemctl, tmp_path, capsys
):
    path = tmp_path / "config.yaml"
    path.write_text("no: configuration\n")
    assert daemon.main(["--config", str(path), "deny-networks"]) == 78
    assert systemctl.calls == [ALLOWED]
    assert str(path) in capsys.readouterr().err


def test_without_a_network_there_are_no_name_servers_yet(systemctl, tmp_path):
    (tmp_path / "resolv.conf").unlink()
    assert networks.apply(Config()) == (DEFAULT, ())


def test_the_program_says_what_it_did_or_why_not(systemctl, tmp_path, capsys):
    path = tmp_path / "config.yaml"
    path.write_text("instances: {deny_networks: ['169.254.0.0/16']}\n")
    assert daemon.main(["--config", str(path), "deny-networks"]) == 0
    assert capsys.readouterr().out == "denied: 169.254.0.0/16; but for: 169.254.169.254/32\n"
    systemctl.status = 1
    assert daemon.main(["--config", str(path), "deny-networks"]) == 1
    assert "Access denied" in capsys.readouterr().err
    with pytest.raises(WaportdError):
        networks.apply(Config())

"""The unit files of a fleet: what they say, and that a single host gets none of them."""

import dataclasses
import re
import subprocess

import pytest

from waportd import units as host_units
from waportd.config import Bus, Config
from waportd.errors import ConfigError
from waportd.fleet import units
from waportd.fleet.timing import Timing

BOUND = [f"{unit}.d/50-fleet.conf" for unit in ("whatsapp@.service", "whatsapp@.socket")]


def rendered(bus=Bus.SYSTEM, timing=None, **options):
    return units.render_units(bus=bus, timing=timing or Timing(), **options)


def settings(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_system_gets_the_lease_what_carries_logins_and_three_drop_ins():
    own = [units.LEASE_UNIT, "whatsapp-export@.service", "whatsapp-import@.service"]
    assert sorted(rendered()) == sorted([*own, "waportd.service.d/50-fleet.conf", *BOUND])
    assert sorted(rendered(Bus.SESSION)) == sorted([*own, *BOUND])


def test_who_carries_a_login_may_do_no_more():
    """Root may write to the folders of sessions alone; who reads all of them writes as the daemon's user."""
    reads, writes = (settings(rendered()[f"whatsapp-{name}@.service"]) for name in ("export", "import"))
    assert {"User=waportd", "CapabilityBoundingSet=CAP_DAC_READ_SEARCH"} <= set(reads)
    assert "ReadWritePaths=/var/lib/waportd" in reads
    assert not any(line.startswith("User=") for line in writes)
    assert {"CapabilityBoundingSet=CAP_DAC_OVERRIDE", "ReadWritePaths=%S/private/whatsapp"} <= set(writes)


def test_the_daemon_may_write_to_the_folder_of_the_snapshots(tmp_path):
    daemon = "waportd.service.d/50-fleet.conf"
    assert f"ReadWritePaths=-{tmp_path}" in settings(rendered(store=tmp_path)[daemon])
    assert settings(rendered()[daemon]).count("ReadWritePaths=-%t/waportd") == 1


def test_a_single_host_gets_none_of_them(tmp_path):
    for bus in Bus:
        assert not set(rendered()) & set(host_units.render_units(Config(), bus=bus))
        assert "lease" not in "".join(host_units.render_units(Config(), bus=bus))


def test_no_placeholder_is_left():
    for bus in Bus:
        for text in rendered(bus).values():
            assert not re.search(r"@[a-z_]+@|^#(if|endif)", text, re.MULTILINE)


@pytest.mark.parametrize("name", BOUND)
def test_what_runs_a_session_is_bound_to_the_lease(name):
    found = settings(rendered()[name])
    for line in (
        "BindsTo=waportd-lease.service",
        "After=waportd-lease.service",
        "AssertPathExists=%t/waportd/instances/%i.env",
        "AssertPathIsSymbolicLink=!%t/waportd/instances/%i.env",
    ):
        assert line in found
    # An empty one removes those of the unit, also of other kinds: so it comes first.
    assert found.index("AssertPathExists=") == min(
        number for number, line in enumerate(found) if line.startswith("Assert")
    )


def test_the_times_of_the_units_are_those_of_the_keeper():
    timing = dataclasses.replace(Timing(), watchdog_s=17.5, stop_s=10.0)
    lease, service = (rendered(timing=timing)[name] for name in (units.LEASE_UNIT, BOUND[0]))
    assert "WatchdogSec=17.5" in settings(lease)
    assert "Environment=WAPORTD_FLEET_WATCHDOG_S=17.5" in settings(lease)
    assert "TimeoutStopSec=10" in settings(service)
    assert not re.search("Environment=", rendered()[units.LEASE_UNIT])


def test_unsafe_times_and_paths_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="not safe"):
        rendered(timing=dataclasses.replace(Timing(), ttl_s=30.0))
    with pytest.raises(ConfigError, match="cannot stand in a unit file"):
        rendered(programs=tmp_path / 'a"b')


def test_they_are_written_once(tmp_path):
    assert units.write(tmp_path, rendered())
    assert not units.write(tmp_path, rendered())
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == set(
        rendered()
    )


def test_a_file_of_an_administrator_is_not_replaced(tmp_path):
    (tmp_path / units.LEASE_UNIT).write_text("[Service]\n")
    with pytest.raises(ConfigError, match="in the way"):
        units.write(tmp_path, rendered())


def test_systemd_reads_them_without_complaint(tmp_path):
    config = dataclasses.replace(Config())
    host = host_units.render_units(config, bus=Bus.SYSTEM)
    for name, text in (host | rendered()).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(
            re.sub(r'"/\S*/(waportd|lease|node|whatsapp_\w+\.\w+)"', '"/bin/true"', text)
        )
    for template in ("whatsapp@.service", "whatsapp@.socket"):
        (tmp_path / template.replace("@", "@5002")).symlink_to(template)
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "waportd-lease.service", "whatsapp@5002.service"],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
    )
    assert [line for line in checked.stderr.splitlines() if "lease" in line or "50-fleet" in line] == []
    assert checked.returncode == 0, checked.stderr

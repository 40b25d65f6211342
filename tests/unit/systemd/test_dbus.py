import subprocess
import sys
from pathlib import Path

import pytest

from waportd.systemd.connection import Variant
from waportd.systemd.dbus import DBusUnitManager
from waportd.systemd.manager import UnitManager, UnitStatus
from waportd.systemd.properties import read, status_of, type_interface, unit_name, unit_path

CHECKOUT = Path(__file__).resolve().parents[3]
PATH = "/org/freedesktop/systemd1/unit/"


def test_it_has_every_method_of_the_protocol():
    for name in vars(UnitManager):
        if not name.startswith("_"):
            assert callable(getattr(DBusUnitManager, name)), name


def test_importing_it_warns_of_nothing():
    command = [sys.executable, "-W", "error", "-c", "import waportd.systemd.dbus"]
    process = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=20, check=False)
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    ("unit", "path"),
    [
        ("whatsapp@5002.service", "whatsapp_405002_2eservice"),
        ("waportd.socket", "waportd_2esocket"),
        ("5a_b-c.slice", "_35a_5fb_2dc_2eslice"),
    ],
)
def test_a_unit_and_its_path(unit, path):
    assert unit_path(unit) == PATH + path
    assert unit_name(PATH + path) == unit


def test_the_interface_of_a_units_type():
    assert type_interface("whatsapp@5002.service") == "org.freedesktop.systemd1.Service"
    assert type_interface("whatsapp@5002.socket") == "org.freedesktop.systemd1.Socket"


def status(**properties):
    types = {str: "s", int: "u", bool: "b"}
    values = {
        name: Variant("t" if name.endswith("Timestamp") else types[type(value)], value)
        for name, value in properties.items()
    }
    return status_of("x.service", read(Variant("a{sv}", values)))


def test_a_running_service():
    assert status(
        LoadState="loaded", ActiveState="active", SubState="running", Result="success", MainPID=42, NRestarts=2,
        ExecMainCode=1, ExecMainStatus=11, ControlGroup="/a/b",
        ActiveEnterTimestamp=1_700_000_000_500_000, StateChangeTimestamp=1,
    ) == UnitStatus(
        "x.service", "loaded", "active", "running", "success", since=1_700_000_000.5, main_pid=42, restarts=2,
        exit_code=1, exit_status=11, control_group="/a/b",
    )  # fmt: skip


def test_what_a_units_type_does_not_have_keeps_its_default():
    assert status(LoadState="loaded", ActiveState="inactive", SubState="dead") == UnitStatus("x.service")


@pytest.mark.parametrize(
    ("state", "since"),
    [
        ("active", 1.0),
        ("inactive", 2.0),
        ("failed", 2.0),
        ("activating", 3.0),
        ("deactivating", 4.0),
        ("reloading", 4.0),
    ],
)
def test_since_when_depends_on_the_state(state, since):
    assert status(
        ActiveState=state, ActiveEnterTimestamp=1_000_000, InactiveEnterTimestamp=2_000_000,
        InactiveExitTimestamp=3_000_000, StateChangeTimestamp=4_000_000,
    ).since == since  # fmt: skip

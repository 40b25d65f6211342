"""A unit on D-Bus: the names of its objects and properties, and a status made of them.

The interface is documented in org.freedesktop.systemd1(5).
"""

import re
import string
from collections.abc import Iterable, Mapping
from typing import Any

from waportd.systemd.manager import UnitStatus

SYSTEMD = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
UNIT = f"{SYSTEMD}.Unit"
_UNIT_PATH = f"{PATH}/unit/"
_PLAIN = string.ascii_letters + string.digits
SIGNALLED = {"ActiveState", "SubState", "Result", "StateChangeTimestamp"}
"""The least that signals of a service or socket hold, if their values are reliable."""
_SINCE = {
    "active": "ActiveEnterTimestamp",
    "inactive": "InactiveEnterTimestamp",
    "failed": "InactiveEnterTimestamp",
    "activating": "InactiveExitTimestamp",
}
OF_UNIT = (
    "LoadState",
    "ActiveState",
    "SubState",
    "StateChangeTimestamp",
    *sorted({*_SINCE.values()}),
    "Job",
)
"""The properties that are read of those that all units have."""
OF_TYPE = (
    "Result",
    "MainPID",
    "NRestarts",
    "ExecMainCode",
    "ExecMainStatus",
    "ControlGroup",
)
"""The properties that are read of those of a service or socket."""


def read(properties: Any, names: Iterable[str] = OF_UNIT + OF_TYPE) -> dict[str, Any]:
    """Return the values with these names of a Variant with a unit's properties; nothing of None.

    Looked up one by one: to unpack all 400 takes twenty times as long.
    """
    found = [] if properties is None else [(name, properties.lookup_value(name, None)) for name in names]
    return {name: value.unpack() for name, value in found if value is not None}


def status_of(unit: str, properties: Mapping[str, Any]) -> UnitStatus:
    """Make a status of a unit's properties; missing ones are as in a unit that never ran."""
    value = properties.get
    active_state = value("ActiveState", "inactive")
    return UnitStatus(
        name=unit,
        load_state=value("LoadState", "loaded"),
        active_state=active_state,
        sub_state=value("SubState", "dead"),
        result=value("Result", "success"),
        since=value(_SINCE.get(active_state, "StateChangeTimestamp"), 0) / 1e6,  # from microseconds
        main_pid=value("MainPID", 0),
        restarts=value("NRestarts", 0),
        exit_code=value("ExecMainCode", 0),
        exit_status=value("ExecMainStatus", 0),
        control_group=value("ControlGroup", ""),
        has_job=value("Job", (0, ""))[0] != 0,
    )


def type_interface(unit: str) -> str:
    """Return the interface that only units of this type have."""
    return f"{SYSTEMD}.{unit.rpartition('.')[2].capitalize()}"


def unit_path(unit: str) -> str:
    """Return the path of a unit's object (sd_bus_path_encode(3))."""
    return _UNIT_PATH + "".join(
        chr(byte) if chr(byte) in _PLAIN and (position or not chr(byte).isdigit()) else f"_{byte:02x}"
        for position, byte in enumerate(unit.encode())
    )


def unit_name(path: str) -> str:
    """Return the unit of an object's path."""
    return re.sub("_([0-9a-f]{2})", lambda code: chr(int(code[1], 16)), path.removeprefix(_UNIT_PATH))

"""The contract of daemon, servers and pages: states, causes, exit codes, variables, limits. From one file.

``contract.json`` lies beside ``server/*.js``, which read it, too; a build puts a copy into this package. The pages read
``web/contract.mjs``, which `make docs` writes from it. What only one of the three uses does not belong there.
"""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

_COPY: Final = Path(__file__).with_name("contract.json")
_OF_CHECKOUT: Final = Path(__file__).parent.parent / "server/contract.json"

CONTRACT: Final[dict[str, Any]] = json.loads((_COPY if _COPY.exists() else _OF_CHECKOUT).read_bytes())
"""The file, whole. `waportd.model` has its words as enums."""


class Variable(NamedTuple):
    """A variable of a server's environment, and the key of ``instances`` in config.yaml that it carries."""

    setting: str | None
    default: Any
    range: tuple[int, int] | None
    """The least and the largest number of the key; None where it is no number, or has other limits."""


def _variable(entry: dict[str, Any]) -> Variable:
    limits = entry.get("range")
    return Variable(entry.get("setting"), entry["default"], limits and (limits[0], limits[1]))


EXIT_CODES: Final[dict[str, int]] = CONTRACT["exit_codes"]
"""Exit statuses of whatsapp_server.js, by name."""
PATTERNS: Final[dict[str, str]] = CONTRACT["patterns"]
"""Regular expressions, each for the whole of a text. Python, JavaScript and JSON Schema read them alike."""
LIMITS: Final[dict[str, Any]] = CONTRACT["limits"]
VARIABLES: Final = {name: _variable(entry) for name, entry in CONTRACT["variables"].items()}
SETTINGS: Final = {variable.setting: variable for variable in VARIABLES.values() if variable.setting}
"""The same by the key that they carry."""

"""Every command that the documentation shows is run as it stands there, on a machine with the package."""

import re
from pathlib import Path

import pytest
from harness import SOCKET
from testbed import guests

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.pt-BR.md", *sorted((ROOT / "docs").glob("*.md"))]
RELEASES = guests.RELEASES[-1:]
COMMANDS = {
    "$socket", "adduser", "age-keygen", "apt", "cp", "curl", "chgrp", "export", "grep", "journalctl", "make", "mkdir", "node", "setpriv", "socket=", "systemctl",
    "tar", "tools/phone", "usermod", "waportctl", "waportd",
}  # fmt: skip
"""How a block begins that is there to be typed; all others show files, programs and pictures."""
ELSEWHERE = {
    "make ": "CI, by make test; clean machines, by tools/try-clean-root",
    "apt ": "test_package.py, as dpkg does it",
    "$socket -H 'Idempotency-Key": "tests/integration/test_examples.py, with a phone that is linked",
    "export WEBHOOK_SECRET=": "tests/integration/test_examples.py, with a phone that is linked",
    "tools/phone scan": "with make run; what it tells the stand-in, tests/integration/test_examples.py",
    "tools/phone write": "with make run; what it tells the stand-in, tests/integration/test_examples.py",
    "node whatsapp_server.js": "tests/node",
    "curl http://localhost:5002": "tests/node/docs.test.js, with what is answered",
    "curl -": "tests/node/docs.test.js, with what is answered",
    "curl 'http://localhost:5002": "tests/node/docs.test.js, with what is answered",
    "curl 'http://localhost:5001/qr?user_id=": "tests/node/http.test.js: it is refused",
    "waportctl fleet": "test_fleet.py and test_fleet_guide.py, on hosts of a fleet",
    "waportctl passkey": "tests/integration/test_cli.py, where WhatsApp wants one",
    "waportctl proxy": "tests/unit/cli and tests/integration/test_units.py: it asks for a password",
    "waportctl engine": "test_engines.py, from files: this machine reaches no registry",
    "waportd generate-units --tcp": "test_isolation.py, where api.listen names an address",
    "systemctl disable --now waportd-tcp.socket": "test_isolation.py, where it was enabled",
    "waportctl import-session": "tests/integration and test_service.py, where there is an old session",
    "grep -rn": "an example for somebody else's files",
    "mkdir -p myapp/waportd": "tests/unit/test_compat.py imports copies of the two files",
}
"""Blocks that are run by other tests, or cannot be, by how they begin."""
READERS = {
    "curl --header 'Authorization: Bearer waportd_…'": "tests/integration/test_tcp.py, with a token of its own",
}
"""Lines that hold what only their reader has, by how they begin, and where the same is tried."""


def blocks():
    """Return each block of commands with its place; both kinds of blocks that Markdown knows."""
    for page in PAGES:
        lines = page.read_text().splitlines()
        number = 0
        while number < len(lines):
            start = number
            if lines[number].startswith("```"):
                end = next(index for index in range(number + 1, len(lines)) if lines[index].startswith("```"))
                text, number = lines[number + 1 : end], end + 1
            elif lines[number].startswith("    ") and not lines[number - 1].strip():
                while number < len(lines) and (lines[number].startswith("    ") or not lines[number].strip()):
                    number += 1
                text = [line[4:] for line in lines[start:number]]
            else:
                number += 1
                continue
            typed = next((line for line in text if line.strip() and not line.startswith("#")), "")
            if any(typed.startswith(word) for word in COMMANDS):
                yield pytest.param("\n".join(text), typed, id=f"{page.name}:{start + 1}")


@pytest.fixture(scope="module")
def shown(site):
    """A machine whose user 2 is shown a code, with a web app by the name that the guide gives it."""
    site.machine.run(
        "tee", "/etc/systemd/system/myapp.service", given="[Service]\nExecStart=/usr/bin/sleep infinity\n"
    )
    site.machine.systemctl("daemon-reload")
    return site


@pytest.mark.parametrize(("text", "typed"), blocks())
def test_a_block_of_commands_works_as_it_stands_there(shown, text, typed):
    if any(typed.startswith(start) for start in ELSEWHERE):
        return
    shown.ask("PUT", "/v1/users/2?wait=qr")
    text = "\n".join(line for line in text.splitlines() if not line.startswith(tuple(READERS)))
    assert "…" not in text, "say what stands there, or name it in ELSEWHERE or READERS"
    # This machine has no network.
    script = text.replace(".run/api.sock", SOCKET).replace("waportctl doctor", "waportctl doctor --offline")
    answer = shown.machine.run(
        "timeout", "60", "bash", "-euo", "pipefail", "-c", f"cd /root\n{script}", check=False
    )
    assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}"
    for problem in re.findall(r'\{"type": "urn:waportd:error.*', answer.stdout):
        pytest.fail(problem)


def test_what_is_run_elsewhere_is_still_there():
    """No entry of the list outlives its block."""
    found = [parameter.values[1] for parameter in blocks()]
    assert [start for start in ELSEWHERE if not any(typed.startswith(start) for typed in found)] == []
    lines = [line for parameter in blocks() for line in parameter.values[0].splitlines()]
    assert [start for start in READERS if not any(line.startswith(start) for line in lines)] == []

import json
import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
# As systemd does it: descriptors from 3 on, described in the environment of exactly this process.
ACTIVATED = """
import json, os, socket, subprocess
handed = [socket.socket(socket.AF_UNIX) for _ in range(3)]
for number, listener in enumerate(handed):
    listener.bind(f"{os.environ['FOLDER']}/{number}")
    listener.listen()
# A copy at the end first: dup2 below must not hit a descriptor that is still to be copied.
copies = [os.dup(listener.fileno()) for listener in handed]
copies = [os.dup2(copy, 20 + number) for number, copy in enumerate(copies)]
for listener in handed:
    listener.close()
for number, copy in enumerate(copies):
    os.dup2(copy, 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="3", LISTEN_FDNAMES="api:extra:api")
from waportd.systemd.activation import listen_sockets
first, second = listen_sockets(), listen_sockets()
print(json.dumps([
    {name: [
        [os.path.basename(s.getsockname()), s.fileno(), s.getblocking(), os.get_inheritable(s.fileno())]
        for s in sockets
    ] for name, sockets in first.items()},
    second,
    b"LISTEN_FDS" in subprocess.run(["env"], capture_output=True, check=True).stdout,
]))
"""


def run(script, **environment):
    environment |= {"PATH": os.environ["PATH"]}
    process = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_sockets_are_found_by_name_once_and_made_fit_for_the_event_loop(tmp_path):
    first, second, left_for_children = run(ACTIVATED, FOLDER=str(tmp_path))
    assert first == {
        "api": [["0", 3, False, False], ["2", 5, False, False]],
        "extra": [["1", 4, False, False]],
    }
    assert second == {}
    assert not left_for_children


def test_without_activation_there_are_none():
    script = "import json; from waportd.systemd.activation import listen_sockets; print(json.dumps(listen_sockets()))"
    assert run(script) == {}

"""waportctl beside a real daemon, systemd, browser and stand-in."""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys

import pytest
from harness import PATIENCE, ROOT, SESSIONS, ask_server, until

from waportd.client import Client
from waportd.compat import ensure_whatsapp_server_running, get_whatsapp_server_url, port_for, use

PHONE = "5511999990001"


@pytest.fixture
def ctl(waportd):
    """Run waportctl; return the result of it."""

    def run(*arguments, given=""):
        return subprocess.run(
            command(waportd, *arguments),
            cwd=ROOT,
            input=given,
            capture_output=True,
            text=True,
            timeout=4 * PATIENCE,
            check=False,
        )

    return run


def command(waportd, *arguments):
    return [sys.executable, "-m", "waportd.cli", "--socket", waportd.socket, *map(str, arguments)]


@contextlib.contextmanager
def old_server(folder, standin, port):
    """Run a server by hand, as the earlier setup did."""
    folder.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in {"NOTIFY_SOCKET", "PORT"}}
    environment |= {"WAPORTD_BROWSER_ARGS": json.dumps(standin.browser_args), "WAPORTD_WEBHOOK_URL": ""}
    with subprocess.Popen(
        ["node", ROOT / "whatsapp_server.js", str(port)],
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def answered(port, path):
    with contextlib.suppress(OSError):
        return ask_server(port, path).json
    return None


def files(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_a_session_of_the_earlier_setup_is_taken_over_without_a_new_scan(waportd, standin, ctl, tmp_path):
    old = tmp_path / "old"
    with old_server(old, standin, 5002):
        code = until(lambda: (answered(5002, "/qr") or {}).get("qr"), "a code of the old server")
        standin.tell("scan", qr=code, phone=PHONE, name="Ana")
        until(lambda: (answered(5002, "/status") or {}).get("ready"), "the old session")
        used = ctl("import-session", "5002", "--from", old, "--config", waportd.config_file)
        assert used.returncode == 1
        assert "the old session is in use" in used.stderr
        assert waportd.ask("GET", "/v1/users/2").status == 404
    before = files(old)
    with socket.create_server(("0.0.0.0", 5002)):
        # The web app's own port: user 2 gets another one, and the session has to move.
        done = ctl("import-session", "5002", "--from", old, "--config", waportd.config_file)
    assert done.returncode == 0, done.stderr
    assert f"user 2: linked as +{PHONE} on port 20000, without a new scan" in done.stdout
    shown = waportd.user("2")
    assert (shown["port"], shown["linked"], shown["session"]["state"]) == (20000, True, "ready")
    assert (shown["session"]["phone_number"], shown["session"]["attempt"]) == (PHONE, 0)
    assert files(old) == before
    waportd.call("POST", "/v1/users/2/restart")
    waportd.until_session("2", "ready")
    again = ctl(
        "import-session", "5002", "--from", old / ".wwebjs_auth_5002", "--config", waportd.config_file
    )
    assert again.returncode == 1
    assert "has a session on port 20000 already" in again.stderr
    assert waportd.user("2")["session"]["state"] == "ready"


def test_a_folder_without_a_login_is_distinguished_from_one_with(waportd, standin, ctl, tmp_path):
    """Taken for what it is: the server shows a code, and the command says that nothing is linked."""
    profile = tmp_path / ".wwebjs_auth_5003/session-ylada_bot_5003"
    profile.mkdir(parents=True)
    (profile / "First Run").touch()
    done = ctl(
        "import-session",
        "3",
        "--from",
        profile.parent,
        "--config",
        waportd.config_file,
        "--no-start",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["port"] == 5003
    assert waportd.user("3")["process"]["state"] == "stopped"
    assert not waportd.user("3")["linked"]


def test_the_drop_ins_of_the_front_end_find_each_users_server(waportd):
    use(Client(waportd.socket))
    with socket.create_server(("0.0.0.0", 5002)):
        assert ensure_whatsapp_server_running(5002)
        url = get_whatsapp_server_url(5002)
        assert url == "http://localhost:20000"
        assert port_for(2) == 20000
        assert ensure_whatsapp_server_running(port_for(2))
        assert ask_server(20000, "/health").status == 200
    with Client(waportd.socket) as client:
        assert client.qr("2", timeout=25).user == "2"
        assert client.status("2").process.pid


def test_commands_work_on_the_real_thing(waportd, standin, ctl):
    code = ctl("qr", "1")
    assert code.returncode == 0, code.stderr
    assert len(code.stdout.strip().split(",")) == 5
    standin.tell("scan", qr=code.stdout.strip(), phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    listed = ctl("list").stdout.splitlines()[1].split()
    assert listed[:4] == ["1", "5001", "running", "ready"]
    doctor = json.loads(ctl("doctor", "--offline", "--json", "--config", waportd.config_file).stdout)
    assert [found for found in doctor["findings"] if found["verdict"] == "fail"] == []
    [browser] = [found for found in doctor["findings"] if found["check"] == "browser"]
    assert browser["verdict"] == "ok"
    assert "starts as a server starts it" in browser["message"]
    assert ctl("stop", "1").returncode == 0
    assert (
        "is linked and does not run" not in ctl("doctor", "--offline", "--config", waportd.config_file).stdout
    )
    assert ctl("delete", "1", "--yes").returncode == 0


def test_a_passkey_is_given_by_a_script_while_the_code_is_waited_for(waportd, standin, ctl):
    code = ctl("qr", "1").stdout.strip()
    standin.tell("passkey", compare=True)
    standin.tell("scan", qr=code, phone=PHONE, name="Ana")
    waportd.until_session("1", "passkey_required")
    with subprocess.Popen(
        command(waportd, "qr", "1"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as waiting:
        script = json.loads(ctl("passkey", "1", "--snippet", "--json").stdout)
        options = script["passkey"]["options"]
        assert json.dumps(options) in script["snippet"]

        def give(**wish):
            signed = json.dumps(standin.tell("approve", phone=PHONE, options=options, **wish)).encode()
            return ctl("passkey", "1", given=base64.urlsafe_b64encode(signed).decode().rstrip("="))

        wrong = give(origin="https://web.whatsapp.example")
        assert wrong.returncode == 1, wrong.stderr
        assert "run the script in the console of https://web.whatsapp.com" in wrong.stderr
        right = give()
        assert right.returncode == 6, right.stderr
        [letters] = re.findall(r"WhatsApp shows (\S{4}-\S{4})\.", right.stderr)
        done = ctl("passkey", "1", "--code", letters.replace("-", "").lower())
        assert done.returncode == 0, done.stderr
        shown, told = waiting.communicate(timeout=PATIENCE)
        assert (waiting.returncode, shown) == (0, ""), told
        assert "WhatsApp wants the passkey of this account" in told
    assert waportd.user("1")["session"]["state"] == "ready"
    assert ctl("passkey", "1", "--json").returncode == 1


def test_a_passkey_that_nobody_gives_is_stopped_and_codes_are_shown_again(waportd, standin, ctl):
    code = ctl("qr", "1").stdout.strip()
    standin.tell("passkey")
    standin.tell("scan", qr=code, phone=PHONE, name="Ana")
    waportd.until_session("1", "passkey_required")
    stopped = ctl("passkey", "1", "--cancel")
    assert stopped.returncode == 0, stopped.stderr
    shown = ctl("qr", "1")
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.strip().split(",")) == 5


def test_the_size_of_a_session_is_known_while_it_sleeps_and_after_a_restart_of_the_daemon(
    waportd, standin, ctl
):
    standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
    until(lambda: waportd.user("1")["storage"], "the first measurement")
    waportd.call("POST", "/v1/users/1/stop")
    known = waportd.user("1")["storage"]
    kept = [sum(map(len, files(folder / "5001").values())) for folder in SESSIONS]
    # What a browser writes while it closes is not in the figures.
    assert 10_000 < known["login"] < 2 * max(kept)
    waportd.restart()
    assert waportd.user("1")["storage"] == known
    assert " MiB, measured " in ctl("show", "1").stdout
    assert "LOGIN" in ctl("list", "--disk").stdout
    metrics = waportd.ask("GET", "/metrics").body.decode().splitlines()
    [told] = [line for line in metrics if line.startswith("waportd_user_storage_bytes{") and "login" in line]
    assert float(told.split()[-1]) == known["login"]
    # A logout deletes it, and with it what was known of its size.
    waportd.call("POST", "/v1/users/1/logout")
    until(lambda: waportd.user("1")["storage"] is None, "the logout")


def test_codes_that_ran_out_are_asked_for_again(idle_waportd, tmp_path):
    """Each in a round of one code, as text and as a picture."""
    idle_waportd.configure(instances={"qr_max_retries": 1, "qr_lifetime": [4, 4]})
    idle_waportd.start()
    picture = tmp_path / "code.png"

    def run(*arguments):
        return subprocess.run(
            command(idle_waportd, *arguments), cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    first = run("qr", "1")
    idle_waportd.until_session("1", "qr_timeout")
    second = run("qr", "1")
    assert len(second.split(",")) == 5
    assert second != first
    idle_waportd.until_session("1", "qr_timeout")
    assert "`waportctl qr 1` asks for new codes" in run("show", "1")
    run("qr", "1", "--png", picture)
    read = ["zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", picture]
    drawn = subprocess.run(read, capture_output=True, text=True, check=True).stdout.strip()
    assert len(drawn.split(",")) == 5
    assert drawn not in {first, second}


def test_options_are_set_of_all_and_go_back(waportd, ctl):
    for user in ("1", "2"):
        waportd.call("PUT", f"/v1/users/{user}?wait=none", 201)
    done = ctl("set", "--all", "memory_max=512M", "send_rate=20", "--yes")
    assert done.returncode == 0, done.stderr
    assert [waportd.user(user)["memory_max"] for user in "12"] == [512 << 20] * 2
    assert ctl("set", "2", "memory_max=", "send_rate=none").returncode == 0
    assert [(waportd.user(user)["memory_max"], waportd.user(user)["send_rate"]) for user in "12"] == [
        (512 << 20, 20),
        (None, 0),
    ]


@contextlib.contextmanager
def served(waportd, *arguments):
    """Run what prints a link, and give that."""
    with subprocess.Popen(
        command(waportd, "--json", *arguments, "--no-browser"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.stdin.close()
            assert process.wait(PATIENCE) == 0


def test_a_user_s_page_opens_in_a_browser_and_shows_the_code(waportd, browser):
    waportd.show_code("1")
    with served(waportd, "open", "1") as link:
        browser.open(link)
        until(browser.code, "a code")
        assert browser.driver.current_url.endswith("/connect?user=1")
        assert browser.complaints() == []


def test_the_page_of_all_users_opens_in_a_browser_and_is_live(waportd, browser):
    with served(waportd, "web") as link:
        browser.open(link)
        until(lambda: browser.driver.current_url.endswith("/"), "the page")
        waportd.call("PUT", "/v1/users/somebody", 201)
        browser.see("somebody", "20000")  # reported by the event stream
        assert browser.complaints() == []
        browser.open(link)
        browser.see("This link was already used")

"""The examples of docs/examples, each run as its reader runs it."""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest
from harness import PATIENCE, ROOT, systemctl, until

EXAMPLES = ROOT / "docs/examples"
PHONE = "5511999990002"
PASSWORD = "only-for-this-test"


def environment(waportd, **more):
    return {**os.environ, "WAPORTD_SOCKET": str(waportd.socket), **more}


def run(waportd, *command):
    return subprocess.run(
        command,
        cwd=EXAMPLES,
        env=environment(waportd),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


@pytest.fixture
def web_app(waportd):
    """The Flask app on its port, as its documentation has it run."""
    from werkzeug.security import generate_password_hash

    users = {"ana": {"id": 2, "password": generate_password_hash(PASSWORD)}}
    with subprocess.Popen(
        ["/usr/bin/python3", "-m", "flask", "--app", "flask_app", "run", "--port", "5002"],
        cwd=EXAMPLES,
        env=environment(
            waportd,
            APP_USERS=json.dumps(users),
            PYTHONPATH=str(ROOT),
            PYTHONDONTWRITEBYTECODE="1",
            NO_PROXY="*",
        ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            until(lambda: "Running on" in process.stdout.readline(), "the app's start")
            yield "http://localhost:5002"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def status_of(url, method="GET", **headers):
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_person_logs_in_links_a_phone_and_sends_a_message(web_app, waportd, standin, browser):
    waportd.configure(instances={"webhook_url": f"{web_app}/webhook"})
    systemctl("reload", "waportd.service")
    until(lambda: "webhook_url: taken over" in waportd.journal("waportd.service"), "the reload")
    browser.open(f"{web_app}/connect")
    browser.see("Log in", "Password")  # whoever is not known sees nothing else
    assert status_of(f"{web_app}/api/qr") == 401
    browser.type("ana", into="input[name=name]")
    browser.type("wrong", into="input[name=password]")
    browser.press("Log in")
    browser.see("Name or password is wrong.")
    browser.type("ana", into="input[name=name]")
    browser.type(PASSWORD, into="input[name=password]")
    browser.press("Log in")
    browser.press("Link WhatsApp")
    # User 2's port by number is the app's own, so it is another one.
    code = until(
        lambda: (read := browser.code("#code")) and read == waportd.qr("2")["qr"] and read,
        "the code on the screen",
    )
    assert waportd.user("2")["port"] == 20000
    standin.tell("rotate", qr=code)
    second = until(lambda: (read := browser.code("#code")) != code and read, "the next code on the screen")
    standin.tell("scan", qr=second, phone=PHONE, name="Ana")
    browser.see("Unlink the phone")
    standin.tell("message", phone=PHONE, **{"from": "5511988887777"}, body="good morning")
    until(
        lambda: browser.open(web_app) or "good morning" in browser.run("return document.body.innerText"), "it"
    )
    browser.type("5511988887777", into="input[name=phone]")
    browser.type("good day", into="input[name=message]")
    browser.press("Send")

    def sent():
        return [message["body"] for message in standin.see("sent") if message["phone"] == PHONE]

    assert until(sent, "the message") == ["good day"]
    browser.press("Unlink the phone")
    browser.see("Link WhatsApp")
    assert not waportd.user("2")["linked"]
    assert browser.complaints() == []


def test_the_app_says_what_is_wrong_when_waportd_is_away(web_app, waportd, browser):
    browser.open(web_app)
    browser.type("ana", into="input[name=name]")
    waportd.stop()
    browser.type(PASSWORD, into="input[name=password]")
    browser.press("Log in")
    browser.see("start waportd (`systemctl start waportd.socket`)")


@pytest.mark.parametrize(
    "program", [("php", "client.php"), ("node", "client.js")], ids=lambda program: program[0]
)
def test_each_language_gets_the_code_and_then_that_a_phone_is_linked(waportd, standin, program):
    assert shutil.which(program[0])
    with subprocess.Popen(
        [*program, "1"],
        cwd=EXAMPLES,
        env=environment(waportd),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            code = process.stdout.readline().strip()
            assert code == waportd.qr("1")["qr"]
            standin.tell("scan", qr=code, phone=PHONE, name="Ana")
            waportd.until_session("1", "ready")
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
    again = run(waportd, *program, "1")
    assert again.returncode == 0
    assert "user 1: " in again.stdout + again.stderr
    wrong = run(waportd, *program, "no user")
    assert wrong.returncode == 1
    assert "is not valid" in wrong.stderr


def test_a_shell_gets_the_code_as_a_picture(waportd, standin, tmp_path):
    picture = tmp_path / "code.png"
    done = run(waportd, "sh", "client.sh", "1", picture)
    assert done.returncode == 0, done.stderr
    read = subprocess.run(
        ["zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", picture],
        capture_output=True,
        text=True,
        check=True,
    )
    code = read.stdout.strip()
    assert code == waportd.qr("1")["qr"]
    standin.tell("scan", qr=code, phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    assert run(waportd, "sh", "client.sh", "1", picture).stdout == "user 1: linked\n"
    assert run(waportd, "sh", "client.sh", "no-user%20", picture).returncode != 0

"""The examples of docs/examples, each run as its reader runs it."""

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import textwrap
import time
import urllib.error
import urllib.request

import pytest
from harness import PATIENCE, ROOT, until

from waportd.client import Client

EXAMPLES = ROOT / "docs/examples"
PHONE = "5511999990002"
BOTS_PHONE = "5511999990077"
"""Of the bot alone: what was sent from the other one, in other tests, is kept by the stand-in."""
PASSWORD = "only-for-this-test"
KEY = b"a key of this test alone"
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


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
            WEBHOOK_SECRET=SECRET,
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
    waportd.configure(instances={"webhook_url": f"{web_app}/webhook", "webhook_secret": SECRET})
    waportd.reload()
    assert "webhook_url: taken over" in waportd.journal("waportd.service")
    browser.open(f"{web_app}/connect")
    browser.see("Log in", "Password")  # who is not known sees nothing else
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


def test_the_app_takes_no_message_but_what_is_signed_and_new(web_app):
    def status(body, key=KEY, ago=0, signed=None):
        at = str(int(time.time()) - ago)
        mac = hmac.new(key, f"an-id.{at}.".encode() + (signed or body), hashlib.sha256).digest()
        headers = {
            "Content-Type": "application/json",
            "webhook-id": "an-id",
            "webhook-timestamp": at,
            "webhook-signature": f"v1,{base64.b64encode(mac).decode()}",
        }
        with contextlib.closing(
            http.client.HTTPConnection("localhost", 5002, timeout=PATIENCE)
        ) as connection:
            connection.request("POST", "/webhook", body, headers)
            return connection.getresponse().status

    message = json.dumps({"user_id": "2", "from": "x", "body": "good morning"}).encode()
    forged = message.replace(b"good morning", b"forged")
    assert status(message, key=b"another") == 401
    assert status(forged, signed=message) == 401
    assert status(message, ago=301) == 401
    assert status_of(f"{web_app}/webhook", "POST") == 401
    assert status(message) == 200


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


def tutorial(section):
    """Return the blocks of a section of the tutorial, as they stand there."""
    text = (ROOT / "docs/tutorial.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [textwrap.dedent(block) for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE)]


@contextlib.contextmanager
def typed(script):
    """Run a script as a person types it, with what it starts, for as long as the block lasts."""
    paths = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_PROXY": "*",
    }
    with subprocess.Popen(
        ["/bin/bash", "-euo", "pipefail", "-c", script],
        cwd=ROOT,
        env={**os.environ, **paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_the_tutorial_receives_answers_sends_and_reads(idle_waportd, standin, tmp_path, port):
    waportd = idle_waportd
    waportd.configure(api={"listen": [f"127.0.0.1:{port}"]})
    waportd.start()
    standin.tell("scan", qr=waportd.show_code("2"), phone=BOTS_PHONE, name="Ana")
    waportd.until_session("2", "ready")
    token = waportd.call("POST", "/v1/tokens", 201, {"name": "app", "scope": "user:2"})["token"]
    bot, written, calls, python = tutorial("Receive and send messages")
    bot = bot.replace(".run/done", str(tmp_path / "done")).replace(".run/api.sock", str(waportd.socket))
    [socket] = re.findall(r"^socket=.*$", bot, re.MULTILINE)
    send, read, wait, stream = re.findall(r"^\$socket(?:.*\\\n)*.*$", calls, re.MULTILINE)
    *_, user, number, text = shlex.split(written)
    assert user == "2"

    def write(body):
        standin.tell("message", phone=BOTS_PHONE, **{"from": number}, body=body)

    def sent():
        return [message["body"] for message in standin.see("sent") if message["phone"] == BOTS_PHONE]

    before = waportd.user("2")["process"]["pid"]
    with typed(f"{bot}\nwait"):
        # Who writes before the server has restarted writes to one that has no webhook.
        until(
            lambda: waportd.user("2")["process"]["pid"] not in {None, before}, "the server with the webhook"
        )
        waportd.until_session("2", "ready")
        write(text)
        until(lambda: sent() == [text], "the answer of the bot")
        until(lambda: waportd.user("2")["session"]["webhook"]["delivered"], "the delivery")
        [event] = waportd.call("GET", "/v1/users/2/messages?events=message")["messages"]
        # The bot's own key: asked again, as after a crash of the bot, nothing is sent twice.
        with Client(waportd.socket) as client:
            again = client.send("2", event["chat"]["id"], text, key=f"echo-{event['event_id']}")
        assert again.outcome == "sent"
        assert sent() == [text]

    answers = []
    for _ in range(2):
        with typed(f"{socket}\n{send}") as process:
            answers.append(json.loads(process.communicate(timeout=PATIENCE)[0]))
    assert answers[0]["outcome"] == "sent"
    assert answers[0] == answers[1]
    assert sent() == [text, "It is on its way."]
    with typed(f"{socket}\n{read}") as process:
        page = json.loads(process.communicate(timeout=PATIENCE)[0])
    assert [message["body"] for message in page["messages"]] == [text]
    with typed(f"{socket}\n{wait}") as process:
        until(lambda: write("now") or process.poll() is not None, "what comes")
        assert json.loads(process.stdout.read())["messages"][0]["body"] == "now"
    with typed(f"{socket}\n{stream}") as process:
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[1] == "event: message\n"
        assert json.loads(lines[2].removeprefix("data: "))["body"] == text
    program = python.replace("waportd_…", token).replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    with typed(f"exec /usr/bin/python3 -u -c {shlex.quote(program)}") as process:
        assert [process.stdout.readline() for _ in range(2)] == ["sent\n", f"{number} {text}\n"]
    assert sent() == [text, "It is on its way."]

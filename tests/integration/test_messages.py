"""Messages through the whole of it: caller, waportd, systemd, and the user's own server."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from harness import LIGHT_SERVER, ask_server

from waportd.client import BadRequest, Client, Conflict

TO = "5511988887777"
CHAT = f"{TO}@c.us"


@pytest.fixture
def client(idle_waportd):
    """A client of a daemon whose servers need no browser. User 1's phone is linked; a person who is written to answers."""
    waportd = idle_waportd
    waportd.configure(instances={"script": str(LIGHT_SERVER), "webhook_url": ""})
    waportd.start()
    waportd.show_code("1")
    os.kill(waportd.user("1")["process"]["pid"], signal.SIGUSR2)
    waportd.until_session("1", "ready")
    with Client(waportd.socket) as client:
        yield client


def write(client, text):
    """Have somebody write that text, as an answer to the same."""
    ask_server(client.port("1"), "/send", "POST", {"phone": TO, "message": text})


def test_messages_are_followed_over_a_restart_of_the_users_server_and_of_waportd(client, idle_waportd):
    assert client.chats("1")["total"] == 0
    with contextlib.closing(client.follow_messages("1", events=["message"])) as following:
        write(client, "hello")
        first = next(following)
        assert (first.event, first.body, first.phone, first.chat) == ("message", "hello", TO, CHAT)
        os.kill(idle_waportd.user("1")["process"]["pid"], signal.SIGKILL)
        idle_waportd.until_restarts("1", 1)
        idle_waportd.until_session("1", "ready")
        write(client, "again")
        assert next(following).body == "again"
        idle_waportd.restart()
        write(client, "and again")
        assert next(following).body == "and again"
    page = client.messages("1", first.cursor, events=["message"])
    assert [message.body for message in page.messages] == ["again", "and again"]
    assert client.redeliver("1") == 0
    client.stop("1")
    with pytest.raises(Conflict, match="was stopped"):
        client.messages("1")


def test_who_waits_gets_a_message_as_it_comes(client):
    write(client, "before")
    after = client.messages("1").next
    assert client.messages("1", after, events=["message"]).messages == ()
    with contextlib.closing(Client(client.socket)) as other:
        write(other, "now")
        page = client.messages("1", after, timeout=20, events=["message"])
    assert [message.body for message in page.messages] == ["now"]


def test_a_message_is_sent_and_a_repeated_call_with_its_key_sends_nothing_twice(client, idle_waportd):
    first = client.send("1", TO, "once", key="order-7")
    assert first.outcome == "sent"
    assert client.send("1", TO, "once", key="order-7").id == first.id
    os.kill(idle_waportd.user("1")["process"]["pid"], signal.SIGKILL)
    idle_waportd.until_restarts("1", 1)
    idle_waportd.until_session("1", "ready")
    assert client.send("1", TO, "once", key="order-7").id == first.id
    heard = client.messages("1", events=["message"]).messages
    assert [message.body for message in heard] == ["once"]
    with pytest.raises(BadRequest) as refused:
        client.send("1", "no number", "hello")
    assert refused.value.code == "bad_number"


def test_waportctl_sends_and_shows(client, idle_waportd):
    def run(*arguments):
        command = [sys.executable, "-m", "waportd.cli", "--socket", client.socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    sent = run("send", "1", f"+{TO}", "from the command line")
    assert (sent.returncode, sent.stdout[:6]) == (0, "sent: "), sent.stderr
    assert client.messages("1", timeout=10, events=["message"]).messages
    shown = run("messages", "1", "--events", "message")
    assert shown.stdout.rstrip().endswith(f"+{TO}: from the command line"), shown.stderr

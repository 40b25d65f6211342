"""The main job: each user gets a server of their own and its code, and a scan makes it ready."""

import concurrent.futures
import http.server
import json
import shutil
import socket
import threading
import urllib.parse
from pathlib import Path

import psutil
import pytest
from harness import (
    PATIENCE,
    SESSIONS,
    Poller,
    ask_server,
    is_active,
    processes,
    systemctl,
    unit_property,
    until,
)

PHONE = "5511999990001"


def test_three_users_have_three_codes_at_once(waportd):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        codes = list(pool.map(waportd.show_code, ("1", "2", "3")))
    assert [waportd.user(user)["port"] for user in ("1", "2", "3")] == [5001, 5002, 5003]
    assert len(set(codes)) == 3
    for user, code in zip(("1", "2", "3"), codes, strict=True):
        assert len(code.split(",")) == 5
        assert waportd.qr(user)["qr"] == code
        assert code not in waportd.journal(f"whatsapp@500{user}.service") + waportd.journal("waportd.service")
    shown = [waportd.user(user) for user in ("1", "2", "3")]
    assert len({user["process"]["pid"] for user in shown}) == 3
    assert all(user["memory"]["bytes"] > 50 << 20 and user["cpu"]["seconds"] > 0 for user in shown)


def test_a_web_app_on_5002_keeps_its_port(waportd):
    with socket.create_server(("0.0.0.0", 5002)) as web_app:
        created = waportd.call("PUT", "/v1/users/2", 201)
        assert created["port"] == 20000
        me = psutil.Process()
        assert created["note"] == f"port 5002 is held by {me.name()} (pid {me.pid}, user {me.username()})"
        held = waportd.call("GET", "/v1/ports/5002")
        assert held["holders"] == [{"user": me.username(), "pid": me.pid, "command": me.name()}]
        with socket.create_connection(("127.0.0.1", 5002), PATIENCE):
            web_app.accept()[0].close()
    # What was answered once holds, no matter who leaves.
    assert waportd.call("PUT", "/v1/users/2")["port"] == 20000


def test_a_name_gets_a_port_of_the_overflow_range(waportd):
    assert waportd.call("PUT", "/v1/users/2_1?wait=none", 201)["port"] == 20000


def test_fifty_concurrent_ensures_start_one_server(waportd):
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: waportd.ask("PUT", "/v1/users/1"), range(50)))
    assert sorted(answer.status for answer in answers) == [200] * 49 + [201]
    assert len({answer.json["process"]["pid"] for answer in answers}) == 1
    assert waportd.journal("whatsapp@5001.service").count("Starting whatsapp@5001.service") == 1


def test_the_four_waits(waportd):
    none = waportd.call("PUT", "/v1/users/1?wait=none", 201)
    assert none["process"]["state"] in {"starting", "running"}
    listening = waportd.call("PUT", "/v1/users/1?wait=listening")
    assert listening["process"]["state"] == "running"
    assert ask_server(5001, "/health", timeout=3).json == {"status": "ok", "ready": False}
    shown = waportd.call("PUT", "/v1/users/1?wait=qr")
    assert shown["session"]["state"] == "qr"
    late = waportd.call("PUT", "/v1/users/1?wait=ready&timeout=0.5", 504)
    assert late["code"] == "timeout"
    assert "session qr" in late["detail"]


def test_a_scan_makes_the_session_ready_on_every_interface(waportd, standin):
    code = waportd.show_code("1")
    waiting = threading.Thread(target=waportd.call, args=("PUT", "/v1/users/1?wait=ready"))
    waiting.start()
    standin.tell("scan", qr=code, phone=PHONE, name="Ana")
    shown = waportd.until_session("1", "ready")
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert shown["linked"]
    assert (shown["session"]["phone_number"], shown["session"]["name"]) == (PHONE, "Ana")
    assert waportd.qr("1")["status"] == "ready"
    assert waportd.qr("1")["qr"] is None
    assert waportd.call("GET", "/api/qr?user_id=1")["status"] == "connected"
    assert waportd.call("GET", "/api/whatsapp-status?user_id=1")["actuallyConnected"]
    assert ask_server(5001, "/qr").json["status"] == "connected"
    assert ask_server(5001, "/status").json["clientInfo"]["wid"] == f"{PHONE}@c.us"
    assert ask_server(5001, "/health").json["ready"]
    status = until(
        lambda: "ready" in (text := unit_property("whatsapp@5001.service", "StatusText")) and text,
        "the status text",
    )
    assert "user 1" in status
    assert PHONE not in waportd.journal("whatsapp@5001.service")


def test_stop_and_start_keep_the_login_and_logout_does_not(waportd, standin):
    standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    stopped = waportd.call("POST", "/v1/users/1/stop")
    assert (stopped["process"]["state"], stopped["linked"]) == ("stopped", True)
    assert not is_active("whatsapp@5001.socket")
    assert waportd.call("PUT", "/v1/users/1?wait=ready")["session"]["state"] == "ready"
    gone = waportd.call("POST", "/v1/users/1/logout")
    assert not gone["linked"]
    assert not [page for page in standin.see("pages") if page.get("phone") == PHONE]
    until(lambda: not is_active("whatsapp@5001.service"), "the server's end")
    assert int(unit_property("whatsapp@5001.service", "NRestarts")) == 0
    assert len(waportd.show_code("1").split(",")) == 5


def test_a_logout_on_the_phone_deletes_the_session(waportd, standin):
    standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    standin.tell("logout", phone=PHONE)
    shown = waportd.until_process("1", "stopped")
    assert not until(lambda: not waportd.user("1")["linked"] and waportd.user("1"), "the loss of the link")[
        "linked"
    ]
    assert shown["process"]["restarts"] == 0
    assert len(waportd.show_code("1").split(",")) == 5


def test_pages_that_poll_disturb_neither_logout_nor_deletion(waportd, standin):
    with (
        Poller(lambda: waportd.ask("GET", "/api/qr?user_id=1")) as pages,
        Poller(lambda: ask_server(5001, "/health", timeout=20)),
    ):
        standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
        waportd.until_session("1", "ready")
        gone = waportd.call("POST", "/v1/users/1/logout")
        assert not gone["linked"]
        assert not [page for page in standin.see("pages") if page.get("phone") == PHONE]
        for _ in range(3):
            waportd.show_code("1")
            assert not waportd.call("POST", "/v1/users/1/logout")["linked"]
            waportd.show_code("1")
            waportd.call("DELETE", "/v1/users/1", 204)
        waportd.show_code("1")
        assert waportd.call("POST", "/v1/users/1/stop")["process"]["state"] == "stopped"
        pages.since(len(pages.statuses))
        assert not is_active("whatsapp@5001.socket")
    assert set(pages.statuses) == {200}


def test_a_freed_port_never_hands_over_a_session(waportd, standin, tmp_path):
    standin.tell("scan", qr=waportd.show_code("ana"), phone=PHONE, name="Ana")
    port = waportd.until_session("ana", "ready")["port"]
    waportd.call("POST", "/v1/users/ana/stop")
    session = next(found for folder in SESSIONS if (found := folder / f"{port}/.wwebjs_auth_{port}").exists())
    shutil.copytree(session, tmp_path / "session", symlinks=True)
    waportd.call("DELETE", "/v1/users/ana", 204)
    assert waportd.ask("GET", "/v1/users/ana").status == 404
    assert not is_active(f"whatsapp@{port}.socket")
    assert not [folder for folder in SESSIONS if (folder / str(port)).exists()]
    # Not even if the session comes back to where the port's next owner will have theirs.
    shutil.copytree(tmp_path / "session", session, symlinks=True)
    created = waportd.call("PUT", "/v1/users/bia?wait=qr&timeout=60", 201)
    assert created["port"] == port
    assert not created["linked"]
    assert created["session"]["phone_number"] is None
    assert not [page for page in standin.see("pages") if page.get("phone")]


def test_the_whole_browser_runs_in_the_control_group_of_its_unit(waportd):
    waportd.show_code("1")
    group = unit_property("whatsapp@5001.service", "ControlGroup")
    everything = processes(5001)
    assert len(everything) > 3
    for process in everything:
        assert Path(f"/proc/{process.pid}/cgroup").read_text(encoding="ascii").strip().endswith(group)


def test_nothing_of_a_session_is_readable_or_reachable_for_others(waportd, standin, tmp_path):
    standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    assert (tmp_path / "state/instances/5001.env").stat().st_mode & 0o077 == 0
    assert (tmp_path / "state/waportd.db").stat().st_mode & 0o077 == 0
    assert (tmp_path / "api.sock").stat().st_mode & 0o007 == 0
    kept = [folder / "5001" for folder in SESSIONS if (folder / "5001").exists()]
    assert any((folder / ".wwebjs_auth_5001").exists() for folder in kept)
    assert {folder.stat().st_mode & 0o777 for folder in kept} == {0o700}
    listening = {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == 5001
    }
    assert listening == {"127.0.0.1", "::1"}


class WebApp(http.server.BaseHTTPRequestHandler):
    """Takes what is posted to its webhook."""

    received: list

    def do_POST(self):
        self.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def webhook():
    WebApp.received = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), WebApp)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/webhook", WebApp.received
    server.shutdown()
    server.server_close()


class OldFrontEnd:
    """Knows nothing but contract.md: a port, and what is answered there and at /api."""

    def __init__(self, waportd, user):
        self.waportd, self.user = waportd, user

    def api(self, name):
        answer = self.waportd.ask("GET", f"/api/{name}?user_id={self.user}")
        assert answer.status == 200
        return answer.json

    def get(self, path):
        answer = ask_server(self.port, path, timeout=10)
        assert answer.status == 200, answer.body
        return answer.json

    @property
    def port(self):
        return self.api("port")["port"]


def test_the_old_front_end_is_served_as_it_expects(waportd, standin, webhook):
    url, received = webhook
    waportd.call("PUT", "/v1/users/1?wait=none", 201, {"webhook_url": url})
    app = OldFrontEnd(waportd, "1")
    assert ask_server(app.port, "/health", timeout=3).status == 200
    root = app.get("/")
    assert {"service", "status", "ready", "endpoints"} <= set(root)
    page = until(lambda: (shown := app.api("qr"))["status"] == "waiting" and shown, "a code on the page")
    assert page["success"]
    assert page["port"] == app.port
    direct = app.get("/qr?user_id=1")
    assert (direct["qr"], direct["ready"], direct["hasQr"], direct["status"]) == (
        page["qr"],
        False,
        True,
        "waiting",
    )
    before = ask_server(app.port, "/send", "POST", {"phone": "5511977770001", "message": "oi"})
    assert before.status == 400
    assert before.json["error"]
    standin.tell("scan", qr=page["qr"], phone=PHONE, name="Ana")
    until(lambda: app.api("qr")["status"] == "connected", "the connection")
    status = app.get("/status?user_id=1")
    assert {
        name: type(status[name])
        for name in (
            "ready",
            "hasQr",
            "actuallyConnected",
            "clientInitialized",
            "isAuthenticated",
            "isConnecting",
        )
    } == dict.fromkeys(
        ("ready", "hasQr", "actuallyConnected", "clientInitialized", "isAuthenticated", "isConnecting"), bool
    )
    assert (status["phone_number"], status["clientInfo"]["wid"]) == (PHONE, f"{PHONE}@c.us")
    assert set(status["reconnectInfo"]) == {"attempts", "maxAttempts", "isReconnecting"}

    sent = ask_server(app.port, "/send", "POST", {"phone": "5511977770001", "message": "oi"})
    assert sent.json.get("success"), sent.json
    assert sent.json["messageId"]
    # The page reports to the stand-in while the library answers already.
    until(lambda: any(message["body"] == "oi" for message in standin.see("sent")), "the message at WhatsApp")
    assert ask_server(app.port, "/send", "POST", {"phone": "5511977770001"}).status == 400

    chats = app.get("/chats")
    assert chats["success"]
    assert chats["total"] == len(chats["chats"])
    newest_first = [chat["timestamp"] for chat in chats["chats"]]
    assert newest_first == sorted(newest_first, reverse=True)
    assert {
        "id",
        "name",
        "phone",
        "isGroup",
        "unreadCount",
        "lastMessage",
        "timestamp",
        "pinned",
        "isArchived",
    } <= set(chats["chats"][0])
    chat = urllib.parse.quote(chats["chats"][0]["id"])
    messages = app.get(f"/chats/{chat}/messages?limit=2")
    assert messages["success"]
    assert len(messages["messages"]) <= 2
    assert {"total", "hasMore", "nextCursor"} <= set(messages)
    assert ask_server(app.port, "/media/nothing").status == 404

    standin.tell("message", phone=PHONE, **{"from": "5511777770000", "body": "hello", "name": "Bia"})
    until(lambda: received, "the webhook's call")
    message = json.loads(received[0])
    assert (message["body"], message["user_id"], message["port"]) == ("hello", "1", app.port)
    assert {"from", "phone", "message", "timestamp"} <= set(message)

    gone = ask_server(app.port, "/disconnect", "POST")
    assert gone.json["success"]


def test_a_port_answers_whether_or_not_its_server_runs(waportd):
    port = waportd.call("GET", "/api/port?user_id=1")["port"]
    assert not is_active("whatsapp@5001.service")
    assert ask_server(port, "/health", timeout=10).status == 200
    waportd.until_process("1", "running")
    systemctl("stop", "whatsapp@5001.service")
    waportd.until_process("1", "stopped")
    assert ask_server(port, "/health", timeout=10).status == 200
    waportd.until_process("1", "running")

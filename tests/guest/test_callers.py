"""Who may call a user's server, where api.allow_users names the web app's user."""

import pytest
from harness import server, until

HOSTS = ("127.0.0.1", "[::1]", "localhost")

SEND_AND_CLOSE = """
const request = 'POST /disconnect HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 0\\r\\n\\r\\n';
for (const host of ['127.0.0.1', '::1'])
    for (let i = 0; i < 20; i += 1) {
        const socket = require('node:net').connect(Number(process.argv[1]), host, () =>
            socket.write(request, () => socket.destroy()));
    }
"""


@pytest.fixture(scope="module")
def guarded(site):
    site.configure(api={"allow_users": ["webapp"]})
    return site


def status(site, user, port, path="/status", host="localhost"):
    return site.machine.curl(user, "GET", f"http://{host}:{port}{path}")


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("user", ["webapp", "root", "waportd"])
def test_the_users_named_and_root_and_the_daemon_may_call(guarded, user, host):
    guarded.show_code("2")
    assert status(guarded, user, 5002, host=host).status == 200


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("path", ["/status", "/qr", "/health"])
def test_another_local_user_is_refused_and_told_why(guarded, path, host):
    guarded.show_code("2")
    answer = status(guarded, "stranger", 5002, path, host)
    assert answer.status == 403
    assert "may not call this server: it is not in api.allow_users" in answer.json["error"]


def test_a_session_may_call_neither_another_users_server_nor_its_own(guarded):
    guarded.show_code("2")
    guarded.show_code("3")
    for port in (5002, 5003):
        answer = guarded.in_session(5002, "curl", "--silent", f"http://localhost:{port}/qr")
        assert f"user id {guarded.uid(5002)} may not call this server" in answer.stdout


def test_a_caller_who_sends_and_is_gone_does_not_pass_for_root(guarded):
    """The server looks when all of them are gone: it stands still meanwhile."""
    site = guarded
    site.link("4", "5511999990004")
    site.machine.systemctl("kill", "--kill-whom=main", "--signal=STOP", server(5004))
    try:
        site.machine.run("node", "-e", SEND_AND_CLOSE, "5004", user="stranger")
    finally:
        site.machine.systemctl("kill", "--kill-whom=main", "--signal=CONT", server(5004))
    assert status(site, "webapp", 5004).json["ready"]
    told = until(
        lambda: (
            "a caller is refused" in (text := site.machine.journal("WAPORTD_PORT=5004", "--output=cat"))
            and text
        ),
        "the refusal",
    )
    assert "uid=unknown" in told
    assert "POST /disconnect" not in told
    assert site.call("GET", "/v1/users/4")["session"]["state"] == "ready"
    assert site.machine.show(server(5004), "NRestarts") == "0"


def test_a_changed_list_holds_from_the_servers_next_start(guarded):
    site = guarded
    site.show_code("5")
    try:
        site.configure(api={"allow_users": []})
        assert status(site, "stranger", 5005).status == 403
        site.call("POST", "/v1/users/5/restart")
        # Without a list, every local user may call.
        assert status(site, "stranger", 5005).status == 200
    finally:
        site.configure(api={"allow_users": ["webapp"]})
    site.machine.systemctl("restart", server(5005))
    assert status(site, "stranger", 5005).status == 403


def test_the_group_alone_does_not_let_into_the_api(guarded):
    guarded.machine.run("usermod", "--append", "--groups", "waportd", "stranger")
    try:
        answer = guarded.ask("GET", "/v1/users", user="stranger")
    finally:
        guarded.machine.run("gpasswd", "--delete", "stranger", "waportd")
    assert answer.status == 403
    assert answer.json["code"] == "forbidden"
    assert "api.allow_users" in answer.json["hint"]

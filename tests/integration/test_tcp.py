"""The API over TCP, of a real daemon: opened by tokens and links that survive its restart, and shown nowhere."""

import json
import socket
import time

import pytest
from harness import Caller, systemctl, until


def test_tokens_and_links_open_what_they_are_for_and_survive_a_restart(idle_waportd, port):
    waportd = idle_waportd
    waportd.configure(api={"listen": [f"127.0.0.1:{port}"]})
    waportd.start()
    admin = waportd.call("POST", "/v1/tokens", 201, {"name": "web app", "scope": "admin"})["token"]
    of_two = waportd.call("POST", "/v1/tokens", 201, {"name": "page", "scope": "user:2"})["token"]
    link = waportd.call("POST", "/v1/users/2/connect-link", 201)
    query = link["path"].partition("?")[2].partition("&")[2]

    def check():
        nobody, everybody, two = Caller(port), Caller(port, admin), Caller(port, of_two)
        nobody.call("GET", "/v1/users/2", 401)
        assert '"user": "2"' in everybody.call("GET", "/v1/users")
        assert '"user": "2"' in two.call("GET", "/v1/users/2")
        nobody.call("PUT", f"/v1/users/2?wait=none&{query}")
        assert "link_invalid" in nobody.call("PUT", f"/v1/users/3?wait=none&{query}", 403)

    waportd.call("PUT", "/v1/users/2?wait=none", 201)
    check()
    systemctl("restart", "waportd.service")
    check()
    used = {token["name"]: token["last_used_at"] for token in waportd.call("GET", "/v1/tokens")["tokens"]}
    assert all(used.values())
    kept = b"".join(path.read_bytes() for path in (waportd.directory / "state").glob("waportd.db*"))
    for secret in (admin, of_two, query.partition("signature=")[2]):
        assert secret not in waportd.journal("waportd.service")
        assert secret.encode() not in kept


def test_another_address_needs_a_restart_and_the_journal_says_so(idle_waportd, port):
    waportd = idle_waportd
    waportd.start()
    waportd.configure(api={"listen": [f"127.0.0.1:{port}"]})
    waportd.reload()
    assert "api.listen: holds after `systemctl restart waportd`" in waportd.journal("waportd.service")
    systemctl("restart", "waportd.service")
    Caller(port).call("GET", "/v1/health", 401)


def test_an_address_that_is_taken_out_is_served_no_more_from_the_reload_on(idle_waportd, port):
    waportd = idle_waportd
    waportd.configure(api={"listen": [f"127.0.0.1:{port}"]})
    waportd.start()
    Caller(port).call("GET", "/v1/health", 401)
    waportd.configure(api={"listen": []})
    waportd.reload()
    assert f"api.listen: 127.0.0.1:{port} is not served any more" in waportd.journal("waportd.service")
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass
    waportd.call("GET", "/v1/health")


def test_an_address_that_is_taken_is_reported_and_the_unix_socket_is_served(idle_waportd, port):
    waportd = idle_waportd
    with socket.create_server(("127.0.0.1", port)):
        waportd.configure(api={"listen": [f"127.0.0.1:{port}"]})
        waportd.start()
        waportd.call("GET", "/v1/health")
        until(
            lambda: (
                f"api.listen: 127.0.0.1:{port} cannot be opened: Address already in use"
                in waportd.journal("waportd.service")
            ),
            "the reason",
        )


def test_a_person_with_a_link_links_a_phone_and_one_without_sees_why_not(
    idle_waportd, port, browser, standin
):
    waportd = idle_waportd
    waportd.configure(api={"listen": [f"127.0.0.1:{port}"]})
    waportd.start()
    token = waportd.call("POST", "/v1/tokens", 201, {"name": "web app", "scope": "user:1"})["token"]
    link = json.loads(Caller(port, token).call("POST", "/v1/users/1/connect-link", 201))
    assert link["url"] == f"http://127.0.0.1:{port}{link['path']}"
    browser.open(f"{link['url']}&lang=en")
    code = until(
        lambda: (read := browser.code()) and read == waportd.qr("1")["qr"] and read, "the code on the screen"
    )
    standin.tell("scan", qr=code, phone="5511999990001", name="Ana")
    browser.see("WhatsApp is linked")
    # Whose it is, a link does not say: another phone may have been linked before it was opened.
    assert "Ana" not in browser.find("body").text
    ended = waportd.call("POST", "/v1/users/1/connect-link", 201, {"ttl": 1})
    time.sleep(1.5)
    browser.open(f"http://127.0.0.1:{port}{ended['path']}&lang=en")
    browser.see("This link has expired")
    browser.open(f"http://127.0.0.1:{port}/connect?user=1&lang=en")
    browser.see("This link is no longer valid")

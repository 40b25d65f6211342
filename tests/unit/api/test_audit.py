"""Each change is written down with who made it, and nothing secret is."""

import asyncio
import os
import re

import aiohttp
import pytest
from support import BASE, give_way, settled, until

from waportd.accounts import name_of
from waportd.api.server import operations
from waportd.model import User, socket_unit
from waportd.quotas import Share

TWO = User("2")


@pytest.fixture
def written(caplog):
    """What was written about changes: the line, and its fields."""
    caplog.set_level("INFO", "waportd.audit")

    def look():
        return [
            (record.getMessage(), {key: value for key, value in vars(record).items() if key.isupper()})
            for record in caplog.records
            if record.name == "waportd.audit"
        ]

    return look


async def call(client, method, path, expected, **options):
    async with client.request(method, path, **options) as answer:
        assert answer.status == expected, await answer.text()
        return await answer.text()


async def test_over_the_unix_socket_by_uid(api, written):
    await call(api, "PUT", "/v1/users/2?wait=none", 201, json={"webhook_url": "http://x/?secret"})
    await call(api, "DELETE", "/v1/users/3", 404)
    await call(api, "GET", "/v1/users", 200)
    uid, name = str(os.geteuid()), name_of(os.geteuid())
    who = {"WAPORTD_CALLER": name, "WAPORTD_CALLER_UID": uid}
    assert written() == [
        (
            f"PUT /v1/users/2 by {name}: 201",
            {**who, "WAPORTD_USER": "2", "WAPORTD_ACTION": "PUT /v1/users/2", "WAPORTD_STATUS": "201"},
        ),
        (
            f"DELETE /v1/users/3 by {name}: 404",
            {**who, "WAPORTD_USER": "3", "WAPORTD_ACTION": "DELETE /v1/users/3", "WAPORTD_STATUS": "404"},
        ),
    ]


async def test_over_tcp_by_token_or_link_and_address(tcp, access, written):
    token, text = await access.tokens.create("web app\u202e", None)
    await call(tcp, "PUT", "/v1/users/2?wait=none", 201, headers={"Authorization": f"Bearer {text}"})
    expires, signature = access.links.sign(TWO, 60)
    query = {"expires": str(expires), "signature": signature}
    await call(tcp, "PUT", "/v1/users/2?wait=none", 200, params=query)
    (first, by_token), (second, by_link) = written()
    assert first == "PUT /v1/users/2 by web app: 201"
    assert (by_token["WAPORTD_TOKEN"], by_token["WAPORTD_ADDRESS"]) == (token.id, "127.0.0.1")
    assert second == "PUT /v1/users/2 by a link of user 2: 200"
    assert by_link["WAPORTD_LINK"] == "2"
    for secret in (text.split("_", 2)[2], signature):
        assert secret not in str(written())


async def test_who_is_not_let_in_writes_nothing(tcp, access, written):
    _, text = await access.tokens.create("x", User("3"))
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": f"Bearer {text}"}):
        async with tcp.delete("/v1/users/2", headers=headers) as answer:
            assert answer.status in {401, 403}
    assert written() == []


async def test_a_token_that_deletes_itself_is_named(tcp, access, written):
    token, text = await access.tokens.create("x", None)
    await call(tcp, "DELETE", f"/v1/tokens/{token.id}", 204, headers={"Authorization": f"Bearer {text}"})
    [(line, fields)] = written()
    assert line == f"DELETE /v1/tokens/{token.id} by {token.id}: 204"
    assert fields["WAPORTD_TOKEN"] == token.id


@pytest.mark.parametrize("ending", [ZeroDivisionError("by zero"), asyncio.CancelledError()])
async def test_a_change_that_ends_in_an_error_that_nobody_foresaw_is_written_down(
    api, supervisor, written, monkeypatch, ending
):
    async def end(*_):
        raise ending

    monkeypatch.setattr(supervisor, "stop", end)
    await call(api, "PUT", "/v1/users/2?wait=none", 201)
    if isinstance(ending, Exception):
        await call(api, "POST", "/v1/users/2/stop", 500)
    else:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await call(api, "POST", "/v1/users/2/stop", 500)
    assert [fields["WAPORTD_STATUS"] for _, fields in written()] == ["201", "500"]


async def test_a_body_that_is_too_large_is_written_down_with_what_was_answered(api, written):
    await call(api, "PUT", "/v1/users/2?wait=none", 413, data=b" " * (1 << 20))
    assert [fields["WAPORTD_STATUS"] for _, fields in written()] == ["413"]


@pytest.mark.parametrize("path", ["/v1/users/2/qr", "/api/qr?user_id=2", "/api/port?user_id=2"])
async def test_a_look_that_makes_a_user_is_written_down_and_the_next_one_is_not(
    api, supervisor, written, path
):
    for _ in range(3):
        await call(api, "GET", path, 200)
        await settled(supervisor)
    [(line, fields)] = written()
    assert line == f"GET {path.partition('?')[0]} by {name_of(os.geteuid())}: 200"
    assert fields["WAPORTD_USER"] == "2"


@pytest.mark.parametrize("path", ["/v1/users/2/qr", "/api/qr?user_id=2"])
async def test_a_look_that_starts_a_server_is_written_down_though_its_answer_was_kept(
    api, supervisor, systemd, written, path
):
    await call(api, "PUT", "/v1/users/2", 201)
    await systemd.exit(supervisor.known(TWO).assignment.port)
    await until(supervisor, TWO, lambda now: now.process.state == "stopped")
    # What was answered to such a question is remembered, and the next one starts the server all the same.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "starts_by_poll", lambda _: False)
        await call(api, "GET", path, 200)
    assert len(written()) == 1
    await call(api, "GET", path, 200)
    await until(supervisor, TWO, lambda now: now.process.state == "running")
    assert [fields["WAPORTD_ACTION"] for _, fields in written()][1:] == [f"GET {path.partition('?')[0]}"]


async def test_a_look_that_opens_a_port_is_written_down(api, supervisor, config, written):
    await call(api, "GET", "/api/port?user_id=2", 200)
    await give_way(supervisor, config, TWO)
    for _ in range(2):
        await call(api, "GET", "/api/port?user_id=2", 200)
    assert [fields["WAPORTD_ACTION"] for _, fields in written()][1:] == ["GET /api/port"]


async def test_a_look_that_is_to_make_a_user_and_fails_is_written_down(api, systemd, written):
    systemd.fail_to_start(socket_unit(BASE + 1), result="resources")
    await call(api, "GET", "/v1/users/2/qr", 502)
    assert [fields["WAPORTD_STATUS"] for _, fields in written()] == ["502"]


async def test_who_changes_something_all_the_time_waits_and_pushes_nothing_out_of_the_journal(
    tcp, api, access, written, caplog, monkeypatch
):
    monkeypatch.setattr("waportd.api.access.USER_TOKEN", Share(64, 4, (6, 100)))
    _, text = await access.tokens.create("x", TWO)
    token = {"Authorization": f"Bearer {text}"}
    for _ in range(3):
        await call(tcp, "GET", "/api/port?user_id=2", 200, headers=token)
        await call(tcp, "DELETE", "/v1/users/2", 204, headers=token)
    for method, path in [
        ("PUT", "/v1/users/2"),
        ("DELETE", "/v1/users/2"),
        ("GET", "/v1/users/2/qr"),
        ("GET", "/api/qr?user_id=2"),
        ("GET", "/api/port?user_id=2"),
        ("POST", "/v1/users/2/start"),
    ]:
        async with tcp.request(method, path, headers=token) as answer:
            assert answer.status == 429, await answer.text()
            assert 0 < int(answer.headers["Retry-After"]) <= 60
    assert len(written()) == 6
    # What the six before took counts.
    [line] = [one.getMessage() for one in caplog.records if "changes too much" in one.getMessage()]
    assert re.fullmatch(r"x changes too much, and has to wait (60|5\d) s", line)
    await call(tcp, "GET", "/api/whatsapp-status?user_id=2", 200, headers=token)
    await call(api, "PUT", "/v1/users/2?wait=none", 201)


async def test_all_links_of_a_user_change_as_often_together_as_one(tcp, access, written, monkeypatch):
    monkeypatch.setattr("waportd.api.access.LINK", Share(16, 4, (2, 100)))
    statuses = []
    for lifetime in (60, 61, 62):
        expires, signature = access.links.sign(TWO, lifetime)
        query = {"wait": "none", "expires": str(expires), "signature": signature}
        async with tcp.put("/v1/users/2", params=query) as answer:
            statuses.append(answer.status)
    assert statuses == [201, 200, 429]
    assert len(written()) == 2


CHANGING_LOOKS = {"GET /v1/users/{user}/qr", "GET /api/qr", "GET /api/port"}
"""What makes a user, or starts one, by being asked."""
TRAFFIC = {
    "POST /v1/users/{user}/messages",
    "PATCH /v1/users/{user}/messages/{id}",
    "POST /v1/users/{user}/messages/{id}/reaction",
    "POST /v1/users/{user}/messages/{id}/forward",
    "POST /v1/users/{user}/chats/{id}/typing",
    "POST /v1/users/{user}/chats/{id}/recording",
    "POST /v1/users/{user}/chats/{id}/seen",
    "POST /v1/users/{user}/chats/{id}/earlier",
}
"""What changes nothing that is administered (docs/security.md, "The journal")."""
IDS = {"chats": "5511999990001@c.us", "contacts": "5511999990001@c.us", "groups": "120363000000000001@g.us"}


def named(operation):
    return f"{operation.method} {operation.path}"


def example(operation):
    """Return a target that names somebody who is not there yet."""
    kind = operation.path.split("/")[4] if operation.path.count("/") > 4 else ""
    values = {
        "user": "9",
        "id": IDS.get(kind, "true_5511999990001@c.us_3EB0AAAA"),
        "number": "5511999990001",
        "port": "5009",
        "host": "a",
        "name": "icon.svg",
    }
    if operation.path.startswith("/v1/tokens"):
        values["id"] = "0123456789ab"
    path = re.sub(r"{(\w+)}", lambda found: values[found[1]], operation.path)
    return f"{path}?user_id=9" if "/api/" in path else path


@pytest.mark.parametrize(
    "operation", [one for one in operations() if named(one) != "GET /v1/events"], ids=named
)
async def test_each_call_that_changes_something_writes_one_line_and_no_other_call_does(
    api, supervisor, written, operation
):
    """Whatever call is added: it is in one of the two lists, or changes nothing by GET and is written down else."""
    target = example(operation)
    body = {"name": "x"} if operation.path == "/v1/tokens" else {}
    async with api.request(
        operation.method, target, json=None if operation.method == "GET" else body
    ) as answer:
        status = answer.status
        await answer.read()
    changes = named(operation) in CHANGING_LOOKS or (
        operation.method != "GET" and named(operation) not in TRAFFIC
    )
    lines = [
        (fields["WAPORTD_ACTION"].partition(" ")[0], fields["WAPORTD_STATUS"]) for _, fields in written()
    ]
    assert lines == ([(operation.method, str(status))] if changes else [])
    if not changes:
        assert [instance.assignment.user for instance in supervisor.registry] == []


def test_what_is_listed_here_is_there():
    assert {named(one) for one in operations()} >= CHANGING_LOOKS | TRAFFIC


async def test_messages_are_no_changes(node, api, monkeypatch):
    monkeypatch.setattr("waportd.api.access.UID", Share(64, None, (1, 1)))
    for _ in range(3):
        async with api.post("/v1/users/1/messages", json={"to": "5511999990001", "text": "x"}) as answer:
            assert answer.status != 429


async def test_a_caller_who_leaves_in_the_middle_of_a_body_is_one_line(api, written, caplog, monkeypatch):
    """Newer versions of aiohttp report it, older ones cancel the call."""

    async def lost(_):
        raise ConnectionResetError("Connection lost")

    monkeypatch.setattr("aiohttp.web.Request.read", lost)
    await call(api, "PUT", "/v1/users/2?wait=none", 400, json={})
    assert [fields["WAPORTD_STATUS"] for _, fields in written()] == ["400"]
    assert len(caplog.records) == 1

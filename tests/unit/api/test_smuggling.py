"""A token or link of one user, and every known way to write a request so that it is taken for another's."""

import asyncio
import json

import pytest
from support import BASE, until

from waportd.model import Port, User

ONE, TWO = User("1"), User("2")
SECRET = "5511900000001"
"""The number of user 1's phone: who is shown it was let in."""


@pytest.fixture
async def two(supervisor, systemd):
    """Two users, of which the first is linked."""
    await supervisor.ensure(ONE)
    await supervisor.ensure(TWO)
    systemd.servers[Port(BASE)].link(SECRET)
    await until(supervisor, ONE, lambda now: now.session and now.session.linked)


@pytest.fixture
def send(server):
    """Send lines as they are over TCP; return all that comes back until the connection ends."""
    port = int(server.url.rpartition(":")[2])

    async def send(*lines, body=b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = "\r\n".join([*lines, "Host: localhost", "Connection: close", "", ""])
        writer.write(head.encode("latin-1") + body)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return int(answer.split()[1]) if answer else 0, answer.decode()

    return send


@pytest.fixture
async def token(access):
    """The line that shows user 2's token."""
    _, text = await access.tokens.create("of user 2", TWO)
    return f"Authorization: Bearer {text}"


async def unharmed(supervisor):
    """Fail if anything happened to user 1 or 2, or there is a user more."""
    assert set(supervisor.registry.owners().values()) == {ONE, TWO}
    one = supervisor.known(ONE)
    assert one.held
    assert one.session.linked


TARGETS = [
    "/v1/users/1",
    "/v1/users/%31",
    "/v1/users/2%2F..%2F1",
    "/v1/users/2/../1",
    "/v1/users/2/..%2f1",
    "/v1/users/2/%2e%2e/1",
    "/v1/users/2/./../1",
    "/v1/users/2%2f..%2f..%2fusers%2f1",
    "/v1/users/1.",
    "/v1/users/1/",
    "/v1/users/1/.",
    "/v1/users/1%00",
    "/v1/users/2%001",
    "/v1/users/1%0A",
    "/v1/users/1%20",
    "/v1/users/%20",
    "/v1/users/%EF%BC%91",
    "/v1/users/%D9%A1",
    "/v1/users/1;2",
    "/v1/users/2;/../1",
    "/v1/users/2?user=1",
    "/v1/users/2?user_id=1",
    "//v1/users/1",
    "/v1//users/1",
    "/./v1/users/1",
    "/v1/users/1?x",
    "/v1/users/1#/v1/users/2",
    "/v1/users/2#/v1/users/1",
    "http://localhost/v1/users/1",
    "http://localhost/v1/users/2/../1",
    "http://1@localhost/v1/users/1",
    "/v1/users",
    "/v1/%75sers",
    "/v1/users/",
    "/v1/events",
    "/v1/users/*",
    "/v1/users/2,1",
    "/V1/USERS/1",
    "/v1\\users\\1",
    "/api/whatsapp-status?user_id=1",
    "/api/whatsapp-status?user_id=2&user_id=1",
    "/api/whatsapp-status?user_id=1&user_id=2",
    "/api/whatsapp-status?user_id=2&user%5fid=1",
    "/api/whatsapp-status?user_id=%31",
    "/api/whatsapp-status?user_id=2;user_id=1",
    "/api/whatsapp-status?user_id[]=1&user_id=2",
    "/api/whatsapp-status?user_id=2%26user_id=1",
    "/api/whatsapp-status?user_id=+1",
    "/api/qr?user_id=2&user_id=1",
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PUT", "PATCH", "DELETE"])
async def test_no_target_leads_a_token_to_another_user(two, send, supervisor, token, method):
    for target in TARGETS:
        status, answer = await send(f"{method} {target} HTTP/1.1", token)
        # What is done is done to the own user, however it is written; who deletes deletes their own.
        assert SECRET not in answer, target
        assert '"user": "1"' not in answer, target
        assert status < 500 or status in {501, 505}, target
        owners = set(supervisor.registry.owners().values())
        assert ONE in owners, target
        assert owners <= {ONE, TWO}, target
        assert supervisor.known(ONE).session.linked
        assert supervisor.known(ONE).held


@pytest.mark.parametrize(
    "target", ["/v1/users/%31", "http://localhost/v1/users/1", "/api/whatsapp-status?user_id=%31"]
)
async def test_who_may_see_all_is_shown_the_user_by_the_same_words(two, send, access, target):
    """That the attempts above are good ones."""
    _, text = await access.tokens.create("admin", None)
    status, answer = await send(f"GET {target} HTTP/1.1", f"Authorization: Bearer {text}")
    assert (status, SECRET in answer) == (200, True)


@pytest.mark.parametrize(
    "lines",
    [
        ("X-HTTP-Method-Override: DELETE",),
        ("X-Method-Override: DELETE", "X-HTTP-Method: DELETE"),
        ("X-Original-URL: /v1/users/1",),
        ("X-Rewrite-URL: /v1/users/1",),
        ("X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1"),
        ("X-Forwarded-User: root", "Remote-User: root", "X-Uid: 0"),
        ("Cookie: token=admin; scope=admin",),
        ("Authorization: Bearer waportd_000000000000_x",),
        ("Authorization: Basic cm9vdDo=",),
        ("Authorization : Bearer x",),
        (" folded: x",),
    ],
)
@pytest.mark.parametrize("first", [True, False])
async def test_no_header_makes_more_of_a_token(two, send, supervisor, token, lines, first):
    shown = (*lines, token) if first else (token, *lines)
    status, answer = await send("GET /v1/users/1 HTTP/1.1", *shown)
    assert status in {400, 401, 403}
    assert SECRET not in answer
    status, answer = await send("GET /v1/users HTTP/1.1", *lines)
    assert status in {400, 401}
    await unharmed(supervisor)


@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "x", "scope": "user:2", "scope": "admin"}',
        b'{"name": "x", "scope": "admin", "scope": "user:2"}',
        b'{"name": "x", "scope": "user:2", "\\u0073cope": "admin"}',
        b'{"name": "x", "scope": "user:1"}',
    ],
)
async def test_a_users_token_makes_no_other(two, send, access, token, body):
    lines = ("POST /v1/tokens HTTP/1.1", "Content-Type: application/json", f"Content-Length: {len(body)}")
    status, _ = await send(*lines, token, body=body)
    assert status == 403
    assert len(list(access.tokens)) == 1


async def test_of_a_member_that_stands_there_twice_one_is_taken_and_shown(two, api):
    """Who checks a body before us may take the first: they see in the answer which one counts."""
    body = b'{"name": "x", "scope": "admin", "scope": "user:2"}'
    async with api.post("/v1/tokens", data=body, headers={"Content-Type": "application/json"}) as answer:
        assert (answer.status, (await answer.json()).get("scope")) in {(400, None), (201, "user:2")}


class TestLinks:
    @pytest.fixture
    def links(self, access):
        """Queries: of user 2's good link, and of one that has ended."""

        def query(lifetime):
            expires, signature = access.links.sign(TWO, lifetime)
            return f"expires={expires}", f"signature={signature}"

        return query(600), query(-60)

    async def test_it_leads_to_nobody_else(self, two, send, supervisor, links):
        good = "&".join(links[0])
        for target in (
            *("/v1/users/1/qr", "/v1/users/%31/qr", "/v1/users/2%2f..%2f1/qr", "/v1/users/2/../1/qr"),
            *("//v1/users/1/qr", "http://localhost/v1/users/1/qr", "/v1/users/1%00/qr", "/v1/users/2;1/qr"),
            *("/v1/users/1/events", "/v1/users/1", "/v1/users", "/v1/events", "/api/qr?user_id=1&"),
        ):
            separator = "" if target.endswith("&") else "?"
            status, answer = await send(f"GET {target}{separator}{good} HTTP/1.1")
            assert 400 <= status < 500, target
            assert SECRET not in answer
        await unharmed(supervisor)

    async def test_an_end_that_is_written_twice_lengthens_nothing(self, two, send, supervisor, links):
        (later, good), (ended, signature) = links
        for query in (
            (ended, later, signature),
            (later, ended, signature),
            (ended, "expires=99999999999", signature),
            (ended.replace("=", "=0"), signature),
            (f"{ended}.0", signature),
            (f"{ended}%00", signature),
            (ended, signature, good),
            (later, signature),
            (ended, good),
            (later.replace("expires", "%65xpires"), signature),
        ):
            status, answer = await send(f"GET /v1/users/2/qr?{'&'.join(query)} HTTP/1.1")
            assert status in {400, 403}, query
            assert "qr" not in (json.loads(answer.partition("\r\n\r\n")[2]) if status == 200 else {})
        status, _ = await send(f"GET /v1/users/2/qr?{later}&{good} HTTP/1.1")
        assert status == 200
        await unharmed(supervisor)

"""Each change is written down with who made it, and nothing secret is."""

import os

import pytest

from waportd.accounts import name_of
from waportd.model import User

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
    for secret in (text.rpartition("_")[2], signature):
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

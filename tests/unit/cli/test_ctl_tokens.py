"""``token``: keys to the API over TCP."""

import datetime as dt
import json

import pytest
from support import another_key

from waportd.cli.exit_status import Exit
from waportd.connect_links import Links
from waportd.errors import LinkInvalid
from waportd.model import User
from waportd.tokens import Kind


async def test_a_key_is_made_listed_and_taken_back(api, ctl):
    assert "token create NAME" in (await ctl("token", "list")).out
    made = await ctl("token", "create", "flask", "--user", "2")
    assert made.status == Exit.OK
    secret = made.out.strip()
    assert made.out == f"{secret}\n"
    assert secret not in made.err
    assert "user:2" in made.err
    listed = await ctl("token", "list")
    assert secret not in listed.out
    identifier, scope, *_, name = listed.out.splitlines()[1].split()
    assert (scope, name) == ("user:2", "flask")
    assert json.loads((await ctl("token", "create", "cron", "--json")).out)["scope"] == "admin"
    assert {token["name"] for token in json.loads((await ctl("token", "list", "--json")).out)["tokens"]} == {
        "flask",
        "cron",
    }
    assert (await ctl("token", "revoke", identifier)).status == Exit.OK
    again = await ctl("token", "revoke", identifier)
    assert again.status == Exit.FAILED
    assert identifier in again.err


async def test_a_key_is_for_less_and_ends(api, ctl, access):
    await ctl("token", "create", "Prometheus", "--scope", "metrics", "--days", "30")
    [token] = access.tokens
    assert token.kind is Kind.METRICS
    assert abs(token.expires_at - token.created_at - 30 * 86_400) < 1
    [row] = (await ctl("token", "list")).out.splitlines()[1:]
    assert row.split()[1] == "metrics"
    assert f"{dt.datetime.fromtimestamp(token.expires_at, dt.UTC):%F}" in row
    for wrong in (("--scope", "read", "--user", "2"), ("--days", "0"), ("--scope", "user:2")):
        with pytest.raises(SystemExit, match="2"):
            await ctl("token", "create", "x", *wrong)


async def test_all_links_are_taken_back(api, ctl, access):
    before = Links(b"key", another_key)
    assert "all connect links are revoked" in (await ctl("token", "revoke-links")).out
    expires, signature = before.sign(User("2"), 60)
    with pytest.raises(LinkInvalid):
        access.links.check(User("2"), str(expires), signature)

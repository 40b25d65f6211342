"""``token``: keys to the API over TCP."""

import json

from waportd.cli.exits import Exit


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

"""What any host says about the whole fleet: the users of all hosts, and the hosts."""

import asyncio
import dataclasses

import pytest

from waportd.api import elsewhere
from waportd.api.problems import FLEET_CODES
from waportd.client import Client
from waportd.errors import LoginComing
from waportd.fleet.engine import Conflict, EngineUnavailable, HostState, LeaseLost, Row, Unsettled
from waportd.fleet.host import Leaving
from waportd.model import User
from waportd.tokens import Kind


@pytest.fixture
async def a(fleet):
    """A host that has users 1 and 3."""
    a = await fleet.add("a")
    for user in ("1", "3"):
        await a.has(user)
    return a


@pytest.fixture
async def b(fleet, a):
    """A host that has users 2 and 4."""
    fleet.describe("a", state=HostState.DRAINING)
    b = await fleet.add("b")
    for user in ("2", "4"):
        await b.has(user)
    return b


async def listed(site, query="", **options):
    """Return the host of each user that a host lists, in its order."""
    answer = await site.call("GET", f"/v1/users{query}", **options)
    return [(user["user"], user["host"]) for user in answer["users"]]


class TestUsers:
    async def test_any_host_lists_the_users_of_all_by_port(self, a, b):
        everybody = [("1", "a"), ("3", "a"), ("2", "b"), ("4", "b")]
        assert await listed(a) == await listed(b) == everybody
        measured = await a.call("GET", "/v1/users?usage=true")
        assert all(user["memory"]["bytes"] for user in measured["users"])

    async def test_of_one_host_alone(self, a, b):
        assert await listed(a, "?host=a") == await listed(a, "?host=self") == [("1", "a"), ("3", "a")]
        assert await listed(a, "?host=b") == [("2", "b"), ("4", "b")]
        missing = await a.call("GET", "/v1/users?host=c", 404)
        assert missing["code"] == "unknown_host"

    async def test_those_of_a_silent_host_are_shown_as_the_fleet_knows_them(self, fleet, a, b):
        row = fleet.state.rows[-1]
        fleet.put(dataclasses.replace(row, document={**row.document, "linked": 1}))
        fleet.describe("b", alive=False)
        answer = await a.call("GET", "/v1/users")
        last = answer["users"][-1]
        assert (last["user"], last["host"], last["linked"]) == ("4", "b", True)
        assert (last["process"]["state"], last["process"]["cause"]) == ("unreachable", "host_silent")
        assert last["summary"]["group"] == "trouble"
        assert "host b holds no lease" in last["summary"]["message"]
        assert "doctor" in last["process"]["hint"]
        assert answer["users"][0]["process"]["state"] == "running"

    async def test_one_whose_row_a_newer_waportd_has_written_keeps_nobody_from_the_list(self, fleet, a, b):
        fleet.put(dataclasses.replace(fleet.state.rows[-1], document={"desired": "something new"}))
        fleet.describe("b", alive=False)
        assert await listed(a) == [("1", "a"), ("3", "a"), ("2", "b"), ("4", "b")]

    async def test_those_of_a_host_that_has_left_are_listed_until_others_have_them(self, fleet, a, b):
        fleet.describe("b", alive=False, state=HostState.LEFT)
        assert await listed(a) == [("1", "a"), ("3", "a"), ("2", "b"), ("4", "b")]

    async def test_a_host_that_is_slow_is_not_waited_for(self, a, b, monkeypatch):
        monkeypatch.setattr(elsewhere, "LIMIT_S", 0.1)
        real = b.supervisor.usage

        async def slow(instance):
            await asyncio.sleep(1)
            return await real(instance)

        b.supervisor.usage = slow
        answer = await a.call("GET", "/v1/users?usage=true")
        states = {user["user"]: user["process"]["state"] for user in answer["users"]}
        assert states == {"1": "running", "3": "running", "2": "unreachable", "4": "unreachable"}
        assert "did not list its users within 0.1 s" in answer["users"][-1]["process"]["message"]

    async def test_a_user_who_has_just_moved_is_listed_once_where_they_are(self, fleet, a, b):
        moved = a.supervisor.known(User("1")).assignment
        b.supervisor.registry.put(
            dataclasses.replace(b.supervisor.known(User("2")), assignment=dataclasses.replace(moved))
        )
        fleet.put(Row("1", moved.port, "b"))
        assert ("1", "b") in await listed(a)
        assert ("1", "a") not in await listed(a)

    async def test_one_who_comes_to_a_host_is_listed_by_it_until_the_login_is_there(self, fleet, a, b):
        fleet.coming("9", b)
        for site in (a, b):
            answer = await site.call("GET", "/v1/users")
            row = next(user for user in answer["users"] if user["user"] == "9")
            assert (row["host"], row["linked"]) == ("b", True)
            assert (row["process"]["state"], row["process"]["cause"]) == ("moving", "login_coming")
            assert row["summary"]["group"] == "working"
        assert ("9", "b") in await listed(b, "?host=self")
        assert ("9", "b") not in await listed(a, "?host=self")

    async def test_before_the_engine_was_read_only_this_host_is_known(self, fleet, a, b, monkeypatch):
        monkeypatch.setattr("waportd.fleet.others.FIRST_S", 0.1)
        fleet.state = None
        refused = await a.call("GET", "/v1/users", 503)
        assert refused["code"] == "engine_unavailable"
        assert await listed(a, "?host=self") == [("1", "a"), ("3", "a")]

    async def test_who_may_read_here_may_read_there(self, a, b):
        _, text = await a.access.tokens.create("watch", None, Kind.READ)
        headers = {"Authorization": f"Bearer {text}"}
        assert len(await listed(a, over=a.tcp, headers=headers)) == 4


class TestHosts:
    async def test_the_client_reads_them(self, a, b):
        def ask():
            with Client(str(a.socket)) as client:
                return client.hosts(), client.users(), client.users(host="b")

        hosts, users, there = await asyncio.to_thread(ask)
        assert [(host.name, host.alive, host.users) for host in hosts] == [("a", True, 2), ("b", True, 2)]
        assert [user.host for user in users] == ["a", "a", "b", "b"]
        assert [user.user for user in there] == ["2", "4"]

    async def test_they_are_listed_by_name(self, fleet, a, b):
        answer = await b.call("GET", "/v1/hosts")
        assert answer["host"] == "b"
        first, second = answer["hosts"]
        assert (first["name"], first["state"], first["alive"], first["users"]) == ("a", "draining", True, 2)
        assert await b.call("GET", "/v1/hosts/b") == second
        fleet.describe("a", state=HostState.LEFT)
        assert [host["name"] for host in (await b.call("GET", "/v1/hosts"))["hosts"]] == ["b"]
        assert (await b.call("GET", "/v1/hosts/a", 404))["code"] == "unknown_host"


async def test_the_metrics_of_a_host_have_the_fleet(fleet, a, b):
    fleet.coming("9", b)
    fleet.describe("b", alive=False)
    async with b.api.get("/metrics") as answer:
        told = (await answer.text()).splitlines()
    assert 'waportd_fleet_hosts{state="silent"} 1.0' in told
    assert 'waportd_fleet_hosts{state="draining"} 1.0' in told
    assert "waportd_fleet_lease_held 0.0" in told
    assert "waportd_fleet_coming_users 1.0" in told
    assert 'waportd_fleet_logins{copies="none"} 1.0' in told
    assert 'waportd_servers{state="moving"}' not in "".join(told)


class TestAdministration:
    async def test_a_host_is_drained_and_activated_from_any_host(self, fleet, a, b):
        drained = await a.call("POST", "/v1/hosts/b/drain")
        assert (drained["name"], drained["state"], drained["users"]) == ("b", "draining", 2)
        assert (await b.call("GET", "/v1/hosts/b"))["state"] == "draining"
        # No host is left that takes anybody.
        assert [one["user"] for one in drained["stuck"]] == ["2", "4"]
        assert "a is draining" in drained["stuck"][0]["message"]
        assert (await a.call("POST", "/v1/hosts/a/activate"))["state"] == "active"
        assert (await a.call("GET", "/v1/hosts/b"))["stuck"] == []

    async def test_only_a_host_that_is_off_is_evicted(self, fleet, a, b):
        refused = await a.call("POST", "/v1/hosts/b/evict", 409)
        assert (refused["code"], refused["cause"]) == ("conflict", "alive")
        fleet.describe("b", alive=False)
        assert (await a.call("POST", "/v1/hosts/b/evict"))["name"] == "b"
        assert [host["name"] for host in (await a.call("GET", "/v1/hosts"))["hosts"]] == ["a"]
        assert (await a.call("POST", "/v1/hosts/b/activate", 409))["cause"] == "left"

    async def test_a_user_is_ordered_to_another_host_from_any(self, fleet, a, b):
        await a.call("POST", "/v1/hosts/a/activate")
        for site, user, host in ((a, "2", "a"), (a, "1", "b")):
            moved = await site.call("POST", f"/v1/users/{user}/move", 202, json={"host": host})
            assert moved["user"] == user
            assert fleet.state.orders[user].host == host
        await a.call("POST", "/v1/users/3/move", 202, json={"host": "a"})
        assert "3" not in fleet.state.orders, "the user is there"

    async def test_why_a_user_has_not_gone_is_shown(self, fleet, a, b):
        await a.call("POST", "/v1/users/1/move", 202, json={"host": "b"})
        order = fleet.state.orders["1"]
        fleet.engine.order(dataclasses.replace(order, failed="the login cannot go along"))
        shown = await b.call("GET", "/v1/hosts/a")
        assert {"user": "1", "message": "the login cannot go along"} in shown["stuck"]

    async def test_what_cannot_be_ordered_is_refused(self, fleet, a, b):
        for path, body, status, code in (
            ("/v1/hosts/c/drain", None, 404, "unknown_host"),
            ("/v1/users/1/move", {"host": "c"}, 404, "unknown_host"),
            ("/v1/users/2/move", {"host": "a"}, 409, "conflict"),
            ("/v1/users/1/move", {"host": "b", "port": 5009}, 400, "bad_request"),
            ("/v1/users/9/move", {"host": "b"}, 404, "unknown_user"),
        ):
            assert (await a.call("POST", path, status, json=body))["code"] == code
        fleet.describe("b", alive=False)
        assert (await a.call("POST", "/v1/hosts/b/drain", 503))["code"] == "host_silent"
        a.way.away = True
        for path, body in (("/v1/hosts/a/activate", None), ("/v1/users/1/move", {"host": "b"})):
            assert (await a.call("POST", path, 503, json=body))["code"] == "engine_unavailable"

    async def test_a_token_of_a_user_moves_nobody_to_another_host(self, a, b):
        _, text = await a.access.tokens.create("page", User("1"))
        headers = {"Authorization": f"Bearer {text}"}
        for path, body in (("/v1/users/1/move", {"host": "b"}), ("/v1/hosts/b/drain", None)):
            assert (await a.call("POST", path, 403, over=a.tcp, headers=headers, json=body))[
                "code"
            ] == "forbidden"


def test_the_codes_of_a_fleets_errors_are_in_the_contract_of_the_api():
    errors = (Conflict, EngineUnavailable, LeaseLost, Leaving, LoginComing, Unsettled)
    assert {error.code for error in errors} == FLEET_CODES

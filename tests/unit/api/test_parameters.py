"""What callers send: read as it is meant, or refused with a word on what is allowed."""

import json
import urllib.parse

import pytest
from aiohttp import web
from support import access_for

from waportd.api.operations import Answer, Operation, Scope
from waportd.api.parameters import OPTIONS, PORT, TIMEOUT, USER, USER_ID, WAIT, Body, Parameter
from waportd.api.problems import problems
from waportd.readiness import Wait
from waportd.value_types import FLAG, number

SECRET = "whsec_" + "c2VjcmV0" * 4
USAGE = Parameter("usage", FLAG, "", default=False)
RENAMED = Parameter("new", number(0, 9), "", former="old")


def echo(path: str, what: Parameter | Body, **how) -> Operation:
    """Answer what was read."""

    async def handler(request):
        return web.json_response(what.of(request))

    parameters = (what,) if isinstance(what, Parameter) else ()
    body = what if isinstance(what, Body) else None
    return Operation(
        "PUT" if body else "GET", path, handler, Scope.PUBLIC, {200: Answer("")}, parameters, body, **how
    )


@pytest.fixture
async def ask(aiohttp_client):
    """Send a request to a server that answers what it read; give status and document."""
    app = web.Application(middlewares=[problems], client_max_size=64 * 1024)
    app["max_body"] = 64 * 1024
    app["access"] = access_for()
    app.add_routes(
        operation.route()
        for operation in (
            echo("/user/{user}", USER),
            echo("/user", USER_ID),
            echo("/page", USER_ID, lenient=True),
            echo("/port/{port}", PORT),
            echo("/wait", WAIT),
            echo("/time", TIMEOUT),
            echo("/renamed", RENAMED),
            echo("/flag", USAGE),
            echo("/options", OPTIONS),
        )
    )
    client = await aiohttp_client(app)

    async def ask(path, body=None):
        method = "PUT" if path.startswith("/options") else "GET"
        async with client.request(method, path, data=body) as answer:
            return answer.status, await answer.json(content_type=None)

    return ask


async def refused(answer) -> dict:
    """Check that it is a refusal that says what is wrong, in few words; return the document."""
    status, problem = await answer
    assert (status, problem["code"]) == (400, "bad_request")
    assert problem["detail"]
    assert len(problem["detail"]) < 200
    return problem


def quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")


class TestUser:
    @pytest.mark.parametrize("user", ["1", "2_1", "Ana.Maria@example-1", "x" * 64])
    async def test_a_user_is_read_from_path_and_query(self, ask, user):
        assert await ask(f"/user/{user}") == await ask(f"/user?user_id={quoted(user)}") == (200, user)

    @pytest.mark.parametrize(
        "user",
        ["-1", "a b", "a+b", "../1", "a/b", "é", "josé", "x" * 65, "1\n", "1\0", "\x1b[31m", "%"],
    )
    async def test_what_is_no_user_is_refused_wherever_it_stands(self, ask, user):
        for path in (f"/user/{quoted(user)}", f"/user?user_id={quoted(user)}"):
            hint = (await refused(ask(path)))["hint"]
            assert "ASCII letters, digits and _ . @ -" in hint
            assert "use your database id" in hint

    async def test_a_plus_in_a_query_is_a_space_so_no_user_has_one(self, ask):
        assert "'a b'" in (await refused(ask("/user?user_id=a+b")))["detail"]

    async def test_bytes_that_are_no_text_are_refused(self, ask):
        await refused(ask("/user?user_id=%ff%fe"))

    async def test_a_missing_user_is_asked_for_with_an_example(self, ask):
        assert (await refused(ask("/user")))["hint"] == "add it: /user?user_id=1"

    async def test_an_empty_user_is_refused(self, ask):
        await refused(ask("/user?user_id="))

    async def test_two_users_are_one_too_many(self, ask):
        assert "2 times" in (await refused(ask("/user?user_id=1&user_id=2")))["detail"]

    async def test_other_parameters_of_the_page_are_passed_over(self, ask):
        assert await ask("/page?user_id=1&_=1767225600") == (200, "1")

    async def test_a_former_name_is_read_and_not_documented(self, ask):
        assert await ask("/renamed?old=7") == await ask("/renamed?new=7") == (200, 7)
        assert (await refused(ask("/renamed?older=7")))["hint"] == "allowed: new"
        assert (await refused(ask("/renamed?old=x")))["detail"] == "new='x' is not valid"
        assert "2 times" in (await refused(ask("/renamed?old=7&old=7")))["detail"]

    @pytest.mark.parametrize("query", ["new=7&old=7", "old=&new=7"])
    async def test_a_name_and_its_former_one_are_one_too_many(self, ask, query):
        problem = await refused(ask(f"/renamed?{query}"))
        assert (problem["detail"], problem["hint"]) == ("new and old are both given", "leave old out")

    async def test_an_unknown_parameter_is_refused_and_the_known_ones_are_named(self, ask):
        assert (await refused(ask("/user?user_id=1&usre=2")))["hint"] == "allowed: user_id"
        assert (await refused(ask("/user/1?x=")))["hint"] == "allowed: none"


class TestPort:
    @pytest.mark.parametrize("port", [1, 5002, 65535])
    async def test_a_port_is_read(self, ask, port):
        assert await ask(f"/port/{port}") == (200, port)

    @pytest.mark.parametrize(
        "port", ["0", "65536", "99999", "123456", "-1", "05002", "5002.0", "1e3", "x", "²", "%20", "9" * 500]
    )
    async def test_what_is_no_port_is_refused(self, ask, port):
        assert "1 to 65535" in (await refused(ask(f"/port/{port}")))["hint"]


class TestWait:
    async def test_without_a_word_the_server_must_listen(self, ask):
        assert await ask("/wait") == (200, "listening")

    @pytest.mark.parametrize("wait", Wait)
    async def test_each_word_is_known(self, ask, wait):
        assert await ask(f"/wait?wait={wait}") == (200, wait)

    @pytest.mark.parametrize("wait", ["", "QR", "forever", "5", "x" * 1000])
    async def test_another_word_is_refused_and_the_known_ones_are_named(self, ask, wait):
        assert (await refused(ask(f"/wait?wait={wait}")))[
            "hint"
        ] == "wait must be none or listening or qr or ready"


class TestTime:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("0", 0), ("25", 25), ("0.5", 0.5), ("600", 600), ("007", 7), ("1e2", 100), ("1.5e-9", 1.5e-9)],
    )
    async def test_seconds_are_read(self, ask, text, seconds):
        assert await ask(f"/time?timeout={text}") == (200, seconds)

    async def test_no_time_is_none(self, ask):
        assert await ask("/time") == (200, None)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "-1",
            "601",
            "600.001",
            "1e3",
            "1e999",
            "nan",
            "inf",
            "1_0",
            " 5",
            "+5",
            "5s",
            "0x5",
            ".5",
            "5.",
            "\u0665",
            "9" * 400,
        ],
    )
    async def test_what_is_no_time_is_refused(self, ask, text):
        assert (await refused(ask(f"/time?timeout={quoted(text)}")))[
            "hint"
        ] == "timeout must be seconds from 0 to 600"


class TestFlag:
    @pytest.mark.parametrize(
        ("query", "flag"),
        [
            ("", False),
            ("?usage=true", True),
            ("?usage=false", False),
        ],
    )
    async def test_a_flag_is_read(self, ask, query, flag):
        assert await ask(f"/flag{query}") == (200, flag)

    @pytest.mark.parametrize("text", ["", "yes", "True", "1", "0", "x" * 1000])
    async def test_what_is_no_flag_is_refused(self, ask, text):
        assert (await refused(ask(f"/flag?usage={text}")))["hint"] == "usage must be true or false"


class TestOptions:
    @pytest.mark.parametrize("body", ["", " \n"])
    async def test_no_body_changes_nothing(self, ask, body):
        assert await ask("/options", body) == (200, None)

    @pytest.mark.parametrize(
        ("sent", "read"),
        [
            ({}, {}),
            ({"webhook_url": "http://localhost:5002/webhook?a=b"}, None),
            ({"webhook_url": ""}, None),
            ({"webhook_url": None, "memory_max": None}, None),
            ({"memory_max": 512 << 20}, None),
            ({"memory_max": 1e9}, {"memory_max": 10**9}),
            ({"memory_max": "512M"}, {"memory_max": 512 << 20}),
            ({"memory_max": 0}, None),
            ({"autostart": False}, None),
            ({"autostart": True}, None),
            ({"engine": "bundled"}, None),
            ({"engine": "1.34.6"}, None),
            ({"engine": "2.0.0-alpha.0"}, None),
            ({"engine": None}, None),
            ({"proxy": "none"}, None),
            ({"proxy": "http://ana:p%40ss@proxy:3128"}, None),
            ({"proxy": "http://proxy:3128/"}, {"proxy": "http://proxy:3128"}),
            ({"proxy": "socks5://[::1]:1080"}, None),
            ({"proxy": None}, None),
            ({"webhook_secret": ""}, {"webhook_secret": []}),
            ({"webhook_secret": SECRET}, {"webhook_secret": [SECRET]}),
            ({"webhook_secret": [SECRET, f"{SECRET}AA=="]}, None),
            ({"webhook_secret": None}, None),
            ({"webhook_events": ["message", "call"]}, None),
            ({"webhook_events": []}, None),
            ({"webhook_events": None, "ignore": None, "send_rate": None}, None),
            ({"ignore": ["groups"]}, None),
            ({"default_country": "55"}, None),
            ({"default_country": ""}, None),
            ({"send_rate": 0}, None),
        ],
    )
    async def test_options_are_read_as_the_configuration_reads_them(self, ask, sent, read):
        assert await ask("/options", json.dumps(sent)) == (200, sent if read is None else read)

    @pytest.mark.parametrize(
        ("member", "values"),
        [
            (
                "webhook_url",
                [
                    1,
                    True,
                    [],
                    {},
                    "ftp://x/",
                    "localhost:5002",
                    "http://ana:secret@x/",
                    "http://x/\n",
                    "http://",
                ],
            ),
            (
                "memory_max",
                [-1, 1, 1.5, 1e300, True, "", "0", "1M", "512 M", "lots", [], {}, 10**30, "9" * 100],
            ),
            (
                "engine",
                [
                    "",
                    "latest",
                    "1",
                    "1.34",
                    "1.34.7.1",
                    "^1.34.7",
                    "01.2.3",
                    "../1.34.7",
                    "1.34.7/..",
                    "1.0.0-..",
                    1.34,
                    [],
                ],
            ),
            (
                "proxy",
                [
                    "",
                    1,
                    [],
                    "proxy:3128",
                    "http://proxy",
                    "http://ana:secret@",
                    "http://ana:se cret@proxy:1",
                    "http://ana:secret%ff@proxy:1",
                    "socks5://ana:secret@proxy:1",
                    "ftp://ana:secret@proxy:1",
                    "http://ana:secret@proxy:70000",
                    "http://ana:secret@proxy:1/path",
                    "http://secret@proxy:1",
                    "http://ana:secret@proxy:1\n",
                ],
            ),
            ("autostart", [None, 0, 1, "true", [], {}]),
            ("webhook_secret", ["secret", 1, {}, ["secret"], [None], [SECRET] * 3, [[SECRET]], f"{SECRET},"]),
            ("webhook_events", ["message", ["Message"], [1], [None], ["call", "call"], {"call": 1}]),
            ("ignore", ["", ["chats"], [["groups"]]]),
            ("default_country", [55, "+55", "055", "1234", [], True]),
            ("send_rate", ["20", -1, 1.5, 601, [], True]),
        ],
    )
    async def test_a_value_of_the_wrong_kind_is_refused_by_its_name(self, ask, member, values):
        [kind] = [known.kind for known in OPTIONS.members if known.name == member]
        for value in values:
            problem = await refused(ask("/options", json.dumps({member: value})))
            assert problem["detail"].startswith(f"{member}: must be ")
            said = json.dumps(problem).replace(member, "").replace(kind.allowed, "")
            assert "secret" not in said
            assert SECRET not in said

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"no",
            b"\xff\xfe\xfd",
            b"{'autostart': true}",
            b"[" * 50_000,
            b'{"memory_max": ' + b"9" * 5000 + b"}",
        ],
        ids=["cut off", "a word", "no text", "single quotes", "nested deeply", "a huge number"],
    )
    async def test_what_is_no_json_is_refused(self, ask, body):
        assert (await refused(ask("/options", body)))["detail"] == "the body is not JSON"

    @pytest.mark.parametrize("body", ["null", "[]", '"x"', "1", "true"])
    async def test_what_is_no_object_is_refused(self, ask, body):
        assert (await refused(ask("/options", body)))["detail"] == "the body is not a JSON object"

    @pytest.mark.parametrize("name", ["port", "", "Autostart", "x" * 1000, "\ud800", "\x1b[31m"])
    async def test_an_unknown_member_is_refused_and_the_known_ones_are_named(self, ask, name):
        problem = await refused(ask("/options", json.dumps({"autostart": True, name: 1})))
        assert problem["hint"] == f"allowed: {', '.join(member.name for member in OPTIONS.members)}"

    async def test_a_body_that_is_too_large_is_refused_as_such(self, ask):
        status, problem = await ask("/options", b" " * 70_000)
        assert (status, problem["code"]) == (413, "too_large")

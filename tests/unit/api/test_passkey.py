"""The passkey that WhatsApp wants of who links a phone, as callers see it and as nobody else does."""

import asyncio
import json
import logging
import os
from pathlib import Path

import pytest
from aiohttp import web
from fakes import OPTIONS
from support import BASE, Events, settled, until

from waportd import quotas
from waportd.model import PasskeyStage, Port, User
from waportd.readiness import Wait

ONE, PORT = User("1"), Port(BASE)
EXAMPLE = Path(__file__).parents[3] / "docs/examples/client.js"
PATH, QR = "/v1/users/1/passkey", "/v1/users/1/qr"
CREDENTIAL = {
    "id": "aWQtb2YtYS1wYXNza2V5",
    "rawId": "aWQtb2YtYS1wYXNza2V5",
    "type": "public-key",
    "response": {
        "clientDataJSON": "c2VjcmV0LWNsaWVudC1kYXRh",
        "authenticatorData": "c2VjcmV0LWF1dGhlbnRpY2F0b3I",
        "signature": "c2VjcmV0LXNpZ25hdHVyZQ",
        "userHandle": None,
    },
    "clientExtensionResults": {},
    "authenticatorAttachment": "platform",
}
SECRETS = (
    "challenge-",
    OPTIONS["allowCredentials"][0]["id"],
    "ABCD-EFGH",
    *(text for text in CREDENTIAL["response"].values() if text),
    CREDENTIAL["id"],
)
"""What nobody else may learn of a passkey, once it is over or before."""


@pytest.fixture
async def phone(supervisor, systemd):
    """The server of user 1, which shows a code as soon as it is asked for one."""
    systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)
    await supervisor.ensure(ONE, wait=Wait.QR)
    return systemd.servers[PORT]


@pytest.fixture
def asks(phone, supervisor):
    """Have the server want a passkey; return how it says it, once the daemon has heard."""

    async def ask(stage="asked", **members):
        before = supervisor.known(ONE).passkey
        told = phone.ask_for_passkey(stage, **members)
        await until(supervisor, "1", lambda now: now.passkey is not None and now.passkey != before)
        return told

    return ask


async def call(api, method, path=PATH, expected=200, **options):
    async with api.request(method, path, **options) as answer:
        body = await answer.read()
        assert answer.status == expected, body
        return json.loads(body) if body else None


async def test_what_is_asked_is_shown_whole(api, asks):
    told = await asks()
    assert await call(api, "GET") == told
    assert told["options"] == {**OPTIONS, "challenge": "challenge-1"}
    document = await call(api, "GET", QR)
    assert (document["status"], document["qr"], document["passkey"]) == ("passkey_required", None, told)


async def test_who_asks_follows_it_and_the_server_learns_that(api, asks, phone, supervisor):
    await asks()
    phone.calls.clear()
    await call(api, "GET")
    await settled(supervisor)
    assert phone.calls == ["qr"]


async def test_who_listens_follows_it_too_and_nothing_else(api, asks, phone, supervisor):
    async with api.get("/v1/users/1/events") as own:
        events = Events(own)
        await events.until("qr")
        await settled(supervisor)
        assert "qr" not in phone.calls
        await asks()
        await events.until("qr")
        await settled(supervisor)
        assert phone.calls.count("qr") == 1


@pytest.mark.parametrize("stage", PasskeyStage)
async def test_each_stage_is_shown_with_what_belongs_to_it_and_nothing_else(api, asks, stage):
    everything = {"options": {"challenge": "x"}, "code": "ABCD-EFGH"}
    told = await asks(stage, **everything)
    shown = await call(api, "GET")
    assert shown["stage"] == stage
    assert shown["options"] == (everything["options"] if stage == "asked" else None)
    assert shown["code"] == (everything["code"] if stage == "code" else None)
    assert shown["expires_at"] == told["expires_at"]
    status = (await call(api, "GET", QR))["status"]
    assert status == ("pairing" if stage == "given" else "passkey_required")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", PATH, None),
        ("POST", PATH, CREDENTIAL),
        ("POST", f"{PATH}/confirm", {"code": "ABCD-EFGH"}),
        ("DELETE", PATH, None),
    ],
)
class TestNothing:
    async def test_without_a_request_the_server_is_not_even_asked(self, api, phone, method, path, body):
        refused = await call(api, method, path, 409, json=body)
        assert refused["code"] == "no_passkey_request"
        assert refused["hint"]
        assert not [one for one in phone.calls if "passkey" in one]

    async def test_without_a_user_there_is_none(self, api, supervisor, method, path, body):
        assert (await call(api, method, path, 404, json=body))["code"] == "unknown_user"
        assert len(supervisor.registry) == 0

    async def test_a_server_that_is_not_heard_asks_nothing(
        self, api, asks, supervisor, systemd, method, path, body
    ):
        await asks()
        await systemd.servers[PORT].stop()
        await until(supervisor, "1", lambda now: not now.answering)
        assert (await call(api, method, path, 409, json=body))["code"] == "no_passkey_request"
        assert (await call(api, "GET", QR))["passkey"] is None


class TestGiving:
    async def test_what_was_signed_reaches_the_server_as_it_came(self, api, asks, phone):
        await asks()
        given = await call(api, "POST", expected=202, json=CREDENTIAL)
        assert given == {"stage": "given", "options": None, "expires_at": given["expires_at"], "code": None}
        assert phone.given == [CREDENTIAL]
        # Who looks next sees no request that is answered already.
        assert (await call(api, "GET", QR))["passkey"] == given

    async def test_who_has_given_it_sees_no_request_that_is_answered(self, api, asks, phone):
        def answer(_):
            asyncio.get_running_loop().call_later(0.1, phone.ask_for_passkey, "given")
            return web.json_response({"stage": "given"}, status=202)

        await asks()
        phone.on_passkey = answer
        await call(api, "POST", expected=202, json=CREDENTIAL)
        assert (await call(api, "GET"))["stage"] == "given"

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            *(
                (400, f"passkey_{what}")
                for what in (
                    *("malformed", "wrong_origin", "wrong_challenge", "wrong_type"),
                    *("wrong_site", "not_verified", "not_allowed"),
                )
            ),
            (409, "passkey_given"),
            (409, "no_passkey_request"),
        ],
    )
    async def test_the_servers_refusal_is_the_callers_and_ends_nothing(self, api, asks, phone, status, code):
        told = await asks()
        document = {"error": "it is for another site", "code": code, "hint": "use the connect page"}
        phone.on_passkey = lambda _: web.json_response(document, status=status)
        refused = await call(api, "POST", expected=status, json=CREDENTIAL)
        assert (refused["code"], refused["detail"]) == (code, document["error"])
        assert refused["hint"] == document["hint"]
        assert await call(api, "GET") == told
        phone.on_passkey = None
        await call(api, "POST", expected=202, json=CREDENTIAL)

    @pytest.mark.parametrize(
        ("status", "document"),
        [
            (500, {"error": "no"}),
            (400, {"code": "passkey_given"}),
            (403, {"code": "passkey_given"}),
            (404, {}),
        ],
    )
    async def test_what_else_a_server_answers_is_its_failure(self, api, asks, phone, status, document):
        await asks()
        phone.on_passkey = lambda _: web.json_response(document, status=status)
        assert (await call(api, "POST", expected=502, json=CREDENTIAL))["code"] == "server_failed"

    async def test_what_is_no_json_is_refused_by_the_server(self, api, asks):
        await asks()
        for data in (b"", b"{", b"\xff"):
            assert (await call(api, "POST", expected=400, data=data))["code"] == "passkey_malformed"

    async def test_what_is_too_large_gets_no_further(self, api, asks, phone):
        await asks()
        largest = json.dumps({"id": "x" * (8 * 1024 - 10)}).encode()
        assert len(largest) == 8 * 1024
        await call(api, "POST", expected=202, data=largest)
        refused = await call(api, "POST", expected=413, data=largest + b" ")
        assert (refused["code"], len(phone.given)) == ("too_large", 1)
        assert (await call(api, "POST", expected=413, data=b" " * 70_000))["code"] == "too_large"

    async def test_twice_is_once_too_often(self, api, asks, phone):
        await asks()
        await call(api, "POST", expected=202, json=CREDENTIAL)
        assert (await call(api, "POST", expected=409, json=CREDENTIAL))["code"] == "passkey_given"


class TestConfirming:
    async def test_the_code_that_is_shown_is_confirmed(self, api, asks, phone):
        told = await asks("code")
        assert (await call(api, "GET", QR))["passkey"] == told
        after = await call(api, "POST", f"{PATH}/confirm", 202, json={"code": told["code"]})
        assert after["stage"] == "given"
        assert phone.calls.count("confirm passkey") == 1

    async def test_another_code_is_not(self, api, asks):
        await asks("code")
        refused = await call(api, "POST", f"{PATH}/confirm", 409, json={"code": "ABCD-EFGG"})
        assert refused["code"] == "passkey_code_changed"
        assert (await call(api, "GET"))["stage"] == "code"

    async def test_none_is_shown(self, api, asks):
        await asks()
        refused = await call(api, "POST", f"{PATH}/confirm", 409, json={"code": "ABCD-EFGH"})
        assert refused["code"] == "no_passkey_code"

    @pytest.mark.parametrize(
        "body", [None, [], {}, {"code": 1}, {"code": ""}, {"code": "A" * 61}, {"code": "a b"}]
    )
    async def test_what_is_no_code_gets_no_further(self, api, asks, phone, body):
        await asks("code")
        refused = await call(api, "POST", f"{PATH}/confirm", 400, data=json.dumps(body))
        assert refused["code"] == "bad_request"
        assert "confirm passkey" not in phone.calls


async def test_a_step_that_is_given_up_leads_back_to_codes(api, asks, phone):
    await asks()
    await call(api, "DELETE", expected=204)
    document = await call(api, "GET", QR)
    assert (document["status"], document["passkey"]) == ("qr", None)
    assert document["qr"]
    assert (await call(api, "DELETE", expected=409))["code"] == "no_passkey_request"


async def test_after_a_step_that_was_given_up_the_next_pairing_code_counts(api, asks, phone, supervisor):
    body = {"phone": "+55 11 99999-8888"}
    await call(api, "POST", "/v1/users/1/pairing-code", json=body)
    await asks()
    await call(api, "DELETE", expected=204)
    assert (await call(api, "POST", "/v1/users/1/pairing-code", 429, json=body))[
        "code"
    ] == "too_many_requests"


class TestPace:
    async def test_so_many_answers_a_minute_and_then_a_wait(self, api, asks, phone):
        phone.on_passkey = lambda _: web.json_response({"code": "passkey_wrong_origin"}, status=400)
        await asks()
        most, window = quotas.PASSKEYS
        for number in range(most):
            body = CREDENTIAL if number % 2 else {"code": "ABCD-EFGH"}
            path, expected = (PATH, 400) if number % 2 else (f"{PATH}/confirm", 409)
            await call(api, "POST", path, expected, json=body)
        for path, body in ((PATH, CREDENTIAL), (f"{PATH}/confirm", {"code": "ABCD-EFGH"})):
            async with api.post(path, json=body) as answer:
                assert answer.status == 429
                assert 0 < int(answer.headers["Retry-After"]) <= window
                assert (await answer.json(content_type=None))["code"] == "too_many_requests"
        assert len(phone.given) == most // 2
        # Who only looks, or gives up, needs no wait.
        await call(api, "GET")
        await call(api, "DELETE", expected=204)

    async def test_users_do_not_count_for_each_other(self, api, asks, supervisor, systemd):
        await asks()
        await supervisor.ensure(User("2"), wait=Wait.QR)
        second = systemd.servers[supervisor.known(User("2")).assignment.port]
        second.ask_for_passkey()
        await until(supervisor, "2", lambda now: now.passkey is not None)
        for _ in range(quotas.PASSKEYS[0] + 1):
            async with api.post("/v1/users/2/passkey", data=b"{") as answer:
                status = answer.status
        assert status == 429
        await call(api, "POST", expected=202, json=CREDENTIAL)


async def test_a_long_poll_ends_with_each_change_of_it(api, asks, phone):
    seen = ""
    changes = [
        lambda: phone.ask_for_passkey("opening"),
        lambda: phone.ask_for_passkey("asked"),
        lambda: phone.ask_for_passkey("asked"),  # another challenge
        lambda: phone.ask_for_passkey("given"),
        lambda: phone.ask_for_passkey("code"),
        lambda: phone.ask_for_passkey("failed"),
        phone.show_code,
    ]
    async with api.get(QR) as answer:
        seen = answer.headers["ETag"]
    told = []
    for change in changes:
        poll = asyncio.create_task(call(api, "GET", f"{QR}?timeout=30", headers={"If-None-Match": seen}))
        await asyncio.sleep(0.05)
        assert not poll.done()
        change()
        document = await asyncio.wait_for(poll, 5)
        told.append(document["passkey"] and document["passkey"]["stage"])
        async with api.get(QR) as answer:
            seen = answer.headers["ETag"]
    assert told == ["opening", "asked", "asked", "given", "code", "failed", None]


async def test_the_next_step_is_the_connect_link_until_something_is_given(api, asks):
    for stage in ("opening", "asked"):
        await asks(stage)
        for document in (await call(api, "GET", QR), (await call(api, "GET", "/v1/users/1"))["session"]):
            assert "/v1/users/1/connect-link" in document["hint"]
    page = await call(api, "GET", "/api/qr?user_id=1")
    assert (page["status"], page["qr"]) == ("error", None)
    assert "connect link" in page["hint"]
    drawn = await call(api, "GET", f"{QR}?format=png", 409)
    assert "connect link" in drawn["hint"]


async def test_the_next_step_of_a_code_is_what_the_server_says(api, phone, supervisor):
    phone.ask_for_passkey("code")
    phone.say("passkey_required", passkey=phone.document["passkey"], hint="take your phone")
    await until(supervisor, "1", lambda now: now.session.hint == "take your phone")
    assert (await call(api, "GET", QR))["hint"] == "take your phone"


class TestWhoLearnsOfIt:
    async def test_its_own_stream_shows_it_and_no_other_answer(self, api, asks, phone, caplog, store):
        caplog.set_level(logging.DEBUG)
        async with api.get("/v1/events") as all_users, api.get("/v1/users/1/events") as own:
            told, codes = [], []
            everybody, user = Events(all_users), Events(own)
            told += await everybody.until("complete")
            codes += await user.until("qr")
            for stage in ("opening", "asked", "code", "failed", "asked"):
                await asks(stage)
                told.append(await everybody.next())
                codes += await user.until("qr")
            await call(api, "POST", expected=202, json=CREDENTIAL)
            told.append(await everybody.next())
            codes += await user.until("qr")
            stages = [
                event.data["passkey"]["stage"]
                for event in codes
                if event.name == "qr" and event.data["passkey"]
            ]
            assert stages == ["opening", "asked", "code", "failed", "asked", "given"]
            told += [event for event in codes if event.name != "qr"]
        await asks()
        for path in (
            *("/v1/users", "/v1/users/1", "/v1/users/1?", "/v1/health", "/v1/host", f"/v1/ports/{PORT}"),
            *("/api/qr?user_id=1", "/api/whatsapp-status?user_id=1", "/api/port?user_id=1", "/openapi.json"),
        ):
            told.append(await call(api, "GET", path))
        for method, path in (
            ("PUT", "/v1/users/1?wait=qr"),
            ("PATCH", "/v1/users/1"),
            ("POST", "/v1/users/1/start"),
        ):
            told.append(await call(api, method, path))
        async with api.get("/metrics") as answer:
            told.append(await answer.text())
        everything = [
            *(repr(one) if not isinstance(one, dict) else json.dumps(one) for one in told),
            *(json.dumps(vars(record), default=repr) + record.getMessage() for record in caplog.records),
            repr(vars(store)),
        ]
        assert len(everything) > 20
        assert "passkey_required" in "".join(everything)
        for secret in SECRETS:
            assert not [one for one in everything if secret in one], secret

    async def test_no_repr_shows_it(self, asks, supervisor):
        for stage in PasskeyStage:
            await asks(stage)
            shown = repr(supervisor.known(ONE))
            assert f"PasskeyStage.{stage.name}" in shown
            assert not [secret for secret in SECRETS if secret in shown]

    async def test_who_answers_is_written_down_and_not_what(self, api, asks, caplog):
        caplog.set_level("INFO", "waportd.audit")
        await asks()
        await call(api, "GET")
        await call(api, "POST", expected=202, json=CREDENTIAL)
        await call(api, "POST", f"{PATH}/confirm", 409, json={"code": "ABCD-EFGH"})
        await call(api, "DELETE", expected=204)
        lines = [one for one in caplog.records if one.name == "waportd.audit"]
        assert [(one.WAPORTD_ACTION, one.WAPORTD_STATUS) for one in lines] == [
            (f"POST {PATH}", "202"),
            (f"POST {PATH}/confirm", "409"),
            (f"DELETE {PATH}", "204"),
        ]
        assert not [secret for secret in SECRETS if secret in str([vars(one) for one in lines])]

    async def test_a_refused_answer_is_repeated_nowhere(self, api, asks, phone, caplog):
        caplog.set_level(logging.DEBUG)
        await asks()
        told = []
        for status, code in ((400, "passkey_wrong_origin"), (500, "what")):
            phone.on_passkey = lambda _, answer=(status, code): web.json_response(
                {"code": answer[1]}, status=answer[0]
            )
            async with api.post(PATH, json=CREDENTIAL) as answer:
                assert answer.status in {400, 502}
                told.append(await answer.text())
        async with api.post(PATH, data=json.dumps(CREDENTIAL).encode() + b" " * 8192) as answer:
            assert answer.status == 413
            told.append(await answer.text())
        async with api.post(f"{PATH}/confirm", json={"code": "WXYZ-2345 " * 9}) as answer:
            assert answer.status == 400
            told.append(await answer.text())
        everything = f"{told}{caplog.text}".replace("such as ABCD-EFGH", "")
        assert not [secret for secret in (*SECRETS, "WXYZ") if secret in everything]


class TestByLink:
    async def test_a_link_does_all_of_it_for_its_user_and_nobody_else(self, tcp, access, asks, phone):
        expires, signature = access.links.sign(ONE, 60)
        link = {"expires": str(expires), "signature": signature}
        told = await asks()
        assert (await call(tcp, "GET", QR, params=link))["passkey"] == told
        assert await call(tcp, "GET", params=link) == told
        await call(tcp, "POST", expected=202, params=link, json=CREDENTIAL)
        await asks("code")
        await call(tcp, "POST", f"{PATH}/confirm", 202, params=link, json={"code": "ABCD-EFGH"})
        await asks()
        await call(tcp, "DELETE", expected=204, params=link)
        await asks()
        expires, signature = access.links.sign(User("2"), 60)
        other = {"expires": str(expires), "signature": signature}
        assert (await call(tcp, "GET", expected=403, params=other))["code"] == "link_invalid"
        assert (await call(tcp, "GET", expected=401))["code"] == "unauthorized"

    async def test_a_page_of_another_site_does_none_of_it(self, api, asks, phone):
        await asks()
        foreign = {"Origin": "https://web.whatsapp.com", "Host": "wa.example.com"}
        for headers in (foreign, {"Sec-Fetch-Site": "cross-site"}):
            for method, path in (
                ("GET", PATH),
                ("POST", PATH),
                ("POST", f"{PATH}/confirm"),
                ("DELETE", PATH),
            ):
                async with api.request(method, path, headers=headers, data=b"{}") as answer:
                    assert answer.status == 403
                    assert "Access-Control-Allow-Origin" not in answer.headers
        assert not [one for one in phone.calls if "passkey" in one]


class TestExample:
    """docs/examples/client.js, whose reader sends a person to the connect link."""

    @pytest.fixture
    async def example(self, server):
        process = await asyncio.create_subprocess_exec(
            *("node", EXAMPLE, "1"),
            env={**os.environ, "WAPORTD_SOCKET": str(server.path)},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        yield process
        if process.returncode is None:
            process.kill()
            await process.wait()

    async def test_it_names_the_link_and_waits(self, asks, phone, example):
        await asks()
        async with asyncio.timeout(20):
            while b"/v1/users/1/connect-link" not in (line := await example.stderr.readline()):
                assert line, "it ended"
            phone.link()
            assert await example.wait() == 0

    async def test_it_ends_where_nothing_can_be_done(self, phone, example):
        phone.on_ask = None
        phone.say("passkey_required", message="there is no button", hint="update waportd")
        async with asyncio.timeout(20):
            said = await example.stderr.read()
            assert await example.wait() == 1
        assert said.endswith(b"update waportd\n")

"""``send`` and ``messages``: what goes out and comes in."""

import asyncio
import json

import pytest
from aiohttp import web

from waportd.cli.exit_status import Exit

pytestmark = pytest.mark.usefixtures("api")

CHAT = "5511988887777@c.us"


def event(number, body="oi", **members):
    return {
        "cursor": f"e-{number}",
        "event": "message",
        "event_id": f"id{number}",
        "id": f"id{number}",
        "type": "chat",
        "phone": "5511988887777",
        "body": body,
        "timestamp": 1767225600000 + number * 1000,
        "chat": {"id": CHAT, "type": "person"},
        "sender": {"id": CHAT, "name": "Ana"},
        **members,
    }


def journal(*events):
    """Answer as a server whose journal holds these, two at a time."""

    def answer(request):
        after = request.query.get("after", "e-0")
        later = [one for one in events if int(one["cursor"][2:]) > int(after[2:])]
        page = later[:2]
        following = page[-1]["cursor"] if page else after
        return web.json_response({"messages": page, "next": following, "more": len(later) > 2})

    return answer


class TestSend:
    async def test_a_text_is_sent(self, ctl, node):
        node.answer = lambda _: web.json_response({"id": "true_1", "outcome": "sent"})
        said = await ctl("send", "1", "+55 11 98888-7777", "hello", "--reply", "id7", "--key", "order-7")
        assert (said.status, said.out) == (Exit.OK, "sent: true_1\n")
        [(_, _, headers, body)] = node.calls
        assert json.loads(body) == {"to": "+55 11 98888-7777", "text": "hello", "quote": "id7"}
        assert headers["Idempotency-Key"] == "order-7"
        assert json.loads((await ctl("send", "1", CHAT, "hello", "--json")).out)["outcome"] == "sent"

    async def test_a_text_comes_from_standard_input(self, ctl, node, monkeypatch, tmp_path):
        (tmp_path / "text").write_text("two\nlines\n")
        node.answer = lambda _: web.json_response({"id": "true_1", "outcome": "sent"})
        with (tmp_path / "text").open() as text:
            monkeypatch.setattr("sys.stdin", text)
            assert (await ctl("send", "1", CHAT, "-")).status == Exit.OK
        assert json.loads(node.calls[0][3])["text"] == "two\nlines"

    async def test_a_file_is_sent(self, ctl, node, tmp_path):
        (tmp_path / "a.png").write_bytes(b"picture")
        node.answer = lambda _: web.json_response({"id": "true_1", "outcome": "sent"})
        said = await ctl("send", "1", CHAT, "look", "--file", tmp_path / "a.png", "--as", "document")
        assert said.status == Exit.OK
        body = node.calls[0][3]
        assert b'name="document"; filename="a.png"' in body
        assert b'{"to": "5511988887777@c.us", "document": {"caption": "look"}}' in body
        assert b"picture" in body

    @pytest.mark.parametrize(
        ("outcome", "status", "said"),
        [
            ({"id": "true_1", "outcome": "pending"}, Exit.NOT_IN_TIME, "pending: true_1"),
            ({"id": None, "outcome": "pending"}, Exit.NOT_IN_TIME, "pending: not known yet"),
            ({"id": "true_1", "outcome": "failed", "code": "refused"}, Exit.FAILED, "failed: refused"),
        ],
    )
    async def test_how_far_it_came_is_the_exit_status(self, ctl, node, outcome, status, said):
        node.answer = lambda _: web.json_response(outcome)
        told = await ctl("send", "1", CHAT, "hello")
        assert told.status == status
        assert said in told.out + told.err

    @pytest.mark.parametrize(
        ("status", "code", "expected"),
        [(422, "not_on_whatsapp", Exit.FAILED), (504, "perhaps_sent", Exit.NOT_IN_TIME)],
    )
    async def test_what_goes_wrong_is_reported(self, ctl, node, status, code, expected):
        node.answer = lambda _: web.json_response({"error": "so it is", "code": code}, status=status)
        told = await ctl("send", "1", CHAT, "hello")
        assert (told.status, told.out) == (expected, "")
        assert "waportctl: so it is" in told.err

    @pytest.mark.parametrize("arguments", [(), ("text", "--as", "image")])
    async def test_what_makes_no_sense_is_refused(self, ctl, node, arguments):
        assert (await ctl("send", "1", CHAT, *arguments)).status == Exit.USAGE
        assert node.calls == []

    async def test_a_file_that_is_not_there_is_reported(self, ctl, node, tmp_path):
        said = await ctl("send", "1", CHAT, "--file", tmp_path / "none")
        assert said.status == Exit.FAILED
        assert "none cannot be sent: No such file or directory" in said.err

    async def test_who_has_no_linked_phone_learns_how_to_link_one(self, ctl, node):
        node.answer = lambda _: web.json_response({"error": "no phone", "code": "not_linked"}, status=409)
        for command in (("send", "1", CHAT, "hello"), ("messages", "1"), ("messages", "redeliver", "1")):
            said = await ctl(*command)
            assert said.status == Exit.FAILED
            assert "no phone\n`waportctl qr USER` draws a code to scan" in said.err

    async def test_an_unknown_user_has_a_status_of_its_own(self, ctl, api):
        assert (await ctl("send", "9", CHAT, "hello")).status == Exit.UNKNOWN_USER


class TestMessages:
    async def test_the_last_ones_are_shown_and_nothing_in_them_moves_the_cursor(self, ctl, node):
        events = [event(number, f"message {number}") for number in range(1, 6)]
        node.answer = journal(*events, event(6, "red \x1b[31m\u202e\nline"))
        said = await ctl("messages", "1", "-n", "3")
        assert said.status == Exit.OK
        assert [line.split(" ", 3)[3] for line in said.out.splitlines()] == [
            "Ana +5511988887777: message 4",
            "Ana +5511988887777: message 5",
            "Ana +5511988887777: red ?[31m? line",
        ]
        assert all("events=message%2Cmessage.sent" in target for target in node.targets)

    async def test_kinds_are_reported_in_a_few_words(self, ctl, node):
        node.answer = journal(
            event(1, "look", type="image"),
            event(2, "hello", event="message.sent", fromMe=True),
            event(3, "hi", isGroup=True, chat={"id": "7@g.us"}),
            event(4, "", event="message.ack", ack="read", phone=None, sender=None),
            event(5, "hi", isGroup=True, chat={"id": "7@g.us", "name": "Family"}),
            event(6, "oi", event="message.sent", fromMe=True, chat={"id": CHAT, "name": "Bruno"}),
        )
        said = await ctl("messages", "1", "--events", "message,message.sent,message.ack")
        assert [line.split(" ", 3)[3] for line in said.out.splitlines()] == [
            "Ana +5511988887777: [image] look",
            f"to {CHAT}: hello",
            "Ana +5511988887777 in 7@g.us: hi",
            f"{CHAT}: [message.ack] read id4",
            "Ana +5511988887777 in Family: hi",
            "to Bruno: oi",
        ]

    async def test_all_after_a_cursor_is_shown_as_json(self, ctl, node):
        events = [event(number) for number in range(1, 6)]
        node.answer = journal(*events)
        said = await ctl("messages", "1", "--after", "e-1", "--json")
        assert [json.loads(line) for line in said.out.splitlines()] == events[1:]

    async def test_what_comes_is_followed_until_ctrl_c(self, terminal, node):
        async def tell(request):
            if request.headers["Accept"] != "text/event-stream":
                return journal(event(1, "before"))(request)
            assert request.headers["Last-Event-ID"] == "e-1"
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(
                f"id: e-2\nevent: message\ndata: {json.dumps(event(2, 'after'))}\n\n".encode()
            )
            while request.transport is not None:
                await asyncio.sleep(0.02)
            return response

        node.answer = tell
        screen = await terminal("messages", "1", "-f")
        await screen.until("before")
        await screen.until("after")
        screen.interrupt()
        assert await screen.end() == Exit.INTERRUPTED

    async def test_undelivered_ones_are_sent_again(self, ctl, node):
        node.answer = lambda _: web.json_response({"redelivered": 3})
        said = await ctl("messages", "redeliver", "1")
        assert (said.status, said.out) == (Exit.OK, "user 1: 3 messages are sent to the web app again\n")
        await ctl("messages", "redeliver", "1", "--cursor", "e-7")
        assert [json.loads(body) for *_, body in node.calls] == [{"all": True}, {"cursor": "e-7"}]
        assert json.loads((await ctl("--json", "messages", "redeliver", "1")).out)["redelivered"] == 3
        node.answer = lambda _: web.json_response({"redelivered": 1})
        assert "1 message is sent" in (await ctl("messages", "redeliver", "1")).out
        node.answer = lambda _: web.json_response({"redelivered": 0})
        assert (
            await ctl("messages", "redeliver", "1")
        ).out == "user 1: no undelivered message, or no webhook\n"
        assert "message with that cursor" in (await ctl("messages", "redeliver", "1", "--cursor", "e-7")).out

    @pytest.mark.parametrize(
        "arguments",
        [
            ("1", "--cursor", "e-7"),
            ("redeliver", "1", "-f"),
            ("redeliver", "1", "--after", "e-1"),
            ("redeliver", "1", "--state", "undelivered"),
            ("1", "--state", "pending", "-f"),
        ],
    )
    async def test_what_makes_no_sense_is_refused(self, ctl, node, arguments):
        assert (await ctl("messages", *arguments)).status == Exit.USAGE
        assert node.calls == []

    async def test_redeliver_is_no_user(self, ctl, node):
        said = await ctl("messages", "redeliver")
        assert said.status == Exit.USAGE
        assert "`waportctl messages redeliver USER`" in said.err
        assert node.calls == []

    async def test_all_that_the_web_app_did_not_take_is_shown_whatever_it_is(self, ctl, node):
        events = [event(number, event="message.ack" if number % 2 else "message") for number in range(1, 31)]
        node.answer = journal(*events)
        said = await ctl("messages", "1", "--state", "undelivered")
        assert said.status == Exit.OK
        assert len(said.out.splitlines()) == 30
        assert all("state=undelivered" in target and "events=" not in target for target in node.targets)
        shown = await ctl("messages", "1", "--state", "pending", "-n", "2", "--events", "message", "--json")
        assert [json.loads(line)["cursor"] for line in shown.out.splitlines()] == ["e-29", "e-30"]
        assert "events=message&state=pending" in node.targets[-1]

    @pytest.mark.parametrize("events", ["message,letter", ""])
    async def test_an_event_that_there_is_not_is_refused(self, ctl, node, events):
        with pytest.raises(SystemExit) as ended:
            await ctl("messages", "1", "--events", events)
        assert ended.value.code == Exit.USAGE
        assert node.calls == []

    async def test_a_journal_that_begins_later_is_reported(self, ctl, node):
        node.answer = lambda _: web.json_response({"error": "older", "code": "cursor_gone"}, status=410)
        said = await ctl("messages", "1", "--after", "e-1")
        assert said.status == Exit.FAILED
        assert "older" in said.err

"""What a server sends of its session, read without trust."""

import contextlib
import json
import random

import pytest
from user_server import MISSING, SESSION

from waportd.model import (
    Missing,
    PairingCode,
    Passkey,
    PasskeyStage,
    Session,
    SessionState,
    Storage,
    Upstream,
)
from waportd.session_reader import BadEvent, parse_events, parse_session

PASSKEY = {
    "stage": "opening",
    "options": {
        "challenge": "Y2hhbGxlbmdl",
        "rpId": "whatsapp.com",
        "timeout": 600000,
        "allowCredentials": [{"type": "public-key", "id": "aWQ", "transports": ["hybrid"]}],
        "extensions": {"prf": {"evalByCredential": {"aWQ": {"first": "é"}}}},
        "hints": [],
    },
    "expires_at": "2026-01-01T00:10:00Z",
    "code": "ABCD-EFGH",
}
NEW_YEAR = 1767225600.0
UPSTREAM = Upstream(
    build="2.3000.1049833609",
    library="1.34.7",
    engine="bundled",
    checked=("boot",),
    missing=(Missing("media_out", "WAWebPrepRawMedia", "prepRawMedia", "undefined"),),
    shims=(("message_keys", "applied"), ("new_codes", "not needed")),
)


async def chunked(*chunks: bytes):
    for chunk in chunks:
        yield chunk


async def events(*chunks: bytes) -> list[str]:
    return [data async for data in parse_events(chunked(*chunks))]


class TestStream:
    async def test_the_data_of_each_event_is_given(self):
        assert await events(b"event: session\nid: 1\ndata: one\n\ndata: two\n\n") == ["one", "two"]

    async def test_comments_and_other_fields_are_passed_over(self):
        assert await events(b": heartbeat\n\nretry: 10\n\nid: 7\ndata: x\nfoo: bar\n\n") == ["x"]

    async def test_lines_of_data_are_joined(self):
        assert await events(b"data: one\ndata:two\ndata:  three\ndata:\n\n") == ["one\ntwo\n three\n"]

    async def test_an_event_without_its_end_is_dropped(self):
        assert await events(b"data: one\n\ndata: two\n") == ["one"]

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    async def test_it_does_not_matter_where_the_network_cuts(self, end):
        stream = end.join(["data: {é}", "data: b", "", ": heartbeat", "", "data: c", "", ""]).encode()
        for first in range(len(stream) + 1):
            for second in range(first, len(stream) + 1):
                cut = stream[:first], stream[first:second], stream[second:]
                assert await events(*cut) == ["{é}\nb", "c"]

    async def test_what_is_no_utf_8_is_replaced(self):
        assert await events(b"data: a\xffb\n\n") == ["a\ufffdb"]

    @pytest.mark.parametrize(
        "chunk",
        [b"data: " + b"x" * 1000 + b"\n", b"data:\n" * 1000, b"x" * 1000],
        ids=["lines", "empty lines", "one line"],
    )
    async def test_an_event_that_does_not_end_is_refused(self, chunk):
        sent = 0

        async def long():
            nonlocal sent
            for _ in range(10_000_000 // len(chunk)):
                sent += len(chunk)
                yield chunk

        async with contextlib.aclosing(long()) as chunks:
            with pytest.raises(BadEvent, match="256 KiB"):
                assert [data async for data in parse_events(chunks)] == []
        assert sent < 10 * 256 * 1024

    async def test_many_small_events_are_no_large_one(self):
        assert len(await events(*[b"data: " + b"x" * 1000 + b"\n\n"] * 1000)) == 1000


class TestDocument:
    def test_a_whole_picture_is_read(self):
        assert parse_session(json.dumps(SESSION)) == Session(
            state=SessionState.QR,
            since=NEW_YEAR,
            message="scan the code",
            qr="ref,noise,identity,secret,1",
            expires_at=NEW_YEAR + 60.5,
            attempt=3,
            attempts=5,
            pairing=PairingCode("ABCD-EFGH", NEW_YEAR + 180),
            browser_running=True,
            upstream=UPSTREAM,
        )

    def test_a_linked_session_is_read(self):
        linked = {
            "state": "ready",
            "linked": True,
            "phone_number": "5511",
            "pushname": "Ana",
            "platform": "android",
        }
        session = parse_session(json.dumps(SESSION | linked))
        assert (session.linked, session.phone_number, session.pushname) == (True, "5511", "Ana")

    @pytest.mark.parametrize(
        ("journal", "at"),
        [
            ({"entries": 1, "last_message_at": "2026-01-01T00:00:01.000Z"}, NEW_YEAR + 1),
            ({"entries": 0, "last_message_at": None}, None),
            ({"entries": 0}, None),  # of an older server
            (None, None),
            ("nothing", None),
        ],
    )
    def test_when_the_last_message_came_is_read(self, journal, at):
        assert parse_session(json.dumps(SESSION | {"journal": journal})).last_message_at == at

    def test_another_message_wakes_no_reader(self):
        sessions = [
            parse_session(json.dumps(SESSION | {"journal": {"last_message_at": f"2026-01-01T00:00:0{n}Z"}}))
            for n in (1, 2)
        ]
        assert sessions[0] == sessions[1]

    @pytest.mark.parametrize("state", SessionState)
    def test_a_state_is_all_that_it_takes(self, state):
        assert parse_session(json.dumps({"state": state})) == Session(state=state)

    @pytest.mark.parametrize(
        "text",
        ["", "{", "null", "[]", '"qr"', "1", "[" * 100_000, '{"state": 1' + "0" * 5000 + "}"],
        ids=lambda text: text[:10],
    )
    def test_what_is_no_json_object_is_refused(self, text):
        with pytest.raises(BadEvent):
            parse_session(text)

    @pytest.mark.parametrize("state", [None, "", "QR", "running", 1, [], {}, True])
    def test_an_unknown_state_is_refused(self, state):
        with pytest.raises(BadEvent, match="state"):
            parse_session(json.dumps({"state": state}))

    @pytest.mark.parametrize(
        ("member", "values"),
        [
            *(
                (name, [1, True, [], {}])
                for name in ("message", "cause", "hint", "qr", "phone_number", "pushname")
            ),
            *(
                (name, ["1", True, [], float("nan"), float("inf"), 10**30])
                for name in ("attempt", "attempts", "progress")
            ),
            *(
                (
                    name,
                    [
                        1,
                        "",
                        "now",
                        "2026-01-01T00:00:00",
                        "0001-01-01T00:00:00+10:00",
                        "9999-12-31T23:59:59-10:00",
                    ],
                )
                for name in ("since", "expires_at")
            ),
        ],
    )
    def test_a_member_of_the_wrong_kind_is_named(self, member, values):
        for value in values:
            with pytest.raises(BadEvent, match=member):
                parse_session(json.dumps(SESSION | {member: value}))

    def test_a_code_without_an_end_is_no_pairing_code(self):
        assert parse_session(json.dumps(SESSION | {"pairing": {"code": "ABCD-EFGH"}})).pairing is None

    @pytest.mark.parametrize(
        ("stage", "members", "read"),
        [
            ("opening", {}, {}),
            (
                "asked",
                {},
                {"options": json.dumps(PASSKEY["options"], ensure_ascii=False, separators=(",", ":"))},
            ),
            ("given", {}, {}),
            ("code", {}, {"code": "ABCD-EFGH"}),
            ("failed", {"expires_at": None}, {"expires_at": None}),
        ],
    )
    def test_of_a_passkey_what_belongs_to_its_stage_is_read(self, stage, members, read):
        said = {**PASSKEY, "stage": stage, **members}
        document = {"state": "passkey_required", "passkey": said}
        expected = {"options": None, "code": None, "expires_at": NEW_YEAR + 600} | read
        assert parse_session(json.dumps(document)).passkey == Passkey(PasskeyStage(stage), **expected)

    def test_what_is_to_be_signed_is_kept_whole(self):
        document = {"state": "passkey_required", "passkey": {**PASSKEY, "stage": "asked"}}
        options = parse_session(json.dumps(document)).passkey.options
        assert json.loads(options) == PASSKEY["options"]

    @pytest.mark.parametrize("state", SessionState)
    def test_a_passkey_belongs_to_two_states(self, state):
        session = parse_session(json.dumps({"state": state, "passkey": {"stage": "given"}}))
        assert (session.passkey is not None) is (state in {"passkey_required", "pairing"})

    @pytest.mark.parametrize(
        "wrong",
        [
            {"stage": None},
            {"stage": "wished"},
            {"stage": ["asked"]},
            {"expires_at": "soon"},
            {"expires_at": 5},
            {"options": None},
            {"options": []},
            {"options": "x"},
            {"options": {}},
            {"options": {"challenge": 1}},
            {"options": {"challenge": "\ud800"}},
            {"options": {"challenge": "x", "\ud800": 1}},
            {"options": {"challenge": "x", "timeout": float("nan")}},
            {"options": {"challenge": "x", "timeout": float("inf")}},
            {"options": {"challenge": "x" * 32_768}},
            {"options": {"challenge": "é" * 16_384}},
            {"options": {"challenge": "x", "extensions": json.loads("[" * 16 + "]" * 16)}},
            {"options": {"challenge": "x", "extensions": json.loads('{"a":' * 900 + "1" + "}" * 900)}},
            {"stage": "code", "code": None},
            {"stage": "code", "code": ""},
            {"stage": "code", "code": 12345678},
            {"stage": "code", "code": "\u202e"},
        ],
        ids=lambda wrong: str(wrong)[:60],
    )
    def test_a_passkey_that_makes_no_sense_is_none_and_the_session_is_read(self, wrong):
        document = {**SESSION, "state": "passkey_required", "passkey": {**PASSKEY, "stage": "asked", **wrong}}
        session = parse_session(json.dumps(document))
        assert (session.state, session.passkey) == (SessionState.PASSKEY_REQUIRED, None)
        for said in (wrong, [wrong], "asked", 5, True):
            assert parse_session(json.dumps({**document, "passkey": said})).passkey is None

    @pytest.mark.parametrize("linked", [1, "true", None, "false"])
    def test_only_true_is_linked(self, linked):
        assert parse_session(json.dumps(SESSION | {"linked": linked})).linked is False

    def test_what_a_server_found_in_the_page_is_read(self):
        upstream = parse_session(json.dumps(SESSION)).upstream
        assert upstream == UPSTREAM
        assert (upstream.ok, upstream.features) == (False, ("media_out",))

    def test_whether_something_is_missing_is_not_taken_on_trust(self):
        said = {**SESSION["upstream"], "ok": True}
        assert not parse_session(json.dumps(SESSION | {"upstream": said})).upstream.ok

    @pytest.mark.parametrize("upstream", [None, [], "1.34.7"])
    def test_a_server_need_not_report_on_the_page(self, upstream):
        assert parse_session(json.dumps(SESSION | {"upstream": upstream})).upstream is None

    @pytest.mark.parametrize(
        "wrong",
        [
            {"build": 2.3},
            {"library": []},
            {"checked": "boot"},
            {"checked": [1]},
            {"missing": {"feature": "link"}},
            {"missing": ["link"]},
            {"missing": [{**MISSING, "member": 7}]},
            {"shims": ["message_keys"]},
            {"shims": {"message_keys": True}},
        ],
        ids=str,
    )
    def test_what_was_found_in_the_page_is_refused_where_it_makes_no_sense(self, wrong):
        with pytest.raises(BadEvent):
            parse_session(json.dumps(SESSION | {"upstream": {**SESSION["upstream"], **wrong}}))

    def test_what_a_session_keeps_on_disk_is_read(self):
        said = {
            "login": 10_000_000_000,
            "cache": 0,
            "journal": 5,
            "snapshots": 6,
            "snapshot_at": "2026-01-01T00:00:01.000Z",
            "restored_at": None,
            "measured_at": "2026-01-01T00:00:00.000Z",
            "more": 1,
        }
        storage = parse_session(json.dumps(SESSION | {"storage": said})).storage
        assert storage == Storage(10_000_000_000, 0, 5, 1767225600.0, 6, 1767225601.0)
        assert storage.sizes == {"login": 10_000_000_000, "cache": 0, "journal": 5, "snapshots": 6}
        # Of a server from before an upgrade, which has the journal in the login, and no snapshots.
        for name in ("journal", "snapshots", "snapshot_at", "restored_at"):
            del said[name]
        storage = parse_session(json.dumps(SESSION | {"storage": said})).storage
        assert storage == Storage(10_000_000_000, 0, 0, 1767225600.0)
        for nothing in ({"storage": None}, {}):
            assert parse_session(json.dumps(SESSION | nothing)).storage is None

    @pytest.mark.parametrize(
        "wrong",
        [
            {"login": -1},
            {"login": 2**53},
            {"login": 1.5},
            {"login": True},
            {"login": "1"},
            {"cache": None},
            {"journal": -1},
            {"cache": float("inf")},
            {"measured_at": None},
            {"measured_at": 5},
            {"measured_at": "9999-12-31T23:59:59Z"},
        ],
        ids=str,
    )
    def test_sizes_on_disk_are_refused_where_they_make_no_sense(self, wrong):
        said = {"login": 1, "cache": 1, "journal": 1, "measured_at": "2026-01-01T00:00:00Z"}
        for storage in (said | wrong, [said], 5, "5"):
            with pytest.raises(BadEvent):
                parse_session(json.dumps(SESSION | {"storage": storage}))

    def test_of_a_flood_of_findings_little_is_kept(self):
        flood = {
            "build": "2" * 50_000,
            "checked": ["boot" * 1000] * 1000,
            "missing": [{name: text * 500 for name, text in MISSING.items()}] * 100,
            "shims": {f"shim{number}": "applied" * 100 for number in range(1000)},
        }
        upstream = parse_session(json.dumps(SESSION | {"upstream": flood})).upstream
        assert len(repr(upstream)) < 100_000
        assert max(map(len, (upstream.checked, upstream.missing, upstream.shims))) == 200

    def test_a_long_text_is_cut(self):
        assert parse_session(json.dumps(SESSION | {"message": "é" * 5000})).message == "é" * 1000

    def test_half_a_character_is_replaced(self):
        session = parse_session(r'{"state": "ready", "pushname": "Ana \ud83d"}')
        assert session.pushname == "Ana "

    def test_no_error_repeats_what_was_sent(self):
        with pytest.raises(BadEvent) as caught:
            parse_session(json.dumps(SESSION | {"qr": ["SECRET"]}))
        assert "SECRET" not in str(caught.value)

    def test_whatever_is_sent_is_a_session_or_refused(self):
        dice = random.Random(1)
        values = [
            None,
            0,
            -1,
            1.5,
            1e308,
            True,
            "",
            "x",
            "ready",
            "2026-01-01T00:00:00Z",
            [],
            {},
            {"code": 1},
            "\ud800",
        ]
        for _ in range(3000):
            document = {name: dice.choice([value, *values]) for name, value in SESSION.items()}
            with contextlib.suppress(BadEvent):
                assert isinstance(parse_session(json.dumps(document)), Session)

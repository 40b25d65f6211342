"""Whatever stands in a file or comes over a wire is understood or refused, and never more than that."""

import asyncio
import base64
import contextlib
import dataclasses
import datetime as dt
import json
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from waportd import engines, proxies, units
from waportd.api.documents import passkey, upstream, written
from waportd.cli.audit import since
from waportd.cli.exit_status import Problem
from waportd.cli.terminal import in_json
from waportd.config import PROXY, Config, parse, schema
from waportd.errors import ConfigError
from waportd.model import Assignment, PasskeyStage, Port, Session, User, is_user
from waportd.session_reader import BadEvent, parse_events, parse_session

ROOT = Path(__file__).resolve().parents[2]


def faults(text):
    """Return what is said of a configuration: an empty text if it is taken."""
    try:
        assert isinstance(parse(text, "config.yaml"), Config)
    except ConfigError as error:
        return str(error)
    return ""


def understood(said):
    """Return the session that a server's words become, or None if they are refused."""
    try:
        return parse_session(json.dumps(said))
    except BadEvent:
        return None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KEYS = sorted(schema())


@given(st.text(max_size=400))
@example("api: &a [*a]")
@example("ports: {base: 5001, base: 5002}")
def test_any_text_is_a_configuration_or_a_list_of_faults(text):
    assert not (said := faults(text)) or said.startswith("config.yaml")


@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=12), ANYTHING, max_size=5))
def test_any_value_of_any_key_is_taken_or_named(values):
    document = {}
    for path, value in values.items():
        section, _, key = path.partition(".")
        below = document.setdefault(section, {})
        if isinstance(below, dict):
            below[key] = value
    text = yaml.safe_dump(document, allow_unicode=True)
    assert all(line.startswith("config.yaml") for line in faults(text).splitlines())


@given(
    st.text(max_size=80),
    st.sampled_from(["webhook_url", "webhook_secret", "webhook_headers", "proxy"]),
    st.sampled_from([str, lambda value: [value], lambda value: {value: value}, lambda value: {"X": [value]}]),
)
def test_no_fault_repeats_a_webhook(text, key, put):
    """It may hold a token; of every other value the fault shows the start."""
    marker = f"T0KEN{text}"
    assert "T0KEN" not in faults(yaml.safe_dump({"instances": {key: put(marker)}}))


HEADER = st.from_regex(r"[ -~]{1,8}", fullmatch=True) | st.text(max_size=8)
VALUES = {
    "webhook_url": st.sampled_from(
        ["http://x", "https://[::1]:1/a?b#c", "http://x:99999", "http://a b", "", "http://é/"]
    )
    | st.text(max_size=20).map(lambda text: f"http://x/{text}"),
    "webhook_headers": st.dictionaries(HEADER, HEADER, max_size=3),
    "webhook_secret": st.binary(max_size=80).map(lambda key: f"whsec_{base64.b64encode(key).decode()}"),
    "webhook_events": st.lists(st.sampled_from(["message", "call", "session", "x"]), max_size=3),
    "webhook_timeout": st.integers(0, 700),
    "ignore": st.lists(st.sampled_from(["groups", "status", "x"]), max_size=3),
    "default_country": st.sampled_from(["55", "1", "0", "", "5555"]),
    "send_rate": st.integers(-1, 700),
    "browser_args": st.lists(st.text(max_size=10).map(lambda text: f"--{text}"), max_size=2),
    "client_id_prefix": st.text(max_size=12) | st.just("bot-1"),
    "proxy": st.sampled_from(
        ["auto", "none", "http://a:b@h:1", "http://a%2Fb:c@h", "socks5://h:1", "http://[::1]:3"]
    )
    | st.text(max_size=10).map(lambda text: f"http://{text}@h:1"),
}
READ = """
const { readConfig } = require('./server/config');
for (const env of JSON.parse(require('fs').readFileSync(0, 'utf8'))) readConfig(env, [], '/x');
"""


def one_value(name):
    return VALUES[name].map(lambda value: {name: value})


@settings(max_examples=max(3, settings.default.max_examples // 30))
@given(st.lists(st.sampled_from(sorted(VALUES)).flatmap(one_value), min_size=20, max_size=60))
def test_whatever_the_configuration_takes_a_server_takes(documents):
    """It is read twice, in two languages: what only one of them takes would keep a server from starting."""
    told = []
    for document in documents:
        with contextlib.suppress(ConfigError):
            config = parse(yaml.safe_dump({"instances": document}, allow_unicode=True), "config.yaml")
            told.append(units.variables(Assignment(User("1"), Port(5001)), config))
    read = ["node", "-e", READ]
    assert told
    done = subprocess.run(read, input=json.dumps(told), cwd=ROOT, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


printable = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), max_size=60)


@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", fullmatch=True),
    st.text(max_size=60),
    st.lists(st.text(max_size=30)),
    st.dictionaries(st.text(max_size=12), st.text(max_size=20), max_size=3),
    st.lists(st.text(max_size=20), max_size=2),
)
@example("1", 'http://x/"\nLD_PRELOAD=/tmp/evil.so\n', [], {}, [])
@example("1", "http://x/", ['--a"\nLD_PRELOAD=x', "--b\\", "--c$X`id`"], {}, [])
@example("1", "http://x/", [], {'X"\nLD_PRELOAD': "a\nb"}, ['whsec_"\nLD_PRELOAD=x'])
def test_no_value_adds_a_variable_or_a_line(user, webhook, arguments, headers, secrets):
    config = Config()
    instances = dataclasses.replace(
        config.instances,
        webhook_url=webhook,
        webhook_headers=tuple(headers.items()),
        webhook_secret=tuple(secrets),
        browser_args=tuple(arguments),
    )
    try:
        text = units.environment(
            Assignment(User(user), Port(5001)), dataclasses.replace(config, instances=instances)
        )
    except ValueError:
        return
    expected = units.environment(Assignment(User("1"), Port(5001)), config)
    names = [line.partition("=")[0] for line in text.splitlines()]
    assert names == [line.partition("=")[0] for line in expected.splitlines()]
    assert text.count("\n") == expected.count("\n")
    for line in text.splitlines()[1:]:
        value = line.partition("=")[2]
        assert value[0] == value[-1] == '"'
        assert all(value[i - 1] == "\\" or value[i] != '"' for i in range(1, len(value) - 1))


@given(st.text(max_size=80))
@example("../../etc/passwd")
@example("1\n")
@example("1/2")
@example("é")
@example("1\x00")
@example("-1")
@example("%69")
def test_what_may_name_a_user_is_harmless_in_paths_units_and_lines(text):
    if is_user(text):
        assert text.isascii()
        assert not set(text) & set("/\\\"'$`%\n\r\t \0;|&<>*?[]{}()!#~=,:")
        assert text not in {".", ".."}
        assert text[0] not in ".-"
        assert len(text) <= 64


chunks = st.lists(
    st.binary(max_size=60)
    | st.sampled_from(
        [b"data:", b"data: {}\n\n", b"\n", b"\r\n", b"event: session\n", b"\n\n", b": beat\n\n"]
    ),
    max_size=20,
)


def events(parts):
    async def read():
        async def stream():
            for part in parts:
                yield part

        return [text async for text in parse_events(stream())]

    return asyncio.run(read())


@given(chunks, st.data())
def test_events_do_not_depend_on_where_the_network_cuts(parts, data):
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert events(pieces) == events([whole])


MISSING = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("feature", "module", "member", "found"), st.text(max_size=90) | ANYTHING)
)
UPSTREAM = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("build", "library", "engine", "pinned"), st.text(max_size=90) | ANYTHING),
        "checked": st.lists(st.text(max_size=90), max_size=3) | ANYTHING,
        "missing": st.lists(MISSING, max_size=3) | ANYTHING,
        "shims": st.dictionaries(st.text(max_size=90), st.text(max_size=90), max_size=3) | ANYTHING,
    },
)


OPTIONS = st.fixed_dictionaries(
    {"challenge": st.text(max_size=90)},
    optional=dict.fromkeys(("timeout", "rpId", "allowCredentials", "extensions"), ANYTHING),
)
PASSKEY = st.fixed_dictionaries(
    {"stage": st.sampled_from([*PasskeyStage, "what"]) | ANYTHING},
    optional={
        "options": OPTIONS | ANYTHING,
        "expires_at": st.sampled_from(["2026-01-01T00:00:00Z", "soon", None]) | ANYTHING,
        "code": st.text(max_size=90) | ANYTHING,
    },
)


@given(
    ANYTHING
    | st.fixed_dictionaries(
        {"state": st.sampled_from(["qr", "passkey_required", "pairing"])},
        optional={
            **dict.fromkeys(
                ("since", "message", "qr", "expires_at", "attempt", "pairing", "linked", "progress"), ANYTHING
            ),
            "upstream": UPSTREAM | ANYTHING,
            "passkey": PASSKEY | ANYTHING,
        },
    )
)
def test_whatever_a_server_says_is_a_session_or_refused(said):
    session = understood(said)
    if session is not None:
        assert isinstance(session, Session)
        json.dumps(dataclasses.asdict(session), ensure_ascii=False).encode()
        written(upstream(session.upstream))


@given(PASSKEY | ANYTHING, st.sampled_from(["passkey_required", "pairing"]))
@example({"stage": "asked", "options": {"challenge": "x", "extensions": {"a": [{}] * 5000}}}, "pairing")
@example({"stage": "code", "code": "\u202eABCD\x1b[2J"}, "pairing")
def test_whatever_a_server_wants_of_a_passkey_is_a_small_document_or_nothing(said, state):
    session = understood({"state": state, "passkey": said})
    assert session.state == state, "the rest is understood all the same"
    if session.passkey is not None:
        shown = passkey(session.passkey)
        assert shown.stage == said["stage"]
        assert shown.options == (said["options"] if shown.stage == "asked" else None)
        assert bool(shown.code) == (shown.stage == "code")
        assert not shown.code or shown.code.isprintable()
        assert len(written(shown)) < 40 * 1024
        assert "challenge" not in repr(session.passkey) + repr(shown)


def test_a_passkey_of_any_depth_costs_nothing():
    for depth in (10, 17, 900):
        deep = json.loads("[" * depth + "]" * depth)
        session = understood(
            {"state": "pairing", "passkey": {"stage": "asked", "options": {"challenge": "", "x": deep}}}
        )
        assert (session.passkey is not None) is (depth < 15)


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_deep_json_is_refused(depth):
    with pytest.raises(BadEvent):
        parse_session("[" * depth + "]" * depth)


@given(ANYTHING, st.sampled_from([None, 2]))
@example({"name": "\x1b]0;\x9b\u202e\ud800\U000e0041\x7f"}, None)
def test_no_document_controls_the_terminal_it_is_shown_on(document, indent):
    told = in_json(document, indent)
    assert all(line.isprintable() for line in told.split("\n"))
    assert repr(json.loads(told)) == repr(json.loads(json.dumps(document)))


@given(
    st.text(max_size=20), st.text(max_size=20), st.sampled_from(["http", "https", "socks5", "socks4", "HTTP"])
)
@example("a", ":T0KEN:", "http")
@example("", "%3A", "https")
@example("a:b", "@", "http")
@example("a/b", "/", "http")
def test_no_proxy_is_shown_with_its_password(name, text, scheme):
    try:
        proxy = PROXY.parse(f"{scheme}://{name}:T0KEN{text}@proxy:3128")
    except ValueError:
        return
    assert proxies.has_password(proxy)
    assert "T0KEN" not in proxies.shown(proxy)
    assert proxies.shown(proxy).endswith("***@proxy:3128")


@given(st.text(max_size=40) | st.from_regex(engines.ENGINE_PATTERN))
@example("..")
@example("1.34.6/..")
@example("1.34.6\n")
@example("")
def test_no_name_of_an_engine_leads_out_of_their_folder(text):
    if engines.is_version(text):
        assert not set(text) & set("/\\\"'$`% \n\0")
        folder = engines.folder_of(text, Config())
        assert folder.parent == Config().engines
        assert folder.name == text


@given(st.text(max_size=20) | st.from_regex(r"[0-9]{1,6}[mhd]", fullmatch=True) | st.datetimes().map(str))
@example("0001-01-01")
@example("9999-12-31T23:59:59-12:00")
@example("99999d")
def test_any_text_is_a_time_to_look_back_to_or_is_refused(text):
    with contextlib.suppress(Problem):
        begin = since(text)
        assert begin.tzinfo is dt.UTC
        assert begin.timestamp() >= 0, "the journal counts from 1970 on"

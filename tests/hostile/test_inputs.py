"""Whatever stands in a file or comes over a wire is understood or refused, and never more than that."""

import asyncio
import dataclasses
import json

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from waportd import units
from waportd.api.representation import upstream
from waportd.config import Config, parse, schema
from waportd.errors import ConfigError
from waportd.model import Assignment, Port, Session, User, is_user
from waportd.sessions import BadEvent, parse_events, parse_session


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


@given(st.text(min_size=1, max_size=80))
def test_no_fault_repeats_a_webhook(text):
    """It may hold a token; of every other value the fault shows the start."""
    marker = f"T0KEN{text}"
    assert "T0KEN" not in faults(yaml.safe_dump({"instances": {"webhook_url": marker}}))


printable = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), max_size=60)


@given(
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}", fullmatch=True),
    st.text(max_size=60),
    st.lists(st.text(max_size=30)),
)
@example("1", 'http://x/"\nLD_PRELOAD=/tmp/evil.so\n', [])
@example("1", "http://x/", ['--a"\nLD_PRELOAD=x', "--b\\", "--c$X`id`"])
def test_no_value_adds_a_variable_or_a_line(user, webhook, arguments):
    config = Config()
    instances = dataclasses.replace(config.instances, webhook_url=webhook, browser_args=tuple(arguments))
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


@given(
    ANYTHING
    | st.fixed_dictionaries(
        {"state": st.just("qr")},
        optional={
            **dict.fromkeys(
                ("since", "message", "qr", "expires_at", "attempt", "pairing", "linked", "progress"), ANYTHING
            ),
            "upstream": UPSTREAM | ANYTHING,
        },
    )
)
def test_whatever_a_server_says_is_a_session_or_refused(said):
    session = understood(said)
    if session is not None:
        assert isinstance(session, Session)
        json.dumps(dataclasses.asdict(session), ensure_ascii=False).encode()
        json.dumps(upstream(session.upstream), ensure_ascii=False).encode()


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
def test_deep_json_is_refused(depth):
    with pytest.raises(BadEvent):
        parse_session("[" * depth + "]" * depth)

"""The configuration: defaults, every kind of fault, and the example file."""

import dataclasses
import re
from pathlib import Path

import pytest

from waportd import config
from waportd.config import Address, Bus, Change, Config, InvalidConfig, LogLevel, PortRange, Takeover
from waportd.errors import ConfigError
from waportd.model import Event, Ignored

SECRET = "whsec_" + "aGlkZGVu" * 4
EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


def faults(text: str) -> list[str]:
    with pytest.raises(InvalidConfig) as caught:
        config.parse(text, "config.yaml")
    assert str(caught.value) == "\n".join(map(str, caught.value.faults))
    return [str(fault) for fault in caught.value.faults]


def setting(key: str, value: str) -> str:
    section, name = key.split(".")
    return f"{section}:\n  {name}: {value}\n"


def value_of(key: str, text: str) -> object:
    section, name = key.split(".")
    return getattr(getattr(config.parse(setting(key, text), "config.yaml"), section), name)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "---\n", "ports:\n", "ports:\n  # base: 1\nlog: {}\n", "~"]
)
def test_what_is_not_said_has_its_default(text):
    assert config.parse(text, "config.yaml") == Config()


def test_the_configuration_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().log.level = LogLevel.DEBUG


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("api.socket", "/run/waportd.sock", Path("/run/waportd.sock")),
        ("api.allow_users", "[www-data, 1001, 0]", ("www-data", 1001, 0)),
        ("api.allow_users", "[]", ()),
        (
            "api.listen",
            "[127.0.0.1:8080, '[::1]:80', localhost:1, 0.0.0.0:65535]",
            (
                Address("127.0.0.1", 8080),
                Address("::1", 80),
                Address("127.0.0.1", 1),
                Address("0.0.0.0", 65535),
            ),
        ),
        ("store.directory", '"/srv/a b/ü"', Path("/srv/a b/ü")),
        ("ports.base", "5002", 5002),
        ("ports.base", '"5002"', 5002),
        ("ports.range", "5001-5002", PortRange(5001, 5002)),
        ("ports.overflow", "65535-65535", PortRange(65535, 65535)),
        ("ports.reserved", "[5002, 6000-6002]", frozenset({5002, 6000, 6001, 6002})),
        ("ports.reserved", "\n  - 1\n  - 65535", frozenset({1, 65535})),
        ("ports.takeover", "own", Takeover.OWN),
        ("api.public_url", "''", ""),
        ("api.public_url", "https://app.example.com/wa/", "https://app.example.com/wa"),
        ("instances.snapshot_interval", "0", 0),
        ("instances.snapshots", "5", 5),
        ("instances.webhook_url", "''", ""),
        (
            "instances.webhook_url",
            "https://[::1]:8443/in?token=a%20b#c",
            "https://[::1]:8443/in?token=a%20b#c",
        ),
        ("instances.proxy", "none", "none"),
        ("instances.proxy", "http://proxy:3128/", "http://proxy:3128"),
        ("instances.proxy", "https://ana:p%40ss@[::1]:8443", "https://ana:p%40ss@[::1]:8443"),
        ("instances.webhook_secret", "''", ()),
        ("instances.webhook_secret", "[]", ()),
        ("instances.webhook_secret", SECRET, (SECRET,)),
        ("instances.webhook_secret", f"[{SECRET}, {SECRET}AA==]", (SECRET, f"{SECRET}AA==")),
        ("instances.webhook_headers", "{}", ()),
        (
            "instances.webhook_headers",
            "{Authorization: Bearer a+b, 'X-9': '[]: ok'}",
            (("Authorization", "Bearer a+b"), ("X-9", "[]: ok")),
        ),
        ("connect.own_passkey_extension", "false", False),
        ("connect.passkey_extensions", "{}", ()),
        (
            "connect.passkey_extensions",
            f"{{{'p' * 32}: 'https://store.example/x?y', {'a' * 32}: http://192.0.2.1/}}",
            (("p" * 32, "https://store.example/x?y"), ("a" * 32, "http://192.0.2.1/")),
        ),
        (
            "instances.webhook_events",
            "[message, message.ack, session]",
            (Event.MESSAGE, Event.ACK, Event.SESSION),
        ),
        ("instances.webhook_events", "[]", ()),
        ("instances.ignore", "[groups, status]", (Ignored.GROUPS, Ignored.STATUS)),
        ("instances.webhook_timeout", "5min", 300),
        ("instances.webhook_retry", "1d 12h", 129_600),
        ("instances.journal_age", "30d", 30 * 86_400),
        ("instances.journal_size", "1G", 1024**3),
        ("instances.default_country", "55", "55"),
        ("instances.default_country", "''", ""),
        ("instances.media_from_private", "true", True),
        ("instances.send_rate", "20", 20),
        ("instances.client_id_prefix", "10", "10"),
        ("instances.browser", "google-chrome", "google-chrome"),
        ("instances.browser", "/opt/x/chrome", "/opt/x/chrome"),
        ("instances.browser_args", "['--lang=pt BR', '--x=\"$%\\']", ("--lang=pt BR", '--x="$%\\')),
        ("instances.qr_lifetime", "[1min, 20s]", (60, 20)),
        ("instances.start_timeout", "90", 90),
        ("instances.start_timeout", "90s", 90),
        ("instances.start_timeout", "1min 30s", 90),
        ("instances.start_timeout", "1h", 3600),
        ("instances.node", "/usr/local/bin/node", "/usr/local/bin/node"),
        ("limits.memory_max", "512M", 512 * 1024**2),
        ("limits.memory_max", "2G", 2 * 1024**3),
        ("limits.memory_max", "134217728", 128 * 1024**2),
        ("limits.memory_max", "0", 0),
        ("limits.min_available_memory", "1024K", 1024**2),
        ("systemd.bus", "session", Bus.SESSION),
        ("log.level", "debug", LogLevel.DEBUG),
    ],
)
def test_a_good_value_is_read(key, text, value):
    assert value_of(key, text) == value


BAD_PATHS = ["run/x", "/a/../b", "'/a\"b'", "/a%b", "/a$b", r"/a\b", '"/a\\nb"', "''", "'/a '"]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *(("api.socket", path) for path in BAD_PATHS),
        ("api.socket", "/" + "x" * 107),
        ("api.socket", "/run/"),
        *(("store.directory", path) for path in BAD_PATHS),
        *(("api.public_url", url) for url in ("app.example.com", "https://a/?x", "https://a/#x", "ftp://a")),
        ("instances.snapshots", "0"),
        ("ports.base", "1023"),
        ("ports.base", "65536"),
        ("ports.base", "05001"),
        ("ports.base", "0x1389"),
        ("ports.base", "5001.0"),
        ("ports.base", "\u0665\u0660\u0660\u0661"),
        ("ports.base", "true"),
        ("ports.base", "[5001]"),
        ("ports.base", ""),
        ("ports.base", "~"),
        ("ports.range", "5001-"),
        ("ports.range", "5001"),
        ("ports.range", "5002-5001"),
        ("ports.range", "1023-2000"),
        ("ports.range", "5001-65536"),
        ("ports.range", "5001 - 5002"),
        ("ports.takeover", "all"),
        ("ports.takeover", "OWN"),
        ("instances.client_id_prefix", "a/b"),
        ("instances.client_id_prefix", "''"),
        ("instances.client_id_prefix", "é"),
        ("instances.browser", "bin/chrome"),
        ("instances.browser", "''"),
        ("instances.qr_max_retries", "0"),
        ("instances.qr_lifetime", "[60]"),
        ("instances.qr_lifetime", "[60, 20, 20]"),
        ("instances.qr_lifetime", "60"),
        ("instances.start_timeout", "0"),
        ("instances.start_timeout", "3601"),
        ("instances.start_timeout", "-5"),
        ("instances.start_timeout", "1:30"),
        ("instances.start_timeout", "5m"),
        ("instances.start_timeout", "''"),
        ("instances.start_timeout", "' '"),
        ("instances.start_timeout", "'90 '"),
        ("instances.webhook_events", "message"),
        ("instances.webhook_events", "[call, call]"),
        ("instances.ignore", "''"),
        ("instances.webhook_timeout", "0"),
        ("instances.webhook_timeout", "11min"),
        ("instances.webhook_retry", "59"),
        ("instances.webhook_retry", "31d"),
        ("instances.webhook_retry", "d"),
        ("instances.journal_age", "59min"),
        ("instances.journal_size", "0"),
        ("instances.journal_size", "1023K"),
        ("instances.default_country", "'+55'"),
        ("instances.default_country", "055"),
        ("instances.default_country", "0"),
        ("instances.default_country", "1234"),
        ("instances.media_from_private", "yes"),
        ("instances.send_rate", "-1"),
        ("instances.send_rate", "601"),
        ("instances.node", "node"),
        ("instances.script", "whatsapp_server.js"),
        ("limits.max_sockets", "0"),
        ("limits.memory_max", "1M"),
        ("limits.memory_max", "1g"),
        ("limits.memory_max", "1.5G"),
        ("limits.memory_max", "infinity"),
        ("limits.memory_max", "999999999999999T"),
        ("systemd.bus", "user"),
        ("connect.own_passkey_extension", "yes"),
        ("connect.passkey_extensions", "[kalbcnghdgggihibinicfagbnflkacmp]"),
        ("log.level", "no"),
        ("log.level", "!!python/name:os.system info"),
    ],
)
def test_a_bad_value_is_one_fault_that_says_what_is_allowed(key, text):
    [fault] = faults(setting(key, text))
    assert fault.startswith(f"config.yaml:2: {key}: must be {config.schema()[key].kind.allowed}, not ")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        *(("api.allow_users", item) for item in ["'a b'", "-1", "4294967295", "''", "{}", "[]", "~", "é"]),
        *(
            ("api.listen", item)
            for item in [
                "8080",
                "':8080'",
                "'*:8080'",
                "127.0.0.1",
                "127.0.0.1:0",
                "127.0.0.1:65536",
                "127.1:80",
                "host.example:80",
                "'::1:80'",
                "'[fe80::1%eth0]:80'",
                "'[127.0.0.1]:80'",
            ]
        ),
        *(("ports.reserved", item) for item in ["0", "65536", "2-1", "a", "1-2-3", "[1]", "''"]),
        *(("instances.browser_args", item) for item in ["lang", '"--a\\nb"', '"--a\\x7f"', "''", "[--a]"]),
        *(("instances.qr_lifetime", item) for item in ["0", "601", "soon"]),
        *(("instances.webhook_events", item) for item in ["Call", "message.*", "''", "~", "[call]"]),
        *(("instances.ignore", item) for item in ["group", "chats"]),
    ],
)
def test_a_bad_item_of_a_list_is_a_fault_in_its_own_line(key, text):
    good = {
        "api.allow_users": "1001",
        "api.listen": "127.0.0.1:8080",
        "ports.reserved": "5002",
        "instances.browser_args": "--lang=pt",
        "instances.qr_lifetime": "60",
        "instances.webhook_events": "message",
        "instances.ignore": "groups",
    }
    item = config.schema()[key].kind.item
    assert item is not None
    [fault] = faults(setting(key, f"\n  - {good[key]}\n  - {text}"))
    assert fault.startswith(f"config.yaml:4: {key}[1]: must be {item.allowed}, not ")


@pytest.mark.parametrize(
    ("extensions", "problem"),
    [
        (
            "{abc: https://a.example/}",
            "must be named by Chromium's id of an extension, 32 letters from a to p, not 'abc'",
        ),
        (f"{{{'q' * 32}: https://a.example/}}", "must be named by Chromium's id of an extension"),
        (f"{{{'a' * 32}: ''}}", f"{'a' * 32}: must be an http or https URL"),
        (f"{{{'a' * 32}: 'javascript:alert(1)'}}", f"{'a' * 32}: must be an http or https URL"),
        (f"{{{'a' * 32}: 'https://ana:secret@a.example/'}}", f"{'a' * 32}: must be an http or https URL"),
        (f"{{{'a' * 32}: https://a.example/, {'a' * 32}: https://a.example/}}", f"{'a' * 32}: given twice"),
        (
            f"{{{', '.join(f'{letter * 32}: https://a.example/' for letter in 'abcdef')}}}",
            "must be at most 5 extensions",
        ),
    ],
)
def test_what_is_no_extension_is_a_fault_that_says_why(extensions, problem):
    [fault] = faults(setting("connect.passkey_extensions", extensions))
    assert fault.startswith("config.yaml:2: connect.passkey_extensions")
    assert problem in fault


HOSTILE = [
    "",
    "''",
    "~",
    "-",
    "--",
    "0",
    "-1",
    "9" * 400,
    "1e9",
    ".nan",
    "2020-01-01",
    "on",
    "[]",
    "[[]]",
    "[~, ~]",
    "{}",
    "{a: [b]}",
    "'" + "x" * 5000 + "'",
    "'%n%s${HOME}`id`'",
    '"\\0"',
    '"\\n"',
    '"\\u2028"',
    '"\\ud800"',
    '"\\U0001F600"',
    "!!binary aGk=",
    "!x y",
    "|\n    a\n    b",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("key", list(config.schema()))
def test_whatever_stands_there_is_a_value_or_a_fault(key, text):
    found: tuple[config.Fault, ...] = ()
    try:
        hash(config.parse(setting(key, text), "config.yaml"))
    except InvalidConfig as error:
        found = error.faults
        assert found
    for fault in found:
        assert fault.line in range(2, 5)
        assert str(fault).isprintable()
        assert len(str(fault)) < 400


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/token",
        "http:///token",
        "localhost:5002/token",
        "http://user:token@host/",
        "http://token@host/",
        "'http://host/to ken'",
        '"http://host/token\\nPORT=1"',
        "http://hôst/token",
        "http://host:99999/token",
        "http://host:0/token",
        "http://[::1/token",
        "http://host/" + "token" * 500,
        "[http://host/token]",
    ],
)
def test_a_bad_webhook_is_refused_without_repeating_it(url):
    [fault] = faults(setting("instances.webhook_url", url))
    assert "instances.webhook_url: must be an http or https URL" in fault
    assert "token" not in fault


@pytest.mark.parametrize(
    "proxy",
    [
        "http://ana:hidden@proxy",
        "ftp://ana:hidden@proxy:1",
        "socks5://ana:hidden@proxy:1",
        "http://hidden@proxy:1",
        "http://ana:hidden%ff@proxy:1",
        "http://ana:hid/hidden@proxy:1",
        "[http://ana:hidden@proxy:1]",
    ],
)
def test_a_bad_proxy_is_refused_without_repeating_it(proxy):
    [fault] = faults(setting("instances.proxy", proxy))
    assert "instances.proxy: must be " in fault
    assert "hidden" not in fault


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("webhook_secret", "hidden"),
        ("webhook_secret", f"{SECRET}hid"),
        ("webhook_secret", "whsec_hidden"),
        ("webhook_secret", f"[{SECRET}, hidden]"),
        ("webhook_secret", f"[{SECRET}, {SECRET}, {SECRET}]"),
        ("webhook_secret", f"{{hidden: {SECRET}}}"),
        ("webhook_secret", f"!!hidden {SECRET}"),
        ("webhook_secret", "~"),
        ("webhook_headers", "hidden"),
        ("webhook_headers", "['Authorization: hidden']"),
        ("webhook_headers", "{'Authorization: hidden': ''}"),
        ("webhook_headers", "{Authorization: ' hidden'}"),
        ("webhook_headers", "{Authorization: 'hiddén'}"),
        ("webhook_headers", '{Authorization: "hidden\\r\\nHost: x"}'),
        ("webhook_headers", "{Authorization: [hidden]}"),
        ("webhook_headers", "{Content-Type: hidden}"),
        ("webhook_headers", "{Webhook-ID: hidden}"),
        ("webhook_headers", "{X: hidden, X: hidden}"),
        ("webhook_headers", "{X: hidden, x: hidden}"),
        ("webhook_headers", f"{{{', '.join(f'X-{number}: hidden' for number in range(21))}}}"),
        ("webhook_headers", f"{{X: {'hidden' * 400}}}"),
    ],
)
def test_a_bad_secret_or_header_is_refused_without_repeating_it(key, text):
    for fault in (found := faults(setting(f"instances.{key}", text))):
        assert f"instances.{key}" in fault
        assert "hid" not in fault
        assert SECRET not in fault
    assert len(found) == 1


@pytest.mark.parametrize("key", ["webhook_secret", "webhook_headers"])
def test_what_is_shown_of_a_secret_is_that_there_is_one(key):
    text = {"webhook_secret": SECRET, "webhook_headers": "{Authorization: hidden}"}[key]
    shown = config.schema()[f"instances.{key}"].kind.show(value_of(f"instances.{key}", text))
    assert shown == {"webhook_secret": "[***]", "webhook_headers": "{Authorization: ***}"}[key]


@pytest.mark.parametrize(
    ("key", "value"),
    [("webhook_url", "http://host/?key=hidden"), ("proxy", "http://ana:hidden@proxy:3128")],
)
def test_what_may_be_secret_does_not_show_in_the_configuration_text(key, value):
    read = config.parse(setting(f"instances.{key}", value), "config.yaml")
    assert getattr(read.instances, key) == value
    assert "hidden" not in repr(read)


def test_no_secret_of_the_webhook_shows_in_the_configuration_text():
    text = f"instances:\n  webhook_secret: {SECRET}\n  webhook_headers: {{Authorization: hidden}}\n"
    assert SECRET not in repr(read := config.parse(text, "config.yaml"))
    assert "hidden" not in repr(read)


def test_every_fault_is_reported_at_once_in_the_order_of_the_file():
    text = """\
api:
  sockett: /run/x
  socket: x
ports:
  range: 5001-
  base: 80
  base: 5001
limit:
  max_running: 5
log: [info]
"""
    assert faults(text) == [
        "config.yaml:2: api.sockett: unknown key; did you mean socket?",
        f"config.yaml:3: api.socket: must be {config.schema()['api.socket'].kind.allowed}, not 'x'",
        "config.yaml:5: ports.range: must be FIRST-LAST with 1024 <= FIRST <= LAST <= 65535, not '5001-'",
        "config.yaml:6: ports.base: must be a number from 1024 to 65535, not '80'",
        "config.yaml:7: ports.base: given twice; line 6 already has it",
        "config.yaml:8: limit: unknown key; did you mean limits?",
        "config.yaml:10: log: must be a mapping of level, not a list of 1",
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("webhook_url: x", "did you mean instances.webhook_url?"),
        ("ports.base: 5001", "write base: below ports:"),
        ("log:\n  lvl: info", "did you mean level?"),
        ("log:\n  max_running: 5", "did you mean limits.max_running?"),
        ("systemd:\n  zzz: 1", "systemd has bus"),
        ("zzz: 1", "the file has api, store, ports, instances, limits, systemd, connect, metrics, log"),
        ("{[a]: b}", "the file has api"),
        ("<<: {log: {level: debug}}", "the file has api"),
        ("api:\n  zzz: 1", "api has socket, listen, allow_users"),
    ],
)
def test_an_unknown_key_is_a_fault_that_says_what_was_meant(text, meant):
    [fault] = faults(text)
    assert "unknown key; " in fault
    assert meant in fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: b: c", "config.yaml:1: not valid YAML: mapping values are not allowed here"),
        (
            "log:\n\tlevel: info",
            "config.yaml:2: not valid YAML: found character '\\t' that cannot start any token",
        ),
        ("log:\n  level: 'info", "config.yaml:2: not valid YAML: found unexpected end of stream"),
        ("log:\n  level: \0", "config.yaml:2: not valid YAML: control characters are not allowed"),
        ("--- {}\n--- {}", "config.yaml:2: not valid YAML: but found another document"),
        ("log: &a {level: info}\nlog: *a", "config.yaml:2: not valid YAML: aliases are not supported"),
        ("- ports", "config.yaml:1: must be a mapping of"),
        ("ports", "config.yaml:1: must be a mapping of"),
        ("!!set {ports}", "config.yaml:1: must be a mapping of"),
    ],
)
def test_what_is_no_mapping_in_plain_yaml_is_a_fault_with_its_line(text, fault):
    assert faults(text)[0].startswith(fault)


@pytest.mark.parametrize(
    "text",
    [
        "[" * (config.MAX_FILE_SIZE - 1),
        "{a: " * 10000,
        "a: &a [x]\n"
        + "".join(
            f"{c}: &{c} [{','.join([f'*{b}'] * 9)}]\n" for b, c in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "&a [*a]",
    ],
    ids=["sequences", "mappings", "aliases", "recursion"],
)
def test_a_bomb_is_refused_before_it_expands(text):
    [fault] = faults(text)
    assert "aliases are not supported" in fault or "nested too deeply" in fault


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "ports:\n  base: 6000\n",
            "config.yaml:2: ports.base: ports.base (6000) must lie inside ports.range (5001-5431)",
        ),
        (
            "ports:\n  range: 6000-6100\n",
            "config.yaml:2: ports.range: ports.base (5001) must lie inside ports.range (6000-6100)",
        ),
        (
            "ports:\n  overflow: 5431-6000",
            "config.yaml:2: ports.overflow: ports.overflow (5431-6000) must not overlap ports.range (5001-5431)",
        ),
        (
            "ports:\n  reserved: [5001-5431, 20000-31999]",
            "config.yaml:2: ports.reserved: ports.reserved leaves no port of ports.range or ports.overflow",
        ),
        (
            "limits:\n  max_sockets: 10\n  max_running: 11\n",
            "config.yaml:3: limits.max_running: limits.max_running (11) must not exceed limits.max_sockets (10)",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_a_fault(text, fault):
    assert faults(text) == [fault]


def test_what_depends_on_a_faulty_key_is_not_judged():
    assert len(faults("ports:\n  range: nonsense\n  base: 6000\n")) == 1


def test_a_file_is_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbflog:\n  level: error\n")
    assert config.load(path).log.level is LogLevel.ERROR


def test_a_missing_file_is_an_error_with_a_way_out(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file") as caught:
        config.load(tmp_path / "config.yaml")
    assert "config.example.yaml" in str(caught.value.hint)


def test_a_directory_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        config.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"# fine\n# \xff\n", ":2: not UTF-8 text"),
        (b"#" * (config.MAX_FILE_SIZE + 1), ": larger than 64 KiB"),
    ],
)
def test_a_file_that_is_no_text_or_too_large_is_a_fault(tmp_path, content, fault):
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(InvalidConfig) as caught:
        config.load(path)
    assert str(caught.value) == f"{path}{fault}"


def test_the_largest_file_is_still_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"#" * config.MAX_FILE_SIZE)
    assert config.load(path) == Config()


def test_changes_name_the_keys_that_differ_and_whether_a_reload_applies_them():
    old = config.parse("ports:\n  reserved: [5002, 5003]\n", "config.yaml")
    new = config.parse(
        "ports: {reserved: [5002-5003]}\nlog: {level: debug}\napi: {socket: /x}\nsystemd: {bus: session}",
        "config.yaml",
    )
    assert config.changes(old, new) == [
        Change("api.socket", reloadable=False),
        Change("systemd.bus", reloadable=False),
        Change("log.level", reloadable=True),
    ]
    assert config.changes(new, new) == []


def test_a_reload_keeps_what_needs_a_restart():
    old = config.parse("store: {directory: /a}\nlog: {level: info}\nlimits: {max_running: 1}", "config.yaml")
    new = config.parse("store: {directory: /b}\nlog: {level: debug}\nsystemd: {bus: session}", "config.yaml")
    held = config.reloaded(old, new)
    assert config.changes(held, new) == [
        Change("store.directory", reloadable=False),
        Change("systemd.bus", reloadable=False),
    ]
    assert config.changes(old, held) == [
        Change("limits.max_running", reloadable=True),
        Change("log.level", reloadable=True),
    ]


def uncommented(text: str) -> str:
    """A comment that starts without a blank is a key with its default; others are prose."""
    return re.sub(r"(?m)^( *)#(?=[a-z_]+:)", r"\1", text)


def test_the_example_as_it_is_shipped_is_all_defaults():
    assert config.load(EXAMPLE) == Config()


def test_the_example_shows_every_key_with_its_default_and_some_prose():
    text = EXAMPLE.read_text("utf-8")
    complete = uncommented(text)
    assert config.parse(complete, "config.example.yaml") == Config()

    section, prose, shown = "", False, {}
    for line in text.splitlines():
        if match := re.fullmatch(r"([a-z]+):", line):
            section = match[1]
        elif match := re.fullmatch(r"  #([a-z_]+): .+", line):
            shown[f"{section}.{match[1]}"] = prose
        prose = line.startswith(("  # ", "  #"))
    assert list(shown) == list(config.schema())
    assert all(shown.values())


def test_each_default_of_the_example_is_the_schemas_own():
    for key, entry in config.schema().items():
        match = re.search(rf"(?m)^  #{entry.name}: (.+)$", EXAMPLE.read_text("utf-8"))
        assert match
        assert value_of(key, match[1]) == entry.default


def test_every_key_is_described_in_a_sentence():
    for entry in config.schema().values():
        assert entry.doc[0].isupper() or entry.doc.startswith(("system:", "auto:"))
        assert entry.doc.endswith(".")


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [((1, 2), (2, 3), True), ((2, 3), (1, 2), True), ((1, 9), (4, 5), True), ((1, 2), (3, 4), False)],
)
def test_ranges_overlap_when_they_share_a_port(first, second, overlap):
    a, b = PortRange(*first), PortRange(*second)
    assert a.overlaps(b) is overlap is bool({*a} & {*b})
    assert b.overlaps(a) is overlap


def test_a_range_holds_both_its_ends():
    ports = PortRange(5001, 5003)
    assert [*ports] == [5001, 5002, 5003]
    assert len(ports) == 3
    assert 5000 not in ports
    assert 5004 not in ports
    assert str(ports) == "5001-5003"

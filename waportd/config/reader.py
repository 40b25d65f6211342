"""Reads the text of a configuration into a Config, and reports all its faults at once."""

import dataclasses
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import yaml

from waportd.config.model import Config, Key, schema
from waportd.config.text import on_one_line
from waportd.errors import ConfigError
from waportd.value_types import Kind

MAX_FILE_SIZE: Final = 64 * 1024
"""The most bytes that are read of a configuration file."""

_MAX_DEPTH: Final = 8
_MAX_ITEMS: Final = 1000
_MAX_SHOWN: Final = 60


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong with a configuration."""

    source: str
    line: int | None
    """Counted from 1; None where it belongs to no line."""
    key: str
    problem: str

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return ": ".join(part for part in (place, self.key, self.problem) if part)


class InvalidConfig(ConfigError):
    """The text is not a valid configuration. ``faults`` holds all that is wrong, in the order of the file."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line or 0))
        super().__init__(
            "\n".join(map(str, self.faults)),
            hint="config.example.yaml describes every key; waportd --check-config checks a file",
        )


class _Composer(yaml.BaseLoader):
    """Composes the node graph.

    BaseLoader leaves scalars as text: the schema knows each key's type, so that ``off``, ``1:30`` or ``010``
    never become something else on the way.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        alias = self.check_event(yaml.AliasEvent)
        if alias or self.depth == _MAX_DEPTH:
            problem = "aliases are not supported" if alias else "nested too deeply"
            raise yaml.composer.ComposerError(None, None, problem, self.current_event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Reader:
    """Reads one text into a Config and notes every fault on the way."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.faults: list[Fault] = []
        self.lines: dict[str, int] = {}
        """The line of each key that the text sets."""
        self.faulty: set[str] = set()
        """Keys whose value could not be read; what depends on them is not judged."""

    def fault(self, line: int | None, key: str, problem: str) -> None:
        self.faults.append(Fault(self.source, line, key, problem))

    def read(self, text: str) -> Config:
        try:
            root = yaml.compose(text, _Composer)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.fault(mark.line + 1 if mark else None, "", f"not valid YAML: {error.problem}")
            return Config()
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            self.fault(line, "", "not valid YAML: control characters are not allowed")
            return Config()
        sections: dict[str, Any] = {section.name: section.default for section in fields(Config)}
        for name, node in self.members(root, "", list(sections)):
            keys = [key.name for key in schema().values() if key.section == name]
            values = {}
            for key, value in self.members(node, name, keys):
                path = f"{name}.{key}"
                self.lines[path] = _line(value)
                try:
                    values[key] = self.value(schema()[path], value)
                except ValueError:
                    self.faulty.add(path)
            sections[name] = dataclasses.replace(sections[name], **values)
        config = Config(**sections)
        for paths, problem in _contradictions(config):
            if self.faulty.isdisjoint(paths):
                blamed = next((path for path in paths if path in self.lines), paths[0])
                self.fault(self.lines.get(blamed), blamed, problem)
        return config

    def members(
        self, node: yaml.Node | None, parent: str, known: list[str]
    ) -> Iterator[tuple[str, yaml.Node]]:
        """Yield the known keys of a mapping; nothing below a key is the same as an empty mapping."""
        if node is None or _is_null(node):
            return
        if not isinstance(node, yaml.MappingNode) or not _is_plain(node):
            self.fault(_line(node), parent, f"must be a mapping of {', '.join(known)}, not {_shown(node)}")
            return
        first_seen: dict[str, int] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else _shown(key)
            path = f"{parent}.{name}" if parent else name
            if name not in known:
                self.fault(
                    _line(key), _cut(on_one_line(path)), f"unknown key{_suggestion(path, parent, known)}"
                )
            elif name in first_seen:
                self.fault(_line(key), path, f"given twice; line {first_seen[name]} already has it")
            else:
                first_seen[name] = _line(key)
                yield name, value

    def value(self, key: Key, node: yaml.Node) -> Any:
        """Return the key's value; note what is wrong and raise ValueError."""
        if key.kind.item is None:
            return self.scalar(key.path, key.kind, node)
        if key.kind.name is not None:
            return self.mapping(key, key.kind.name, key.kind.item, node)
        if key.kind.alone and isinstance(node, yaml.ScalarNode) and _is_plain(node) and not _is_null(node):
            return key.kind.parse([self.scalar(key.path, key.kind.item, node)] if node.value else [])
        if not isinstance(node, yaml.SequenceNode) or not _is_plain(node) or len(node.value) > _MAX_ITEMS:
            self.must_be(key.path, key.kind, node)
            raise ValueError
        items, failed = [], False
        for index, item in enumerate(node.value):
            try:
                items.append(self.scalar(f"{key.path}[{index}]", key.kind.item, item))
            except ValueError:
                failed = True
        return self._whole(key, items, node, failed=failed)

    def mapping(self, key: Key, name: Kind, value: Kind, node: yaml.Node) -> Any:
        """Return the key's value, a mapping with free names; note what is wrong and raise ValueError."""
        if not isinstance(node, yaml.MappingNode) or not _is_plain(node):
            self.must_be(key.path, key.kind, node)
            raise ValueError
        items: dict[str, Any] = {}
        failed = False
        for label, content in node.value:
            try:
                known = self.scalar(key.path, name, label)
                if known in items:
                    self.fault(_line(label), f"{key.path}.{known}", "given twice")
                items[known] = self.scalar(f"{key.path}.{known}", value, content)
            except ValueError:
                failed = True
        return self._whole(key, items, node, failed=failed)

    def _whole(self, key: Key, items: Any, node: yaml.Node, *, failed: bool) -> Any:
        """Return the value made of its parts, unless one of them failed; note what is wrong and raise ValueError."""
        if failed:
            raise ValueError
        try:
            return key.kind.parse(items)
        except ValueError:
            self.must_be(key.path, key.kind, node)
            raise

    def scalar(self, path: str, kind: Kind, node: yaml.Node) -> Any:
        try:
            if not isinstance(node, yaml.ScalarNode) or not _is_plain(node) or _is_null(node):
                raise ValueError  # noqa: TRY301
            return kind.parse(node.value)
        except ValueError:
            self.must_be(path, kind, node)
            raise

    def must_be(self, path: str, kind: Kind, node: yaml.Node) -> None:
        instead = "" if kind.secret else f", not {_shown(node)}"
        self.fault(_line(node), path, f"must be {kind.allowed}{instead}")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _is_plain(node: yaml.Node) -> bool:
    """Return whether the node has no tag of its own: ``!!python/…`` and its like have no meaning here."""
    return node.tag in {
        "tag:yaml.org,2002:str",
        "tag:yaml.org,2002:seq",
        "tag:yaml.org,2002:map",
    }


def _is_null(node: yaml.Node) -> bool:
    return (
        isinstance(node, yaml.ScalarNode)
        and node.style is None
        and node.value in {"", "~", "null", "Null", "NULL"}
    )


def _shown(node: yaml.Node) -> str:
    """Return how a message shows a value: short, on one line."""
    if not _is_plain(node):
        return f"a value tagged {_cut(str(node.tag))}"
    if isinstance(node, yaml.SequenceNode):
        return f"a list of {len(node.value)}"
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    return "empty" if _is_null(node) else repr(_cut(str(node.value)))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def _suggestion(path: str, parent: str, known: list[str]) -> str:
    """Return what an unknown key may have meant, or what is allowed there."""
    if path in schema():  # ``ports.base: 5001`` on one line
        key = schema()[path]
        return f"; write {key.name}: below {key.section}:"
    name = path.rpartition(".")[2]
    if close := difflib.get_close_matches(name, known, 1):
        return f"; did you mean {close[0]}?"
    names = {key.name: key.path for key in schema().values()}
    if close := difflib.get_close_matches(name, names, 1, 0.8):
        return f"; did you mean {names[close[0]]}?"
    return f"; {parent or 'the file'} has {', '.join(known)}"


def _contradictions(config: Config) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield contradictions: the keys concerned, the likeliest culprit first, and why."""
    ports = config.ports
    running, sockets = config.limits.max_running, config.limits.max_sockets
    if ports.base not in ports.range:
        yield (
            ("ports.base", "ports.range"),
            f"ports.base ({ports.base}) must lie inside ports.range ({ports.range})",
        )
    if ports.overflow.overlaps(ports.range):
        yield (
            ("ports.overflow", "ports.range"),
            f"ports.overflow ({ports.overflow}) must not overlap ports.range ({ports.range})",
        )
    if ports.reserved.issuperset({*ports.range, *ports.overflow}):
        yield (
            ("ports.reserved", "ports.range", "ports.overflow"),
            "ports.reserved leaves no port of ports.range or ports.overflow",
        )
    if running > sockets:
        yield (
            ("limits.max_running", "limits.max_sockets"),
            f"limits.max_running ({running}) must not exceed limits.max_sockets ({sockets})",
        )


def parse(text: str, source: str) -> Config:
    """Return the configuration that the text describes; an empty text is all defaults.

    ``source`` names the text in messages. Raise InvalidConfig with every fault, each with its line.
    """
    reader = _Reader(source)
    config = reader.read(text)
    if reader.faults:
        raise InvalidConfig(reader.faults)
    return config


def load(path: Path) -> Config:
    """Read a configuration file. Raise ConfigError when it cannot be read or is not valid."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_SIZE + 1)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file",
            hint="name another with --config, or copy config.example.yaml; an empty file is all defaults",
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}",
            hint="it must be a file that the daemon's user may read",
        ) from None
    if len(content) > MAX_FILE_SIZE:
        raise InvalidConfig([Fault(str(path), None, "", f"larger than {MAX_FILE_SIZE // 1024} KiB")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidConfig([Fault(str(path), line, "", "not UTF-8 text")]) from None
    return parse(text, str(path))

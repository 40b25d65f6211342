"""Sets one key of config.yaml and leaves everything else in the file as it is: comments, order, blanks."""

import os
import secrets
import stat
from pathlib import Path

import yaml

from waportd import files
from waportd.cli.exit_status import Problem
from waportd.config import Config, changes, parse
from waportd.errors import ConfigError


def set_key(path: Path, section: str, name: str, value: str, *, write: bool = True) -> Config:
    """Write the value of a key that is one word, and return the file's new content. Raises Problem.

    The file keeps owner and mode, and after a power cut is the old one or the new one. It is written only if
    nothing but that key changes. Without ``write`` it is only checked whether it can be written.
    """
    try:
        # The target of a link is written, and the link stays.
        path = path.resolve(strict=True)
        text = path.read_bytes().decode()
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path} cannot be read: {error}") from error
    by_hand = (
        f"write it by hand: `{name}: {value}` below `{section}:` in {path}, then `systemctl reload waportd`"
    )
    try:
        before = parse(text, str(path))
        edited = with_key(text, section, name, value)
        after = parse(edited, str(path))
    except ConfigError as error:
        raise Problem(error.message, by_hand, code="config_error") from error
    except (yaml.YAMLError, ValueError):
        raise Problem(f"{path} is written in a way that waportctl cannot edit", by_hand) from None
    changed = [change.key for change in changes(before, after)]
    if set(changed) - {f"{section}.{name}"} or getattr(getattr(after, section), name) != value:
        raise Problem(f"{path} is written in a way that waportctl cannot edit", by_hand)
    if write and edited != text:
        try:
            _replace(path, edited.encode())
        except OSError as error:
            raise Problem(f"{path} cannot be written: {error.strerror}", by_hand) from error
    return after


def with_key(text: str, section: str, name: str, value: str) -> str:
    """Return a configuration's text with another value of a key. Raises ValueError where its form is unusual."""
    root = yaml.compose(text, yaml.BaseLoader)
    if root is None or _is_nothing(root):
        return f"{_whole_lines(text)}\n{section}:\n  {name}: {value}\n".lstrip("\n")
    found = _member(root, section)
    if found is None:
        if not isinstance(root, yaml.MappingNode) or root.flow_style:
            raise ValueError(section)
        at = root.end_mark.index
        return f"{_whole_lines(text[:at])}\n{section}:\n  {name}: {value}\n{text[at:]}"
    key, node = found
    if _is_nothing(node):
        return _after_line(text, key, f"{' ' * (key.start_mark.column + 2)}{name}: {value}")
    known = _member(node, name)
    if known is not None:
        start, end = known[1].start_mark.index, known[1].end_mark.index
        return text[:start] + (value if end > start else f" {value}") + text[end:]
    if isinstance(node, yaml.MappingNode) and node.flow_style:
        at = node.start_mark.index + 1
        return f"{text[:at]}{name}: {value}{', ' if node.value else ''}{text[at:]}"
    return _after_line(text, key, f"{' ' * node.start_mark.column}{name}: {value}")


def _member(node: yaml.Node, name: str) -> tuple[yaml.Node, yaml.Node] | None:
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(name)  # noqa: TRY004  # not of a caller, but of what stands in the file
    return next(((key, value) for key, value in node.value if key.value == name), None)


def _is_nothing(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.value


def _after_line(text: str, node: yaml.Node, line: str) -> str:
    """Insert a line after that on which a node ends."""
    end = text.find("\n", node.end_mark.index)
    at = len(text) if end < 0 else end
    return f"{text[:at]}\n{line}{text[at:] or chr(10)}"


def _whole_lines(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        kept = path.stat()
        owner, mode = (kept.st_uid, kept.st_gid), stat.S_IMODE(kept.st_mode)
    except FileNotFoundError:
        owner, mode = (os.geteuid(), os.getegid()), 0o644
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    files.sync(path.parent)

"""Writes files that hold keys: in one step, and readable by nobody else at any moment."""

from pathlib import Path
from typing import Final

from waportd import files

PRIVATE: Final = 0o600
"""The mode of a file that holds a key."""


def write(path: Path, content: bytes, *, mode: int = PRIVATE, owner: tuple[int, int] | None = None) -> None:
    """Replace a file as a whole, in a folder that nobody else decides about.

    ``owner`` is a user and a group id; None: the caller's. Raises OSError; the file is then as it was.
    """
    with files.opened(path.parent) as folder:
        files.replace(folder, path.name, content, mode=mode, owner=owner)

"""Writes files that hold keys: in one step, and readable by nobody else at any moment."""

import contextlib
import os
from pathlib import Path
from typing import Final

from waportd import files

PRIVATE: Final = 0o600
"""The mode of a file that holds a key."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write(path: Path, content: bytes, *, mode: int = PRIVATE, owner: tuple[int, int] | None = None) -> None:
    """Replace a file as a whole; a reader, and a power cut, finds the old content or the new one.

    ``owner`` is a user and a group id; None: the caller's. Raises OSError; the file is then as it was.
    """
    with files.opened(path.parent) as folder:
        new = f".{path.name}.new"  # one name: what a crash leaves behind is overwritten
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new, dir_fd=folder)
        try:
            # Narrow from the first moment, whatever the umask; wider only when the content is public.
            with os.fdopen(os.open(new, _NEW, PRIVATE, dir_fd=folder), "wb") as file:
                if owner is not None:
                    os.fchown(file.fileno(), *owner)
                os.fchmod(file.fileno(), mode)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=folder)
            raise
        os.fsync(folder)

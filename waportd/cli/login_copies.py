"""Copies of a login, as its server makes them: copied away by root, and verified."""

import contextlib
from pathlib import Path

from waportd import files, login_copies
from waportd.cli import copying
from waportd.cli.exit_status import Problem
from waportd.login_copies import DESCRIPTION, FOLDER, LoginCopy


def copy_newest(auth: Path, target: Path) -> LoginCopy | None:
    """Copy the newest copy that a server keeps in ``auth`` (``.wwebjs_auth_<port>``), and verify it; None: it keeps none.

    Raises Problem where one cannot be copied, or is not what it was.
    """
    with contextlib.ExitStack() as stack:
        try:
            kept = stack.enter_context(files.opened(auth / FOLDER))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Problem(f"{auth / FOLDER} cannot be opened: {error.strerror}") from error
        for number in login_copies.numbers(kept):
            with contextlib.suppress(OSError):
                source = stack.enter_context(files.opened(Path(str(number)), kept))
                files.read(DESCRIPTION, 1, source)
                target.mkdir(mode=0o700)
                copying.copy(source, target, ())
                return verify(target)
    return None


def verify(folder: Path) -> LoginCopy:
    """Read a copy to the last byte, and compare it with its description. Raises Problem where they differ."""
    try:
        return login_copies.verify(folder)
    except login_copies.Torn as error:
        raise Problem(error.message, code=error.code) from error

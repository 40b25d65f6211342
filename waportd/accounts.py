"""Accounts of this host. Looked up each time: they come and go."""

import pwd


def uid_of(name: str | int) -> int | None:
    """Return the user id of an account, given by name or number; None where there is no such account."""
    if isinstance(name, int):
        return name
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def name_of(uid: int) -> str:
    """Return the account's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def daemon() -> pwd.struct_passwd | None:
    """Return the account that the packaged daemon runs under; None where there is none."""
    try:
        return pwd.getpwnam("waportd")
    except KeyError:
        return None

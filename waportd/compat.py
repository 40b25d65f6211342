"""waportd for a front end that thinks in ports: functions with the names and signatures that it has always called.

    from waportd.compat import ensure_whatsapp_server_running, get_whatsapp_server_url, port_for

It knows user N by port 5001 + (N - 1), and calls with that number. But user 2's port is not 5002 where that is
the front end's own, or another program's; so a port is a name for a user here, and the answer to "where is the
server?" is a question to waportd. Three kinds of number come in:

- what `port_for` returned: it carries its user along, and means that user;
- a number that nobody has, or whose owner is the one who would get it by number: it means that user;
- a number that is user A's port, and would be user B's by number: it may mean either. A wrong guess would show
  one user's WhatsApp to another, so that is an error; ``user_id`` resolves it.

Needs Python 3.9 or newer, and `waportd.client` beside it.
"""

from __future__ import annotations

import logging

from waportd.client import Client, WaportdClientError

log = logging.getLogger("waportd.client")


class UserPort(int):
    """A port that knows whose it is."""

    user: str

    def __new__(cls, port: int, user: str) -> UserPort:  # noqa: D102, PYI034
        made = super().__new__(cls, port)
        made.user = user
        return made

    def __reduce__(self) -> tuple[type[UserPort], tuple[int, str]]:  # copy and pickle
        return UserPort, (int(self), self.user)


class AmbiguousPort(WaportdClientError):
    """A number that is one user's port, and another user's by number."""

    hint = "pass what port_for(user_id) returned, or user_id= itself"


_default: Client | None = None


def use(client: Client | None) -> None:
    """Have the functions below use this client; None makes them create a new ``Client()``."""
    global _default  # noqa: PLW0603  # functions with given signatures have nowhere else to keep it
    _default = client


def port_for(user_id: str | int) -> UserPort:
    """Return the user's port; assign one where there is none. Raises what calls raise."""
    return UserPort(_client().port(user_id), str(user_id))


def ensure_whatsapp_server_running(port: int, user_id: str | int | None = None) -> bool:
    """Return whether the server of the user that ``port`` names answers; start it if need be.

    Never raises: why there is none is logged, to ``waportd.client``.
    """
    try:
        _client().ensure(_user_of(port, user_id))
    except (WaportdClientError, ValueError) as error:
        log.warning("Cannot ensure the WhatsApp server of port %s: %s", port, error)
        return False
    return True


def get_whatsapp_server_url(port: int, user_id: str | int | None = None) -> str:
    """Return where the server of the user that ``port`` names is: ``http://localhost:`` and the user's real port.

    Raises what calls raise: a guessed address might be another user's, and that of a stopped user any
    program's (Conflict, cause ``stopped``).
    """
    return f"http://localhost:{_client().port(_user_of(port, user_id))}"


def _client() -> Client:
    if _default is None:
        use(Client())
    assert _default is not None
    return _default


def _user_of(port: int, user_id: str | int | None) -> str:
    """Return the user that a port names; see above."""
    if user_id is not None:
        return str(user_id)
    if isinstance(port, UserPort):
        return port.user
    info = _client().port_info(port)
    if info.user is not None and info.preferred_by in {None, info.user}:
        return info.user
    if info.user is not None:
        raise AmbiguousPort(
            f"port {info.port} is user {info.user}'s, and user {info.preferred_by}'s by number; {AmbiguousPort.hint}"
        )
    if info.preferred_by is None:
        raise ValueError(f"port {info.port} belongs to no user, neither assigned nor by number")
    return info.preferred_by

"""What matters about a user's server now, in one state and one sentence: its session or its process. Pure functions."""

import dataclasses
import enum
from typing import Final

from waportd.contract import CONTRACT
from waportd.model import UNDELIVERED_S, ProcessState, SessionState, Webhook
from waportd.registry import Instance
from waportd.server_client import NOT_ANSWERING

UNDELIVERED = "undelivered"
"""The cause where the only fault is that the web app does not accept messages."""


class Group(enum.StrEnum):
    """The few groups that a person looks for."""

    LINKED = "linked"
    WAITING = "waiting"
    """A person has to do something: scan a code, use a passkey."""
    WORKING = "working"
    TROUBLE = "trouble"
    ASLEEP = "asleep"
    """The login is there, and no server runs: it needs only a start."""
    IDLE = "idle"


_GROUPS: Final = {state: Group(group) for group, states in CONTRACT["groups"].items() for state in states}
"""The group of each state, where its cause makes no difference."""


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """The state of a user's server."""

    state: SessionState | ProcessState
    message: str
    cause: str | None
    hint: str | None
    since: float
    """Seconds since the epoch."""


def of_code(instance: Instance) -> Summary:
    """Return what matters for linking a phone: the session while the server runs, else the process."""
    session, process = instance.session, instance.process
    if process.state is ProcessState.RUNNING:
        if session is None:
            message = "the server runs and has not said anything yet"
            return Summary(ProcessState.STARTING, message, None, None, process.since)
        if not instance.answering:
            message = "the server does not answer"
            hint = "systemd restarts a hung server automatically within a minute"
            return Summary(SessionState.ERROR, message, NOT_ANSWERING, hint, session.since)
        return Summary(session.state, session.message, session.cause, instance.hint, session.since)
    # For a stopped user the stop matters, and not how to get a code.
    ended_by_itself = process.state is ProcessState.STOPPED and process.hint is None
    if ended_by_itself and session is not None:
        return Summary(session.state, session.message, session.cause, session.hint, session.since)
    return Summary(process.state, process.message, process.cause, process.hint, process.since)


def of_server(instance: Instance, now: float) -> Summary:
    """Return what matters to an administrator: as `of_code`, and messages that wait for too long."""
    shown = of_code(instance)
    if instance.session is None or not instance.answering:
        return shown
    webhook = instance.session.webhook
    if instance.process.state is ProcessState.RUNNING and webhook.waited(now) > UNDELIVERED_S:
        hint = "check its webhook, and what answers there"
        return Summary(shown.state, _waiting(webhook), UNDELIVERED, hint, webhook.oldest_at or now)
    if shown.state is SessionState.PASSKEY_REQUIRED and shown.cause is None:
        hint = (
            "open the connect page, or send its link to the owner of the account: the passkey is used there"
        )
        return dataclasses.replace(shown, hint=hint)
    return shown


def group_of(shown: Summary, *, linked: bool) -> Group:
    """Return the group of a user from what `of_server` says of it."""
    if shown.cause in {NOT_ANSWERING, UNDELIVERED}:
        return Group.TROUBLE
    if shown.state is SessionState.PASSKEY_REQUIRED and shown.cause is None:
        return Group.WAITING
    if shown.state is ProcessState.STOPPED and linked:
        return Group.ASLEEP
    return _GROUPS[shown.state]


def _waiting(webhook: Webhook) -> str:
    waiting = "1 message waits" if webhook.queued == 1 else f"{webhook.queued} messages wait"
    return f"{waiting} for the web app: {webhook.error or 'it does not answer in time'}"

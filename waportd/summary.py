"""What matters of a user's server now, in one state and one sentence: its session or its process. Pure functions."""

import dataclasses

from waportd.model import UNDELIVERED_S, ProcessState, SessionState, Webhook
from waportd.registry import Instance
from waportd.server_client import NOT_ANSWERING

UNDELIVERED = "undelivered"
"""The cause where all is well but for messages that the web app does not take."""


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """How a user's server is."""

    state: SessionState | ProcessState
    message: str
    cause: str | None
    hint: str | None
    since: float
    """Seconds since the epoch."""


def of_code(instance: Instance) -> Summary:
    """Return what matters to who links a phone: the session while the server runs, else the process."""
    session, process = instance.session, instance.process
    if process.state is ProcessState.RUNNING:
        if session is None:
            message = "the server runs and has not said anything yet"
            return Summary(ProcessState.STARTING, message, None, None, process.since)
        if not instance.answering:
            message = "the server does not answer"
            hint = "systemd ends and restarts a hung server by itself within a minute"
            return Summary(SessionState.ERROR, message, NOT_ANSWERING, hint, session.since)
        return Summary(session.state, session.message, session.cause, instance.hint, session.since)
    # Of one who was stopped that counts, and not what would otherwise bring a code.
    ended_by_itself = process.state is ProcessState.STOPPED and process.hint is None
    if ended_by_itself and session is not None:
        return Summary(session.state, session.message, session.cause, session.hint, session.since)
    return Summary(process.state, process.message, process.cause, process.hint, process.since)


def of_server(instance: Instance, now: float) -> Summary:
    """Return what matters to who looks after users: as `of_code`, and messages that wait for too long."""
    shown = of_code(instance)
    if instance.session is None or not instance.answering:
        return shown
    webhook = instance.session.webhook
    if instance.process.state is ProcessState.RUNNING and webhook.waited(now) > UNDELIVERED_S:
        hint = "see whether its webhook is right, and who answers there"
        return Summary(shown.state, _waiting(webhook), UNDELIVERED, hint, webhook.oldest_at or now)
    if shown.state is SessionState.PASSKEY_REQUIRED and shown.cause is None:
        hint = "open the connect page, or send its link to whose account it is: the passkey is used there"
        return dataclasses.replace(shown, hint=hint)
    return shown


def _waiting(webhook: Webhook) -> str:
    waiting = "1 message waits" if webhook.queued == 1 else f"{webhook.queued} messages wait"
    return f"{waiting} for the web app: {webhook.error or 'it does not answer in time'}"

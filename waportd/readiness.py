"""How far a server has come, and whether further waiting is useful. Pure functions of the registry's data."""

import enum
import time

from waportd.errors import ServerFailed, StartTimeout
from waportd.model import AT_REST, ProcessState, SessionState, Turn
from waportd.registry import Instance

_BEYOND_A_CODE = {SessionState.PAIRING, SessionState.AUTHENTICATED, SessionState.READY}
_DEAD_ENDS = {SessionState.ERROR, SessionState.QR_TIMEOUT, SessionState.PASSKEY_REQUIRED}


class Wait(enum.StrEnum):
    """How far a server must have come before a call returns."""

    NONE = "none"
    LISTENING = "listening"
    QR = "qr"
    READY = "ready"


PATIENCE_S = {Wait.NONE: 0.0, Wait.LISTENING: 30.0, Wait.QR: 90.0, Wait.READY: 180.0}
"""Seconds that a caller waits by default."""


def shows_pairing_code(instance: Instance) -> bool:
    """Return whether a pairing code is shown."""
    return instance.session is not None and instance.session.pairing is not None


def has_reached(instance: Instance | None, wait: Wait) -> bool:
    """Return whether a server has come that far."""
    if instance is None:
        return False
    state = instance.session.state if instance.session and instance.answering else None
    if wait is Wait.READY:
        return state is SessionState.READY
    # A code, or a passkey: something for a person to do.
    return (
        state in _BEYOND_A_CODE or instance.live_qr(time.time()) is not None or instance.passkey is not None
    )


def is_awake(instance: Instance | None) -> bool:
    """Return whether a linked session has got as far as it can on its own."""
    if instance is None or not instance.assignment.linked or instance.process.state in AT_REST:
        return True
    session = instance.session if instance.answering else None
    if session is None or session.turn is Turn.TAKEN:
        return False
    if session.turn is Turn.AWAITED:  # again
        return True
    return session.state not in {SessionState.GENERATING, SessionState.AUTHENTICATED}


def has_failed(instance: Instance | None, asked_at: float) -> bool:
    """Return whether further waiting is useless. A dead end from before the request does not count."""
    if instance is None or instance.process.state in AT_REST:
        return True
    session = instance.session
    if not instance.answering or session is None or session.state not in _DEAD_ENDS or session.passkey:
        return False
    # The server's clock is ours, and its times are cut to milliseconds. A future time is from before the clock was
    # set back.
    return asked_at <= session.since + 0.001 and session.since <= time.time()


def failure(instance: Instance) -> ServerFailed:
    """Return why a server gets no further."""
    session = instance.session
    if instance.answering and session is not None:
        return ServerFailed(session.message, cause=session.cause or str(session.state), hint=session.hint)
    process = instance.process
    return ServerFailed(process.message, cause=process.cause or str(process.state), hint=process.hint)


def too_late(instance: Instance, wait: Wait, timeout: float) -> StartTimeout:
    """Return the error of a caller who has waited ``timeout`` seconds."""
    session = f", session {instance.session.state}: {instance.session.message}" if instance.session else ""
    return StartTimeout(
        f"user {instance.assignment.user} is not {wait} after {timeout:g} s "
        f"(process {instance.process.state}{session})",
        hint=instance.hint if instance.passkey else "it continues; ask again, or with a longer timeout",
        cause=(instance.session.cause if instance.session else None) or instance.process.cause,
        retry_after=5,
    )


def awaits_turn(instance: Instance | None) -> bool:
    """Return whether the session waits for its turn to load WhatsApp's page."""
    session = instance.session if instance is not None and instance.answering else None
    return session is not None and session.turn is Turn.AWAITED


def is_leaving(instance: Instance | None) -> bool:
    """Return whether a server ends: until then it answers requests that are meant for the next one."""
    if instance is None:
        return False
    # A server whose phone was unlinked deletes its session, and ends on its own.
    logged_out = instance.session is not None and instance.session.state is SessionState.LOGGED_OUT
    state = instance.process.state
    return state is ProcessState.STOPPING or (state is ProcessState.RUNNING and logged_out)

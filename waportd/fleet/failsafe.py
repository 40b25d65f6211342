"""What the other members can do for a host that does not reach the engine itself.

The rules are those of Patroni's failsafe mode (https://patroni.readthedocs.io/en/latest/dcs_failsafe_mode.html), with
one more: a member that reaches the engine renews for the host.
"""

import asyncio
import enum
import logging
from collections.abc import Collection, Mapping
from typing import Protocol

from waportd.concurrency import retrieve_error
from waportd.errors import WaportdError
from waportd.fleet.engine import Lease, LeaseLost

log = logging.getLogger(__name__)


class Answer(enum.StrEnum):
    """What a member answers when it is asked to renew the lease of this host."""

    RENEWED = "renewed"
    """It reached the engine, and the lease is renewed."""
    UNREACHABLE = "unreachable"
    """It does not reach the engine either."""
    GONE = "gone"
    """It reached the engine, which does not have this incarnation any more."""
    SILENT = "silent"
    """It did not answer."""


class Peers(Protocol):
    """The other members of the fleet, over the network."""

    def others(self) -> Collection[str]:
        """Return the names of the other hosts that have not left, as of the last contact with the engine.

        None of them where it is not known who they are: there is no failsafe then. Does not wait.
        """

    async def renew(self, host: str, lease: Lease, /) -> str:
        """Have another host renew this lease; return an `Answer`, or raise WaportdError where it gave none.

        It tries for less than `Timing.ask_s`.
        """


async def ask(peers: Peers, lease: Lease, limit_s: float) -> Mapping[str, Answer]:
    """Ask all others at once to renew the lease, also those that an answer makes known; return the answers by host.

    Who has not answered after ``limit_s`` seconds is silent. After an answer that decides alone no other is waited for.
    """
    calls: dict[asyncio.Task[str], str] = {}
    answers: dict[str, Answer] = {}
    loop = asyncio.get_running_loop()
    end, waiting = loop.time() + limit_s, set[asyncio.Task[str]]()
    try:
        while not {Answer.RENEWED, Answer.GONE} & set(answers.values()):
            # Who answers may know hosts that this one did not know.
            new = [host for host in peers.others() if host not in answers]
            asked = {asyncio.create_task(peers.renew(host, lease)): host for host in new}
            calls, waiting = calls | asked, waiting | set(asked)
            answers |= dict.fromkeys(new, Answer.SILENT)
            if not waiting:
                break
            done, waiting = await asyncio.wait(
                waiting, timeout=end - loop.time(), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                break
            answers.update((calls[call], _answer(calls[call], call)) for call in done)
    finally:
        for call in waiting:
            call.add_done_callback(retrieve_error)
            call.cancel()
    return answers


def _answer(host: str, call: asyncio.Task[str]) -> Answer:
    try:
        return Answer(call.result())
    except WaportdError:
        return Answer.SILENT
    except Exception:
        # What guards the lease must not end by an error of what may help it.
        log.exception("Cannot ask host %s to renew the lease", host)
        return Answer.SILENT


def prolonged(answers: Mapping[str, Answer]) -> str | None:
    """Return why this host may keep its lease, for people; None where it may not.

    Raises LeaseLost where the engine does not have the lease any more: it never comes back, so one answer is enough.
    """
    hosts = {answer: sorted(host for host in answers if answers[host] is answer) for answer in Answer}
    if gone := hosts[Answer.GONE]:
        raise LeaseLost(
            f"host {gone[0]} says that the engine does not have this lease any more",
            hint="a new one is taken; users of this host may be on others by then",
        )
    if renewed := hosts[Answer.RENEWED]:
        return f"host {renewed[0]} renews the lease"
    if answers and len(hosts[Answer.UNREACHABLE]) == len(answers):
        return f"failsafe, since no host reaches the engine: {', '.join(sorted(answers))} said so"
    return None


def words(answers: Mapping[str, Answer]) -> str:
    """Return the answers for people."""
    return (
        ", ".join(f"{host} is {answer}" for host, answer in sorted(answers.items()))
        or "no other host is known"
    )

"""Does the same to one user or to many, named or all of a kind: says who is concerned, asks, and continues after a failure."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from waportd.cli import exit_status, terminal
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.client import User, WaportdClientError


@dataclasses.dataclass(frozen=True)
class Verb:
    """What is done to one user or to many."""

    question: str
    """Asked before many are concerned, or where something gets lost."""
    do: Callable[[str], User]
    outcome: Callable[[User], str]
    concerns: Callable[[User], bool]
    """Whether ``--all`` means this user."""
    destroys: bool = False
    document: Callable[[User], Mapping[str, Any]] = lambda user: user.raw
    """What ``--json`` shows of a user afterwards."""

    def words(self, user: User) -> str:
        """Return what was done, for a person."""
        return f"user {user.user}: {self.outcome(user)} (port {user.port}, {user.unit})"


def for_each(context: Context, verb: Verb, named: Sequence[str] | None = None) -> Exit:
    """Do it to the users that the command line names, or to all that it concerns; a failure does not stop the others.

    ``named``: the users that the command line names, where it names more than users.
    """
    options = context.options
    names = list(dict.fromkeys(options.users if named is None else named))
    if options.all == bool(names):
        raise Problem("name users, or --all", f"waportctl {options.command} --help", Exit.USAGE, "usage")
    if options.all:
        names = [user.user for user in context.client.users() if verb.concerns(user)]
    elif verb.destroys:
        for name in names:
            context.client.status(name)  # before asking: the user may not exist
    if options.dry_run or not names:
        return _preview(context, names)
    if (options.all or verb.destroys) and not context.agreed(f"{verb.question} {listed(names)}?", loses=True):
        return Exit.FAILED
    return do(context, verb, names, together=options.all)


def do(context: Context, verb: Verb, names: list[str], *, together: bool = False) -> Exit:
    """Do it without asking. ``together``: shown as for many, even if it is one."""
    if len(names) > 1 or together:
        return _do_all(context, names, verb)
    return _show(context, verb, verb.do(names[0]))


def _preview(context: Context, names: list[str]) -> Exit:
    if context.screen.as_json:
        context.screen.document({"concerns": names})
    else:
        context.screen.text(f"This affects {listed(names)}." if names else "No user is affected.")
    return Exit.OK


def listed(names: list[str]) -> str:
    """Name the users, and how many they are where they cannot be counted at a glance."""
    if len(names) == 1:
        return f"user {names[0]}"
    return f"{len(names)} users: {', '.join(names)}"


def _do_all(context: Context, names: list[str], verb: Verb) -> Exit:
    done: list[User] = []
    problems: dict[str, Problem] = {}
    for name in names:
        try:
            shown = verb.do(name)
        except WaportdClientError as error:
            problem = problems[name] = exit_status.of_client(error)
            if problem.exit_status in {Exit.UNREACHABLE, Exit.NOT_PERMITTED}:
                raise  # it would be the same for the next one
            if not context.screen.as_json:
                terminal.complain(f"user {name}: {problem.message}", problem.hint)
        else:
            done.append(shown)
            if not context.screen.as_json:
                _show(context, verb, shown)
    if context.screen.as_json:
        failed = exit_status.documents(problems)
        context.screen.document({"users": [verb.document(user) for user in done], "failed": failed})
    elif problems:
        terminal.complain(f"{len(problems)} of {len(names)} failed")
    return next((problem.exit_status for problem in problems.values()), Exit.OK)


def _show(context: Context, verb: Verb, user: User) -> Exit:
    if context.screen.as_json:
        context.screen.document(verb.document(user))
    else:
        context.screen.text(verb.words(user))
    return Exit.OK

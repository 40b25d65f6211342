"""``passkey``: WhatsApp's step with the passkey, without the connect page and its extension.

A script runs on WhatsApp's page in the person's own browser. What it says comes back through standard input.
"""

import argparse
import base64
import contextlib
import json
import os
import re
import select
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from waportd.cli import terminal
from waportd.cli.arguments import USER, seconds
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit, Problem
from waportd.cli.following import ENDS, LONG_POLL_S, Follower, Step, in_time, message
from waportd.client import QR, ApiError, BadRequest, Conflict, NoRoom, Passkey
from waportd.command_line import argument, flag

COMMANDS = Commands()


def letters(text: str) -> str:
    """Read the letters that a phone shows."""
    if not re.fullmatch(r"\W*(?:[A-Za-z0-9]\W*){8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not eight letters, such as ABCD-EFGH")
    return text.strip().upper()


_SCRIPT = Path(__file__).resolve().parent.parent / "web" / "snippet.js"
_OPTIONS = "__OPTIONS__"
"""What stands in the script where the options of the request belong."""
_PATIENCE = 300.0
"""Seconds, where nobody watches: what WhatsApp gives the phone and the comparison, and the login after it."""
_LOOK = 0.25
"""Seconds until standard input is looked at again."""
_LONGEST = 64 * 1024
"""Characters. The API takes 8 KiB of JSON, which is 11 KiB of base64url."""
_LETTERS = "[^A-Z0-9]"

_WAYS_OUT = {
    "passkey_malformed": "copy everything that the script shows, and nothing else",
    "passkey_wrong_origin": "run the script in the console of https://web.whatsapp.com, not of another page",
    "passkey_wrong_challenge": "this is the result of an earlier script; run the current script, and paste its result",
    "passkey_wrong_type": "use the script, which logs in with a passkey; a new passkey does not help",
    "passkey_wrong_site": "run the script in the console of https://web.whatsapp.com, and use WhatsApp's passkey",
    "passkey_not_verified": "confirm with fingerprint, face or PIN when the browser asks",
    "no_passkey_request": "`waportctl qr USER` shows a code; WhatsApp asks for a passkey after the scan, or not at all",
    "no_passkey_code": "`waportctl passkey USER` shows the current step",
    "passkey_code_changed": "compare again: `waportctl passkey USER` shows what WhatsApp shows now",
    "passkey_not_allowed": "use the passkey of the account whose phone has scanned the code",
}
"""What helps the person who ran the script, by the code of the API."""

_STEPS = """\
user {user}: WhatsApp wants the passkey of this account{in_time}.
Only the person whose account it is can give it. The connect page is easier:
`waportctl connect-link {user}`. Without it:

1. On a computer that has the passkey, or that is beside the phone with
   Bluetooth on, open https://web.whatsapp.com. Do not log in there.
2. Open the console of the browser: F12, then "Console". Paste the script below,
   and press Enter. Chrome may want you to type "allow pasting" first.
3. Press the button that appears, confirm with the passkey, and copy the result.
4. Paste the result here, and press Enter. It is not shown.

After that, anyone who runs this server can read and send messages of the account,
until it is removed on the phone under Linked devices. Stop with Ctrl-C if you did
not begin this yourself. Never run a script that somebody else has sent you.
"""


@COMMANDS.add(
    "passkey",
    "give WhatsApp the passkey it asks for, without the connect page",
    """
    Prints a script for the browser of the account's owner, reads its result from standard input, and waits until the
    phone is linked. WhatsApp asks for a passkey after the scan, and gives about ten minutes.

    If WhatsApp then shows eight letters, they must be compared with those on the phone: on a terminal it asks;
    elsewhere it ends with exit status 6, and --code continues. Exit status 6 also means: nothing was linked in time.
    """,
    USER,
    argument(
        "--code",
        metavar="LETTERS",
        type=letters,
        help="the eight letters that the phone shows, if WhatsApp wants them compared (default: ask, on a terminal)",
    ),
    flag("--snippet", help="only print the script"),
    flag("--cancel", help="stop, and show codes to scan again"),
    argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="give up after SECONDS (default: never on a terminal, else 300)",
    ),
    examples={
        "go through all steps": "waportctl passkey 2",
        "say that the phone shows the same letters": "waportctl passkey 2 --code ABCD-EFGH",
        "stop, if the letters differ": "waportctl passkey 2 --cancel",
    },
)
def run(context: Context) -> Exit:
    """Show the script, take its result, and follow until a phone is linked."""
    try:
        return _run(context)
    except Conflict as error:
        raise _problem(error) from None


def _run(context: Context) -> Exit:
    options = context.options
    if options.cancel:
        context.client.cancel_passkey(options.user)
        if not context.screen.as_json:
            context.screen.text(f"user {options.user}: stopped; codes to scan are shown again")
        return Exit.OK
    context.client.passkey(options.user)  # says why there is none to give
    talk = _Talk(context)
    return talk.print_script() if options.snippet else talk.go_through()


def script(options: Mapping[str, Any]) -> str:
    """Return what a person runs in the console of WhatsApp's page, for this request."""
    # In ASCII, with every control character escaped: what a page has asked for must do nothing to a terminal.
    return _SCRIPT.read_text("utf-8").replace(_OPTIONS, json.dumps(options)).rstrip("\n")


def result(text: str) -> dict[str, Any] | None:
    """Return the credential in what was pasted: JSON or base64url of it, on one line or several. None: not (all of) one."""
    compact = "".join(text.split()).strip("'\"`")
    if re.fullmatch(r"[A-Za-z0-9_+/-]+=*", compact):
        bare = compact.rstrip("=").translate(str.maketrans("+/", "-_"))
        with contextlib.suppress(ValueError):
            compact = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4)).decode()
    with contextlib.suppress(ValueError, RecursionError):
        credential = json.loads(compact)
        if isinstance(credential, dict):
            return credential
    return None


class _Input:
    """Standard input, read as it arrives: reading it never holds up the following of WhatsApp."""

    def __init__(self) -> None:
        self.person = sys.stdin is not None and sys.stdin.isatty()
        """Whether somebody types."""
        self.ended = sys.stdin is None
        self.text = ""

    def read(self, wait: float) -> bool:
        """Add what comes within ``wait`` seconds to the text; return whether there was any."""
        if self.ended or not select.select([sys.stdin], [], [], wait)[0]:
            return False
        piece = os.read(sys.stdin.fileno(), _LONGEST).decode(errors="replace")
        before, end, _ = piece.partition("\x04")  # Ctrl-D, where the terminal does not read lines
        self.ended = not piece or bool(end)
        self.text += before
        return bool(before)

    @contextlib.contextmanager
    def unseen(self) -> Iterator[None]:
        """Let a terminal take what is pasted as it is: it cuts lines at 4095 characters, and would show them all."""
        if not self.person:
            yield
            return
        import termios

        before = termios.tcgetattr(sys.stdin)
        now = termios.tcgetattr(sys.stdin)
        now[3] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, now)
        try:
            yield
        finally:
            # What follows the result, such as its Enter, is no answer to the next question.
            termios.tcsetattr(sys.stdin, termios.TCSAFLUSH, before)


class _Talk:
    """One request for a passkey, from the script to the end."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._user: str = context.options.user
        self._input = _Input()
        timeout = context.options.timeout
        self._follower = Follower(
            context.client, self._user, _PATIENCE if timeout is None and not self._input.person else timeout
        )
        self._step = Step(self._user)
        self._explained = False
        self._given = False
        self._confirmed: str | None = None

    def print_script(self) -> Exit:
        """Print the script alone, as soon as WhatsApp's request is known."""
        shown = self._follower.now()
        while self._under_way(shown) and self._follower.has_time:
            if shown.passkey is not None and shown.passkey.stage == "asked":
                text = script(shown.passkey.options or {})
                if self._context.screen.as_json:
                    document = {"user": self._user, "snippet": text, "passkey": shown.raw["passkey"]}
                    self._context.screen.document(document)
                else:
                    print(text, flush=True)
                return Exit.OK
            shown = self._follower.next(LONG_POLL_S)
        raise Problem(
            f"WhatsApp wants no passkey of user {self._user} now: {shown.message}",
            shown.hint,
            Exit.FAILED if self._follower.has_time else Exit.NOT_IN_TIME,
            "no_passkey_request",
        )

    def go_through(self) -> Exit:
        """Do each step as it comes; return when a phone is linked, nothing more comes, or time is up."""
        shown = self._follower.now()
        while self._under_way(shown) and self._follower.has_time:
            stage = shown.passkey.stage if shown.passkey else None
            is_new = self._step.changed(shown)
            if stage == "asked":
                shown = self._ask_for_result(shown)
            elif stage == "code":
                ended = self._compare(shown, is_new=is_new)
                if ended is not None:
                    return ended
                shown = self._follower.next(LONG_POLL_S if self._confirmed else _LOOK)
            else:
                if stage == "failed" and self._given and not self._input.person:
                    raise Problem(shown.message, shown.hint, code="passkey_failed")
                if is_new:
                    self._say(self._step.words(""))
                shown = self._follower.next(LONG_POLL_S)
        return self._end(shown)

    def _under_way(self, shown: QR) -> bool:
        """Return whether a phone may still get linked by this."""
        return shown.status not in ENDS and shown.qr is None

    def _say(self, text: str) -> None:
        """Say it to the person. Standard output is for the script, and for what programs read."""
        terminal.complain(text)

    # The result of the script

    def _ask_for_result(self, shown: QR) -> QR:
        """Show the script and take its result, until WhatsApp wants something else."""
        assert shown.passkey is not None
        challenge = _challenge(shown.passkey)
        # First of all: what is pasted as soon as the prompt is there is unseen, too.
        with self._input.unseen():
            if self._input.person:
                self._explain(shown)
            while (
                shown.passkey is not None
                and shown.passkey.stage == "asked"
                and _challenge(shown.passkey) == challenge
                and self._follower.has_time
            ):
                self._take_result()
                shown = self._follower.next(_LOOK)
        self._input.text = ""
        return shown

    def _explain(self, shown: QR) -> None:
        passkey = shown.passkey
        assert passkey is not None
        user = self._user
        if self._explained:
            self._say(
                f"user {user}: WhatsApp asks again{in_time(shown)}. Run this script instead of the one before: the old "
                "result\nis no longer valid. Paste what this one shows:\n"
            )
        else:
            self._explained = True
            self._say(_STEPS.format(user=user, in_time=in_time(shown)))
        if self._context.screen.as_json:
            self._say(script(passkey.options or {}))
        else:
            print(script(passkey.options or {}), flush=True)
        self._say("\nThe result:")

    def _take_result(self) -> None:
        """Give WhatsApp what standard input has so far, if that is a result. A refused one can be given again."""
        news = self._input.read(_LOOK)
        credential = result(self._input.text)
        if credential is not None:
            self._input.text = ""
            self._give(credential)
            return
        if self._input.ended:
            raise Problem(
                f"{'not a' if self._input.text.strip() else 'no'} result of the script on standard input",
                f"`waportctl passkey {self._user} --snippet` prints the script",
                Exit.USAGE,
                "no_result",
            )
        if len(self._input.text) > _LONGEST or (self._input.person and not news and self._is_no_result()):
            self._input.text = ""
            self._say(
                "That is not the result of the script, or not all of it. Paste it again, and press Enter:"
            )

    def _is_no_result(self) -> bool:
        """Return whether a line was typed that cannot begin a result, or an empty line after one that can."""
        text = self._input.text.lstrip(" '\"`")
        if text.strip() and text.startswith(("{", "ey")):
            return text.endswith(("\n\n", "\r\n\r\n", "\r\r"))
        return text.endswith(("\n", "\r")) and bool(text.strip())

    def _give(self, credential: dict[str, Any]) -> None:
        try:
            self._context.client.give_passkey(self._user, credential)
        except (BadRequest, Conflict, NoRoom) as error:
            problem = _problem(error)
            if error.code == "passkey_given":
                self._say(f"user {self._user}: {error.detail}")  # somebody was quicker
            elif self._input.person:
                self._say(f"{problem.message}\n{problem.hint or ''}".strip() + "\nThe result:")
            else:
                raise problem from None
        else:
            self._given = True

    # The letters

    def _compare(self, shown: QR, *, is_new: bool) -> Exit | None:
        """Have the letters of WhatsApp's page compared with those of the phone; return how it ends, if it does."""
        assert shown.passkey is not None
        letters, typed = shown.passkey.code or "", self._context.options.code
        if self._confirmed == letters:
            return None
        if typed is not None:
            if _bare(typed) != _bare(letters):
                raise Problem(
                    f"the phone shows {typed}, and WhatsApp's page {letters}",
                    f"if you read the letters correctly, somebody else is being linked: `waportctl passkey {self._user} --cancel`",
                    code="passkey_code_differs",
                )
            self._confirm(letters)
            return None
        if not self._input.person or self._input.ended:
            self._say(self._step.words(""))
            if self._context.screen.as_json:
                self._context.screen.document(shown.raw)
            return Exit.NOT_IN_TIME
        if is_new:
            self._input.text = ""
            self._ask_for_yes(letters)
        self._input.read(0)
        return self._hear(letters)

    def _ask_for_yes(self, letters: str) -> None:
        print(
            f"Does the phone show {terminal.plain(letters)}? [yes/no] ", end="", file=sys.stderr, flush=True
        )

    def _hear(self, letters: str) -> Exit | None:
        line, end, rest = self._input.text.partition("\n")
        if not end:
            return None
        self._input.text = rest
        answer = line.strip().lower()
        if answer in {"y", "yes"}:
            self._confirm(letters)
        elif answer in {"n", "no"}:
            with contextlib.suppress(Conflict):  # it is over already
                self._context.client.cancel_passkey(self._user)
            self._say(f"user {self._user}: stopped; nothing was linked, and codes to scan are shown again")
            return Exit.FAILED
        else:
            self._ask_for_yes(letters)
        return None

    def _confirm(self, letters: str) -> None:
        try:
            self._context.client.confirm_passkey(self._user, letters)
        except Conflict as error:
            # WhatsApp may have continued on its own; the new state is shown next.
            self._say(f"user {self._user}: {error.detail}")
            if self._context.options.code is not None:
                raise
        else:
            self._confirmed = letters

    # The end

    def _end(self, shown: QR) -> Exit:
        over = shown.qr is not None
        if self._context.screen.as_json:
            self._context.screen.document(shown.raw)
        elif over:
            self._say(f"user {self._user}: nothing was linked, and codes to scan are shown again")
        else:
            self._context.screen.text(message(self._user, shown))
        if shown.ready:
            return Exit.OK
        return Exit.FAILED if over or shown.status in ENDS else Exit.NOT_IN_TIME


def _challenge(passkey: Passkey) -> object:
    return (passkey.options or {}).get("challenge")


def _bare(letters: str) -> str:
    return re.sub(_LETTERS, "", letters.upper())


def _problem(error: ApiError) -> Problem:
    return Problem(error.detail, _WAYS_OUT.get(error.code, error.hint), code=error.code)

"""Who may do what: the table that tests/guest/test_authorization.py tries, cell by cell, and docs/security.md shows.

`yes` is done, `no` is refused by the kernel or systemd (or there is nothing to see), a number is the HTTP status of the
refusal. Everything concerns user 2, on port 5002, whose phone is linked; `api.allow_users` names one web app.
"""

from __future__ import annotations

from dataclasses import dataclass

LOCAL = {
    "root": "root",
    "app": "the web app: in group `waportd`, and named in `api.allow_users`",
    "member": "somebody in group `waportd` that `api.allow_users` does not name",
    "other": "another local user",
    "alien": "the session of user 1: what runs as its user id, with its view of the machine",
    "own": "the session of user 2 itself",
    "daemon": "what runs as the daemon's user, with the daemon's view of the machine",
}
REMOTE = {
    "nobody": "over TCP, nothing is shown",
    "wrong": "over TCP, an unknown token",
    "token 1": "over TCP, the token of user 1",
    "token 2": "over TCP, the token of user 2",
    "admin": "over TCP, a token of scope `admin`",
    "read": "over TCP, a token of scope `read`",
    "metrics": "over TCP, a token of scope `metrics`",
    "link 1": "over TCP, a connect link of user 1",
    "link 2": "over TCP, a connect link of user 2",
}
AFAR = {"host": "another host, or a caller of any address but loopback"}


@dataclass(frozen=True)
class Table:
    """What may be done, of one kind, and who may do it."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]
    """By what is done: a cell for each column."""

    def markdown(self) -> list[str]:
        """Return the table as lines of Markdown."""
        lines = [f"| {self.title} | {' | '.join(self.columns)} |", "|---" * (len(self.columns) + 1) + "|"]
        for what, cells in self.rows.items():
            call, _, note = what.partition(", ")
            shown = f"`{call}`" if call.isascii() and "/" in call else call
            lines.append(f"| {', '.join(filter(None, (shown, note)))} | {' | '.join(cells)} |")
        return lines


def _table(title: str, columns: dict[str, str], text: str) -> Table:
    rows = {}
    for line in text.strip().splitlines()[1:]:  # the first one is for people
        what, *cells = line.rsplit(maxsplit=len(columns))
        rows[what.strip()] = tuple(cells)
    return Table(title, tuple(columns), rows)


API = _table(
    "Call of the API",
    LOCAL | REMOTE,
    """
                                           root  app  member  other alien own  daemon nobody wrong tok.1 tok.2 admin      read  metrics link1 link2
GET /v1/users                               yes  yes   403     no    no    no   403     401   401   403   403   yes       yes   403     400   400
GET /v1/users/{user}                        yes  yes   403     no    no    no   403     401   401   403   yes   yes       yes   403     400   400
PUT /v1/users/{user}                        yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     403   yes
PUT /v1/users/{user}, with options          yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     403   403
PATCH /v1/users/{user}                       yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403        400   400
GET /v1/users/{user}/qr                     yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     403   yes
POST /v1/users/{user}/pairing-code          yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     403   yes
DELETE /v1/users/{user}/pairing-code        yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     403   yes
GET /v1/users/{user}/passkey                yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     403   yes
POST /v1/users/{user}/passkey               yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     403   yes
POST /v1/users/{user}/passkey/confirm       yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     403   yes
DELETE /v1/users/{user}/passkey             yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     403   yes
GET /v1/users/{user}/events                 yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     403   yes
GET /v1/events                              yes  yes   403     no    no    no   403     401   401   403   403   yes       yes   403     400   400
GET /v1/users/{user}/logs                   yes  yes   403     no    no    no   403     401   401   403   yes   yes       yes   403     400   400
GET /v1/audit                               yes  yes   403     no    no    no   403     401   401   403   403   yes       403   403     400   400
POST /v1/users/{user}/connect-link          yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
GET /v1/ports/{port}                        yes  yes   403     no    no    no   403     401   401   403   403   yes       yes   403     400   400
GET /v1/tokens                              yes  yes   403     no    no    no   403     401   401   403   403   yes       yes   403     400   400
POST /v1/tokens                             yes  yes   403     no    no    no   403     401   401   403   403   yes       403   403     400   400
DELETE /v1/tokens/{id}                      yes  yes   403     no    no    no   403     401   401   403   403   yes       403   403     400   400
GET /v1/caller                              yes  yes   403     no    no    no   403     401   401   yes   yes   yes       yes   yes     400   400
GET /v1/host                                yes  yes   403     no    no    no   403     401   401   403   403   yes       yes   403     400   400
GET /v1/hosts                               yes  yes   403     no    no    no   403     401   401   403   403   yes       yes   403     400   400
GET /v1/hosts/{host}                        yes  yes   403     no    no    no   403     401   401   403   403   yes       yes   403     400   400
POST /v1/hosts/{host}/drain                 yes  yes   403     no    no    no   403     401   401   403   403   yes       403   403     400   400
POST /v1/hosts/{host}/activate              yes  yes   403     no    no    no   403     401   401   403   403   yes       403   403     400   400
POST /v1/hosts/{host}/evict                 yes  yes   403     no    no    no   403     401   401   403   403   yes       403   403     400   400
GET /v1/history                             yes  yes   403     no    no    no   403     401   401   403   403   yes       yes   403     400   400
GET /v1/health                              yes  yes   403     no    no    no   403     401   401   403   403   yes       yes   yes     400   400
GET /metrics                                yes  yes   403     no    no    no   403     401   401   403   403   yes       yes   yes     400   400
GET /openapi.json                           yes  yes   403     no    no    no   403     yes   yes   yes   yes   yes       yes   yes     400   400
GET /api/qr                                 yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     401   401
GET /api/port                               yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     401   401
GET /api/whatsapp-status                    yes  yes   403     no    no    no   403     401   401   403   yes   yes       yes   403     401   401
GET /                                       yes  yes   403     no    no    no   403     yes   yes   yes   yes   yes       yes   yes     yes   yes
GET /connect                                yes  yes   403     no    no    no   403     yes   yes   yes   yes   yes       yes   yes     yes   yes
GET /docs                                   yes  yes   403     no    no    no   403     yes   yes   yes   yes   yes       yes   yes     yes   yes
GET /assets/{name}                          yes  yes   403     no    no    no   403     yes   yes   yes   yes   yes       yes   yes     400   400
GET /v1/users/{user}/messages               yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/messages              yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/messages/redeliver    yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
GET /v1/users/{user}/messages/{id}          yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
PATCH /v1/users/{user}/messages/{id}        yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
DELETE /v1/users/{user}/messages/{id}       yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/messages/{id}/reaction  yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/messages/{id}/forward  yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/chats/{id}/typing     yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/chats/{id}/recording  yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/chats/{id}/seen       yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
GET /v1/users/{user}/numbers/{number}       yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
GET /v1/users/{user}/chats                  yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
GET /v1/users/{user}/chats/{id}             yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
GET /v1/users/{user}/chats/{id}/messages    yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/chats/{id}/earlier    yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
GET /v1/users/{user}/contacts               yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
GET /v1/users/{user}/contacts/{id}          yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
GET /v1/users/{user}/contacts/{id}/picture  yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
GET /v1/users/{user}/groups                 yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/groups                yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
GET /v1/users/{user}/groups/{id}            yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
PATCH /v1/users/{user}/groups/{id}          yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
DELETE /v1/users/{user}/groups/{id}         yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/groups/{id}/participants  yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
GET /v1/users/{user}/media/{id}             yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/stop                  yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/start                 yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/restart               yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/logout                yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
POST /v1/users/{user}/move                  yes  yes   403     no    no    no   403     401   401   403   403   yes       403   403     400   400
DELETE /v1/connect-links                    yes  yes   403     no    no    no   403     401   401   403   403   yes       403   403     400   400
DELETE /v1/users/{user}                     yes  yes   403     no    no    no   403     401   401   403   yes   yes       403   403     400   400
""",
)
SERVER = _table(
    "Call of the user's server",
    LOCAL | AFAR,
    """
                                           root  app  member  other alien own  daemon  host
GET /                                       yes  yes   403     403   403   403  yes     no
GET /health                                 yes  yes   403     403   403   403  yes     no
GET /qr                                     yes  yes   403     403   403   403  yes     no
POST /qr/new                                yes  yes   403     403   403   403  yes     no
POST /begin                                 yes  yes   403     403   403   403  yes     no
GET /status                                 yes  yes   403     403   403   403  yes     no
GET /session                                yes  yes   403     403   403   403  yes     no
GET /events                                 yes  yes   403     403   403   403  yes     no
POST /pairing-code                          yes  yes   403     403   403   403  yes     no
DELETE /pairing-code                        yes  yes   403     403   403   403  yes     no
GET /passkey                                yes  yes   403     403   403   403  yes     no
POST /passkey                               yes  yes   403     403   403   403  yes     no
POST /passkey/confirm                       yes  yes   403     403   403   403  yes     no
DELETE /passkey                             yes  yes   403     403   403   403  yes     no
POST /send                                  yes  yes   403     403   403   403  yes     no
GET /chats                                  yes  yes   403     403   403   403  yes     no
GET /chats/{id}/messages                    yes  yes   403     403   403   403  yes     no
GET /messages                               yes  yes   403     403   403   403  yes     no
POST /messages                              yes  yes   403     403   403   403  yes     no
POST /messages/redeliver                    yes  yes   403     403   403   403  yes     no
GET /messages/{id}                          yes  yes   403     403   403   403  yes     no
PATCH /messages/{id}                        yes  yes   403     403   403   403  yes     no
DELETE /messages/{id}                       yes  yes   403     403   403   403  yes     no
POST /messages/{id}/reaction                yes  yes   403     403   403   403  yes     no
POST /messages/{id}/forward                 yes  yes   403     403   403   403  yes     no
POST /chats/{id}/typing                     yes  yes   403     403   403   403  yes     no
POST /chats/{id}/recording                  yes  yes   403     403   403   403  yes     no
POST /chats/{id}/seen                       yes  yes   403     403   403   403  yes     no
POST /chats/{id}/earlier                    yes  yes   403     403   403   403  yes     no
GET /numbers/{number}                       yes  yes   403     403   403   403  yes     no
GET /chats/{id}                             yes  yes   403     403   403   403  yes     no
GET /contacts                               yes  yes   403     403   403   403  yes     no
GET /contacts/{id}                          yes  yes   403     403   403   403  yes     no
GET /contacts/{id}/picture                  yes  yes   403     403   403   403  yes     no
GET /groups                                 yes  yes   403     403   403   403  yes     no
POST /groups                                yes  yes   403     403   403   403  yes     no
GET /groups/{id}                            yes  yes   403     403   403   403  yes     no
PATCH /groups/{id}                          yes  yes   403     403   403   403  yes     no
DELETE /groups/{id}                         yes  yes   403     403   403   403  yes     no
POST /groups/{id}/participants              yes  yes   403     403   403   403  yes     no
GET /media/{id}                             yes  yes   403     403   403   403  yes     no
POST /snapshot                              yes  yes   403     403   403   403  yes     no
POST /disconnect                            yes  yes   403     403   403   403  yes     no
GET /status, of user 3, without a list      yes  yes   yes     yes   403   403  yes     no
""",
)
FILES = _table(
    "File",
    LOCAL,
    """
                                           root  app  member  other alien own  daemon
the store, read                             yes  no    no      no    no    no   yes
the store, write                            yes  no    no      no    no    no   yes
the store's folder, list                    yes  no    no      no    no    no   yes
the user's environment file, read           yes  no    no      no    no    no   yes
the user's environment file, write          yes  no    no      no    no    no   yes
the session's login, read                   yes  no    no      no    no    yes  no
the session's login, write                  yes  no    no      no    no    yes  no
the session's folder, list                  yes  no    no      no    no    yes  no
the session's folder, write                 yes  no    no      no    no    yes  no
the session's cache, list                   yes  no    no      no    no    yes  no
all sessions' folder, write                 yes  no    no      no    no    no   no
the server's environment, read              yes  no    no      no    no    yes  no
the server's open files, list               yes  no    no      no    no    yes  no
the server's root, list                     yes  no    no      no    no    yes  no
the server's command line, read             yes  yes   yes     yes   no    yes  no
the daemon's environment, read              yes  no    no      no    no    no   yes
the configuration, read                     yes  yes   yes     no    no    no   yes
the configuration, write                    yes  no    no      no    no    no   no
the folder of the API's socket, write       yes  no    no      no    no    no   no
the units of this boot, write               yes  no    no      no    no    no   no
the units, write                            yes  no    no      no    no    no   no
the program, write                          yes  no    no      no    no    no   no
the engines' folder, write                  yes  no    no      no    no    no   no
an engine, read                             yes  yes   yes     yes   yes   yes  yes
an engine, write                            yes  no    no      no    no    no   no
the journal, read                           yes  no    no      no    no    no   yes
""",
)
BUS = _table(
    "Call of systemd",
    LOCAL,
    """
                                           root  app  member  other alien own  daemon
start a server                              yes  no    no      no    no    no   yes
restart a server                            yes  no    no      no    no    no   yes
limit a server                              yes  no    no      no    no    no   yes
signal a server                             yes  no    no      no    no    no   no
stop a server                               yes  no    no      no    no    no   yes
stop a server's port                        yes  no    no      no    no    no   yes
forget that a server failed                 yes  no    no      no    no    no   yes
delete what a server kept                   yes  no    no      no    no    no   yes
put off a server's next start               yes  no    no      no    no    no   yes
restart such a pause                        yes  no    no      no    no    no   no
end such a pause                            yes  no    no      no    no    no   yes
let a server reach denied networks          yes  no    no      no    no    no   yes
move what a server kept                     yes  no    no      no    no    no   yes
stop such a move                            yes  no    no      no    no    no   no
start another unit                          yes  no    no      no    no    no   no
limit another unit                          yes  no    no      no    no    no   no
stop another unit                           yes  no    no      no    no    no   no
delete what another unit kept               yes  no    no      no    no    no   no
forget all failures                         yes  no    no      no    no    no   no
enable a unit                               yes  no    no      no    no    no   no
set a variable for all units                yes  no    no      no    no    no   no
reload the units                            yes  no    no      no    no    no   no
""",
)


def markdown() -> str:
    """Return who there is and what each may do, in Markdown."""
    lines = [f"- **{name}**: {about}" for name, about in (LOCAL | REMOTE | AFAR).items()]
    for table in (API, SERVER, FILES, BUS):
        lines += ["", *table.markdown()]
    return "\n".join(lines) + "\n"

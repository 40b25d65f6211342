"""``token``: keys to the API over TCP."""

from waportd.cli import terminal
from waportd.cli.arguments import count
from waportd.cli.commands import Commands
from waportd.cli.context import Context
from waportd.cli.exit_status import Exit
from waportd.command_line import Command, OneOf, argument

COMMANDS = Commands()


@COMMANDS.add(
    "list",
    "list the tokens, without their secrets",
    """
    Shows id, scope, age, last use and end of each token. The secret is kept nowhere and cannot be shown again.
    """,
    examples={"list the tokens": "waportctl token list"},
)
def list_tokens(context: Context) -> Exit:
    """List the keys; their secrets are not kept anywhere."""
    tokens = context.client.tokens()
    if context.screen.as_json:
        context.screen.document({"tokens": [token.raw for token in tokens]})
    elif not tokens:
        context.screen.text("There are no tokens. `waportctl token create NAME` makes one.")
    else:
        rows = [
            [
                token.id,
                token.scope,
                terminal.age(token.created_at),
                terminal.age(token.last_used_at),
                "never" if token.expires_at is None else f"{token.expires_at.astimezone():%F}",
                token.name,
            ]
            for token in tokens
        ]
        context.screen.table(("ID", "SCOPE", "AGE", "LAST USED", "ENDS", "NAME"), rows)
    return Exit.OK


@COMMANDS.add(
    "create",
    "make a token and print it, once",
    """
    Prints the secret to standard output, and its id and scope to standard error. Keep the secret like a
    password. A client sends it as `Authorization: Bearer TOKEN` to an address of api.listen.
    """,
    argument("name", metavar="NAME", help="what it is for, as the list shows it"),
    OneOf(
        (
            argument("--user", metavar="USER", help="for this user only (default: for everything)"),
            argument(
                "--scope",
                choices=("admin", "read", "metrics"),
                default="admin",
                help="everything, all documents without codes and changes, or metrics and health",
            ),
        )
    ),
    argument("--days", metavar="N", type=count, help="days until it expires (default: never)"),
    examples={
        "make a token that may do everything": "waportctl token create shop",
        "make one for Prometheus that expires in a year": "waportctl token create prometheus --scope metrics --days 365",
    },
    also=("add", "new"),
)
def create(context: Context) -> Exit:
    """Make a key; only the secret goes to standard output, so that it can be kept in a file."""
    options = context.options
    scope = f"user:{options.user}" if options.user else options.scope
    token = context.client.create_token(options.name, scope, options.days and options.days * 86_400)
    if context.screen.as_json:
        context.screen.document(token.raw)
        return Exit.OK
    terminal.complain(f"Token {token.id} ({token.scope}). It is shown only once; keep it like a password:")
    print(token.token, flush=True)
    return Exit.OK


@COMMANDS.add(
    "revoke",
    "revoke a token",
    """
    The token is refused from now on. This cannot be undone: make a new token instead.
    """,
    argument("id", metavar="ID", help="the token's id, as the list shows it"),
    examples={"revoke the token with the id 3f9a": "waportctl token revoke 3f9a"},
    also=("rm", "remove", "delete"),
)
def revoke(context: Context) -> Exit:
    """Revoke a key, from now on."""
    context.client.revoke_token(context.options.id)
    if context.screen.as_json:
        context.screen.document({"revoked": context.options.id})
    else:
        context.screen.text(f"token {context.options.id} is revoked")
    return Exit.OK


@COMMANDS.add(
    "revoke-links",
    "revoke all connect links of all users",
    """
    Connect links that were made before no longer work. New links can be made at once. Tokens are not affected.
    """,
    examples={"revoke all connect links": "waportctl token revoke-links"},
)
def revoke_links(context: Context) -> Exit:
    """Revoke all connect links, by changing the key of their signatures."""
    context.client.revoke_links()
    if context.screen.as_json:
        context.screen.document({"revoked": "links"})
    else:
        context.screen.text("all connect links are revoked")
    return Exit.OK


GROUP = Command(
    "token",
    "manage tokens for the API over TCP",
    "A token lets a client call the API over TCP, at the addresses of api.listen. The socket needs none: there, the user and the group decide.",
    commands=tuple(COMMANDS),
)

"""``token``: keys to the API over TCP."""

from waportd.cli import terminal
from waportd.cli.exits import Exit
from waportd.cli.main import Context


def list_tokens(context: Context) -> Exit:
    """List the keys; their secrets are not kept anywhere."""
    tokens = context.client.tokens()
    if context.screen.as_json:
        context.screen.document({"tokens": [token.raw for token in tokens]})
    elif not tokens:
        context.screen.text("There are no keys. `waportctl token create NAME` makes one.")
    else:
        rows = [
            [
                token.id,
                token.scope,
                terminal.age(token.created_at),
                terminal.age(token.last_used_at),
                "never" if token.expires_at is None else f"{token.expires_at:%F}",
                token.name,
            ]
            for token in tokens
        ]
        context.screen.table(("ID", "SCOPE", "AGE", "LAST USED", "ENDS", "NAME"), rows)
    return Exit.OK


def create(context: Context) -> Exit:
    """Make a key; only the secret goes to standard output, so that it can be kept in a file."""
    options = context.options
    scope = f"user:{options.user}" if options.user else options.scope
    token = context.client.create_token(options.name, scope, options.days and options.days * 86_400)
    if context.screen.as_json:
        context.screen.document(token.raw)
        return Exit.OK
    terminal.complain(f"Key {token.id} ({token.scope}). It is shown this once; keep it like a password:")
    print(token.token, flush=True)
    return Exit.OK


def revoke(context: Context) -> Exit:
    """Take a key back, from now on."""
    context.client.revoke_token(context.options.id)
    if context.screen.as_json:
        context.screen.document({"revoked": context.options.id})
    else:
        context.screen.text(f"key {context.options.id} is revoked")
    return Exit.OK


def revoke_links(context: Context) -> Exit:
    """Take all connect links back, by another key for their signatures."""
    context.client.revoke_links()
    if context.screen.as_json:
        context.screen.document({"revoked": "links"})
    else:
        context.screen.text("no connect link that was made before opens anything")
    return Exit.OK

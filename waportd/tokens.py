"""Tokens of callers over TCP: created once, shown once, kept as hashes."""

import dataclasses
import enum
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterator
from typing import Final, Protocol

from waportd.errors import Conflict, UnknownToken
from waportd.model import User

MAX_TOKENS: Final = 1000
"""The most tokens."""

_FORM = re.compile(r"waportd_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
"""A prefix for scanners that look for leaked secrets, the token's id, and 256 random bits."""


class Kind(enum.StrEnum):
    """What a token allows."""

    ADMIN = "admin"
    USER = "user"
    """The calls that concern one user."""
    READ = "read"
    """All documents, but no codes and no changes."""
    METRICS = "metrics"


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token, which is not enough to recreate it."""

    id: str
    name: str
    user: User | None
    """The user whose calls it allows; None: all users."""
    digest: str = dataclasses.field(repr=False)
    """SHA-256 of the token, in hexadecimal digits.

    No slow hash, and no salt: these make guesses at passwords expensive, and nobody guesses one of 2^256.
    """
    created_at: float
    """Seconds since the epoch."""
    last_used_at: float | None = None
    """Seconds since the epoch; the stored value may be a minute old."""
    scope: str | None = None
    """The kind that does not follow from ``user``: read or metrics."""
    expires_at: float | None = None
    """Seconds since the epoch; None: it does not expire."""

    @property
    def kind(self) -> Kind:
        """What it allows."""
        if self.scope is not None:
            return Kind(self.scope)
        return Kind.ADMIN if self.user is None else Kind.USER

    def holds(self) -> bool:
        """Return whether it has not expired."""
        return self.expires_at is None or self.expires_at > time.time()


class TokenStore(Protocol):
    """Keeps tokens. A method that returned has reached the disk."""

    async def load_tokens(self) -> list[Token]:
        """Return all tokens, the oldest first."""

    async def put_token(self, token: Token) -> None:
        """Insert or replace."""

    async def remove_token(self, identifier: str) -> None:
        """Forget a token; one that is unknown is fine."""


class Tokens:
    """All tokens, in memory: recognising one reads no disk."""

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._tokens: dict[str, Token] = {}
        self._used: set[str] = set()
        """Tokens whose use is not on disk yet."""

    async def load(self) -> None:
        """Read them. Raises StoreError."""
        self._tokens = {token.id: token for token in await self._store.load_tokens()}

    def __iter__(self) -> Iterator[Token]:
        """Iterate over all tokens, the oldest first."""
        return iter(sorted(self._tokens.values(), key=lambda token: token.created_at))

    async def create(
        self, name: str, user: User | None, kind: Kind | None = None, lifetime: float | None = None
    ) -> tuple[Token, str]:
        """Create a token; return what is kept of it, and the token itself, a secret that cannot be shown again.

        ``kind`` is READ or METRICS; otherwise it follows from ``user``. ``lifetime`` is in seconds.
        """
        if len(self._tokens) >= MAX_TOKENS:
            raise Conflict(f"there are {MAX_TOKENS} tokens already", hint="delete those that nobody uses")
        identifier = secrets.token_hex(6)
        text = f"waportd_{identifier}_{secrets.token_urlsafe(32)}"
        now = time.time()
        token = Token(
            identifier,
            name,
            user,
            _digest(text),
            now,
            scope=str(kind) if kind in {Kind.READ, Kind.METRICS} else None,
            expires_at=None if lifetime is None else now + lifetime,
        )
        await self._keep_new(token)
        self._tokens[token.id] = token
        return token, text

    async def _keep_new(self, token: Token) -> None:
        await self._store.put_token(token)

    async def revoke(self, identifier: str) -> None:
        """Delete a token: it is invalid at once. Raises UnknownToken."""
        if identifier not in self._tokens:
            raise UnknownToken(f"there is no token {identifier}", hint="`GET /v1/tokens` lists them")
        # First here: while it is known, `keep_uses` would write it again after it was removed.
        token = self._tokens.pop(identifier)
        try:
            await self._store.remove_token(identifier)
        except BaseException:
            self._tokens[identifier] = token
            raise

    def recognise(self, text: str) -> Token | None:
        """Return the token with this text, and note its use; None for a text that is no token."""
        match = _FORM.fullmatch(text)
        # The id is no secret, so only the comparison of the hash takes constant time.
        token = self._tokens.get(match[1]) if match else None
        if token is None or not hmac.compare_digest(_digest(text), token.digest) or not token.holds():
            return None
        self._tokens[token.id] = token = dataclasses.replace(token, last_used_at=time.time())
        self._used.add(token.id)
        return token

    def get(self, identifier: str) -> Token | None:
        """Return the token of that id."""
        return self._tokens.get(identifier)

    def is_valid(self, identifier: str) -> bool:
        """Return whether a token that was recognised is still valid."""
        token = self._tokens.get(identifier)
        return token is not None and token.holds()

    async def keep_uses(self) -> None:
        """Write when tokens were last used. Raises StoreError."""
        while self._used:
            token = self._tokens.get(self._used.pop())
            if token is not None:
                await self._keep_use(token)

    async def _keep_use(self, token: Token) -> None:
        await self._store.put_token(token)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

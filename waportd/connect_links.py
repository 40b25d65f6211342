"""Connect links: anyone who has one may link a phone for one user, for some minutes, and nothing else."""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Awaitable, Callable
from typing import Final

from waportd.errors import LinkExpired, LinkInvalid
from waportd.model import User

MAX_LIFETIME_S: Final = 24 * 3600
"""Seconds."""
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
_HINT = "ask for a new link where this one came from"


class Links:
    """Signs links and recognises them. The link itself says what it grants, so none is kept."""

    def __init__(self, key: bytes, renew: Callable[[], Awaitable[bytes]]) -> None:
        """``renew`` makes another key, and keeps it."""
        self._key = key
        self._renew = renew
        self.changes = 0
        """How often the key was changed."""
        self.public_url = ""
        """Where people reach the pages, without a slash at the end; empty where nobody has said."""

    async def revoke_all(self) -> None:
        """Make all earlier links invalid. Raises StoreError."""
        self.use(await self._renew())

    def use(self, key: bytes) -> None:
        """Sign with this key from now on; links that were signed with another one are invalid."""
        if key != self._key:
            self._key = key
            self.changes += 1

    def sign(self, user: User, lifetime: float) -> tuple[int, str]:
        """Return the end of a new link, in seconds since the epoch, and its signature. A secret until then."""
        expires = int(time.time() + lifetime)
        return expires, self._signature("connect", user, str(expires))

    def check(self, user: User, expires: str, signature: str) -> int:
        """Return the end of the link of that user; raise LinkInvalid or LinkExpired."""
        if not self._signed(signature, "connect", user, expires) or not _SECONDS.fullmatch(expires):
            raise LinkInvalid("the link is not one of ours, or is for another user", hint=_HINT)
        if int(expires) <= time.time():
            raise LinkExpired("the link has expired", hint=_HINT)
        return int(expires)

    def sign_return(self, user: User, expires: int, address: str) -> str:
        """Return the signature of the address to which a link of that user and end leads back."""
        return self._signature("return", user, str(expires), address)

    def vouches_for(self, user: str, expires: str, address: str, signature: str) -> bool:
        """Return whether a link of that user and end came with that address to return to; also when it has ended."""
        is_link = "/" not in user and _SECONDS.fullmatch(expires) is not None
        return is_link and self._signed(signature, "return", user, expires, address)

    def _signed(self, signature: str, *parts: str) -> bool:
        # As bytes: what callers send need not be ASCII.
        return hmac.compare_digest(signature.encode(errors="replace"), self._signature(*parts).encode())

    def _signature(self, *parts: str) -> str:
        """Sign with HMAC-SHA-256. No user's name holds the separator, and only the last part may."""
        text = "/".join(parts).encode(errors="replace")
        digest = hmac.new(self._key, text, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

"""Secrets of users in the engine: encrypted with the fleet's key, which the engine never sees.

The same values give the same text each time: a row that has not changed is not written again. So who reads the engine
learns when a user has the same secrets as before, and nothing else. The nonce is made from the values themselves, as that
of a chunk (`waportd.fleet.chunks`).
"""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from waportd.fleet.chunks import Damaged, FleetKeys

_NONCE_BYTES: Final = 12
_NUMBER_BYTES: Final = 4


class Sealing:
    """Encrypts for all hosts of the fleet."""

    def __init__(self, keys: FleetKeys) -> None:
        self._keys = keys

    def seal(self, user: str, values: Mapping[str, Any]) -> str:
        """Return values of a user, as JSON has them, as a text that only hosts of the fleet can read."""
        number = self._keys.newest
        plain = json.dumps(values, sort_keys=True).encode()
        nonce = hmac.digest(
            self._keys.derive(number, "the nonces of secrets", user.encode()), plain, "sha256"
        )
        sealed = self._cipher(number, user).encrypt(nonce[:_NONCE_BYTES], plain, user.encode())
        return base64.b64encode(number.to_bytes(_NUMBER_BYTES) + nonce[:_NONCE_BYTES] + sealed).decode()

    def open(self, user: str, text: str) -> dict[str, Any]:
        """Return what was sealed for a user. Raises Damaged, and KeyUnusable where this host has not the key."""
        try:
            content = base64.b64decode(text, validate=True)
            number = int.from_bytes(content[:_NUMBER_BYTES])
            start = _NUMBER_BYTES + _NONCE_BYTES
            plain = self._cipher(number, user).decrypt(
                content[_NUMBER_BYTES:start], content[start:], user.encode()
            )
            return dict(json.loads(plain))
        except (binascii.Error, InvalidTag, ValueError, TypeError):
            raise Damaged(
                f"the secrets of user {user} in the engine are damaged, or of another fleet"
            ) from None

    def _cipher(self, number: int, user: str) -> AESGCM:
        return AESGCM(self._keys.derive(number, "the secrets of users", user.encode()))

"""Chunks: pieces of a user's login, named after their content and encrypted.

Who stores them can neither read them nor exchange one for another unseen, and a chunk that has not changed has the same
name, so that it is sent once. LevelDB's logs grow at the end and its tables never change: chunks of a fixed size do.

From a *fleet key*, HKDF (RFC 5869) makes three keys for each user: for the names (HMAC-SHA-256), for chunks and for
manifests (AES-256-GCM). A chunk's nonce is the beginning of its name. Two chunks of one user have the same nonce if they
are equal; otherwise about once in 2^96 pairs, and a login has less than 2^20 chunks.
"""

import hmac
import os
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from waportd import files
from waportd.errors import WaportdError

CHUNK_BYTES: Final = 256 << 10
"""Of plain text; the last chunk of a file may be shorter."""
TAG_BYTES: Final = 16
"""By how much a chunk is longer when it is encrypted."""
KEY_BYTES: Final = 32

_NONCE_BYTES: Final = 12
_NUMBER_BYTES: Final = 4
_MOST: Final = (1 << 8 * _NUMBER_BYTES) - 1
_LINE: Final = re.compile(rf"([1-9][0-9]{{0,9}}) ([0-9a-f]{{{2 * KEY_BYTES}}})")
_MAX_FILE: Final = 64 << 10
_SAME_KEYS: Final = "copy the fleet's key file from a host that has written snapshots since"


class KeyUnusable(WaportdError):
    """A fleet key is missing, or the file with the keys cannot be read."""

    code = "fleet_key_unusable"
    title = "A fleet key cannot be used"


class Damaged(WaportdError):
    """What was read is not what was written."""

    code = "snapshot_damaged"
    title = "A part of a snapshot is damaged"


class UserKey:
    """What one fleet key is for one user."""

    def __init__(self, number: int, fleet_key: bytes, user: str) -> None:
        self.number = number
        """That of the fleet key."""
        self._user = user.encode()
        info = b"waportd snapshot\0" + self._user
        material = HKDF(SHA256(), 3 * KEY_BYTES, salt=None, info=info).derive(fleet_key)
        self._naming = material[:KEY_BYTES]
        self._chunks = AESGCM(material[KEY_BYTES : 2 * KEY_BYTES])
        self._manifests = AESGCM(material[2 * KEY_BYTES :])

    def name(self, plain: bytes) -> str:
        """Return the name of a chunk with this content: 64 hexadecimal digits."""
        return hmac.new(self._naming, plain, "sha256").hexdigest()

    def seal(self, name: str, plain: bytes) -> bytes:
        """Encrypt a chunk that has this name."""
        return self._chunks.encrypt(_nonce(name), plain, self._user)

    def open(self, name: str, sealed: bytes) -> bytes:
        """Decrypt the chunk of this name. Raises Damaged where it is anything else, to the bit."""
        try:
            plain = self._chunks.decrypt(_nonce(name), sealed, self._user)
        except (InvalidTag, ValueError):
            raise Damaged(f"chunk {name} is damaged") from None
        # The nonce is a part of the name only.
        if not hmac.compare_digest(self.name(plain), name):
            raise Damaged(f"chunk {name} holds another one")
        return plain

    def seal_manifest(self, token: int, plain: bytes) -> bytes:
        """Encrypt a manifest, with the number of the fleet key before it."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        number = self.number.to_bytes(_NUMBER_BYTES)
        return number + nonce + self._manifests.encrypt(nonce, plain, self._about(token))

    def open_manifest(self, token: int, sealed: bytes) -> bytes:
        """Decrypt the manifest of a snapshot that was made under this token. Raises Damaged."""
        nonce = sealed[_NUMBER_BYTES : _NUMBER_BYTES + _NONCE_BYTES]
        content = sealed[_NUMBER_BYTES + _NONCE_BYTES :]
        try:
            return self._manifests.decrypt(nonce, content, self._about(token))
        except (InvalidTag, ValueError):
            raise Damaged(
                f"a manifest of user {self._user.decode()} is damaged, or of another user, token or fleet"
            ) from None

    def _about(self, token: int) -> bytes:
        return b"%s\0%d\0%d" % (self._user, token, self.number)


class FleetKeys:
    """The keys that all hosts of a fleet have. Each has a number; the highest one writes, the others still read."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._keys = dict(keys)

    @classmethod
    def create(cls) -> Self:
        """Make the first key of a fleet."""
        return cls({1: secrets.token_bytes(KEY_BYTES)})

    def rotated(self) -> "FleetKeys":
        """Return these keys and a new one. All hosts must have it before one writes with it."""
        return FleetKeys({**self._keys, max(self._keys) + 1: secrets.token_bytes(KEY_BYTES)})

    @classmethod
    def parse(cls, text: str, shown: str) -> Self:
        """Read what `text` returns; ``shown`` is where it comes from. Raises KeyUnusable."""
        keys: dict[int, bytes] = {}
        for count, line in enumerate(text.splitlines(), start=1):
            # No part of a line is in an error: it may be a key.
            if (found := _LINE.fullmatch(line)) is None or int(found[1]) > _MOST or int(found[1]) in keys:
                raise KeyUnusable(
                    f"{shown}, line {count}: not the number of a new key, a space, and 64 hexadecimal digits",
                    hint=_SAME_KEYS,
                )
            keys[int(found[1])] = bytes.fromhex(found[2])
        if not keys:
            raise KeyUnusable(f"{shown} holds no key", hint=_SAME_KEYS)
        return cls(keys)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that only its owner may read, such as a credential of systemd. Raises KeyUnusable."""
        try:
            content = files.read(path, _MAX_FILE)
            mode = stat.S_IMODE(os.lstat(path).st_mode)
            text = content.decode("ascii")
        except OSError as error:
            raise KeyUnusable(f"{path}: {error.strerror}", hint=_SAME_KEYS) from error
        except UnicodeDecodeError:
            raise KeyUnusable(f"{path} is not a file of fleet keys", hint=_SAME_KEYS) from None
        if mode & 0o007:
            raise KeyUnusable(
                f"{path} can be read by everybody", hint=f"chmod o= {path}; then rotate the key"
            )
        return cls.parse(text, str(path))

    def text(self) -> str:
        """Return what the key file holds: a secret."""
        return "".join(f"{number} {key.hex()}\n" for number, key in sorted(self._keys.items()))

    def of(self, user: str) -> UserKey:
        """Return the key with which snapshots of a user are written."""
        return self._of(user, self.newest)

    def of_manifest(self, user: str, sealed: bytes) -> UserKey:
        """Return the key with which a manifest was written. Raises KeyUnusable where this host does not have it."""
        return self._of(user, int.from_bytes(sealed[:_NUMBER_BYTES]))

    @property
    def newest(self) -> int:
        """The number of the key that writes."""
        return max(self._keys)

    def derive(self, number: int, purpose: str, salt: bytes) -> bytes:
        """Return a key for something else than snapshots. Raises KeyUnusable where this host does not have that number."""
        if (key := self._keys.get(number)) is None:
            raise KeyUnusable(
                f"{purpose} need fleet key {number}, which this host does not have", hint=_SAME_KEYS
            )
        return HKDF(SHA256(), KEY_BYTES, salt, info=f"waportd {purpose}".encode()).derive(key)

    def _of(self, user: str, number: int) -> UserKey:
        if (key := self._keys.get(number)) is None:
            raise KeyUnusable(
                f"a snapshot of user {user} was written with fleet key {number}, which this host does not have",
                hint=_SAME_KEYS,
            )
        return UserKey(number, key, user)


def _nonce(name: str) -> bytes:
    return bytes.fromhex(name)[:_NONCE_BYTES]

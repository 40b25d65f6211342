"""The bundle by which a host joins: one file that is made on the host with the CA, and copied by ssh.

It begins with a line that has the SHA-256 of the rest: what was cut off or changed on the way is refused as a whole.
That is no signature: ssh is trusted, and a joining host has nothing yet that it could check a signature against.
"""

import base64
import dataclasses
import hashlib
import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from waportd import files
from waportd.errors import WaportdError
from waportd.fleet import certificates, key_files
from waportd.fleet.certificates import Certificate
from waportd.fleet.identity import NEW_BUNDLE, CertificateUnusable

MAX_BYTES: Final = 256 * 1024
"""Bytes of the largest bundle that is read; one has some 3 KiB."""
SECRET_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}\.key", re.ASCII)
"""The file name of a secret. Such a name is none of the fleet's other files, and leads out of no folder."""
_FIRST_LINE = re.compile(rb"waportd fleet bundle 1 ([0-9a-f]{64})\n")
_NONSENSE: Final = (ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What reading an invalid document raises."""


class BundleUnusable(WaportdError):
    """A bundle is damaged, expired, open to others, or no bundle at all."""

    code = "bundle_unusable"
    status = 400
    title = "The bundle cannot be used"


@dataclasses.dataclass(frozen=True, slots=True)
class Bundle:
    """All that a joining host needs."""

    certificate: Certificate
    """What the certificate in ``pem`` says: the names of fleet and host."""
    ca: bytes
    """The certificate of the fleet's CA, in PEM."""
    pem: bytes = dataclasses.field(repr=False)
    """The host's certificate and key, in PEM."""
    engine: tuple[str, ...]
    """URLs at which the engine is reached."""
    secrets: Mapping[str, bytes] = dataclasses.field(repr=False)
    """Files that all hosts have, by name, such as the key of the snapshots."""
    address: str = ""
    """IP:PORT at which the others reach the host."""
    snapshots: str = ""
    """Where the logins are for the other hosts (`Settings.snapshots`),"""
    copies: int = 2
    """and on how many (`Settings.copies`)."""


def write(path: Path, bundle: Bundle) -> None:
    """Write a bundle that only the caller can read. Raises OSError."""
    body = json.dumps(
        {
            "ca": bundle.ca.decode(),
            "host": bundle.pem.decode(),
            "engine": bundle.engine,
            "address": bundle.address,
            "snapshots": bundle.snapshots,
            "copies": bundle.copies,
            "secrets": {name: base64.b64encode(secret).decode() for name, secret in bundle.secrets.items()},
        },
        indent=1,
    ).encode()
    key_files.write(path, b"waportd fleet bundle 1 %s\n" % hashlib.sha256(body).hexdigest().encode() + body)


def read(path: Path, now: float | None = None) -> Bundle:
    """Read a bundle, and check all of it: `now` is in seconds since the epoch. Raises BundleUnusable."""
    content = _content(path)
    first = _FIRST_LINE.match(content)
    if first is None:
        raise _unusable(path, "it is not a bundle of this version of waportd")
    body = content[first.end() :]
    if hashlib.sha256(body).hexdigest().encode() != first[1]:
        raise _unusable(path, "it was cut off or changed on the way")
    try:
        bundle = _bundle(json.loads(body))
    except CertificateUnusable as error:
        raise _unusable(path, error.message) from error
    except _NONSENSE:
        # Without the reason, which may repeat what is in the file.
        raise _unusable(path, "its content is not valid") from None
    if bundle.certificate.days_left(now) <= 0:
        raise _unusable(path, "its certificate has expired")
    return bundle


def _content(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        content = files.read(path, MAX_BYTES + 1)
    except OSError as error:
        raise BundleUnusable(f"{path}: {error.strerror}", hint=NEW_BUNDLE) from error
    if stat.S_IMODE(mode) & 0o077:
        raise _unusable(path, "others than its owner may read it, and it holds a key")
    return content


def _bundle(document: Any) -> Bundle:
    ca, pem = document["ca"].encode(), document["host"].encode()
    engine, secrets = document["engine"], document["secrets"]
    address, snapshots = document["address"], document["snapshots"]
    if not isinstance(engine, list) or not all(
        isinstance(text, str) for text in (address, snapshots, *engine)
    ):
        raise TypeError(engine)
    if not all(SECRET_NAME.fullmatch(name) for name in secrets):
        raise ValueError(secrets)
    return Bundle(
        certificates.read(ca, pem),
        ca,
        pem,
        engine=tuple(engine),
        secrets={name: base64.b64decode(secret, validate=True) for name, secret in secrets.items()},
        address=address,
        snapshots=snapshots,
        copies=int(document["copies"]),
    )


def _unusable(path: Path, why: str) -> BundleUnusable:
    return BundleUnusable(f"{path}: {why}", hint=NEW_BUNDLE)

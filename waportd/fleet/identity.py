"""Who a host is to the others: its files, and TLS in which both sides show a certificate of the fleet's own CA.

With the standard library only: the keeper, which must stay small, loads this and not `certificates`.
"""

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from waportd.errors import WaportdError

CA_FILE: Final = "ca.pem"
"""In the folder of each host: the certificate of the fleet's CA, for anyone to read."""
HOST_FILE: Final = "host.pem"
"""Beside it: the host's certificate, then its key. One file, so that a new pair takes the place of the old in one step."""

NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
"""The name of a host or a fleet: a label of RFC 1123 that begins with a letter, so that none looks like an address."""

NEW_BUNDLE: Final = (
    "`waportctl fleet invite NAME` on the host that has the fleet's CA, then `waportctl fleet join` here"
)
"""The fix for a certificate that cannot be used."""


class BadName(WaportdError):
    """A host or a fleet cannot have that name."""

    code = "bad_name"
    status = 400
    title = "The name is not valid"


class CertificateUnusable(WaportdError):
    """A certificate, or its key, is missing or damaged, or belongs to another host or fleet."""

    code = "certificate_unusable"
    title = "A certificate cannot be used"


def check_name(name: str) -> str:
    """Return the name of a host or a fleet. Raises BadName."""
    if (
        not NAME.fullmatch(name) or name == "self"
    ):  # which stands for the host that is asked, in calls of the API
        raise BadName(
            f"{name!r} cannot be the name of a host or a fleet",
            hint="a name has at most 63 characters of a-z, 0-9 and -, begins with a letter, does not end with -, and is not self",
        )
    return name


@dataclass(frozen=True, slots=True)
class Identity:
    """A host's name, and how it speaks TLS with others."""

    name: str
    server: ssl.SSLContext
    client: ssl.SSLContext

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        """Read the files of a host. Raises CertificateUnusable.

        Neither the time nor the name in the certificate is checked: a host whose certificate has expired still has
        its lease, and the others say what is wrong. `waportctl doctor` sees it before.
        """
        return cls(
            name,
            server=_context(ssl.PROTOCOL_TLS_SERVER, folder),
            client=_context(ssl.PROTOCOL_TLS_CLIENT, folder),
        )


def _context(side: int, folder: Path) -> ssl.SSLContext:
    # Not ssl.create_default_context: that one trusts the CAs of the machine, and writes keys where a variable says so.
    context = ssl.SSLContext(side)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    # A client asks for the host's name, never for its address, and finds it in the certificate.
    context.check_hostname = side == ssl.PROTOCOL_TLS_CLIENT
    for file, load in ((CA_FILE, context.load_verify_locations), (HOST_FILE, context.load_cert_chain)):
        try:
            load(folder / file)
        except OSError as error:  # ssl.SSLError is one, too
            reason = getattr(error, "reason", None) or error.strerror or "damaged"
            raise CertificateUnusable(f"{folder / file}: {reason}", hint=NEW_BUNDLE) from error
    return context


def name_in(certificate: Mapping[str, Any]) -> str | None:
    """Return the name of the host that showed a certificate (the form of `ssl.SSLSocket.getpeercert`).

    None where there is not exactly one name: the fleet's CA makes no such certificate.
    """
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return names[0] if len(names) == 1 else None

"""How a host becomes one of a fleet, and keeps being one: the files that make it that host."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from waportd.errors import WaportdError
from waportd.fleet import certificates, key_files
from waportd.fleet.bucket import KEY_FILE
from waportd.fleet.bundle import Bundle
from waportd.fleet.certificates import AUTHORITY_FILE, Authority, Certificate
from waportd.fleet.chunks import FleetKeys
from waportd.fleet.identity import CA_FILE, HOST_FILE, NEW_BUNDLE, CertificateUnusable
from waportd.fleet.settings import FILE, SNAPSHOT_KEY

PUBLIC: Final = 0o644
"""The mode of a file that holds no key."""
SECRETS: Final = (SNAPSHOT_KEY, KEY_FILE)
"""Those that all hosts have; the second one only where logins lie in a bucket."""
_LEAVE_FIRST: Final = "if this host is to leave that fleet: `waportctl fleet leave`"

Owner = tuple[int, int] | None
"""The user and group id of the account that reads a file; None: the caller's own."""


class AlreadyInFleet(WaportdError):
    """This host belongs to another fleet, or is another host of it."""

    code = "already_in_fleet"
    status = 409
    title = "This host is in a fleet already"


def found(
    folder: Path, fleet: str, host: str, addresses: Iterable[str] = (), owner: Owner = None
) -> Certificate:
    """Make the CA of a fleet, and its first host; what an earlier try left is completed.

    Raises AlreadyInFleet, BadName, CertificateUnusable, OSError.
    """
    begun = (folder / AUTHORITY_FILE).exists()
    authority = Authority.load(folder) if begun else Authority.create(fleet)
    if authority.fleet != fleet:
        raise AlreadyInFleet(f"{folder} has the CA of the fleet {authority.fleet}", hint=_LEAVE_FIRST)
    pem = authority.issue(host, addresses)
    _refuse_another(folder, authority.pem, host)
    if not begun:
        authority.save(folder)
    if not (folder / SNAPSHOT_KEY).exists():
        key_files.write(folder / SNAPSHOT_KEY, FleetKeys.create().text().encode(), owner=owner)
    return _install(folder, authority.pem, pem, owner)


def invite(
    folder: Path,
    host: str,
    engine: Iterable[str],
    addresses: Iterable[str] = (),
    address: str = "",
    snapshots: str = "",
    copies: int = 2,
) -> Bundle:
    """Make the bundle by which a host joins, or gets its next certificate. Raises BadName, CertificateUnusable, OSError.

    ``addresses`` are those of its certificate, ``address`` is IP:PORT at which the others reach it, and ``snapshots``
    and ``copies`` are those of `Settings`.
    """
    authority = Authority.load(folder)
    pem = authority.issue(host, addresses)
    return Bundle(
        certificates.read(authority.pem, pem),
        authority.pem,
        pem,
        tuple(engine),
        {name: (folder / name).read_bytes() for name in SECRETS if (folder / name).exists()},
        address,
        snapshots,
        copies,
    )


def join(folder: Path, bundle: Bundle, owner: Owner = None) -> Certificate:
    """Make this host the one that a bundle is for, or give it its next certificate.

    A process shows the certificate that it has loaded until it reads the files again. Raises AlreadyInFleet,
    CertificateUnusable: nothing is written then; OSError: the same bundle completes what is missing.
    """
    _refuse_another(folder, bundle.ca, bundle.certificate.host)
    for name, secret in bundle.secrets.items():
        key_files.write(folder / name, secret, owner=owner)
    return _install(folder, bundle.ca, bundle.pem, owner)


def leave(folder: Path) -> None:
    """Remove all that makes this host one of its fleet. Raises OSError: another call removes the rest."""
    # First: without it nothing takes this host for one of a fleet.
    (folder / FILE).unlink(missing_ok=True)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def installed(folder: Path) -> Certificate:
    """Return what the certificate of this host says. Raises CertificateUnusable."""
    try:
        ca, pem = (folder / CA_FILE).read_bytes(), (folder / HOST_FILE).read_bytes()
    except OSError as error:
        raise CertificateUnusable(f"{error.filename}: {error.strerror}", hint=NEW_BUNDLE) from error
    return certificates.read(ca, pem)


def _install(folder: Path, ca: bytes, pem: bytes, owner: Owner) -> Certificate:
    key_files.write(folder / CA_FILE, ca, mode=PUBLIC)
    # Last: a host that has this file is complete.
    key_files.write(folder / HOST_FILE, pem, owner=owner)
    return certificates.read(ca, pem)


def _refuse_another(folder: Path, ca: bytes, host: str) -> None:
    """Keep a host, which may have users, from becoming one of another fleet, or another one of its own."""
    if not (folder / HOST_FILE).exists():
        return
    before = installed(folder)
    if (before.host, (folder / CA_FILE).read_bytes()) != (host, ca):
        raise AlreadyInFleet(
            f"this host is {before.host} in the fleet {before.fleet} already", hint=_LEAVE_FIRST
        )

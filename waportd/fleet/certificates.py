"""The fleet's certificate authority, and the certificates that it makes for hosts.

A host is known by its name in the fleet, the only DNS name in its certificate; never by the machine's own name, which
a cloned disk brings along. Nothing is revoked: a host that has left is refused by name.
"""

import ipaddress
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from waportd.fleet import key_files
from waportd.fleet.identity import NEW_BUNDLE, CertificateUnusable, check_name

AUTHORITY_FILE: Final = "authority.pem"
"""Certificate and key of the CA, only on the host that invites others. With it, one can pretend to be any host."""

HOST_DAYS: Final = 730
"""Days that a host's certificate lasts."""
CA_DAYS: Final = 7305
"""Days that the CA lasts: 20 years, since all hosts must be invited again after it."""
WARN_DAYS: Final = 30
"""Days before the end from which on `waportctl doctor` warns."""
_CLOCK_SKEW: Final = timedelta(days=1)
"""By how much a certificate begins earlier: the clock of another host may be slow."""
_DAY_S: Final = 86400

_KEY_BEGINS: Final = b"-----BEGIN PRIVATE KEY-----"
_NONSENSE: Final = (ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature)
"""What cryptography raises for what is no certificate, no key, or not made by the CA."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a host's certificate says."""

    fleet: str
    host: str
    addresses: tuple[str, ...]
    """IP addresses, for an engine on this host that uses the same certificate: its clients know it by address."""
    ends_at: float
    """Seconds since the epoch."""

    def days_left(self, now: float | None = None) -> float:
        """Return for how many more days it is good; less than none where it has expired."""
        return (self.ends_at - (time.time() if now is None else now)) / _DAY_S


class Authority:
    """The CA of a fleet. Its key stays on the host where the fleet began."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key
        self.fleet: Final = _common_name(certificate.subject)
        self.pem: Final = certificate.public_bytes(serialization.Encoding.PEM)
        """The certificate that hosts are checked against."""

    @classmethod
    def create(cls, fleet: str, days: float = CA_DAYS) -> Self:
        """Make the CA of a new fleet. Raises BadName."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _distinguished(check_name(fleet))
        now = datetime.now(UTC)
        builder = _builder(name, key, name, key, now, now + timedelta(days=days))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        return cls(builder.add_extension(_usage(ca=True), critical=True).sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the CA that `save` wrote. Raises CertificateUnusable."""
        path = folder / AUTHORITY_FILE
        try:
            pem = path.read_bytes()
        except OSError as error:
            raise CertificateUnusable(
                f"{path}: {error.strerror}", hint="run this as root on the host that has the fleet's CA"
            ) from error
        return cls(*_pair(pem, str(path)))

    def save(self, folder: Path) -> None:
        """Write certificate and key. Raises OSError."""
        key_files.write(folder / AUTHORITY_FILE, self.pem + _private(self._key))

    def issue(
        self,
        host: str,
        addresses: Iterable[str] = (),
        *,
        days: float = HOST_DAYS,
        now: datetime | None = None,
    ) -> bytes:
        """Return a new certificate of a host, and its key, in PEM; it ends with the CA at the latest.

        Raises BadName; ValueError for no IP address.
        """
        now = now or datetime.now(UTC)
        ends = min(now + timedelta(days=days), _end(self._certificate))
        key = ec.generate_private_key(ec.SECP256R1())
        names = [
            x509.DNSName(check_name(host)),
            *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in addresses),
        ]
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = (
            _builder(_distinguished(host), key, self._certificate.subject, self._key, now, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(both, critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM) + _private(key)


def read(ca: bytes, pem: bytes) -> Certificate:
    """Return what a host's certificate says, after a check that the CA has made it and that the key is its own.

    Both arguments are in PEM, the second as `Authority.issue` returns it. Whether it has expired is not checked. Raises
    CertificateUnusable.
    """
    certificate, _ = _pair(pem, "the host's certificate")
    authority = _certificate(ca, "the certificate of the CA")
    try:
        _check_made_by(authority, certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        (host,) = names.get_values_for_type(x509.DNSName)
    except _NONSENSE as error:
        raise CertificateUnusable(
            "the host's certificate is not of this fleet's CA", hint=NEW_BUNDLE
        ) from error
    return Certificate(
        fleet=_common_name(authority.subject),
        host=host,
        addresses=tuple(map(str, names.get_values_for_type(x509.IPAddress))),
        ends_at=_end(certificate).timestamp(),
    )


def _check_made_by(authority: x509.Certificate, certificate: x509.Certificate) -> None:
    public, algorithm = authority.public_key(), certificate.signature_hash_algorithm
    if not isinstance(public, ec.EllipticCurvePublicKey) or algorithm is None:
        raise TypeError(public)
    public.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(algorithm))


def _builder(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    now: datetime,
    ends: datetime,
) -> x509.CertificateBuilder:
    """Return what all certificates have in common; the two key identifiers are what VERIFY_X509_STRICT asks for."""
    signer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(signer_id, critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pair(pem: bytes, what: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate = _certificate(pem, what)
    try:
        key = serialization.load_pem_private_key(pem[pem.index(_KEY_BEGINS) :], password=None)
    except _NONSENSE:
        # Without the reason, which is about the content of a key.
        raise CertificateUnusable(f"{what}: its key is missing or damaged", hint=NEW_BUNDLE) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or _public(key) != _public(certificate):
        raise CertificateUnusable(
            f"{what}: the key beside it is that of another certificate", hint=NEW_BUNDLE
        )
    return certificate, key


def _public(of: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return of.public_key().public_bytes(encoding, form)


def _certificate(pem: bytes, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except _NONSENSE as error:
        raise CertificateUnusable(f"{what} is missing or damaged", hint=NEW_BUNDLE) from error


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _end(certificate: x509.Certificate) -> datetime:
    # Debian 12's cryptography has only not_valid_after, which newer ones warn of.
    end: datetime | None = getattr(certificate, "not_valid_after_utc", None)
    return end or certificate.not_valid_after.replace(tzinfo=UTC)


def _distinguished(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "waportd"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _common_name(name: x509.Name) -> str:
    (attribute,) = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(attribute.value)

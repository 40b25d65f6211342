"""The fleet's CA, and what it says about a host."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from certified import FLEET, LONG_AGO, STRANGER
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from waportd.fleet.certificates import CA_DAYS, HOST_DAYS, WARN_DAYS, Authority, read
from waportd.fleet.identity import BadName, CertificateUnusable, Identity


def test_a_certificate_says_which_host_of_which_fleet_it_is_for_two_years():
    certificate = read(FLEET.pem, FLEET.issue("a", ["10.0.0.1", "fd00::1"]))
    assert (certificate.fleet, certificate.host) == ("shop", "a")
    assert certificate.addresses == ("10.0.0.1", "fd00::1")
    assert HOST_DAYS == 2 * 365
    assert certificate.days_left() == pytest.approx(HOST_DAYS, abs=0.1)


def test_days_left_are_counted_to_the_end_and_beyond():
    certificate = read(FLEET.pem, FLEET.issue("a", days=31))
    now = time.time()
    assert WARN_DAYS < certificate.days_left(now) <= 31
    assert certificate.days_left(now + 2 * 86400) < WARN_DAYS
    assert certificate.days_left(now + 40 * 86400) == pytest.approx(-9, abs=0.1)


def test_a_certificate_that_has_expired_is_still_read_so_that_somebody_can_say_so():
    certificate = read(FLEET.pem, FLEET.issue("a", now=LONG_AGO))
    assert certificate.days_left() == pytest.approx(HOST_DAYS - 1000, abs=0.1)


def test_the_clock_of_another_host_may_be_slow():
    certificate = x509.load_pem_x509_certificate(FLEET.issue("a", now=datetime(2026, 1, 10, tzinfo=UTC)))
    begins = getattr(certificate, "not_valid_before_utc", None) or certificate.not_valid_before.replace(
        tzinfo=UTC
    )
    assert begins == datetime(2026, 1, 9, tzinfo=UTC)


def test_the_ca_is_on_p_256_signs_hosts_only_and_outlives_them():
    certificate = x509.load_pem_x509_certificate(FLEET.pem)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert timedelta(days=CA_DAYS) > 5 * timedelta(days=HOST_DAYS)


def test_the_end_of_the_ca_is_seen_in_the_days_that_its_hosts_have_left():
    old = Authority.create("shop", days=20)
    assert read(old.pem, old.issue("a")).days_left() == pytest.approx(20, abs=0.1)


def test_the_certificate_of_another_fleets_ca_is_refused():
    with pytest.raises(CertificateUnusable, match="not of this fleet's CA") as caught:
        read(FLEET.pem, STRANGER.issue("a"))
    assert "fleet invite" in caught.value.hint


def test_the_ca_is_no_host():
    pem = FLEET.issue("a")
    key = pem[pem.index(b"-----BEGIN PRIVATE") :]
    with pytest.raises(CertificateUnusable, match="that of another certificate"):
        read(FLEET.pem, FLEET.pem + key)


def test_a_certificate_beside_the_key_of_another_is_refused():
    one, other = FLEET.issue("a"), FLEET.issue("a")
    begins = one.index(b"-----BEGIN PRIVATE")
    with pytest.raises(CertificateUnusable, match="that of another certificate"):
        read(FLEET.pem, one[:begins] + other[other.index(b"-----BEGIN PRIVATE") :])


@pytest.mark.parametrize("part", ["nothing", "half a certificate", "no key", "half a key", "garbage"])
def test_what_was_cut_off_is_refused_and_no_key_is_repeated(part):
    pem = FLEET.issue("a")
    begins = pem.index(b"-----BEGIN PRIVATE")
    secret = pem[begins + 60 : begins + 100].decode()
    cut = {
        "nothing": b"",
        "half a certificate": pem[:200],
        "no key": pem[:begins],
        "half a key": pem[: begins + 110],
        "garbage": bytes(range(256)),
    }[part]
    with pytest.raises(CertificateUnusable, match="missing or damaged") as caught:
        read(FLEET.pem, cut)
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert not [error for error in chain if secret in repr(error)]


@pytest.mark.parametrize(
    "name", ["", "A", "1", "10.0.0.1", "a.b", "a-", "-a", "*", "a/b", "a\n", "ä", "a" * 64]
)
def test_a_name_that_could_mean_something_else_is_refused(name):
    with pytest.raises(BadName) as caught:
        FLEET.issue(name)
    assert "63 characters" in caught.value.hint
    with pytest.raises(BadName):
        Authority.create(name)


@pytest.mark.parametrize("name", ["a", "a1", "web-2", "x" * 63])
def test_a_label_is_a_name(name):
    assert read(FLEET.pem, FLEET.issue(name)).host == name


def test_the_ca_is_kept_in_a_file(tmp_path):
    FLEET.save(tmp_path)
    again = Authority.load(tmp_path)
    assert (again.fleet, again.pem) == (FLEET.fleet, FLEET.pem)
    assert read(FLEET.pem, again.issue("b")).host == "b"


def test_a_host_without_the_ca_says_where_to_invite(tmp_path):
    with pytest.raises(CertificateUnusable, match="No such file") as caught:
        Authority.load(tmp_path)
    assert "on the host that has the fleet's CA" in caught.value.hint


@pytest.mark.parametrize("missing", ["ca.pem", "host.pem"])
def test_files_of_a_host_that_cannot_be_used_are_named(tmp_path, missing):
    (tmp_path / "ca.pem").write_bytes(FLEET.pem)
    (tmp_path / "host.pem").write_bytes(FLEET.issue("a"))
    Identity.load(tmp_path, "a")
    (tmp_path / missing).write_bytes(b"garbage")
    with pytest.raises(CertificateUnusable, match=missing):
        Identity.load(tmp_path, "a")
    (tmp_path / missing).unlink()
    with pytest.raises(CertificateUnusable, match=f"{missing}: No such file") as caught:
        Identity.load(tmp_path, "a")
    assert "fleet invite" in caught.value.hint

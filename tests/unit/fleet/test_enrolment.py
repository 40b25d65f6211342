"""How a host becomes one of a fleet, and keeps being one."""

import pytest
from certified import STRANGER, watched_files

from waportd.fleet import bundle, certificates, enrolment
from waportd.fleet.bundle import Bundle
from waportd.fleet.certificates import Authority
from waportd.fleet.enrolment import AlreadyInFleet
from waportd.fleet.identity import CertificateUnusable, Identity

ENGINE = ["https://10.0.0.1:2379"]
SECRETS = {"snapshots.key": b"secret"}


@pytest.fixture
def first(tmp_path):
    """The first host, whose name is a."""
    folder = tmp_path / "a"
    folder.mkdir()
    enrolment.found(folder, "shop", "a", ["10.0.0.1"])
    return folder


@pytest.fixture
def second(tmp_path):
    folder = tmp_path / "b"
    folder.mkdir()
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_first_host_has_the_ca_and_a_certificate_of_it(first):
    assert set(contents(first)) == {"authority.pem", "ca.pem", "host.pem", "snapshots.key"}
    assert (first / "ca.pem").read_bytes() == Authority.load(first).pem
    certificate = enrolment.installed(first)
    assert (certificate.fleet, certificate.host, certificate.addresses) == ("shop", "a", ("10.0.0.1",))
    assert Identity.load(first, "a").name == "a"


def test_a_host_joins_with_a_bundle_and_gets_no_key_of_the_ca(first, second):
    invitation = enrolment.invite(first, "b", ENGINE)
    bundle.write(second.parent / "b.bundle", invitation)
    certificate = enrolment.join(second, bundle.read(second.parent / "b.bundle"))
    assert certificate == enrolment.installed(second)
    assert (certificate.fleet, certificate.host) == ("shop", "b")
    assert set(contents(second)) == {"ca.pem", "host.pem", "snapshots.key"}
    assert (second / "snapshots.key").read_bytes() == (first / "snapshots.key").read_bytes()


def test_no_key_is_open_to_others_at_any_moment(tmp_path, monkeypatch):
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()
    with watched_files(monkeypatch) as seen:
        enrolment.found(a, "shop", "a")
        enrolment.join(a, enrolment.invite(a, "a", ENGINE))
        bundle.write(tmp_path / "b.bundle", enrolment.invite(a, "b", ENGINE))
        enrolment.join(b, bundle.read(tmp_path / "b.bundle"))
    names = {name for name, _ in seen}
    assert {"authority.pem", "host.pem", "b.bundle", "snapshots.key"} < names
    assert {name for name, mode in seen if mode != 0o600} == {"ca.pem"}


def test_the_daemons_account_owns_what_it_reads_and_not_the_key_of_the_ca(tmp_path):
    enrolment.found(tmp_path, "shop", "a", owner=(12345, 12345))
    assert (tmp_path / "host.pem").stat().st_uid == 12345
    assert (tmp_path / "authority.pem").stat().st_uid == 0
    enrolment.join(tmp_path, enrolment.invite(tmp_path, "a", ENGINE), owner=(12345, 12345))
    assert (tmp_path / "host.pem").stat().st_uid == 12345


def test_to_found_the_same_fleet_again_keeps_its_ca(first):
    before = contents(first)
    enrolment.found(first, "shop", "a")
    after = contents(first)
    assert (after["authority.pem"], after["ca.pem"]) == (before["authority.pem"], before["ca.pem"])
    assert after["host.pem"] != before["host.pem"]


@pytest.mark.parametrize("left", [["authority.pem"], ["authority.pem", "ca.pem"]])
def test_to_found_again_completes_what_a_power_cut_left(first, left):
    for name in set(contents(first)) - set(left):
        (first / name).unlink()
    enrolment.found(first, "shop", "a")
    assert enrolment.installed(first).host == "a"


@pytest.mark.parametrize(("fleet", "host"), [("other", "a"), ("shop", "z")])
def test_a_first_host_does_not_become_another_one(first, fleet, host):
    before = contents(first)
    with pytest.raises(AlreadyInFleet) as caught:
        enrolment.found(first, fleet, host)
    assert "fleet leave" in caught.value.hint
    assert contents(first) == before


def test_a_host_that_has_joined_does_not_become_another_one(first, second):
    enrolment.join(second, enrolment.invite(first, "b", ENGINE))
    before = contents(second)
    pem = STRANGER.issue("b")
    stranger = Bundle(certificates.read(STRANGER.pem, pem), STRANGER.pem, pem, (), SECRETS)
    with pytest.raises(AlreadyInFleet, match="b in the fleet shop already"):
        enrolment.join(second, stranger)
    with pytest.raises(AlreadyInFleet):
        enrolment.join(second, enrolment.invite(first, "c", ENGINE))
    with pytest.raises(AlreadyInFleet):
        enrolment.found(second, "new", "b")
    assert contents(second) == before


def test_the_next_certificate_is_of_the_same_ca_name_and_addresses(first, second):
    ca, pem = (first / "ca.pem").read_bytes(), (first / "host.pem").read_bytes()
    after = enrolment.join(first, enrolment.invite(first, "a", ENGINE, ["10.0.0.1"]))
    assert (after.host, after.addresses) == ("a", ("10.0.0.1",))
    assert (first / "ca.pem").read_bytes() == ca
    assert (first / "host.pem").read_bytes() != pem

    enrolment.join(second, enrolment.invite(first, "b", ENGINE))
    pem = (second / "host.pem").read_bytes()
    enrolment.join(second, enrolment.invite(first, "b", ENGINE))
    assert (second / "host.pem").read_bytes() != pem


def test_one_who_joined_can_invite_nobody(first, second):
    enrolment.join(second, enrolment.invite(first, "b", ENGINE))
    with pytest.raises(CertificateUnusable, match=r"authority\.pem"):
        enrolment.invite(second, "c", ENGINE)


def test_what_is_installed_is_named_where_it_is_missing(tmp_path):
    with pytest.raises(CertificateUnusable, match="No such file") as caught:
        enrolment.installed(tmp_path)
    assert "fleet join" in caught.value.hint


def test_who_has_left_keeps_no_key_and_may_join_another_fleet(first, second):
    enrolment.join(second, enrolment.invite(first, "b", ENGINE))
    enrolment.leave(second)
    assert not second.exists()
    enrolment.leave(first)
    for folder in (first, second):
        folder.mkdir()
    enrolment.found(second, "other", "x")
    assert enrolment.join(first, enrolment.invite(second, "y", ENGINE)).host == "y"

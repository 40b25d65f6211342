"""The runtime directory of the lease unit, from the keeper's side and from the daemon's."""

import shutil
import threading

import pytest

from waportd.errors import StoreError
from waportd.fleet.engine import Lease, LeaseLost
from waportd.fleet.lease import LEASE_FILE, Environments, Held, LeaseFolder
from waportd.model import Port

PORT = Port(5002)
BOOT = "this boot"


def held(incarnation=1000, deadline_s=115.0):
    return Held(Lease("a", id=2**62, incarnation=incarnation, ttl_s=45.0), deadline_s, BOOT)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "instances"
    begin(path)
    return path


def begin(path, incarnation=1000):
    """Make the folder as systemd and a keeper do."""
    path.mkdir(mode=0o700)
    with LeaseFolder(path) as folder:
        folder.clear()
        folder.keep(held(incarnation))


@pytest.fixture
def opened():
    """Give a function that opens the environments of the lease that is held."""
    found = []

    def opened(path):
        found.append(Environments(path))
        return found[-1]

    yield opened
    for one in found:
        one.close()


def test_a_lease_is_read_as_it_was_written(path):
    with LeaseFolder(path) as folder:
        folder.keep(held(deadline_s=120.25))
        assert folder.held() == held(deadline_s=120.25)
    assert (path / LEASE_FILE).stat().st_mode & 0o777 == 0o600


def test_a_lease_covers_its_boot_until_the_deadline():
    assert held().covers(114.9, BOOT)
    assert not held().covers(115.0, BOOT)
    assert not held().covers(114.9, "another boot")


def test_environments_are_written_and_removed(path, opened):
    environments = opened(path)
    assert environments.write(PORT, "A=1\n")
    assert not environments.write(PORT, "A=1\n")
    assert environments.write(PORT, "A=2\n")
    environments.write(Port(5001), "A=3\n")
    assert environments.ports() == [5001, 5002]
    assert (path / "5002.env").read_text() == "A=2\n"
    assert (path / "5002.env").stat().st_mode & 0o777 == 0o600
    environments.remove(PORT)
    environments.remove(PORT)
    assert environments.ports() == [5001]


@pytest.mark.parametrize("name", ["5002.env", ".5002.env.new"])
def test_a_link_at_an_environments_place_is_replaced_and_not_followed(path, opened, tmp_path, name):
    target = tmp_path / "elsewhere"
    target.write_text("mine")
    (path / name).symlink_to(target)
    assert opened(path).write(PORT, "A=1\n")
    assert target.read_text() == "mine"
    assert not (path / "5002.env").is_symlink()


def test_no_folder_and_no_lease_are_no_lease(path, opened):
    (path / LEASE_FILE).unlink()
    with pytest.raises(LeaseLost, match="no lease"):
        opened(path)
    path.rmdir()
    with pytest.raises(LeaseLost, match="no lease"):
        opened(path)


def test_what_no_keeper_wrote_is_reported(path, opened):
    for text in ("", "[]", "{}", '{"host": "a"}', "\xff"):
        (path / LEASE_FILE).write_text(text, "latin-1")
        with pytest.raises(StoreError) as caught:
            opened(path)
        assert LEASE_FILE in caught.value.message
        assert "waportd-lease" in caught.value.hint


def test_nothing_is_written_under_a_later_lease(path, opened):
    """Neither into another folder of the same name, nor into the same folder where systemd left it."""
    before = opened(path)
    shutil.rmtree(path)
    with pytest.raises(LeaseLost):
        before.write(PORT, "A=1\n")
    begin(path, incarnation=2000)
    with pytest.raises(LeaseLost):
        before.write(PORT, "A=1\n")
    assert [one.name for one in path.iterdir()] == [LEASE_FILE]

    same = opened(path)
    with LeaseFolder(path) as folder:
        folder.clear()
        folder.keep(held(incarnation=3000))
    for _ in range(2):
        with pytest.raises(LeaseLost, match="2000"):
            same.write(PORT, "A=1\n")
        # Also where the later lease has the same environment.
        opened(path).write(PORT, "A=1\n")


def test_a_lease_that_does_not_cover_the_moment_is_lost(path, opened):
    environments = opened(path)
    assert environments.require(114.9, BOOT) == held()
    with pytest.raises(LeaseLost):
        environments.require(115.0, BOOT)


def test_a_write_that_races_with_the_next_lease_is_removed_or_refused(path, opened):
    """A thread writes under one lease after another, while the next one begins in the same folder."""
    lost, stop, first = [], threading.Event(), opened(path)

    def write():
        environments, number = first, 0
        while not stop.is_set():
            number += 1
            try:
                environments.write(PORT, f"{environments.lease.incarnation} {number}")
            except LeaseLost:
                lost.append(environments.lease.incarnation)
                try:
                    environments = opened(path)
                except LeaseLost:
                    continue

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with LeaseFolder(path) as folder:
            for incarnation in range(2000, 2200):
                folder.clear()
                folder.keep(held(incarnation))
                for _ in range(5):
                    if PORT in folder.environment_ports():
                        text = (path / "5002.env").read_text()
                        assert text.split()[0] == str(incarnation)
    finally:
        stop.set()
        writer.join()
    assert lost

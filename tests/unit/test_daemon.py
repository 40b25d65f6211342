"""The parts of the daemon that need neither systemd nor a bus."""

import os
import socket
import stat

import pytest

from waportd import daemon
from waportd.daemon import SocketInUse


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask():
    """The strictest mask a service may run with."""
    before = os.umask(0o077)
    yield
    assert os.umask(before) == 0o077


def test_a_socket_of_ones_own_is_made_with_its_folder_and_is_for_user_and_group(tmp_path, umask):
    path = tmp_path / "run" / "waportd" / "api.sock"
    with daemon._listeners(path) as [listener]:
        assert listener.getsockname() == str(path)
        assert mode(path) == 0o660
        assert mode(path.parent) == mode(path.parent.parent) == 0o755
    assert not path.exists()
    listener.close()


def test_a_socket_that_was_left_over_is_replaced(tmp_path):
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with daemon._listeners(path) as [listener]:
        listener.close()


def test_a_socket_in_use_is_left_alone(tmp_path):
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(path))
        alive.listen()
        with pytest.raises(SocketInUse, match="Address already in use"), daemon._listeners(path):
            pass
        assert path.exists()


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path):
    path = tmp_path / "api.sock"
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(SocketInUse), daemon._listeners(path):
        pass
    assert path.read_text(encoding="utf-8") == "precious"

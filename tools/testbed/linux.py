"""The Linux system calls that Python 3.11's standard library lacks; each raises OSError when it fails."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# <sched.h>, <sys/mount.h>, <sys/prctl.h>
CLONE_NEWNS = 0x00020000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
_OPEN_TREE_CLONE, _AT_RECURSIVE, _MOVE_MOUNT_F_EMPTY_PATH = 1, 0x8000, 4
_AT_FDCWD = -100
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def mount(
    source: str | Path, target: str | Path, fstype: str = "", flags: int = 0, options: str = ""
) -> None:
    """Attach a file system, or with MS_BIND a part of another one (mount(2))."""
    arguments = (os.fsencode(source), os.fsencode(target), fstype.encode(), flags, options.encode())
    _check(_libc.mount(*arguments), f"mount {fstype or source} on {target}")


def unmount(target: str | Path) -> None:
    """Detach a file system, even one that is in use: it goes when that ends (umount2(2))."""
    _check(_libc.umount2(os.fsencode(target), _MNT_DETACH), f"unmount {target}")


def unshare(flags: int) -> None:
    """Leave the namespaces shared with the parent process for new ones (unshare(2))."""
    _check(_libc.unshare(flags), "unshare")


def escape_chroot() -> None:
    """Make the present root directory the root of this process's own mount namespace.

    Nothing seems to change, but in a chroot the kernel refuses user namespaces (user_namespaces(7), EPERM),
    and with them Chromium its sandbox. Needs a mount namespace of one's own; its mounts become private.
    """
    tree = _check(_libc.open_tree(_AT_FDCWD, b"/", _OPEN_TREE_CLONE | _AT_RECURSIVE), "open_tree /")
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    _check(_libc.setns(namespace, CLONE_NEWNS), "setns")  # takes this process to the namespace's own root
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    _check(_libc.move_mount(tree, b"", _AT_FDCWD, b"/", _MOVE_MOUNT_F_EMPTY_PATH), "move_mount")
    os.fchdir(tree)
    os.chroot(".")
    mount("", "/", flags=MS_REC | MS_PRIVATE)
    os.close(namespace)
    os.close(tree)


def unshare_network() -> None:
    """Leave the network shared with others for a new one that has nothing but loopback.

    It belongs to a user namespace of its own: a container often has CAP_SYS_ADMIN but not CAP_NET_ADMIN, and then
    only the owner of a network's user namespace may configure that network (user_namespaces(7)).
    """
    child = os.fork()
    if child == 0:
        error = 0
        try:
            unshare(CLONE_NEWUSER | CLONE_NEWNET)
            _raise_loopback()
            os.kill(os.getpid(), signal.SIGSTOP)
        except OSError as failure:
            error = failure.errno or 1
        finally:
            os._exit(error)
    _, status = os.waitpid(child, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        number = os.waitstatus_to_exitcode(status)
        raise OSError(number, f"private network: {os.strerror(number)}")
    try:
        network = os.open(f"/proc/{child}/ns/net", os.O_RDONLY)
        _check(_libc.setns(network, CLONE_NEWNET), "setns")
        os.close(network)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _raise_loopback() -> None:
    """Switch the loopback interface on, which a new network namespace has switched off (netdevice(7))."""
    request = struct.pack("16sH22x", b"lo", _IFF_UP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def signal_on_parent_death(signal_number: int) -> None:
    """Have the kernel send `signal_number` to this process when its parent dies (prctl(2))."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl")

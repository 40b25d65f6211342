"""The clock that a lease is measured by: CLOCK_BOOTTIME, which also counts while the host is suspended.

Python's event loop and systemd use CLOCK_MONOTONIC, which stands still then: after a suspend their timers would give a
lapsed lease the time that was left before.
"""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

_NONBLOCK: Final = os.O_NONBLOCK
_CLOEXEC: Final = os.O_CLOEXEC
_ABSOLUTE: Final = 1
"""TFD_TIMER_ABSTIME of timerfd_settime(2)."""


class Alarm(Protocol):
    """Calls back once, when its time has come."""

    def set(self, at_s: float) -> None:
        """Replace the time at which it calls back; one that is past means at once."""

    def close(self) -> None:
        """Call back no more."""


class Clock(Protocol):
    """What the keeper knows of time."""

    def now_s(self) -> float:
        """Return the seconds since the boot, those of a suspend included."""

    def boot_id(self) -> str:
        """Return what no other boot of any host has."""

    def alarm(self, callback: Callable[[], None]) -> Alarm:
        """Return an alarm of the running event loop, not set yet."""


class BootClock:
    """The kernel's clock."""

    def now_s(self) -> float:
        """Return the seconds since the boot, those of a suspend included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        """Return the kernel's random id of this boot."""
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()

    def alarm(self, callback: Callable[[], None]) -> Alarm:
        """Return an alarm of the running event loop, not set yet. Raises OSError."""
        return _TimerFd(callback)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class _TimerFd:
    """timerfd_create(2), which the os module has from Python 3.13 on."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._checked(self._libc.timerfd_create(time.CLOCK_BOOTTIME, _NONBLOCK | _CLOEXEC))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._ring)

    def set(self, at_s: float) -> None:
        # A time of 0 would switch the timer off.
        seconds, nanoseconds = divmod(max(1, round(at_s * 1e9)), 1_000_000_000)
        value = _Itimerspec(_Timespec(0, 0), _Timespec(seconds, nanoseconds))
        self._checked(self._libc.timerfd_settime(self._descriptor, _ABSOLUTE, ctypes.byref(value), None))

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _ring(self) -> None:
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # it was set to a later time since
        self._callback()

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

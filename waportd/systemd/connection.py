"""A connection to a message bus, through pydbus, for use on the event loop.

Two kinds of threads stand behind it. GDBus delivers a signal to the main context that was the default of the
thread which subscribed, so one thread owns a main context, connects, subscribes and iterates it. Calls need no
main context and are made by a small pool of threads, so that a slow one holds up no other: `call_sync` is thread
safe, while the callback of an asynchronous `call` leaks 128 bytes each time (measured, PyGObject 3.42).
Both pass their results to the event loop by `call_soon_threadsafe`; nothing else is shared.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
import warnings
from collections.abc import Callable
from typing import Any, Literal, Self

from waportd.systemd.manager import BusLost, BusTimeout

with warnings.catch_warnings():
    # Python 3.11 imports PyGObject 3.42 by a method that Python 3.12 dropped; newer releases are fixed.
    warnings.filterwarnings("ignore", r"DynamicImporter\.exec_module\(\) not found", ImportWarning)
    import pydbus
    from gi.repository import Gio, GLib

Variant = GLib.Variant
"""A value with its D-Bus type: ``Variant("(s)", ("text",))``."""

BusName = Literal["system", "session"]

_THREADS = 16
"""Calls under way at the same time. The system bus allows 128 unanswered ones per connection."""
_SUBSCRIBE_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 5.0
_TYPES = {"system": Gio.BusType.SYSTEM, "session": Gio.BusType.SESSION}
_HINTS = {
    "system": "see `systemctl status dbus`; where systemd does not run the machine, use `systemd.bus: session`",
    "session": "log in as this user, or have `loginctl enable-linger` run for it; "
    "DBUS_SESSION_BUS_ADDRESS or XDG_RUNTIME_DIR must name that session's bus",
}
_NOT_ITS_OWN = ("Failed to activate service", "Method call timed out")
"""What systemd answers when a program that it asked did not start, in the words of dbus-daemon and of sd-bus."""
_LATE = {f"org.freedesktop.DBus.Error.{name}" for name in ("NoReply", "Timeout", "TimedOut")}
_CLOSED = (Gio.IOErrorEnum.CLOSED, Gio.IOErrorEnum.BROKEN_PIPE, Gio.IOErrorEnum.NOT_CONNECTED)
_GONE = "org.freedesktop.DBus.Error.Disconnected"


class RemoteError(Exception):
    """The other side answered with an error."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        """The D-Bus error name; empty where this side found the error."""
        self.message = message


class Connection:
    """A private connection to one of the two buses, talking to one service on it."""

    def __init__(self, bus: BusName, service: str) -> None:
        self.bus = bus
        self._service = service
        self._loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[BusLost] = self._loop.create_future()
        """Done when the connection is gone, with the error to report; never done by `close`."""
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closing = False
        self._bus: Any = None
        self._context = GLib.MainContext.new()
        self._main_loop = GLib.MainLoop.new(self._context, False)  # noqa: FBT003
        self._thread = threading.Thread(target=self._attend, name=f"dbus-{bus}", daemon=True)
        self._callers = concurrent.futures.ThreadPoolExecutor(_THREADS, f"dbus-{bus}-call")

    @classmethod
    async def open(cls, bus: BusName, service: str, timeout: float) -> Self:  # noqa: ASYNC109
        """Connect within ``timeout`` seconds; raise BusLost or BusTimeout where that fails."""
        connection = cls(bus, service)
        connection._thread.start()
        try:
            await asyncio.wait_for(connection._opened, timeout)
        except TimeoutError:
            raise BusTimeout(f"the {bus} bus did not answer within {timeout:g} s", hint=_HINTS[bus]) from None
        finally:
            if connection._bus is None:
                await connection.close()
        return connection

    async def close(self) -> None:
        """Disconnect, and end the threads; calls under way raise BusLost."""
        self._closing = True
        if self._bus is not None:
            # Ends `_attend` by the signal "closed". Not awaited: on a bus that hangs it never completes.
            self._bus.con.close(None, None)
            await asyncio.to_thread(self._thread.join, _CLOSE_TIMEOUT_S)
        self._callers.shutdown(wait=False, cancel_futures=True)

    async def call(
        self,
        path: str,
        interface: str,
        method: str,
        arguments: Any,
        reply: str,
        timeout: float,  # noqa: ASYNC109
    ) -> Any:
        """Call a method with ``arguments``, a Variant; return its answer, a Variant of the type ``reply``.

        Raises RemoteError where the service answered with an error, BusTimeout after ``timeout`` seconds, BusLost.
        """
        milliseconds = int(timeout * 1000)
        reply_type = GLib.VariantType(reply)

        def call() -> Any:
            try:
                return self._bus.con.call_sync(
                    self._service, path, interface, method, arguments, reply_type,
                    Gio.DBusCallFlags.NO_AUTO_START, milliseconds, None,
                )  # fmt: skip
            except GLib.Error as error:
                raise self._translate(error, method) from None

        if self._closing:
            raise BusLost("the connection to the bus was closed")
        try:
            async with asyncio.timeout(timeout):
                return await self._loop.run_in_executor(self._callers, call)
        except TimeoutError:
            raise self._late(method) from None

    async def subscribe(
        self,
        interface: str,
        signal: str,
        callback: Callable[[str, Any], None],
        *,
        sender: str | None = None,
        arg0: str | None = None,
        wanted: Callable[[str], bool] = lambda _path: True,
    ) -> None:
        """Have ``callback(path, arguments)`` called on the event loop for each such signal.

        The signals are the service's unless another ``sender`` is named, and of those objects whose path is
        ``wanted``, which is called in another thread. ``arguments`` is a Variant: to unpack all that systemd reports of
        a unit takes a millisecond, and most of it is not needed (pydbus' own `subscribe` unpacks). Once this has
        returned, the signals that a call causes are not missed.
        """
        subscribed: asyncio.Future[Any] = self._loop.create_future()

        def received(
            _bus: Any, _sender: str, path: str, _interface: str, _signal: str, arguments: Any
        ) -> None:
            if wanted(path):
                self._to_loop(callback, path, arguments)

        def subscribe() -> None:
            self._bus.con.signal_subscribe(
                sender or self._service, interface, signal, None, arg0, Gio.DBusSignalFlags.NONE, received
            )
            self._to_loop(_settle, subscribed, None)

        source = GLib.Idle(priority=GLib.PRIORITY_DEFAULT)
        source.set_callback(lambda *_: subscribe())
        source.attach(self._context)
        try:
            await asyncio.wait_for(subscribed, _SUBSCRIBE_TIMEOUT_S)
        except TimeoutError:
            raise self._late("subscription") from None

    def _late(self, what: str) -> BusTimeout:
        return BusTimeout(
            f"{self._service} did not answer in time ({what})",
            hint="the host may be overloaded; try again",
            retry_after=1,
        )

    def _translate(self, error: Any, method: str) -> Exception:
        """Return the exception for a GLib.Error of a call."""
        name = Gio.DBusError.get_remote_error(error)
        local = Gio.io_error_quark()
        is_late = name in _LATE and not any(words in error.message for words in _NOT_ITS_OWN)
        if is_late or error.matches(local, Gio.IOErrorEnum.TIMED_OUT):
            return self._late(method)
        if name == _GONE or any(error.matches(local, code) for code in _CLOSED):
            return BusLost(f"lost the {self.bus} bus: {error.message}")
        return RemoteError(name or "", error.message.removeprefix(f"GDBus.Error:{name}: "))

    # In the thread of the main context

    def _attend(self) -> None:
        self._context.push_thread_default()
        try:
            bus = pydbus.connect(Gio.dbus_address_get_for_bus_sync(_TYPES[self.bus], None))
        except GLib.Error as error:
            lost = BusLost(f"cannot connect to the {self.bus} bus: {error.message}", hint=_HINTS[self.bus])
            self._to_loop(_settle, self._opened, lost)
        else:
            bus.con.connect("closed", self._on_closed)
            self._to_loop(self._on_opened, bus)
            self._main_loop.run()
        finally:
            self._context.pop_thread_default()

    def _on_closed(self, _connection: Any, _vanished: bool, error: Any) -> None:  # noqa: FBT001
        reason = error.message if error else "the other side closed it"
        lost = BusLost(
            f"lost the {self.bus} bus: {reason}", hint="systemd restarts waportd; " + _HINTS[self.bus]
        )
        self._to_loop(self._on_lost, lost)
        self._main_loop.quit()

    def _to_loop(self, callback: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nothing waits any more
            self._loop.call_soon_threadsafe(callback, *arguments)

    # On the event loop

    def _on_opened(self, bus: Any) -> None:
        self._bus = bus
        if self._closing:
            bus.con.close(None, None)
        _settle(self._opened, None)

    def _on_lost(self, error: BusLost) -> None:
        if not self._closing:
            self.lost.set_result(error)


def _settle(future: asyncio.Future[Any], outcome: Any) -> None:
    if future.done():  # the waiting task was cancelled
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)

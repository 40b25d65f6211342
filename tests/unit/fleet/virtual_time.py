"""Hours of a keeper's life in milliseconds: an event loop whose time jumps to its next timer, and a clock upon it."""

import asyncio

LONGEST_S = 50_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """Waits for no timer. What it does takes no time."""

    def __init__(self):
        super().__init__()
        self.passed = 0.0

    def time(self):
        return self.passed

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.passed = max(self.passed, self._scheduled[0].when())
        assert self.passed < LONGEST_S, "this scenario does not end"
        super()._run_once()


class VirtualClock:
    """CLOCK_BOOTTIME of a host whose loop is a VirtualLoop."""

    def __init__(self, loop, boot="this boot"):
        self._loop = loop
        self._boot = boot
        self._suspended = 0.0
        self._alarms = []

    def now_s(self):
        return self._loop.time() + self._suspended

    def boot_id(self):
        return self._boot

    def alarm(self, callback):
        alarm = _Alarm(self, self._loop, callback)
        self._alarms.append(alarm)
        return alarm

    def suspend(self, seconds):
        """Suspend the host: the loop's own timers do not count that time, alarms do."""
        self._suspended += seconds
        for alarm in self._alarms:
            alarm.again()

    def pause(self, seconds):
        """Stop the program, as a hypervisor or SIGSTOP does, while all clocks run on."""
        self._loop.passed += seconds


class _Alarm:
    def __init__(self, clock, loop, callback):
        self._clock = clock
        self._loop = loop
        self._callback = callback
        self._timer = None
        self._at = None

    def set(self, at_s):
        self._at = at_s
        self.again()

    def again(self):
        if self._timer:
            self._timer.cancel()
        if self._at is not None:
            self._timer = self._loop.call_at(
                self._loop.time() + self._at - self._clock.now_s(), self._callback
            )

    def close(self):
        self._at = None
        self.again()


def run(scenario):
    """Run a coroutine function with a virtual clock; return what it returns."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(scenario(VirtualClock(loop)))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

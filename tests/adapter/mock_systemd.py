# ruff: noqa: N802  # D-Bus spells methods like that
"""A systemd on a private bus whose faults a test can choose: by the name of the unit it asks for.

A unit ``<fault>@<anything>.service`` has the fault; the methods below say which there are. What every other unit
does is what systemd does. The interface `CONTROL` is the tests' own.
"""

import collections

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

SYSTEMD = "org.freedesktop.systemd1"
PATH = "/org/freedesktop/systemd1"
MANAGER = f"{SYSTEMD}.Manager"
SERVICE = "org.freedesktop.systemd1.Service"
UNIT = f"{SYSTEMD}.Unit"
CONTROL = "test.Control"
ERRORS = {
    "denied": "org.freedesktop.DBus.Error.AccessDenied",
    "unauthorized": "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
    "missing": f"{SYSTEMD}.NoSuchUnit",
    "masked": f"{SYSTEMD}.UnitMasked",
    "invalid": f"{SYSTEMD}.BadUnitSetting",
    "unreadable": f"{SYSTEMD}.LoadFailed",
    "busy": f"{SYSTEMD}.UnitBusy",
    "restarting": "org.freedesktop.DBus.Error.NameHasNoOwner",
    "strange": f"{SYSTEMD}.OnlyByDependency",
    "unguarded": f"{SYSTEMD}.UnitMasked",
    "unanswered": "org.freedesktop.DBus.Error.NoReply",
    "unstarted": "org.freedesktop.DBus.Error.TimedOut",
}
WORDS = {
    "unguarded": "Unit polkit.service is masked.",
    "unanswered": "Method call timed out",
    "unstarted": "Failed to activate service 'org.freedesktop.PolicyKit1': timed out (service_start_timeout=25000ms)",
}
"""What it says where the words matter: systemd passes on what keeps polkit from a start."""


class Error(dbus.DBusException):
    """An error with the name that a fault stands for."""

    include_traceback = False

    def __init__(self, fault: str) -> None:
        super().__init__(WORDS.get(fault, "so says the mock"), name=ERRORS[fault])


def fault_of(unit):
    return unit.partition("@")[0]


def escaped(unit):
    return "".join(letter if letter.isalnum() else f"_{ord(letter):02x}" for letter in unit)


class Units(dbus.service.FallbackObject):
    """All unit objects."""

    def __init__(self, bus):
        super().__init__(bus, f"{PATH}/unit")
        self.states = {}
        self.calls = collections.Counter()
        self.silenced = 0
        self.delayed = 0

    @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="s", out_signature="a{sv}",
                         rel_path_keyword="path", async_callbacks=("reply", "fail"))  # fmt: skip
    def GetAll(self, interface, reply, fail, path):
        self.calls[f"GetAll {path[1:]}"] += 1
        if self.silenced:
            self.silenced -= 1
            return
        active, sub = self.states.get(path[1:], ("inactive", "dead"))
        answer = {
            "LoadState": "loaded", "ActiveState": active, "SubState": sub,
            "Result": "exit-code" if active == "failed" else "success",
        }  # fmt: skip
        if self.delayed:
            self.delayed -= 1
            GLib.timeout_add(300, lambda: reply(answer))
        else:
            reply(answer)

    @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="ss", out_signature="v",
                         rel_path_keyword="path")  # fmt: skip
    def Get(self, interface, name, path):
        active, sub = self.states.get(path[1:], ("inactive", "dead"))
        return {"ActiveState": active, "SubState": sub, "CleanResult": "success"}[name]

    @dbus.service.signal("org.freedesktop.DBus.Properties", signature="sa{sv}as", rel_path_keyword="path")
    def PropertiesChanged(self, interface, changed, invalidated, path=None):
        pass

    def set(self, unit, active, sub):
        self.states[escaped(unit)] = (active, sub)
        self.announce(unit)

    def announce(self, unit):
        self.PropertiesChanged(UNIT, dbus.Dictionary({}, signature="sv"), [], path=f"/{escaped(unit)}")


class Manager(dbus.service.Object):
    """The manager object."""

    def __init__(self, bus):
        self.units = Units(bus)
        self.jobs = 0
        super().__init__(bus, PATH)

    def job(self, unit, state, reply, fail):
        self.units.calls["job"] += 1
        self.jobs += 1
        number, path = self.jobs, f"{PATH}/job/{self.jobs}"
        fault = fault_of(unit)
        if fault in ERRORS:
            fail(Error(fault))
        elif fault == "early":
            self.JobRemoved(number, path, unit, "done")
            reply(path)
        elif fault == "endless":
            reply(path)
        elif fault == "failing":
            reply(path)
            self.units.set(unit, "failed", "failed")
            self.JobRemoved(number, path, unit, "failed")
        elif fault == "foreign":
            self.JobRemoved(number + 1000, f"{path}000", unit, "failed")
            self.JobRemoved(number + 1001, f"{path}001", "somebody-else.service", "failed")
            reply(path)
            self.JobRemoved(number + 1002, f"{path}002", unit, "canceled")
            self.JobRemoved(number, path, unit, "done")
        elif fault == "dying":
            main_loop.quit()
        elif fault != "silent":
            reply(path)
            self.units.set(unit, *state)
            self.JobRemoved(number, path, unit, "done")

    def change(self, name, reply, fail):
        fault = fault_of(name)
        if fault in ERRORS:
            fail(Error(fault))
        elif fault != "silent":
            reply()

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o", async_callbacks=("reply", "fail"))
    def StartUnit(self, unit, mode, reply, fail):
        self.job(unit, ("active", "running"), reply, fail)

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="o", async_callbacks=("reply", "fail"))
    def StopUnit(self, unit, mode, reply, fail):
        self.job(unit, ("inactive", "dead"), reply, fail)

    @dbus.service.method(MANAGER, in_signature="s", async_callbacks=("reply", "fail"))
    def ResetFailedUnit(self, unit, reply, fail):
        self.change(unit, reply, fail)

    @dbus.service.method(MANAGER, in_signature="s")
    def RefUnit(self, unit):
        self.units.calls["RefUnit"] += 1

    @dbus.service.method(MANAGER, in_signature="s")
    def UnrefUnit(self, unit):
        self.units.calls["UnrefUnit"] += 1

    @dbus.service.method(MANAGER, in_signature="sas", async_callbacks=("reply", "fail"))
    def CleanUnit(self, unit, mask, reply, fail):
        if fault_of(unit) == "cleaning":
            self.units.set(unit, "maintenance", "cleaning")
        self.change(unit, reply, fail)

    @dbus.service.method(MANAGER, in_signature="s", out_signature="o")
    def GetUnit(self, unit):
        self.units.calls[f"GetUnit {unit}"] += 1
        if escaped(unit) not in self.units.states:
            raise Error("missing")
        return f"{PATH}/unit/{escaped(unit)}"

    @dbus.service.method(MANAGER, in_signature="asas", out_signature="a(ssssssouso)")
    def ListUnitsByPatterns(self, states, patterns):
        [prefix] = [pattern.removesuffix("*") for pattern in patterns]
        return [
            (name, "", "loaded", *state, "", f"{PATH}/unit/{escaped(name)}", dbus.UInt32(0), "", "/")
            for path, state in self.units.states.items()
            if (name := path.replace("_40", "@").replace("_2e", ".")).startswith(prefix)
        ]

    @dbus.service.method(MANAGER)
    def Subscribe(self):
        self.units.calls["Subscribe"] += 1
        raise dbus.DBusException("again", name=f"{SYSTEMD}.AlreadySubscribed")

    @dbus.service.signal(MANAGER, signature="uoss")
    def JobRemoved(self, number, job, unit, result):
        pass

    @dbus.service.signal(MANAGER, signature="so")
    def UnitNew(self, unit, path):
        pass

    @dbus.service.signal(MANAGER, signature="so")
    def UnitRemoved(self, unit, path):
        pass

    @dbus.service.signal(MANAGER, signature="b")
    def Reloading(self, active):
        pass

    @dbus.service.method(CONTROL, in_signature="sss")
    def Set(self, unit, active, sub):
        """Change the unit's state, and announce it."""
        self.units.set(unit, active, sub)

    @dbus.service.method(CONTROL, in_signature="su")
    def Announce(self, unit, times):
        """Send that many signals of a change."""
        for _ in range(times):
            self.units.announce(unit)

    @dbus.service.method(CONTROL, in_signature="sssu")
    def Tell(self, unit, active, sub, pid):
        """Change the unit's state, and say everything in the announcement, as systemd does."""
        self.units.states[escaped(unit)] = (active, sub)
        told = {
            SERVICE: {"Result": "success", "MainPID": dbus.UInt32(pid)},
            UNIT: {
                "ActiveState": active, "SubState": sub, "StateChangeTimestamp": dbus.UInt64(7_000_000),
                "ActiveEnterTimestamp": dbus.UInt64(6_000_000), "AssertResult": True,
            },
        }  # fmt: skip
        for interface, values in told.items():
            self.units.PropertiesChanged(
                interface, dbus.Dictionary(values, signature="sv"), [], path=f"/{escaped(unit)}"
            )

    @dbus.service.method(CONTROL, in_signature="s")
    def Unload(self, unit):
        """Forget the unit."""
        del self.units.states[escaped(unit)]
        self.UnitRemoved(unit, f"{PATH}/unit/{escaped(unit)}")

    @dbus.service.method(CONTROL, in_signature="sss")
    def Reload(self, unit, active, sub):
        """Announce all units as removed and new, as a reload does; the unit changes meanwhile, unannounced."""
        self.Reloading(True)
        for path in list(self.units.states):
            name = path.replace("_40", "@").replace("_2e", ".")
            self.UnitRemoved(name, f"{PATH}/unit/{path}")
            self.UnitNew(name, f"{PATH}/unit/{path}")
        self.units.states[escaped(unit)] = (active, sub)
        self.Reloading(False)

    @dbus.service.method(CONTROL, in_signature="u")
    def Silence(self, times):
        """Do not answer the next questions for a unit's properties."""
        self.units.silenced = times

    @dbus.service.method(CONTROL, in_signature="u")
    def Delay(self, times):
        """Answer the next questions for a unit's properties with what holds then, but 300 ms later."""
        self.units.delayed = times

    @dbus.service.method(CONTROL, in_signature="s", out_signature="u")
    def Calls(self, what):
        """Return how often that was called."""
        return self.units.calls[what]


if __name__ == "__main__":
    dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
    bus = dbus.SessionBus()
    manager = Manager(bus)
    name = dbus.service.BusName(SYSTEMD, bus)
    main_loop = GLib.MainLoop()
    print("ready", flush=True)  # noqa: T201
    main_loop.run()

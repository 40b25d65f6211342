"""Sessions end with the lease of their host, and none starts without it: on a real systemd, with faults.

The numbers are the rows of the table of failure modes that each test is for.
"""

import signal
import subprocess
import threading

import psutil
import pytest
from lease_host import LEASE, TIMING, service, show, state, systemctl, until
from played_fleet import now

from waportd.fleet.engine import LeaseLost
from waportd.model import Port

SLACK_S = 1.0
"""What systemd and a busy machine may add to each of the times."""


@pytest.fixture
def reloading():
    """Give a function that has systemd read its units, and start again, without a pause until the test ends."""
    stop = threading.Event()

    def work():
        while not stop.is_set():
            systemctl("daemon-reload", check=False)
            systemctl("daemon-reexec", check=False)

    thread = threading.Thread(target=work)
    yield thread.start
    stop.set()
    thread.join()


def test_a_keeper_that_is_killed_three_times_keeps_the_lease(host):
    """Row 15."""
    ports = host.run(3)
    before, since = (host.incarnation(), show(LEASE, "InvocationID"), host.pids(ports)), now()
    for _ in range(3):
        host.keeper().send_signal(signal.SIGKILL)
        host.renewed_after(now())
    assert (host.incarnation(), show(LEASE, "InvocationID"), host.pids(ports)) == before
    assert host.longest_gap(ports, since) < SLACK_S


def test_a_keeper_that_hangs_ends_all_sessions(host):
    """Row 16. They are killed, the deaf ones too: it is not known how late it is."""
    ports = host.run(3, deaf=[0])
    host.renewed_after(now())
    host.keeper().send_signal(signal.SIGSTOP)
    last = host.fleet.renewals()[-1]
    assert host.gone(ports) < last + TIMING.ask_s + TIMING.watchdog_s + TIMING.abort_s + SLACK_S
    assert not host.fleet.lease() or host.fleet.renewals()[-1] == last


@pytest.mark.parametrize(("number", "most_s"), [(signal.SIGKILL, 0), (signal.SIGTERM, TIMING.stop_s)])
def test_without_the_shell_of_the_keeper_all_sessions_end(host, number, most_s):
    """Row 17. The lease is not given back while they end."""
    ports = host.run(3, deaf=[0])
    ended, lease = now(), host.fleet.lease()
    host.shell().send_signal(number)
    assert host.gone(ports) < ended + most_s + SLACK_S
    assert host.fleet.lease() == lease


def test_the_daemon_may_die_and_the_keepers_code_change(host):
    """Row 18. An upgrade reloads the lease: another process, the same lease."""
    writer = "import sys, time; open(sys.argv[1], 'w').write('x'); time.sleep(600)"
    run = ["systemd-run", "--user", "--quiet", "--unit=waportd", "/usr/bin/python3", "-c", writer]
    subprocess.run([*run, str(host.instances / "1.env")], check=True, timeout=60)
    ports = host.run(3)
    before, since, keeper = (host.incarnation(), show(LEASE, "InvocationID")), now(), host.keeper()
    systemctl("kill", "--signal=SIGSTOP", "waportd")
    systemctl("kill", "--signal=SIGKILL", "waportd")
    systemctl("reload", LEASE)
    until(lambda: not keeper.is_running(), "the end of the old keeper")
    host.renewed_after(now())
    assert (host.incarnation(), show(LEASE, "InvocationID")) == before
    assert host.longest_gap(ports, since) < SLACK_S


def test_a_systemd_that_reloads_without_pause_fences_as_ever(host, reloading):
    """Rows 19 and 20: one session ends in order, one is deaf, one is stopped."""
    ports = in_order, deaf, stopped = host.run(3, deaf=[1])
    process, since = psutil.Process(host.pids(ports)[stopped]), now()
    reloading()
    host.renewed_after(now() + 0.5)
    assert host.longest_gap(ports, since) < SLACK_S
    process.send_signal(signal.SIGSTOP)
    stopped_at = now()
    host.fleet.set(engine="hangs")
    last = host.fleet.renewals()[-1]
    end = host.gone(ports)
    assert last + TIMING.deadline_s - 0.1 < host.beats(in_order)[-1] < last + TIMING.deadline_s + SLACK_S
    assert host.beats(in_order)[-1] < host.beats(deaf)[-1] == end
    assert end < last + TIMING.deadline_s + TIMING.stop_s + SLACK_S < last + TIMING.ttl_s
    assert now() < last + TIMING.ttl_s
    assert host.beats(stopped)[-1] < stopped_at + SLACK_S


def test_a_start_from_before_the_fence_does_not_run_after_it(host):
    """Row 21. One start waits in systemd's queue when the lease ends; one comes from a daemon that is a moment late."""
    early, late = host.run(2)
    systemctl("stop", service(early), service(late))
    before, beats = host.environments(), {port: host.beats(port) for port in (early, late)}
    blocker = ["systemd-run", "--user", "--quiet", "--no-block", "--unit=blocker"]
    blocker += ["--property=Type=oneshot", f"--property=Before={service(early)}", "sleep", "600"]
    subprocess.run(blocker, check=True, timeout=60)
    until(lambda: state("blocker") == "activating")
    systemctl("start", "--no-block", service(early))
    assert show(service(early), "Job") != ""
    host.fleet.set(engine="refuses", lease=None)
    until(lambda: state(LEASE) == "activating", "the end of the lease")
    systemctl("start", "--no-block", service(late))
    until(lambda: show(LEASE, "StatusText").startswith("waits for the engine"), "the next keeper")
    assert show(service(late), "Job") != ""
    with pytest.raises(LeaseLost):
        before.write(Port(late), "decided under the old lease")
    host.fleet.set(engine="up")
    until(lambda: state(LEASE) == "active", "the next lease")
    with pytest.raises(LeaseLost):
        before.write(Port(late), "decided under the old lease")
    before.close()
    systemctl("stop", "blocker")
    for port in early, late:
        until(lambda port=port: show(service(port), "Job") == "", "the end of its job")
        assert state(service(port)) == "inactive"
        assert host.beats(port) == beats[port]
    assert show(service(late), "AssertResult") == "no"
    # With an environment of this lease the same start runs.
    host.allow(late)
    systemctl("start", service(late))
    assert host.beats(late) != beats[late]


def test_a_lease_that_is_gone_kills_at_once(host):
    """Row 14, as the keeper finds it: at its next renewal."""
    ports = host.run(6, deaf=[0, 1, 2])
    lost = now()
    host.fleet.set(lease=None)
    assert host.gone(ports) < lost + TIMING.renew_s + SLACK_S
    assert now() < lost + TIMING.stop_s + SLACK_S


def test_an_orderly_stop_gives_the_lease_back_when_the_last_session_is_dead(host):
    ports = host.run(3, deaf=[0])
    begun = now()
    systemctl("stop", LEASE)
    assert not host.populated()
    assert host.beats(ports[0])[-1] > begun + TIMING.stop_s - 0.2
    assert host.fleet.lease() is None
    assert not host.instances.exists()
    assert state(LEASE) == "inactive"


def test_failsafe_and_a_member_that_renews_keep_the_sessions(host):
    """Rows 1 and 4."""
    ports = host.run(2)
    since = now()
    host.fleet.set(engine="hangs", members={"b": "unreachable", "c": "unreachable"})
    until(lambda: show(LEASE, "StatusText").startswith("failsafe"), "failsafe")
    until(lambda: now() > since + TIMING.deadline_s + 0.5)
    assert state(LEASE) == "active"
    assert host.longest_gap(ports, since) < SLACK_S
    assert {state(service(port)) for port in ports} == {"active"}


def test_what_no_retry_cures_ends_the_unit_for_good(host):
    systemctl("stop", LEASE)
    host.fleet.set(engine="is newer")
    systemctl("start", LEASE, check=False)
    assert (state(LEASE), show(LEASE, "ExecMainStatus")) == ("failed", "78")
    assert show(LEASE, "NRestarts") == "0"


def test_nothing_starts_before_the_first_lease(host):
    (port,) = host.run(1)
    systemctl("stop", LEASE)
    host.fleet.set(engine="refuses")
    systemctl("start", "--no-block", LEASE)
    systemctl("start", "--no-block", service(port), f"whatsapp@{port}.socket")
    until(lambda: show(LEASE, "StatusText").startswith("waits for the engine"), "a keeper that waits")
    beats = host.beats(port)
    host.fleet.set(engine="up")
    until(lambda: show(service(port), "Job") == "", "the end of the job")
    until(lambda: state(LEASE) == "active", "the lease")
    assert (show(service(port), "AssertResult"), host.beats(port)) == ("no", beats)

"""The metrics for Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/).

Events are counted when they happen; states are read from the registry on request.
"""

import collections
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from waportd import __version__
from waportd.alarms import SHARED, Alarm
from waportd.capacity import Capacity
from waportd.host import Figures
from waportd.model import ELSEWHERE, SIZES, UNDELIVERED_S, ProcessState, SessionState, Usage, User, Webhook
from waportd.registry import Instance

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_QUICK_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Buckets in seconds, for what takes milliseconds when all is well."""
_MOST_SERIES = 50
"""The most series of a metric whose labels come from servers: those with most sessions are kept."""
_SLOW_S = (0.1, 0.2, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90)
"""Buckets in seconds, for what starts a program or waits for another site."""


_OUTCOMES = ("delivered", "failed", "dropped", "undelivered")
"""The possible outcomes of a message that is sent to the web app."""


class Metrics:
    """Counts and times what happens, from the start of the daemon on."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        """All of them."""
        self.requests = Histogram(
            "waportd_http_request_duration_seconds",
            "Time to answer a request, without event streams and calls that wait for a change.",
            ["route", "method", "status"],
            buckets=_QUICK_S,
            registry=self.registry,
        )
        self.dbus_calls = Histogram(
            "waportd_dbus_call_duration_seconds",
            "Time until systemd answered a call over D-Bus.",
            ["method"],
            buckets=_QUICK_S,
            registry=self.registry,
        )
        self.starts = Histogram(
            "waportd_server_start_duration_seconds",
            "Time from the start of a server until it listens.",
            buckets=_SLOW_S,
            registry=self.registry,
        )
        self.failed_starts = Counter(
            "waportd_server_start_failures",
            "Starts of a server that failed, by the kind of error.",
            ["code"],
            registry=self.registry,
        )
        self.first_codes = Histogram(
            "waportd_first_code_duration_seconds",
            "Time from the request for a code until there is one, with the start of the server where that is needed.",
            buckets=_SLOW_S,
            registry=self.registry,
        )
        self.restarts = Counter(
            "waportd_server_restarts", "Servers that systemd restarted automatically.", registry=self.registry
        )
        self.webhook_calls = Counter(
            "waportd_webhook_messages",
            "Messages by outcome: delivered, undelivered, dropped, or a try that failed.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in _OUTCOMES:
            self.webhook_calls.labels(outcome)
        ProcessCollector(registry=self.registry)
        self._cpu_total = 0.0
        self._cpu_seen: dict[tuple[User, int], float] = {}

    def note_call(self, method: str, seconds: float) -> None:
        """Time a call over D-Bus."""
        self.dbus_calls.labels(method).observe(seconds)

    def note_webhook(self, before: Webhook, now: Webhook) -> None:
        """Count what a server's webhook has done since the figures ``before``."""
        for outcome in _OUTCOMES:
            grown = getattr(now, outcome) - getattr(before, outcome)
            if grown > 0:
                self.webhook_calls.labels(outcome).inc(grown)

    def add_cpu(self, usages: Mapping[User, Usage], instances: Iterable[Instance]) -> float:
        """Take over the processor time of each process; return the sum of all, including ended ones."""
        seen = {}
        for instance in instances:
            user, pid = instance.assignment.user, instance.process.pid
            usage = usages.get(user)
            if pid is None or usage is None or usage.cpu is None:
                continue
            before = self._cpu_seen.get((user, pid), 0.0)
            self._cpu_total += max(0.0, usage.cpu - before)
            seen[user, pid] = max(before, usage.cpu)
        self._cpu_seen = seen
        return self._cpu_total


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state at one moment."""

    instances: list[Instance]
    usages: Mapping[User, Usage]
    cpu_total: float
    """Seconds of processor time that all servers have used since the daemon started to measure."""
    capacity: Capacity
    unassigned: int
    alarm: Alarm | None
    warm_answers: int
    open_requests: int
    per_user: bool
    """Whether each user has series of its own."""
    fleet: Figures | None = None
    """None on a host on its own."""


def render(metrics: Metrics, snapshot: Snapshot) -> bytes:
    """Write everything in the text format. Takes 20 µs a user: not to be called on the event loop."""
    everything = CollectorRegistry()
    everything.register(_Everything(metrics, snapshot))
    return prometheus_client.generate_latest(everything)


def _fleet(fleet: Figures) -> Iterator[Metric]:
    hosts = GaugeMetricFamily("waportd_fleet_hosts", "Hosts of the fleet, by state.", labels=["state"])
    for state, count in fleet.hosts.items():
        hosts.add_metric([state], count)
    yield hosts
    yield GaugeMetricFamily("waportd_fleet_lease_held", "1 while this host holds its lease.", fleet.has_lease)
    yield GaugeMetricFamily(
        "waportd_fleet_settled", "1 while users may be started, made and moved.", fleet.is_settled
    )
    if fleet.certificate_ends_at is not None:
        yield GaugeMetricFamily(
            "waportd_fleet_certificate_expiry_timestamp_seconds",
            "When the certificate of this host ends.",
            fleet.certificate_ends_at,
        )
    logins = GaugeMetricFamily(
        "waportd_fleet_logins",
        "Logins of this host's users, by their copies on other hosts.",
        labels=["copies"],
    )
    for copies, count in fleet.logins.items():
        logins.add_metric([copies], count)
    yield logins
    yield GaugeMetricFamily(
        "waportd_fleet_coming_users", "Users who come to this host, and are not there yet.", fleet.coming
    )


class _Everything(Collector):
    """The counters, and the registry as metrics."""

    def __init__(self, metrics: Metrics, snapshot: Snapshot) -> None:
        self._metrics = metrics
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Yield all of them."""
        for metric in self._metrics.registry.collect():
            # The creation times of the series would be half of the output.
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        yield from self._of_all()
        if self._snapshot.fleet is not None:
            yield from _fleet(self._snapshot.fleet)
        if self._snapshot.per_user:
            yield from self._of_each()

    def _of_all(self) -> Iterator[Metric]:
        now = self._snapshot
        info = GaugeMetricFamily("waportd_build_info", "1, labelled with the version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield GaugeMetricFamily("waportd_users", "Users who have a port.", len(now.instances))
        processes = collections.Counter(instance.process.state for instance in now.instances)
        servers = GaugeMetricFamily(
            "waportd_servers", "Servers by the state of their process.", labels=["state"]
        )
        for state in set(ProcessState) - ELSEWHERE:
            servers.add_metric([state], processes[state])
        yield servers
        counted = collections.Counter(
            instance.session.state for instance in now.instances if instance.session and instance.answering
        )
        sessions = GaugeMetricFamily(
            "waportd_sessions",
            "WhatsApp sessions of servers that answer, by their state.",
            labels=["state"],
        )
        for session in SessionState:
            sessions.add_metric([session], counted[session])
        yield sessions
        yield from _upstream(now.instances)
        failing = GaugeMetricFamily(
            "waportd_alarm_users",
            "Users who fail in the same way, by cause, while there is an alarm for it; else 0.",
            labels=["cause"],
        )
        for cause in SHARED:
            failing.add_metric([cause], now.alarm.users if now.alarm and now.alarm.cause == cause else 0)
        yield failing
        yield GaugeMetricFamily(
            "waportd_linked_users",
            "Users with a linked phone, whether or not their server runs.",
            sum(instance.assignment.linked for instance in now.instances),
        )
        yield GaugeMetricFamily(
            "waportd_servers_memory_bytes",
            "Memory of all servers with their browsers.",
            sum(usage.memory or 0 for usage in now.usages.values()),
        )
        yield _storage(now.instances)
        yield CounterMetricFamily(
            "waportd_servers_cpu_seconds", "Processor time of all servers with their browsers.", now.cpu_total
        )
        yield GaugeMetricFamily(
            "waportd_webhook_queue_length",
            "Messages that wait to be delivered.",
            sum(queued(instance) for instance in now.instances),
        )
        yield GaugeMetricFamily(
            "waportd_webhook_failing",
            "Users whose last message was not delivered.",
            sum(_is_failing(instance) for instance in now.instances),
        )
        yield GaugeMetricFamily(
            "waportd_webhook_undelivered",
            "Undelivered messages that are kept.",
            sum(_undelivered(instance) for instance in now.instances),
        )
        yield GaugeMetricFamily(
            "waportd_webhook_oldest_age_seconds",
            "How long the oldest of all messages has waited to be delivered; 0 where none waits.",
            max((_waited(instance) for instance in now.instances), default=0.0),
        )
        yield GaugeMetricFamily(
            "waportd_webhook_stuck",
            "Users whose messages have waited to be delivered for five minutes.",
            sum(_waited(instance) > UNDELIVERED_S for instance in now.instances),
        )
        yield GaugeMetricFamily(
            "waportd_unassigned_servers", "Units that run although no user owns their port.", now.unassigned
        )
        yield GaugeMetricFamily(
            "waportd_host_memory_available_bytes",
            "Memory of the host that is available for more servers.",
            now.capacity.memory_available,
        )
        if now.capacity.more_sessions is not None:
            yield GaugeMetricFamily(
                "waportd_room_sessions", "How many more servers fit.", now.capacity.more_sessions
            )
        yield GaugeMetricFamily(
            "waportd_http_open_requests", "Requests being answered, with event streams.", now.open_requests
        )
        yield CounterMetricFamily(
            "waportd_http_warm_answers",
            "Requests that were answered from the cache; too quick to be timed.",
            now.warm_answers,
        )

    def _of_each(self) -> Iterator[Metric]:
        labels = ["user"]
        running = GaugeMetricFamily(
            "waportd_user_running", "1 while the user's server runs, else 0.", labels=labels
        )
        ready = GaugeMetricFamily(
            "waportd_user_session_ready", "1 while messages can be sent, else 0.", labels=labels
        )
        linked = GaugeMetricFamily("waportd_user_linked", "1 while a phone is linked, else 0.", labels=labels)
        memory = GaugeMetricFamily(
            "waportd_user_memory_bytes", "Memory of the server with its browser.", labels=labels
        )
        storage = GaugeMetricFamily(
            "waportd_user_storage_bytes",
            "What the session keeps on disk, as last measured, by kind.",
            labels=["user", "kind"],
        )
        snapshot = GaugeMetricFamily(
            "waportd_user_snapshot_age_seconds",
            "How old the newest copy of the login is; missing where there is none.",
            labels=labels,
        )
        cpu = CounterMetricFamily(
            "waportd_user_cpu_seconds", "Processor time of the server with its browser.", labels=labels
        )
        restarts = CounterMetricFamily(
            "waportd_user_restarts",
            "How often systemd restarted the server automatically since its start.",
            labels=labels,
        )
        queue = GaugeMetricFamily(
            "waportd_user_webhook_queue_length", "Messages that wait to be delivered.", labels=labels
        )
        dropped = CounterMetricFamily(
            "waportd_user_webhook_dropped", "Messages that are lost, since the server's start.", labels=labels
        )
        failing = GaugeMetricFamily(
            "waportd_user_webhook_failing",
            "1 while the last message was not delivered, else 0.",
            labels=labels,
        )
        undelivered = GaugeMetricFamily(
            "waportd_user_webhook_undelivered", "Undelivered messages that are kept.", labels=labels
        )
        oldest = GaugeMetricFamily(
            "waportd_user_webhook_oldest_age_seconds",
            "How long the oldest message has waited to be delivered; 0 where none waits.",
            labels=labels,
        )
        for instance in self._snapshot.instances:
            name = [instance.assignment.user]
            running.add_metric(name, instance.process.state is ProcessState.RUNNING)
            ready.add_metric(name, _is_ready(instance))
            linked.add_metric(name, instance.assignment.linked)
            restarts.add_metric(name, instance.process.restarts)
            queue.add_metric(name, queued(instance))
            dropped.add_metric(name, instance.session.webhook.dropped if instance.session else 0)
            failing.add_metric(name, _is_failing(instance))
            undelivered.add_metric(name, _undelivered(instance))
            oldest.add_metric(name, _waited(instance))
            for kind, size in instance.storage.sizes.items() if instance.storage else ():
                storage.add_metric([*name, kind], size)
            if instance.storage and instance.storage.snapshot_at is not None:
                snapshot.add_metric(name, max(0.0, time.time() - instance.storage.snapshot_at))
            usage = self._snapshot.usages.get(instance.assignment.user)
            if usage and usage.memory is not None:
                memory.add_metric(name, usage.memory)
            if usage and usage.cpu is not None:
                cpu.add_metric(name, usage.cpu)
        yield from (running, ready, linked, memory, storage, snapshot, cpu, restarts, queue, dropped, failing)
        yield from (undelivered, oldest)


def _storage(instances: list[Instance]) -> Metric:
    sums = collections.Counter[str]()
    for instance in instances:
        if instance.storage:
            sums.update(instance.storage.sizes)
    family = GaugeMetricFamily(
        "waportd_storage_bytes",
        "What all sessions keep on disk, as last measured, by kind.",
        labels=["kind"],
    )
    for kind in SIZES:
        family.add_metric([kind], sums[kind])
    return family


def _upstream(instances: list[Instance]) -> Iterator[Metric]:
    """Yield what the sessions of servers that answer have found in WhatsApp's page."""
    found = [
        instance.session.upstream
        for instance in instances
        if instance.session and instance.answering and instance.session.upstream
    ]
    yield _counted(
        "waportd_upstream_info",
        "Sessions by the version of WhatsApp's page, the version of the library, and the engine.",
        ["build", "library", "engine"],
        ((each.build, each.library or "", each.engine or "") for each in found if each.build),
    )
    yield _counted(
        "waportd_upstream_missing",
        "Sessions whose page lacks what a feature needs, by feature.",
        ["feature"],
        ((feature,) for each in found for feature in each.features),
    )
    yield _counted(
        "waportd_upstream_shims",
        "Sessions by the fixes made in the page for the library, and their outcome.",
        ["shim", "outcome"],
        (shim for each in found for shim in each.shims),
    )


def _counted(
    name: str, documentation: str, labels: list[str], found: Iterable[tuple[str, ...]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for values, count in collections.Counter(found).most_common(_MOST_SERIES):
        family.add_metric(list(values), count)
    return family


def _is_ready(instance: Instance) -> bool:
    return (
        instance.answering and instance.session is not None and instance.session.state is SessionState.READY
    )


def queued(instance: Instance) -> int:
    """Return how many of the user's messages wait to be delivered."""
    return instance.session.webhook.queued if instance.session and instance.answering else 0


def _undelivered(instance: Instance) -> int:
    return instance.session.webhook.undelivered if instance.session and instance.answering else 0


def _waited(instance: Instance) -> float:
    return instance.session.webhook.waited(time.time()) if instance.session and instance.answering else 0.0


def _is_failing(instance: Instance) -> bool:
    return bool(instance.session and instance.answering and instance.session.webhook.error)


def total(counter: Counter) -> float:
    """Return what a counter without labels, or one series of it, has counted so far."""
    [metric] = counter.collect()
    return next(sample.value for sample in metric.samples if sample.name.endswith("_total"))

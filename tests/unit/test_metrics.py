"""Metrics: Prometheus' own checker finds no fault, and what is documented, alerted on and drawn is what there is."""

import dataclasses
import itertools
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from waportd.alarms import SHARED, Alarm
from waportd.capacity import MEMORY_PER_SESSION, Capacity, measure
from waportd.config import Limits
from waportd.host import Figures
from waportd.metrics import Metrics, Snapshot, render
from waportd.model import (
    ELSEWHERE,
    Assignment,
    Missing,
    Port,
    Process,
    ProcessState,
    Session,
    SessionState,
    Storage,
    Upstream,
    Usage,
    User,
    Webhook,
)
from waportd.registry import Instance

ROOT = Path(__file__).resolve().parents[2]
PROMTOOL = shutil.which("promtool") or str(ROOT / ".venv/bin/promtool")
CAPACITY = Capacity(8 << 30, 4 << 30, 2, (0.5, 0.4, 0.3), 1, 250 << 20, 12)


def promtool(*arguments, text=None):
    """Return the exit status of promtool, and what it says."""
    done = subprocess.run(
        [PROMTOOL, *map(str, arguments)],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode()


def instance(number, process=ProcessState.RUNNING, state=None, **session):
    return Instance(
        Assignment(User(str(number)), Port(5000 + number), linked=state is SessionState.READY),
        Process(process, pid=number if process is ProcessState.RUNNING else None, restarts=2),
        Session(state=state, **session) if state else None,
        answering=state is not None,
    )


def snapshot(instances=(), usages=None, per_user=True, **members):
    values = {
        "instances": list(instances), "usages": usages or {}, "cpu_total": 1.5, "capacity": CAPACITY, "unassigned": 1, "alarm": None,
        "warm_answers": 7, "open_requests": 3, "per_user": per_user, **members,
    }  # fmt: skip
    return Snapshot(**values)


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@pytest.fixture
def metrics():
    """Metrics of which each has been used."""
    metrics = Metrics()
    metrics.requests.labels("/v1/users/{user}", "GET", "2xx").observe(0.002)
    metrics.note_call("StartUnit", 0.005)
    metrics.starts.observe(0.3)
    metrics.failed_starts.labels("server_failed").inc()
    metrics.first_codes.observe(1.2)
    return metrics


UPSTREAM = Upstream(
    "2.3000.1",
    "1.34.7",
    "bundled",
    missing=(
        Missing("groups", "WAWebGroupCreateJob", "createGroup", "undefined"),
        Missing("groups", "WAWebGroupQueryJob", "query", "undefined"),
    ),
    shims=(("wids", "applied"),),
)
OLDEST_AT = time.time() - 600
EVERYTHING = snapshot(
    [
        instance(
            1,
            state=SessionState.READY,
            webhook=Webhook(queued=4, undelivered=3, oldest_at=OLDEST_AT),
            upstream=UPSTREAM,
            storage=Storage(3 << 30, 200, 17, 1767225600.0, 9, OLDEST_AT),
        ),
        instance(
            2,
            state=SessionState.QR,
            qr="THE CODE",
            phone_number="5511999990002",
            storage=Storage(1000, 0, 4, 1767225600.0),
        ),
        instance(3, ProcessState.CRASH_LOOP),
    ],
    {User("1"): Usage(memory=100, cpu=2.0), User("2"): Usage(memory=50, cpu=1.0)},
    fleet=Figures(
        {"active": 2, "draining": 0, "silent": 1}, True, True, 1.8e9, {"enough": 1, "few": 2, "none": 0}, 3
    ),
)


def test_promtool_finds_no_fault(metrics):
    text = render(metrics, EVERYTHING)
    assert promtool("check", "metrics", text=text) == (0, "")


def test_promtool_would_find_one():
    text = b"# TYPE waportd_things counter\nwaportd_things 1\n"
    assert promtool("check", "metrics", text=text)[0] != 0


def test_what_holds_is_reported(metrics):
    told = samples(render(metrics, EVERYTHING))
    assert told["waportd_users",] == 3
    assert told["waportd_linked_users",] == 1
    here = set(ProcessState) - ELSEWHERE
    assert {state: told["waportd_servers", state] for state in here} == {
        **dict.fromkeys(here, 0), ProcessState.RUNNING: 2, ProcessState.CRASH_LOOP: 1,
    }  # fmt: skip
    assert {state for state in SessionState if told["waportd_sessions", state]} == {"ready", "qr"}
    assert told["waportd_servers_memory_bytes",] == 150
    assert {state: told["waportd_fleet_hosts", state] for state in ("active", "draining", "silent")} == {
        "active": 2, "draining": 0, "silent": 1,
    }  # fmt: skip
    assert (told["waportd_fleet_lease_held",], told["waportd_fleet_settled",]) == (1, 1)
    assert told["waportd_fleet_logins", "few"] == 2
    assert told["waportd_fleet_coming_users",] == 3
    assert b"waportd_fleet" not in render(metrics, snapshot())
    assert told["waportd_servers_cpu_seconds_total",] == 1.5
    assert told["waportd_webhook_queue_length",] == 4
    assert told["waportd_webhook_undelivered",] == told["waportd_user_webhook_undelivered", "1"] == 3
    # All tests may take a while longer than this one.
    age = pytest.approx(time.time() - OLDEST_AT, abs=60)
    assert told["waportd_webhook_oldest_age_seconds",] == age
    assert told["waportd_user_webhook_oldest_age_seconds", "1"] == age
    assert told["waportd_user_webhook_oldest_age_seconds", "2"] == 0
    assert told["waportd_webhook_stuck",] == 1
    assert told["waportd_storage_bytes", "login"] == (3 << 30) + 1000
    assert told["waportd_storage_bytes", "cache"] == 200
    assert told["waportd_storage_bytes", "journal"] == 21
    assert told["waportd_storage_bytes", "snapshots"] == 9
    assert told["waportd_user_snapshot_age_seconds", "1"] == age
    assert ("waportd_user_snapshot_age_seconds", "2") not in told
    assert told["waportd_user_storage_bytes", "1", "login"] == 3 << 30
    assert told["waportd_user_storage_bytes", "2", "cache"] == 0
    assert told["waportd_user_storage_bytes", "2", "journal"] == 4
    assert ("waportd_user_storage_bytes", "3", "login") not in told
    assert told["waportd_user_session_ready", "1"] == 1
    assert told["waportd_user_session_ready", "2"] == 0
    assert told["waportd_user_memory_bytes", "2"] == 50
    assert told["waportd_user_restarts_total", "3"] == 2
    assert ("waportd_user_memory_bytes", "3") not in told
    assert told["waportd_room_sessions",] == 12
    assert told["waportd_http_warm_answers_total",] == 7


def test_an_alarm_is_reported(metrics):
    assert samples(render(metrics, EVERYTHING))["waportd_alarm_users", "never_ready"] == 0
    alarm = Alarm("never_ready", 0.0, 7, "2.3000.1", "7 users fail in the same way", "look")
    told = samples(render(metrics, snapshot(alarm=alarm)))
    assert {cause: told["waportd_alarm_users", cause] for cause in SHARED} == {
        **dict.fromkeys(SHARED, 0),
        "never_ready": 7,
    }


def test_nothing_secret_is_reported(metrics):
    text = render(metrics, EVERYTHING).decode()
    assert "THE CODE" not in text
    assert "5511999990002" not in text


def test_the_session_of_a_server_that_is_not_heard_does_not_count(metrics):
    silent = Instance(Assignment(User("1"), Port(5001)), session=Session(SessionState.READY), answering=False)
    told = samples(render(metrics, snapshot([silent])))
    assert told["waportd_sessions", "ready"] == told["waportd_user_session_ready", "1"] == 0


class TestUpstream:
    def told(self, *found, **members):
        users = [
            dataclasses.replace(instance(number, state=SessionState.READY, upstream=upstream), **members)
            for number, upstream in enumerate(found)
        ]
        return samples(render(Metrics(), snapshot(users)))

    def test_sessions_are_counted_by_what_they_run_on(self):
        told = self.told(UPSTREAM, UPSTREAM, dataclasses.replace(UPSTREAM, build="2.3000.2"))
        assert told["waportd_upstream_info", "1.34.7", "2.3000.1", "bundled"] == 2
        assert told["waportd_upstream_info", "1.34.7", "2.3000.2", "bundled"] == 1

    def test_a_session_counts_once_for_a_feature_that_lacks_two_members(self):
        assert self.told(UPSTREAM, UPSTREAM)["waportd_upstream_missing", "groups"] == 2

    def test_what_was_done_in_the_page_is_counted(self):
        assert self.told(UPSTREAM)["waportd_upstream_shims", "applied", "wids"] == 1

    def test_a_page_that_has_not_loaded_yet_has_no_build(self):
        told = self.told(Upstream(library="1.34.7"), None)
        assert not [name for name, *_ in told if name.startswith("waportd_upstream")]

    def test_a_server_that_is_not_heard_does_not_count(self):
        assert ("waportd_upstream_missing", "groups") not in self.told(UPSTREAM, answering=False)

    def test_servers_that_make_names_up_make_few_series(self):
        shims = tuple((f"shim{number}", "applied") for number in range(200))
        told = self.told(*[dataclasses.replace(UPSTREAM, build=f"2.{n}", shims=shims) for n in range(200)])
        for metric in ("waportd_upstream_info", "waportd_upstream_shims"):
            assert sum(name == metric for name, *_ in told) == 50


def test_users_can_be_left_out(metrics):
    text = render(metrics, snapshot(EVERYTHING.instances, per_user=False)).decode()
    assert "user=" not in text
    assert "waportd_users 3" in text


def test_without_a_limit_there_is_no_room(metrics):
    capacity = Capacity(1, 1, 1, (0, 0, 0), 0, 1, None)
    assert "waportd_room_sessions" not in render(metrics, snapshot(capacity=capacity)).decode()


def test_five_hundred_users_are_written_quickly(metrics):
    users = [instance(number, state=SessionState.READY) for number in range(500)]
    usages = {User(str(number)): Usage(memory=1, cpu=1.0) for number in range(500)}
    began = time.process_time()
    render(metrics, snapshot(users, usages))
    # Measured: 20 ms.
    assert time.process_time() - began < 0.5


class TestProcessorTime:
    def total(self, metrics, *used, pid=1):
        users = [
            Instance(Assignment(User(str(number)), Port(5000 + number)), Process(pid=pid))
            for number in range(len(used))
        ]
        usages = {User(str(number)): Usage(cpu=cpu) for number, cpu in enumerate(used) if cpu is not None}
        return metrics.add_cpu(usages, users)

    def test_what_ended_still_counts_and_nothing_counts_twice(self):
        metrics = Metrics()
        assert self.total(metrics, 1.0, 2.0) == 3
        assert self.total(metrics, 1.5, 2.0) == 3.5
        assert self.total(metrics, 0.25, pid=2) == 3.75
        assert self.total(metrics) == 3.75

    def test_it_never_falls(self):
        metrics = Metrics()
        assert self.total(metrics, 2.0) == 2
        assert self.total(metrics, 1.0) == 2
        assert self.total(metrics, 2.5) == 2.5
        assert self.total(metrics, None) == 2.5


class TestWebhook:
    def counted(self, *figures):
        metrics = Metrics()
        before = Webhook()
        for now in figures:
            metrics.note_webhook(before, now)
            before = now
        told = samples(render(metrics, snapshot()))
        return [
            told["waportd_webhook_messages_total", outcome] for outcome in ("delivered", "failed", "dropped")
        ]

    def test_what_came_since_is_counted(self):
        assert self.counted(Webhook(0, 3, 1, 0), Webhook(2, 5, 4, 1)) == [5, 4, 1]

    def test_what_is_given_up_is_counted_and_what_is_sent_again_is_not_taken_back(self):
        metrics = Metrics()
        for before, now in itertools.pairwise(Webhook(undelivered=count) for count in (0, 5, 1, 2)):
            metrics.note_webhook(before, now)
        assert samples(render(metrics, snapshot()))["waportd_webhook_messages_total", "undelivered"] == 6

    def test_figures_that_fall_count_nothing(self):
        assert self.counted(Webhook(0, 3, 1, 0), Webhook(0, 1, 0, 0)) == [3, 1, 0]


class TestRoom:
    def test_without_a_figure_a_documented_one_is_reckoned_with(self):
        assert measure(Limits(), 0, []).memory_per_session == MEMORY_PER_SESSION

    def test_the_average_of_what_was_measured_counts(self):
        assert measure(Limits(), 2, [100 << 20, 300 << 20]).memory_per_session == 200 << 20

    def test_the_tighter_limit_counts(self):
        assert measure(Limits(max_running=5, min_available_memory=0), 3, []).more_sessions == 2
        assert measure(Limits(max_running=5, min_available_memory=0), 9, []).more_sessions == 0
        assert measure(Limits(max_running=5, min_available_memory=1 << 50), 3, []).more_sessions == 0
        assert measure(Limits(min_available_memory=1), 3, [1 << 50]).more_sessions == 0

    def test_no_limit_is_none(self):
        assert measure(Limits(min_available_memory=0), 3, []).more_sessions is None


def names(metrics):
    """Return the names of all that is reported, without what a histogram adds."""
    text = render(metrics, EVERYTHING).decode()
    return {
        re.sub("_(bucket|sum|count)$", "", name) for name in re.findall(r"^([a-z_]+)[ {]", text, re.MULTILINE)
    }


def queried(expression):
    """Return the metrics that an expression names, as they are documented."""
    found = re.findall(r"\b((?:waportd|process)_[a-z_]+)\b", expression)
    return {re.sub("_(bucket|sum|count)$", "", name) for name in found}


def test_all_metrics_are_documented_and_no_other(metrics):
    documented = set(
        re.findall(r"^\| `(waportd_[a-z_]+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE)
    )
    assert documented == {name for name in names(metrics) if name.startswith("waportd_")}


def test_promtool_finds_no_fault_with_the_rules():
    status, said = promtool("check", "rules", "--lint-fatal", ROOT / "docs/alerts.yml")
    assert status == 0, said


def test_the_rules_watch_what_there_is(metrics):
    rules = yaml.safe_load((ROOT / "docs/alerts.yml").read_text())["groups"][0]["rules"]
    watched = set().union(*(queried(rule["expr"]) for rule in rules))
    assert watched <= names(metrics)
    assert len(rules) >= 5


ALARMS = {
    "WaportdManyFailAlike": 'waportd_alarm_users{cause="never_ready", instance="a"} 5x60',
    "WaportdPageChanged": 'waportd_upstream_missing{feature="groups", instance="a"} 1x60',
    "WaportdDown": 'up{job="waportd", instance="a"} 0x60',
    "WaportdServersFailed": 'waportd_servers{state="crash_loop", instance="a"} 1x60',
    "WaportdRestarts": 'waportd_server_restarts_total{instance="a"} 0+1x60',
    "WaportdLargeLogin": 'waportd_user_storage_bytes{user="1", kind="login", instance="a"} 2000000000x60',
    "WaportdOldSnapshot": 'waportd_user_snapshot_age_seconds{user="1", instance="a"} 4000x60; '
    'waportd_user_session_ready{user="1", instance="a"} 1x60',
    "WaportdHostSilent": 'waportd_fleet_hosts{state="silent", instance="a"} 1x60; '
    'waportd_fleet_hosts{state="silent", instance="b"} 1x60',
    "WaportdNoLease": 'waportd_fleet_lease_held{instance="a"} 0x60',
    "WaportdLoginsInFewPlaces": 'waportd_fleet_logins{copies="few", instance="a"} 1x60',
    "WaportdCertificateEnds": 'waportd_fleet_certificate_expiry_timestamp_seconds{instance="a"} 1000x120',
    "WaportdNoRoom": 'waportd_room_sessions{instance="a"} 2x60',
    "WaportdWebhookStuck": 'waportd_webhook_stuck{instance="a"} 2x60',
    "WaportdMessagesUndelivered": 'waportd_webhook_undelivered{instance="a"} 1x60',
    "WaportdMessagesLost": 'waportd_webhook_messages_total{outcome="dropped", instance="a"} 0+1x60',
    "WaportdLinkedButNotReady": 'waportd_linked_users{instance="a"} 3x60; '
    'waportd_sessions{instance="a", state="ready"} 2x60',
    "WaportdSlowCodes": 'waportd_first_code_duration_seconds_bucket{instance="a", le="20"} 0x60; '
    'waportd_first_code_duration_seconds_bucket{instance="a", le="60"} 0+1x60; '
    'waportd_first_code_duration_seconds_bucket{instance="a", le="+Inf"} 0+1x60',
    "WaportdSystemdSlow": 'waportd_dbus_call_duration_seconds_bucket{instance="a", le="1"} 0x60; '
    'waportd_dbus_call_duration_seconds_bucket{instance="a", le="5"} 0+1x60; '
    'waportd_dbus_call_duration_seconds_bucket{instance="a", le="+Inf"} 0+1x60',
}
"""For each rule what it is there for."""


def test_each_rule_raises_its_alarm(tmp_path):
    rules = yaml.safe_load((ROOT / "docs/alerts.yml").read_text())["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} == set(ALARMS)
    tests = [
        {
            "interval": "1m",
            "input_series": [
                {"series": series.rpartition(" ")[0], "values": series.rpartition(" ")[2]}
                for series in ALARMS[rule["alert"]].split("; ")
            ],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{rule["alert"]}", alertstate="firing"}})',
                    "eval_time": "50m",
                    "exp_samples": [{"labels": "{}", "value": 1}],
                }
            ],
        }
        for rule in rules
    ]
    file = tmp_path / "test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ROOT / "docs/alerts.yml")], "tests": tests}))
    status, said = promtool("test", "rules", file)
    assert status == 0, said


def test_the_dashboard_draws_what_there_is(metrics):
    dashboard = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) >= 20
    assert all(queried(expression) for expression in expressions)
    assert set().union(*map(queried, expressions)) <= names(metrics)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    taken = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_dashboards_expressions_are_promql(tmp_path):
    """Have promtool read them as rules: it knows no other way to check an expression without a server."""
    dashboard = json.loads((ROOT / "docs/grafana-dashboard.json").read_text())
    rules = [
        {
            "record": f"panel:{panel['id']}:{target['refId'].lower()}",
            "expr": target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*"),
        }
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    status, said = promtool("check", "rules", file)
    assert status == 0, said

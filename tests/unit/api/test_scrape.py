"""``/metrics`` and ``/v1/host`` as they are asked for: what happened is counted, under names that cannot be many."""

import asyncio
import dataclasses
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import BASE, Events, until

from waportd import __version__
from waportd.config import Metrics
from waportd.model import Port, User

ONE, PORT = User("1"), Port(BASE)


async def scrape(api):
    async with api.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await answer.text()
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def requests(told):
    name = "waportd_http_request_duration_seconds_count"
    return {
        labels: count
        for (found, *labels), count in told.items()
        if found == name
        for labels in [tuple(labels)]
    }


async def test_a_users_way_from_the_start_to_the_login_is_counted(api, systemd, supervisor):
    systemd.prepare = lambda server: setattr(server, "on_ask", server.show_code)
    async with api.put("/v1/users/1?wait=qr") as answer:
        assert answer.status == 201
    told = await scrape(api)
    assert told["waportd_users",] == told["waportd_servers", "running"] == told["waportd_sessions", "qr"] == 1
    assert told["waportd_server_start_duration_seconds_count",] == 1
    assert told["waportd_first_code_duration_seconds_count",] == 1
    assert told["waportd_servers_memory_bytes",] == told["waportd_user_memory_bytes", "1"] == 64 << 20
    assert told["waportd_servers_cpu_seconds_total",] == told["waportd_user_cpu_seconds_total", "1"] == 1.5
    assert told["waportd_build_info", __version__] == 1
    # The next code is no first one.
    systemd.servers[PORT].show_code()
    await until(supervisor, ONE, lambda instance: instance.session.attempt == 2)
    systemd.servers[PORT].link()
    await until(supervisor, ONE, lambda instance: instance.assignment.linked)
    told = await scrape(api)
    assert told["waportd_first_code_duration_seconds_count",] == 1
    assert told["waportd_sessions", "ready"] == told["waportd_linked_users",] == 1


async def test_a_start_that_fails_is_counted_by_its_code(api, systemd):
    systemd.fail_to_start(f"whatsapp@{PORT}.service", result="exit-code", exit_code=1, exit_status=1)
    async with api.put("/v1/users/1") as answer:
        assert answer.status == 502
    told = await scrape(api)
    assert told["waportd_server_start_failures_total", "server_failed"] == 1
    assert told["waportd_server_start_duration_seconds_count",] == 0


async def test_restarts_by_systemd_are_counted(api, systemd, supervisor):
    await supervisor.ensure("1")
    for restarts in (1, 2):
        systemd.change(f"whatsapp@{PORT}.service", restarts=restarts)
    told = await scrape(api)
    assert told["waportd_server_restarts_total",] == told["waportd_user_restarts_total", "1"] == 2
    # A start by hand begins again.
    systemd.change(f"whatsapp@{PORT}.service", restarts=0)
    systemd.change(f"whatsapp@{PORT}.service", restarts=1)
    assert (await scrape(api))["waportd_server_restarts_total",] == 3


async def test_the_webhooks_figures_are_counted_and_wake_nobody(api, systemd, supervisor):
    await supervisor.ensure("1")
    server = systemd.servers[PORT]
    server.say("ready", linked=True, since="2026-01-01T00:00:00Z")
    await until(supervisor, ONE, lambda instance: instance.assignment.linked)
    version = supervisor.registry.version
    for delivered in (1, 2, 5):
        figures = {"queued": 3, "delivered": delivered, "failed": 1, "dropped": 0}
        server.say("ready", linked=True, since="2026-01-01T00:00:00Z", webhook=figures)
        async with asyncio.timeout(5):
            while supervisor.registry.get(ONE).session.webhook.delivered < delivered:
                await asyncio.sleep(0.01)
        server.document["since"] = "2026-01-01T00:00:00Z"
    assert supervisor.registry.version == version
    told = await scrape(api)
    assert told["waportd_webhook_messages_total", "delivered"] == 5
    assert told["waportd_webhook_messages_total", "failed"] == 1
    assert told["waportd_webhook_queue_length",] == told["waportd_user_webhook_queue_length", "1"] == 3


async def test_that_a_webhook_fails_is_news_and_reported_for_each_user(api, systemd, supervisor):
    await supervisor.ensure("1")
    server = systemd.servers[PORT]
    server.say("ready", linked=True)
    await until(supervisor, ONE, lambda instance: instance.assignment.linked)
    version = supervisor.registry.version
    server.say("ready", linked=True, webhook={"failed": 1, "dropped": 1, "error": "HTTP 403"})
    await until(supervisor, ONE, lambda instance: instance.session.webhook.error == "HTTP 403")
    assert supervisor.registry.version > version
    told = await scrape(api)
    assert told["waportd_webhook_failing",] == told["waportd_user_webhook_failing", "1"] == 1
    assert told["waportd_user_webhook_dropped_total", "1"] == 1
    async with api.get("/v1/users/1") as answer:
        assert (await answer.json())["session"]["webhook"]["error"] == "HTTP 403"
    server.say("ready", linked=True, webhook={"delivered": 1, "dropped": 1})
    await until(supervisor, ONE, lambda instance: instance.session.webhook.error is None)
    assert (await scrape(api))["waportd_user_webhook_failing", "1"] == 0


def total(counter):
    """Return what a counter has counted."""
    [metric] = counter.collect()
    [value] = [sample.value for sample in metric.samples if sample.name.endswith("_total")]
    return value


async def test_what_happened_before_the_daemon_started_is_not_counted(start_supervisor, systemd):
    before = await start_supervisor()
    await before.ensure("1")
    systemd.change(f"whatsapp@{PORT}.service", restarts=4)
    figures = {"queued": 0, "delivered": 9, "failed": 0, "dropped": 0}
    systemd.servers[PORT].say("ready", linked=True, webhook=figures)
    await until(before, ONE, lambda instance: instance.assignment.linked)
    supervisor = await start_supervisor()
    await until(supervisor, ONE, lambda instance: instance.session and instance.session.linked)

    def counted():
        metrics = supervisor.metrics
        return total(metrics.restarts), total(metrics.webhook_calls.labels("delivered"))

    assert counted() == (0, 0)
    # Nor is it counted twice where a stream breaks.
    systemd.servers[PORT].say("ready", linked=True, message="more", webhook={**figures, "delivered": 11})
    await until(supervisor, ONE, lambda instance: instance.session.message == "more")
    assert counted() == (0, 2)
    instance = supervisor.registry.get(ONE)
    supervisor.registry.put(dataclasses.replace(instance, answering=False))
    systemd.servers[PORT].say("ready", linked=True, message="again", webhook={**figures, "delivered": 12})
    await until(supervisor, ONE, lambda instance: instance.session.message == "again")
    systemd.change(f"whatsapp@{PORT}.service", restarts=5)
    assert counted() == (1, 3)


async def test_requests_are_timed_by_route_and_strangers_make_no_series(api):
    for method, path in (
        ("GET", "/v1/users/1"),
        ("GET", "/v1/users/2"),
        ("GET", "/no/such/path"),
        ("GET", "/another"),
        ("PROPFIND", "/v1/users/1"),
        ("LINK", "/v1/users/1"),
    ):
        async with api.request(method, path):
            pass
    counted = requests(await scrape(api))
    assert counted["GET", "/v1/users/{user}", "4xx"] == 2
    assert counted["GET", "unknown", "4xx"] == 2
    assert sum(counted.values()) == 6
    assert {method for method, _, _ in counted} == {"GET", "other"}


async def test_waiting_and_listening_is_not_timed(api, systemd, supervisor):
    await supervisor.ensure("1")
    async with api.get("/v1/users/1/qr?timeout=0.01"):
        pass
    async with api.get("/v1/events") as answer:
        await Events(answer).until("complete")
        told = await scrape(api)
        assert told["waportd_http_open_requests",] == 2
    assert requests(told) == {}


async def test_answers_from_kept_bytes_are_counted(api, supervisor):
    await supervisor.ensure("1")
    for _ in range(5):
        async with api.get("/v1/users/1/qr"):
            pass
    told = await scrape(api)
    assert told["waportd_http_warm_answers_total",] + requests(told)["GET", "/v1/users/{user}/qr", "2xx"] == 5
    assert told["waportd_http_warm_answers_total",] >= 3


async def test_users_can_be_left_out(api, supervisor, config):
    await supervisor.ensure("1")
    await supervisor.reconfigure(dataclasses.replace(config, metrics=Metrics(per_user=False)))
    told = await scrape(api)
    assert not [name for name, *_ in told if name.startswith("waportd_user_")]
    assert told["waportd_users",] == 1


async def test_a_systemd_that_hangs_does_not_hold_up_a_scrape(api, supervisor, systemd, monkeypatch):
    await supervisor.ensure("1")
    monkeypatch.setattr("waportd.supervisor.USAGE_WAIT_S", 0.05)
    answered = asyncio.Event()

    async def hang(unit):
        await answered.wait()

    monkeypatch.setattr(systemd, "status", hang)
    try:
        told = await asyncio.wait_for(scrape(api), 5)
        assert told["waportd_servers_memory_bytes",] == 0
        assert ("waportd_user_memory_bytes", "1") not in told
    finally:
        answered.set()


async def test_many_scrapes_at_once_measure_once(api, supervisor, systemd, monkeypatch):
    await supervisor.ensure("1")
    asked = []
    accounting = systemd.accounting

    async def count(unit):
        asked.append(unit)
        return await accounting(unit)

    monkeypatch.setattr(systemd, "accounting", count)
    await asyncio.gather(*(scrape(api) for _ in range(20)))
    assert len(asked) == 1


class TestHost:
    async def host(self, api):
        async with api.get("/v1/host") as answer:
            assert answer.status == 200
            return json.loads(await answer.read())

    async def test_it_shows_what_the_machine_has(self, api, supervisor):
        host = await self.host(api)
        assert host["memory"]["total"] > host["memory"]["available"] > 0
        assert host["cpus"] >= 1
        assert len(host["load"]) == 3
        assert (host["running"], host["max_running"], host["min_available_memory"]) == (0, 0, 0)
        assert host["memory_per_session"] == 250 << 20
        assert host["more_sessions"] is None

    @pytest.mark.parametrize("most", [1, 4])
    async def test_it_shows_how_many_more_servers_fit(self, api, supervisor, config, most):
        await supervisor.reconfigure(
            dataclasses.replace(config, limits=dataclasses.replace(config.limits, max_running=most))
        )
        await supervisor.ensure("1")
        host = await self.host(api)
        assert (host["running"], host["more_sessions"]) == (1, most - 1)
        assert host["memory_per_session"] == 64 << 20

"""What reaches people as it happens: events from the code to the login, pictures of codes, pairing codes."""

import base64
import concurrent.futures

from harness import PATIENCE, EventStream, is_active, processes, until
from prometheus_client.parser import text_string_to_metric_families
from support import rendered_svg, rendered_text, scanned

PHONE = "5511999990001"


def test_events_report_a_scan_and_pictures_show_the_code(waportd, standin):
    code = waportd.show_code("1")
    with EventStream(waportd, "/v1/users/1/events") as one, EventStream(waportd, "/v1/events") as everybody:
        assert one.until("user")[-1].data["session"]["state"] == "qr"
        assert one.until("qr")[-1].data["qr"] == waportd.qr("1")["qr"]
        assert [event.name for event in everybody.until("complete")] == ["user", "complete"]

        def picture(form):
            answer = waportd.ask("GET", f"/v1/users/1/qr?format={form}")
            assert answer.status == 200, answer.body
            return answer.body

        # A code lives for a minute: all of it shows the same one, or the next.
        shown = {
            scanned(picture("png"), "png"),
            scanned(rendered_svg(picture("svg")), "png"),
            scanned(rendered_text(picture("txt").decode()), "pgm"),
            scanned(base64.b64decode(picture("dataurl").partition(b",")[2]), "png"),
        }
        assert shown <= {code, waportd.qr("1")["qr"]}

        standin.tell("scan", qr=waportd.qr("1")["qr"], phone=PHONE, name="Ana")
        told = one.until("user", lambda data: data["session"] and data["session"]["state"] == "ready")
        assert told[-1].data["session"]["phone_number"] == PHONE
        assert one.until("qr", lambda data: data["status"] == "ready")[-1].data["qr"] is None
        seen = everybody.until("user", lambda data: data["linked"])
        assert {event.name for event in seen} == {"user"}
        assert code not in str(seen)

        waportd.call("POST", "/v1/users/1/stop")
        one.until("user", lambda data: data["process"]["state"] == "stopped")
        last = everybody.until("user", lambda data: data["process"]["state"] == "stopped")[-1].id
        waportd.call("DELETE", "/v1/users/1", 204)
        assert one.until("deleted")[-1].data == {"user": "1"}
        assert one.next() is None
        assert everybody.until("deleted")[-1].data == {"user": "1"}
    with EventStream(waportd, "/v1/events", last) as resumed:
        assert [event.name for event in resumed.until("complete")] == ["deleted", "complete"]


def test_a_restart_of_the_daemon_ends_the_streams_and_readers_start_again(waportd):
    waportd.call("PUT", "/v1/users/1?wait=none", 201)
    with EventStream(waportd, "/v1/events") as events:
        last = events.until("complete")[-1].id
        before = waportd.pid
        waportd.restart()
        while events.next() is not None:
            pass
    assert waportd.pid != before
    with EventStream(waportd, "/v1/events", last) as events:
        assert [event.name for event in events.until("complete")] == ["reset", "user", "complete"]


def test_the_log_holds_what_server_systemd_and_daemon_say(waportd):
    waportd.show_code("1")
    waportd.show_code("2")

    lines = {
        ("systemd", "Started whatsapp@5001.service"),
        ("server", "starting the browser"),
        ("waportd", "assigned port 5001"),
    }

    def complete():
        # A code may be shown before the journal has all that was said.
        shown = waportd.call("GET", "/v1/users/1/logs?lines=1000")
        found = {
            (source, text)
            for source, text in lines
            if any(one["source"] == source and text in one["message"] for one in shown["lines"])
        }
        return found == lines and shown

    shown = until(complete, "lines of all three")
    assert shown["unit"] == "whatsapp@5001.service"
    said = [line["message"] for line in shown["lines"]]
    assert "assigned port 5001" in said
    assert not [message for message in said if "5002" in message or "user 2" in message]
    times = [line["time"] for line in shown["lines"]]
    assert times == sorted(times)
    with EventStream(waportd, "/v1/users/1/logs?follow=true&lines=1") as follower:
        assert follower.next().name == "log"
        waportd.call("POST", "/v1/users/1/stop")
        told = follower.until("log", lambda line: "Stopped whatsapp@5001.service" in line["message"])
        assert {event.data["source"] for event in told} >= {"server", "systemd"}
        waportd.call("DELETE", "/v1/users/1", 204)
        while follower.next() is not None:
            pass
    # The next owner of the port learns nothing of this one.
    waportd.call("PUT", "/v1/users/1?wait=none", 201)

    def lines_of_the_next():
        return [line["message"] for line in waportd.call("GET", "/v1/users/1/logs?lines=1000")["lines"]]

    now = until(lines_of_the_next, "lines of the next owner")
    assert not [message for message in now if "Stopped" in message or "starting the browser" in message]


def metrics(waportd):
    answer = waportd.ask("GET", "/metrics")
    assert answer.status == 200
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def test_what_really_happens_is_measured(waportd, standin):
    before = metrics(waportd)
    assert before["waportd_users",] == 0
    code = waportd.show_code("1")
    standin.tell("scan", qr=code, phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    processes(5001)[0].kill()
    waportd.until_restarts("1", 1)
    waportd.until_session("1", "ready")
    after = metrics(waportd)
    assert after["waportd_sessions", "ready"] == after["waportd_user_session_ready", "1"] == 1
    assert after["waportd_server_start_duration_seconds_count",] == 1
    assert after["waportd_first_code_duration_seconds_count",] == 1
    assert 0.1 < after["waportd_first_code_duration_seconds_sum",] < PATIENCE
    assert after["waportd_server_restarts_total",] == after["waportd_user_restarts_total", "1"] == 1
    # The new server may have been measured before it had a browser.
    assert after["waportd_user_memory_bytes", "1"] > 1 << 20
    assert after["waportd_user_cpu_seconds_total", "1"] > 0
    assert after["waportd_dbus_call_duration_seconds_count", "StartUnit"] >= 1
    assert after["waportd_http_request_duration_seconds_count", "GET", "/v1/users/{user}", "2xx"] >= 1
    assert after["process_resident_memory_bytes",] > 20 << 20
    assert code not in waportd.ask("GET", "/metrics").body.decode()
    host = waportd.call("GET", "/v1/host")
    assert host["running"] == 1
    assert host["memory_per_session"] == after["waportd_servers_memory_bytes",]


def test_a_pairing_code_links_a_phone(waportd, standin):
    asked = {"phone": "+55 11 99999-0001"}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        same = list(
            pool.map(lambda _: waportd.call("POST", "/v1/users/1/pairing-code", body=asked), range(3))
        )
    assert same[0] == same[1] == same[2]
    code = same[0]["code"]
    assert waportd.until_session("1", "pairing")
    refused = waportd.ask("POST", "/v1/users/1/pairing-code", {"phone": "+55 11 99999-0002"})
    assert (refused.status, int(refused.headers["Retry-After"]) > 0) == (429, True)
    standin.tell("pair", code=code, phone=PHONE, name="Ana")
    assert waportd.until_session("1", "ready")["session"]["phone_number"] == PHONE
    until(lambda: waportd.user("1")["linked"], "the link", PATIENCE)
    assert waportd.ask("POST", "/v1/users/1/pairing-code", asked).json["code"] == "already_linked"
    assert is_active("whatsapp@5001.service")
    journal = waportd.journal("whatsapp@5001.service") + waportd.journal("waportd.service")
    assert "asking for a pairing code" in journal
    for secret in (code, code.replace("-", ""), PHONE):
        assert secret not in journal

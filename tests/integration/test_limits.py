"""As many servers as the limits admit, with real browsers: the next one is refused, and those that run do not suffer."""

import psutil
import pytest
from harness import Poller, ask_server, note_row, until

PHONE = "5511999990001"
MOST = 4 << 30
"""Bytes for sessions; enough for some 70."""


def refusal(waportd, user):
    """Have a user refused; return what the caller, and the user's page, get."""
    answer = waportd.ask("PUT", f"/v1/users/{user}?wait=qr")
    assert (answer.status, answer.json["code"]) == (503, "limit_reached"), answer.body
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json["hint"].startswith("stop users who are not needed")
    page = waportd.call("GET", f"/api/qr?user_id={user}")
    assert (page["status"], page["cause"], page["error"]) == ("error", "limit_reached", answer.json["detail"])
    return answer.json["detail"]


def rotates(waportd, standin, user):
    """Return whether the next code of a user is shown when WhatsApp has it."""
    code = waportd.qr(user)["qr"]
    standin.tell("rotate", qr=code)
    return until(lambda: (now := waportd.qr(user)["qr"]) and now != code, f"the next code of {user}")


def test_who_is_refused_by_the_limit_waits_and_disturbs_none_of_those_that_run(idle_waportd, standin):
    waportd = idle_waportd
    waportd.configure(limits={"max_running": 3})
    waportd.start()
    standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    for user in ("2", "3"):
        waportd.show_code(user)
    pids = [waportd.user(user)["process"]["pid"] for user in ("1", "2", "3")]
    with (
        Poller(lambda: ask_server(5001, "/health")) as port,
        Poller(lambda: waportd.ask("GET", "/api/qr?user_id=2")) as page,
    ):
        assert "limits.max_running" in refusal(waportd, "4")
        assert all(rotates(waportd, standin, user) for user in ("2", "3"))
        assert waportd.user("1")["session"]["state"] == "ready"
        assert [waportd.user(user)["process"]["pid"] for user in ("1", "2", "3")] == pids
        waportd.call("POST", "/v1/users/3/stop")
        assert len(waportd.show_code("4").split(",")) == 5
    assert set(port.statuses) == set(page.statuses) == {200}
    note_row(
        "3 sessions run, as many as `max_running` admits; a fourth is asked for",
        "the fourth: 503 with `Retry-After` and the reason, and a code once another was stopped; the three: "
        f"all answered, longest wait {max(port.longest, page.longest):.1f} s, codes change",
    )


@pytest.mark.thorough
def test_as_many_run_as_there_is_memory_for(idle_waportd, standin):
    """At most half of what is free is used: other tests may run on this machine, and minutes are few."""
    waportd = idle_waportd
    available = psutil.virtual_memory().available
    kept = available - min(available // 2, MOST)
    waportd.configure(limits={"min_available_memory": kept, "max_sockets": 1000})
    waportd.start()
    standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    with Poller(lambda: ask_server(5001, "/health")) as port:
        running = 1
        while (answer := waportd.ask("PUT", f"/v1/users/{running + 1}?wait=qr", timeout=120)).status == 201:
            running += 1
        assert answer.status == 503, answer.body
        assert "limits.min_available_memory" in refusal(waportd, str(running + 1))
        assert running > 3
        restarts = [row["process"]["restarts"] for row in waportd.call("GET", "/v1/users")["users"]]
        assert set(restarts) == {0}
        assert waportd.user("1")["session"]["state"] == "ready"
        assert rotates(waportd, standin, str(running))
    assert set(port.statuses) == {200}
    note_row(
        "sessions are started until `min_available_memory` refuses the next",
        f"{running} run; the next: 503 with `Retry-After` and the reason; the first: all answered, longest wait "
        f"{port.longest:.1f} s",
    )

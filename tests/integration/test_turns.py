"""Few browsers start at a time, no matter who wakes the servers."""

import concurrent.futures

from harness import ask_server, systemctl, until

PHONES = {str(user): f"551199999000{user}" for user in range(1, 6)}


def sessions(waportd):
    """Return the sessions of those users whose server is heard."""
    users = waportd.call("GET", "/v1/users")["users"]
    return {user["user"]: user["session"] for user in users if user["session"]}


def waits(session):
    return "waiting for its turn" in session["message"]


def begins(session):
    """Return whether a session has a browser, and is not ready. Before it knows what to do it is merely starting."""
    is_early = session["message"] == "starting" or waits(session)
    return session["state"] in {"generating", "authenticated"} and not is_early


def test_a_scan_of_all_ports_starts_few_browsers_at_a_time(idle_waportd, standin):
    waportd = idle_waportd
    waportd.configure(limits={"start_concurrency": 1})
    waportd.start()
    for user, phone in PHONES.items():
        standin.tell("scan", qr=waportd.show_code(user), phone=phone, name="Ana")
        waportd.until_session(user, "ready")
    ports = [waportd.user(user)["port"] for user in PHONES]
    systemctl("stop", "whatsapp@*.service")
    for user in PHONES:
        waportd.until_process(user, "stopped")
    with concurrent.futures.ThreadPoolExecutor(len(ports)) as pool:
        answers = [pool.submit(ask_server, port, "/health", timeout=30) for port in ports]
        assert {answer.result().status for answer in answers} == {200}
    most, waited = 0, set()

    def all_are_back():
        nonlocal most
        now = sessions(waportd)
        most = max(most, sum(map(begins, now.values())))
        waited.update(user for user, session in now.items() if waits(session))
        return [session["state"] for session in now.values()] == ["ready"] * len(PHONES)

    until(all_are_back, "all sessions")
    assert len(waited) >= len(PHONES) - 2
    # A turn ends after half a minute though its session is not ready, as on a loaded machine.
    assert most <= 2

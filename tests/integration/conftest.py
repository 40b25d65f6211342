"""The daemon, the stand-in and the real systemd that integration tests share."""

import pytest
import user_journal
from browser import Browser, Proxy
from harness import LIGHT_SERVER, SESSIONS, StandIn, Waportd
from testbed.ports import free_port


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Put what daemon, servers and systemd said into the report of a failed test."""
    outcome = yield
    user_journal.add_to(outcome.get_result(), call.when)


def pytest_sessionstart():
    """Touch no one's sessions: each test ends with all sessions of its user deleted."""
    if kept := [folder for folder in SESSIONS if folder.exists()]:
        pytest.exit(
            f"{kept[0]} holds sessions, which these tests would delete: move it away, or run them as root, "
            "who gets a home for the tests alone",
            returncode=1,
        )


@pytest.fixture(scope="session")
def standin(tmp_path_factory):
    standin = StandIn(tmp_path_factory.mktemp("standin"))
    yield standin
    standin.close()


@pytest.fixture
def idle_waportd(tmp_path, standin):
    """A daemon that a test configures and starts on its own."""
    waportd = Waportd(tmp_path, standin)
    yield waportd
    waportd.stop()
    for switch in ("unreachable", "silent", "no-debug", "refuse", "passkey", "stay-authenticated"):
        standin.tell(switch, on=False)


@pytest.fixture
def waportd(idle_waportd):
    idle_waportd.start()
    return idle_waportd


@pytest.fixture
def light_waportd(idle_waportd):
    """A daemon whose servers need no browser; a test starts it."""
    idle_waportd.configure(instances={"script": str(LIGHT_SERVER)})
    return idle_waportd


@pytest.fixture
def port():
    return free_port()


@pytest.fixture(scope="session")
def open_browser():
    """One browser for all tests, since it takes seconds to start."""
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def browser(open_browser):
    """A person's browser, which no other test's page is open in."""
    yield open_browser
    open_browser.open("about:blank")


@pytest.fixture
def wide(browser, request):
    """Have the browser's window as large as the test's module says."""
    browser.look(**request.module.WIDE)
    yield
    browser.look()


@pytest.fixture
def front_end(idle_waportd):
    """What a browser reaches the daemon by."""
    proxy = Proxy(idle_waportd.socket)
    yield proxy
    proxy.close()

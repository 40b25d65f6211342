"""The dashboard of a fleet in a real browser: the users of all hosts, whichever host shows the page."""

import contextlib

import pytest
from browser import free_of_barriers
from fleet_of_fakes import FleetOfFakes
from harness import until
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.usefixtures("wide")

WIDE = {"width": 1500, "height": 900}

SHOWN = """
    const textOf = (row, name) => row.querySelector(`.${name}`).innerText.trim();
    return [...document.querySelectorAll('.rows .row')].map((row) => [row.dataset.user, textOf(row, 'host')]);
"""
STATES = """
    return Object.fromEntries([...document.querySelectorAll('.rows .row')].map((row) =>
        [row.dataset.user, row.querySelector('.process').innerText.trim()]));
"""
ALL = [["1", "a"], ["3", "a"], ["2", "b"], ["4", "b"], ["5", "c"]]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    with contextlib.closing(FleetOfFakes(tmp_path_factory.mktemp("fleet"))) as fleet:
        yield fleet


@pytest.fixture
def page(fleet, browser):
    """The dashboard of host a, which shows all users."""
    browser.open(fleet.url)
    until(lambda: browser.find("#token") or browser.find(".rows .row"), "the page")
    if browser.find("#token"):
        browser.type(fleet.token, Keys.ENTER, into="#token")
    until(lambda: browser.run(SHOWN) == ALL, "the users of all hosts")
    return browser


def choose(page, host):
    page.run(
        "const select = document.querySelector('#of-host'); select.value = arguments[0];"
        "select.dispatchEvent(new Event('change'))",
        host,
    )


def test_it_shows_the_users_of_all_hosts_and_who_does_not_answer(page):
    until(lambda: page.run(STATES)["5"] == "unreachable", "the user of the silent host")
    assert page.run(STATES)["2"] == "running"
    assert page.overflow() == 0
    free_of_barriers(page)


def test_one_host_is_chosen(page):
    choose(page, "b")
    until(lambda: page.run(SHOWN) == [["2", "b"], ["4", "b"]], "the users of host b")
    page.see("2 of 5 users")
    choose(page, "")
    until(lambda: page.run(SHOWN) == ALL, "all users")


def test_a_user_of_another_host_is_stopped_and_started_from_here(page, fleet):
    page.press("2", within='.row[data-user="2"]')
    page.see("Host", within="#panel")
    page.press("Stop", within="#panel")
    page.press("Stop", within="#confirm")
    until(lambda: page.run(STATES)["2"] == "stopped", "the stop")
    assert fleet.b.supervisor.registry.get("2").process.state == "stopped"
    page.press("Start", within="#panel")
    until(lambda: page.run(STATES)["2"] == "running", "the start")


def test_the_hosts_are_listed(page):
    page.press("Hosts")
    page.see("Host a answers here")
    rows = page.run("return [...document.querySelectorAll('#hosts tbody tr')].map((row) => row.innerText)")
    assert [row.split()[0] for row in rows] == ["a", "b", "c"]
    assert "gives its users to other hosts" in rows[0]
    assert "2 of 100" in rows[1]
    assert "silent" in rows[2]
    free_of_barriers(page)


def test_a_host_is_emptied_and_taken_into_use_again(page, fleet):
    page.press("Hosts")
    row = "#hosts tbody tr:nth-child(2)"
    page.press("Drain", within=row)
    page.see("Give the users of host b to the others?", within="#confirm")
    page.press("Drain", within="#confirm")
    page.see("gives its users to other hosts", within=row)
    # Host a drains, too, and c is silent: nobody takes them.
    page.see("User 2 stays on host b:", within="#hosts")
    free_of_barriers(page)
    page.press("Activate", within=row)
    page.see("runs its users", within=row)
    assert {host.name: str(host.state) for host in fleet.fleet.state.hosts}["b"] == "active"


def test_a_user_is_sent_to_another_host(page, fleet):
    page.press("1", within='.row[data-user="1"]')
    page.press("Move to another host", within="#panel")
    until(lambda: page.find("#move-host option"), "the hosts")
    assert page.find("#move-host").text.split("\n") == ["b (2 of 100)"]
    free_of_barriers(page)
    page.press("Move", within="dialog[open]")
    page.see("On the way to host b", within="#panel")
    assert fleet.fleet.state.orders["1"].host == "b"


def test_on_a_phone_the_host_is_chosen_and_named_in_the_panel(page):
    page.look(width=390, height=800)
    choose(page, "c")
    until(lambda: page.run("return document.querySelectorAll('.rows .row').length") == 1, "one user")
    assert page.overflow() == 0
    page.press("5", within='.row[data-user="5"]')
    page.see("host c holds no lease", "Host\nc", within="#panel")
    page.look(width=390, height=800)
    free_of_barriers(page)

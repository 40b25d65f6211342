"""The last hours on the dashboard, in a real browser: what a person sees, hears and does with keys."""

import datetime as dt
import json
import math

import pytest
from browser import free_of_barriers
from harness import until
from selenium.webdriver.common.keys import Keys

from waportd.history import FIGURES

pytestmark = pytest.mark.usefixtures("wide")

WIDE = {"width": 1280, "height": 900}
DIALOG = "#charts"
GIVE = """
    const fetch_ = window.fetch;
    const history = JSON.parse(arguments[0]);
    window.asked = [];
    window.fetch = async (url, options = {}) => {
        const { pathname, searchParams } = new URL(url, document.baseURI);
        if (pathname !== '/v1/history') return fetch_(url, options);
        const hours = Number(searchParams.get('hours'));
        window.asked.push(hours);
        if (window.problem) return new Response(JSON.stringify(window.problem), { status: window.problem.status });
        const last = (value) => (Array.isArray(value) ? value.slice(window.isNew ? Infinity : -60 * hours) : value);
        return Response.json(Object.fromEntries(Object.entries(history).map(([name, value]) => [name, last(value)])));
    };
"""
"""Answer the page with a history that is made up: a real one takes a day."""
PLOTS = f"return [...document.querySelectorAll('{DIALOG} .plot')]"
CUT = """
    const dialog = document.querySelector(arguments[0]);
    const { left, right } = dialog.getBoundingClientRect();
    const seen = [...dialog.querySelectorAll('.periods button, .time, .chart li, .plot text, .buttons button')];
    return seen
        .filter((one) => {
            const box = one.getBoundingClientRect();
            return box.left < left || box.right > right;
        })
        .map((one) => one.textContent);
"""


def made_up(end, hours=24):
    """Return a day: users come, the host sleeps for two hours, one server ends again and again."""
    count = hours * 60
    sleep = range(count - 14 * 60, count - 12 * 60)

    def column(value):
        return [None if minute in sleep else value(minute) for minute in range(count)]

    trouble = range(count - 100, count - 40)
    history = {
        "linked": column(lambda at: 10 + at // 360 - 2 * (at in trouble)),
        "asleep": column(lambda _: 3),
        "idle": column(lambda at: 2 - at // 1000),
        "trouble": column(lambda at: 2 * (at in trouble)),
        "waiting": column(lambda at: int(at % 200 < 20)),
        "working": column(lambda at: int(at % 90 < 4)),
        "delivered": column(lambda at: round(20 + 18 * math.sin(at / 120) + at % 7)),
        "queued": column(lambda at: 5 * (at in trouble)),
        "undelivered": column(lambda at: int(at == count - 60)),
        "restarts": column(lambda at: int(at in trouble and at % 6 == 0)),
        "servers_memory": column(lambda at: (2800 + at // 4 + at % 50) << 20),
        "host_memory": column(lambda at: (4300 + at // 4 + at % 90) << 20),
        "servers_cpu": column(lambda at: round(0.4 + 0.2 * math.sin(at / 60) + (at % 11) / 40, 2)),
        "load": column(lambda at: round(0.9 + 0.4 * math.sin(at / 60) + (at % 13) / 30, 2)),
    }
    assert sorted(history) == sorted(FIGURES)
    times = [(end - dt.timedelta(minutes=count - 1 - at)).isoformat() for at in range(count)]
    return {
        "since": (end - dt.timedelta(days=9)).isoformat(),
        "step_s": 60,
        "cpus": 4,
        "memory_total": 8 << 30,
        "times": times,
        **history,
    }


@pytest.fixture
def started(light_waportd):
    light_waportd.start()
    return light_waportd


@pytest.fixture
def charts(browser, front_end, started):
    """Open the dialog on a made-up day that ends at 15:30 of the browser's clock; return how to open it again."""
    started.call("PUT", "/v1/users/1", 201)
    end = dt.datetime.now(dt.UTC).replace(minute=30, second=0, microsecond=0)

    def show(language="en", label="Last hours"):
        browser.open(f"{front_end.url}/?lang={language}")
        browser.run(GIVE, json.dumps(made_up(end)))
        browser.press(label)
        until(lambda: browser.find(f"{DIALOG} .plot"), "the charts")

    show()
    return show


def labels(browser):
    """Return what a screen reader says of each drawing."""
    return browser.run(
        f"{PLOTS}.map((one) => one.getAttribute('role') + ': ' + one.getAttribute('aria-label'))"
    )


def values(browser):
    """Return the figures beside the charts, by their labels."""
    return dict(
        browser.run(
            f"return [...document.querySelectorAll('{DIALOG} .chart li')].map((one) => "
            "[one.querySelector('span').textContent, one.querySelector('b').textContent])"
        )
    )


def period(browser, label):
    browser.press(label, within=DIALOG)
    until(
        lambda: (
            browser.find(f"{DIALOG} .periods [aria-pressed=true]").text == label
            and browser.run("return document.querySelectorAll('#charts .plot path').length > 6")
        ),
        label,
    )


def test_a_daemon_that_has_just_started_shows_what_it_has(browser, front_end, started):
    started.call("PUT", "/v1/users/1", 201)
    started.until_session("1", "qr")
    browser.open(front_end.url)
    browser.press("Last hours")
    browser.see("figures begin at", "Users", "Memory", "Restarts", within=DIALOG)
    history = started.call("GET", "/v1/history")
    assert len(history["times"]) == 1
    assert (
        sum(history[group][0] for group in ("linked", "waiting", "working", "trouble", "asleep", "idle")) == 1
    )
    assert values(browser)["Waiting for a person"] == str(history["waiting"][0])
    assert browser.complaints() == []


def test_a_day_is_seen_at_a_glance_and_heard(browser, charts):
    assert browser.run("return window.asked") == [6]
    said = labels(browser)
    assert len(said) == 6
    assert said[0] == (
        "img: Users. Linked: now 13, least 11, most 13. Asleep: now 3, least 3, most 3. Idle: now 1, least 1, most 1."
    )
    assert "Problems: now 0, least 0, most 2." in said[1]
    assert "Memory of servers: now 3.1 GB" in said[3]
    assert values(browser)["Linked"] == "13"
    free_of_barriers(browser, **WIDE)
    period(browser, "24 hours")
    until(lambda: "Linked: now 13, least 10" in labels(browser)[0], "the day")
    # While the machine slept nothing is drawn: each line has two parts.
    parts = browser.run(f"{PLOTS}[0].querySelector('.line').getAttribute('d').split('M').length - 1")
    assert parts == 2
    # Lines differ by more than their colour.
    dashes = browser.run(
        f"{PLOTS}[0] && [...{PLOTS.removeprefix('return ')}[0].querySelectorAll('.line')]"
        ".map((one) => getComputedStyle(one).strokeDasharray)"
    )
    assert len(set(dashes)) == 3
    assert browser.complaints() == []


def test_a_time_is_looked_at_by_keys_and_by_pointer(browser, charts):
    period(browser, "1 hour")
    slider = until(lambda: browser.find(f"{DIALOG} input[type=range]"), "the time")
    newest = browser.find(f"{DIALOG} output").text
    assert newest.endswith(":30")
    slider.send_keys(Keys.ARROW_LEFT)
    assert browser.find(f"{DIALOG} output").text.endswith(":29")
    slider.send_keys(Keys.HOME)
    # An hour ago two users were in trouble: the samples of that time are in all charts.
    until(lambda: values(browser)["Problems"] == "2", "the figures of that time")
    assert values(browser)["Queued"] == "5"
    assert values(browser)["Undelivered"] == "1"
    spoken = slider.get_attribute("aria-valuetext")
    assert spoken == f"{browser.find(f'{DIALOG} output').text}, Linked 11, Waiting for a person 0, Problems 2"
    assert browser.run(f"{PLOTS}.map((one) => one.querySelectorAll('.cursor path').length)") == [1] * 6
    # The pointer, on any chart.
    at = browser.run(
        f"const box = {PLOTS.removeprefix('return ')}[3].getBoundingClientRect();"
        "return [box.left + (box.width * 183) / 320, box.top + box.height / 2]"
    )
    browser.command("Input.dispatchMouseEvent", type="mouseMoved", x=at[0], y=at[1])
    until(lambda: browser.find(f"{DIALOG} output").text.endswith((":00", ":01")), "the middle of the hour")
    slider.send_keys(Keys.END)
    assert browser.find(f"{DIALOG} output").text == newest
    browser.type(Keys.ESCAPE)
    browser.miss(DIALOG)
    assert browser.focused() == "Last hours"
    assert browser.complaints() == []


def test_the_same_is_there_as_a_table(browser, charts):
    rows = (
        f"return [...document.querySelectorAll('{DIALOG} tbody tr')].map((one) => one.innerText.split('\\t'))"
    )
    for label, count in (("6 hours", 72), ("1 hour", 60), ("24 hours", 96)):
        period(browser, label)
        if label == "6 hours":
            browser.find(f"{DIALOG} summary").send_keys(Keys.ENTER)
        until(lambda count=count: len(browser.run(rows)) == count, f"a row for each time of {label}")
    browser.see("Every 15 minutes", within=DIALOG)
    first, *others = browser.run(rows)
    assert first[0].endswith(":30")
    assert first[1:4] == ["13", "3", "1"]
    # Restarts are added up: none is lost between two rows.
    restarts = sum(int(row[-1]) for row in [first, *others] if row[-1] != "–")
    assert restarts == 10
    assert any(set(row[1:]) == {"–"} for row in others)
    free_of_barriers(browser, **WIDE)


def test_it_fits_a_phone_and_speaks_portuguese(browser, charts):
    for width, height in ((390, 800), (320, 640)):
        browser.look(width=width, height=height)
        for language, label in (("en", "Last hours"), ("pt-BR", "Últimas horas")):
            charts(language, label)
            assert browser.overflow() <= 0, (width, language)
            assert browser.run(CUT, DIALOG) == [], (width, language)
        browser.see("Conectados", "Memória", "Em tabela", within=DIALOG)
        assert labels(browser)[0].startswith("img: Usuários. Conectados: agora 13, mínimo 11, máximo 13.")
        free_of_barriers(browser, width=width, height=height)
    assert browser.complaints() == []


def test_the_first_sample_is_shown_as_soon_as_there_is_one(browser, charts):
    browser.type(Keys.ESCAPE)
    browser.run("window.isNew = true")
    browser.press("Last hours")
    browser.see("has just started", within=DIALOG)
    assert browser.find(f"{DIALOG} .plot") is None
    browser.run("window.isNew = false")
    until(lambda: browser.find(f"{DIALOG} .plot"), "the charts")
    assert browser.find(f"{DIALOG} output").text.endswith(":30")


def test_another_period_shows_the_same_time(browser, charts):
    period(browser, "1 hour")
    slider = until(lambda: browser.find(f"{DIALOG} input[type=range]"), "the time")
    slider.send_keys(*[Keys.ARROW_LEFT] * 10)
    assert browser.find(f"{DIALOG} output").text.endswith(":20")
    period(browser, "24 hours")
    until(lambda: slider.get_attribute("max") == "1439", "the day")
    assert browser.find(f"{DIALOG} output").text.endswith(":20")
    assert slider.get_attribute("value") == "1429"


def test_what_goes_wrong_is_said_and_what_was_drawn_stays(browser, charts):
    browser.run("window.problem = { status: 503, code: 'restarting', detail: 'no', hint: null }")
    browser.press("1 hour", within=DIALOG)
    browser.see("The last hours cannot be shown", within=DIALOG)
    assert browser.find(f"{DIALOG} .plot")
    browser.run("window.problem = null")
    browser.press("6 hours", within=DIALOG)
    until(lambda: "cannot" not in browser.find(DIALOG).text, "the charts again")

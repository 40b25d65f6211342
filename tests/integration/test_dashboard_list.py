"""The list of the dashboard in a real browser: many users at once, tokens, and what each kind of token sees."""

import csv
import os
import signal
import urllib.error
import urllib.request

import pytest
from browser import free_of_barriers
from harness import systemctl, until
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.usefixtures("wide")

WIDE = {"width": 1500, "height": 900}
SMALL = ((390, 800), (320, 640))
OVER_TCP = "http://127.0.0.1:8484/"
USERS = ("1", "2", "3", "4", "5")

HIDDEN_CONTROLS = """
    const isCut = (one) => {
        const { left, right, top, bottom } = one.getBoundingClientRect();
        return left < 0 || right > document.documentElement.clientWidth || bottom - top < 20;
    };
    const shown = [...document.querySelectorAll(arguments[0])].filter((one) => one.checkVisibility());
    return shown.filter(isCut).map((one) => one.textContent || one.ariaLabel);
"""
"""The controls that a person cannot get at, as their width is cut off or they are too low for a finger."""


@pytest.fixture
def five(light_waportd):
    """A daemon with five users: 2 is linked, 4 and 5 are stopped."""
    light_waportd.start()
    fill(light_waportd)
    return light_waportd


def fill(waportd):
    for user in USERS:
        waportd.call("PUT", f"/v1/users/{user}", 201)
    waportd.until_session("2", "qr")
    os.kill(waportd.user("2")["process"]["pid"], signal.SIGUSR2)
    waportd.until_session("2", "ready")
    for user in ("4", "5"):
        waportd.call("POST", f"/v1/users/{user}/stop")


@pytest.fixture
def far_waportd(light_waportd):
    """A daemon with five users that is reached over TCP."""
    light_waportd.configure(api={"listen": ["127.0.0.1:8484"]})
    light_waportd.start()
    fill(light_waportd)
    return light_waportd


def token_of(waportd, scope, **more):
    return waportd.call("POST", "/v1/tokens", 201, {"name": f"for {scope}", "scope": scope, **more})


def sign_in(browser, waportd, scope):
    made = token_of(waportd, scope)
    browser.open(OVER_TCP)
    browser.see("Sign in")
    browser.type(made["token"], Keys.ENTER, into="#token")
    return made


def status_of(path, token=None):
    """Call the API over TCP; return the status."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        with urllib.request.urlopen(urllib.request.Request(OVER_TCP + path, headers=headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def row(user):
    return f'.rows .row[data-user="{user}"]'


def tick(user):
    return f"{row(user)} .choice input"


def states(waportd):
    return {user: waportd.user(user)["process"]["state"] for user in USERS}


def pids(waportd, *users):
    return [waportd.user(user)["process"]["pid"] for user in users]


def selected(browser):
    return browser.run(
        "return [...document.querySelectorAll('.rows .row.selected')].map((one) => one.dataset.user)"
    )


def expect_selected(browser, users):
    until(lambda: selected(browser) == users, f"{users} to be selected")


def seen(browser, *selectors):
    """Return which of these are shown."""
    return [selector for selector in selectors if browser.find(selector) is not None]


SHIFTS = """
    return new Promise((resolve) => {
        const observer = new PerformanceObserver((list) => resolve(list.getEntries().map(({ value }) => value)));
        observer.observe({ type: 'layout-shift', buffered: true });
        setTimeout(resolve, 500, []);
    });
"""
"""How far what was shown already has moved, as shares of the window (https://wicg.github.io/layout-instability/)."""


def test_the_list_does_not_jump_under_a_click_while_the_page_loads(browser, front_end, five):
    # The figures of the host come later than the list.
    with browser.slowed(latency_ms=150):
        browser.open(front_end.url)
        browser.see("stopped", within=row("5"))
        browser.see("Load", "Memory", "Room", within="#host")
        assert sum(browser.run(SHIFTS)) < 0.003


# ---- many users at once -------------------------------------------------------------------------


def test_many_are_selected_and_only_those_it_concerns_are_changed(browser, front_end, five):
    waportd = five
    browser.open(front_end.url)
    browser.see("stopped", within=row("5"))
    browser.miss("#selection")
    browser.find(tick("1")).click()
    browser.see("1 selected", "Select all 5", within="#selection")
    # Everything in between, by Shift.
    ActionChains(browser.driver).key_down(Keys.SHIFT).click(browser.find(tick("5"))).key_up(
        Keys.SHIFT
    ).perform()
    expect_selected(browser, list(USERS))
    browser.see("5 selected", within="#selection")
    free_of_barriers(browser, **WIDE)
    # A click beside the box opens nothing, and one on the row selects nothing.
    browser.miss("#panel")
    said = browser.announcements()
    before = pids(waportd, "1", "2", "3")
    browser.press("Restart", within="#selection")
    browser.see("Restart the servers of 3 users?", "1, 2, 3", within="#bulk")
    browser.see("2 of 5 do not run: 4, 5", "The logins are kept", within="#bulk")
    free_of_barriers(browser, **WIDE)
    # Nothing happens unless it is confirmed.
    browser.type(Keys.ESCAPE)
    browser.miss("#bulk")
    assert pids(waportd, "1", "2", "3") == before
    expect_selected(browser, list(USERS))
    browser.press("Restart", within="#selection")
    browser.press("Restart", within="#bulk")
    browser.see("3 of 3 done.", within="#bulk")
    free_of_barriers(browser, **WIDE)
    assert "3 of 3 done." in said()
    until(lambda: not set(pids(waportd, "1", "2", "3")) & {*before, None}, "three restarts")
    assert states(waportd)["4"] == states(waportd)["5"] == "stopped"
    browser.press("Close", within="#bulk")
    # What is done is not selected any more.
    expect_selected(browser, ["4", "5"])
    browser.press("Start", within="#selection")
    browser.see("Start the servers of 2 users?", "4, 5", within="#bulk")
    browser.press("Start", within="#bulk")
    browser.see("2 of 2 done.", within="#bulk")
    browser.press("Close", within="#bulk")
    browser.miss("#selection")
    # The focus is not lost with the bar.
    assert browser.run("return document.activeElement.closest('#users') !== null")
    assert browser.complaints() == []


def test_all_of_a_filter_are_stopped_and_who_is_hidden_is_named(browser, front_end, five):
    waportd = five
    browser.open(front_end.url)
    browser.see("linked", within=row("2"))
    browser.find(tick("2")).click()
    browser.find('#groups [value="waiting"]').click()
    browser.see("1 selected, 1 of them is not shown", within="#selection")
    browser.find(".head .choice input").click()
    browser.see("3 selected, 1 of them is not shown", within="#selection")
    browser.find('#groups [value=""]').click()
    until(
        lambda: browser.run("return document.querySelector('.head .choice input').indeterminate"),
        "some of all",
    )
    browser.press("Stop", within="#selection")
    browser.see("Stop the servers of 3 users?", "1, 2, 3", within="#bulk")
    browser.press("Stop", within="#bulk")
    browser.see("3 of 3 done.", within="#bulk")
    until(lambda: set(states(waportd).values()) == {"stopped"}, "five that are stopped")
    assert waportd.user("2")["linked"]
    browser.press("Close", within="#bulk")
    # It would change nobody any more, as soon as the page has heard of the last one.
    for user in USERS:
        browser.see("stopped", within=row(user))
    browser.find(".head .choice input").click()
    browser.press("Stop", within="#selection")
    browser.see("No user is affected", "5 of 5 are stopped already", within="#bulk")
    free_of_barriers(browser, **WIDE)
    browser.press("Close", within="#bulk")
    browser.find("#selection .close").click()
    browser.miss("#selection")
    expect_selected(browser, [])
    assert browser.complaints() == []


def test_what_loses_something_is_confirmed_by_its_number(browser, front_end, five):
    waportd = five
    browser.open(front_end.url)
    browser.see("linked", within=row("2"))
    browser.find(".head .choice input").click()
    browser.press("Log out", within="#selection")
    browser.see("1 user?", "4 of 5 have no linked phone: 1, 3, 4, 5", "1 login is lost", within="#bulk")
    browser.press("Log out", within="#bulk")
    browser.see("Type the number 1, or cancel.", within="#bulk-problem")
    free_of_barriers(browser, **WIDE)
    assert waportd.user("2")["linked"]
    browser.type("1", Keys.ENTER, into="#bulk-count")
    browser.see("1 of 1 done.", within="#bulk")
    until(lambda: not waportd.user("2")["linked"], "the logout")
    browser.press("Close", within="#bulk")
    browser.press("Delete", within="#selection")
    browser.see("Delete 4 users, with their sessions, and free their ports?", within="#bulk")
    browser.see("4 users are lost", "This cannot be undone", within="#bulk")
    browser.type("4", Keys.ENTER, into="#bulk-count")
    browser.see("4 of 4 done.", within="#bulk")
    browser.press("Close", within="#bulk")
    browser.miss(row("1"))
    assert [one["user"] for one in waportd.call("GET", "/v1/users")["users"]] == ["2"]
    assert browser.complaints() == []


PLAYED = """
    const fetch_ = window.fetch;
    window.asked = [];
    window.answers = {};
    window.fetch = async (url, options = {}) => {
        const match = String(url).match(/users\\/(.+)\\/stop/);
        if (options.method !== 'POST' || match === null) return fetch_(url, options);
        window.asked.push(match[1]);
        const [status, headers, problem] = window.answers[match[1]] ?? [];
        delete window.answers[match[1]];
        if (status === undefined) return fetch_(url, options);
        return new Response(JSON.stringify(problem), { status, headers });
    };
"""
"""Has the daemon refuse a call once."""


def test_who_fails_is_named_and_tried_again_and_a_limit_is_waited_for(browser, front_end, five):
    waportd = five
    browser.open(front_end.url)
    browser.see("linked", within=row("2"))
    browser.run(PLAYED)
    browser.run("""
        const problem = (code, detail) => ({ code, detail, hint: 'try again', cause: null });
        window.answers = {
            1: [409, {}, problem('conflict', 'another change is under way')],
            3: [429, { 'Retry-After': '2' }, problem('too_many_requests', 'the limit')],
        };
    """)
    said = browser.announcements()
    browser.find(".head .choice input").click()
    browser.press("Stop", within="#selection")
    browser.press("Stop", within="#bulk")
    browser.see("2 of 3 done. 1 failed.", "another change is under way. try again", within="#bulk")
    assert any("It continues at" in one for one in said())
    assert sorted(browser.run("return window.asked")) == ["1", "2", "3", "3"]
    free_of_barriers(browser, **WIDE)
    expect_selected(browser, ["1", "4", "5"])
    browser.press("Retry those", within="#bulk")
    browser.see("1 of 1 done.", within="#bulk")
    until(lambda: set(states(waportd).values()) == {"stopped"}, "five that are stopped")
    browser.press("Close", within="#bulk")
    assert browser.complaints() == []


def test_it_can_be_stopped_in_the_middle_and_continued(browser, front_end, five):
    browser.open(front_end.url)
    browser.see("linked", within=row("2"))
    browser.run(PLAYED)
    limit = [429, {"Retry-After": "3600"}, {"code": "too_many_requests", "detail": "the limit"}]
    browser.run("window.answers = arguments[0]", dict.fromkeys("123", limit))
    browser.find(".head .choice input").click()
    browser.press("Stop", within="#selection")
    browser.press("Stop", within="#bulk")
    browser.see("It continues at", "0 of 3", within="#bulk")
    free_of_barriers(browser, **WIDE)
    # The keyboard is where it can be stopped, and Escape does that, too.
    assert browser.focused() == "Stop here"
    browser.type(Keys.ESCAPE)
    browser.see("0 of 3 done. 3 were not tried.", within="#bulk")
    browser.press("Continue", within="#bulk")
    browser.see("3 of 3 done.", within="#bulk")
    browser.press("Close", within="#bulk")
    assert browser.complaints() == []


def test_the_keyboard_selects(browser, front_end, five):
    browser.open(front_end.url)
    browser.see("linked", within=row("2"))
    focus = """
        const one = document.activeElement;
        return [one.closest('.row')?.dataset.user ?? null, one.type];
    """
    browser.find(f"{row('1')} .name").send_keys(Keys.ARROW_LEFT)
    assert browser.run(focus) == ["1", "checkbox"]
    assert browser.run("return document.querySelectorAll('#users [tabindex=\"0\"]').length") == 1
    browser.type(Keys.SPACE)
    browser.type(Keys.ARROW_DOWN)
    browser.type(Keys.ARROW_DOWN)
    assert browser.run(focus) == ["3", "checkbox"]
    ActionChains(browser.driver).key_down(Keys.SHIFT).send_keys(Keys.SPACE).key_up(Keys.SHIFT).perform()
    expect_selected(browser, ["1", "2", "3"])
    for keys, there in (
        (Keys.END, ["5", "checkbox"]),
        (Keys.HOME, ["1", "checkbox"]),
        (Keys.ARROW_UP, [None, "checkbox"]),
        (Keys.ARROW_DOWN, ["1", "checkbox"]),
        (Keys.ARROW_RIGHT, ["1", "button"]),
    ):
        browser.type(keys)
        assert browser.run(focus) == there, keys
    # A space on the name opens the user, as of any button, and selects nobody.
    browser.find(f"{row('4')} .name").send_keys(Keys.SPACE)
    browser.see("whatsapp@5004.service", within="#panel")
    expect_selected(browser, ["1", "2", "3"])
    browser.type(Keys.ESCAPE)
    browser.miss("#panel")
    # The help says so.
    browser.run("document.activeElement.blur()")
    browser.type("?")
    browser.see("On a checkbox: select the user", "Select all from the last one on", within="#keys")
    browser.type(Keys.ESCAPE)
    assert browser.complaints() == []


@pytest.mark.parametrize("language", ["en", "pt-BR"])
def test_on_a_phone_all_of_it_is_at_hand(browser, front_end, five, language):
    words = {
        "en": ("selected", "Stop", "Stop the servers of 3 users?", "Cancel"),
        "pt-BR": (
            "selecionado",
            "Parar",
            "Parar os servidores de 3 usuários?",
            "Cancelar",
        ),
    }
    chosen, stop, question, cancel = words[language]
    for width, height in SMALL:
        browser.look(width=width, height=height)
        browser.open(f"{front_end.url}/?lang={language}")
        browser.see("5005", within=row("5"))
        browser.find(tick("1")).click()
        browser.see(chosen, within="#selection")
        browser.run("document.querySelector('#selection .text').click()")
        expect_selected(browser, list(USERS))
        assert browser.overflow() <= 0, width
        assert browser.run(HIDDEN_CONTROLS, "#selection button, .rows .choice label") == [], width
        free_of_barriers(browser, width=width, height=height)
        browser.press(stop, within="#selection")
        browser.see(question, within="#bulk")
        assert browser.run(HIDDEN_CONTROLS, "#bulk button") == [], width
        browser.press(cancel, within="#bulk")
        browser.find("#selection .close").click()
        browser.miss("#selection")
    assert browser.complaints() == []


def test_the_list_as_shown_is_saved_as_a_file(browser, front_end, five, tmp_path):
    browser.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.open(front_end.url)
    browser.see("linked", within=row("2"))
    browser.see("MB", within=row("2"))
    browser.find('#groups [value="linked"]').click()
    browser.press("Export CSV")
    [file] = until(lambda: list(tmp_path.glob("*.csv")), "the file")
    [line] = csv.DictReader(file.read_text(encoding="utf-8-sig").splitlines())
    assert (line["User"], line["Port"], line["Session"]) == ("2", "5002", "linked")
    assert line["Phone"] == "55 11 99999-0001"
    assert int(line["Memory"]) > 1_000_000
    assert browser.complaints() == []


# ---- what each kind of token sees ---------------------------------------------------------------

CHANGING = ("#new-user", "#changes-open", "#tokens-open", ".choice input", ".rows .open", "#selection")


def test_who_only_reads_gets_no_button_that_changes(browser, far_waportd):
    waportd = far_waportd
    sign_in(browser, waportd, "read")
    browser.see("Read-only", "changes nothing", within="#rights")
    browser.see("linked", within=row("2"))
    browser.see("MB", "%", within=row("2"))
    browser.see("Running", "3", within="#host")
    assert seen(browser, *CHANGING) == []
    assert seen(browser, "#sign-out", "#export") == ["#sign-out", "#export"]
    free_of_barriers(browser, **WIDE)
    browser.find(f"{row('2')} .name").click()
    browser.see("whatsapp@5002.service", "listening", within="#panel")
    assert seen(browser, "#panel [data-action]", "#panel .code") == []
    free_of_barriers(browser, **WIDE)
    browser.type(Keys.ESCAPE)
    for width, height in SMALL:
        browser.look(width=width, height=height)
        assert browser.overflow() <= 0, width
        assert seen(browser, *CHANGING) == [], width
    # Where there is nobody, there is nobody to make, either.
    browser.look(**WIDE)
    for user in USERS:
        waportd.call("DELETE", f"/v1/users/{user}", 204)
    browser.see("No users yet")
    assert seen(browser, "#first-user", *CHANGING) == []
    assert [one for one in browser.complaints() if "401" not in one] == []


def test_a_users_token_opens_the_page_of_that_user(browser, far_waportd):
    waportd = far_waportd
    sign_in(browser, waportd, "user:2")
    browser.see("whatsapp@5002.service", "listening", "MB", "%", within="#panel")
    browser.see("Your token is for user 2 only.", within="#rights")
    assert seen(browser, "#list", "#host", "#panel .close", *CHANGING) == []
    free_of_barriers(browser, **WIDE)
    # There is nothing behind it.
    browser.type(Keys.ESCAPE)
    browser.see("whatsapp@5002.service", within="#panel")
    browser.press("Stop", within="#panel")
    browser.press("Stop", within="#confirm")
    until(lambda: waportd.user("2")["process"]["state"] == "stopped", "the stop")
    browser.press("Start", within="#panel")
    until(lambda: waportd.user("2")["process"]["state"] == "running", "the start")
    for width, height in SMALL:
        browser.look(width=width, height=height)
        browser.see("whatsapp@5002.service", within="#panel")
        assert browser.overflow() <= 0, width
        free_of_barriers(browser, width=width, height=height)
    browser.look(**WIDE)
    # The user may go, and come back.
    waportd.call("DELETE", "/v1/users/2", 204)
    browser.see("User 2 has no server yet")
    free_of_barriers(browser, **WIDE)
    browser.press("Start server")
    browser.see("whatsapp@5002.service", within="#panel")
    assert [one for one in browser.complaints() if "401" not in one and "404" not in one] == []


def test_a_users_token_before_there_is_a_server(browser, far_waportd):
    waportd = far_waportd
    sign_in(browser, waportd, "user:shop")
    browser.see("User shop has no server yet")
    assert waportd.ask("GET", "/v1/users/shop").status == 404
    browser.press("Start server")
    browser.see("shop", "code shown", within="#panel")
    assert waportd.user("shop")["desired"] == "running"


def test_who_has_a_token_for_metrics_reads_which_one_opens_the_page(browser, far_waportd):
    sign_in(browser, far_waportd, "metrics")
    browser.see("for metrics only", "scope admin, read", within="#token-problem")
    free_of_barriers(browser, **WIDE)
    browser.type(token_of(far_waportd, "read")["token"], Keys.ENTER, into="#token")
    browser.see("linked", within=row("2"))


def test_who_signs_in_while_the_daemon_is_away_gets_in_when_it_is_back(browser, far_waportd):
    made = token_of(far_waportd, "read")
    browser.open(OVER_TCP)
    browser.see("Sign in")
    systemctl("stop", "waportd.service")
    browser.type(made["token"], Keys.ENTER, into="#token")
    browser.see("The daemon does not answer", "Asking the daemon")
    free_of_barriers(browser, **WIDE)
    systemctl("start", "waportd.service")
    browser.see("linked", within=row("2"))
    browser.miss("#lost")


# ---- tokens -------------------------------------------------------------------------------------

TOKENS = "#tokens"


def listed(waportd):
    return {one["name"]: one for one in waportd.call("GET", "/v1/tokens")["tokens"]}


def test_a_token_is_made_and_shown_until_the_dialog_closes(browser, far_waportd):
    waportd = far_waportd
    own = sign_in(browser, waportd, "admin")
    browser.see("linked", within=row("2"))
    browser.press("Tokens")
    browser.see("for admin", "all calls", own["id"], "the one of this page", "does not expire", within=TOKENS)
    assert own["token"] not in browser.run("return document.documentElement.outerHTML")
    free_of_barriers(browser, **WIDE)
    browser.type("page of user 2", into=f"{TOKENS} form input")
    browser.find(f"{TOKENS} form select").send_keys("one user only")
    browser.type("2", into=f"{TOKENS} form label:nth-of-type(3) input")
    browser.find(f"{TOKENS} form label:nth-of-type(4) select").send_keys("7 days")
    browser.press("Create token", within=TOKENS)
    browser.see("The token “page of user 2”", "it is not shown again", within=".secret")
    secret = browser.run("return document.querySelector('.secret input').value")
    assert status_of("v1/users/2", secret) == 200
    assert status_of("v1/users/3", secret) == 403
    assert browser.focused() == "Copy"
    free_of_barriers(browser, **WIDE)
    browser.see("page of user 2", "user 2 only", "expires", within=f"{TOKENS} .tokens li")
    # The browser lets the page copy, or the page says that it does not.
    browser.press("Copy", within=".secret")
    until(
        lambda: (
            "Copied" in browser.run("return document.querySelector('.secret').textContent")
            or "copy it yourself" in browser.run("return document.querySelector('.secret').textContent")
        ),
        "the result of the button",
    )
    # With the dialog it is gone from the page.
    browser.press("Close", within=TOKENS)
    browser.miss(TOKENS)
    everything = """
        const fields = [...document.querySelectorAll('input')].map((one) => one.value);
        return document.documentElement.outerHTML + fields.join() + location.href;
    """
    assert secret not in browser.run(everything)
    browser.press("Tokens")
    browser.see("page of user 2", "last used", within=TOKENS)
    assert browser.find(".secret") is None
    assert [one for one in browser.complaints() if "401" not in one] == []


def test_tokens_are_revoked_if_the_person_is_sure(browser, far_waportd):
    waportd = far_waportd
    own = sign_in(browser, waportd, "admin")
    token_of(waportd, "read")
    browser.see("linked", within=row("2"))
    browser.press("Tokens")
    browser.see("for read", "reading only", "never used", within=TOKENS)
    browser.press("Revoke", within=f"{TOKENS} .tokens li")
    browser.see("Revoke the token “for read”?", within="#confirm")
    free_of_barriers(browser, **WIDE)
    browser.press("Cancel", within="#confirm")
    assert set(listed(waportd)) == {"for admin", "for read"}
    browser.press("Revoke", within=f"{TOKENS} .tokens li")
    browser.press("Revoke", within="#confirm")
    browser.see("The token “for read” is revoked.", within=TOKENS)
    assert set(listed(waportd)) == {"for admin"}
    for width, height in SMALL:
        browser.look(width=width, height=height)
        assert browser.overflow() <= 0, width
        assert browser.run(HIDDEN_CONTROLS, f"{TOKENS} button, {TOKENS} .field") == [], width
        free_of_barriers(browser, width=width, height=height)
    browser.look(**WIDE)
    # The page's own token ends the visit.
    browser.press("Revoke", within=f"{TOKENS} .tokens li")
    browser.see("you have to sign in with another one", within="#confirm")
    browser.press("Revoke", within="#confirm")
    browser.see("Sign in", "This token is unknown, or was deleted")
    browser.miss(TOKENS)
    assert own["id"] not in {one["id"] for one in listed(waportd).values()}


def test_all_connect_links_are_revoked(browser, front_end, far_waportd):
    waportd = far_waportd
    link = waportd.call("POST", "/v1/users/1/connect-link", 201)
    code = link["path"].replace("/connect?user=1&", "v1/users/1/qr?")
    assert status_of(code) == 200
    browser.open(front_end.url)
    browser.see("linked", within=row("2"))
    browser.press("Tokens")
    browser.press("Revoke all connect links", within=TOKENS)
    browser.see("Phones that are linked stay linked", within="#confirm")
    browser.press("Revoke all connect links", within="#confirm")
    browser.see("All connect links are revoked.", within=TOKENS)
    assert status_of(code) == 403
    assert browser.complaints() == []


def test_what_is_wrong_with_a_new_token_is_said(browser, front_end, light_waportd):
    waportd = light_waportd
    waportd.start()
    browser.open(f"{front_end.url}/?lang=pt-BR")
    browser.see("Nenhum usuário ainda")
    browser.press("Tokens")
    dialog = "#tokens"
    browser.see("Não há nenhum token.", within=dialog)
    browser.type("página", into=f"{dialog} form input")
    browser.find(f"{dialog} form select").send_keys("só um usuário")
    browser.type("no user!", into=f"{dialog} form label:nth-of-type(3) input")
    browser.press("Criar token", within=dialog)
    browser.see("scope", within=f"{dialog} .problem")
    free_of_barriers(browser, **WIDE)
    assert waportd.call("GET", "/v1/tokens")["tokens"] == []
    assert [one for one in browser.complaints() if "400" not in one] == []

"""The panel of one user in a real browser: the phone is linked from it, options are set, the log is read."""

import os
import re
import signal
import time
import urllib.parse

import pytest
from browser import free_of_barriers
from harness import until
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.usefixtures("wide")

WIDE = {"width": 1500, "height": 1200}
NUMBER = "+55 11 99999-0001"
PANEL = "#panel"
DIALOG = "dialog.form-dialog"
ADDRESS = "http://127.0.0.1:8484"


@pytest.fixture
def waportd(light_waportd):
    """A daemon with user 1, who waits for a phone."""
    light_waportd.configure(api={"listen": ["127.0.0.1:8484"]})
    light_waportd.start()
    light_waportd.show_code("1")
    return light_waportd


@pytest.fixture
def panel(browser, front_end, waportd):
    """The page with the panel of user 1 open."""

    def open_panel(**query):
        browser.open(f"{front_end.url}/?{urllib.parse.urlencode({'lang': 'en', **query})}#1")
        browser.see("whatsapp@5001.service", within=PANEL)

    open_panel()
    return open_panel


def touch_phone(waportd, user="1"):
    """Scan the code that is shown, or unlink the phone."""
    os.kill(waportd.user(user)["process"]["pid"], signal.SIGUSR2)


def shown_code(browser, waportd):
    """Return the code that a camera reads off the panel, which is the one that the API has."""
    return until(
        lambda: (read := browser.code(f"{PANEL} .code")) and read == waportd.qr("1")["qr"] and read,
        "the API's code in the panel",
    )


def pick(browser, selector, words):
    """Choose what begins so from a list."""
    options = browser.driver.find_elements("css selector", f"{selector} option")
    next(one for one in options if one.text.startswith(words)).click()


def html(browser):
    return browser.run("return document.documentElement.outerHTML")


# ---- linking ------------------------------------------------------------------------------------


def test_a_phone_is_linked_by_the_code_in_the_panel(browser, waportd, panel):
    # No code is shown before somebody asks for it: others may see the screen.
    browser.see("Link", "A code is secret", within=PANEL)
    assert browser.find(f"{PANEL} .code") is None
    assert waportd.qr("1")["qr"] not in html(browser)
    free_of_barriers(browser, **WIDE)
    browser.press("Show the code", within=PANEL)
    browser.see("Valid for", "Linked devices", within=PANEL)
    first = shown_code(browser, waportd)
    free_of_barriers(browser, **WIDE)
    for look in ({"theme": "dark", **WIDE}, {"width": 320, "height": 640}, {"width": 390, "height": 844}):
        browser.look(**look)
        browser.run("document.querySelector('.code').scrollIntoView({ block: 'center' })")
        assert shown_code(browser, waportd) == first, look
        assert browser.overflow() <= 0, look
    browser.look(**WIDE)
    browser.press("Hide", within=PANEL)
    browser.miss(f"{PANEL} .code")
    assert browser.focused() == "Show the code"
    # By keyboard, and closed with the panel.
    browser.type(Keys.ENTER)
    shown_code(browser, waportd)
    browser.type(Keys.ESCAPE)
    browser.miss(PANEL)
    browser.find('.rows .row[data-user="1"] .name').send_keys(Keys.ENTER)
    browser.see("Show the code", within=PANEL)
    assert browser.find(f"{PANEL} .code") is None
    heard = browser.announcements()
    browser.press("Show the code", within=PANEL)
    shown_code(browser, waportd)
    touch_phone(waportd)
    browser.see(f"Linked: Ana of 990001 · {NUMBER}", "Connected since", within=PANEL)
    browser.miss(f"{PANEL} .code")
    assert "A phone is linked." in heard()
    free_of_barriers(browser, **WIDE)
    # When it is unlinked nothing comes back uninvited.
    touch_phone(waportd)
    browser.see("A code is secret", within=PANEL)
    assert browser.find(f"{PANEL} .code") is None
    assert browser.complaints() == []


def test_a_code_is_not_left_on_the_screen_after_its_time(browser, front_end, waportd):
    waportd.configure(instances={"qr_lifetime": [8, 8]})
    waportd.restart()
    waportd.call("POST", "/v1/users/1/restart")
    browser.open(f"{front_end.url}/?lang=en#1")
    browser.press("Show the code", within=PANEL)
    until(lambda: browser.find(f"{PANEL} .code svg"), "a code")
    # Nothing is heard any more.
    front_end.cut()
    browser.miss(f"{PANEL} .code svg")
    front_end.mend()


def test_a_phone_is_linked_by_its_number_in_the_panel(browser, waportd, panel):
    browser.press("Link with phone number", within=PANEL)
    # Where the number is typed the focus is, and stays when the user's state changes.
    browser.see("WhatsApp phone number", within=PANEL)
    browser.run("document.querySelector('#phone').focus()")
    browser.type("0 11", Keys.ENTER)
    browser.see("Leave out the leading zeros", within=PANEL)
    assert browser.find("#phone[aria-invalid=true]")
    assert browser.focused() == "phone"
    free_of_barriers(browser, **WIDE)
    waportd.call("PATCH", "/v1/users/1", body={"autostart": False})
    browser.see("Autostart", "off", within=PANEL)
    assert browser.focused() == "phone"
    assert browser.find("#phone").get_attribute("value") == "0 11"
    browser.type(NUMBER, Keys.ENTER, into="#phone")
    browser.see(f"Code for {NUMBER}", "Valid for", "Link with phone number instead", within=PANEL)
    code = browser.find(f"{PANEL} .letters").text.replace("\n", "")
    letters = code.replace("-", "")
    assert len(letters) == 8
    assert " ".join(letters) in browser.find(f"{PANEL} .letters").get_attribute("aria-label")
    free_of_barriers(browser, **WIDE)
    for width in (320, 390):
        browser.look(width=width, height=800)
        assert browser.overflow() <= 0, width
    browser.look(**WIDE)
    touch_phone(waportd)
    browser.see(f"Linked: Ana of 990001 · {NUMBER}", within=PANEL)
    assert browser.find(f"{PANEL} .letters") is None
    assert letters not in html(browser).replace("</b><b>", "")
    assert browser.complaints() == []


def test_a_code_to_type_elsewhere_is_not_shown_here(browser, waportd, panel):
    waportd.call("POST", "/v1/users/1/pairing-code", body={"phone": "5511999990001"}, timeout=90)
    browser.press("Show the code", within=PANEL)
    browser.see("perhaps in another window", within=PANEL)
    assert browser.find(f"{PANEL} .letters") is None
    browser.press("Show the code to scan", within=PANEL)
    shown_code(browser, waportd)


def test_codes_that_nobody_uses_end_and_begin_again(browser, front_end, waportd):
    # The light server gives one code a minute; the first one is over before.
    waportd.configure(instances={"qr_lifetime": [4, 4], "qr_max_retries": 1})
    waportd.restart()
    waportd.call("POST", "/v1/users/1/restart")
    browser.open(f"{front_end.url}/?lang=en#1")
    browser.press("Show the code", within=PANEL)
    until(lambda: browser.find(f"{PANEL} .code svg"), "a code")
    waportd.until_session("1", "qr_timeout")
    browser.see("Nobody used the codes", within=PANEL)
    assert browser.find(f"{PANEL} .code") is None
    free_of_barriers(browser, **WIDE)
    heard = browser.announcements()
    browser.press("Show a new code", within=PANEL)
    until(lambda: browser.find(f"{PANEL} .code svg"), "a new code")
    # It does not say once more that there is none.
    assert not any("Nobody used" in words for words in heard())


def test_a_stopped_server_starts_for_a_code(browser, waportd, panel):
    waportd.call("POST", "/v1/users/1/stop")
    browser.see("stopped", within=f"{PANEL} header")
    browser.press("Show the code", within=PANEL)
    shown_code(browser, waportd)


def test_a_server_that_cannot_start_says_why_there_is_no_code(browser, waportd, panel):
    waportd.call("POST", "/v1/users/1/stop")
    waportd.configure(limits={"min_available_memory": "9000G"})
    waportd.reload()
    browser.press("Show the code", within=PANEL)
    browser.see("There is no code now.", "memory", within=f"{PANEL} .linking")
    free_of_barriers(browser, **WIDE)
    waportd.configure(limits={"min_available_memory": 0})
    waportd.reload()
    browser.press("Try again", within=f"{PANEL} .linking")
    shown_code(browser, waportd)


def test_a_passkey_is_a_matter_for_the_connect_page(browser, front_end, idle_waportd, standin):
    waportd = idle_waportd
    waportd.start()
    standin.tell("passkey")
    waportd.show_code("1")
    browser.open(f"{front_end.url}/?lang=en#1")
    browser.press("Show the code", within=PANEL)
    until(lambda: browser.code(f"{PANEL} .code"), "a code")
    standin.tell("scan", qr=waportd.qr("1")["qr"], phone="5511999990001", name="Ana")
    browser.see("WhatsApp wants the passkey of the account", within=PANEL)
    browser.miss(f"{PANEL} .code")
    free_of_barriers(browser, **WIDE)
    browser.press("Connect page", within=f"{PANEL} .linking")
    until(lambda: len(browser.driver.window_handles) == 2, "another tab")
    browser.driver.switch_to.window(browser.driver.window_handles[1])
    browser.see("One more step: your passkey")
    browser.driver.close()
    browser.driver.switch_to.window(browser.driver.window_handles[0])


# ---- the connect link ---------------------------------------------------------------------------


def clipboard(browser, setting):
    for name in ("clipboard-read", "clipboard-write"):
        browser.command("Browser.setPermission", permission={"name": name}, setting=setting)


def test_a_connect_link_is_copied_and_opens_the_page_of_this_user(browser, front_end, waportd, panel):
    clipboard(browser, "granted")
    pick(browser, "#link-time", "24 hours")
    browser.press("Copy the link", within=PANEL)
    browser.see("The link is valid until", within=PANEL)
    link = browser.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert link.startswith(f"{front_end.url}/connect?user=1&")
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(link).query)
    assert abs(int(query["expires"][0]) - time.time() - 24 * 3600) < 60
    assert query["signature"][0] not in html(browser)
    free_of_barriers(browser, **WIDE)
    # Where the page may not copy, a person does.
    clipboard(browser, "denied")
    pick(browser, "#link-time", "10 minutes")
    browser.press("Copy the link", within=PANEL)
    browser.see("Copy the link here", within=PANEL)
    field = browser.find(f"{PANEL} .by-hand input")
    assert field.get_attribute("readonly")
    by_hand = field.get_attribute("value")
    assert browser.run("return getSelection().toString()") in {by_hand, ""}
    assert urllib.parse.parse_qs(by_hand)["signature"][0] not in html(browser)
    free_of_barriers(browser, **WIDE)
    browser.type(Keys.ESCAPE)
    browser.miss(PANEL)
    assert urllib.parse.parse_qs(by_hand)["signature"][0] not in html(browser)
    clipboard(browser, "prompt")
    # It holds without a token, where one is needed.
    browser.open(f"{ADDRESS}/connect?{urllib.parse.urlsplit(link).query}")
    until(browser.code, "a code behind the link")


def test_a_connect_link_is_sent_where_the_browser_can(browser, waportd, panel):
    assert "Send" not in browser.find(f"{PANEL} .connect-link").text
    stub = "navigator.share = async (what) => { window.sent = what; };"
    known = browser.command("Page.addScriptToEvaluateOnNewDocument", source=stub)["identifier"]
    try:
        browser.open("about:blank")
        panel()
        browser.press("Send", within=f"{PANEL} .connect-link")
        sent = until(lambda: browser.run("return window.sent"), "what is sent")
        assert "/connect?user=1&expires=" in sent["url"]
    finally:
        browser.command("Page.removeScriptToEvaluateOnNewDocument", identifier=known)


# ---- settings -----------------------------------------------------------------------------------


def choose(browser, option, words, field=None):
    """Choose what an option of the user is; a value of its own goes into its field."""
    pick(browser, f"#set-{option}", words)
    if field is not None:
        browser.type(field, into=f"#set-{option}-own")


def test_options_are_changed_and_only_those(browser, waportd, panel):
    secret = "https://app.example.com/hook?token=t0psecret"
    waportd.call("PATCH", "/v1/users/1", body={"webhook_url": secret, "send_rate": 30})
    waportd.until_process("1", "running")
    browser.see("Messages a minute", "30", "Webhook address", "its own", within=PANEL)
    browser.press("Change settings", within=PANEL)
    browser.see("Settings of user 1", "instances.proxy", within=DIALOG)
    assert browser.find("#set-send_rate-own").get_attribute("value") == "30"
    # What may hold a secret is not shown: only that there is one.
    assert browser.run("return document.querySelector('#set-webhook_url').value") == "kept"
    assert "t0psecret" not in html(browser)
    free_of_barriers(browser, **WIDE)
    for width in (320, 390):
        browser.look(width=width, height=800)
        assert browser.overflow() <= 0, width
        assert browser.run(
            "const it = document.querySelector('dialog[open]'); return it.scrollWidth <= it.clientWidth"
        )
    browser.look(**WIDE)
    browser.press("Save", within=DIALOG)
    browser.see("Nothing has changed.", within=DIALOG)
    # What is wrong is said beside its field.
    choose(browser, "memory_max", "A value", "lots")
    browser.type(Keys.ENTER)
    browser.see("This value is not accepted:", "must be", within="#set-memory_max-problem")
    assert browser.focused() == "set-memory_max-own"
    assert browser.find("#set-memory_max-own[aria-invalid=true]")
    free_of_barriers(browser, **WIDE)
    browser.type("700M", into="#set-memory_max-own")
    assert browser.find(".effect:not(:empty)") is None
    choose(browser, "ignore", "A value")
    for label in ("Groups", "Channels"):
        browser.find(f"{DIALOG} [value={label.lower()}]").click()
    browser.see("The server restarts when you save this.", within=DIALOG)
    pid = waportd.user("1")["process"]["pid"]
    browser.press("Save", within=DIALOG)
    browser.miss(DIALOG)
    browser.see("Saved.", "Memory limit", "700 MB", "Groups, Channels", within=PANEL)
    assert browser.focused() == "Change settings"
    user = waportd.user("1")
    assert (user["memory_max"], user["ignore"], user["send_rate"]) == (700 << 20, ["groups", "channels"], 30)
    assert user["own_webhook"]
    until(lambda: waportd.user("1")["process"]["pid"] not in {None, pid}, "the restart")
    # Back to what is configured, and another address in place of the one that is not shown.
    browser.press("Change settings", within=PANEL)
    for option in ("memory_max", "ignore", "send_rate", "webhook_url"):
        choose(browser, option, "As configured")
    browser.find(f"{DIALOG} label input").click()
    browser.press("Save", within=DIALOG)
    browser.miss(DIALOG)
    browser.see("Autostart", "off", within=PANEL)
    user = waportd.user("1")
    assert [user[name] for name in ("memory_max", "ignore", "send_rate")] == [None] * 3
    assert (user["own_webhook"], user["autostart"]) == (False, False)
    assert [one for one in browser.complaints() if "400 (Bad Request)" not in one] == []


def test_a_secret_is_typed_unseen_and_goes_with_the_dialog(browser, waportd, panel):
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    browser.press("Change settings", within=PANEL)
    choose(browser, "webhook_secret", "A value", "no secret")
    assert browser.find("#set-webhook_secret-own").get_attribute("type") == "password"
    browser.press("Save", within=DIALOG)
    browser.see("must be", within="#set-webhook_secret-problem")
    browser.type(secret, Keys.ENTER, into="#set-webhook_secret-own")
    browser.miss(DIALOG)
    browser.see("Webhook secret", "its own", within=PANEL)
    assert waportd.user("1")["own_webhook_secret"]
    everything = "return [...document.querySelectorAll('input')].map((one) => one.value).join()"
    assert secret not in html(browser) + browser.run(everything)
    browser.press("Change settings", within=PANEL)
    assert browser.run("return document.querySelector('#set-webhook_secret').value") == "kept"


def test_an_engine_that_is_not_installed_is_refused_beside_its_field(browser, waportd, panel):
    browser.press("Change settings", within=PANEL)
    choose(browser, "engine", "A value", "1.99.0")
    browser.see("The engine changes with the next start", within=DIALOG)
    browser.press("Save", within=DIALOG)
    browser.see("1.99.0", within="#set-engine-problem")
    # Escape closes the dialog, and no more than that.
    browser.type(Keys.ESCAPE)
    browser.miss(DIALOG)
    browser.see("whatsapp@5001.service", within=PANEL)
    assert browser.run("return document.querySelector('dialog.form-dialog')") is None


def test_a_password_of_a_proxy_is_kept_and_not_shown(browser, waportd, panel):
    waportd.call("PATCH", "/v1/users/1", body={"proxy": "http://ana:s3cret@proxy.example.com:3128"})
    browser.see("http://ana:***@proxy.example.com:3128", within=PANEL)
    browser.press("Change settings", within=PANEL)
    assert browser.run("return document.querySelector('#set-proxy').value") == "kept"
    assert "s3cret" not in html(browser)
    # A change of something else leaves it as it is.
    choose(browser, "default_country", "A value", "55")
    browser.type(Keys.ENTER)
    browser.miss(DIALOG)
    user = waportd.user("1")
    assert (user["default_country"], user["own_proxy"]) == ("55", True)
    assert user["proxy"] == "http://ana:***@proxy.example.com:3128"


def test_a_user_moves_to_another_port(browser, waportd, panel):
    touch_phone(waportd)
    waportd.until_session("1", "ready")
    waportd.call("PUT", "/v1/users/2", 201)
    browser.press("Move to another port", within=PANEL)
    browser.see("Move user 1 to another port?", "port 5001 is free for others", "no new scan", within=DIALOG)
    free_of_barriers(browser, **WIDE)
    browser.type("99999", Keys.ENTER, into="#move-port")
    browser.see("A port is a number from 1 to 65535.", within=DIALOG)
    browser.type("5002", Keys.ENTER, into="#move-port")
    browser.see("5002", within="#form-problem")
    browser.type("5009", Keys.ENTER, into="#move-port")
    browser.miss(DIALOG)
    browser.see("Moved to port 5009.", "whatsapp@5009.service", within=PANEL)
    waportd.until_session("1", "ready")


# ---- the log ------------------------------------------------------------------------------------


def lines(browser):
    script = "return [...document.querySelectorAll('.log li:not(.day)')].map((line) => line.textContent)"
    return browser.run(script)


def is_at_end(browser):
    return browser.run(
        "const { scrollTop, scrollHeight, clientHeight } = document.querySelector('.log');"
        "return scrollTop + clientHeight >= scrollHeight - 8"
    )


def test_the_log_is_searched_and_says_how_bad_lines_are(browser, waportd, panel):
    browser.see("listening", within=".log")
    assert not [line for line in lines(browser) if "user 1:" in line]
    # The day stands where it changes, and each line's time has its zone.
    day = browser.find(".log .day").text
    assert str(time.gmtime().tm_year) in day
    title = browser.find(".log li:not(.day) time").get_attribute("title")
    assert re.search(r"(UTC|GMT|[A-Z]{3,4})", title)
    browser.type("LISTEN", into=".log-tools input")
    browser.see("hit", within=".log-tools")
    marks = browser.run("return [...document.querySelectorAll('.log mark')].map((one) => one.textContent)")
    assert {mark.lower() for mark in marks} == {"listen"}
    counted = browser.find(".log-tools span").text
    assert counted == ("1 hit" if len(marks) == 1 else f"{len(marks)} hits")
    free_of_barriers(browser, **WIDE)
    browser.type(Keys.ENTER)
    browser.see(f"Hit {len(marks)} of {len(marks)}", within=".log-tools")
    assert browser.find(".log mark[aria-current]")
    # Escape empties the field first, then it closes the panel.
    browser.type(Keys.ESCAPE)
    assert browser.find(".log mark") is None
    assert browser.find(PANEL)
    browser.type("no such thing", into=".log-tools input")
    browser.see("No hit", within=".log-tools")
    browser.find(".log-tools input").clear()
    # Only what went wrong, and nothing did.
    pick(browser, ".log-tools select", "Errors")
    browser.see("There are no such lines.", within=".log")
    assert lines(browser) == []
    os.kill(waportd.user("1")["process"]["pid"], signal.SIGKILL)
    pick(browser, ".log-tools select", "Warnings")
    browser.see("systemd:", within=".log")
    worse = len(lines(browser))
    pick(browser, ".log-tools select", "All")
    until(lambda: len(lines(browser)) > worse, "all lines")


def test_who_reads_further_up_is_not_carried_away(browser, waportd, panel):
    for _ in range(6):
        waportd.call("POST", "/v1/users/1/restart")
    browser.look(width=1500, height=700)
    browser.see("listening", within=".log")
    until(lambda: is_at_end(browser), "the newest line in sight")
    # A window of another size is not taken for scrolling.
    for width in (390, 1500):
        browser.look(width=width, height=700)
        time.sleep(0.3)
        assert is_at_end(browser), width
        assert browser.find(".news") is None
    browser.run("document.querySelector('.log').scrollTop = 0")
    browser.see("To the newest line", within=".log-frame")
    waportd.call("POST", "/v1/users/1/restart")
    browser.see("new line", within=".news")
    assert browser.run("return document.querySelector('.log').scrollTop") < 40
    free_of_barriers(browser, width=1500, height=700)
    browser.find(".news").click()
    until(lambda: is_at_end(browser), "the newest line in sight")
    browser.miss(".news")
    waportd.call("POST", "/v1/users/1/restart")
    until(lambda: is_at_end(browser), "the newest line in sight")


def test_the_log_is_kept_in_a_file(browser, waportd, panel, tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    browser.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    browser.see("listening", within=".log")
    browser.press("Download", within=PANEL)
    file = until(lambda: next((one for one in folder.iterdir() if one.suffix == ".txt"), None), "a file")
    assert re.fullmatch(r"waportd-1-\d{4}-\d\d-\d\dT\d{6}Z\.txt", file.name)
    text = until(file.read_text, "what is in it")
    journal = waportd.call("GET", "/v1/users/1/logs?lines=1000")["lines"]
    written = text.splitlines()
    assert len(written) <= len(journal)
    for line, one in zip(written, journal, strict=False):
        assert line.startswith(f"{one['time']} ")
        assert f" {one['source']}: {one['message'].removeprefix('user 1: ')}" in line
    assert any("info server: listening" in line for line in written)
    assert browser.complaints() == []


# ---- what is known, and who sees it ---------------------------------------------------------------


def test_all_that_is_known_of_a_user_is_shown(browser, waportd, panel):
    touch_phone(waportd)
    waportd.until_session("1", "ready")
    browser.see(
        *("Phone", "Linked since", "Connected since", "Port", "Unit", "Process", "Restarts", "Memory"),
        *(
            "CPU",
            "Disk",
            "B login",
            "B cache",
            "B journal",
            "B snapshots",
            "Created",
            "Messages",
            "delivered",
        ),
        within=f"{PANEL} .facts",
    )


def test_counts_of_messages_are_those_of_now(browser, waportd, panel):
    # Nobody answers there: messages wait. A second one that waits is no event of its own.
    waportd.call("PATCH", "/v1/users/1", body={"webhook_url": "http://127.0.0.1:9/"})
    waportd.show_code("1")
    touch_phone(waportd)
    waportd.until_session("1", "ready")
    for count in (1, 2):
        waportd.call("POST", "/v1/users/1/messages", body={"to": "5511999990002", "text": "Hi"})
        browser.see(f"{count} wait", "Last message", within=f"{PANEL} .facts")


def sign_in(browser, waportd, scope):
    made = waportd.call("POST", "/v1/tokens", 201, {"name": "x", "scope": scope})
    browser.open(f"{ADDRESS}/?lang=en#1")
    browser.run("sessionStorage.clear()")
    browser.open("about:blank")
    browser.open(f"{ADDRESS}/?lang=en#1")
    browser.see("Sign in")
    browser.type(made["token"], Keys.ENTER, into="#token")
    browser.see("whatsapp@5001.service", within=PANEL)


def labels(browser):
    script = """
        const all = [...document.querySelectorAll('#panel :is(button, a)')];
        return all.filter((one) => one.checkVisibility()).map((one) => one.textContent.trim());
    """
    return set(browser.run(script))


def test_who_may_only_read_sees_nothing_to_press(browser, waportd):
    sign_in(browser, waportd, "read")
    assert labels(browser) <= {"", "Download"}
    assert "Connect link" not in browser.find(PANEL).text
    browser.see("listening", within=".log")
    free_of_barriers(browser, **WIDE)
    browser.run("sessionStorage.clear()")


def test_a_users_token_links_and_changes_that_user_and_moves_nobody(browser, waportd):
    sign_in(browser, waportd, "user:1")
    seen = labels(browser)
    assert {"Show the code", "Copy the link", "Change settings", "Restart"} <= seen
    assert not {"Move to another port", "Changes"} & seen
    browser.press("Show the code", within=PANEL)
    shown_code(browser, waportd)
    browser.run("sessionStorage.clear()")


def test_the_panel_fits_and_speaks_portuguese(browser, waportd, panel):
    panel(lang="pt-BR")
    browser.see("Conexão", "Dados", "Configurações", "Log", "Mostrar o código", "Copiar o link", within=PANEL)
    browser.press("Mostrar o código", within=PANEL)
    shown_code(browser, waportd)
    for width, height in ((1280, 800), (640, 400), (390, 844), (320, 640)):
        free_of_barriers(browser, width=width, height=height)
        assert browser.overflow() <= 0, width
        cut = browser.run(
            "const it = document.querySelector('#panel'); return it.scrollWidth - it.clientWidth"
        )
        assert cut <= 0, width
    browser.press("Ocultar", within=PANEL)
    wide_buttons = """
        const place = document.querySelector('#panel .linking').getBoundingClientRect();
        const all = [...document.querySelectorAll('#panel .buttons .button')].filter((one) => one.checkVisibility());
        return all.filter((one) => one.getBoundingClientRect().right > place.right + 1).map((one) => one.textContent);
    """
    assert browser.run(wide_buttons) == []
    browser.press("Mostrar o código", within=PANEL)
    browser.look(**WIDE)
    browser.press("Mudar configurações", within=PANEL)
    browser.see("Configurações do usuário 1", "Como na configuração", within=DIALOG)
    browser.press("Cancelar", within=DIALOG)
    browser.press("Mudar de porta", within=PANEL)
    browser.see("Mudar a porta do usuário 1?", "a porta 5001 fica livre", within=DIALOG)
    browser.press("Cancelar", within=DIALOG)
    browser.press("Ocultar", within=PANEL)
    browser.press("Conectar com número de telefone", within=PANEL)
    browser.type("11 99999-0001", Keys.ENTER, into="#phone")
    browser.see(f"Código para {NUMBER}", "Válido por", within=PANEL)
    assert browser.complaints() == []

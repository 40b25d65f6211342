"""The connect page by a link: what happens at its end, and the way back to the web app."""

import urllib.parse

import pytest
from browser import embedding, free_of_barriers
from harness import until

PHONE = "5511999990001"


@pytest.fixture
def app(idle_waportd, port):
    """A web app on a site of its own, to which waportd may lead back; waportd over TCP."""
    with embedding("about:blank") as address:
        idle_waportd.configure(api={"listen": [f"127.0.0.1:{port}"], "frame_ancestors": ["self", address]})
        idle_waportd.start()
        yield address


def link(waportd, port, ttl=600, **query):
    wish = {"ttl": ttl, **query}
    path = waportd.call("POST", "/v1/users/1/connect-link", 201, wish)["path"]
    return f"http://127.0.0.1:{port}{path}&lang=en"


def test_a_link_that_ends_takes_its_code_along_and_leads_back(browser, app, idle_waportd, port):
    address = f'{app}/settings?from="whatsapp"#phone'
    waportd = idle_waportd
    waportd.show_code("1")
    browser.open(link(waportd, port, ttl=20, return_to=address))
    code = until(browser.code, "a code")
    said = browser.announcements()
    assert browser.find(f'a[href^="{app}"]') is None, "nobody is sent away before the code is used"
    browser.see("This link has expired", "Open the page again where this link came from")
    assert any("This link has expired" in words for words in said())
    assert browser.find(".code") is None
    assert code not in browser.driver.page_source
    assert browser.find("#lost") is None
    assert browser.find("button") is None
    for look in ({}, {"width": 320, "height": 640}):
        free_of_barriers(browser, **look)
        assert browser.overflow() <= 0, look
    browser.look()
    # It says the same to who opens it then.
    browser.driver.refresh()
    browser.see("This link has expired")
    browser.press("Back to the app")
    until(lambda: browser.driver.current_url == urllib.parse.quote(address, safe="/:?=#"), "the web app")
    browser.see("App")


def test_who_has_linked_a_phone_is_led_back_and_not_before(browser, app, idle_waportd, port, standin):
    waportd = idle_waportd
    waportd.show_code("1")
    browser.open(link(waportd, port, return_to=f"{app}/done"))
    code = until(lambda: (read := browser.code()) and read == waportd.qr("1")["qr"] and read, "the code")
    standin.tell("scan", qr=code, phone=PHONE, name="Ana")
    browser.see("WhatsApp is linked", "Back to the app")
    free_of_barriers(browser)
    browser.run("document.querySelector('a.button').focus()")
    assert browser.focused() == "Back to the app"
    browser.type("\n")
    until(lambda: browser.driver.current_url == f"{app}/done", "the web app")


def test_nobody_is_led_to_where_the_link_did_not_say(browser, app, idle_waportd, port):
    waportd = idle_waportd
    waportd.show_code("1")
    honest = link(waportd, port, ttl=1, return_to=f"{app}/done")
    evil = urllib.parse.quote("http://127.0.0.3:1/", safe="")
    for forged in (
        honest.replace(urllib.parse.quote(f"{app}/done", safe=""), evil),
        f"{link(waportd, port, ttl=1)}&return_to={evil}",
    ):
        assert evil in forged
        until(lambda forged=forged: _ended(browser, forged), "the end of the link")
        assert browser.find("a") is None
    until(lambda: _ended(browser, honest), "the end of the link")
    assert browser.find("a").get_attribute("href") == f"{app}/done"


def _ended(browser, address):
    browser.open(address)
    # A page that loads shows neither. Slow as it may be, it gets to one of them.
    until(lambda: browser.find(".code") or "expired" in browser.driver.title, "the code, or the link's end")
    return browser.find(".code") is None


def test_a_web_app_that_passes_the_page_through_names_a_page_of_its_own(browser, front_end, waportd, standin):
    standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    for asked, leads_to in {
        "/connect?user=2": f"{front_end.url}/connect?user=2",
        front_end.url: f"{front_end.url}/",
        "http://127.0.0.3:1/": None,
        "//127.0.0.3:1/": None,
        "javascript:alert(1)": None,
    }.items():
        query = urllib.parse.urlencode({"user": "1", "lang": "pt-BR", "return_to": asked})
        browser.open(f"{front_end.url}/connect?{query}")
        browser.see("WhatsApp conectado", "Conectado como Ana", "+55 11 99999-0001")
        found = browser.find("a.button")
        assert (found and found.get_attribute("href")) == leads_to, asked
        assert leads_to is None or found.text == "Voltar para o app"


def test_from_a_frame_the_way_back_leads_the_whole_window(browser, front_end, waportd, standin):
    standin.tell("scan", qr=waportd.show_code("1"), phone=PHONE, name="Ana")
    waportd.until_session("1", "ready")
    page = f"{front_end.url}/connect?user=1&lang=en&return_to=/connect?user=2"
    with embedding(page) as web_app:
        waportd.configure(api={"frame_ancestors": [web_app]})
        waportd.reload()
        try:
            browser.open(web_app)
            browser.driver.switch_to.frame(0)
            browser.press("Back to the app")
        finally:
            browser.driver.switch_to.default_content()
        until(lambda: browser.driver.current_url == f"{front_end.url}/connect?user=2", "the whole window")

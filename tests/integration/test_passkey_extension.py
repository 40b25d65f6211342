"""The browser extension in a full Chromium: who asks, the person decides, and only what they see is signed."""

import io
import json
import urllib.parse
import zipfile

import pytest
from harness import until
from person import CARD, Person, authenticator_data, client_data, some_site

from waportd import extension

PHONE = "5511999990001"
USER_VERIFIED = 4


@pytest.fixture(scope="module")
def person(standin):
    person = Person(standin)
    yield person
    person.close()


@pytest.fixture(scope="module")
def site():
    with some_site() as origin:
        yield origin


@pytest.fixture(autouse=True)
def page(person, site):
    """A page of some site; afterwards no request is open any more."""
    person.back()
    person.open(f"{site}/")
    until(lambda: person.run("return typeof byPort") == "function", "the page")
    yield
    person.only_page()


@pytest.fixture
def key(standin):
    return standin.tell("passkey-key", phone=PHONE)


@pytest.fixture
def options(key):
    return {
        "challenge": "AAECAwQFBgcICQoLDA0ODw",
        "rpId": "whatsapp.com",
        "allowCredentials": [{"type": "public-key", "id": key["credentialId"]}],
        "userVerification": "required",
        "timeout": 600_000,
        "extensions": {"prf": {"eval": {"first": "c2VjcmV0"}}},
    }


def ask(person, options, way="port", beat=0):
    person.back()
    if way == "port":
        person.run("byPort(...arguments)", options, beat)
    else:
        person.run("byMessage(...arguments)", "waha-passkey-sign", options)


def answer(person):
    """Return the next answer that the page gets."""
    person.back()
    return until(lambda: person.run("return answers.shift() ?? null"), "an answer")


def error(person):
    found = answer(person)
    assert set(found) == {"ok", "error"}
    assert found["ok"] is False
    return found["error"]


def answer_in_the_background(person, site):
    """Put another tab in front of the page, and leave it there until the page has an answer; return that.

    The page leaves it where the other tab finds it: who looks at a page brings it to the front.
    """
    person.run("""
        delete localStorage.answer;
        setInterval(() => answers.length && (localStorage.answer = JSON.stringify(answers.shift())), 100);
    """)
    person.driver.switch_to.new_window("tab")
    person.driver.get(f"{site}/")
    return json.loads(until(lambda: person.driver.execute_script("return localStorage.answer"), "an answer"))


@pytest.mark.parametrize("way", ["port", "message"])
def test_the_person_signs_for_whatsapp_and_the_page_gets_the_answer(person, site, key, options, way):
    ask(person, options, way)
    words = person.card()
    assert site in words
    assert "can read and send messages of your account" in words
    person.hold(key)
    person.press_card("Use my passkey")
    found = answer(person)
    assert found["ok"] is True
    assertion = found["assertion"]
    # Chromium adds members of its own now and then, so that nobody counts them.
    assert (
        client_data(assertion).items()
        >= {
            "type": "webauthn.get",
            "challenge": options["challenge"],
            "origin": "https://web.whatsapp.com",
            "crossOrigin": False,
        }.items()
    )
    assert assertion["id"] == assertion["rawId"] == key["credentialId"]
    assert assertion["type"] == "public-key"
    assert set(assertion["response"]) == {"clientDataJSON", "authenticatorData", "signature", "userHandle"}
    assert authenticator_data(assertion)[32] & USER_VERIFIED
    # The tab has done its work, and the page that asked is in front again.
    until(lambda: not person.tabs(), "the end of the tab")
    until(lambda: person.run("return document.visibilityState") == "visible", "a look at the page")


def test_no_secret_of_the_passkey_can_be_asked_for_beside_it(person, options):
    """The same passkey may guard other things, by what it computes from a salt (WebAuthn, "prf")."""
    ask(person, options)
    person.card()
    person.run("""
        navigator.credentials.get = ({ publicKey }) => {
            window.wish = { ...publicKey, challenge: new Uint8Array(publicKey.challenge).length };
            return new Promise(() => {});
        };
    """)
    person.press_card("Use my passkey")
    wish = until(lambda: person.run("return window.wish"), "what the browser is asked for")
    assert wish["challenge"] == 16
    assert not wish.get("extensions")
    person.driver.close()
    assert error(person) == "closed"


def test_whatsapps_own_page_does_not_run_on_the_cards_tab(person, standin, options):
    before = standin.see("pages")
    ask(person, options)
    person.card()
    assert person.driver.current_url == CARD
    assert person.run("return document.scripts.length + document.querySelectorAll('body').length") == 0
    assert person.run("return typeof window.require") == "undefined"
    assert standin.see("pages") == before
    person.press_card("Cancel")
    assert error(person) == "refused"


def test_clicks_that_a_script_makes_do_nothing(person, options):
    ask(person, options)
    person.card()
    x, y = until(lambda: person.place("Use my passkey", enabled=True), "a button that counts")
    # Of the page: it does not get at the button at all.
    assert (
        person.run(
            "const host = document.elementFromPoint(...arguments); host.click(); return host.shadowRoot", x, y
        )
        is None
    )
    # Of an extension that may look into closed roots (chrome.dom.openOrClosedShadowRoot).
    person.script_click("Use my passkey")
    assert "Answer what your browser asks" not in person.card()
    person.press_card("Cancel")
    assert error(person) == "refused"


def test_a_click_that_was_meant_for_what_was_there_before_does_not_count(person, options):
    ask(person, options)
    (tab,) = until(person.tabs, "the tab")
    person.driver.switch_to.window(tab)
    person.click(*until(lambda: person.place("Use my passkey"), "the button"))
    assert "Answer what your browser asks" not in person.card()
    person.press_card("Cancel")
    assert error(person) == "refused"


@pytest.mark.parametrize("way", ["port", "message"])
def test_the_person_closes_the_tab(person, options, way):
    ask(person, options, way)
    person.card()
    person.driver.close()
    assert error(person) == "closed"
    # And can be asked again.
    ask(person, options, way)
    person.card()
    person.press_card("Cancel")
    assert error(person) == "refused"


def test_the_browser_finds_no_passkey(person, key, options):
    ask(
        person, {**options, "allowCredentials": [{"type": "public-key", "id": "bm90aGluZw"}], "timeout": 2000}
    )
    person.card()
    person.hold(key)
    person.press_card("Use my passkey")
    assert error(person) == "not_allowed"


def test_a_page_that_goes_away_takes_its_request_along(person, site, options):
    ask(person, options)
    until(person.tabs, "the card")
    person.back()
    person.open(f"{site}/?again")
    until(lambda: not person.tabs(), "the end of the tab")
    ask(person, options)
    person.card()
    person.press_card("Cancel")
    assert error(person) == "refused"


def test_one_request_at_a_time(person, options):
    ask(person, options)
    until(person.tabs, "the card")
    ask(person, options)
    assert error(person) == "busy"
    assert len(person.tabs()) == 1
    ask(person, options, "message")
    assert error(person) == "busy"
    person.card()
    person.press_card("Cancel")
    assert error(person) == "refused"


@pytest.mark.parametrize("way", ["port", "message"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"rpId": "example.com"},
        {"rpId": "web.whatsapp.com"},
        {"rpId": None},
        {"challenge": ""},
        {"challenge": 7},
        {"challenge": "A" * 9000},
        {"allowCredentials": [{"type": "public-key", "id": "A" * 9000}]},
        None,
    ],
)
def test_what_is_no_wish_for_whatsapps_passkey_is_refused_without_a_tab(person, options, wrong, way):
    ask(person, wrong and {**options, **wrong}, way)
    assert error(person) == "bad_request"
    assert person.tabs() == []


def test_a_frame_is_refused(person, site, options):
    """Of whatever site: what is around it is what the person sees."""
    person.run(
        "const frame = document.body.appendChild(document.createElement('iframe')); frame.src = arguments[0];"
        " return new Promise((done) => frame.addEventListener('load', done)).then(() => true)",
        f"{site}/frame",
    )
    person.driver.switch_to.frame(0)
    for way in ("port", "message"):
        if way == "port":
            person.run("byPort(arguments[0])", options)
        else:
            person.run("byMessage('waha-passkey-sign', arguments[0])", options)
        found = until(lambda: person.run("return answers.shift() ?? null"), "an answer")
        assert found == {"ok": False, "error": "bad_request"}
    assert person.tabs() == []


WHEN_HIDDEN = """
    const whenHidden = (callback) => addEventListener('visibilitychange', function changed() {
        // The page may not have heard yet that it came to the front.
        if (document.visibilityState !== 'hidden') return;
        removeEventListener('visibilitychange', changed);
        callback();
    });
"""


def test_a_page_in_the_background_is_refused(person, site, options):
    person.run(f"{WHEN_HIDDEN} const [wish] = arguments; whenHidden(() => byPort(wish))", options)
    assert answer_in_the_background(person, site) == {"ok": False, "error": "bad_request"}


def test_a_port_from_when_the_page_was_in_front_is_of_no_use_in_the_background(person, site, options):
    ask(person, None)
    assert error(person) == "bad_request"
    person.run(
        f"{WHEN_HIDDEN} const [options] = arguments;"
        "whenHidden(() => port.postMessage({ type: 'sign', options }))",
        options,
    )
    assert answer_in_the_background(person, site) == {"ok": False, "error": "bad_request"}
    assert len(person.tabs()) == 1, "no tab but the one in front"


def test_it_says_that_it_is_there_and_takes_no_other_message(person):
    person.run("byMessage('waha-passkey-ping')")
    assert answer(person) == {"ok": True}
    person.run("byMessage('something else')")
    assert error(person) == "bad_request"


def test_whatsapp_itself_opens_where_nobody_asks(person):
    person.driver.switch_to.new_window("tab")
    person.driver.get(CARD)
    until(lambda: person.driver.current_url == "https://web.whatsapp.com/", "WhatsApp's own page")
    until(lambda: person.run("return document.scripts.length") > 0, "its scripts")


def test_it_speaks_portuguese(standin, site, options):
    person = Person(standin, language="pt-BR")
    try:
        person.open(f"{site}/")
        ask(person, options)
        assert "Quem pede é este site" in person.card()
        person.press_card("Cancelar")
        assert error(person) == "refused"
    finally:
        person.close()


def test_where_chromium_has_ended_the_worker_everybody_learns_it(person, options):
    """It does so with what it takes for idle or stuck. Both sides have no more than the end of a connection."""
    ask(person, options)
    person.card()
    person.command("ServiceWorker.enable")
    person.command("ServiceWorker.stopAllWorkers")
    person.back()
    assert answer(person) == "disconnected"
    person.card()
    person.press_card("Use my passkey")
    person.words("This request has ended.")
    # And it can be asked again, in a tab of its own.
    ask(person, options)
    until(lambda: len(person.tabs()) == 2, "another card")


@pytest.fixture
def firefox_build(tmp_path):
    """The archive for Firefox, as Chromium takes it, and with its button pressed on each page of this host."""
    with zipfile.ZipFile(io.BytesIO(extension.archive(extension.Browser.FIREFOX, extension.load()))) as file:
        file.extractall(tmp_path)
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["background"] = {"service_worker": manifest["background"]["scripts"][0]}
    manifest["content_scripts"].append({"matches": ["http://127.0.0.1/*"], "js": ["page.js"]})
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return tmp_path


def test_the_build_for_firefox_asks_the_page_and_brings_it_the_answer(
    standin, site, key, options, firefox_build
):
    person = Person(standin, extension=firefox_build)
    try:
        address = f"{site}/?{urllib.parse.urlencode({'wish': json.dumps(options)})}"
        person.open(address)
        assert site in person.card()
        person.hold(key)
        person.press_card("Use my passkey")
        found = answer(person)
        assert (found["source"], found["type"], found["ok"]) == ("waportd-passkey", "answer", True)
        assert client_data(found["assertion"])["challenge"] == options["challenge"]
        person.open(address)
        person.card()
        person.press_card("Cancel")
        assert answer(person) == {
            "source": "waportd-passkey",
            "type": "answer",
            "ok": False,
            "error": "refused",
        }
        # No page can begin it.
        assert person.run("return typeof globalThis.chrome?.runtime?.connect") == "undefined"
    finally:
        person.close()

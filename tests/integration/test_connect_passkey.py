"""What the connect page says and does at each step of a passkey, with every way that it can go."""

import base64
import hashlib
import json

import pytest
from browser import embedding, free_of_barriers
from harness import ROOT, until
from person import SITE, Person, authenticator_data, client_data
from played_daemon import ASKED, CREDENTIAL, EXTENSION, OPTIONS, OTHER, PlayedDaemon
from selenium.common.exceptions import JavascriptException

GIVEN = {"stage": "given", "options": None, "expires_at": "2100-01-01T00:00:00.000Z", "code": None}
CODE = {**GIVEN, "stage": "code", "code": "ABCD-EFGH"}
OPENING = {"stage": "opening", "options": None, "expires_at": None, "code": None}
FAILED = {"stage": "failed", "options": None, "expires_at": None, "code": None}
STEPS = {
    "opening": ("passkey_required", OPENING),
    "asked": ("passkey_required", ASKED),
    "given": ("pairing", GIVEN),
    "code": ("passkey_required", CODE),
    "failed": ("passkey_required", FAILED),
    "stuck": ("passkey_required", None),
}


@pytest.fixture
def daemon():
    daemon = PlayedDaemon()
    yield daemon
    daemon.close()


@pytest.fixture
def page(browser, daemon):
    """The connect page, and an extension that is not installed yet."""
    browser.look()
    browser.open("about:blank")
    script = browser.command("Page.addScriptToEvaluateOnNewDocument", source=EXTENSION)
    yield lambda lang="en": browser.open(f"{daemon.url}/connect?user=1&lang={lang}")
    browser.command("Page.removeScriptToEvaluateOnNewDocument", identifier=script["identifier"])
    browser.look()


@pytest.fixture
def with_extension(browser, page):
    installed = browser.command("Page.addScriptToEvaluateOnNewDocument", source="extension.install()")
    yield page
    browser.command("Page.removeScriptToEvaluateOnNewDocument", identifier=installed["identifier"])


def asks(daemon, challenge="Y2hhbGxlbmdl"):
    daemon.tell("passkey_required", {**ASKED, "options": {**OPTIONS, "challenge": challenge}})


def answer(browser, **what):
    """Have the extension answer what it was asked."""
    until(lambda: [one for one in heard(browser) if one["type"].endswith("sign")], "a request to sign")
    browser.run("extension.answer(arguments[0])", what)


def heard(browser):
    return browser.run("return extension.heard")


def test_a_passkey_is_signed_with_the_extension_and_compared(browser, daemon, with_extension):
    daemon.tell("passkey_required", OPENING)
    with_extension()
    browser.see("One more step: your passkey", "One moment", "Connect")
    told = browser.announcements()
    asks(daemon)
    browser.see("Only you can do that", "minutes left", daemon.url.removeprefix("http://"), "Linked devices")
    free_of_barriers(browser)
    assert not browser.find(".manual[open]")
    browser.press("Use my passkey")
    browser.see("Continue in the new tab")
    assert heard(browser)[-1] == {"id": "own", "name": "waportd-passkey", "type": "sign", "options": OPTIONS}
    answer(browser, ok=True, assertion=CREDENTIAL)
    assert daemon.until_asked("POST", "/passkey") == CREDENTIAL
    assert heard(browser)[-1]["type"] == "disconnect"
    daemon.tell("pairing", GIVEN)
    browser.see("Passkey received", "Keep WhatsApp open")
    # Who works by keyboard is taken along.
    assert browser.focused() == "Passkey received"
    daemon.tell("passkey_required", CODE)
    browser.see("Does your phone show this code?")
    assert browser.find(".letters").text.replace("\n", "") == "ABCD-EFGH"
    assert "A B C D E F G H" in browser.find(".letters").get_attribute("aria-label")
    browser.press("Yes, the same")
    assert daemon.until_asked("POST", "/passkey/confirm") == {"code": "ABCD-EFGH"}
    daemon.tell("ready")
    browser.see("WhatsApp is linked")
    # The minutes are nowhere read out, the steps are.
    assert [words for words in told() if "passkey" in words.lower() or "code" in words]
    assert not [words for words in told() if "minutes" in words]
    assert browser.complaints() == []


@pytest.mark.parametrize("lang", ["en", "pt-BR"])
def test_each_step_is_for_everybody(browser, daemon, page, lang):
    daemon.tell("generating")
    page(lang)
    for name, (state, passkey) in STEPS.items():
        daemon.tell(state, passkey)
        kind = "passkey" if name == "asked" else f"passkey-{name}"
        until(lambda kind=kind: browser.find(f"#view[data-kind={kind}]"), kind)
        if name == "asked":
            # The view is loaded when it is first wanted.
            until(lambda: browser.find("#view details"), "the details")
            browser.run("for (const one of document.querySelectorAll('details')) one.open = true")
        for look in ({}, {"width": 320, "height": 640}):
            browser.look(**look)
            # Other words are no other barriers.
            if lang == "en":
                free_of_barriers(browser, **look)
            assert browser.overflow() <= 0, (name, look)
        # Of a computer, whose user has enlarged everything.
        browser.command("Emulation.setTouchEmulationEnabled", enabled=False)
        if name == "asked":
            until(lambda: browser.find(".snippet"), "the way by hand")
        assert browser.overflow() <= 0, name
        browser.look()
    assert browser.complaints() == []


def test_what_goes_wrong_in_the_extension_is_reported_and_can_be_tried_again(browser, daemon, with_extension):
    asks(daemon)
    with_extension()
    words = {
        "refused": "You said no in the extension",
        "closed": "The tab was closed",
        "busy": "still busy with another request",
        "not_allowed": "The browser got no passkey",
        "bad_request": "does not understand this request",
        "failed": "could not sign",
        "something of its own": "could not sign",
    }
    for error, said in words.items():
        browser.press("Use my passkey")
        answer(browser, ok=False, error=error)
        browser.see(said)
    assert browser.find(".problem[role=alert]")
    free_of_barriers(browser)
    # The channel closes: the browser ended the extension's worker, or it was removed.
    browser.press("Use my passkey")
    browser.run("extension.close()")
    browser.see("The tab was closed")
    browser.press("Use my passkey")
    answer(browser, ok=True, assertion=CREDENTIAL)
    assert daemon.until_asked("POST", "/passkey") == CREDENTIAL


def test_what_the_daemon_refuses_is_reported_in_plain_words(browser, daemon, with_extension):
    asks(daemon)
    with_extension()
    refusals = {
        (400, "passkey_malformed"): "answer is incomplete",
        (400, "passkey_wrong_origin"): "not signed on web.whatsapp.com",
        (400, "passkey_wrong_challenge"): "an older request",
        (400, "passkey_wrong_type"): "not a sign-in with a passkey",
        (400, "passkey_wrong_site"): "another site",
        (400, "passkey_not_verified"): "fingerprint, face or PIN",
        (400, "passkey_not_allowed"): "does not belong to this account",
        (403, "link_expired"): "Go back to where you came from",
        (409, "no_passkey_request"): "no longer waiting for a passkey",
        (409, "passkey_given"): "given already",
        (413, "too_large"): "too long",
        (429, "too_many_requests", 17): "Please wait 17 s",
        (502, "server_failed"): "could not be sent",
    }
    for refusal, said in refusals.items():
        daemon.refusals["POST", "/passkey"] = refusal
        browser.press("Use my passkey")
        answer(browser, ok=True, assertion=CREDENTIAL)
        browser.see(said)
    # What did not get through is sent again, not signed again.
    daemon.refusals["POST", "/passkey"] = (503, "restarting")
    browser.press("Use my passkey")
    answer(browser, ok=True, assertion=CREDENTIAL)
    browser.see("The server does not answer")
    signed = len(heard(browser))
    daemon.refusals.clear()
    browser.press("Use my passkey")
    daemon.until_asked("POST", "/passkey", len(refusals) + 2)
    assert len(heard(browser)) == signed


def test_an_extension_is_offered_and_noticed_when_it_is_there(browser, daemon, page):
    daemon.extensions.append(OTHER)
    daemon.tell("qr", qr="2@code", expires_at="2100-01-01T00:00:00.000Z", attempt=1)
    page()
    # Before the scan: one line, and more for who asks.
    browser.see("Link your WhatsApp", "Prepare this browser first")
    assert browser.find(".way") is None
    free_of_barriers(browser)
    asks(daemon)
    browser.see("needs a small browser extension", "Load unpacked", "Another extension, from store.example")
    assert browser.find("a[download][href='assets/passkey-extension.zip']")
    browser.run("document.querySelector('.ways a').focus()")
    browser.run("extension.id = 'other'; extension.install()")
    browser.see("Use my passkey")
    assert browser.find("a[download]") is None
    assert browser.focused() == "Use my passkey"
    browser.press("Use my passkey")
    assert heard(browser)[-1] == {"id": "other", "type": "waha-passkey-sign", "challenge": OPTIONS}
    answer(browser, ok=True, assertion=CREDENTIAL)
    assert daemon.until_asked("POST", "/passkey") == CREDENTIAL
    # Removed again, while nobody looked.
    daemon.tell("pairing", GIVEN)
    browser.see("Passkey received")
    asks(daemon, "bmV3")
    browser.see("Use my passkey")
    browser.run("extension.remove()")
    browser.press("Use my passkey")
    browser.see("The tab was closed", "needs a small browser extension")


def test_in_firefox_the_extensions_own_button_begins(browser, daemon, page):
    """By what the page and the extension's script say to each other; Firefox itself is not there."""
    firefox = browser.command(
        "Page.addScriptToEvaluateOnNewDocument",
        source="""
            CSS.supports = (name) => name === '-moz-appearance';
            window.told = [];
            const isTheirs = ({ data }) => data.source === 'waportd-connect';
            addEventListener('message', (event) => isTheirs(event) && told.push(event.data));
            window.say = (what) => postMessage({ source: 'waportd-passkey', ...what }, location.origin);
        """,
    )

    def told():
        browser.run("say({ type: 'ask' })")
        return until(lambda: browser.run("return told.pop()"), "the page's answer")["options"]

    daemon.extensions[0]["firefox"] = "assets/passkey-extension-firefox.zip"
    daemon.extensions.append(OTHER)
    asks(daemon)
    try:
        page()
        browser.see("Load Temporary Add-on", "press its button in the toolbar")
        assert "chrome://extensions" not in browser.find("body").text
        # One that is for Chromium only is of no use here.
        assert "store.example" not in browser.find("body").text
        assert told() == OPTIONS
        browser.run("say({ type: 'answer', ok: false, error: 'refused' })")
        browser.see("You said no in the extension")
        browser.run("say({ type: 'answer', ok: true, assertion: arguments[0] })", CREDENTIAL)
        assert daemon.until_asked("POST", "/passkey") == CREDENTIAL
        daemon.tell("pairing", GIVEN)
        browser.see("Passkey received")
        assert told() is None
        browser.run("say({ type: 'answer', ok: true, assertion: arguments[0] })", CREDENTIAL)
        # What another page says is not heard.
        browser.run("""
            const frame = document.createElement('iframe');
            document.body.append(frame);
            window.dispatchEvent(new MessageEvent('message', {
                data: { source: 'waportd-passkey', type: 'ask' }, origin: location.origin, source: frame.contentWindow,
            }));
        """)
        assert told() is None
        assert browser.run("return told.length") == 0
        assert len([one for one in daemon.asked if one[1] == "/passkey"]) == 1
    finally:
        browser.command("Page.removeScriptToEvaluateOnNewDocument", identifier=firefox["identifier"])


def test_without_an_extension_there_is_a_script(browser, daemon, page):
    daemon.extensions.clear()
    asks(daemon)
    page()
    browser.see("no extension for this step", "Without an extension")
    assert browser.find(".snippet") is None
    browser.run("document.querySelector('.manual summary').click()")
    browser.see("Never paste code that somebody sent you")
    script = until(lambda: browser.run("return document.querySelector('.snippet').value"), "the script")
    assert json.dumps(OPTIONS, separators=(",", ":")) in script
    free_of_barriers(browser)
    browser.press("Copy the script")
    text = base64.urlsafe_b64encode(json.dumps(CREDENTIAL).encode()).decode().rstrip("=")
    browser.type(text[:-9], into="#result")
    browser.press("Send")
    browser.see("result is incomplete")
    assert browser.focused() == "result"
    assert browser.find("#result[aria-invalid=true]")
    free_of_barriers(browser)
    daemon.refusals["POST", "/passkey"] = (400, "passkey_wrong_challenge")
    browser.type(text, into="#result")
    browser.press("Send")
    browser.see("an older request")
    del daemon.refusals["POST", "/passkey"]
    browser.type(json.dumps(CREDENTIAL), into="#result")
    browser.press("Send")
    assert daemon.until_asked("POST", "/passkey", 2) == CREDENTIAL
    # Another request has another script.
    asks(daemon, "bmV3")
    until(lambda: '"bmV3"' in browser.run("return document.querySelector('.snippet').value"), "another")
    # Chromium writes down what was refused, with its path.
    assert [one for one in browser.complaints() if "400 (Bad Request)" not in one] == []


def test_on_a_phone_it_is_said_that_a_computer_is_needed(browser, daemon, page):
    browser.look(width=390, height=800)
    daemon.tell("qr", qr="2@code", expires_at="2100-01-01T00:00:00.000Z", attempt=1)
    page()
    browser.see("You may need a computer for the last step")
    browser.press("Scan a QR code instead")
    browser.run("""
        window.shared = [];
        navigator.share = async (what) => window.shared.push(what.url);
    """)
    daemon.tell("qr", qr="2@next", expires_at="2100-01-01T00:00:00.000Z", attempt=2)
    browser.see("Code 2 of 5")
    asks(daemon)
    browser.see("This step needs a computer", "Bluetooth")
    assert "Without an extension" not in browser.find("body").text
    browser.press("Send the link")
    until(lambda: browser.run("return window.shared"), "the link")
    assert browser.run("return window.shared[0] === location.href")
    # Where a page may not, the link itself is shown.
    browser.run("""
        navigator.share = async () => { throw new DOMException('no', 'NotAllowedError'); };
        navigator.clipboard.writeText = async () => { throw new DOMException('no', 'NotAllowedError'); };
    """)
    browser.press("Send the link")
    field = until(lambda: browser.find("input[readonly]"), "the link")
    assert field.get_attribute("value") == browser.driver.current_url


def test_another_request_ends_the_one_before(browser, daemon, with_extension):
    asks(daemon)
    with_extension()
    browser.press("Use my passkey")
    browser.see("Continue in the new tab")
    asks(daemon, "bmV3")
    browser.see("WhatsApp asks again", "Use my passkey")
    assert heard(browser)[-1]["type"] == "disconnect"
    # An answer that comes late is not handed on.
    browser.run("extension.answer(arguments[0])", {"ok": True, "assertion": CREDENTIAL})
    browser.press("Use my passkey")
    assert heard(browser)[-1]["options"]["challenge"] == "bmV3"
    # The answer came from another device: this page lets go.
    daemon.tell("pairing", GIVEN)
    browser.see("Passkey received")
    assert heard(browser)[-1]["type"] == "disconnect"
    assert not [one for one in daemon.asked if one[1] == "/passkey"]


def test_who_stops_gets_a_new_code(browser, daemon, with_extension):
    daemon.tell("passkey_required", CODE)
    with_extension()
    daemon.refusals["POST", "/passkey/confirm"] = (409, "passkey_code_changed")
    browser.press("Yes, the same")
    browser.see("The code has changed")
    daemon.tell("passkey_required", {**CODE, "code": "JKLM-NPQR"})
    until(lambda: "JKLM" in browser.find(".letters").text.replace("\n", ""), "the other code")
    browser.press("No, stop")
    daemon.until_asked("DELETE", "/passkey")
    for step, label, count in [
        ("asked", "Stop", 2),
        ("given", "Start over with a new code", 3),
        ("failed", "Start over with a new code", 4),
        ("opening", "Start over with a new code", 5),
    ]:
        daemon.tell(*STEPS[step])
        browser.press(label)
        daemon.until_asked("DELETE", "/passkey", count)
    daemon.tell(*STEPS["failed"])
    puts = len([one for one in daemon.asked if one[0] == "PUT"])
    browser.press("Try again")
    daemon.until_asked("PUT", "", puts + 1)
    # It has ended meanwhile: a code is asked for.
    daemon.refusals["DELETE", "/passkey"] = (409, "no_passkey_request")
    browser.press("Start over with a new code")
    daemon.until_asked("PUT", "", puts + 2)
    daemon.tell("passkey_required", None, message="m", cause="passkey_button_missing")
    browser.see("WhatsApp has changed", "Details for the administrator")
    browser.press("Show a new code")
    daemon.until_asked("PUT", "", puts + 3)
    # After several tries codes begin again: why is not left to be guessed.
    daemon.tell("generating", cause="passkey_failed", message="m")
    browser.see("WhatsApp did not accept the passkey", "Several tries")


def test_in_a_frame_the_step_has_a_tab_of_its_own(browser, daemon, with_extension):
    assert with_extension
    page = f"{daemon.url}/connect?user=1&lang=en"
    asks(daemon)
    with embedding(page) as web_app:
        try:
            browser.open(web_app)
            browser.driver.switch_to.frame(0)
            browser.see("a tab of its own")
            link = browser.find(".ways a[target=_blank]")
            assert link.get_attribute("href") == page
            assert "Use my passkey" not in browser.find("body").text
        finally:
            browser.driver.switch_to.default_content()


@pytest.fixture
def person(standin):
    person = Person(standin, extension=False)
    yield person
    person.close()


def test_the_script_signs_in_the_console_of_whatsapp(person, standin):
    key = standin.tell("passkey-key", phone="5511999990001")
    allowed = [{"type": "public-key", "id": key["credentialId"]}]
    options = {**OPTIONS, "allowCredentials": allowed, "userVerification": "required"}
    script = (ROOT / "waportd/web/snippet.js").read_text(encoding="utf-8")
    script = script.replace(
        "__OPTIONS__", json.dumps({**options, "extensions": {"prf": {"eval": {"first": "AA"}}}})
    )
    person.open("about:blank")
    # Elsewhere it does nothing.
    with pytest.raises(JavascriptException, match="first"):
        person.run(script)
    person.open(SITE)
    person.hold(key)
    person.run(script)
    person.press("Use my passkey", within="dialog")
    text = until(lambda: person.find("dialog textarea"), "the result").get_attribute("value")
    credential = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    said = client_data(credential)
    assert (said["type"], said["challenge"], said["origin"]) == ("webauthn.get", OPTIONS["challenge"], SITE)
    assert credential["id"] == key["credentialId"]
    assert authenticator_data(credential)[:32] == hashlib.sha256(b"whatsapp.com").digest()
    # No secret of the passkey is asked for.
    assert credential["clientExtensionResults"] == {}
    person.press("Copy", within="dialog")
    person.miss("dialog")

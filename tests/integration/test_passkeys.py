"""An account with a passkey is linked: server, daemon, connect page, extension and the person's own browser together.

The stand-in verifies what was signed. The person's passkey lies in a virtual authenticator of a full Chromium.
"""

import re
import time
import urllib.parse

import pytest
from harness import until
from person import SITE, Person

PHONE = "5511999990001"
SOON = 3.0
"""Seconds from the person's last click to a session that is ready."""


@pytest.fixture(scope="module")
def person(standin):
    person = Person(standin)
    yield person
    person.close()


@pytest.fixture(autouse=True)
def one_tab(person):
    """Leave the next test the page's tab alone."""
    yield
    person.only_page()


@pytest.fixture
def key(standin):
    return standin.tell("passkey-key", phone=PHONE)


def address(front_end, user="1"):
    return f"{front_end.url}/connect?{urllib.parse.urlencode({'user': user, 'lang': 'en'})}"


def asked(person, front_end, waportd, standin, **wish):
    """Scan the code on the connect page, so that WhatsApp asks for the passkey."""
    standin.tell("passkey", **wish)
    person.open(address(front_end))
    code = until(lambda: (read := person.code()) and read == waportd.qr("1")["qr"] and read, "the code")
    standin.tell("scan", qr=code, phone=PHONE, name="Ana")
    person.see("One more step: your passkey")
    return until(
        lambda: waportd.ask("GET", "/v1/users/1/passkey").json.get("options"), "what is to be signed"
    )


def begin(person, key):
    """Press the button of the connect page; return what the card says."""
    person.press("Use my passkey")
    words = person.card()
    person.hold(key)
    return words


def ready(waportd, click):
    waportd.until_session("1", "ready")
    taken = time.monotonic() - click
    print(f"{taken:.2f} s from the click until ready")  # noqa: T201  # shown with -rP
    assert taken < SOON


def test_who_scans_and_uses_the_passkey_is_linked_within_seconds(person, front_end, waportd, standin, key):
    options = asked(person, front_end, waportd, standin)
    assert front_end.url in begin(person, key)
    click = person.press_card("Use my passkey")
    ready(waportd, click)
    person.back()
    person.see("WhatsApp is linked", "Linked as Ana")
    assert person.tabs() == []
    assert person.complaints() == []
    # What was signed, and with what, is written down nowhere.
    port = waportd.user("1")["port"]
    written = waportd.journal("waportd.service") + waportd.journal(f"whatsapp@{port}.service")
    assert "passkey" in written
    assert options["challenge"] not in written
    assert key["credentialId"] not in written
    assert waportd.ask("GET", "/v1/users/1/passkey").status == 409


def test_who_types_a_code_and_uses_the_passkey_is_linked(person, front_end, waportd, standin, key):
    standin.tell("passkey")
    person.open(address(front_end))
    person.press("Link with phone number instead")
    person.type("+55 11 99999-0001", into="#phone")
    person.press("Get a code")
    person.see("Type this code on your phone", "Valid for")
    letters = person.find(".letters").text
    standin.tell("pair", code=re.sub(r"\W", "", letters), phone=PHONE, name="Ana")
    person.see("One more step: your passkey", "Use my passkey")
    begin(person, key)
    ready(waportd, person.press_card("Use my passkey"))


def test_letters_are_compared_by_the_person(person, front_end, waportd, standin, key):
    asked(person, front_end, waportd, standin, compare=True)
    begin(person, key)
    person.press_card("Use my passkey")
    person.back()
    person.see("Does your phone show this code?")
    assert waportd.user("1")["session"]["state"] == "passkey_required"
    click = time.monotonic()
    person.press("Yes, the same")
    ready(waportd, click)


def test_who_closes_cancels_and_loads_the_page_again_is_asked_until_it_is_done(
    person, front_end, waportd, standin, key
):
    options = asked(person, front_end, waportd, standin)
    person.press("Use my passkey")
    person.card()
    person.driver.close()
    person.back()
    person.see("The tab was closed before anything was signed")
    person.press("Use my passkey")
    person.card()
    person.press_card("Cancel")
    person.back()
    person.see("Nothing was signed")
    person.press("Use my passkey")
    person.card()
    person.back()
    person.open(address(front_end))
    until(lambda: not person.tabs(), "the end of the card")
    # Nothing of it has cost the request.
    assert waportd.call("GET", "/v1/users/1/passkey")["options"] == options
    begin(person, key)
    ready(waportd, person.press_card("Use my passkey"))


def test_who_stops_gets_codes_again(person, front_end, waportd, standin):
    asked(person, front_end, waportd, standin)
    person.press("Use my passkey")
    person.card()
    person.back()
    person.press("Stop")
    until(lambda: not person.tabs(), "the end of the card")
    until(lambda: (read := person.code()) and read == waportd.qr("1")["qr"], "the next code on the screen")


def test_a_passkey_of_another_account_is_not_taken_and_the_right_one_still_is(
    person, front_end, waportd, standin, key
):
    options = asked(person, front_end, waportd, standin)
    other = standin.tell("passkey-key", phone="5511999990002")
    # The same place, another key: the browser signs, and WhatsApp does not believe it.
    begin(person, {**other, "credentialId": key["credentialId"]})
    person.press_card("Use my passkey")
    anew = until(
        lambda: (
            (said := waportd.ask("GET", "/v1/users/1/passkey").json).get("options") not in (None, options)
            and said["options"]
        ),
        "another challenge",
    )
    assert anew["challenge"] != options["challenge"]
    assert waportd.user("1")["session"]["state"] == "passkey_required"
    person.back()
    begin(person, key)
    ready(waportd, person.press_card("Use my passkey"))


def test_another_computer_continues(person, front_end, waportd, standin, key):
    """With the script for the console there: it has no extension."""
    asked(person, front_end, waportd, standin)
    elsewhere = Person(standin, extension=None)
    try:
        elsewhere.open(address(front_end))
        elsewhere.see("One more step: your passkey", "Without an extension")
        elsewhere.run("document.querySelector('details.manual').open = true")
        script = until(
            lambda: elsewhere.run("return document.querySelector('textarea.snippet').value"), "the script"
        )
        elsewhere.driver.switch_to.new_window("tab")
        elsewhere.driver.get(SITE)
        elsewhere.hold(key)
        elsewhere.command("Runtime.evaluate", expression=script)
        elsewhere.press("Use my passkey", within="dialog")
        result = until(
            lambda: elsewhere.run("return document.querySelector('dialog textarea')?.value"), "a result"
        )
        elsewhere.back()
        elsewhere.run("document.querySelector('#result').value = arguments[0]", result)
        click = time.monotonic()
        elsewhere.press("Send")
        ready(waportd, click)
        elsewhere.see("WhatsApp is linked")
        person.see("WhatsApp is linked")
    finally:
        elsewhere.close()


@pytest.mark.thorough
def test_who_takes_longer_than_chromium_lets_an_extension_rest_is_waited_for(
    person, front_end, waportd, standin, key
):
    """Its worker ends after 30 s without a message, a message without an answer after six minutes."""
    asked(person, front_end, waportd, standin)
    begin(person, key)
    time.sleep(400)
    ready(waportd, person.press_card("Use my passkey"))

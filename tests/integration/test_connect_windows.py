"""Two windows with the connect page of one user: each says what the other one did, and takes nothing unasked."""

import pytest
from browser import Browser, free_of_barriers
from harness import until
from selenium.webdriver.common.keys import Keys
from test_connect_page import PHONE, open_page, shown_code


@pytest.fixture(scope="module")
def another_browser():
    """A second one, since a window that nobody sees follows nothing."""
    browser = Browser()
    yield browser
    browser.close()


@pytest.fixture
def other(another_browser):
    yield another_browser
    another_browser.open("about:blank")


def letters(window):
    return window.find(".letters:not(.empty)").text.replace("\n", "")


def test_a_window_whose_code_gives_way_says_so_and_takes_it_back_on_purpose(
    browser, other, front_end, waportd, standin
):
    open_page(browser, front_end)
    shown_code(browser, waportd)
    said = browser.announcements()
    open_page(other, front_end)
    shown_code(other, waportd)
    other.press("Link with phone number instead")
    other.type(f"+{PHONE}", Keys.ENTER, into="#phone")
    other.see("Type this code on your phone")
    code = letters(other)
    # The first window says what happened, and does not show the code.
    browser.see("A code for a phone number was requested", "shown in the window that requested it")
    assert any("A code for a phone number was requested" in words for words in said())
    assert browser.find(".letters") is None
    assert code not in browser.driver.page_source
    for look in ({}, {"width": 320, "height": 640}):
        free_of_barriers(browser, **look)
        assert browser.overflow() <= 0, look
    browser.look()
    # For the same number it is the same code, and neither window takes it from the other.
    browser.run("document.querySelectorAll('.actions button')[1].focus()")
    browser.type(Keys.ENTER)
    browser.see("Link with your phone number", "A code for another number takes its place")
    assert browser.focused() == "Link with your phone number"
    browser.type(f"+{PHONE}", Keys.ENTER, into="#phone")
    browser.see("Type this code on your phone")
    assert letters(browser) == letters(other) == code
    # The way back to the camera is a decision, and the other window says that it has lost its code.
    browser.press("Scan a QR code instead")
    shown_code(browser, waportd)
    assert browser.find("#notice") is None
    other.see("The code that was shown here no longer works")
    free_of_barriers(other)
    assert code not in other.driver.page_source
    # Nobody asked again for it: a QR code stays in the one, the form in the other.
    other.see("Your WhatsApp phone number")
    standin.tell("scan", qr=shown_code(browser, waportd), phone=PHONE, name="Ana")
    for window in (browser, other):
        window.see("WhatsApp is linked", "Linked as Ana")
        assert window.find("#notice") is None
        assert window.complaints() == []


def test_a_page_that_is_loaded_again_asks_for_nothing_and_gets_its_code_for_the_same_number(
    browser, front_end, waportd, standin
):
    browser.look(width=390, height=844)
    open_page(browser, front_end, lang="pt-BR")
    browser.type(f"+{PHONE}", Keys.ENTER, into="#phone")
    browser.see("Digite este código no celular")
    code = letters(browser)
    browser.driver.refresh()
    browser.see("Já foi pedido um código por número de telefone", "Receber um código aqui")
    free_of_barriers(browser, width=390, height=844)
    browser.press("Receber um código aqui")
    browser.type(f"+{PHONE}", Keys.ENTER, into="#phone")
    browser.see("Digite este código no celular")
    assert letters(browser) == code
    standin.tell("pair", code=code.replace("-", ""), phone=PHONE, name="Ana")
    browser.see("WhatsApp conectado")
    browser.look()


def test_nothing_that_happens_elsewhere_takes_the_form_from_who_types(browser, other, front_end, waportd):
    open_page(browser, front_end)
    shown_code(browser, waportd)
    browser.press("Link with phone number instead")
    browser.type("+55 11 9", into="#phone")
    open_page(other, front_end)
    other.press("Link with phone number instead")
    other.type(f"+{PHONE}", Keys.ENTER, into="#phone")
    other.see("Type this code on your phone")
    browser.see("A code was requested already")
    assert browser.focused() == "phone"
    assert browser.find("#phone").get_attribute("value") == "+55 11 9"
    until(lambda: waportd.qr("1")["status"] == "pairing", "the code")

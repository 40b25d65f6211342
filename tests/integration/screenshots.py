"""Write the pictures of docs/images: the pages of a real daemon whose phones are the stand-in's."""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from browser import Browser, Proxy
from harness import ROOT, StandIn, Waportd, until

IMAGES = ROOT / "docs/images"
EXTENSION = (ROOT / "tests/integration/played_extension.js").read_text(encoding="utf-8")
PEOPLE = {
    "1": ("5511999990001", "Ana Souza"),
    "2": ("5521999990002", "Caio Lima"),
    "4": ("5531999990004", "Marina Alves"),
    "5": ("5511999990005", "Padaria Rocha"),
    "7": ("5541999990007", "João Pires"),
}


def main():
    with tempfile.TemporaryDirectory() as folder:
        standin = StandIn(Path(folder) / "standin")
        waportd = Waportd(Path(folder), standin)
        try:
            waportd.configure(limits={"min_available_memory": "64M"})
            waportd.start()
            browser = Browser()
            proxy = Proxy(waportd.socket)
            try:
                fill(waportd, standin)
                take(browser, proxy, waportd, standin)
            finally:
                proxy.close()
                browser.close()
        finally:
            waportd.stop()
            standin.close()


def fill(waportd, standin):
    """Have users in most of the states that there are."""
    for user, (phone, name) in PEOPLE.items():
        standin.tell("scan", qr=waportd.show_code(user), phone=phone, name=name)
        waportd.until_session(user, "ready")
    standin.tell("passkey")
    standin.tell("scan", qr=waportd.show_code("6"), phone="5551999990006", name="Bia")
    waportd.until_session("6", "passkey_required")
    until(lambda: waportd.qr("6")["passkey"]["options"], "what is to be signed")
    standin.tell("passkey", on=False)
    waportd.call("POST", "/v1/users/4/stop")
    waportd.call("PUT", "/v1/users/8?wait=listening", 201)
    waportd.call("POST", "/v1/users/8/stop")
    waportd.show_code("3")


def take(browser, proxy, waportd, standin):
    connect = f"{proxy.url}/connect?user="
    browser.look(width=960, height=600)
    browser.open(f"{connect}3&lang=en")
    until(browser.code, "a code")
    write(browser, "connect.png")
    browser.look(width=390, height=800, theme="dark")
    browser.open(f"{connect}9&lang=pt-BR")
    browser.see("Seu número de telefone do WhatsApp")
    write(browser, "connect-phone-dark.png")
    browser.open(f"{connect}6&lang=pt-BR")
    browser.see("você precisa de um computador")
    write(browser, "connect-passkey-phone-dark.png")
    [own] = waportd.call("GET", "/assets/passkey-extensions.json")["extensions"]
    script = f"{EXTENSION}; extension.id = '{own['id']}'; extension.install()"
    browser.command("Page.addScriptToEvaluateOnNewDocument", source=script)
    browser.look(width=960, height=640)
    browser.open(f"{connect}6&lang=en")
    browser.see("Use my passkey")
    write(browser, "connect-passkey.png")
    browser.look(width=1280, height=560)
    browser.open(proxy.url)
    # The second measurement shows how busy the processor is.
    browser.see("%", "MB", within='.rows .row[data-user="1"]')
    write(browser, "dashboard.png")
    browser.look(width=1280, height=760, theme="dark")
    browser.open(f"{proxy.url}/#6")
    browser.see("passkey", within=".log")
    browser.see("%", within="#panel")
    write(browser, "dashboard-dark.png")


def write(browser, name):
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / name).write_bytes(browser.picture())


main()

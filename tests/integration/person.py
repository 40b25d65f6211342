"""A person with a passkey: a full Chromium with the extension, an authenticator, and hands that press its card."""

import base64
import contextlib
import http.server
import json
import threading
import time
from pathlib import Path

from browser import Browser
from harness import PATIENCE, ROOT, until
from selenium.common.exceptions import NoSuchWindowException, WebDriverException

EXTENSION = ROOT / "extension"
SITE = "https://web.whatsapp.com"
CARD = f"{SITE}/#linking-helper"


class Person(Browser):
    """Their browser, to which web.whatsapp.com is the stand-in."""

    def __init__(self, standin, *, extension: Path | None = EXTENSION, language="en-US"):
        rules, trust = standin.browser_args
        arguments = [rules, trust, f"--lang={language}"]
        if extension:
            arguments += [
                f"--load-extension={extension}",
                "--disable-features=DisableLoadExtensionCommandLineSwitch",
            ]
        super().__init__(*arguments)
        self.page = self.driver.current_window_handle

    def tabs(self):
        """Return the tabs beside the one with the page."""
        return [handle for handle in self.driver.window_handles if handle != self.page]

    def only_page(self):
        """Close all other tabs."""
        for tab in self.tabs():
            with contextlib.suppress(NoSuchWindowException):
                self.driver.switch_to.window(tab)
                self.driver.close()
        self.back()

    def back(self):
        """Look at the page that asks again."""
        self.driver.switch_to.window(self.page)

    def card(self):
        """Look at the extension's card; return its words."""
        (tab,) = until(self.tabs, "a tab with the card")
        self.driver.switch_to.window(tab)
        return until(self._words, "words on the card")

    def words(self, text):
        """Wait until the card says so."""
        until(lambda: text in self._words(), f"{text!r} on the card")

    def press_card(self, label):
        """Press a button of the card as a hand does, as soon as it counts; return when that was."""
        place = until(lambda: self.place(label, enabled=True), f"a button {label!r} that counts")
        began = time.monotonic()
        self.click(*place)
        return began

    def click(self, x, y):
        for kind in ("mousePressed", "mouseReleased"):
            # The press may close the tab.
            with contextlib.suppress(WebDriverException):
                self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def place(self, label, *, enabled=False):
        """Return where a button is; with `enabled`, once it counts."""
        node = self._button(label, enabled=enabled)
        if node is None:
            return None
        box = self.command("DOM.getBoxModel", nodeId=node["nodeId"])["model"]["content"]
        return sum(box[0::2]) / 4, sum(box[1::2]) / 4

    def script_click(self, label):
        """Click a button as a script does that gets at it."""
        found = self.command("DOM.resolveNode", nodeId=self._button(label)["nodeId"])["object"]
        click = "function () { this.click(); }"
        self.command("Runtime.callFunctionOn", objectId=found["objectId"], functionDeclaration=click)

    def hold(self, key, *, verified=True):
        """Have a phone's passkey at hand in this tab."""
        self.command("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "ctap2Version": "ctap2_1",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": verified,
        }
        authenticator = self.command("WebAuthn.addVirtualAuthenticator", options=options)["authenticatorId"]
        credential = {
            "credentialId": base64.b64encode(_bytes(key["credentialId"])).decode(),
            "privateKey": key["privateKey"],
            "rpId": key["rpId"],
            "isResidentCredential": True,
            "signCount": 0,
            "userHandle": "AQ==",
        }
        self.command("WebAuthn.addCredential", authenticatorId=authenticator, credential=credential)

    def _nodes(self):
        def walk(node):
            yield node
            for below in [*node.get("children", ()), *node.get("shadowRoots", ())]:
                yield from walk(below)

        try:
            return list(walk(self.command("DOM.getDocument", depth=-1, pierce=True)["root"]))
        except WebDriverException:  # between two documents
            return []

    def _words(self):
        return "\n".join(node["nodeValue"] for node in self._nodes() if node["nodeName"] == "#text")

    def _button(self, label, *, enabled=True):
        for node in self._nodes():
            texts = [below.get("nodeValue") for below in node.get("children", ())]
            if node["nodeName"] != "BUTTON" or texts != [label]:
                continue
            if enabled and "disabled" in node["attributes"]:
                continue
            return node
        return None


def _bytes(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def client_data(assertion):
    """Return what the browser says about itself in an answer."""
    return json.loads(_bytes(assertion["response"]["clientDataJSON"]))


def authenticator_data(assertion):
    return _bytes(assertion["response"]["authenticatorData"])


PAGE = b"""<!doctype html><title>asks</title><h1>Some page</h1><script>
const ID = 'kalbcnghdgggihibinicfagbnflkacmp';
let port = null;
const answers = [];
const byPort = (options, beat = 0) => {
    port = chrome.runtime.connect(ID, { name: 'waportd-passkey' });
    port.onMessage.addListener((answer) => answers.push(answer));
    port.onDisconnect.addListener(() => answers.push('disconnected'));
    port.postMessage({ type: 'sign', options });
    if (beat) setInterval(() => port.postMessage({ type: 'beat' }), beat);
};
const byMessage = (type, challenge) => chrome.runtime.sendMessage(ID, { type, challenge }, (answer) => {
    answers.push(answer ?? String(chrome.runtime.lastError?.message));
});
// As the connect page answers the button of the build for Firefox.
addEventListener('message', ({ source, data }) => {
    if (source !== window || data?.source !== 'waportd-passkey') return;
    const options = JSON.parse(new URLSearchParams(location.search).get('wish'));
    if (data.type !== 'ask') answers.push(data);
    else postMessage({ source: 'waportd-connect', type: 'passkey', options }, location.origin);
});
</script>"""


class _Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def some_site():
    """Serve a page that asks the extension, on an origin of its own; yield that."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(PATIENCE)
    server.server_close()

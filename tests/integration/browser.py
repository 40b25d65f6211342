"""A person's browser: a headless Chromium that looks at the pages, and what its pictures show."""

import base64
import contextlib
import http.server
import os
import re
import socket
import socketserver
import subprocess
import threading

from harness import PATIENCE, ROOT, until
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
    WebDriverException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

AXE = ROOT / "node_modules/axe-core/axe.min.js"


class Proxy(socketserver.ThreadingTCPServer):
    """Leads a port of loopback to the daemon's unix socket: a browser cannot open one."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, path):
        self._path = str(path)
        self._open = set()
        self._cut = False
        super().__init__(("127.0.0.1", 0), None)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def finish_request(self, request, client_address):
        if self._cut:
            return
        with socket.socket(socket.AF_UNIX) as there:
            ends = {request, there}
            self._open |= ends
            try:
                there.connect(self._path)
                back = threading.Thread(target=_pump, args=(there, request))
                back.start()
                _pump(request, there)
                back.join()
            except OSError:
                pass
            finally:
                self._open -= ends

    def cut(self):
        """Break what is open, and let nothing new through."""
        self._cut = True
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self):
        self._cut = False

    def close(self):
        self.cut()
        self.shutdown()
        self._thread.join(PATIENCE)
        self.server_close()


def _pump(source, target):
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


HARMLESS = re.compile(r"favicon|/qr\?format=svg - .* 409 ")
"""What a browser complains of, and nobody else: a code may be gone before its picture is asked for."""


class Browser:
    """One window. Waits are for what a person sees: text, pictures, focus."""

    def __init__(self, *arguments):
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in ("--headless=new", "--hide-scrollbars", "--force-color-profile=srgb", *arguments):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # Chromium would ask the session bus for a scope of its own and for a secret service.
        surroundings = {name: value for name, value in os.environ.items() if not name.startswith("DBUS_")}
        driver = Service("/usr/bin/chromedriver", env=surroundings)
        self.driver = webdriver.Chrome(service=driver, options=options)
        self.driver.set_page_load_timeout(PATIENCE)
        self.driver.set_script_timeout(PATIENCE)
        self.look()

    def close(self):
        self.driver.quit()

    def command(self, name, **parameters):
        """Send a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def look(self, width=1120, height=760, theme="light", scale=1, motion="no-preference"):
        """Set window and taste."""
        features = [
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": motion},
        ]
        self.command("Emulation.setEmulatedMedia", features=features)
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        self.command("Emulation.setTouchEmulationEnabled", enabled=width < 600)

    @contextlib.contextmanager
    def slowed(self, latency_ms):
        """Have each answer of the network come so much later."""
        self.driver.set_network_conditions(latency=latency_ms, throughput=1_000_000)
        try:
            yield
        finally:
            self.driver.delete_network_conditions()  # they would hold for all later pages

    def open(self, url):
        self.driver.get_log("browser")  # what was said of another page
        self.driver.get(url)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        for one in self.driver.find_elements(By.CSS_SELECTOR, selector):
            with contextlib.suppress(StaleElementReferenceException):  # gone since
                if one.is_displayed():
                    return one
        return None

    def see(self, *texts, within="body"):
        """Wait until all these texts are shown."""

        def seen():
            try:
                shown = self.driver.find_element(By.CSS_SELECTOR, within).text
            except (StaleElementReferenceException, WebDriverException):
                return False
            return all(text in shown for text in texts)

        try:
            until(seen, f"the sight of {texts}")
        except AssertionError as error:
            raise AssertionError(
                f"{error}; there is: {self.driver.find_element(By.TAG_NAME, 'body').text!r}"
            ) from None

    def miss(self, selector):
        """Wait until nothing of the kind is shown."""
        until(lambda: self.find(selector) is None, f"the end of {selector}")

    def press(self, label, within="body", unless=lambda: False):
        """Press the button or link with that text as soon as there is one, unless it is of no use any more."""
        script = """
            const [label, within] = arguments;
            const all = [...document.querySelectorAll(`${within} button, ${within} a`)];
            const isFree = (one) => one.checkVisibility() && !one.disabled && !one.ariaDisabled;
            const found = all.find((one) => one.textContent.trim() === label && isFree(one));
            window.isPressed = false;
            found?.addEventListener('click', () => { window.isPressed = true; }, { capture: true, once: true });
            return found ?? null;
        """

        def pressed():
            found = self.run(script, label, within)
            if found is None:
                return unless()
            try:
                found.click()
            except (
                StaleElementReferenceException,
                ElementNotInteractableException,
                ElementClickInterceptedException,
            ):
                return False  # drawn again, hidden or covered in between: nothing was pressed
            # What comes into the page above it moves it away under the pointer. Another page has no such variable.
            return self.run("return window.isPressed ?? true")

        until(pressed, f"a button {label!r}")

    def type(self, *keys, into=None):
        """Type as on the keyboard, where the focus is or into a field."""
        if into:
            field = until(lambda: self.find(into), f"the field {into}")
            field.clear()
            field.send_keys(*keys)
        else:
            self.driver.switch_to.active_element.send_keys(*keys)

    def focused(self):
        """Return the text of what has the focus, or its id."""
        element = self.driver.switch_to.active_element
        return element.text or element.get_attribute("id")

    def picture(self, selector=None):
        """Return a PNG of an element, or of what the window shows."""
        if selector:
            return until(lambda: self.find(selector), f"a sight of {selector}").screenshot_as_png
        return base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])

    def code(self, selector=".code"):
        """Read the QR code on the screen as a camera would; None where there is none."""
        try:
            picture = self.picture(selector)
        except StaleElementReferenceException:
            return None
        read = subprocess.run(
            ["zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", "-"],
            input=picture,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        return read.stdout.decode().rstrip("\n") or None

    def complaints(self):
        """Return what the browser has to say of the page: errors of scripts, and of its policy."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and not HARMLESS.search(entry["message"])
        ]

    def barriers(self):
        """Return what axe finds that keeps people out, serious or worse."""
        self.run(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document).then((found) => done(found.violations))"
        )
        return [
            f"{one['id']}: {one['help']}: {[node['html'] for node in one['nodes']][:3]}"
            for one in found
            if one["impact"] in {"serious", "critical"}
        ]

    def overflow(self):
        """Return how many pixels of the page's width do not fit into the window."""
        # `innerWidth` of a phone grows with what is too wide.
        return self.run("const page = document.documentElement; return page.scrollWidth - page.clientWidth")

    def announcements(self):
        """Begin to keep what a screen reader reads out; return a function that returns it."""
        self.run("""
            window.told = [];
            const live = '[role=status], [role=alert], [aria-live]';
            new MutationObserver((changes) => {
                for (const { target } of changes) {
                    const place = (target.closest ? target : target.parentElement)?.closest(live);
                    if (place) window.told.push(place.textContent);
                }
            }).observe(document.body, { childList: true, characterData: true, subtree: true });
        """)
        return lambda: self.run("return window.told")


def free_of_barriers(browser, **look):
    """Hold a page to accessibility in both themes."""
    for theme in ("light", "dark"):
        browser.look(theme=theme, **look)
        assert browser.barriers() == [], theme
    browser.look(**look)


def reconnect(browser):
    """Have a page that lost the daemon try again now, unless it got there automatically."""
    browser.press("Try now", unless=lambda: browser.find("#lost") is None)
    browser.miss("#lost")


@contextlib.contextmanager
def embedding(address):
    """Run a web app on an origin of its own, whose page has another one in a frame; yield where it is."""
    page = f'<h1>App</h1><iframe width=900 height=700 src="{address}"></iframe>'.encode()

    class App(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.2", 0), App)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.2:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()

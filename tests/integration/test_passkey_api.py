"""A passkey that WhatsApp wants, from the page in a real browser through the API to who signs, and back."""

import contextlib
import http.client
import json
import threading

import pytest
from harness import EventStream, until

from waportd.client import Client

PHONE = "5511999990044"
USER = "/v1/users/4"
PATH = f"{USER}/passkey"


class Passkeys:
    """What a person does about the passkey of user 4, over the API; keeps every secret that was seen."""

    def __init__(self, waportd, standin):
        self._waportd, self._standin = waportd, standin
        self._client = Client(waportd.socket)
        self.secrets = set()

    def scan(self, **wish):
        """Scan the code with a phone from which WhatsApp wants a passkey, and return what it wants signed."""
        code = self._waportd.show_code("4")
        self._standin.tell("passkey", **wish)
        self._standin.tell("scan", qr=code, phone=PHONE, name="Ana")
        return self.until("asked").options

    def until(self, stage):
        """Return what is wanted once it is in that stage, as a page waits for it."""
        code = None

        def look():
            nonlocal code
            code = self._client.qr("4", timeout=5 if code else 0, known=code)
            wanted = code.passkey
            if wanted and wanted.options:
                self.secrets |= {wanted.options["challenge"], wanted.options["allowCredentials"][0]["id"]}
            if wanted and wanted.code:
                self.secrets.add(wanted.code)
            return wanted and wanted.stage == stage and wanted

        return until(look, f"stage {stage}")

    def sign(self, options, **wish):
        """Return what the phone's passkey signs."""
        signed = self._standin.tell("approve", phone=PHONE, options=options, **wish)
        self.secrets |= {text for text in signed["response"].values() if text} | {signed["id"]}
        return signed

    def give(self, signed, expected=202):
        return self._waportd.call("POST", PATH, expected, signed)


@pytest.fixture
def passkeys(waportd, standin):
    return Passkeys(waportd, standin)


class Listener:
    """Keeps all that an event stream says until waportd ends."""

    def __init__(self, waportd, path):
        self._stream = EventStream(waportd, path)
        self._events = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self):
        with contextlib.suppress(OSError, http.client.HTTPException), self._stream as stream:
            while event := stream.next():
                self._events.append(event)

    def told(self):
        """Return all events but those of the code, as text."""
        self._thread.join(30)
        return json.dumps([event.data for event in self._events if event.name != "qr"])


def test_a_passkey_links_the_phone_and_nothing_of_it_is_written_down(waportd, standin, passkeys):
    waportd.configure(metrics={"per_user": True})
    waportd.restart()
    waportd.call("PUT", f"{USER}?wait=listening", 201)
    listeners = [Listener(waportd, path) for path in ("/v1/events", f"{USER}/events")]
    options = passkeys.scan(compare=True)
    assert (options["rpId"], options["timeout"]) == ("whatsapp.com", 600_000)

    # Who polls, or opens the page again, disturbs nothing.
    assert waportd.call("PUT", f"{USER}?wait=qr")["session"]["state"] == "passkey_required"
    waportd.call("PUT", f"{USER}?wait=none")
    waportd.call("POST", f"{USER}/start")
    port = waportd.user("4")["port"]
    assert waportd.call("GET", PATH)["options"] == options

    # What cannot be right is refused with the reason, and the request continues.
    another = passkeys.sign({**options, "challenge": "YW5vdGhlcg"})
    assert passkeys.give(another, 400)["code"] == "passkey_wrong_challenge"
    elsewhere = passkeys.sign(options, origin="https://whatsapp.example.com")
    refused = passkeys.give(elsewhere, 400)
    assert (refused["code"], bool(refused["detail"]), bool(refused["hint"])) == (
        "passkey_wrong_origin",
        True,
        True,
    )
    assert passkeys.give(passkeys.sign(options, uv=False), 400)["code"] == "passkey_not_verified"
    assert passkeys.give({}, 400)["code"] == "passkey_malformed"
    assert waportd.call("POST", f"{PATH}/confirm", 409, {"code": "ABCD-EFGH"})["code"] == "no_passkey_code"
    assert waportd.call("GET", PATH)["options"] == options

    # The daemon is restarted in the middle: the server keeps what the page waits for.
    waportd.restart()
    listeners += [Listener(waportd, path) for path in ("/v1/events", f"{USER}/events")]
    assert passkeys.until("asked").options == options

    signed = passkeys.sign(options)
    assert passkeys.give(signed)["stage"] in {"given", "code"}
    code = passkeys.until("code").code
    assert passkeys.give(signed, 409)["code"] == "passkey_given"
    refused = waportd.call("POST", f"{PATH}/confirm", 409, {"code": "AAAA-AAAA"})
    assert refused["code"] == "passkey_code_changed"
    waportd.call("POST", f"{PATH}/confirm", 202, {"code": code})
    waportd.until_session("4", "ready")
    assert waportd.qr("4")["passkey"] is None
    assert waportd.call("GET", PATH, 409)["code"] == "no_passkey_request"

    told = {
        path: waportd.ask("GET", path).body.decode() for path in ("/v1/users", USER, "/metrics", "/v1/health")
    }
    waportd.restart()
    told |= {f"a stream ({number})": one.told() for number, one in enumerate(listeners)}
    told |= {unit: waportd.journal(unit) for unit in ("waportd.service", f"whatsapp@{port}.service")}
    assert f"POST {PATH} by" in told["waportd.service"]
    for number in range(len(listeners)):
        assert "passkey_required" in told[f"a stream ({number})"]
    assert len(passkeys.secrets) > 10
    held = [(where, secret) for secret in passkeys.secrets for where, text in told.items() if secret in text]
    assert not held


def test_what_is_given_up_leads_to_codes_and_what_failed_is_asked_again(waportd, standin, passkeys):
    options = passkeys.scan()
    waportd.call("DELETE", PATH, 204)
    assert waportd.qr("4")["passkey"] is None
    assert passkeys.give(passkeys.sign(options), 409)["code"] == "no_passkey_request"

    # Another phone's signature is found out by WhatsApp alone: it asks again, with another challenge.
    options = passkeys.scan()
    passkeys.give(passkeys.sign(options, wrong=True))
    passkeys.until("failed")
    again = passkeys.until("asked").options
    assert again["challenge"] != options["challenge"]
    assert passkeys.give(passkeys.sign(options), 400)["code"] == "passkey_wrong_challenge"
    passkeys.give(passkeys.sign(again))
    waportd.until_session("4", "ready")


def test_a_passkey_is_wanted_after_a_pairing_code_too_and_a_number_typed_again_ends_it(
    waportd, standin, passkeys
):
    body = {"phone": PHONE}
    waportd.call("PUT", f"{USER}?wait=listening", 201)
    code = waportd.call("POST", f"{USER}/pairing-code", body=body)["code"]
    standin.tell("passkey")
    standin.tell("pair", code=code, phone=PHONE, name="Ana")
    options = passkeys.until("asked").options
    # The same number again, which costs no new code of the limit: its first one is valid still.
    second = waportd.call("POST", f"{USER}/pairing-code", body=body)["code"]
    assert second != code
    assert waportd.qr("4")["passkey"] is None
    assert passkeys.give(passkeys.sign(options), 409)["code"] == "no_passkey_request"
    standin.tell("passkey")
    standin.tell("pair", code=second, phone=PHONE, name="Ana")
    passkeys.give(passkeys.sign(passkeys.until("asked").options))
    waportd.until_session("4", "ready")

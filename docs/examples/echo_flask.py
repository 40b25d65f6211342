"""An echo bot in Flask: answers each text that a person writes with the same text.

    export WEBHOOK_SECRET=whsec_…
    flask --app echo_flask run --port 5002

Needs Flask (apt install python3-flask). In waportd's configuration, instances.webhook_url is
http://localhost:5002/webhook, instances.webhook_secret the same secret, and ports.reserved names 5002.
"""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import re
import time
import urllib.error
import urllib.request

from flask import Flask, request

OLDEST_S = 300
# One secret, or two with a comma between while the old one is being replaced.
KEYS = [base64.b64decode(secret[6:]) for secret in os.environ["WEBHOOK_SECRET"].split(",")]
# Events that are done, one file each: the same can come again, also after this program was restarted.
DONE = pathlib.Path(os.environ.get("DONE", "done"))
DONE.mkdir(exist_ok=True)

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 1024 * 1024


def is_signed(headers, body):
    """Return whether waportd signed this, and just now: https://www.standardwebhooks.com."""
    ident, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not re.fullmatch(r"[\w-]{1,64}", ident, re.ASCII) or not re.fullmatch(r"\d{1,12}", at, re.ASCII):
        return False
    if abs(time.time() - int(at)) >= OLDEST_S:
        return False
    given = headers.get("webhook-signature", "").split(" ")
    for key in KEYS:
        mac = hmac.new(key, f"{ident}.{at}.".encode() + body, hashlib.sha256)
        wanted = f"v1,{base64.b64encode(mac.digest()).decode()}"
        if any(hmac.compare_digest(wanted.encode(), each.encode()) for each in given):
            return True
    return False


def reply(ident, event):
    """Send an answer. The key has it sent once, though this may be called again for the same event."""
    body = json.dumps({"to": event["chat"]["id"], "text": event["body"]}).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": f"echo-{ident}"}
    call = urllib.request.Request(f"http://localhost:{event['port']}/messages", body, headers)
    with urllib.request.urlopen(call, timeout=20):
        pass


@app.post("/webhook")
def webhook():
    """Take an event. Without a 2xx answer it comes again later."""
    body = request.get_data()
    if not is_signed(request.headers, body):
        return "", 401
    done = DONE / request.headers["webhook-id"]
    if done.exists():
        return "", 200
    event = json.loads(body)
    if event["event"] == "message" and event["chat"]["type"] == "person" and event["body"]:
        try:
            reply(request.headers["webhook-id"], event)
        except urllib.error.URLError as error:
            app.logger.warning("not sent: %s", error)
            return "", 503
    done.touch()
    return "", 200

"""A complete small front end: people log in, link their WhatsApp, send a message and read what comes.

Needs Flask (apt install python3-flask) and a running waportd whose socket this program may open (group waportd):

    python3 -c 'from werkzeug.security import generate_password_hash as h; print(h(input("password: ")))'
    export APP_USERS='{"ana": {"id": 2, "password": "<what the line above printed>"}}'
    export WEBHOOK_SECRET="whsec_$(openssl rand -base64 32)"
    export PYTHONPATH=../..  # in a checkout, where no package is installed
    flask --app flask_app run --port 5002

Then open http://localhost:5002/. In waportd's configuration, ports.reserved should name 5002, instances.webhook_url be
http://localhost:5002/webhook, and instances.webhook_secret the same secret.
"""

import base64
import collections
import hashlib
import hmac
import json
import os
import re
import secrets
import time
import urllib.error
import urllib.request

from flask import Flask, Response, abort, g, redirect, render_template_string, request, session, url_for
from werkzeug.security import check_password_hash

from waportd.client import Client, Conflict, WaportdClientError
from waportd.compat import get_whatsapp_server_url, port_for, use

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_bytes(32)
app.config.update(SESSION_COOKIE_SAMESITE="Lax", SESSION_COOKIE_HTTPONLY=True)

# Without one nobody can post here, not even waportd.
KEY = base64.b64decode(os.environ.get("WEBHOOK_SECRET", "")[6:]) or secrets.token_bytes(32)
OLDEST_S = 300
USERS = json.loads(os.environ.get("APP_USERS", "{}"))
waportd = Client()  # $WAPORTD_SOCKET, else /run/waportd/api.sock; all threads share it
use(waportd)  # so does get_whatsapp_server_url
messages = collections.defaultdict(lambda: collections.deque(maxlen=50))
taken = collections.deque(maxlen=10_000)  # ids of what was posted: it can come again

# People


@app.before_request
def know_the_user():
    """Allow only people who are logged in. The user comes from the session, never from the request."""
    g.user = session.get("user")
    g.nonce = secrets.token_urlsafe(16)
    if g.user is None and request.endpoint not in {"login", "webhook"}:
        if request.path.startswith("/api/"):
            abort(401)
        return redirect(url_for("login"))
    return None


@app.after_request
def protect(response):
    """Allow no script but our own, and no page of others around ours."""
    response.headers["Content-Security-Policy"] = (
        f"default-src 'self'; script-src 'nonce-{g.get('nonce')}'; style-src 'unsafe-inline'; frame-ancestors 'none'"
    )
    return response


@app.route("/login", methods=["GET", "POST"])
def login():
    """Ask who it is."""
    if request.method == "GET":
        return render_template_string(LOGIN)
    user = USERS.get(request.form.get("name", ""))
    if user is None or not check_password_hash(user["password"], request.form.get("password", "")):
        return render_template_string(LOGIN, error="Name or password is wrong."), 401
    session.clear()
    session["user"] = user["id"]
    return redirect(url_for("home"))


@app.post("/leave")
def leave():
    """Log out of this app; the phone stays linked."""
    session.clear()
    return redirect(url_for("login"))


# Linking a phone


@app.get("/connect")
def connect():
    """Show the page that links a phone. Asking for the code starts the user's server."""
    return render_template_string(CONNECT)


@app.get("/api/qr")
def api_qr():
    """Pass on what the page polls, as waportd answers it: it has the shape that such pages have always read."""
    return passed_on(waportd.request("GET", "/api/qr", query={"user_id": g.user}))


@app.get("/qr.svg")
def qr_svg():
    """Pass on the code as a picture."""
    try:
        return passed_on(waportd.picture(g.user, "svg"))
    except Conflict:  # there is none: it has just been scanned, or the next one is on its way
        abort(404)


@app.post("/unlink")
def unlink():
    """Unlink the phone and delete the session."""
    waportd.logout(g.user)
    return redirect(url_for("home"))


def passed_on(answer):
    """Turn an answer of waportd into our own; a code is a secret that nobody may keep."""
    return Response(
        answer.body, answer.status, content_type=answer.content_type, headers={"Cache-Control": "no-store"}
    )


# Messages


@app.get("/")
def home():
    """Show the state, and the last messages."""
    code = waportd.qr(g.user)
    return render_template_string(HOME, code=code, messages=messages[str(g.user)])


@app.post("/send")
def send():
    """Send a message through the user's own server."""
    body = json.dumps({"phone": request.form["phone"], "message": request.form["message"]}).encode()
    url = f"{get_whatsapp_server_url(port_for(g.user))}/send"
    call = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(call, timeout=15):
            return redirect(url_for("home"))
    except urllib.error.HTTPError as error:
        return problem(json.load(error).get("error", "the message was not sent")), 502


def is_signed(headers, body):
    """Return whether waportd signed this, and just now: https://www.standardwebhooks.com.

    An address proves nothing: every program of this host has 127.0.0.1, and behind a proxy everybody has.
    """
    ident, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not re.fullmatch(r"\d{1,12}", at, re.ASCII) or abs(time.time() - int(at)) >= OLDEST_S:
        return False
    mac = hmac.new(KEY, f"{ident}.{at}.".encode() + body, hashlib.sha256)
    wanted = f"v1,{base64.b64encode(mac.digest()).decode()}".encode()
    given = headers.get("webhook-signature", "").encode().split(b" ")
    return any(hmac.compare_digest(wanted, each) for each in given)


@app.post("/webhook")
def webhook():
    """Take an incoming message: every server posts here, see instances.webhook_url."""
    if not is_signed(request.headers, request.get_data()):
        abort(401)
    ident = request.headers["webhook-id"]
    if ident not in taken:
        taken.append(ident)
        message = request.get_json()
        messages[message["user_id"]].appendleft(message)
    return {"ok": True}


# What goes wrong


@app.errorhandler(WaportdClientError)
def waportd_failed(error):
    """Say what waportd says: its errors name the cause and the fix."""
    app.logger.warning("waportd: %s", error)
    if request.path.startswith("/api/"):
        return {"success": False, "status": "error", "qr": None, "ready": False, "error": str(error)}, 503
    return problem(str(error)), 503


def problem(text):
    """Show a problem as a page."""
    return render_template_string(PAGE + "<p role=alert>{{ text }}</p><p><a href='/'>Back</a></p>", text=text)


PAGE = """<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>Messages</title><style>body { font: 1rem/1.5 sans-serif; max-width: 34rem; margin: 2rem auto; padding: 0 1rem }
img { width: 20rem; background: white } form { margin: 1rem 0 }</style>
"""

LOGIN = (
    PAGE
    + """<h1>Log in</h1>{% if error %}<p role=alert>{{ error }}</p>{% endif %}
<form method=post><p><label>Name <input name=name autocomplete=username required autofocus></label>
<p><label>Password <input name=password type=password autocomplete=current-password required></label>
<p><button>Log in</button></form>"""
)

HOME = (
    PAGE
    + """<h1>Messages</h1><p id=state>{{ code.message }}</p>
{% if code.ready %}
<form method=post action=/send><label>To <input name=phone placeholder="5511999998888" required></label>
<label>Text <input name=message required></label> <button>Send</button></form>
<ul>{% for message in messages %}<li><b>{{ message.phone }}</b> {{ message.body }}</li>{% endfor %}</ul>
<form method=post action=/unlink><button>Unlink the phone</button></form>
{% else %}<p><a href=/connect>Link WhatsApp</a></p>{% endif %}
<form method=post action=/leave><button>Log out</button></form>"""
)

CONNECT = (
    PAGE
    + """<h1>Link WhatsApp</h1><p>On the phone: WhatsApp, Linked devices, Link a device.</p>
<p id=message role=status>One moment …</p><p id=hint></p><img id=code alt="QR code to scan with WhatsApp" hidden>
<p><a href=/>Back</a></p>
<script nonce="{{ g.nonce }}">
const show = (id, text) => { document.getElementById(id).textContent = text ?? ''; };
const picture = document.getElementById('code');
let shown = null;
async function look() {
    try {
        const state = await (await fetch('/api/qr')).json();
        if (state.status === 'connected') { location.href = '/'; return; }
        show('message', state.message ?? state.error);
        show('hint', state.hint);
        // A new picture only for a new code. The code itself never needs to leave this function.
        if (state.qr && state.qr !== shown) picture.src = `/qr.svg?${Date.now()}`;
        picture.hidden = !state.qr;
        shown = state.qr;
    } catch { show('message', 'The app does not answer; trying again …'); }
    setTimeout(look, 2000);
}
look();
</script>"""
)

"""A small web app in Python, with the client that openapi-python-client makes: app.py URL TOKEN."""

import sys
import time

from waportd_api import AuthenticatedClient
from waportd_api.api.messages import messages_read, messages_send
from waportd_api.api.qr import qr_show
from waportd_api.api.users import users_delete, users_ensure, users_set_options, users_show
from waportd_api.models import (
    Messages,
    MessageToSend,
    Options,
    Problem,
    ProblemCode,
    Qr,
    QrShowFormat,
    User,
    UsersEnsureWait,
)


def main(url, token):
    with AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True) as client:
        options = Options(
            webhook_url="http://localhost:5002/webhook", memory_max="512M", proxy=None, send_rate=20
        )
        ensured = users_ensure.sync(
            "py-1", client=client, body=options, wait=UsersEnsureWait.LISTENING, timeout=20.0
        )
        assert isinstance(ensured, User), ensured
        assert ensured.user == "py-1"
        assert ensured.memory_max == 512 * 1024 * 1024
        assert ensured.own_webhook

        changed = users_set_options.sync("py-1", client=client, body=Options(memory_max=0))
        assert isinstance(changed, User), changed
        assert changed.memory_max == 0

        code = qr_show.sync("py-1", client=client, format_=QrShowFormat.JSON)
        assert isinstance(code, Qr), code
        assert code.user == "py-1"
        assert picture(client).startswith(b"\x89PNG")

        read = messages_read.sync("py-1", client=client, limit=10)
        assert isinstance(read, Messages) or read.code == ProblemCode.NOT_LINKED, read

        message = MessageToSend(to="+55 11 98888-7777", text="Hello!")
        sent = messages_send.sync("py-1", client=client, body=message, idempotency_key="order-4711")
        if isinstance(sent, Problem):
            assert sent.code == ProblemCode.NOT_LINKED
        else:
            assert sent.outcome == "pending"

        unknown = users_show.sync("py-nobody", client=client)
        assert isinstance(unknown, Problem), unknown
        assert unknown.code == ProblemCode.UNKNOWN_USER
        assert unknown.hint

        assert users_delete.sync_detailed("py-1", client=client).status_code == 204


def picture(client):
    """Return the code as a picture, once there is one. The client's own call reads JSON only."""
    for _ in range(100):
        answer = client.get_httpx_client().get("/v1/users/py-1/qr", params={"format": "png"})
        if answer.status_code == 200:
            return answer.content
        assert Problem.from_dict(answer.json()).code == ProblemCode.NO_CODE
        time.sleep(0.05)
    raise AssertionError("no code was ever shown")


main(*sys.argv[1:])

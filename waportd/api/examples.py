"""Examples of answers, for the API's description. What a call takes is shown where its body is described."""

from typing import Any, Final

_AT: Final = "2026-11-30T09:30:00.000Z"

PROBLEM: Final[dict[str, Any]] = {
    "type": "urn:waportd:error:unknown_user",
    "title": "Unknown user",
    "status": 404,
    "detail": "no port is assigned to user 2",
    "code": "unknown_user",
    "hint": "assign one with `PUT /v1/users/2`",
}
USER: Final[dict[str, Any]] = {
    "user": "2",
    "host": None,
    "port": 5002,
    "url": "http://localhost:5002",
    "unit": "whatsapp@5002.service",
    "desired": "running",
    "linked": True,
    "linked_at": _AT,
    "note": None,
    "own_webhook": False,
    "own_webhook_secret": False,
    "webhook_events": None,
    "ignore": None,
    "default_country": None,
    "send_rate": None,
    "memory_max": None,
    "autostart": True,
    "engine": "bundled",
    "own_engine": False,
    "proxy": "auto",
    "own_proxy": False,
    "created_at": _AT,
    "storage": None,
    "summary": {
        "state": "ready",
        "group": "linked",
        "message": "messages are sent and received",
        "cause": None,
        "hint": None,
        "since": _AT,
    },
    "process": {
        "state": "running",
        "since": _AT,
        "message": "the server runs",
        "cause": None,
        "hint": None,
        "pid": 4711,
        "restarts": 0,
        "next_start": None,
    },
    "session": {
        "state": "ready",
        "since": _AT,
        "message": "messages are sent and received",
        "cause": None,
        "hint": None,
        "attempt": 0,
        "attempts": 6,
        "progress": None,
        "phone_number": "5511988887777",
        "name": "Ana",
        "answering": True,
        "upstream": None,
        "webhook": {
            "queued": 0,
            "delivered": 12,
            "failed": 0,
            "dropped": 0,
            "undelivered": 0,
            "oldest_at": None,
            "error": None,
            "error_at": None,
        },
        "last_message_at": _AT,
    },
}
QR: Final[dict[str, Any]] = {
    "user": "2",
    "port": 5002,
    "status": "qr",
    "qr": "2@AbCdEf…,GhIjKl…,MnOpQr…,StUvWx…",
    "expires_at": "2026-11-30T09:30:20.000Z",
    "attempt": 1,
    "attempts": 6,
    "message": "a code is shown",
    "cause": None,
    "hint": None,
    "passkey": None,
}
PAIRING_CODE: Final[dict[str, Any]] = {"user": "2", "code": "K7P2-9QXM", "expires_at": _AT}
PASSKEY: Final[dict[str, Any]] = {
    "stage": "code",
    "options": None,
    "expires_at": _AT,
    "code": "K7P2-9QXM",
}
CONNECT_LINK: Final[dict[str, Any]] = {
    "url": "https://wa.example.com/connect?user=2&expires=1796031000&signature=3q2-7w",
    "path": "/connect?user=2&expires=1796031000&signature=3q2-7w",
    "expires_at": _AT,
}
TOKEN: Final[dict[str, Any]] = {
    "id": "0123456789ab",
    "name": "web app",
    "scope": "admin",
    "created_at": _AT,
    "last_used_at": None,
    "expires_at": None,
}
PORT: Final[dict[str, Any]] = {
    "port": 5002,
    "user": "2",
    "preferred_by": "2",
    "unit": "whatsapp@5002.socket",
    "held": True,
    "holders": [{"user": "root", "pid": 1, "command": "/sbin/init"}],
}
HEALTH: Final[dict[str, Any]] = {
    "status": "ok",
    "version": "1.0.0",
    "engine": "bundled",
    "web_version": None,
    "users": 2,
    "running": 2,
    "failed": 0,
    "unassigned_ports": [],
    "alarm": None,
}
LOG: Final[dict[str, Any]] = {
    "user": "2",
    "unit": "whatsapp@5002.service",
    "lines": [{"time": _AT, "priority": 6, "source": "server", "message": "the session is ready"}],
}
CHANGE: Final[dict[str, Any]] = {
    "time": _AT,
    "caller": "www-data",
    "uid": "33",
    "token": None,
    "link": None,
    "address": None,
    "user": "2",
    "action": "PUT /v1/users/2",
    "status": "201",
}
OUTCOME: Final[dict[str, Any]] = {"id": "true_5511988887777@c.us_3EB0AA", "outcome": "sent", "ack": "server"}
_PERSON: Final[dict[str, Any]] = {
    "id": "5511988887777@c.us",
    "phone": "5511988887777",
    "lid": None,
    "name": "Ana",
}
MESSAGES: Final[dict[str, Any]] = {
    "messages": [
        {
            "cursor": "17960310000000-1",
            "event": "message",
            "event_id": "false_5511988887777@c.us_3EB0AB",
            "recovered": False,
            "id": "false_5511988887777@c.us_3EB0AB",
            "type": "chat",
            "timestamp": 1796031000000,
            "chat": {"id": "5511988887777@c.us", "type": "person", "name": "Ana"},
            "isGroup": False,
            "fromMe": False,
            "sender": _PERSON,
            "from": "5511988887777@c.us",
            "phone": "5511988887777",
            "body": "Hello!",
            "hasMedia": False,
        }
    ],
    "next": "17960310000000-1",
    "more": False,
}
NUMBER: Final[dict[str, Any]] = {"number": "5511988887777", "exists": True, "id": "5511988887777@c.us"}
HISTORY: Final[dict[str, Any]] = {
    "since": "2026-11-30T09:28:00.000Z",
    "step_s": 60,
    "cpus": 4,
    "memory_total": 8_589_934_592,
    "times": ["2026-11-30T09:28:00.000Z", "2026-11-30T09:29:00.000Z", _AT],
    "linked": [11, None, 12],
    "waiting": [1, None, 0],
    "working": [0, None, 0],
    "trouble": [0, None, 0],
    "asleep": [2, None, 2],
    "idle": [1, None, 1],
    "servers_memory": [2_831_155_200, None, 3_040_870_400],
    "host_memory": [4_509_715_660, None, 4_724_464_025],
    "servers_cpu": [None, None, 0.42],
    "load": [0.8, None, 0.65],
    "queued": [0, None, 0],
    "delivered": [0, None, 7],
    "undelivered": [0, None, 0],
    "restarts": [0, None, 0],
}

"""The examples of docs/integration.md in which a web app asks how things are, or makes a link: each is run as it stands there."""

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_journal import FakeJournal

from waportd.client import Client
from waportd.model import User
from waportd.systemd import server_log

GUIDES = [
    Path(__file__).resolve().parents[3] / f"docs/integration{language}.md" for language in ("", ".pt-BR")
]
SOCKET = "/run/waportd/api.sock"


def example(guide, word):
    """Return the block of a guide that has a word, which stands there once."""
    blocks = re.findall(r"^(?: {4}.+\n|\n(?= {4}))+", guide.read_text("utf-8"), re.MULTILINE)
    [block] = [block for block in blocks if word in block]
    return re.sub("^ {4}", "", block, flags=re.MULTILINE)


@pytest.fixture(params=GUIDES, ids=lambda guide: guide.name)
def guide(request):
    return request.param


@pytest.fixture(autouse=True)
async def known(supervisor, monkeypatch):
    """User 2, with a sample of the history, and a warning and a notice in the journal."""
    instance, _ = await supervisor.ensure(User("2"))
    await supervisor.history.sample()
    journal = FakeJournal()
    monkeypatch.setattr(server_log.journal, "Reader", journal.open)
    unit = f"whatsapp@{instance.assignment.port}.service"
    for priority, message in ((6, "listening"), (4, "no answer")):
        journal.write(message, _SYSTEMD_UNIT=unit, PRIORITY=priority)


@pytest.fixture
def run(server):
    """Run an example in Python, beside the event loop; return its variables."""

    async def run(text):
        with Client(str(server.path)) as client:
            names = {"waportd": client, "current_user": SimpleNamespace(id=2)}
            await asyncio.to_thread(exec, text, names)
        return names

    return run


async def test_a_shell_asks_how_things_are(guide, server):
    script = example(guide, "$socket http://localhost/v1/caller")
    assert SOCKET in script
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script.replace(SOCKET, str(server.path))),
        stdout=asyncio.subprocess.PIPE,
    )
    text, _ = await process.communicate()
    assert process.returncode == 0
    answers, decoder, left = [], json.JSONDecoder(), text.decode()
    while left := left.strip():
        document, end = decoder.raw_decode(left)
        answers.append(document)
        left = left[end:]
    caller, log, history = answers
    assert caller["scope"] == "admin"
    assert (log["user"], [line["message"] for line in log["lines"]]) == ("2", ["no answer"])
    assert history["times"]


async def test_python_asks_how_things_are(guide, run, capfd):
    names = await run(example(guide, "waportd.caller()"))
    [(time, linked)] = names["linked"]
    assert (time, linked) == (names["hours"].since, 0)
    assert capfd.readouterr().out.endswith(" no answer\n")


async def test_a_link_leads_back_to_the_app(guide, run, server):
    server._app["embedders"].allow(["https://app.example.com"])  # noqa: SLF001
    names = await run(example(guide, "return_to="))
    assert "return_to=https%3A%2F%2Fapp.example.com%2Fsettings" in names["link"].path

"""The description of events and of a history, beside what a user's server makes of every kind of message."""

import json
import subprocess
from pathlib import Path

import jsonschema
import pytest
from contract import closed

from waportd.api.happenings import ENTRY, HAPPENING

ROOT = Path(__file__).parents[3]
MADE = """
const describe = require('./server/describe');
const { TYPES, describeMessage: onSite } = require('./tests/standin/messages');
const from = (fromMe, chat, more) => ({
    id: { fromMe, remote: chat, id: 'A' }, from: fromMe ? '5511999998888@c.us' : chat, to: chat, t: 1, ack: 1,
    ...more,
});
const kinds = Object.keys(TYPES).map((kind) => onSite(kind, { body: 'words' }, () => '/f'));
const chats = ['5521977770009@c.us', '77@lid', '1@g.us', '1@newsletter', 'status@broadcast', '1@broadcast'];
const quoted = { quotedMsg: { type: 'chat', body: 'x' }, quotedStanzaID: 'Q', quotedParticipant: '77@lid' };
const messages = [
    ...kinds.flatMap((data) => [from(false, chats[0], data), from(true, chats[0], data)]),
    ...chats.map((chat) => from(false, chat, { type: 'chat', body: 'x', mentionedJidList: ['77@lid'], ...quoted })),
    from(false, chats[0], { type: 'chat', body: 'x', dynamicReplyButtons: [{ buttonId: '1' }] }),
];
const [text, own] = [messages.at(-1), from(true, chats[0], { type: 'chat', body: 'x' })];
const events = [
    ...messages.map((message) => describe.describeMessage(message)),
    describe.describeAck(own, 3),
    describe.describeEdit(text, 'x', 'y'),
    describe.describeRevoke(text),
    describe.describeRevoke(text, { everyone: false }),
    describe.describeReaction({ id: text.id, msgId: text.id }),
    describe.describeCall({ from: '77@lid' }),
    describe.describeSession({ state: 'error', since: '2026-01-01T00:00:00Z', cause: 'x', message: 'y' }),
];
const whole = (event) => ({ cursor: '1-1', ...event, user_id: '2', port: 5002 });
const told = events.filter((event) => event !== null).map(whole);
process.stdout.write(JSON.stringify({ told, entries: messages.map(describe.describeEntry) }));
"""


@pytest.fixture(scope="module")
def made():
    done = subprocess.run(["node", "-e", MADE], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def unfit(schema, documents):
    check = jsonschema.Draft202012Validator(closed(schema))
    return [
        f"{document.get('type')}: {fault.message}"
        for document in documents
        for fault in check.iter_errors(document)
    ]


def test_each_event_is_as_described_and_has_no_other_member(made):
    assert unfit(HAPPENING, made["told"]) == []
    assert {one["event"] for one in made["told"]} == set(HAPPENING["properties"]["event"]["enum"])


def test_each_entry_of_a_history_is_as_described_and_has_no_other_member(made):
    assert unfit(ENTRY, made["entries"]) == []


def test_each_member_that_is_described_is_reported(made):
    told = {name for one in made["told"] for name in one}
    assert set(HAPPENING["properties"]) == told
    assert set(ENTRY["properties"]) == {name for one in made["entries"] for name in one}

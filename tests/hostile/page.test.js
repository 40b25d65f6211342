'use strict';

/** What WhatsApp's page hands over, and what happens to it: an event of plain values, whatever it was. */

const assert = require('node:assert/strict');

const { MOST_BYTES, bounded } = require('../../server/bounds');
const { checkCredential } = require('../../server/credential');
const describing = require('../../server/describe');
const { SessionError } = require('../../server/errors');
const ids = require('../../server/ids');
const { fuzz } = require('./fuzz');

const SERVERS = [
    ...['c.us', 's.whatsapp.net', 'lid', 'hosted', 'hosted.lid', 'g.us', 'newsletter', 'broadcast', 'call'],
    ...['constructor', 'toString', '__proto__', '', 'bot'],
];
const idText = (chance) =>
    `${chance.pick(['5511988887777', '0', 'status', '1:2', chance.text(6)])}@${chance.pick(SERVERS)}`;

/** An id in one of the shapes that the page has had for it, or in none. */
function id(chance, depth = 2) {
    const inner = (each) => (depth === 0 ? each.text() : id(each, depth - 1));
    return chance.pick([
        () => idText(chance),
        () => chance.shaped({ _serialized: idText }),
        () => chance.shaped({ user: (each) => each.text(6), server: (each) => each.pick(SERVERS) }),
        () =>
            chance.shaped({
                fromMe: (each) => each.once(2),
                remote: inner,
                id: (each) => each.text(8),
                participant: inner,
                $1: (each) => each.text(),
            }),
        () => chance.json(),
    ])();
}

const text = (chance) => chance.text();
const flag = (chance) => chance.once(2);
const number = (chance) => chance.pick([0, 1, 1_700_000_000, '1700000000', -1, 1e300]);
const listOf = (make) => (chance) => chance.some(3, () => make(chance));
const shape = (makers) => (chance) => chance.shaped(makers);
const button = shape({
    buttonId: text,
    id: text,
    buttonText: shape({ displayText: text }),
    displayText: text,
    text,
});
const TYPES = [
    ...['chat', 'image', 'ptt', 'document', 'sticker', 'location', 'live_location', 'vcard', 'multi_vcard'],
    ...['poll_creation', 'list', 'list_response', 'buttons_response', 'template_button_reply', 'order'],
    ...['product', 'groups_v4_invite', 'event_creation', 'revoked', 'ciphertext', 'call_log', 'constructor'],
];
const CARD = 'BEGIN:VCARD\nFN:Ana\\, B\nitem1.TEL;waid=5511:+55\n 11\nTEL:tel:1\nEND:VCARD';

const person = shape({ phone: text, lid: idText, name: text });

/** What the page knows of one message. */
const data = shape({
    id,
    type: (chance) => chance.pick(TYPES),
    from: id,
    to: id,
    author: id,
    body: (chance) => (chance.once(3) ? CARD.slice(chance.upTo(CARD.length)) : chance.text(60)),
    caption: text,
    notifyName: text,
    t: number,
    ack: (chance) => chance.pick([-1, 0, 1, 2, 3, 4, 'constructor']),
    latestEditSenderTimestampMs: number,
    waportd: shape({
        chat: text,
        me: listOf(idText),
        people: (chance) => ({ [idText(chance)]: person(chance) }),
    }),
    quotedMsg: shape({ type: (chance) => chance.pick(TYPES), body: text }),
    quotedStanzaID: text,
    quotedParticipant: id,
    mentionedJidList: listOf(id),
    isEphemeral: flag,
    ephemeralDuration: number,
    forwardingScore: number,
    directPath: text,
    mimetype: text,
    filename: text,
    size: number,
    duration: number,
    lat: number,
    lng: number,
    loc: text,
    vcardList: listOf(shape({ displayName: text, vcard: (chance) => CARD.slice(chance.upTo(9)) })),
    vcardFormattedName: text,
    pollName: text,
    pollOptions: listOf(shape({ name: text })),
    list: shape({ sections: listOf(shape({ title: text, rows: listOf(shape({ rowId: text })) })) }),
    listResponse: shape({ title: text, singleSelectReply: shape({ selectedRowId: text }) }),
    selectedButtonId: text,
    dynamicReplyButtons: listOf(button),
    buttons: listOf(button),
    inviteGrp: id,
    inviteCodeExp: number,
    eventLocation: shape({ name: text }),
    eventStartTime: number,
    orderId: text,
    itemCount: number,
    protocolMessageKey: id,
    revokeSender: id,
});

/** A message as the library has it, with what the page gave in it, or as the page gave it. */
const message = (chance) =>
    chance.pick([
        () => ({ rawData: data(chance) }),
        () => ({ _data: data(chance), from: id(chance), timestamp: number(chance) }),
        () => data(chance),
    ])();

/** Fail where it is no event that can be kept, posted and read as docs/server.md has it. */
function assertEvent(event) {
    if (event === null) return;
    assert.match(event.event_id ?? '', /^[0-9a-f]{32}$/);
    assert.deepEqual(JSON.parse(JSON.stringify(event)), JSON.parse(JSON.stringify(bounded(event))));
    assertEntry(event);
}

const TEXTS = ['type', 'phone', 'body', 'reaction', 'previous', 'mimetype', 'filename', 'mediaUrl', 'id'];

function assertEntry(entry) {
    for (const name of TEXTS) {
        const value = entry[name] ?? null;
        assert.ok(value === null || typeof value === 'string', `${name} is no text`);
    }
    for (const name of ['timestamp', 'edited_at', 'size']) {
        const value = entry[name] ?? null;
        assert.ok(value === null || Number.isFinite(value), `${name} is no number`);
    }
    const types = [null, 'person', 'group', 'channel', 'status', 'broadcast'];
    if (entry.chat) assert.ok(types.includes(entry.chat.type), 'no such type of chat');
    for (const person of [entry.sender, entry.by, entry.quoted?.sender, ...(entry.mentions ?? [])]) {
        for (const value of Object.values(person ?? {})) {
            assert.ok(value === null || typeof value === 'string', 'a person is of texts');
        }
        assert.notEqual(person?.name, 'Object', 'a name that nobody gave');
    }
    // Nothing is in it that JSON has not: a function, undefined within a list, a number that is none.
    assert.ok(Buffer.byteLength(JSON.stringify(bounded(entry))) <= MOST_BYTES);
}

/** Everything that is made of a message: how it is called, and what of. */
const OF_MESSAGE = [
    ({ given }) => [describing.describeMessage(given)],
    ({ given }) => [describing.describeMessage(given, { recovered: true })],
    ({ given, other }) => [describing.describeAck(given, other)],
    ({ given, body, other }) => [describing.describeEdit(given, body, other)],
    ({ given }) => [describing.describeRevoke(given)],
    ({ given }) => [describing.describeRevoke(given, { everyone: false })],
    ({ given }) => describing.describeReadBack(given),
];

fuzz('whatever the page knows of a message is an event, or none', {
    times: 200,
    make: (chance) => ({
        given: message(chance),
        body: chance.text(),
        other: chance.once(3) ? chance.pick([-1, 1, 3, '3', 'toString']) : chance.json(),
    }),
    check(input) {
        for (const describe of OF_MESSAGE) describe(input).forEach(assertEvent);
        assertEntry(describing.describeEntry(input.given));
        for (const event of OF_MESSAGE.flatMap((describe) => describe(input))) {
            if (event === null) continue;
            const unknown = describing.unknownSender(event);
            assert.ok(unknown === null || typeof unknown === 'string');
            const learned = describing.withNumber(event, unknown ?? 'x@lid', '5511988887777');
            assertEvent({ ...event, ...learned });
        }
    },
    examples: [
        { given: { rawData: { from: 'a@constructor', type: 'chat' } }, body: '', other: 'constructor' },
        { given: { rawData: { from: 'a@c.us', waportd: { people: null, me: 1 } } }, body: '', other: 1 },
        { given: { rawData: { from: 'constructor', type: 'chat' } }, body: '', other: null },
        {
            given: { quotedStanzaID: { toString: 1 }, quotedParticipant: 'a@c.us', from: 'a@c.us' },
            body: '',
            other: 1,
        },
        { given: { rawData: { from: 'a@c.us', type: 'chat', t: 1e308 } }, body: '', other: null },
    ],
});

fuzz('whatever the page knows of a reaction or a call is an event, or none', {
    times: 200,
    make: (chance) => ({
        reaction: chance.shaped({
            id,
            msgId: id,
            senderId: id,
            timestamp: number,
            reaction: (each) => each.pick(['👍', '', each.text()]),
        }),
        call: chance.shaped({ id, from: id, timestamp: number, fromMe: flag, isVideo: flag, isGroup: flag }),
    }),
    check({ reaction, call }) {
        assertEvent(describing.describeReaction(reaction));
        assertEvent(describing.describeCall(call));
    },
});

fuzz('whatever the page calls an id is a text, or none', {
    times: 1000,
    make: id,
    check(given) {
        for (const read of [ids.serialized, ids.plainId, ids.numberIn, ids.userPart, ids.chatType]) {
            const told = read(given);
            assert.ok(told === null || typeof told === 'string', `${read.name} tells ${typeof told}`);
        }
        assert.equal(typeof ids.isLid(given), 'boolean');
        const plain = ids.plainId(given);
        if (plain !== null && plain.split('@').length <= 2) assert.equal(ids.plainId(plain), plain);
    },
    examples: ['a@constructor', 'a@__proto__', { id: 'x', remote: { id: 'y', remote: null } }],
});

fuzz('an event of any size is made one that fits, and says what is missing', {
    times: 10,
    make: (chance) => {
        const long = (each) => 'é\ud83d\ude00x'.repeat(each.upTo(120_000));
        const wide = (each) => each.some(7_000, () => each.text(3));
        return chance.shaped({
            body: chance.once(2) ? long : text,
            previous: chance.once(3) ? long : text,
            mentions: chance.once(3) ? wide : listOf(text),
            contacts: listOf(shape({ vcard: chance.once(3) ? long : text, phones: listOf(text) })),
            list: shape({ sections: listOf(shape({ rows: chance.once(3) ? wide : listOf(text) })) }),
        });
    },
    check(event) {
        const made = bounded(event);
        assert.ok(Buffer.byteLength(JSON.stringify(made)) <= MOST_BYTES);
        const { truncated = [], ...rest } = made;
        if (truncated.length === 0) assert.deepEqual(rest, event);
    },
});

const bytes = (most) => (chance) => chance.bytes(most).toString('base64url');
const OPTIONS = {
    challenge: 'Y2hhbGxlbmdl',
    rpId: 'whatsapp.com',
    allowCredentials: [],
    userVerification: 'required',
};

/** What a browser says that it signed, nearly right. */
const clientData = (chance) => {
    const said = chance.shaped({
        type: () => 'webauthn.get',
        challenge: () => OPTIONS.challenge,
        origin: () => 'https://web.whatsapp.com',
        crossOrigin: flag,
    });
    const whole = Buffer.from(JSON.stringify(said));
    return (chance.once(3) ? chance.damaged(whole) : whole).toString('base64url');
};

fuzz('whatever is given for a passkey is one, or refused with a reason', {
    times: 400,
    make: (chance) => ({
        given: chance.once(8)
            ? chance.json()
            : chance.shaped({
                  type: () => 'public-key',
                  id: () => 'AAAA',
                  rawId: () => 'AAAA',
                  authenticatorAttachment: (each) => each.pick([null, 'platform', 'constructor']),
                  response: shape({
                      clientDataJSON: clientData,
                      authenticatorData: bytes(60),
                      signature: bytes(80),
                      userHandle: bytes(70),
                  }),
              }),
        options: { ...OPTIONS, allowCredentials: chance.once(2) ? chance.json() : [] },
    }),
    check({ given, options }) {
        try {
            const { id: named, response } = checkCredential(given, options);
            assert.equal(named, given.id);
            for (const value of Object.values(response)) assert.match(value ?? '', /^[\w-]*$/);
        } catch (error) {
            assert.ok(error instanceof SessionError, error.stack);
            assert.match(error.cause, /^passkey_/);
        }
    },
    examples: [
        { given: null, options: OPTIONS },
        { given: { type: 'public-key', id: 'AAAA', rawId: 'AAAA', response: [] }, options: OPTIONS },
    ],
});

'use strict';

/** What happens to each kind of message, id and happening, as the library's own classes give them. */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');
const Call = require('whatsapp-web.js/src/structures/Call');
const Message = require('whatsapp-web.js/src/structures/Message');
const Reaction = require('whatsapp-web.js/src/structures/Reaction');
const { MessageTypes } = require('whatsapp-web.js/src/util/Constants');

const {
    describeAck,
    describeCall,
    describeEdit,
    describeEntry,
    describeMessage,
    describeReaction,
    describeReadBack,
    describeRevoke,
    describeSession,
    unknownSender,
    withNumber,
} = require('../../server/describe');
const { TYPES, describeMessage: describeOnSite } = require('../standin/messages');

const ME = '5511999998888@c.us';
const DAVI = '5521977770009@c.us';
const LID = '100200300@lid';
const GROUP = '120363000000000001@g.us';
const CARD = [
    'BEGIN:VCARD',
    'VERSION:3.0',
    'FN:Davi\\, the',
    '  second',
    'item1.TEL;type=CELL;waid=5521977770009:+55 21 97777-0009',
    'TEL:tel:0800 123',
    'TEL;type=HOME:0800 123',
    'END:VCARD',
].join('\r\n');
/** What stands in the body of pictures and places. */
const THUMBNAIL = Buffer.alloc(6000, 'thumbnail ').toString('base64');

/** How pages have given ids: of people and chats, and of messages. */
const wid = (id) => {
    const [user, server] = id.split('@');
    return { server, user, _serialized: id };
};
const key = ({ fromMe, remote, id, participant }) => ({
    fromMe,
    remote,
    id,
    ...(participant && { participant: wid(participant) }),
});
const textOf = ({ fromMe, remote, id, participant }) =>
    [fromMe, remote, id, participant].filter((part) => part !== undefined).join('_');
const partsOf = (id) => {
    const [user, server] = id.split('@');
    return { user, server };
};
const withText = (...fields) => ({
    wid,
    key: (parts) => ({ ...key(parts), ...Object.fromEntries(fields.map((field) => [field, textOf(parts)])) }),
});
const SHAPES = {
    'April 2026': withText('_serialized'),
    today: withText('$1'),
    'another name': withText('$q'),
    'today, repaired': withText('$1', '_serialized'),
    'ids of people as text': { wid: (id) => id, key: withText('$1').key },
    'ids of people without text': {
        wid: partsOf,
        key: (parts) => ({ ...key(parts), remote: partsOf(parts.remote) }),
    },
};

/** A message of the library: of Davi to me unless given otherwise. */
function messageOf(given = {}, shape = SHAPES.today) {
    const { fromMe = false, chat = DAVI, author, type = 'chat', ...data } = given;
    const isGroup = chat.endsWith('@g.us');
    return new Message(null, {
        id: shape.key({ fromMe, remote: chat, id: 'ABC', ...(isGroup && author && { participant: author }) }),
        from: shape.wid(fromMe ? ME : chat),
        to: shape.wid(fromMe ? chat : ME),
        ...(author && { author: shape.wid(author) }),
        t: 1_767_225_600,
        type,
        ack: 1,
        ...data,
    });
}

const told = (given, shape) => describeMessage(messageOf(given, shape));

describe('a message', () => {
    const TEXT = { body: 'olá', notifyName: 'Davi' };

    for (const [name, shape] of Object.entries(SHAPES)) {
        it(`has the old members, and the new ones beside them (ids: ${name})`, () => {
            const { event_id: eventId, ...event } = told(TEXT, shape);
            assert.match(eventId, /^[0-9a-f]{32}$/);
            const sender = { id: DAVI, phone: '5521977770009', lid: null, name: 'Davi' };
            assert.deepEqual(event, {
                from: DAVI,
                phone: '5521977770009',
                body: 'olá',
                message: 'olá',
                timestamp: 1_767_225_600_000,
                event: 'message',
                recovered: false,
                id: `false_${DAVI}_ABC`,
                type: 'chat',
                chat: { id: DAVI, type: 'person', name: null },
                isGroup: false,
                fromMe: false,
                ephemeral: false,
                forwarded: false,
                sender,
                quoted: null,
                mentions: [],
                hasMedia: false,
                media: null,
                mimetype: null,
                filename: null,
                size: null,
                mediaUrl: null,
                location: null,
                contacts: null,
                poll: null,
                edited_at: null,
            });
            assert.equal(eventId, told(TEXT).event_id, 'the same, whatever the ids look like');
        });

        it(`names its group and who wrote it there (ids: ${name})`, () => {
            const event = told({ ...TEXT, chat: GROUP, author: DAVI }, shape);
            assert.equal(event.id, `false_${GROUP}_ABC_${DAVI}`);
            assert.deepEqual([event.from, event.phone], [GROUP, '5521977770009']);
            assert.deepEqual([event.chat.id, event.chat.type, event.isGroup], [GROUP, 'group', true]);
            assert.equal(event.sender.id, DAVI);
        });
    }

    it('has the same id when it is heard again, edited, or read back', () => {
        const event = told(TEXT);
        const again = describeMessage(messageOf({ ...TEXT, body: 'olá!', ack: 3 }), { recovered: true });
        assert.equal(again.event_id, event.event_id);
        assert.equal(again.recovered, true);
        assert.notEqual(told({ ...TEXT, chat: GROUP, author: DAVI }).event_id, event.event_id);
    });

    it('that was written on the phone, or sent from here, is an event of its own', () => {
        const event = told({ fromMe: true, body: 'on my way', notifyName: undefined });
        assert.equal(event.event, 'message.sent');
        assert.deepEqual([event.from, event.chat.id, event.fromMe], [ME, DAVI, true]);
        assert.deepEqual(event.sender, { id: ME, phone: '5511999998888', lid: null, name: null });
        const group = told({ fromMe: true, body: 'hi', chat: GROUP, author: ME });
        assert.deepEqual([group.chat.id, group.sender.id], [GROUP, ME]);
    });

    it('says what the page knows of its people and its chat', () => {
        const waportd = {
            chat: 'Family',
            me: [ME, '100511@lid'],
            people: {
                [LID]: { phone: '5521977770009', lid: LID, name: 'Davi S.' },
                '7@lid': { phone: '557', lid: '7@lid', name: null },
            },
        };
        const event = told({
            chat: GROUP,
            author: LID,
            body: '@7 yes',
            mentionedJidList: [wid('7@lid'), wid('8@lid'), '5512345678@c.us'],
            quotedMsg: { type: 'location', body: THUMBNAIL, loc: 'Sé\nSão Paulo' },
            quotedStanzaID: 'XYZ',
            quotedParticipant: wid('100511@lid'),
            isForwarded: true,
            ephemeralDuration: 86_400,
            waportd,
        });
        assert.deepEqual(event.chat, { id: GROUP, type: 'group', name: 'Family' });
        assert.equal(event.phone, '5521977770009');
        assert.deepEqual(event.sender, { id: LID, phone: '5521977770009', lid: LID, name: 'Davi S.' });
        assert.deepEqual(event.mentions, [
            { id: '7@lid', phone: '557' },
            { id: '8@lid', phone: null },
            { id: '5512345678@c.us', phone: '5512345678' },
        ]);
        assert.deepEqual(event.quoted, {
            id: `true_${GROUP}_XYZ_100511@lid`,
            sender: { id: '100511@lid', phone: null, lid: '100511@lid', name: null },
            body: 'Sé',
            type: 'location',
        });
        assert.deepEqual([event.forwarded, event.ephemeral], [true, true]);
    });

    it('that answers another names that one as far as it is known', () => {
        const quotedMsg = { type: 'chat', body: 'no?' };
        const quoted = (given) => told({ body: 'yes', quotedMsg, ...given }).quoted;
        const by = (who, given) => quoted({ quotedStanzaID: 'X', quotedParticipant: wid(who), ...given });
        assert.equal(by(DAVI).id, `false_${DAVI}_X`);
        assert.equal(by(ME).id, `true_${DAVI}_X`);
        assert.equal(by(ME, { fromMe: true }).id, `true_${DAVI}_X`);
        assert.equal(by(DAVI, { fromMe: true }).id, `false_${DAVI}_X`);
        assert.equal(by(LID).id, null, 'another kind of id than that of the chat: who knows');
        assert.equal(by(DAVI, { chat: GROUP, author: LID }).id, null);
        assert.equal(quoted({}).id, null);
        assert.equal(quoted({}).body, 'no?');
    });
});

describe('a kind of message', () => {
    const FILE = { directPath: '/f', mimetype: 'image/jpeg', size: 2000, caption: 'look', body: THUMBNAIL };
    const place = { lat: -23.5505, lng: -46.6333, body: THUMBNAIL };
    const contact = { name: 'Davi, the second', phones: ['5521977770009', '0800 123'], vcard: CARD };

    /** Kind → what the page gives, the words of it, and what else an event has. */
    const KINDS = {
        picture: [
            { type: 'image', ...FILE },
            'look',
            {
                hasMedia: true,
                mimetype: 'image/jpeg',
                filename: null,
                size: 2000,
                mediaUrl: `/media/${encodeURIComponent(`false_${DAVI}_ABC`)}`,
                media: {
                    type: 'image/jpeg',
                    name: null,
                    size: 2000,
                    seconds: null,
                    url: `/media/${encodeURIComponent(`false_${DAVI}_ABC`)}`,
                },
            },
        ],
        'picture without words': [{ type: 'image', ...FILE, caption: undefined }, '', { hasMedia: true }],
        'picture that cannot be fetched': [
            { type: 'image', body: THUMBNAIL },
            '',
            { hasMedia: false, media: null },
        ],
        'picture that is being sent': [
            { type: 'image', fromMe: true, body: THUMBNAIL, mimetype: 'image/png' },
            '',
            { hasMedia: true, mimetype: 'image/png' },
        ],
        voice: [
            { type: 'ptt', ...FILE, caption: undefined, mimetype: 'audio/ogg; codecs=opus', duration: '3' },
            '',
            {
                mimetype: 'audio/ogg; codecs=opus',
                media: {
                    type: 'audio/ogg; codecs=opus',
                    name: null,
                    size: 2000,
                    seconds: 3,
                    url: `/media/${encodeURIComponent(`false_${DAVI}_ABC`)}`,
                },
            },
        ],
        video: [{ type: 'video', ...FILE, mimetype: 'video/mp4' }, 'look', { mimetype: 'video/mp4' }],
        sticker: [{ type: 'sticker', ...FILE, caption: undefined }, '', { hasMedia: true }],
        document: [
            { type: 'document', ...FILE, filename: 'invoice.pdf' },
            'look',
            { filename: 'invoice.pdf', size: 2000 },
        ],
        location: [
            { type: 'location', ...place, loc: 'Sé\nPraça da Sé\nSão Paulo' },
            'Sé',
            {
                location: {
                    latitude: -23.5505,
                    longitude: -46.6333,
                    name: 'Sé',
                    address: 'Praça da Sé\nSão Paulo',
                    live: false,
                },
            },
        ],
        'location without a name': [{ type: 'location', ...place }, '', {}],
        'live location': [
            { type: 'location', ...place, isLive: true, comment: 'on my way' },
            'on my way',
            {
                location: {
                    latitude: -23.5505,
                    longitude: -46.6333,
                    name: null,
                    address: null,
                    live: true,
                },
            },
        ],
        'contact card': [{ type: 'vcard', body: CARD }, '', { contacts: [contact] }],
        'contact cards': [
            { type: 'multi_vcard', vcardList: [{ displayName: 'Davi', vcard: CARD }, {}] },
            '',
            {
                contacts: [
                    { ...contact, name: 'Davi' },
                    { name: null, phones: [], vcard: '' },
                ],
            },
        ],
        poll: [
            {
                type: 'poll_creation',
                pollName: 'When?',
                pollOptions: [{ name: 'now', localId: 0 }, { name: 'later' }],
                pollSelectableOptionsCount: 0,
            },
            'When?',
            { poll: { question: 'When?', options: ['now', 'later'], multiple: true } },
        ],
        list: [
            {
                type: 'list',
                list: {
                    title: 'Menu',
                    description: 'Choose',
                    buttonText: 'Open',
                    sections: [{ title: 'A', rows: [{ rowId: 'one', title: 'One' }] }],
                },
            },
            'Choose',
            {
                list: {
                    title: 'Menu',
                    description: 'Choose',
                    button: 'Open',
                    footer: null,
                    sections: [{ title: 'A', rows: [{ id: 'one', title: 'One', description: null }] }],
                },
            },
        ],
        'answer to a list': [
            {
                type: 'list_response',
                listResponse: { title: 'One', singleSelectReply: { selectedRowId: 'one' } },
            },
            'One',
            { choice: { id: 'one', text: 'One' } },
        ],
        buttons: [
            {
                type: 'chat',
                body: 'Sure?',
                dynamicReplyButtons: [{ buttonId: 'yes', buttonText: { displayText: 'Yes' } }],
            },
            'Sure?',
            { buttons: [{ id: 'yes', text: 'Yes' }] },
        ],
        'answer to buttons': [
            { type: 'buttons_response', body: 'Yes', selectedButtonId: 'yes' },
            'Yes',
            { choice: { id: 'yes', text: 'Yes' } },
        ],
        order: [
            { type: 'order', body: THUMBNAIL, orderId: '1', token: 't', orderTitle: 'Cake', itemCount: 2 },
            '',
            { order: { id: '1', token: 't', title: 'Cake', items: 2 } },
        ],
        product: [
            { type: 'product', body: THUMBNAIL, productId: '2', title: 'Cake', description: 'sweet' },
            '',
            { product: { id: '2', title: 'Cake', description: 'sweet' } },
        ],
        interactive: [{ type: 'interactive', body: 'Press one' }, 'Press one', {}],
        'invitation to a group': [
            {
                type: 'groups_v4_invite',
                inviteGrp: wid(GROUP),
                inviteGrpName: 'Neighbours',
                inviteCode: 'ABC',
                inviteCodeExp: '1800000000',
            },
            '',
            { invite: { group: GROUP, name: 'Neighbours', code: 'ABC', expires_at: 1_800_000_000_000 } },
        ],
        meeting: [
            { type: 'event_creation', eventName: 'Lunch', eventStartTime: 1_800_000_000 },
            'Lunch',
            {
                meeting: {
                    name: 'Lunch',
                    description: null,
                    place: null,
                    begins_at: 1_800_000_000_000,
                    ends_at: null,
                },
            },
        ],
        'kind that this version does not know': [{ type: 'hologram', body: THUMBNAIL }, '', {}],
        'kind that the phone alone can show': [{ type: 'unknown', body: undefined }, '', {}],
        'edited text': [
            { body: 'second', latestEditSenderTimestampMs: 1_767_225_700_123 },
            'second',
            { edited_at: 1_767_225_700_123 },
        ],
    };
    for (const [name, [given, words, members]] of Object.entries(KINDS)) {
        it(`is described: ${name}`, () => {
            const event = told(given);
            assert.deepEqual([event.body, event.message, event.type], [words, words, given.type ?? 'chat']);
            const picked = Object.fromEntries(Object.keys(members).map((member) => [member, event[member]]));
            assert.deepEqual(picked, members);
            assert.deepEqual(JSON.parse(JSON.stringify(event)), event, 'plain values');
            assert.equal(JSON.stringify(event).includes(THUMBNAIL.slice(0, 100)), false, 'no picture');
            const { body, ...entry } = describeEntry(messageOf(given));
            assert.equal(body, words, 'in the history, too');
            for (const member of Object.keys(members)) assert.deepEqual(entry[member], event[member]);
        });
    }

    it('is never somebody’s words where nobody wrote it', () => {
        const TECHNICAL = [
            'album',
            'broadcast_notification',
            'call_log',
            'ciphertext',
            'debug',
            'e2e_notification',
            'gp2',
            'group_notification',
            'notification',
            'notification_template',
            'pin_message',
            'protocol',
            'reaction',
        ];
        for (const type of TECHNICAL) {
            assert.equal(told({ type, body: 'words', caption: 'words' }), null, type);
            assert.equal(describeEntry(messageOf({ type, body: 'words', caption: 'words' })).body, '', type);
        }
    });

    it('that the library or the stand-in knows is described, or left out on purpose', () => {
        const kinds = new Set([...Object.values(MessageTypes), ...Object.keys(TYPES)]);
        const left = [];
        for (const kind of kinds) {
            const data = TYPES[kind] ? describeOnSite(kind, { body: 'words' }, () => '/f') : { type: kind };
            const event = told(data);
            if (event === null) left.push(kind);
            else assert.equal(event.type, data.type);
        }
        assert.deepEqual(left.sort(), [
            'album',
            'broadcast_notification',
            'call_log',
            'ciphertext',
            'debug',
            'e2e_notification',
            'gp2',
            'group_notification',
            'notification',
            'notification_template',
            'protocol',
            'reaction',
        ]);
    });

    it('that is made to be slow to read, or has half a character in its id, is reported all the same', () => {
        const phones = Array.from({ length: 60_000 }, (_, index) => `TEL:${index}`);
        const lines = `BEGIN:VCARD\n${phones.join('\n')}\n${phones.join('\n')}\nEND:VCARD`;
        const before = process.cpuUsage();
        const card = describeMessage(messageOf({ type: 'vcard', body: lines }));
        assert.equal(card.contacts[0].phones.length, phones.length);
        const mentioned = Array.from({ length: 100_000 }, (_, index) => `${index + 10_000}@c.us`);
        assert.equal(describeMessage(messageOf({ mentionedJidList: mentioned })).mentions.length, 100_000);
        const { user } = process.cpuUsage(before);
        assert.ok(user < 5_000_000, `${user} µs of a processor`);
        const half = { id: { fromMe: false, remote: '1@c.us', _serialized: 'false_1@c.us_\ud800' } };
        const { mediaUrl } = describeMessage(messageOf({ ...half, type: 'image', directPath: '/x' }));
        assert.equal(mediaUrl, '/media/false_1%40c.us_%EF%BF%BD');
    });

    it('with members of a shape that nobody expects is described all the same', () => {
        const odd = [null, 7, '', 'x', [], {}, [null], { a: null }, true, -1];
        const members = [
            'body caption directPath mimetype size duration lat lng loc list listResponse vcardList pollName',
            'pollOptions pollSelectableOptionsCount quotedMsg quotedStanzaID quotedParticipant author',
            'mentionedJidList dynamicReplyButtons inviteGrp eventLocation notifyName waportd t',
            'latestEditSenderTimestampMs protocolMessageKey',
        ].flatMap((line) => line.split(' '));
        for (const type of [...Object.values(MessageTypes), 'hologram', undefined, null]) {
            for (const member of members) {
                for (const value of odd) {
                    // The library reads members of these itself.
                    const data = { ...messageOf()._data, type, [member]: value };
                    const event = describeMessage({ _data: data });
                    JSON.stringify(event);
                    JSON.stringify(describeEntry({ _data: data }));
                    if (event?.event === 'message') assert.equal(typeof event.body, 'string', member);
                }
            }
        }
    });
});

describe('the number of somebody', () => {
    const phones = (given) => {
        const { phone, sender } = told({ body: 'x', ...given });
        assert.equal(phone, sender.phone);
        return phone;
    };

    it('is in ids that begin with one, of a device, too', () => {
        assert.equal(phones({ chat: '5511@c.us' }), null, 'too short for one');
        assert.equal(phones({ chat: '55119999@c.us' }), '55119999');
        assert.equal(phones({ chat: '55119999@s.whatsapp.net' }), '55119999');
        assert.equal(phones({ chat: '55119999:12@c.us' }), '55119999');
        assert.equal(phones({ chat: '55119999@hosted' }), '55119999');
        assert.equal(phones({ chat: GROUP, author: '55119999:3@c.us' }), '55119999');
    });

    it('is nobody’s where an id has other digits in it', () => {
        const others = [
            '100200300@lid',
            '100200300:2@lid',
            '100200300@hosted.lid',
            '867051314767696@bot',
            '120363000000000001@newsletter',
            '1700000000@broadcast',
            'status@broadcast',
            GROUP,
            '5511999998888-1500000000@g.us',
            '0@c.us',
            '123456@interop',
            'nobody',
            '',
        ];
        for (const chat of others) assert.equal(phones({ chat }), null, chat);
        const known = { people: { [GROUP]: { phone: '5511' }, '1@newsletter': { phone: '5511' } } };
        assert.equal(phones({ chat: GROUP, waportd: known }), null, 'a group without author is nobody');
        assert.equal(phones({ chat: '1@newsletter', waportd: known }), null);
    });

    it('is null where the page does not know it, and may be asked for', () => {
        const event = told({ chat: GROUP, author: LID, body: 'x' });
        assert.deepEqual([event.phone, unknownSender(event)], [null, LID]);
        const members = withNumber(event, LID, '5521977770009');
        assert.deepEqual(members, {
            phone: '5521977770009',
            sender: { ...event.sender, phone: '5521977770009' },
        });
        assert.equal(unknownSender({ ...event, ...members }), null);
        assert.equal(unknownSender(told({ body: 'x' })), null);
        assert.equal(unknownSender(told({ body: 'x', chat: GROUP })), null, 'nobody');
        assert.equal(unknownSender(describeSession({ state: 'ready', since: '2026-01-01T00:00:00Z' })), null);
    });
});

describe('a chat', () => {
    it('of each kind of id is known by its kind', () => {
        const KINDS = {
            [DAVI]: 'person',
            [LID]: 'person',
            '867051314767696@bot': 'person',
            '1@hosted.lid': 'person',
            [GROUP]: 'group',
            '120363000000000002@newsletter': 'channel',
            'status@broadcast': 'status',
            '1700000000@broadcast': 'broadcast',
        };
        for (const [chat, type] of Object.entries(KINDS)) {
            assert.deepEqual(told({ chat, body: 'x' }).chat, { id: chat, type, name: null });
        }
        assert.equal(told({ chat: '1@call', body: 'x' }), null, 'nobody writes in a call');
    });

    it('that is a status names who posted it', () => {
        const event = told({ chat: 'status@broadcast', author: DAVI, body: 'holidays' });
        assert.deepEqual([event.phone, event.sender.id], ['5521977770009', DAVI]);
    });
});

describe('what happens to a message', () => {
    const NOW = { now: 1_767_300_000_000 };
    const mine = (given) => messageOf({ fromMe: true, body: 'hello', ...given });

    it('ack: how far an own one has come, in words', () => {
        const words = { '-1': 'error', 0: 'pending', 1: 'server', 2: 'device', 3: 'read', 4: 'played' };
        const seen = new Set();
        for (const [ack, word] of Object.entries(words)) {
            const event = describeAck(mine(), Number(ack), NOW);
            assert.deepEqual(
                [event.event, event.ack, event.id, event.timestamp],
                ['message.ack', word, `true_${DAVI}_ABC`, NOW.now],
            );
            seen.add(event.event_id);
        }
        assert.equal(seen.size, 6);
        assert.equal(describeAck(messageOf({ body: 'x' }), 3), null, 'of others');
        assert.equal(describeAck(mine(), 9), null);
        const [one, two] = [1, 2].map((now) => describeAck(mine(), 3, { now }).event_id);
        assert.equal(one, two, 'told twice is once');
    });

    it('edit: the words before and now, and when', () => {
        const at = 1_767_225_700_123;
        const edited = messageOf({ body: 'second', latestEditSenderTimestampMs: at });
        const event = describeEdit(edited, 'second', 'first', NOW);
        assert.equal(event.event, 'message.edited');
        assert.deepEqual(
            [event.body, event.previous, event.edited_at, event.timestamp, event.sender.id],
            ['second', 'first', at, at, DAVI],
        );
        assert.equal(describeEdit(edited, 'second', undefined, NOW).event_id, event.event_id);
        const plain = describeEdit(messageOf({ body: 'second' }), 'second', 'first', NOW);
        assert.equal(plain.edited_at, NOW.now, 'a page that does not tell when');
        const caption = messageOf({ type: 'image', directPath: '/f', body: THUMBNAIL, caption: 'second' });
        assert.equal(describeEdit(caption, 'second', 'first').body, 'second');
    });

    it('edit: is none where only a picture was drawn, or it can be read at last', () => {
        const picture = messageOf({ type: 'image', directPath: '/f', body: THUMBNAIL, caption: 'look' });
        assert.equal(describeEdit(picture, THUMBNAIL, 'older picture'), null);
        assert.equal(describeEdit(messageOf({ body: 'words' }), 'words', undefined), null);
        assert.equal(describeEdit(messageOf({ body: 'words' }), 'words', 'words'), null);
        assert.equal(describeEdit(messageOf({ type: 'gp2', body: 'new' }), 'new', 'old'), null);
        const place = messageOf({ type: 'location', body: THUMBNAIL, lat: 1, lng: 2 });
        assert.equal(describeEdit(place, THUMBNAIL, 'older picture'), null, 'who shares a place moves');
    });

    it('revoke: whose message, and who did it', () => {
        const event = describeRevoke(messageOf({ type: 'revoked' }), NOW);
        assert.deepEqual(
            [event.event, event.id, event.everyone, event.by.phone],
            ['message.revoked', `false_${DAVI}_ABC`, true, '5521977770009'],
        );
        const read = describeMessage(messageOf({ type: 'revoked' }), { recovered: true });
        assert.deepEqual([read.event_id, read.recovered], [event.event_id, true], 'read back it is the same');
        const original = { fromMe: false, remote: GROUP, id: 'OLD', participant: wid(DAVI) };
        const admin = describeRevoke(
            messageOf({
                type: 'revoked',
                chat: GROUP,
                author: DAVI,
                protocolMessageKey: { ...original, $1: `false_${GROUP}_OLD_${DAVI}` },
                revokeSender: wid('5511911112222@c.us'),
            }),
        );
        assert.deepEqual([admin.id, admin.by.phone], [`false_${GROUP}_OLD_${DAVI}`, '5511911112222']);
        const here = describeRevoke(messageOf({ body: 'secret' }), { everyone: false });
        assert.deepEqual([here.everyone, here.by], [false, null]);
        assert.equal(JSON.stringify(here).includes('secret'), false);
        assert.notEqual(here.event_id, event.event_id);
    });

    it('reaction: for which message, by which person; an empty one takes it back', () => {
        const reaction = (given = {}, shape = SHAPES.today) =>
            new Reaction(null, {
                msgKey: shape.key({ fromMe: false, remote: DAVI, id: 'R' }),
                parentMsgKey: shape.key({ fromMe: true, remote: DAVI, id: 'ABC' }),
                senderUserJid: DAVI,
                reactionText: '👍',
                timestamp: 1_767_225_700.5,
                ...given,
            });
        for (const shape of Object.values(SHAPES)) {
            const event = describeReaction(reaction({}, shape));
            assert.deepEqual(
                [event.event, event.reaction, event.id, event.timestamp, event.sender.phone, event.chat.id],
                ['message.reaction', '👍', `true_${DAVI}_ABC`, 1_767_225_700_500, '5521977770009', DAVI],
            );
            assert.equal(event.event_id, describeReaction(reaction()).event_id);
        }
        const late = (ms) => describeReaction(reaction(), { now: 1_767_225_700_500 + ms }).recovered;
        assert.deepEqual([late(-500), late(60_000), late(60_001)], [false, false, true]);
        assert.equal(describeReaction(reaction({ senderUserJid: undefined })).sender.id, DAVI);
        assert.equal(describeReaction(reaction({ reactionText: undefined })).reaction, '');
        const group = SHAPES.today.key({ fromMe: false, remote: GROUP, id: 'R' });
        const nobody = describeReaction(
            reaction({ msgKey: group, parentMsgKey: { ...group, id: 'ABC' }, senderUserJid: undefined }),
        );
        assert.deepEqual([nobody.sender.id, nobody.isGroup], [null, true]);
        const other = describeReaction(reaction({ senderUserJid: LID }));
        assert.equal(unknownSender(other), LID);
        assert.deepEqual(withNumber(other, LID, '55'), { sender: { ...other.sender, phone: '55' } });
    });

    it('read back it is the same as it was, or would have been, heard', () => {
        const readBack = (message) => describeReadBack(message, NOW);
        const ids = (...events) => events.map(({ event, event_id: id }) => [event, id]);
        const edited = mine({ body: 'second', latestEditSenderTimestampMs: 1_767_225_700_123, ack: 3 });
        assert.deepEqual(
            ids(...readBack(edited)),
            ids(describeMessage(edited), describeEdit(edited, 'second', 'first'), describeAck(edited, 3)),
        );
        assert.ok(readBack(edited).every(({ recovered }) => recovered));
        const plain = messageOf({ body: 'x', ack: 3 });
        assert.deepEqual(ids(...readBack(plain)), ids(describeMessage(plain)));
        assert.deepEqual(readBack(mine({ ack: 0 })).length, 1, 'on its way');
        const gone = mine({ type: 'revoked', ack: 3 });
        assert.deepEqual(ids(...readBack(gone)), ids(describeRevoke(gone)));
        assert.deepEqual(readBack(messageOf({ type: 'gp2' })), []);
    });

    it('call: from which person, with a picture or not', () => {
        const call = (given) => new Call(null, { id: 'C', peerJid: wid(DAVI), isVideo: true, ...given });
        const event = describeCall(call(), NOW);
        assert.deepEqual(event.call, {
            id: 'C',
            from: DAVI,
            phone: '5521977770009',
            video: true,
            group: false,
        });
        assert.deepEqual([event.event, event.timestamp], ['call', NOW.now]);
        assert.equal(describeCall(call(), { now: 1 }).event_id, event.event_id);
        assert.equal(describeCall(call({ outgoing: true })), null);
        const hidden = describeCall(call({ peerJid: wid(LID) }));
        assert.equal(hidden.call.phone, null);
        assert.equal(withNumber(hidden, unknownSender(hidden), '55119').call.phone, '55119');
    });

    it('session: its state and why, and no code', () => {
        const document = {
            state: 'qr',
            since: '2026-01-01T00:00:00.000Z',
            cause: null,
            message: 'waiting',
            qr: 'SECRET',
            pairing: { code: 'SECRET' },
        };
        const event = describeSession(document);
        assert.deepEqual(event.session, { state: 'qr', cause: null, message: 'waiting' });
        assert.equal(event.timestamp, Date.parse('2026-01-01T00:00:00Z'));
        assert.equal(JSON.stringify(event).includes('SECRET'), false);
        assert.notEqual(
            describeSession({ ...document, since: '2026-01-01T00:00:01.000Z' }).event_id,
            event.event_id,
        );
    });
});

describe('the table of events', () => {
    const SERVER = fs.readFileSync(path.join(__dirname, '..', '..', 'docs', 'server.md'), 'utf8');
    const [, table] = /^## Events and their members$(.*?)^## /ms.exec(SERVER);

    it('in docs/server.md has each event, and each member of each', () => {
        const own = messageOf({ fromMe: true, body: 'x', ack: 1 });
        const text = messageOf({ body: 'x' });
        const events = [
            ...Object.keys(TYPES).map((kind) => told(describeOnSite(kind, { body: 'words' }, () => '/f'))),
            told({ body: 'x', dynamicReplyButtons: [{ buttonId: '1' }] }),
            describeMessage(own),
            describeAck(own, 3),
            describeEdit(text, 'x', 'y'),
            describeRevoke(text),
            describeReaction({ id: text.id, msgId: text.id }),
            describeCall({ from: DAVI }),
            describeSession({ state: 'ready', since: '2026-01-01T00:00:00Z' }),
        ].filter((event) => event !== null);
        const members = new Set(events.flatMap((event) => Object.keys(event)));
        const names = new Set(events.map(({ event }) => event));
        assert.ok(names.size === 8 && members.size > 30);
        const isTold = (word) => table.includes(`\`${word}\``);
        assert.deepEqual(
            [...names, ...members].filter((word) => !isTold(word)),
            [],
        );
    });
});

describe('an entry of a history', () => {
    it('has its old members: the group it is from, and the name in a card only', () => {
        const entry = describeEntry(messageOf({ chat: GROUP, author: DAVI, body: 'hi', notifyName: 'Davi' }));
        assert.deepEqual([entry.from, entry.sender.id, entry.contactName], [GROUP, DAVI, null]);
        assert.equal(entry.messageId, entry.id);
        const card = describeEntry(messageOf({ type: 'vcard', body: CARD, vcardFormattedName: 'Davi' }));
        assert.equal(card.contactName, 'Davi');
        assert.equal(describeEntry(messageOf({ fromMe: true, body: 'x', ack: 3 })).ack, 'read');
    });
});

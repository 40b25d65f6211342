'use strict';

/** Ids of every kind in each path that takes one: understood, or refused with a code, on purpose. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const chats = require('../../server/chats');
const contacts = require('../../server/contacts');
const groups = require('../../server/groups');
const { openMedia, openPicture } = require('../../server/media');
const { Turns } = require('../../server/turns');

/** A client that knows whatever it is asked for, and notes by which id it was. */
function clientOf() {
    const client = { asked: [], turns: new Turns(), requests: new Turns(), changes: new Turns() };
    client.downloads = new Turns();
    const knows = (answer) => async (id) => {
        client.asked.push(id);
        return typeof answer === 'function' ? answer(id) : answer;
    };
    const file = { problem: null, size: 1, type: null, name: null };
    return Object.assign(client, {
        readChat: knows((id) => ({ id, lastMessage: '' })),
        readHistory: knows({ messages: [], hasMore: false, hasEarlier: null }),
        askForEarlier: knows({ asked: false, hasEarlier: null }),
        readContact: knows((id) => ({ id })),
        readGroup: knows((id) => ({ id })),
        leaveGroup: knows(null),
        openPicture: knows(file),
        openFile: knows(file),
        closeFile: async () => {},
    });
}

const forEver = new AbortController().signal;
const closed = async (opening) => (await opening).close();
/** What each path does with an id. */
const PATHS = {
    chat: (client, id) => chats.readChat(client, id),
    messages: (client, id) => chats.listMessages(client, id, { limit: null, before: null }),
    earlier: (client, id) => chats.askForEarlier(client, id),
    contact: (client, id) => contacts.readContact(client, id),
    picture: (client, id) => closed(openPicture(client, id, 10, forEver)),
    group: (client, id) => groups.readGroup(client, id),
    leave: (client, id) => groups.leaveGroup(client, id, 5_000),
};
const CHAT = ['chat', 'messages', 'earlier'];
const PERSON = [...CHAT, 'contact', 'picture'];
const GROUP = [...CHAT, 'picture', 'group', 'leave'];

/** Each kind of id: how the page is asked for it, and by which paths. All others answer 400 `bad_id`. */
const IDS = [
    ['5511988887777@c.us', '5511988887777@c.us', PERSON],
    ['5511988887777@s.whatsapp.net', '5511988887777@c.us', PERSON],
    ['5511988887777:12@s.whatsapp.net', '5511988887777@c.us', PERSON],
    ['5511988887777:0@c.us', '5511988887777@c.us', PERSON],
    ['100120363@lid', '100120363@lid', PERSON],
    ['100120363:7@lid', '100120363@lid', PERSON],
    ['5511988887777@hosted', '5511988887777@hosted', PERSON],
    ['100120363@hosted.lid', '100120363@hosted.lid', PERSON],
    ['13135550002@bot', '13135550002@bot', PERSON],
    ['120363000000000001@g.us', '120363000000000001@g.us', GROUP],
    ['5511988887777-1500000000@g.us', '5511988887777-1500000000@g.us', GROUP],
    ['120363000000000002@newsletter', '120363000000000002@newsletter', [...CHAT, 'picture']],
    ['1500000000@broadcast', '1500000000@broadcast', CHAT],
    ['status@broadcast', 'status@broadcast', CHAT],
    ['3EB0ABCDEF@call', null, []],
    ['5511988887777', null, []],
    ['+55 11 98888-7777', null, []],
    ['Ana', null, []],
    ['@c.us', null, []],
    ['a@b@c.us', null, []],
    ["1'2@c.us", null, []],
    ['../chats@c.us', null, []],
    [`${'1'.repeat(65)}@c.us`, null, []],
    ['', null, []],
];

describe('ids that callers give', () => {
    for (const [given, known, paths] of IDS) {
        it(`${given || '(none)'}: ${paths.length === 0 ? 'no chat' : paths.join(', ')}`, async () => {
            for (const [name, call] of Object.entries(PATHS)) {
                const client = clientOf();
                if (paths.includes(name)) {
                    await call(client, given);
                    assert.equal(client.asked[0], known, name);
                    continue;
                }
                const refused = (error) => error.status === 400 && error.body.code === 'bad_id';
                await assert.rejects(call(client, given), refused, name);
                assert.deepEqual(client.asked, [], name);
            }
        });
    }

    it('of messages are looked for as they are, and others are no message', async () => {
        for (const [id, isOne] of [
            ['false_5511988887777@c.us_3EB0', true],
            ['true_120363000000000001@g.us_3EB0_5511988887777@c.us', true],
            ['false_120363000000000001@g.us_3EB0_100120363:7@lid', true],
            ['false_status@broadcast_3EB0_5511988887777@c.us', true],
            ['false_120363000000000002@newsletter_3EB0', true],
            ['5511988887777@c.us', false],
            ['3EB0', false],
            ['null', false],
            ['', false],
        ]) {
            const client = clientOf();
            const opened = closed(openMedia(client, id, 10, forEver));
            if (isOne) await opened;
            else await assert.rejects(opened, (error) => error.body.code === 'no_media', id);
            assert.deepEqual(client.asked, isOne ? [id] : [], id);
        }
    });
});

describe('numbers of chats', () => {
    it('are none where the digits of an id are nobody’s', async () => {
        const told = async (id, phone = null) => {
            const client = { turns: new Turns(), readChat: async () => ({ id, phone, lastMessage: '' }) };
            const chat = await chats.readChat(client, id);
            return [chat.type, chat.phone];
        };
        assert.deepEqual(await told('5511988887777@c.us'), ['person', '5511988887777']);
        assert.deepEqual(await told('5511988887777@hosted'), ['person', '5511988887777']);
        assert.deepEqual(await told('100120363@lid', '5511988887777'), ['person', '5511988887777']);
        for (const id of ['100120363@lid', '100120363@hosted.lid', '13135550002@bot']) {
            assert.deepEqual(await told(id), ['person', ''], id);
        }
        assert.deepEqual(await told('120363000000000001@g.us'), ['group', '120363000000000001']);
        assert.deepEqual(await told('7@newsletter'), ['channel', '7']);
        assert.deepEqual(await told('7@broadcast'), ['broadcast', '7']);
    });
});

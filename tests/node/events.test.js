'use strict';

/**
 * What is said of messages of every kind, and of what happens to them, by the unmodified library in a real
 * browser: on the page of today and that of April 2026, with the names of several builds.
 */

const assert = require('node:assert/strict');
const { once } = require('node:events');
const http = require('node:http');
const path = require('node:path');
const { json } = require('node:stream/consumers');
const { describe, it } = require('node:test');

const { describeEntry } = require('../../server/describe');
const { Incoming } = require('../../server/incoming');
const { Journal } = require('../../server/journal');
const { hear } = require('../../server/page_events');
const { TYPES } = require('../standin/messages');
const { openLinked, site } = require('./support/client');
const { PlainJournal } = require('./support/plain-journal');
const { whenFound } = require('./support/process');
const { PHONE, startLinked } = require('./support/session');

const DAVI = '5521977770009';
const FAMILY = '120363000000000001@g.us';
const PAGES = [
    ['today', '1'],
    ['today', '2'],
    ['2026-04', '1'],
    ['2026-04', '3'],
];
/** Kinds that nobody wrote: no event, or one of another name. */
const NOTICES = [
    'album',
    'call_log',
    'ciphertext',
    'e2e_notification',
    'gp2',
    'notification_template',
    'protocol',
];
/** What only a kind has. */
const MEMBERS = {
    image: { hasMedia: true, mimetype: 'image/jpeg', size: 2000 },
    ptt: { hasMedia: true, mimetype: 'audio/ogg; codecs=opus' },
    document: { filename: 'invoice.pdf' },
    location: {
        location: { latitude: -23.5505, longitude: -46.6333, name: 'Sé', address: 'São Paulo', live: false },
    },
    poll_creation: { poll: { question: 'When?', options: ['now', 'later'], multiple: false } },
    list_response: { choice: { id: 'one', text: 'words' } },
};
/** The words of kinds that have others than those of the sender: none, or their own. */
const WORDS = {
    location: 'Sé',
    live_location: 'on my way',
    vcard: '',
    multi_vcard: '',
    poll_creation: 'When?',
    event_creation: 'Meeting',
    order: '',
    product: '',
    groups_v4_invite: '',
    unknown: '',
};

/** A linked client, and all that is reported of it: `until(event, id)` resolves with one. */
async function listen(t, ...args) {
    const standin = await site(t, ...args);
    const client = await openLinked(t, standin);
    const events = [];
    hear(client, (event) => events.push(event));
    const until = (name, id, from = 0) => {
        const isIt = (one) => one.event === name && (id === undefined || one.id?.includes(id));
        const told = () => events.map(({ event, type }) => `${event} ${type}`);
        return whenFound(
            async () => events.slice(from).find(isIt),
            () => `${name} of ${id}, not only ${told()}`,
        );
    };
    const command = (name, body) => standin.command(name, { phone: PHONE, ...body });
    return { client, standin, events, until, command };
}

for (const [shape, seed] of PAGES) {
    const isLid = shape === 'today';
    const who = isLid ? `100${DAVI}@lid` : `${DAVI}@c.us`;
    const sender = { id: who, phone: DAVI, lid: `100${DAVI}@lid`, name: 'Davi' };

    describe(`in the page of ${shape} with the names of build ${seed}`, () => {
        it('each kind of message is reported with what is in it, live and in the history', async (t) => {
            const { client, events, until, command } = await listen(t, '--shape', shape, '--seed', seed);
            const ids = {};
            for (const type of Object.keys(TYPES)) {
                const body = ['vcard', 'location', 'live_location'].includes(type) ? undefined : 'words';
                ids[type] = (await command('message', { from: DAVI, name: 'Davi', type, body })).id;
            }
            const kinds = Object.keys(TYPES).filter((type) => !NOTICES.includes(type));
            const history = await (await client.getChatById(who)).fetchMessages({ limit: 100 });
            const entries = history.map(describeEntry);
            for (const type of kinds) {
                const event = await until('message', ids[type]);
                assert.deepEqual(event.sender, sender, type);
                assert.deepEqual([event.from, event.phone], [who, DAVI], type);
                assert.deepEqual(event.chat, { id: who, type: 'person', name: 'Davi' }, type);
                assert.equal(event.id, `false_${who}_${ids[type]}`);
                assert.equal(event.type, TYPES[type].type ?? type);
                assert.equal(event.body, WORDS[type] ?? 'words', type);
                const entry = entries.find(({ id }) => id === event.id);
                const wanted = Object.keys(MEMBERS[type] ?? {});
                for (const told of [event, entry]) {
                    const found = Object.fromEntries(wanted.map((member) => [member, told[member]]));
                    assert.deepEqual(found, MEMBERS[type] ?? {}, type);
                }
                assert.equal(entry.body, event.body, type);
                assert.deepEqual(entry.sender, event.sender, type);
            }
            const card = await until('message', ids.vcard);
            assert.deepEqual(card.contacts[0].phones, [DAVI]);
            assert.equal(entries.find(({ id }) => id === card.id).contactName, 'Davi');
            const notices = events.filter(({ id }) => NOTICES.some((type) => id?.includes(ids[type])));
            assert.deepEqual(notices, [], 'what nobody wrote');
        });

        it('groups, channels, statuses, answers and mentions name who is who', async (t) => {
            const { until, command } = await listen(t, '--shape', shape, '--seed', seed);
            const say = async (given) => {
                const words = { from: DAVI, name: 'Davi', body: 'words' };
                const { id } = await command('message', { ...words, ...given });
                return until('message', id);
            };
            const group = await say({ group: FAMILY, mentionedJidList: [`100${DAVI}@lid`] });
            assert.deepEqual([group.from, group.isGroup, group.phone], [FAMILY, true, DAVI]);
            assert.deepEqual(group.chat, { id: FAMILY, type: 'group', name: 'Family' });
            assert.deepEqual(group.sender, sender);
            assert.deepEqual(group.mentions, [{ id: `100${DAVI}@lid`, phone: DAVI }]);
            const [, , quoted] = group.id.split('_');
            const answer = await say({ group: FAMILY, quoted });
            assert.deepEqual(
                [answer.quoted.id, answer.quoted.body, answer.quoted.sender.phone],
                [group.id, 'words', DAVI],
            );
            const status = await say({ group: 'status@broadcast' });
            assert.deepEqual([status.chat.type, status.phone], ['status', DAVI]);
            const channel = await say({ from: '120363000000000007@newsletter', name: 'News' });
            assert.deepEqual([channel.chat.type, channel.phone], ['channel', null]);
            const list = await say({ from: '1700000000@broadcast' });
            assert.deepEqual([list.chat.type, list.phone], ['broadcast', null]);
            const other = await say({ lid: !isLid });
            assert.equal(other.phone, DAVI, 'by its other id, too');
        });

        it('what happens to messages is reported: sent, ack, edit, revocation, reaction, call', async (t) => {
            const { client, events, until, command } = await listen(t, '--shape', shape, '--seed', seed);
            const change = (kind, id, more) => command('change', { kind, id, ...more });
            const { id } = await command('message', { from: DAVI, name: 'Davi', body: 'first' });
            const message = await until('message', id);
            await change('edit', id, { body: 'second' });
            const edited = await until('message.edited', id);
            assert.deepEqual(
                [edited.id, edited.body, edited.previous, edited.sender.phone],
                [message.id, 'second', 'first', DAVI],
            );
            assert.ok(Math.abs(edited.edited_at - Date.now()) < 60_000);
            await change('reaction', id, { from: DAVI, text: '👍' });
            const reaction = await until('message.reaction', id);
            assert.deepEqual([reaction.reaction, reaction.id, reaction.sender.id], ['👍', message.id, who]);
            const from = events.length;
            await change('reaction', id, { from: DAVI, text: '' });
            assert.equal((await until('message.reaction', id, from)).reaction, '');
            await change('revoke', id);
            const revoked = await until('message.revoked', id);
            assert.deepEqual([revoked.id, revoked.everyone, revoked.by.phone], [message.id, true, DAVI]);
            const kept = (await (await client.getChatById(who)).fetchMessages({ limit: 5 })).at(-1);
            assert.equal(kept.type, 'revoked');

            const group = await command('message', { from: DAVI, group: FAMILY, body: 'rude' });
            await until('message', group.id);
            await change('revoke', group.id, { by: '5511977770001' });
            const removed = await until('message.revoked', group.id);
            assert.deepEqual([removed.sender.phone, removed.by.phone], [DAVI, '5511977770001']);

            const own = await command('message', { fromMe: true, to: DAVI, body: 'from the phone' });
            const sent = await until('message.sent', own.id);
            assert.deepEqual([sent.chat.id, sent.fromMe, sent.phone], [who, true, PHONE]);
            const acks = { read: 3, played: 4, error: -1 };
            for (const [word, ack] of Object.entries(acks)) {
                await change('ack', own.id, { ack });
                const isIt = (one) => one.event === 'message.ack' && one.ack === word;
                assert.equal((await whenFound(async () => events.find(isIt), word)).id, sent.id);
            }
            await change('delete', own.id);
            assert.equal((await until('message.revoked', own.id)).everyone, false);
            await client.sendMessage(who, 'from here');
            const isHere = ({ event, body }) => event === 'message.sent' && body === 'from here';
            const here = await whenFound(async () => events.find(isHere), 'what was sent from here');
            assert.equal((await until('message.ack', here.id)).ack, 'server');

            await command('call', { from: DAVI, video: true });
            const { call, sender: caller } = await until('call');
            assert.deepEqual([call.from, call.video, call.group, caller.id], [who, true, false, who]);
            assert.equal(new Set(events.map(({ event_id: each }) => each)).size, events.length, 'each once');
        });
    });
}

for (const [shape, seed] of [
    ['today', '3'],
    ['2026-04', '2'],
]) {
    it(`each kind is in the journal of a server with the page of ${shape}, build ${seed}`, async (t) => {
        const standin = await site(t, '--shape', shape, '--seed', seed);
        const posted = [];
        const app = http.createServer((request, response) => {
            json(request).then((body) => {
                posted.push(body);
                response.end();
            });
        });
        await once(app.listen(0, '127.0.0.1'), 'listening');
        t.after(() => app.close());
        const url = `http://127.0.0.1:${app.address().port}/`;
        const { server } = await startLinked(t, standin, { env: { WAPORTD_WEBHOOK_URL: url } });
        const command = (name, body) => standin.command(name, { phone: PHONE, from: DAVI, ...body });
        const kinds = Object.keys(TYPES).filter((type) => !NOTICES.includes(type));
        const ids = {};
        for (const type of Object.keys(TYPES)) {
            ids[type] = (await command('message', { type, body: 'x' })).id;
        }
        await command('message', { group: 'status@broadcast', body: 'left out' });
        const own = await standin.command('message', { phone: PHONE, fromMe: true, to: DAVI, body: 'x' });
        await standin.command('change', { phone: PHONE, kind: 'ack', id: own.id, ack: 3 });
        await command('change', { kind: 'edit', id: ids.chat, body: 'y' });
        await command('change', { kind: 'reaction', id: ids.chat, text: '👍' });
        await command('change', { kind: 'revoke', id: ids.chat });
        await command('call', {});
        await whenFound(
            async () => posted.length === kinds.length,
            () => `all kinds, not only ${posted.map(({ type }) => type)}`,
        );
        server.kill('SIGTERM');
        assert.equal(await server.exit(), 0);
        const directory = path.join(server.directory, `.wwebjs_auth_${server.port}`, 'messages');
        const journal = await Journal.open({ directory, maxAge: 1000, maxBytes: 1e7, log: console });
        t.after(() => journal.close());
        const { entries } = await journal.read({ limit: 1000 });
        const events = entries.map(({ event }) => event);
        const messages = events.filter(({ event }) => event === 'message');
        assert.deepEqual(
            messages.map(({ id }) => id.split('_')[2]),
            kinds.map((type) => ids[type]),
            'in order, and no notice',
        );
        assert.deepEqual(posted, messages, 'the same');
        for (const { sender, user_id: user, port } of messages) {
            assert.deepEqual([sender.phone, user, port], [DAVI, '2', server.port]);
        }
        const names = events.map(({ event }) => event).filter((name) => name !== 'message');
        for (const name of ['sent', 'ack', 'edited', 'reaction', 'revoked']) {
            assert.equal(names.filter((each) => each === `message.${name}`).length, 1, name);
        }
        assert.ok(names.includes('call'));
        const states = events.filter(({ event }) => event === 'session').map(({ session }) => session.state);
        assert.ok(states.includes('qr') && states.includes('ready'), states.join());
    });
}

describe('a page that does not know the number of a sender', () => {
    it('is asked for it after the message is written, and once', async (t) => {
        const standin = await site(t);
        await standin.command('set', { numbers_known: false });
        const client = await openLinked(t, standin);
        const journal = new PlainJournal();
        const handedOn = [];
        const incoming = new Incoming({
            identity: { user: '2', port: 5002 },
            journal,
            ignore: [],
            handOn: ({ event }) => handedOn.push(event),
            log: { error: assert.fail, warning: assert.fail },
        });
        hear(client, (event, from) => incoming.take(event, from));
        const say = (given) => standin.command('message', { phone: PHONE, from: DAVI, body: 'x', ...given });
        const { id } = await say({});
        const { id: next } = await say({ group: FAMILY });
        await standin.command('change', { phone: PHONE, kind: 'reaction', id, from: DAVI, text: '👍' });
        await whenFound(
            async () => handedOn.length === 3,
            () => JSON.stringify(journal),
        );
        assert.deepEqual(
            journal.entries.slice(0, 1).map(({ event }) => event.phone),
            [null],
            'at once',
        );
        assert.ok(
            handedOn.every(({ sender }) => sender.phone === DAVI),
            JSON.stringify(handedOn),
        );
        assert.ok(handedOn.find((event) => event.id.includes(next)).isGroup);
        assert.ok(journal.amended.length >= 1);
    });
});

describe('a page that has not got all that events are made of', () => {
    it('is heard all the same where its calls are kept otherwise, and its reactions are gone', async (t) => {
        const standin = await site(t);
        const calls = { module: 'WAWebCallCollection', member: '$CallCollectionImpl$p_1' };
        await standin.command('break', calls);
        await standin.command('break', { module: 'WAWebAddonReactionTableMode' });
        await standin.command('break', { module: 'WAWebApiContact', member: 'getCurrentLid' });
        const client = await openLinked(t, standin);
        const events = [];
        hear(client, (event) => events.push(event));
        await standin.command('message', { phone: PHONE, from: DAVI, body: 'hello' });
        await standin.command('call', { phone: PHONE, from: DAVI });
        const heard = async () => events.length >= 2 && events;
        const [message, call] = await whenFound(heard, 'a message and a call');
        assert.deepEqual([message.event, message.body, call.event], ['message', 'hello', 'call']);
    });

    it('is heard and read back where messages lack what the library expects in them', async (t) => {
        const { client, until, command } = await listen(t);
        const odd = [
            { type: 'multi_vcard', vcardList: null },
            { type: 'multi_vcard', vcardList: [null] },
            { type: 'list_response', body: 'One', listResponse: {} },
        ];
        for (const given of odd) {
            const { id } = await command('message', { from: DAVI, ...given });
            const event = await until('message', id);
            assert.deepEqual([event.type, event.phone], [given.type, DAVI]);
        }
        const chat = await client.getChatById(`100${DAVI}@lid`);
        assert.equal((await chat.fetchMessages({ limit: 10 })).length, odd.length);
    });
});

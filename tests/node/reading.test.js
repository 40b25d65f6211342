'use strict';

/**
 * What is read of an account, in a real page of today and of April 2026: chats, messages. Reading changes
 * nothing, and one thing that is broken spoils nothing else.
 */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { describe, it } = require('node:test');

const { PHONE, startLinked } = require('./support/session');
const { startStandIn } = require('./support/standin');

/** A stand-in of its own, so that faults stay with the test that asked for them. */
async function site(t, ...args) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
    const standin = await startStandIn(folder, args);
    t.after(() => {
        standin.stop();
        fs.rmSync(folder, { recursive: true, force: true });
    });
    return standin;
}

const pathOf = (id, rest = '') => `/chats/${encodeURIComponent(id)}${rest}`;

for (const shape of ['today', '2026-04']) {
    describe(`reading the page of ${shape}`, () => {
        it('lists all chats, though some are broken, and again from memory', async (t) => {
            const standin = await site(t, '--shape', shape);
            const wish = { count: 40, groups: 20, broken: 20, unreadable: 5 };
            await standin.command('chats', { phone: PHONE, ...wish });
            const { server } = await startLinked(t, standin);
            const list = async (query = '') => {
                const { status, json, text } = await server.get(`/chats${query}`);
                assert.equal(status, 200, text);
                return json;
            };
            const all = await list();
            assert.equal(all.total, 43);
            assert.equal(all.chats.length, 43);
            for (const chat of all.chats) {
                assert.equal(typeof chat.phone, 'string', chat.id);
                assert.equal(typeof chat.timestamp, 'number', chat.id);
                assert.notEqual(chat.name, '', chat.id);
            }
            const damaged = all.chats.filter(({ timestamp }) => timestamp === 0);
            assert.equal(damaged.length, 5, 'they are told, with what is known');
            const bruno = all.chats.find(({ name }) => name === 'Bruno');
            assert.equal(bruno.lastMessage, 'a red pixel');
            const pages = [];
            for (let offset = 0; offset < 43; offset += 10) {
                pages.push(...(await list(`?limit=10&offset=${offset}`)).chats);
            }
            assert.deepEqual(pages, all.chats);
            for (const chat of [bruno, damaged[0]]) {
                const { status, json } = await server.get(pathOf(chat.id));
                assert.deepEqual([status, json], [200, chat]);
            }
            // It is seen at once that something has changed.
            const now = Math.floor(Date.now() / 1000);
            await standin.command('message', { from: bruno.id, type: 'image', size: 10, t: now });
            const [first] = (await list('?limit=1')).chats;
            assert.deepEqual([first.id, first.lastMessage], [bruno.id, '[Mídia]']);
            const text = { from: '5511900001111', name: 'New', body: 'hello', t: now + 1 };
            await standin.command('message', text);
            const [newest] = (await list('?limit=1')).chats;
            assert.deepEqual([newest.name, newest.lastMessage], ['New', 'hello']);
        });

        it('makes no chat and marks nothing as seen', async (t) => {
            const standin = await site(t, '--shape', shape);
            const { server } = await startLinked(t, standin);
            const before = (await server.get('/chats')).json;
            assert.ok(before.chats.some(({ unreadCount }) => unreadCount > 0));
            for (const { id } of before.chats) {
                for (const rest of ['', '/messages?limit=1000']) {
                    const { status, text } = await server.get(pathOf(id, rest));
                    assert.equal(status, 200, text);
                }
            }
            for (const none of ['5511900000001@c.us', '100@lid', '120363000000000099@g.us', '7@newsletter']) {
                for (const rest of ['', '/messages']) {
                    const { status, json } = await server.get(pathOf(none, rest));
                    assert.deepEqual([status, json.code], [404, 'no_such_chat'], none + rest);
                }
            }
            assert.deepEqual((await server.get('/chats')).json, before);
            const signals = await standin.signals();
            assert.ok(!signals.some(({ kind }) => kind === 'seen'), JSON.stringify(signals));
        });

        it('lists each message of a chat once, in pages of any size, also of one second', async (t) => {
            const standin = await site(t, '--shape', shape);
            const { server } = await startLinked(t, standin);
            const from = '5511977770001';
            await standin.command('message', { from, type: 'vcard' });
            const sent = Array.from({ length: 25 }, (_, n) => `burst ${n}`);
            const t0 = Math.floor(Date.now() / 1000);
            for (const body of sent) await standin.command('message', { from, body, t: t0 });
            const { chats } = (await server.get('/chats')).json;
            for (const { id, name } of chats) {
                const sizes = name === 'Carla' ? [1, 7, 1000] : [7, 1000];
                const read = await Promise.all(sizes.map((limit) => everything(server, id, limit)));
                for (const messages of read) assert.deepEqual(messages, read.at(-1), `${name}`);
                const ids = read[0].map((message) => message.id);
                assert.equal(new Set(ids).size, ids.length);
                const group = chats.find((chat) => chat.id === id).isGroup;
                if (group) {
                    const others = read[0].filter(({ fromMe }) => !fromMe);
                    assert.ok(others.every((message) => message.from === id));
                    assert.equal(read[0].length, 130);
                }
                if (name !== 'Carla') continue;
                assert.deepEqual(
                    read[0].slice(-25).map(({ body }) => body),
                    sent,
                );
                const named = read[0].filter(({ contactName }) => contactName !== null);
                assert.deepEqual(
                    named.map(({ contactName }) => contactName),
                    ['Davi'],
                );
            }
        });

        it('lists people, each once, and their pictures', async (t) => {
            const standin = await site(t, '--shape', shape);
            const { server } = await startLinked(t, standin);
            const know = (who, known) => standin.command('contact', { phone: PHONE, who, ...known });
            await know('5511933330001', { name: 'ana', pushname: 'A.', blocked: true });
            await know('5511933330001', { lid: shape !== 'today', pushname: 'A.' });
            await know('5511933330002', { pushname: 'Shop', business: true, picture: 300_000 });
            await know('1@bot', { pushname: 'Helper' });
            await know('77@newsletter', { pushname: 'News' });
            const list = async (query = '') => {
                const { status, json, text } = await server.get(`/contacts${query}`);
                assert.equal(status, 200, text);
                return json;
            };
            const { contacts, total } = await list();
            assert.equal(contacts.length, total);
            assert.deepEqual(
                contacts.map(({ name, pushname }) => name ?? `~${pushname}`),
                ['ana', 'Bruno', 'Carla', '~Helper', '~Shop'],
            );
            const [ana, bruno, , helper, shop] = contacts;
            assert.deepEqual(
                [ana.number, ana.lid, ana.blocked, ana.is_business],
                ['5511933330001', '1005511933330001@lid', true, false],
            );
            assert.deepEqual([shop.is_business, shop.blocked], [true, false]);
            assert.deepEqual([helper.id, helper.number, helper.lid], ['1@bot', null, null]);
            assert.equal(bruno.number, '5521988880002');
            const pages = [];
            for (let offset = 0; offset < total; offset += 2) {
                pages.push(...(await list(`?limit=2&offset=${offset}`)).contacts);
            }
            assert.deepEqual(pages, contacts);
            assert.equal((await server.get('/contacts?limit=0')).status, 400);
            for (const id of ['5521988880002@c.us', '5521988880002@s.whatsapp.net', bruno.lid]) {
                const { status, json } = await server.get(`/contacts/${encodeURIComponent(id)}`);
                assert.deepEqual([status, json.number, json.name], [200, bruno.number, 'Bruno'], id);
            }
            const { json } = await server.get('/contacts/5511900000001%40c.us');
            assert.equal(json.code, 'no_such_contact');
            assert.deepEqual(await list(), { contacts, total }, 'reading made none');

            const picture = await server.get(`/contacts/${encodeURIComponent(shop.id)}/picture`);
            assert.deepEqual([picture.status, picture.bytes.length], [200, 300_000]);
            assert.equal(picture.headers['content-type'], 'image/jpeg');
            assert.equal(picture.headers['content-disposition'], 'inline');
            for (const none of [bruno.id, '5511900000001@c.us', '120363000000000001@g.us']) {
                const answer = await server.get(`/contacts/${encodeURIComponent(none)}/picture`);
                assert.deepEqual([answer.status, answer.json.code], [404, 'no_picture'], none);
            }
        });

        it('asks the phone for what it has not handed over', async (t) => {
            const standin = await site(t, '--shape', shape);
            await standin.command('older', { phone: PHONE, chat: 'Carla', count: 70 });
            const { server } = await startLinked(t, standin);
            const { chats } = (await server.get('/chats')).json;
            const idOf = (wanted) => chats.find(({ name }) => name === wanted).id;
            const read = async () => (await server.get(pathOf(idOf('Carla'), '/messages?limit=1000'))).json;
            assert.deepEqual([(await read()).total, (await read()).hasEarlier], [12, true]);
            const ask = async (id) => {
                const { status, json } = await server.post(pathOf(id, '/earlier'));
                return [status, json];
            };
            const both = await Promise.all([ask(idOf('Carla')), ask(idOf('Carla'))]);
            const [status, { requested, arrived, hasEarlier }] = both[0];
            assert.deepEqual([status, requested, hasEarlier], [200, true, true]);
            assert.ok(arrived > 0);
            assert.deepEqual(both[1], both[0], 'the phone is asked once');
            assert.equal((await read()).total, 62);
            const last = await ask(idOf('Carla'));
            assert.deepEqual([last[1].requested, last[1].hasEarlier], [true, false]);
            const { messages, ...rest } = await read();
            assert.deepEqual([rest.total, rest.hasMore, rest.hasEarlier], [82, false, false]);
            assert.deepEqual([messages[0].body, messages[70].body], ['older 1 of 70', 'message 1 of 12']);
            const none = { requested: false, arrived: 0, hasEarlier: false };
            assert.deepEqual(await ask(idOf('Bruno')), [200, none]);
            assert.equal((await ask('5511900000001@c.us'))[0], 404);
        });
    });
}

/** All messages of a chat, by pages. */
async function everything(server, chat, limit) {
    const found = [];
    for (let cursor = ''; cursor !== null;) {
        const query = `limit=${limit}&before=${encodeURIComponent(cursor)}`;
        const { status, json, text } = await server.get(pathOf(chat, `/messages?${query}`));
        assert.equal(status, 200, text);
        assert.ok(json.total <= limit);
        assert.equal(json.hasMore, json.nextCursor !== null);
        found.unshift(...json.messages);
        cursor = json.nextCursor;
    }
    return found;
}

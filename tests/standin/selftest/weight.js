/** A page that is as heavy as the real one does what the light one does. */
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { after, before, describe } = require('node:test');
const { Weight } = require('../weight');
const {
    PHONE,
    drawnCode,
    eventually,
    makeClient,
    ok,
    openPage,
    root,
    startStandin,
    synced,
    test,
} = require('./support');

const CHATS = 30;
/** Those that every account of the stand-in has. */
const USUAL_CHATS = 3;
const OTHER = '5511999990002';

describe('a heavy page', () => {
    let heavy;

    const asked = async (what) => (await fetch(`http://127.0.0.1:${heavy.control}/${what}`)).json();
    const pages = () => asked('pages');

    const chatsOf = (client) =>
        client.pupPage.evaluate(() => window.require('WAWebCollections').Chat.getModelsArray().length);

    /** Databases of the page's site, and how many messages are stored. */
    const stored = (page) =>
        page.evaluate(async () => {
            const names = (await indexedDB.databases()).map(({ name }) => name).sort();
            if (!names.includes('model-storage')) return { names };
            const request = indexedDB.open('model-storage');
            const database = await new Promise((resolve) => {
                request.onsuccess = () => resolve(request.result);
            });
            const counted = database.transaction('message').objectStore('message').count();
            const messages = await new Promise((resolve) => {
                counted.onsuccess = () => resolve(counted.result);
            });
            database.close();
            return { names, messages };
        });

    before(async () => {
        heavy = await startStandin(path.join(root, 'heavy'), '--weight', String(CHATS));
    });
    after(() => heavy.stop());

    test('is linked, has its chats, and keeps them', async () => {
        const first = makeClient({ at: heavy }).start();
        const [qr] = await first.event('qr');
        await ok('scan', { qr, phone: PHONE, name: 'Ana' }, heavy);
        await first.event('ready');
        assert.equal(await chatsOf(first.client), CHATS + USUAL_CHATS);
        const { names, messages } = await stored(first.client.pupPage);
        assert.deepEqual(names, ['model-storage', 'wawc']);
        assert.equal(messages, 60 * CHATS);
        await first.close();

        const again = makeClient({ at: heavy, profile: first.profile }).start();
        await again.event('ready');
        assert.ok(!again.names().includes('qr'));
        assert.equal(await chatsOf(again.client), CHATS + USUAL_CHATS);
        await again.client.sendMessage('5521977770009@c.us', 'at nine');
        await eventually(async () => (await asked('sent'))[0]?.body === 'at nine', 'the message');
    });

    test('forgets all with the login', async () => {
        const page = await openPage({ at: heavy });
        // Without the library nobody listens for the end of the sync.
        await ok('set', { sync_waits: false }, heavy);
        await ok('scan', { qr: await drawnCode(page), phone: OTHER, name: 'Bia' }, heavy);
        await synced(page);
        assert.deepEqual((await stored(page)).names, ['model-storage', 'wawc']);
        await ok('logout', { phone: OTHER }, heavy);
        await drawnCode(page);
        assert.deepEqual((await stored(page)).names, ['wawc']);
    });

    test('is cut off while the site is, socket and all', async () => {
        makeClient({ at: heavy }).start();
        await eventually(async () => (await pages()).length === 1, 'the page');
        await ok('unreachable', {}, heavy);
        await eventually(async () => (await pages()).length === 0, 'the end of its connection');
        await ok('unreachable', { on: false }, heavy);
        await eventually(async () => (await pages()).length === 1, 'the page');
    });

    test('is the same after each start, and larger with more chats', () => {
        const [file] = new Weight(CHATS).config.files.boot;
        assert.ok(new Weight(CHATS).serve(file).body.equals(new Weight(CHATS).serve(file).body));
        assert.ok(new Weight(5000).config.contacts > new Weight(CHATS).config.contacts);
        assert.equal(new Weight(CHATS).serve('/weight/none.js'), null);
    });
});

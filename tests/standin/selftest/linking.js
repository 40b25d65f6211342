/** Linking, and the end of a link, with the unmodified library. */
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const http = require('node:http');
const path = require('node:path');
const { describe } = require('node:test');
const {
    PHONE,
    TODAY,
    emitted,
    eventually,
    linked,
    makeClient,
    ok,
    pages,
    phone,
    root,
    startStandin,
    test,
} = require('./support');

describe('linking by code', () => {
    test('scan → loading_screen → authenticated → ready, with clientInfo', async () => {
        const { client, event, events, names, qr } = await linked();
        await event('loading_screen');
        const order = names().filter((name) => ['qr', 'authenticated', 'ready'].includes(name));
        assert.deepEqual(order, ['qr', 'authenticated', 'ready']);
        assert.equal(qr.split(',').length, 5);
        assert.equal(client.info.wid._serialized, `${PHONE}@c.us`);
        assert.equal(client.info.pushname, 'Ana');
        assert.equal(client.info.platform, 'android');
        assert.equal(await client.getState(), 'CONNECTED');
        assert.equal((await phone('scan', { qr, phone: PHONE })).status, 410);
        await ok('loading', { qr, percent: 73 });
        await eventually(() => events.some(([, percent]) => percent === 73), 'loading_screen at 73 %');
    });

    test('a code is valid once, while it is shown, with its own keys', async () => {
        const { event, events } = makeClient().start();
        const [first] = await event('qr');
        const [ref, noise, identity, adv, platform] = first.split(',');
        const forged = [ref, noise, adv, identity, platform].join(',');
        assert.equal((await phone('scan', { qr: 'no code', phone: PHONE })).status, 400);
        assert.equal((await phone('scan', { qr: forged, phone: PHONE })).status, 403);
        assert.equal((await phone('scan', { qr: first, phone: 'Ana' })).status, 400);
        await ok('rotate', { qr: first });
        const [second] = await event('qr', events.length);
        assert.notEqual(second, first);
        assert.equal((await phone('scan', { qr: first, phone: PHONE })).status, 410);
        await ok('expire', { qr: second });
        await eventually(async () => (await pages())[0].state === 'UNPAIRED_IDLE', 'UNPAIRED_IDLE');
        assert.equal((await phone('scan', { qr: second, phone: PHONE })).status, 410);
    });

    test('codes rotate automatically, six of them', async () => {
        const quick = await startStandin(path.join(root, 'quick'), '--refs-ttl', '400,200');
        const { client, names } = makeClient({ at: quick }).start();
        const state = () => client.getState().catch(() => null); // rejects until the page is there
        await eventually(async () => (await state()) === 'UNPAIRED_IDLE', 'UNPAIRED_IDLE');
        assert.equal(names().filter((name) => name === 'qr').length, 6);
        // The library's own way to the next code, in node, is none.
        const refresh = TODAY
            ? () => window.require('WAWebBackendEventBus').BackendEventBus.triggerRefreshQR()
            : () => window.require('WAWebCmd').Cmd.refreshQR();
        const inCmd = await client.pupPage.evaluate(() => 'refreshQR' in window.require('WAWebCmd').Cmd);
        assert.equal(inCmd, !TODAY);
        await client.pupPage.evaluate(refresh);
        await eventually(() => names().filter((name) => name === 'qr').length > 6, 'a seventh code');
        await quick.stop();
    });

    test('a server is addressed by its port, as a person at the front end would', async () => {
        const { event } = makeClient().start();
        const [qr] = await event('qr');
        const replies = { '/qr': { qr }, '/status': { phone_number: `+${PHONE}` } };
        const server = http.createServer(({ url }, response) => response.end(JSON.stringify(replies[url])));
        await once(server.listen(0, '127.0.0.1'), 'listening');
        const { port } = server.address();
        await ok('scan', { port, phone: PHONE });
        await event('ready');
        replies['/qr'] = { qr: null };
        await ok('message', { port, from: '5521977770008', body: 'by port' });
        const [message] = await event('message');
        assert.equal(message.body, 'by port');
        server.close();
    });
});

describe('linking by pairing code', () => {
    const pairWithPhoneNumber = { phoneNumber: PHONE, showNotification: true, intervalMs: 180_000 };

    test('pairWithPhoneNumber set before initialize', async () => {
        const { event, names } = makeClient({ pairWithPhoneNumber }).start();
        const [code] = await event('code');
        assert.match(code, /^[1-9A-Z]{8}$/);
        assert.equal((await phone('pair', { code, phone: '5511999990002' })).status, 403);
        assert.equal((await phone('pair', { code: 'AAAAAAAA', phone: PHONE })).status, 410);
        await ok('pair', { code: `${code.slice(0, 4)}-${code.slice(4)}`.toLowerCase(), phone: PHONE });
        await event('ready');
        assert.ok(!names().includes('qr'));
    });

    test('requestPairingCode gives a fresh code and voids the one before', async () => {
        const { client, event } = makeClient({ pairWithPhoneNumber }).start();
        const [first] = await event('code');
        const second = await client.requestPairingCode(PHONE);
        assert.notEqual(second, first);
        assert.equal((await phone('pair', { code: first, phone: PHONE })).status, 410);
        await ok('pair', { code: second, phone: PHONE });
        await event('ready');
    });
});

describe('a link that fails', () => {
    test('refused: the phone says so, the page shows a fresh code, no event', async () => {
        const { event, events, names } = makeClient().start();
        const [qr] = await event('qr');
        await ok('refuse', {});
        const seen = events.length;
        assert.equal((await phone('scan', { qr, phone: PHONE })).status, 403);
        const [fresh] = await event('qr', seen);
        await ok('scan', { qr: fresh, phone: PHONE });
        await event('ready');
        assert.ok(!names().includes('auth_failure'));
    });

    test('stay-authenticated: never ready; a reload fixes it', async () => {
        const first = makeClient().start();
        const [qr] = await first.event('qr');
        await ok('stay-authenticated', {});
        const failed = emitted(first.client.pupPage, 'pageerror');
        await ok('scan', { qr, phone: PHONE });
        await first.event('authenticated');
        assert.match(String(await failed), /unknown module "WAWebSyncGatingUtils"/);
        assert.ok(first.client.info);
        assert.ok(!first.names().includes('ready'));
        await first.close();
        await makeClient({ profile: first.profile }).start().event('ready');
    });

    test('stay-authenticated for good: a reload does not fix it, `on: false` does', async () => {
        const first = makeClient().start();
        const [qr] = await first.event('qr');
        await ok('stay-authenticated', { for_good: true });
        await ok('scan', { qr, phone: PHONE });
        await first.event('authenticated');
        await first.close();
        const second = makeClient({ profile: first.profile }).start();
        await second.event('authenticated');
        await eventually(() => second.client.info, 'the account');
        assert.ok(!second.names().includes('ready'));
        await second.close();
        await ok('stay-authenticated', { on: false });
        await makeClient({ profile: first.profile }).start().event('ready');
    });
});

describe('persistence', () => {
    test('the same profile goes straight to ready, and so it does with a restarted stand-in', async () => {
        const dataDir = path.join(root, 'restarted');
        const first = await startStandin(dataDir);
        const { profile, event, close } = makeClient({ at: first }).start();
        const [qr] = await event('qr');
        await ok('scan', { qr, phone: PHONE }, first);
        await event('ready');
        await close();
        const again = makeClient({ profile, at: first }).start();
        await again.event('ready');
        assert.ok(!again.names().includes('qr'));
        await again.close();
        await first.stop();

        const second = await startStandin(dataDir);
        const later = makeClient({ profile, at: second }).start();
        await later.event('ready');
        assert.ok(!later.names().includes('qr'));
        assert.equal(later.client.info.wid.user, PHONE);
        await later.close();
        await second.stop();
    });

    test('a browser killed right after ready is still linked', async () => {
        const { client, profile } = await linked();
        const gone = emitted(client.pupBrowser, 'disconnected');
        // The whole process group: Debian's chromium is started by a shell script that stays around.
        process.kill(-client.pupBrowser.process().pid, 'SIGKILL');
        await gone;
        const again = makeClient({ profile }).start();
        await again.event('ready');
        assert.ok(!again.names().includes('qr'));
    });
});

describe('the end of a link', () => {
    test('unlinked on the phone: disconnected LOGOUT, a code with new keys, and linked again', async () => {
        const { client, event, events, qr } = await linked();
        const seen = events.length;
        await ok('logout', { phone: PHONE });
        assert.deepEqual(await event('disconnected', seen), ['LOGOUT']);
        const [fresh] = await event('qr', seen);
        assert.notEqual(fresh.split(',')[1], qr.split(',')[1]);
        const later = () => events.slice(seen).map(([name]) => name);
        // A logout unsets `hasSynced`, which the library takes for a login.
        assert.equal(later().indexOf('authenticated') === -1, !TODAY);
        // It takes the change of the address for another document, and injects twice into the one there is.
        const injections = async () => (await pages())[0]?.injections;
        await eventually(async () => (await injections()) === (TODAY ? 2 : 1), 'the injections');
        assert.equal(await client.pupPage.evaluate('location.search'), TODAY ? '' : '?post_logout=1');
        const again = events.length;
        await ok('scan', { qr: fresh, phone: PHONE });
        await event('ready', again);
    });

    test('unlinked while it was not open: logged out at load', async () => {
        const { profile, close } = await linked();
        await close();
        await ok('logout', { phone: PHONE });
        const again = makeClient({ profile }).start();
        // The page leaves for its login screen while the library is still injecting, or just before.
        assert.match(String(await again.initialized), /context was destroyed|navigation|^null$/i);
        await again.close();
        const later = makeClient({ profile }).start();
        await later.event('qr');
    });

    test('client.logout() unlinks and emits no disconnected', async () => {
        const { client, names } = await linked();
        await client.logout();
        assert.ok(!names().includes('disconnected'));
        assert.equal((await phone('logout', { phone: PHONE })).status, 404);
    });

    test('the same device opened twice: the older page is in conflict', async () => {
        const { client, event } = await linked();
        const other = await client.pupBrowser.newPage();
        await other.goto('https://web.whatsapp.com/');
        assert.deepEqual(await event('disconnected'), ['CONFLICT']);
        await eventually(() => !client.pupBrowser.isConnected(), 'the browser to close');
    });

    for (const state of ['CONFLICT', 'UNPAIRED']) {
        test(`${state}: disconnected, and the browser closes`, async () => {
            const { client, event } = await linked();
            await ok(state.toLowerCase(), { phone: PHONE });
            assert.deepEqual(await event('disconnected'), [state]);
            await eventually(() => !client.pupBrowser.isConnected(), 'the browser to close');
        });
    }
});

'use strict';

/** tests/light_server.js keeps the protocol of the server whose place it takes. */

const assert = require('node:assert/strict');
const { EventEmitter } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');
const { it } = require('node:test');

const { Journal } = require('../../server/journal');
const { readConfig } = require('../../server/config');
const { Safekeeping } = require('../../server/safekeeping');
const { Session } = require('../../server/session');
const { Snapshots } = require('../../server/snapshots');
const { SessionState } = require('../../server/state');
const { Storage } = require('../../server/storage');
const support = require('./support/journal');
const { startLinked } = require('./support/light');
const { receiver } = require('./support/notify');
const { ROOT, freePort, scratch, startServer, whenFound, within } = require('./support/process');

const SCRIPT = path.join(ROOT, 'tests/light_server.js');
const FAST = path.join(__dirname, 'support', 'fast-clock.js');

it('answers, shows a code, is linked, restored and unlinked as the server with a browser', async (t) => {
    const directory = scratch(t);
    const notifications = await receiver(t);
    const options = { script: SCRIPT, directory, port: await freePort() };
    const server = await startServer(t, { ...options, env: { NOTIFY_SOCKET: notifications.socket } });
    await notifications.until('READY=1');
    const real = await startServer(t);
    for (const target of ['/', '/health', '/status', '/session']) {
        const [ours, theirs] = await Promise.all([server.get(target), real.get(target)]);
        assert.deepEqual(Object.keys(ours.json), Object.keys(theirs.json), target);
    }

    const page = server.follow();
    assert.equal((await server.get('/qr')).json.status, 'generating');
    const { qr } = await page.until('qr');
    assert.equal(qr.split(',').length, 5);
    assert.equal((await server.get('/qr')).json.qr, qr);
    await notifications.until('waiting for QR scan');

    server.kill('SIGUSR2');
    assert.equal((await page.until('ready')).phone_number, '5511999990001');
    const lastMessage = async () => (await server.get('/session')).json.journal?.last_message_at;
    // That the session is linked is an event, and no message.
    await whenFound(async () => (await lastMessage()) === null, 'a journal without messages');
    const { json: sent } = await server.post('/send', { phone: '+55 11 98888-7777', message: 'at nine' });
    const { messages } = (await server.get('/chats/5511988887777@c.us/messages')).json;
    assert.deepEqual(
        messages.map(({ body, fromMe }) => [body, fromMe]),
        [
            ['at nine', true],
            ['at nine', false],
        ],
    );
    assert.equal(messages[0].id, sent.messageId);
    assert.equal((await server.get('/chats')).json.chats[0].lastMessage, 'at nine');
    const at = await whenFound(lastMessage, 'when the last message was');
    assert.ok(Math.abs(Date.now() - Date.parse(at)) < 60_000, at);
    server.kill('SIGTERM');
    assert.equal(await server.exit(), 0);

    const again = await startServer(t, options);
    const restored = again.follow();
    await restored.until('ready');
    again.kill('SIGUSR2');
    await restored.until('logged_out');
    assert.equal(await again.exit(), 10);
});

it('opens the journal, keeps it over a stop, and deletes it with the session', async (t) => {
    const directory = scratch(t);
    const options = { script: SCRIPT, directory, port: await freePort() };
    const auth = path.join(directory, `.wwebjs_auth_${options.port}`);
    const place = { directory: path.join(auth, 'messages'), maxAge: 1e6, maxBytes: 1e6, log: support.quiet };
    const open = () => Journal.open(place);
    const before = await open();
    await before.append(support.event('before'));
    await before.close();

    const server = await startServer(t, options);
    const shown = async () => {
        const { journal } = (await server.get('/session')).json;
        // Nobody waits for what is in it: there is no webhook.
        return journal?.entries > 0 && journal.pending === 0 && journal;
    };
    const { oldest_at: oldest, error } = await whenFound(shown, 'the journal in the document');
    assert.ok(Math.abs(Date.now() - Date.parse(oldest)) < 60_000, oldest);
    assert.equal(error, null);
    await server.get('/qr');
    const page = server.follow();
    await page.until('qr');
    server.kill('SIGUSR2');
    await page.until('ready');
    server.kill('SIGTERM');
    assert.equal(await server.exit(), 0);
    const between = await open();
    assert.equal(await between.has('message:before'), true);
    await between.close();

    const again = await startServer(t, options);
    await again.follow().until('ready');
    await again.post('/disconnect');
    assert.equal(await again.exit(), 10);
    assert.equal(fs.existsSync(auth), false);
});

it('has its newest copy of the login where no browser stands still for another one', async (t) => {
    const env = { WAPORTD_SNAPSHOT_INTERVAL: '300', WAPORTD_SNAPSHOTS: '2' };
    const first = await startLinked(t, { env });
    const { status, json } = await first.post('/snapshot', {});
    assert.deepEqual([status, json.cause], [400, 'not_connected'], 'it has made none yet');
    first.kill('SIGTERM');
    await first.exit();
    const next = await startLinked(t, { env, directory: first.directory, port: first.port });
    assert.equal((await next.post('/snapshot', {})).status, 200, 'that of its end');
});

it('gives a pairing code', async (t) => {
    const server = await startServer(t, { script: SCRIPT });
    const { status, json } = await server.post('/pairing-code', { phone: '+55 11 99999-8888' });
    assert.equal(status, 200);
    assert.match(json.code, /^[0-9A-F]{4}-[0-9A-F]{4}$/);
    server.kill('SIGUSR2');
    assert.equal((await server.follow().until('ready')).phone_number, '5511999998888');
});

it('has no webhook call the server of another user', async (t) => {
    const other = await startLinked(t);
    const fast = { NODE_OPTIONS: `--require ${FAST}`, FAST_CLOCK: '20' };
    const url = `http://localhost:${other.port}/disconnect`;
    const server = await startLinked(t, { env: { WAPORTD_WEBHOOK_URL: url, ...fast } });
    await server.post('/send', { phone: '5511988887777', message: 'is answered' });
    const tried = async () => {
        const { webhook: counts } = (await server.get('/session')).json;
        return counts.undelivered + counts.delivered > 0 ? counts : null;
    };
    const { undelivered, failed, error } = await whenFound(tried, 'the end of the tries');
    assert.deepEqual({ undelivered, failed, error }, { undelivered: 1, failed: 6, error: 'HTTP 403' });
    assert.match(server.output, /the web app does not take an event: it is given up.*HTTP 403/);
    const { messages } = (await server.get('/messages?state=undelivered')).json;
    assert.deepEqual(
        messages.map(({ event, body }) => [event, body]),
        [['message', 'is answered']],
    );
    assert.equal((await other.get('/session')).json.state, 'ready');
});

/** What a session keeps on disk. */
function kept(config, state, log) {
    const storage = new Storage(config);
    const makeSnapshots = () => new Snapshots(storage, 2);
    const parts = { makeSnapshots, profile: storage.profile, state, log, interval: 0 };
    return { storage, safekeeping: new Safekeeping(parts) };
}

it('gives a pairing code that was asked before a browser may be opened, though a page polls', async (t) => {
    const directory = scratch(t);
    const env = { PORT: '5002', HOME: directory, WAPORTD_BROWSER: '/bin/true', WAPORTD_WEBHOOK_URL: '' };
    const config = readConfig(env, [], directory);
    const log = { error() {}, warning() {}, info() {}, debug() {} };
    let tell;
    const made = new Promise((resolve) => {
        tell = resolve;
    });
    class SessionClient extends EventEmitter {
        constructor({ phone }) {
            super();
            tell(phone);
        }

        async initialize() {}

        async destroy() {}
    }
    const state = new SessionState({ port: 5002, user: '2', attempts: 5 });
    const session = new Session({
        config,
        log,
        state,
        ...kept(config, state, log),
        end() {},
        loadLibrary: async () => ({ SessionClient }),
        startBrowser: () => ({ ended: new Promise(() => {}), kill() {} }),
        onEvent() {},
    });
    t.after(() => session.close());
    await session.restore();
    session.requestPairingCode('5511999990001').catch(() => {});
    session.ask();
    session.settle();
    assert.equal(await within(made, 'a browser'), '5511999990001');
});

it('sends each change of its state as an event, and a code in none', (t) => {
    const directory = scratch(t);
    const config = readConfig({ PORT: '5002', HOME: directory, WAPORTD_WEBHOOK_URL: '' }, [], directory);
    const state = new SessionState({ port: 5002, user: '2', attempts: 5 });
    const events = [];
    const session = new Session({
        config,
        state,
        log: {},
        ...kept(config, state, {}),
        end() {},
        loadLibrary() {},
        onEvent: (event, client) => events.push({ ...event, client }),
    });
    t.after(() => session.close());
    for (const attempt of [1, 2]) state.enter('qr', { message: 'waiting', qr: 'SECRET', attempt });
    state.enter('authenticated', { message: 'linked' });
    state.enter('error', { message: 'no connection', cause: 'upstream_unreachable' });
    assert.deepEqual(
        events.map(({ event, session: told, client }) => [event, told.state, told.cause, client]),
        [
            ['session', 'qr', null, null],
            ['session', 'authenticated', null, null],
            ['session', 'error', 'upstream_unreachable', null],
        ],
    );
    assert.equal(JSON.stringify(events).includes('SECRET'), false);
});

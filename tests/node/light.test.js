'use strict';

/** tests/light_server.js keeps the protocol of the server whose place it takes. */

const assert = require('node:assert/strict');
const { EventEmitter } = require('node:events');
const path = require('node:path');
const { it } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');

const { readConfig } = require('../../server/config');
const { Session } = require('../../server/session');
const { SessionState } = require('../../server/state');
const { Storage } = require('../../server/storage');
const { receiver } = require('./support/notify');
const { ROOT, freePort, scratch, startServer, within } = require('./support/process');

const SCRIPT = path.join(ROOT, 'tests/light_server.js');

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
    server.kill('SIGTERM');
    assert.equal(await server.exit(), 0);

    const again = await startServer(t, options);
    const restored = again.follow();
    await restored.until('ready');
    again.kill('SIGUSR2');
    await restored.until('logged_out');
    assert.equal(await again.exit(), 10);
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
    const other = await startServer(t, { script: SCRIPT });
    const webhook = `http://localhost:${other.port}/disconnect`;
    const server = await startServer(t, { script: SCRIPT, env: { FLASK_WEBHOOK_URL: webhook } });
    for (const each of [other, server]) {
        await each.get('/qr');
        await each.follow().until('qr');
        each.kill('SIGUSR2');
        await each.follow().until('ready');
    }
    await server.post('/send', { phone: '5511988887777', message: 'is answered' });
    const tried = async () => (await server.get('/session')).json.webhook;
    while ((await tried()).dropped + (await tried()).delivered === 0) await pause(20);
    assert.equal((await tried()).dropped, 1);
    assert.match(server.output, /the web app does not take a message .*HTTP 403/);
    assert.equal((await other.get('/session')).json.state, 'ready');
});

it('gives a pairing code that was asked before a browser may be opened, though a page polls', async (t) => {
    const directory = scratch(t);
    const env = { PORT: '5002', HOME: directory, WAPORTD_BROWSER: '/bin/true', FLASK_WEBHOOK_URL: '' };
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
    const session = new Session({
        config,
        log,
        state: new SessionState({ port: 5002, user: '2', attempts: 5 }),
        storage: new Storage(config),
        end() {},
        loadLibrary: async () => ({ SessionClient }),
        onMessage() {},
    });
    t.after(() => session.close());
    await session.restore();
    session.requestPairingCode('5511999990001').catch(() => {});
    session.ask();
    session.settle();
    assert.equal(await within(made, 'a browser'), '5511999990001');
});

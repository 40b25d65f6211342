/**
 * Proves the stand-in against the unmodified whatsapp-web.js in a real browser: `node --test tests/standin/selftest.js`.
 *
 * Needs chromium-headless-shell or chromium (or STANDIN_BROWSER=/path). As root the browser, which refuses its
 * sandbox to root, runs under an unprivileged uid.
 */
'use strict';

const assert = require('node:assert/strict');
const { execFileSync, spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { createInterface } = require('node:readline');
const { after, afterEach, before, describe, test } = require('node:test');
const { Client, LocalAuth } = require('whatsapp-web.js');

const UNPRIVILEGED_UID = 61500;
const WAIT_MS = 20_000;
const PHONE = '5511999990001';

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
const browser = findBrowser();
let site;
const open = new Set();
let profiles = 0;

function findBrowser() {
    const names = ['chromium-headless-shell', 'chromium', 'google-chrome'];
    const found = process.env.STANDIN_BROWSER
        ?? names.map((name) => path.join('/usr/bin', name)).find((file) => fs.existsSync(file));
    assert.ok(found, `none of ${names.join(', ')} is installed`);
    if (process.getuid() !== 0) return found;
    fs.chownSync(root, UNPRIVILEGED_UID, UNPRIVILEGED_UID);
    const wrapper = path.join(root, 'browser');
    const setpriv = `setpriv --reuid=${UNPRIVILEGED_UID} --regid=${UNPRIVILEGED_UID} --clear-groups`;
    fs.writeFileSync(wrapper, `#!/bin/sh\nexec ${setpriv} env HOME='${root}' '${found}' "$@"\n`, { mode: 0o755 });
    return wrapper;
}

async function startStandin(dataDir, ...options) {
    const child = spawn(process.execPath, [
        path.join(__dirname, 'standin.js'), '--data', dataDir, '--watch-parent', ...options,
    ], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = await once(createInterface({ input: child.stdout }), 'line', { signal: AbortSignal.timeout(WAIT_MS) });
    return {
        ...JSON.parse(line),
        async stop() {
            const ended = once(child, 'exit');
            child.kill();
            await ended;
        },
    };
}

/** Status and JSON answer of a control command. */
async function phone(command, body, at = site) {
    const answer = await fetch(`http://127.0.0.1:${at.control}/${command}`, {
        method: body === undefined ? 'GET' : 'POST',
        body: body && JSON.stringify(body),
    });
    return { status: answer.status, ...await answer.json() };
}

async function ok(command, body, at = site) {
    const answer = await phone(command, body, at);
    assert.equal(answer.status, 200, JSON.stringify(answer));
    return answer;
}

const pages = async () => (await fetch(`http://127.0.0.1:${site.control}/pages`)).json();

/** A real client on a profile of its own (or a given one), with a record of the events it emitted. */
function makeClient({ profile = `profile-${profiles += 1}`, at = site, ...options } = {}) {
    const dataPath = path.join(root, profile);
    if (!fs.existsSync(dataPath)) fs.mkdirSync(dataPath);
    if (process.getuid() === 0) {
        const session = path.join(dataPath, 'session');
        fs.mkdirSync(session, { recursive: true });
        fs.chownSync(session, UNPRIVILEGED_UID, UNPRIVILEGED_UID);
    }
    const client = new Client({
        authStrategy: new LocalAuth({ dataPath }),
        webVersionCache: { type: 'none' },
        userAgent: false,
        ...options,
        puppeteer: {
            executablePath: browser,
            headless: true,
            pipe: true,
            args: ['--disable-gpu', '--in-process-gpu', '--enable-features=NetworkServiceInProcess2', ...at.browserArgs],
        },
    });
    const events = [];
    const waiting = new Set();
    const emit = client.emit.bind(client);
    client.emit = (name, ...args) => {
        events.push([name, ...args]);
        for (const check of waiting) check();
        return emit(name, ...args);
    };
    /** Arguments of the first event `name`, counted from the `from`-th event on. */
    const event = (name, from = 0) => new Promise((resolve, reject) => {
        const names = () => events.map(([known]) => known).join(' ');
        const timer = setTimeout(() => done(reject, new Error(`no ${name} in time; events: ${names()}`)), WAIT_MS);
        const done = (settle, value) => {
            clearTimeout(timer);
            waiting.delete(check);
            settle(value);
        };
        const check = () => {
            const found = events.slice(from).find(([known]) => known === name);
            if (found) done(resolve, found.slice(1));
        };
        waiting.add(check);
        check();
    });
    const handle = {
        client,
        profile,
        events,
        event,
        names: () => events.map(([name]) => name),
        /** Starts the client; a rejection of `initialize` is kept, not thrown. */
        start() {
            handle.initialized = client.initialize().then(() => null, (error) => error);
            return handle;
        },
        async close() {
            open.delete(handle);
            await client.destroy();
        },
    };
    open.add(handle);
    return handle;
}

async function linked(number = PHONE, options = {}) {
    const handle = makeClient(options).start();
    const [qr] = await handle.event('qr');
    await ok('scan', { qr, phone: number, name: 'Ana' });
    await handle.event('ready');
    return Object.assign(handle, { qr });
}

/** Resolves with the first truthy result of `probe`, asked every 50 ms. */
async function eventually(probe, what) {
    const deadline = Date.now() + WAIT_MS;
    for (;;) {
        const result = await probe();
        if (result) return result;
        assert.ok(Date.now() < deadline, `not in time: ${what}`);
        await new Promise((resolve) => {
            setTimeout(resolve, 50);
        });
    }
}

before(async () => {
    site = await startStandin(path.join(root, 'data'));
});
afterEach(() => Promise.all([...open].map((handle) => handle.close())));
after(async () => {
    await site.stop();
    fs.rmSync(root, { recursive: true, force: true, maxRetries: 5 });
});

describe('linking by code', () => {
    test('scan → loading_screen → authenticated → ready, with clientInfo', async () => {
        const { client, event, names, qr } = await linked();
        await event('loading_screen');
        const order = names().filter((name) => ['qr', 'authenticated', 'ready'].includes(name));
        assert.deepEqual(order, ['qr', 'authenticated', 'ready']);
        assert.equal(qr.split(',').length, 5);
        assert.equal(client.info.wid._serialized, `${PHONE}@c.us`);
        assert.equal(client.info.pushname, 'Ana');
        assert.equal(client.info.platform, 'android');
        assert.equal(await client.getState(), 'CONNECTED');
        assert.equal((await phone('scan', { qr, phone: PHONE })).status, 410);
    });

    test('the same profile goes straight to ready', async () => {
        const first = await linked();
        await first.close();
        const again = makeClient({ profile: first.profile }).start();
        await again.event('ready');
        assert.ok(!again.names().includes('qr'));
        assert.equal(again.client.info.wid.user, PHONE);
    });
});

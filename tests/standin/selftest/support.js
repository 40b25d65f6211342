/** What the tests of the stand-in share: the stand-in itself, its phones, the library, bare pages. */
'use strict';

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { createInterface } = require('node:readline');
const nodeTest = require('node:test');
const puppeteer = require('puppeteer');
const { Client, LocalAuth } = require('whatsapp-web.js');
const { namesOf, traitsOf } = require('../traits');

const { after, afterEach, before } = nodeTest;
const test = (name, body) => nodeTest.test(name, { timeout: 60_000 }, body);

const SCRIPT = path.join(__dirname, '..', 'standin.js');
const UNPRIVILEGED_UID = 61500;
const WAIT_MS = 20_000;
const PHONE = '5511999990001';
/** Somebody who writes to that phone. */
const DAVI = '5521977770009';
const SHAPE = process.env.STANDIN_SHAPE ?? 'today';
const SEED = process.env.STANDIN_SEED ?? '1';
const TODAY = SHAPE === 'today';
const usual = traitsOf(SHAPE);
const names = namesOf(Number(SEED), usual);
/** The id under which a page of this shape knows the owner of a number. */
const idOf = (number) => (TODAY ? `100${number}@lid` : `${number}@c.us`);
/** The text of a message key that came out of a page. */
const keyText = (id) => id[names.key];

const root = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
const browser = findBrowser();
/** What the site said when it started; there once the tests run. */
let site;
const open = new Set();
const bare = new Set();
const sharedBrowsers = new Map();
let profiles = 0;
/** The traits that the tests begin with: the library must hear of the end of the sync, as on a slow page. */
const baseline = { ...usual, sync_waits: true };

function findBrowser() {
    const names = ['chromium-headless-shell', 'chromium', 'google-chrome'];
    const found =
        process.env.STANDIN_BROWSER ??
        names.map((name) => path.join('/usr/bin', name)).find((file) => fs.existsSync(file));
    assert.ok(found, `none of ${names.join(', ')} is installed`);
    if (process.getuid() !== 0) return found;
    fs.chownSync(root, UNPRIVILEGED_UID, UNPRIVILEGED_UID);
    const wrapper = path.join(root, 'browser');
    const setpriv = `setpriv --reuid=${UNPRIVILEGED_UID} --regid=${UNPRIVILEGED_UID} --clear-groups`;
    const script = `#!/bin/sh\nexec ${setpriv} env HOME='${root}' TMPDIR='${root}' '${found}' "$@"\n`;
    fs.writeFileSync(wrapper, script, { mode: 0o755 });
    return wrapper;
}

async function startStandin(dataDir, ...options) {
    const args = [SCRIPT, '--data', dataDir, '--watch-parent', '--shape', SHAPE, '--seed', SEED, ...options];
    const child = spawn(process.execPath, args, {
        stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = await inTime(once(createInterface({ input: child.stdout }), 'line'), 'the line of JSON');
    const told = JSON.parse(line);
    await ok('set', { sync_waits: true }, told);
    return {
        ...told,
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
    return { status: answer.status, ...(await answer.json()) };
}

async function ok(command, body, at = site) {
    const answer = await phone(command, body, at);
    assert.equal(answer.status, 200, JSON.stringify(answer));
    return answer;
}

const pages = async () => (await fetch(`http://127.0.0.1:${site.control}/pages`)).json();

/** A real client on a profile of its own (or a given one), with a record of the events it emitted. */
function makeClient({ profile = `profile-${(profiles += 1)}`, at = site, ...options } = {}) {
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
            args: ['--disable-gpu', '--in-process-gpu', ...at.browserArgs],
        },
    });
    // It would read the text of each page to keep it, and nobody could hear that the page went meanwhile.
    client.initWebVersionCache = async () => {};
    const events = [];
    const waiting = new Set();
    const emit = client.emit.bind(client);
    client.emit = (name, ...args) => {
        events.push([name, ...args]);
        for (const check of waiting) check();
        return emit(name, ...args);
    };
    /** Arguments of the first event `name`, counted from the `from`-th event on. */
    const event = async (name, from = 0) => {
        let check;
        const found = new Promise((resolve) => {
            check = () => {
                const match = events.slice(from).find(([known]) => known === name);
                if (match) resolve(match.slice(1));
            };
        });
        waiting.add(check);
        check();
        return inTime(found, name).finally(() => waiting.delete(check));
    };
    const handle = {
        client,
        profile,
        events,
        event,
        names: () => events.map(([name]) => name),
        /** Starts the client; a rejection of `initialize` is kept, not thrown. */
        start() {
            handle.initialized = client.initialize().then(
                () => null,
                (error) => error,
            );
            return handle;
        },
        async close() {
            open.delete(handle);
            // A command that the browser never read is an error of the pipe, which puppeteer leaves unheard.
            for (const pipe of client.pupBrowser?.process().stdio ?? []) pipe?.on('error', () => {});
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

/** A page without the library, in a profile of its own; all of a site share a browser. */
async function openPage({ load = true, at = site } = {}) {
    if (!sharedBrowsers.has(at)) {
        const started = await puppeteer.launch({
            executablePath: browser,
            headless: 'shell',
            pipe: true,
            args: ['--disable-gpu', '--in-process-gpu', ...at.browserArgs],
        });
        sharedBrowsers.set(at, started);
    }
    const context = await sharedBrowsers.get(at).createBrowserContext();
    bare.add(context);
    const page = await context.newPage();
    if (load) await page.goto('https://web.whatsapp.com/');
    return page;
}

/** The text of the code that a page draws. */
const drawnCode = (page) =>
    inTime(page.waitForSelector('[data-testid=link-device-qr-code]'), 'a code').then((element) =>
        element.evaluate(({ dataset }) => dataset.ref),
    );

const stateOf = (page) => page.evaluate(() => window.require('WAWebSocketModel').Socket.state);
const synced = (page) => page.waitForFunction(() => window.require('WAWebSocketModel').Socket.hasSynced);

/** A page without the library that is linked to a phone; its history is there. */
async function linkedPage(number = PHONE) {
    const page = await openPage();
    // Without the library nobody listens for the end of the sync.
    await page.evaluate(() => window.require('WAWebSocketModel').Socket.on('change:hasSynced', () => {}));
    await ok('scan', { qr: await drawnCode(page), phone: number });
    await inTime(synced(page), 'the end of the sync');
    return page;
}

/** Changes traits for the time of a test. */
async function withTraits(wish, body) {
    await ok('set', wish);
    try {
        await body();
    } finally {
        await ok('set', Object.fromEntries(Object.keys(wish).map((name) => [name, baseline[name]])));
    }
}

const shown = async (what) => (await fetch(`http://127.0.0.1:${site.control}/${what}`)).json();

let sharedClient;

/** A linked client that the tests of a `describe` share, each with a record of events of its own. */
async function shared() {
    if (!sharedClient) {
        sharedClient = await linked();
        open.delete(sharedClient);
    }
    sharedClient.events.length = 0;
    return sharedClient;
}

async function closeShared() {
    await sharedClient?.close();
    sharedClient = undefined;
}

/** What puppeteer's `emitter`, which is no EventEmitter of node's, gives with its next event `name`. */
const emitted = (emitter, name) =>
    inTime(
        new Promise((resolve) => {
            emitter.once(name, resolve);
        }),
        name,
    );

/** `promise`, or a rejection that names `what` did not come in time. */
async function inTime(promise, what) {
    let timer;
    const late = new Promise((resolve, reject) => {
        timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), WAIT_MS);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
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
afterEach(async () => {
    await Promise.all([...open].map((handle) => handle.close()));
    await Promise.all([...bare].map((context) => context.close()));
    bare.clear();
    // What a failed test left behind is no trouble of the next one.
    for (const fault of ['break', 'delay']) await ok(fault, { on: false });
    await ok('set', baseline);
});
after(async () => {
    for (const each of sharedBrowsers.values()) await each.close();
    await site.stop();
    fs.rmSync(root, { recursive: true, force: true, maxRetries: 5 });
});

module.exports = {
    DAVI,
    PHONE,
    SCRIPT,
    SEED,
    SHAPE,
    TODAY,
    baseline,
    closeShared,
    drawnCode,
    emitted,
    eventually,
    idOf,
    inTime,
    keyText,
    linked,
    linkedPage,
    makeClient,
    names,
    ok,
    openPage,
    pages,
    phone,
    root,
    shared,
    shown,
    site: () => site,
    startStandin,
    stateOf,
    synced,
    test,
    usual,
    withTraits,
};

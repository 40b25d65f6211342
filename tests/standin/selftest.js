/**
 * Proves the stand-in against the unmodified whatsapp-web.js in a real browser: `node --test selftest.js`.
 *
 * Needs chromium-headless-shell or chromium (or STANDIN_BROWSER=/path). Started as root, it runs the browser,
 * which refuses its sandbox to root, under an unprivileged uid.
 */
'use strict';

const assert = require('node:assert/strict');
const { spawn, spawnSync } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { createInterface } = require('node:readline');
const nodeTest = require('node:test');
const { Client, LocalAuth } = require('whatsapp-web.js');

const { after, afterEach, before, describe } = nodeTest;
const test = (name, body) => nodeTest.test(name, { timeout: 60_000 }, body);

const SCRIPT = path.join(__dirname, 'standin.js');
const UNPRIVILEGED_UID = 61500;
const WAIT_MS = 20_000;
const PHONE = '5511999990001';
const SHAPE = process.env.STANDIN_SHAPE ?? 'today';
const SEED = process.env.STANDIN_SEED ?? '1';

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
            args: ['--disable-gpu', '--in-process-gpu', ...at.browserArgs],
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
            handle.initialized = client.initialize().then(() => null, (error) => error);
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

/** What puppeteer's `emitter`, which is no EventEmitter of node's, gives with its next event `name`. */
const emitted = (emitter, name) => inTime(new Promise((resolve) => {
    emitter.once(name, resolve);
}), name);

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
afterEach(() => Promise.all([...open].map((handle) => handle.close())));
after(async () => {
    await site.stop();
    fs.rmSync(root, { recursive: true, force: true, maxRetries: 5 });
});

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

    test('codes rotate by themselves, six of them', async () => {
        const quick = await startStandin(path.join(root, 'quick'), '--refs-ttl', '400,200');
        const { client, names } = makeClient({ at: quick }).start();
        const state = () => client.getState().catch(() => null); // rejects until the page is there
        await eventually(async () => await state() === 'UNPAIRED_IDLE', 'UNPAIRED_IDLE');
        assert.equal(names().filter((name) => name === 'qr').length, 6);
        await client.pupPage.evaluate(() => window.require('WAWebCmd').Cmd.refreshQR());
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
        await ok('message', { port, from: '5521977770009', body: 'by port' });
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

    test('passkey: the page asks for one, and the link stalls', async () => {
        const { client, event, names } = makeClient({
            evalOnNewDoc: () => {
                navigator.credentials.get = (options) => {
                    window.passkeyAsked = options.publicKey.rpId;
                    return Promise.reject(new Error('no authenticator'));
                };
            },
        }).start();
        const [qr] = await event('qr');
        await ok('passkey', {});
        assert.equal((await ok('scan', { qr, phone: PHONE })).passkey, true);
        await eventually(() => client.pupPage.evaluate('window.passkeyAsked'), 'navigator.credentials.get');
        assert.match(await client.pupPage.evaluate('document.body.innerText'), /with your passkey/);
        assert.equal(await client.getState(), 'PAIRING');
        assert.ok(!names().includes('authenticated'));
    });

    test('stay-authenticated: never ready; a reload mends it', async () => {
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
        const { event, events, qr } = await linked();
        const seen = events.length;
        await ok('logout', { phone: PHONE });
        assert.deepEqual(await event('disconnected'), ['LOGOUT']);
        const [fresh] = await event('qr', seen);
        assert.notEqual(fresh.split(',')[1], qr.split(',')[1]);
        await ok('scan', { qr: fresh, phone: PHONE });
        await event('ready', seen);
    });

    test('unlinked while it was not open: logged out at load', async () => {
        const { profile, close } = await linked();
        await close();
        await ok('logout', { phone: PHONE });
        const again = makeClient({ profile }).start();
        // The page leaves for its login screen while the library is still injecting.
        assert.match(String(await again.initialized), /context was destroyed|navigation/i);
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

describe('messages', () => {
    test('an incoming message, its contact and its chat', async () => {
        const { client, event } = await linked();
        await ok('message', { phone: PHONE, from: '5521977770009', name: 'Davi', body: 'olá' });
        const [message] = await event('message');
        assert.equal(message.body, 'olá');
        assert.equal(message.from, '5521977770009@c.us');
        assert.equal(message.to, `${PHONE}@c.us`);
        assert.equal(message.fromMe, false);
        assert.equal(message.type, 'chat');
        assert.ok(Math.abs(message.timestamp - Date.now() / 1000) < 10);
        const contact = await message.getContact();
        assert.equal(contact.number, '5521977770009');
        assert.equal(contact.pushname, 'Davi');
        assert.equal(contact.isMyContact, false);
        const chat = await message.getChat();
        assert.equal(chat.unreadCount, 1);
        assert.equal(chat.lastMessage.body, 'olá');
        assert.equal((await client.getMessageById(message.id._serialized)).body, 'olá');
    });

    test('a sender known by LID only has a number that can be found out', async () => {
        const { client, event } = await linked();
        await ok('message', { phone: PHONE, from: '5521977770009', lid: true, body: 'who am I' });
        const [message] = await event('message');
        assert.match(message.from, /^\d+@lid$/);
        const [{ pn }] = await client.getContactLidAndPhone([message.from]);
        assert.equal(pn, '5521977770009@c.us');
        assert.equal((await message.getContact()).id._serialized, pn);
    });

    test('no open page, no message', async () => {
        const { close } = await linked('5511999990004');
        await close();
        const message = { phone: '5511999990004', from: '5521977770009', body: 'late' };
        assert.equal((await phone('message', message)).status, 404);
    });

    test('a message in a group names its author', async () => {
        const { event } = await linked();
        const group = '120363000000000001@g.us';
        await ok('message', { phone: PHONE, from: '5521977770009', group, body: 'all of you' });
        const [message] = await event('message');
        assert.equal(message.from, group);
        assert.equal(message.author, '5521977770009@c.us');
        assert.equal((await message.getChat()).name, 'Family');
    });

    test('sendMessage reaches the stand-in, is acknowledged and stays in the chat', async () => {
        const { client, event, profile, close } = await linked();
        const sent = await client.sendMessage('5511977770001@c.us', 'see https://example.org/ok');
        assert.match(sent.id._serialized, /^true_5511977770001@c\.us_3EB0/);
        const [, ack] = await event('message_ack');
        assert.equal(ack, 1);
        assert.deepEqual(sent.links, [{ link: 'https://example.org/ok', isSuspicious: false }]);
        const [record] = (await (await fetch(`http://127.0.0.1:${site.control}/sent`)).json()).slice(-1);
        assert.deepEqual(record, {
            phone: PHONE,
            to: '5511977770001@c.us',
            body: 'see https://example.org/ok',
            id: sent.id.id,
            t: sent.timestamp,
        });
        await client.sendMessage('5521900011111@c.us', 'first words');
        await assert.rejects(client.sendMessage('5521900000000@c.us', 'nobody'), /No LID for user/);
        assert.equal(await client.getNumberId('5521900000000'), null);
        assert.equal((await client.getNumberId('5521900011111'))._serialized, '5521900011111@c.us');
        await close();
        const again = makeClient({ profile }).start();
        await again.event('ready');
        const chat = await again.client.getChatById('5511977770001@c.us');
        assert.equal((await chat.fetchMessages({ limit: 1 }))[0].body, 'see https://example.org/ok');
    });

    test('getChats, fetchMessages, downloadMedia', async () => {
        const { client } = await linked('5511999990003');
        const chats = await client.getChats();
        assert.deepEqual(chats.map(({ name }) => name).sort(), ['Bruno', 'Carla', 'Family']);
        const [carla] = chats.filter(({ name }) => name === 'Carla');
        const [family] = chats.filter(({ isGroup }) => isGroup);
        const [bruno] = chats.filter(({ id }) => id.server === 'lid');
        assert.equal(carla.unreadCount, 2);
        assert.equal(carla.pinned, true);
        assert.equal(carla.lastMessage.body, 'message 12 of 12');
        assert.equal(family.archived, true);
        assert.equal(family.participants.length, 2);
        const recent = await family.fetchMessages({ limit: 3 });
        const bodies = ['message 128 of 130', 'message 129 of 130', 'message 130 of 130'];
        assert.deepEqual(recent.map(({ body }) => body), bodies);
        assert.equal((await family.fetchMessages({ limit: 1000 })).length, 130);
        assert.ok(recent.every(({ author }) => author));
        const image = (await bruno.fetchMessages({ limit: 10 })).find(({ hasMedia }) => hasMedia);
        assert.equal(image.type, 'image');
        assert.equal(image.body, 'a red pixel');
        const media = await image.downloadMedia();
        assert.equal(media.mimetype, 'image/png');
        assert.equal(Buffer.from(media.data, 'base64').subarray(1, 4).toString(), 'PNG');
        assert.equal((await client.getContacts()).length >= 2, true);
    });
});

describe('faults', () => {
    test('hang: the page answers nothing any more', async () => {
        const { client } = await linked();
        await ok('hang', { phone: PHONE });
        const answerWithin = (milliseconds) => Promise.race([
            client.getState(),
            new Promise((resolve) => {
                setTimeout(resolve, milliseconds, 'silence');
            }),
        ]);
        await eventually(async () => await answerWithin(2000) === 'silence', 'silence of the page');
    });

    test('crash: the renderer ends, the browser stays', async () => {
        const { client } = await linked();
        const crashed = emitted(client.pupPage, 'error');
        await ok('crash', { phone: PHONE });
        assert.match(String(await crashed), /Page crashed/);
        assert.ok(client.pupBrowser.isConnected());
    });

    test('unreachable: refused at load; a linked page is cut off and comes back', async () => {
        const { client } = await linked();
        await ok('unreachable', { on: true });
        await eventually(async () => await client.getState() === 'OPENING', 'the linked page to be cut off');
        const other = makeClient().start();
        assert.match(String(await other.initialized), /ERR_CONNECTION_REFUSED/);
        await ok('unreachable', { on: false });
        await eventually(async () => await client.getState() === 'CONNECTED', 'the linked page to be back');
    });

    test('silent: neither code nor login, until it speaks again', async () => {
        await ok('silent', {});
        const { client, event, names } = makeClient().start();
        await eventually(async () => (await pages()).length === 1, 'the page to be open');
        assert.equal(await client.getState(), 'OPENING');
        assert.ok(!names().includes('qr'));
        await ok('silent', { on: false });
        await event('qr');
    });

    test('no-debug: auth timeout', async () => {
        await ok('no-debug', {});
        const { initialized } = makeClient({ authTimeoutMs: 1000 }).start();
        assert.equal(await initialized, 'auth timeout');
        await ok('no-debug', { on: false });
    });
});

describe('the process', () => {
    test('--watch-parent: it ends with the process that started it', async () => {
        const args = [SCRIPT, '--data', path.join(root, 'orphan'), '--watch-parent'];
        const spawnIt = `spawn(process.execPath, ${JSON.stringify(args)}, { stdio: 'inherit' })`;
        const parent = spawn(process.execPath, ['-e', `require('node:child_process').${spawnIt}`], {
            stdio: ['ignore', 'pipe', 'inherit'],
        });
        const lines = createInterface({ input: parent.stdout });
        await inTime(once(lines, 'line'), 'the line of JSON');
        const closed = once(lines, 'close');
        parent.kill('SIGKILL');
        await inTime(closed, 'the stand-in to end and with it its stdout');
    });

    test('it listens on loopback only, and keeps no key on disk', async () => {
        const sockets = fs.readFileSync('/proc/net/tcp', 'utf8') + fs.readFileSync('/proc/net/tcp6', 'utf8');
        for (const port of [site.https, site.control]) {
            const hex = port.toString(16).toUpperCase().padStart(4, '0');
            const addresses = [...sockets.matchAll(new RegExp(`([0-9A-F]+):${hex} [0-9A-F]+:0000 0A`, 'g'))];
            assert.deepEqual(addresses.map(([, address]) => address), ['0100007F']);
        }
        const kept = fs.readdirSync(path.join(root, 'data'));
        assert.deepEqual(kept, ['state.json']);
        assert.equal(fs.statSync(path.join(root, 'data', 'state.json')).mode & 0o777, 0o600);
    });

    test('wrong options are refused with the reason', () => {
        const run = (...args) => spawnSync(process.execPath, [SCRIPT, ...args]);
        assert.match(String(run().stderr), /--data DIR is missing/);
        const wrong = run('--data', root, '--refs-ttl', '5');
        assert.equal(wrong.status, 1);
        assert.match(String(wrong.stderr), /--refs-ttl must be two numbers/);
    });
});

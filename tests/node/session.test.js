'use strict';

/**
 * Whole sessions: the real server, the real library and a real browser, before the stand-in for WhatsApp Web.
 * One file, so that its tests run one after another and never more than two browsers at a time.
 */

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');

const { findBrowsers } = require('../../server/browser');
const { receiver } = require('./support/notify');
const { processesOf, scratch, startServer, whenListening, within } = require('./support/process');
const { browserOf } = require('./support/session');
const { startStandIn } = require('./support/standin');

const PHONE = '5511999998888';

let standin;
let standinFolder;

before(async () => {
    if (process.getuid() === 0) {
        throw new Error(
            'run these tests as an ordinary user: Chromium keeps its sandbox, and that refuses root',
        );
    }
    standinFolder = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
    standin = await startStandIn(standinFolder);
});

after(() => {
    standin?.stop();
    if (standinFolder) fs.rmSync(standinFolder, { recursive: true, force: true });
});

/** Start a server whose browser meets the stand-in. */
function start(t, { env = {}, site = standin, ...options } = {}) {
    return startServer(t, { ...options, env: { ...site.env, WAPORTD_USER: '2', ...env } });
}

/** Start a server and have a phone scan its code; returns when it is ready. */
async function startLinked(t, options = {}) {
    const server = await start(t, options);
    const events = server.follow();
    await server.post('/qr/new');
    await link(server, events);
    return { server, events };
}

async function link(server, events, phone = PHONE) {
    const { qr } = await events.until('qr');
    await standin.command('scan', { qr, phone, name: 'Ana' });
    return events.until('ready');
}

function profileOf({ directory, port }) {
    return path.join(directory, `.wwebjs_auth_${port}`);
}

/** Open a browser beside the servers, as somebody might on the same folder; it ends with its pipe. */
async function openByHand(t, profile) {
    const [file] = await findBrowsers('auto');
    const browser = spawn(file, ['--headless', '--remote-debugging-pipe', `--user-data-dir=${profile}`], {
        stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    });
    const [, , , commands, answers] = browser.stdio;
    t.after(async () => {
        commands.destroy();
        answers.destroy();
        await within(once(browser, 'exit'), 'the end of the browser');
    });
    commands.write('{"id": 1, "method": "Browser.getVersion"}\0');
    await within(once(answers, 'data'), 'a browser by hand');
}

/** Make a browser that writes down its environment: a running Chromium has written over the one in /proc. */
async function recordingBrowser(folder) {
    const [real] = await findBrowsers('auto');
    const file = path.join(folder, path.basename(real));
    const record = path.join(folder, 'environment');
    fs.writeFileSync(file, `#!/bin/sh\nenv > ${record}\nexec ${real} "$@"\n`, { mode: 0o755 });
    return { file, environment: () => fs.readFileSync(record, 'utf8') };
}

/** What the descriptors of a process stand for; they come and go while one looks. */
function descriptorsOf(pid) {
    const folder = `/proc/${pid}/fd`;
    return fs.readdirSync(folder).flatMap((fd) => {
        try {
            return [fs.readlinkSync(path.join(folder, fd))];
        } catch {
            return [];
        }
    });
}

function assertNothingRuns(server) {
    assert.deepEqual(processesOf(server.directory), [], 'a process is left');
}

describe('the way to a code', () => {
    it('opens no browser until somebody asks for a code', async (t) => {
        const server = await start(t);
        for (const target of ['/', '/health', '/status', '/session'])
            assert.equal((await server.get(target)).status, 200);
        const { state, message, browser, linked } = (await server.get('/session')).json;
        assert.deepEqual({ state, browser, linked }, { state: 'generating', browser: null, linked: false });
        assert.match(message, /waiting until somebody asks|starting/);

        const first = (await server.get('/qr')).json;
        assert.equal(first.status, 'generating');
        const events = server.follow();
        const document = await events.until('qr');
        assert.equal(document.message, 'waiting for QR scan (code 1 of 5)');
        assert.ok(Date.parse(document.expires_at) - Date.now() > 50_000, 'the first code lives for a minute');
        const { qr, ready, hasQr, status } = (await server.get('/qr?port=5002')).json;
        assert.deepEqual(
            { qr, ready, hasQr, status },
            { qr: document.qr, ready: false, hasQr: true, status: 'waiting' },
        );
        assert.equal(qr.split(',').length, 5);
        assert.ok(!server.output.includes(qr), 'the code is in no log');
    });

    it('gives a code, and no error, to anyone who asks before the library is loaded', async (t) => {
        const server = await start(t, { answers: false });
        await whenListening(server);
        const events = server.follow();
        const { status, json } = await server.post('/qr/new');
        assert.deepEqual([status, json.state, json.cause], [202, 'generating', null]);
        await events.until('qr');
        assert.deepEqual(events.states, ['generating', 'qr']);
    });

    it('shows each new code, never an expired one, and stops after the last', async (t) => {
        const folder = scratch(t);
        const site = await startStandIn(folder, ['--refs-ttl', '1000,1000']);
        t.after(() => site.stop());
        const server = await start(t, {
            site,
            env: { WAPORTD_QR_MAX_RETRIES: '8', WAPORTD_QR_LIFETIME: '1,1' },
        });
        const events = server.follow();
        await server.post('/qr/new');
        await events.until('qr_timeout', 'eight codes, two more than the site gives at once');
        const codes = new Set(events.documents.filter(({ qr }) => qr !== null).map(({ qr }) => qr));
        assert.equal(codes.size, 8);
        events.documents.forEach(({ qr, expires_at: expires }, index) => {
            if (qr !== null)
                assert.ok(events.received[index] < Date.parse(expires), 'a code that is still valid');
        });
        await events.until(({ browser }) => browser?.running === false, 'the browser to be closed');

        assert.equal((await server.get('/qr')).json.qr, null);
        assert.equal((await server.get('/session')).json.state, 'qr_timeout', 'an open tab burns no codes');
        assert.equal((await server.post('/qr/new')).status, 202);
        await events.until(({ state, attempt }) => state === 'qr' && attempt === 1, 'a new code', {
            from: events.documents.length,
        });
    });

    it('shows a new code when the phone did not link', async (t) => {
        const server = await start(t);
        const events = server.follow();
        await server.post('/qr/new');
        const { qr } = await events.until('qr');
        await standin.command('refuse');
        await assert.rejects(standin.command('scan', { qr, phone: PHONE }), /could not link/);
        const next = await events.until((each) => each.state === 'qr' && each.qr !== qr, 'another code');
        assert.equal(next.attempt, 2);
    });

    it('says when WhatsApp asks for a passkey', async (t) => {
        const server = await start(t);
        const events = server.follow();
        await server.post('/qr/new');
        const { qr } = await events.until('qr');
        await standin.command('passkey');
        await standin.command('scan', { qr, phone: PHONE });
        const isAsked = ({ passkey }) => passkey?.options;
        const { state, message, hint } = await events.until(isAsked, 'the request');
        assert.equal(state, 'passkey_required');
        assert.match(hint, /your own browser/);
        assert.doesNotMatch(`${message} ${hint}`, /remove/);
    });

    it('gives a pairing code, and links when it is typed', async (t) => {
        const server = await start(t);
        const events = server.follow();
        assert.equal((await server.post('/pairing-code', { phone: '12' })).json.code, 'bad_phone');
        const answer = await server.post('/pairing-code', { phone: '+55 11 99999-8888' });
        assert.equal(answer.status, 200, answer.text);
        assert.match(answer.json.code, /^[A-Z0-9]{4}-[A-Z0-9]{4}$/);
        const again = await server.post('/pairing-code', { phone: PHONE });
        assert.deepEqual(again.json, answer.json, 'asked for again: the same code');
        const { pairing } = await events.until('pairing');
        assert.deepEqual(pairing, { ...answer.json, phone: PHONE });
        assert.ok(!server.output.includes(answer.json.code), 'the code is in no log');
        await standin.command('pair', { code: answer.json.code, phone: PHONE, name: 'Ana' });
        await events.until('ready');
        assert.equal((await server.post('/pairing-code', { phone: PHONE })).status, 409);
    });

    it('goes from a pairing code back to codes to scan, as often as somebody wants', async (t) => {
        const server = await start(t);
        const events = server.follow();
        assert.equal((await server.delete('/pairing-code')).status, 204, 'there is none');
        const first = await server.post('/pairing-code', { phone: PHONE });
        await events.until('pairing');
        assert.equal((await server.delete('/pairing-code')).status, 204);
        await events.until('qr');
        const second = await server.post('/pairing-code', { phone: PHONE });
        assert.notEqual(second.json.code, first.json.code);
        const from = events.documents.length;
        assert.equal((await server.delete('/pairing-code')).status, 204);
        const { qr, pairing } = await events.until('qr', 'another code to scan', { from });
        assert.equal(pairing, null);
        await standin.command('scan', { qr, phone: PHONE, name: 'Ana' });
        await events.until('ready');
        assert.equal((await server.delete('/pairing-code')).status, 204, 'nothing happens to a login');
        assert.equal((await server.get('/session')).json.state, 'ready');
    });
});

describe('a linked session', () => {
    it('answers for chats, messages, media and sending, and hands messages on', async (t) => {
        const received = [];
        let tries = 0;
        let arrived;
        const arrival = new Promise((resolve) => {
            arrived = resolve;
        });
        const app = http
            .createServer((request, response) => {
                let text = '';
                request.on('data', (chunk) => {
                    text += chunk;
                });
                request.on('end', () => {
                    tries += 1;
                    if (tries === 1) {
                        response.writeHead(500).end();
                        return;
                    }
                    received.push(JSON.parse(text));
                    response.end();
                    arrived();
                });
            })
            .listen(0, '127.0.0.1');
        await once(app, 'listening');
        t.after(() => app.close());
        const notified = await receiver(t);
        const env = {
            WAPORTD_WEBHOOK_URL: `http://127.0.0.1:${app.address().port}/webhook`,
            NOTIFY_SOCKET: notified.socket,
            NODE_OPTIONS: `--require ${path.join(__dirname, 'support', 'report-late-modules.js')}`,
        };
        const { server, events } = await startLinked(t, { env });
        assert.deepEqual(events.states.slice(-2), ['authenticated', 'ready']);

        const code = (await server.get('/qr')).json;
        assert.deepEqual([code.ready, code.qr, code.status], [true, null, 'connected']);
        const status = (await server.get('/status')).json;
        assert.equal(status.phone_number, PHONE);
        assert.deepEqual(status.clientInfo, { wid: `${PHONE}@c.us`, pushname: 'Ana', platform: 'android' });
        assert.equal(events.last.message, 'linked as +55…88 (Ana), ready');

        const { chats, total } = (await server.get('/chats')).json;
        assert.equal(total, chats.length);
        const times = chats.map(({ timestamp }) => timestamp);
        assert.deepEqual(
            times,
            [...times].sort((one, other) => other - one),
            'newest first',
        );
        const group = chats.find(({ isGroup }) => isGroup);

        const target = `/chats/${encodeURIComponent(group.id)}/messages`;
        const pages = [];
        for (let cursor = ''; cursor !== null;) {
            const page = (await server.get(`${target}?limit=50&before=${encodeURIComponent(cursor)}`)).json;
            pages.unshift(...page.messages);
            cursor = page.nextCursor;
        }
        assert.equal(new Set(pages.map(({ id }) => id)).size, 130, 'every message once');
        assert.deepEqual(
            pages,
            [...pages].sort((one, other) => one.timestamp - other.timestamp),
            'oldest first',
        );
        assert.equal((await server.get(`${target}?limit=nonsense`)).status, 400);

        const everything = [];
        for (const { id } of chats) {
            everything.push(...(await server.get(`/chats/${encodeURIComponent(id)}/messages`)).json.messages);
        }
        const media = await server.get(everything.find(({ hasMedia }) => hasMedia).mediaUrl);
        assert.match(media.headers['content-type'], /^image\//);
        assert.ok(media.bytes.length > 0);
        assert.equal((await server.get('/media/false_1@c.us_NONE')).status, 404);

        const { storage } = await events.until(
            (document) => document.storage !== null,
            'the session to be measured',
        );
        assert.ok(storage.login > 10_000, 'the profile of a browser');

        const sent = await server.post('/send', { phone: '5511977770001', message: 'good morning' });
        assert.equal(sent.status, 200, sent.text);
        assert.ok(sent.json.success && sent.json.messageId);
        assert.ok(JSON.stringify(await standin.sent()).includes('good morning'));
        assert.equal((await server.post('/send', { phone: '5511977770001' })).status, 400);

        const message = { phone: PHONE, from: '5511966660000', lid: false, body: 'hello there' };
        await standin.command('message', message);
        await within(arrival, 'the webhook');
        const named = { phone: PHONE, from: '5511966661111', body: 'named by another id', lid: true };
        await standin.command('message', named);
        const [{ timestamp, ...first }] = received;
        const old = {
            from: '5511966660000@c.us',
            phone: '5511966660000',
            body: 'hello there',
            message: 'hello there',
            user_id: '2',
            port: server.port,
        };
        assert.deepEqual(Object.fromEntries(Object.keys(old).map((member) => [member, first[member]])), old);
        assert.ok(timestamp > 1e12, 'milliseconds');
        await events.until(({ webhook }) => webhook.delivered === 2, 'the deliveries to be counted');
        assert.deepEqual(events.last.webhook, {
            ...{ queued: 0, delivered: 2, failed: 1, dropped: 0, undelivered: 0 },
            ...{ oldest_at: null, error: null, error_at: null },
        });
        await events.until(({ journal }) => journal?.entries >= 6, 'what was heard to be in the journal');
        assert.equal(events.last.state, 'ready', 'a web app that fails does not touch the session');
        assert.match(received[1].from, /@lid$/);
        assert.equal(received[1].phone, '5511966661111');
        await notified.until('STATUS=user 2: linked as +55…88 (Ana), ready');
        assert.doesNotMatch(
            server.output,
            /late module/,
            'an upgrade may replace the files of a running server',
        );
        assert.ok(
            !server.output.includes('hello there') && !server.output.includes(PHONE),
            'nothing private in the log',
        );
    });

    it('keeps its login over a stop, and needs no code at the next start', async (t) => {
        const { server } = await startLinked(t);
        const asked = Date.now();
        server.kill('SIGTERM');
        assert.equal(await server.exit(), 0);
        assert.ok(Date.now() - asked < 5000, 'a healthy browser is closed quickly');
        assertNothingRuns(server);
        const next = await start(t, { directory: server.directory, port: server.port });
        const events = next.follow();
        await events.until('ready');
        assert.ok(events.documents.every(({ qr }) => qr === null));
        assert.ok(events.documents.every(({ linked }) => linked));
    });

    it('keeps counting its trouble, and forgets that once it was ready for a while', async (t) => {
        const { server } = await startLinked(t);
        server.kill('SIGTERM');
        await server.exit();
        const note = path.join(profileOf(server), 'trouble.json');
        fs.writeFileSync(note, JSON.stringify({ at: Date.now(), round: 1, starts: [] }));
        const next = await start(t, { directory: server.directory, port: server.port });
        await next.follow().until('ready');
        await pause(5_000);
        assert.ok(fs.existsSync(note), 'it may come again');
        for (let tries = 0; fs.existsSync(note) && tries < 200; tries += 1) await pause(100);
        assert.ok(!fs.existsSync(note), 'it is over');
    });

    it('keeps its login when everything is killed, and takes a profile from another host', async (t) => {
        const { server } = await startLinked(t);
        server.kill('SIGKILL');
        assert.equal(await server.exit(), 'SIGKILL');
        const [profile] = fs.readdirSync(profileOf(server)).filter((name) => name.startsWith('session-'));
        const lock = path.join(profileOf(server), profile, 'SingletonLock');
        fs.rmSync(lock, { force: true });
        fs.symlinkSync('another-host-4711', lock);
        fs.rmSync(path.join(profileOf(server), 'login.json'));
        const next = await start(t, {
            directory: server.directory,
            port: server.port,
            env: { WAPORTD_BROWSER: 'chromium' },
        });
        const events = next.follow();
        await events.until('ready', 'a profile that another program left here is tried by itself');
    });

    it('is deleted, after the browser is gone, when the phone unlinks it', async (t) => {
        const { server, events } = await startLinked(t);
        await standin.command('logout', { phone: PHONE });
        assert.equal(await server.exit(), 10);
        assert.equal(events.last.state, 'logged_out');
        assert.equal(events.last.linked, false);
        assert.deepEqual(fs.readdirSync(server.directory), [], 'nothing is left of the session');
        assertNothingRuns(server);
    });

    it('is unlinked and deleted by a logout', async (t) => {
        const { server } = await startLinked(t);
        const { status, json } = await server.post('/disconnect');
        assert.deepEqual([status, json.success], [200, true]);
        assert.equal(await server.exit(), 10);
        assert.deepEqual(fs.readdirSync(server.directory), [], 'nothing is left of the session');
        await assert.rejects(standin.command('logout', { phone: PHONE }), /no device is linked/);
    });

    it('ends as logged out when the phone unlinked it while it was stopped', async (t) => {
        const { server } = await startLinked(t);
        server.kill('SIGTERM');
        await server.exit();
        await standin.command('logout', { phone: PHONE });
        const next = await start(t, { directory: server.directory, port: server.port });
        assert.equal(await next.exit(), 10);
        assert.deepEqual(fs.readdirSync(next.directory), []);
    });
});

describe('trouble that nobody has foreseen ends the process', () => {
    it('with 1 when a promise is rejected that nobody watches, and the login is kept', async (t) => {
        const fault = path.join(scratch(t), 'fault');
        const env = {
            NODE_OPTIONS: `--require ${path.join(__dirname, 'support', 'reject.js')}`,
            REJECT_WHEN_EXISTS: fault,
        };
        const { server } = await startLinked(t, { env });
        fs.writeFileSync(fault, '');
        assert.equal(await server.exit(), 1);
        assert.match(server.output, /unexpected error.*a fault from outside/);
        assertNothingRuns(server);
        const next = await start(t, { directory: server.directory, port: server.port });
        await next.follow().until('ready');
    });
});

describe('trouble that no restart fixes is shown and waited out', () => {
    it('when the site cannot be reached', async (t) => {
        await standin.command('unreachable', { on: true });
        t.after(() => standin.command('unreachable', { on: false }));
        const server = await start(t);
        const events = server.follow();
        await server.get('/qr');
        const { cause, hint, message } = await events.until('error');
        assert.equal(cause, 'upstream_unreachable');
        assert.match(message, /ERR_CONNECTION_REFUSED.*next try at \d\d:\d\d:\d\d UTC/);
        assert.match(hint, /Internet/);
        assert.equal((await server.get('/qr')).json.status, 'error');
        await events.until(({ browser }) => browser?.running === false, 'the browser to be closed');
    });

    it('when the site gives neither code nor login; and the next browser is remembered', async (t) => {
        await standin.command('silent', { on: true });
        t.after(() => standin.command('silent', { on: false }));
        // On a loaded machine the second browser, a whole one, takes up to five seconds to its code.
        const server = await start(t, { env: { WAPORTD_START_TIMEOUT: '8' } });
        const events = server.follow();
        await server.post('/qr/new');
        const { cause, message, browser: first } = await events.until('error');
        assert.equal(cause, 'upstream_silent');
        assert.match(message, /neither code nor login in 8 s; the next start uses/);
        const remembered = JSON.parse(fs.readFileSync(path.join(server.directory, '.browser'), 'utf8'));
        assert.notEqual(remembered.path, first.path);
        await standin.command('silent', { on: false });
        await events.until(({ browser }) => browser?.running === false, 'the browser to be closed');
        const from = events.documents.length;
        await server.post('/qr/new');
        const next = await events.until('qr', 'a code from the other browser', { from });
        assert.equal(next.browser.path, remembered.path);
    });

    it('when there is no browser, or one that does not start', async (t) => {
        const directory = scratch(t);
        const missing = await start(t, { directory, env: { WAPORTD_BROWSER: '/nowhere/chromium' } });
        const events = missing.follow();
        await missing.get('/qr');
        const { cause, hint } = await events.until('error');
        assert.equal(cause, 'browser_missing');
        assert.match(hint, /apt install/);
        const pairing = await missing.post('/pairing-code', { phone: PHONE });
        assert.deepEqual([pairing.status, pairing.json.cause], [503, 'browser_missing']);

        const fake = path.join(directory, 'chromium');
        fs.writeFileSync(
            fake,
            '#!/bin/sh\n[ "$1" = --version ] && echo Chromium 150.0.1.2 && exit\n' +
                'echo "FATAL: no good" >&2\nexit 1\n',
            { mode: 0o755 },
        );
        const broken = await start(t, { env: { WAPORTD_BROWSER: fake } });
        const brokenEvents = broken.follow();
        await broken.get('/qr');
        const document = await brokenEvents.until('error');
        assert.equal(document.cause, 'browser_failed');
        assert.match(document.message, /FATAL: no good/);
    });

    it('when the profile cannot be used, or another browser uses it', async (t) => {
        const directory = scratch(t);
        const blocked = await start(t, { directory });
        fs.writeFileSync(profileOf(blocked), 'a file, not a folder');
        const events = blocked.follow();
        await blocked.get('/qr');
        assert.equal((await events.until('error')).cause, 'profile_error');

        const server = await start(t);
        const profile = path.join(profileOf(server), `session-waportd_${server.port}`);
        await openByHand(t, profile);
        const waiting = server.follow();
        await server.get('/qr');
        const { cause, hint } = await waiting.until('error');
        assert.equal(cause, 'profile_locked');
        assert.match(hint, new RegExp(`^end it: kill .*\\b${browserOf(server)}\\b`));
    });
});

describe('stopping', () => {
    it('kills a browser that does not answer, within ten seconds', async (t) => {
        const { server } = await startLinked(t);
        const browser = browserOf(server);
        process.kill(browser, 'SIGSTOP');
        const asked = Date.now();
        server.kill('SIGTERM');
        assert.equal(await server.exit(), 0);
        assert.ok(Date.now() - asked < 10_000);
        assertNothingRuns(server);
    });

    it('leaves nothing of a browser that is just starting', async (t) => {
        const server = await start(t);
        const events = server.follow();
        await server.get('/qr');
        await events.until(({ browser }) => browser !== null, 'the browser to be started');
        server.kill('SIGTERM');
        assert.equal(await server.exit(), 0);
        assertNothingRuns(server);
    });

    it('gives the browser neither its socket, nor what systemd passed to it, nor a bus', async (t) => {
        const { file, environment } = await recordingBrowser(scratch(t));
        const env = {
            WAPORTD_BROWSER: file,
            NOTIFY_SOCKET: '/nowhere',
            WATCHDOG_USEC: '20000000',
            DBUS_SESSION_BUS_ADDRESS: 'unix:path=/nowhere',
        };
        const server = await start(t, { env });
        const events = server.follow();
        await server.get('/qr');
        await events.until('qr');
        assert.doesNotMatch(environment(), /NOTIFY_SOCKET|WATCHDOG|WAPORTD|nowhere/);
        for (const bus of ['SESSION', 'SYSTEM']) {
            assert.match(environment(), new RegExp(`^DBUS_${bus}_BUS_ADDRESS=disabled:$`, 'm'));
        }
        const listening = fs
            .readFileSync('/proc/net/tcp', 'utf8')
            .split('\n')
            .filter((line) =>
                line.includes(`:${server.port.toString(16).toUpperCase().padStart(4, '0')} 00000000:0000 0A`),
            )
            .map((line) => `socket:[${line.trim().split(/\s+/)[9]}]`);
        assert.equal(listening.length, 1);
        assert.ok(descriptorsOf(server.pid).includes(listening[0]));
        assert.ok(!descriptorsOf(browserOf(server)).includes(listening[0]));
    });

    it('is idle, and ends, when nobody asks for a code', async (t) => {
        const server = await start(t, { env: { WAPORTD_IDLE_TIMEOUT: '1' } });
        assert.equal(await server.exit(), 0);
        assert.match(server.output, /nobody asked for a code/);
    });
});

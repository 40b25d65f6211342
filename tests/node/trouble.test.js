'use strict';

/**
 * Trouble of real sessions before the page of today: what is fixed in the living process, what is shown
 * meanwhile, and what WhatsApp says reaches anyone who looks. What takes minutes is in patience.test.js.
 */

const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');

const { findBrowsers } = require('../../server/browser');
const { processesOf, scratch } = require('./support/process');
const { PHONE, browserOf, partsOf, ...whole } = require('./support/session');
const { startStandIn } = require('./support/standin');

const TEXT = { phone: '5511977770001', message: 'good morning' };

let standin;
let standinFolder;

before(async () => {
    standinFolder = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
    standin = await startStandIn(standinFolder, ['--shape', 'today']);
});

after(() => {
    standin?.stop();
    if (standinFolder) fs.rmSync(standinFolder, { recursive: true, force: true });
});

const start = (t, { site = standin, ...options } = {}) => whole.start(t, site, options);
const startLinked = (t, { site = standin, ...options } = {}) => whole.startLinked(t, site, options);

/** Another stand-in, for faults that would meet others. */
async function ownSite(t, ...args) {
    const site = await startStandIn(scratch(t), ['--shape', 'today', ...args]);
    t.after(() => site.stop());
    return site;
}

const authOf = ({ directory, port }) => path.join(directory, `.wwebjs_auth_${port}`);

/** What a session in trouble shows: why, what is done, and the way out. */
function assertExplained({ state, message, cause, hint, linked }, expected) {
    assert.equal(cause, expected, message);
    assert.ok(['disconnected', 'error'].includes(state), state);
    assert.ok(hint?.length > 0, 'a hint');
    assert.equal(linked, true, 'it is as linked as before');
}

/** Do harm to a linked session; returns what it showed, when it is ready again in the same process. */
async function survive(t, { server, events }, harm, expected, limit = 60_000) {
    const from = events.documents.length;
    const old = browserOf(server);
    await harm();
    const shown = await events.until(({ cause }) => cause === expected, `cause ${expected}`, { from, limit });
    assertExplained(shown, expected);
    const { cause, linked } = await events.until('ready', 'ready again', {
        from: events.documents.indexOf(shown),
        limit,
    });
    assert.deepEqual([cause, linked], [null, true]);
    assert.ok(
        events.documents.slice(from).every((each) => each.linked && each.qr === null),
        'linked all the time',
    );
    return { shown, sameBrowser: browserOf(server) === old };
}

describe('a linked session is brought back in the living process', () => {
    it('by another browser when its browser is killed', async (t) => {
        const session = await startLinked(t);
        const kill = () => process.kill(browserOf(session.server), 'SIGKILL');
        const { shown, sameBrowser } = await survive(t, session, kill, 'browser_lost');
        assert.equal(sameBrowser, false);
        assert.match(shown.message, /the browser ended unexpectedly/);
    });

    it('by another browser when its browser stands still', async (t) => {
        const session = await startLinked(t, { env: { WAPORTD_PROBE_INTERVAL: '1' } });
        const stop = () => process.kill(browserOf(session.server), 'SIGSTOP');
        // Ten of these seconds it is given for signs of life; the rest is for a start on a loaded machine.
        const { sameBrowser } = await survive(t, session, stop, 'page_hung');
        assert.equal(sameBrowser, false);
        assert.doesNotMatch(session.server.output, /closing the browser/, 'it is asked for no goodbye');
    });

    it('when the script that started the browser is killed, and the browser ends too', async (t) => {
        const [file] = await findBrowsers('auto');
        const folder = scratch(t);
        const wrapper = path.join(folder, path.basename(file));
        fs.writeFileSync(wrapper, `#!/bin/sh\n${file} "$@"\n`, { mode: 0o755 });
        const session = await startLinked(t, { env: { WAPORTD_BROWSER: wrapper } });
        const [, started] = session.server.output.match(/browser started .*pid=(\d+)/);
        const old = browserOf(session.server);
        assert.notEqual(Number(started), old, 'the script is not the browser');
        const kill = () => process.kill(Number(started), 'SIGKILL');
        const { sameBrowser } = await survive(t, session, kill, 'browser_lost');
        assert.equal(sameBrowser, false);
        assert.ok(!processesOf(session.server.directory).includes(old), 'the old one is gone');
    });

    it('by the newer browser when its program was exchanged under it', async (t) => {
        const [file] = await findBrowsers('auto');
        const folder = scratch(t);
        const program = path.join(folder, path.basename(file));
        /** As a package does it: the new file takes the place of the one that runs. */
        const install = (version) => {
            const tells = `[ "$1" != --version ] || exec echo Chromium ${version}`;
            const text = `#!/bin/sh\n${tells}\nexec ${file} "$@"\n`;
            fs.writeFileSync(`${program}.new`, text, { mode: 0o755 });
            fs.renameSync(`${program}.new`, program);
        };
        install('197.0.1.1');
        const session = await startLinked(t, { env: { WAPORTD_BROWSER: program } });
        install('198.0.2.2');
        const sent = await session.server.post('/send', TEXT);
        assert.equal(sent.status, 200, sent.text);
        const kill = () => process.kill(browserOf(session.server), 'SIGKILL');
        await survive(t, session, kill, 'browser_lost');
        const started = [...session.server.output.matchAll(/starting the browser .*version=([\d.]+)/g)];
        assert.deepEqual(
            started.map(([, version]) => version),
            ['197.0.1.1', '198.0.2.2'],
        );
    });

    it('by another browser when nothing is left that draws its pages, and answers senders', async (t) => {
        // At its ordinary pace, with a look each ten seconds: until then the session says that it is ready.
        const session = await startLinked(t);
        let sent;
        const kill = () => {
            const zygotes = partsOf(session.server, 'zygote');
            assert.ok(zygotes.length > 0);
            // Each may take others along.
            for (const pid of zygotes) spawnSync('kill', ['-KILL', pid]);
            const began = performance.now();
            sent = session.server
                .post('/send', { ...TEXT, message: 'is anybody there' })
                .then(({ status, json }) => ({ status, json, took: performance.now() - began }));
        };
        const { sameBrowser } = await survive(t, session, kill, 'browser_lost');
        assert.equal(sameBrowser, false);
        const { status, json, took } = await sent;
        // What draws a page may outlive for a moment what it came from, and send the message still.
        const arrived = (await standin.sent()).filter(({ body }) => body === 'is anybody there').length;
        assert.deepEqual(
            [status, json.cause, arrived],
            status === 200 ? [200, undefined, 1] : [400, 'not_connected', 0],
        );
        assert.ok(took < 30_000, `${took} ms`);
    });

    it('by loading its page again when that hangs for good', async (t) => {
        const session = await startLinked(t, { env: { WAPORTD_PROBE_INTERVAL: '1' } });
        const hang = () => standin.command('hang', { phone: PHONE });
        const { sameBrowser } = await survive(t, session, hang, 'page_hung');
        assert.equal(sameBrowser, true);
        const sent = await session.server.post('/send', TEXT);
        assert.equal(sent.status, 200, sent.text);
    });

    it('by loading its page again when that crashes, again and again', async (t) => {
        const session = await startLinked(t);
        const crash = () => standin.command('crash', { phone: PHONE });
        assert.equal((await survive(t, session, crash, 'page_crashed')).sameBrowser, true);
        // Then another browser, at once, and after a pause.
        assert.equal((await survive(t, session, crash, 'page_crashed')).sameBrowser, false);
        const { shown } = await survive(t, session, crash, 'page_crashed');
        assert.match(shown.message, /next try at \d\d:\d\d:\d\d UTC/);
    });

    it('by loading its page again, however long it waits for its turn to do so', async (t) => {
        const env = { WAPORTD_PROBE_INTERVAL: '1', WAPORTD_TURN_WAIT: '3600' };
        const { server, events } = await startLinked(t, { env });
        const from = events.documents.length;
        const old = browserOf(server);
        await standin.command('crash', { phone: PHONE });
        await events.until(({ turn }) => turn === 'awaited', 'a session that waits', { from });
        // A page that has crashed answers no probe: that is no other trouble, and needs no stronger means.
        await pause(10_000);
        await server.post('/begin');
        await events.until('ready', 'ready again', { from });
        assert.equal(browserOf(server), old);
    });

    for (const isHeard of [true, false]) {
        const whether = isHeard ? 'as it asks for it' : 'and it never hears of that';
        it(`by another browser when its page is gone before it is there, ${whether}`, async (t) => {
            const [file] = await findBrowsers('auto');
            const folder = scratch(t);
            const [wrapper, broken] = ['chromium', 'broken'].map((name) => path.join(folder, name));
            const ends = '--renderer-cmd-prefix=/bin/false';
            const script = `[ ! -e ${broken} ] || set -- "$@" ${ends}; exec ${file} "$@"`;
            fs.writeFileSync(wrapper, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
            const { server, events } = await startLinked(t, {
                env: { WAPORTD_BROWSER: wrapper, WAPORTD_START_TIMEOUT: '15' },
            });
            fs.writeFileSync(broken, '');
            const from = events.documents.length;
            const starts = () => server.output.split('starting the browser').length;
            const earlier = starts();
            process.kill(browserOf(server), 'SIGKILL');
            if (!isHeard) {
                while (starts() === earlier) await pause(1);
                process.kill(server.pid, 'SIGSTOP');
                await pause(2_000);
                process.kill(server.pid, 'SIGCONT');
            }
            const isTold = ({ cause }) => cause !== null && cause !== 'browser_lost';
            const shown = await events.until(isTold, 'the trouble', { from, limit: 60_000 });
            assert.match(shown.cause, /^page_/, 'the site is not to blame');
            fs.rmSync(broken);
            await events.until('ready', 'ready again', {
                from: events.documents.indexOf(shown),
                limit: 60_000,
            });
        });
    }

    it('by loading its page again when its login is never ready', async (t) => {
        const server = await start(t, { env: { WAPORTD_READY_TIMEOUT: '4' } });
        const events = server.follow();
        await server.post('/qr/new');
        const { qr } = await events.until('qr');
        await standin.command('stay-authenticated');
        await standin.command('scan', { qr, phone: PHONE });
        await events.until('authenticated');
        assertExplained(await events.until('disconnected'), 'never_ready');
        await events.until('ready');
    });

    it('by loading its page again when it is said to be unpaired, and nothing of a logout', async (t) => {
        const session = await startLinked(t);
        const unpair = () => standin.command('unpaired', { phone: PHONE });
        const { sameBrowser } = await survive(t, session, unpair, 'unpaired');
        assert.equal(sameBrowser, true);
    });

    it('when it is used in another place: shown, and tried again at a time that is named', async (t) => {
        const { server, events } = await startLinked(t);
        const from = events.documents.length;
        await standin.command('conflict', { phone: PHONE });
        const shown = await events.until('error', 'the conflict', { from });
        assertExplained(shown, 'conflict');
        assert.match(shown.message, /next try at \d\d:\d\d:\d\d UTC/);
        const refused = await server.post('/send', TEXT);
        assert.deepEqual([refused.status, refused.json.cause], [400, 'not_connected']);
        assert.match(refused.json.error, /in another place/);
        // Who does not want to wait asks.
        await server.post('/qr/new');
        await events.untilBack('ready again', { from });
    });
});

describe('a short absence', () => {
    it('is waited out by callers who send meanwhile', async (t) => {
        const { server, events } = await startLinked(t);
        const from = events.documents.length;
        process.kill(browserOf(server), 'SIGKILL');
        await events.until('disconnected', 'the loss', { from });
        const sent = await server.post('/send', { phone: '5511977770001', message: 'I can wait' });
        assert.equal(sent.status, 200, sent.text);
        assert.ok(JSON.stringify(await standin.sent()).includes('I can wait'));
    });

    it('is waited out by callers who read, and what they read is read again', async (t) => {
        const { server, events } = await startLinked(t);
        const pages = partsOf(server, 'renderer');
        assert.ok(pages.length > 0);
        for (const pid of pages) process.kill(pid, 'SIGSTOP');
        const listing = server.get('/chats');
        await pause(500);
        const from = events.documents.length;
        for (const pid of pages) process.kill(pid, 'SIGKILL');
        const listed = await listing;
        assert.equal(listed.status, 200, listed.text);
        assert.ok(listed.json.total > 0);
        assert.ok(events.documents.slice(from).some(({ cause }) => cause === 'page_crashed'));
    });

    it('is none where the page is busy with a call', async (t) => {
        const { server, events } = await startLinked(t, { env: { WAPORTD_PROBE_INTERVAL: '4' } });
        const from = events.documents.length;
        const pages = partsOf(server, 'renderer');
        assert.ok(pages.length > 0);
        for (const pid of pages) process.kill(pid, 'SIGSTOP');
        const listed = server.get('/chats');
        // Longer than a probe and the answer to it, and more than anybody who lists chats waits for.
        await pause(13_000);
        for (const pid of pages) process.kill(pid, 'SIGCONT');
        assert.equal((await listed).status, 500);
        assert.equal((await server.get('/chats')).status, 200);
        assert.deepEqual(
            events.documents.slice(from).filter(({ state }) => state !== 'ready'),
            [],
        );
    });
});

describe('the page of a linked session', () => {
    it('may load itself again: who sends meanwhile waits', async (t) => {
        const { server, events } = await startLinked(t);
        const from = events.documents.length;
        await standin.command('reload-after', { phone: PHONE, ms: 0 });
        await events.until('disconnected', 'the reload', { from });
        const sent = await server.post('/send', TEXT);
        assert.equal(sent.status, 200, sent.text);
        assert.equal(events.last.state, 'ready');
        assert.ok(events.documents.slice(from).every(({ linked, cause }) => linked && cause === null));
    });

    it('may change its address and hold frames: nothing of that is a reload', async (t) => {
        const { server, events } = await startLinked(t);
        const from = events.documents.length;
        await standin.command('push-state', { phone: PHONE, times: 3 });
        await standin.command('frames', { phone: PHONE, count: 3, every: 50, times: 4 });
        await pause(1_500);
        const sent = await server.post('/send', TEXT);
        assert.equal(sent.status, 200, sent.text);
        assert.deepEqual(
            events.documents.slice(from).filter(({ state }) => state !== 'ready'),
            [],
        );
    });

    it('is not given up for a hang of 13 seconds', async (t) => {
        const { server, events } = await startLinked(t);
        const from = events.documents.length;
        // So that it spans the next probe, and the time for the answer to it.
        await pause(8_000);
        await standin.command('hang', { phone: PHONE, ms: 13_000 });
        await pause(13_000);
        const sent = await server.post('/send', TEXT);
        assert.equal(sent.status, 200, sent.text);
        assert.deepEqual(
            events.documents.slice(from).filter(({ state }) => state !== 'ready'),
            [],
        );
    });

    it('may be busy for minutes with a large account, and becomes ready', async (t) => {
        const site = await ownSite(t);
        await site.command('chats', { phone: PHONE, count: 1_200 });
        // As on a slow core: the page is busy for some 10 s, longer than three probes, before it is ready.
        await site.command('set', { chat_cost_ms: 4 });
        const env = { WAPORTD_PROBE_INTERVAL: '2', WAPORTD_READY_TIMEOUT: '8' };
        const server = await start(t, { site, env });
        const events = server.follow();
        await server.post('/qr/new');
        const { qr } = await events.until('qr');
        await site.command('scan', { qr, phone: PHONE });
        await events.until('ready', 'the large account', { limit: 60_000 });
        assert.deepEqual(
            events.documents.filter(({ cause }) => cause !== null),
            [],
        );
        assert.equal([...server.output.matchAll(/browser started/g)].length, 1);
    });
});

describe('what WhatsApp says reaches everyone who looks', () => {
    const REFUSALS = {
        PROXYBLOCK: 'proxy_blocked',
        TOS_BLOCK: 'account_blocked',
        SMB_TOS_BLOCK: 'account_blocked',
        DEPRECATED_VERSION: 'version_refused',
        SCREEN_LOCKED: 'screen_locked',
    };

    it('when it refuses the connection of a linked session, in whatever way', async (t) => {
        const { server, events } = await startLinked(t);
        for (const [state, cause] of Object.entries(REFUSALS)) {
            const from = events.documents.length;
            await standin.command('state', { phone: PHONE, state });
            const shown = await events.until('error', state, { from });
            assertExplained(shown, cause);
            assert.match(shown.message, new RegExp(`${state}\\); .* at \\d\\d:\\d\\d:\\d\\d UTC`));
            await server.post('/qr/new');
            await events.untilBack('ready again', { from });
        }
    });

    it('when it bans the account for a time', async (t) => {
        const phone = '5511999997777';
        const server = await start(t);
        const events = server.follow();
        await server.post('/qr/new');
        await whole.link(standin, events, phone);
        await standin.command('ban', { phone, code: 101, expire: 3600 });
        const shown = await events.until('error');
        assertExplained(shown, 'account_banned');
        assert.match(shown.message, /until \d{4}-\d\d-\d\d \d\d:\d\d UTC/);
        assert.match(server.output, /account_banned/);
    });

    const LOGOUTS = { 0: /stored/, 1: /up to date/, 2: /in time/, 3: /locked/ };

    for (const [reason, words] of Object.entries(LOGOUTS)) {
        it(`when its page logs itself out with reason ${reason}`, async (t) => {
            const { server, events } = await startLinked(t);
            await standin.command('logout', { phone: PHONE, reason: Number(reason) });
            assert.equal(await server.exit(), 10);
            assert.equal(events.last.state, 'logged_out');
            assert.match(events.last.message, words);
            assert.ok(events.last.hint.length > 0);
            assert.match(server.output, words);
        });
    }

    it('when it gives no pairing code because it was asked too often', async (t) => {
        await standin.command('refuse-pairing', {});
        t.after(() => standin.command('refuse-pairing', { on: false }));
        const server = await start(t);
        const refused = await server.post('/pairing-code', { phone: PHONE });
        assert.deepEqual([refused.status, refused.json.cause], [503, 'pairing_limited'], refused.text);
        assert.match(refused.json.error, /no more before \d\d:\d\d:\d\d UTC/);
        assert.match(refused.json.hint, /scan/);
        const { cause, message } = (await server.get('/session')).json;
        assert.equal(cause, 'pairing_limited');
        assert.match(message, /too many pairing codes/);
        // Asking WhatsApp again would make it longer.
        await standin.command('refuse-pairing', { on: false });
        const again = await server.post('/pairing-code', { phone: PHONE });
        assert.deepEqual([again.status, again.json.cause], [503, 'pairing_limited']);
        assert.equal([...server.output.matchAll(/starting the browser/g)].length, 1);
    });

    for (const language of ['en', 'pt', 'ja']) {
        it(`when it does not take the browser, in the language ${language}`, async (t) => {
            const site = await ownSite(t);
            await site.command('set', { language });
            await site.command('refuse-browser', {});
            const server = await start(t, { site, env: { WAPORTD_START_TIMEOUT: '4' } });
            const events = server.follow();
            await server.post('/qr/new');
            const { cause, message, hint } = await events.until('error');
            assert.equal(cause, 'browser_refused', message);
            assert.match(message, /refuses/);
            assert.ok(hint.length > 0);
        });
    }
});

describe('codes', () => {
    it('come by loading the page again when no way of asking for them brings any', async (t) => {
        const site = await ownSite(t, '--refs-ttl', '1000,1000');
        const env = { WAPORTD_QR_MAX_RETRIES: '8', WAPORTD_QR_LIFETIME: '1,1' };
        for (const [module, member] of [
            ['WAWebBackendEventBus', 'BackendEventBus.triggerRefreshQR'],
            ['WAWebLaunchSocketUtils', 'refreshQR'],
        ]) {
            await site.command('break', { module, member });
        }
        const server = await start(t, { site, env });
        const events = server.follow();
        await server.post('/qr/new');
        const { attempt } = await events.until('qr_timeout', 'eight codes', { limit: 60_000 });
        assert.equal(attempt, 8, 'those before the reload count');
        const codes = new Set(events.documents.map(({ qr }) => qr).filter((qr) => qr !== null));
        assert.equal(codes.size, 8);
        assert.match(server.output, /no new code; WhatsApp's page is reloaded/);
        assert.equal([...server.output.matchAll(/browser started/g)].length, 1);
    });

    it('that a logged-in page seems to give delete nothing', async (t) => {
        const { server } = await startLinked(t);
        // All that the login consists of is lost: the page starts afresh, and nobody has logged it out.
        server.kill('SIGTERM');
        await server.exit();
        const [profile] = fs.readdirSync(authOf(server)).filter((name) => name.startsWith('session-'));
        const stored = path.join(authOf(server), profile, 'Default', 'IndexedDB');
        fs.renameSync(stored, path.join(server.directory, 'kept'));
        fs.rmSync(path.join(authOf(server), 'snapshots'), { recursive: true });
        const next = await start(t, { directory: server.directory, port: server.port });
        const later = next.follow();
        const { linked, hint } = await later.until(({ cause }) => cause === 'login_missing', 'the doubt');
        assert.equal(linked, true);
        assert.match(hint, /Linked devices/);
        const { linked: isLinked } = await later.until('qr', 'the login to be given up', { limit: 40_000 });
        assert.equal(isLinked, false);
        assert.ok(fs.existsSync(path.join(authOf(server), profile)), 'the profile is kept');
    });
});

'use strict';

/** What takes half a minute and more, on a server whose clock runs fast. */

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { describe, it } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');

const { ROOT, freePort, scratch, startServer, whenFound, within } = require('./support/process');
const { startStandIn } = require('./support/standin');

/** A timer may be a millisecond early, and a log has whole ones: so many they are on a fast clock. */
const TICK_MS = 1_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** How many times as fast a clock runs where whole hours are waited for. */
const HASTE = 300;

/** Milliseconds from midnight to a time as in `18:13:37`. */
const timeOfDay = (time) => Date.parse(`1970-01-01T${time}Z`);

/** The environment of a server whose clock is so many times as fast. */
const clock = (speed) => ({
    FAST_CLOCK: String(speed),
    NODE_OPTIONS: `--require ${path.join(ROOT, 'tests', 'node', 'support', 'fast-clock.js')}`,
});

/** What becomes a server on a small disk of its own, in a namespace of its own, full because of one file. */
function onFullDisk(seed, folder) {
    const script =
        'mount -t tmpfs -o size=64m tmpfs "$2"; cp -a "$1/." "$2"; head -c 48M /dev/zero > "$2/filling"; ' +
        'cd "$2"; shift 2; exec "$@"';
    return ['unshare', '-Urm', 'sh', '-ec', script, 'sh', seed, folder];
}

/** A browser is as slow as ever. */
const SLOW_BROWSER = { WAPORTD_START_TIMEOUT: '1200', WAPORTD_PROBE_INTERVAL: '400' };

/** Leave in a folder what a server leaves that had a phone linked. */
function pretendLinked(directory, port) {
    const auth = path.join(directory, `.wwebjs_auth_${port}`);
    fs.mkdirSync(path.join(auth, `session-waportd_${port}`), { recursive: true });
    fs.writeFileSync(path.join(auth, 'login.json'), '{"linked":true}');
}

/** A page that asks for a code every five seconds of a server whose clock is so many times as fast. */
function openTab(t, server, speed) {
    let open = true;
    const asking = (async () => {
        while (open) {
            await server.get('/qr').catch(() => {});
            await pause(5_000 / speed);
        }
    })();
    const close = () => {
        open = false;
        return asking;
    };
    t.after(close);
    return { close };
}

/** Milliseconds from a moment until a clock shows this in UTC. */
const until = (since, clockTime) => (timeOfDay(clockTime) - (Date.parse(since) % DAY_MS) + DAY_MS) % DAY_MS;

// Waiting costs nothing: all at once, with one browser among them.
describe('patience', { concurrency: true }, () => {
    it('tries again automatically while somebody asks, and waits twice as long the next time', async (t) => {
        const file = path.join(scratch(t), 'chromium');
        const server = await startServer(t, { env: { ...clock(40), WAPORTD_BROWSER: file } });
        const events = server.follow();
        openTab(t, server, 40);
        // Times are the server's own: those of arrival depend on how loaded the host is.
        const first = await events.until('error');
        assert.equal(first.cause, 'browser_missing');
        fs.writeFileSync(file, '#!/bin/sh\nexit 1\n', { mode: 0o755 });
        const broken = ({ cause }) => cause === 'browser_failed';
        const second = await events.until(broken, 'another try');
        const half = Date.parse(second.since) - Date.parse(first.since);
        assert.ok(half >= 30_000 - TICK_MS, `after half a minute: ${half} ms`);
        const again = (document) => broken(document) && document.since !== second.since;
        const third = await events.until(again, 'a third try');
        const whole = Date.parse(third.since) - Date.parse(second.since);
        assert.ok(whole >= 60_000 - TICK_MS, `after a minute: ${whole} ms`);
    });

    it('opens nine browsers for those who ask at once, and says when the next one comes', async (t) => {
        const server = await startServer(t, { env: { ...clock(40), WAPORTD_BROWSER: '/nowhere/chromium' } });
        const events = server.follow();
        let tries = 0;
        let held;
        while (tries < 12) {
            held = (await server.post('/qr/new')).json;
            if (held.state === 'error') break;
            tries += 1;
            const { since } = held;
            await events.until(
                (document) => document.state === 'error' && document.since >= since,
                'its end',
            );
        }
        assert.ok(tries <= 9, `${tries} browsers`);
        assert.equal(held.cause, 'browser_missing');
        const [, clockTime] = held.message.match(/next try at (\d\d:\d\d:\d\d) UTC$/);
        const { status, json } = await server.post('/pairing-code', { phone: '5511999998888' });
        assert.equal(status, 503);
        assert.equal(json.code, 'browser_missing');
        assert.match(json.error, /ask again at \d\d:\d\d:\d\d UTC/);
        assert.equal((await server.get('/session')).json.since, held.since, 'no browser was opened');
        openTab(t, server, 40);
        const next = (document) => document.state === 'error' && document.since > held.since;
        const { since } = await events.until(next, 'the next try');
        // On a busy host a part of the five minutes is over when the last of the nine has ended.
        const announced = until(held.since, clockTime);
        assert.ok(announced >= 200_000 && announced <= 310_000, `in five minutes: ${announced} ms`);
        const waited = Date.parse(since) - Date.parse(held.since);
        assert.ok(waited >= announced - TICK_MS && waited <= announced + 60_000, `after ${waited} ms`);
    });

    it('does not try again when nobody asks any more', async (t) => {
        const server = await startServer(t, { env: { ...clock(40), WAPORTD_BROWSER: '/nowhere/chromium' } });
        const events = server.follow();
        await server.get('/qr');
        await events.until('error');
        const given = ({ message }) => message.endsWith('next try when somebody asks for a code');
        await events.until(given, 'it to give up');
    });

    it('opens no browser for an open tab, but for somebody who comes after a minute', async (t) => {
        const site = await startStandIn(scratch(t));
        t.after(() => site.stop());
        const env = {
            ...site.env,
            ...clock(20),
            WAPORTD_QR_MAX_RETRIES: '1',
            WAPORTD_QR_LIFETIME: '10,10',
            // A browser is as slow as ever.
            WAPORTD_START_TIMEOUT: '400',
            WAPORTD_PROBE_INTERVAL: '400',
        };
        const server = await startServer(t, { env });
        const events = server.follow();
        const tab = openTab(t, server, 20);
        await events.until('qr_timeout', 'the only code to expire');
        await events.until(({ browser }) => browser?.running === false, 'the browser to be closed');
        const from = events.documents.length;
        await pause(70_000 / 20);
        await tab.close();
        assert.deepEqual(
            events.documents.slice(from).filter(({ state }) => state !== 'qr_timeout'),
            [],
        );
        await pause(61_000 / 20);
        await server.get('/qr');
        await events.until('qr', 'a code for whoever came', { from });
    });

    it('never gives a linked session up: growing pauses, and a new process last', async (t) => {
        const directory = scratch(t);
        const port = await freePort();
        pretendLinked(directory, port);
        const speed = 100;
        const began = Date.now();
        const env = {
            ...clock(speed),
            FAST_CLOCK_SINCE: String(began),
            WAPORTD_BROWSER: '/nowhere/chromium',
        };
        const server = await startServer(t, { directory, port, env });
        const events = server.follow();
        const last = ({ message }) => message.includes('the server restarts at');
        const { linked, cause, hint } = await events.until(last, 'the last resort');
        assert.deepEqual([linked, cause], [true, 'browser_missing']);
        assert.match(hint, /apt install/);
        assert.equal(await server.exit(), 11);
        assert.equal(events.last.linked, true);
        // The log has all; who follows the server may come after the first. It has the next try by the
        // server's clock, and each line's moment by the host's: a busy host makes both later, never earlier.
        const lines = [...server.output.matchAll(/^(\S+) .* (?:next try|restarts) at (\S+) UTC /gm)];
        const due = lines.map(([, , time]) => timeOfDay(time));
        const pauses = due.slice(1).map((time, index) => (time - due[index] + DAY_MS) % DAY_MS);
        const least = [15, 30, 60, 100, 100];
        assert.equal(pauses.length, least.length, server.output);
        least.forEach((seconds, index) =>
            assert.ok(pauses[index] >= 1000 * (seconds - 1), `pauses of ${pauses} ms`),
        );
        const [, exited] = /^(\S+) .* exit=11$/m.exec(server.output);
        const moments = [...lines.slice(1).map(([, time]) => time), exited];
        moments.forEach((time, index) => {
            const moment = began + speed * (Date.parse(time) - began);
            const late = (moment - due[index] + DAY_MS) % DAY_MS;
            assert.ok((late + TICK_MS) % DAY_MS < DAY_MS / 2, `${time} is before the try that was told`);
        });

        const next = await startServer(t, { directory, port, env });
        const later = next.follow();
        const { message } = await later.until('error');
        assert.match(message, /next try at/);
        await later.until((shown) => shown.message !== message && / at /.test(shown.message));
        assert.doesNotMatch(next.output, /restarts at/, 'it goes on where the one before stopped');
    });

    it('costs at most 20 tries in an hour, over all its processes', async (t) => {
        const directory = scratch(t);
        const port = await freePort();
        pretendLinked(directory, port);
        const began = Date.now();
        const env = {
            ...clock(HASTE),
            FAST_CLOCK_SINCE: String(began),
            WAPORTD_BROWSER: '/nowhere/chromium',
        };
        const over = pause(HOUR_MS / HASTE).then(() => 'over');
        let output = '';
        let processes = 0;
        for (let what; what !== 'over';) {
            const server = await startServer(t, { directory, port, env });
            processes += 1;
            // Another process is one of the tries: on a busy host the first may last longer than the hour.
            what = await Promise.race(processes > 1 ? [server.exited, over] : [server.exited]);
            server.kill('SIGKILL');
            output += server.output;
        }
        const tries = [...output.matchAll(/ (?:next try|restarts) at /g)].length;
        const hours = Math.ceil(((Date.now() - began) * HASTE) / HOUR_MS);
        assert.ok(tries <= 20 * hours, `${tries} tries in ${hours} h:\n${output}`);
    });

    it('tries no other process where the disk is full, and continues when it is not', async (t) => {
        const [seed, directory] = [scratch(t), scratch(t)];
        const port = await freePort();
        pretendLinked(seed, port);
        const browser = path.join(scratch(t), 'chromium');
        // The folders are looked at while it starts.
        fs.writeFileSync(browser, '#!/bin/sh\nsleep 1\nexit 1\n', { mode: 0o755 });
        // The limit of a start comes as early as that clock is fast: not before the folders are looked at.
        const env = { ...clock(HASTE), WAPORTD_BROWSER: browser, WAPORTD_START_TIMEOUT: '3600' };
        const around = onFullDisk(seed, directory);
        const server = await startServer(t, { directory, port, env, around });
        const events = server.follow();
        const { hint } = await events.until(({ cause }) => cause === 'disk_full', 'the reason');
        assert.match(hint, /free some space/);
        const tries = () => [...server.output.matchAll(/ next try at /g)].length;
        await whenFound(
            async () => tries() >= 9,
            () => `nine tries:\n${server.output}`,
        );
        assert.doesNotMatch(server.output, /restarts at/);
        fs.rmSync(path.join('/proc', String(server.pid), 'root', directory, 'filling'));
        await events.until(({ cause }) => cause === 'browser_failed', 'a try to get further');
    });

    it('keeps event streams alive with a heartbeat', async (t) => {
        const server = await startServer(t, { env: clock(20) });
        const request = http.get({ port: server.port, host: '127.0.0.1', path: '/events', agent: false });
        t.after(() => request.destroy());
        const [response] = await once(request, 'response');
        const heartbeat = new Promise((resolve) => {
            response.setEncoding('utf8').on('data', (text) => text === ': heartbeat\n\n' && resolve());
        });
        await within(heartbeat, 'a heartbeat');
    });
});

// Each with a browser: one after the other.
describe('patience with a linked session', () => {
    it('says what keeps a login from being ready, and keeps trying', async (t) => {
        const site = await startStandIn(scratch(t), ['--shape', 'today']);
        t.after(() => site.stop());
        const env = { ...site.env, ...SLOW_BROWSER, ...clock(20), WAPORTD_READY_TIMEOUT: '60' };
        const server = await startServer(t, { env });
        const events = server.follow();
        await server.post('/qr/new');
        const { qr } = await events.until('qr');
        await site.command('set', { sync_ms: 1e9 });
        await site.command('scan', { qr, phone: '5511999998888' });
        const isSerious = ({ state, cause }) => state === 'error' && cause === 'never_ready';
        const { message, hint, linked } = await events.until(isSerious, 'an error', { limit: 60_000 });
        assert.equal(linked, true);
        assert.match(message, /has changed, or the profile is damaged.*next try at \d\d:\d\d:\d\d UTC/);
        assert.match(hint, /engine.*log out/);
        const from = events.documents.length;
        const loads = await events.until('authenticated', 'the next try', { from, limit: 60_000 });
        assert.equal(loads.cause, 'never_ready', 'the cause stays on show');
        await site.command('set', { sync_ms: 0 });
        const { cause } = await events.untilBack('ready at last', { from, limit: 120_000 });
        assert.equal(cause, null);
    });

    it('waits for a site that cannot be reached in the page that is there', async (t) => {
        const site = await startStandIn(scratch(t), ['--shape', 'today']);
        t.after(() => site.stop());
        const server = await startServer(t, { env: { ...site.env, ...SLOW_BROWSER, ...clock(20) } });
        const events = server.follow();
        await server.post('/qr/new');
        const { qr } = await events.until('qr');
        await site.command('scan', { qr, phone: '5511999998888' });
        await events.until('ready');
        await site.command('unreachable', { on: true });
        const shown = await events.until(({ cause }) => cause === 'upstream_unreachable', 'the reason');
        assert.deepEqual([shown.state, shown.linked], ['disconnected', true]);
        assert.match(shown.message, /ERR_CONNECTION_REFUSED.*checked again at \d\d:\d\d:\d\d UTC/);
        const from = events.documents.indexOf(shown) + 1;
        await events.until(({ cause }) => cause === 'upstream_unreachable', 'another look', { from });
        await site.command('unreachable', { on: false });
        await events.untilBack('ready again', { from });
        assert.equal([...server.output.matchAll(/browser started/g)].length, 1);
        assert.doesNotMatch(server.output, /page is reloaded/);
    });
});

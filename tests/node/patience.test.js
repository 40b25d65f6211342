'use strict';

/** What takes half a minute and more, on a server whose clock runs fast. */

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { describe, it } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');

const { ROOT, freePort, scratch, startServer, within } = require('./support/process');
const { startStandIn } = require('./support/standin');

/** A timer may be a millisecond early by the clock, which is so many on a fast one. */
const TICK_MS = 100;
const DAY_MS = 86_400_000;

/** The environment of a server whose clock is so many times as fast. */
const clock = (speed) => ({
    FAST_CLOCK: String(speed),
    NODE_OPTIONS: `--require ${path.join(ROOT, 'tests', 'node', 'support', 'fast-clock.js')}`,
});

/** A browser is as slow as ever. */
const SLOW_BROWSER = { WAPORTD_START_TIMEOUT: '1200', WAPORTD_PROBE_INTERVAL: '400' };

/** Leave in a folder what a server leaves that had a phone linked. */
function pretendLinked(directory, port) {
    const auth = path.join(directory, `.wwebjs_auth_${port}`);
    fs.mkdirSync(path.join(auth, `session-ylada_bot_${port}`), { recursive: true });
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

// Waiting costs nothing: all at once, with one browser among them.
describe('patience', { concurrency: true }, () => {
    it('tries again by itself while somebody asks, and waits twice as long the next time', async (t) => {
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
        const again = (picture) => broken(picture) && picture.since !== second.since;
        const third = await events.until(again, 'a third try');
        const whole = Date.parse(third.since) - Date.parse(second.since);
        assert.ok(whole >= 60_000 - TICK_MS, `after a minute: ${whole} ms`);
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
        const from = events.pictures.length;
        await pause(70_000 / 20);
        await tab.close();
        assert.deepEqual(
            events.pictures.slice(from).filter(({ state }) => state !== 'qr_timeout'),
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
        const env = { ...clock(100), WAPORTD_BROWSER: '/nowhere/chromium' };
        const server = await startServer(t, { directory, port, env });
        const events = server.follow();
        const last = ({ message }) => message.includes('the server starts anew at');
        const { linked, cause, hint } = await events.until(last, 'the last resort');
        assert.deepEqual([linked, cause], [true, 'browser_missing']);
        assert.match(hint, /apt install/);
        const told = events.pictures.map(({ message }) => message.match(/ at (\S+) UTC/)?.[1]);
        const times = [...new Set(told)].filter(Boolean).map((time) => Date.parse(`2026-01-01T${time}Z`));
        const pauses = times.slice(1).map((time, index) => (time - times[index] + DAY_MS) % DAY_MS);
        [15, 30, 60, 100, 100].forEach((seconds, index) =>
            assert.ok(pauses[index] >= 1000 * (seconds - 1), `pauses of ${pauses} ms`),
        );
        assert.equal(await server.exit(), 11);
        assert.equal(events.last.linked, true);

        const next = await startServer(t, { directory, port, env });
        const later = next.follow();
        const { message } = await later.until('error');
        assert.match(message, /next try at/);
        await later.until((shown) => shown.message !== message && / at /.test(shown.message));
        assert.doesNotMatch(next.output, /starts anew/, 'it goes on where the one before stopped');
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
    it('says what keeps a login from being ready, and goes on trying', async (t) => {
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
        const from = events.pictures.length;
        const loads = await events.until('authenticated', 'the next try', { from, limit: 60_000 });
        assert.equal(loads.cause, 'never_ready', 'the cause stays on show');
        await site.command('set', { sync_ms: 0 });
        const { cause } = await events.until('ready', 'ready at last', { from, limit: 120_000 });
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
        assert.match(shown.message, /ERR_CONNECTION_REFUSED.*asked again at \d\d:\d\d:\d\d UTC/);
        const from = events.pictures.indexOf(shown) + 1;
        await events.until(({ cause }) => cause === 'upstream_unreachable', 'another look', { from });
        await site.command('unreachable', { on: false });
        await events.until('ready', 'ready again', { from });
        assert.equal([...server.output.matchAll(/browser started/g)].length, 1);
        assert.doesNotMatch(server.output, /loaded anew/);
    });
});

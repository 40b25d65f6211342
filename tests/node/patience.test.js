'use strict';

/** What takes half a minute and more, on a server whose clock runs fast. */

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { describe, it } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');

const { ROOT, scratch, startServer, within } = require('./support/process');
const { startStandIn } = require('./support/standin');

/** A timer may be a millisecond early by the clock, which is so many on a fast one. */
const TICK_MS = 100;

/** The environment of a server whose clock is so many times as fast. */
const clock = (speed) => ({
    FAST_CLOCK: String(speed),
    NODE_OPTIONS: `--require ${path.join(ROOT, 'tests', 'node', 'support', 'fast-clock.js')}`,
});

// Waiting costs nothing: all at once, with one browser among them.
describe('patience', { concurrency: true }, () => {
    it('tries again by itself while somebody asks, and waits twice as long the next time', async (t) => {
        const file = path.join(scratch(t), 'chromium');
        const server = await startServer(t, { env: { ...clock(40), WAPORTD_BROWSER: file } });
        const events = server.follow();
        await server.get('/qr');
        // Times are the server's own: those of arrival depend on how loaded the host is.
        const first = await events.until('error');
        assert.equal(first.cause, 'browser_missing');
        fs.writeFileSync(file, '#!/bin/sh\nexit 1\n', { mode: 0o755 });
        const broken = ({ cause }) => cause === 'browser_failed';
        const second = await events.until(broken, 'another try');
        const half = Date.parse(second.since) - Date.parse(first.since);
        assert.ok(half >= 30_000 - TICK_MS, `after half a minute: ${half} ms`);
        const from = events.pictures.length;
        await server.get('/qr');
        const third = await events.until(broken, 'a third try', { from });
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
        await server.get('/qr');
        await events.until('qr_timeout', 'the only code to expire');
        await events.until(({ browser }) => browser?.running === false, 'the browser to be closed');
        // A tab asks every five seconds, for longer than a minute.
        for (let poll = 0; poll < 14; poll += 1) {
            assert.equal((await server.get('/qr')).json.qr, null);
            await pause(5_000 / 20);
        }
        assert.equal(events.last.state, 'qr_timeout');
        await pause(61_000 / 20);
        const from = events.pictures.length;
        await server.get('/qr');
        await events.until('qr', 'a code for whoever came', { from });
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

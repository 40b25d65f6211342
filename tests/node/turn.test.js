'use strict';

/** When a linked session may start its browser: what the daemon says of it, and what holds without one. */

const assert = require('node:assert/strict');
const http = require('node:http');
const path = require('node:path');
const { describe, it } = require('node:test');

const { SessionState } = require('../../server/state');
const { Turn } = require('../../server/turn');
const { ROOT, freePort, scratch, startServer } = require('./support/process');

/** @typedef {import('./support/process').Server} Server */

const SCRIPT = path.join(ROOT, 'tests/light_server.js');
const GIVES = { 'Waportd-Turns': 'give' };

/**
 * Start a server whose phone was linked in an earlier life.
 *
 * @param {import('node:test').TestContext} t
 * @param {number} wait
 */
async function linkedServer(t, wait) {
    const options = { script: SCRIPT, directory: scratch(t), port: await freePort() };
    const before = await startServer(t, options);
    await before.get('/qr');
    await before.follow().until('qr');
    before.kill('SIGUSR2');
    await before.follow().until('ready');
    before.kill('SIGTERM');
    await before.exit();
    return startServer(t, { ...options, env: { WAPORTD_TURN_WAIT: String(wait) } });
}

/**
 * Listen as the daemon does; resolves when the server has answered, with a way to end it.
 *
 * @param {Server} server
 * @param {Record<string, string>} [headers]
 */
async function listen(server, headers) {
    const request = http.get({ port: server.port, path: '/events', headers, agent: false });
    /** @type {http.IncomingMessage} */
    const response = await new Promise((resolve, reject) => {
        request.on('response', resolve);
        request.on('error', reject);
    });
    response.resume();
    return () => response.destroy();
}

/** Look until the session waits for its turn. */
const waiting = (/** @type {Server} */ server) =>
    server.follow().until(({ turn }) => turn === 'awaited', 'a session that waits');

describe('a linked session', () => {
    it('waits for its turn, says so, and begins when it gets it', async (t) => {
        const server = await linkedServer(t, 3600);
        t.after(await listen(server, GIVES));
        const { state, message } = await waiting(server);
        assert.equal(state, 'generating');
        assert.match(message, /waiting for its turn to start the browser/);
        assert.equal((await server.get('/health')).status, 200);
        assert.equal((await server.post('/begin')).status, 200);
        assert.equal((await server.follow().until('ready')).turn, null);
    });

    it('waits on, and says by which limit, while there is no room for its browser', async (t) => {
        const server = await linkedServer(t, 3600);
        t.after(await listen(server, GIVES));
        await waiting(server);
        for (const limit of ['max_running', 'min_available_memory']) {
            const { status, json } = await server.post('/begin', { limit });
            assert.deepEqual([status, json.turn, json.state], [200, 'awaited', 'generating']);
            assert.match(json.message, new RegExp(`limits.${limit}`));
        }
        assert.equal((await server.post('/begin', { limit: 'luck' })).status, 400);
        await server.post('/begin');
        assert.equal((await server.follow().until('ready')).turn, null);
    });

    it('begins at once where the daemon started it', async (t) => {
        const server = await linkedServer(t, 3600);
        t.after(await listen(server, { 'Waportd-Turns': 'begin' }));
        await server.follow().until('ready');
    });

    it('begins automatically when no daemon is heard for a while, and not before', async (t) => {
        const server = await linkedServer(t, 1);
        const end = await listen(server, GIVES);
        await waiting(server);
        end();
        await server.follow().until('ready');
    });

    it('waits for no turn where somebody asks for it', async (t) => {
        const server = await linkedServer(t, 3600);
        await waiting(server);
        await server.post('/qr/new');
        await server.follow().until('ready');
    });

    it('knows no turns when it runs alone', async (t) => {
        const server = await linkedServer(t, 0);
        await server.follow().until('ready');
    });
});

/**
 * A turn whose clock is moved on by `pass`, who takes it, and what is seen.
 *
 * @param {import('node:test').TestContext} t
 * @param {number} patience
 */
function turnOf(t, patience) {
    let now = 1;
    /** @typedef {{at: number, work: () => void}} Timer */
    /** @type {Timer[]} */
    let timers = [];
    t.mock.method(performance, 'now', () => now);
    t.mock.method(global, 'setTimeout', (/** @type {() => void} */ work, /** @type {number} */ ms) => {
        const timer = { at: now + ms, work };
        timers.push(timer);
        return timer;
    });
    t.mock.method(global, 'clearTimeout', (/** @type {Timer} */ timer) => {
        timers = timers.filter((each) => each !== timer);
    });
    const state = new SessionState({ port: 5002, user: '2', attempts: 5 });
    const turn = new Turn(state, patience);
    turn.expect();
    let begun = 0;
    return {
        turn,
        take: () => turn.take(() => (begun += 1)),
        seen: () => [state.document().turn, begun],
        pass: (/** @type {number} */ seconds) => {
            now += seconds * 1000;
            const due = timers.filter(({ at }) => at <= now);
            timers = timers.filter(({ at }) => at > now);
            due.forEach(({ work }) => work());
        },
    };
}

describe('a turn', () => {
    it('is there at once where nobody gives any', (t) => {
        const { take, seen } = turnOf(t, 0);
        take();
        assert.deepEqual(seen(), ['taken', 1]);
    });

    it('comes when somebody who listens gives it, each time again, and lasts until its end', (t) => {
        const { turn, take, seen, pass } = turnOf(t, 10);
        turn.follow();
        for (const round of [1, 2]) {
            take();
            pass(299);
            assert.deepEqual(seen(), ['awaited', round - 1]);
            turn.come();
            assert.deepEqual(seen(), ['taken', round]);
            turn.come();
            assert.deepEqual(seen(), ['taken', round], 'one that nobody waits for does nothing');
            turn.end();
            pass(600);
            assert.deepEqual(seen(), [null, round]);
        }
    });

    it('comes automatically five minutes after it was last said to be still to come', (t) => {
        const { turn, take, seen, pass } = turnOf(t, 10);
        assert.equal(turn.hold(), false, 'nobody waits');
        turn.follow();
        take();
        for (let round = 0; round < 3; round += 1) {
            pass(200);
            assert.equal(turn.hold(), true);
        }
        assert.deepEqual(seen(), ['awaited', 0]);
        pass(300);
        assert.deepEqual(seen(), ['taken', 1]);
        assert.equal(turn.hold(), false);
    });

    it('that came before it was asked for is there at once, the first time', (t) => {
        const { turn, take, seen } = turnOf(t, 10);
        turn.follow();
        turn.come();
        take();
        assert.deepEqual(seen(), ['taken', 1]);
        turn.end();
        turn.come();
        take();
        assert.deepEqual(seen(), ['awaited', 1]);
    });

    it('that came before is not there for what comes later', (t) => {
        const { turn, take, seen } = turnOf(t, 10);
        turn.follow();
        turn.come();
        turn.forgo();
        turn.come();
        take();
        assert.deepEqual(seen(), ['awaited', 0]);
    });

    it('is not waited for without end, no matter who listens', (t) => {
        const { turn, take, seen, pass } = turnOf(t, 10);
        turn.follow();
        take();
        pass(300);
        assert.deepEqual(seen(), ['taken', 1]);
    });

    it('comes automatically when nobody has listened for long, and who comes meanwhile gives it', (t) => {
        const { turn, take, seen, pass } = turnOf(t, 10);
        take();
        pass(9);
        assert.deepEqual(seen(), ['awaited', 0]);
        const ends = [turn.follow(), turn.follow()];
        pass(20);
        ends[0]();
        pass(20);
        assert.deepEqual(seen(), ['awaited', 0], 'one still listens');
        ends[1]();
        pass(9);
        assert.deepEqual(seen(), ['awaited', 0], 'it may come back');
        pass(1);
        assert.deepEqual(seen(), ['taken', 1]);
        turn.end();
        pass(60);
        take();
        assert.deepEqual(seen(), ['taken', 2], 'it stayed away');
    });

    it('need not be waited for', (t) => {
        const { turn, take, seen, pass } = turnOf(t, 10);
        turn.follow();
        take();
        turn.end();
        pass(600);
        turn.come();
        assert.deepEqual(seen(), [null, 0]);
    });
});

'use strict';

/** How much a session keeps on disk: when it is measured, and what of it is reported. */

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');

const { Growth } = require('../../server/growth');
const { Safekeeping } = require('../../server/safekeeping');
const { Snapshots } = require('../../server/snapshots');
const { SessionState } = require('../../server/state');
const { scratch } = require('./support/process');

const newState = () => new SessionState({ port: 5002, user: '2', attempts: 5 });

/** A disk that takes its time: each measurement ends when the test says so. */
class SlowDisk {
    /** @type {((sizes: object) => void)[]} */
    measurements = [];

    sizes() {
        return new Promise((resolve) => {
            this.measurements.push(resolve);
        });
    }
}

/** What Growth is given, of which a test has only what Growth uses. @param {object} parts */
const growthOf = (parts) => new Growth(/** @type {ConstructorParameters<typeof Growth>[0]} */ (parts));

/** @param {import('node:test').TestContext} t @param {number} [intervalMs] */
function begin(t, intervalMs) {
    const state = newState();
    const disk = new SlowDisk();
    const times = async () => ({ snapshot_at: null, restored_at: null });
    const showTimes = async () => {};
    const growth = growthOf({ storage: disk, safekeeping: { times, showTimes }, state });
    growth.start(intervalMs);
    t.after(() => growth.close());
    return { state, disk };
}

/** Let everything happen that waits for nothing. */
const turn = () => new Promise(setImmediate);

describe('the growth of a session', () => {
    it('is measured once it is ready, and reported with its time', async (t) => {
        const { state, disk } = begin(t);
        assert.equal(state.document().storage, null);
        state.enter('authenticated', {});
        assert.equal(disk.measurements.length, 0);
        const before = Date.now();
        state.enter('ready', {});
        await turn();
        assert.equal(state.document().storage, null, 'nobody waits for it');
        disk.measurements[0]({ login: 7, cache: 5 });
        const [document] = await once(state, 'change');
        const { measured_at: at, ...sizes } = document.storage;
        assert.deepEqual(sizes, { login: 7, cache: 5, snapshot_at: null, restored_at: null });
        assert.ok(Date.parse(at) >= before && Date.parse(at) <= Date.now(), at);
    });

    it('shows the time of a copy that was made while it was measured', async (t) => {
        const state = newState();
        const disk = new SlowDisk();
        const [profile, authDirectory] = [scratch(t), scratch(t)];
        fs.mkdirSync(path.join(profile, 'Default/IndexedDB'), { recursive: true });
        fs.writeFileSync(path.join(profile, 'Default/IndexedDB/keys'), 'keys');
        const safekeeping = new Safekeeping({
            makeSnapshots: () => new Snapshots({ authDirectory, profile }, 2),
            profile,
            interval: 300,
            state,
            log: { error() {}, warning() {}, info() {}, debug() {} },
        });
        const growth = growthOf({ storage: disk, safekeeping, state });
        growth.start();
        t.after(() => growth.close());
        state.enter('ready', {});
        await turn();
        const copy = await safekeeping.take(null);
        assert.equal(state.document().storage, null);
        disk.measurements[0]({ login: 7, cache: 5 });
        while (!state.document().storage?.snapshot_at) await once(state, 'change');
        assert.equal(Date.parse(state.document().storage?.snapshot_at ?? ''), copy?.at);
    });

    it('is not measured each time that the connection comes back', async (t) => {
        const { state, disk } = begin(t);
        for (let time = 0; time < 5; time += 1) {
            state.enter('ready', {});
            state.enter('disconnected', {});
            disk.measurements[time]?.({ login: 7, cache: 5 });
            await turn();
        }
        assert.equal(disk.measurements.length, 1);
    });

    it('is measured again and again, and never twice at a time', { timeout: 20_000 }, async (t) => {
        const { state, disk } = begin(t, 5);
        for (const login of [1, 2, 3]) {
            while (disk.measurements.length < login) await turn();
            const ended = once(state, 'change');
            disk.measurements[login - 1]({ login, cache: 0 });
            const [document] = await ended;
            assert.equal(document.storage.login, login);
        }
        while (disk.measurements.length < 4) await turn();
        // As many intervals as can pass: the fourth measurement has not ended.
        await new Promise((resolve) => {
            setTimeout(resolve, 50);
        });
        assert.equal(disk.measurements.length, 4);
    });

    it('is not reported of a login that was deleted meanwhile', async (t) => {
        const { state, disk } = begin(t);
        state.enter('ready', {});
        state.enter('logged_out', { storage: null });
        disk.measurements[0]({ login: 7, cache: 5 });
        await turn();
        assert.equal(state.document().storage, null);
    });
});

'use strict';

/** The tables of recovery.js: that nothing lasts for ever, and that nothing is tried too often. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const recovery = require('../../server/recovery');
const { reason } = require('../../server/session_errors');
const { STATES } = require('../../server/state');

const { PLAN, Recovery, STEPS, TROUBLES, isRefusal, ruleFor } = recovery;
/** @typedef {import('../../server/types').Trouble} Trouble */

const LIMITS = ['start', 'ready', 'code', 'passkey', 'pause'];
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** A recovery whose clock is `clock.now`. @param {import('node:test').TestContext} t */
function timed(t) {
    const clock = { now: 1 };
    t.mock.method(performance, 'now', () => clock.now);
    return { clock, counted: new Recovery() };
}

/**
 * Fail again and again, each try taking `takes`, for so long; returns when browsers were started.
 *
 * @param {import('node:test').TestContext} t
 * @param {number} ms
 * @param {string} kind
 */
function failFor(t, ms, kind, { linked = true, takes = 1_000 } = {}) {
    const { clock, counted } = timed(t);
    /** @type {number[]} */
    const starts = [];
    const open = () => {
        starts.push(clock.now);
        counted.started();
    };
    open();
    let processes = 0;
    while (clock.now < ms) {
        clock.now += takes;
        const { step, pause } = counted.next(/** @type {Trouble} */ (kind), { linked, page: true });
        clock.now += pause;
        if (step === 'process') processes += 1;
        if (step !== 'reload') open();
    }
    return { starts: starts.filter((time) => time <= ms), processes };
}

describe('the table of what may last how long', () => {
    const states = /** @type {import('../../server/types').StateName[]} */ (STATES);
    for (const connection of [...Object.keys(PLAN), 'ONE_OF_NEXT_YEAR', null]) {
        for (const state of states) {
            it(`has a limit and a next step for ${state} while the connection is ${connection}`, () => {
                const { limit, tries, cause } = ruleFor(connection, state);
                if (limit === null) {
                    assert.ok(connection === 'CONNECTED' && ['ready', 'disconnected'].includes(state));
                    return;
                }
                assert.ok(
                    typeof limit === 'string' ? LIMITS.includes(limit) : limit >= 0 && limit <= 60,
                    `limit ${limit}`,
                );
                assert.ok(tries.length > 0);
                const order = tries.map((step) => STEPS.indexOf(step));
                assert.deepEqual(
                    order,
                    [...order].sort((one, other) => one - other),
                    'the mildest first',
                );
                assert.ok(!order.includes(-1), `unknown step among ${tries}`);
                assert.ok(limit === 'pause' || cause !== null, 'a cause that is shown');
            });
        }
    }

    it('gives each cause a message and a way out', () => {
        for (const connection of Object.keys(PLAN)) {
            if (['CONNECTED', 'none'].includes(connection)) continue;
            const explain = isRefusal(connection) ? reason.refused : reason.connectionLost;
            const why = explain(connection);
            assert.equal(why.cause, PLAN[connection].linked.cause);
            assert.match(why.message, new RegExp(connection));
            assert.ok(why.hint.length > 10);
        }
    });
});

describe('the next try', () => {
    it('is the page, then another browser, after growing pauses, and a process last', (t) => {
        const { counted } = timed(t);
        const now = { linked: true, page: true };
        const tried = Array.from({ length: 10 }, () => counted.next('page_hung', now));
        assert.deepEqual(
            tried.map(({ step, pause }) => `${step} ${pause / 1000}`),
            [
                'reload 0',
                'browser 0',
                'browser 5',
                'browser 15',
                'browser 30',
                'browser 60',
                'browser 100',
                'process 100',
                'browser 100',
                'browser 300',
            ],
        );
        assert.deepEqual(
            tried.map(({ error }) => error),
            [false, false, false, false, true, true, true, true, true, true],
        );
    });

    it('never ends, and is never more than five minutes away', (t) => {
        const { counted } = timed(t);
        let processes = 0;
        for (let round = 0; round < 1000; round += 1) {
            const { step, pause } = counted.next('browser_lost', { linked: true, page: false });
            assert.ok(pause <= 5 * MINUTE);
            assert.notEqual(step, 'reload', 'there is no page');
            if (step === 'process') processes += 1;
        }
        assert.ok(processes > 100, 'a new process now and then');
    });

    it('is never another process where there is no room: that has no more', (t) => {
        const { counted } = timed(t);
        const now = { linked: true, page: false };
        const steps = new Set(Array.from({ length: 100 }, () => counted.next('no_room', now).step));
        assert.deepEqual([...steps], ['browser']);
    });

    for (const kind of Object.keys(TROUBLES)) {
        for (const linked of [true, false]) {
            for (const takes of [10, 1_000, 20_000, 90_000]) {
                const who = linked ? 'a linked session' : 'whoever asks for a code';
                it(`costs ${who} at most 20 browsers an hour: ${kind} after ${takes} ms`, (t) => {
                    const { starts } = failFor(t, 3 * HOUR, kind, { linked, takes });
                    for (const from of starts) {
                        const within = starts.filter((time) => time >= from && time < from + HOUR).length;
                        assert.ok(within <= 20, `${within} within an hour from ${from} ms`);
                    }
                });
            }
        }
    }

    it('costs no more where the session is ready for some time before each failure', (t) => {
        for (const healthy of [1_000, 14_000, 15_000, 20_000, 61_000, 130_000, 200_000]) {
            const { clock, counted } = timed(t);
            const starts = [];
            while (clock.now < 2 * HOUR) {
                counted.started();
                starts.push(clock.now);
                counted.ready();
                clock.now += healthy;
                const { pause } = counted.next('browser_lost', { linked: true, page: false });
                clock.now += pause;
            }
            for (const from of starts) {
                const within = starts.filter((time) => time >= from && time < from + HOUR).length;
                assert.ok(within <= 20, `${within} within an hour, ready for ${healthy} ms each time`);
            }
        }
    });

    it('costs no more where somebody asks all the time', (t) => {
        const { clock, counted } = timed(t);
        const starts = [];
        while (clock.now < 2 * HOUR) {
            counted.started();
            starts.push(clock.now);
            clock.now += 100;
            const { pause } = counted.next('no_start', { linked: false, page: false });
            clock.now += Math.min(pause, counted.askedIn);
        }
        assert.ok(starts[8] <= 1_000, 'the first nine at once');
        for (const from of starts) {
            const within = starts.filter((time) => time >= from && time < from + HOUR).length;
            assert.ok(within <= 20, `${within} within an hour from ${from} ms`);
        }
        counted.calm();
        assert.equal(counted.askedIn, 0, 'nothing is wrong any more');
    });

    it('comes within two minutes of the end of a fault that lasted five', (t) => {
        for (const kind of ['no_start', 'no_room', 'browser_lost', 'page_crashed']) {
            const { starts } = failFor(t, HOUR, kind);
            const next = starts.find((time) => time >= 5 * MINUTE);
            assert.ok(next !== undefined && next <= 7 * MINUTE, `${kind}: after ${next} ms`);
        }
    });

    it('is a quick one again after the session was ready for a while', (t) => {
        const { clock, counted } = timed(t);
        for (let round = 0; round < 5; round += 1) counted.next('page_hung', { linked: true, page: true });
        counted.ready();
        assert.equal(counted.calmIn, 75_000);
        clock.now += MINUTE / 2;
        assert.equal(counted.calmIn, 45_000);
        assert.equal(counted.next('page_hung', { linked: true, page: true }).pause, 15_000);
        counted.ready();
        clock.now += MINUTE;
        assert.equal(counted.calmIn, 0);
        assert.equal(counted.next('page_hung', { linked: true, page: true }).step, 'reload');
    });

    it('is another browser where the page was loaded again too often', (t) => {
        const { clock, counted } = timed(t);
        const steps = [];
        while (clock.now < HOUR) {
            steps.push(counted.next('page_crashed', { linked: true, page: true }).step);
            counted.ready();
            clock.now += MINUTE;
        }
        assert.equal(steps.filter((step) => step === 'reload').length, 20);
        assert.equal(steps.at(-1), 'browser');
    });

    it('keeps counting in the next process, unless that comes much later', (t) => {
        const { counted } = timed(t);
        for (let round = 0; round < 8; round += 1) counted.next('never_ready', { linked: true, page: true });
        counted.started();
        const note = JSON.parse(JSON.stringify(counted.note()));
        const next = new Recovery();
        next.resume(note);
        assert.equal(next.next('never_ready', { linked: true, page: true }).pause, 100_000);
        const late = new Recovery();
        late.resume({ ...note, at: note.at - HOUR });
        assert.equal(late.round, 0);
        for (const damaged of [null, {}, { at: 'x' }, { ...note, round: 'x' }, { ...note, starts: 1 }]) {
            const fresh = new Recovery();
            fresh.resume(damaged);
            assert.equal(fresh.round, 0);
        }
    });
});

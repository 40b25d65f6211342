'use strict';

/** When a page counts as alive, and for how long one is patient with it. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { BrowserRun } = require('../../server/browser_run');
const { within } = require('./support/process');

const INTERVAL_MS = 50;

/** A run that has only these parts of its options. @param {object} parts */
const runOf = (parts) => new BrowserRun(/** @type {import('../../server/types').RunOptions} */ (parts));

/**
 * A run whose page answers as `answer` does; `hung` resolves with the verdict when it is given up. Its clock
 * advances by one interval with each question and each wait for an answer, however loaded the host is.
 *
 * @param {import('node:test').TestContext} t
 * @param {() => Promise<unknown>} answer
 */
function probed(t, answer, loads = () => false) {
    let now = 1;
    t.mock.method(performance, 'now', () => now);
    const config = { probeInterval: INTERVAL_MS / 1000 };
    const run = runOf({ config, storage: { cacheDirectory: '/nowhere' }, phone: null });
    t.after(() => run.mute());
    let seen = 0;
    let busy = 0;
    const passes = () => {
        now += INTERVAL_MS;
    };
    const hung = new Promise((resolve) => {
        run.probe({
            ask: () => {
                passes();
                return answer();
            },
            loads,
            onSeen: () => {
                seen += 1;
            },
            onBusy: () => {
                busy += 1;
                passes();
            },
            onHung: resolve,
        });
    });
    return { run, hung, seen: () => seen, busy: () => busy };
}

const never = () => new Promise(() => {});

describe('a page', () => {
    it('counts as alive before it is probed and while it answers', async (t) => {
        const answered = new Promise((resolve) => {
            let count = 0;
            const { run, seen } = probed(t, async () => {
                assert.ok(run.pageAnswers);
                count += 1;
                if (count === 5) setImmediate(() => resolve(seen()));
            });
        });
        assert.equal(await within(answered, 'five answers'), 5);
        assert.ok(runOf({ config: {}, storage: {} }).pageAnswers);
    });

    it('that answers no more is given up after some intervals, not at the first', async (t) => {
        const { run, hung, seen, busy } = probed(t, never);
        assert.equal(await within(hung, 'the page to be given up'), 'page_hung');
        assert.equal(seen(), 0);
        assert.ok(busy() >= 2, `${busy()} intervals`);
        assert.ok(!run.pageAnswers);
        assert.ok(run.probed, 'what is done about it comes before the watchdog');
    });

    it('that works for us is given more time, and then given up as well', async (t) => {
        let asked = 0;
        const { run, hung, busy } = probed(t, async () => {
            asked += 1;
            if (asked > 1) await never();
            run.working(never);
        });
        assert.equal(await within(hung, 'the page to be given up'), 'page_hung');
        assert.ok(busy() >= 10, `${busy()} intervals`);
    });

    it('that loads the account is given more time, and then given up as well', async (t) => {
        const { hung, busy } = probed(t, never, () => true);
        assert.equal(await within(hung, 'the page to be given up'), 'page_hung');
        assert.ok(busy() >= 10, `${busy()} intervals`);
    });

    it('is not excused by calls that began when it was silent already', async (t) => {
        let calls = 0;
        const { run, hung, busy } = probed(t, () => {
            setTimeout(() => {
                calls += 1;
                run.working(never);
            }, INTERVAL_MS / 2);
            return never();
        });
        await within(hung, 'the page to be given up');
        assert.equal(calls, 1);
        assert.ok(busy() < 10, `${busy()} intervals`);
    });

    it('that answers late is as good as before', async (t) => {
        let questions = 0;
        const answered = new Promise((resolve) => {
            const { hung, busy } = probed(t, () => {
                questions += 1;
                if (questions === 4) resolve(busy());
                return new Promise((late) => {
                    setTimeout(late, 2 * INTERVAL_MS);
                });
            });
            hung.then(() => resolve('hung'));
        });
        const busy = await within(answered, 'four answers');
        assert.ok(busy >= 1, `${busy} intervals without an answer`);
    });

    it('that gives only errors is given time to navigate, and then given up', async (t) => {
        let questions = 0;
        const { run, hung } = probed(t, async () => {
            questions += 1;
            throw new Error('Session closed');
        });
        await within(hung, 'the page to be given up');
        assert.ok(questions >= 3, `${questions} questions`);
        assert.ok(!run.pageAnswers);
    });

    it('that answers again after errors is as good as before', async (t) => {
        let questions = 0;
        const answered = new Promise((resolve) => {
            const { run, hung } = probed(t, async () => {
                questions += 1;
                if (questions % 2 === 1) throw new Error('Execution context was destroyed');
                if (questions === 12) resolve(run.pageAnswers);
            });
            hung.then(() => resolve(false));
        });
        assert.equal(await within(answered, 'twelve questions'), true);
    });
});

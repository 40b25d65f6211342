'use strict';

/** When a page counts as alive: what the watchdog's ping, and a restart, hang on. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { BrowserRun } = require('../../server/run');
const { within } = require('./support/process');

const INTERVAL_MS = 50;

/**
 * A run whose page answers as `answer` does; `hung` resolves when it is given up. Its clock goes on by one
 * interval with each question, however loaded the host is.
 */
function probed(t, answer) {
    let now = 1;
    t.mock.method(performance, 'now', () => now);
    const config = { probeInterval: INTERVAL_MS / 1000 };
    const run = new BrowserRun({ config, storage: { cacheDirectory: '/nowhere' }, phone: null });
    t.after(() => run.mute());
    const evaluate = () => {
        now += INTERVAL_MS;
        return answer();
    };
    run.client = { pupPage: { evaluate } };
    let seen = 0;
    const hung = new Promise((resolve) => {
        run.probe({
            look: () => false,
            onSeen: () => {
                seen += 1;
            },
            onHung: resolve,
        });
    });
    return { run, hung, seen: () => seen };
}

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
        assert.ok(new BrowserRun({ config: {}, storage: {} }).pageAnswers);
    });

    it('is given up at the first question that it does not answer', async (t) => {
        const { hung, seen } = probed(t, () => new Promise(() => {}));
        await within(hung, 'the page to be given up');
        assert.equal(seen(), 0);
    });

    it('that gives only errors is given time to navigate, and then given up', async (t) => {
        let questions = 0;
        const { run, hung } = probed(t, async () => {
            questions += 1;
            throw new Error('Session closed');
        });
        await within(hung, 'the page to be given up');
        assert.ok(questions >= 3, `${questions} questions`);
        assert.ok(!run.pageAnswers, 'nothing tells systemd that it lives');
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

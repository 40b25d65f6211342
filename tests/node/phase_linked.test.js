'use strict';

/** What happens to a login, as a page reports it that behaves as no stand-in can be made to. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { Linked } = require('../../server/phase_linked');
const { SessionState } = require('../../server/state');

const LIMIT_S = 100;
const LIMIT_MS = LIMIT_S * 1000;

/** A login in a run whose clock is `pass(ms)`; `troubles` holds what was reported to the session. */
function login() {
    let now = 0;
    const timers = new Map();
    const run = {
        client: { info: { wid: { user: '5511999998888' } } },
        connection: null,
        cancel: (name) => timers.delete(name),
        awaits: (name) => timers.has(name),
        after: (name, ms, work) => timers.set(name, { at: now + ms, work }),
    };
    const pass = (ms) => {
        now += ms;
        for (const [name, { at, work }] of [...timers]) {
            if (at > now) continue;
            timers.delete(name);
            work();
        }
    };
    const troubles = [];
    const reasons = [];
    const state = new SessionState({ port: 1, user: null, attempts: 5 });
    const linked = new Linked({
        run,
        state,
        config: { readyTimeout: LIMIT_S },
        log: { info() {}, warning() {} },
        session: {
            trouble(kind, why) {
                troubles.push(kind);
                reasons.push(why);
            },
            ready() {},
            serious: () => false,
        },
    });
    return { run, state, linked, troubles, reasons, timers, pass };
}

describe('a page that loads itself again and again', () => {
    it('gets no more time by that, however far it comes each time', () => {
        const { linked, troubles, pass } = login();
        linked.found('linked');
        for (let times = 0; times < 3; times += 1) {
            linked.reloads();
            pass(LIMIT_MS * 0.4);
            linked.found('login found');
            linked.loading(50);
        }
        pass(LIMIT_MS * 0.4);
        assert.deepEqual(troubles, ['never_ready']);
    });

    it('gets its time again when it is loaded again from here, and continues with what it loads', () => {
        const { linked, troubles, pass } = login();
        linked.found('linked');
        linked.reloads();
        pass(LIMIT_MS * 0.9);
        linked.reloads('loading it anew', { cause: 'page_hung' });
        linked.reloads();
        pass(LIMIT_MS * 0.9);
        linked.found('login found');
        linked.loading(10);
        pass(LIMIT_MS * 0.9);
        assert.deepEqual(troubles, []);
        pass(LIMIT_MS * 0.2);
        assert.deepEqual(troubles, ['never_ready']);
    });
});

describe('a connection that was lost while the account was being loaded', () => {
    it('is not shown as ready, and is asked for', () => {
        const { run, linked, state, timers } = login();
        linked.found('linked');
        run.connection = 'OPENING';
        linked.socket('OPENING');
        linked.ready();
        assert.equal(state.name, 'disconnected');
        assert.ok(timers.has('connection'), 'the page is asked after a while');
        run.connection = 'CONNECTED';
        linked.socket('CONNECTED');
        assert.equal(state.name, 'ready');
        assert.ok(!timers.has('connection'));
    });
});

describe('what stood in the way of a login', () => {
    it('is reported where it is never ready, and of no later time', () => {
        const { linked, reasons, troubles, pass } = login();
        linked.found('loading');
        linked.notMade(new Error('a module is missing'));
        pass(LIMIT_MS);
        assert.match(reasons[0].message, /a module is missing/);
        linked.ready();
        linked.reloads();
        pass(LIMIT_MS);
        assert.deepEqual(troubles, ['never_ready', 'never_ready']);
        assert.doesNotMatch(reasons[1].message, /a module is missing/);
    });
});

'use strict';

/** What the dashboard does with many users: who is selected, who is concerned, in which order; and a file. */

const assert = require('node:assert');
const path = require('node:path');
const { before, test } = require('node:test');

const web = {};

before(async () => {
    // What the modules expect of a page around them.
    globalThis.location = new URL('http://localhost/');
    globalThis.document = Object.assign(new EventTarget(), { baseURI: 'http://localhost/' });
    globalThis.sessionStorage = { getItem: () => null };
    const load = (name) => import(path.resolve(__dirname, '../../waportd/web', `${name}.mjs`));
    for (const name of ['api', 'texts', 'dashboard-texts.en', 'selection', 'bulk', 'csv'])
        Object.assign(web, await load(name));
});

const userOf = (user, facts = {}) => ({
    user,
    port: 5002,
    host: null,
    desired: 'running',
    linked: true,
    memory: null,
    cpu: null,
    session: null,
    summary: {
        ...{ state: 'ready', group: 'linked', cause: null, message: null, hint: null },
        since: '2026-01-01T12:00:00.000Z',
    },
    ...facts,
    process: { state: 'running', ...facts.process },
});
const mapOf = (...users) => new Map(users.map((one) => [one.user, one]));

// ---- who is selected ------------------------------------------------------------------------------

test('a range begins at the user that was selected last, in either direction', () => {
    const shown = ['1', '2', '3', '4', '5'];
    // The daemon names them in any order.
    const users = mapOf(...[...shown].reverse().map((name) => userOf(name, { port: 5000 + Number(name) })));
    const selection = new web.Selection();
    const names = () => selection.of(users).map(({ user }) => user);
    selection.set('4', true, { shown, range: true });
    assert.deepEqual(names(), ['4']);
    selection.set('2', true, { shown, range: true });
    assert.deepEqual(names(), ['2', '3', '4']);
    selection.set('3', false, { shown, range: true });
    assert.deepEqual(names(), ['4']);
    selection.setAll(shown, true);
    assert.equal(selection.size, 5);
    selection.setAll(['1', '5'], false);
    assert.deepEqual(names(), ['2', '3', '4']);
    // A range does not begin where nothing is shown any more.
    selection.set('1', true, { shown: ['1', '5'], range: true });
    assert.deepEqual(names(), ['1', '2', '3', '4']);
    selection.clear();
    assert.deepEqual(names(), []);
});

test('who is deleted is not selected any more, and not again under the same name', () => {
    const selection = new web.Selection();
    selection.setAll(['1', '2'], true);
    assert.deepEqual(
        selection.of(mapOf(userOf('2'))).map(({ user }) => user),
        ['2'],
    );
    assert.equal(selection.has('1'), false);
    assert.equal(selection.of(mapOf(userOf('1'), userOf('2'))).length, 1);
});

// ---- who is concerned -----------------------------------------------------------------------------

test('an action concerns those that it changes', () => {
    const concerned = (facts) =>
        Object.entries(web.CONCERNS).flatMap(([action, concerns]) =>
            concerns(userOf('1', facts)) ? [action] : [],
        );
    const at = (state, facts = {}) => concerned({ process: { state }, ...facts });
    assert.deepEqual(Object.keys(web.CONCERNS), ['start', 'restart', 'stop', 'logout', 'delete']);
    assert.deepEqual(at('running'), ['restart', 'stop', 'logout', 'delete']);
    assert.deepEqual(at('starting'), ['stop', 'logout', 'delete']);
    assert.deepEqual(at('stopped', { desired: 'stopped' }), ['start', 'logout', 'delete']);
    assert.deepEqual(at('stopped', { desired: 'stopped', linked: false }), ['start', 'delete']);
    // It is to run, and systemd or the daemon will start it again.
    assert.deepEqual(at('stopped'), ['start', 'stop', 'logout', 'delete']);
    assert.deepEqual(at('failed', { linked: false }), ['start', 'stop', 'delete']);
    assert.deepEqual(at('crash_loop', { desired: 'stopped' }), ['start', 'stop', 'logout', 'delete']);
});

// ---- how it is done -------------------------------------------------------------------------------

const names = (count) => Array.from({ length: count }, (_, index) => String(index + 1));
const problemOf = (status, code, retryAfter = null) =>
    new web.Problem({ status, code, detail: 'no', retryAfter });
/** Let all that is ready happen. */
const settle = () => new Promise((resolve) => setImmediate(resolve));

test('four at a time, each once, in their order', async () => {
    const begun = [];
    const ends = [];
    let most = 0;
    const run = new web.Run(
        names(10),
        (name) => {
            begun.push(name);
            most = Math.max(most, begun.length - run.done.length);
            return new Promise((resolve) => ends.push(resolve));
        },
        () => {},
    );
    const finished = run.finish();
    await settle();
    assert.deepEqual(begun, names(4));
    while (run.done.length < 10) {
        ends.shift()();
        await settle();
    }
    assert.equal(await finished, run);
    assert.deepEqual(begun, names(10));
    assert.equal(most, 4);
    assert.deepEqual([run.failed.size, run.left, run.ended], [0, [], null]);
});

test('a failure stops no other, and its reason is kept', async () => {
    const act = async (name) => {
        if (name === '2') throw problemOf(409, 'conflict');
    };
    const run = await new web.Run(names(6), act, () => {}).finish();
    assert.deepEqual([...run.failed.keys()], ['2']);
    assert.equal(run.failed.get('2').code, 'conflict');
    assert.deepEqual(run.done.sort(), ['1', '3', '4', '5', '6']);
});

test('what would fail alike for all is tried no more, and nobody counts as failed', async () => {
    for (const problem of [
        problemOf(0, null),
        problemOf(401, 'unauthorized'),
        problemOf(503, 'restarting'),
    ]) {
        const tried = [];
        const act = async (name) => {
            tried.push(name);
            if (name === '1') throw problem;
        };
        const run = await new web.Run(names(20), act, () => {}).finish();
        assert.equal(run.ended, problem);
        assert.equal(run.failed.size, 0);
        assert.ok(tried.length <= 5, String(tried));
        assert.deepEqual([...run.done, ...run.left].sort(), names(20).sort());
    }
});

test('a limit is waited for, by all, and nobody is left out', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
    let isLimited = true;
    let calls = 0;
    const act = async (name) => {
        calls += 1;
        if (isLimited && Number(name) > 2) throw problemOf(429, 'too_many_requests', 30);
    };
    const run = new web.Run(names(12), act, () => {});
    const finished = run.finish();
    for (let turn = 0; turn < 10; turn += 1) await settle();
    assert.deepEqual(run.done, ['1', '2']);
    assert.equal(run.waitsUntil, 1_030_000);
    const callsBefore = calls;
    t.mock.timers.tick(29_000);
    for (let turn = 0; turn < 10; turn += 1) await settle();
    assert.equal(calls, callsBefore);
    isLimited = false;
    t.mock.timers.tick(1_000);
    for (let turn = 0; turn < 10; turn += 1) await settle();
    await finished;
    assert.equal(run.waitsUntil, null);
    assert.deepEqual(run.done.sort(), names(12).sort());
    assert.deepEqual([run.failed.size, run.left], [0, []]);
});

test('it can be stopped in the middle: what has begun ends, and the others are not tried', async () => {
    const ends = [];
    const run = new web.Run(
        names(10),
        () => new Promise((resolve) => ends.push(resolve)),
        () => {},
    );
    const finished = run.finish();
    await settle();
    run.stop();
    for (const end of ends) end();
    await finished;
    assert.deepEqual(run.done, names(4));
    assert.deepEqual(run.left, ['5', '6', '7', '8', '9', '10']);
});

test('it can be stopped while it waits for the limit', async () => {
    const act = async () => {
        throw problemOf(429, 'too_many_requests', 3600);
    };
    const run = new web.Run(names(3), act, () => {});
    const finished = run.finish();
    await settle();
    assert.ok(run.waitsUntil > Date.now());
    run.stop();
    await finished;
    assert.deepEqual(run.left.sort(), ['1', '2', '3']);
    assert.equal(run.waitsUntil, null);
});

// ---- the list as a file ---------------------------------------------------------------------------

test('a file has a line for each user, as a spreadsheet reads it', () => {
    const lines = web
        .csvOf([
            userOf('2_1', {
                session: { phone_number: '5511999990001', name: 'Ana' },
                memory: 241_172_480,
                cpu: 0.03449,
            }),
            userOf('shop', { port: 5003, summary: { ...userOf('x').summary, state: 'a "new", one' } }),
        ])
        .split('\r\n');
    assert.deepEqual(lines, [
        '\uFEFFUser,Port,Session,Since,Phone,Memory,CPU',
        '2_1,5002,linked,2026-01-01T12:00:00.000Z,55 11 99999-0001,241172480,0.034',
        'shop,5003,"a ""new"", one",2026-01-01T12:00:00.000Z,,,',
        '',
    ]);
});

test('in a fleet each line names the host', () => {
    const lines = web.csvOf([userOf('1', { host: 'a' }), userOf('2', { host: 'b' })]).split('\r\n');
    assert.match(lines[0], /,CPU,Host$/);
    assert.deepEqual(
        lines.slice(1, 3).map((line) => line.split(',').at(-1)),
        ['a', 'b'],
    );
});

test('nothing in it becomes a formula', () => {
    for (const name of ['=1+1', '@SUM(A1)', '-2+3', '+55', '\tx'])
        assert.match(web.csvOf([userOf(name)]), new RegExp(`\r\n'${name.replace(/[+()]/g, '\\$&')},5002`));
});

'use strict';

/** What the web app gets, in which order, how often: over hours and days of a clock that a test sets. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { Delivery } = require('../../server/delivery');
const { Clock } = require('./support/clock');
const { MemoryJournal } = require('./support/memory-journal');

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const LIMIT = 30 * SECOND;

const DELIVERED = { outcome: 'delivered', reason: null, retryAfterMs: null };
const later = (status, retryAfterMs = null) => ({ outcome: 'later', reason: `HTTP ${status}`, retryAfterMs });
const refused = (status) => ({ outcome: 'refused', reason: `HTTP ${status}`, retryAfterMs: null });
const UNANSWERED = { outcome: 'unanswered', reason: 'no answer within 30 s', retryAfterMs: null };
const UNREACHABLE = { outcome: 'unreachable', reason: 'nobody listens there', retryAfterMs: null };

/** A web app in the time of the clock: `answer(call)` returns an answer, or `{after, answer}`. */
class WebApp {
    calls = [];
    open = new Set();
    mostOpen = 0;

    constructor(clock) {
        this.clock = clock;
    }

    async post(id, body) {
        const event = JSON.parse(body);
        const nth = this.calls.filter((call) => call.id === id).length + 1;
        const call = { id, event, nth, at: this.clock.now(), chat: event.chat.id, n: event.n };
        this.calls.push(call);
        this.open.add(call);
        this.mostOpen = Math.max(this.mostOpen, this.open.size);
        const answer = this.answer(call);
        if (answer.after !== undefined) {
            await new Promise((resolve) => {
                call.end = resolve;
                this.clock.after(answer.after, resolve);
            });
        }
        this.open.delete(call);
        call.done = this.clock.now();
        return answer.answer ?? answer;
    }

    close() {
        for (const { end } of this.open) end?.();
    }

    /** The numbers of the events that a chat's calls were about. */
    of(chat) {
        return this.calls.filter((call) => call.chat === chat).map(({ n }) => n);
    }
}

/** A log that keeps its lines. */
function keepingLog() {
    const lines = [];
    const level = (name) => (text, fields) => lines.push([name, text, fields]);
    return { lines, error: level('error'), warning: level('warning'), info: level('info'), debug() {} };
}

/** @param {object} options `answer`: what the web app answers from the start; others as Delivery's */
async function setUp(t, { clock = new Clock(), journal, answer = () => DELIVERED, ...options } = {}) {
    const app = new WebApp(clock);
    app.answer = answer;
    const one = { clock, app, journal: journal ?? new MemoryJournal(clock.date), log: keepingLog() };
    one.delivery = new Delivery({
        ...{ webhook: app, awaits: () => true, retryMs: DAY, clock, journal: one.journal, log: one.log },
        ...options,
    });
    t.after(() => one.delivery.close());
    await one.delivery.start();
    one.send = (chat, n, more = {}) => {
        const entry = one.journal.add({ chat: { id: chat }, n, ...more });
        one.delivery.push(entry);
        return entry;
    };
    return one;
}

const range = (count) => Array.from({ length: count }, (_, n) => n);

/** How long after they came the calls of some chats were answered, in milliseconds, the longest first. */
function waits(app, isOne, cameAt) {
    const times = app.calls.filter(({ chat }) => isOne(chat)).map(({ done, id }) => done - cameAt.get(id));
    return times.sort((one, other) => other - one);
}

/** Have `chats` get a message each second for a while, each answered after 20 ms. */
async function traffic({ clock, send }, chats, seconds) {
    const cameAt = new Map();
    for (const n of range(seconds)) {
        for (const chat of chats) {
            cameAt.set(send(chat, n).event.event_id, clock.now());
            await clock.pass(SECOND / chats.length);
        }
    }
    return cameAt;
}

describe('events', () => {
    it('come in order in each chat, chats beside each other', async (t) => {
        const { clock, app, send, delivery } = await setUp(t);
        app.answer = () => ({ after: 50, answer: DELIVERED });
        for (const n of range(20)) for (const chat of ['a', 'b', 'c']) send(chat, n);
        await clock.pass(20 * 50);
        for (const chat of ['a', 'b', 'c']) assert.deepEqual(app.of(chat), range(20), chat);
        assert.equal(app.mostOpen, 3, 'one of each chat at a time');
        assert.equal(delivery.counts.queued, 0);
        assert.equal(delivery.counts.delivered, 60);
    });

    it('that the web app does not want are not handed on', async (t) => {
        const { clock, app, send, journal, delivery } = await setUp(t, {
            awaits: ({ event }) => event === 'message',
        });
        send('a', 1, { event: 'message.ack' });
        send('a', 2);
        await clock.pass(SECOND);
        assert.deepEqual(app.of('a'), [2]);
        assert.deepEqual(
            journal.in('delivered').map(({ event }) => event.n),
            [2],
            'what nobody waits for is the business of the journal',
        );
        assert.equal(delivery.counts.delivered, 1);
    });

    it('wait for nothing where there is no web app', async (t) => {
        const journal = new MemoryJournal();
        journal.add({ chat: { id: 'a' } });
        const { delivery } = await setUp(t, { journal, webhook: null });
        assert.equal(delivery.counts.queued, 0, 'settled: nobody is to get them later');
        assert.equal(await delivery.redeliver({ all: true }), 0);
    });

    it('from before a start are delivered after it, in order, and before what is new', async () => {
        const clock = new Clock();
        const journal = new MemoryJournal(clock.date);
        for (const n of range(250)) journal.add({ chat: { id: n % 2 ? 'a' : 'b' }, n });
        await clock.pass(3 * DAY);
        const app = new WebApp(clock);
        app.answer = () => DELIVERED;
        const delivery = new Delivery({
            ...{ journal, clock, webhook: app, awaits: () => true, retryMs: DAY },
            log: keepingLog(),
        });
        const started = delivery.start();
        for (const n of [250, 251]) delivery.push(journal.add({ chat: { id: n % 2 ? 'a' : 'b' }, n }));
        await started;
        await clock.pass(SECOND);
        assert.deepEqual(
            app.of('b'),
            range(252).filter((n) => n % 2 === 0),
        );
        assert.deepEqual(
            app.of('a'),
            range(252).filter((n) => n % 2 === 1),
        );
        await delivery.close();
    });

    it('from before a start have time until a web app has started, too, however old they are', async (t) => {
        const clock = new Clock();
        const journal = new MemoryJournal(clock.date);
        for (const n of range(30)) journal.add({ chat: { id: 'a' }, n });
        await clock.pass(3 * DAY);
        const { app } = await setUp(t, { journal, clock, answer: () => UNREACHABLE });
        await clock.pass(5 * MINUTE);
        assert.ok(app.calls.length > 3);
        app.calls.length = 0;
        app.answer = () => DELIVERED;
        await clock.pass(MINUTE);
        assert.deepEqual(app.of('a'), range(30));
    });

    it('that wait at an end are delivered by the next start', async (t) => {
        const { clock, app, send, delivery, journal } = await setUp(t);
        app.answer = () => UNREACHABLE;
        for (const n of range(30)) send(`chat ${n % 3}`, n);
        await clock.pass(10 * SECOND);
        const closed = delivery.close();
        await clock.pass(2 * SECOND);
        await closed;
        const next = await setUp(t, { journal, clock });
        await clock.pass(SECOND);
        for (const chat of range(3)) {
            const wanted = range(30).filter((n) => n % 3 === chat);
            assert.deepEqual(next.app.of(`chat ${chat}`), wanted);
        }
        assert.equal(journal.in('delivered').length, 30);
    });

    it('that are answered while the server ends are not sent again by the next one', async (t) => {
        const { clock, app, send, delivery, journal } = await setUp(t);
        app.answer = () => ({ after: 500, answer: DELIVERED });
        send('a', 1);
        send('a', 2);
        await clock.pass(SECOND / 10);
        const closed = delivery.close();
        await clock.pass(SECOND);
        await closed;
        assert.deepEqual(
            journal.in('delivered').map(({ event }) => event.n),
            [1],
        );
        assert.deepEqual(
            journal.in('pending').map(({ event }) => event.n),
            [2],
        );
        assert.deepEqual(app.of('a'), [1], 'none begins');
    });

    it('that the journal had to drop are counted, and those behind them continue', async (t) => {
        const { clock, app, send, delivery, journal } = await setUp(t);
        app.answer = () => UNREACHABLE;
        const [first] = range(3).map((n) => send('a', n));
        await clock.pass(SECOND / 10);
        journal.forget(first.cursor);
        app.answer = () => DELIVERED;
        app.calls.length = 0;
        await clock.pass(2 * SECOND);
        assert.deepEqual(app.of('a'), [1, 2]);
        assert.deepEqual([delivery.counts.dropped, delivery.counts.delivered], [1, 2]);
    });

    it('are read when it is their turn: a bounded number is in memory, and none twice', async (t) => {
        const { clock, app, send, journal } = await setUp(t);
        let reads = 0;
        const get = journal.get.bind(journal);
        journal.get = (cursor) => {
            reads += 1;
            return get(cursor);
        };
        app.answer = () => ({ after: 20 * SECOND, answer: DELIVERED });
        for (const n of range(1_000)) send(`chat ${n}`, n);
        await clock.pass(5 * SECOND);
        assert.equal(app.open.size, 64);
        assert.equal(reads, 64);
        await clock.pass(10 * MINUTE);
        assert.equal(app.mostOpen, 64);
        assert.equal(new Set(app.calls.map(({ id }) => id)).size, 1_000);
        assert.equal(app.calls.length, 1_000);
    });
});

describe('a slow chat', () => {
    for (const [slow, seconds] of [
        [1, 29],
        [1, 30],
        [7, 29],
        [40, 29],
        [40, 30],
    ]) {
        it(`holds up nobody: ${slow} of them take ${seconds} s`, async (t) => {
            const one = await setUp(t);
            const { clock, app, send } = one;
            const late = seconds * SECOND >= LIMIT ? UNANSWERED : DELIVERED;
            app.answer = ({ chat }) =>
                chat.startsWith('slow')
                    ? { after: seconds * SECOND, answer: late }
                    : { after: 20, answer: DELIVERED };
            for (const n of range(slow)) for (const nth of range(3)) send(`slow ${n}`, nth);
            await clock.pass(10);
            const others = range(25).map((n) => `chat ${n}`);
            const cameAt = await traffic(one, others, 90);
            await clock.pass(SECOND);
            const times = waits(app, (chat) => !chat.startsWith('slow'), cameAt);
            assert.equal(times.length, 25 * 90);
            const p99 = times[Math.floor(times.length / 100)];
            assert.ok(p99 <= 200, `p99 is ${p99} ms, the longest ${times[0]} ms`);
            for (const chat of others) assert.deepEqual(app.of(chat), range(90), chat);
        });
    }

    it('is known as such: a hundred of them leave room for the others', async (t) => {
        const one = await setUp(t);
        const { clock, app, send } = one;
        app.answer = ({ chat }) => ({ after: chat.startsWith('slow') ? 20 * SECOND : 20, answer: DELIVERED });
        for (const n of range(100)) for (const nth of range(20)) send(`slow ${n}`, nth);
        await clock.pass(2 * MINUTE);
        const cameAt = await traffic(
            one,
            range(25).map((n) => `chat ${n}`),
            60,
        );
        await clock.pass(SECOND);
        const [longest] = waits(app, (chat) => !chat.startsWith('slow'), cameAt);
        assert.ok(longest <= 200, `${longest} ms`);
        assert.equal(app.mostOpen, 64);
        app.mostOpen = 0;
        await clock.pass(MINUTE);
        assert.equal(app.mostOpen, 48, 'the rest is for the others');
    });

    it('gets its message once, when the web app takes 6 or 8 s', async (t) => {
        for (const seconds of [6, 8]) {
            const { clock, app, send } = await setUp(t);
            app.answer = () => ({ after: seconds * SECOND, answer: DELIVERED });
            send('a', 1);
            send('a', 2);
            send('b', 3);
            await clock.pass(2 * seconds * SECOND);
            assert.deepEqual(
                app.calls.map(({ n, at }) => [n, at]),
                [
                    [1, 0],
                    [3, 0],
                    [2, seconds * SECOND],
                ],
            );
        }
    });

    it('whose messages are never answered has pauses of its own, and keeps its order', async (t) => {
        const { clock, app, send } = await setUp(t);
        app.answer = ({ chat }) =>
            chat === 'a' ? { after: LIMIT, answer: UNANSWERED } : { after: 10, answer: DELIVERED };
        send('a', 1);
        send('a', 2);
        for (let minutes = 0; minutes < 120; minutes += 1) {
            for (const n of range(60)) {
                send('b', n);
                await clock.pass(SECOND);
            }
        }
        const tries = app.calls.filter(({ chat }) => chat === 'a');
        assert.ok(
            tries.every(({ n }) => n === 1),
            'the second one waits for the first one',
        );
        const pauses = tries.slice(1).map(({ at }, nth) => Math.round((at - tries[nth].at - LIMIT) / SECOND));
        assert.deepEqual(pauses.slice(0, 12), [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        app.answer = () => DELIVERED;
        await clock.pass(15 * MINUTE);
        assert.deepEqual(app.of('a').slice(-2), [1, 2]);
    });
});

describe('a web app that is down', () => {
    it('is probed by one, with growing pauses, and gets all in order when it is back', async (t) => {
        const { clock, app, send, delivery } = await setUp(t);
        app.answer = () => UNREACHABLE;
        for (const n of range(10)) for (const chat of range(100)) send(`chat ${chat}`, n);
        await clock.pass(10 * MINUTE);
        assert.equal(app.mostOpen <= 8, true, 'those that were under way before it was known');
        const begin = app.calls.findIndex(({ at }) => at > 0);
        const times = app.calls.slice(begin).map(({ at }) => at / SECOND);
        assert.deepEqual(times.slice(0, 9), [1, 3, 7, 15, 31, 63, 123, 183, 243]);
        const probing = new Set(app.calls.slice(begin).map(({ chat }) => chat));
        assert.equal(probing.size, times.length, 'each chat in turn');
        const { queued, failed, error, undelivered } = delivery.counts;
        assert.deepEqual([queued, failed, undelivered], [1_000, app.calls.length, 0]);
        assert.equal(error, 'nobody listens there');
        app.calls.length = 0;
        app.answer = () => DELIVERED;
        await clock.pass(MINUTE);
        for (const chat of range(100)) assert.deepEqual(app.of(`chat ${chat}`), range(10));
        assert.equal(delivery.counts.error, null);
    });

    for (const status of [500, 502, 503, 504]) {
        it(`costs no message where it answers ${status} for twenty minutes`, async (t) => {
            const { clock, app, send, delivery } = await setUp(t);
            app.answer = () => later(status);
            for (const n of range(3)) for (const chat of range(50)) send(`chat ${chat}`, n);
            await clock.pass(20 * MINUTE);
            assert.ok(app.calls.length < 60, `it is not asked by every chat, but ${app.calls.length} times`);
            assert.equal(delivery.counts.queued, 150);
            app.calls.length = 0;
            app.answer = () => DELIVERED;
            await clock.pass(MINUTE + SECOND);
            for (const chat of range(50)) assert.deepEqual(app.of(`chat ${chat}`), range(3));
            const took = app.calls.at(-1).at - app.calls[0].at;
            assert.ok(took <= SECOND, `all go on when one is answered, not ${took} ms later`);
        });
    }

    it('is back for a single chat within a minute, too', async (t) => {
        const { clock, app, send, delivery } = await setUp(t);
        app.answer = () => later(503);
        send('a', 1);
        await clock.pass(2 * HOUR);
        app.answer = () => DELIVERED;
        await clock.pass(MINUTE);
        assert.equal(delivery.counts.delivered, 1);
    });

    it('is asked by few where it only hangs, and a new one is tried at once', async (t) => {
        const { clock, app, send, delivery } = await setUp(t);
        app.answer = () => ({ after: LIMIT, answer: UNANSWERED });
        for (const chat of range(100)) send(`chat ${chat}`, 1);
        await clock.pass(31 * SECOND);
        const before = app.calls.length;
        app.mostOpen = 0;
        await clock.pass(10 * MINUTE);
        assert.ok(app.mostOpen <= 64);
        await clock.pass(10 * MINUTE);
        app.mostOpen = 0;
        await clock.pass(10 * MINUTE);
        assert.ok(app.mostOpen <= 4, `${app.mostOpen} at a time`);
        assert.ok(app.calls.length > before);
        app.answer = () => DELIVERED;
        await clock.pass(2 * MINUTE);
        assert.equal(delivery.counts.queued, 0);
    });

    it('with a limit of its own drops nothing by the tenth 429, and is asked when it says', async (t) => {
        const { clock, app, send, delivery } = await setUp(t);
        app.answer = ({ nth }) => (nth <= 10 ? later(429) : DELIVERED);
        send('a', 1);
        send('a', 2);
        await clock.pass(HOUR);
        assert.deepEqual(app.of('a'), [...Array(11).fill(1), ...Array(11).fill(2)]);
        assert.deepEqual([delivery.counts.delivered, delivery.counts.failed], [2, 20]);

        const other = await setUp(t);
        other.app.answer = () =>
            other.clock.now() < 90 * SECOND ? later(429, 90 * SECOND - other.clock.now()) : DELIVERED;
        other.send('a', 1);
        other.send('b', 2);
        other.send('c', 3);
        await other.clock.pass(SECOND);
        const asked = other.app.calls.length;
        await other.clock.pass(88 * SECOND);
        assert.equal(other.app.calls.length, asked, 'nobody asks before');
        await other.clock.pass(2 * SECOND);
        assert.equal(other.delivery.counts.delivered, 3);
    });

    it('says when it wants a message again, and gets it then', async (t) => {
        const { clock, app, send } = await setUp(t);
        app.answer = ({ nth }) => (nth <= 2 ? later(429, 20 * SECOND) : DELIVERED);
        send('a', 1);
        await clock.pass(MINUTE);
        assert.deepEqual(
            app.calls.map(({ at }) => at / SECOND),
            [0, 20, 40],
        );
    });

    it('is not asked by that chat before, though it takes those of others', async (t) => {
        const { clock, app, send } = await setUp(t);
        const full = later(429, 20 * SECOND);
        app.answer = ({ chat, nth }) => (chat === 'a' && nth === 1 ? full : DELIVERED);
        send('a', 1);
        await clock.pass(SECOND);
        send('b', 2);
        await clock.pass(MINUTE);
        const calls = app.calls.map(({ chat, at }) => [chat, at / SECOND]);
        assert.deepEqual(calls, [
            ['a', 0],
            ['b', 1],
            ['a', 20],
        ]);
    });

    it('is back for all that have waited once it answers one', async (t) => {
        const hangs = () => ({ after: LIMIT, answer: UNANSWERED });
        const { clock, app, send } = await setUp(t, { answer: hangs });
        for (const chat of ['a', 'b', 'c']) {
            send(chat, 1);
            await clock.pass(25 * SECOND);
        }
        await clock.pass(10 * MINUTE);
        app.answer = () => DELIVERED;
        app.calls.length = 0;
        await clock.pass(MINUTE);
        const [first, second, third] = app.calls.map(({ at }) => at);
        assert.deepEqual([second, third], [first, first], 'whatever was left of their pauses');
    });

    it('takes no try from a message while nobody listens', async (t) => {
        const { clock, app, send } = await setUp(t, { answer: () => UNREACHABLE });
        send('a', 1);
        await clock.pass(10 * MINUTE);
        app.answer = () => UNANSWERED;
        app.calls.length = 0;
        await clock.pass(2 * MINUTE);
        const [first, second, third] = app.calls.map(({ at }) => at);
        assert.deepEqual([second - first, third - second], [SECOND, 2 * SECOND]);
    });

    it('asks for a pause of no time, and gets one', async (t) => {
        const { clock, app, send } = await setUp(t);
        app.answer = () => later(503, 0);
        send('a', 1);
        await clock.pass(10 * SECOND);
        assert.ok(app.calls.length <= 11, `${app.calls.length} times in ten seconds`);
    });
});

describe('the log of a web app that fails', () => {
    /** The lines of a text within any one minute, at most. */
    const mostIn = (lines, text) => {
        const at = lines.filter((line) => line[1] === text).map((line) => line.at);
        const until = (from) => at.filter((one) => one >= from && one < from + MINUTE).length;
        return Math.max(0, ...at.map(until));
    };
    const WAYS = {
        'is not there': () => () => UNREACHABLE,
        'answers 500': () => () => later(500),
        'refuses everything': () => () => refused(400),
        'answers every third try': () => {
            let calls = 0;
            return () => ((calls += 1) % 3 === 0 ? DELIVERED : later(503));
        },
        'says nothing': () => () => ({ after: LIMIT, answer: UNANSWERED }),
    };
    for (const [name, answerOf] of Object.entries(WAYS)) {
        it(`has no line for each try: it ${name}`, async (t) => {
            const { clock, send, log } = await setUp(t, { answer: answerOf() });
            const push = log.lines.push.bind(log.lines);
            log.lines.push = (line) => push(Object.assign(line, { at: clock.now() }));
            let n = 0;
            const every = setEvery(clock, SECOND, () => {
                for (const chat of range(5)) send(`c${(n + chat) % 200}`, (n += 1));
            });
            await clock.pass(4 * MINUTE);
            every();
            assert.ok(log.lines.length > 0, 'it is told');
            for (const [, text] of log.lines) assert.ok(mostIn(log.lines, text) <= 1, text);
            const failing = log.lines.filter(([level]) => level === 'warning');
            assert.ok(failing.length <= 13, `${failing.length} lines in 4 minutes`);
            if (/not there|500|nothing/.test(name)) assert.ok(failing.length <= 2, JSON.stringify(failing));
        });
    }

    it('says how many lines there would have been, and when it works again', async (t) => {
        const { clock, app, send, log } = await setUp(t, { answer: () => refused(400) });
        for (const chat of range(50)) send(`c${chat}`, chat);
        await clock.pass(2 * MINUTE);
        send('late', 50);
        await clock.pass(MINUTE);
        const givenUp = log.lines.filter(([, text]) => /given up/.test(text));
        assert.deepEqual(
            givenUp.map(([, , { more }]) => more),
            [undefined, 49],
        );
        app.answer = () => UNREACHABLE;
        for (const chat of range(3)) send(`d${chat}`, chat);
        await clock.pass(10 * MINUTE);
        app.answer = () => DELIVERED;
        await clock.pass(2 * MINUTE);
        const told = log.lines.map(([, text]) => text).filter((text) => /takes/.test(text));
        assert.deepEqual(told, ['the web app takes no events', 'the web app takes events again']);
    });
});

describe('an event that the web app refuses', () => {
    for (const status of [400, 404, 410]) {
        it(`with ${status} is given up after half a minute, kept, and holds up none`, async (t) => {
            const { clock, app, send, delivery, journal } = await setUp(t);
            app.answer = ({ n }) => (n === 2 ? refused(status) : DELIVERED);
            for (const n of [1, 2, 3]) send('a', n);
            send('b', 4);
            await clock.pass(MINUTE);
            assert.deepEqual(app.of('a'), [1, 2, 2, 2, 2, 2, 2, 3]);
            assert.equal(app.calls.find(({ n }) => n === 3).at, 31 * SECOND);
            assert.equal(app.calls.find(({ n }) => n === 4).at, 0, 'others do not notice');
            assert.deepEqual(
                journal.in('undelivered').map(({ event }) => event.n),
                [2],
            );
            const { queued, delivered, failed, dropped, undelivered } = delivery.counts;
            assert.deepEqual([queued, delivered, failed, dropped, undelivered], [0, 3, 6, 0, 1]);
        });
    }

    it('for less than half a minute, as while it is exchanged, is delivered', async (t) => {
        const { clock, app, send, delivery } = await setUp(t);
        app.answer = () => (clock.now() < 20 * SECOND ? refused(404) : DELIVERED);
        for (const chat of range(40)) send(`chat ${chat}`, 1);
        await clock.pass(MINUTE);
        assert.deepEqual([delivery.counts.delivered, delivery.counts.undelivered], [40, 0]);
    });

    it('is tried again when somebody says so, where it stood in its chat', async (t) => {
        const { clock, app, send, delivery } = await setUp(t);
        app.answer = ({ n }) => (n < 2 ? refused(404) : DELIVERED);
        const [first] = [0, 1, 2].map((n) => send('a', n));
        await clock.pass(5 * MINUTE);
        assert.equal(delivery.counts.undelivered, 2);
        app.answer = () => ({ after: 10, answer: UNREACHABLE });
        send('a', 3);
        send('a', 4);
        await clock.pass(2 * DAY);
        assert.equal(delivery.counts.undelivered, 4, 'none of them could be delivered for a day');
        assert.equal(await delivery.redeliver({ cursor: 'm-99' }), 0);
        app.answer = () => DELIVERED;
        app.calls.length = 0;
        assert.equal(await delivery.redeliver({ cursor: first.cursor }), 1);
        await clock.pass(2 * MINUTE);
        assert.deepEqual(app.of('a'), [0]);
        assert.equal(await delivery.redeliver({ all: true }), 3);
        await clock.pass(SECOND);
        assert.deepEqual(app.of('a'), [0, 1, 3, 4]);
        assert.deepEqual([delivery.counts.queued, delivery.counts.undelivered], [0, 0]);
    });

    it('goes before what waits in its chat, but for the one that is being tried', async (t) => {
        const { clock, app, send, delivery } = await setUp(t, { answer: () => refused(404) });
        const first = send('a', 0);
        await clock.pass(MINUTE);
        app.answer = () => later(500);
        for (const n of [1, 2, 3]) send('a', n);
        await clock.pass(SECOND / 10);
        assert.equal(await delivery.redeliver({ cursor: first.cursor }), 1);
        app.answer = () => DELIVERED;
        app.calls.length = 0;
        await clock.pass(MINUTE);
        assert.deepEqual(app.of('a'), [1, 0, 2, 3]);
    });

    it('is reported in log and counts without anything of it', async (t) => {
        const { clock, app, send, delivery, log } = await setUp(t);
        app.answer = () => refused(403);
        send('5511988887777@c.us', 1, { body: 'a secret', from: '5511988887777@c.us' });
        await clock.pass(MINUTE);
        const { error, error_at } = delivery.counts;
        assert.equal(error, 'HTTP 403');
        assert.equal(Date.parse(error_at), clock.date() - 29 * SECOND);
        assert.ok(log.lines.some(([, text, { reason }]) => /given up/.test(text) && reason === 'HTTP 403'));
        assert.doesNotMatch(JSON.stringify(log.lines), /secret|55119/);
        app.answer = () => DELIVERED;
        send('a', 2);
        await clock.pass(SECOND);
        assert.deepEqual([delivery.counts.error, delivery.counts.error_at], [null, null]);
    });
});

describe('an event that cannot be delivered', () => {
    it('is tried for a day, then given up and kept, and the next one has its tries', async (t) => {
        const { clock, app, send, delivery, journal } = await setUp(t);
        app.answer = ({ chat }) => (chat === 'a' ? later(500) : DELIVERED);
        const every = setEvery(clock, MINUTE, () => send('b', 0));
        send('a', 1);
        await clock.pass(HOUR);
        send('a', 2);
        await clock.pass(23 * HOUR - SECOND);
        assert.equal(delivery.counts.undelivered, 0);
        assert.equal(Date.parse(delivery.counts.oldest_at), clock.date() - DAY + SECOND);
        await clock.pass(SECOND);
        assert.deepEqual(
            journal.in('undelivered').map(({ event }) => event.n),
            [1],
        );
        const tries = app.calls.filter(({ n }) => n === 1);
        assert.equal(tries.at(-1).at, DAY, 'the last try is when its time ends');
        assert.ok(tries.length > 100 && tries.length < 200, `${tries.length} tries`);
        await clock.pass(MINUTE);
        assert.ok(app.of('a').includes(2));
        assert.equal(delivery.counts.error, 'HTTP 500', 'it is still so, though others are delivered');
        every();
        app.answer = () => DELIVERED;
        await clock.pass(HOUR);
        assert.equal(delivery.counts.queued, 0);
        assert.equal(delivery.counts.error, null);
    });

    it('since the web app is gone is given up after the time that is set, in all chats', async (t) => {
        const { clock, app, send, delivery } = await setUp(t, { retryMs: 10 * MINUTE });
        app.answer = () => UNREACHABLE;
        for (const n of range(100)) send(`chat ${n}`, n);
        await clock.pass(9 * MINUTE);
        assert.deepEqual([delivery.counts.queued, delivery.counts.undelivered], [100, 0]);
        send('late', 1);
        await clock.pass(2 * MINUTE + SECOND);
        assert.deepEqual([delivery.counts.queued, delivery.counts.undelivered], [1, 100]);
    });

    it('for want of a connection, while others get one, waits automatically', async (t) => {
        const one = await setUp(t);
        const { app } = one;
        const others = range(10).map((n) => `chat ${n}`);
        app.answer = ({ chat }) => (chat === 'a' ? { after: 300, answer: UNREACHABLE } : DELIVERED);
        one.send('a', 1);
        const cameAt = await traffic(one, others, 60);
        const tries = app.of('a').length;
        assert.ok(tries > 30 && tries < 60, `${tries} tries in a minute`);
        const [longest] = waits(app, (chat) => chat !== 'a', cameAt);
        assert.ok(longest <= 100, `${longest} ms`);
    });

    it('does not have the web app asked more often than it should be, nor slows down others', async (t) => {
        const one = await setUp(t);
        const { app } = one;
        // One message of one chat makes the web app's worker die behind its proxy.
        app.answer = ({ chat }) => (chat === 'poison' ? { after: 5, answer: later(502) } : DELIVERED);
        one.send('poison', 1);
        const cameAt = await traffic(
            one,
            range(10).map((n) => `chat ${n}`),
            600,
        );
        const tries = app.of('poison').length;
        assert.ok(tries <= 12, `${tries} tries in ten minutes`);
        const [longest] = waits(app, (chat) => chat !== 'poison', cameAt);
        assert.ok(longest <= 100, `${longest} ms`);
    });
});

/** Numbers from 0 to 1 that look drawn at random, and are the same for the same seed. */
function drawing(seed) {
    let state = seed;
    return () => {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
        return state / 2 ** 32;
    };
}

describe('whatever the web app does', () => {
    /** An answer drawn at random: one in three is none that takes the event. */
    function anyAnswer(draw) {
        const kind = draw();
        if (kind < 0.1) return UNREACHABLE;
        if (kind < 0.2) return { after: LIMIT, answer: UNANSWERED };
        const pauseMs = draw() < 0.3 ? 5_000 * draw() : null;
        if (kind < 0.35) return { after: 50 * draw(), answer: later(503, pauseMs) };
        return { after: (draw() < 0.1 ? 20_000 : 80) * draw(), answer: DELIVERED };
    }

    for (const seed of range(20)) {
        it(`each event is taken once, in order in its chat: seed ${seed}`, async (t) => {
            const draw = drawing(seed);
            const { clock, app, send, delivery } = await setUp(t);
            const taken = [];
            app.answer = (call) => {
                const answer = anyAnswer(draw);
                if ((answer.answer ?? answer) === DELIVERED) taken.push(call);
                return answer;
            };
            const chats = 1 + Math.floor(30 * draw());
            const sent = [];
            for (let step = 0; step < 200; step += 1) {
                for (let left = Math.floor(6 * draw()); left > 0; left -= 1) {
                    const call = { chat: `chat ${Math.floor(chats * draw())}`, n: sent.length };
                    send(call.chat, call.n);
                    sent.push(call);
                }
                await clock.pass(4_000 * draw());
            }
            app.answer = (call) => {
                taken.push(call);
                return DELIVERED;
            };
            await clock.pass(20 * MINUTE);
            for (const chat of range(chats).map((n) => `chat ${n}`)) {
                const of = (calls) => calls.filter((call) => call.chat === chat).map(({ n }) => n);
                assert.deepEqual(of(taken), of(sent), chat);
            }
            const { queued, delivered, dropped, undelivered, error } = delivery.counts;
            assert.deepEqual([queued, delivered, dropped, undelivered, error], [0, sent.length, 0, 0, null]);
            assert.ok(app.mostOpen <= 64 && app.open.size === 0);
        });
    }
});

/** Do something again and again. @returns {() => void} what ends it */
function setEvery(clock, ms, work) {
    let cancel = null;
    const next = () => {
        work();
        cancel = clock.after(ms, next);
    };
    next();
    return () => cancel();
}

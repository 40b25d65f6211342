'use strict';

/** What happens to messages that are sent, before a page that is none. */

const assert = require('node:assert/strict');
const { fork } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');

const { SessionError, TimeLimitError } = require('../../server/errors');
const { readRecipient } = require('../../server/numbers');
const { readMessage } = require('../../server/outgoing');
const { Sending, sureOf } = require('../../server/sending');
const { Sends } = require('../../server/sends');
const { ROOT, scratch } = require('./support/process');

const log = { warning() {}, error() {}, info() {} };
const text = (words) => readMessage({ to: '5511988887777', text: words }, null);

/** A page that takes messages, and acknowledges them with `ack`. */
function pageOf({ ack = 1, ...overrides } = {}) {
    let made = 0;
    const page = {
        taken: new Map(),
        asked: [],
        prepareSend: async ({ likely: [chat] }) => ({ chat, id: `true_${chat}_${(made += 1)}` }),
        async handOver({ id }, what) {
            page.asked.push(id);
            if (!page.taken.has(id)) page.taken.set(id, what.text);
            return { id, ack, type: 'chat' };
        },
        awaitAck: async (id) => (page.taken.has(id) ? { id, ack, type: 'chat' } : null),
        ...overrides,
    };
    return page;
}

/** Sends by a page, with what is kept in a folder. */
function sendingBy(t, page, { directory = scratch(t), rate = 0, use } = {}) {
    const sends = new Sends({ directory: path.join(directory, 'messages'), log });
    t.after(() => sends.close());
    const session = { use: use ?? (async (work, limit) => work(page, limit)) };
    const dropped = [];
    const spool = { most: 100, drop: async (file) => dropped.push(file) };
    const sending = new Sending({ session, sends, spool, log, rate, mediaFromPrivate: false });
    return Object.assign(sending, { dropped });
}

const PAGE_WORDS = [
    'Execution context was destroyed',
    'Protocol error: Connection closed.',
    'Target closed',
    'Session closed',
    'Page crashed!',
    'Protocol error (Runtime.callFunctionOn): Target crashed',
    'Cannot find context with specified id',
    'another document is loaded',
    'Attempted to use detached Frame',
];
/** What no list has. */
const OTHER_WORDS = ['Cannot read properties of null', 'Promise was collected'];
const failing = (error) => async () => {
    throw typeof error === 'string' ? new Error(error) : error;
};

describe('a message', () => {
    it('is sent once it is at the server, and pending before', async (t) => {
        const sent = await sendingBy(t, pageOf()).send(text('x'));
        assert.deepEqual(sent, { id: 'true_5511988887777@c.us_1', outcome: 'sent' });
        const pending = await sendingBy(t, pageOf({ ack: 0 })).send(text('x'));
        assert.deepEqual(pending, { id: 'true_5511988887777@c.us_1', outcome: 'pending' });
        const late = pageOf({ ack: 0, awaitAck: async (id) => ({ id, ack: 2 }) });
        assert.equal((await sendingBy(t, late).send(text('x'))).outcome, 'sent');
    });

    it('that WhatsApp refuses has failed', async (t) => {
        for (const page of [pageOf({ ack: -1 }), pageOf({ ack: 0, awaitAck: async () => ({ ack: -1 }) })]) {
            const refused = (error) => error.status === 422 && error.body.code === 'refused';
            const sending = sendingBy(t, page);
            const key = { key: 'K', print: 'x' };
            await assert.rejects(sending.send(text('x'), key), refused);
            await assert.rejects(sending.send(text('x'), key), refused, 'and stays so under its key');
            assert.equal(page.taken.size, 1);
        }
    });

    it('is not reported as failed once it was handed over', async (t) => {
        const away = new SessionError('not_connected', '', '');
        const gone = [...PAGE_WORDS, ...OTHER_WORDS, new TimeLimitError('sending', 1), away];
        for (const error of gone) {
            const page = pageOf();
            page.handOver = failing(error);
            const told = await sendingBy(t, page).send(text('x'));
            const id = 'true_5511988887777@c.us_1';
            assert.deepEqual(told, { id, outcome: 'pending', code: 'perhaps_sent' });
            assert.throws(() => sureOf(told), { cause: 'perhaps_sent' });
        }
        const lost = pageOf({ ack: 0, awaitAck: failing('Target closed') });
        const told = await sendingBy(t, lost).send(text('x'));
        assert.deepEqual(told, { id: 'true_5511988887777@c.us_1', outcome: 'pending' });
        assert.equal(sureOf(told), told.id);
    });

    it('has failed where the page did not take it, and says why', async (t) => {
        const codes = { not_on_whatsapp: 422, no_such_chat: 404, refused: 422, no_such_message: 404 };
        for (const [code, status] of Object.entries(codes)) {
            for (const step of ['prepareSend', 'handOver']) {
                const sending = sendingBy(t, pageOf({ [step]: async () => ({ code }) }));
                await assert.rejects(sending.send(text('x')), (error) => {
                    assert.deepEqual([error.status, error.body.code], [status, code], step);
                    return true;
                });
            }
        }
        for (const words of [...PAGE_WORDS, new TimeLimitError('finding', 1)]) {
            const lost = sendingBy(t, pageOf({ prepareSend: failing(words) }));
            await assert.rejects(lost.send(text('x')), (why) => why.body.code === 'page_lost');
        }
        const error = 'a fault before it was sent';
        const fault = sendingBy(t, pageOf({ handOver: async () => ({ error }) }));
        await assert.rejects(fault.send(text('x')), /a fault before/);
        const away = sendingBy(t, pageOf(), { use: failing(new SessionError('not_connected', 'away', '')) });
        await assert.rejects(away.send(text('x')), { cause: 'not_connected' });
    });

    it('keeps to the pace that is set, and is refused where that takes too long', async (t) => {
        const page = pageOf();
        const sending = sendingBy(t, page, { rate: 600 });
        const begun = performance.now();
        await Promise.all([1, 2, 3].map((n) => sending.send(text(`${n}`))));
        assert.ok(performance.now() - begun >= 195, 'each a tenth of a second after the one before');
        const slow = sendingBy(t, page, { rate: 1 });
        await slow.send(text('first'));
        await assert.rejects(slow.send(text('second')), (error) => {
            assert.deepEqual([error.status, error.body.code], [429, 'rate_limited']);
            const wait = Number(error.headers['Retry-After']);
            assert.ok(wait > 50 && wait <= 60, `${wait}`);
            return true;
        });
    });

    it('has its file dropped once the page needs it no more', async (t) => {
        const image = readMessage({ to: '5511988887777', image: { file: '' } }, null);
        let finish;
        const page = pageOf();
        page.handOver = () =>
            new Promise((resolve) => {
                finish = () => resolve({ ack: 1 });
            });
        const limited = async (work) => {
            work(page, 700);
            throw new TimeLimitError('sending', 1);
        };
        const use = (work, limit, what) => (what === 'sending' ? limited(work) : work(page, limit));
        const sending = sendingBy(t, page, { use });
        const file = { path: '/x', type: 'image/png', name: 'a.png' };
        assert.equal((await sending.send(image, { file })).code, 'perhaps_sent');
        assert.ok(file.isTaken);
        await new Promise(setImmediate);
        assert.deepEqual(sending.dropped, []);
        finish();
        await new Promise(setImmediate);
        assert.deepEqual(sending.dropped, [file]);

        const wrong = { path: '/y', type: 'text/plain', name: 'a.txt' };
        const again = readMessage({ to: '5511988887777', image: { file: '' } }, null);
        const isOther = (error) => error.body.code === 'bad_media';
        await assert.rejects(sending.send(again, { file: wrong }), isOther);
        assert.deepEqual(sending.dropped, [file, wrong]);
    });
});

describe('an idempotency key', () => {
    const how = (words, key = 'K') => ({ key, print: words });

    it('joins calls that are made at the same time', async (t) => {
        const page = pageOf();
        const sending = sendingBy(t, page);
        const all = await Promise.all([1, 2, 3].map(() => sending.send(text('x'), how('x'))));
        assert.deepEqual(new Set(all.map(({ id }) => id)).size, 1);
        assert.equal(page.asked.length, 1);
    });

    it('joins calls that are made later, and after a restart', async (t) => {
        const page = pageOf({ ack: 0 });
        const directory = scratch(t);
        const first = await sendingBy(t, page, { directory }).send(text('x'), how('x'));
        assert.equal(first.outcome, 'pending');
        const again = await sendingBy(t, page, { directory }).send(text('x'), how('x'));
        assert.deepEqual(again, first);
        assert.deepEqual([...page.taken], [[first.id, 'x']]);
        const other = await sendingBy(t, page, { directory }).send(text('x'), how('x', 'L'));
        assert.notEqual(other.id, first.id);
    });

    it('is answered from what is kept once the message is at the server', async (t) => {
        const directory = scratch(t);
        const sending = sendingBy(t, pageOf(), { directory });
        const first = await sending.send(text('x'), how('x'));
        assert.equal(first.outcome, 'sent');
        await new Promise((resolve) => setTimeout(resolve, 50));
        const away = failing(new SessionError('not_connected', 'away', ''));
        const later = sendingBy(t, pageOf(), { directory, use: away });
        assert.deepEqual(await later.send(text('x'), how('x')), first);
    });

    it('is of one message only', async (t) => {
        const directory = scratch(t);
        const sending = sendingBy(t, pageOf(), { directory });
        const reused = (error) => error.status === 422 && error.body.code === 'key_reused';
        const first = sending.send(text('x'), how('x'));
        await assert.rejects(sending.send(text('y'), how('y')), reused, 'at the same time');
        await first;
        await assert.rejects(sending.send(text('y'), how('y')), reused, 'later');
        const next = sendingBy(t, pageOf(), { directory });
        await assert.rejects(next.send(text('y'), how('y')), reused, 'after a restart');
    });

    it('has the same message handed over again where that was cut off', async (t) => {
        const directory = scratch(t);
        const page = pageOf();
        const { handOver } = page;
        page.handOver = failing('Target closed');
        const first = await sendingBy(t, page, { directory }).send(text('x'), how('x'));
        assert.equal(first.code, 'perhaps_sent');
        page.handOver = handOver;
        const again = await sendingBy(t, page, { directory }).send(text('x'), how('x'));
        assert.deepEqual(again, { id: first.id, outcome: 'sent' });
    });

    it('is free again where the message was not handed over', async (t) => {
        const page = pageOf();
        const { handOver } = page;
        const sending = sendingBy(t, page);
        page.handOver = async () => ({ error: 'a fault before it was sent' });
        await assert.rejects(sending.send(text('x'), how('x')));
        page.handOver = handOver;
        assert.equal((await sending.send(text('y'), how('y'))).outcome, 'sent');
    });

    it('has nothing sent where the disk does not take it', async (t) => {
        const directory = scratch(t);
        fs.writeFileSync(path.join(directory, 'messages'), 'a file in its place');
        const page = pageOf();
        await assert.rejects(sendingBy(t, page, { directory }).send(text('x'), how('x')), (error) => {
            assert.deepEqual([error.status, error.body.code], [503, 'not_kept']);
            return true;
        });
        assert.equal(page.taken.size, 0);
    });
});

describe('a message that is sent on', () => {
    const OF = 'false_5512@c.us_A';
    const to = readRecipient('5511988887777');
    const how = (key) => ({ key, print: 'of that, to them' });
    /** A page that makes copies; `cut` says what happens in place of its answer. */
    function forwardingPage({ cut = async () => {}, ...more } = {}) {
        const page = pageOf({
            copies: [],
            cut,
            copiesOf: async () => [...page.copies],
            async forward(_id, { chat }, begun) {
                const known = begun && page.copies.find((each) => !begun.others.includes(each));
                if (known) return { id: known, ack: 1 };
                await page.cut('before');
                page.copies.push(`true_${chat}_C${page.copies.length}`);
                await page.cut('after');
                return { id: page.copies.at(-1), ack: 1 };
            },
            ...more,
        });
        return page;
    }
    const cutting = (at) => async (when) => {
        if (when === at) throw new Error('Target closed');
    };

    it('is sent on once for each key, at the same time, later, and after a restart', async (t) => {
        const page = forwardingPage();
        const directory = scratch(t);
        const sending = sendingBy(t, page, { directory });
        const all = await Promise.all([1, 2, 3].map(() => sending.forward(OF, to, how('K'))));
        const copy = { id: 'true_5511988887777@c.us_C0', outcome: 'sent' };
        assert.deepEqual(all, [copy, copy, copy]);
        assert.deepEqual(await sending.forward(OF, to, how('K')), copy);
        await new Promise((resolve) => setTimeout(resolve, 50));
        assert.deepEqual(await sendingBy(t, page, { directory }).forward(OF, to, how('K')), copy);
        assert.equal(page.copies.length, 1);
        assert.notEqual((await sending.forward(OF, to, how('L'))).id, copy.id);
        await sending.forward(OF, to);
        await sending.forward(OF, to);
        assert.equal(page.copies.length, 4);
        const reused = (error) => error.status === 422 && error.body.code === 'key_reused';
        await assert.rejects(sending.forward(OF, to, { key: 'K', print: 'of another' }), reused);
    });

    it('is found where the call was cut off after it, and sent on where it was before', async (t) => {
        for (const at of ['before', 'after']) {
            const page = forwardingPage();
            const directory = scratch(t);
            const earlier = await sendingBy(t, page, { directory }).forward(OF, to);
            page.cut = cutting(at);
            const told = [];
            for (const key of ['K', 'L']) {
                told.push(await sendingBy(t, page, { directory }).forward(OF, to, how(key)));
            }
            const unknown = { id: null, outcome: 'pending', code: 'perhaps_sent' };
            assert.deepEqual(told, [unknown, unknown]);
            page.cut = async () => {};
            const again = sendingBy(t, page, { directory });
            const both = await Promise.all(['K', 'L'].map((key) => again.forward(OF, to, how(key))));
            assert.ok(both.every(({ outcome }) => outcome === 'sent'));
            assert.deepEqual(new Set([earlier, ...both].map(({ id }) => id)), new Set(page.copies));
            assert.equal(page.copies.length, 3, at);
        }
    });

    it('is pending until the copy is at the server', async (t) => {
        const page = forwardingPage({ ack: 0 });
        const { forward } = page;
        page.forward = async (...args) => ({ ...(await forward(...args)), ack: 0 });
        const sending = sendingBy(t, page);
        const first = await sending.forward(OF, to, how('K'));
        assert.equal(first.outcome, 'pending');
        page.awaitAck = async (id) => ({ id, ack: 2 });
        assert.deepEqual(await sending.forward(OF, to, how('K')), { ...first, outcome: 'sent' });
        page.forward = async () => ({ id: null, ack: 0 });
        for (let calls = 0; calls < 2; calls += 1) {
            const unknown = await sending.forward(OF, to, how('L'));
            assert.deepEqual(unknown, { id: null, outcome: 'pending' }, 'handed over, under no known id');
        }
    });

    it('leaves its key free where the page did not take it, and is not sent on without a disk', async (t) => {
        const page = forwardingPage();
        const { forward } = page;
        const directory = scratch(t);
        const sending = sendingBy(t, page, { directory });
        page.forward = async () => ({ error: 'a fault before it was sent' });
        await assert.rejects(sending.forward(OF, to, how('K')), /a fault before/);
        page.forward = async () => ({ code: 'no_such_message' });
        await assert.rejects(sending.forward(OF, to, how('K')), (error) => error.status === 404);
        page.forward = forward;
        assert.equal((await sending.forward(OF, to, { key: 'K', print: 'another' })).outcome, 'sent');

        const full = scratch(t);
        fs.writeFileSync(path.join(full, 'messages'), 'a file in its place');
        const refused = sendingBy(t, page, { directory: full }).forward(OF, to, how('K'));
        await assert.rejects(refused, (error) => error.body.code === 'not_kept');
        page.copiesOf = failing('Target closed');
        await assert.rejects(sending.forward(OF, to, how('M')), (error) => error.body.code === 'page_lost');
        assert.equal(page.copies.length, 1);
    });
});

describe('the outcome of a message', () => {
    it('is known by its id', async (t) => {
        const names = [
            [-1, 'failed', 'error'],
            [0, 'pending', 'pending'],
            [1, 'sent', 'server'],
            [4, 'sent', 'played'],
        ];
        for (const [ack, outcome, name] of names) {
            const page = pageOf({ awaitAck: async () => ({ ack }) });
            const told = await sendingBy(t, page).outcome('true_1@c.us_A');
            assert.deepEqual([told.outcome, told.ack], [outcome, name]);
        }
    });

    it("is not known of what is no message, or somebody else's", async (t) => {
        const sending = sendingBy(t, pageOf());
        for (const id of ['true_1@c.us_A', 'false_1@c.us_A']) {
            await assert.rejects(sending.outcome(id), (error) => error.body.code === 'no_such_message');
        }
    });

    it('is open for a message that was begun, and that the page has not', async (t) => {
        const page = pageOf({ handOver: failing('Target closed') });
        const sending = sendingBy(t, page);
        const { id } = await sending.send(text('x'), { key: 'K', print: 'x' });
        assert.equal((await sending.outcome(id)).code, 'perhaps_sent');
    });
});

/** How often the process that sends is killed while it does. */
const KILLS = 100;

describe('kills', () => {
    it('at any moment lose no message and double none, where callers repeat with the same key', async (t) => {
        const directory = scratch(t);
        const site = path.join(directory, 'site');
        fs.writeFileSync(site, '');
        const script = path.join(ROOT, 'tests/node/support/sending_process.js');
        let kills = 0;
        let child = null;
        let waiting = new Map();
        let isOver = false;
        const start = () => {
            child = fork(script, [directory], { execArgv: [] });
            waiting = new Map();
            const mine = waiting;
            child.on('message', ({ key, told }) => mine.get(key)?.(told));
            child.on('exit', () => {
                for (const tell of mine.values()) tell(null);
                if (!isOver) start();
            });
            const one = child;
            // Once it works, after any time that a send may take.
            one.once('message', () => {
                setTimeout(() => {
                    if (kills >= KILLS) return;
                    kills += 1;
                    one.kill('SIGKILL');
                }, Math.random() * 30);
            });
        };
        start();
        t.after(() => {
            isOver = true;
            child.kill('SIGKILL');
        });
        const ask = (key) =>
            new Promise((resolve) => {
                waiting.set(key, resolve);
                if (!child.connected) resolve(null);
                else child.send({ key, isForward: key.startsWith('f') }, (error) => error && resolve(null));
            });
        const answers = new Map();
        const sender = async (name) => {
            for (let n = 0; kills < KILLS; n += 1) {
                const key = `${name} ${n}`;
                let told = null;
                while (!told?.id || told.outcome !== 'sent') {
                    told = await ask(key);
                    if (told === null) await new Promise((resolve) => setTimeout(resolve, 2));
                }
                answers.set(key, told.id);
            }
        };
        await Promise.all(['a', 'b', 'c', 'd', 'f', 'fa'].map(sender));
        isOver = true;
        assert.equal(kills, KILLS);
        const lines = fs.readFileSync(site, 'utf8').split('\n').slice(0, -1);
        const all = lines.map((line) => line.split(' = '));
        const arrived = all.filter(([, words]) => words !== 'a copy');
        const byText = new Map(arrived.map(([id, words]) => [words, id]));
        assert.equal(arrived.length, byText.size, 'none is there twice');
        // Those that are sent on are all alike: one copy for each key.
        const forwards = [...answers].filter(([key]) => key.startsWith('f'));
        const copies = all.filter(([, words]) => words === 'a copy').map(([id]) => id);
        assert.deepEqual(forwards.map(([, id]) => id).sort(), copies.sort());
        for (const [key] of forwards) answers.delete(key);
        for (const [key, id] of answers) assert.equal(byText.get(key), id, `${key} is there, as it was told`);
        assert.equal(byText.size, answers.size, 'and none that nobody sent');
        t.diagnostic(`${kills} kills, ${answers.size} messages, ${copies.length} copies`);
        const ended = once(child, 'exit');
        child.kill();
        await ended;
    });
});

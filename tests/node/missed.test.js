'use strict';

/** What is read back after a gap: from when on, in which order, and what a page that is silent costs. */

const assert = require('node:assert/strict');
const { EventEmitter } = require('node:events');
const { describe, it } = require('node:test');

const { describeMessage } = require('../../server/describe');
const { Missed } = require('../../server/missed');
const { Turns } = require('../../server/turns');
const { listening, newPlace, readAll } = require('./support/journal');
const { whenFound } = require('./support/process');

const now = () => Math.floor(Date.now() / 1000);

let count = 0;
/** What the page has of a message. */
function said(chat, body, { t = now(), fromMe = false } = {}) {
    count += 1;
    const people = fromMe ? { from: '5500@c.us', to: chat } : { from: chat, to: '5500@c.us' };
    return { id: { fromMe, remote: chat, id: `M${count}` }, ...people, body, t, type: 'chat' };
}

/** The library's client, as far as messages are read back by it. */
class Page {
    turns = new Turns();
    chats = new Map();
    asked = [];
    /** Fails, or waits, as a test wants. */
    before = async () => {};

    has(...messages) {
        for (const message of messages) {
            const { remote } = message.id;
            this.chats.set(remote, [...(this.chats.get(remote) ?? []), message]);
        }
    }

    async findChat(id) {
        return this.chats.has(id) ? id : null;
    }

    async changedChats(since) {
        this.asked.push('chats');
        await this.before('chats');
        return [...this.chats].filter(([, all]) => all.some(({ t }) => t >= since)).map(([id]) => id);
    }

    async messagesSince(chat, since, { most }) {
        this.asked.push(`${chat} ${most}`);
        await this.before(chat);
        const found = this.chats.get(chat).filter(({ t }) => t >= since);
        return found.slice(-most).map(({ id }) => id.id);
    }

    reactions = new Map();

    async reactionsOf(ids) {
        return ids.flatMap((id) => this.reactions.get(id) ?? []);
    }

    async messagesOf(ids) {
        return ids.map((id) => [...this.chats.values()].flat().find((message) => message.id.id === id));
    }
}

/** The state of a session: `enter` is what happens to it. */
class State extends EventEmitter {
    name = 'generating';
    linked = true;

    document() {
        return { linked: this.linked };
    }

    enter(name) {
        const before = this.name;
        this.name = name;
        this.emit('state', name, before);
    }
}

async function begin(t, { place = newPlace(t), page = new Page(), ...options } = {}) {
    const journal = await place.open();
    const state = new State();
    const log = listening();
    const take = (event) => journal.append(event);
    const bounds = { maxAge: 7 * 86_400, maxBytes: 64 * 1024 * 1024, ...options };
    const missed = new Missed({ state, journal, take, log, ...bounds });
    const session = {
        use: async (work) => {
            if (state.name !== 'ready') throw new Error('not connected');
            return work(page);
        },
    };
    missed.start(session);
    t.after(() => missed.close());
    const hear = (message) => missed.take(describeMessage(message), page);
    const told = async () =>
        (await readAll(journal)).map(({ event: { body, recovered } }) => (recovered ? `${body} *` : body));
    /** Wait until nothing is missing: the mark has moved. */
    const whole = async (work) => {
        const { until } = journal.mark;
        await new Promise((resolve) => setTimeout(resolve, 2));
        await work();
        await whenFound(async () => journal.mark.until > until, 'the mark to move');
    };
    const link = () =>
        whole(() => {
            state.enter('authenticated');
            return new Promise((resolve) => setTimeout(resolve, 5)).then(() => state.enter('ready'));
        });
    return { place, journal, state, log, missed, page, hear, told, whole, link };
}

describe('messages that nobody heard of', () => {
    it('are read back once, in their order, and marked; what was heard is not reported again', async (t) => {
        const { page, hear, told, whole, link, state } = await begin(t);
        await link();
        const heard = said('a@c.us', 'heard');
        page.has(heard);
        await hear(heard);
        state.enter('disconnected');
        page.has(said('a@c.us', 'one'), said('b@c.us', 'two'), said('a@c.us', 'three', { fromMe: true }));
        await whole(() => state.enter('ready'));
        assert.deepEqual(await told(), ['heard', 'one *', 'three *', 'two *']);
        state.enter('disconnected');
        await whole(() => state.enter('ready'));
        assert.equal((await told()).length, 4);
    });

    it('say what happened to them meanwhile, too', async (t) => {
        const { page, link, state, whole, journal } = await begin(t);
        await link();
        state.enter('disconnected');
        page.has({ ...said('a@c.us', 'sent on the phone', { fromMe: true }), ack: 3 });
        page.has({ ...said('b@c.us', 'edited'), latestEditSenderTimestampMs: Date.now() });
        page.has({ ...said('c@c.us', ''), type: 'revoked' });
        await whole(() => state.enter('ready'));
        const kinds = (await readAll(journal)).map(({ event }) => `${event.event} ${event.recovered}`);
        assert.deepEqual(kinds, [
            'message.sent true',
            'message.ack true',
            'message true',
            'message.edited true',
            'message.revoked true',
        ]);
    });

    it('are read back by the next process, from the mark of the one before on', async (t) => {
        const first = await begin(t);
        await first.link();
        const heard = said('a@c.us', 'heard');
        await first.hear(heard);
        await first.missed.close();
        await first.journal.close();
        const again = await begin(t, { place: first.place });
        again.page.has(heard, said('a@c.us', 'while it was stopped'));
        await again.link();
        assert.deepEqual(await again.told(), ['heard', 'while it was stopped *']);
    });

    it('are none where a phone is linked: what it brings is older', async (t) => {
        const { page, told, link, state, journal, whole } = await begin(t);
        page.has(said('a@c.us', 'last year', { t: now() - 40_000_000 }));
        page.has(said('b@c.us', 'before', { t: now() - 2 }));
        await link();
        assert.deepEqual(await told(), []);
        // The login is given up, and another phone answers.
        state.enter('disconnected');
        page.has(said('c@c.us', 'of another account', { t: now() - 2 }));
        state.linked = false;
        state.enter('qr');
        await whole(() => {
            state.enter('pairing');
            state.linked = true;
            state.enter('authenticated');
            state.enter('ready');
        });
        assert.deepEqual(await told(), []);
        assert.ok(Date.now() - journal.mark.from < 5000);
    });

    it('are none that are older than the journal keeps them', async (t) => {
        const place = newPlace(t);
        const journal = await place.open();
        await journal.advance({ from: 1, until: 2 });
        await journal.close();
        const { page, told, link } = await begin(t, { place, maxAge: 3600 });
        page.has(said('a@c.us', 'older', { t: now() - 3700 }), said('a@c.us', 'newer', { t: now() - 3000 }));
        await link();
        assert.deepEqual(await told(), ['newer *']);
    });

    it('come before the next one of their chat, which is written last and is not marked', async (t) => {
        const { page, hear, told, link, state, whole } = await begin(t);
        await link();
        state.enter('disconnected');
        const [one, two, three] = ['one', 'two', 'three'].map((body) => said('a@c.us', body));
        page.has(one, two, three);
        // The library listens before the session is ready.
        const done = [hear(two), hear(three)];
        const [entry] = await Promise.all(done);
        assert.equal(entry.isNew, true);
        assert.deepEqual(await told(), ['one *', 'two', 'three']);
        await whole(() => state.enter('ready'));
        assert.deepEqual(await told(), ['one *', 'two', 'three']);
        const asked = page.asked.length;
        await hear(said('a@c.us', 'four'));
        assert.equal(page.asked.length, asked, 'nothing is missing any more');
    });

    it('hold up a message of their chat, and that not for ever', { timeout: 20_000 }, async (t) => {
        const { page, hear, told, link, state, missed } = await begin(t, { waitMs: 500 });
        await link();
        state.enter('disconnected');
        page.has(said('a@c.us', 'missed'));
        page.before = async () => new Promise(() => {});
        const began = performance.now();
        const slow = hear(said('a@c.us', 'slow'));
        const ack = { event: 'message.ack', event_id: 'ack', chat: { id: 'b@c.us' }, body: 'ack' };
        await missed.take(ack, page);
        assert.deepEqual(await told(), ['ack']);
        await slow;
        assert.ok(performance.now() - began >= 499);
        assert.deepEqual(await told(), ['ack', 'slow']);
    });

    it('are asked for again where the page did not answer, and none counts as read before', async (t) => {
        const { page, told, link, state, whole, journal, log } = await begin(t);
        await link();
        state.enter('disconnected');
        page.has(said('a@c.us', 'one'), said('b@c.us', 'two'));
        const { until } = journal.mark;
        page.before = async (what) => {
            if (what === 'b@c.us') throw new Error('the page is gone');
        };
        state.enter('ready');
        const isTold = async () => log.lines.some((line) => line.includes('not read back yet'));
        await whenFound(isTold, 'a failure');
        assert.equal(journal.mark.until, until);
        assert.deepEqual(await told(), ['one *']);
        page.before = async () => {};
        state.enter('disconnected');
        await whole(() => state.enter('ready'));
        assert.deepEqual(await told(), ['one *', 'two *']);
    });

    it('come with the reactions to them, each once, and none from before the gap', async (t) => {
        const { page, journal, told, link, state, whole } = await begin(t);
        await link();
        state.enter('disconnected');
        const one = said('a@c.us', 'one');
        page.has({ ...one, hasReaction: true }, said('a@c.us', 'two'));
        const reaction = (id, text, ago = 0) => ({
            id: { fromMe: false, remote: 'a@c.us', id },
            msgId: one.id,
            senderId: 'a@c.us',
            reaction: text,
            timestamp: now() - ago,
        });
        page.reactions.set(one.id.id, [reaction('R1', '👍'), reaction('R2', '😀', 86_400), null]);
        await whole(() => state.enter('ready'));
        state.enter('disconnected');
        await whole(() => state.enter('ready'));
        assert.deepEqual(await told(), ['one *', 'two *', 'undefined *']);
        const [{ event }] = await readAll(journal, { events: ['message.reaction'] });
        const { reaction: text, recovered, id } = event;
        assert.deepEqual([text, recovered, id], ['👍', true, `false_a@c.us_${one.id.id}`]);
    });

    it('are looked for in steps, all that there are, and read back in their order', async (t) => {
        const { page, told, link, state, whole, log } = await begin(t);
        await link();
        // What is looked for then is nothing, and is over.
        await whenFound(async () => page.asked.length > 0, 'the first look');
        await new Promise((resolve) => setTimeout(resolve, 20));
        state.enter('disconnected');
        page.has(...Array.from({ length: 2500 }, (_, index) => said('a@c.us', `${index}`)));
        page.asked = [];
        await whole(() => state.enter('ready'));
        assert.deepEqual(page.asked, ['chats', 'a@c.us 1000', 'a@c.us 2000', 'a@c.us 3000']);
        assert.deepEqual(
            await told(),
            Array.from({ length: 2500 }, (_, index) => `${index} *`),
        );
        assert.ok(!log.lines.some((line) => /more missed|the rest/.test(line)), 'that is all');
    });

    it('are at most what the journal holds, and the log says so', async (t) => {
        const { page, told, link, state, whole, log } = await begin(t, { maxBytes: 1024 * 1024 });
        await link();
        // What is looked for then is nothing, and is over.
        await whenFound(async () => page.asked.length > 0, 'the first look');
        await new Promise((resolve) => setTimeout(resolve, 20));
        state.enter('disconnected');
        page.has(...Array.from({ length: 1200 }, (_, index) => said('a@c.us', `${index}`)));
        page.has(said('b@c.us', 'another chat'));
        await whole(() => state.enter('ready'));
        const bodies = await told();
        assert.deepEqual([bodies.length, bodies[0], bodies.at(-1)], [1024, '176 *', '1199 *']);
        assert.ok(log.lines.some((line) => line.includes('more missed messages than are read back')));
        assert.ok(log.lines.some((line) => line.includes('the rest is not read back')));
    });

    it('are read back although one among them is none', async (t) => {
        const { page, told, link, state, whole, log } = await begin(t);
        await link();
        state.enter('disconnected');
        page.has(said('a@c.us', 'one'), said('a@c.us', 'broken'), said('a@c.us', 'two'));
        const whatItHas = page.messagesOf.bind(page);
        page.messagesOf = async (ids) =>
            (await whatItHas(ids)).map((message) => (message.body === 'broken' ? null : message));
        await whole(() => state.enter('ready'));
        assert.deepEqual(await told(), ['one *', 'two *']);
        assert.ok(log.lines.some((line) => line.includes('cannot be read back')));
    });

    it('wait for a gap that came meanwhile: the mark does not move over it', async (t) => {
        const { page, link, state, journal, whole, told } = await begin(t);
        await link();
        state.enter('disconnected');
        page.has(said('a@c.us', 'one'));
        const { until } = journal.mark;
        page.before = async () => {
            page.before = async () => {};
            state.enter('disconnected');
        };
        state.enter('ready');
        await whenFound(async () => (await told()).length === 0 && page.asked.includes('chats'), 'a look');
        assert.equal(journal.mark.until, until);
        await whole(() => state.enter('ready'));
        assert.deepEqual(await told(), ['one *']);
    });

    it('do not hold up the end', async (t) => {
        const { page, hear, link, state, missed, told } = await begin(t);
        await link();
        state.enter('disconnected');
        page.has(said('a@c.us', 'missed'));
        page.before = async () => new Promise(() => {});
        const late = hear(said('a@c.us', 'late'));
        const began = performance.now();
        await missed.close();
        await late;
        assert.ok(performance.now() - began < 1000);
        assert.deepEqual(await told(), ['late']);
    });
});

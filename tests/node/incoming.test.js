'use strict';

/** Events on their way: when they are in the journal, in which order they move, what a slow page costs. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { describeMessage, describeReaction } = require('../../server/describe');
const { Incoming } = require('../../server/incoming');
const { PlainJournal } = require('./support/plain-journal');

const settled = () => new Promise((resolve) => setImmediate(resolve));

let count = 0;
/** What the page says of a message in a chat. */
function heard(chat, body, more = {}) {
    count += 1;
    const id = { fromMe: false, remote: chat, id: `M${count}` };
    return describeMessage({ id, from: chat, body, t: 5, type: 'chat', ...more });
}

/** A page that knows numbers; each question waits until it is answered by `answer(id, number)`. */
class Page {
    asked = [];
    #answers = new Map();

    getContactLidAndPhone([id]) {
        this.asked.push(id);
        return new Promise((resolve, reject) => this.#answers.set(id, { resolve, reject }));
    }

    answer(id, number) {
        this.#answers.get(id).resolve([number === null ? {} : { lid: id, pn: `${number}@c.us` }]);
        return settled();
    }

    fail(id) {
        this.#answers.get(id).reject(new Error('no answer'));
        return settled();
    }
}

function begin({ ignore = ['status'], handOn } = {}) {
    const page = new Page();
    const journal = new PlainJournal();
    const handedOn = [];
    const logged = [];
    const log = {
        warning: (text, fields) => logged.push([text, fields]),
        error: (text, fields) => logged.push([text, fields]),
    };
    const incoming = new Incoming({
        identity: { user: '2', port: 5002 },
        journal,
        ignore,
        handOn: handOn ?? ((entry) => handedOn.push(entry)),
        log,
    });
    const say = async (from, body, more = {}) => {
        incoming.take(heard(from, body, more), page);
        await settled();
    };
    const told = () => handedOn.map(({ event: { body, phone } }) => `${body} ${phone}`);
    const written = () => journal.entries.map(({ event: { body, phone } }) => `${body} ${phone}`);
    return { page, journal, incoming, handedOn, logged, say, told, written };
}

describe('an event', () => {
    it('is written with whose server it is, and handed on as it stands in the journal', async () => {
        const { say, handedOn, journal } = begin();
        await say('120@g.us', 'hi', { author: '55119999@c.us' });
        const [{ cursor, at, event }] = handedOn;
        const { from, phone, body, user_id: user, port } = event;
        assert.deepEqual([from, phone, body, user, port], ['120@g.us', '55119999', 'hi', '2', 5002]);
        assert.deepEqual([cursor, at, event], ['1-0', 7, journal.entries[0].event]);
    });

    it('is in the journal before anything is asked about it', async () => {
        const { page, incoming, say, written, told, journal, handedOn } = begin();
        await say('77@lid', 'one');
        assert.deepEqual([written(), told()], [['one null'], []]);
        await page.answer('77@lid', '551199');
        const [, members] = journal.amended[0];
        assert.deepEqual(members, { phone: '551199', sender: { ...members.sender, phone: '551199' } });
        assert.deepEqual(handedOn[0].event, { ...journal.entries[0].event, ...members });
        const entry = await incoming.take(heard('55119999@c.us', 'two'), page);
        assert.equal(entry.event.body, 'two');
    });

    it('that is in the journal already is neither handed on nor looked into again', async () => {
        const { page, incoming, journal, told } = begin();
        const event = heard('55119999@c.us', 'one');
        await incoming.take(event, page);
        const again = await incoming.take({ ...event, recovered: true }, page);
        assert.deepEqual([again.isNew, again.event.recovered, told().length], [false, false, 1]);
        const hidden = heard('77@lid', 'two');
        for (let times = 0; times < 2; times += 1) incoming.take(hidden, page);
        await page.answer('77@lid', '551199');
        await settled();
        assert.deepEqual([told(), journal.amended.length], [['one 55119999', 'two 551199'], 1]);
    });

    it('is not lost where its sender has no id', async () => {
        const { say, told } = begin();
        await say(undefined, 'hello');
        assert.deepEqual(told(), ['hello null']);
    });

    it('of chats that are left out is not written either', async () => {
        const CHATS = {
            groups: '120@g.us',
            channels: '120@newsletter',
            status: 'status@broadcast',
            broadcasts: '17@broadcast',
        };
        for (const [word, chat] of Object.entries(CHATS)) {
            const { incoming, page, written, say } = begin({ ignore: [word] });
            const left = heard(chat, 'left out', { author: '55119999@c.us' });
            assert.equal(await incoming.take(left, page), null);
            for (const other of [...Object.values(CHATS), '55119999@c.us']) {
                if (other !== chat) await say(other, 'words');
            }
            assert.equal(written().length, 4, word);
            assert.ok(!written().includes('left out'));
        }
        const { incoming, journal } = begin({ ignore: Object.keys(CHATS) });
        await incoming.take({ event: 'session', event_id: '1', session: { state: 'ready' } }, null);
        assert.equal(journal.entries.length, 1, 'the session has no chat');
    });

    it('has the name of its chat, and the number of its sender, where an earlier one had them', async () => {
        const { incoming, page, say, handedOn } = begin();
        const waportd = { chat: 'Family', people: { '77@lid': { phone: '551199' } } };
        await say('120@g.us', 'one', { author: '77@lid', waportd });
        const key = { fromMe: false, remote: '120@g.us', id: 'R' };
        const reaction = describeReaction({ id: key, msgId: key, senderId: '77@lid', reaction: '👍' });
        await incoming.take(reaction, page);
        const { chat, sender } = handedOn.at(-1).event;
        assert.deepEqual([chat.name, sender.phone, page.asked], ['Family', '551199', []]);
    });

    it('that cannot be written or handed on is said, and holds up no other', async () => {
        const handedOn = [];
        const handOn = ({ event: { body } }) => {
            if (body === 'one') throw new Error('full');
            handedOn.push(body);
        };
        const { incoming, journal, logged, say } = begin({ handOn });
        for (const body of ['one', 'two']) await say('55119999@c.us', body);
        assert.deepEqual([handedOn, logged.map(([text]) => text)], [['two'], ['an event is not handed on']]);
        journal.append = async () => {
            throw new Error('a fault');
        };
        assert.equal(await incoming.take(heard('55119999@c.us', 'three'), null), null);
    });

    it('names the number of a sender, not the digits of another id', async () => {
        const { page, say, told } = begin();
        await say('77@lid', 'one');
        await say('78@lid', 'two');
        await say('79@lid', 'three');
        await page.answer('77@lid', '551199');
        await page.answer('78@lid', null);
        await page.fail('79@lid');
        assert.deepEqual(told(), ['one 551199', 'two null', 'three null']);
    });
});

describe('the number of a sender', () => {
    it('holds up no other chat, and the order within one stays', async () => {
        const { page, say, told } = begin();
        await say('1@g.us', 'first', { author: '77@lid' });
        await say('1@g.us', 'second', { author: '551299@c.us' });
        await say('2@g.us', 'elsewhere', { author: '551399@c.us' });
        assert.deepEqual(told(), ['elsewhere 551399']);
        await page.answer('77@lid', '551199');
        assert.deepEqual(told(), ['elsewhere 551399', 'first 551199', 'second 551299']);
    });

    it('is asked for once by messages that come together, and known for an hour', async (t) => {
        let now = 0;
        t.mock.method(performance, 'now', () => now);
        const { page, say, told } = begin();
        await say('77@lid', 'one');
        await say('77@lid', 'two');
        await say('9@g.us', 'three', { author: '77@lid' });
        assert.deepEqual(page.asked, ['77@lid']);
        await page.answer('77@lid', '551199');
        now += 3_599_000;
        await say('77@lid', 'four');
        assert.deepEqual(page.asked, ['77@lid']);
        assert.equal(told().length, 4);
        assert.ok(told().every((each) => each.endsWith(' 551199')));
        now += 2_000;
        await say('77@lid', 'five');
        assert.equal(page.asked.length, 2);
    });

    it('that WhatsApp does not give is asked for again after a minute', async (t) => {
        let now = 0;
        t.mock.method(performance, 'now', () => now);
        const { page, say } = begin();
        await say('77@lid', 'one');
        await page.answer('77@lid', null);
        now += 59_000;
        await say('77@lid', 'two');
        assert.equal(page.asked.length, 1);
        now += 2_000;
        await say('77@lid', 'three');
        assert.equal(page.asked.length, 2);
    });

    it('is asked for of at most four senders at once', async () => {
        const { page, say, told } = begin();
        for (let number = 1; number <= 6; number += 1) await say(`${number}@lid`, `m${number}`);
        assert.equal(page.asked.length, 4);
        await page.answer('1@lid', '551111');
        assert.equal(page.asked.length, 5);
        await page.fail('2@lid');
        assert.equal(page.asked.length, 6);
        for (let number = 3; number <= 6; number += 1) await page.answer(`${number}@lid`, `${number}`);
        assert.equal(told().length, 6);
    });

    it('is waited for by forty senders at most; messages of others continue, and that is said', async () => {
        const { page, say, told, logged, incoming } = begin();
        for (let number = 1; number <= 44; number += 1) await say(`${number}@lid`, `m${number}`);
        assert.deepEqual(told(), []);
        await say('45@lid', 'one');
        await say('46@lid', 'two');
        await say('44@lid', 'waits for what is asked for already');
        assert.deepEqual(told(), ['one null', 'two null']);
        assert.deepEqual(logged.splice(0), [
            ["too many new senders at once: messages continue without the sender's number", { waiting: 40 }],
        ]);
        for (let number = 1; number <= 44; number += 1) await page.answer(`${number}@lid`, `5511${number}`);
        assert.equal(told().length, 47);
        assert.deepEqual(logged.splice(0), [['senders not looked up', { messages: 2 }]], 'no id, no text');
        await say('45@lid', 'again');
        await page.answer('45@lid', '551145');
        assert.equal(told().at(-1), 'again 551145', 'the next time it is asked for');
        incoming.close();
        assert.deepEqual(logged, []);
    });

    it('is known of the last thousand senders only', async () => {
        const { page, say } = begin();
        for (let number = 0; number <= 1000; number += 1) {
            await say(`${number}@lid`, 'hello');
            await page.answer(`${number}@lid`, '551199');
        }
        await say('1000@lid', 'known');
        assert.equal(page.asked.length, 1001);
        await say('0@lid', 'forgotten');
        assert.equal(page.asked.length, 1002);
    });
});

describe('the end', () => {
    it('waits for numbers that are being asked for', async () => {
        const { page, incoming, say, told, logged } = begin();
        await say('77@lid', 'last words');
        const ended = incoming.settle();
        await page.answer('77@lid', '551199');
        await ended;
        incoming.close();
        assert.deepEqual(told(), ['last words 551199']);
        assert.deepEqual(logged, []);
    });

    it('does not wait for ever: what is not complete is in the journal as it is', async () => {
        const { page, incoming, journal, say, told, written } = begin();
        await say('77@lid', 'one');
        await say('77@lid', 'two');
        await incoming.settle();
        incoming.close();
        await page.answer('77@lid', '551199');
        assert.deepEqual([written(), told(), journal.amended], [['one null', 'two null'], [], []]);
        await say('55119999@c.us', 'too late');
        assert.equal(written().length, 2);
    });
});

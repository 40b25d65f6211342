'use strict';

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const chats = require('../../server/chats');
const chatsPage = require('../../server/chats_page');
const { BusyError, Turns } = require('../../server/turns');
const { Collection, inPage, pageOf, wid } = require('./support/page');
const { within } = require('./support/process');

/** A client whose page has these messages, and these functions of the page. */
function clientOn(window) {
    const run =
        (name) =>
        async (...args) =>
            inPage(window, chatsPage[name], ...args);
    return {
        turns: new Turns(),
        listChats: run('listChats'),
        readChat: run('readChat'),
        readHistory: run('readHistory'),
    };
}

const message = (n, t) => ({
    id: { _serialized: `false_1@c.us_${n}`, id: `${n}`, remote: wid('1@c.us'), fromMe: false },
    body: `message ${n}`,
    from: '1@c.us',
    t,
    timestamp: t,
    type: 'chat',
});

/** A page with one chat, of which the newest messages are loaded, and ten more at a time. */
function pageWith(all, more = {}) {
    const rest = [...all];
    const msgs = new Collection(rest.splice(-10));
    const loadEarlierMsgs = async ({ chat }) => {
        const loaded = rest.splice(-10);
        for (const each of loaded) chat.msgs.add(each);
        return loaded;
    };
    const chat = { id: wid('1@c.us'), msgs, ...more };
    return pageOf({ Chat: new Collection([chat]) }, { WAWebChatLoadMessages: { loadEarlierMsgs } });
}

/** A chat of `count` messages, one a second. */
function clientWith(count) {
    const all = Array.from({ length: count }, (_, n) => message(n, 1000 + n));
    return Object.assign(clientOn(pageWith(all)), { all });
}

describe('messages of a chat', () => {
    it('come in pages, oldest first, that follow each other without gap or repetition', async () => {
        const client = clientWith(250);
        const seen = [];
        let before = null;
        do {
            const page = await chats.listMessages(client, '1@c.us', { limit: '100', before });
            seen.unshift(...page.messages.map(({ body }) => body));
            assert.equal(page.hasMore, page.nextCursor !== null);
            before = page.nextCursor;
        } while (before !== null);
        assert.deepEqual(
            seen,
            client.all.map(({ body }) => body),
        );
    });

    it('can be asked for by time, in milliseconds', async () => {
        const { messages } = await chats.listMessages(clientWith(10), '1@c.us', {
            limit: '2',
            before: '1005000',
        });
        assert.deepEqual(
            messages.map(({ timestamp }) => timestamp),
            [1_003_000, 1_004_000],
        );
    });

    it('are 100 by default and 1000 at most', async () => {
        const client = clientWith(1500);
        const size = async (limit) =>
            (await chats.listMessages(client, '1@c.us', { limit, before: null })).total;
        assert.deepEqual([await size(null), await size('5000'), await size('1')], [100, 1000, 1]);
        for (const limit of ['0', '-1', 'x', '1.5']) await assert.rejects(size(limit), { status: 400 });
    });

    it('of one second are all listed, once, however they came into the page', async () => {
        // The page has loaded the last ten first, in the middle of a second.
        for (const each of [3, 7, 15, 40]) {
            const all = Array.from({ length: 40 }, (_, n) => message(n, 1000 + Math.floor(n / each)));
            for (const limit of ['1', '2', '9', '10', '11']) {
                const client = clientOn(pageWith(all));
                const seen = [];
                for (let before = null, more = true; more;) {
                    const page = await chats.listMessages(client, '1@c.us', { limit, before });
                    seen.unshift(...page.messages);
                    before = page.nextCursor;
                    more = page.hasMore;
                }
                const bodies = seen.map(({ body }) => body);
                const times = seen.map(({ timestamp }) => timestamp);
                assert.deepEqual([...bodies].sort(), all.map(({ body }) => body).sort(), `${each} ${limit}`);
                assert.deepEqual(times, [...times].sort(), `${each} ${limit}`);
            }
        }
    });

    it('say whether the phone has earlier ones', async () => {
        const told = async (endOfHistoryTransferType) => {
            const client = clientOn(pageWith([message(1, 1)], { endOfHistoryTransferType }));
            return (await chats.listMessages(client, '1@c.us', { limit: '5', before: null })).hasEarlier;
        };
        const all = [0, 1, 2, 3, 4, 5, undefined];
        assert.deepEqual(await Promise.all(all.map(told)), [true, false, null, null, true, false, null]);
    });

    it('are there though one of them cannot be read in full', async () => {
        const window = pageWith([message(1, 1), message(2, 2)]);
        window.WWebJS.getMessageModel = (each) => {
            if (each.body === 'message 1') throw new TypeError('r');
            return each;
        };
        const { messages } = await chats.listMessages(clientOn(window), '1@c.us', {
            limit: null,
            before: null,
        });
        assert.deepEqual(
            messages.map(({ id, body, from, type }) => [id, body, from, type]),
            [
                ['false_1@c.us_1', '', '1@c.us', 'chat'],
                ['false_1@c.us_2', 'message 2', '1@c.us', 'chat'],
            ],
        );
    });

    it('of a chat or cursor that does not exist are refused', async () => {
        const page = { limit: null, before: null };
        await assert.rejects(chats.listMessages(clientWith(1), '2@c.us', page), { status: 404 });
        await assert.rejects(chats.listMessages(clientWith(1), '../etc', page), { status: 400 });
        await assert.rejects(chats.listMessages(clientWith(1), '1@c.us', { ...page, before: 'none' }), {
            status: 400,
        });
    });
});

describe('earlier messages', () => {
    const clientThat = (asked, loads) => ({
        turns: new Turns(),
        requests: new Turns(),
        askForEarlier: async () => asked,
        loadEarlier: async () => loads.shift() ?? { arrived: 0, hasEarlier: true },
    });

    it('are waited for, a while', { timeout: 30_000 }, async () => {
        const asked = { asked: true, hasEarlier: true };
        const late = clientThat(asked, [
            { arrived: 0, hasEarlier: true },
            { arrived: 7, hasEarlier: false },
        ]);
        assert.deepEqual(await chats.askForEarlier(late, '1@c.us'), {
            requested: true,
            arrived: 7,
            hasEarlier: false,
        });
        const began = performance.now();
        assert.deepEqual(await chats.askForEarlier(clientThat(asked, []), '1@c.us'), {
            requested: true,
            arrived: 0,
            hasEarlier: true,
        });
        assert.ok(performance.now() - began < 9_000, 'a phone that is off keeps nobody waiting for ever');
    });

    it('are not asked for where the phone has none, or there is no such chat', async () => {
        const none = clientThat({ asked: false, hasEarlier: false }, []);
        const told = await chats.askForEarlier(none, '1@c.us');
        assert.deepEqual(told, { requested: false, arrived: 0, hasEarlier: false });
        await assert.rejects(chats.askForEarlier(clientThat(null, []), '1@c.us'), { status: 404 });
    });
});

describe('chats', () => {
    /** A page with these chats; `stamp` says which state of them it shows, and `asked` counts its lists. */
    const clientOf = (all) => {
        const client = { asked: 0, stamp: 'a', turns: new Turns() };
        client.listChats = async (known) => {
            await new Promise((resolve) => setImmediate(resolve));
            if (known === client.stamp) return { stamp: known, chats: null };
            client.asked += 1;
            return { stamp: client.stamp, chats: all };
        };
        client.readChat = async (id) => all.find((each) => each.id === id) ?? null;
        return client;
    };
    const usual = { isGroup: false, lastMessage: '', pinned: false, isArchived: false };
    const chat = (id, more) => ({ ...usual, id, ...more });

    it('have a text for the number and a number for the time, always', async () => {
        const client = clientOf([
            chat('5511@c.us', { name: 'Ana', t: 5 }),
            chat('77@lid', { phone: '5512' }),
            chat('78@lid'),
            chat('12-34@g.us', { isGroup: true, lastMessage: null }),
        ]);
        const { chats: list, total } = await chats.listChats(client, { limit: null, offset: null });
        assert.equal(total, 4);
        assert.deepEqual(
            list.map(({ name, phone, timestamp, lastMessage }) => [name, phone, timestamp, lastMessage]),
            [
                ['Ana', '5511', 5000, ''],
                ['77', '5512', 0, ''],
                ['78', '', 0, ''],
                ['12-34', '1234', 0, null],
            ],
        );
    });

    it('come in pages, all by default', async () => {
        const client = clientOf(Array.from({ length: 10 }, (_, n) => chat(`${n}@c.us`)));
        const list = async (limit, offset) => {
            const answer = await chats.listChats(client, { limit, offset });
            return answer.chats.map(({ id }) => id.split('@')[0]).join('');
        };
        assert.equal(await list(null, null), '0123456789');
        assert.equal(await list('3', '4'), '456');
        assert.equal(await list('3', '9'), '9');
        for (const bad of [
            ['0', '0'],
            ['x', '0'],
            ['1', '-1'],
            ['1.5', '0'],
        ]) {
            await assert.rejects(list(...bad), { status: 400 });
        }
    });

    it('are listed once for everybody who asks at the same time, and one list at a time', async () => {
        const client = clientOf([chat('1@c.us')]);
        const ask = (limit) => chats.listChats(client, { limit, offset: null });
        const answers = await Promise.all([ask(null), ask(null), ask('5'), ask(null)]);
        assert.deepEqual(answers[0], answers[1]);
        assert.equal(client.asked, 1);
    });

    it('are listed again only where something has changed, or half a minute has passed', async (t) => {
        const timers = [];
        t.mock.method(globalThis, 'setTimeout', (work, ms) => {
            timers.push({ work, ms });
            return { unref() {} };
        });
        const all = [chat('1@c.us', { name: 'Ana' })];
        const client = clientOf(all);
        const names = async () => {
            const { chats: list } = await chats.listChats(client, { limit: null, offset: null });
            return list.map(({ name }) => name);
        };
        assert.deepEqual(await names(), ['Ana']);
        await names();
        assert.equal(client.asked, 1, 'the second answer is from memory');
        all[0] = chat('1@c.us', { name: 'Bia' });
        client.stamp = 'b';
        assert.deepEqual(await names(), ['Bia']);
        await names();
        assert.equal(client.asked, 2);
        assert.deepEqual(
            timers.map(({ ms }) => ms),
            [30_000, 30_000],
        );
        timers[0].work();
        await names();
        assert.equal(client.asked, 2, 'the time of the first list is over, not that of the second');
        timers[1].work();
        await names();
        assert.equal(client.asked, 3);
    });

    it('are handed out one at a time, as in the list', async () => {
        const client = clientOf([chat('1@c.us', { name: 'Ana' })]);
        const [listed] = (await chats.listChats(client, { limit: null, offset: null })).chats;
        assert.deepEqual(await chats.readChat(client, '1@c.us'), listed);
        await assert.rejects(chats.readChat(client, '2@c.us'), { status: 404 });
        await assert.rejects(chats.readChat(client, 'Ana'), { status: 400 });
    });
});

describe('turns', () => {
    it('do one work after the other, whatever happens to it', async () => {
        const turns = new Turns();
        const order = [];
        const work = (name, fails) => async () => {
            order.push(`${name} begins`);
            await new Promise((resolve) => setImmediate(resolve));
            order.push(`${name} ends`);
            if (fails) throw new Error(name);
            return name;
        };
        const first = turns.take('a', work('a', true));
        const second = turns.take('b', work('b'));
        assert.ok(turns.busy);
        await assert.rejects(first, /a/);
        assert.equal(await second, 'b');
        assert.deepEqual(order, ['a begins', 'a ends', 'b begins', 'b ends']);
        assert.equal(turns.busy, false);
    });

    it('continue when one never ends, where they have a limit', async () => {
        const turns = new Turns(20);
        const endless = turns.take('a', () => new Promise(() => {}));
        const next = turns.take('b', async () => 'b');
        await assert.rejects(endless, { name: 'TimeLimitError' });
        assert.equal(await within(next, 'the next turn', 1000), 'b');
        assert.equal(turns.busy, false);
    });

    it('are refused when too many wait', async () => {
        const turns = new Turns();
        let finish;
        const open = new Promise((resolve) => {
            finish = resolve;
        });
        const taken = Array.from({ length: 16 }, (_, n) => turns.take(`${n}`, () => open));
        await assert.rejects(
            turns.take('one more', () => open),
            BusyError,
        );
        assert.ok(turns.take('0', () => assert.fail('it runs already')));
        finish();
        await Promise.all(taken);
    });
});

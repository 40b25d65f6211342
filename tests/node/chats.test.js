'use strict';

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const chats = require('../../server/chats');
const { BusyError, Turns } = require('../../server/turns');
const { within } = require('./support/process');

/** A chat of `count` messages, one a second, of which the library gives the newest. */
function clientWith(count) {
    const all = Array.from({ length: count }, (_, n) => ({
        id: { _serialized: `false_1@c.us_${n}` },
        body: `message ${n}`,
        from: '1@c.us',
        timestamp: 1000 + n,
        type: 'chat',
    }));
    const asked = [];
    const chat = {
        async fetchMessages({ limit }) {
            asked.push(limit);
            return all.slice(-limit);
        },
    };
    return {
        asked,
        all,
        turns: new Turns(),
        findChat: async (id) => (id === '1@c.us' ? id : null),
        getChatById: async () => chat,
    };
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

    it('of a chat or cursor that does not exist are refused', async () => {
        const page = { limit: null, before: null };
        await assert.rejects(chats.listMessages(clientWith(1), '2@c.us', page), { status: 404 });
        await assert.rejects(chats.listMessages(clientWith(1), '../etc', page), { status: 400 });
        await assert.rejects(chats.listMessages(clientWith(1), '1@c.us', { ...page, before: 'none' }), {
            status: 400,
        });
    });
});

describe('media', () => {
    const clientThat = (getMessageById) => ({ downloads: new Turns(), getMessageById });
    const client = (media) => clientThat(async () => ({ downloadMedia: async () => media }));
    const read = (media) => chats.readMedia(client(media), 'id');

    it('is never run by the browser that shows it', async () => {
        const data = Buffer.from('<script>').toString('base64');
        for (const mimetype of ['text/html', 'image/svg+xml', 'nonsense', undefined, 'text/html\r\nX: y']) {
            const { headers } = await read({ mimetype, data, filename: 'a"\r\nb.html' });
            assert.match(headers['Content-Disposition'], /^attachment; filename\*=UTF-8''[A-Za-z0-9%._-]+$/);
            assert.match(headers['Content-Security-Policy'], /sandbox/);
            assert.match(headers['Content-Type'], /^[\w.+/-]+$/);
        }
        const { headers, bytes } = await read({ mimetype: 'image/png', data });
        assert.equal(headers['Content-Disposition'], 'inline');
        assert.equal(bytes.toString(), '<script>');
    });

    it('that is not there is 404', async () => {
        await assert.rejects(read(undefined), { status: 404 });
        await assert.rejects(chats.readMedia(clientThat(async () => null), 'id'), { status: 404 });
        const failing = clientThat(async () => {
            throw new Error('Invalid serialized message id specified');
        });
        await assert.rejects(chats.readMedia(failing, 'id'), { status: 404 });
    });
});

describe('sending', () => {
    it('takes phone numbers as people write them, and ids of chats', () => {
        assert.equal(chats.recipient('+55 (11) 99999-8888'), '5511999998888@c.us');
        assert.equal(chats.recipient(5511999998888), '5511999998888@c.us');
        assert.equal(chats.recipient('120363000000000001@g.us'), '120363000000000001@g.us');
        for (const phone of ['', 'Ana', '12', "1'2@c.us"])
            assert.throws(() => chats.recipient(phone), { status: 400 });
    });

    it('looks a number up when WhatsApp knows it by another id', async () => {
        const sent = [];
        const client = {
            async sendMessage(id) {
                sent.push(id);
                if (id.endsWith('@c.us')) throw new Error('No LID for user');
                return { id: { _serialized: 'true_x' } };
            },
            getNumberId: async () => ({ _serialized: '77@lid' }),
            findSent: async () => [],
        };
        assert.equal(await chats.sendText(client, '1@c.us', 'x'), 'true_x');
        assert.deepEqual(sent, ['1@c.us', '77@lid']);
        client.getNumberId = async () => null;
        await assert.rejects(chats.sendText(client, '1@c.us', 'x'), /not on WhatsApp/);
    });
});

describe('what becomes of a text', () => {
    const clientThat = (sendMessage, findSent = async () => []) => ({ sendMessage, findSent });
    /** A page that shows a message from the second look on: the first is before it is handed over. */
    const showing = (...ids) => {
        let looks = 0;
        return async () => (looks++ === 0 ? [] : ids);
    };
    const send = (...client) => chats.sendText(clientThat(...client), '1@c.us', 'x');

    it('is told by its id, whatever the library returns', async () => {
        assert.equal(await send(async () => ({ id: { _serialized: 'true_1' } })), 'true_1');
        const asked = [];
        const page = showing('true_1@c.us_A');
        const find = (...what) => {
            asked.push(what);
            return page();
        };
        assert.equal(await send(async () => undefined, find), 'true_1@c.us_A');
        const [[chat, text, since]] = asked;
        assert.deepEqual([chat, text], ['1@c.us', 'x']);
        assert.ok(Math.abs(Date.now() / 1000 - since) < 5);
        const late = async () => {
            throw new Error('r');
        };
        const shown = showing('true_1@c.us_A');
        assert.equal(await send(late, shown), 'true_1@c.us_A', 'it failed after it was handed over');
    });

    it('is not known where nobody tells', async () => {
        const fail = (text) => async () => {
            throw new Error(text);
        };
        const perhaps = { cause: 'perhaps_sent' };
        await assert.rejects(
            send(async () => undefined),
            perhaps,
        );
        for (const words of [
            'Execution context was destroyed',
            'Protocol error: Connection closed.',
            'Target closed',
            'Session closed',
            'Page crashed!',
            'Protocol error (Runtime.callFunctionOn): Target crashed',
            'Cannot find context with specified id',
            'another document is loaded',
            'Attempted to use detached Frame',
        ]) {
            await assert.rejects(send(fail(words)), perhaps, words);
        }
        await assert.rejects(send(fail('r'), fail('the page is gone')), perhaps);
        await assert.rejects(send(fail('a fault before it was sent')), /a fault before/);
    });

    it('needs no preview of a link while the page cannot make one', async () => {
        const asked = [];
        const client = clientThat(async (chat, text, options) => {
            asked.push(options.linkPreview);
            if (options.linkPreview !== false) throw new Error('Requiring unknown module "WAWebLinkPreview"');
            return { id: 'true_2' };
        });
        assert.equal(await chats.sendText(client, '1@c.us', 'https://x.example'), 'true_2');
        assert.deepEqual(asked, [undefined, false]);
    });

    it('is handed over once where the page took it and then lacked a part', async () => {
        for (const words of ['unresolved dependencies: WAWebX', 'No LID for user']) {
            let times = 0;
            const late = async () => {
                times += 1;
                throw new Error(words);
            };
            assert.equal(await send(late, showing('true_1@c.us_A')), 'true_1@c.us_A');
            assert.equal(times, 1, words);
            const blind = () => Promise.reject(new Error('the page does not tell'));
            await assert.rejects(send(late, blind), { cause: 'perhaps_sent' });
            assert.equal(times, 2, words);
        }
    });

    it('is not told by the id of an equal one', async () => {
        const old = async () => ['true_1@c.us_A'];
        const fails = async () => {
            throw new Error('a fault before it was sent');
        };
        await assert.rejects(send(fails, old), /a fault before/, 'one that was there before');

        const shown = [];
        const show = async () => [...shown];
        let times = 0;
        const oneOfTwo = (hold) => async () => {
            times += 1;
            if (times > 1) return hold.then(fails);
            shown.push('true_1@c.us_B');
            return { id: 'true_1@c.us_B' };
        };
        const client = clientThat(oneOfTwo(new Promise((resolve) => setImmediate(resolve))), show);
        const both = [1, 2].map(() => chats.sendText(client, '1@c.us', 'x'));
        assert.equal(await both[0], 'true_1@c.us_B');
        await assert.rejects(both[1], /a fault before/, 'one that was sent meanwhile');
    });

    it('is not known while an equal one is under way whose id is not known', async () => {
        const shown = [];
        let finish;
        let times = 0;
        const client = clientThat(
            async () => {
                times += 1;
                if (times > 1) throw new Error('r');
                shown.push('true_1@c.us_A');
                return new Promise((resolve) => {
                    finish = resolve;
                });
            },
            async () => [...shown],
        );
        const both = [1, 2].map(() => chats.sendText(client, '1@c.us', 'x'));
        await assert.rejects(both[1], { cause: 'perhaps_sent' });
        finish(undefined);
        await assert.rejects(both[0], { cause: 'perhaps_sent' });
    });
});

describe('ids', () => {
    it('are found in every shape that pages have given them', () => {
        const key = { fromMe: false, remote: '1@c.us', id: 'A' };
        const shapes = [
            'false_1@c.us_A',
            { ...key, _serialized: 'false_1@c.us_A' },
            { ...key, $1: 'false_1@c.us_A' },
            { ...key, $q: 'false_1@c.us_A', self: 'in' },
            { ...key, remote: { user: '1', server: 'c.us' } },
            { ...key, remote: { _serialized: '1@c.us' } },
        ];
        for (const shape of shapes) assert.equal(chats.serialized(shape), 'false_1@c.us_A');
        const group = { fromMe: true, remote: '1@g.us', id: 'A', participant: { _serialized: '2@lid' } };
        assert.equal(chats.serialized(group), 'true_1@g.us_A_2@lid');
        assert.equal(chats.serialized({ ...group, $1: 'true_1@g.us_A_2:3@lid' }), 'true_1@g.us_A_2:3@lid');
        assert.equal(chats.serialized({ user: '7', server: 'lid', device: 0 }), '7@lid');
        for (const none of [undefined, null, 7, {}, { id: 'A' }]) assert.equal(chats.serialized(none), null);
    });
});

describe('chats', () => {
    const clientOf = (all) => {
        const asked = [];
        const listChats = async (limit, offset) => {
            asked.push([limit, offset]);
            await new Promise((resolve) => setImmediate(resolve));
            return { chats: all.slice(offset, offset + limit), total: all.length };
        };
        return { asked, turns: new Turns(), listChats };
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
        for (const bad of [['0', '0'], ['x', '0'], ['1', '-1'], ['1.5', '0']]) {
            await assert.rejects(list(...bad), { status: 400 });
        }
    });

    it('are listed once for everybody who asks at the same time, and one list at a time', async () => {
        const client = clientOf([chat('1@c.us')]);
        const ask = (limit) => chats.listChats(client, { limit, offset: null });
        const answers = await Promise.all([ask(null), ask(null), ask('5'), ask(null)]);
        assert.deepEqual(answers[0], answers[1]);
        assert.equal(client.asked.length, 2);
        await ask(null);
        assert.equal(client.asked.length, 3, 'and anew for who asks later');
    });
});

describe('turns', () => {
    it('do one work after the other, whatever becomes of it', async () => {
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

    it('go on when one never ends, where they have a limit', async () => {
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
        await assert.rejects(turns.take('one more', () => open), BusyError);
        assert.ok(turns.take('0', () => assert.fail('it runs already')));
        finish();
        await Promise.all(taken);
    });
});

describe('what is handed to the web app', () => {
    const identity = { user: '2', port: 5002 };

    it('is what somebody wrote, with the sender of a group message', async () => {
        const message = { from: '120@g.us', author: '5511@c.us', body: 'hi', timestamp: 5, type: 'chat' };
        assert.deepEqual(await chats.describeIncoming(message, identity), {
            from: '120@g.us',
            phone: '5511',
            body: 'hi',
            message: 'hi',
            timestamp: 5000,
            user_id: '2',
            port: 5002,
        });
    });

    it('loses no message whose sender has no id', async () => {
        const nameless = await chats.describeIncoming({ type: 'chat', body: 'hello', client: {} }, identity);
        assert.deepEqual([nameless.body, nameless.phone], ['hello', null]);
    });

    it('names the number of a sender, not the digits of another id', async () => {
        const phoneOf = async (getContactLidAndPhone) => {
            const message = { from: '77@lid', type: 'chat', client: { getContactLidAndPhone } };
            const { from, phone } = await chats.describeIncoming(message, identity);
            return [from, phone];
        };
        assert.deepEqual(await phoneOf(async () => [{ lid: '77@lid', pn: '5511@c.us' }]), ['77@lid', '5511']);
        assert.deepEqual(await phoneOf(async () => [{}]), ['77@lid', null]);
        assert.deepEqual(await phoneOf(() => Promise.reject(new Error('no answer'))), ['77@lid', null]);
    });

    it('is neither status updates nor notices of WhatsApp', async () => {
        assert.equal(await chats.describeIncoming({ isStatus: true, type: 'chat' }, identity), null);
        assert.equal(await chats.describeIncoming({ type: 'e2e_notification' }, identity), null);
    });
});

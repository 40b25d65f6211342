'use strict';

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const chats = require('../../server/chats');

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
    return { asked, all, getChatById: async (id) => (id === '1@c.us' ? chat : undefined) };
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
    const client = (media) => ({ getMessageById: async () => ({ downloadMedia: async () => media }) });
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
        await assert.rejects(chats.readMedia({ getMessageById: async () => null }, 'id'), { status: 404 });
        const failing = {
            async getMessageById() {
                throw new Error('Invalid serialized message id specified');
            },
        };
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
        };
        assert.equal(await chats.sendText(client, '1@c.us', 'x'), 'true_x');
        assert.deepEqual(sent, ['1@c.us', '77@lid']);
        client.getNumberId = async () => null;
        await assert.rejects(chats.sendText(client, '1@c.us', 'x'), /not on WhatsApp/);
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

'use strict';

/** Calls that send, and what they hand to the page: an object in its place. */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { describe, it } = require('node:test');
const { setTimeout: wait } = require('node:timers/promises');

const { SessionError } = require('../../server/errors');
const { HttpServer } = require('../../server/http');
const { createRoutes } = require('../../server/routes');
const { addSendRoutes } = require('../../server/send_routes');
const { Sending } = require('../../server/sending');
const { Sends } = require('../../server/sends');
const { Spool } = require('../../server/spool');
const { SessionState } = require('../../server/state');
const { freePort, request, scratch, whenFound } = require('./support/process');

const log = { error() {}, warning() {}, info() {}, debug() {} };
const TO = '5511988887777';
const CHAT = `${TO}@c.us`;
const ID = `true_${CHAT}_A`;

/** A server before a page that keeps what it gets; `page` may do something else. */
async function serve(t, { page = {}, country = null, use, most = 1000, isLinked = true, ...config } = {}) {
    const told = [];
    const client = {
        prepareSend: async ({ likely }) => ({ chat: likely[0], id: ID }),
        async handOver(where, what, file) {
            told.push({ ...where, ...what, ...(file && { bytes: fs.readFileSync(file, 'utf8') }) });
            return { id: ID, ack: 1, type: 'chat' };
        },
        awaitAck: async (id) => ({ id, ack: 1 }),
        ...page,
    };
    const directory = scratch(t);
    const state = new SessionState({ port: 5002, user: '2', attempts: 5 });
    state.update({ linked: isLinked });
    const session = { use: use ?? ((work, limit) => work(client, limit)) };
    const sends = new Sends({ directory: path.join(directory, 'messages'), log });
    const spool = new Spool({ directory: path.join(directory, 'sending'), most });
    const sending = new Sending({ session, sends, spool, log, rate: 0, mediaFromPrivate: false, ...config });
    const routes = createRoutes({
        state,
        session,
        events: null,
        addRest: (tools) =>
            addSendRoutes({ ...tools, sending, spool, country, isLinked: () => state.document().linked }),
    });
    const server = new HttpServer({ routes, log, judge: async () => null });
    const port = await freePort();
    await server.listen({ host: '127.0.0.1', port });
    t.after(() => server.close());
    const call = (method, target, body, headers) => request(port, method, target, { body, headers });
    return {
        told,
        port,
        call,
        post: (body, headers) => call('POST', '/messages', body, headers),
        /** What is left of files; those of a call are dropped when its answer is out. */
        async left() {
            await new Promise((resolve) => setTimeout(resolve, 30));
            const folder = path.join(directory, 'sending');
            return fs.existsSync(folder) ? fs.readdirSync(folder) : [];
        },
    };
}

/** A body of multipart/form-data: `[head, text]` of each part. */
function multipart(...parts) {
    const about = 'Content-Disposition: form-data; ';
    const text = parts.map(([head, body]) => `--x7\r\n${about}${head}\r\n\r\n${body}\r\n`);
    const headers = { 'Content-Type': 'multipart/form-data; boundary=x7' };
    return [Buffer.from(`${text.join('')}--x7--\r\n`), headers];
}

const MIB = 1024 * 1024;
const PNG = '\x89PNG\r\n\x1a\n';
const base64 = (text) => Buffer.from(text, 'latin1').toString('base64');

describe('a message', () => {
    const mentionedJidList = [];
    const kinds = [
        [{ text: 'hello' }, { text: 'hello', options: { mentionedJidList, linkPreview: true } }],
        [
            { text: 'hello', link_preview: false },
            { text: 'hello', options: { mentionedJidList } },
        ],
        [
            { text: '@5512', mentions: ['5511977776666', '7@lid'] },
            {
                text: '@5512',
                options: { mentionedJidList: ['5511977776666@c.us', '7@lid'], linkPreview: true },
            },
        ],
        [
            { location: { latitude: -23.5, longitude: -46.6, name: 'Sé', address: 'São Paulo' } },
            {
                text: '',
                options: {
                    location: { latitude: -23.5, longitude: -46.6, description: 'Sé\nSão Paulo' },
                    mentionedJidList,
                },
            },
        ],
        [
            { contact: { name: 'Silva, Davi', phone: '+55 21 3333-4444' } },
            {
                text: '',
                options: { mentionedJidList },
                extra: {
                    type: 'vcard',
                    body:
                        'BEGIN:VCARD\nVERSION:3.0\nN:;Silva\\, Davi;;;\nFN:Silva\\, Davi\n' +
                        'TEL;type=CELL;waid=552133334444:+552133334444\nEND:VCARD',
                    vcardFormattedName: 'Silva, Davi',
                },
            },
        ],
        [
            { poll: { question: 'When?', options: ['now', 'later'], multiple: true } },
            {
                text: '',
                options: {
                    poll: {
                        pollName: 'When?',
                        pollOptions: [
                            { name: 'now', localId: 0 },
                            { name: 'later', localId: 1 },
                        ],
                        options: { allowMultipleAnswers: true },
                    },
                    mentionedJidList,
                },
            },
        ],
        [
            { text: 'yes', quote: `false_${CHAT}_Q` },
            { text: 'yes', quote: `false_${CHAT}_Q`, options: { mentionedJidList, linkPreview: true } },
        ],
    ];
    for (const [message, what] of kinds) {
        it(`is handed to the page: ${JSON.stringify(message).slice(0, 60)}`, async (t) => {
            const { post, told } = await serve(t);
            const { status, json } = await post({ to: TO, ...message, user_id: '2' });
            assert.deepEqual([status, json], [200, { id: ID, outcome: 'sent' }]);
            assert.deepEqual(JSON.parse(JSON.stringify(told)), [{ chat: CHAT, id: ID, ...what }]);
        });
    }

    it('of several contacts is a list of them', async (t) => {
        const { post, told } = await serve(t);
        const vcard = 'BEGIN:VCARD\nVERSION:3.0\nFN:Eva\nEND:VCARD';
        await post({
            to: TO,
            contact: [
                { name: 'Eva', vcard },
                { name: 'Davi', phone: TO },
            ],
        });
        const [{ extra }] = told;
        assert.equal(extra.type, 'multi_vcard');
        assert.deepEqual(extra.vcardList[0], { displayName: 'Eva', vcard });
        assert.equal(extra.vcardList[1].displayName, 'Davi');
    });

    it('with a file comes as parts, as Base64 or by URL', async (t) => {
        const { post, told, left } = await serve(t);
        const [body, headers] = multipart(
            ['name="message"', JSON.stringify({ to: TO, image: { caption: 'look' } })],
            ['name="image"; filename="a.png"\r\nContent-Type: image/png', PNG],
        );
        assert.equal((await post(body, headers)).status, 200);
        const data = base64(PNG);
        await post({ to: TO, sticker: { data } });
        const words = `data:text/plain;base64,${base64('words')}`;
        await post({ to: TO, document: { data: words, name: 'a.txt' } });
        await post({ to: TO, voice: { data, type: 'audio/ogg; codecs=opus' } });
        assert.deepEqual(
            told.map(({ media, options }) => [media, options]),
            [
                [
                    { mimetype: 'image/png', filename: 'a.png' },
                    { caption: 'look', isCaptionByUser: true, mentionedJidList },
                ],
                [
                    { mimetype: 'image/png', filename: 'sticker' },
                    { sendMediaAsSticker: true, mentionedJidList },
                ],
                [
                    { mimetype: 'text/plain', filename: 'a.txt' },
                    { sendMediaAsDocument: true, mentionedJidList },
                ],
                [
                    { mimetype: 'audio/ogg; codecs=opus', filename: 'voice' },
                    { sendAudioAsVoice: true, mentionedJidList },
                ],
            ],
        );
        assert.deepEqual(told.map(({ bytes }) => bytes.slice(-8)).slice(2, 3), ['words']);
        await whenFound(async () => (await left()).length === 0, 'nothing left');

        const url = { to: TO, document: { url: 'http://127.0.0.1:1/a' } };
        const refused = await post(url);
        assert.deepEqual([refused.status, refused.json.code], [422, 'media_refused']);
    });

    it('leaves no file behind, whatever is wrong with it', async (t) => {
        const { post, told, left } = await serve(t, { most: 50 });
        const file = ['name=image; filename=a.png', PNG];
        const message = (more) => ['name=message', JSON.stringify({ to: TO, image: {}, ...more })];
        const wrong = [
            [400, multipart(message({ image: { no: 1 } }), file)],
            [400, multipart(message({ text: 'both' }), file)],
            [409, multipart(message({ user_id: '3' }), file)],
            [400, multipart(file)],
            [400, multipart(message(), file, ['name=video', 'x'])],
            [400, multipart(message(), ['name=other', 'x'])],
            [400, multipart(['name=message', '[]'], file)],
            [400, multipart(['name=message', 'x'], file)],
            [413, multipart(message(), ['name=image', 'x'.repeat(51)])],
            [400, multipart(message(), ['name=image', 'words'])],
            [400, [{ to: TO, image: { file: 'a.png' } }]],
            [400, [{ to: TO, image: { data: '***' } }]],
            [413, [{ to: TO, image: { data: base64('x'.repeat(51)) } }]],
        ];
        for (const [status, [body, headers]] of wrong) {
            const answer = await post(body, headers);
            assert.equal(answer.status, status, `${answer.text} for ${body}`);
        }
        await whenFound(async () => (await left()).length === 0, 'nothing left');
        assert.deepEqual(told, []);
    });

    it('leaves no file behind where the caller goes away', async (t) => {
        const { port, left } = await serve(t);
        const [body, headers] = multipart(
            ['name=image; filename=a.png', PNG],
            ['name=message', JSON.stringify({ to: TO, image: {} })],
        );
        for (const cut of [body.length - 10, body.indexOf('PNG')]) {
            const socket = net.connect(port, '127.0.0.1');
            const head = Object.entries(headers).map((header) => `${header.join(': ')}\r\n`);
            socket.write(`POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n`);
            socket.write(`${head.join('')}\r\n`);
            socket.write(body.subarray(0, cut));
            await new Promise((resolve) => setTimeout(resolve, 50));
            socket.destroy();
            await whenFound(async () => (await left()).length === 0, `nothing left of ${cut} bytes`);
        }
    });

    it('with a file that the page reads keeps it when the caller leaves', { timeout: 10_000 }, async (t) => {
        let done;
        const reading = new Promise((resolve) => {
            done = resolve;
        });
        let begun;
        const isBegun = new Promise((resolve) => {
            begun = resolve;
        });
        const handOver = () => begun() ?? reading;
        const { port, left } = await serve(t, { page: { handOver } });
        const [body, headers] = multipart(
            ['name=message', JSON.stringify({ to: TO, document: {} })],
            ['name=document; filename=a.png', PNG],
        );
        const socket = net.connect(port, '127.0.0.1');
        const head = Object.entries(headers).map((header) => `${header.join(': ')}\r\n`);
        socket.write(`POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n`);
        socket.write(`${head.join('')}\r\n`);
        socket.write(body);
        await isBegun;
        socket.destroy();
        assert.equal((await left()).length, 1);
        done({ id: ID, ack: 1 });
        await whenFound(async () => (await left()).length === 0, 'nothing left');
    });

    it('with names of what every object has, or deep JSON, is none of our failures', async (t) => {
        const { call, post, told, left } = await serve(t, { most: 50 });
        for (const name of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) {
            const parts = [
                ['name=message', '{}'],
                [`name=${name}`, 'x'.repeat(51)],
            ];
            const answer = await post(...multipart(...parts));
            assert.equal(answer.status, 400, `${name}: ${answer.text}`);
        }
        const deep = `${'{"a":'.repeat(150_000)}1${'}'.repeat(150_000)}`;
        for (const member of ['to', 'text', 'image', 'location', 'contact', 'poll', 'mentions']) {
            const answer = await post(Buffer.from(`{"to":"${TO}","${member}":${deep}}`));
            assert.equal(answer.status, 400, `${member}: ${answer.text.slice(0, 200)}`);
        }
        await whenFound(async () => (await left()).length === 0, 'nothing left');
        assert.deepEqual(told, []);
        const text = await call('POST', '/send', Buffer.from(`{"phone":"${TO}","message":"x","y":${deep}}`));
        assert.equal(text.status, 200, text.text);
    });

    it('has a file by its name alone, and none that leads elsewhere or turns text round', async (t) => {
        const { post, told } = await serve(t);
        const message = ['name=message', JSON.stringify({ to: TO, document: {} })];
        const named = async (name) => {
            await post(...multipart(message, [`name=document; filename="${name}"`, 'x']));
            return told.at(-1).media.filename;
        };
        assert.equal(await named('../../etc/passwd'), '.._.._etc_passwd');
        assert.equal(await named('C:\\\\a%0D%0Ab\u202egnp.exe\x1b'), 'C:_abgnp.exe');
        assert.equal((await named('x'.repeat(5000))).length, 255);
        assert.equal(await named('%0A'), 'document');
    });

    it('that is large in JSON waits for others, so that memory has an end', async (t) => {
        const waiting = [];
        const handOver = () => new Promise((resolve) => waiting.push(() => resolve({ id: ID, ack: 1 })));
        const { post } = await serve(t, { most: 2 * MIB, page: { handOver } });
        const data = base64('x'.repeat(1.2 * MIB));
        const large = [1, 2, 3, 4].map(() => post({ to: TO, document: { data } }));
        const reached = async (count) => {
            for (let tries = 0; waiting.length < count && tries < 300; tries += 1) await wait(10);
            await wait(100);
            return waiting.length;
        };
        assert.equal(await reached(2), 2);
        const small = post({ to: TO, text: 'x' });
        assert.equal(await reached(3), 3);
        waiting.shift()();
        assert.equal((await Promise.race(large)).status, 200);
        assert.equal(await reached(3), 3);
        while (waiting.length > 0) {
            waiting.shift()();
            await reached(1);
        }
        for (const { status } of await Promise.all([...large, small])) assert.equal(status, 200);
    });

    it('with a member that is not known, or not as it should be, is refused', async (t) => {
        const { post, told } = await serve(t);
        const wrong = [
            {},
            { to: TO },
            { text: 'x' },
            { to: '', text: 'x' },
            { to: {}, text: 'x' },
            { to: TO, text: '' },
            { to: TO, text: 5 },
            { to: TO, text: 'x', quotedMessageId: ID },
            { to: TO, text: 'x', location: { latitude: 1, longitude: 1 } },
            { to: TO, text: 'x', quote: 'nothing' },
            { to: TO, text: 'x', mentions: Array(5001).fill('5511977776666') },
            { to: TO, text: 'x', mentions: '5511977776666' },
            { to: TO, text: 'x', mentions: ['120363@g.us'] },
            { to: TO, text: 'x', link_preview: 'no' },
            { to: TO, location: { latitude: 91, longitude: 0 } },
            { to: TO, location: { latitude: '1', longitude: 0 } },
            { to: TO, location: [] },
            { to: TO, contact: [] },
            { to: TO, contact: { name: 'Davi' } },
            { to: TO, contact: { name: 'Davi', vcard: 'x' } },
            { to: TO, poll: { question: 'x', options: ['one'] } },
            { to: TO, poll: { question: 'x', options: ['one', 'one'] } },
            { to: TO, image: {} },
            { to: TO, image: { url: 'http://x/', data: 'x' } },
            { to: TO, image: { url: 'http://x/', type: 'nothing' } },
            { to: TO, audio: { url: 'http://x/', caption: 'x' } },
            { to: TO, image: { url: 'http://x/' }, link_preview: true },
        ];
        for (const body of wrong) {
            const { status, json } = await post(body);
            assert.deepEqual([status, json.code], [400, 'bad_request'], JSON.stringify(body));
        }
        const [long, status] = [await post({ to: TO, text: 'x'.repeat(65_537) }), 413];
        assert.deepEqual([long.status, long.json.code], [status, 'too_large']);
        assert.deepEqual(told, []);
    });

    it('is for a number of the country that is set', async (t) => {
        const without = await serve(t);
        const refused = await without.post({ to: '11988887777', text: 'x' });
        assert.deepEqual([refused.status, refused.json.code], [400, 'bad_number']);
        const { post, told } = await serve(t, { country: '55' });
        assert.equal((await post({ to: '(11) 98888-7777', text: 'x' })).status, 200);
        assert.equal(told[0].chat, CHAT);
    });

    it('that is not known to be at the server is answered as pending', async (t) => {
        const page = { handOver: async (_) => ({ ack: 0 }), awaitAck: async () => ({ ack: 0 }) };
        const { post } = await serve(t, { page });
        const { status, json } = await post({ to: TO, text: 'x' });
        assert.deepEqual([status, json], [202, { id: ID, outcome: 'pending' }]);
    });

    it('is reported as not sent by a code', async (t) => {
        const not = new SessionError('not_connected', 'not connected', 'link one');
        const notLinked = () => Promise.reject(not);
        const cases = [
            [{ page: { prepareSend: async () => ({ code: 'not_on_whatsapp' }) } }, 422, 'not_on_whatsapp'],
            [{ use: notLinked, isLinked: false }, 409, 'not_linked'],
            [{ use: notLinked }, 503, 'not_connected'],
        ];
        for (const [how, status, code] of cases) {
            const { post, call } = await serve(t, how);
            const answer = await post({ to: TO, text: 'x' });
            assert.deepEqual([answer.status, answer.json.code], [status, code]);
            assert.ok(answer.json.error && answer.json.id === undefined);
            assert.equal(answer.headers['retry-after'] !== undefined, status === 503);
            const old = await call('POST', '/send', { phone: TO, message: 'x' });
            assert.equal(old.status, status === 422 ? 422 : 400, 'as older web apps know it');
            assert.ok(old.json.code);
        }
    });
});

describe('an Idempotency-Key', () => {
    it('has equal calls answered alike, however their members are ordered', async (t) => {
        let made = 0;
        const prepareSend = async ({ likely: [chat] }) => ({ chat, id: `true_${chat}_${(made += 1)}` });
        const { post, call, told } = await serve(t, { page: { prepareSend } });
        const key = { 'Idempotency-Key': 'order-1' };
        const first = await post({ to: TO, text: 'x', link_preview: false }, key);
        const again = await post({ link_preview: false, text: 'x', to: TO, user_id: 2 }, key);
        assert.deepEqual([again.status, again.json], [200, first.json]);
        assert.equal(told.length, 1);
        const other = await post({ to: TO, text: 'y' }, key);
        assert.deepEqual([other.status, other.json.code], [422, 'key_reused']);
        const old = await call('POST', '/send', { phone: TO, message: 'x' }, key);
        assert.deepEqual([old.status, old.json.code], [422, 'key_reused']);
        const mine = { 'Idempotency-Key': 'order-2' };
        const sent = await call('POST', '/send', { phone: TO, message: 'x' }, mine);
        assert.deepEqual((await call('POST', '/send', { phone: TO, message: 'x' }, mine)).json, sent.json);
        assert.equal(told.length, 2);
        for (const bad of ['', 'two words', 'x'.repeat(256)]) {
            const answer = await post({ to: TO, text: 'x' }, { 'Idempotency-Key': bad });
            assert.equal(answer.status, 400, bad);
        }
    });

    it('distinguishes files', async (t) => {
        const { post } = await serve(t);
        const send = (text) => {
            const message = ['name=message', JSON.stringify({ to: TO, document: {} })];
            const [body, headers] = multipart(message, ['name=document; filename=a', text]);
            return post(body, { ...headers, 'Idempotency-Key': 'K' });
        };
        assert.equal((await send('one')).status, 200);
        assert.equal((await send('one')).status, 200);
        assert.equal((await send('two')).status, 422);
    });
});

describe('a message that was sent', () => {
    const at = `/messages/${encodeURIComponent(ID)}`;
    /** A server whose page keeps what it is asked to do. */
    async function serveActs(t, answer = {}) {
        const asked = [];
        const note =
            (what) =>
            async (...args) => {
                asked.push([what, ...args]);
                return answer;
            };
        const acts = ['edit', 'remove', 'react', 'signal'].map((what) => [what, note(what)]);
        const forward = async (...args) => ({ ...(await note('forward')(...args)), id: null, ack: 1 });
        const page = { ...Object.fromEntries(acts), forward };
        return { asked, ...(await serve(t, { page })) };
    }

    it('is edited, deleted, reacted to and sent on', async (t) => {
        const { call, asked } = await serveActs(t);
        const done = async (...args) => {
            const { status, json } = await call(...args);
            assert.equal(status, 200, JSON.stringify(json));
            return json;
        };
        assert.deepEqual(await done('PATCH', at, { text: 'new' }), { id: ID });
        await done('DELETE', at);
        await done('DELETE', `${at}?for=me`);
        const reactions = ['👍', '❤️', '👨‍👩‍👧', '🇧🇷', ''];
        for (const reaction of reactions) await done('POST', `${at}/reaction`, { reaction });
        assert.deepEqual(await done('POST', `${at}/forward`, { to: TO }), { id: null, outcome: 'sent' });
        assert.deepEqual(asked, [
            ['edit', ID, 'new', []],
            ['remove', ID, true],
            ['remove', ID, false],
            ...reactions.map((reaction) => ['react', ID, reaction]),
            ['forward', ID, { chat: CHAT, id: ID }, null],
        ]);
    });

    it('is left as it is where a call is wrong', async (t) => {
        const { call, asked } = await serveActs(t);
        for (const [method, target, body, headers] of [
            ['PATCH', at, {}],
            ['PATCH', at, { text: 'x', other: 1 }],
            ['PATCH', '/messages/nothing', { text: 'x' }],
            ['DELETE', `${at}?for=you`],
            ['POST', `${at}/reaction`, {}],
            ['POST', `${at}/reaction`, { reaction: 'yes' }],
            ['POST', `${at}/reaction`, { reaction: '👍👍' }],
            ['POST', `${at}/forward`, {}],
            ['POST', `${at}/forward`, { to: TO }, { 'Idempotency-Key': 'no key' }],
            ['POST', '/chats/nobody/typing', {}],
            ['POST', `/chats/${CHAT}/typing`, { on: 1 }],
            ['GET', '/numbers/nobody'],
        ]) {
            const { status } = await call(method, target, body, headers);
            assert.equal(status, 400, `${method} ${target} ${JSON.stringify(body)}`);
        }
        assert.deepEqual(asked, []);
    });

    it('is left as it is where WhatsApp does not allow it', async (t) => {
        const { call } = await serveActs(t, { code: 'refused' });
        const answer = await call('PATCH', at, { text: 'new' });
        assert.deepEqual([answer.status, answer.json.code], [422, 'refused']);
        const gone = await serveActs(t, { code: 'no_such_message' });
        assert.equal((await gone.call('DELETE', at)).status, 404);
    });

    it('says how far it has come', async (t) => {
        const { call } = await serve(t);
        assert.deepEqual((await call('GET', at)).json, { id: ID, outcome: 'sent', ack: 'server' });
        const other = await call('GET', `/messages/${encodeURIComponent(`false_${CHAT}_A`)}`);
        assert.deepEqual([other.status, other.json.code], [404, 'no_such_message']);
    });

    it('is preceded by signs of writing', async (t) => {
        const { call, asked } = await serveActs(t);
        for (const [what, body] of [['typing'], ['recording'], ['typing', { on: false }], ['seen']]) {
            const { json } = await call('POST', `/chats/${encodeURIComponent(CHAT)}/${what}`, body);
            assert.deepEqual(json, { ok: true });
        }
        assert.deepEqual(
            asked.map(([, what, [id]]) => [what, id]),
            [
                ['typing', CHAT],
                ['recording', CHAT],
                ['stop', CHAT],
                ['seen', CHAT],
            ],
        );
    });
});

describe('a number', () => {
    it('is looked up as people write it', async (t) => {
        const asked = [];
        const lookUp = async (ids) => {
            asked.push(ids);
            return { exists: true, id: '551188887777@c.us', lid: '7@lid' };
        };
        const { call } = await serve(t, { page: { lookUp }, country: '55' });
        const { json } = await call('GET', `/numbers/${encodeURIComponent('(11) 98888-7777')}`);
        const found = { exists: true, id: '551188887777@c.us', lid: '7@lid' };
        assert.deepEqual(json, { number: '551188887777', ...found });
        assert.deepEqual(asked, [['5511988887777@c.us', '551188887777@c.us']]);
        const page = { lookUp: async () => ({ exists: false, id: null, lid: null }) };
        const nobody = await serve(t, { page });
        const { json: none } = await nobody.call('GET', '/numbers/5511900000000');
        assert.deepEqual(none, { number: '5511900000000', exists: false, id: null, lid: null });
    });
});

'use strict';

/** Messages of every kind, from a call to what reaches the other side, before both shapes of the page. */

const assert = require('node:assert/strict');
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { describe, it } = require('node:test');

const { freePort, scratch, whenFound } = require('./support/process');
const { PHONE, browserOf, start, startLinked } = require('./support/session');
const { startStandIn } = require('./support/standin');

async function site(t, ...args) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
    const standin = await startStandIn(folder, args);
    t.after(() => {
        standin.stop();
        fs.rmSync(folder, { recursive: true, force: true });
    });
    return standin;
}

const CARLA = '5511977770001';
const GROUP = '120363000000000001@g.us';
const PNG = Buffer.from('\x89PNG\r\n\x1a\n and the rest of a picture', 'latin1');
const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** A body of multipart/form-data: a message, and its file. */
function withFile(kind, message, bytes, type) {
    const lines = [
        '--x7',
        'Content-Disposition: form-data; name="message"',
        '',
        JSON.stringify(message),
        '--x7',
        `Content-Disposition: form-data; name="${kind}"; filename="a.bin"`,
        `Content-Type: ${type}`,
        '',
        '',
    ];
    const body = Buffer.concat([Buffer.from(lines.join('\r\n')), bytes, Buffer.from('\r\n--x7--\r\n')]);
    return [body, { 'Content-Type': 'multipart/form-data; boundary=x7' }];
}

for (const shape of ['today', '2026-04']) {
    it(`each kind reaches the other side, from the page of ${shape}`, async (t) => {
        const standin = await site(t, '--shape', shape);
        const { server } = await startLinked(t, standin, { env: { WAPORTD_MEDIA_FROM_PRIVATE: 'true' } });
        const post = (body, headers) => server.post('/messages', body, { headers });
        /** Send; return what the site has of it. */
        const send = async (body, headers) => {
            const { status, json, text } = await post(body, headers);
            assert.deepEqual([status, json?.outcome], [200, 'sent'], text);
            const arrived = (await standin.sent()).filter(({ id }) => json.id.includes(id));
            assert.equal(arrived.length, 1, text);
            return { ...arrived[0], id: json.id };
        };
        const to = CARLA;
        const told = await send({ to, text: 'see https://example.org/' });
        assert.deepEqual([told.type, told.body], ['chat', 'see https://example.org/']);

        const kinds = [
            ['image', 'image', 'image/png', { caption: 'look' }],
            ['video', 'video', 'video/mp4', { caption: 'look' }],
            ['audio', 'audio', 'audio/mpeg', {}],
            ['voice', 'ptt', 'audio/ogg; codecs=opus', {}],
            ['document', 'document', 'application/pdf', { caption: 'look', name: 'invoice.pdf' }],
        ];
        for (const [kind, type, mimetype, about] of kinds) {
            const file = await send(...withFile(kind, { to, [kind]: about }, PNG, mimetype));
            assert.deepEqual([file.type, file.mimetype, file.caption], [type, mimetype, about.caption], kind);
            assert.equal(file.sha256, sha256(PNG), kind);
            if (about.name) assert.equal(file.filename, about.name);
        }
        const sticker = await send({ to, sticker: { data: PNG.toString('base64') } });
        assert.deepEqual([sticker.type, sticker.mimetype], ['sticker', 'image/webp']);

        const place = await send({ to, location: { latitude: -23.5, longitude: -46.6, name: 'Sé' } });
        assert.deepEqual([place.type, place.lat, place.lng, place.loc], ['location', -23.5, -46.6, 'Sé']);
        const card = await send({ to, contact: { name: 'Davi', phone: '+55 21 97777-0009' } });
        assert.deepEqual([card.type, card.vcardFormattedName], ['vcard', 'Davi']);
        assert.match(card.body, /\nTEL;type=CELL;waid=5521977770009:\+5521977770009\n/);
        const poll = await send({ to, poll: { question: 'When?', options: ['now', 'later'] } });
        assert.deepEqual([poll.type, poll.pollName, poll.pollOptions.length], ['poll_creation', 'When?', 2]);

        const from = { phone: PHONE, from: CARLA, body: 'a question' };
        const { id: asked } = await standin.command('message', from);
        const chat = told.id.split('_')[1];
        const quote = `false_${chat}_${asked}`;
        const reply = await send({ to, text: '@5521977770009', quote, mentions: ['5521977770009'] });
        assert.equal(reply.quotedStanzaID, asked);
        assert.deepEqual(reply.mentionedJidList, ['5521977770009@c.us']);
        const toGroup = await send({ to: GROUP, text: 'all of you' });
        assert.equal(toGroup.to, GROUP);

        // What is done with a message afterwards.
        const at = (id) => `/messages/${encodeURIComponent(id)}`;
        const call = async (method, target, body) => {
            const answer = await server.call(method, target, body);
            assert.ok(answer.status < 300, answer.text);
            return answer.json;
        };
        const happened = (kind, id) =>
            whenFound(async () => {
                const all = await standin.sent();
                return all.find((each) => each.type === kind && id.includes(each.id));
            }, `${kind} of ${id}`);
        await call('PATCH', at(told.id), { text: 'never mind' });
        assert.equal((await happened('edit', told.id)).body, 'never mind');
        await call('POST', `${at(quote)}/reaction`, { reaction: '👍' });
        assert.equal((await happened('reaction', quote)).text, '👍');
        await call('DELETE', at(place.id));
        await happened('revoke', place.id);
        await call('DELETE', `${at(poll.id)}?for=me`);
        assert.equal((await server.get(at(poll.id))).status, 404);
        const others = await server.call('DELETE', at(quote));
        assert.deepEqual([others.status, others.json.code], [422, 'refused'], 'it is somebody else’s');
        assert.equal((await server.call('PATCH', at(quote), { text: 'x' })).json.code, 'refused');

        const early = await server.call('POST', `${at(card.id)}/forward`, { to: GROUP });
        assert.deepEqual([early.status, early.json.code], [501, 'upstream_changed']);
        await standin.command('load', { module: 'WAWebChatForwardMessage' });
        const copy = await call('POST', `${at(card.id)}/forward`, { to: GROUP });
        assert.match(copy.id, /^true_120363000000000001@g\.us_/);
        assert.equal((await happened('vcard', copy.id)).to, GROUP);
        const keyed = { headers: { 'Idempotency-Key': 'send-it-on' } };
        const sendOn = () => server.post(`${at(card.id)}/forward`, { to: GROUP }, keyed);
        const once = await sendOn();
        assert.ok(once.status < 300, once.text);
        assert.notEqual(once.json.id, copy.id, 'another copy');
        assert.equal((await sendOn()).json.id, once.json.id, 'and no third');
        await happened('vcard', once.json.id);
        const all = (await standin.sent()).filter((each) => each.type === 'vcard' && each.to === GROUP);
        assert.equal(all.length, 2);

        await standin.command('change', { phone: PHONE, kind: 'ack', id: reply.id.split('_')[2], ack: 3 });
        assert.equal((await call('GET', at(reply.id))).ack, 'read');

        for (const [what, body, kind] of [
            ['typing', {}, 'composing'],
            ['recording', {}, 'recording'],
            ['typing', { on: false }, 'paused'],
            ['seen', {}, 'seen'],
        ]) {
            await call('POST', `/chats/${CARLA}%40c.us/${what}`, body);
            const signals = await standin.signals();
            assert.ok(
                signals.some((each) => each.kind === kind && each.chat === chat),
                kind,
            );
        }

        const person = await call('GET', `/numbers/${CARLA}`);
        assert.deepEqual(person, {
            number: CARLA,
            exists: true,
            id: `${CARLA}@c.us`,
            lid: `100${CARLA}@lid`,
        });
        assert.equal((await call('GET', '/numbers/5521977770000')).exists, false);
        // Mobiles of area 31 have no ninth digit at WhatsApp.
        assert.equal((await call('GET', '/numbers/5531988887777')).number, '553188887777');
        const north = await send({ to: '+55 (0)31 98888-7777', text: 'good morning' });
        assert.match(north.to, /553188887777@/);
        const nobody = await post({ to: '5521977770000', text: 'x' });
        assert.deepEqual([nobody.status, nobody.json.code], [422, 'not_on_whatsapp']);
        const noGroup = await post({ to: '120363999999999999@g.us', text: 'x' });
        assert.deepEqual([noGroup.status, noGroup.json.code], [404, 'no_such_chat']);

        // By URL.
        const port = await freePort();
        const web = http.createServer((request, response) => {
            response.writeHead(200, { 'Content-Type': 'application/pdf' }).end(PNG);
        });
        await new Promise((resolve) => web.listen(port, '127.0.0.1', resolve));
        t.after(() => web.close());
        const fetched = await send({ to, document: { url: `http://127.0.0.1:${port}/bill.pdf` } });
        assert.deepEqual([fetched.sha256, fetched.filename], [sha256(PNG), 'bill.pdf']);
    });
}

describe('a message', () => {
    it('that the site does not acknowledge is pending, and one that it refuses has failed', async (t) => {
        const standin = await site(t);
        const { server } = await startLinked(t, standin);
        await standin.command('set', { refuse_sends: true });
        const headers = { 'Idempotency-Key': 'refused' };
        const refused = await server.post('/messages', { to: CARLA, text: 'refused' }, { headers });
        assert.deepEqual([refused.status, refused.json.code], [422, 'refused']);
        await standin.command('set', { refuse_sends: false, mute_sends: true });
        const { status, json } = await server.post('/messages', { to: CARLA, text: 'muted' });
        assert.deepEqual([status, json.outcome, json.code], [202, 'pending', undefined]);
        const at = `/messages/${encodeURIComponent(json.id)}`;
        assert.deepEqual((await server.get(at)).json, { id: json.id, outcome: 'pending', ack: 'pending' });
        const id = json.id.split('_')[2];
        await standin.command('change', { phone: PHONE, kind: 'ack', id, ack: 1 });
        assert.deepEqual((await server.get(at)).json, { id: json.id, outcome: 'sent', ack: 'server' });
        const sent = (await standin.sent()).map(({ body }) => body);
        assert.deepEqual(sent, ['muted']);
    });

    it('is there once and not missing, whatever is killed while it is sent', async (t) => {
        const standin = await site(t);
        const directory = scratch(t);
        const port = await freePort();
        const options = { directory, port };
        let { server } = await startLinked(t, standin, options);
        const answers = new Map();
        let isOver = false;
        let isFailed = true;
        t.after(() => {
            isOver = true;
        });
        const sender = async (name) => {
            for (let n = 0; !isOver; n += 1) {
                const body = { to: CARLA, text: `${name}-${n}` };
                const headers = { 'Idempotency-Key': body.text };
                while (!isOver || !isFailed) {
                    const told = await server.post('/messages', body, { headers }).catch(() => null);
                    if (told?.json?.outcome === 'sent') {
                        answers.set(body.text, told.json.id);
                        break;
                    }
                    await new Promise((resolve) => setTimeout(resolve, 50));
                }
            }
        };
        const senders = ['a', 'b', 'c'].map(sender);
        const some = () => new Promise((resolve) => setTimeout(resolve, Math.random() * 150));
        const untilSent = () => {
            const before = answers.size;
            return whenFound(async () => answers.size > before, 'a message to be sent', 40_000);
        };
        await untilSent();
        for (let round = 0; round < 16; round += 1) {
            await some();
            if (round % 2 === 0) {
                process.kill(browserOf(server), 'SIGKILL');
            } else {
                server.kill('SIGKILL');
                await server.exit();
                server = await start(t, standin, options);
            }
            await untilSent();
        }
        isFailed = false;
        isOver = true;
        await Promise.all(senders);
        const sent = (await standin.sent()).filter(({ type }) => type === 'chat');
        const ids = new Map();
        for (const { id, body } of sent) ids.set(body, new Set([...(ids.get(body) ?? []), id]));
        for (const [body, id] of answers) {
            assert.deepEqual([...(ids.get(body) ?? [])].filter((each) => id.includes(each)).length, 1, body);
            assert.equal(ids.get(body).size, 1, `${body} has one id: whoever gets it twice shows it once`);
        }
        assert.equal(ids.size, answers.size);
        t.diagnostic(`16 kills, ${answers.size} messages, ${sent.length - ids.size} under the same id again`);
    });
});

describe('a file', () => {
    const MIB = 1024 * 1024;
    const SIZE = 60 * MIB;
    /** What V8 leaves lying of buffers before it tidies up, whatever the size of the file. */
    const MOST_MEMORY = 16 * MIB;

    /** The most memory that a process has had, in bytes. */
    const peakOf = (pid) =>
        Number(fs.readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmHWM:\s+(\d+) kB$/m)[1]) * 1024;

    it('that is large goes by way of the disk, and not of the memory', async (t) => {
        const standin = await site(t);
        const { server } = await startLinked(t, standin);
        const warm = withFile('document', { to: CARLA, document: {} }, PNG, 'application/zip');
        const post = (body, headers) => server.post('/messages', body, { headers });
        assert.equal((await post(...warm)).status, 200);
        const before = peakOf(server.pid);
        const bytes = Buffer.alloc(SIZE, 'a file ');
        const [body, headers] = withFile('document', { to: CARLA, document: {} }, bytes, 'application/zip');
        const { status, text } = await post(body, headers);
        assert.equal(status, 200, text);
        const { sha256: arrived } = (await standin.sent()).at(-1);
        assert.equal(arrived, sha256(bytes));
        const more = peakOf(server.pid) - before;
        t.diagnostic(`60 MiB: ${(more / MIB).toFixed(1)} MiB more at most`);
        assert.ok(more < MOST_MEMORY, `${more} bytes`);
    });
});

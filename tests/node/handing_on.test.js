'use strict';

/** Journal, delivery and webhook together, and a web app behind real connections. */

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { describe, it } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');
const v8 = require('node:v8');
const vm = require('node:vm');

const { Delivery } = require('../../server/delivery');
const { Webhook } = require('../../server/webhook');
const { event, newPlace, quiet } = require('./support/journal');
const { startLinked } = require('./support/light');
const { freePort, scratch, whenFound } = require('./support/process');
const { isSignedBy, startWebApp } = require('./support/web-app');

const DAY_MS = 86_400_000;
const MIB = 1024 * 1024;
/** Events a second that go through one session here at least; measured: some 900. */
const RATE = 300;

/** Have V8 forget what nobody holds. @returns {Promise<number>} bytes that are held */
async function held() {
    v8.setFlagsFromString('--expose-gc');
    const gc = vm.runInNewContext('gc');
    // What ends in one turn of the event loop is let go of in the next.
    for (let turn = 0; turn < 3; turn += 1) {
        gc();
        await pause(50);
    }
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
}

const webhookOf = async (server) => (await server.get('/session')).json.webhook;

const range = (count) => Array.from({ length: count }, (_, n) => n);

/** One server's part of it, from its start to `stop()`. */
async function start(t, place, url, { limitMs = 5_000, retryMs = DAY_MS } = {}) {
    const journal = await place.open();
    const webhook = new Webhook({ url, limitMs });
    const delivery = new Delivery({ journal, webhook, awaits: () => true, retryMs, log: quiet });
    await delivery.start();
    const stop = async () => {
        await delivery.close();
        await journal.close();
    };
    t.after(stop);
    const send = async (chat, n, members = {}) => {
        delivery.push(await journal.append(event(`${chat} ${n}`, { chat: { id: chat }, n, ...members })));
    };
    const until = (wanted) =>
        whenFound(
            async () => {
                const { counts } = delivery;
                return Object.entries(wanted).every(([name, value]) => counts[name] === value) && counts;
            },
            `counts ${JSON.stringify(wanted)}`,
        );
    return { journal, delivery, stop, send, until };
}

const numbersIn = (calls, chat) =>
    calls.filter((call) => call.event.chat.id === chat).map((call) => call.event.n);

describe('events on their way from the journal to the web app', () => {
    it('are all delivered after a restart, each with its id, in order of their chats', async (t) => {
        const place = newPlace(t);
        const port = await freePort();
        const before = await start(t, place, new URL(`http://127.0.0.1:${port}/`));
        for (const n of range(30)) await before.send(`chat ${n % 3}`, n);
        await before.until({ queued: 30 });
        await before.stop();
        const { calls } = await startWebApp(t, undefined, port);
        const after = await start(t, place, new URL(`http://127.0.0.1:${port}/`));
        await after.until({ queued: 0, delivered: 30 });
        assert.equal(calls.length, 30);
        assert.ok(calls.every(({ id, event: { event_id } }) => id === event_id));
        for (const chat of range(3)) {
            assert.deepEqual(
                numbersIn(calls, `chat ${chat}`),
                range(30).filter((n) => n % 3 === chat),
            );
        }
        await after.stop();
        const last = await start(t, place, new URL(`http://127.0.0.1:${port}/`));
        assert.equal(last.delivery.counts.queued, 0, 'what is delivered is not delivered again');
    });

    it('reach a web app that fails in all its ways, the same id at each try', async (t) => {
        const fail = [
            (response) => response.writeHead(500).end(),
            (response) => response.socket.destroy(),
            () => {},
            (response) => response.writeHead(302, { Location: 'http://127.0.0.2/' }).end(),
            (response) => response.writeHead(429, { 'Retry-After': '1' }).end(),
            (response) => response.writeHead(404).end(),
        ];
        const seen = new Map();
        const app = await startWebApp(t, ({ id, text }, response) => {
            const bodies = seen.get(id) ?? [];
            seen.set(id, [...bodies, text]);
            if (bodies.length > 0) response.end();
            else fail[(seen.size - 1) % fail.length](response);
        });
        const one = await start(t, newPlace(t), app.url, { limitMs: 500 });
        for (const n of range(6)) await one.send(`chat ${n}`, n);
        await one.until({ delivered: 6, queued: 0 });
        assert.ok(
            [...seen.values()].every(([first, second]) => first === second),
            'the same body',
        );
        assert.equal(one.delivery.counts.failed, 6);
        assert.equal(one.delivery.counts.error, null);
    });

    it('are given up and kept over a restart, and delivered when somebody says so', async (t) => {
        let status = 503;
        const app = await startWebApp(t, (_, response) => response.writeHead(status).end());
        const place = newPlace(t);
        const one = await start(t, place, app.url, { retryMs: 1_000 });
        await one.send('a', 1);
        await one.send('a', 2);
        await one.until({ undelivered: 2, queued: 0 });
        await one.stop();
        status = 200;
        const next = await start(t, place, app.url);
        assert.equal(next.delivery.counts.undelivered, 2);
        app.calls.length = 0;
        assert.equal(await next.delivery.redeliver({ all: true }), 2);
        await next.until({ delivered: 2, undelivered: 0, queued: 0 });
        assert.deepEqual(numbersIn(app.calls, 'a'), [1, 2]);
    });

    it('are delivered from memory while the disk takes none', async (t) => {
        const place = newPlace(t, { retryMs: 20 });
        const { directory } = place;
        // Who is root may write anywhere: where the journal's folder should be is something else.
        fs.mkdirSync(path.dirname(directory));
        fs.writeFileSync(directory, 'in the way');
        const port = await freePort();
        const one = await start(t, place, new URL(`http://127.0.0.1:${port}/`));
        for (const n of range(20)) await one.send(`chat ${n % 2}`, n);
        assert.match(one.journal.counts.error, /cannot be written/);
        await one.until({ queued: 20, error: 'nobody listens there' });
        const { calls } = await startWebApp(t, undefined, port);
        await one.until({ delivered: 20, queued: 0 });
        for (const chat of range(2)) {
            assert.deepEqual(
                numbersIn(calls, `chat ${chat}`),
                range(20).filter((n) => n % 2 === chat),
            );
        }
        fs.rmSync(directory);
        await whenFound(async () => one.journal.counts.error === null, 'the disk to be written');
        await one.stop();
        const next = await start(t, place, new URL(`http://127.0.0.1:${port}/`));
        assert.deepEqual([next.delivery.counts.queued, next.journal.counts.entries], [0, 20]);
    });

    it(`are more than ${RATE} a second`, async (t) => {
        const app = await startWebApp(t);
        const one = await start(t, newPlace(t), app.url);
        const count = 1_000;
        let best = 0;
        // What else this machine does may take most of it for a while.
        for (let round = 0; round < 8 && best < RATE; round += 1) {
            const began = performance.now();
            app.calls.length = 0;
            await Promise.all(range(count).map((n) => one.send(`${round}, ${n % 20}`, n)));
            await one.until({ delivered: (round + 1) * count });
            best = Math.max(best, (1_000 * count) / (performance.now() - began));
            for (const chat of range(20)) {
                const wanted = range(count).filter((n) => n % 20 === chat);
                assert.deepEqual(numbersIn(app.calls, `${round}, ${chat}`), wanted);
            }
        }
        t.diagnostic(`${Math.round(best)} events a second`);
        assert.ok(best >= RATE, `${Math.round(best)} a second`);
    });

    it('cost little memory, though 40,000 wait for a web app that hangs', async (t) => {
        const app = await startWebApp(t, () => {});
        const place = newPlace(t, { maxBytes: 256 * MIB });
        const count = 40_000;
        const journal = await place.open();
        const append = (n) => journal.append(event(`${n}`, { chat: { id: `chat ${n % 500}` }, n }));
        for (let n = 0; n < count; n += 10_000) {
            await Promise.all(range(10_000).map((each) => append(n + each)));
        }
        await journal.close();
        const before = await held();
        const began = performance.now();
        const one = await start(t, place, app.url, { limitMs: 60_000 });
        const seconds = (performance.now() - began) / 1_000;
        await whenFound(async () => app.calls.length >= 64, 'as many calls as may be open');
        const grown = ((await held()) - before) / MIB;
        t.diagnostic(`${grown.toFixed(1)} MiB, taken up in ${seconds.toFixed(1)} s`);
        assert.equal(one.delivery.counts.queued, count);
        // Of 100,000 it is 10, of none it would be 4.
        assert.ok(grown < 9, `${grown.toFixed(1)} MiB`);
    });
});

describe('a server', () => {
    it('hands on what it had before it was killed, and shows it to anyone who asks', async (t) => {
        const port = await freePort();
        const env = { WAPORTD_WEBHOOK_URL: `http://localhost:${port}/webhook` };
        const first = await startLinked(t, { env });
        const words = ['one', 'two', 'three', 'four', 'five'];
        for (const message of words) await first.post('/send', { phone: '5511988887777', message });
        const waiting = async () => {
            const { queued, error } = await webhookOf(first);
            return queued === words.length && error === 'nobody listens there';
        };
        await whenFound(waiting, 'the messages to wait');
        const { messages, next } = (await first.get('/messages?events=message')).json;
        assert.deepEqual(
            messages.map(({ body }) => body),
            words,
        );
        assert.ok(Date.parse((await webhookOf(first)).oldest_at) <= Date.now());
        first.kill('SIGKILL');
        await first.exit();

        const { calls } = await startWebApp(t, undefined, port);
        const { directory } = first;
        const second = await startLinked(t, { env, directory, port: first.port });
        await whenFound(async () => (await webhookOf(second)).delivered === words.length, 'the messages');
        assert.deepEqual(
            calls.map((call) => call.event.body),
            words,
        );
        assert.deepEqual(
            calls.map(({ id }) => id),
            messages.map(({ event_id: id }) => id),
        );
        const more = second.get(`/messages?events=message&timeout=30&after=${next}`);
        await second.post('/send', { phone: '5511988887777', message: 'six' });
        assert.deepEqual(
            (await more).json.messages.map(({ body }) => body),
            ['six'],
        );
    });

    it('hands on each event that was in its journal when it was killed, again and again', async (t) => {
        const wanted = new Set();
        const taken = new Set();
        const { url } = await startWebApp(t, ({ nth, id, event: { chat, body } }, response) => {
            if (nth % 5 === 0) response.writeHead(503).end();
            else if (nth % 7 === 0) response.socket.destroy();
            else {
                taken.add(`${chat.id} ${body} ${id}`);
                response.end();
            }
        });
        const env = { WAPORTD_WEBHOOK_URL: url.href };
        const options = { env, directory: scratch(t), port: await freePort() };
        let server = await startLinked(t, options);
        for (let round = 0; round < 5; round += 1) {
            const sending = range(10).map((n) =>
                server.post('/send', { phone: `551198888777${n}`, message: `${round}` }),
            );
            await Promise.all(sending);
            const written = async () => {
                const { messages } = (await server.get('/messages?events=message&limit=1000')).json;
                messages.forEach(({ event_id: id, chat, body }) => wanted.add(`${chat.id} ${body} ${id}`));
                return messages.length === 10 * (round + 1);
            };
            await whenFound(written, 'the messages of this round in the journal');
            server.kill('SIGKILL');
            await server.exit();
            server = await startLinked(t, options);
        }
        assert.equal(wanted.size, 50);
        // Not until nothing waits: a server that has just started has not read its journal yet.
        await whenFound(() => taken.size >= wanted.size, 'all of them at the web app');
        for (const n of range(10)) {
            // A set keeps the order in which each came first.
            const ofChat = (all) => [...all].filter((text) => text.startsWith(`551198888777${n}@`));
            assert.equal(ofChat(wanted).length, 5);
            assert.deepEqual(ofChat(taken), ofChat(wanted));
        }
    });

    it('signs by each of its secrets, sends its headers and the events that are chosen', async (t) => {
        const { url, calls } = await startWebApp(t);
        const secrets = range(2).map(() => `whsec_${crypto.randomBytes(32).toString('base64')}`);
        const server = await startLinked(t, {
            env: {
                WAPORTD_WEBHOOK_URL: url.href,
                WAPORTD_WEBHOOK_SECRETS: secrets.join(','),
                WAPORTD_WEBHOOK_HEADERS: JSON.stringify({ 'x-token': 'hidden-word' }),
                WAPORTD_WEBHOOK_EVENTS: 'message.sent,session',
            },
        });
        await server.post('/send', { phone: '5511988887777', message: 'hello' });
        const isThere = async () =>
            calls.some((call) => call.event.event === 'message.sent') &&
            calls.some((call) => call.event.session?.state === 'ready');
        await whenFound(isThere, 'the message that was sent, and the state');
        assert.ok(calls.every((call) => ['message.sent', 'session'].includes(call.event.event)));
        for (const call of calls) {
            assert.ok(secrets.every((secret) => isSignedBy(secret, call)));
            assert.equal(call.headers['x-token'], 'hidden-word');
        }
        const shown = server.output + (await server.get('/session')).text + (await server.get('/')).text;
        for (const secret of [...secrets, 'hidden-word']) assert.ok(!shown.includes(secret));
        const isCounted = async () => {
            const { queued, delivered } = await webhookOf(server);
            return queued === 0 && delivered === calls.length;
        };
        await whenFound(isCounted, 'the counts');
    });

    it('goes past every proxy, and says where to, without a secret', async (t) => {
        const { url, calls } = await startWebApp(t);
        const proxy = http.createServer();
        let asked = 0;
        proxy.on('connection', () => (asked += 1)).listen(0, '127.0.0.1');
        await once(proxy, 'listening');
        t.after(() => proxy.close());
        const way = `http://127.0.0.1:${proxy.address().port}`;
        const names = ['http_proxy', 'https_proxy', 'all_proxy'];
        const proxies = names.flatMap((name) => [name, name.toUpperCase()]).map((name) => [name, way]);
        Object.assign(url, { username: 'ana', password: 'hidden-word', search: '?key=hidden-word' });
        const server = await startLinked(t, {
            env: {
                ...Object.fromEntries(proxies),
                NODE_USE_ENV_PROXY: '1',
                WAPORTD_WEBHOOK_URL: url.href,
                WAPORTD_WEBHOOK_EVENTS: 'session',
            },
        });
        await whenFound(() => calls.some(({ event: { session } }) => session.state === 'ready'), 'an event');
        assert.equal(asked, 0);
        const said = ` events go to the web app host=${url.host} proxy=none\n`;
        assert.ok(server.output.includes(said), server.output);
        assert.ok(!server.output.includes('hidden-word'));
    });

    it('keeps nothing of what was received when it logs out', async (t) => {
        const server = await startLinked(t);
        await server.post('/send', { phone: '5511988887777', message: 'private words' });
        await whenFound(async () => (await server.get('/messages?events=message')).json.messages[0], 'it');
        await server.post('/disconnect');
        await server.exit();
        const files = fs
            .readdirSync(server.directory, { recursive: true })
            .map((name) => path.join(server.directory, name))
            .filter((name) => fs.statSync(name).isFile());
        assert.ok(files.every((name) => !fs.readFileSync(name, 'utf8').includes('private words')));
        assert.deepEqual(
            files.filter((name) => name.includes('messages')),
            [],
        );
    });
});

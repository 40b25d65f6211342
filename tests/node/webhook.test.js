'use strict';

/** One call of the web app: what it gets, and what each of its answers means. */

const assert = require('node:assert/strict');
const { execFile, execFileSync } = require('node:child_process');
const crypto = require('node:crypto');
const fs = require('node:fs');
const https = require('node:https');
const net = require('node:net');
const path = require('node:path');
const { promisify } = require('node:util');
const { once } = require('node:events');
const { describe, it } = require('node:test');

const { Webhook, isOwn } = require('../../server/webhook');
const { ROOT, freePort, scratch } = require('./support/process');
const { isSignedBy, startWebApp } = require('./support/web-app');

const EVENT = { event_id: 'evt_1', event: 'message', body: 'olá, "mundo" – é' };
const BODY = Buffer.from(JSON.stringify(EVENT));
const LIMIT_MS = 20_000;
const SHORT_MS = 300;

const post = (url, options = {}) => new Webhook({ url, limitMs: LIMIT_MS, ...options }).post('evt_1', BODY);
const run = promisify(execFile);
const newSecret = () => `whsec_${crypto.randomBytes(24).toString('base64')}`;

/** Start a web app that answers all calls alike. */
const answering = (t, status, headers = {}) =>
    startWebApp(t, (_, response) => response.writeHead(status, headers).end());

/** Start what listens and is no web app. */
async function listen(t, onConnection) {
    const sockets = new Set();
    const server = net.createServer((socket) => {
        sockets.add(socket);
        socket.on('error', () => {});
        onConnection(socket);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => {
        sockets.forEach((socket) => socket.destroy());
        server.close();
    });
    return new URL(`http://127.0.0.1:${server.address().port}/`);
}

describe('a call of the web app', () => {
    it('is the event as JSON, with its id and the time of the call', async (t) => {
        const app = await answering(t, 200);
        const before = Math.floor(Date.now() / 1000);
        const answer = await post(app.url);
        assert.deepEqual(answer, { outcome: 'delivered', reason: null, retryAfterMs: null });
        const [{ method, url, headers, event }] = app.calls;
        assert.deepEqual({ method, url, event }, { method: 'POST', url: '/webhook', event: EVENT });
        assert.equal(headers['content-type'], 'application/json');
        assert.equal(headers['content-length'], String(BODY.length));
        assert.equal(headers['user-agent'], 'waportd-webhook');
        assert.equal(headers.connection, 'close');
        assert.equal(headers['webhook-id'], 'evt_1');
        const time = Number(headers['webhook-timestamp']);
        assert.ok(time >= before && time <= Date.now() / 1000, 'seconds since the epoch');
        assert.equal(headers['webhook-signature'], undefined, 'nobody has a secret');
    });

    it('is signed by each valid secret, and by no other', async (t) => {
        const app = await answering(t, 200);
        const [old, present, other] = [newSecret(), newSecret(), newSecret()];
        await post(app.url, { secrets: [present] });
        await post(app.url, { secrets: [present, old] });
        const [one, two] = app.calls;
        assert.match(one.headers['webhook-signature'], /^v1,[A-Za-z0-9+/]{43}=$/);
        const by = (call) => [old, present, other].map((secret) => isSignedBy(secret, call));
        assert.deepEqual(by(one), [false, true, false]);
        assert.deepEqual(by(two), [true, true, false]);
        const forged = { ...one, text: one.text.replace('mundo', 'mondo') };
        assert.ok(!isSignedBy(present, forged), 'the body counts');
        const later = { ...one.headers, 'webhook-timestamp': '1' };
        assert.ok(!isSignedBy(present, { ...one, headers: later }), 'the time counts');
    });

    it('signs as the example of the convention', async (t) => {
        // The example of the specification's libraries: id, time, body and secret with their signature.
        const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
        const body = '{"test": 2432232314}';
        t.mock.method(Date, 'now', () => 1614265330 * 1000);
        const app = await startWebApp(t);
        const webhook = new Webhook({ url: app.url, secrets: [secret], limitMs: 5_000 });
        await webhook.post('msg_p5jXN8AQM9LWM0D4loKWxJek', Buffer.from(body));
        const { 'webhook-signature': signature } = app.calls[0].headers;
        assert.equal(signature, 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
    });

    it('carries further headers, but none that change what it is', async (t) => {
        const app = await answering(t, 200);
        const headers = {
            Authorization: 'Bearer abc',
            'user-agent': 'other',
            'Content-Length': '1',
            'Transfer-Encoding': 'chunked',
            'Webhook-Id': 'other',
            'x-one': '1',
        };
        assert.equal((await post(app.url, { headers })).outcome, 'delivered');
        const got = app.calls[0].headers;
        assert.deepEqual([got.authorization, got['x-one']], ['Bearer abc', '1']);
        assert.deepEqual([got['user-agent'], got['webhook-id']], ['waportd-webhook', 'evt_1']);
        assert.deepEqual(app.calls[0].event, EVENT);
        assert.deepEqual(await post(app.url, { headers: { 'x-bad': 'a\nsecret' } }), {
            outcome: 'unreachable',
            reason: 'webhook_headers has a value that HTTP does not allow',
            retryAfterMs: null,
        });
    });

    it('means by its status what the table says', async (t) => {
        const meaning = {
            delivered: [200, 201, 202, 204, 299],
            refused: [400, 401, 403, 404, 405, 409, 410, 413, 415, 422, 451, 499],
            later: [300, 304, 408, 425, 429, 500, 501, 502, 503, 504, 507, 599],
        };
        for (const [outcome, statuses] of Object.entries(meaning)) {
            for (const status of statuses) {
                const app = await answering(t, status);
                const answer = await post(app.url);
                assert.equal(answer.outcome, outcome, `${status}`);
                assert.equal(answer.reason, outcome === 'delivered' ? null : `HTTP ${status}`);
            }
        }
    });

    it('reads the pause that is asked for, in both ways of writing it, an hour at most', async (t) => {
        const pauseOf = async (status, text) => {
            const app = await answering(t, status, { 'Retry-After': text });
            return (await post(app.url)).retryAfterMs;
        };
        assert.equal(await pauseOf(429, '7'), 7_000);
        assert.equal(await pauseOf(503, '0'), 0);
        const dated = await pauseOf(503, new Date(Date.now() + 90_000).toUTCString());
        assert.ok(dated > 80_000 && dated <= 90_000, `${dated}`);
        assert.equal(await pauseOf(503, new Date(Date.now() - 90_000).toUTCString()), 0);
        assert.equal(await pauseOf(429, '86400'), 3_600_000);
        assert.equal(await pauseOf(429, new Date(Date.now() + 1e10).toUTCString()), 3_600_000);
        assert.equal(await pauseOf(503, 'soon'), null);
        assert.equal(await pauseOf(503, '-5'), null);
        assert.equal(await pauseOf(404, '7'), null, 'a refusal is none of a moment');
    });

    it('follows redirects within the same web app, with method and body', async (t) => {
        for (const status of [301, 302, 303, 307, 308]) {
            const app = await startWebApp(t, ({ url }, response) => {
                if (url === '/webhook') response.writeHead(status, { Location: '/other/?a=1' }).end('moved');
                else response.end();
            });
            app.url.username = 'name';
            assert.equal((await post(app.url)).outcome, 'delivered', `${status}`);
            const login = `Basic ${Buffer.from('name:').toString('base64')}`;
            const sent = app.calls.map(({ method, url, event, headers }) => {
                return [method, url, event, headers.authorization];
            });
            const places = ['/webhook', '/other/?a=1'];
            assert.deepEqual(
                sent,
                places.map((place) => ['POST', place, EVENT, login]),
            );
        }
    });

    it('follows no other redirect, and says what is to be changed', async (t) => {
        const other = await startWebApp(t);
        const { port } = other.url;
        const places = [
            `http://127.0.0.1:${port}/`,
            `http://localhost:${port}/secret`,
            'https://secret.invalid/',
            'ftp://localhost/',
            'http://[',
        ];
        for (const location of places) {
            const app = await answering(t, 302, { Location: location });
            const { outcome, reason } = await post(app.url);
            assert.equal(outcome, 'later', location);
            assert.match(reason, /^HTTP 302: it redirects to another host or port; webhook_url has to be/);
            assert.doesNotMatch(reason, /secret|localhost|127/);
        }
        assert.equal(other.calls.length, 0);
        const nowhere = await answering(t, 302);
        assert.match((await post(nowhere.url)).reason, /^HTTP 302: it redirects to another/);
        const circle = await answering(t, 307, { Location: '/webhook' });
        assert.match((await post(circle.url)).reason, /^HTTP 307: it redirects again and again; webhook_url/);
        assert.equal(circle.calls.length, 6, 'five redirects are followed');
    });

    it('waits for an answer for its time limit, and not for the rest of one', async (t) => {
        const slow = (ms) =>
            startWebApp(t, (_, response) => {
                setTimeout(() => response.end(), ms).unref();
            });
        const intime = await slow(SHORT_MS);
        assert.equal((await post(intime.url)).outcome, 'delivered');
        const silent = await startWebApp(t, () => {});
        const began = performance.now();
        assert.deepEqual(await post(silent.url, { limitMs: SHORT_MS }), {
            outcome: 'unanswered',
            reason: 'no answer within 0.3 s',
            retryAfterMs: null,
        });
        assert.ok(performance.now() - began < LIMIT_MS / 2);
        // A body that trickles in: the status counts, and nobody waits for the end of it.
        const trickling = await startWebApp(t, (_, response) => {
            response.writeHead(200);
            const timer = setInterval(() => response.write('x'), 20);
            response.on('close', () => clearInterval(timer));
        });
        const asked = performance.now();
        const answer = await post(trickling.url);
        assert.equal(answer.outcome, 'delivered');
        assert.ok(performance.now() - asked < LIMIT_MS / 2);
        const late = await post(trickling.url, { limitMs: 900 });
        assert.equal(late.outcome, 'delivered', 'though its limit passes meanwhile');
    });

    it('distinguishes what the web app may have from what it cannot have', async (t) => {
        const closing = await startWebApp(t, (_, response) => response.socket.destroy());
        assert.deepEqual(await post(closing.url), {
            outcome: 'unanswered',
            reason: 'it closed the connection without an answer',
            retryAfterMs: null,
        });
        const nonsense = await listen(t, (socket) => {
            socket.once('data', () => socket.end('\0 no HTTP\r\n\r\n'));
        });
        assert.deepEqual(await post(nonsense), {
            outcome: 'unanswered',
            reason: 'its answer is not HTTP',
            retryAfterMs: null,
        });
        const nobody = new URL(`http://user:secret@localhost:${await freePort()}/?token=secret`);
        assert.deepEqual(await post(nobody), {
            outcome: 'unreachable',
            reason: 'nobody listens there',
            retryAfterMs: null,
        });
        const unknown = await post(new URL('http://secret.invalid/'));
        assert.equal(unknown.outcome, 'unreachable');
        assert.doesNotMatch(unknown.reason, /secret|invalid/);
    });

    it('comes to an end where its answer is no end, or another protocol', { timeout: 10_000 }, async (t) => {
        const head = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n';
        const other = await listen(t, (socket) => socket.once('data', () => socket.write(head)));
        assert.deepEqual(await post(other, { limitMs: SHORT_MS }), {
            outcome: 'unanswered',
            reason: 'it closed the connection without an answer',
            retryAfterMs: null,
        });
        const endless = (text) => (socket) => {
            const more = () => socket.writable && socket.write(text) && setImmediate(more);
            socket.on('drain', more).once('data', more);
        };
        const interim = await listen(t, endless('HTTP/1.1 102 Processing\r\n\r\n'));
        assert.equal((await post(interim, { limitMs: SHORT_MS })).reason, 'no answer within 0.3 s');
        const heads = await listen(t, endless('HTTP/1.1 200 OK\r\nX: y\r\n'));
        assert.equal((await post(heads)).reason, 'its answer is not HTTP');
        const body = await listen(t, (socket) => {
            socket.once('data', () => {
                socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
                endless(`1000\r\n${'x'.repeat(4096)}\r\n`)(socket);
                socket.emit('drain');
            });
        });
        assert.equal((await post(body)).outcome, 'delivered');
    });

    it('is made over TLS, where the certificate is that of the web app', async (t) => {
        const folder = scratch(t);
        const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(folder, name));
        const names = 'subjectAltName=DNS:localhost';
        execFileSync('openssl', [
            ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
            ...['-keyout', key, '-out', cert, '-days', '2', '-subj', '/CN=app', '-addext', names],
        ]);
        const calls = [];
        const options = { key: fs.readFileSync(key), cert: fs.readFileSync(cert) };
        const server = https.createServer(options, (request, response) => {
            calls.push(request.headers['webhook-id']);
            request.resume();
            request.on('end', () => response.end());
        });
        server.on('tlsClientError', () => {});
        server.listen(0, '127.0.0.1');
        await once(server, 'listening');
        t.after(() => server.close());
        const { port } = server.address();
        const url = `https://localhost:${port}/`;
        const untrusted = await post(new URL(url));
        assert.equal(untrusted.outcome, 'unreachable');
        assert.match(untrusted.reason, /^its certificate is not trusted/);
        const plain = await startWebApp(t);
        const noTls = await post(new URL(`https://localhost:${plain.url.port}/`));
        assert.match(noTls.reason, /does not speak TLS/);
        assert.equal((await post(new URL(`http://localhost:${port}/`))).outcome, 'unanswered');
        assert.deepEqual([calls, plain.calls], [[], []]);
        // What node trusts is read when it starts.
        const ask = async (target) => {
            const script = `
                const { Webhook } = require('./server/webhook');
                const webhook = new Webhook({ url: new URL(process.argv[1]), limitMs: 20_000 });
                const tell = (answer) => console.log(JSON.stringify(answer));
                webhook.post('evt_1', Buffer.from('{}')).then(tell);`;
            const env = { ...process.env, NODE_EXTRA_CA_CERTS: cert };
            const { stdout } = await run(process.execPath, ['-e', script, target], { cwd: ROOT, env });
            return JSON.parse(stdout);
        };
        assert.equal((await ask(url)).outcome, 'delivered');
        assert.match((await ask(`https://127.0.0.1:${port}/`)).reason, /is for another name/);
        assert.deepEqual(calls, ['evt_1']);
    });

    it('is broken off by the end', async (t) => {
        let close = null;
        const app = await startWebApp(t, () => close());
        const webhook = new Webhook({ url: app.url, limitMs: 60_000 });
        close = () => webhook.close();
        assert.equal((await webhook.post('evt_1', BODY)).outcome, 'unanswered');
    });

    it('is never the server itself, whatever its name', () => {
        const own = (url) => isOwn(new URL(url), 5002);
        for (const host of ['localhost', '127.0.0.1', '127.1', '[::1]'])
            assert.ok(own(`http://${host}:5002/x`), host);
        for (const url of ['http://localhost:5001/', 'http://localhost/', 'http://example.org:5002/'])
            assert.equal(own(url), false, url);
        assert.ok(isOwn(new URL('http://localhost/'), 80));
    });
});

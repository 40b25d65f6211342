'use strict';

const assert = require('node:assert/strict');
const net = require('node:net');
const { once } = require('node:events');
const { describe, it } = require('node:test');

const { EventStreams } = require('../../server/events');
const { HttpError, HttpServer } = require('../../server/http');
const { createRoutes } = require('../../server/routes');
const { SessionError, TimeLimitError } = require('../../server/errors');
const { SessionState } = require('../../server/state');
const { freePort, request, within } = require('./support/process');

const silent = { error() {}, warning() {}, info() {}, debug() {} };

async function serve(t, routes, options = {}) {
    const port = await freePort();
    const server = new HttpServer({ routes, log: silent, judge: async () => null, ...options });
    await server.listen({ host: '127.0.0.1', port });
    t.after(() => server.close());
    return { port, server };
}

/** Send bytes as they are; resolves with everything that comes back until the connection ends. */
async function raw(port, text) {
    const socket = net.connect(port, '127.0.0.1');
    let answer = '';
    socket.setEncoding('utf8').on('data', (chunk) => {
        answer += chunk;
    });
    socket.on('error', () => {});
    socket.write(text);
    await within(once(socket, 'close'), 'the server to hang up');
    return answer;
}

/** A session that stands where a test wants it. */
function fakeSession(overrides = {}) {
    return {
        asked: [],
        initialized: false,
        opening: false,
        retries: 0,
        ask() {
            this.asked.push('ask');
        },
        askNow() {
            this.asked.push('askNow');
        },
        async use() {
            throw new SessionError('not_connected', 'WhatsApp is not connected', 'link a phone');
        },
        ...overrides,
    };
}

async function serveSession(t, overrides) {
    const state = new SessionState({ port: 5002, user: '2', attempts: 5 });
    const session = fakeSession(overrides);
    const events = new EventStreams(state);
    t.after(() => events.close());
    return { state, session, events, ...(await serve(t, createRoutes({ state, session, events }))) };
}

describe('requests', () => {
    const echo = {
        method: 'POST',
        path: '/echo/{name}',
        handle: ({ params, body }) => ({ ...params, ...body }),
    };

    it('reach their route with decoded parameters and body', async (t) => {
        const { port } = await serve(t, [echo]);
        const { status, json, headers } = await request(port, 'POST', '/echo/a%2Fb%40c', { body: { x: 1 } });
        assert.deepEqual([status, json], [200, { name: 'a/b@c', x: 1 }]);
        assert.equal(headers['cache-control'], 'no-store');
    });

    it('get JSON errors: 404, 405 with Allow, 400, 413, 500', async (t) => {
        const failing = {
            method: 'GET',
            path: '/fail',
            handle() {
                throw new Error('a secret');
            },
        };
        const { port } = await serve(t, [echo, failing]);
        const unknown = await request(port, 'GET', '/nothing');
        assert.equal(unknown.status, 404);
        assert.ok(unknown.json.error);
        const wrong = await request(port, 'DELETE', '/echo/x');
        assert.deepEqual([wrong.status, wrong.headers.allow], [405, 'POST']);
        for (const body of ['{', '[1]', '"x"', 'null']) {
            assert.equal((await request(port, 'POST', '/echo/x', { body })).status, 400, body);
        }
        assert.equal((await request(port, 'POST', '/echo/%zz')).status, 400);
        const huge = await request(port, 'POST', '/echo/x', { body: Buffer.alloc(1024 * 1024 + 1, 32) });
        assert.equal(huge.status, 413);
        const broken = await request(port, 'GET', '/fail');
        assert.equal(broken.status, 500);
        assert.ok(!broken.text.includes('secret'));
    });

    it('are refused when Host or Origin names another host', async (t) => {
        const { port } = await serve(t, [echo]);
        const status = async (headers) => (await request(port, 'POST', '/echo/x', { headers })).status;
        for (const host of ['localhost', `localhost:${port}`, '127.0.0.1:1', '[::1]:5002', 'LOCALHOST']) {
            assert.equal(await status({ Host: host }), 200, host);
        }
        for (const host of [
            'evil.example',
            'localhost.evil.example',
            '127.0.0.1.evil.example:5002',
            'x@localhost',
        ]) {
            assert.equal(await status({ Host: host }), 403, host);
        }
        const Host = `localhost:${port}`;
        assert.equal(await status({ Host, Origin: `http://${Host}` }), 200);
        for (const origin of [
            'https://evil.example',
            'null',
            'http://localhost',
            'http://localhost:9999',
            `http://127.0.0.1:${port}`,
            `https://${Host}`,
        ])
            assert.equal(await status({ Host, Origin: origin }), 403, origin);
        for (const site of ['same-origin', 'none']) {
            assert.equal(await status({ 'Sec-Fetch-Site': site }), 200, site);
        }
        for (const site of ['cross-site', 'same-site', 'x', '']) {
            assert.equal(await status({ 'Sec-Fetch-Site': site }), 403, site);
        }
    });

    it('are refused on a connection that is not admitted', async (t) => {
        const { port } = await serve(t, [echo], { judge: async () => 'not you' });
        const { status, json } = await request(port, 'POST', '/echo/x');
        assert.deepEqual([status, json.error], [403, 'not you']);
    });

    it('that are no HTTP, or have endless headers, are answered and hung up on', async (t) => {
        const { port } = await serve(t, [echo]);
        const nowhere = 'GET http://[ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
        assert.match(await raw(port, nowhere), /^HTTP\/1\.1 400 /);
        assert.match(await raw(port, 'nonsense\r\n\r\n'), /^HTTP\/1\.1 400 /);
        assert.match(
            await raw(port, `GET / HTTP/1.1\r\nX: ${'x'.repeat(20_000)}\r\n\r\n`),
            /^HTTP\/1\.1 431 /,
        );
    });

    it('that are under way are answered when the server closes', async (t) => {
        let finish;
        let arrived;
        const arrival = new Promise((resolve) => {
            arrived = resolve;
        });
        const slow = {
            method: 'GET',
            path: '/slow',
            handle: () => {
                arrived();
                return new Promise((resolve) => {
                    finish = () => resolve({ done: true });
                });
            },
        };
        const { port, server } = await serve(t, [slow]);
        const answer = request(port, 'GET', '/slow');
        await arrival;
        const closed = server.close();
        finish();
        assert.deepEqual((await answer).json, { done: true });
        await closed;
    });
});

describe('the routes', () => {
    it('answer the old web app in its own shapes', async (t) => {
        const { port, state, session } = await serveSession(t);
        assert.deepEqual((await request(port, 'GET', '/health')).json, { status: 'ok', ready: false });
        assert.deepEqual((await request(port, 'GET', '/qr?user_id=2')).json, {
            qr: null,
            ready: false,
            hasQr: false,
            status: 'generating',
            message: 'starting',
        });
        assert.deepEqual(session.asked, ['ask']);
        const expected = { qr_timeout: 'generating', error: 'error', generating: 'generating' };
        for (const [name, status] of Object.entries(expected)) {
            state.enter(name, { message: name });
            assert.equal((await request(port, 'GET', '/qr')).json.status, status, name);
        }
        const { json } = await request(port, 'GET', '/status');
        assert.deepEqual(Object.keys(json).sort(), [
            'actuallyConnected',
            'clientInfo',
            'clientInitialized',
            'hasQr',
            'isAuthenticated',
            'isConnecting',
            'phone_number',
            'ready',
            'reconnectInfo',
        ]);
        assert.deepEqual(json.reconnectInfo, { attempts: 0, maxAttempts: 1, isReconnecting: false });
        const root = (await request(port, 'GET', '/')).json;
        assert.ok(root.endpoints.some((line) => line.startsWith('GET /qr')));
    });

    it('ask for a browser only where a code is wanted', async (t) => {
        const { port, session } = await serveSession(t);
        for (const target of ['/', '/health', '/status', '/session']) await request(port, 'GET', target);
        assert.deepEqual(session.asked, []);
        const { status, json } = await request(port, 'POST', '/qr/new');
        assert.deepEqual([status, json.state, session.asked], [202, 'generating', ['askNow']]);
    });

    it('follow what they ask for, where they say so', async (t) => {
        const { port, session, state } = await serveSession(t);
        const response = await fetch(`http://127.0.0.1:${port}/qr/new`, {
            method: 'POST',
            headers: { Accept: 'text/event-stream' },
        });
        assert.equal(response.status, 200);
        assert.match(response.headers.get('content-type'), /^text\/event-stream/);
        assert.deepEqual(session.asked, ['askNow']);
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        assert.match((await reader.read()).value, /"state":"generating"/);
        state.enter('qr', { message: 'scan the code' });
        assert.match((await reader.read()).value, /"state":"qr"/);
        await reader.cancel();
    });

    it('answer 400 while WhatsApp is not connected', async (t) => {
        const { port } = await serveSession(t);
        for (const target of ['/chats', '/chats/1@c.us/messages', '/media/x']) {
            const { status, json } = await request(port, 'GET', target);
            assert.deepEqual([status, json.error], [400, 'WhatsApp is not connected'], target);
        }
        const send = (body) => request(port, 'POST', '/send', { body });
        assert.equal((await send({ phone: '5511999998888', message: 'x' })).status, 400);
        for (const body of [
            {},
            { phone: '1' },
            { message: 'x' },
            { phone: {}, message: 'x' },
            { phone: 'x', message: 1 },
        ]) {
            assert.match((await send(body)).json.error, /needed/);
        }
        assert.match((await send({ phone: 'nobody', message: 'x' })).json.error, /neither/);
    });

    it('tell why there is no pairing code', async (t) => {
        const outcomes = [
            [new SessionError('already_linked', 'linked', 'log out'), 409],
            [new SessionError('browser_missing', 'none', 'install'), 503],
            [new TimeLimitError('the pairing code', 60_000), 504],
        ];
        for (const [error, expected] of outcomes) {
            const { port } = await serveSession(t, {
                async requestPairingCode() {
                    throw error;
                },
            });
            const { status, json } = await request(port, 'POST', '/pairing-code', {
                body: { phone: '+55 11 99999-8888' },
            });
            assert.equal(status, expected);
            assert.ok(json.error && json.code);
        }
        const { port } = await serveSession(t);
        for (const phone of [
            undefined,
            5511999998888,
            '',
            '1234567',
            '0551199999888',
            '1234567890123456',
            'abc',
        ]) {
            const { status, json } = await request(port, 'POST', '/pairing-code', { body: { phone } });
            assert.deepEqual([status, json.code], [400, 'bad_phone'], String(phone));
        }
    });

    it('stream the picture at once and at each change, and end with the server', async (t) => {
        const { port, state, events } = await serveSession(t);
        const socket = net.connect(port, '127.0.0.1').setEncoding('utf8');
        let text = '';
        let grown = () => {};
        socket.on('data', (chunk) => {
            text += chunk;
            grown();
        });
        const contains = (wanted) =>
            within(
                new Promise((resolve) => {
                    grown = () => text.includes(wanted) && resolve();
                    grown();
                }),
                wanted,
            );
        socket.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n');
        await contains('"message":"starting"');
        assert.match(text, /event: session\nid: 1\ndata: \{/);
        state.enter('qr', { message: 'scan' });
        await contains('"state":"qr"');
        const ended = once(socket, 'end');
        events.close();
        await within(ended, 'the end of the stream');
        socket.destroy();
    });

    it('do not pile up pictures for a reader that is slow: it gets the last one when it reads', async (t) => {
        const { port, state } = await serveSession(t);
        const socket = net.connect(port, '127.0.0.1').setEncoding('utf8');
        let text = '';
        socket.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n');
        await within(once(socket, 'data'), 'the first picture');
        socket.pause();
        // 400 pictures of 100 kB: the kernel's buffers are full long before the last one.
        const rounds = 400;
        for (let round = 1; round <= rounds; round += 1) {
            const changed = once(state, 'change');
            state.update({ message: `${'x'.repeat(100_000)} ${round}.` });
            await changed;
        }
        const last = new Promise((resolve) => {
            socket.on('data', (chunk) => {
                text += chunk;
                if (text.includes(` ${rounds}.`)) resolve();
            });
        });
        socket.resume();
        await within(last, 'the last picture');
        const pictures = text.match(/^event: session$/gm).length;
        assert.ok(pictures < rounds, `${pictures} pictures of ${rounds}`);
        socket.destroy();
    });

    it('refuse more streams than are useful', async (t) => {
        const { events } = await serveSession(t);
        const response = () => ({ writeHead() {}, on() {}, write() {}, end() {} });
        for (let count = 0; count < 64; count += 1)
            events.open({ request: { method: 'GET' }, response: response() });
        assert.throws(() => events.open({ request: { method: 'GET' }, response: response() }), HttpError);
    });
});

'use strict';

const assert = require('node:assert/strict');
const net = require('node:net');
const { EventEmitter, once } = require('node:events');
const { describe, it } = require('node:test');

const { EventStreams } = require('../../server/events');
const { HttpError, HttpServer } = require('../../server/http');
const { MessageRoutes } = require('../../server/message_routes');
const { addMessagingRoutes } = require('../../server/messaging');
const { createRoutes } = require('../../server/routes');
const { SessionError, TimeLimitError } = require('../../server/errors');
const { Sending } = require('../../server/sending');
const { SessionState } = require('../../server/state');
const { freePort, request, whenFound, within } = require('./support/process');

/** The journal has tests of its own. */
const messages = new MessageRoutes({});

const silent = { error() {}, warning() {}, info() {}, debug() {} };

async function serve(t, routes, options = {}) {
    const port = await freePort();
    const given = routes.all ? routes : { first: routes, all: () => routes };
    const server = new HttpServer({ routes: given, log: silent, judge: async () => null, ...options });
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

async function serveSession(t, { user = '2', ...overrides } = {}) {
    const state = new SessionState({ port: 5002, user, attempts: 5 });
    const session = fakeSession(overrides);
    const events = new EventStreams(state);
    t.after(() => events.close());
    const sending = new Sending({ session, sends: null, spool: null, log: silent, rate: 0 });
    const sends = { sending, spool: null, country: null };
    const parts = { messages, sends, isLinked: () => state.document().linked };
    const addRest = (tools) => addMessagingRoutes(tools, parts);
    const routes = createRoutes({ state, session, events, addRest });
    return { state, session, events, ...(await serve(t, routes)) };
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
            'localhost.',
            '0.0.0.0',
            '127.1',
            '2130706433',
            '[::ffff:127.0.0.1]',
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

    it('have a limit for JSON, and more time for files', async (t) => {
        const read = async (from) => {
            let size = 0;
            for await (const chunk of from) size += chunk.length;
            return { size };
        };
        const file = { ...echo, path: '/file', read };
        const { port } = await serve(t, [echo, file], { jsonLimitMs: 50 });
        const head = (target) => `POST ${target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n{`;
        const slow = await raw(port, head('/echo/x'));
        assert.match(slow, /^HTTP\/1\.1 408 /);
        assert.match(slow, /the body took longer/);
        const socket = net.connect(port, '127.0.0.1').setEncoding('utf8');
        socket.write(head('/file'));
        setTimeout(() => socket.write('abc'), 150);
        const [answer] = await within(once(socket, 'data'), 'the answer');
        assert.match(answer, /^HTTP\/1\.1 200 .*\{"size":4\}$/s);
        socket.destroy();
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
    it('are all refused to what a browser sends for a page of another site, port or name', async (t) => {
        const untouched = async () => assert.fail('the session was touched');
        const { port, state, session, events } = await serveSession(t, {
            use: untouched,
            logout: untouched,
            requestPairingCode: untouched,
            scanInstead: untouched,
        });
        const { endpoints } = (await request(port, 'GET', '/')).json;
        const addRest = (tools) => addMessagingRoutes(tools, { messages, sends: {} });
        const routes = createRoutes({ state, session, events, addRest }).all();
        assert.equal(endpoints.length, routes.length);
        const Host = `localhost:${port}`;
        const foreign = [
            { 'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'no-cors' },
            { 'Sec-Fetch-Site': 'same-site' },
            { Origin: 'http://localhost:9999' },
            { Origin: `http://127.0.0.1:${port}` },
            { Origin: 'null' },
            { Host: 'rebound.example' },
            { 'User-Agent': 'waportd-webhook' },
        ];
        const body = { phone: '5511999990000', message: 'x' };
        for (const { method, path } of routes) {
            const target = path.replace('{id}', '1%40c.us');
            for (const headers of foreign) {
                const sent = { headers: { Host, ...headers }, ...(method === 'POST' ? { body } : {}) };
                const { status, json } = await request(port, method, target, sent);
                assert.equal(status, 403, `${method} ${path} ${JSON.stringify(headers)}`);
                assert.deepEqual(Object.keys(json), ['error']);
            }
        }
        assert.deepEqual(session.asked, []);
    });

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

    it('answer for no other user than the one whose server this is', async (t) => {
        const done = [];
        const note = (what) => async () => done.push(what);
        const { port, session } = await serveSession(t, {
            use: note('use'),
            logout: note('logout'),
            requestPairingCode: note('pairing'),
            scanInstead: () => done.push('scan'),
        });
        const refused = async (method, target, options) => {
            const { status, json } = await request(port, method, target, options);
            assert.deepEqual([status, json.code, json.cause], [409, 'other_user', 'other_user'], target);
            assert.match(json.error, /the server of user 2, not of user 2_1$/, target);
            assert.match(json.hint, /port/);
            assert.equal(json.qr, undefined);
        };
        const posts = ['/qr/new', '/pairing-code', '/send', '/disconnect'];
        const gets = ['/', '/qr', '/status', '/session', '/events', '/chats', '/chats/1@c.us/messages'];
        for (const target of [...gets, '/media/x']) await refused('GET', `${target}?user_id=2_1`);
        await refused('GET', '/qr?port=5002&user_id=2&user_id=2_1');
        await refused('DELETE', '/pairing-code?user_id=2_1');
        const body = { phone: '5511999998888', message: 'x' };
        for (const target of posts) {
            await refused('POST', `${target}?user_id=2_1`, { body });
            await refused('POST', target, { body: { ...body, user_id: '2_1' } });
        }
        for (const other of [3, '02', ' 2', true, {}, 'x'.repeat(1000)]) {
            const named = { ...body, user_id: other };
            const { status, text } = await request(port, 'POST', '/send', { body: named });
            assert.equal(status, 409, text);
            assert.doesNotMatch(text, /xxx/, 'what is no id is not repeated');
        }
        assert.deepEqual([done, session.asked], [[], []], 'and nothing is done');

        for (const query of ['', '?user_id=2', '?user_id=']) {
            assert.equal((await request(port, 'GET', `/qr${query}`)).status, 200, query);
        }
        for (const target of ['/session?user_id=2', '/health?user_id=2_1']) {
            assert.equal((await request(port, 'GET', target)).status, 200, target);
        }
        for (const own of [2, '2', '', null, undefined]) {
            const { status } = await request(port, 'POST', '/send', { body: { ...body, user_id: own } });
            assert.equal(status, 200, String(own));
        }
    });

    it('change nothing for a print service of root that is sent here', async (t) => {
        const handled = [];
        const addRest = (tools) => addMessagingRoutes(tools, { messages, sends: {} });
        const routes = createRoutes({ state: null, session: null, events: null, addRest })
            .all()
            .filter(({ method }) => method === 'POST')
            .map((route) => ({ ...route, handle: () => handled.push(route.path) }));
        const { port } = await serve(t, routes);
        // Who may print names the address; the Internet Printing Protocol (RFC 8010) begins each body so.
        const body = Buffer.from([2, 0, 0, 11, 0, 0, 0, 1, 1, 3]);
        const headers = { 'Content-Type': 'application/ipp', 'Content-Length': body.length };
        assert.ok(routes.length >= 4);
        for (const { path } of routes) {
            assert.equal((await request(port, 'POST', path, { body, headers })).status, 400, path);
        }
        assert.deepEqual(handled, []);
    });

    it('answer for everybody where nobody has said whose server it is', async (t) => {
        const { port } = await serveSession(t, { user: null });
        assert.equal((await request(port, 'GET', '/qr?user_id=2_1')).status, 200);
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

    it('say why there is no pairing code', async (t) => {
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

    it('stream the document at once and at each change, and end with the server', async (t) => {
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

    it('do not pile up documents for a slow reader: it gets the last one when it reads', async (t) => {
        const { port, state } = await serveSession(t);
        const socket = net.connect(port, '127.0.0.1').setEncoding('utf8');
        let text = '';
        socket.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n');
        await within(once(socket, 'data'), 'the first document');
        socket.pause();
        // 400 documents of 100 kB: the kernel's buffers are full long before the last one.
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
        await within(last, 'the last document');
        const documents = text.match(/^event: session$/gm).length;
        assert.ok(documents < rounds, `${documents} documents of ${rounds}`);
        socket.destroy();
    });

    it('refuse more streams than are useful', async (t) => {
        const { events } = await serveSession(t);
        const response = () => ({ writeHead() {}, on() {}, write() {}, end() {} });
        for (let count = 0; count < 64; count += 1)
            events.open({ request: { method: 'GET' }, response: response() });
        assert.throws(() => events.open({ request: { method: 'GET' }, response: response() }), HttpError);
    });

    it('are not all there for one caller, and of many callers the one with most gives way', async (t) => {
        const { state } = await serveSession(t);
        const events = new EventStreams(state, (caller) => caller);
        t.after(() => events.close());
        const ended = [];
        const open = (socket, method = 'GET') => {
            const response = new EventEmitter();
            Object.assign(response, { writeHead() {}, write() {}, end() {} });
            response.destroy = () => ended.push(socket);
            events.open({ request: { method, socket }, response });
        };
        const openMany = (socket, count) => Array.from({ length: count }, () => open(socket));
        openMany('stranger', 32);
        assert.throws(() => open('stranger'), { status: 503 });
        open('stranger', 'HEAD');
        openMany('another', 31);
        open('third');
        assert.deepEqual(ended, []);
        open('waportd');
        assert.deepEqual(ended, ['stranger']);
        assert.throws(() => open('another'), { status: 503 });
        assert.deepEqual(ended, ['stranger']);
    });
});

describe('connections', () => {
    const here = { method: 'GET', path: '/here', handle: () => ({ here: true }) };

    /** Connect without a word, so often; count those that are still held. */
    async function crowd(t, port, count) {
        const sockets = Array.from({ length: count }, () => net.connect(port, '127.0.0.1'));
        t.after(() => sockets.forEach((socket) => socket.destroy()));
        sockets.forEach((socket) => socket.on('error', () => {}).resume());
        await within(Promise.all(sockets.map((socket) => once(socket, 'connect'))), 'the connections');
        return () => sockets.filter((socket) => !socket.closed).length;
    }

    it('of callers who are refused keep nobody out, and end', async (t) => {
        let count = 0;
        const judge = async () => ((count += 1) > 256 ? null : 'not you');
        const { port } = await serve(t, [here], { judge });
        const held = await crowd(t, port, 256);
        assert.equal((await request(port, 'GET', '/here')).status, 200);
        assert.ok(held() <= 16, `${held()} are held`);
        await whenFound(() => held() === 0, 'the end of the last ones');
    });

    it('of a caller who is refused last long enough to say why', async (t) => {
        const { port } = await serve(t, [here], { judge: async () => 'not you' });
        const { status, json } = await request(port, 'GET', '/here');
        assert.deepEqual([status, json.error], [403, 'not you']);
    });

    it('of one caller are not all there are', async (t) => {
        let count = 0;
        const callers = new WeakMap();
        const judge = async (socket) => {
            callers.set(socket, (count += 1) > 256 ? 'another' : 'one');
            return null;
        };
        const { port } = await serve(t, [here], { judge, callerOf: (socket) => callers.get(socket) });
        const held = await crowd(t, port, 256);
        assert.equal((await request(port, 'GET', '/here')).status, 200);
        assert.equal(held(), 192);
    });
});

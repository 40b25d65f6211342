'use strict';

/** The server as a process, without a browser: how it starts, listens and stops. */

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { describe, it } = require('node:test');

const { receiver } = require('./support/notify');
const { freePort, request, startServer } = require('./support/process');

/** What systemd does for a socket unit: bind both addresses, and become the server with 3 and 4 open. */
const SOCKET_UNIT = `
import os, socket, sys
port = int(sys.argv[1])
for number, (family, host) in enumerate([(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], 3):
    listening = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listening.bind((host, port))
    listening.listen()
    descriptor = listening.detach()
    if descriptor != number:
        os.dup2(descriptor, number)
    os.set_inheritable(number, True)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
`;

/** @param {import('node:test').TestContext} t @param {string} host */
async function listener(t, host, port = 0) {
    const server = net.createServer().listen(port, host);
    await once(server, 'listening');
    t.after(() => server.close());
    return server;
}

describe('starting', () => {
    it('answers on both loopback addresses and stops with 0', async (t) => {
        const server = await startServer(t);
        assert.deepEqual((await server.get('/health')).json, { status: 'ok', ready: false });
        assert.equal((await request(server.port, 'GET', '/health', { host: '::1' })).status, 200);
        server.kill('SIGTERM');
        assert.equal(await server.exit(3000), 0);
    });

    it('exits with 2 and names the variable when a value is unusable', async (t) => {
        const server = await startServer(t, {
            env: { PORT: 'web', WAPORTD_QR_LIFETIME: 'x' },
            answers: false,
        });
        assert.equal(await server.exit(), 2);
        assert.match(server.output, /PORT is "web"; allowed/);
        assert.match(server.output, /WAPORTD_QR_LIFETIME is "x"; allowed/);
    });

    it('exits with 2 and names the port when somebody holds it, on either address', async (t) => {
        for (const host of ['127.0.0.1', '::1']) {
            const holder = await listener(t, host);
            const { port } = /** @type {net.AddressInfo} */ (holder.address());
            const server = await startServer(t, { port, answers: false });
            assert.equal(await server.exit(), 2);
            assert.match(server.output, new RegExp(`port ${port} is taken by another process`));
        }
    });

    it('takes over every socket that systemd hands it', async (t) => {
        const port = await freePort();
        const around = ['/usr/bin/python3', '-c', SOCKET_UNIT, String(port)];
        const server = await startServer(t, { port, around });
        assert.match(server.output, /systemd \(2 sockets\)/);
        for (const host of ['127.0.0.1', '::1']) {
            assert.equal((await request(port, 'GET', '/health', { host })).status, 200, host);
        }
        server.kill('SIGTERM');
        assert.equal(await server.exit(), 0);
    });
});

describe('what systemd gets to know', () => {
    it('is that the server is ready, what it does, that it lives, and that it stops', async (t) => {
        const { socket, lines, until } = await receiver(t);
        const env = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '200000', WAPORTD_USER: '2' };
        const server = await startServer(t, { env });
        await until('READY=1');
        await until('STATUS=user 2: waiting until somebody asks for a code');
        await until('WATCHDOG=1');
        server.kill('SIGTERM');
        assert.equal(await server.exit(), 0);
        await until('STOPPING=1');
        assert.match(lines[1], /READY=1/, 'nothing is said before READY');
    });

    it('is where things stand after several changes at once, not each of them', async (t) => {
        const { socket, lines, until } = await receiver(t);
        const env = { NOTIFY_SOCKET: socket, WAPORTD_USER: '2', WAPORTD_BROWSER: '/nowhere' };
        const server = await startServer(t, { env });
        await until('STATUS=user 2: waiting until somebody asks for a code');
        await server.post('/qr/new');
        await until('next try at');
        assert.ok(!lines.some((line) => line.includes('starting the browser')), lines.join('\n'));
    });
});

describe('running', () => {
    it('continues when nobody reads its log any more', async (t) => {
        const reader = 'exec "$@" > >(grep --max-count=1 listening >&2)';
        const around = ['/bin/bash', '-c', reader, 'bash'];
        const server = await startServer(t, { env: { WAPORTD_BROWSER: '/nowhere' }, around });
        const events = server.follow();
        await server.get('/qr');
        await events.until('error', 'something to be logged');
        assert.equal((await server.get('/health')).status, 200);
        server.kill('SIGTERM');
        assert.equal(await server.exit(), 0);
    });

    it('hands no message to itself, and says so', async (t) => {
        const port = await freePort();
        const env = { WAPORTD_WEBHOOK_URL: `http://localhost:${port}/webhook` };
        const server = await startServer(t, { port, env });
        const { webhook } = await server.follow().until((document) => document.webhook.error !== null, 'it');
        assert.match(webhook.error ?? '', /names this server itself/);
        assert.match(server.output, /WAPORTD_WEBHOOK_URL names this server itself/);
    });

    it('says what is wrong when a session cannot be deleted', async (t) => {
        const server = await startServer(t);
        fs.writeFileSync(path.join(server.directory, `.wwebjs_auth_${server.port}`), 'a file, not a folder');
        const { status, json } = await server.post('/disconnect');
        assert.deepEqual([status, json.code], [500, 'profile_error']);
        assert.match(json.error, /^logged out, but the session is not deleted: /);
        assert.equal(await server.exit(), 10);
    });
});

describe('stopping', () => {
    it('ends the event streams', async (t) => {
        const server = await startServer(t);
        const events = server.follow();
        await events.until('generating');
        server.kill('SIGTERM');
        assert.equal(await server.exit(3000), 0);
    });

    it('with a request that never ends does not wait for it', async (t) => {
        const server = await startServer(t);
        const socket = net.connect(server.port, '127.0.0.1');
        socket.on('error', () => {});
        await once(socket, 'connect');
        socket.write('POST /send HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n');
        server.kill('SIGTERM');
        // Half a second before it would be ended by force: a loaded machine takes five for a second's work.
        assert.equal(await server.exit(9000), 0);
        socket.destroy();
    });
});

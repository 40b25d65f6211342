'use strict';

const assert = require('node:assert/strict');
const { spawnSync } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const { describe, it } = require('node:test');

const { callerUid, createJudge } = require('../../server/caller_check');
const { HttpServer } = require('../../server/http');
const { freePort, request, scratch, within } = require('./support/process');

const OWN = process.getuid();
const silent = { error() {}, warning() {}, info() {}, debug() {} };
const HEADER =
    '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n';

/** A row as the kernel prints it. */
const row = (client, server, state, uid, inode) =>
    `   1: ${client} ${server} ${state} 00000000:00000000 00:00000000 00000000 ${String(uid).padStart(5)}` +
    `        0 ${inode} 2 0000000000000000 20 4 0 10 -1\n`;

/** A server that notes who got through; `address` is what it listens on. */
async function serve(t, uids, address = '127.0.0.1') {
    const port = await freePort();
    const reached = [];
    const warnings = [];
    const verdicts = [];
    const log = { ...silent, warning: (event, fields) => warnings.push(fields) };
    const decide = createJudge({ uids, log });
    const judge = (socket) => {
        verdicts.push(decide(socket));
        return verdicts.at(-1);
    };
    const note = { method: 'POST', path: '/note', handle: ({ body }) => ({ count: reached.push(body) }) };
    const server = new HttpServer({ routes: { first: [note] }, log: silent, judge });
    await server.listen({ host: address, port });
    t.after(() => server.close());
    return { port, reached, warnings, verdicts };
}

describe('a server that answers certain users only', () => {
    for (const address of ['127.0.0.1', '::1']) {
        it(`knows who calls on ${address}`, async (t) => {
            const { port, reached } = await serve(t, [OWN], address);
            const { status } = await request(port, 'POST', '/note', { host: address });
            assert.equal(status, 200);
            assert.equal(reached.length, 1);
        });

        it(`refuses everybody else on ${address}, and says why`, async (t) => {
            const { port, reached, warnings } = await serve(t, [OWN + 1], address);
            for (let i = 0; i < 2; i += 1) {
                const { status, json, headers } = await request(port, 'POST', '/note', { host: address });
                assert.equal(status, 403);
                assert.match(json.error, new RegExp(`user id ${OWN} may not call this server.*allow_users`));
                assert.equal(headers.connection, 'close');
            }
            assert.deepEqual(reached, []);
            assert.equal(warnings.length, 1, 'once for each user: nobody can flood the log');
            assert.equal(warnings[0].uid, OWN);
        });
    }

    it('finds a caller among more connections than the kernel lists at once', async (t) => {
        const { port } = await serve(t, [OWN]);
        const sockets = Array.from({ length: 100 }, () => net.connect(port, '127.0.0.1'));
        t.after(() => sockets.forEach((socket) => socket.destroy()));
        await within(Promise.all(sockets.map((socket) => once(socket, 'connect'))), 'the connections');
        for (let i = 0; i < 10; i += 1) {
            const { status, text } = await request(port, 'POST', '/note');
            assert.equal(status, 200, text);
        }
    });

    it('knows a caller with an IPv6 socket, who stands in the other table', async (t) => {
        const { port, reached } = await serve(t, [OWN]);
        const mapped = { host: '::ffff:127.0.0.1', headers: { Host: 'localhost' } };
        const { status, text } = await request(port, 'POST', '/note', mapped);
        assert.equal(status, 200, text);
        assert.equal(reached.length, 1);
    });

    it('does not take for root a caller who sends a request and is gone at once', async (t) => {
        const { port, reached, verdicts } = await serve(t, [0]);
        // Nothing happens here until the client is gone: who looks then sees its end closed.
        const script = `
            const text = 'POST /note HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: 0\\r\\n\\r\\n';
            const socket = require('node:net').connect(${port}, '127.0.0.1', () =>
                socket.write(text, () => socket.destroy()));`;
        const identity = OWN === 0 ? { uid: 65534, gid: 65534 } : {};
        const { status } = spawnSync(process.execPath, ['-e', script], { ...identity, cwd: '/' });
        assert.equal(status, 0);
        const own = await request(port, 'POST', '/note');
        assert.equal(verdicts.length, 2);
        assert.match(await verdicts[0], /^who calls is not known/);
        assert.equal(own.status, OWN === 0 ? 200 : 403);
        assert.equal(reached.length, OWN === 0 ? 1 : 0);
    });

    it('decides once for each connection', async (t) => {
        const { port, verdicts } = await serve(t, [OWN]);
        const socket = net.connect(port, '127.0.0.1');
        t.after(() => socket.destroy());
        for (let i = 0; i < 3; i += 1) {
            socket.write('POST /note HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n');
            const [answer] = await within(once(socket, 'data'), 'an answer');
            assert.match(String(answer), /^HTTP\/1\.1 200 /);
        }
        assert.equal(verdicts.length, 1);
    });
});

describe('a server that answers everybody', () => {
    const session = 61999;
    for (const [uid, may] of [
        [0, true],
        [33, true],
        [1000, true],
        [61183, true],
        [61184, false],
        [session - 1, false],
        [session, true],
        [65519, false],
        [65520, true],
        [2 ** 31, true],
    ]) {
        it(`${may ? 'lets' : 'does not let'} user id ${uid} call the session of ${session}`, async (t) => {
            const table = path.join(scratch(t), 'tcp');
            fs.writeFileSync(table, HEADER + row('0100007F:1234', '0100007F:1389', '01', uid, 77));
            const judge = createJudge({ uids: null, log: silent, tables: [table], own: session });
            const reason = await judge({
                remoteAddress: '127.0.0.1',
                remotePort: 0x1234,
                localAddress: '127.0.0.1',
                localPort: 0x1389,
                destroyed: false,
            });
            if (may) assert.equal(reason, null);
            else assert.match(reason, /DynamicUser= has to be in api.allow_users/);
        });
    }

    it('asks nobody who they are, and takes no connection from elsewhere', async () => {
        const judge = createJudge({ uids: null, log: silent, tables: ['/nonexistent/table'] });
        assert.equal(await judge({ remoteAddress: '127.0.0.1' }), null);
        assert.equal(await judge({ remoteAddress: '::1' }), null);
        assert.match(await judge({ remoteAddress: '192.0.2.1' }), /not from this host/);
        assert.match(await judge({}), /not from this host/);
    });
});

describe("a caller's uid", () => {
    const socket = {
        remoteAddress: '127.0.0.1',
        remotePort: 0xd740,
        localAddress: '127.0.0.1',
        localPort: 5002,
        destroyed: false,
    };
    const client = '0100007F:D740';
    const server = '0100007F:138A';
    const stranger = '0100007F:D741';

    /** What is read out of a table with these rows. */
    function uidIn(t, ...rows) {
        const table = path.join(scratch(t), 'tcp');
        fs.writeFileSync(table, HEADER + rows.join(''));
        return callerUid(socket, [table]);
    }

    it('is that of exactly this connection', async (t) => {
        const others = [
            row(server, client, '01', 1, 11),
            row(stranger, server, '01', 2, 12),
            row(client, '0100007F:138B', '01', 3, 13),
            row('0200007F:D740', server, '01', 4, 14),
        ];
        assert.equal(await uidIn(t, ...others), null);
        assert.equal(await uidIn(t, ...others, row(client, server, '01', 1000, 15)), 1000);
    });

    it('is unknown when the connection is not established, or nobody holds it', async (t) => {
        for (const state of ['02', '04', '05', '06', '07', '08']) {
            assert.equal(await uidIn(t, row(client, server, state, 1000, 15)), null, state);
        }
        assert.equal(await uidIn(t, row(client, server, '06', 0, 0)), null);
        assert.equal(await uidIn(t, row(client, server, '01', 0, 0)), null);
    });

    it('is unknown when our end is closed: another may have its port by now', async (t) => {
        const table = path.join(scratch(t), 'tcp');
        fs.writeFileSync(table, row(client, server, '01', 0, 15));
        assert.equal(await callerUid({ ...socket, destroyed: true }, [table]), null);
    });

    it('is unknown when there is no table to read, and the refusal says so', async () => {
        const judge = createJudge({ uids: [OWN], log: silent, tables: ['/proc/self/mem'] });
        assert.match(await judge(socket), /who calls is not known: .*(EIO|EPERM|EACCES|EINVAL)/);
    });
});

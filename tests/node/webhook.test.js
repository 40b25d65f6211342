'use strict';

const assert = require('node:assert/strict');
const http = require('node:http');
const { once } = require('node:events');
const { describe, it } = require('node:test');

const { Webhook, isOwn } = require('../../server/webhook');
const { freePort, within } = require('./support/process');

const silent = { error() {}, warning() {}, info() {}, debug() {} };

/** A web app whose answers are given one by one: a status, or null to hang up. */
async function webApp(t, answers) {
    const bodies = [];
    const server = http.createServer((request, response) => {
        let text = '';
        request.on('data', (chunk) => {
            text += chunk;
        });
        request.on('end', () => {
            bodies.push(JSON.parse(text));
            const status = answers.length > 0 ? answers.shift() : 200;
            if (status === null) request.socket.destroy();
            else response.writeHead(status).end();
        });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    // By the name that people write, which is ::1, too, where this one does not listen.
    return { bodies, url: new URL(`http://localhost:${server.address().port}/webhook`) };
}

/** A queue, and a way to wait until its counts are as wanted. */
function queue(t, url) {
    let look = () => {};
    const webhook = new Webhook({ url, log: silent, onCount: (counts) => look(counts) });
    t.after(() => webhook.close());
    const until = (wanted) =>
        within(
            new Promise((resolve) => {
                look = (counts) =>
                    Object.entries(wanted).every(([name, value]) => counts[name] === value) && resolve();
                look(webhook.counts);
            }),
            `counts ${JSON.stringify(wanted)}; they are ${JSON.stringify(webhook.counts)}`,
        );
    return { webhook, until };
}

describe('the webhook', () => {
    it('gets messages in order', async (t) => {
        const { bodies, url } = await webApp(t, []);
        const { webhook, until } = queue(t, url);
        for (let n = 0; n < 20; n += 1) webhook.push({ n });
        await until({ delivered: 20, queued: 0 });
        assert.deepEqual(
            bodies,
            Array.from({ length: 20 }, (_, n) => ({ n })),
        );
    });

    it('is tried again after an error or a broken connection, with the same message first', async (t) => {
        const { bodies, url } = await webApp(t, [500, null, 200]);
        const { webhook, until } = queue(t, url);
        webhook.push({ n: 1 });
        webhook.push({ n: 2 });
        await until({ delivered: 2 });
        assert.deepEqual(
            bodies.map(({ n }) => n),
            [1, 1, 1, 2],
        );
        assert.deepEqual(webhook.counts, { queued: 0, delivered: 2, failed: 2, dropped: 0 });
    });

    it('is not asked again about a message that it refuses', async (t) => {
        const { url } = await webApp(t, [400]);
        const { webhook, until } = queue(t, url);
        webhook.push({ n: 1 });
        webhook.push({ n: 2 });
        await until({ delivered: 1, dropped: 1 });
        assert.equal(webhook.counts.failed, 1);
    });

    it('that is down fills a bounded queue, whose oldest messages give way', async (t) => {
        const { webhook, until } = queue(t, new URL(`http://127.0.0.1:${await freePort()}/webhook`));
        webhook.push({ n: 0 });
        await until({ failed: 1 });
        for (let n = 1; n <= 1005; n += 1) webhook.push({ n });
        assert.deepEqual([webhook.counts.queued, webhook.counts.dropped], [1000, 6]);
        const megabyte = 'x'.repeat(1024 * 1024);
        for (let n = 0; n < 10; n += 1) webhook.push({ megabyte });
        assert.ok(webhook.counts.queued < 10, 'at most 8 MiB are kept');
    });

    it('is never the server itself, whatever its name', () => {
        const own = (url) => isOwn(new URL(url), 5002);
        for (const host of ['localhost', '127.0.0.1', '127.1', '[::1]'])
            assert.ok(own(`http://${host}:5002/x`), host);
        for (const url of ['http://localhost:5001/', 'http://localhost/', 'http://example.org:5002/'])
            assert.equal(own(url), false, url);
        assert.ok(isOwn(new URL('http://localhost/'), 80));
    });

    it('is optional', (t) => {
        const { webhook } = queue(t, null);
        webhook.push({ n: 1 });
        assert.equal(webhook.counts.queued, 0);
    });
});

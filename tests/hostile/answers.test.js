'use strict';

/** What others answer a user's server: the web app that gets the messages, and hosts that have files. */

const assert = require('node:assert/strict');
const net = require('node:net');

const { HttpError } = require('../../server/http');
const { fetchMedia } = require('../../server/remote_media');
const { Webhook } = require('../../server/webhook');
const { fuzz } = require('./fuzz');

const SECRET = 'Zx9-never-to-be-seen';
const MOST = 5_000;

/** Answers each connection with the next of `answers`, cut as it is, and hangs up. */
let answers = [];
let port;
const host = net.createServer((socket) => {
    const pieces = answers.length > 1 ? answers.shift() : (answers[0] ?? []);
    socket.on('error', () => {});
    socket.resume();
    socket.once('data', async () => {
        for (const piece of pieces) {
            socket.write(piece);
            await new Promise(setImmediate);
        }
        socket.end();
    });
});
host.unref();
const listening = new Promise((resolve) => {
    host.listen(0, '127.0.0.1', () => {
        ({ port } = host.address());
        resolve();
    });
});

const STATUSES = [200, 204, 206, 301, 302, 303, 304, 307, 308, 400, 404, 408, 410, 413, 425, 429, 500, 503];
const LINES = ['HTTP/1.1 999 x', 'HTTP/1.1 101 Switching', 'HTTP/1.1 100 Continue', 'HTTP/9 200', SECRET, ''];
const LOCATIONS = [
    ...['/', '//', '/next?x=1', '', 'http://', 'http://[', `http://${SECRET}@127.0.0.1/`, 'gopher://x/'],
    ...['file:///etc/passwd', 'javascript:1', 'http://127.0.0.1:99999/', 'http://127.0.0.1:1/', '\xff'],
];
const PAUSES = ['0', '5', '-1', '1e9', '999999999', 'soon', 'Mon, 99 Foo', 'Thu, 01 Jan 2099 00:00:00 GMT'];
const TYPES = ['image/png', 'text/html; charset=\xff', 'x', SECRET, ';'.repeat(500)];
const HEADERS = {
    Location: (chance) => (chance.once(3) ? `http://127.0.0.1:${port}/again` : chance.pick(LOCATIONS)),
    'Retry-After': (chance) => chance.pick(PAUSES),
    'Content-Length': (chance) => chance.pick(['0', '5', '99999', '-1', '5, 6', '9'.repeat(30), 'x']),
    'Content-Type': (chance) => chance.pick(TYPES),
    'Content-Encoding': (chance) => chance.pick(['gzip', 'br']),
    'Transfer-Encoding': (chance) => chance.pick(['chunked', 'gzip, chunked', 'x']),
    Connection: (chance) => chance.pick(['close', 'upgrade', 'keep-alive']),
    Upgrade: () => 'websocket',
    'Set-Cookie': (chance) => `a=${'x'.repeat(chance.pick([3, 20_000]))}`,
};

/** An answer as it comes over the wire, in pieces. */
function answer(chance) {
    const line = chance.once(6) ? chance.pick(LINES) : `HTTP/1.1 ${chance.pick(STATUSES)} OK`;
    const names = Object.keys(HEADERS).filter(() => chance.once(4));
    const headers = names.map((name) => `${name}: ${HEADERS[name](chance)}`);
    const chunks = ['5\r\nhello\r\n0\r\n\r\n', 'ffffffffff\r\n'];
    const body = chance.pick(['', 'hello', ...chunks, 'x'.repeat(MOST + 1)]);
    const whole = Buffer.from([line, ...headers, '', body].join('\r\n'), 'latin1');
    return chance.cut(chance.once(4) ? chance.damaged(whole) : whole);
}

/** A redirect to nowhere was reported as a mistake of the caller's. */
const NOWHERE = [['HTTP/1.1 302 x\r\nLocation: gopher://x/\r\nContent-Length: 0\r\n\r\n']];
const several = (chance) => [answer(chance), ...chance.some(6, () => answer(chance))];

fuzz('whatever a web app answers, it has the event, or will be asked again, or does not want it', {
    times: 250,
    before: () => listening,
    make: several,
    examples: [NOWHERE],
    async check(all) {
        answers = all;
        const url = new URL(`http://127.0.0.1:${port}/webhook?token=${SECRET}`);
        const secrets = [`whsec_${Buffer.from(SECRET.padEnd(24)).toString('base64')}`];
        const webhook = new Webhook({ url, secrets, headers: { 'X-Key': SECRET }, limitMs: 20_000 });
        const told = await webhook.post('id', Buffer.from(`{"body": "${SECRET}"}`));
        const outcomes = ['delivered', 'refused', 'later', 'unanswered', 'unreachable'];
        assert.ok(outcomes.includes(told.outcome), told.outcome);
        assert.equal(told.reason === null, told.outcome === 'delivered');
        assert.ok(!(told.reason ?? '').includes(SECRET), told.reason);
        assert.ok((told.reason ?? '').length < 200, told.reason);
        const { retryAfterMs: pause } = told;
        assert.ok(pause === null || (pause >= 0 && pause <= 3_600_000), `a pause of ${pause} ms`);
        answers = [['HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n']];
        const next = await webhook.post('id', Buffer.from('{}'));
        assert.equal(next.outcome, 'delivered', 'a valid answer next to it');
    },
});

/** Takes what comes, as server/spool.js does. */
async function keep(chunks, type) {
    let size = 0;
    for await (const chunk of chunks) size += chunk.length;
    return { size, type };
}

fuzz('whatever a host answers, a file is fetched from it, or the caller learns why it is not', {
    times: 250,
    before: () => listening,
    make: several,
    examples: [NOWHERE],
    async check(all) {
        answers = all;
        const url = `http://127.0.0.1:${port}/a%20b.png?token=${SECRET}`;
        try {
            const { size, name } = await fetchMedia(url, { most: MOST, mayBePrivate: true, keep });
            assert.ok(size <= MOST);
            assert.ok(name === undefined || name.length <= 255);
        } catch (error) {
            assert.ok(error instanceof HttpError, error.stack);
            // What the caller gave was a URL: it is not theirs what is wrong.
            assert.ok([413, 422].includes(error.status), `${error.status} ${error.message}`);
            assert.ok(!JSON.stringify(error.body).includes(SECRET), 'a secret is repeated');
        }
        await assert.rejects(fetchMedia(url, { most: MOST, mayBePrivate: false, keep }), { status: 422 });
    },
});

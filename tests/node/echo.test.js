'use strict';

/** The echo bots of docs/examples, each as it would run, before a sender of signed events. */

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const crypto = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { describe, it } = require('node:test');

const { ROOT, freePort, request, scratch, whenFound } = require('./support/process');

const EXAMPLES = path.join(ROOT, 'docs', 'examples');
const secretOf = (word) => `whsec_${Buffer.from(word.repeat(10)).toString('base64')}`;
const [SECRET, OTHER] = ['old', 'new'].map(secretOf);
const BOTS = {
    Node: () => [process.execPath, 'echo.js'],
    PHP: (port) => ['php', '-S', `localhost:${port}`, 'echo.php'],
    Flask: (port) => ['/usr/bin/python3', '-m', 'flask', '--app', 'echo_flask', 'run', '--port', `${port}`],
    shell: (port) => [
        'systemd-socket-activate',
        '--inetd',
        '--accept',
        `--listen=127.0.0.1:${port}`,
        ...['WEBHOOK_SECRET', 'DONE', 'PATH'].map((name) => `--setenv=${name}`),
        'sh',
        'echo.sh',
    ],
};

/** A user's server that takes messages, as long as it is up. */
async function userServer(t) {
    const server = { up: true, sent: [] };
    const listening = http.createServer(async (call, response) => {
        const pieces = [];
        for await (const piece of call) pieces.push(piece);
        if (!server.up) {
            response.writeHead(503).end('{"error":"busy"}');
            return;
        }
        const { url, method, headers } = call;
        const body = JSON.parse(Buffer.concat(pieces));
        server.sent.push({ url, method, key: headers['idempotency-key'], body });
        response.writeHead(200).end('{"id":"true_1@c.us_A","outcome":"sent"}');
    });
    listening.listen(0, 'localhost');
    await once(listening, 'listening');
    server.port = listening.address().port;
    t.after(() => {
        listening.close();
        listening.closeAllConnections();
    });
    return server;
}

function sign(secret, text) {
    const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
    return `v1,${crypto.createHmac('sha256', key).update(text).digest('base64')}`;
}

for (const [name, commandOf] of Object.entries(BOTS)) {
    describe(`the echo bot in ${name}`, () => {
        it('answers each text once, and nobody but waportd', { timeout: 60_000 }, async (t) => {
            const folder = scratch(t);
            const server = await userServer(t);
            const port = await freePort();
            const [program, ...args] = commandOf(port);
            const bot = spawn(program, args, {
                cwd: EXAMPLES,
                env: {
                    PATH: process.env.PATH,
                    HOME: folder,
                    PORT: `${port}`,
                    DONE: path.join(folder, 'done'),
                    WEBHOOK_SECRET: `${SECRET},${OTHER}`,
                    PYTHONDONTWRITEBYTECODE: '1',
                },
                stdio: ['ignore', 'pipe', 'pipe'],
            });
            let output = '';
            for (const stream of [bot.stdout, bot.stderr]) {
                stream.setEncoding('utf8').on('data', (text) => {
                    output += text;
                });
            }
            const ended = once(bot, 'exit');
            t.after(async () => {
                bot.kill();
                await ended;
            });
            const ask = () => request(port, 'GET', '/', { host: 'localhost' });
            const listens = () =>
                ask().then(
                    () => true,
                    () => null,
                );
            await whenFound(listens, `the bot: ${output}`);

            const person = { id: '5511988887777@c.us', type: 'person' };
            const usual = { event: 'message', port: server.port, chat: person, body: 'olá, "mundo" $HOME' };
            const post = async (id, event, { secret = SECRET, at = 0, more = '', alter = '' } = {}) => {
                const time = Math.floor(Date.now() / 1000) + at;
                const body = Buffer.from(JSON.stringify(event));
                const signature = sign(secret, Buffer.concat([Buffer.from(`${id}.${time}.`), body]));
                const headers = {
                    'Content-Type': 'application/json',
                    'webhook-id': id,
                    'webhook-timestamp': `${time}`,
                    'webhook-signature': `${more}${signature}`,
                };
                const sent = Buffer.concat([body, Buffer.from(alter)]);
                const given = { body: sent, headers: { ...headers, 'Content-Length': sent.length } };
                return (await request(port, 'POST', '/webhook', { ...given, host: 'localhost' })).status;
            };

            assert.equal(await post('a1', usual), 200, output);
            const answer = { to: person.id, text: usual.body };
            assert.deepEqual(server.sent, [
                { url: '/messages', method: 'POST', key: 'echo-a1', body: answer },
            ]);
            assert.equal(await post('a1', usual), 200);
            assert.equal(server.sent.length, 1, 'the same event is answered once');

            assert.equal(await post('a2', usual, { secret: OTHER }), 200, 'while secrets are changed');
            assert.equal(await post('a3', usual, { more: `${sign(OTHER, 'x')} ` }), 200);
            assert.equal(server.sent.length, 3);
            const strange = secretOf('somebody else');
            for (const wrong of [{ secret: strange }, { at: -320 }, { at: 320 }, { alter: ' ' }]) {
                assert.equal(await post('b1', usual, wrong), 401, JSON.stringify(wrong));
            }
            const unsigned = await request(port, 'POST', '/webhook', { body: usual, host: 'localhost' });
            assert.equal(unsigned.status, 401);
            for (const id of ['../b2', 'b/2', 'b%2f2', 'x'.repeat(65)]) {
                assert.equal(await post(id, usual), 401, id);
            }
            assert.equal(server.sent.length, 3);

            const group = { id: '120363000000000001@g.us', type: 'group' };
            const others = [
                { ...usual, event: 'message.sent' },
                { ...usual, chat: group },
                { ...usual, body: '' },
            ];
            for (const [index, event] of others.entries()) assert.equal(await post(`c${index}`, event), 200);
            assert.equal(server.sent.length, 3);

            server.up = false;
            const failed = await post('d1', usual);
            assert.ok(failed >= 500, `${failed}: waportd tries it again`);
            server.up = true;
            assert.equal(await post('d1', usual), 200);
            assert.deepEqual(server.sent.at(-1).key, 'echo-d1');
            assert.deepEqual(fs.readdirSync(path.join(folder, 'done')).sort(), [
                'a1',
                'a2',
                'a3',
                'c0',
                'c1',
                'c2',
                'd1',
            ]);
        });
    });
}

'use strict';

/**
 * An echo bot in Node: answers each text that a person writes with the same text.
 *
 *     WEBHOOK_SECRET=whsec_… node echo.js
 *
 * Needs nothing but Node. In waportd's configuration, instances.webhook_url is http://localhost:5002/webhook,
 * instances.webhook_secret the same secret, and ports.reserved names 5002.
 */

const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const PORT = Number(process.env.PORT ?? 5002);
/** One secret, or two with a comma between while the old one is being replaced. */
const KEYS = process.env.WEBHOOK_SECRET.split(',').map((secret) => Buffer.from(secret.slice(6), 'base64'));
/** Events that are done, one file each: the same can come again, also after this program was restarted. */
const DONE = process.env.DONE ?? 'done';
const OLDEST_S = 300;
const LARGEST = 1024 * 1024;

fs.mkdirSync(DONE, { recursive: true });

/** Return whether waportd signed this, and just now: https://www.standardwebhooks.com */
function isSigned({ 'webhook-id': id, 'webhook-timestamp': time, 'webhook-signature': signatures }, body) {
    if (!/^[\w-]{1,64}$/.test(id) || !(Math.abs(Date.now() / 1000 - Number(time)) < OLDEST_S)) return false;
    return KEYS.some((key) => {
        const hash = crypto.createHmac('sha256', key).update(`${id}.${time}.`).update(body).digest('base64');
        const wanted = Buffer.from(`v1,${hash}`);
        return (signatures ?? '').split(' ').some((given) => {
            const bytes = Buffer.from(given);
            return bytes.length === wanted.length && crypto.timingSafeEqual(bytes, wanted);
        });
    });
}

/** Send an answer. The key has it sent once, though this may be called again for the same event. */
async function reply(id, { port, chat, body }) {
    const answer = await fetch(`http://localhost:${port}/messages`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', 'Idempotency-Key': `echo-${id}` },
        body: JSON.stringify({ to: chat.id, text: body }),
    });
    if (!answer.ok) throw new Error(`not sent: ${answer.status} ${await answer.text()}`);
}

/** Take an event; return the status that waportd is answered. Without a 2xx the event comes again later. */
async function take(headers, body) {
    if (!isSigned(headers, body)) return 401;
    const done = path.join(DONE, headers['webhook-id']);
    if (fs.existsSync(done)) return 200;
    const event = JSON.parse(body);
    const isWanted = event.event === 'message' && event.chat.type === 'person' && event.body !== '';
    if (isWanted) await reply(headers['webhook-id'], event);
    fs.writeFileSync(done, '');
    return 200;
}

http.createServer(async (request, response) => {
    try {
        const pieces = [];
        let size = 0;
        for await (const piece of request) {
            size += piece.length;
            if (size > LARGEST) throw new Error('too large');
            pieces.push(piece);
        }
        response.writeHead(await take(request.headers, Buffer.concat(pieces))).end();
    } catch (error) {
        console.error(error.message);
        response.writeHead(500).end();
    }
}).listen(PORT, 'localhost', () => console.log(`listening on ${PORT}`));

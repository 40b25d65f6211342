'use strict';

/** A web app that takes events, and does with each call what the test says. */

const crypto = require('node:crypto');
const http = require('node:http');
const { once } = require('node:events');

/**
 * A call, `nth` from 1 on.
 *
 * @typedef {object} Call
 * @property {string|undefined} method
 * @property {string|undefined} url
 * @property {http.IncomingHttpHeaders} headers
 * @property {string} text
 * @property {string} id
 * @property {import('../../../server/types').JournalEvent} event
 * @property {number} nth
 */

/**
 * Start one on 127.0.0.1.
 *
 * @param {import('node:test').TestContext} t
 * @param {(call: Call, response: http.ServerResponse) => void} answer is called with each call; 200 unless
 *   given
 * @returns {Promise<{url: URL, calls: Call[], close: () => Promise<void>}>} `calls` in the order of arrival
 */
async function startWebApp(t, answer = (_, response) => response.end(), port = 0) {
    /** @type {Call[]} */
    const calls = [];
    const server = http.createServer((request, response) => {
        /** @type {Buffer[]} */
        const chunks = [];
        request.on('data', (chunk) => chunks.push(chunk));
        request.on('end', () => {
            const text = Buffer.concat(chunks).toString('utf8');
            const { method, url, headers } = request;
            const id = String(headers['webhook-id']);
            const call = { method, url, headers, text, id, event: JSON.parse(text), nth: calls.length + 1 };
            calls.push(call);
            answer(call, response);
        });
    });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    const close = () => {
        server.closeAllConnections();
        return new Promise((resolve) => {
            server.close(resolve);
        });
    };
    t.after(close);
    const address = /** @type {import('node:net').AddressInfo} */ (server.address());
    // By the name that people write, which is ::1, too, where this one does not listen.
    return { url: new URL(`http://localhost:${address.port}/webhook`), calls, close };
}

/**
 * Verify a call as the text of the convention says it, without any of the server's code.
 *
 * @param {string} secret
 * @param {Call} call
 * @returns {boolean} whether one of its signatures is by that secret
 */
function isSignedBy(secret, { headers, text }) {
    const key = new Uint8Array(Buffer.from(secret.replace('whsec_', ''), 'base64'));
    const signed = `${headers['webhook-id']}.${headers['webhook-timestamp']}.${text}`;
    const wanted = crypto.createHmac('sha256', key).update(signed, 'utf8').digest();
    return /** @type {string} */ (headers['webhook-signature']).split(' ').some((each) => {
        const [version, signature] = each.split(',');
        const given = Buffer.from(signature, 'base64');
        return version === 'v1' && given.length === 32 && crypto.timingSafeEqual(given, wanted);
    });
}

module.exports = { isSignedBy, startWebApp };

'use strict';

/**
 * waportd from Node: prints each code that a user may scan, until a phone is linked.
 *
 *     node client.js 2
 *
 * Needs nothing but Node, and to run as a user of group waportd.
 */

const http = require('node:http');

const socketPath = process.env.WAPORTD_SOCKET || '/run/waportd/api.sock';
/** States that do not change without a new request. */
const ENDS = new Set(['qr_timeout', 'logged_out', 'stopped', 'passkey_required', 'failed', 'crash_loop']);
const agent = new http.Agent({ keepAlive: true });

/** Call waportd; resolves with status, headers and document, rejects with what is wrong. */
function waportd(method, path, headers = {}) {
    return new Promise((resolve, reject) => {
        const request = http.request({ socketPath, agent, method, path, headers }, async (answer) => {
            let text = '';
            for await (const chunk of answer) text += chunk;
            const document = text === '' ? null : JSON.parse(text);
            const { statusCode: status, headers: received } = answer;
            if (status < 400) resolve({ status, etag: received.etag, document });
            else reject(new Error([document.detail, document.hint].filter(Boolean).join('; ')));
        });
        const why = (error) => `waportd does not answer on ${socketPath}: ${error.message}`;
        request.on('error', (error) => reject(new Error(why(error))));
        request.end();
    });
}

async function main(user) {
    const path = `/v1/users/${encodeURIComponent(user)}`;
    // Starts the user's server, and a new round of codes.
    await waportd('PUT', `${path}?wait=listening`);
    let known = null;
    for (;;) {
        // Held for 25 seconds at most, until the answer is another than the one that is known.
        const answer = known
            ? await waportd('GET', `${path}/qr?timeout=25`, { 'If-None-Match': known })
            : await waportd('GET', `${path}/qr`);
        if (answer.status === 304) continue;
        known = answer.etag;
        const { status, qr, message, hint, passkey } = answer.document;
        if (qr) console.log(qr);
        // Where WhatsApp wants a passkey, the hint names the connect link, which guides the person.
        else console.error(`user ${user}: ${[message, passkey && hint].filter(Boolean).join('; ')}`);
        if (status === 'ready') return;
        if (ENDS.has(status) && !passkey) throw new Error(hint ?? message);
    }
}

main(process.argv[2] ?? '1')
    .catch((error) => {
        console.error(error.message);
        process.exitCode = 1;
    })
    .finally(() => agent.destroy());

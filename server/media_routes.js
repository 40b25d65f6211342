'use strict';

/** The path of media. */

const { pipeline } = require('node:stream/promises');

const { openMedia } = require('./media');
const { keepSmall, tidily } = require('./nursery');
const { DOWNLOAD_LIMIT_MS } = require('./turns');

/** How long a reader may take for the next piece, and for all of it, in milliseconds. */
const STALLED_MS = 30_000;
const READ_LIMIT_MS = 600_000;

/** @typedef {import('./types').SessionClient} SessionClient */

/**
 * Send a file in answer to a call, as fast as the caller reads it; it is not kept here.
 *
 * @param {import('./types').Call} call
 * @param {import('./media').OpenFile} file
 */
async function sendFile({ request, response }, { headers, pieces, close }) {
    const done = keepSmall();
    try {
        response.writeHead(200, headers);
        if (request.method === 'HEAD') {
            response.end();
            return;
        }
        response.setTimeout(STALLED_MS, () => response.destroy());
        await pipeline(tidily(pieces()), response, { signal: AbortSignal.timeout(READ_LIMIT_MS) });
    } catch (error) {
        // The caller is gone, or sees that the rest is missing.
        response.destroy();
        if (!response.headersSent) throw error;
    } finally {
        close();
        done();
    }
}

/**
 * Return a signal that comes when the caller is gone.
 *
 * @param {import('node:http').ServerResponse} response
 */
function whenGone(response) {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    return gone.signal;
}

/**
 * @param {object} options
 * @param {import('./types').AddRoute} options.add
 * @param {import('./types').OnSession} options.onSession
 * @param {number} options.mediaMax bytes of media that are read at most
 */
function addMediaRoutes({ add, onSession, mediaMax }) {
    add('GET', '/media/{id}', 'the media of a message', async (call) => {
        const gone = whenGone(call.response);
        const work = (/** @type {SessionClient} */ client) =>
            openMedia(client, call.params.id, mediaMax, gone);
        const file = await onSession('media_in', work, DOWNLOAD_LIMIT_MS, 'reading media');
        await sendFile(call, file);
    });
}

module.exports = { addMediaRoutes, sendFile, whenGone };

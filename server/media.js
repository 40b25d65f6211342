'use strict';

/** The files of messages: from WhatsApp's page to the caller, piece by piece. */

const { whole } = require('./content');
const { readIdOf } = require('./given_ids');
const { HttpError } = require('./http');

const MESSAGE_ID = /^(true|false)_[^_]+@[^_]+_[^_]+/;
const MEDIA_TYPE = /^[a-z0-9.+-]+\/[a-z0-9.+-]+(;\s*[a-z0-9.+-]+=[a-z0-9.+-]+)*$/i;
/** Longer ones are no names, and their headers would be too long for who reads them. */
const MAX_NAME_CHARACTERS = 255;
/** Types that a browser shows without running anything in them. */
const SHOWN_INLINE = /^(image\/(png|jpeg|gif|webp)|video\/|audio\/)/i;

/** @typedef {import('./types').SessionClient} SessionClient */
/** @typedef {import('./media_page').Download} Download */

/**
 * A file that the page has. `pieces` gives its bytes once, `close` releases it: the opener must call that.
 *
 * @typedef {object} OpenFile
 * @property {Record<string, string|number>} headers
 * @property {() => AsyncIterable<Buffer>} pieces
 * @property {() => void} close
 */

const missing = () => new HttpError(404, 'no such message, or no media in it', { code: 'no_media' });

/**
 * @param {string} problem
 * @param {number} size
 * @param {number} most
 */
function refusal(problem, size, most) {
    if (problem === 'none') return missing();
    if (problem === 'gone') {
        return new HttpError(404, 'this file is no longer on WhatsApp or on the phone', {
            code: 'media_gone',
            hint: 'if the phone still has it, open WhatsApp there and ask again',
        });
    }
    return new HttpError(413, `the media has ${size} bytes; at most ${most} are read`, {
        code: 'too_large',
        cause: 'too_large',
        hint: 'open it on the phone, or raise instances.media_max (WAPORTD_MEDIA_MAX) and restart the user',
    });
}

/**
 * Return the headers of a file. The sender chooses type and name: nothing in it may run where it is shown.
 *
 * @param {Omit<Download, 'problem'>} file
 */
function headersOf({ type: given, name, size = 0 }) {
    const isType = given && given.length <= MAX_NAME_CHARACTERS && MEDIA_TYPE.test(given);
    const type = isType ? given : 'application/octet-stream';
    const disposition = SHOWN_INLINE.test(type) ? 'inline' : 'attachment';
    const short = encodeURIComponent(whole(name?.slice(0, MAX_NAME_CHARACTERS) ?? ''));
    const named = name ? `; filename*=UTF-8''${short.replace(/['()*]/g, escape)}` : '';
    return {
        'Content-Type': type,
        'Content-Length': size,
        'Content-Disposition': disposition + named,
        'Cache-Control': 'private, no-store',
        'X-Content-Type-Options': 'nosniff',
        'Content-Security-Policy': "default-src 'none'; sandbox",
    };
}

/** Tickets of files: of which page they are does not matter. */
let tickets = 0;

/**
 * Have the page download a file. One is downloaded at a time, and the next one when it is closed, or takes
 * too long.
 *
 * @param {SessionClient} client
 * @param {(ticket: string, most: number|null) => Promise<Download>} download has the page do it
 * @param {(problem: string, size: number) => HttpError} refuse makes an answer of what came in its place
 * @param {number} most
 * @param {AbortSignal} signal
 * @returns {Promise<OpenFile>}
 */
function open(client, download, refuse, most, signal) {
    tickets += 1;
    const ticket = `${tickets}`;
    return new Promise((resolve, reject) => {
        /** @type {() => void} */
        let end;
        /** @type {Promise<void>} */
        const closed = new Promise((ended) => {
            end = ended;
        });
        // The page may be gone, and the file with it.
        closed.then(() => client.closeFile(ticket)).catch(() => {});
        const close = () => end();
        const turn = client.downloads.take(ticket, async () => {
            signal.throwIfAborted();
            signal.addEventListener('abort', close);
            const { problem, ...file } = await download(ticket, most === Infinity ? null : most);
            if (problem !== null) throw refuse(problem, file.size ?? 0);
            resolve({ headers: headersOf(file), pieces: () => client.readFile(ticket), close });
            await closed;
        });
        turn.catch((error) => {
            close();
            reject(error);
        });
    });
}

/**
 * Have the page download the file of a message.
 *
 * @param {SessionClient} client
 * @param {string} messageId
 * @param {number} most bytes. The sender says how large it is, and may say anything: what came is looked at,
 *   too
 * @param {AbortSignal} signal gives it up
 * @returns {Promise<OpenFile>}
 * @throws {HttpError} 404; 413 where it is larger
 */
async function openMedia(client, messageId, most, signal) {
    if (!MESSAGE_ID.test(messageId)) throw missing();
    /** @type {(ticket: string, limit: number|null) => Promise<Download>} */
    const download = (ticket, limit) => client.openFile(messageId, limit, ticket);
    return open(client, download, (problem, size) => refusal(problem, size, most), most, signal);
}

/**
 * Likewise the picture of a person or group.
 *
 * @param {SessionClient} client
 * @param {string} givenId
 * @param {number} most
 * @param {AbortSignal} signal
 * @throws {HttpError} 400; 404 `no_picture`: there is none, or this account may not see it
 */
async function openPicture(client, givenId, most, signal) {
    const id = readIdOf(['person', 'group', 'channel'], givenId);
    /** @type {(ticket: string, limit: number|null) => Promise<Download>} */
    const download = (ticket, limit) => client.openPicture(id, limit, ticket);
    const none = new HttpError(404, 'there is no picture, or this account may not see it', {
        code: 'no_picture',
    });
    /** @type {(problem: string, size: number) => HttpError} */
    const refuse = (problem, size) => (problem === 'large' ? refusal(problem, size, most) : none);
    return open(client, download, refuse, most, signal);
}

module.exports = { openMedia, openPicture };

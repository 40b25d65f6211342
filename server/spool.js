'use strict';

/**
 * Files of messages that are being sent, on disk for as long as that takes: what is sent may be larger than
 * the memory of this process. They are gone after the next start at the latest, and are so many at most: a
 * disk that is full takes no event, either.
 */

const { createHash, randomBytes } = require('node:crypto');
const fs = require('node:fs/promises');
const path = require('node:path');

const { HttpError } = require('./http');
const { tidily } = require('./nursery');

/**
 * First bytes of files by their type: some senders say none, or one that stands for any.
 *
 * @type {[type: string, sign: RegExp][]}
 */
const SIGNS = [
    ['image/jpeg', /^\xff\xd8\xff/],
    ['image/png', /^\x89PNG\r\n.\n/s],
    ['image/gif', /^GIF8[79]a/],
    ['image/webp', /^RIFF....WEBP/s],
    ['audio/wav', /^RIFF....WAVE/s],
    ['audio/ogg; codecs=opus', /^OggS.{24}OpusHead/s],
    ['audio/ogg', /^OggS/],
    ['audio/mp4', /^....ftypM4A/s],
    ['video/mp4', /^....ftyp/s],
    ['audio/mpeg', /^(ID3|\xff[\xf2\xf3\xfb])/],
    ['application/pdf', /^%PDF-/],
];
const SIGN_BYTES = 40;
/** A text that is not a media type is ignored, whatever the sender says. */
const TYPE = /^[a-z0-9.+-]{1,64}\/[a-z0-9.+-]{1,100}(;[\x20-\x7e]{0,100})?$/i;
/** All files together may be so large as so many of the largest. */
const FILES = 4;
/** When a caller that finds no room may ask again, in seconds. */
const AGAIN_S = 5;
const ANY_TYPE = /^application\/(octet-stream|binary)$|^binary\//i;

/** @param {number} most bytes */
const tooLarge = (most) =>
    new HttpError(413, `the file has more than ${most} bytes, the limit for files to send`, {
        code: 'too_large',
        hint: 'send a smaller one, or raise instances.media_max (WAPORTD_MEDIA_MAX) and restart the user',
    });

/** @param {number} total bytes */
const full = (total) =>
    new HttpError(
        503,
        `the files that are being sent have ${total} bytes together, the limit for all of them`,
        { code: 'busy', hint: 'ask again when some of them are sent' },
        { 'Retry-After': String(AGAIN_S) },
    );

class Spool {
    #directory;
    /** Resolves when what an earlier process left is gone. */
    #cleared;
    #total;
    #used = 0;
    /** Sizes of the files that are there, by path. @type {Map<string, number>} */
    #sizes = new Map();

    /** @param {{directory: string, most: number}} options `most`: bytes of one file */
    constructor({ directory, most }) {
        this.#directory = directory;
        this.most = most;
        this.#total = FILES * most;
        // A file that cannot be deleted does no harm.
        this.#cleared = fs.rm(directory, { recursive: true, force: true }).catch(() => {});
    }

    /**
     * Write a file.
     *
     * @param {AsyncIterable<Buffer>|Iterable<Buffer>} chunks
     * @param {string|undefined} type what the sender says that it is
     * @returns {Promise<{path: string, size: number, print: string, type: string}>} `print`: equal for equal
     *   files; `type`: what it is; from its first bytes if the sender does not say
     * @throws {HttpError} 413 `too_large`; 503 `busy`: the others take all the room there is
     */
    async keep(chunks, type) {
        await this.#cleared;
        await fs.mkdir(this.#directory, { recursive: true, mode: 0o700 });
        const file = path.join(this.#directory, randomBytes(12).toString('hex'));
        const handle = await fs.open(file, 'wx', 0o600);
        const hash = createHash('sha256');
        let size = 0;
        this.#sizes.set(file, 0);
        let begin = Buffer.alloc(0);
        try {
            for await (const chunk of tidily(chunks)) {
                size += chunk.length;
                this.#used += chunk.length;
                this.#sizes.set(file, size);
                if (size > this.most) throw tooLarge(this.most);
                if (this.#used > this.#total) throw full(this.#total);
                if (begin.length < SIGN_BYTES) begin = Buffer.concat([begin, chunk.subarray(0, SIGN_BYTES)]);
                hash.update(chunk);
                await handle.writeFile(chunk);
            }
        } catch (error) {
            await this.drop({ path: file });
            throw error;
        } finally {
            await handle.close();
        }
        return { path: file, size, print: hash.digest('hex'), type: typeOf(begin, type) };
    }

    /** Delete a file. Never fails: what is left is deleted at the next start. @param {{path: string}} file */
    async drop(file) {
        await fs.rm(file.path, { force: true }).catch(() => {});
        this.#used -= this.#sizes.get(file.path) ?? 0;
        this.#sizes.delete(file.path);
    }
}

/**
 * @param {Buffer} begin
 * @param {string|undefined} said
 */
function typeOf(begin, said) {
    if (said !== undefined && TYPE.test(said) && !ANY_TYPE.test(said)) return said;
    const text = begin.toString('latin1');
    return SIGNS.find(([, sign]) => sign.test(text))?.[0] ?? 'application/octet-stream';
}

module.exports = { Spool, tooLarge };

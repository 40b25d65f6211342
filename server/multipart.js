'use strict';

/**
 * Reads multipart/form-data (RFC 7578) as it comes, each part as a stream. Node's own parser keeps the whole
 * body in memory. busboy reports parts by events, the next before the last is read: code for order, limits
 * and answers around it would be as long as this.
 */

const { HttpError } = require('./http');

const MAX_PARTS = 8;
const MAX_HEADERS_BYTES = 8 * 1024;

const bad = (/** @type {string} */ message) => new HttpError(400, message, { code: 'bad_request' });

/**
 * @param {string} [contentType]
 * @returns {string|null} the boundary that a content type names; null = it is another type
 */
function boundaryOf(contentType = '') {
    if (!/^multipart\/form-data\s*(;|$)/i.test(contentType)) return null;
    const [, quoted, plain] = contentType.match(/;\s*boundary=(?:"([^"\r\n]{1,70})"|([^\s";]{1,70}))/i) ?? [];
    if (quoted === undefined && plain === undefined) throw bad('multipart/form-data needs a boundary');
    return quoted ?? plain;
}

/**
 * A parameter of a header: `name="…"`, with what browsers escape in it.
 *
 * @param {string} header
 * @param {string} name
 */
function parameter(header, name) {
    const found = header.match(new RegExp(`;\\s*${name}="((?:[^"\\\\]|\\\\.)*)"`, 'i'));
    const unquoted = found ?? header.match(new RegExp(`;\\s*${name}=([^\\s";]+)`, 'i'));
    const text = unquoted?.[1].replace(/\\(["\\])/g, '$1');
    return text?.replace(/%22|%0D|%0A/gi, (escaped) => decodeURIComponent(escaped));
}

/** Incoming bytes, which can be examined before they are taken. */
class Incoming {
    #source;
    /** @type {Buffer} */
    #held = Buffer.alloc(0);
    #ended = false;

    /** @param {AsyncIterable<Buffer>} source */
    constructor(source) {
        this.#source = source[Symbol.asyncIterator]();
    }

    /** @returns {Promise<boolean>} false = there is nothing more */
    async #more() {
        const { value, done } = await this.#source.next();
        if (done) this.#ended = true;
        else this.#held = this.#held.length === 0 ? value : Buffer.concat([this.#held, value]);
        return !done;
    }

    /**
     * Yield what comes before a mark, and take the mark.
     *
     * @param {Buffer} mark
     * @throws {HttpError} 400 where the mark does not come
     */
    async *before(mark) {
        for (;;) {
            const at = this.#held.indexOf(mark);
            if (at >= 0) {
                const rest = this.#held.subarray(0, at);
                this.#held = this.#held.subarray(at + mark.length);
                if (rest.length > 0) yield rest;
                return;
            }
            // Its beginning may be there already. The held bytes are copied once more.
            const tail = Math.max(0, this.#held.length - mark.length + 1);
            const begins = this.#held.indexOf(mark[0], tail);
            const sure = begins < 0 ? this.#held.length : begins;
            if (sure > 0) {
                const part = this.#held.subarray(0, sure);
                this.#held = this.#held.subarray(sure);
                yield part;
            }
            if (this.#ended || !(await this.#more())) throw bad('the body ends in the middle of a part');
        }
    }

    /** Take a number of bytes. @param {number} count */
    async take(count) {
        while (this.#held.length < count) {
            if (!(await this.#more())) throw bad('the body ends in the middle of a part');
        }
        const taken = this.#held.subarray(0, count);
        this.#held = this.#held.subarray(count);
        return taken;
    }

    /** Take the rest, and forget it. */
    async drain() {
        this.#held = Buffer.alloc(0);
        while (await this.#more()) this.#held = Buffer.alloc(0);
    }
}

/** @param {AsyncIterator<Buffer>} chunks */
async function passOver(chunks) {
    while (!(await chunks.next()).done);
}

/**
 * Read chunks as one text of so many bytes at most.
 *
 * @param {AsyncIterable<Buffer>} chunks
 * @param {number} most
 * @throws {HttpError} 413
 */
async function textOf(chunks, most) {
    const all = [];
    let size = 0;
    for await (const chunk of chunks) {
        size += chunk.length;
        if (size > most) {
            throw new HttpError(413, `a part is longer than ${most} bytes`, { code: 'too_large' });
        }
        all.push(chunk);
    }
    return Buffer.concat(all).toString('utf8');
}

/**
 * Yield the parts of a body, in their order.
 *
 * @param {AsyncIterable<Buffer>} source
 * @param {string} boundary see `boundaryOf`
 * @yields {{name: string, filename: string|undefined, type: string|undefined, chunks: AsyncIterable<Buffer>}}
 *   whose chunks are read to their end, or left, before the next part is asked for
 * @throws {HttpError} 400, 413
 */
async function* readParts(source, boundary) {
    const incoming = new Incoming(source);
    const mark = Buffer.from(`\r\n--${boundary}`);
    // The first mark has no line before it, unless there are words for old programs.
    await passOver(incoming.before(mark.subarray(2)));
    for (let count = 0; ; count += 1) {
        const end = (await incoming.take(2)).toString('latin1');
        if (end === '--') break;
        if (end !== '\r\n') throw bad('a boundary is followed by something else');
        if (count === MAX_PARTS) throw bad(`there are more than ${MAX_PARTS} parts`);
        const head = `\r\n${await textOf(incoming.before(Buffer.from('\r\n\r\n')), MAX_HEADERS_BYTES)}`;
        const header = (/** @type {string} */ name) =>
            head.match(new RegExp(`\\r\\n${name}:[ \\t]*([^\\r\\n]*)`, 'i'))?.[1];
        const disposition = header('content-disposition') ?? '';
        const name = parameter(disposition, 'name');
        if (!/^form-data\b/i.test(disposition) || name === undefined) throw bad('a part has no name');
        const chunks = incoming.before(mark);
        const filename = parameter(disposition, 'filename');
        yield { name, filename, type: header('content-type')?.trim(), chunks };
        await passOver(chunks);
    }
    await incoming.drain();
}

module.exports = { boundaryOf, readParts, textOf };

/** Files of messages: those that the site has for a page, and those that a page uploads. */
'use strict';

const crypto = require('node:crypto');
const { Readable } = require('node:stream');
const { IMAGE } = require('./chats');
const { HttpError } = require('./http');

const CHUNK = Buffer.alloc(64 * 1024, 'media of the stand-in ');
/** Uploads of at most so many bytes are kept whole, so that they can be downloaded again. */
const KEPT_BYTES = 1024 * 1024;

class Media {
    #files = new Map([[IMAGE.directPath, IMAGE]]);

    /** Keep a file of `size` bytes that nobody stores: they are made while they are read. */
    keep(mimetype, size) {
        const directPath = `/media/${crypto.randomUUID()}`;
        this.#files.set(directPath, { mimetype, size });
        return directPath;
    }

    /** The file is gone, until the phone uploads it again. */
    expire(directPath) {
        this.#find(directPath).expired = true;
    }

    restore(directPath) {
        this.#find(directPath).expired = false;
    }

    #find(directPath) {
        const file = this.#files.get(directPath);
        if (!file) throw new HttpError(404, 'no such file');
        return file;
    }

    /** Answer a download. */
    serve(directPath) {
        const { mimetype, bytes, size = bytes?.length, expired } = this.#find(directPath);
        if (expired) throw new HttpError(404, 'this file has expired');
        if (bytes) return { type: mimetype, body: bytes };
        return { type: mimetype, length: size, source: Readable.from(made(size)) };
    }

    /** Take an upload; nothing of a large one is kept. */
    async take(request) {
        const hash = crypto.createHash('sha256');
        const pieces = [];
        let size = 0;
        for await (const chunk of request) {
            size += chunk.length;
            hash.update(chunk);
            if (size <= KEPT_BYTES) pieces.push(chunk);
        }
        const directPath = this.keep(request.headers['content-type'], size);
        const file = this.#find(directPath);
        file.sha256 = hash.digest('hex');
        if (size <= KEPT_BYTES) file.bytes = Buffer.concat(pieces);
        return { directPath };
    }

    /** SHA-256 of an upload, in hexadecimal digits; undefined for what was none. */
    digest(directPath) {
        return this.#files.get(directPath)?.sha256;
    }
}

function* made(size) {
    for (let left = size; left > 0; left -= CHUNK.length) yield CHUNK.subarray(0, left);
}

module.exports = { Media };

'use strict';

/** Server-sent events: everybody who listens gets the whole document, at once and at each change. */

const { foundUid } = require('./caller_check');
const { HttpError } = require('./http');

/** The `Accept` header of a client that wants a stream. */
const EVENT_STREAM = 'text/event-stream';
/** The start of an answer that is a stream. */
const STREAM_HEADERS = Object.freeze({
    'Content-Type': `${EVENT_STREAM}; charset=utf-8`,
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    // The connection ends with the stream, so that a stopping server need not wait for it.
    Connection: 'close',
    'X-Accel-Buffering': 'no',
});
const HEARTBEAT_MS = 15_000;
/** In all, and of one caller. */
const MAX_STREAMS = 64;
const MAX_STREAMS_OF_ONE = 32;

/**
 * @typedef {object} Stream
 * @property {number|undefined} caller
 * @property {import('node:http').ServerResponse} response
 * @property {number} sent the version of the document
 */

class EventStreams {
    #state;
    /** @type {Set<Stream>} */
    #streams = new Set();
    /** @type {NodeJS.Timeout|undefined} */
    #heartbeat;

    #callerOf;

    /**
     * @param {import('./state').SessionState} state
     * @param {(socket: import('node:net').Socket) => number|undefined} callerOf returns who calls
     */
    constructor(state, callerOf = foundUid) {
        this.#state = state;
        this.#callerOf = callerOf;
        state.on('change', () => this.#streams.forEach((stream) => this.#send(stream)));
    }

    /**
     * Answer a request with a stream.
     *
     * @param {{request: import('node:http').IncomingMessage, response: import('node:http').ServerResponse}}
     *   call
     * @param {() => () => void} onOpen called when the stream has begun; what it returns when it has ended
     * @throws {HttpError} 503 when there are too many: of the caller, or in all and nobody has more of them
     */
    open({ request, response }, onOpen = () => () => {}) {
        const caller = this.#callerOf(request.socket);
        if (request.method !== 'HEAD') this.#makeRoom(caller);
        response.writeHead(200, STREAM_HEADERS);
        if (request.method === 'HEAD') {
            response.end();
            return;
        }
        const stream = { caller, response, sent: 0 };
        this.#streams.add(stream);
        const onClose = onOpen();
        response.on('close', () => {
            this.#streams.delete(stream);
            onClose();
        });
        // A reader that is slow skips documents, it does not make them pile up: each is whole.
        response.on('drain', () => this.#send(stream));
        this.#send(stream);
        this.#heartbeat ??= setInterval(() => this.#beat(), HEARTBEAT_MS).unref();
    }

    /**
     * The user with the most loses one to a user with fewer: so the daemon always has its stream.
     *
     * @param {number|undefined} caller
     */
    #makeRoom(caller) {
        /** @type {Stream[]} */
        const own = [];
        const held = new Map([[caller, own]]);
        for (const stream of this.#streams) {
            const streams = held.get(stream.caller) ?? [];
            held.set(stream.caller, streams);
            streams.push(stream);
        }
        if (caller !== undefined && own.length >= MAX_STREAMS_OF_ONE)
            throw new HttpError(503, `more than ${MAX_STREAMS_OF_ONE} event streams of one caller`);
        if (this.#streams.size < MAX_STREAMS) return;
        const most = [...held.values()].reduce((one, other) => (other.length > one.length ? other : one));
        if (most.length <= own.length + 1) throw new HttpError(503, `more than ${MAX_STREAMS} event streams`);
        this.#streams.delete(most[0]);
        most[0].response.destroy();
    }

    /** Send the last document and end all streams. */
    close() {
        clearInterval(this.#heartbeat);
        for (const stream of this.#streams) {
            this.#send(stream);
            stream.response.end();
        }
    }

    /** @param {Stream} stream */
    #send(stream) {
        const { response } = stream;
        const version = this.#state.version;
        if (stream.sent === version || response.writableNeedDrain || response.writableEnded) return;
        stream.sent = version;
        response.write(`event: session\nid: ${version}\ndata: ${JSON.stringify(this.#state.document())}\n\n`);
    }

    #beat() {
        for (const { response } of this.#streams) {
            if (!response.writableNeedDrain) response.write(': heartbeat\n\n');
        }
    }
}

module.exports = { EVENT_STREAM, EventStreams, STREAM_HEADERS };

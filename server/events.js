'use strict';

/** Server-sent events: everybody who listens gets the whole picture, at once and at each change. */

const { HttpError } = require('./http');

/** What a client accepts that wants to follow what it asks for. */
const EVENT_STREAM = 'text/event-stream';
const HEARTBEAT_MS = 15_000;
const MAX_STREAMS = 64;

class EventStreams {
    #state;
    #streams = new Set();
    #heartbeat = null;

    /** @param {import('./state').SessionState} state */
    constructor(state) {
        this.#state = state;
        state.on('change', () => this.#streams.forEach((stream) => this.#send(stream)));
    }

    /** Answer a request with a stream. @throws {HttpError} 503 when there are too many */
    open({ request, response }) {
        if (this.#streams.size >= MAX_STREAMS)
            throw new HttpError(503, `more than ${MAX_STREAMS} event streams`);
        response.writeHead(200, {
            'Content-Type': `${EVENT_STREAM}; charset=utf-8`,
            'Cache-Control': 'no-store',
            'X-Content-Type-Options': 'nosniff',
            // The connection ends with the stream, so that a stopping server need not wait for it.
            Connection: 'close',
            'X-Accel-Buffering': 'no',
        });
        if (request.method === 'HEAD') {
            response.end();
            return;
        }
        const stream = { response, sent: 0 };
        this.#streams.add(stream);
        response.on('close', () => this.#streams.delete(stream));
        // A reader that is slow skips pictures, it does not make them pile up: each is whole.
        response.on('drain', () => this.#send(stream));
        this.#send(stream);
        this.#heartbeat ??= setInterval(() => this.#beat(), HEARTBEAT_MS).unref();
    }

    /** Send the last picture and end all streams. */
    close() {
        clearInterval(this.#heartbeat);
        for (const stream of this.#streams) {
            this.#send(stream);
            stream.response.end();
        }
    }

    #send(stream) {
        const { response } = stream;
        const version = this.#state.version;
        if (stream.sent === version || response.writableNeedDrain || response.writableEnded) return;
        stream.sent = version;
        response.write(`event: session\nid: ${version}\ndata: ${JSON.stringify(this.#state.picture())}\n\n`);
    }

    #beat() {
        for (const { response } of this.#streams) {
            if (!response.writableNeedDrain) response.write(': heartbeat\n\n');
        }
    }
}

module.exports = { EVENT_STREAM, EventStreams };

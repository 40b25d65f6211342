'use strict';

/**
 * Hands incoming messages to the web app: one at a time, in order, from a bounded queue, and never in the way
 * of the session. A web app that is down is waited for; a message that it refuses is given up.
 */

const http = require('node:http');

const { WEBHOOK_AGENT } = require('./http');

const MAX_MESSAGES = 1000;
const MAX_BYTES = 8 * 1024 * 1024;
const ANSWER_LIMIT_MS = 5_000;
const DELAY_FIRST_MS = 1_000;
const DELAY_MAX_MS = 60_000;
/** Answers of 5xx to one message before it is given up: it may be the message that the web app fails on. */
const MAX_ANSWERS = 10;

/** Tell whether a URL leads to this host and `port`. */
function isOwn(url, port) {
    const local = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
    return local && Number(url.port || { 'http:': 80, 'https:': 443 }[url.protocol]) === port;
}

class Webhook {
    #url;
    #log;
    #onCount;
    #queue = [];
    #bytes = 0;
    #counts = { delivered: 0, failed: 0, dropped: 0 };
    #delay = DELAY_FIRST_MS;
    #timer = null;
    #request = null;
    #busy = false;
    #closed = false;

    /**
     * @param {URL|null} url null = messages are not handed on
     * @param {(counts: {queued, delivered, failed, dropped}) => void} onCount called when a count changes;
     *   `failed` counts tries, `dropped` messages
     */
    constructor({ url, log, onCount = () => {} }) {
        this.#url = url;
        this.#log = log;
        this.#onCount = onCount;
    }

    get counts() {
        return { queued: this.#queue.length, ...this.#counts };
    }

    /** Queue a message (a plain object). When the queue is full the oldest one gives way. */
    push(message) {
        if (this.#url === null || this.#closed) return;
        const body = Buffer.from(JSON.stringify(message));
        this.#queue.push({ body, answers: 0 });
        this.#bytes += body.length;
        while (this.#queue.length > MAX_MESSAGES || (this.#bytes > MAX_BYTES && this.#queue.length > 1)) {
            this.#remove(this.#queue[this.#busy && this.#queue.length > 1 ? 1 : 0]);
            this.#counts.dropped += 1;
        }
        this.#onCount(this.counts);
        if (this.#timer === null) this.#next();
    }

    /** Stop. What is still queued is lost, and said. */
    close() {
        this.#closed = true;
        clearTimeout(this.#timer);
        this.#request?.destroy();
        if (this.#queue.length > 0) this.#log.warning('messages not delivered', { lost: this.#queue.length });
    }

    #remove(item) {
        const index = this.#queue.indexOf(item);
        if (index < 0) return;
        this.#queue.splice(index, 1);
        this.#bytes -= item.body.length;
    }

    async #next() {
        if (this.#busy || this.#closed) return;
        this.#busy = true;
        this.#timer = null;
        while (this.#queue.length > 0 && this.#timer === null && !this.#closed)
            await this.#deliver(this.#queue[0]);
        this.#busy = false;
    }

    async #deliver(item) {
        const { status, reason } = await this.#post(item.body);
        if (this.#closed) return;
        if (status >= 200 && status < 300) {
            this.#remove(item);
            this.#counts.delivered += 1;
            this.#delay = DELAY_FIRST_MS;
        } else {
            this.#counts.failed += 1;
            const again = status === null || status >= 500 || status === 408 || status === 429;
            if (status !== null) item.answers += 1;
            if (!again || item.answers >= MAX_ANSWERS) {
                this.#remove(item);
                this.#counts.dropped += 1;
                this.#log.warning('the web app does not take a message', { reason });
            } else {
                this.#log.warning('the web app did not take a message', {
                    reason,
                    retry_in_s: this.#delay / 1000,
                });
                this.#timer = setTimeout(() => {
                    this.#timer = null;
                    this.#next();
                }, this.#delay);
                this.#delay = Math.min(this.#delay * 2, DELAY_MAX_MS);
            }
        }
        this.#onCount(this.counts);
    }

    /** Post one body; resolves with the status (null: no answer) and, if it is no success, the reason. */
    #post(body) {
        return new Promise((resolve) => {
            // Loaded when it is needed: TLS takes 2 ms of the time until this server answers.
            const { request: send } = this.#url.protocol === 'https:' ? require('node:https') : http;
            const request = send(
                this.#url,
                {
                    method: 'POST',
                    headers: {
                        'Content-Type': 'application/json',
                        'Content-Length': body.length,
                        'User-Agent': WEBHOOK_AGENT,
                        Connection: 'close',
                    },
                    agent: false,
                    // "localhost" is ::1 first, where many a web app does not listen. Node 18 gives up then.
                    autoSelectFamily: true,
                    signal: AbortSignal.timeout(ANSWER_LIMIT_MS),
                },
                (response) => {
                    response.resume();
                    response.on('error', () => {});
                    resolve({ status: response.statusCode, reason: `HTTP ${response.statusCode}` });
                },
            );
            request.on('error', (error) => resolve({ status: null, reason: error.code ?? error.message }));
            request.end(body);
            this.#request = request;
        });
    }
}

module.exports = { Webhook, isOwn };

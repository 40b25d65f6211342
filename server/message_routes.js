'use strict';

/**
 * The journal over HTTP, for web apps that fetch events rather than have them posted: page by page, waiting
 * for the next one, or as a stream that continues where it broke off.
 */

const { once } = require('node:events');

const { callerUid } = require('./caller_check');
const contract = require('./contract.json');
const { codeOf, messageOf, withLimit } = require('./errors');
const { EVENT_STREAM, STREAM_HEADERS } = require('./events');
const { HttpError } = require('./http');

const PAGE = 100;
const { page: MAX_PAGE, wait_s: MAX_WAIT_S } = contract.limits;
/** The most readers that wait or follow at a time, in all and of one caller. */
const MAX_READERS = 64;
const MAX_READERS_OF_ONE = 32;
const BUSY_S = 5;
/** A stream has so many events in memory. */
const STREAM_PAGE = 20;
const HEARTBEAT_MS = 15_000;
/** A stream whose reader takes nothing for so long is closed: its next one continues by the cursor. */
const READ_LIMIT_MS = 30_000;
/** States of delivery that a caller may ask for: the journal has a method for each. */
const STATES = ['pending', 'undelivered'];
/** In place of a cursor: only new events. */
const NEWEST = 'newest';

/** @typedef {import('./types').Call} Call */
/** @typedef {import('node:http').ServerResponse} Response */
/** @typedef {Awaited<ReturnType<import('./journal').Journal['read']>>} Page */
/** @typedef {(after: string|null) => Promise<Page>} Read */

/** A reader that waits or follows; `gone` is aborted when it has gone. */
/** @typedef {{caller: number|null|undefined, gone: AbortController}} Reader */

/** Which events are wanted; null = any. @typedef {{events: string[]|null, chat: string|null}} Wanted */

const badRequest = (/** @type {string} */ text) => new HttpError(400, text, { code: 'bad_request' });

/**
 * Read a whole number from a query.
 *
 * @param {URLSearchParams} query
 * @param {string} name
 * @param {{least: number, most: number, otherwise: number}} limits
 * @throws {HttpError} 400
 */
function wholeNumber(query, name, { least, most, otherwise }) {
    const text = query.get(name);
    if (text === null) return otherwise;
    const number = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
    if (number >= least && number <= most) return number;
    throw badRequest(`${name} must be a whole number from ${least} to ${most}`);
}

class MessageRoutes {
    #journal;
    #delivery;
    #kinds;
    #callerOf;
    #readLimitMs;
    /** @type {Set<Reader>} */
    #readers = new Set();

    /**
     * @param {object} options
     * @param {import('./journal').Journal} options.journal
     * @param {import('./delivery').Delivery} options.delivery
     * @param {string[]} options.kinds of events that there are
     * @param {(socket: import('node:net').Socket) => Promise<number|null>} [options.callerOf] gives who calls
     * @param {number} [options.readLimitMs] how long the reader of a stream may take nothing
     */
    constructor({ journal, delivery, kinds, callerOf = callerUid, readLimitMs = READ_LIMIT_MS }) {
        this.#journal = journal;
        this.#delivery = delivery;
        this.#kinds = kinds;
        this.#callerOf = callerOf;
        this.#readLimitMs = readLimitMs;
    }

    /** @param {import('./types').AddRoute} add adds a route */
    addTo(add) {
        const about = 'events, oldest first (?after, ?timeout, ?limit, ?events, ?chat, ?state; or a stream)';
        add('GET', '/messages', about, (call) =>
            call.request.headers.accept === EVENT_STREAM ? this.#stream(call) : this.#pull(call),
        );
        const again = 'retry events that the webhook did not take {"cursor"} or {"all": true}';
        add('POST', '/messages/redeliver', again, ({ body }) => this.#redeliver(body));
    }

    /** End all waits and streams. */
    close() {
        for (const { gone } of this.#readers) gone.abort();
    }

    /** @param {Call} call @throws {HttpError} 400, 410, 503 */
    async #pull(call) {
        const { query } = call;
        const wanted = this.#wanted(query);
        const limit = wholeNumber(query, 'limit', { least: 1, most: MAX_PAGE, otherwise: PAGE });
        // That was its name in the release before this one.
        const name = query.has('wait') ? 'wait' : 'timeout';
        if (name === 'wait' && query.has('timeout')) {
            throw badRequest('timeout and wait are both given: leave wait out');
        }
        const waitMs = 1000 * wholeNumber(query, name, { least: 0, most: MAX_WAIT_S, otherwise: 0 });
        const state = query.get('state');
        if (state !== null && !STATES.includes(state)) {
            throw badRequest(`state must be one of ${STATES.join(', ')}`);
        }
        // Events are given up or taken in an order that no cursor can express.
        if (state !== null && waitMs > 0) throw badRequest('state and timeout do not go together');
        const which = /** @type {'pending'|'undelivered'|'read'} */ (state ?? 'read');
        /** @type {Read} */
        const read = (after) => this.#journal[which]({ ...wanted, after, limit });
        try {
            let page = await read(await this.#start(query.get('after')));
            if (page.entries.length === 0 && waitMs > 0) {
                page = await this.#asReader(call, (reader) => this.#await(reader, read, page, waitMs));
            }
            const messages = page.entries.map(({ event, cursor }) => ({ ...event, cursor }));
            return { messages, next: page.next, more: page.more };
        } catch (error) {
            if (codeOf(error) !== 'cursor_gone') throw error;
            const hint = 'start without a cursor: that begins with the oldest event that is kept';
            throw new HttpError(410, messageOf(error), { code: 'cursor_gone', hint });
        }
    }

    /**
     * Read on until there is something, for so long.
     *
     * @param {Reader} reader
     * @param {Read} read
     * @param {Page} first
     * @param {number} waitMs
     */
    async #await({ gone }, read, first, waitMs) {
        const end = performance.now() + waitMs;
        let page = first;
        while (page.entries.length === 0 && !gone.signal.aborted) {
            const leftMs = end - performance.now();
            if (leftMs <= 0) break;
            if (!page.more) await this.#journal.wait(page.next, leftMs, gone.signal);
            page = await read(page.next);
        }
        return page;
    }

    /** @param {Call} call @throws {HttpError} 400, 503 */
    async #stream(call) {
        const { request, response, query } = call;
        if (query.get('state') !== null) throw badRequest('a stream has events of every state');
        const wanted = this.#wanted(query);
        const last = /** @type {string|undefined} */ (request.headers['last-event-id']);
        const start = await this.#start(last ?? query.get('after'));
        await this.#asReader(call, async (reader) => {
            response.writeHead(200, STREAM_HEADERS);
            response.flushHeaders();
            if (request.method !== 'HEAD') await this.#follow(reader, response, start, wanted);
            response.end();
        });
    }

    /**
     * @param {Reader} reader
     * @param {Response} response
     * @param {string|null} start
     * @param {Wanted} wanted
     */
    async #follow(reader, response, start, wanted) {
        const { signal } = reader.gone;
        let after = start;
        while (!signal.aborted) {
            try {
                const page = await this.#journal.read({ ...wanted, after, limit: STREAM_PAGE });
                for (const { event, cursor } of page.entries) {
                    const head = `id: ${cursor}\nevent: ${event.event}\n`;
                    const data = JSON.stringify({ ...event, cursor });
                    await this.#write(reader, response, `${head}data: ${data}\n\n`);
                }
                after = page.next;
                if (page.more || (await this.#journal.wait(after, HEARTBEAT_MS, signal))) continue;
                // With the id of what was passed over: it may be long until something is wanted.
                await this.#write(reader, response, `id: ${after}\n: heartbeat\n\n`);
            } catch (error) {
                if (codeOf(error) !== 'cursor_gone') throw error;
                await this.#write(reader, response, 'event: reset\ndata: {"code":"cursor_gone"}\n\n');
                after = null;
            }
        }
    }

    /**
     * Write to a stream, and wait until its reader has taken what was written before.
     *
     * @param {Reader} reader
     * @param {Response} response
     * @param {string} text
     */
    async #write({ gone }, response, text) {
        if (gone.signal.aborted || response.write(text)) return;
        try {
            const taken = once(response, 'drain', { signal: gone.signal });
            await withLimit(taken, this.#readLimitMs, 'reading');
        } catch {
            gone.abort();
            response.destroy();
        }
    }

    /**
     * Keep a place for somebody who waits or follows while they do.
     *
     * @template Result
     * @param {Call} call
     * @param {(reader: Reader) => Promise<Result>} work
     * @returns {Promise<Result>}
     * @throws {HttpError} 503
     */
    async #asReader({ request, response }, work) {
        const busy = (/** @type {string} */ text) =>
            new HttpError(503, text, { code: 'busy' }, { 'Retry-After': String(BUSY_S) });
        if (this.#readers.size >= MAX_READERS) throw busy(`more than ${MAX_READERS} wait for events`);
        /** @type {Reader} */
        const reader = { caller: undefined, gone: new AbortController() };
        this.#readers.add(reader);
        response.once('close', () => reader.gone.abort());
        try {
            reader.caller = await this.#callerOf(request.socket);
            const same = [...this.#readers].filter(({ caller }) => caller === reader.caller);
            if (same.length > MAX_READERS_OF_ONE) {
                throw busy(`more than ${MAX_READERS_OF_ONE} of one caller wait for events`);
            }
            return await work(reader);
        } finally {
            this.#readers.delete(reader);
        }
    }

    /** @param {import('./types').JsonObject} body @throws {HttpError} 400 */
    async #redeliver(body) {
        const { cursor, all } = body;
        // `user_id` names whose server is meant (routes.js).
        const known = Object.keys(body).filter((name) => name !== 'user_id');
        const isOne = typeof cursor === 'string' && cursor !== '';
        if (known.length !== 1 || !(isOne || all === true)) {
            throw badRequest('give either {"cursor": "…"} or {"all": true}');
        }
        return { redelivered: await this.#delivery.redeliver(isOne ? { cursor } : { all: true }) };
    }

    /**
     * Return which events a query is about.
     *
     * @param {URLSearchParams} query
     * @returns {Wanted}
     * @throws {HttpError} 400
     */
    #wanted(query) {
        const events = query.get('events')?.split(',') ?? null;
        const unknown = events?.find((kind) => !this.#kinds.includes(kind));
        if (unknown !== undefined) throw badRequest(`events must be some of ${this.#kinds.join(', ')}`);
        return { events, chat: query.get('chat') };
    }

    /** @param {string|null} cursor */
    async #start(cursor) {
        if (cursor !== NEWEST) return cursor;
        // Until the journal is loaded there is no newest one.
        await this.#journal.wait(null, 0);
        return this.#journal.newest;
    }
}

module.exports = { MessageRoutes };

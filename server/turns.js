'use strict';

/**
 * Calls that keep WhatsApp's page busy, one at a time. Equal calls at the same time are done once:
 * a page that polls a long list faster than it is made would pile up work without end.
 */

const { withLimit } = require('./errors');

/** The most different calls that may wait; more are refused. */
const MOST_WAITING = 16;
/** How long a caller waits for a download, and how long a download delays those after it. */
const DOWNLOAD_LIMIT_MS = 60_000;
/** How long a caller waits for an answer of the phone. */
const REQUEST_LIMIT_MS = 10_000;
/** How long a caller waits for a change of a group. */
const CHANGE_LIMIT_MS = 30_000;

class Turns {
    /** Calls that wait or are under way, by key. @type {Map<string|symbol, Promise<any>>} */
    #taken = new Map();
    /** @type {Promise<unknown>} */
    #last = Promise.resolve();
    #limitMs;

    /**
     * @param {number|null} limitMs how long a turn may take; then the next begins, although the page may be
     *   still at work. null = for ever
     */
    constructor(limitMs = null) {
        this.#limitMs = limitMs;
    }

    /** Return whether the page works for somebody. */
    get busy() {
        return this.#taken.size > 0;
    }

    /**
     * Do work when it is its turn, or join the same work that waits or runs already.
     *
     * @template Result
     * @param {string|symbol} key equal for equal work
     * @param {() => Promise<Result>} work
     * @returns {Promise<Result>} what the work gives
     * @throws {BusyError} too many wait
     * @throws {TimeLimitError} it took longer than a turn may
     */
    async take(key, work) {
        const same = this.#taken.get(key);
        if (same !== undefined) return same;
        if (this.#taken.size >= MOST_WAITING) throw new BusyError();
        const limit = this.#limitMs;
        const done = () => (limit === null ? work() : withLimit(work(), limit, "WhatsApp's page"));
        const turn = this.#last.then(done).finally(() => this.#taken.delete(key));
        this.#taken.set(key, turn);
        this.#last = turn.catch(() => {});
        return turn;
    }
}

/** More calls wait for WhatsApp's page than it can do in the time that callers have. */
class BusyError extends Error {
    constructor() {
        super("WhatsApp's page is busy with earlier calls");
        this.name = 'BusyError';
    }
}

module.exports = { BusyError, CHANGE_LIMIT_MS, DOWNLOAD_LIMIT_MS, REQUEST_LIMIT_MS, Turns };

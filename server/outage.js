'use strict';

/**
 * Decides from the outcomes of single tries whether the web app as a whole does not work: then only a few
 * chats try it, with pauses. One chat whose own messages fail is not an outage.
 */

const PAUSE_FIRST_MS = 1_000;
const PAUSE_MAX_MS = 60_000;
/** How many chats must fail, without an answer to any in between, before it counts as an outage. */
const ENOUGH = 2;
/**
 * How many are tried at a time in an outage: one, if failures are immediate. A silent web app may be slow
 * only for some, and the next one may be answered.
 */
const WIDTH_DOWN = 1;
const WIDTH_SILENT = 4;

/** @typedef {'later'|'unanswered'|'unreachable'} Outcome */

/** @template Who */
class Outage {
    #now;
    /** When a try began that was answered as it should be, by the monotonic clock. */
    #answeredAt = -Infinity;
    /** Chats that failed since then, through no fault of their own. @type {Set<Who>} */
    #concerned = new Set();
    /** @type {{width: number, pauseMs: number, until: number, open: Set<Who>}|null} */
    #outage = null;

    /** @param {() => number} now the monotonic clock, in milliseconds */
    constructor(now) {
        this.#now = now;
    }

    get isOn() {
        return this.#outage !== null;
    }

    /** How long until somebody may try again, in milliseconds; 0 = somebody may, or is at it. */
    get waitMs() {
        return this.#outage === null ? 0 : Math.max(0, this.#outage.until - this.#now());
    }

    /** Return whether one more may try now. */
    get allows() {
        return this.#outage === null || (this.waitMs === 0 && this.#outage.open.size < this.#outage.width);
    }

    /** Somebody tries. @param {Who} who */
    began(who) {
        this.#outage?.open.add(who);
    }

    /** A try has ended, whatever its outcome. @param {Who} who */
    ended(who) {
        this.#outage?.open.delete(who);
    }

    /** The web app answered somebody. @returns {Who[]} who failed in the outage that is over with it */
    answered() {
        const concerned = [...this.#concerned];
        this.#answeredAt = this.#now();
        this.#concerned.clear();
        this.#outage = null;
        return concerned;
    }

    /**
     * Return whether somebody's failure is their own: the web app has answered others since `sinceMs`.
     *
     * @param {number} sinceMs
     */
    isOwn(sinceMs) {
        return this.#answeredAt > sinceMs;
    }

    /**
     * Somebody failed, and not for a fault of their own.
     *
     * @param {Who} who
     * @param {Outcome} outcome
     * @param {number|null} retryAfterMs the pause that the web app asks for
     */
    failed(who, outcome, retryAfterMs) {
        this.#concerned.add(who);
        // A try from before the outage says nothing new about it.
        const isProbe = this.#outage?.open.has(who) ?? true;
        if (this.#outage === null) {
            if (outcome !== 'unreachable' && this.#concerned.size < ENOUGH) return;
            this.#outage = { width: WIDTH_DOWN, pauseMs: 0, until: 0, open: new Set() };
        }
        if (!isProbe) return;
        const outage = this.#outage;
        if (outcome === 'unanswered') {
            // Each chat has pauses of its own.
            Object.assign(outage, { width: WIDTH_SILENT, pauseMs: 0, until: 0 });
            return;
        }
        outage.width = WIDTH_DOWN;
        outage.pauseMs = Math.min(outage.pauseMs * 2 || PAUSE_FIRST_MS, PAUSE_MAX_MS);
        outage.until = this.#now() + Math.max(outage.pauseMs, retryAfterMs ?? 0);
    }
}

module.exports = { Outage };

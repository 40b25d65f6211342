'use strict';

/** A clock that stands still until a test sets it: days pass in moments. */

const { setImmediate: turn } = require('node:timers/promises');

/** Turns of the event loop in which everything settles that waits for no timer. */
const TURNS = 5;

class Clock {
    #time = 0;
    #began = Date.parse('2026-01-01T00:00:00Z');
    /** @type {Set<{at: number, work: () => void}>} */
    #timers = new Set();

    now = () => this.#time;
    date = () => this.#began + this.#time;
    /** @type {(ms: number, work: () => void) => () => void} */
    after = (ms, work) => {
        const timer = { at: this.#time + ms, work };
        this.#timers.add(timer);
        return () => this.#timers.delete(timer);
    };

    /** Let so much time pass, with all that happens in it. */
    async pass(/** @type {number} */ ms) {
        const end = this.#time + ms;
        await this.#settle();
        for (;;) {
            const due = [...this.#timers].filter(({ at }) => at <= end);
            if (due.length === 0) break;
            const next = due.reduce((one, other) => (other.at < one.at ? other : one));
            this.#timers.delete(next);
            this.#time = next.at;
            next.work();
            await this.#settle();
        }
        this.#time = end;
    }

    async #settle() {
        for (let left = TURNS; left > 0; left -= 1) await turn();
    }
}

module.exports = { Clock };

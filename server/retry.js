'use strict';

/** The next try of a session in trouble: what is tried then, and when that is. */

const { timestamp } = require('./state');

/** The time of day in so many milliseconds, in UTC. */
const clockTime = (/** @type {number} */ ms) => timestamp(Date.now() + ms).slice(11, 19);

class Retry {
    #work;
    /** @type {import('./types').NextTry|null} */
    #next = null;
    #at = 0;
    /** @type {NodeJS.Timeout|undefined} */
    #timer;

    /** @param {(next: import('./types').NextTry) => void} work has the try, when its time has come */
    constructor(work) {
        this.#work = work;
    }

    /** Whether a try is set, and not overtaken by another browser; its time may have come. */
    get isSet() {
        return this.#next !== null;
    }

    /** When it comes, by the monotonic clock in milliseconds; 0 = none is set. */
    get at() {
        return this.#at;
    }

    /**
     * Schedule a try in so many milliseconds, in place of one that is set.
     *
     * @param {import('./types').NextTry} next
     * @param {number} ms
     * @returns {string} the text to show for it
     */
    set(next, ms) {
        clearTimeout(this.#timer);
        this.#next = next;
        this.#at = performance.now() + ms;
        this.#timer = setTimeout(() => this.#work(next), ms);
        const what = next.step === 'process' ? 'the server restarts' : 'next try';
        return `${what} at ${clockTime(ms)} UTC`;
    }

    /**
     * Move the try to so many milliseconds from now, if it would come later.
     *
     * @param {number} ms
     * @returns {string|null} the text to show for it; null = it stays unchanged, or none is set
     */
    hasten(ms) {
        const next = this.#next;
        if (next === null || performance.now() + ms >= this.#at) return null;
        return `${next.why.message}; ${this.set(next, ms)}`;
    }

    /** It is no longer needed: another browser is opened, or the session ends. */
    clear() {
        clearTimeout(this.#timer);
        this.#next = null;
        this.#at = 0;
    }
}

module.exports = { Retry, clockTime };

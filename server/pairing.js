'use strict';

/** Pairing codes: who waits for one, and until when WhatsApp is not asked for another. */

const { withLimit } = require('./errors');
const { reason } = require('./session_errors');
const { clockTime } = require('./retry');

const LIMIT_MS = 60_000;
/** How long no pairing code is asked for after WhatsApp has said that it was asked too often; then twice. */
const PAUSE_MS = 300_000;
const PAUSE_MAX_MS = 3_600_000;

/** The answer of WhatsApp's server, not its page, to too many requests. */
const TOO_OFTEN = /\b429\b|rate-?_?over-?_?limit|too.?many/i;

/** Somebody waits for the pairing code of a phone; several may. */
class Request {
    /** @type {(answer: import('./types').PairingCode) => void} */
    resolve = () => {};
    /** @type {(error: Error) => void} */
    reject = () => {};

    /** @param {string} phone */
    constructor(phone) {
        this.phone = phone;
        /** Becomes what is answered. @type {Promise<import('./types').PairingCode>} */
        this.code = new Promise((resolve, reject) => {
            this.resolve = resolve;
            this.reject = reject;
        });
        this.code.catch(() => {});
    }

    /** There is a code: the first, or one that takes its place. */
    give(/** @type {import('./types').PairingCode} */ answer) {
        this.resolve(answer);
        this.code = Promise.resolve(answer);
    }
}

class Pairing {
    /** @type {Request|null} */
    #request = null;
    /** How long WhatsApp is left alone the next time, and until when it is now. */
    #pause = PAUSE_MS;
    #from = 0;

    /** The phone whose code is asked for, or shown; null = none is. */
    get phone() {
        return this.#request?.phone ?? null;
    }

    /** @throws {SessionError} `pairing_limited`: WhatsApp is left alone for now */
    check() {
        const wait = this.#from - performance.now();
        if (wait > 0) throw reason.pairingLimited(clockTime(wait));
    }

    /** A code for this phone is asked for. */
    ask(/** @type {string} */ phone) {
        this.#request = new Request(phone);
    }

    /**
     * Wait for the code that is asked for.
     *
     * @returns {Promise<import('./types').PairingCode>}
     * @throws {SessionError} why there is none
     * @throws {TimeLimitError} after 60 s
     */
    async code() {
        if (this.#request === null) throw reason.superseded();
        return withLimit(this.#request.code, LIMIT_MS, 'the pairing code');
    }

    /** There is a code. */
    give(/** @type {import('./types').PairingCode} */ code) {
        this.#request?.give(code);
        this.#pause = PAUSE_MS;
    }

    /** There will be none; all that wait get the reason. */
    refuse(/** @type {Error} */ error) {
        this.#request?.reject(error);
        this.#request = null;
    }

    /** It is no longer useful; all that waited have it. */
    forget() {
        this.#request = null;
    }

    /**
     * WhatsApp gave none.
     *
     * @param {string} words what was thrown
     * @returns {import('./errors').SessionError} why
     */
    refusal(words) {
        if (!TOO_OFTEN.test(words)) return reason.pairingRefused();
        this.#from = performance.now() + this.#pause;
        const why = reason.pairingLimited(clockTime(this.#pause));
        this.#pause = Math.min(2 * this.#pause, PAUSE_MAX_MS);
        return why;
    }
}

module.exports = { Pairing };

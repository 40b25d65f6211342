'use strict';

/** A reason why there is no session, told to people: a cause code, what happened, and the way out. */
class SessionError extends Error {
    /**
     * @param {string} cause machine-readable: `browser_missing`, `profile_error`, …
     * @param {string} message what happened
     * @param {string} hint what to do about it
     */
    constructor(cause, message, hint) {
        super(message);
        this.name = 'SessionError';
        this.cause = cause;
        this.hint = hint;
    }
}

/** A wait that took longer than it may. */
class TimeLimitError extends Error {
    constructor(what, ms) {
        super(`${what} took longer than ${ms / 1000} s`);
        this.name = 'TimeLimitError';
    }
}

/**
 * Wait for a promise, but not for ever. What the promise does after the limit is ignored.
 *
 * @throws {TimeLimitError} after `ms` milliseconds
 */
function withLimit(promise, ms, what) {
    let timer;
    const limit = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new TimeLimitError(what, ms)), ms);
    });
    promise.catch(() => {});
    return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

module.exports = { SessionError, TimeLimitError, withLimit };

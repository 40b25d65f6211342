'use strict';

/** A reason why there is no session, for people: a cause code, what happened, and how to fix it. */
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

/** Return the text of a thrown value. Anything can be thrown. @param {any} error */
const messageOf = (error) => String(error?.message ?? error);

/** The code of a failed system call, and of other errors that have one. @returns {string|undefined} */
const codeOf = (/** @type {any} */ error) => error?.code;

/** The cause of a reason; '' where an error is none. @param {unknown} error */
const causeOf = (error) => (error instanceof SessionError ? error.cause : '');

/**
 * Return what is shown of a reason while something is tried.
 *
 * @param {SessionError} why
 * @param {string} next what comes next
 */
const explain = ({ message, cause, hint }, next) => ({ message: `${message}; ${next}`, cause, hint });

/** A wait that took longer than it may. */
class TimeLimitError extends Error {
    /** @param {string} what @param {number} ms */
    constructor(what, ms) {
        super(`${what} took longer than ${ms / 1000} s`);
        this.name = 'TimeLimitError';
    }
}

/**
 * Wait for a promise, but not for ever. What the promise does after the limit is ignored.
 *
 * @template Result
 * @param {Promise<Result>} promise
 * @param {number} ms
 * @param {string} what takes so long
 * @returns {Promise<Result>}
 * @throws {TimeLimitError} after `ms` milliseconds
 */
function withLimit(promise, ms, what) {
    /** @type {NodeJS.Timeout|undefined} */
    let timer;
    /** @type {Promise<never>} */
    const limit = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new TimeLimitError(what, ms)), ms);
    });
    promise.catch(() => {});
    return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/** Thrown if a part of the page is not loaded (yet). */
const NOT_LOADED = /Requiring unknown module|unresolved dependenc/i;

/** Thrown at work in a document that has gone; the last is our own. */
const DOCUMENT_GONE = /context was destroyed|Cannot find context|another document is loaded/i;
/** Thrown by puppeteer at calls whose browser goes away, whose page crashes, or whose frame is removed. */
const BROWSER_GONE = /Target closed|Session closed|Connection closed/i;
const PAGE_CRASHED = /Target crashed|Page crashed/i;
const FRAME_GONE = /detached/i;

/** All of these: the outcome of the work is not known. */
const PAGE_GONE = new RegExp(
    [DOCUMENT_GONE, BROWSER_GONE, PAGE_CRASHED, FRAME_GONE].map(({ source }) => source).join('|'),
    'i',
);

module.exports = {
    BROWSER_GONE,
    DOCUMENT_GONE,
    NOT_LOADED,
    PAGE_CRASHED,
    PAGE_GONE,
    SessionError,
    TimeLimitError,
    causeOf,
    codeOf,
    explain,
    messageOf,
    withLimit,
};

/**
 * Calls of the daemon's API from a page.
 *
 * Addresses are relative to the page, so that it works below any prefix of a reverse proxy. The caller is
 * identified by what the page was given: nothing on the unix socket and behind a proxy with a cookie of its
 * own, the link's signature, or a token that was typed in.
 */

const TOKEN = 'waportd-token';

const page = new URLSearchParams(location.search);

/** An error that the API answered with, or that kept it from answering (status 0). */
export class Problem extends Error {
    /**
     * @param {object} problem
     * @param {number} problem.status
     * @param {string|null} problem.code
     * @param {string} problem.detail
     * @param {string|null} [problem.hint]
     * @param {string|null} [problem.cause]
     * @param {number|null} [problem.retryAfter] seconds
     */
    constructor({ status, code, detail, hint = null, cause = null, retryAfter = null }) {
        super(detail);
        this.status = status;
        this.code = code;
        this.hint = hint;
        this.cause = cause;
        this.retryAfter = retryAfter;
    }

    /** Nothing answered, or a proxy without a daemon behind it, or a daemon that is shutting down. */
    get unreachable() {
        return this.status === 0 || this.code === 'restarting' || (this.code === null && this.status >= 500);
    }

    /** The caller may not do this, whatever the state of things. */
    get refused() {
        return this.status === 401 || this.status === 403;
    }
}

/** The problem of a failed call, for any error. @param {unknown} error */
export function asProblem(error) {
    if (error instanceof Problem) return error;
    return new Problem({
        status: 0,
        code: null,
        detail: error instanceof Error ? error.message : String(error),
    });
}

/** The token that was typed in, for as long as the tab lives. */
export const token = {
    get: () => sessionStorage.getItem(TOKEN),
    set: (/** @type {string} */ text) => sessionStorage.setItem(TOKEN, text),
    forget: (storage = sessionStorage) => storage.removeItem(TOKEN),
};

/** Return the path of a user's resource. */
export const userPath = (/** @type {string} */ user, /** @type {string[]} */ ...rest) =>
    ['v1/users', encodeURIComponent(user), ...rest].join('/');

/** Return the absolute address of a path, with the link's signature where the page came by one. */
export function address(/** @type {string} */ path, query = {}) {
    const url = new URL(path, document.baseURI);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    for (const name of ['expires', 'signature']) {
        const value = page.get(name);
        if (value !== null) url.searchParams.set(name, value);
    }
    return url;
}

/**
 * What a call has beside its path.
 *
 * @typedef {object} Call
 * @property {Record<string, any>} [query]
 * @property {object} [body] its JSON
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 */

/**
 * Send a request.
 *
 * @param {string} method
 * @param {string} path
 * @param {Call} options
 * @returns {Promise<Response>}
 * @throws {Problem} for every answer but a success
 */
export async function send(method, path, { query, body, headers = {}, signal } = {}) {
    /** @type {RequestInit & {headers: Record<string, string>}} */
    const options = {
        method,
        signal,
        cache: 'no-store',
        headers: { Accept: 'application/json', ...headers },
    };
    if (token.get()) options.headers.Authorization = `Bearer ${token.get()}`;
    if (body !== undefined) {
        options.headers['Content-Type'] = 'application/json';
        options.body = JSON.stringify(body);
    }
    let response;
    try {
        response = await fetch(address(path, query), options);
    } catch (error) {
        if (signal?.aborted) throw error;
        throw new Problem({ status: 0, code: null, detail: 'the daemon does not answer' });
    }
    noteClock(response);
    if (!response.ok) throw await problemOf(response);
    return response;
}

/** Send a request and read the JSON document of its answer; null where it has none. */
export async function call(
    /** @type {string} */ method,
    /** @type {string} */ path,
    /** @type {Call} */ options = {},
) {
    const response = await send(method, path, options);
    return response.status === 204 ? null : response.json();
}

async function problemOf(/** @type {Response} */ response) {
    const { status } = response;
    const retryAfter = Number(response.headers.get('Retry-After')) || null;
    try {
        const { code, detail, hint, cause } = await response.json();
        return new Problem({ status, code, detail, hint, cause, retryAfter });
    } catch {
        return new Problem({ status, code: null, detail: `answered ${status}`, retryAfter });
    }
}

let ahead = 0;

function noteClock(/** @type {Response} */ response) {
    const date = Date.parse(response.headers.get('Date') ?? '');
    // It is cut to the second: smaller differences are none.
    if (!Number.isNaN(date)) ahead = Math.abs(date - Date.now()) < 1500 ? 0 : date - Date.now();
}

/** The daemon's time in milliseconds: a phone's or a laptop's own clock may be minutes off. */
export const now = () => Date.now() + ahead;

'use strict';

/**
 * One call of the web app with one event: what is sent, how long to wait for the answer, which redirects are
 * followed, and what the answer means. Signed as Standard Webhooks has it (standardwebhooks.com).
 */

const http = require('node:http');

const { codeOf } = require('./errors');
const { WEBHOOK_AGENT } = require('./http');

/** How long to wait for the rest of an answer once its status is there, in milliseconds. */
const REST_LIMIT_MS = 1_000;
const MAX_REDIRECTS = 5;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
/** The only statuses of 4xx that say "not now" rather than "not this". */
const NOT_NOW = new Set([408, 425, 429]);
/** A web app that asks for a longer pause is asked again after this one, in milliseconds. */
const MAX_RETRY_AFTER_MS = 3_600_000;
const SECRET_PREFIX = 'whsec_';
/** Headers that say where a request ends: nobody else sets these. */
const FRAMING = /^(connection|content-length|expect|host|te|trailer|transfer-encoding|upgrade)$/i;

const UNTRUSTED = 'its certificate is not trusted on this host';
const NO_TLS = 'it does not speak TLS: webhook_url has to begin with http:';
const DENIED = "this session may not reach its network: see instances.deny_networks, and the host's firewall";
const REASONS = /** @type {Record<string, string|undefined>} */ ({
    ECONNREFUSED: 'nobody listens there',
    ECONNRESET: 'it closed the connection without an answer',
    EPIPE: 'it closed the connection without an answer',
    EACCES: DENIED,
    EPERM: DENIED,
    ETIMEDOUT: 'its host does not answer',
    EHOSTUNREACH: 'its host cannot be reached',
    ENETUNREACH: 'its network cannot be reached',
    ENOTFOUND: 'its name is not known',
    EAI_AGAIN: 'its name cannot be looked up now',
    EPROTO: NO_TLS,
    ERR_SSL_WRONG_VERSION_NUMBER: NO_TLS,
    ERR_SSL_PACKET_LENGTH_TOO_LONG: NO_TLS,
    CERT_HAS_EXPIRED: 'its certificate has expired',
    DEPTH_ZERO_SELF_SIGNED_CERT: UNTRUSTED,
    SELF_SIGNED_CERT_IN_CHAIN: UNTRUSTED,
    UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNTRUSTED,
    UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNTRUSTED,
    ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another name',
    ERR_INVALID_CHAR: 'webhook_headers has a value that HTTP does not allow',
    ERR_INVALID_HTTP_TOKEN: 'webhook_headers has a name that HTTP does not allow',
});
const PORTS = /** @type {Record<string, number|undefined>} */ ({ 'http:': 80, 'https:': 443 });
const FIX_URL = 'webhook_url has to be the address that takes the messages';

/**
 * Return whether a URL leads to this host and `port`.
 *
 * @param {URL} url
 * @param {number} port
 */
function isOwn(url, port) {
    const local = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(url.hostname);
    return local && Number(url.port || PORTS[url.protocol]) === port;
}

/**
 * Return where a redirect leads if that is the same web app: the same host and port, or its TLS. Else null:
 * what else listens on a host did not ask for the messages.
 *
 * @param {URL} url
 * @param {string|undefined} location
 */
function redirected(url, location) {
    let next;
    try {
        next = new URL(location ?? 'nowhere:', url);
    } catch {
        return null;
    }
    const isUpgrade = `${url.protocol}${url.port}>${next.protocol}${next.port}` === 'http:>https:';
    if (next.hostname !== url.hostname || (next.origin !== url.origin && !isUpgrade)) return null;
    if (next.username === '') Object.assign(next, { username: url.username, password: url.password });
    return next;
}

/**
 * Read Retry-After, a number of seconds or a date.
 *
 * @param {string|undefined} text
 * @param {number} now
 * @returns {number|null} milliseconds, bounded
 */
function retryAfter(text, now) {
    if (text === undefined) return null;
    const isDate = /^[A-Z][a-z]{2,8}, /.test(text);
    const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : isDate ? Date.parse(text) - now : NaN;
    return Number.isNaN(ms) ? null : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}

/**
 * @typedef {object} Failure
 * @property {'refused'|'later'|'unanswered'|'unreachable'} outcome `refused`: not this one; `later`: not now,
 *   or not there; `unanswered`: it has the event, and said nothing of it; `unreachable`: it does not have it
 * @property {string} reason without anything of the URL or of the event
 * @property {number|null} [retryAfterMs] the pause that it asks for, an hour at most
 */

/** @typedef {{outcome: 'delivered', reason: null, retryAfterMs: null}|Failure} Answer */

/**
 * The result of one request: the answer, and the pause that it asks for; or why there is none, and whether
 * the web app may have all of the body.
 *
 * @typedef {{status: number, location?: string, wanted?: string, code?: undefined, isSent?: undefined}
 *     | {status: null, location?: undefined, wanted?: undefined, code: string, isSent: boolean}} Said
 */

class Webhook {
    #url;
    #keys;
    #headers;
    #limitMs;
    /** @type {Set<AbortController>} */
    #open = new Set();

    /**
     * @param {object} options
     * @param {URL} options.url
     * @param {string[]} [options.secrets] `whsec_` and base64; each signs
     * @param {Readonly<Record<string, string>>} [options.headers] further headers; they give way to those of
     *   a call
     * @param {number} options.limitMs how long one call may take, redirects included
     */
    constructor({ url, secrets = [], headers = {}, limitMs }) {
        this.#url = url;
        this.#keys = secrets.map((secret) => Buffer.from(secret.slice(SECRET_PREFIX.length), 'base64'));
        this.#headers = Object.fromEntries(Object.entries(headers).filter(([name]) => !FRAMING.test(name)));
        this.#limitMs = limitMs;
    }

    /**
     * Hand an event over once. Never rejects.
     *
     * @param {string} id the same at each try
     * @param {Buffer} body its JSON
     * @returns {Promise<Answer>}
     */
    async post(id, body) {
        const limit = new AbortController();
        this.#open.add(limit);
        const timer = setTimeout(() => limit.abort(), this.#limitMs);
        try {
            const headers = this.#headersOf(id, body);
            /** @type {URL|null} */
            let url = this.#url;
            for (let hops = 0; ; hops += 1) {
                const said = await send(url, headers, body, limit.signal);
                if (said.status === null || !REDIRECTS.has(said.status)) return this.#judge(said);
                url = redirected(url, said.location);
                if (url === null) {
                    const reason = `HTTP ${said.status}: it redirects to another host or port; ${FIX_URL}`;
                    return { outcome: 'later', reason, retryAfterMs: null };
                }
                if (hops === MAX_REDIRECTS) {
                    const reason = `HTTP ${said.status}: it redirects again and again; ${FIX_URL}`;
                    return { outcome: 'later', reason, retryAfterMs: null };
                }
            }
        } finally {
            clearTimeout(timer);
            this.#open.delete(limit);
        }
    }

    /** Break off what is under way. */
    close() {
        for (const limit of this.#open) limit.abort();
    }

    /**
     * @param {string} id
     * @param {Buffer} body
     */
    #headersOf(id, body) {
        const time = String(Math.floor(Date.now() / 1000));
        return {
            ...this.#headers,
            'Content-Type': 'application/json',
            'Content-Length': body.length,
            'User-Agent': WEBHOOK_AGENT,
            Connection: 'close',
            'webhook-id': id,
            'webhook-timestamp': time,
            ...(this.#keys.length === 0 ? {} : { 'webhook-signature': this.#sign(`${id}.${time}.`, body) }),
        };
    }

    /**
     * @param {string} head
     * @param {Buffer} body
     */
    #sign(head, body) {
        // Loaded when it is needed, as TLS below: most have no secret.
        const { createHmac } = require('node:crypto');
        const sign = (/** @type {Buffer} */ key) =>
            createHmac('sha256', key).update(head).update(body).digest('base64');
        return this.#keys.map((key) => `v1,${sign(key)}`).join(' ');
    }

    /**
     * @param {Said} said
     * @returns {Answer}
     */
    #judge({ status, code, isSent, wanted }) {
        if (status === null) {
            const limit = `${this.#limitMs / 1000} s`;
            const late = isSent ? `no answer within ${limit}` : `no connection within ${limit}`;
            const plain = code.startsWith('HPE_') ? 'its answer is not HTTP' : code;
            const reason = code === 'ABORT_ERR' ? late : (REASONS[code] ?? plain);
            return { outcome: isSent ? 'unanswered' : 'unreachable', reason, retryAfterMs: null };
        }
        if (status >= 200 && status < 300) return { outcome: 'delivered', reason: null, retryAfterMs: null };
        const isRefused = status >= 400 && status < 500 && !NOT_NOW.has(status);
        return {
            outcome: isRefused ? 'refused' : 'later',
            reason: `HTTP ${status}`,
            retryAfterMs: isRefused ? null : retryAfter(wanted, Date.now()),
        };
    }
}

/**
 * Send one request. Never rejects.
 *
 * @param {URL} url
 * @param {import('node:http').OutgoingHttpHeaders} headers
 * @param {Buffer} body
 * @param {AbortSignal} signal
 * @returns {Promise<Said>}
 */
function send(url, headers, body, signal) {
    return new Promise((resolve) => {
        let isAnswered = false;
        const take = (/** @type {import('node:http').IncomingMessage} */ response) => {
            isAnswered = true;
            const { location, 'retry-after': wanted } = response.headers;
            const rest = setTimeout(() => response.destroy(), REST_LIMIT_MS);
            response.on('error', () => {});
            // Until then the web app may be at work for it.
            response.on('close', () => {
                clearTimeout(rest);
                resolve({ status: /** @type {number} */ (response.statusCode), location, wanted });
            });
            response.resume();
        };
        try {
            const { request: open } = url.protocol === 'https:' ? require('node:https') : http;
            const request = open(
                url,
                {
                    ...{ method: 'POST', headers, signal, agent: false },
                    // "localhost" is ::1 first, where many a web app does not listen. Node 18 gives up then.
                    ...{ autoSelectFamily: true },
                },
                take,
            );
            // Not its message: that may name the URL, which may hold a token.
            request.on('error', (/** @type {NodeJS.ErrnoException} */ { code, name }) => {
                if (isAnswered) return;
                resolve({ status: null, code: code ?? name, isSent: request.writableFinished });
            });
            // An answer that changes the protocol is neither an answer nor an error to node.
            request.on('close', () => {
                if (!isAnswered) {
                    resolve({ status: null, code: 'ECONNRESET', isSent: request.writableFinished });
                }
            });
            request.end(body);
        } catch (error) {
            resolve({
                status: null,
                code: codeOf(error) ?? /** @type {Error} */ (error).name,
                isSent: false,
            });
        }
    });
}

module.exports = { Webhook, isOwn };

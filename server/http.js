'use strict';

/**
 * HTTP on loopback: which connections and requests are let in, how requests reach their routes, how answers
 * and errors are written, how it all ends.
 */

const http = require('node:http');

const { foundUid } = require('./caller_check');
const { TimeLimitError, withLimit } = require('./errors');

const MAX_BODY_BYTES = 1024 * 1024;
const LIMITS = {
    maxHeaderSize: 16 * 1024,
    headersTimeout: 10_000,
    // Files come slowly where a network is slow; what is read as JSON has a limit of its own.
    requestTimeout: 600_000,
    keepAliveTimeout: 10_000,
    connectionsCheckingInterval: 2_000,
};
/** How long a body of JSON may take, in milliseconds. */
const JSON_LIMIT_MS = 20_000;
const WITH_BODY = new Set(['POST', 'PATCH']);
/** Limits for each address, and for one caller. The caller is known only once the connection is there. */
const MAX_CONNECTIONS = 256;
const MAX_CONNECTIONS_OF_ONE = 192;
/** Of callers who are refused: so many may ask for the reason, for so long. */
const MAX_REFUSED = 16;
const REFUSED_LIMIT_MS = 1_000;
const DRAIN_LIMIT_MS = 1_000;

/** The `User-Agent` of calls to webhooks. */
const WEBHOOK_AGENT = 'waportd-webhook';

const LOCAL_NAME = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i;

/** An answer that is an error: status, text, and further members of its JSON body. */
class HttpError extends Error {
    /**
     * @param {number} status
     * @param {string} message
     * @param {{code?: string, cause?: string, hint?: string}} more
     * @param {Record<string, string>} headers
     */
    constructor(status, message, more = {}, headers = {}) {
        super(message);
        this.status = status;
        this.body = { error: message, ...more };
        this.headers = headers;
    }
}

/** @param {string|undefined} host */
function isLocalName(host) {
    return host !== undefined && LOCAL_NAME.test(host);
}

/**
 * A name in `Host` that is not this host's means that a web page made its own name resolve to loopback (DNS
 * rebinding). An `Origin` that is not this server's, or a `Sec-Fetch-Site` that says so, means that a page of
 * another site or local program calls, in the browser of somebody who may. A webhook that leads here has one
 * user's server call another's, by the wish of somebody who could not call it. All of them are refused.
 *
 * @param {import('node:http').IncomingMessage} request
 */
function refuseForeignCallers(request) {
    if (!isLocalName(request.headers.host)) {
        throw new HttpError(403, 'this server answers only to localhost, 127.0.0.1 and [::1]');
    }
    const { host, origin, 'sec-fetch-site': site } = request.headers;
    if (origin !== undefined && origin !== `http://${host}`) {
        throw new HttpError(403, 'web pages of other hosts and ports may not call this server');
    }
    if (site !== undefined && site !== 'same-origin' && site !== 'none') {
        throw new HttpError(403, 'web pages of other sites may not call this server');
    }
    if (request.headers['user-agent'] === WEBHOOK_AGENT) {
        throw new HttpError(403, 'a webhook may not call this server: it is for the web app');
    }
}

/**
 * Read a JSON object; an empty body is an empty object.
 *
 * @param {import('node:http').IncomingMessage} request
 * @param {number} [most] bytes
 * @param {() => Promise<void>|void} [beyond] is waited for once more than a MiB has come, which is usually
 *   the most
 * @returns {Promise<import('./types').JsonObject>}
 * @throws {HttpError} 400 or 413
 */
async function readJson(request, most = MAX_BODY_BYTES, beyond = () => {}) {
    const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
    if ((length === undefined || length === '0') && encoding === undefined) return {};
    const chunks = [];
    let size = 0;
    for await (const chunk of request) {
        if (size <= MAX_BODY_BYTES && size + chunk.length > MAX_BODY_BYTES) await beyond();
        size += chunk.length;
        if (size > most)
            throw new HttpError(413, `the body is longer than ${most} bytes`, {}, { Connection: 'close' });
        chunks.push(chunk);
    }
    if (size === 0) return {};
    let value;
    try {
        value = JSON.parse(Buffer.concat(chunks).toString('utf8'));
    } catch {
        throw new HttpError(400, 'the body is not JSON');
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
        throw new HttpError(400, 'the body is not a JSON object');
    }
    return value;
}

/**
 * Have a body there in time.
 *
 * @template Body
 * @param {Promise<Body>} body
 * @param {number} limitMs
 * @returns {Promise<Body>}
 * @throws {HttpError} 408
 */
function inTime(body, limitMs) {
    return withLimit(body, limitMs, 'the body').catch((error) => {
        if (!(error instanceof TimeLimitError)) throw error;
        throw new HttpError(408, error.message, {}, { Connection: 'close' });
    });
}

/**
 * @param {import('node:http').ServerResponse} response
 * @param {number} status
 * @param {unknown} body a text is JSON already
 * @param {Record<string, string>} [more] headers
 */
function writeJson(response, status, body, more) {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const headers = {
        'Content-Type': 'application/json; charset=utf-8',
        'Content-Length': Buffer.byteLength(text),
        'Cache-Control': 'no-store',
        'X-Content-Type-Options': 'nosniff',
    };
    response.writeHead(status, more === undefined ? headers : Object.assign(headers, more));
    response.end(text);
}

const NO_QUERY = new URLSearchParams();
/** A target that is its own pathname, as most are: parsing it as a URL takes longer than answering. */
const PLAIN_TARGET = /^(\/[\w-]+)+$|^\/$/;

/** Return the parts of a request's target. @param {string} target @throws {HttpError} 400 */
function readTarget(target) {
    if (PLAIN_TARGET.test(target)) return { pathname: target, query: NO_QUERY };
    try {
        const { pathname, searchParams: query } = new URL(target.replace(/^\/+/, '/'), 'http://localhost');
        return { pathname, query };
    } catch {
        throw new HttpError(400, 'the path is not properly written');
    }
}

/** Finds the route of a request; paths hold `{name}` where a segment varies. */
class Router {
    /** @type {Map<string, import('./types').Route[]>} */
    #fixed = new Map();
    /** @type {{route: import('./types').Route, pattern: string[]}[]} */
    #varying = [];

    /** @param {import('./types').Route[]} routes */
    constructor(routes) {
        for (const route of routes) {
            if (route.path.includes('{')) this.#varying.push({ route, pattern: route.path.split('/') });
            else this.#fixed.set(route.path, [...(this.#fixed.get(route.path) ?? []), route]);
        }
    }

    /**
     * Return whether there is such a path, and that method.
     *
     * @param {string} method
     * @param {string} pathname
     */
    has(method, pathname) {
        return this.#fixed.get(pathname)?.some((route) => route.method === method) === true;
    }

    /**
     * @param {string} method
     * @param {string} pathname
     * @throws {HttpError} 400, 404, 405
     */
    find(method, pathname) {
        const matching = this.#fixed.get(pathname) ?? this.#matching(pathname);
        if (matching.length === 0) throw new HttpError(404, 'no such path; GET / lists what there is');
        const route =
            matching.find((each) => each.method === method) ??
            (method === 'HEAD' ? matching.find((each) => each.method === 'GET') : undefined);
        if (route === undefined) {
            const allow = matching.map((each) => each.method).join(', ');
            throw new HttpError(405, `use ${allow} here`, {}, { Allow: allow });
        }
        return { route, params: readParams(route.path, pathname) };
    }

    /** @param {string} pathname */
    #matching(pathname) {
        const segments = pathname.split('/');
        return this.#varying
            .filter(
                ({ pattern }) =>
                    pattern.length === segments.length &&
                    pattern.every((part, index) =>
                        part.startsWith('{') ? segments[index] !== '' : part === segments[index],
                    ),
            )
            .map(({ route }) => route);
    }
}

/**
 * @param {string} path that of the route
 * @param {string} pathname that of the request
 */
function readParams(path, pathname) {
    /** @type {Record<string, string>} */
    const params = {};
    if (!path.includes('{')) return params;
    const segments = pathname.split('/');
    path.split('/').forEach((part, index) => {
        if (!part.startsWith('{')) return;
        try {
            params[part.slice(1, -1)] = decodeURIComponent(segments[index]);
        } catch {
            throw new HttpError(400, 'the path is not properly encoded');
        }
    });
    return params;
}

/** The callers of one listening socket's connections: one caller leaves some of them to others. */
class Places {
    #callerOf;
    /** How many are each user's. @type {Map<number, number>} */
    #held = new Map();
    /** @type {Set<import('node:net').Socket>} */
    #refused = new Set();

    /** @param {(socket: import('node:net').Socket) => number|undefined} callerOf */
    constructor(callerOf) {
        this.#callerOf = callerOf;
    }

    /**
     * Count a connection whose caller is let in; close it where it is one too many of theirs.
     *
     * @param {import('node:net').Socket} socket
     */
    give(socket) {
        const uid = this.#callerOf(socket);
        if (uid === undefined || socket.destroyed) return;
        const held = (this.#held.get(uid) ?? 0) + 1;
        if (held > MAX_CONNECTIONS_OF_ONE) {
            socket.destroy();
            return;
        }
        this.#held.set(uid, held);
        socket.once('close', () => {
            const left = /** @type {number} */ (this.#held.get(uid)) - 1;
            if (left === 0) this.#held.delete(uid);
            else this.#held.set(uid, left);
        });
    }

    /**
     * Give a refused caller time to ask and to read why; of many, the first have had their time.
     *
     * @param {import('node:net').Socket} socket
     */
    refuse(socket) {
        if (socket.destroyed) return;
        this.#refused.add(socket);
        const limit = setTimeout(() => socket.destroy(), REFUSED_LIMIT_MS);
        socket.once('close', () => {
            clearTimeout(limit);
            this.#refused.delete(socket);
        });
        if (this.#refused.size > MAX_REFUSED) this.#refused.values().next().value?.destroy();
    }
}

/** Why who calls over a connection is refused; null = they are not. @typedef {string|null} Verdict */

/**
 * Serves routes on any number of listening sockets.
 *
 * A route is `{method, path, handle, read}`. `handle({request, response, params, query, body})` returns the
 * JSON of a 200 answer, as a value or as text, or writes the answer itself and returns undefined, or throws
 * an HttpError. `body` is a JSON object, or what `read(request, response)` makes of the body.
 */
class HttpServer {
    #router;
    /** @type {(() => import('./types').Route[])|null} */
    #all;
    #log;
    #judge;
    #callerOf;
    #jsonLimitMs;
    /** @type {http.Server[]} */
    #servers = [];
    /** @type {WeakMap<import('node:net').Socket, Verdict|Promise<Verdict>>} */
    #verdicts = new WeakMap();
    #draining = false;
    /** @type {() => void} */
    #firstAnswer = () => {};

    /** Resolves when the first request has been answered, or an event stream begun. @type {Promise<void>} */
    answered = new Promise((resolve) => {
        this.#firstAnswer = resolve;
    });

    /**
     * @param {object} options
     * @param {import('./types').Log} options.log
     * @param {number} [options.jsonLimitMs]
     * @param {{first: import('./types').Route[], all: () => import('./types').Route[]}} options.routes those
     *   that are known now, and all of them: asked for once another one is called
     * @param {(socket: import('node:net').Socket) => Promise<Verdict>} options.judge is asked once for
     *   each connection; resolves with the reason why it is refused, or null
     * @param {(socket: import('node:net').Socket) => number|undefined} [options.callerOf] returns who was
     *     judged
     */
    constructor({ routes, log, judge, callerOf = foundUid, jsonLimitMs = JSON_LIMIT_MS }) {
        this.#callerOf = callerOf;
        this.#jsonLimitMs = jsonLimitMs;
        this.#router = new Router(routes.first);
        this.#all = routes.all;
        this.#log = log;
        this.#judge = judge;
    }

    /**
     * Listen on a descriptor or an address.
     *
     * @param {{fd: number}|{host: string, port: number}} where
     * @throws {Error} with the system's `code`, such as EADDRINUSE
     */
    async listen(where) {
        const server = http.createServer(LIMITS, (request, response) => this.#serve(request, response));
        server.maxConnections = MAX_CONNECTIONS;
        const places = new Places(this.#callerOf);
        server.on('connection', (socket) => {
            const verdict = this.#judge(socket).then((reason) => {
                this.#verdicts.set(socket, reason);
                if (reason === null) places.give(socket);
                else places.refuse(socket);
                return reason;
            });
            this.#verdicts.set(socket, verdict);
        });
        server.on('clientError', (/** @type {NodeJS.ErrnoException} */ error, socket) => {
            if (!socket.writable) return;
            /** @type {Record<string, string>} */
            const status = {
                HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
                ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
            };
            const line = `HTTP/1.1 ${status[error.code ?? ''] ?? '400 Bad Request'}`;
            socket.end(`${line}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
            // Nothing more is read. After a disconnect a caller that still sends would not see the answer.
            socket.pause();
            setTimeout(() => socket.destroy(), DRAIN_LIMIT_MS).unref();
        });
        /** @type {Promise<void>} */
        const listening = new Promise((resolve, reject) => {
            server.once('error', reject);
            server.listen(where, () => {
                server.off('error', reject);
                resolve();
            });
        });
        await listening;
        server.on('error', (error) => this.#log.error('listening failed', { reason: error.message }));
        this.#servers.push(server);
    }

    /** Stop taking connections and let answers that are on their way arrive, for a second at most. */
    async close() {
        this.#draining = true;
        const closed = this.#servers.map(
            (server) =>
                new Promise((resolve) => {
                    server.close(resolve);
                    server.closeIdleConnections();
                }),
        );
        // A connection is idle only once its last answer is out.
        const idle = setInterval(() => this.#servers.forEach((server) => server.closeIdleConnections()), 20);
        const limit = setTimeout(() => {
            this.#servers.forEach((server) => server.closeAllConnections());
        }, DRAIN_LIMIT_MS);
        await Promise.all(closed);
        clearInterval(idle);
        clearTimeout(limit);
    }

    /**
     * Awaits only what is not there yet: an answer in the same turn of the event loop costs a third less.
     *
     * @param {import('node:http').IncomingMessage} request
     * @param {import('node:http').ServerResponse} response
     */
    async #serve(request, response) {
        try {
            if (this.#draining) response.setHeader('Connection', 'close');
            const { url = '', method = '' } = request;
            // One of no judge would be refused.
            const verdict = /** @type {Verdict|Promise<Verdict>} */ (this.#verdicts.get(request.socket));
            const reason = verdict instanceof Promise ? await verdict : verdict;
            if (reason !== null) throw new HttpError(403, reason, {}, { Connection: 'close' });
            refuseForeignCallers(request);
            const { pathname, query } = readTarget(url);
            const { route, params } = this.#find(method, pathname);
            const read = route.read ?? this.#readJson;
            const body = WITH_BODY.has(method) ? await read(request, response) : {};
            const handled = route.handle({ request, response, params, query, body });
            const answer = handled instanceof Promise ? await handled : handled;
            if (answer !== undefined) writeJson(response, 200, answer);
        } catch (error) {
            this.#fail(response, error);
        }
        this.#firstAnswer();
    }

    /**
     * @param {string} method
     * @param {string} pathname
     * @throws {HttpError} 400, 404, 405
     */
    #find(method, pathname) {
        if (this.#all !== null && !this.#router.has(method, pathname)) {
            this.#router = new Router(this.#all());
            this.#all = null;
        }
        return this.#router.find(method, pathname);
    }

    /** @throws {HttpError} 400, 408, 413 */
    #readJson = (/** @type {import('node:http').IncomingMessage} */ request) =>
        inTime(readJson(request), this.#jsonLimitMs);

    /**
     * @param {import('node:http').ServerResponse} response
     * @param {any} error anything can be thrown
     */
    #fail(response, error) {
        if (!(error instanceof HttpError) && error.code !== 'ECONNRESET') {
            this.#log.error('a request failed', { reason: error.stack ?? error });
        }
        if (response.headersSent || response.destroyed) {
            response.destroy();
            return;
        }
        const { status, body, headers } =
            error instanceof HttpError
                ? error
                : { status: 500, body: { error: 'internal error; see the log of this server' }, headers: {} };
        writeJson(response, status, body, headers);
    }
}

module.exports = { HttpError, HttpServer, MAX_BODY_BYTES, WEBHOOK_AGENT, inTime, readJson, writeJson };

'use strict';

/**
 * HTTP on loopback: which connections and requests are let in, how requests reach their routes, how answers
 * and errors are written, how it all ends.
 */

const http = require('node:http');

const MAX_BODY_BYTES = 1024 * 1024;
const LIMITS = {
    maxHeaderSize: 16 * 1024,
    headersTimeout: 10_000,
    requestTimeout: 20_000,
    keepAliveTimeout: 10_000,
    connectionsCheckingInterval: 2_000,
};
const MAX_CONNECTIONS = 256;
const DRAIN_LIMIT_MS = 1_000;

/** Who posts to webhooks, as requests name it. */
const WEBHOOK_AGENT = 'waportd-webhook';

const LOCAL_NAME = /^(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?$/i;

/** An answer that is an error: status, text, and further members of its JSON body. */
class HttpError extends Error {
    constructor(status, message, more = {}, headers = {}) {
        super(message);
        this.status = status;
        this.body = { error: message, ...more };
        this.headers = headers;
    }
}

function isLocalName(host) {
    return host !== undefined && LOCAL_NAME.test(host);
}

/**
 * A name in `Host` that is not this host's means that a web page made its own name resolve to loopback (DNS
 * rebinding). An `Origin` that is not this server's, or a `Sec-Fetch-Site` that says so, means that a page of
 * another site or local program calls, in the browser of somebody who may. A webhook that leads here has one
 * user's server call another's, by the wish of somebody who could not call it. All of them are refused.
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

/** Read a JSON object; an empty body is an empty object. @throws {HttpError} 400 or 413 */
async function readJson(request) {
    const { 'content-length': length, 'transfer-encoding': encoding } = request.headers;
    if ((length === undefined || length === '0') && encoding === undefined) return {};
    const chunks = [];
    let size = 0;
    for await (const chunk of request) {
        size += chunk.length;
        if (size > MAX_BODY_BYTES)
            throw new HttpError(
                413,
                `the body is longer than ${MAX_BODY_BYTES} bytes`,
                {},
                { Connection: 'close' },
            );
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

/** Return the parts of a request's target. @throws {HttpError} 400 */
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
    #fixed = new Map();
    #varying = [];

    constructor(routes) {
        for (const route of routes) {
            if (route.path.includes('{')) this.#varying.push({ route, pattern: route.path.split('/') });
            else this.#fixed.set(route.path, [...(this.#fixed.get(route.path) ?? []), route]);
        }
    }

    /** @throws {HttpError} 400, 404, 405 */
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

function readParams(path, pathname) {
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

/**
 * Serves routes on any number of listening sockets.
 *
 * A route is `{method, path, handle}`; `handle({request, response, params, query, body})` returns the JSON of
 * a 200 answer, as a value or as text, or writes the answer itself and returns undefined, or throws an
 * HttpError.
 */
class HttpServer {
    #router;
    #log;
    #judge;
    #servers = [];
    #verdicts = new WeakMap();
    #draining = false;
    #firstAnswer;

    /** Resolves when the first request has been answered, or an event stream begun. */
    answered = new Promise((resolve) => {
        this.#firstAnswer = resolve;
    });

    /**
     * @param {object[]} routes
     * @param {(socket: import('node:net').Socket) => Promise<string|null>} judge is asked once for each
     *     connection; resolves with the reason why it is refused, or null
     */
    constructor({ routes, log, judge }) {
        this.#router = new Router(routes);
        this.#log = log;
        this.#judge = judge;
    }

    /**
     * Listen on a descriptor `{fd}` or an address `{host, port}`.
     *
     * @throws {Error} with the system's `code`, such as EADDRINUSE
     */
    async listen(where) {
        const server = http.createServer(LIMITS, (request, response) => this.#serve(request, response));
        server.maxConnections = MAX_CONNECTIONS;
        server.on('connection', (socket) => {
            const verdict = this.#judge(socket).then((reason) => {
                this.#verdicts.set(socket, reason);
                return reason;
            });
            this.#verdicts.set(socket, verdict);
        });
        server.on('clientError', (error, socket) => {
            if (!socket.writable) return;
            const status = {
                HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
                ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
            };
            const line = `HTTP/1.1 ${status[error.code] ?? '400 Bad Request'}`;
            socket.end(`${line}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
        });
        await new Promise((resolve, reject) => {
            server.once('error', reject);
            server.listen(where, () => {
                server.off('error', reject);
                resolve();
            });
        });
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

    /** Awaits only what is not there yet: an answer in the same turn of the event loop costs a third less. */
    async #serve(request, response) {
        try {
            if (this.#draining) response.setHeader('Connection', 'close');
            const verdict = this.#verdicts.get(request.socket);
            const reason = verdict instanceof Promise ? await verdict : verdict;
            if (reason !== null) throw new HttpError(403, reason, {}, { Connection: 'close' });
            refuseForeignCallers(request);
            const { pathname, query } = readTarget(request.url);
            const { route, params } = this.#router.find(request.method, pathname);
            const body = request.method === 'POST' ? await readJson(request) : {};
            const handled = route.handle({ request, response, params, query, body });
            const answer = handled instanceof Promise ? await handled : handled;
            if (answer !== undefined) writeJson(response, 200, answer);
        } catch (error) {
            this.#fail(response, error);
        }
        this.#firstAnswer();
    }

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

module.exports = { HttpError, HttpServer, WEBHOOK_AGENT, writeJson };

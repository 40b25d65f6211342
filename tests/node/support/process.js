'use strict';

/** Real servers in real processes: start one, call it, follow it, and see that nothing of it is left. */

const { spawn } = require('node:child_process');
const { randomUUID } = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');

const ROOT = path.join(__dirname, '..', '..', '..');
const SCRIPT = path.join(ROOT, 'whatsapp_server.js');
/** For what is waited for: longer than it ever takes on a busy machine. Only a fault costs that time. */
const LIMIT_MS = 60_000;

/** What is waited for: its name, or what names it then. @typedef {string|(() => string)} What */

const told = (/** @type {What} */ what) => (typeof what === 'function' ? what() : what);

/**
 * Fail with `what` (a text, or a function that makes it then) if a promise takes longer than it may.
 *
 * @template Result
 * @param {Promise<Result>} promise
 * @param {What} what
 * @returns {Promise<Result>}
 */
function within(promise, what, ms = LIMIT_MS) {
    /** @type {NodeJS.Timeout|undefined} */
    let timer;
    /** @type {Promise<never>} */
    const limit = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`waited ${ms / 1000} s for ${told(what)}`)), ms);
    });
    return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/**
 * Look again and again until a look gives something, and resolve with that; fails as `within`.
 *
 * @template Seen
 * @param {() => Promise<Seen>} look
 * @param {What} what
 * @returns {Promise<NonNullable<Seen>>}
 */
async function whenFound(look, what, ms = LIMIT_MS) {
    const end = performance.now() + ms;
    for (;;) {
        const seen = await within(look(), what, Math.max(1, end - performance.now()));
        if (seen) return seen;
        if (performance.now() >= end) throw new Error(`waited ${ms / 1000} s for ${told(what)}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

/** What has to be stopped before a folder can be removed. @type {Map<string, (() => Promise<void>)[]>} */
const users = new Map();

const stopsOf = (/** @type {string} */ folder) => /** @type {(() => Promise<void>)[]} */ (users.get(folder));

/** Make a private folder that goes away after the test. */
function scratch(/** @type {import('node:test').TestContext} */ t) {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'whatsapp-server-'));
    users.set(directory, []);
    t.after(async () => {
        await Promise.all(stopsOf(directory).map((stop) => stop()));
        users.delete(directory);
        fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
    });
    return directory;
}

async function freePort() {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = /** @type {net.AddressInfo} */ (server.address());
    server.close();
    await once(server, 'close');
    return port;
}

/**
 * What is sent with a request.
 *
 * @typedef {{body?: any, headers?: http.OutgoingHttpHeaders, host?: string}} Sent
 */

/**
 * What is answered; `json` is undefined where it is none.
 *
 * @typedef {object} Answer
 * @property {number|undefined} status
 * @property {http.IncomingHttpHeaders} headers
 * @property {Buffer} bytes
 * @property {string} text
 * @property {any} json
 */

/**
 * Make one request.
 *
 * @param {number} port
 * @param {string} method
 * @param {string} target
 * @param {Sent} sent
 * @returns {Promise<Answer>}
 */
function request(port, method, target, { body, headers = {}, host = '127.0.0.1' } = {}) {
    return new Promise((resolve, reject) => {
        const sent = http.request({ host, port, method, path: target, headers, agent: false }, (response) => {
            /** @type {Buffer[]} */
            const chunks = [];
            response.on('data', (chunk) => chunks.push(chunk));
            response.on('end', () => {
                const bytes = Buffer.concat(chunks);
                const text = bytes.toString('utf8');
                const isJson = /json/.test(response.headers['content-type'] ?? '');
                resolve({
                    status: response.statusCode,
                    headers: response.headers,
                    bytes,
                    text,
                    json: isJson && text !== '' ? JSON.parse(text) : undefined,
                });
            });
            response.on('error', reject);
        });
        sent.on('error', reject);
        sent.end(typeof body === 'object' && !Buffer.isBuffer(body) ? JSON.stringify(body) : body);
    });
}

/** @typedef {import('../../../server/types').SessionDocument} SessionDocument */

/** Follows GET /events; `until` resolves with the first document, past or to come, that satisfies a test. */
class Follower {
    /** @type {SessionDocument[]} */
    documents = [];
    /** When each document came, in milliseconds. @type {number[]} */
    received = [];
    /** @type {Set<(document: SessionDocument) => void>} */
    #waiting = new Set();

    constructor(/** @type {number} */ port) {
        this.#request = http.get({ host: '127.0.0.1', port, path: '/events', agent: false }, (response) => {
            let text = '';
            response.setEncoding('utf8').on('data', (chunk) => {
                text += chunk;
                const blocks = text.split('\n\n');
                text = blocks.pop() ?? '';
                for (const block of blocks) this.#take(block);
            });
            response.on('error', () => {});
        });
        this.#request.on('error', () => {});
    }

    #request;

    #take(/** @type {string} */ block) {
        const data = block.split('\n').find((line) => line.startsWith('data: '));
        if (data === undefined) return;
        const document = JSON.parse(data.slice(6));
        this.documents.push(document);
        this.received.push(Date.now());
        for (const waiter of this.#waiting) waiter(document);
    }

    /** The states gone through, without repetitions. */
    get states() {
        return this.documents.map(({ state }) => state).filter((state, i, all) => state !== all[i - 1]);
    }

    get last() {
        return this.documents.at(-1);
    }

    /**
     * Resolve with a document that fits.
     *
     * @param {string|((document: SessionDocument) => unknown)} wanted a state or a test
     * @param {string} what that is, for who waits in vain
     * @param {{from?: number, limit?: number}} how `from`: how many documents are not looked at
     * @returns {Promise<SessionDocument>}
     */
    until(wanted, what = String(wanted), { from = 0, limit = LIMIT_MS } = {}) {
        /** @type {(document: SessionDocument) => unknown} */
        const fits = typeof wanted === 'function' ? wanted : ({ state }) => state === wanted;
        const seen = this.documents.slice(from).find(fits);
        if (seen) return Promise.resolve(seen);
        /** @type {(document: SessionDocument) => void} */
        let waiter;
        /** @type {Promise<SessionDocument>} */
        const met = new Promise((resolve) => {
            waiter = (document) => fits(document) && resolve(document);
            this.#waiting.add(waiter);
        });
        const late = () => `${what}; last: ${this.last?.state} (${this.last?.message})`;
        return within(met, late, limit).finally(() => this.#waiting.delete(waiter));
    }

    /**
     * Resolve with the first `ready` after another state: a document may still come from before that.
     *
     * @param {string} what
     */
    async untilBack(what, { from = 0, limit = LIMIT_MS } = {}) {
        const isGone = (/** @type {SessionDocument} */ { state }) => state !== 'ready';
        await this.until(isGone, `${what}, and before that another state`, { from, limit });
        const gone = this.documents.findIndex((document, index) => index >= from && isGone(document));
        return this.until('ready', what, { from: gone, limit });
    }

    close() {
        this.#request.destroy();
    }
}

/** Return the living processes, this one excepted, whose environment or arguments name a folder. */
function processesOf(/** @type {string} */ directory) {
    return fs
        .readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
        .filter((pid) => {
            try {
                const state = fs.readFileSync(`/proc/${pid}/stat`, 'latin1').replace(/^.*\) /s, '')[0];
                const text =
                    fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1') +
                    fs.readFileSync(`/proc/${pid}/environ`, 'latin1');
                return state !== 'Z' && text.includes(directory);
            } catch {
                return false;
            }
        })
        .map(Number);
}

/**
 * A file without a name, for a process to write to: what it has written can be read at once, so before
 * whatever it does next is seen. A pipe has no such order.
 */
class Written {
    #file;
    #text = '';
    #open = true;

    constructor() {
        const name = path.join(os.tmpdir(), `output-${randomUUID()}`);
        this.#file = fs.openSync(name, 'ax+', 0o600);
        fs.unlinkSync(name);
    }

    get descriptor() {
        return this.#file;
    }

    get text() {
        if (!this.#open) return this.#text;
        const buffer = Buffer.alloc(fs.fstatSync(this.#file).size);
        fs.readSync(this.#file, buffer, 0, buffer.length, 0);
        return buffer.toString();
    }

    close() {
        this.#text = this.text;
        this.#open = false;
        fs.closeSync(this.#file);
    }
}

/** One server process. */
class Server {
    #child;
    #written;

    /**
     * @param {import('node:child_process').ChildProcess} child
     * @param {Written} written its standard output and error output
     * @param {number} port
     * @param {string} directory
     */
    constructor(child, written, port, directory) {
        this.#child = child;
        this.#written = written;
        this.port = port;
        this.directory = directory;
        this.exited = once(child, 'close').then(([code, signal]) => {
            written.close();
            return code ?? signal;
        });
    }

    /** All that it has logged so far. */
    get output() {
        return this.#written.text;
    }

    get pid() {
        return this.#child.pid;
    }

    kill(/** @type {NodeJS.Signals} */ signal) {
        this.#child.kill(signal);
    }

    /** Resolves with the exit code (or signal); fails after `ms`. */
    exit(ms = LIMIT_MS) {
        return within(this.exited, () => `the end of the server; its output:\n${this.output}`, ms);
    }

    /** @param {string} target @param {Sent} [options] */
    get(target, options) {
        return request(this.port, 'GET', target, options);
    }

    /** @param {string} target @param {unknown} [body] @param {Sent} [options] */
    post(target, body, options) {
        return request(this.port, 'POST', target, { body, ...options });
    }

    /** @param {string} method @param {string} target @param {unknown} [body] */
    call(method, target, body) {
        return request(this.port, method, target, { body });
    }

    delete(/** @type {string} */ target) {
        return request(this.port, 'DELETE', target);
    }

    follow() {
        const follower = new Follower(this.port);
        this.exited.then(() => follower.close());
        return follower;
    }
}

/**
 * Start a server by hand and wait until it answers. After the test it is stopped if it still runs.
 *
 * @param {import('node:test').TestContext} t
 * @param {object} options
 * @param {string} [options.directory] its working directory, so its session's too: made by `scratch`
 * @param {string} [options.script] another program than whatsapp_server.js
 * @param {object} [options.env] on top of PATH and HOME
 * @param {number} [options.port] a free one unless given
 * @param {boolean} [options.answers] whether it is waited for
 * @param {string[]} [options.around] a command that becomes the server's, which it gets as its last arguments
 */
async function startServer(
    t,
    { script = SCRIPT, env = {}, directory = scratch(t), port, answers = true, around = [] } = {},
) {
    const number = port ?? (await freePort());
    const [program, ...args] = [...around, process.execPath, script, String(number)];
    const written = new Written();
    const child = spawn(program, args, {
        cwd: directory,
        env: { PATH: process.env.PATH, HOME: directory, WAPORTD_WEBHOOK_URL: '', ...env },
        stdio: ['ignore', written.descriptor, written.descriptor],
    });
    const server = new Server(child, written, number, directory);
    const stop = async () => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        child.kill('SIGTERM');
        await server.exit(12_000).catch(() => child.kill('SIGKILL'));
    };
    stopsOf(directory).push(stop);
    if (answers) {
        await whenListening(server);
        await server.get('/health');
    }
    return server;
}

/** Wait until a server says that it listens. */
async function whenListening(/** @type {Server} */ server) {
    /** @type {string|undefined} */
    let end;
    server.exited.then((code) => {
        end = `the server ended (${code}):\n${server.output}`;
    });
    await whenFound(async () => {
        if (end) throw new Error(end);
        return server.output.includes('listening');
    }, 'the server to listen');
}

module.exports = {
    ROOT,
    Server,
    freePort,
    processesOf,
    request,
    scratch,
    startServer,
    whenFound,
    whenListening,
    within,
};

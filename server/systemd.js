'use strict';

/**
 * systemd's side of a service: sockets that it hands over, and notifications to it. Node has no datagram
 * sockets, so a notification is a run of systemd-notify(1): never two at once, and what comes meanwhile is
 * merged into the next.
 */

const { spawn } = require('node:child_process');
const { setTimeout: pause } = require('node:timers/promises');

const { oneLine } = require('./log');

const FIRST_FD = 3;
const NOTIFY_LIMIT_MS = 5_000;
/**
 * That a server is ready is said until it is heard, as long as systemd waits for that: on a host that starts
 * a hundred programs at once, one more takes seconds. All else is said again anyway, or matters to no one.
 */
const READY_TRIES = 10;
const RETRY_MS = 1_000;
const OURS = ['LISTEN_FDS', 'LISTEN_PID', 'LISTEN_FDNAMES', 'NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'];

/**
 * Return the descriptors that systemd hands to this process (sd_listen_fds(3)); none when it hands any to
 * another.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {number[]}
 */
function listenFds(env, pid = process.pid) {
    const count = Number(env.LISTEN_FDS);
    if (env.LISTEN_PID !== String(pid) || !Number.isInteger(count) || count < 1) return [];
    return Array.from({ length: count }, (_, index) => FIRST_FD + index);
}

/**
 * Return how often to ping, in milliseconds: half of what systemd waits; null when it does not wait for
 * pings.
 *
 * @param {NodeJS.ProcessEnv} env
 */
function watchdogInterval(env, pid = process.pid) {
    const wait = Number(env.WATCHDOG_USEC);
    const mine = env.WATCHDOG_PID === undefined || env.WATCHDOG_PID === String(pid);
    return mine && Number.isInteger(wait) && wait > 0 ? Math.max(1, Math.floor(wait / 2000)) : null;
}

/** Take systemd's variables out of an environment, so that no child (a browser!) can use them. */
function takeVariables(/** @type {NodeJS.ProcessEnv} */ env) {
    const taken = Object.fromEntries(OURS.filter((name) => name in env).map((name) => [name, env[name]]));
    for (const name of OURS) delete env[name];
    return taken;
}

class Notifier {
    #socket;
    #log;
    /** @type {Map<string, string>} */
    #pending = new Map();
    /** @type {Promise<void>|null} */
    #running = null;
    #failed = false;

    /**
     * @param {string|undefined} socket value of NOTIFY_SOCKET; without it nothing is sent
     * @param {import('./types').Log} log
     */
    constructor(socket, log) {
        this.#socket = socket;
        this.#log = log;
    }

    /**
     * Send assignments such as `{READY: 1, STATUS: 'text'}`; resolves when they are sent, or cannot be.
     *
     * @param {Record<string, string|number>} assignments
     */
    send(assignments) {
        if (!this.#socket) return Promise.resolve();
        for (const [name, value] of Object.entries(assignments)) this.#pending.set(name, oneLine(value));
        this.#running ??= this.#flush().finally(() => {
            this.#running = null;
        });
        return this.#running;
    }

    async #flush() {
        // Notifications of one turn of the event loop are sent together.
        await new Promise(setImmediate);
        for (let tries = 1; this.#pending.size > 0; tries += 1) {
            const said = new Map(this.#pending);
            this.#pending.clear();
            const isHeard = await this.#run([...said].map(([name, value]) => `${name}=${value}`));
            if (isHeard || !said.has('READY') || tries >= READY_TRIES) continue;
            await pause(RETRY_MS);
            this.#pending = new Map([...said, ...this.#pending]);
        }
    }

    /** @param {string[]} args @returns {Promise<boolean>} whether systemd has heard it */
    #run(args) {
        return new Promise((resolve) => {
            const child = spawn('systemd-notify', args, {
                env: { PATH: process.env.PATH ?? '/usr/bin:/bin', NOTIFY_SOCKET: this.#socket },
                stdio: 'ignore',
                timeout: NOTIFY_LIMIT_MS,
                killSignal: 'SIGKILL',
            });
            const done = (/** @type {string|null} */ reason) => {
                if (reason && !this.#failed) this.#log.warning('systemd could not be notified', { reason });
                this.#failed = Boolean(reason);
                resolve(!reason);
            };
            child.on('error', (/** @type {NodeJS.ErrnoException} */ error) =>
                done(`systemd-notify: ${error.code ?? error.message}`),
            );
            child.on('exit', (code, signal) =>
                done(code === 0 ? null : `systemd-notify: ${signal ?? `exit ${code}`}`),
            );
        });
    }
}

module.exports = { Notifier, listenFds, takeVariables, watchdogInterval };

#!/usr/bin/env node
'use strict';

/**
 * The WhatsApp server of one user: one port, one session, one browser.
 *
 *     node whatsapp_server.js [PORT]
 *
 * By hand or under systemd; server/config.js lists the environment variables, GET / the paths. Exit codes: 0
 * stopped or idle, 1 unexpected error, 2 bad configuration or port taken, 10 logged out, 11 browser lost, 12
 * page hung, 13 never ready, 14 disconnected by WhatsApp.
 */

const { setTimeout: pause } = require('node:timers/promises');

const { causeOf, messageOf } = require('./server/errors');
const { createJudge } = require('./server/caller_check');
const { ConfigError, readConfig } = require('./server/config');
const { describeEngine, loadEngine } = require('./server/engine');
const { EventStreams } = require('./server/events');
const { EXIT } = require('./server/exit');
const { Growth } = require('./server/growth');
const { HttpServer } = require('./server/http');
const { BrowserProcess } = require('./server/launch');
const { createLog } = require('./server/log');
const { createRoutes } = require('./server/routes');
const { Safekeeping } = require('./server/safekeeping');
const { Session } = require('./server/session');
const { keepTickShape, letFirstCallsPass, loadBesideBrowser, loadWantedLate } = require('./server/startup');
const { SessionState } = require('./server/state');
const { Storage } = require('./server/storage');
const { Notifier, listenFds, takeVariables, watchdogInterval } = require('./server/systemd');

/**
 * @typedef {import('./server/types').Log} Log
 *
 * @typedef {import('./server/types').SessionClientClass} SessionClientClass
 *
 * @typedef {(
 *     engine: string|null,
 *     compiled: string|null,
 * ) => {SessionClient: SessionClientClass, compiled?: boolean}} LoadLibrary
 */

/** Everything is closed, or given up, before systemd's patience ends. */
const STOP_LIMIT_MS = 9_500;
const NOTIFY_LIMIT_MS = 500;
const LAST_WORDS_MS = 50;
/** A new session changes its status several times at once; each notification starts a program. */
const STATUS_PAUSE_MS = 500;

/** @param {string} text @returns {never} */
function fail(text) {
    process.stderr.write(`whatsapp_server: ${text.replaceAll('\n', '\nwhatsapp_server: ')}\n`);
    process.exit(EXIT.configuration);
}

/** @returns {import('./server/types').Config} */
function configure() {
    try {
        return readConfig(process.env, process.argv.slice(2), process.cwd());
    } catch (error) {
        if (error instanceof ConfigError) return fail(error.message);
        throw error;
    }
}

/**
 * Listen on systemd's sockets, or by hand on both loopback addresses.
 *
 * @param {HttpServer} server
 * @param {number[]} fds
 * @param {number} port
 * @param {Log} log
 */
async function listen(server, fds, port, log) {
    for (const fd of fds) await server.listen({ fd });
    if (fds.length > 0) return;
    try {
        await server.listen({ host: '127.0.0.1', port });
        await server.listen({ host: '::1', port });
    } catch (error) {
        const { code, address } = /** @type {NodeJS.ErrnoException & {address?: string}} */ (error);
        if (code === 'EADDRINUSE') {
            fail(`port ${port} is taken by another process; stop that process, or choose another port`);
        } else if (code === 'EACCES') {
            fail(`port ${port} may not be used by this user; choose one above 1023`);
        } else if (address === '::1' && ['EADDRNOTAVAIL', 'EAFNOSUPPORT', 'EINVAL'].includes(code ?? '')) {
            log.info('IPv6 is off on this host: listening on 127.0.0.1 only');
        } else {
            throw error;
        }
    }
}

/** Load the library of the engine, and make the client of sessions from it. @type {LoadLibrary} */
function loadSessionClient(engine, compiled) {
    const library = loadEngine(engine, compiled);
    const SessionClient = require('./server/whatsapp').createSessionClient(library);
    return { SessionClient, compiled: library.compiled };
}

/**
 * Run the server until it ends.
 *
 * @param {LoadLibrary} loadLibrary called once the server answers,
 *   with the engine's folder, and again where that failed; another one than `loadSessionClient` makes a
 *   server without a browser (tests/light_server.js)
 * @param {import('./server/types').StartBrowser} startBrowser
 */
async function main(loadLibrary, startBrowser) {
    process.umask(0o077);
    const config = configure();
    const systemd = takeVariables(process.env);
    const log = createLog(config.label);
    const notifier = new Notifier(systemd.NOTIFY_SOCKET, log);
    const state = new SessionState({
        port: config.port,
        user: config.user,
        attempts: config.qrMaxRetries,
        upstream: { ...describeEngine(config.engine), pinned: config.webVersion },
    });

    /** @type {Promise<void>|null} */
    let stopping = null;
    /** @type {ReturnType<LoadLibrary>|null} */
    let library = null;
    /** It is made before anybody asks. @type {Session} */
    let session = /** @type {any} */ (null);
    /** @type {import('./server/messaging').Messaging|null} */
    let made = null;
    const messaging = () => {
        made ??= new (require('./server/messaging').Messaging)({ config, state, session, log });
        return made;
    };
    let mayLoad = () => {};
    const othersCameFirst = new Promise((resolve) => {
        mayLoad = () => resolve(undefined);
    });
    const loadOnce = () => {
        if (library === null) {
            library = loadLibrary(config.engine, config.compiled);
            log.debug('library loaded', { compiled: library.compiled ?? false });
        }
        return library;
    };
    /** @param {number} code @param {string} why */
    const ending = (code, why) => {
        stopping ??= stop(code, why);
    };

    // The reader of the log may go away; the session stays.
    process.stdout.on('error', () => {});

    const storage = new Storage(config);
    const safekeeping = new Safekeeping({
        makeSnapshots: () => new (require('./server/snapshots').Snapshots)(storage, config.snapshots),
        profile: storage.profile,
        state,
        log,
        interval: config.snapshotInterval,
    });
    const growth = new Growth({ storage, safekeeping, state });
    session = new Session({
        config,
        state,
        log,
        end: ending,
        storage,
        safekeeping,
        erase: async () => {
            await messaging().erase();
            // One that is being made must not come after the end of the login.
            await safekeeping.erase();
            await storage.erase();
        },
        loadLibrary: () => othersCameFirst.then(loadOnce),
        startBrowser,
        onEvent: (event, client) => othersCameFirst.then(() => messaging().take(event, client)),
    });
    const events = new EventStreams(state);
    const judge = createJudge({ uids: config.allowUids, log });
    const routes = createRoutes({
        state,
        session,
        events,
        addRest: (tools) => messaging().addRoutes(tools),
    });
    const server = new HttpServer({ routes, log, judge });

    /** @param {number} code @param {string} why */
    async function stop(code, why) {
        const expected = [EXIT.stopped, EXIT.loggedOut].includes(code);
        log[expected ? 'info' : 'error']('stopping', { why, exit: code });
        setTimeout(() => process.exit(code), STOP_LIMIT_MS).unref();
        const notified = notifier.send({ STOPPING: 1, STATUS: `${config.label}: ${why}` });
        await made?.settle();
        await session.close();
        growth.close();
        await made?.close();
        // A moment, so that the last document still reaches those who listen.
        await pause(LAST_WORDS_MS);
        events.close();
        await server.close();
        await made?.end();
        await Promise.race([notified, pause(NOTIFY_LIMIT_MS)]);
        process.exit(code);
    }

    process.on('SIGTERM', () => ending(EXIT.stopped, 'stopped'));
    process.on('SIGINT', () => ending(EXIT.stopped, 'stopped'));
    process.on('SIGHUP', () => ending(EXIT.stopped, 'stopped'));
    const unexpected = (/** @type {any} */ error) => {
        if (session.expects(error)) {
            log.debug('ignored', { reason: messageOf(error) });
            return;
        }
        log.error('unexpected error', { reason: error?.stack ?? error });
        ending(EXIT.unexpected, 'unexpected error');
    };
    process.on('unhandledRejection', unexpected);
    process.on('uncaughtException', unexpected);

    await session.restore();
    const fds = listenFds(systemd);
    await listen(server, fds, config.port, log);
    log.info('listening', {
        port: config.port,
        by: fds.length > 0 ? `systemd (${fds.length} sockets)` : 'itself',
    });
    // To start a program takes some 3 ms in which nothing is answered, and to load the library a fifth of a
    // second.
    await letFirstCallsPass(server.answered);
    const browserStarted = session.settle();
    const ready = { READY: 1, STATUS: `${config.label}: ${state.document().message}` };
    notifier.send(ready).then(() => session.known());
    // Until that program is started, not until it has ended.
    await pause(0);

    /** @type {string|null} */
    let status = null;
    /** @type {NodeJS.Timeout|null} */
    let statusTimer = null;
    state.on('change', ({ message }) => {
        if (message === status) return;
        status = message;
        statusTimer ??= setTimeout(() => {
            statusTimer = null;
            if (stopping === null) notifier.send({ STATUS: `${config.label}: ${status}` });
        }, STATUS_PAUSE_MS).unref();
    });
    state.on('state', (now, before) => {
        const { message: text, cause } = state.document();
        log[cause === null ? 'info' : 'error'](`${before} -> ${now}: ${text}`, { cause });
    });
    const interval = watchdogInterval(systemd);
    if (interval !== null) {
        setInterval(() => {
            if (session.alive && stopping === null) notifier.send({ WATCHDOG: 1 });
        }, interval).unref();
    }

    keepTickShape();
    // The library is loaded in any case, so that its files can be replaced under a running server; what is
    // quickly loaded before it, while the browser starts.
    await loadBesideBrowser(browserStarted);
    messaging().start();
    loadWantedLate();
    try {
        loadOnce();
    } catch (error) {
        // A restart does not fix it. The session says so when it needs a browser, and tries again.
        const cause = causeOf(error);
        if (cause !== 'engine_missing') throw error;
        log.error(messageOf(error), { cause });
    }
    mayLoad();
    growth.start();
    if (stopping === null) session.start();
}

/** @type {import('./server/types').StartBrowser} */
const startProcess = (file, args, profile, env) => new BrowserProcess(file, args, profile, env);

/** @param {LoadLibrary} loadLibrary @param {import('./server/types').StartBrowser} startBrowser */
function run(loadLibrary, startBrowser = startProcess) {
    main(loadLibrary, startBrowser).catch((error) => {
        process.stderr.write(`whatsapp_server: ${error.stack}\n`);
        process.exit(EXIT.unexpected);
    });
}

if (require.main === module) run(loadSessionClient);

module.exports = { run };

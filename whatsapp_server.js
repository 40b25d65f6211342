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

const { executionAsyncResource } = require('node:async_hooks');
const { setTimeout: pause } = require('node:timers/promises');

const { createJudge } = require('./server/callers');
const { describeIncoming } = require('./server/chats');
const { ConfigError, readConfig } = require('./server/config');
const { describeEngine, loadEngine } = require('./server/engine');
const { EventStreams } = require('./server/events');
const { EXIT } = require('./server/exit');
const { HttpServer } = require('./server/http');
const { createLog } = require('./server/log');
const { createRoutes } = require('./server/routes');
const { Session } = require('./server/session');
const { SessionState } = require('./server/state');
const { Storage } = require('./server/storage');
const { Notifier, listenFds, takeVariables, watchdogInterval } = require('./server/systemd');
const { Webhook, isOwn } = require('./server/webhook');

/** Everything is closed, or given up, before systemd's patience ends. */
const STOP_LIMIT_MS = 9_500;
const NOTIFY_LIMIT_MS = 500;
const LAST_WORDS_MS = 50;
/** A call that came while this server started is read in the first turn of the event loop. */
const FIRST_CALL_MS = 5;
/** Whoever waited for the first answer has more to ask. */
const NEXT_CALL_MS = 5;
/** Until the browser is asked for its version, if one is wanted: it answers while the library is loaded. */
const VERSION_MS = 5;
/** A session that begins changes its status several times at once; each time it is told a program starts. */
const STATUS_PAUSE_MS = 500;
/** By what factor V8 grows its nursery by default. */
const USUAL_GROWTH = 2;

function fail(text) {
    process.stderr.write(`whatsapp_server: ${text.replaceAll('\n', '\nwhatsapp_server: ')}\n`);
    process.exit(EXIT.configuration);
}

function configure() {
    try {
        return readConfig(process.env, process.argv.slice(2), process.cwd());
    } catch (error) {
        if (error instanceof ConfigError) return fail(error.message);
        throw error;
    }
}

/** Listen on systemd's sockets, or by hand on both loopback addresses. */
async function listen(server, fds, port, log) {
    for (const fd of fds) await server.listen({ fd });
    if (fds.length > 0) return;
    try {
        await server.listen({ host: '127.0.0.1', port });
        await server.listen({ host: '::1', port });
    } catch (error) {
        if (error.code === 'EADDRINUSE') {
            fail(`port ${port} is taken by another process; stop that process, or choose another port`);
        } else if (error.code === 'EACCES') {
            fail(`port ${port} may not be used by this user; choose one above 1023`);
        } else if (
            error.address === '::1' &&
            ['EADDRNOTAVAIL', 'EAFNOSUPPORT', 'EINVAL'].includes(error.code)
        ) {
            log.info('IPv6 is off on this host: listening on 127.0.0.1 only');
        } else {
            throw error;
        }
    }
}

/**
 * Do what allocates much and keeps little without V8 growing its nursery for it, which would stay so large: 4
 * MiB, a sixth of the node process. Only for so long: with a small one for good a third fewer requests a
 * second are answered.
 *
 * Not as a flag of the program: with any of them V8 takes nothing that node brings along compiled, and it
 * takes a fifth longer until this server answers.
 */
function inSmallMemory(work) {
    const v8 = require('node:v8');
    v8.setFlagsFromString('--semi-space-growth-factor=1');
    try {
        return work();
    } finally {
        v8.setFlagsFromString(`--semi-space-growth-factor=${USUAL_GROWTH}`);
    }
}

const kept = [];

/**
 * Keep one of the objects that `process.nextTick()` makes. Where V8 finds none of them alive when it tidies
 * up a process at rest, it forgets their shape, and makes each by a slow path from then on: that takes a
 * fifth of the requests a second (node 20.20).
 */
function keepTickShape() {
    process.nextTick(() => kept.push(executionAsyncResource()));
}

/** Load the library of the engine, and make the client of sessions from it. */
function loadSessionClient(engine) {
    const library = loadEngine(engine);
    return { SessionClient: require('./server/whatsapp').createSessionClient(library) };
}

/**
 * Run the server until it ends.
 *
 * @param {(engine: string|null) => {SessionClient: Function}} loadLibrary called once the server answers,
 *   with the engine's folder, and again where that failed; another one than `loadSessionClient` makes a
 *   server without a browser (tests/light_server.js)
 */
async function main(loadLibrary) {
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

    let stopping = null;
    let library = null;
    let mayLoad;
    const othersCameFirst = new Promise((resolve) => {
        mayLoad = resolve;
    });
    const loadOnce = () => {
        library ??= inSmallMemory(() => loadLibrary(config.engine));
        return library;
    };
    const ending = (code, why) => {
        stopping ??= stop(code, why);
    };

    // Whoever reads the log may go away; the session stays.
    process.stdout.on('error', () => {});

    const toItself = config.webhookUrl !== null && isOwn(config.webhookUrl, config.port);
    let described = Promise.resolve();
    const webhook = new Webhook({
        url: toItself ? null : config.webhookUrl,
        log,
        onCount: (counts) => state.update({ webhook: counts }),
    });
    const session = new Session({
        config,
        state,
        log,
        end: ending,
        storage: new Storage(config),
        loadLibrary: () => othersCameFirst.then(loadOnce),
        // One after the other: the number of a sender may have to be asked for, and the order stays.
        onMessage: (message) => {
            described = described
                .then(() => describeIncoming(message, config))
                .then((incoming) => incoming !== null && webhook.push(incoming))
                .catch((error) => log.error('a message is not handed on', { reason: error.stack }));
        },
    });
    const events = new EventStreams(state);
    const judge = createJudge({ uids: config.allowUids, log });
    const server = new HttpServer({ routes: createRoutes({ state, session, events }), log, judge });

    async function stop(code, why) {
        const expected = [EXIT.stopped, EXIT.loggedOut].includes(code);
        log[expected ? 'info' : 'error']('stopping', { why, exit: code });
        setTimeout(() => process.exit(code), STOP_LIMIT_MS).unref();
        const told = notifier.send({ STOPPING: 1, STATUS: `${config.label}: ${why}` });
        await session.close();
        webhook.close();
        // A moment, so that the last picture still reaches those who listen.
        await pause(LAST_WORDS_MS);
        events.close();
        await server.close();
        await Promise.race([told, pause(NOTIFY_LIMIT_MS)]);
        process.exit(code);
    }

    process.on('SIGTERM', () => ending(EXIT.stopped, 'stopped'));
    process.on('SIGINT', () => ending(EXIT.stopped, 'stopped'));
    process.on('SIGHUP', () => ending(EXIT.stopped, 'stopped'));
    const unexpected = (error) => {
        if (session.expects(error)) {
            log.debug('ignored', { reason: error?.message ?? error });
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
    if (toItself) log.warning('FLASK_WEBHOOK_URL names this server itself: no message is handed on');
    // Whoever waits for this server called while it started, and is answered first: to start a program takes
    // some 3 ms in which nothing is answered, and to load the library a fifth of a second.
    const called = await Promise.race([server.answered.then(() => true), pause(FIRST_CALL_MS, false)]);
    if (called) await pause(NEXT_CALL_MS);
    session.settle();
    await pause(VERSION_MS);
    notifier.send({ READY: 1, STATUS: `${config.label}: ${state.picture().message}` });
    // Until that program is started, not until it has ended.
    await pause(0);

    let status = null;
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
        const { message: text, cause } = state.picture();
        log[cause === null ? 'info' : 'error'](`${before} -> ${now}: ${text}`, { cause });
    });
    const interval = watchdogInterval(systemd);
    if (interval !== null) {
        setInterval(() => {
            if (session.alive && stopping === null) notifier.send({ WATCHDOG: 1 });
        }, interval).unref();
    }

    keepTickShape();
    // The library is loaded in any case, so that its files can be replaced under a running server.
    session.warmUp().catch(() => {});
    try {
        loadOnce();
    } catch (error) {
        // No restart mends it. The session says so when it wants a browser, and tries again.
        if (error.cause !== 'engine_missing') throw error;
        log.error(error.message, { cause: error.cause });
    }
    mayLoad();
    if (stopping === null) session.start();
}

function run(loadLibrary) {
    main(loadLibrary).catch((error) => {
        process.stderr.write(`whatsapp_server: ${error.stack}\n`);
        process.exit(EXIT.unexpected);
    });
}

if (require.main === module) run(loadSessionClient);

module.exports = { run };

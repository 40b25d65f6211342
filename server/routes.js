'use strict';

/** The paths of this server, and the shapes of their answers. */

const contract = require('./contract.json');
const { NOT_LOADED, SessionError, TimeLimitError, causeOf, messageOf } = require('./errors');
const { EVENT_STREAM } = require('./events');
const { HttpError } = require('./http');
const { reason } = require('./session_errors');
const { timestamp } = require('./state');
const { LIMITS } = require('./turn');
const { BusyError } = require('./turns');

/** Methods that change nothing, and may be repeated. */
const READING = new Set(['chats', 'history', 'media_in', 'people', 'pictures', 'groups']);

const [LEAST_DIGITS, MOST_DIGITS] = contract.limits.phone_digits;
/** The digits of a phone number with its country code. */
const PHONE = new RegExp(`^[1-9]\\d{${LEAST_DIGITS - 1},${MOST_DIGITS - 1}}$`);

/** @typedef {import('./types').Call} Call */
/** @typedef {import('./types').SessionDocument} SessionDocument */

/** The four words that the web app's page knows. @param {Pick<SessionDocument, 'state'|'qr'>} document */
function legacyStatus({ state, qr }) {
    if (state === 'ready') return 'connected';
    if (state === 'qr' && qr !== null) return 'waiting';
    return state === 'error' ? 'error' : 'generating';
}

/** The answer that the page polls for. @param {SessionDocument} document */
function legacyCode(document) {
    return {
        qr: document.qr,
        ready: document.ready,
        hasQr: document.qr !== null,
        status: legacyStatus(document),
        message: document.message,
        ...(document.hint === null ? {} : { hint: document.hint }),
    };
}

/**
 * Turn a reason why there is no session into an answer; what is no such reason stays what it is.
 *
 * @param {unknown} error
 * @param {number} status
 */
function explained(error, status) {
    if (!(error instanceof SessionError)) return error;
    const { cause, hint } = error;
    return new HttpError(status, error.message, { code: cause, cause, hint });
}

/** The header by which the daemon says what it does about turns. */
const TURNS = 'waportd-turns';
const OTHER_USER_STATUS = 409;

/** The ids of users that a call names; one without means the user of the port. @param {Call} call */
function usersNamed({ query, body }) {
    const all = [...query.getAll('user_id'), body.user_id ?? ''];
    return all.filter((each) => each !== '').map((each) => (typeof each === 'number' ? `${each}` : each));
}

/**
 * A web app that mixes up ports would show one user the code of another, and send in their name.
 *
 * @param {Call} call
 * @param {string|null} user
 * @throws {HttpError} 409
 */
function refuseOtherUsers(call, user) {
    if (user === null) return;
    const other = usersNamed(call).find((each) => each !== user);
    if (other !== undefined) throw explained(reason.otherUser(user, other), OTHER_USER_STATUS);
}

/** The status of session errors, by cause. The web app knows 400 for "not connected". */
/** @type {Record<string, number>} */
const STATUS = { upstream_changed: 501, perhaps_sent: 504, perhaps_done: 504 };
const OTHER_STATUS = 400;
/** @type {Record<string, number>} */
const PAIRING_STATUS = { already_linked: 409, upstream_changed: 501 };
const BUSY_S = 5;
const MAX_ERROR_CHARACTERS = 500;

/**
 * Turn what went wrong with a call on the session into its answer.
 *
 * @param {unknown} error
 * @param {string} what was done
 * @param {string|null} build of WhatsApp's page
 */
function answerFor(error, what, build) {
    if (error instanceof HttpError) return error;
    if (error instanceof SessionError) return explained(error, STATUS[error.cause] ?? OTHER_STATUS);
    if (error instanceof BusyError) {
        return new HttpError(503, error.message, { code: 'busy' }, { 'Retry-After': String(BUSY_S) });
    }
    const text = messageOf(error).slice(0, MAX_ERROR_CHARACTERS);
    if (NOT_LOADED.test(text)) {
        const [, module = 'a module'] = text.match(/module "?([\w.$]+)/i) ?? [];
        const lost = { feature: what, module, member: '', found: 'no such module' };
        return explained(reason.upstreamChanged(build, lost), STATUS.upstream_changed);
    }
    return new HttpError(500, `${what} failed: ${text}`);
}

/**
 * Make the paths that may be called during this server's start, and the others when one of them is called.
 *
 * @param {object} options
 * @param {import('./state').SessionState} options.state
 * @param {import('./session').Session} options.session
 * @param {import('./events').EventStreams} options.events
 * @param {(tools: import('./types').RouteTools) => void} options.addRest adds the others
 * @returns {{first: import('./types').Route[], all: () => import('./types').Route[]}}
 */
function createRoutes({ state, session, events, addRest }) {
    /** @type {import('./types').Route[]} */
    const routes = [];
    /** @type {import('./types').AddRoute} */
    const addForAll = (method, path, about, handle, more) => {
        routes.push({ method, path, about, handle, ...more });
    };
    /** @type {import('./types').AddRoute} */
    const add = (method, path, about, handle, more) => {
        const handleOurs = (/** @type {Call} */ call) => {
            refuseOtherUsers(call, state.document().user);
            return handle(call);
        };
        addForAll(method, path, about, handleOurs, more);
    };

    /** Do work for a request, if the page has what a feature needs. @type {import('./types').Answering} */
    const answering = async (feature, what, work) => {
        const { build, missing } = state.document().upstream;
        try {
            const lost = missing.find((each) => each.feature === feature);
            if (lost !== undefined) throw reason.upstreamChanged(build, lost);
            return await work();
        } catch (error) {
            throw answerFor(error, what, build);
        }
    };

    /** The same work with the session. @type {import('./types').OnSession} */
    const onSession = (feature, work, limit, what) =>
        answering(feature, what, () => session.use(work, limit, what, { isReading: READING.has(feature) }));

    add('GET', '/', 'this list', () => {
        const document = state.document();
        return {
            service: 'waportd whatsapp server',
            port: document.port,
            user: document.user,
            status: legacyStatus(document),
            state: document.state,
            ready: document.ready,
            endpoints: all().map(({ method, path, about }) => `${method} ${path} – ${about}`),
        };
    });

    // Nothing of a user is in it, and older web apps kill what holds the port unless it is answered 200.
    addForAll('GET', '/health', 'whether this server answers', () => ({
        status: 'ok',
        ready: state.document().ready,
    }));

    // It is what pages poll: written once for each document.
    let polled = /** @type {{document: object, text: string}|null} */ (null);
    add('GET', '/qr', 'the code to scan; opens a browser', () => {
        session.ask();
        const document = state.document();
        if (polled?.document !== document) polled = { document, text: JSON.stringify(legacyCode(document)) };
        return polled.text;
    });

    /** Follow the session. The daemon says with it that it gives turns, or that this one's is there. */
    const follow = (/** @type {Call} */ call) => {
        const turns = call.request.headers[TURNS];
        if (turns === 'begin') session.begin();
        return events.open(call, turns === undefined ? undefined : () => session.followTurns());
    };

    add('POST', '/begin', 'give a linked session its turn to start its browser; or {"limit"}', ({ body }) => {
        const { limit } = body;
        if (limit === undefined) session.begin();
        else if (typeof limit === 'string' && Object.hasOwn(LIMITS, limit))
            session.wait(/** @type {keyof typeof LIMITS} */ (limit));
        else throw new HttpError(400, `limit is one of: ${Object.keys(LIMITS).join(', ')}`);
        return state.document();
    });

    add('POST', '/qr/new', 'ask for a code now (Accept: text/event-stream, and follow it)', (call) => {
        session.askNow();
        const { request, response } = call;
        if (request.headers.accept === EVENT_STREAM) return follow(call);
        const text = JSON.stringify(state.document());
        response.writeHead(202, {
            'Content-Type': 'application/json; charset=utf-8',
            'Cache-Control': 'no-store',
        });
        response.end(text);
        return undefined;
    });

    add('GET', '/status', 'the connection, in detail', () => {
        const document = state.document();
        const retrying = document.state === 'disconnected' || (document.state === 'error' && document.linked);
        return {
            ready: document.ready,
            hasQr: document.qr !== null,
            actuallyConnected: document.ready,
            clientInitialized: session.initialized,
            isAuthenticated: ['authenticated', 'ready', 'disconnected'].includes(document.state),
            isConnecting: session.opening || document.state === 'authenticated' || retrying,
            phone_number: document.phone_number,
            clientInfo:
                document.phone_number === null
                    ? null
                    : {
                          wid: `${document.phone_number}@c.us`,
                          pushname: document.pushname,
                          platform: document.platform,
                      },
            // It is tried for ever: there is always one attempt left.
            reconnectInfo: {
                attempts: session.retries,
                maxAttempts: session.retries + 1,
                isReconnecting: retrying,
            },
        };
    });

    add('GET', '/session', 'the whole document', () => state.document());
    add('GET', '/events', 'the whole document, and again at each change (server-sent events)', follow);

    add('POST', '/pairing-code', 'a code to type on the phone {"phone"}', async ({ body }) => {
        const phone = typeof body.phone === 'string' ? body.phone.replace(/[\s().+-]/g, '') : '';
        if (!PHONE.test(phone)) {
            const digits = `${LEAST_DIGITS} to ${MOST_DIGITS} digits`;
            throw new HttpError(400, `phone must be a number with its country code: ${digits}`, {
                code: 'bad_phone',
            });
        }
        try {
            return await session.requestPairingCode(phone);
        } catch (error) {
            if (error instanceof TimeLimitError)
                throw new HttpError(504, error.message, { code: 'pairing_timeout' });
            const { build, missing } = state.document().upstream;
            const lost = missing.find(({ feature }) => feature === 'pairing');
            const why =
                lost && causeOf(error) === 'pairing_refused' ? reason.upstreamChanged(build, lost) : error;
            throw explained(why, PAIRING_STATUS[causeOf(why)] ?? 503);
        }
    });

    add('DELETE', '/pairing-code', 'back to codes to scan', ({ response }) => {
        session.scanInstead();
        response.writeHead(204);
        response.end();
    });

    add('POST', '/snapshot', 'copy the login on the disk, and return the time of the copy', async () => {
        try {
            const { at, bytes } = await session.snapshot();
            return { snapshot_at: timestamp(at), bytes };
        } catch (error) {
            throw explained(error, OTHER_STATUS);
        }
    });

    add('POST', '/disconnect', 'log out: unlink the phone and delete the session', async () => {
        try {
            return { success: true, message: await session.logout() };
        } catch (error) {
            throw explained(error, 500);
        }
    });

    let isComplete = false;
    function all() {
        if (!isComplete) {
            isComplete = true;
            addRest({ add, answering, onSession });
            require('./passkey_routes').addPasskeyRoutes({ add, session, state, explained });
        }
        return routes;
    }

    return { first: routes, all };
}

module.exports = { createRoutes, legacyStatus };

'use strict';

/** The paths of this server, and the shapes of their answers. */

const chats = require('./chats');
const { SessionError, TimeLimitError, withLimit } = require('./errors');
const { EVENT_STREAM } = require('./events');
const { HttpError } = require('./http');
const { reason } = require('./reasons');
const { BusyError, DOWNLOAD_LIMIT_MS } = require('./turns');

const CHATS_LIMIT_MS = 9_000;
const SEND_LIMIT_MS = 14_000;
/** A call has this much time beyond its own limit, which then tells more. */
const REST_MS = 500;
/** What changes nothing, and may be done again. */
const READING = new Set(['chats', 'history', 'media_in']);
const MAX_TEXT = 65_536;

/** The four words that the web app's page knows. */
function legacyStatus({ state, qr }) {
    if (state === 'ready') return 'connected';
    if (state === 'qr' && qr !== null) return 'waiting';
    return state === 'error' ? 'error' : 'generating';
}

/** What that page polls for. */
function legacyCode(picture) {
    return {
        qr: picture.qr,
        ready: picture.ready,
        hasQr: picture.qr !== null,
        status: legacyStatus(picture),
        message: picture.message,
        ...(picture.hint === null ? {} : { hint: picture.hint }),
    };
}

/** Turn a reason why there is no session into an answer; what is no such reason stays what it is. */
function explained(error, status) {
    if (!(error instanceof SessionError)) return error;
    const { cause, hint } = error;
    return new HttpError(status, error.message, { code: cause, cause, hint });
}

/** How errors of a session are answered, by their cause. The web app knows 400 for "not connected". */
const STATUS = { upstream_changed: 501, perhaps_sent: 504 };
const OTHER_STATUS = 400;
const PAIRING_STATUS = { already_linked: 409, upstream_changed: 501 };
const BUSY_S = 5;
const MAX_ERROR = 500;

/** Turn what went wrong with a call on the session into its answer. */
function answerFor(error, what, build) {
    if (error instanceof HttpError) return error;
    if (error instanceof SessionError) return explained(error, STATUS[error.cause] ?? OTHER_STATUS);
    if (error instanceof BusyError) {
        return new HttpError(503, error.message, { code: 'busy' }, { 'Retry-After': String(BUSY_S) });
    }
    const text = String(error?.message ?? error).slice(0, MAX_ERROR);
    if (chats.NOT_LOADED.test(text)) {
        const [, module = 'a module'] = text.match(/module "?([\w.$]+)/i) ?? [];
        const lost = { feature: what, module, member: '', found: 'no such module' };
        return explained(reason.upstreamChanged(build, lost), STATUS.upstream_changed);
    }
    return new HttpError(500, `${what} failed: ${text}`);
}

function createRoutes({ state, session, events }) {
    const routes = [];
    const add = (method, path, about, handle) => routes.push({ method, path, about, handle });

    /** Work with the session for a request, if its page has what a feature needs. @throws {HttpError} */
    const onSession = async (feature, work, limit, what) => {
        const { build, missing } = state.picture().upstream;
        try {
            const lost = missing.find((each) => each.feature === feature);
            if (lost !== undefined) throw reason.upstreamChanged(build, lost);
            return await session.use(work, limit, what, { isReading: READING.has(feature) });
        } catch (error) {
            throw answerFor(error, what, build);
        }
    };

    add('GET', '/', 'this list', () => {
        const picture = state.picture();
        return {
            service: 'waportd whatsapp server',
            port: picture.port,
            user: picture.user,
            status: legacyStatus(picture),
            state: picture.state,
            ready: picture.ready,
            endpoints: routes.map(({ method, path, about }) => `${method} ${path} – ${about}`),
        };
    });

    add('GET', '/health', 'whether this server answers', () => ({
        status: 'ok',
        ready: state.picture().ready,
    }));

    // It is what pages poll: written once for each picture.
    let polled = null;
    add('GET', '/qr', 'the code to scan; opens a browser', () => {
        session.ask();
        const picture = state.picture();
        if (polled?.picture !== picture) polled = { picture, text: JSON.stringify(legacyCode(picture)) };
        return polled.text;
    });

    add('POST', '/qr/new', 'ask for a code now (Accept: text/event-stream, and follow it)', (call) => {
        session.askNow();
        const { request, response } = call;
        if (request.headers.accept === EVENT_STREAM) return events.open(call);
        const text = JSON.stringify(state.picture());
        response.writeHead(202, {
            'Content-Type': 'application/json; charset=utf-8',
            'Cache-Control': 'no-store',
        });
        response.end(text);
        return undefined;
    });

    add('GET', '/status', 'the connection, in detail', () => {
        const picture = state.picture();
        const retrying = picture.state === 'disconnected' || (picture.state === 'error' && picture.linked);
        return {
            ready: picture.ready,
            hasQr: picture.qr !== null,
            actuallyConnected: picture.ready,
            clientInitialized: session.initialized,
            isAuthenticated: ['authenticated', 'ready', 'disconnected'].includes(picture.state),
            isConnecting: session.opening || picture.state === 'authenticated' || retrying,
            phone_number: picture.phone_number,
            clientInfo:
                picture.phone_number === null
                    ? null
                    : {
                          wid: `${picture.phone_number}@c.us`,
                          pushname: picture.pushname,
                          platform: picture.platform,
                      },
            // It is tried for ever: there is always one attempt left.
            reconnectInfo: {
                attempts: session.retries,
                maxAttempts: session.retries + 1,
                isReconnecting: retrying,
            },
        };
    });

    add('GET', '/session', 'the whole picture', () => state.picture());
    add('GET', '/events', 'the whole picture, and again at each change (server-sent events)', (call) =>
        events.open(call),
    );

    add('POST', '/pairing-code', 'a code to type on the phone {"phone"}', async ({ body }) => {
        const phone = typeof body.phone === 'string' ? body.phone.replace(/[\s().+-]/g, '') : '';
        if (!/^[1-9]\d{7,14}$/.test(phone)) {
            throw new HttpError(400, 'phone must be a number with its country code: 8 to 15 digits', {
                code: 'bad_phone',
            });
        }
        try {
            return await session.requestPairingCode(phone);
        } catch (error) {
            if (error instanceof TimeLimitError)
                throw new HttpError(504, error.message, { code: 'pairing_timeout' });
            const { build, missing } = state.picture().upstream;
            const lost = missing.find(({ feature }) => feature === 'pairing');
            const why =
                lost && error.cause === 'pairing_refused' ? reason.upstreamChanged(build, lost) : error;
            throw explained(why, PAIRING_STATUS[why.cause] ?? 503);
        }
    });

    add('DELETE', '/pairing-code', 'back to codes to scan', ({ response }) => {
        session.scanInstead();
        response.writeHead(204);
        response.end();
    });

    add('POST', '/send', 'send a text {"phone", "message"}', async ({ body }) => {
        const { phone, message } = body;
        if (
            !['string', 'number'].includes(typeof phone) ||
            phone === '' ||
            typeof message !== 'string' ||
            message === ''
        ) {
            throw new HttpError(400, 'phone and message are needed');
        }
        if (message.length > MAX_TEXT)
            throw new HttpError(400, `message is longer than ${MAX_TEXT} characters`);
        const chatId = chats.recipient(phone);
        const work = (client) => chats.sendText(client, chatId, message);
        const sending = async (client, leftMs) => {
            try {
                return await withLimit(work(client), leftMs - REST_MS, 'sending');
            } catch (error) {
                throw error instanceof TimeLimitError ? reason.perhapsSent() : error;
            }
        };
        const messageId = await onSession('send', sending, SEND_LIMIT_MS + REST_MS, 'sending');
        return { success: true, messageId };
    });

    add('POST', '/disconnect', 'log out: unlink the phone and delete the session', async () => {
        try {
            return { success: true, message: await session.logout() };
        } catch (error) {
            throw explained(error, 500);
        }
    });

    add('GET', '/chats', 'chats, newest first (?limit, ?offset)', ({ query }) => {
        const page = { limit: query.get('limit'), offset: query.get('offset') };
        const work = (client) => chats.listChats(client, page);
        return onSession('chats', work, CHATS_LIMIT_MS, 'listing chats');
    });

    add(
        'GET',
        '/chats/{id}/messages',
        'messages of a chat, oldest first (?limit, ?before)',
        ({ params, query }) => {
            const page = { limit: query.get('limit'), before: query.get('before') };
            return onSession(
                'history',
                (client) => chats.listMessages(client, params.id, page),
                CHATS_LIMIT_MS,
                'reading messages',
            );
        },
    );

    add('GET', '/media/{id}', 'the media of a message', async ({ request, response, params }) => {
        const work = (client) => chats.readMedia(client, params.id);
        const { bytes, headers } = await onSession('media_in', work, DOWNLOAD_LIMIT_MS, 'reading media');
        response.writeHead(200, headers);
        response.end(request.method === 'HEAD' ? undefined : bytes);
    });

    return routes;
}

module.exports = { createRoutes, legacyStatus };

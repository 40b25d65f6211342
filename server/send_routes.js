'use strict';

/** The paths by which messages are sent, and changed after that. */

const { createHash } = require('node:crypto');

const contract = require('./contract.json');
const { HttpError, MAX_BODY_BYTES, inTime, readJson, writeJson } = require('./http');
const { boundaryOf, readParts, textOf } = require('./multipart');
const { readRecipient } = require('./numbers');
const {
    FILES,
    MAX_TEXT_CHARACTERS,
    bad,
    readEdit,
    readForward,
    readMessage,
    readMessageId,
    readReaction,
    readSignal,
} = require('./outgoing');
const { sureOf } = require('./sending');

/** A message may have so many bytes with a file in Base64; a larger file comes as multipart, or by URL. */
const MAX_JSON_BYTES = 16 * 1024 * 1024;
/** How many calls with more than a MiB run at a time: each is in memory several times over. */
const LARGE_AT_ONCE = 2;
/** How long all of a JSON may take, and the wait for that, in milliseconds. */
const JSON_LIMIT_MS = 60_000;
const KEY = new RegExp(`^${contract.patterns.idempotency_key}$`);

/** @typedef {import('node:http').IncomingMessage} Request */
/** @typedef {import('node:http').ServerResponse} Response */
/** @typedef {import('./types').Call} Call */
/** @typedef {import('./types').JsonObject} JsonObject */
/** @typedef {import('./sending').GivenFile} GivenFile */
/** @typedef {import('./spool').Spool} Spool */

/** Return the idempotency key of a call, or null. @param {Request} request @throws {HttpError} 400 */
function keyOf({ headers }) {
    const key = headers['idempotency-key'];
    if (key === undefined) return null;
    // If there are several, node has joined them into one text.
    if (typeof key !== 'string' || !KEY.test(key))
        throw bad('Idempotency-Key must be 1 to 255 visible characters of ASCII');
    return key;
}

/**
 * A text that is equal for equal calls, whatever the order of their members.
 *
 * @param {string} path
 * @param {JsonObject} body
 * @param {GivenFile|null} file
 */
function printOf(path, body, file) {
    /** @type {(value: unknown) => unknown} */
    const sorted = (value) =>
        typeof value === 'object' && value !== null && !Array.isArray(value)
            ? Object.fromEntries(
                  Object.entries(value)
                      .sort()
                      .map(([name, each]) => [name, sorted(each)]),
              )
            : value;
    const text = JSON.stringify([path, sorted({ ...body, user_id: undefined }), file?.print ?? null]);
    return createHash('sha256').update(text).digest('base64');
}

/** Lets so many calls run at a time, each until its answer is out. */
class Places {
    #free;
    /** @type {Set<() => void>} */
    #waiting = new Set();

    /** @param {number} count */
    constructor(count) {
        this.#free = count;
    }

    /** Wait for a place for the call with this answer. @param {Response} response */
    async take(response) {
        while (this.#free === 0 && !response.destroyed) {
            await new Promise((resolve) => this.#wait(response, resolve));
        }
        if (response.destroyed) return this.#wake();
        this.#free -= 1;
        response.once('close', () => {
            this.#free += 1;
            this.#wake();
        });
    }

    /** @param {Response} response @param {(value?: undefined) => void} resolve */
    #wait(response, resolve) {
        const go = () => {
            this.#waiting.delete(go);
            resolve();
        };
        this.#waiting.add(go);
        response.once('close', go);
    }

    #wake() {
        const [next] = this.#waiting;
        if (this.#free > 0) next?.();
    }
}

/** Place of the file that came with a body. */
const FILE = Symbol('file');

/** A body, and the file that came with it. @typedef {JsonObject & {[FILE]?: GivenFile}} Body */

/**
 * Read the body of a call with a message. Its file lasts as long as the call, unless it is taken.
 *
 * @param {Request} request
 * @param {Response} response
 * @param {{spool: Spool, large: Places}} where
 * @returns {Promise<Body>}
 */
async function readBody(request, response, { spool, large }) {
    const boundary = boundaryOf(request.headers['content-type']);
    if (boundary === null) {
        const json = readJson(request, MAX_JSON_BYTES, () => large.take(response));
        return inTime(json, JSON_LIMIT_MS);
    }
    /** @type {JsonObject|null} */
    let body = null;
    /** @type {(GivenFile & {kind: string})|null} */
    let file = null;
    for await (const part of readParts(request, boundary)) {
        if (part.name === 'message' && body === null) {
            body = parse(await textOf(part.chunks, MAX_BODY_BYTES));
        } else if (Object.hasOwn(FILES, part.name) && file === null) {
            const { name: kind, filename: name } = part;
            file = Object.assign(await keepFor(response, spool, part.chunks, part.type), { kind, name });
        } else {
            throw bad('multipart/form-data needs one part "message", which is JSON, and one with the file');
        }
    }
    if (body === null) throw bad('multipart/form-data needs a part "message", which is JSON');
    if (file === null) return body;
    const given = /** @type {object|undefined} */ (body[file.kind]);
    return { ...body, [file.kind]: { ...given, file: file.name ?? '' }, [FILE]: file };
}

/**
 * @param {Response} response
 * @param {Spool} spool
 * @param {AsyncIterable<Buffer>|Iterable<Buffer>} chunks
 * @param {string|undefined} type
 */
async function keepFor(response, spool, chunks, type) {
    /** @type {GivenFile} */
    const file = await spool.keep(chunks, type);
    const drop = () => {
        if (!file.isTaken) spool.drop(file);
    };
    if (response.destroyed) drop();
    else response.once('close', drop);
    return file;
}

/** @param {string} text @returns {JsonObject} */
function parse(text) {
    try {
        const value = JSON.parse(text);
        if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
    } catch {
        // It is reported below.
    }
    throw bad('the part "message" is not a JSON object');
}

/** Seconds until the caller should ask again. */
const AGAIN_S = 5;

/** @type {(call: Call, name: string, country: string|null) => import('./types').Recipient} */
const recipientIn = ({ params }, name, country) => readRecipient(params[name], country);

/**
 * @param {object} options
 * @param {import('./types').AddRoute} options.add
 * @param {import('./types').Answering} options.answering
 * @param {import('./sending').Sending} options.sending
 * @param {Spool} options.spool
 * @param {string|null} options.country the code of the country of numbers that say none
 * @param {() => boolean} options.isLinked
 */
function addSendRoutes({ add, answering, sending, spool, country, isLinked }) {
    /** As `answering`, for paths whose callers know more than 400 for a session that is not connected. */
    /** @type {import('./types').Answering} */
    const answeringMore = (feature, what, work) =>
        answering(feature, what, work).catch((error) => {
            if (error.body?.code !== 'not_connected') throw error;
            const { error: message, hint } = error.body;
            if (!isLinked()) throw new HttpError(409, message, { code: 'not_linked', hint });
            throw new HttpError(503, message, error.body, { 'Retry-After': String(AGAIN_S) });
        });

    add('POST', '/send', 'send a text {"phone", "message"}', async ({ request, body }) => {
        const { phone, message } = body;
        if (
            !['string', 'number'].includes(typeof phone) ||
            phone === '' ||
            typeof message !== 'string' ||
            message === ''
        ) {
            throw new HttpError(400, 'phone and message are needed');
        }
        if (message.length > MAX_TEXT_CHARACTERS)
            throw new HttpError(400, `message is longer than ${MAX_TEXT_CHARACTERS} characters`);
        const text = readMessage({ to: phone, text: message }, country);
        const how = { key: keyOf(request), print: printOf('/send', { phone, message }, null), waits: false };
        const sentId = await answering('send', 'sending', () => sending.send(text, how).then(sureOf));
        return { success: true, messageId: sentId };
    });

    const sendMessage = async (/** @type {Call} */ call) => {
        const { body, request, response } = call;
        const key = keyOf(request);
        const message = readMessage(body, country);
        const { media } = message;
        /** @type {GivenFile|null} */
        let file = /** @type {Body} */ (body)[FILE] ?? null;
        if (media?.file !== undefined && file === null) throw bad('there is no such file in the call');
        const print = printOf('/messages', body, file);
        if (media?.data !== undefined) {
            const { bytes, type } = decode(media.data);
            file = await keepFor(response, spool, [bytes], media.type ?? type);
        }
        const result = await answeringMore(message.feature, 'sending', () =>
            sending.send(message, { key, print, file }),
        );
        return answer(call, result);
    };
    const large = new Places(LARGE_AT_ONCE);
    add('POST', '/messages', 'send a message {"to", "text" or another kind}; Idempotency-Key', sendMessage, {
        read: (request, response) => readBody(request, response, { spool, large }),
    });

    add('GET', '/messages/{id}', 'the status of a sent message', ({ params }) => {
        const id = readMessageId(params.id, 'the id');
        return answeringMore('send', 'reading a message', () => sending.outcome(id));
    });

    add('PATCH', '/messages/{id}', 'replace its text {"text"}', async ({ params, body }) => {
        const id = readMessageId(params.id, 'the id');
        const edit = readEdit(body, country);
        await answeringMore('edit', 'editing', () => sending.edit(id, edit));
        return { id };
    });

    add('DELETE', '/messages/{id}', 'delete it for all, or (?for=me) here', async ({ params, query }) => {
        const id = readMessageId(params.id, 'the id');
        const scope = query.get('for') ?? 'all';
        if (!['all', 'me'].includes(scope)) throw bad('for must be all or me');
        await answeringMore('delete', 'deleting', () => sending.remove(id, scope === 'all'));
        return { id };
    });

    add('POST', '/messages/{id}/reaction', 'react to it {"reaction"}', async ({ params, body }) => {
        const id = readMessageId(params.id, 'the id');
        const reaction = readReaction(body);
        await answeringMore('react', 'reacting', () => sending.react(id, reaction));
        return { id };
    });

    add('POST', '/messages/{id}/forward', 'forward it {"to"}; Idempotency-Key', async (call) => {
        const id = readMessageId(call.params.id, 'the id');
        const to = readForward(call.body, country);
        const how = { key: keyOf(call.request), print: printOf(`/messages/${id}/forward`, call.body, null) };
        return answer(call, await answeringMore('send', 'forwarding', () => sending.forward(id, to, how)));
    });

    /** @type {[sign: 'typing'|'recording', about: string][]} */
    const signs = [
        ['typing', 'show them that you are typing'],
        ['recording', 'show them that you are recording'],
    ];
    for (const [what, about] of signs) {
        add('POST', `/chats/{id}/${what}`, `${about} {"on"?}`, async (call) => {
            const to = recipientIn(call, 'id', country);
            const sign = readSignal(call.body) ? what : 'stop';
            await answeringMore('typing', 'signaling', () => sending.signal(sign, to));
            return { ok: true };
        });
    }
    add('POST', '/chats/{id}/seen', 'mark their messages as read', async (call) => {
        const to = recipientIn(call, 'id', country);
        await answeringMore('typing', 'signaling', () => sending.signal('seen', to));
        return { ok: true };
    });

    add('GET', '/numbers/{number}', 'whether a number is on WhatsApp', async (call) => {
        const { likely } = recipientIn(call, 'number', country);
        const found = await answeringMore('send', 'looking a number up', () => sending.lookUp(likely));
        return { number: (found.id ?? likely[0]).split('@')[0], ...found };
    });
}

/**
 * Answer with the outcome of a message: 202 while it is not known to be at WhatsApp's server.
 *
 * @param {Call} call
 * @param {import('./sending').Outcome<string|null>} result
 */
function answer({ response }, result) {
    if (result.outcome === 'sent') return result;
    writeJson(response, 202, result);
    return undefined;
}

/**
 * Return `{bytes, type}` of a text in Base64, which may be a data: URL.
 *
 * @param {string} text
 * @returns {{bytes: Buffer, type: string|undefined}}
 * @throws {HttpError} 400
 */
function decode(text) {
    const [, type, plain = text] = text.match(/^data:([^,]{0,200}?);base64,([^]*)$/) ?? [];
    if (!/^[A-Za-z0-9+/_-]+={0,2}\s*$/.test(plain)) throw bad('data is not in Base64');
    return { bytes: Buffer.from(plain, 'base64'), type };
}

module.exports = { addSendRoutes };

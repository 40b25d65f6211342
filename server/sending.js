'use strict';

/**
 * Sends messages, each once, and reports their status.
 *
 * The page is asked for the message's id before the message is handed over. So whatever happens then, to the
 * page, the browser, this process or the caller, the message can be found by that id, and handing it over
 * again changes nothing where it is there.
 */

const { PAGE_GONE, TimeLimitError, codeOf, messageOf, withLimit } = require('./errors');
const { HttpError } = require('./http');
const { reason } = require('./session_errors');
const { fetchMedia } = require('./remote_media');
const { Turns } = require('./turns');

/** How long a caller waits in all, in milliseconds; who sends a file waits for its upload, too. */
const SEND_LIMIT_MS = 14_000;
const MEDIA_LIMIT_MS = 60_000;
/** Of that, how long for WhatsApp's server to have the message. */
const ACK_LIMIT_MS = 10_000;
/** A call has this much time beyond its own limit, which reports more. */
const REST_MS = 500;
/** How much WhatsApp's clock may differ from this host's, in milliseconds. */
const CLOCKS_MS = 600_000;

/** WhatsApp's numbers for how far a message has come, from -1 on. */
const ACKS = ['error', 'pending', 'server', 'device', 'read', 'played'];

/** @typedef {import('./types').SessionClient} SessionClient */
/** @typedef {import('./types').Message} Message */
/** @typedef {import('./types').Recipient} Recipient */
/** @typedef {import('./sends').Send} KeptSend */
/** @typedef {import('./sending_page').Found} Found */
/** @typedef {import('./sending_page').Given} Given */
/** @typedef {import('./sending_page').Sent} Sent */

/** @typedef {Awaited<ReturnType<import('./spool').Spool['keep']>>} SpooledFile */

/** The file of a message. `isTaken`: it is dropped here; `name`: as its sender calls it. */
/** @typedef {SpooledFile & {isTaken?: boolean, name?: string}} GivenFile */

/** The file that a call uses, and the page, as long as it may read that. */
/** @typedef {{file: GivenFile|null, handing?: Promise<void>}} Used */

/** The status of a message, as far as known. @typedef {Pick<Sent, 'ack'>} Come */

/**
 * The answer to callers: see `send`.
 *
 * @template {string|null} [Id=string]
 * @typedef {{id: Id, outcome: 'sent'|'pending', code?: string}} Outcome
 */

/** How long a call may still take, in milliseconds. @typedef {() => number} Left */

/** @type {(status: number, code: string, message: string, hint?: string) => HttpError} */
const failed = (status, code, message, hint) => new HttpError(status, message, { code, hint });

/** The page's reasons for not doing something. */
const FAILURES = {
    not_on_whatsapp: () => failed(422, 'not_on_whatsapp', 'this number is not on WhatsApp'),
    no_such_chat: () =>
        failed(404, 'no_such_chat', 'no such chat', 'you can write only to groups that you are a member of'),
    no_such_message: () => failed(404, 'no_such_message', 'no such message'),
    refused: () => failed(422, 'refused', 'WhatsApp does not allow this for this message'),
};

const keyReused = () =>
    failed(
        422,
        'key_reused',
        'another message was sent with this Idempotency-Key',
        'take a new key for each message',
    );

const pageLost = (/** @type {string} */ what) =>
    failed(
        503,
        'page_lost',
        `WhatsApp's page did not ${what} in time; nothing was sent`,
        'ask again in a moment',
    );

/** From when on a copy may be that of a call at this time, in seconds: clocks differ. */
const sinceOf = (/** @type {number} */ at) => Math.floor((at - CLOCKS_MS) / 1000);

/** A name of a file without what makes it a path, or what is not seen. */
const plainName = (name = '') =>
    name
        .replace(/[/\\]/g, '_')
        .replace(/[\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]/gu, '')
        .slice(0, 255);

/**
 * @template {{code?: string}} Result
 * @param {Result} result
 * @returns {Exclude<Result, {code: string}>}
 * @throws {HttpError} if the page says why it did not do something
 */
function orThrow(result) {
    if (result.code !== undefined) throw FAILURES[/** @type {keyof typeof FAILURES} */ (result.code)]();
    return /** @type {Exclude<Result, {code: string}>} */ (result);
}

/** Lets one go each so many milliseconds. */
class Pace {
    #gap;
    #next = 0;

    /** @param {number} rate how many a minute; 0 = as many as come */
    constructor(rate) {
        this.#gap = rate === 0 ? 0 : 60_000 / rate;
    }

    /**
     * Wait for one's turn.
     *
     * @param {number} limitMs
     * @throws {HttpError} 429 where that would take longer
     */
    async take(limitMs) {
        const now = performance.now();
        const at = Math.max(now, this.#next);
        if (at - now > limitMs) {
            const hint = 'wait, or change instances.send_rate (WAPORTD_SEND_RATE)';
            const message = 'too many messages wait already for their time to be sent';
            const headers = { 'Retry-After': String(Math.ceil((at - now) / 1000)) };
            throw new HttpError(429, message, { code: 'rate_limited', hint }, headers);
        }
        this.#next = at + this.#gap;
        if (at > now) await new Promise((resolve) => setTimeout(resolve, at - now));
    }
}

class Sending {
    #session;
    #sends;
    #spool;
    #log;
    #pace;
    #mayBePrivate;
    /** Calls with a key that are at work. @type {Map<string, {print: string, done: Promise<any>}>} */
    #underWay = new Map();
    /** Calls with a key that send a message on. */
    #forwards = new Turns();

    /**
     * @param {object} options
     * @param {import('./session').Session} options.session
     * @param {import('./sends').Sends} options.sends
     * @param {import('./spool').Spool} options.spool
     * @param {import('./types').Log} options.log
     * @param {number} options.rate messages a minute; 0 = no limit
     * @param {boolean} options.mediaFromPrivate whether files are fetched from private addresses
     */
    constructor({ session, sends, spool, log, rate, mediaFromPrivate }) {
        this.#session = session;
        this.#sends = sends;
        this.#spool = spool;
        this.#log = log;
        this.#pace = new Pace(rate);
        this.#mayBePrivate = mediaFromPrivate;
    }

    /**
     * Send a message.
     *
     * @param {Message} message as `readMessage` gives it
     * @param {object} options
     * @param {string|null} [options.key] another call with it gets the outcome of the first call
     * @param {string} [options.print] equal for equal messages: with a key
     * @param {GivenFile|null} [options.file] of the message, as the spool gave it; it is dropped
     * @param {boolean} [options.waits] whether to wait until WhatsApp's server has the message
     * @returns {Promise<Outcome>} `sent`: WhatsApp's server
     *   has it; `pending`: the page has it, or, with code `perhaps_sent`, perhaps
     * @throws {HttpError|SessionError|Error} it was not handed over, or WhatsApp has refused it
     */
    async send(message, { key = null, print = '', file = null, waits = true } = {}) {
        /** @type {Used} */
        const used = { file };
        if (file !== null) file.isTaken = true;
        const work = () => this.#send(message, { key, print, used, waits });
        try {
            return await (key === null ? work() : this.#joined(key, print, work));
        } finally {
            // The page may still read it, however long the caller waited.
            const done = used.handing ?? Promise.resolve();
            done.then(() => used.file && this.#spool.drop(used.file));
        }
    }

    /**
     * Do work, or wait for the same work that is under way.
     *
     * @template Result
     * @param {string} key
     * @param {string} print
     * @param {() => Promise<Result>} work
     * @returns {Promise<Result>}
     */
    async #joined(key, print, work) {
        const first = this.#underWay.get(key);
        if (first !== undefined) {
            if (first.print !== print) throw keyReused();
            return first.done;
        }
        const done = work().finally(() => this.#underWay.delete(key));
        this.#underWay.set(key, { print, done });
        return done;
    }

    /**
     * @param {Message} message
     * @param {{key: string|null, print: string, used: Used, waits: boolean}} options
     * @returns {Promise<Outcome>}
     */
    async #send(message, { key, print, used, waits }) {
        const limit = message.media === null ? SEND_LIMIT_MS : MEDIA_LIMIT_MS;
        const end = performance.now() + limit;
        const left = () => end - performance.now();
        const begun = this.#begun(key, print);
        if (begun?.sent) return { id: begun.id, outcome: 'sent' };
        if (begun === undefined) await this.#pace.take(left() - REST_MS);
        await this.#fetch(message, used);
        const where = begun ?? (await this.#prepare(message.to, left()));
        if (begun === undefined && key !== null) await this.#begin({ key, print, ...where });
        /** @type {Come|null} */
        let result;
        try {
            result = await this.#handOver(message, where, used, left);
        } catch (error) {
            // It was not handed over.
            if (key !== null && begun === undefined) await this.#sends.forget(key);
            throw error;
        }
        if (result?.ack === 0 && waits) result = await this.#awaitAck(where.id, left());
        return this.#outcomeOf(result, where.id, key);
    }

    /**
     * What is kept of an earlier call with the same key, or undefined.
     *
     * @param {string|null} key
     * @param {string} print
     */
    #begun(key, print) {
        const begun = key === null ? undefined : this.#sends.find(key);
        if (begun !== undefined && begun.print !== print) throw keyReused();
        return begun;
    }

    /**
     * Put the file of a message on disk, wherever it comes from, and describe it to the page.
     *
     * @param {Message} message
     * @param {Used} used
     */
    async #fetch(message, used) {
        const { media } = message;
        if (media === null) return;
        if (used.file === null && media.url !== undefined) {
            used.file = await fetchMedia(media.url, {
                most: this.#spool.most,
                mayBePrivate: this.#mayBePrivate,
                keep: (chunks, type) => this.#spool.keep(chunks, media.type ?? type),
            });
        }
        const { type, name } = /** @type {GivenFile} */ (used.file);
        if (!media.types.test(type)) {
            const hint = `say its type, as ${media.kind}.type, or send it as a document`;
            throw failed(400, 'bad_media', `the ${media.kind} is a file of another type`, hint);
        }
        message.what.media = { mimetype: type, filename: plainName(media.name ?? name) || media.kind };
    }

    /** @param {Recipient} to @param {number} limit */
    async #prepare(to, limit) {
        const work = (/** @type {SessionClient} */ client) => client.prepareSend(to);
        try {
            return orThrow(await this.#use(work, limit - REST_MS, 'finding the chat', { isReading: true }));
        } catch (error) {
            if (!(error instanceof TimeLimitError) && !PAGE_GONE.test(messageOf(error))) throw error;
            throw pageLost('find the chat');
        }
    }

    /** @param {Omit<KeptSend, 'at'>} send */
    async #begin(send) {
        try {
            await this.#sends.begin(send);
        } catch (error) {
            this.#log.warning('a send cannot be kept', { reason: codeOf(error) ?? messageOf(error) });
            throw failed(
                503,
                'not_kept',
                'the disk does not take the Idempotency-Key, so nothing was sent',
                'free some space on the disk of the sessions, or send without a key',
            );
        }
    }

    /**
     * Hand a message over.
     *
     * @param {Message} message
     * @param {{chat: string, id: string}} where
     * @param {Used} used
     * @param {Left} left
     * @returns {Promise<Sent|null>} null: the outcome is not known
     */
    #handOver(message, { chat, id }, used, left) {
        return this.#give((client) => {
            const handing = client.handOver({ chat, id }, message.what, used.file?.path ?? null);
            used.handing = handing.then(
                () => {},
                () => {},
            );
            return handing;
        }, left);
    }

    /**
     * @param {(client: SessionClient) => Promise<Given>} handing
     * @param {Left} left
     * @returns {Promise<Sent|null>}
     */
    async #give(handing, left) {
        let isBegun = false;
        const work = (/** @type {SessionClient} */ client) => {
            isBegun = true;
            return withLimit(handing(client), left() - REST_MS, 'sending');
        };
        let result;
        try {
            result = await this.#use(work, left(), 'sending', { isReading: true });
        } catch (error) {
            // The page says what was wrong with the message. After any other error it may have taken it.
            if (isBegun) return null;
            throw error;
        }
        if (result.error !== undefined) throw new Error(result.error);
        return orThrow(result);
    }

    /** @param {string} id @param {number} left @returns {Promise<Come>} */
    async #awaitAck(id, left) {
        const ms = Math.min(ACK_LIMIT_MS, left - REST_MS);
        if (ms <= 0) return { ack: 0 };
        const work = (/** @type {SessionClient} */ client) => client.awaitAck(id, ms);
        // The message is there: only how far it has come is not known.
        const result = await this.#use(work, ms + REST_MS, 'an answer of WhatsApp').catch(() => null);
        return result ?? { ack: 0 };
    }

    /**
     * @template {string|null} Id
     * @param {Come|null} result
     * @param {Id} id
     * @param {string|null} key
     * @returns {Outcome<Id>}
     */
    #outcomeOf(result, id, key) {
        if (result === null) return { id, outcome: 'pending', code: 'perhaps_sent' };
        if (result.ack < 0) throw failed(422, 'refused', 'WhatsApp did not take the message');
        if (result.ack === 0) return { id, outcome: 'pending' };
        if (key !== null) this.#sends.settle(key);
        return { id, outcome: 'sent' };
    }

    /**
     * @template Result
     * @param {(client: SessionClient) => Promise<Result>} work
     * @param {number} limit
     * @param {string} what
     * @param {{isReading?: boolean}} [how]
     */
    #use(work, limit, what, how) {
        return this.#session.use(work, limit, what, how);
    }

    // ---- its outcome, and later changes ---------------------------------------------------------

    /**
     * Return the status of a message from this account: `{id, outcome, ack}`.
     *
     * @param {string} id
     * @throws {HttpError} 404
     */
    async outcome(id) {
        if (!id.startsWith('true_')) throw FAILURES.no_such_message();
        const result = await this.#read('reading a message', (client) => client.awaitAck(id, 0));
        if (result === null) {
            if (!this.#sends.has(id)) throw FAILURES.no_such_message();
            return { id, outcome: 'pending', code: 'perhaps_sent', ack: null };
        }
        const ack = ACKS[result.ack + 1] ?? 'played';
        if (result.ack < 0) return { id, outcome: 'failed', code: 'refused', ack };
        return { id, outcome: result.ack === 0 ? 'pending' : 'sent', ack };
    }

    /**
     * Return whether somebody is on WhatsApp, `{exists, id, lid}`, by ids as `readRecipient` gives them.
     *
     * @param {string[]} ids
     * @returns {Promise<Found>}
     */
    lookUp(ids) {
        return this.#read('looking a number up', (client) => client.lookUp(ids));
    }

    /**
     * Put another text in place of an own message's.
     *
     * @param {string} id
     * @param {{text: string, mentions: string[]}} edit
     */
    edit(id, { text, mentions }) {
        return this.#act('editing', (client) => client.edit(id, text, mentions));
    }

    /** Delete a message, for everybody or here only. @param {string} id @param {boolean} isForAll */
    remove(id, isForAll) {
        return this.#act('deleting', (client) => client.remove(id, isForAll));
    }

    /** React to a message; '' takes a reaction back. @param {string} id @param {string} reaction */
    react(id, reaction) {
        return this.#act('reacting', (client) => client.react(id, reaction));
    }

    /**
     * Forward a message. As `send`; the page chooses the id of the copy, and `id` is null if it does not
     * report it, or it is not known yet.
     *
     * @param {string} id of the message
     * @param {Recipient} to as `readRecipient` gives it
     * @param {{key?: string|null, print?: string}} options
     * @returns {Promise<Outcome<string|null>>}
     */
    async forward(id, to, { key = null, print = '' } = {}) {
        const work = () => this.#forward(id, to, { key, print });
        return key === null ? work() : this.#joined(key, print, work);
    }

    /**
     * @param {string} id
     * @param {Recipient} to
     * @param {{key: string|null, print: string}} options
     * @returns {Promise<Outcome<string|null>>}
     */
    async #forward(id, to, { key, print }) {
        const end = performance.now() + SEND_LIMIT_MS;
        const left = () => end - performance.now();
        const begun = this.#begun(key, print);
        if (begun?.copy !== undefined) return this.#tellCopy(begun, left());
        if (begun === undefined) await this.#pace.take(left() - REST_MS);
        const { chat, id: ticket } = begun ?? (await this.#prepare(to, left()));
        const sendOn = (/** @type {import('./sending_page').Begun|null} */ earlier) =>
            this.#give((client) => client.forward(id, { chat, id: ticket }, earlier), left);
        if (key === null) return this.#tellForwarded(await sendOn(null), null);
        // One at a time: a copy that is looked for is not that of another call.
        const once = async () => {
            /** @type {import('./sending_page').Begun|null} */
            let earlier = null;
            if (begun === undefined) {
                const others = await this.#copiesOf(id, chat, left());
                await this.#begin({ key, print, chat, id: ticket, others });
            } else {
                earlier = {
                    since: sinceOf(begun.at),
                    others: [...(begun.others ?? []), ...this.#sends.copies()],
                };
            }
            try {
                const result = await sendOn(earlier);
                if (result !== null) await this.#sends.settle(key, { copy: result.id });
                return result;
            } catch (error) {
                // It was not handed over.
                if (begun === undefined) await this.#sends.forget(key);
                throw error;
            }
        };
        return this.#tellForwarded(await this.#forwards.take(key, once), key);
    }

    /** @param {Sent|null} result @param {string|null} key */
    #tellForwarded(result, key) {
        return this.#outcomeOf(result, result?.id ?? null, key);
    }

    /**
     * Report on a message that was forwarded before.
     *
     * @param {KeptSend} begun
     * @param {number} left
     * @returns {Promise<Outcome<string|null>>}
     */
    async #tellCopy({ key, copy = null, sent }, left) {
        if (sent) return { id: copy, outcome: 'sent' };
        return this.#outcomeOf(copy === null ? { ack: 0 } : await this.#awaitAck(copy, left), copy, key);
    }

    /**
     * The copies of a message that are in a chat already: none of them is the one that will be.
     *
     * @param {string} id
     * @param {string} chat
     * @param {number} left
     */
    async #copiesOf(id, chat, left) {
        const work = (/** @type {SessionClient} */ client) => client.copiesOf(id, chat, sinceOf(Date.now()));
        try {
            return await this.#use(work, left - REST_MS, 'looking for copies', { isReading: true });
        } catch (error) {
            if (!(error instanceof TimeLimitError) && !PAGE_GONE.test(messageOf(error))) throw error;
            throw pageLost('look for earlier copies');
        }
    }

    /**
     * Have somebody know that one writes, records, stopped doing so, or has read.
     *
     * @param {import('./sending_page').Sign} what
     * @param {Recipient} to
     */
    signal(what, to) {
        return this.#act('signaling', (client) => client.signal(what, to.known));
    }

    /**
     * @template Result
     * @param {string} what
     * @param {(client: SessionClient) => Promise<Result>} work
     */
    #read(what, work) {
        return this.#use(work, SEND_LIMIT_MS, what, { isReading: true });
    }

    /**
     * @param {string} what
     * @param {(client: SessionClient) => Promise<{code?: string}>} work
     */
    async #act(what, work) {
        return orThrow(await this.#use(work, SEND_LIMIT_MS, what));
    }
}

/**
 * Turn an unknown outcome into the error that calls without outcomes know.
 *
 * @param {Outcome} result
 * @throws {SessionError}
 */
function sureOf({ id, code }) {
    if (code === 'perhaps_sent') throw reason.perhapsSent();
    return id;
}

module.exports = { Sending, sureOf };

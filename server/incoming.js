'use strict';

/**
 * Events on their way into the journal. Each is written there at once, before anything else happens to it.
 * The number of its sender may have to be looked up: it is added when it comes, and kept for a while.
 * Complete events are handed on: in order in each chat, and no chat waits for another.
 */

const { bounded } = require('./bounds');
const { unknownSender, withNumber } = require('./describe');
const { withLimit } = require('./errors');
const { numberIn } = require('./ids');

const NUMBER_LIMIT_MS = 3_000;
/** How long a number is cached, and how long it is cached that WhatsApp gives none, in milliseconds. */
const FOUND_MS = 3_600_000;
const NONE_MS = 60_000;
/** The most cached senders and names of chats; the oldest is dropped. */
const MAX_KNOWN = 1_000;
/** How many numbers are looked up at once; more wait. */
const MAX_ASKED = 4;
/** How many may wait: if the page answers nothing, the last one waits half a minute. */
const MAX_WAITING = 40;
/** How long the end waits for numbers, in milliseconds: to close a browser takes the rest of that time. */
const END_LIMIT_MS = 1_000;
/** Kinds of chats (ids.js) by the word of the settings that leaves them out. */
const KINDS = /** @type {Record<string, import('./types').ChatType>} */ ({
    groups: 'group',
    channels: 'channel',
    status: 'status',
    broadcasts: 'broadcast',
});

/**
 * @typedef {import('./types').Entry} Entry
 * @typedef {import('./types').WhatsAppEvent} WhatsAppEvent
 * @typedef {import('./types').SessionClient} SessionClient
 */

/**
 * Keep a value as the newest of so many.
 *
 * @template Key, Value
 * @param {Map<Key, Value>} map
 * @param {Key} key
 * @param {Value} value
 */
function keep(map, key, value) {
    map.delete(key);
    map.set(key, value);
    if (map.size > MAX_KNOWN) map.delete(/** @type {Key} */ (map.keys().next().value));
}

/** The phone numbers behind LIDs. */
class Numbers {
    /**
     * By id, the oldest first; `number` is a promise while it is asked for.
     *
     * @type {Map<string, {number: string|null|Promise<string|null>, until: number}>}
     */
    #known = new Map();
    #asked = 0;
    /** @type {(() => void)[]} */
    #waiting = [];
    /** Events whose sender was not asked for since somebody began to wait. */
    #skipped = 0;
    #log;

    /** @param {import('./types').Log} log */
    constructor(log) {
        this.#log = log;
    }

    /**
     * Return what is known of a number, or a promise of it while it is asked for; undefined = nothing.
     *
     * @param {string} id
     */
    known(id) {
        const known = this.#known.get(id);
        return known !== undefined && performance.now() < known.until ? known.number : undefined;
    }

    /**
     * A number was looked up: null = WhatsApp gives none.
     *
     * @param {string} id
     * @param {string|null} number
     */
    learn(id, number) {
        keep(this.#known, id, { number, until: performance.now() + (number === null ? NONE_MS : FOUND_MS) });
    }

    /**
     * Look up a number. Resolves with null when WhatsApp does not give it, or too many are looked up.
     *
     * @param {SessionClient} client
     * @param {string} id
     */
    async find(client, id) {
        const known = this.known(id);
        if (known !== undefined) return known;
        if (this.#waiting.length >= MAX_WAITING) return this.#skip();
        const number = this.#ask(client, id);
        keep(this.#known, id, { number, until: Infinity });
        const found = await number;
        this.learn(id, found);
        return found;
    }

    /**
     * Ask for a number, when it is its turn. Never rejects.
     *
     * @param {SessionClient} client
     * @param {string} id
     */
    async #ask(client, id) {
        const turn = () =>
            /** @type {Promise<void>} */ (new Promise((resolve) => this.#waiting.push(resolve)));
        if (this.#asked >= MAX_ASKED) await turn();
        else this.#asked += 1;
        try {
            const asked = client.getContactLidAndPhone([id]);
            const [known] = await withLimit(asked, NUMBER_LIMIT_MS, 'the number of a sender');
            return numberIn(known?.pn);
        } catch {
            return null;
        } finally {
            // Its place goes to the next one.
            const next = this.#waiting.shift();
            if (this.#waiting.length === 0) this.tellSkipped();
            if (next === undefined) this.#asked -= 1;
            else next();
        }
    }

    /** It is not noted: the next event of that sender has them asked for. */
    #skip() {
        if (this.#skipped === 0) {
            this.#log.warning("too many new senders at once: messages continue without the sender's number", {
                waiting: this.#waiting.length,
            });
        }
        this.#skipped += 1;
        return null;
    }

    /** Log how many events were handed on without a number, because it was not looked up. */
    tellSkipped() {
        if (this.#skipped === 0) return;
        this.#log.warning('senders not looked up', { messages: this.#skipped });
        this.#skipped = 0;
    }
}

class Incoming {
    #identity;
    #journal;
    /** @type {Set<import('./types').ChatType|null|undefined>} */
    #ignored;
    #handOn;
    #log;
    #numbers;
    /** Names of chats, by id: not each event comes with one. @type {Map<string|null, string>} */
    #names = new Map();
    /** By chat: resolves when its last event is complete. @type {Map<string|null, Promise<Entry|null>>} */
    #chats = new Map();
    #closed = false;

    /**
     * @param {object} options
     * @param {{user: string|null, port: number}} options.identity what each event says of its server
     * @param {import('./journal').Journal} options.journal
     * @param {string[]} options.ignore chats that are left out: groups, channels, status, broadcasts
     * @param {import('./types').Log} options.log
     * @param {(entry: Entry) => void} options.handOn takes each entry that is new to the journal, once all
     *   that can be known of it is
     */
    constructor({ identity, journal, ignore, handOn, log }) {
        this.#identity = identity;
        this.#journal = journal;
        this.#ignored = new Set(ignore.map((word) => KINDS[word]));
        this.#handOn = handOn;
        this.#log = log;
        this.#numbers = new Numbers(log);
    }

    /**
     * Take an event.
     *
     * @param {WhatsAppEvent} given
     * @param {SessionClient|null} client to ask for the sender's number
     * @returns {Promise<(Entry & {isNew: boolean})|null>} the entry of the journal, once it is complete;
     *   null = it is left out, or cannot be stored. Never rejects
     */
    take(given, client) {
        if (this.#closed || this.#ignored.has(given.chat?.type)) return Promise.resolve(null);
        const event = bounded(this.#complete(given));
        const unknown = client === null ? null : unknownSender(event);
        const appended = this.#journal.append(event);
        const number = client === null || unknown === null ? null : this.#numbers.find(client, unknown);
        const chat = event.chat?.id ?? null;
        const before = this.#chats.get(chat);
        const done = this.#finish({ event, unknown, appended, number, before })
            .catch((error) => {
                this.#log.error('an event is not handed on', { reason: error.stack });
                return null;
            })
            .finally(() => {
                if (this.#chats.get(chat) === done) this.#chats.delete(chat);
            });
        this.#chats.set(chat, done);
        return done;
    }

    /**
     * @param {object} given
     * @param {WhatsAppEvent} given.event
     * @param {string|null} given.unknown
     * @param {Promise<Entry & {isNew: boolean}>} given.appended
     * @param {Promise<string|null>|null} given.number
     * @param {Promise<unknown>|undefined} given.before
     */
    async #finish({ event, unknown, appended, number, before }) {
        const [entry, phone] = await Promise.all([appended, number, before]);
        if (this.#closed || !entry.isNew) return entry;
        const members = phone === null ? {} : withNumber(event, unknown, phone);
        if (phone !== null) this.#journal.amend(entry.cursor, members);
        const whole = { ...entry, event: { ...entry.event, ...members } };
        this.#handOn(whole);
        return whole;
    }

    /**
     * Add whose server it is, and what is already known of its chat and its sender.
     *
     * @param {WhatsAppEvent} given
     */
    #complete(given) {
        const { user, port } = this.#identity;
        const event = { ...given, user_id: user, port };
        const { chat, sender } = event;
        if (chat?.name) keep(this.#names, chat.id, chat.name);
        else if (chat) event.chat = { ...chat, name: this.#names.get(chat.id) ?? null };
        if (sender?.lid && sender.phone) this.#numbers.learn(sender.lid, sender.phone);
        const unknown = unknownSender(event);
        const phone = unknown === null ? null : this.#numbers.known(unknown);
        return typeof phone === 'string' ? { ...event, ...withNumber(event, unknown, phone) } : event;
    }

    /** Wait until what came so far is complete, for a second at most. */
    async settle() {
        const rest = Promise.all(this.#chats.values());
        await withLimit(rest, END_LIMIT_MS, 'the numbers of senders').catch(() => {});
    }

    /** Take nothing more. Incomplete events stay in the journal without what they lack. */
    close() {
        this.#closed = true;
        this.#numbers.tellSkipped();
    }
}

module.exports = { Incoming };

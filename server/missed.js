'use strict';

/**
 * Messages that the page has and the journal lacks: they came while this server was stopped, while its page
 * was loaded, or before the library listened. After each such gap they are read back, chat by chat, and
 * marked `recovered`; what is known already has the same `event_id`.
 *
 * The journal's mark is the start: nothing before it is missing. It advances only while there is no gap. In a
 * gap the next message of a chat is written after those missing before it.
 */

const { setTimeout: pause } = require('node:timers/promises');

const { describeReaction, describeReadBack } = require('./describe');
const { messageOf, withLimit } = require('./errors');

/** The events that the page's history has. */
const IN_HISTORY = ['message', 'message.sent'];
/** States in which no login is stored, and a phone may answer a code. */
const LINKING = ['qr', 'passkey_required'];
/** The mark is by the clock of this host, the time of a message by another one's, in milliseconds. */
const SLACK_MS = 600_000;
/** At most so much is read back after a gap. */
const MOST_CHATS = 1_000;
const MOST_TIME_MS = 600_000;
/** So many messages of one chat: to be reported in order, all of them are in the page at once. */
const MOST_IN_CHAT = 10_000;
/** So large is an event in the journal, in bytes: of more than it holds, the first would be dropped again. */
const USUAL_BYTES = 1_024;
/** The page looks for so many more messages at a time, and returns so many at a time. */
const FOUND_AT_ONCE = 1_000;
const AT_ONCE = 100;
const LOOK_LIMIT_MS = 30_000;
const LOAD_LIMIT_MS = 5_000;
/** Between two looks: others come first, and the page has other work. */
const PACE_MS = 20;
/**
 * How long a message waits for those missing before it, in milliseconds; then it is reported before them. A
 * busy host needed more than 5 s to read a page back.
 */
const WAIT_MS = 15_000;
/** After how long a page that did not answer is asked again. */
const RETRY_MS = 15_000;
/** How often the mark moves while there is no gap. */
const MARK_MS = 60_000;

/**
 * @typedef {import('./types').Entry} Entry
 * @typedef {import('./types').WhatsAppEvent} WhatsAppEvent
 * @typedef {import('./types').WhatsAppObject} WhatsAppObject
 * @typedef {import('./types').SessionClient} SessionClient
 */

/**
 * Has work done in the page, when it is its turn.
 *
 * @typedef {<Found>(key: string, work: (client: SessionClient) => Promise<Found>) => Promise<Found>} Look
 */

const readBackReaction = (/** @type {WhatsAppObject} */ reaction) => [
    describeReaction(reaction, { recovered: true }),
];

class Missed {
    /** @type {import('./session').Session|undefined} */
    #session;
    #state;
    #journal;
    #take;
    #maxAge;
    #most;
    #waitMs;
    #log;
    /** Whether nothing is missing, and how many gaps there were. */
    #isWhole = false;
    #gaps = 0;
    #isWanted = false;
    #isReading = false;
    #closed = false;
    /** Nothing waits for what is missing any more. @type {Promise<void>} */
    #closing;
    #close = () => {};
    /**
     * In this gap, by chat: resolves when what was missing is taken.
     *
     * @type {Map<string, Promise<unknown>>}
     */
    #caughtUp = new Map();
    /**
     * By chat: resolves when the last event that came so far is taken.
     *
     * @type {Map<string|null|undefined, Promise<unknown>>}
     */
    #last = new Map();
    /** Ids of the events that wait for that. @type {Set<string>} */
    #waiting = new Set();
    #hasNew = false;
    /** @type {{mark?: NodeJS.Timeout, retry?: NodeJS.Timeout}} */
    #timers = {};

    /**
     * @param {object} options
     * @param {import('./state').SessionState} options.state
     * @param {import('./journal').Journal} options.journal
     * @param {import('./incoming').Incoming['take']} options.take has an event written; resolves with its
     *   entry, null where it is left out
     * @param {import('./types').Log} options.log
     * @param {number} options.maxAge seconds: nothing older is read back
     * @param {number} options.maxBytes of the journal: no more is read back at once than it holds
     * @param {number} [options.waitMs] how long a message waits for those missing before it
     */
    constructor({ state, journal, take, maxAge, maxBytes, log, waitMs = WAIT_MS }) {
        this.#state = state;
        this.#journal = journal;
        this.#take = take;
        this.#maxAge = maxAge * 1000;
        this.#most = Math.floor(maxBytes / USUAL_BYTES);
        this.#waitMs = waitMs;
        this.#log = log;
        this.#closing = new Promise((resolve) => {
            this.#close = resolve;
        });
    }

    /** @param {import('./session').Session} session by whose page messages are read back */
    start(session) {
        this.#session = session;
        this.#state.on('state', (now, before) => this.#changed(now, before));
        this.#journal.on('append', () => {
            this.#hasNew = true;
        });
        this.#timers.mark = setInterval(() => this.#advance(), MARK_MS).unref();
    }

    // ---- what happens ----------------------------------------------------------------------------

    /**
     * @param {import('./types').StateName} now
     * @param {import('./types').StateName} before
     */
    async #changed(now, before) {
        if (before === 'ready') this.#gap();
        // A phone that is being linked brings its own history, which is not new.
        const isNew = (now === 'pairing' && !this.#state.document().linked) || LINKING.includes(before);
        if (now === 'pairing' || now === 'authenticated' || now === 'ready') await this.#began(isNew);
        if (now === 'ready') this.#readBack();
    }

    #gap() {
        this.#isWhole = false;
        this.#gaps += 1;
        this.#caughtUp.clear();
    }

    /**
     * There is a login. If it is a new one, or the first, messages count from now on.
     *
     * @param {boolean} isNew
     */
    async #began(isNew) {
        const at = Date.now();
        await this.#journal.loaded;
        if (isNew || this.#journal.mark.from === null) await this.#journal.advance({ from: at, until: at });
    }

    /**
     * Take an event that is heard: at once, or in a gap after the messages of its chat that were not.
     *
     * @param {WhatsAppEvent} event
     * @param {SessionClient|null} client
     * @returns {Promise<Entry|null>} as `take` gives it
     */
    take(event, client) {
        const chat = event.chat?.id;
        const isLate = !this.#isWhole && !this.#closed && chat && IN_HISTORY.includes(event.event);
        const before =
            this.#last.get(chat) ??
            (isLate ? this.#catchUp(chat, /** @type {SessionClient} */ (client)) : undefined);
        if (before === undefined) return this.#take(event, client);
        this.#waiting.add(event.event_id);
        // Not until it is written: what comes next is written after it in any case.
        const taken = before.then(() => {
            this.#waiting.delete(event.event_id);
            return { entry: this.#take(event, client) };
        });
        this.#last.set(chat, taken);
        taken.finally(() => {
            if (this.#last.get(chat) === taken) this.#last.delete(chat);
        });
        return taken.then(({ entry }) => entry);
    }

    /**
     * Have what is missing of a chat taken, once in a gap. Never rejects.
     *
     * @param {string} chat
     * @param {SessionClient} client
     */
    #catchUp(chat, client) {
        const known = this.#caughtUp.get(chat);
        if (known !== undefined) return known;
        /** @type {Look} */
        const look = (key, work) => client.turns.take(key, () => work(client));
        const read = async () => {
            await this.#journal.loaded;
            const since = this.#since();
            const id = since === null ? null : await look(`find ${chat}`, () => client.findChat(chat));
            if (since !== null && id !== null) await this.#readChat(id, since, look, { isWaited: false });
        };
        const limited = withLimit(read(), this.#waitMs, 'missed messages');
        const done = Promise.race([limited, this.#closing]).catch((error) =>
            this.#log.debug('not read back now', { reason: messageOf(error) }),
        );
        this.#caughtUp.set(chat, done);
        return done;
    }

    // ---- reading back ----------------------------------------------------------------------------

    /** From when on messages may be missing, in seconds; null = there is no login yet. */
    #since() {
        const { from, until } = this.#journal.mark;
        if (from === null) return null;
        return Math.floor(Math.max((until ?? 0) - SLACK_MS, from, Date.now() - this.#maxAge) / 1000);
    }

    #readBack() {
        this.#isWanted = true;
        if (!this.#isReading) this.#readAll();
    }

    /** Read back what is missing, until nothing is or the page does not answer. Never rejects. */
    async #readAll() {
        this.#isReading = true;
        while (this.#isWanted && !this.#closed) {
            this.#isWanted = false;
            const gap = this.#gaps;
            const began = Date.now();
            try {
                await this.#readChats();
            } catch (error) {
                if (this.#closed) break;
                this.#log.warning('missed messages are not read back yet', { reason: messageOf(error) });
                this.#tryLater();
                break;
            }
            if (gap !== this.#gaps || this.#closed) continue;
            this.#isWhole = true;
            this.#caughtUp.clear();
            await this.#journal.advance({ until: began });
        }
        this.#isReading = false;
    }

    #tryLater() {
        clearTimeout(this.#timers.retry);
        this.#timers.retry = setTimeout(() => {
            if (this.#state.name === 'ready' && !this.#isWhole) this.#readBack();
        }, RETRY_MS).unref();
    }

    async #readChats() {
        await this.#journal.loaded;
        // There is a login.
        const since = /** @type {number} */ (this.#since());
        const end = performance.now() + MOST_TIME_MS;
        const chats = await this.#look('missed', (client) => client.changedChats(since));
        const found = { messages: 0, chats: 0 };
        let isOver = chats.length > MOST_CHATS;
        for (const chat of chats.slice(0, MOST_CHATS)) {
            isOver ||= found.messages >= this.#most || performance.now() > end;
            if (isOver || this.#closed) break;
            const count = await this.#readChat(chat, since, (key, work) => this.#look(key, work));
            found.messages += count;
            if (count > 0) found.chats += 1;
        }
        if (found.messages > 0) this.#log.info('missed messages are read back', found);
        if (isOver) this.#log.warning('too many missed messages: the rest is not read back', found);
    }

    /**
     * Take the messages of one chat.
     *
     * @param {string} chat
     * @param {number} since seconds
     * @param {Look} look
     * @param {object} [options]
     * @param {boolean} [options.isWaited] whether each part is waited for until it is written
     * @returns {Promise<number>} how many of them were new
     */
    async #readChat(chat, since, look, { isWaited = true } = {}) {
        const ids = await this.#find(chat, since, look);
        let count = 0;
        for (let begin = 0; begin < ids.length && !this.#closed; begin += AT_ONCE) {
            const work = async (/** @type {SessionClient} */ client) => {
                const part = ids.slice(begin, begin + AT_ONCE);
                /** @type {WhatsAppObject[]} */
                const messages = await client.messagesOf(part);
                const hasReactions = messages.some((message) => message?.hasReaction);
                /** @type {WhatsAppObject[]} */
                const reactions = hasReactions ? await client.reactionsOf(part) : [];
                return { client, messages, reactions };
            };
            const { client, messages, reactions } = await look(`missed ${chat} ${begin}`, work);
            const events = messages
                .map((message) => this.#describe(describeReadBack, message))
                // A waiting one is reported anyway.
                .filter((each) => !each.some(({ event_id: id }) => this.#waiting.has(id)));
            const isNew = (/** @type {{timestamp: number}} */ { timestamp }) => timestamp >= since * 1000;
            const reacted = reactions.map((each) => this.#describe(readBackReaction, each).filter(isNew));
            const taken = [...events, ...reacted].flat().map((event) => this.#take(event, client));
            if (!isWaited) continue;
            for (const entry of await Promise.all(taken)) {
                if (entry?.isNew && IN_HISTORY.includes(entry.event.event)) count += 1;
            }
        }
        return count;
    }

    /**
     * The ids of the messages of a chat, oldest first. More of them are looked for as long as there are.
     *
     * @param {string} chat
     * @param {number} since seconds
     * @param {Look} look
     * @returns {Promise<string[]>}
     */
    async #find(chat, since, look) {
        const bound = Math.min(MOST_IN_CHAT, this.#most);
        for (let most = 0; ;) {
            most = Math.min(most + FOUND_AT_ONCE, bound);
            const limits = { most, waitMs: LOAD_LIMIT_MS };
            /** @returns {Promise<string[]>} */
            const work = (/** @type {SessionClient} */ client) => client.messagesSince(chat, since, limits);
            const ids = await look(`missed ${chat} ${most}`, work);
            if (ids.length < most || this.#closed) return ids;
            if (most === bound) {
                this.#log.warning('a chat has more missed messages than are read back', { read: most });
                return ids;
            }
        }
    }

    /**
     * One that cannot be described leaves the others alone.
     *
     * @template {WhatsAppEvent} Event
     * @param {(message: WhatsAppObject) => Event[]} describe
     * @param {WhatsAppObject} message
     */
    #describe(describe, message) {
        try {
            return describe(message);
        } catch (error) {
            this.#log.warning('a message cannot be read back', { reason: messageOf(error) });
            return [];
        }
    }

    /**
     * Look at the page, after a while in which others may.
     *
     * @template Found
     * @param {string} key
     * @param {(client: SessionClient) => Promise<Found>} work
     * @returns {Promise<Found>}
     */
    async #look(key, work) {
        await pause(PACE_MS);
        const turn = (/** @type {SessionClient} */ client) => client.turns.take(key, () => work(client));
        const session = /** @type {import('./session').Session} */ (this.#session);
        return session.use(turn, LOOK_LIMIT_MS, 'missed messages', { isReading: true });
    }

    // ---- the mark --------------------------------------------------------------------------------

    async #advance() {
        if (!this.#isWhole || !this.#hasNew) return;
        this.#hasNew = false;
        await this.#journal.advance({ until: Date.now() });
    }

    /** Read nothing more. Waiting messages are taken. */
    async close() {
        this.#closed = true;
        this.#close();
        clearInterval(this.#timers.mark);
        clearTimeout(this.#timers.retry);
        await Promise.all(this.#last.values());
        await this.#advance();
    }
}

module.exports = { Missed };

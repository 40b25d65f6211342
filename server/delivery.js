'use strict';

/**
 * Delivers events to the web app: at least once, in order in each chat, chats independent of each other.
 * Events that are not delivered stay in the journal; this module has only the order of those that wait.
 */

const { withLimit } = require('./errors');
const { Outage } = require('./outage');
const { timestamp } = require('./state');

/** The most tries under way, and bodies in memory. */
const MAX_OPEN = 64;
/** How many of them are reserved for chats that are not known to be slow: they do not wait for slow ones. */
const RESERVED = 16;
/** The most that began a moment ago: more at a time only make a web app slower. */
const MAX_FRESH = 8;
/** An answer that takes longer is slow, in milliseconds. */
const SLOW_MS = 100;
/** Pauses of a chat: the first; the longest, where only its own fail, and where it may be the web app. */
const PAUSE_FIRST_MS = 1_000;
const PAUSE_OWN_MAX_MS = 600_000;
const PAUSE_MAX_MS = 60_000;
/** An event that is refused so often, within half a minute, is given up. */
const MAX_REFUSALS = 6;
/** How long the end waits for answers, in milliseconds: what is answered is not sent again after it. */
const END_LIMIT_MS = 1_000;
/** Time for a web app that starts with this server, in milliseconds. */
const START_MS = 600_000;
/** Between two reports of the counts, in milliseconds. */
const COUNTS_MS = 100;
/** Between two lines of the log that say the same, in milliseconds. */
const SAID_MS = 60_000;
/** How many events that waited before the start are read at a time. */
const PAGE = 100;

/**
 * @typedef {import('./types').Entry} Entry
 * @typedef {import('./types').JournalEvent} JournalEvent
 */

/**
 * Times are in milliseconds.
 *
 * @typedef {object} Clock
 * @property {() => number} now monotonic
 * @property {() => number} date since the epoch
 * @property {(ms: number, work: () => void) => () => void} after returns what cancels it
 */

/** @type {Clock} */
const REAL_CLOCK = {
    now: () => performance.now(),
    date: () => Date.now(),
    after(ms, work) {
        const timer = setTimeout(work, ms);
        return () => clearTimeout(timer);
    },
};

/** The place of an event in its journal: cursors end with numbers that grow. */
const placeOf = (/** @type {string} */ cursor) => Number(cursor.slice(cursor.lastIndexOf('-') + 1));

/** The waiting events of one chat, the oldest first, and the tries of the first one. */
class Line {
    /** @type {string[]} */
    #cursors = [];
    /** Since when each is tried, in milliseconds since the epoch: it came, or got another chance. */
    #since = /** @type {number[]} */ ([]);
    #first = 0;
    /** Tries of the first one: all that it may have had, those that were refused, and when the last began. */
    tries = 0;
    refusals = 0;
    triedAt = /** @type {number|null} */ (null);
    /** Why the last of them failed; null if none has. @type {{reason: string, at: number}|null} */
    fault = null;
    /** Ends its pause early; null when it makes none. @type {(() => void)|null} */
    wake = null;
    /** Whether the web app asked for that pause. */
    isAsked = false;
    /** Whether its last try took long. */
    isSlow = false;

    /** @param {string} chat */
    constructor(chat) {
        this.chat = chat;
    }

    get length() {
        return this.#cursors.length - this.#first;
    }

    get cursor() {
        return this.#cursors[this.#first];
    }

    get since() {
        return this.#since[this.#first];
    }

    /**
     * Put an event where its place is, but not before the first one, which may be under way.
     *
     * @param {string} cursor
     * @param {number} since
     */
    add(cursor, since) {
        const place = placeOf(cursor);
        let index = this.#cursors.length;
        while (index > this.#first + 1 && placeOf(this.#cursors[index - 1]) > place) index -= 1;
        this.#cursors.splice(index, 0, cursor);
        this.#since.splice(index, 0, since);
    }

    /** The first one is settled. */
    drop() {
        this.#first += 1;
        if (this.#first * 2 > this.#cursors.length) {
            this.#cursors.splice(0, this.#first);
            this.#since.splice(0, this.#first);
            this.#first = 0;
        }
        Object.assign(this, { tries: 0, refusals: 0, triedAt: null, fault: null });
    }
}

class Delivery {
    #journal;
    #webhook;
    #awaits;
    #retryMs;
    #log;
    #onCount;
    #clock;
    /** @type {Outage<Line>} */
    #outage;
    /** By chat. @type {Map<string, Line>} */
    #lines = new Map();
    /** Lines that may try next, the longest wait first; those known to be slow are separate. */
    #ready = /** @type {Set<Line>} */ (new Set());
    #readySlow = /** @type {Set<Line>} */ (new Set());
    /** Tries under way, and how many of them are not slow yet. @type {Set<Promise<void>>} */
    #tries = new Set();
    #fresh = 0;
    /** Events that came while the journal was read; null once it is. */
    #early = /** @type {Entry[]|null} */ ([]);
    /** The place of the last event that was there before it was read. */
    #last = 0;
    #counts = { delivered: 0, failed: 0, dropped: 0 };
    /** @type {Line['fault']} */
    #fault = null;
    /** Lines whose first event has failed and waits. @type {Set<Line>} */
    #failing = new Set();
    /** Whether counts have changed since the last report, and the timer of the next report. */
    #changed = false;
    /** @type {NodeJS.Immediate|NodeJS.Timeout|null} */
    #timer = null;
    /** @type {(() => void)|null} */
    #cancelProbe = null;
    /**
     * When each warning was logged last, and how many were left out since.
     *
     * @type {Map<string, {at: number, more: number}>}
     */
    #said = new Map();
    #isOutageSaid = false;
    #closed = false;

    /**
     * @param {object} options
     * @param {import('./journal').Journal} options.journal
     * @param {import('./webhook').Webhook|null} options.webhook null = nothing is handed on
     * @param {(event: JournalEvent) => boolean} options.awaits whether the web app is to get an event
     * @param {number} options.retryMs how long one is tried, in milliseconds
     * @param {import('./types').Log} options.log
     * @param {(counts: Delivery['counts']) => void} [options.onCount] called when counts have changed, ten
     *   times a second at most: see `counts`
     * @param {Clock} [options.clock]
     */
    constructor({ journal, webhook, awaits, retryMs, log, onCount = () => {}, clock = REAL_CLOCK }) {
        this.#journal = journal;
        this.#webhook = webhook;
        this.#awaits = awaits;
        this.#retryMs = retryMs;
        this.#log = log;
        this.#onCount = onCount;
        this.#clock = clock;
        this.#outage = new Outage(clock.now);
    }

    /**
     * Of events: `queued` wait, `delivered`, `dropped` left the journal before they were, `undelivered` were
     * given up and are kept. `failed` counts tries. `error` is why the last of them failed, without anything
     * of the URL or of an event; null once one was delivered since, and none that waits has failed.
     * `error_at` is when; `oldest_at`, since when the oldest one waits.
     */
    get counts() {
        const { pending, pending_at: oldest, undelivered } = this.#journal.counts;
        return {
            queued: pending,
            ...this.#counts,
            undelivered,
            oldest_at: oldest === null ? null : timestamp(oldest),
            error: this.#fault?.reason ?? null,
            error_at: this.#fault === null ? null : timestamp(this.#fault.at),
        };
    }

    /**
     * Take up what waits in the journal from before, which is loaded. However long it has waited, there is
     * time for the web app to start, too.
     */
    async start() {
        this.#last = placeOf(this.#journal.newest);
        const earliest = this.#clock.date() + Math.min(START_MS - this.#retryMs, 0);
        /** @type {string|null} */
        let after = null;
        for (let more = true; more && !this.#closed;) {
            const page = await this.#journal.pending({ after, limit: PAGE });
            for (const { cursor, event, at } of page.entries) {
                if (placeOf(cursor) > this.#last) continue;
                if (this.#isWanted(event)) this.#take(cursor, event, Math.max(at, earliest));
                // It was to get it before its settings changed.
                else this.#journal.settle(cursor, 'delivered');
            }
            after = page.next;
            more = page.more && placeOf(after) < this.#last;
        }
        const early = this.#early ?? [];
        this.#early = null;
        early.forEach((entry) => this.push(entry));
        this.#report();
        this.#next();
    }

    /** Take an entry of the journal that is new, and complete. @param {Entry} entry */
    push(entry) {
        const { cursor, event, at } = entry;
        if (!this.#isWanted(event)) return;
        if (this.#early !== null) {
            this.#early.push(entry);
            return;
        }
        if (placeOf(cursor) <= this.#last) return;
        this.#take(cursor, event, at);
        this.#report();
        this.#next();
    }

    /**
     * Try again what was given up; without a web app to try it with, nothing.
     *
     * @param {{cursor: string}|{all: true}} which
     * @returns {Promise<number>} how many
     */
    async redeliver(which) {
        if (this.#webhook === null) return 0;
        const cursors = await this.#journal.reopen(which);
        for (const cursor of cursors) {
            const entry = await this.#journal.get(cursor);
            if (entry !== null) this.#take(cursor, entry.event, this.#clock.date());
        }
        this.#report();
        this.#next();
        return cursors.length;
    }

    /** Begin no further try, and wait for answers for a second at most. The rest stays in the journal. */
    async close() {
        this.#closed = true;
        this.#cancelProbe?.();
        for (const line of this.#lines.values()) line.wake?.();
        await withLimit(Promise.all(this.#tries), END_LIMIT_MS, 'the answers of the web app').catch(() => {});
        this.#webhook?.close();
        this.#onCount(this.counts);
        const { pending } = this.#journal.counts;
        if (pending > 0) this.#log.info('events wait in the journal', { pending });
    }

    /** @param {JournalEvent} event */
    #isWanted(event) {
        return this.#webhook !== null && this.#awaits(event);
    }

    /**
     * @param {string} cursor
     * @param {JournalEvent} event
     * @param {number} since
     */
    #take(cursor, event, since) {
        const chat = event.chat?.id ?? event.from ?? '';
        let line = this.#lines.get(chat);
        if (line === undefined) {
            line = new Line(chat);
            this.#lines.set(chat, line);
            this.#ready.add(line);
        }
        line.add(cursor, since);
    }

    /** Report the counts: soon, but not too often for a reader to follow. */
    #report() {
        this.#changed = true;
        if (this.#timer !== null) return;
        const next = () => {
            this.#timer = null;
            if (this.#changed) this.#report();
        };
        this.#timer = setImmediate(() => {
            this.#changed = false;
            this.#timer = setTimeout(next, COUNTS_MS).unref();
            this.#onCount(this.counts);
        });
    }

    /** Begin all tries that may begin. */
    #next() {
        this.#cancelProbe?.();
        this.#cancelProbe = null;
        while (!this.#closed && this.#outage.allows) {
            const line = this.#pick();
            if (line === undefined) return;
            this.#try(line);
        }
        if (this.#closed || this.#outage.waitMs === 0) return;
        this.#cancelProbe = this.#clock.after(this.#outage.waitMs, () => this.#next());
    }

    #pick() {
        if (this.#tries.size >= MAX_OPEN) return undefined;
        const [fresh] = this.#fresh < MAX_FRESH ? this.#ready : [];
        if (fresh !== undefined) return fresh;
        const [slow] = this.#tries.size < MAX_OPEN - RESERVED ? this.#readySlow : [];
        return slow;
    }

    /** @param {Line} line */
    #try(line) {
        this.#ready.delete(line);
        this.#readySlow.delete(line);
        this.#outage.began(line);
        let isFresh = !line.isSlow;
        const endFresh = () => {
            if (isFresh) this.#fresh -= 1;
            isFresh = false;
        };
        if (isFresh) this.#fresh += 1;
        line.isSlow = false;
        const cancelSlow = this.#clock.after(SLOW_MS, () => {
            line.isSlow = true;
            endFresh();
            this.#next();
        });
        const done = this.#hand(line)
            .catch((error) => {
                this.#log.error('an event cannot be read from the journal', { reason: error.message });
                this.#failed(line, { outcome: 'later', reason: 'the journal cannot be read' });
            })
            .finally(() => {
                cancelSlow();
                endFresh();
                this.#tries.delete(done);
                this.#outage.ended(line);
                this.#report();
                this.#next();
            });
        this.#tries.add(done);
    }

    /** @param {Line} line */
    async #hand(line) {
        const entry = await this.#journal.get(line.cursor);
        if (entry === null) {
            // It had no more room for it, and has said so.
            this.#counts.dropped += 1;
            this.#settled(line);
            return;
        }
        const { event } = entry;
        const began = this.#clock.now();
        const since = line.triedAt ?? began;
        line.triedAt = began;
        const webhook = /** @type {import('./webhook').Webhook} */ (this.#webhook);
        const answer = await webhook.post(event.event_id, Buffer.from(JSON.stringify(event)));
        if (answer.outcome === 'delivered') this.#delivered(line);
        else if (!this.#closed) this.#failed(line, answer, since);
    }

    /** @param {Line} line */
    #delivered(line) {
        this.#counts.delivered += 1;
        this.#journal.settle(line.cursor, 'delivered');
        this.#settled(line);
        const [other] = this.#failing;
        this.#fault = other?.fault ?? null;
        this.#answered();
    }

    /** The web app works: all that waited for that continue. */
    #answered() {
        if (this.#isOutageSaid) {
            this.#isOutageSaid = false;
            this.#log.info('the web app takes events again', { pending: this.#journal.counts.pending });
        }
        for (const line of this.#outage.answered()) if (!line.isAsked) line.wake?.();
    }

    /**
     * @param {Line} line
     * @param {import('./webhook').Failure} answer
     * @param {number} [since] when that was tried first; undefined = it was not
     */
    #failed(line, { outcome, reason, retryAfterMs = null }, since) {
        this.#counts.failed += 1;
        this.#fault = { reason, at: this.#clock.date() };
        line.fault = this.#fault;
        this.#failing.add(line);
        if (outcome !== 'unreachable') line.tries += 1;
        if (outcome === 'refused') {
            line.refusals += 1;
            this.#answered();
        }
        const isOwn = outcome === 'refused' || since === undefined || this.#outage.isOwn(since);
        if (!isOwn) this.#noteOutage(line, outcome, reason, retryAfterMs);
        if (line.refusals >= MAX_REFUSALS || this.#leftMs(line) <= 0) {
            this.#warn('the web app does not take an event: it is given up, and kept', { reason });
            this.#giveUp(line);
            return;
        }
        if (outcome === 'unreachable' && !isOwn) {
            // All wait for the web app, not each for itself.
            this.#makeReady(line);
            return;
        }
        const longest = isOwn ? PAUSE_OWN_MAX_MS : PAUSE_MAX_MS;
        line.isAsked = retryAfterMs !== null;
        const pauseMs = retryAfterMs ?? Math.min(PAUSE_FIRST_MS * 2 ** Math.max(line.tries - 1, 0), longest);
        const ms = Math.min(Math.max(pauseMs, PAUSE_FIRST_MS), this.#leftMs(line));
        if (line.tries === 1 && outcome !== 'unreachable' && !this.#outage.isOn) {
            const retry = { reason, retry_in_s: Math.round(ms / 1000) };
            this.#warn('the web app did not take an event', retry);
        }
        this.#pause(line, ms);
    }

    /**
     * @param {Line} line
     * @param {import('./outage').Outcome} outcome
     * @param {string} reason
     * @param {number|null} retryAfterMs
     */
    #noteOutage(line, outcome, reason, retryAfterMs) {
        this.#outage.failed(line, outcome, retryAfterMs);
        if (!this.#outage.isOn) return;
        const { pending } = this.#journal.counts;
        if (!this.#isOutageSaid) {
            this.#isOutageSaid = this.#warn('the web app takes no events', { reason, pending });
        }
        let given = 0;
        for (const other of [...this.#ready, ...this.#readySlow]) {
            for (; other.length > 0 && this.#leftMs(other) <= 0; given += 1) this.#giveUp(other);
        }
        if (given > 0) this.#log.warning('events are given up, and kept', { events: given, reason });
    }

    /**
     * Log a warning, each text once a minute at most: a web app can fail many times a second. `more` says how
     * many were left out before it.
     *
     * @param {string} text
     * @param {object} fields
     * @returns {boolean} whether it was logged
     */
    #warn(text, fields) {
        const now = this.#clock.now();
        const last = this.#said.get(text);
        if (last !== undefined && now - last.at < SAID_MS) {
            last.more += 1;
            return false;
        }
        this.#said.set(text, { at: now, more: 0 });
        this.#log.warning(text, { ...fields, more: last?.more || undefined });
        return true;
    }

    /** How long the first one of a line will be tried yet, in milliseconds. @param {Line} line */
    #leftMs({ since }) {
        return since + this.#retryMs - this.#clock.date();
    }

    /**
     * @param {Line} line
     * @param {number} ms
     */
    #pause(line, ms) {
        const cancel = this.#clock.after(ms, () => line.wake?.());
        line.wake = () => {
            cancel();
            line.wake = null;
            if (this.#closed) return;
            this.#makeReady(line);
            this.#next();
        };
    }

    /** @param {Line} line */
    #giveUp(line) {
        this.#journal.settle(line.cursor, 'undelivered');
        this.#settled(line);
    }

    /** The first one of a line waits no longer; the next one may go. @param {Line} line */
    #settled(line) {
        line.drop();
        this.#failing.delete(line);
        if (line.length > 0) {
            this.#makeReady(line);
            return;
        }
        this.#lines.delete(line.chat);
        this.#ready.delete(line);
        this.#readySlow.delete(line);
    }

    /** @param {Line} line */
    #makeReady(line) {
        (line.isSlow ? this.#readySlow : this.#ready).add(line);
    }
}

module.exports = { Delivery };

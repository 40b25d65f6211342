'use strict';

/**
 * The journal of a user's events: each is written here before anything else happens to it, and read from
 * here by cursor, by the webhook's delivery as well as by callers that pull.
 *
 * A cursor is `SERIES-NUMBER`: numbers grow, with gaps; the series is another one once the journal was
 * erased.
 * Memory holds the place of each event on disk, not the event. Events that cannot be written stay in memory
 * until they can, and are read like the rest.
 *
 * Records, each an object with one of these members (records.js):
 *
 *     {entry: NUMBER, at: MS, event: {…}, free?: true}   an event; `free`: nobody waits for its delivery
 *     {settle: NUMBER, state: 0…2}                       the outcome of its delivery
 *     {amend: NUMBER, members: {…}}                      what was learned of it later
 *     {mark: {…}}                                        see `advance`; begins each segment
 */

const { EventEmitter } = require('node:events');

const { Records } = require('./records');
const { DELIVERED, FREE, PENDING, Rows, UNDELIVERED, hashOf, pack, unpack } = require('./rows');

/** What is known of the delivery of an event. */
const OUTCOMES = { delivered: DELIVERED, undelivered: UNDELIVERED };

/** The journal is kept in so many parts at least, of which the oldest is dropped as a whole. */
const PARTS = 16;
const PART_MIN_BYTES = 64 * 1024;
/** The last part is read as a whole when a server starts. */
const PART_MAX_BYTES = 1024 * 1024;
/** Numbers for each millisecond: one that was given out is never given again. */
const NUMBERS_PER_MS = 10;
/** The most bytes and events that are read from disk at a time, whatever the limit is. */
const READ_BYTES = 512 * 1024;
const READ_MAX = 1_000;
const PAGE_BYTES = 1024 * 1024;
const HOUR_MS = 3_600_000;

class JournalError extends Error {
    /**
     * @param {string} code `cursor_gone`: the cursor is of no event that is, or will be, in the journal
     * @param {string} message
     */
    constructor(code, message) {
        super(message);
        this.name = 'JournalError';
        this.code = code;
    }
}

/**
 * @typedef {import('./types').Entry} Entry
 * @typedef {import('./types').JournalEvent} JournalEvent
 * @typedef {import('./types').JournalMark} JournalMark
 * @typedef {import('./records').Segment<Part>} Segment
 * @typedef {import('./records').Place<Part>} Place
 * @typedef {Record<string, unknown>} Members
 */

/**
 * Records, as they are written.
 *
 * @typedef {{entry: number, at: number, event: JournalEvent, free?: boolean}} EntryRecord
 * @typedef {{settle: number, state: number}} Settling
 * @typedef {{amend: number, members: Members}} Amendment
 */

/**
 * The kept data of a full segment: columns are packed, as in rows.js.
 *
 * @typedef {object} Summary
 * @property {import('./rows').PackedRows} rows
 * @property {string} settled of events of earlier segments: number and state in turn
 * @property {[number: number, places: number[]][]} amended
 * @property {number} before
 * @property {JournalMark} mark
 */

/**
 * An event that is on its way to the disk, or one that was found to be there.
 *
 * @typedef {object} Unwritten
 * @property {string} id
 * @property {number} state
 * @property {boolean} isNew
 * @property {Entry} entry
 * @property {Promise<void>} promise
 */

/**
 * @param {unknown} value
 * @returns {value is Members}
 */
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
/**
 * @param {unknown} value
 * @returns {value is number}
 */
const isNumber = (value) => Number.isSafeInteger(value) && /** @type {number} */ (value) >= 0;
/**
 * @param {Members} record
 * @returns {record is Members & EntryRecord}
 */
const isEntry = (record) =>
    isNumber(record.entry) && typeof (/** @type {any} */ (record.event)?.event_id) === 'string';
const SETTLED = [PENDING, DELIVERED, UNDELIVERED];
/**
 * @param {Members} record
 * @returns {record is Members & Settling}
 */
const isSettling = (record) =>
    isNumber(record.settle) && SETTLED.includes(/** @type {number} */ (record.state));

/**
 * @param {unknown} value
 * @returns {value is JournalMark}
 */
const isMark = (value) => isObject(value);

/**
 * Put members over those of an object, and into its objects; neither is changed.
 *
 * @param {unknown} known
 * @param {unknown} members
 * @returns {unknown}
 */
function merge(known, members) {
    if (!isObject(known) || !isObject(members)) return members;
    const merged = Object.entries(members).map(([key, value]) => [
        key,
        Object.hasOwn(known, key) ? merge(known[key], value) : value,
    ]);
    return Object.fromEntries([...Object.entries(known), ...merged]);
}

/**
 * Which events are read, and from where.
 *
 * @typedef {object} Wanted
 * @property {string|null} [after] null: from the oldest on
 * @property {number} [limit] at most a thousand, and 1 MiB
 * @property {string[]|null} [events] only of these kinds
 * @property {string|null} [chat] only of the chat with this id
 */

/** What is known of one segment of the records. */
class Part {
    rows = new Rows();
    /** Places of additions to an event in this segment, by its number: offset and length in turn. */
    amended = /** @type {Map<number, number[]>} */ (new Map());
    /** What was settled in this segment, as number and state in turn; only until it is full. */
    settled = /** @type {number[]} */ ([]);
    /** The last number before this segment. */
    before = 0;
}

/**
 * Emits `append` (entry), `amend` (cursor, members), `settle` (cursor, outcome), `reopen`: some are pending
 * again, and `change`: the counts may have changed.
 */
class Journal extends EventEmitter {
    /** @type {Records<Part, Summary>} */
    #records;
    #maxAge;
    #maxBytes;
    #log;
    #awaits;
    /** @type {Promise<unknown>} */
    #loaded;
    #isLoaded = () => {};
    #next = 0;
    /** Events that are on their way to the disk, by their id. @type {Map<string, Unwritten>} */
    #unwritten = new Map();
    /** Those among them that the disk did not take, by number. @type {Map<number, Unwritten>} */
    #held = new Map();
    /** Additions that are on their way to the disk, by number. @type {Map<number, Members[]>} */
    #amending = new Map();
    /** @type {Set<() => void>} */
    #waiting = new Set();
    #tally = { pending: 0, undelivered: 0 };
    /** @type {JournalMark} */
    #mark = { from: null, until: null };
    /** @type {NodeJS.Timeout|undefined} */
    #timer;
    /** @type {Promise<void>|null} */
    #aging = null;
    /** @type {string|null} */
    #error = null;

    /**
     * @param {object} options
     * @param {string} options.directory nothing else is in it
     * @param {number} options.maxAge seconds
     * @param {number} options.maxBytes on disk; a sixteenth more may be there
     * @param {import('./types').Log} options.log
     * @param {number} [options.retryMs] how long after a failure the disk is asked again
     * @param {(event: JournalEvent) => boolean} [options.awaits] whether somebody waits for an event's
     *   delivery
     */
    constructor({ directory, maxAge, maxBytes, log, awaits = () => true, ...forTests }) {
        super();
        this.setMaxListeners(0);
        this.#maxAge = maxAge * 1000;
        this.#maxBytes = maxBytes;
        this.#log = log;
        this.#awaits = awaits;
        this.#loaded = new Promise((resolve) => {
            this.#isLoaded = () => resolve(undefined);
        });
        this.#records = new Records({
            directory,
            segmentBytes: Math.min(PART_MAX_BYTES, Math.max(PART_MIN_BYTES, maxBytes / PARTS)),
            log,
            owner: {
                begin: (segment) => this.#begin(segment),
                take: (record, place) => this.#take(record, place),
                restore: (segment, summary) => this.#restore(segment, summary),
                summarize: ({ data }) => this.#summarize(data),
                head: () => ({ mark: this.#mark, last: this.#last }),
                faulty: (error) => this.#faulty(error),
                lost: (record) => this.#lost(record),
            },
            ...forTests,
        });
    }

    /** Make a journal, and read what there is. @param {ConstructorParameters<typeof Journal>[0]} options */
    static async open(options) {
        const journal = new Journal(options);
        await journal.load();
        return journal;
    }

    /** Read what there is; what is asked for meanwhile waits. A damaged file is no error. */
    async load() {
        await this.#records.load();
        for (const { data } of this.#records.segments) this.#count(data.rows, 1);
        // Some events that were handed out may never have reached the disk.
        this.#next = Math.max(this.#last + 1, Date.now() * NUMBERS_PER_MS);
        this.#timer = setInterval(() => this.#age(), HOUR_MS).unref();
        this.#isLoaded();
        await this.#age();
        this.emit('change');
    }

    /** Resolves when that is done. */
    get loaded() {
        return this.#loaded;
    }

    // ---- what records.js reports -----------------------------------------------------------------

    /** @param {Segment} segment */
    #begin(segment) {
        const last = this.#records.segments.at(-2)?.data;
        segment.data = new Part();
        if (last !== undefined) segment.data.before = Math.max(last.rows.last, last.before);
        if (this.#timer !== undefined) setImmediate(() => this.#age());
    }

    /**
     * Take a record that was on disk before. Records that no server has written are skipped.
     *
     * @param {unknown} record
     * @param {Place} place
     */
    #take(record, place) {
        if (!isObject(record)) return;
        const { data } = place.segment;
        if (isEntry(record)) this.#index(record, place, record.free ? FREE : PENDING);
        else if (isSettling(record)) this.#setState(record.settle, record.state, data);
        else if (isNumber(record.amend)) this.#addPlace(record.amend, place);
        if (isMark(record.mark)) this.#mark = record.mark;
        if (isNumber(record.last)) data.before = Math.max(data.before, record.last);
    }

    /**
     * @param {EntryRecord} record
     * @param {Place} place
     * @param {number} state
     */
    #index({ entry, at, event }, { segment, offset, length }, state) {
        const hash = hashOf(event.event_id);
        const time = Math.floor(at / 1000);
        segment.data.rows.add({ number: entry, offset, length, hash, time, state });
    }

    /**
     * @param {number} number
     * @param {number} state
     * @param {Part} part
     */
    #setState(number, state, part) {
        part.settled.push(number, state);
        this.#setRow(number, state);
    }

    /**
     * @param {number} number
     * @param {number} state
     */
    #setRow(number, state) {
        const { rows, index } = this.#find(number);
        if (rows !== undefined && index >= 0) rows.state[index] = state;
    }

    /**
     * @param {number} number
     * @param {Place} place
     */
    #addPlace(number, { segment, offset, length }) {
        const { amended } = segment.data;
        amended.set(number, [...(amended.get(number) ?? []), offset, length]);
    }

    /**
     * @param {Part} part
     * @returns {Summary}
     */
    #summarize(part) {
        const { rows, amended, before } = part;
        /** @type {number[]} */
        const own = [];
        /** @type {number[]} */
        const earlier = [];
        for (let at = 0; at < part.settled.length; at += 2) {
            const [number, state] = [part.settled[at], part.settled[at + 1]];
            (rows.find(number) < 0 ? earlier : own).push(number, state);
        }
        part.settled = [];
        const settled = pack(Float64Array.from(earlier));
        return { rows: rows.pack(own), settled, amended: [...amended], before, mark: this.#mark };
    }

    /**
     * @param {Segment} segment
     * @param {Summary} summary
     */
    #restore({ data }, { rows, settled, amended, before, mark }) {
        data.rows = Rows.unpack(rows);
        data.amended = new Map(amended);
        data.before = before;
        this.#mark = mark;
        const pairs = unpack(settled, Float64Array);
        for (let index = 0; index < pairs.length; index += 2) {
            this.#setRow(pairs[index], pairs[index + 1]);
        }
    }

    /** @param {Error|null} error */
    #faulty(error) {
        this.#error = error === null ? null : `the journal cannot be written: ${error.message}`;
        this.emit('change');
    }

    /** @param {{entry?: number}} record */
    #lost({ entry }) {
        const held = entry === undefined ? undefined : this.#held.get(entry);
        if (entry === undefined || held === undefined) return;
        this.#log.error('an event is lost: the journal cannot be written', { cursor: held.entry.cursor });
        this.#forget(entry, held);
        this.#countOne(held.state, -1);
    }

    // ---- numbers ---------------------------------------------------------------------------------

    get #parts() {
        return this.#records.segments.map(({ data }) => data);
    }

    /** The last number that is on disk, or was. */
    get #last() {
        const last = this.#records.segments.at(-1)?.data;
        return last === undefined ? 0 : Math.max(last.rows.last, last.before);
    }

    /** The place of an event, -1 if it is not on disk. @param {number} number */
    #find(number) {
        const rows = this.#records.segments.findLast(({ data }) => data.rows.first <= number)?.data.rows;
        return { rows, index: rows?.find(number) ?? -1 };
    }

    /** @param {number} number */
    #cursor(number) {
        return `${this.#records.series}-${number}`;
    }

    /** The number of a cursor, -1 where it is none of this journal. @param {unknown} cursor */
    #number(cursor) {
        const text = typeof cursor === 'string' ? cursor : '';
        const [, series, digits] = /^([0-9a-z]+)-(\d{1,15})$/.exec(text) ?? [];
        return series === this.#records.series ? Number(digits) : -1;
    }

    /**
     * @param {Rows} rows
     * @param {1|-1} sign
     */
    #count(rows, sign) {
        this.#tally.pending += sign * rows.countOf(PENDING);
        this.#tally.undelivered += sign * rows.countOf(UNDELIVERED);
    }

    /**
     * @param {number} state
     * @param {1|-1} sign
     */
    #countOne(state, sign) {
        if (state === PENDING) this.#tally.pending += sign;
        if (state === UNDELIVERED) this.#tally.undelivered += sign;
    }

    // ---- writing ---------------------------------------------------------------------------------

    /**
     * Write an event, unless one with its `event_id` is there.
     *
     * @param {JournalEvent} event
     * @returns {Promise<Entry & {isNew: boolean}>} when it is on disk, or cannot be written now
     */
    async append(event) {
        const id = event.event_id;
        if (typeof id !== 'string') throw new TypeError('an event has no event_id');
        await this.#loaded;
        const other = this.#unwritten.get(id);
        if (other !== undefined) {
            await other.promise;
            return { ...other.entry, isNew: false };
        }
        // From now on: who comes next with the same finds it.
        const one = {
            ...{ id, state: this.#awaits(event) ? PENDING : FREE, isNew: true },
            entry: /** @type {any} */ (null),
            promise: /** @type {Promise<void>} */ (Promise.resolve()),
        };
        this.#unwritten.set(id, one);
        one.promise = this.#put(one, event);
        await one.promise;
        return { ...one.entry, isNew: one.isNew };
    }

    /**
     * @param {Unwritten} one
     * @param {JournalEvent} event
     */
    async #put(one, event) {
        const alike = this.#alike(one.id);
        const known = alike.length === 0 ? null : await this.#search(one.id, alike);
        if (known !== null) {
            this.#unwritten.delete(one.id);
            Object.assign(one, { entry: known, isNew: false });
            return;
        }
        const at = Date.now();
        const number = this.#next;
        this.#next += 1;
        one.entry = { cursor: this.#cursor(number), event, at };
        this.#countOne(one.state, 1);
        const record = { entry: number, at, event, ...(one.state === FREE ? { free: true } : {}) };
        const place = await this.#records.append(record, {
            written: (written) => {
                this.#index(record, written, one.state);
                this.#forget(number, one);
            },
        });
        if (place === null && this.#unwritten.get(one.id) === one) this.#held.set(number, one);
        this.#wake();
        this.emit('append', one.entry);
        this.emit('change');
    }

    /**
     * @param {number} number
     * @param {Unwritten} one
     */
    #forget(number, { id }) {
        this.#held.delete(number);
        this.#unwritten.delete(id);
    }

    /** Places of events that may have that id, the newest first. @param {string} id */
    #alike(id) {
        const hash = hashOf(id);
        return this.#records.segments
            .flatMap((segment) => [...segment.data.rows.like(hash)].map((index) => ({ segment, index })))
            .reverse();
    }

    /**
     * @param {string} id
     * @param {{segment: Segment, index: number}[]} alike
     */
    async #search(id, alike) {
        for (const { segment, index } of alike) {
            const [entry] = await this.#readRows(segment, [index]);
            if (entry?.event.event_id === id) return entry;
        }
        return null;
    }

    /** Return whether an event with this id is in the journal. @param {string} id */
    async has(id) {
        await this.#loaded;
        return this.#unwritten.has(id) || (await this.#search(id, this.#alike(id))) !== null;
    }

    /**
     * Add later data to an event: over its members, and into its objects. Nothing is noted for an event that
     * is gone.
     *
     * @param {string} cursor
     * @param {Members} members
     */
    amend(cursor, members) {
        const number = this.#number(cursor);
        if (!this.#isThere(number)) return;
        const held = this.#held.get(number);
        if (held !== undefined) {
            const event = /** @type {JournalEvent} */ (merge(held.entry.event, members));
            held.entry = { ...held.entry, event };
        }
        const underWay = this.#amending.get(number) ?? [];
        underWay.push(members);
        this.#amending.set(number, underWay);
        this.#records.append(
            { amend: number, members },
            {
                written: (place) => {
                    this.#addPlace(number, place);
                    underWay.shift();
                    if (underWay.length === 0) this.#amending.delete(number);
                },
            },
        );
        this.emit('amend', cursor, members);
    }

    /** @param {number} number */
    #isThere(number) {
        return this.#held.has(number) || this.#find(number).index >= 0;
    }

    /**
     * Note the outcome of an event's delivery. After a power loss it may be lost: then the event is delivered
     * once more.
     *
     * @param {string} cursor
     * @param {keyof typeof OUTCOMES} outcome `undelivered`: given up, and kept
     */
    settle(cursor, outcome) {
        const state = OUTCOMES[outcome];
        if (state === undefined) throw new TypeError(`no such outcome: ${outcome}`);
        if (!this.#change(this.#number(cursor), state)) return;
        this.emit('settle', cursor, outcome);
        this.emit('change');
    }

    /**
     * @param {number} number
     * @param {number} state
     */
    #change(number, state) {
        const held = this.#held.get(number);
        const { rows, index } = this.#find(number);
        const before = held?.state ?? rows?.state[index];
        if (before === undefined || before === state) return false;
        this.#countOne(before, -1);
        this.#countOne(state, 1);
        if (held !== undefined) held.state = state;
        else if (rows !== undefined) rows.state[index] = state;
        this.#records.append(
            { settle: number, state },
            {
                isLasting: false,
                written: ({ segment }) => segment.data.settled.push(number, state),
            },
        );
        return true;
    }

    /**
     * Have events delivered that were given up.
     *
     * @param {{cursor?: string, all?: boolean}} which
     * @returns {Promise<string[]>} their cursors
     */
    async reopen({ cursor = '', all = false }) {
        await this.#loaded;
        const numbers = all ? [...this.#numbersIn(UNDELIVERED)] : [this.#number(cursor)];
        const reopened = numbers.filter((number) => this.#reopen(number));
        if (reopened.length > 0) {
            this.emit('reopen');
            this.emit('change');
        }
        return reopened.map((number) => this.#cursor(number));
    }

    /** @param {number} state */
    *#numbersIn(state) {
        for (const { rows } of this.#parts) {
            for (let index = 0; index < rows.count; index += 1) {
                if (rows.state[index] === state) yield rows.of('number', index);
            }
        }
        for (const [number, held] of this.#held) if (held.state === state) yield number;
    }

    /** @param {number} number */
    #reopen(number) {
        const { rows, index } = this.#find(number);
        const state = this.#held.get(number)?.state ?? rows?.state[index];
        return state === UNDELIVERED && this.#change(number, PENDING);
    }

    // ---- reading ---------------------------------------------------------------------------------

    /**
     * Read events after a cursor, oldest first.
     *
     * @param {Wanted} options
     * @returns {Promise<{entries: Entry[], next: string, more: boolean}>} `next` is the cursor to
     *   continue with, `more` whether there is something after it now, also if no entry was found
     * @throws {JournalError} `cursor_gone`
     */
    read(options = {}) {
        return this.#page(options, null);
    }

    /**
     * Read, as `read` does, the events whose delivery is neither done nor given up.
     *
     * @param {Wanted} options
     */
    pending(options = {}) {
        return this.#page(options, PENDING);
    }

    /** Read, as `read` does, the events that were given up, and that are kept. @param {Wanted} options */
    undelivered(options = {}) {
        return this.#page(options, UNDELIVERED);
    }

    /** Return one entry, null where it is not there. @param {string|undefined} cursor */
    async get(cursor) {
        await this.#loaded;
        const number = this.#number(cursor);
        const held = this.#held.get(number);
        if (held !== undefined) return held.entry;
        for (const segment of this.#records.segments) {
            const index = segment.data.rows.find(number);
            if (index >= 0) return (await this.#readRows(segment, [index]))[0] ?? null;
        }
        return null;
    }

    /** The cursor of the newest event that can be read. */
    get newest() {
        return this.#cursor(Math.max(this.#last, this.#lastHeld));
    }

    /**
     * Wait until there is something after a cursor.
     *
     * @param {string|null|undefined} after
     * @param {number} ms at most
     * @param {AbortSignal} [signal] ends it early
     * @returns {Promise<boolean>} whether there is
     * @throws {JournalError} `cursor_gone`
     */
    async wait(after, ms, signal) {
        await this.#loaded;
        const number = this.#start(after);
        if (this.#hasAfter(number)) return true;
        /** @type {Promise<void>} */
        const woken = new Promise((resolve) => {
            const timer = setTimeout(done, ms);
            const waiting = this.#waiting;
            function done() {
                clearTimeout(timer);
                waiting.delete(done);
                signal?.removeEventListener('abort', done);
                resolve();
            }
            waiting.add(done);
            if (signal?.aborted) done();
            else signal?.addEventListener('abort', done);
        });
        await woken;
        return this.#hasAfter(number);
    }

    #wake() {
        for (const done of [...this.#waiting]) done();
    }

    /** The number that a reader is at. @param {string|null|undefined} cursor */
    #start(cursor) {
        const first = this.#records.segments[0]?.data.before ?? 0;
        if (cursor === null || cursor === undefined || cursor === '') return first;
        const number = this.#number(cursor);
        if (number < first || number >= this.#next) {
            throw new JournalError('cursor_gone', 'the journal no longer has this cursor: start without one');
        }
        return number;
    }

    /** @param {number} number */
    #hasAfter(number) {
        return this.#parts.some(({ rows }) => rows.last > number) || this.#lastHeld > number;
    }

    get #lastHeld() {
        return [...this.#held.keys()].at(-1) ?? 0;
    }

    /**
     * @param {Wanted} wanted
     * @param {number|null} state null = any
     */
    async #page({ after = null, limit = 100, events = null, chat = null }, state) {
        await this.#loaded;
        let position = this.#start(after);
        const most = Math.min(limit, READ_MAX);
        /** @type {Entry[]} */
        const entries = [];
        let bytes = 0;
        const fits = (/** @type {Entry} */ { event }) =>
            (events === null || events.includes(event.event)) && (chat === null || event.chat?.id === chat);
        while (entries.length < most && bytes < PAGE_BYTES) {
            const step = this.#stepAfter(position, state, most - entries.length);
            if (step === null) break;
            const found = await step.read();
            entries.push(...found.filter((entry) => entry !== null).filter(fits));
            position = step.last;
            bytes += step.bytes;
        }
        return { entries, next: this.#cursor(position), more: this.#hasAfter(position) };
    }

    /**
     * Return what to read next: rows that are near one another, or those only in memory; null = nothing. Of
     * unwanted rows only the numbers are passed.
     *
     * @param {number} position
     * @param {number|null} state
     * @param {number} most
     */
    #stepAfter(position, state, most) {
        for (const segment of this.#records.segments) {
            const { rows } = segment.data;
            if (rows.last <= position) continue;
            /** @type {number[]} */
            const indexes = [];
            let index = rows.after(position);
            let bytes = 0;
            for (; index < rows.count && indexes.length < most && bytes < READ_BYTES; index += 1) {
                if (state !== null && rows.state[index] !== state) continue;
                indexes.push(index);
                const { offset, length } = rows.place(index);
                bytes = offset + length - rows.of('offset', indexes[0]);
            }
            return {
                bytes,
                last: rows.of('number', index - 1),
                read: () => this.#readRows(segment, indexes),
            };
        }
        const held = [...this.#held].filter(([number]) => number > position).slice(0, most);
        if (held.length === 0) return null;
        const wanted = held.filter(([, one]) => state === null || one.state === state);
        return {
            bytes: 0,
            last: held[held.length - 1][0],
            read: async () => wanted.map(([, one]) => one.entry),
        };
    }

    /**
     * Read the events of some rows of a segment; null for one that is damaged, or of a dropped segment.
     *
     * @param {Segment} segment
     * @param {number[]} indexes
     */
    async #readRows(segment, indexes) {
        const { rows } = segment.data;
        const places = indexes.map((index) => rows.place(index));
        const numbers = indexes.map((index) => rows.of('number', index));
        const records = /** @type {(EntryRecord|null)[]} */ (await this.#records.read(segment, places));
        const entries = [];
        for (const [nth, number] of numbers.entries()) {
            const record = records[nth];
            const isIt = record?.entry === number;
            entries.push(
                isIt
                    ? {
                          cursor: this.#cursor(number),
                          event: await this.#amended(number, record.event),
                          at: record.at,
                      }
                    : null,
            );
        }
        return entries;
    }

    /**
     * @param {number} number
     * @param {JournalEvent} event
     */
    async #amended(number, event) {
        /** @type {unknown} */
        let amended = event;
        for (const segment of [...this.#records.segments]) {
            const places = segment.data.amended.get(number) ?? [];
            for (let index = 0; index < places.length; index += 2) {
                const [offset, length] = places.slice(index, index + 2);
                const records = await this.#records.read(segment, [{ offset, length }]);
                const [record] = /** @type {(Amendment|null)[]} */ (records);
                if (record?.amend === number) amended = merge(amended, record.members);
            }
        }
        for (const members of this.#amending.get(number) ?? []) amended = merge(amended, members);
        return /** @type {JournalEvent} */ (amended);
    }

    // ---- what is known of all --------------------------------------------------------------------

    /**
     * `{entries, bytes, oldest_at, pending, pending_at, undelivered, error}`: times are those of the oldest,
     * in milliseconds, or null; `error` says why nothing is written now, or is null.
     */
    get counts() {
        const parts = this.#parts;
        const first = parts.find(({ rows }) => rows.count > 0);
        const waiting = this.#tally.pending === 0 ? [] : parts;
        const isPending = (/** @type {Part} */ { rows }) =>
            rows.state.subarray(0, rows.count).includes(PENDING);
        const oldest = waiting.find(isPending);
        const [held] = this.#held.values();
        const heldPending = [...this.#held.values()].find((one) => one.state === PENDING);
        return {
            entries: parts.reduce((sum, { rows }) => sum + rows.count, 0) + this.#held.size,
            bytes: this.#records.bytes,
            oldest_at: first === undefined ? (held?.entry.at ?? null) : first.rows.timeOf(0),
            pending: this.#tally.pending,
            pending_at:
                oldest === undefined
                    ? (heldPending?.entry.at ?? null)
                    : oldest.rows.timeOf(oldest.rows.state.indexOf(PENDING)),
            undelivered: this.#tally.undelivered,
            error: this.#error,
        };
    }

    /**
     * `{from, until}` in milliseconds, each null if it was never set: no message from before `from` is
     * wanted, and none until `until` is missing.
     */
    get mark() {
        return this.#mark;
    }

    /**
     * Note that the mark is another one; it is written with the next event, or at the end.
     *
     * @param {Partial<JournalMark>} mark
     */
    async advance(mark) {
        await this.#loaded;
        this.#mark = { ...this.#mark, ...mark };
        await this.#records.append({ mark: this.#mark }, { isLasting: false });
    }

    // ---- bounds and the end ----------------------------------------------------------------------

    /** Drop what is too old or too much. Never rejects. */
    #age() {
        this.#aging ??= this.#dropOld()
            .catch((error) => this.#log.error('the journal is not shortened', { reason: error.message }))
            .finally(() => {
                this.#aging = null;
            });
        return this.#aging;
    }

    async #dropOld() {
        const { segments } = this.#records;
        const now = Date.now();
        const newest = segments.at(-1)?.data.rows;
        if (newest !== undefined && newest.count > 0) {
            // A part is as old as its newest event.
            if (newest.timeOf(0) < now - this.#maxAge / PARTS) this.#records.roll();
            if (newest.timeOf(newest.count - 1) < now - this.#maxAge) {
                await this.#records.append({ mark: this.#mark });
            }
        }
        const isOld = (/** @type {Rows} */ rows) =>
            rows.count === 0 || rows.timeOf(rows.count - 1) < now - this.#maxAge;
        const isOver = () => this.#records.bytes > this.#maxBytes || isOld(segments[0].data.rows);
        while (segments.length > 1 && isOver()) await this.#drop();
    }

    async #drop() {
        const { rows } = this.#records.segments[0].data;
        const lost = rows.countOf(PENDING) + rows.countOf(UNDELIVERED);
        this.#count(rows, -1);
        if (lost > 0) this.#log.warning('events are dropped undelivered: too old, or too many', { lost });
        await this.#records.drop();
        this.emit('change');
    }

    /** Delete all events. Those that come after it are in memory only. */
    async erase() {
        await this.#end();
        await this.#records.erase();
        this.#tally = { pending: 0, undelivered: 0 };
        this.#held.clear();
        this.#unwritten.clear();
        this.#amending.clear();
        this.#mark = { from: null, until: null };
        this.#wake();
        this.emit('change');
    }

    /** Write what waits, and nothing more. */
    async close() {
        await this.#end();
        this.#wake();
        await this.#records.close();
    }

    async #end() {
        await this.#loaded;
        clearInterval(this.#timer);
        this.#timer = undefined;
        await this.#aging;
    }
}

module.exports = { Journal, JournalError };

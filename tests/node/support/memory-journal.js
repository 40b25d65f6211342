'use strict';

/** What delivery asks of a journal (server/journal.js), in memory. */

/**
 * @typedef {import('../../../server/types').Entry} Entry
 * @typedef {import('../../../server/types').JournalEvent} JournalEvent
 * @typedef {'pending'|'delivered'|'undelivered'} State
 */

class MemoryJournal {
    /** @type {Map<string, {entry: Entry, state: State}>} */
    #rows = new Map();
    #next = 1;
    #date;

    /** @param {() => number} date milliseconds since the epoch */
    constructor(date = Date.now) {
        this.#date = date;
    }

    /** @param {Partial<JournalEvent>} event */
    add(event) {
        const cursor = `m-${this.#next}`;
        const event_id = `evt_${this.#next}`;
        this.#next += 1;
        const entry = { cursor, at: this.#date(), event: { event: 'message', event_id, ...event } };
        this.#rows.set(cursor, { entry, state: 'pending' });
        return entry;
    }

    /** Forget an entry, as one does that has no room. @param {string} cursor */
    forget(cursor) {
        this.#rows.delete(cursor);
    }

    /** @param {State} state */
    in(state) {
        return [...this.#rows.values()].filter((row) => row.state === state).map(({ entry }) => entry);
    }

    get newest() {
        return `m-${this.#next - 1}`;
    }

    get counts() {
        const pending = this.in('pending');
        const undelivered = this.in('undelivered').length;
        return { pending: pending.length, pending_at: pending[0]?.at ?? null, undelivered };
    }

    /** @param {string} cursor */
    async get(cursor) {
        return this.#rows.get(cursor)?.entry ?? null;
    }

    /** @param {{after: string|null, limit: number}} options */
    async pending({ after, limit }) {
        const number = (/** @type {string|null} */ cursor) => (cursor === null ? 0 : Number(cursor.slice(2)));
        const rest = this.in('pending').filter(({ cursor }) => number(cursor) > number(after));
        const entries = rest.slice(0, limit);
        return { entries, next: entries.at(-1)?.cursor ?? after ?? 'm-0', more: rest.length > limit };
    }

    /**
     * @param {string} cursor
     * @param {State} outcome
     */
    settle(cursor, outcome) {
        const row = this.#rows.get(cursor);
        if (row !== undefined) row.state = outcome;
    }

    /** @param {{cursor?: string, all?: boolean}} which */
    async reopen({ cursor, all }) {
        const given = this.in('undelivered').filter((entry) => all || entry.cursor === cursor);
        given.forEach((entry) => this.settle(entry.cursor, 'pending'));
        return given.map((entry) => entry.cursor);
    }
}

module.exports = { MemoryJournal };

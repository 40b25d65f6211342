'use strict';

/** What delivery asks of a journal (server/journal.js), in memory. */

class MemoryJournal {
    #rows = new Map();
    #next = 1;
    #date;

    /** @param {() => number} date milliseconds since the epoch */
    constructor(date = Date.now) {
        this.#date = date;
    }

    add(event) {
        const cursor = `m-${this.#next}`;
        const event_id = `evt_${this.#next}`;
        this.#next += 1;
        const entry = { cursor, at: this.#date(), event: { event: 'message', event_id, ...event } };
        this.#rows.set(cursor, { entry, state: 'pending' });
        return entry;
    }

    /** Forget an entry, as one does that has no room. */
    forget(cursor) {
        this.#rows.delete(cursor);
    }

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

    async get(cursor) {
        return this.#rows.get(cursor)?.entry ?? null;
    }

    async pending({ after, limit }) {
        const number = (cursor) => (cursor === null ? 0 : Number(cursor.slice(2)));
        const rest = this.in('pending').filter(({ cursor }) => number(cursor) > number(after));
        const entries = rest.slice(0, limit);
        return { entries, next: entries.at(-1)?.cursor ?? after ?? 'm-0', more: rest.length > limit };
    }

    settle(cursor, outcome) {
        const row = this.#rows.get(cursor);
        if (row !== undefined) row.state = outcome;
    }

    async reopen({ cursor, all }) {
        const given = this.in('undelivered').filter((entry) => all || entry.cursor === cursor);
        given.forEach((entry) => this.settle(entry.cursor, 'pending'));
        return given.map((entry) => entry.cursor);
    }
}

module.exports = { MemoryJournal };

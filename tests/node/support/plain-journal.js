'use strict';

/**
 * @typedef {import('../../../server/types').Entry} Entry
 * @typedef {import('../../../server/types').JournalEvent} JournalEvent
 */

/** As a journal, but in memory: what is written to it and amended. */
class PlainJournal {
    /** @type {Entry[]} */
    entries = [];
    /** @type {[cursor: string, members: Record<string, unknown>][]} */
    amended = [];

    /** @param {JournalEvent} event */
    async append(event) {
        const known = this.entries.find((each) => each.event.event_id === event.event_id);
        if (known !== undefined) return { ...known, isNew: false };
        const entry = { cursor: `1-${this.entries.length}`, event, at: 7 };
        this.entries.push(entry);
        await null;
        return { ...entry, isNew: true };
    }

    /**
     * @param {string} cursor
     * @param {Record<string, unknown>} members
     */
    amend(cursor, members) {
        this.amended.push([cursor, members]);
    }
}

module.exports = { PlainJournal };

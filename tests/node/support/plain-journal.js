'use strict';

/** As a journal, but in memory: what is written to it and amended. */
class PlainJournal {
    entries = [];
    amended = [];

    async append(event) {
        const known = this.entries.find((each) => each.event.event_id === event.event_id);
        if (known !== undefined) return { ...known, isNew: false };
        const entry = { cursor: `1-${this.entries.length}`, event, at: 7 };
        this.entries.push(entry);
        await null;
        return { ...entry, isNew: true };
    }

    amend(cursor, members) {
        this.amended.push([cursor, members]);
    }
}

module.exports = { PlainJournal };

'use strict';

/**
 * How large an event may be. Anyone who writes to an account chooses its content, and each event is whole in
 * memory, here and at each reader. Pure functions.
 */

/** All of it as JSON, in bytes. */
const MOST_BYTES = 1024 * 1024;
/** Limits of one text, as in WhatsApp's own page, and of one list, as in the largest groups. */
const MOST_CHARACTERS = 65_536;
const MOST_ENTRIES = 5_000;

/** A text without what is too much, and without half a character at its end. */
const shortened = (/** @type {string} */ text, /** @type {number} */ most) =>
    text.slice(0, most).replace(/[\ud800-\udbff]$/, '');

/** Makes copies in which each text and list is so long at most. */
class Cut {
    /** Names of what was cut, and the characters that are left. */
    /** @type {Set<string>} */
    names = new Set();
    characters = 0;
    #most;

    /** @param {{characters: number, entries: number}} most of one text, and of one list */
    constructor(most) {
        this.#most = most;
    }

    /**
     * @param {unknown} value
     * @param {string[]} path the names that lead to it
     * @returns {unknown}
     */
    of(value, path = []) {
        if (typeof value === 'string') return this.#text(value, path);
        if (Array.isArray(value)) {
            if (value.length > this.#most.entries) this.names.add(path.join('.'));
            return value.slice(0, this.#most.entries).map((each) => this.of(each, path));
        }
        if (typeof value !== 'object' || value === null) return value;
        const members = Object.entries(value).map(([name, each]) => [name, this.of(each, [...path, name])]);
        return Object.fromEntries(members);
    }

    /**
     * @param {string} text
     * @param {string[]} path
     */
    #text(text, path) {
        const isLong = text.length > this.#most.characters;
        if (isLong) this.names.add(path.join('.'));
        const kept = isLong ? shortened(text, this.#most.characters) : text;
        this.characters += kept.length;
        return kept;
    }
}

/**
 * Return an event that is not too large.
 *
 * @template {{}} Event
 * @param {Event} event of plain values
 * @returns {Event & {truncated?: string[]}} the same where it is not; else with what is too long cut,
 *   and `truncated`: the names of its members in which something is missing, such as `contacts.vcard`
 */
function bounded(event) {
    // Nearly all are far smaller.
    if (JSON.stringify(event).length <= MOST_CHARACTERS) return event;
    for (let part = 1; ; part *= 2) {
        const cut = new Cut({ characters: MOST_CHARACTERS / part, entries: Math.ceil(MOST_ENTRIES / part) });
        const made = /** @type {Event & {truncated?: string[]}} */ (cut.of(event));
        if (cut.names.size > 0) made.truncated = [...cut.names];
        // That they are too many is known before it is written.
        if (cut.characters > MOST_BYTES || Buffer.byteLength(JSON.stringify(made)) > MOST_BYTES) continue;
        return cut.names.size > 0 ? made : event;
    }
}

module.exports = { MOST_BYTES, bounded };

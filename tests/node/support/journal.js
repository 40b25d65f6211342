'use strict';

/** Journals to be written by tests. */

const path = require('node:path');

const { Journal } = require('../../../server/journal');
const { scratch } = require('./process');

/**
 * @typedef {import('node:test').TestContext} TestContext
 * @typedef {import('../../../server/types').JournalEvent} JournalEvent
 * @typedef {import('../../../server/types').Entry} Entry
 * @typedef {ConstructorParameters<typeof Journal>[0]} JournalOptions
 */

const quiet = { error: () => {}, warning: () => {}, info: () => {}, debug: () => {} };

/** A log that keeps what it gets: one line for each. */
function listening() {
    /** @type {string[]} */
    const lines = [];
    const hear =
        (/** @type {string} */ level) =>
        (/** @type {string} */ text, fields = {}) =>
            lines.push(`${level}: ${text} ${JSON.stringify(fields)}`);
    return {
        lines,
        error: hear('error'),
        warning: hear('warning'),
        info: hear('info'),
        debug: hear('debug'),
    };
}

/**
 * The event of a message.
 *
 * @param {string} name
 * @param {Partial<JournalEvent>} members
 * @returns {JournalEvent}
 */
function event(name, members = {}) {
    const body = `text of ${name}, with "quotes", a\nnew line and ünïcödé`;
    return { event: 'message', event_id: `message:${name}`, chat: { id: 'a@c.us' }, body, ...members };
}

/**
 * Where a test has its journal, and the means to open it again and again.
 *
 * @param {TestContext} t
 * @param {Partial<JournalOptions>} options
 */
function newPlace(t, options = {}) {
    const directory = path.join(scratch(t), '.wwebjs_auth_5002', 'messages');
    const all = { directory, maxAge: 7 * 86_400, maxBytes: 64 * 1024 * 1024, log: quiet, ...options };
    const open = async (/** @type {Partial<JournalOptions>} */ more = {}) => {
        const journal = await Journal.open({ ...all, ...more });
        t.after(() => journal.close());
        return journal;
    };
    return { directory, open };
}

/**
 * All events that a journal has, page by page.
 *
 * @param {Journal} journal
 * @param {import('../../../server/journal').Wanted} options
 */
async function readAll(journal, options = {}) {
    /** @type {Entry[]} */
    const entries = [];
    /** @type {string|null} */
    let after = null;
    for (let more = true; more;) {
        const page = await journal.read({ limit: 1000, ...options, after });
        entries.push(...page.entries);
        ({ more, next: after } = page);
    }
    return entries;
}

const idsOf = (/** @type {Entry[]} */ entries) =>
    entries.map((entry) => entry.event.event_id.replace('message:', ''));

module.exports = { event, idsOf, listening, newPlace, quiet, readAll };

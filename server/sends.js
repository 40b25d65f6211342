'use strict';

/**
 * Which sends have begun, by their idempotency key: on disk before a message is handed over, so that a call
 * repeated after a kill, a restart or a move gets the first message, and sends no second one. No text of a
 * message is kept.
 *
 * An append-only file of lines, each a checksum and JSON; a last line cut off by a crash is skipped. The file
 * is rewritten when most of it is no longer needed.
 */

const { createHash } = require('node:crypto');
const { readFileSync } = require('node:fs');
const fs = require('node:fs/promises');
const path = require('node:path');

const { makeBoth, sync } = require('./disk');
const { codeOf, messageOf } = require('./errors');

/** How long a key is known, in milliseconds. */
const KEPT_MS = 24 * 60 * 60 * 1000;
/** The most keys that are kept; older ones are dropped before their time. */
const MOST_KEPT = 50_000;
/** So many unneeded lines may be in the file, beyond the number of needed ones. */
const MOST_WASTE = 1_000;

const FILE = 'sends';

/**
 * The kept data of a send. `print` is equal for equal calls; `others`: of a forwarded message, the
 * copies that were in the chat already; `copy`: the id under which the page forwarded it, or null; `sent`:
 * whether WhatsApp's server is known to have the message.
 *
 * @typedef {object} Send
 * @property {string} key
 * @property {string} print
 * @property {string} chat
 * @property {string} id
 * @property {number} at milliseconds
 * @property {string[]} [others]
 * @property {boolean} [sent]
 * @property {string|null} [copy]
 */

/** A line of the file. @typedef {Partial<Send> & {key: string, forgotten?: boolean}} SendRecord */

const checksum = (/** @type {string} */ text) => createHash('sha256').update(text).digest('hex').slice(0, 12);
const lineOf = (/** @type {SendRecord} */ record) => {
    const text = JSON.stringify(record);
    return `${checksum(text)} ${text}\n`;
};

/**
 * Return what a line holds; null where it is damaged.
 *
 * @param {string} line
 * @returns {SendRecord|null}
 */
function readLine(line) {
    const text = line.slice(13);
    if (line.slice(0, 12) !== checksum(text)) return null;
    try {
        return JSON.parse(text);
    } catch {
        return null;
    }
}

class Sends {
    #directory;
    #log;
    #now;
    /** By key, oldest first. @type {Map<string, Send>} */
    #kept = new Map();
    #lines = 0;
    /** @type {import('node:fs/promises').FileHandle|null} */
    #handle = null;
    /** @type {{record: SendRecord, resolve: () => void, reject: (error: unknown) => void}[]} */
    #waiting = [];
    /** @type {Promise<void>|null} */
    #writing = null;

    /**
     * Read what was kept. Never fails: a file that cannot be read is reported, and replaced.
     *
     * @param {object} options
     * @param {string} options.directory the folder of the user's messages; it is made when something is to be
     *   kept
     * @param {Pick<import('./types').Log, 'warning'>} options.log
     * @param {() => number} [options.now]
     */
    constructor({ directory, log, now = Date.now }) {
        this.#directory = directory;
        this.#log = log;
        this.#now = now;
        this.#read();
    }

    get #file() {
        return path.join(this.#directory, FILE);
    }

    #read() {
        /** @type {string[]} */
        let lines = [];
        try {
            lines = readFileSync(this.#file, 'utf8').split('\n').slice(0, -1);
        } catch (error) {
            if (codeOf(error) !== 'ENOENT') {
                this.#log.warning('sends cannot be read', { reason: messageOf(error) });
            }
        }
        let damaged = 0;
        for (const line of lines) {
            const record = readLine(line);
            if (record === null) damaged += 1;
            else this.#apply(record);
        }
        // The rest of a last line would be taken for the beginning of the next.
        this.#lines = Infinity;
        if (damaged > 0) this.#log.warning('sends that cannot be read are passed over', { lines: damaged });
        this.#trim();
    }

    /** @param {SendRecord} record */
    #apply({ key, ...given }) {
        if (given.forgotten) this.#kept.delete(key);
        else if (given.id !== undefined || this.#kept.has(key))
            this.#kept.set(key, /** @type {Send} */ ({ ...this.#kept.get(key), key, ...given }));
    }

    #trim() {
        const oldest = this.#now() - KEPT_MS;
        for (const [key, { at }] of this.#kept) {
            if (at >= oldest && this.#kept.size <= MOST_KEPT) break;
            this.#kept.delete(key);
        }
    }

    /** Return what is known of a key, or undefined. @param {string} key */
    find(key) {
        this.#trim();
        return this.#kept.get(key);
    }

    /** Return whether a message was begun under a key. @param {string} id */
    has(id) {
        return [...this.#kept.values()].some((each) => each.id === id || each.copy === id);
    }

    /** The ids of messages that were forwarded under a key. */
    copies() {
        return [...this.#kept.values()].flatMap(({ copy }) => (copy ? [copy] : []));
    }

    /**
     * Keep that a message is about to be handed over. Resolves when it is on the disk.
     *
     * @param {Pick<Send, 'key'|'print'|'chat'|'id'|'others'>} send
     * @throws {Error} the disk does not take it
     */
    begin(send) {
        return this.#write({ ...send, at: this.#now() });
    }

    /**
     * Keep the outcome of a message. If the disk does not take it, the page can be asked again.
     *
     * @param {string} key
     * @param {Pick<Send, 'sent'|'copy'>} what
     */
    async settle(key, what = { sent: true }) {
        this.#apply({ key, ...what });
        await this.#write({ key, ...what }).catch(() => {});
    }

    /** The message was not handed over: the key is free again. @param {string} key */
    async forget(key) {
        await this.#write({ key, forgotten: true }).catch(() => {});
    }

    /** Wait for what is being written, and close the file. */
    async close() {
        while (this.#writing !== null) await this.#writing;
        await this.#handle?.close();
        this.#handle = null;
    }

    /**
     * Records that come while the disk is busy are written together.
     *
     * @param {SendRecord} record
     * @returns {Promise<void>}
     */
    #write(record) {
        /** @type {Promise<void>} */
        const written = new Promise((resolve, reject) => {
            this.#waiting.push({ record, resolve, reject });
        });
        this.#writing ??= this.#writeAll();
        return written;
    }

    async #writeAll() {
        while (this.#waiting.length > 0) {
            const batch = this.#waiting;
            this.#waiting = [];
            try {
                await this.#append(batch.map(({ record }) => record));
                for (const { record, resolve } of batch) {
                    this.#apply(record);
                    resolve();
                }
            } catch (error) {
                // Half a line may be in it.
                this.#lines = Infinity;
                for (const { reject } of batch) reject(error);
            }
        }
        // In the same turn: whatever comes from now on goes to the new file.
        this.#writing = null;
    }

    /** @param {SendRecord[]} records */
    async #append(records) {
        this.#trim();
        const isWasteful = this.#lines > 2 * this.#kept.size + MOST_WASTE;
        const handle = isWasteful || this.#handle === null ? await this.#rewrite() : this.#handle;
        await handle.appendFile(records.map(lineOf).join(''));
        await handle.datasync();
        this.#lines += records.length;
    }

    async #rewrite() {
        await this.#handle?.close();
        this.#handle = null;
        await makeBoth(this.#directory);
        const temporary = `${this.#file}.new`;
        const handle = await fs.open(temporary, 'w', 0o600);
        try {
            await handle.appendFile([...this.#kept.values()].map(lineOf).join(''));
            await handle.datasync();
            await fs.rename(temporary, this.#file);
            await sync(this.#directory);
        } catch (error) {
            await handle.close();
            throw error;
        }
        this.#handle = handle;
        this.#lines = this.#kept.size;
        return handle;
    }
}

module.exports = { KEPT_MS, Sends };

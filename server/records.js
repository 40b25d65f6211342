'use strict';

/**
 * Records that outlive the process: JSON objects in files of one folder that only grow. A record is there
 * once its `append` has resolved, after a kill and after a power loss; a damaged one is skipped, but not
 * those before and after it.
 *
 * A line is `CHECKSUM LENGTH JSON`, both of the JSON's bytes. The checksum begins with the random name of the
 * series, which the files bear: no text that somebody sends, and no block of another file, passes for a
 * record.
 *
 *     00000001-SERIES.log       a segment; the last one grows
 *     00000001-SERIES.summary   what its owner wants to know of a full one without reading it
 *
 * Records that cannot be written are kept in memory until they can.
 */

const { randomBytes } = require('node:crypto');
const { readFileSync, statSync } = require('node:fs');
const fs = require('node:fs/promises');
const path = require('node:path');
const { setImmediate: nextTurn } = require('node:timers/promises');
const zlib = require('node:zlib');

const { makeBoth, sync } = require('./disk');
const { codeOf, messageOf } = require('./errors');

/**
 * `data` is the owner's own.
 *
 * @template Data
 * @typedef {{number: number, file: string, bytes: number, summaryBytes: number, data: Data}} Segment
 */

/**
 * The place of a record.
 *
 * @template Data
 * @typedef {{segment: Segment<Data>, offset: number, length: number}} Place
 */

/**
 * The owner of the records: every member is optional.
 *
 * @template Data, Summary
 * @typedef {object} Owner
 * @property {(segment: Segment<Data>) => void} [begin] a segment is there, before its records
 * @property {(record: unknown, place: Place<Data>) => void} [take] takes each record that was there
 * @property {(segment: Segment<Data>) => Summary} [summarize] what is kept of a full one
 * @property {(segment: Segment<Data>, summary: Summary) => void} [restore] is called with it in place of
 *   `take`
 * @property {() => object} [head] the first record of each segment
 * @property {(error: Error|null) => void} [faulty] the disk takes nothing, or (null) does again
 * @property {(record: object) => void} [lost] the disk took nothing for so long that a record is given up
 */

/**
 * A record that is not on disk yet.
 *
 * @template Data
 * @typedef {object} Waiting
 * @property {object} record
 * @property {Buffer} json
 * @property {boolean} isLasting
 * @property {(place: Place<Data>) => void} written
 * @property {(place: Place<Data>|null) => void} resolve
 */

const FILE = /^(\d{8})-([0-9a-z]{8,32})\.log$/;
const HEAD = /^([0-9a-f]{8}) (\d{1,9}) /;
const HEAD_MAX_BYTES = 19;
const NEWLINE = 10;
const SEGMENT_BYTES = 4 * 1024 * 1024;
/** The most bytes that are written at a time, and that are kept if they cannot be written. */
const BATCH_BYTES = 1024 * 1024;
const HELD_BYTES = 4 * 1024 * 1024;
/** After how long a disk that took nothing is tried again, in milliseconds. */
const RETRY_MS = 1_000;

const TABLE = Int32Array.from({ length: 256 }, (_, index) => {
    let value = index;
    for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
    return value;
});

/**
 * CRC-32 as node 18 has none.
 *
 * @param {Uint8Array} buffer
 * @param {number} start
 * @param {number} end
 */
function tableCrc32(buffer, start, end, seed = 0) {
    let crc = ~seed;
    for (let index = start; index < end; index += 1) {
        crc = TABLE[(crc ^ buffer[index]) & 0xff] ^ (crc >>> 8);
    }
    return ~crc >>> 0;
}

/** @type {((data: Uint8Array, seed: number) => number)|undefined} since node 22.2 */
const nodesCrc32 = /** @type {any} */ (zlib).crc32;
/** CRC-32 of a part of a buffer; `seed` is the one of what stands before it. @type {typeof tableCrc32} */
const crc32 =
    nodesCrc32 === undefined
        ? tableCrc32
        : (buffer, start, end, seed = 0) => nodesCrc32(buffer.subarray(start, end), seed);

const newSeries = () => randomBytes(8).toString('hex');

/**
 * @param {Buffer} json
 * @param {number} seed
 */
function lineOf(json, seed) {
    const head = `${crc32(json, 0, json.length, seed).toString(16).padStart(8, '0')} ${json.length} `;
    return Buffer.concat([Buffer.from(head, 'latin1'), json, Buffer.from('\n', 'latin1')]);
}

/**
 * Return `{record, end}` of the line that begins there, null where none does or it is damaged.
 *
 * @param {Buffer} buffer
 * @param {number} offset
 * @param {number} seed
 */
function recordAt(buffer, offset, seed) {
    const head = HEAD.exec(buffer.toString('latin1', offset, offset + HEAD_MAX_BYTES));
    if (head === null) return null;
    const start = offset + head[0].length;
    const end = start + Number(head[2]);
    if (end >= buffer.length || crc32(buffer, start, end, seed) !== parseInt(head[1], 16)) return null;
    return { record: JSON.parse(buffer.toString('utf8', start, end)), end: end + 1 };
}

/**
 * Yield `{record, offset, length}` of each line that is whole.
 *
 * @param {Buffer} buffer
 * @param {number} seed
 */
function* recordsIn(buffer, seed) {
    let offset = 0;
    while (offset < buffer.length) {
        const found = recordAt(buffer, offset, seed);
        if (found !== null) {
            yield { record: found.record, offset, length: found.end - offset };
            offset = found.end;
            continue;
        }
        const newline = buffer.indexOf(NEWLINE, offset);
        offset = newline < 0 ? buffer.length : newline + 1;
    }
}

/**
 * Read a part of a file; fewer bytes where it is shorter.
 *
 * @param {string} file
 * @param {number} offset
 * @param {number} length
 */
async function readPart(file, offset, length) {
    const handle = await fs.open(file, 'r');
    try {
        const buffer = Buffer.allocUnsafe(length);
        let filled = 0;
        while (filled < length) {
            const { bytesRead } = await handle.read(buffer, filled, length - filled, offset + filled);
            if (bytesRead === 0) break;
            filled += bytesRead;
        }
        return buffer.subarray(0, filled);
    } finally {
        await handle.close();
    }
}

/** Delete a file. A folder of its name, which nobody but a person can have made, is in the way of nothing. */
const remove = (/** @type {string} */ file) => fs.rm(file, { force: true, recursive: true });

/** @template [Data=unknown], [Summary=unknown] */
class Records {
    /** The oldest first. @type {Segment<Data>[]} */
    segments = [];
    /** Random text, the same as long as anything of the series is kept. @type {string|null} */
    series = null;

    #directory;
    #segmentBytes;
    #log;
    #owner;
    #retryMs;
    #seed = 0;
    /** @type {import('node:fs/promises').FileHandle|null} */
    #handle = null;
    /** Whether there may be something other than a record after the last one. */
    #isTorn = false;
    /** Whether the next record begins a new segment. */
    #isFull = false;
    #number = 0;
    /** Records that are not on disk yet, and their bytes. @type {Waiting<Data>[]} */
    #queue = [];
    #queued = 0;
    /** How many of them, the first ones, are being written. */
    #underWay = 0;
    /** @type {Promise<void>|null} */
    #writing = null;
    /** @type {NodeJS.Timeout|undefined} */
    #retry;
    /** @type {Error|null} */
    #fault = null;
    #isOver = false;

    /**
     * @param {object} options
     * @param {string} options.directory made when something is written; the folder around it, too
     * @param {number} [options.segmentBytes] from this size on a segment is full
     * @param {import('./types').Log} options.log
     * @param {number} [options.retryMs]
     * @param {Owner<Data, Summary>} [options.owner]
     */
    constructor({ directory, segmentBytes = SEGMENT_BYTES, log, owner = {}, retryMs = RETRY_MS }) {
        this.#directory = directory;
        this.#segmentBytes = segmentBytes;
        this.#log = log;
        this.#owner = owner;
        this.#retryMs = retryMs;
    }

    /** Bytes on disk. */
    get bytes() {
        return this.segments.reduce((sum, { bytes, summaryBytes }) => sum + bytes + summaryBytes, 0);
    }

    /** Why the disk takes nothing now, or null. */
    get fault() {
        return this.#fault;
    }

    // ---- opening ---------------------------------------------------------------------------------

    /** Read what there is. Only a total failure to read is reported, as a fault. */
    async load() {
        try {
            await this.#loadAll();
        } catch (error) {
            if (codeOf(error) !== 'ENOENT') this.#failed(/** @type {Error} */ (error));
        }
        this.#name(this.series ?? newSeries());
    }

    /** @param {string} series */
    #name(series) {
        this.series = series;
        const name = Buffer.from(series, 'latin1');
        this.#seed = crc32(name, 0, name.length);
    }

    async #loadAll() {
        const found = (await fs.readdir(this.#directory))
            .map((name) => FILE.exec(name))
            .filter((match) => match !== null)
            .sort(([one], [other]) => (one < other ? -1 : 1));
        if (found.length === 0) return;
        this.#name(found[found.length - 1][2]);
        for (const [name, digits, series] of found) {
            const file = path.join(this.#directory, name);
            // A folder in which two were mixed, by hand: they have the same numbers for different things.
            if (series !== this.series) await remove(file);
            else this.#loadSegment(this.#addSegment(Number(digits), file));
            // Others come in between.
            await nextTurn();
        }
        // A disk that was full may have had no room for it.
        for (const segment of this.segments.slice(0, -1)) {
            if (segment.summaryBytes === 0) await this.#writeSummary(segment);
        }
    }

    /**
     * By calls that wait for the disk: on a busy host each that does not waits for its turn many times.
     *
     * @param {Segment<Data>} segment
     */
    #loadSegment(segment) {
        try {
            segment.bytes = statSync(segment.file).size;
            const summary = this.#readSummary(segment);
            if (summary === null) {
                this.#scan(segment);
            } else {
                this.#owner.restore?.(segment, summary);
                this.roll();
            }
        } catch (error) {
            this.#log.error('records cannot be read', { file: segment.file, reason: messageOf(error) });
            this.roll();
        }
    }

    /** @param {Segment<Data>} segment */
    #scan(segment) {
        const { file } = segment;
        const buffer = readFileSync(file);
        const size = buffer.length;
        let end = 0;
        let good = 0;
        for (const { record, offset, length } of recordsIn(buffer, this.#seed)) {
            this.#owner.take?.(record, { segment, offset, length });
            end = offset + length;
            good += length;
        }
        if (good < size) this.#log.warning('damaged records are skipped', { file, bytes: size - good });
        segment.bytes = end;
        this.#isTorn = end < size;
        this.#isFull = false;
    }

    /**
     * @param {number} number
     * @param {string} file
     */
    #addSegment(number, file, bytes = 0) {
        // Its data comes from its owner.
        const segment = { number, file, bytes, summaryBytes: 0, data: /** @type {any} */ (null) };
        this.segments.push(segment);
        this.#number = number;
        this.#owner.begin?.(segment);
        return segment;
    }

    // ---- summaries -------------------------------------------------------------------------------

    /** @param {Segment<Data>} segment */
    #summaryFile(segment) {
        return segment.file.replace(/log$/, 'summary');
    }

    /**
     * @param {Segment<Data>} segment
     * @returns {Summary|null}
     */
    #readSummary(segment) {
        if (this.#owner.restore === undefined) return null;
        let buffer;
        try {
            buffer = readFileSync(this.#summaryFile(segment));
        } catch {
            return null;
        }
        const found = recordAt(buffer, 0, this.#seed);
        const { number, bytes, summary } = found?.record ?? {};
        if (number !== segment.number || bytes !== segment.bytes) return null;
        segment.summaryBytes = buffer.length;
        return summary;
    }

    /** Without one the segment is read as a whole, the next time. @param {Segment<Data>} segment */
    async #writeSummary(segment) {
        if (this.#owner.summarize === undefined) return;
        const { number, bytes } = segment;
        const line = this.#lineOf({ number, bytes, summary: this.#owner.summarize(segment) });
        const file = this.#summaryFile(segment);
        try {
            await fs.writeFile(file, line, { mode: 0o600 });
            segment.summaryBytes = line.length;
        } catch {
            await fs.rm(file, { force: true });
        }
    }

    // ---- writing ---------------------------------------------------------------------------------

    /**
     * Write a record. Records of the same time are written together.
     *
     * @param {object} record
     * @param {{isLasting?: boolean, written?: (place: Place<Data>) => void}} options `isLasting` false: it
     *   need not survive a power loss; `written` is called when it is on disk, also after `append` has
     *   resolved
     * @returns {Promise<Place<Data>|null>} when it is on disk; null when the disk does not take it now
     */
    append(record, { isLasting = true, written = () => {} } = {}) {
        return new Promise((resolve) => {
            const json = Buffer.from(JSON.stringify(record));
            this.#queue.push({ record, json, isLasting, written, resolve });
            this.#queued += json.length;
            if (this.#fault === null && !this.#isOver) {
                this.#work();
            } else {
                this.#hold();
                this.#tryLater();
            }
        });
    }

    /** Begin a new segment with the next record. */
    roll() {
        this.#isFull = this.segments.length > 0;
    }

    #work() {
        this.#writing ??= this.#write().finally(() => {
            this.#writing = null;
            if (this.#queue.length > 0 && this.#fault === null && !this.#isOver) this.#work();
        });
    }

    /** Write what waits, until nothing does or the disk takes it not. Never rejects. */
    async #write() {
        while (this.#queue.length > 0) {
            const batch = this.#nextBatch();
            this.#underWay = batch.length;
            try {
                const places = await this.#writeBatch(batch);
                this.#queue.splice(0, batch.length);
                this.#recovered();
                batch.forEach((one, index) => this.#written(one, places[index]));
            } catch (error) {
                this.#underWay = 0;
                this.#failed(/** @type {Error} */ (error));
                return;
            }
            this.#underWay = 0;
        }
    }

    /**
     * @param {Waiting<Data>} waiting
     * @param {Place<Data>} place
     */
    #written({ json, written, resolve }, place) {
        this.#queued -= json.length;
        written(place);
        resolve(place);
    }

    #nextBatch() {
        let bytes = 0;
        const most = Math.min(BATCH_BYTES, this.#segmentBytes);
        const end = this.#queue.findIndex(({ json }) => {
            bytes += json.length;
            return bytes > most;
        });
        return end < 0 ? [...this.#queue] : this.#queue.slice(0, Math.max(1, end));
    }

    /** @param {Waiting<Data>[]} batch */
    async #writeBatch(batch) {
        const handle = await this.#makeSegment();
        const segment = this.segments[this.segments.length - 1];
        const lines = batch.map(({ json }) => lineOf(json, this.#seed));
        await this.#writeAt(handle, segment.bytes, Buffer.concat(lines));
        if (batch.some(({ isLasting }) => isLasting)) await handle.datasync();
        this.#isTorn = false;
        return lines.map(({ length }) => {
            const offset = segment.bytes;
            segment.bytes += length;
            return { segment, offset, length };
        });
    }

    /**
     * @param {import('node:fs/promises').FileHandle} handle
     * @param {number} start
     * @param {Buffer} buffer
     */
    async #writeAt(handle, start, buffer) {
        if (this.#isTorn) await handle.truncate(start);
        this.#isTorn = true;
        let done = 0;
        while (done < buffer.length) {
            const { bytesWritten } = await handle.write(buffer, done, buffer.length - done, start + done);
            done += bytesWritten;
        }
    }

    /** @param {object} record */
    #lineOf(record) {
        return lineOf(Buffer.from(JSON.stringify(record)), this.#seed);
    }

    /** Have a segment that is open and not full. @returns {Promise<import('node:fs/promises').FileHandle>} */
    async #makeSegment() {
        const last = this.segments.at(-1);
        if (last !== undefined && !this.#isFull && last.bytes < this.#segmentBytes) {
            this.#handle ??= await fs.open(last.file, 'r+');
            return this.#handle;
        }
        if (last !== undefined && last.summaryBytes === 0) await this.#writeSummary(last);
        await makeBoth(this.#directory);
        // A number that failed is not used again.
        this.#number += 1;
        const number = this.#number;
        const name = `${String(number).padStart(8, '0')}-${this.series}.log`;
        const file = path.join(this.#directory, name);
        const head = this.#owner.head?.();
        const line = head === undefined ? Buffer.alloc(0) : this.#lineOf(head);
        const handle = await fs.open(file, 'wx', 0o600);
        try {
            if (line.length > 0) await handle.writeFile(line);
            await handle.sync();
            await sync(this.#directory);
        } catch (error) {
            await handle.close();
            await fs.rm(file, { force: true }).catch(() => {});
            throw error;
        }
        await this.#handle?.close();
        this.#handle = handle;
        this.#isTorn = false;
        this.#isFull = false;
        this.#addSegment(number, file, line.length);
        return handle;
    }

    // ---- a disk that takes nothing ---------------------------------------------------------------

    /** @param {Error} error */
    #failed(error) {
        if (this.#fault === null) {
            this.#log.error('records are not written', { directory: this.#directory, reason: error.message });
        }
        this.#fault = error;
        this.#owner.faulty?.(error);
        this.#hold();
        this.#tryLater();
    }

    #tryLater() {
        if (this.#isOver) return;
        this.#retry ??= setTimeout(() => {
            this.#retry = undefined;
            this.#work();
        }, this.#retryMs).unref();
    }

    #recovered() {
        if (this.#fault === null) return;
        this.#fault = null;
        this.#log.info('records are written again', { directory: this.#directory });
        this.#owner.faulty?.(null);
    }

    /** Let nobody wait for what is only in memory, and keep only so much of it. */
    #hold() {
        for (const { resolve } of this.#queue) resolve(null);
        // The records that are being tried now stay in front.
        while (this.#underWay === 0 && this.#queued > HELD_BYTES && this.#queue.length > 1) {
            const { json, record } = /** @type {Waiting<Data>} */ (this.#queue.shift());
            this.#queued -= json.length;
            this.#owner.lost?.(record);
        }
    }

    // ---- reading ---------------------------------------------------------------------------------

    /**
     * Read records of one segment that are near one another, in their order; null for one that is damaged, or
     * gone with its segment.
     *
     * @param {Segment<Data>} segment
     * @param {{offset: number, length: number}[]} places in the order of the segment
     * @returns {Promise<unknown[]>}
     */
    async read(segment, places) {
        if (places.length === 0) return [];
        const start = places[0].offset;
        const { offset, length } = places[places.length - 1];
        const buffer = await readPart(segment.file, start, offset + length - start).catch(() => null);
        if (buffer === null) return places.map(() => null);
        return places.map((place) => recordAt(buffer, place.offset - start, this.#seed)?.record ?? null);
    }

    // ---- the end ---------------------------------------------------------------------------------

    /** Delete the oldest segment. Not while it is the only one. */
    async drop() {
        const segment = /** @type {Segment<Data>} */ (this.segments.shift());
        await remove(this.#summaryFile(segment));
        await remove(segment.file);
    }

    /** Write what waits, and nothing more. */
    async close() {
        if (this.#queue.length > 0 && !this.#isOver) this.#work();
        this.#isOver = true;
        clearTimeout(this.#retry);
        await this.#writing;
        this.#hold();
        if (this.#queue.length > 0) this.#log.error('records are lost', { count: this.#queue.length });
        await this.#handle?.close();
        this.#handle = null;
    }

    /** Delete everything. Records appended after that are never written. */
    async erase() {
        this.#isOver = true;
        clearTimeout(this.#retry);
        await this.#writing;
        await this.#handle?.close();
        this.#handle = null;
        this.segments = [];
        this.#hold();
        this.#name(newSeries());
        await fs.rm(this.#directory, { recursive: true, force: true, maxRetries: 4 });
    }
}

module.exports = { Records, crc32, tableCrc32 };

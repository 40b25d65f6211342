'use strict';

/** The places of one segment's events on disk, and what is known of them without reading it. */

/** What is known of the delivery of an event: `FREE` = nobody waits for it. */
const PENDING = 0;
const DELIVERED = 1;
const UNDELIVERED = 2;
const FREE = 3;

/**
 * @typedef {'number'|'offset'|'length'|'hash'|'time'} ColumnName
 * @typedef {Float64Array|Uint32Array|Uint8Array} Column
 * @typedef {Record<ColumnName|'state', number>} Row
 * @typedef {Record<ColumnName|'state', string>} PackedRows
 */

/**
 * @template {Column} Kind
 * @typedef {{new (length: number): Kind, new (memory: ArrayBufferLike): Kind}} ColumnClass
 */

/**
 * A hash of 32 bits (FNV-1a). Two texts may have the same: it only says where to look.
 *
 * @param {string} text
 */
function hashOf(text) {
    let hash = 0x811c9dc5;
    for (let index = 0; index < text.length; index += 1) {
        hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
    }
    return hash >>> 0;
}

const pack = (/** @type {Column} */ array) =>
    Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('base64');

/**
 * @template {Column} Kind
 * @param {string} text
 * @param {ColumnClass<Kind>} Column
 */
function unpack(text, Column) {
    const bytes = Buffer.from(text, 'base64');
    const { buffer, byteOffset: start, length } = bytes;
    // Larger items begin at a multiple of their size; a small array shares its memory with others.
    const isOwn = buffer.byteLength === length;
    return new Column(isOwn ? buffer : buffer.slice(start, start + length));
}

/**
 * What is known of an event without reading it; `time` in seconds.
 *
 * @type {[name: ColumnName, Column: ColumnClass<Float64Array|Uint32Array>][]}
 */
const COLUMNS = [
    ['number', Float64Array],
    ['offset', Uint32Array],
    ['length', Uint32Array],
    ['hash', Uint32Array],
    ['time', Uint32Array],
];

/** The events of one segment: the place of each, by rising number. 25 bytes for each. */
class Rows {
    count = 0;
    /** @type {Uint8Array} */
    state = new Uint8Array(16);
    #columns = /** @type {Record<ColumnName, Float64Array|Uint32Array>} */ ({});

    constructor() {
        for (const [name, Column] of COLUMNS) this.#columns[name] = new Column(16);
    }

    /** @param {Row} row */
    add(row) {
        if (this.count === this.state.length) this.#grow();
        // Each by its name: a start adds thousands, and a name that is computed takes five times as long.
        const { number, offset, length, hash, time } = this.#columns;
        const at = this.count;
        number[at] = row.number;
        offset[at] = row.offset;
        length[at] = row.length;
        hash[at] = row.hash;
        time[at] = row.time;
        this.state[at] = row.state;
        this.count += 1;
    }

    #grow() {
        /**
         * @template {Column} Kind
         * @param {Kind} column
         */
        const larger = (column) => {
            const Class = /** @type {ColumnClass<Kind>} */ (column.constructor);
            const made = new Class(2 * column.length);
            made.set(column);
            return made;
        };
        for (const [name] of COLUMNS) this.#columns[name] = larger(this.#columns[name]);
        this.state = larger(this.state);
    }

    /**
     * @param {ColumnName} name
     * @param {number} index
     */
    of(name, index) {
        return this.#columns[name][index];
    }

    /** @param {number} index */
    place(index) {
        return { offset: this.of('offset', index), length: this.of('length', index) };
    }

    get first() {
        return this.count === 0 ? Infinity : this.#columns.number[0];
    }

    get last() {
        return this.count === 0 ? 0 : this.#columns.number[this.count - 1];
    }

    /** The index of the first row with a number above that one. @param {number} number */
    after(number) {
        const { number: numbers } = this.#columns;
        let low = 0;
        let high = this.count;
        while (low < high) {
            const middle = (low + high) >>> 1;
            if (numbers[middle] > number) high = middle;
            else low = middle + 1;
        }
        return low;
    }

    /** The index of a number, or -1. @param {number} number */
    find(number) {
        const index = this.after(number) - 1;
        return index >= 0 && this.#columns.number[index] === number ? index : -1;
    }

    /** The indexes of the rows with a hash. @param {number} hash */
    *like(hash) {
        const column = this.#columns.hash;
        for (let at = column.indexOf(hash); at >= 0 && at < this.count; at = column.indexOf(hash, at + 1)) {
            yield at;
        }
    }

    /** The time of a row, in milliseconds. @param {number} index */
    timeOf(index) {
        return this.of('time', index) * 1000;
    }

    /** How many rows are in a state. @param {number} state */
    countOf(state) {
        let count = 0;
        for (let index = 0; index < this.count; index += 1) if (this.state[index] === state) count += 1;
        return count;
    }

    /**
     * The columns as text.
     *
     * @param {number[]} settled number and state in turn: the outcomes of rows until this segment was full.
     *   Later outcomes are in later segments
     * @returns {PackedRows}
     */
    pack(settled) {
        const packed = COLUMNS.map(([name]) => [name, pack(this.#columns[name].subarray(0, this.count))]);
        const then = this.state.subarray(0, this.count).map((state) => (state === FREE ? FREE : PENDING));
        for (let at = 0; at < settled.length; at += 2) then[this.find(settled[at])] = settled[at + 1];
        return { ...Object.fromEntries(packed), state: pack(then) };
    }

    /** @param {PackedRows} packed */
    static unpack(packed) {
        const rows = new Rows();
        const state = unpack(packed.state, Uint8Array);
        if (state.length === 0) return rows;
        rows.count = state.length;
        rows.state = state;
        for (const [name, Column] of COLUMNS) rows.#columns[name] = unpack(packed[name], Column);
        return rows;
    }
}

module.exports = { DELIVERED, FREE, PENDING, Rows, UNDELIVERED, hashOf, pack, unpack };

'use strict';

/**
 * Inputs that are made up: `fuzz` is one row of input, reader and property. The short form tries the same
 * inputs each time; WAPORTD_FUZZ=fuzz (`make fuzz`) tries others, fifty times as many. A failure names the
 * seed of its input: WAPORTD_SEED=THAT tries that one alone.
 */

const { createHash, randomInt } = require('node:crypto');
const { it } = require('node:test');
const { inspect } = require('node:util');

const IS_LONG = process.env.WAPORTD_FUZZ === 'fuzz';
const LONGER = 50;
/** A check that takes so much of a processor for one input of some kilobytes hangs for a larger one. */
const MOST_CPU_MS = 2_000;
/** A check that is not done after that never will be. */
const PATIENCE_MS = 60_000;

/** Names that every object of JavaScript answers to, ends of ranges, and what texts are cut at. */
const WORDS = [
    ...['', ' ', '0', '-1', '1', '1e9', 'NaN', 'null', 'true', 'a'.repeat(300), '..', '/', '%', '%00', '%zz'],
    ...['constructor', '__proto__', 'toString', 'hasOwnProperty', 'length', 'prototype', 'then', 'toJSON'],
    ...[
        '\0',
        '\r\n',
        '\n',
        '\ud800',
        '\udc00',
        '\u202e',
        '\u200b',
        '\x1b[2J',
        '😀',
        'é',
        '９',
        ';',
        '"',
        '\\',
    ],
];
const NUMBERS = [0, -0, 1, -1, 0.5, 2 ** 31, 2 ** 53, -(2 ** 53), 1e21, 1e308, 5e-324];

/** Chances that follow from a seed alone (mulberry32). */
class Chance {
    #state;

    constructor(seed) {
        this.#state = seed >>> 0;
    }

    /** A number from 0 up to 1. */
    next() {
        this.#state = (this.#state + 0x6d2b79f5) >>> 0;
        let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
        mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    }

    /** A whole number from 0 to `most`. */
    upTo(most) {
        return Math.floor(this.next() * (most + 1));
    }

    /** Return whether it happens this time, once in `often`. */
    once(often) {
        return this.upTo(often - 1) === 0;
    }

    pick(list) {
        return list[this.upTo(list.length - 1)];
    }

    /** Up to `most` of what `make` makes. */
    some(most, make) {
        return Array.from({ length: this.upTo(most) }, make);
    }

    bytes(most) {
        return Buffer.from(this.some(most, () => this.upTo(255)));
    }

    text(most = 20) {
        if (this.once(2)) return this.pick(WORDS);
        const one = () => String.fromCodePoint(this.once(8) ? this.upTo(0x10ffff) : 32 + this.upTo(94));
        return this.some(most, one).join('');
    }

    /** Any value that JSON has. */
    json(depth = 3) {
        const kind = this.upTo(depth === 0 ? 4 : 6);
        if (kind < 2) return this.text();
        if (kind === 2) return this.pick([null, true, false]);
        if (kind === 3) return this.pick(NUMBERS);
        if (kind === 4) return this.upTo(2000) - 1000;
        if (kind === 5) return this.some(4, () => this.json(depth - 1));
        return JSON.parse(this.objectText(depth));
    }

    /** As it comes over a wire: `__proto__` is a member as any other. */
    objectText(depth) {
        const texts = [() => this.text(8), () => this.json(depth - 1)];
        const members = this.some(4, () => texts.map((make) => JSON.stringify(make())).join(':'));
        return `{${members.join(',')}}`;
    }

    /** An object that has most of these members, each as its maker makes it, or now and then anything. */
    shaped(makers) {
        const members = Object.entries(makers).filter(() => !this.once(3));
        return Object.fromEntries(
            members.map(([name, make]) => [name, this.once(6) ? this.json() : make(this)]),
        );
    }

    /** The same bytes but for some that are changed, cut out or doubled. */
    damaged(bytes) {
        let made = Buffer.from(bytes);
        for (let count = this.upTo(3); count >= 0; count -= 1) {
            const from = this.upTo(made.length);
            const to = Math.min(made.length, from + this.upTo(this.once(2) ? 4 : made.length));
            const [head, part, tail] = [made.subarray(0, from), made.subarray(from, to), made.subarray(to)];
            const none = Buffer.alloc(0);
            const zeros = Buffer.alloc(part.length);
            const put = this.pick([none, zeros, this.bytes(8), Buffer.concat([part, part])]);
            made = Buffer.concat([head, put, tail]);
        }
        return made;
    }

    /** The same bytes, cut anywhere. */
    cut(bytes) {
        const at = this.some(6, () => this.upTo(bytes.length)).sort((one, other) => one - other);
        return [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.length));
    }
}

const hashOf = (text) => createHash('sha256').update(text).digest().readUInt32BE(0);

async function inTime(work) {
    let timer;
    const limit = new Promise((_, reject) => {
        const late = () => reject(new Error(`it is not done after ${PATIENCE_MS / 1000} s`));
        timer = setTimeout(late, PATIENCE_MS);
    });
    const before = process.cpuUsage();
    try {
        await Promise.race([work(), limit]);
    } finally {
        clearTimeout(timer);
    }
    const took = process.cpuUsage(before).user / 1000;
    if (took > MOST_CPU_MS) throw new Error(`it took ${Math.round(took)} ms of a processor`);
}

/**
 * Test that what `check` says holds for every input.
 *
 * @param {string} name a sentence that says what holds
 * @param {object} row
 * @param {(chance: Chance) => any} row.make an input; the same for the same chances
 * @param {(input: any, chance: Chance) => any} row.check throws, or rejects, where it does not hold
 * @param {any[]} [row.examples] inputs that were found, and stay
 * @param {number} [row.times] how many inputs the short form tries
 * @param {(t: object) => any} [row.before] is called once, with the test's context
 */
function fuzz(name, { make, check, examples = [], times = 300, before = () => {} }) {
    it(name, { timeout: IS_LONG ? 3_600_000 : 300_000 }, async (t) => {
        await before(t);
        const tried = async (input, chance, what) => {
            try {
                await inTime(() => check(input, chance));
            } catch (error) {
                const shown = inspect(input, { depth: 8, maxStringLength: 2000, breakLength: 100 });
                throw new Error(`${what}: ${error.message}\n${shown}`, { cause: error });
            }
        };
        for (const input of examples) await tried(input, new Chance(0), 'an example');
        const one = process.env.WAPORTD_SEED;
        const begin = IS_LONG ? randomInt(2 ** 32) : hashOf(name);
        const count = one === undefined ? times * (IS_LONG ? LONGER : 1) : 1;
        for (let index = 0; index < count; index += 1) {
            const seed = one === undefined ? (begin + index * 0x9e3779b1) >>> 0 : Number(one);
            const chance = new Chance(seed);
            await tried(make(chance), chance, `WAPORTD_SEED=${seed}`);
        }
    });
}

module.exports = { Chance, fuzz };

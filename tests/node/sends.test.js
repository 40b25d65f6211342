'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');

const { KEPT_MS, Sends } = require('../../server/sends');
const { scratch } = require('./support/process');

/** A log that keeps what it gets. */
function logOf() {
    /** @type {unknown[][]} */
    const told = [];
    const warning = (/** @type {unknown[]} */ ...words) => told.push(words);
    return { told, warning, error() {}, info() {}, debug() {} };
}

/**
 * Open what is kept in a folder; `now` moves its clock.
 *
 * @param {import('node:test').TestContext} t
 * @param {string} directory
 */
function open(t, directory, clock = { now: 1_000_000_000_000 }) {
    const log = logOf();
    const sends = new Sends({ directory, log, now: () => clock.now });
    t.after(() => sends.close());
    return Object.assign(sends, { log, clock });
}

const send = (/** @type {number} */ n) => ({
    key: `key ${n}`,
    print: `print ${n}`,
    chat: '1@c.us',
    id: `true_1@c.us_${n}`,
});
const folderOf = (/** @type {import('node:test').TestContext} */ t) =>
    path.join(scratch(t), 'auth', 'messages');

describe('sends', () => {
    it('are known after a kill from the moment on that they have begun', async (t) => {
        const directory = folderOf(t);
        const first = open(t, directory);
        assert.equal(first.find('key 1'), undefined);
        await first.begin(send(1));
        await Promise.all([first.begin(send(2)), first.begin(send(3))]);
        await first.settle('key 2');
        await first.forget('key 3');
        // Nothing of the first is closed.
        const next = open(t, directory);
        assert.deepEqual(next.find('key 1'), { ...send(1), at: next.clock.now });
        assert.deepEqual(next.find('key 2'), { ...send(2), at: next.clock.now, sent: true });
        assert.equal(next.find('key 3'), undefined);
        assert.ok(next.has('true_1@c.us_1'));
        assert.ok(!next.has('true_1@c.us_3'));
        assert.deepEqual(next.log.told, []);
    });

    it('are for nobody else to read', async (t) => {
        const directory = folderOf(t);
        await open(t, directory).begin(send(1));
        assert.equal(fs.statSync(path.join(directory, 'sends')).mode & 0o777, 0o600);
        assert.equal(fs.statSync(directory).mode & 0o777, 0o700);
    });

    it('are known for a day', async (t) => {
        const directory = folderOf(t);
        const sends = open(t, directory);
        await sends.begin(send(1));
        sends.clock.now += KEPT_MS;
        await sends.begin(send(2));
        assert.ok(sends.find('key 1'));
        sends.clock.now += 1;
        assert.equal(sends.find('key 1'), undefined);
        const next = open(t, directory, sends.clock);
        assert.equal(next.find('key 1'), undefined);
        assert.ok(next.find('key 2'));
    });

    it('survive a damaged file, as far as it can be read', async (t) => {
        const directory = folderOf(t);
        const first = open(t, directory);
        for (const n of [1, 2, 3]) await first.begin(send(n));
        const file = path.join(directory, 'sends');
        const text = fs.readFileSync(file, 'utf8');
        for (let length = 0; length < text.length; length += 7) {
            fs.writeFileSync(file, text.slice(0, length));
            const whole = text.slice(0, length).split('\n').length - 1;
            const torn = open(t, directory);
            const known = [1, 2, 3].filter((n) => torn.find(`key ${n}`)).length;
            assert.equal(known, whole, `the first ${length} bytes`);
            await torn.begin(send(4));
            assert.ok(open(t, directory).find('key 4'), 'what is added after the tear is found');
            await torn.close();
        }
        const [, middle] = text.split('\n');
        fs.writeFileSync(file, text.replace(middle, middle.replace('print', 'prind')));
        const damaged = open(t, directory);
        assert.deepEqual(
            [1, 2, 3].map((n) => damaged.find(`key ${n}`) !== undefined),
            [true, false, true],
        );
        assert.equal(damaged.log.told.length, 1);
        assert.doesNotMatch(JSON.stringify(damaged.log.told), /key 2/);
    });

    it('do not fill the disk', async (t) => {
        const directory = folderOf(t);
        const sends = open(t, directory);
        const file = path.join(directory, 'sends');
        for (let round = 0; round < 3; round += 1) {
            const all = Array.from({ length: 1_000 }, (_, n) => sends.begin(send(n)));
            await Promise.all(all);
            for (let n = 0; n < 1_000; n += 1) await sends.settle(`key ${n}`);
            sends.clock.now += KEPT_MS + 1;
        }
        await sends.begin(send(5_000));
        assert.ok(fs.readFileSync(file, 'utf8').split('\n').length < 4_000);
        assert.deepEqual(fs.readdirSync(directory), ['sends']);
        assert.ok(open(t, directory, sends.clock).find('key 5000'));
    });

    it('that the disk does not take are reported, and taken again once it does', async (t) => {
        const directory = folderOf(t);
        const sends = open(t, directory);
        fs.mkdirSync(path.dirname(directory));
        fs.writeFileSync(directory, 'a file in its place');
        await assert.rejects(sends.begin(send(1)));
        assert.equal(sends.find('key 1'), undefined);
        fs.rmSync(directory);
        await sends.begin(send(1));
        assert.ok(open(t, directory).find('key 1'));
    });
});

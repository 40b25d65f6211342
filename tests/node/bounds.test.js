'use strict';

/** How large an event may be. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { MOST_BYTES, bounded } = require('../../server/bounds');
const { describeMessage } = require('../../server/describe');
const { Incoming } = require('../../server/incoming');
const { newPlace, quiet, readAll } = require('./support/journal');

const sizeOf = (event) => Buffer.byteLength(JSON.stringify(event));
const from = '5511988887777@c.us';
const message = (more) => {
    const id = { _serialized: `false_${from}_A`, remote: from };
    return describeMessage({ type: 'chat', id, from, t: 1, ...more });
};

describe('an event', () => {
    it('of usual size is left as it is', () => {
        // The longest text that WhatsApp takes, in the characters that take most bytes.
        for (const body of ['at nine', 'x'.repeat(65_536), '\u20ac'.repeat(65_536), '😀'.repeat(30_000)]) {
            const event = message({ body });
            assert.equal(bounded(event), event);
        }
    });

    it('that is too large is cut, and says where', () => {
        const card = { displayName: 'Ana', vcard: `BEGIN:VCARD\n${'NOTE:x\n'.repeat(100_000)}END:VCARD` };
        const cards = bounded(message({ type: 'multi_vcard', vcardList: [card, { displayName: 'Bia' }] }));
        assert.deepEqual(cards.truncated, ['contacts.vcard']);
        assert.deepEqual(
            cards.contacts.map(({ name }) => name),
            ['Ana', 'Bia'],
        );

        const text = bounded(message({ body: 'x'.repeat(5_000_000) }));
        assert.deepEqual(text.truncated, ['body', 'message']);
        assert.equal(text.body.length, 65_536);

        const many = bounded(message({ body: 'x', mentionedJidList: Array(20_000).fill('7@lid') }));
        assert.deepEqual([many.truncated, many.mentions.length], [['mentions'], 5_000]);
    });

    it('is never larger than it may be, and keeps its names', () => {
        const vcard = '\u20ac'.repeat(60_000);
        const title = '😀'.repeat(900);
        const rows = Array.from({ length: 3_000 }, (_, index) => ({ rowId: `${index}`, title }));
        for (const data of [
            { type: 'multi_vcard', vcardList: Array(200).fill({ displayName: 'Ana', vcard }) },
            { type: 'list', list: { title: '"'.repeat(3e6), sections: [{ title: 'a', rows }] } },
            { body: '\u0000'.repeat(2e6), mentionedJidList: Array(5_000).fill('120363000000000001@lid') },
        ]) {
            const event = message(data);
            const made = bounded(event);
            assert.ok(sizeOf(made) <= MOST_BYTES, `${sizeOf(made)} bytes`);
            assert.ok(sizeOf(made) > MOST_BYTES / 8, `${sizeOf(made)} bytes of ${sizeOf(event)}`);
            for (const name of ['event', 'event_id', 'id', 'type', 'chat', 'timestamp']) {
                assert.deepEqual(made[name], event[name], name);
            }
            assert.deepEqual(Object.keys(made), [...Object.keys(event), 'truncated']);
        }
    });

    it('has no half of a character at its end', () => {
        const made = bounded(message({ body: `x${'😀'.repeat(60_000)}` }));
        assert.equal(made.body.length, 65_535);
        assert.ok(made.body.isWellFormed?.() ?? encodeURIComponent(made.body));
    });

    it('is cut before it is written', async (t) => {
        const journal = await newPlace(t).open();
        const identity = { user: '2', port: 5002 };
        const handed = [];
        const handOn = ({ event }) => handed.push(event);
        const incoming = new Incoming({ identity, journal, ignore: [], handOn, log: quiet });
        await incoming.take(message({ body: 'x'.repeat(3e6) }), null);
        const [{ event }] = await readAll(journal);
        assert.deepEqual(event.truncated, ['body', 'message']);
        assert.deepEqual(handed, [event]);
        assert.ok(journal.counts.bytes < 2 * MOST_BYTES);
    });
});

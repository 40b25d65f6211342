'use strict';

/** Ids of people, chats and messages. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { serialized } = require('../../server/ids');

describe('ids', () => {
    it('are found in every shape that pages have given them', () => {
        const key = { fromMe: false, remote: '1@c.us', id: 'A' };
        const shapes = [
            'false_1@c.us_A',
            { ...key, _serialized: 'false_1@c.us_A' },
            { ...key, $1: 'false_1@c.us_A' },
            { ...key, $q: 'false_1@c.us_A', self: 'in' },
            { ...key, remote: { user: '1', server: 'c.us' } },
            { ...key, remote: { _serialized: '1@c.us' } },
        ];
        for (const shape of shapes) assert.equal(serialized(shape), 'false_1@c.us_A');
        const group = { fromMe: true, remote: '1@g.us', id: 'A', participant: { _serialized: '2@lid' } };
        assert.equal(serialized(group), 'true_1@g.us_A_2@lid');
        assert.equal(serialized({ ...group, $1: 'true_1@g.us_A_2:3@lid' }), 'true_1@g.us_A_2:3@lid');
        assert.equal(serialized({ user: '7', server: 'lid', device: 0 }), '7@lid');
        for (const none of [undefined, null, 7, {}, { id: 'A' }]) assert.equal(serialized(none), null);
    });
});

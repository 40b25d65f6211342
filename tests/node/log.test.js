'use strict';

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { createLog, oneLine } = require('../../server/log');

describe('a line of the log', () => {
    it('has nothing in it that is not seen, of any plane', () => {
        for (let code = 0; code <= 0x10ffff; code += 1) {
            const char = String.fromCodePoint(code);
            if (!/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(char)) continue;
            assert.ok(['a b', 'ab'].includes(oneLine(`a${char}b`)), `U+${code.toString(16)}`);
        }
    });

    it('keeps what is seen', () => {
        for (const text of ['Zoë', '日本語', 'مرحبا', '😀 👍🏽', '½ … –']) assert.equal(oneLine(text), text);
    });

    it('cannot be turned round by a name', () => {
        /** @type {string[]} */
        const lines = [];
        createLog('5002', { journal: true, write: (line) => lines.push(line) }).info('linked', {
            name: 'Ana\u202e\u2066\u009b31m\u{e0041}',
        });
        assert.deepEqual(lines, ['<6>5002: linked name="Ana 31m"\n']);
    });
});

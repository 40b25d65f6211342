'use strict';

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const examples = require('libphonenumber-js/mobile/examples');
const { getCountries, getExampleNumber } = require('libphonenumber-js/max');

const { readId, readNumber, readRecipient } = require('../../server/numbers');

const BRUNO = ['5511988887777', '551188887777'];

describe('a number with the code of its country', () => {
    const rows = [
        ['+55 11 98888-7777', BRUNO],
        ['+55 (11) 98888-7777', BRUNO],
        ['+55 (0)11 98888-7777', BRUNO],
        ['+55 011 98888-7777', BRUNO],
        ['+55 0 15 11 98888-7777', BRUNO],
        ['0055 11 98888 7777', BRUNO],
        ['005511988887777', BRUNO],
        ['00 55 (0)11 98888.7777', BRUNO],
        ['5511988887777', BRUNO],
        ['tel:+5511988887777', BRUNO],
        ['\u202a+55\u00a011\u00a098888\u20117777\u202c', BRUNO],
        ['\uff0b\uff15\uff15\uff11\uff11988887777', BRUNO],
        // The other way round, and fixed lines, which have no ninth digit.
        ['551188887777', ['551188887777', '5511988887777']],
        ['+55 11 3333-4444', ['551133334444']],
        ['+1 (202) 555-0123', ['12025550123']],
        ['+44 (0)20 7946 0123', ['442079460123']],
        ['+39 06 1234 5678', ['390612345678']],
        ['+225 07 01 23 45 67', ['2250701234567']],
        ['+52 1 55 1234 5678', ['5215512345678']],
        ['+54 9 11 2345-6789', ['5491123456789']],
        ['+49 0151 23456789', ['4915123456789']],
        ['+351 912 345 678', ['351912345678']],
        ['351912345678', ['351912345678']],
        ['51988887777', ['51988887777']],
    ];
    for (const [text, numbers] of rows) {
        it(`is read: ${text}`, () => {
            assert.deepEqual(readNumber(text, null), { known: numbers, likely: numbers });
            assert.deepEqual(readNumber(text, '49').known.slice(0, numbers.length), numbers);
        });
    }
});

describe('a number as it is dialled at home', () => {
    const atHome = [
        '11988887777',
        '11 98888-7777',
        '(11) 98888-7777',
        '011 98888-7777',
        '0 15 11 98888-7777',
        '011988887777',
    ];
    for (const text of atHome) {
        it(`is one of the default country, or of none: ${text}`, () => {
            assert.deepEqual(readNumber(text, '55').likely, BRUNO);
            assert.throws(
                () => readNumber(text, null),
                (error) => {
                    assert.equal(error.status, 400);
                    assert.equal(error.body.code, 'bad_number');
                    assert.match(error.body.hint, /default_country/);
                    return true;
                },
            );
        });
    }

    it('is refused without a country where no country has such numbers', () => {
        // Mobiles of the areas 21, 47, 54, 85 and 91, a fixed line of area 11, one without area.
        for (const area of [21, 47, 54, 85, 91]) {
            const text = `${area}988887777`;
            assert.throws(() => readNumber(text, null), { status: 400 }, text);
            assert.equal(readNumber(text, '55').likely[0], `55${text}`);
        }
        for (const text of ['1133334444', '988887777']) {
            assert.throws(() => readNumber(text, null), { status: 400 }, text);
        }
    });

    it('is looked for among those one knows as a number of another country, too', () => {
        const read = readNumber('51988887777', '55');
        assert.deepEqual(read.likely, ['5551988887777', '555188887777']);
        assert.deepEqual(read.known, ['51988887777', '5551988887777', '555188887777']);
    });

    it('follows the plan of its country', () => {
        assert.deepEqual(readNumber('2025550123', '1').likely, ['12025550123']);
        assert.deepEqual(readNumber('0151 23456789', '49').likely, ['4915123456789']);
        assert.deepEqual(readNumber('06 1234 5678', '39').likely, ['390612345678']);
        assert.throws(() => readNumber('8888-777', '55'), { status: 400 }, 'too short');
        // Without its area: as long as some numbers are, of which none begins like that. WhatsApp is asked.
        assert.deepEqual(readNumber('98888-7777', '55').likely, ['55988887777']);
    });
});

describe('a number of any country', () => {
    const countries = getCountries().map((country) => [country, getExampleNumber(country, examples)]);
    assert.ok(countries.length > 200);

    it('is read as it is called from abroad, and as it is dialled at home', () => {
        for (const [country, example] of countries) {
            const digits = example.number.slice(1);
            const code = example.countryCallingCode;
            for (const text of [example.number, `00${digits}`, example.formatInternational()]) {
                assert.equal(readNumber(text, null).likely[0], digits, `${country}: ${text}`);
                assert.equal(readNumber(text, '55').likely[0], digits, `${country}: ${text}`);
            }
            assert.equal(readNumber(digits, null).likely[0], digits, country);
            const home = example.formatNational();
            assert.equal(readNumber(home, code).likely[0], digits, `${country}: ${home}`);
        }
    });

    it('is not refused where such numbers may be given out one day', () => {
        // Possible by their length, and of nobody so far.
        const possible = [
            '+1 198 888 7777',
            '+91 988 887 777',
            '+86 1234 5678 901',
            '+55 10 98888-7777',
            '+27 300000000',
        ];
        for (const text of possible) {
            const digits = text.replace(/\D/g, '');
            assert.deepEqual(readNumber(text, null).likely, [digits], text);
            assert.deepEqual(readNumber(text, '55').likely, [digits], text);
        }
        const tooLong = '8612345678901';
        assert.deepEqual(readNumber(tooLong, null).likely, [tooLong], 'too long to be dialled');
        assert.deepEqual(readNumber('27300000000', '351').likely, ['27300000000'], 'of no other country');
    });

    it('has the 1 after the code of Mexico as it is written', () => {
        for (const text of ['+5215512345678', '5215512345678', '+52 1 55 1234 5678']) {
            assert.deepEqual(readNumber(text, null).likely, ['5215512345678']);
        }
        assert.equal(readNumber('55 1234 5678', '52').likely[0], '525512345678');
    });
});

describe('what is no number', () => {
    const none = ['', 'Ana', '12', '+', '+55', '00', '+0', '12 34 x', '1'.repeat(21), '+999 123 4567'];
    for (const text of none) {
        it(`is refused: ${JSON.stringify(text)}`, () => {
            for (const country of [null, '55']) {
                assert.throws(
                    () => readNumber(text, country),
                    (error) => error.body.code === 'bad_number',
                );
            }
        });
    }
});

describe('an id', () => {
    const rows = [
        ['5511988887777@c.us', '5511988887777@c.us', 'person'],
        ['5511988887777@s.whatsapp.net', '5511988887777@c.us', 'person'],
        ['5511988887777:12@s.whatsapp.net', '5511988887777@c.us', 'person'],
        ['1005511988887777@lid', '1005511988887777@lid', 'person'],
        ['1005511988887777:3@lid', '1005511988887777@lid', 'person'],
        ['7@hosted.lid', '7@hosted.lid', 'person'],
        ['120363000000000001@g.us', '120363000000000001@g.us', 'group'],
        ['5511988887777-1400000000@g.us', '5511988887777-1400000000@g.us', 'group'],
        ['120363000000000001@newsletter', '120363000000000001@newsletter', 'channel'],
        ['status@broadcast', 'status@broadcast', 'status'],
        ['1400000000@broadcast', '1400000000@broadcast', 'broadcast'],
        ['ABCDEF@call', 'ABCDEF@call', 'call'],
    ];
    for (const [text, id, kind] of rows) {
        it(`is read: ${text}`, () => assert.deepEqual(readId(text), { id, kind }));
    }
    for (const text of ['5511988887777', "1'2@c.us", '1@', '@c.us', '1@x.org', '1@c.us@c.us', '../x@c.us']) {
        it(`is none: ${text}`, () => assert.equal(readId(text), null));
    }
});

describe('the person that a message is for', () => {
    it('is named by number or by id', () => {
        assert.deepEqual(
            readRecipient(5511988887777).likely,
            BRUNO.map((each) => `${each}@c.us`),
        );
        assert.deepEqual(readRecipient(' 7@lid ').likely, ['7@lid']);
        assert.deepEqual(readRecipient('120363000000000001@g.us').known, ['120363000000000001@g.us']);
        assert.deepEqual(readRecipient('51988887777@c.us', '55').likely, ['51988887777@c.us']);
    });

    it('may be Brazilian under either form of the id', () => {
        const { likely } = readRecipient('551188887777@c.us');
        assert.deepEqual(likely, ['551188887777@c.us', '5511988887777@c.us']);
    });

    it('is not looked at where it is far too long', () => {
        const before = performance.now();
        for (const to of ['\ufdfa'.repeat(300_000), '1'.repeat(1_000_000), `${'a'.repeat(1_000_000)}@c.us`]) {
            assert.throws(() => readRecipient(to, '55'), { status: 400 });
        }
        assert.ok(performance.now() - before < 500);
    });

    it('is nobody where nobody can be written to', () => {
        for (const to of ['status@broadcast', '1@broadcast', 'A@call', '1@example.org']) {
            assert.throws(
                () => readRecipient(to),
                (error) => error.body.code === 'bad_number',
                to,
            );
        }
    });
});

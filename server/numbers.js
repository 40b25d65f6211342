'use strict';

/**
 * Recipients, as people and programs write them: phone numbers with or without the code of their country, and
 * WhatsApp's ids. Pure functions; only WhatsApp knows whether a number is in use.
 *
 * The countries' number plans are those of Google's libphonenumber, as libphonenumber-js has them. A number
 * that it calls possible is looked up at WhatsApp, even if it knows no such numbers: new ones come.
 */

const { HttpError } = require('./http');

/** Nobody writes a number with more characters: longer texts are not parsed. */
const MOST_CHARACTERS = 100;
/** A number with the code of its country has so many digits (E.164). */
const MOST_DIGITS = 15;
const LEAST_DIGITS = 7;
/** Digits that are so many are a number with its code: hardly any is so long where it is dialled at home. */
const LONG_DIGITS = 12;

/** Mobile numbers of Brazil have a ninth digit since 2016; WhatsApp's ids of some have not. */
const BRAZILIAN_MOBILE = /^55([1-9][1-9])(9?)([6-9]\d{7})$/;
/** Mobile numbers of Mexico had a 1 after the code until 2019; WhatsApp's ids of some have it still. */
const OLD_MEXICAN_MOBILE = /^521(\d{10})$/;

/** Characters that people put between digits, or that are copied along with a number. */
const BETWEEN = /[\s().\-/\u2010-\u2015\p{Cf}]/gu;

/**
 * The meanings of a number, best first, or an id, as texts: `likely` to look up at WhatsApp in this order;
 * `known` to search among existing chats.
 *
 * @typedef {{known: string[], likely: string[]}} Recipient
 */

/** Load the number plans, which takes some 30 ms. Otherwise the first number does. */
function loadPlans() {
    return require('libphonenumber-js/max');
}

/**
 * Read digits that begin with the code of their country, perhaps with the 0 that is dialled at home after it.
 *
 * @param {string} digits
 * @returns {{digits: string, isInUse: boolean}|null} null = no number of that country looks like that;
 *   `isInUse`: its country has given out such numbers
 */
function asPlanned(digits) {
    const { parsePhoneNumberFromString: parse } = loadPlans();
    const find = (/** @type {string} */ text) => {
        const found = parse(`+${text}`, { extract: false });
        return found?.isPossible() ? found : null;
    };
    const [, mexican] = digits.match(OLD_MEXICAN_MOBILE) ?? [];
    const found = find(mexican === undefined ? digits : `52${mexican}`);
    if (found === null) return null;
    const plain = mexican === undefined ? found.number.slice(1) : digits;
    return { digits: plain, isInUse: found.isValid() || forms(plain).some((each) => find(each)?.isValid()) };
}

/**
 * Likewise digits as they are dialled within a country.
 *
 * @param {string} country
 * @param {string} digits
 */
function asDialledIn(country, digits) {
    const { parsePhoneNumberFromString: parse } = loadPlans();
    const isOfIt = parse(`+${country}${digits}`, { extract: false })?.countryCallingCode === country;
    return isOfIt ? asPlanned(country + digits) : null;
}

/**
 * @param {string} message
 * @param {string} [hint]
 */
const bad = (message, hint) => new HttpError(400, message, { code: 'bad_number', hint });
const notNumber = () =>
    bad(
        'this is neither a phone number nor the id of a chat',
        'write the number with the code of its country, such as +55 11 98888-7777',
    );
const withoutCountry = () =>
    bad(
        'this looks like a number without the code of its country',
        'put + and the code of the country before it, or set instances.default_country ' +
            '(WAPORTD_DEFAULT_COUNTRY)',
    );

/**
 * Read a number as people write it.
 *
 * @param {string} text
 * @param {string|null} country the code of the country of numbers that say none, in digits
 * @returns {Recipient} digits with the code of the country. `likely`: best first, to
 *   look up at WhatsApp in this order; `known`: all that it can mean, to search among existing chats, whose
 *   numbers have the code of their country
 * @throws {HttpError} 400 `bad_number`
 */
function readNumber(text, country) {
    if (text.length > MOST_CHARACTERS) throw notNumber();
    const bare = text.normalize('NFKC').replace(/^tel:/i, '').replace(BETWEEN, '');
    if (!/^\+?\d+$/.test(bare)) throw notNumber();
    const digits = bare.replace(/^\+/, '').replace(/^00/, '');
    const international = asPlanned(digits);
    if (/^(\+|00)/.test(bare)) {
        if (international === null) throw notNumber();
        const all = forms(international.digits);
        return { known: all, likely: all };
    }
    const national = country === null ? null : asDialledIn(country, digits);
    const isLong = digits.length >= LONG_DIGITS;
    // A number that is impossible with the code that it seems to have was written without one.
    const isClear = isLong || international?.isInUse || (country !== null && national === null);
    const known = [isClear ? international : null, national].filter((each) => each !== null);
    if (known.length === 0) {
        if (digits.length < LEAST_DIGITS || digits.length > MOST_DIGITS) throw notNumber();
        throw withoutCountry();
    }
    // If both are possible, it is a number of this country, unless there is a chat with the other.
    const likely = isLong ? known : [...known].reverse();
    const [best] = [...likely.filter(({ isInUse }) => isInUse), ...likely];
    return { known: [...new Set(known.flatMap((each) => forms(each.digits)))], likely: forms(best.digits) };
}

/** A number, and for a mobile of Brazil the same with or without its ninth digit. @param {string} digits */
function forms(digits) {
    const [, area, ninth, rest] = digits.match(BRAZILIAN_MOBILE) ?? [];
    if (area === undefined) return [digits];
    return [digits, `55${area}${ninth === '' ? '9' : ''}${rest}`];
}

/** What ids name, by their part after the at sign. Ids without a row are not understood. */
const KINDS = /** @type {Record<string, string|null>} */ ({
    __proto__: null,
    'c.us': 'person',
    's.whatsapp.net': 'person',
    lid: 'person',
    'hosted.lid': 'person',
    hosted: 'person',
    bot: 'person',
    'g.us': 'group',
    newsletter: 'channel',
    broadcast: 'broadcast',
    call: 'call',
});
const ID = /^([A-Za-z0-9._-]{1,64})(?::\d{1,5})?@([a-z.]{1,32})$/;

/**
 * Read an id of WhatsApp's, in the form that its page uses: without the device, people by `@c.us`.
 *
 * @param {unknown} text
 * @returns {{id: string, kind: string}|null} `kind`: person, group, channel, status, broadcast or call; null
 *   where it is none
 */
function readId(text) {
    const [, user, server] = String(text).trim().match(ID) ?? [];
    const kind = server === undefined ? undefined : KINDS[server];
    if (!kind) return null;
    if (server === 'broadcast' && user === 'status') return { id: 'status@broadcast', kind: 'status' };
    return { id: `${user}@${server === 's.whatsapp.net' ? 'c.us' : server}`, kind };
}

/** To what one cannot write from here, and why. */
const CLOSED = /** @type {Record<string, string>} */ ({
    status: 'a status is not written from here',
    broadcast: 'a list of recipients is not written to from here',
    call: 'a call is not written to',
});

/**
 * Read the recipient of a message.
 *
 * @param {string|number} to a number as people write it, or an id
 * @param {string|null} country as for `readNumber`
 * @returns {Recipient} ids: of those in `known` the first whose chat there is, else
 *   the first in `likely` that WhatsApp knows
 * @throws {HttpError} 400 `bad_number`
 */
function readRecipient(to, country = null) {
    const text = String(to).trim();
    if (text.includes('@')) {
        const read = readId(text);
        if (read === null) throw notNumber();
        if (read.kind in CLOSED) {
            throw bad(CLOSED[read.kind], 'write to a person, a group or a channel of your own');
        }
        // An id is exact; but WhatsApp may know the same person by the other form of the number.
        const [digits, server] = read.id.split('@');
        const all = server === 'c.us' ? forms(digits).map((each) => `${each}@c.us`) : [read.id];
        return { known: all, likely: all };
    }
    const { known, likely } = readNumber(text, country);
    const asIds = (/** @type {string[]} */ numbers) => numbers.map((each) => `${each}@c.us`);
    return { known: asIds(known), likely: asIds(likely) };
}

module.exports = { loadPlans, readId, readNumber, readRecipient };

/** Phone numbers, as people write and read them. Pure. */

import { PHONE_DIGITS } from './contract.mjs';

const [LEAST, MOST] = PHONE_DIGITS;

/** The most digits of a number with an area code but no country code: more have both. */
const NATIONAL_MOST = 10;

/**
 * Read a phone number.
 *
 * @param {string} text
 * @param {string} country how numbers without a country code are meant: `55`, or '' where that is not known
 * @returns {?string} `+5511999998888`, or null where it is none, or of no known country
 */
export function phoneOf(text, country = '') {
    const digits = text.replace(/[\s().+-]/g, '');
    if (!/^[1-9]\d*$/.test(digits)) return null;
    if (/^\s*\+/.test(text)) return whole(digits);
    // Of Brazil, which has ten digits, or eleven for a mobile phone.
    if (country === '55' && [10, 11].includes(digits.length)) return whole(country + digits);
    return digits.length > NATIONAL_MOST ? whole(digits) : null;
}

const whole = (/** @type {string} */ digits) =>
    digits.length >= LEAST && digits.length <= MOST ? `+${digits}` : null;

/** Write a number so that it can be read: +55 11 99999-0001. */
export function phoneText(/** @type {string} */ number) {
    const digits = String(number).replace(/^\+/, '');
    const brazil = digits.match(/^(55)(\d{2})(\d{4,5})(\d{4})$/);
    return brazil ? `+${brazil.slice(1, 4).join(' ')}-${brazil[4]}` : `+${digits}`;
}

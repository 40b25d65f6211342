/** Phone numbers, as people write and read them. Pure. */

import { PHONE_DIGITS } from './contract.mjs';

const [LEAST, MOST] = PHONE_DIGITS;

/** Read a phone number. @returns {?string} `+5511999998888`, or null where it is none */
export function phoneOf(/** @type {string} */ text) {
    const digits = text.replace(/[\s().+-]/g, '');
    return /^[1-9]\d*$/.test(digits) && digits.length >= LEAST && digits.length <= MOST ? `+${digits}` : null;
}

/** Write a number so that it can be read: +55 11 99999-0001. */
export function phoneText(/** @type {string} */ number) {
    const digits = String(number).replace(/^\+/, '');
    const brazil = digits.match(/^(55)(\d{2})(\d{4,5})(\d{4})$/);
    return brazil ? `+${brazil.slice(1, 4).join(' ')}-${brazil[4]}` : `+${digits}`;
}

/** Phone numbers, as people write and read them. Pure. */

/** Read a phone number. @returns {?string} `+5511999998888`, or null where it is none */
export function phoneOf(text) {
    const digits = text.replace(/[\s().+-]/g, '');
    return /^[1-9]\d{7,14}$/.test(digits) ? `+${digits}` : null;
}

/** Write a number so that it can be read: +55 11 99999-0001. */
export function phoneText(number) {
    const digits = String(number).replace(/^\+/, '');
    const brazil = digits.match(/^(55)(\d{2})(\d{4,5})(\d{4})$/);
    return brazil ? `+${brazil.slice(1, 4).join(' ')}-${brazil[4]}` : `+${digits}`;
}

'use strict';

/** The part of a list that a call wants. */

const { HttpError } = require('./http');

/**
 * Read a whole number, or the usual one where none is given.
 *
 * @param {string|null} text
 * @param {string} name
 * @param {number} least
 * @param {number} usual
 * @throws {HttpError} 400
 */
function wholeNumber(text, name, least, usual) {
    if (text === null || text === '') return usual;
    const value = /^\d{1,9}$/.test(text) ? Number(text) : -1;
    if (value < least) throw new HttpError(400, `${name} must be a whole number from ${least}`);
    return value;
}

/**
 * Read which part of a list is wanted: `many`, after the `first`.
 *
 * @param {import('./types').GivenPage} page
 * @param {number} usual how many, unless that is given
 * @param {number} most how many at most; who wants more gets so many
 * @throws {HttpError} 400
 */
function readPage({ limit, offset }, usual, most) {
    const many = Math.min(wholeNumber(limit, 'limit', 1, usual), most);
    return { many, first: wholeNumber(offset, 'offset', 0, 0) };
}

module.exports = { readPage };

'use strict';

/**
 * One line per event on standard output. The journal gets sd-daemon(3) priorities, a terminal gets the time.
 * What is passed in must hold no secret: no QR text, pairing code, message body or full phone number.
 */

const PRIORITY = { error: 3, warning: 4, info: 6, debug: 7 };

function fieldText(/** @type {unknown} */ value) {
    const text = String(value);
    return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}

/**
 * Turn control characters into spaces, so that text from outside cannot start a line (or a field) of its own,
 * and leave out what is not seen and changes how the rest looks: directions, joiners, tags, half characters.
 *
 * @param {unknown} text
 */
function oneLine(text) {
    return String(text)
        .replace(/[\p{Cf}\p{Cs}]+/gu, '')
        .replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ')
        .trim();
}

/**
 * Make the log of one server.
 *
 * @param {string} label the owner of the server: starts each line
 * @param {{journal?: boolean, write?: (line: string) => void}} [sink]
 * @returns {import('./types').Log}
 */
function createLog(label, { journal = Boolean(process.env.JOURNAL_STREAM), write } = {}) {
    const out = write ?? ((/** @type {string} */ line) => process.stdout.write(line));
    const emit =
        (/** @type {keyof typeof PRIORITY} */ level) =>
        (/** @type {string} */ event, /** @type {object} */ fields = {}) => {
            const tail = Object.entries(fields)
                .filter(([, value]) => value !== undefined && value !== null)
                .map(([key, value]) => ` ${key}=${fieldText(oneLine(value))}`)
                .join('');
            const head = journal ? `<${PRIORITY[level]}>` : `${new Date().toISOString()} ${level}: `;
            out(`${head}${oneLine(`${label}: ${event}`)}${tail}\n`);
        };
    return { error: emit('error'), warning: emit('warning'), info: emit('info'), debug: emit('debug') };
}

module.exports = { createLog, oneLine };

/** Figures, times and problems as people read them, in the language of the dashboard. Pure. */

import { dashboardText as text } from './texts.mjs';

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB'];

/** To make a formatter takes longer than to use it, and a table has thousands of figures. */
const made = /** @type {Map<string, Intl.NumberFormat>} */ (new Map());

function formatter(/** @type {Intl.NumberFormatOptions} */ options) {
    const key = `${text.language} ${Object.values(options)}`;
    const known = made.get(key) ?? new Intl.NumberFormat(text.language, options);
    made.set(key, known);
    return known;
}

/** Write a number, with so many digits after the comma. */
export const figure = (/** @type {number} */ value, digits = 0) =>
    formatter({ minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);

/** Write bytes with two or three digits: 231 MB, 1.4 GB (powers of 1024). */
export function bytes(/** @type {number} */ count) {
    let power = 0;
    let number = count;
    while (number >= 1000 && power < UNITS.length - 1) {
        number /= 1024;
        power += 1;
    }
    return `${figure(number, power > 0 && number < 10 ? 1 : 0)} ${UNITS[power]}`;
}

/** Write what a session keeps on disk: 120 MB login, 40 MB cache, 3 MB journal. */
export const diskText = (/** @type {import('./types').Sizes} */ { login, cache, journal, snapshots }) =>
    text.disk(bytes(login), bytes(cache), bytes(journal), bytes(snapshots));

/** Write how long ago a time was, in the largest unit: 12 s, 3 min, 5 h, 9 d; – where it is not known. */
export function age(/** @type {string|null} */ timestamp, /** @type {number} */ now) {
    if (timestamp === null) return '–';
    const seconds = Math.max(0, Math.round((now - Date.parse(timestamp)) / 1000));
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 2 * 86_400) return `${Math.floor(seconds / 3600)} h`;
    return `${figure(Math.floor(seconds / 86_400))} d`;
}

/** Write a share of one processor: 3.4%, 118%. */
export const percent = (/** @type {number} */ share) =>
    formatter({ style: 'percent', maximumFractionDigits: share < 0.0995 ? 1 : 0 }).format(share);

/** Write a moment in the visitor's time zone, to the second. */
export const moment = (/** @type {string} */ timestamp) =>
    new Date(timestamp).toLocaleString(text.language, {
        dateStyle: 'medium',
        timeStyle: 'medium',
        hourCycle: 'h23',
    });

/** Write the time of day. */
export const timeOfDay = (/** @type {string} */ timestamp) =>
    new Date(timestamp).toLocaleTimeString(text.language, { timeStyle: 'medium', hourCycle: 'h23' });

/**
 * Write what went wrong, and how to fix it. What the daemon says of it is English.
 *
 * @param {import('./api.mjs').Problem} problem
 */
export function explained({ status, message, hint }) {
    return status === 0 ? text.unreachable : [message, hint].filter(Boolean).join('. ');
}

/** Write a moment with its time zone. */
export const momentWithZone = (/** @type {string} */ timestamp) =>
    new Date(timestamp).toLocaleString(text.language, {
        dateStyle: 'medium',
        timeStyle: 'long',
        hourCycle: 'h23',
    });

/** Write a day with its weekday. */
export const longDay = (/** @type {string} */ timestamp) =>
    new Date(timestamp).toLocaleDateString(text.language, { dateStyle: 'full' });

/** Write hour and minute of a time in milliseconds. */
export const hourAndMinute = (/** @type {number} */ at) =>
    new Date(at).toLocaleTimeString(text.language, { timeStyle: 'short', hourCycle: 'h23' });

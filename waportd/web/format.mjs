/** Figures as people read them. Pure. */

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB'];

/** Write bytes with two or three digits: 231 MB, 1.4 GB (powers of 1024). */
export function bytes(/** @type {number} */ count) {
    let power = 0;
    let number = count;
    while (number >= 1000 && power < UNITS.length - 1) {
        number /= 1024;
        power += 1;
    }
    return `${power > 0 && number < 10 ? number.toFixed(1) : Math.round(number)} ${UNITS[power]}`;
}

/** Write what a session keeps on disk: 120 MB login, 40 MB cache, 3 MB journal. */
export const diskText = (/** @type {import('./types').Sizes} */ { login, cache, journal, snapshots }) =>
    `${bytes(login)} login, ${bytes(cache)} cache, ${bytes(journal)} journal, ${bytes(snapshots)} snapshots`;

/** Write how long ago a time was, in its largest unit: 12 s, 3 min, 5 h, 9 d. */
export function age(/** @type {string} */ timestamp, /** @type {number} */ now) {
    const seconds = Math.max(0, Math.round((now - Date.parse(timestamp)) / 1000));
    if (seconds < 60) return `${seconds} s`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 2 * 86_400) return `${Math.floor(seconds / 3600)} h`;
    return `${Math.floor(seconds / 86_400)} d`;
}

/** Write a share of one processor: 3.4 %, 118 %. */
export const percent = (/** @type {number} */ share) =>
    `${share < 0.0995 ? (share * 100).toFixed(1) : Math.round(share * 100)} %`;

/** Write a moment in the visitor's time zone, to the second. */
export const moment = (/** @type {string} */ timestamp) =>
    new Date(timestamp).toLocaleString('sv-SE', { dateStyle: 'short', timeStyle: 'medium' });

/** Write the time of day. */
export const timeOfDay = (/** @type {string} */ timestamp) => new Date(timestamp).toLocaleTimeString('sv-SE');

/** Lines of a log, as they are shown, searched and kept in a file. Pure. */

/** syslog(3): 3 is an error, 4 a warning, 7 debugging. */
export const severityOf = (/** @type {number} */ priority) =>
    priority <= 3 ? 'bad' : priority === 4 ? 'warn' : priority === 7 ? 'quiet' : null;

/** A user's server names the user at the beginning of each line. The panel says whose it is. */
export function withoutName(/** @type {string} */ message, /** @type {string} */ user) {
    const name = `user ${user}: `;
    return message.startsWith(name) ? message.slice(name.length) : message;
}

/** The day of a moment in the visitor's time zone: two are equal or not. */
export const dayOf = (/** @type {string} */ timestamp) => new Date(timestamp).toDateString();

/**
 * Cut a text where it has what is looked for, whatever its case.
 *
 * @returns {{text: string, isHit: boolean}[]}
 */
export function pieces(/** @type {string} */ text, /** @type {string} */ query) {
    if (query === '') return [{ text, isHit: false }];
    const pattern = new RegExp(query.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'), 'giu');
    const found = [];
    let at = 0;
    for (const { 0: hit, index } of text.matchAll(pattern)) {
        if (index > at) found.push({ text: text.slice(at, index), isHit: false });
        found.push({ text: hit, isHit: true });
        at = index + hit.length;
    }
    if (at < text.length || found.length === 0) found.push({ text: text.slice(at), isHit: false });
    return found;
}

const NAMES = ['emergency', 'alert', 'critical', 'error', 'warning', 'notice', 'info', 'debug'];

/** The lines as a file has them: when, how bad, its source, what. */
export const asText = (/** @type {import('./types').LogLine[]} */ lines, /** @type {string} */ user) =>
    lines
        .map(({ time, priority, source, message }) => {
            // What has several lines is one, so that each begins with its time.
            const words = withoutName(message, user).replace(/\s*\n\s*/g, ' ');
            return `${time} ${NAMES[priority] ?? priority} ${source}: ${words}\n`;
        })
        .join('');

/** Name the file for whose log it has, and when it was read. */
export const fileName = (/** @type {string} */ user, /** @type {number} */ at) =>
    `waportd-${user}-${new Date(at).toISOString().slice(0, 19).replaceAll(':', '')}Z.txt`;

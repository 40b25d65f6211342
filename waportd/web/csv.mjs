/** The list of users as a file for a spreadsheet. Pure. */

import { phoneText } from './phone.mjs';
import { conditionOf } from './states.mjs';
import { dashboardText as text } from './texts.mjs';

/** What a spreadsheet would take for a formula. */
const FORMULA = /^[=+\-@\t\r]/;

/** A value as a cell: quoted where it has to be (RFC 4180), and never a formula. */
function cell(/** @type {string|number|null} */ value) {
    if (typeof value === 'number') return String(value);
    const harmless = FORMULA.test(value ?? '') ? `'${value}` : (value ?? '');
    return /[",\r\n]/.test(harmless) ? `"${harmless.replaceAll('"', '""')}"` : harmless;
}

/** Some spreadsheets take a file for UTF-8 only if it begins with this. */
const MARK = '\uFEFF';

/** The rows, below a head. Memory is in bytes, the use of processors a share of one. */
export function csvOf(/** @type {import('./types').User[]} */ users) {
    const { user, port, host, session, memory, cpu } = text.table.columns;
    const isFleet = users.some((one) => one.host !== null);
    const rows = users.map((one) => {
        const condition = conditionOf(one);
        const phone = one.session?.phone_number;
        return [
            one.user,
            one.port,
            condition.word,
            condition.since,
            // Without its plus, which begins a formula.
            phone ? phoneText(phone).slice(1) : '',
            one.memory,
            one.cpu === null ? null : Number(one.cpu.toFixed(3)),
            ...(isFleet ? [one.host] : []),
        ];
    });
    const head = [user, port, session, text.csv.since, text.facts.phone, memory, cpu];
    const lines = [isFleet ? [...head, host] : head, ...rows];
    return MARK + lines.map((row) => `${row.map(cell).join(',')}\r\n`).join('');
}

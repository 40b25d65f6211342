/** A table of a dialog. */

import { el } from './dom.mjs';

/** A table below its head, which scrolls where it has no room. */
export const scrollingTable = (
    /** @type {string} */ label,
    /** @type {string[]} */ columns,
    /** @type {HTMLElement} */ rows,
) =>
    el(
        'div.scrolling',
        { tabindex: '0', role: 'region', 'aria-label': label },
        el(
            'table',
            {},
            el('thead', {}, el('tr', {}, ...columns.map((name) => el('th', { scope: 'col' }, name)))),
            rows,
        ),
    );

/** The hosts of a fleet: a dialog of the dashboard. */

import { asProblem, call } from './api.mjs';
import { el, say } from './dom.mjs';
import { figure } from './format.mjs';
import { inWords } from './saying.mjs';
import { scrollingTable } from './scrolling-table.mjs';
import { dashboardText } from './texts.mjs';

const { hosts: text, page } = dashboardText;

export class HostsDialog {
    #dialog;
    #rows = el('tbody');
    #table;
    #note = el('p.quiet', { role: 'status' });

    /** @param {HTMLDialogElement} dialog */
    constructor(dialog) {
        this.#dialog = dialog;
        this.#table = scrollingTable(page.hosts, text.columns, this.#rows);
        dialog.replaceChildren(
            el('h2', { id: 'hosts-title' }, page.hosts),
            this.#note,
            this.#table,
            el(
                'p.buttons',
                {},
                el('button.button', { type: 'button', onclick: () => dialog.close() }, page.close),
            ),
        );
    }

    /** Show the hosts as they are now. */
    async open() {
        this.#table.hidden = true;
        say(this.#note, text.reading);
        this.#dialog.showModal();
        try {
            const { host, hosts } = await call('GET', 'v1/hosts');
            this.#rows.replaceChildren(...hosts.map(rowOf));
            this.#table.hidden = false;
            say(this.#note, text.answers(host));
        } catch (error) {
            this.#note.replaceChildren(`${text.failed} `, inWords(asProblem(error)));
        }
    }
}

function rowOf(
    /** @type {import('./types').FleetHost} */ { name, address, state, alive, users, capacity, version },
) {
    const { states } = text;
    const known = /** @type {keyof typeof states} */ (alive ? state : 'silent');
    return el(
        'tr',
        {},
        el('td', {}, name),
        el('td', { 'data-severity': alive ? null : 'bad' }, states[known] ?? state),
        el('td', {}, text.users(figure(users), figure(capacity))),
        el('td', {}, el('code', {}, address)),
        el('td', {}, version),
    );
}

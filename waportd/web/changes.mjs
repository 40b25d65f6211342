/** Who changed what through the API: a dialog of the dashboard, read from the journal when it is opened. */

import { asProblem, call } from './api.mjs';
import { el, say } from './dom.mjs';
import { moment } from './format.mjs';
import { inWords } from './saying.mjs';
import { scrollingTable } from './scrolling-table.mjs';
import { dashboardText } from './texts.mjs';

const DAY_S = 86_400;
const MOST = 200;

const { changes: text, page } = dashboardText;

export class ChangesDialog {
    #dialog;
    #user = el('input.field', { autocomplete: 'off', spellcheck: 'false', maxlength: '64' });
    #since = el(
        'select.field',
        {},
        ...text.periods.map(({ days, label }) =>
            el('option', { value: days * DAY_S, selected: days === 7 }, label),
        ),
    );
    #rows = el('tbody');
    #table;
    #note = el('p.quiet', { role: 'status' });
    /** The latest request: after two quick ones, only the answer to the later one counts. */
    #asked = 0;

    /** @param {HTMLDialogElement} dialog */
    constructor(dialog) {
        this.#dialog = dialog;
        this.#table = scrollingTable(page.changes, text.columns, this.#rows);
        dialog.replaceChildren(
            el('h2', { id: 'changes-title' }, page.changes),
            el(
                'form.filters',
                {
                    onsubmit: (/** @type {SubmitEvent} */ event) => {
                        event.preventDefault();
                        this.#ask();
                    },
                },
                el('label', {}, text.user, this.#user),
                el('label', {}, text.since, this.#since),
                el('button.button', { type: 'submit' }, text.show),
            ),
            this.#note,
            this.#table,
            el(
                'p.buttons',
                {},
                el('button.button', { type: 'button', onclick: () => dialog.close() }, page.close),
            ),
        );
        this.#since.addEventListener('change', () => this.#ask());
    }

    /** Show the changes that concern a user, or all of them. */
    open(user = '') {
        this.#user.value = user;
        this.#dialog.showModal();
        this.#ask();
    }

    async #ask() {
        this.#asked += 1;
        const asked = this.#asked;
        const user = this.#user.value.trim();
        const query = { since: this.#since.value, limit: MOST, ...(user === '' ? {} : { user }) };
        say(this.#note, text.reading);
        try {
            const { changes } = await call('GET', 'v1/audit', { query });
            if (asked === this.#asked) this.#show(changes);
        } catch (error) {
            if (asked !== this.#asked) return;
            this.#table.hidden = true;
            this.#note.replaceChildren(`${text.failed} `, inWords(asProblem(error)));
        }
    }

    #show(/** @type {import('./types').Change[]} */ changes) {
        this.#rows.replaceChildren(...changes.reverse().map(rowOf));
        this.#table.hidden = changes.length === 0;
        say(this.#note, changes.length === 0 ? text.none : text.count(changes.length, MOST));
    }
}

function rowOf(
    /** @type {import('./types').Change} */ { time, caller, uid, token, address, action, status },
) {
    const id = token === null ? uid : token;
    return el(
        'tr',
        {},
        el('td', {}, el('time', { datetime: time }, moment(time))),
        el('td', {}, caller ?? '–', id === null ? null : el('span.quiet', {}, ` ${id}`)),
        el('td', {}, address ?? text.socket),
        el('td', {}, el('code', {}, action ?? '–')),
        el('td', { 'data-severity': Number(status) < 400 ? null : 'bad' }, status ?? '–'),
    );
}

/** The hosts of a fleet: a dialog of the dashboard, which empties a host and takes it into use again. */

import { asProblem, call } from './api.mjs';
import { confirmed } from './confirm.mjs';
import { busy, el, idle, isBusy, say } from './dom.mjs';
import { figure } from './format.mjs';
import { rights } from './rights.mjs';
import { explain, inWords } from './saying.mjs';
import { scrollingTable } from './scrolling-table.mjs';
import { dashboardText } from './texts.mjs';

/** @typedef {import('./types').FleetHost} FleetHost */

/** Between two looks at the hosts, while the dialog is open: users who leave one are counted. */
const LOOK_MS = 2_000;

const { hosts: text, page } = dashboardText;

export class HostsDialog {
    #dialog;
    /** @type {Map<string, HostRow>} */
    #rows = new Map();
    #body = el('tbody');
    #table;
    #note = el('p.quiet', { role: 'status' });
    #problem = el('p.problem', { role: 'alert' });
    #stuck = el('ul.stuck');
    /** @type {number|undefined} */
    #looking;

    /** @param {HTMLDialogElement} dialog */
    constructor(dialog) {
        this.#dialog = dialog;
        this.#table = scrollingTable(page.hosts, text.columns, this.#body);
        dialog.replaceChildren(
            el('h2', { id: 'hosts-title' }, page.hosts),
            this.#note,
            this.#table,
            this.#stuck,
            this.#problem,
            el(
                'p.buttons',
                {},
                el('button.button', { type: 'button', onclick: () => dialog.close() }, page.close),
            ),
        );
        dialog.addEventListener('close', () => clearInterval(this.#looking));
    }

    /** Show the hosts as they are now, and then as they change. */
    async open() {
        this.#table.hidden = true;
        say(this.#note, text.reading);
        say(this.#problem, '');
        this.#dialog.showModal();
        this.#looking = setInterval(() => this.#look(), LOOK_MS);
        await this.#look();
    }

    async #look() {
        try {
            const { host, hosts } = await call('GET', 'v1/hosts');
            this.#show(hosts);
            say(this.#note, text.answers(host));
        } catch (error) {
            this.#note.replaceChildren(`${text.failed} `, inWords(asProblem(error)));
        }
    }

    #show(/** @type {FleetHost[]} */ hosts) {
        this.#table.hidden = false;
        for (const host of hosts) {
            const known = this.#rows.get(host.name) ?? new HostRow((pressed) => this.#change(pressed));
            this.#rows.set(host.name, known);
            known.show(host);
        }
        // Those that have left are gone; the others keep their place, and the focus.
        const elements = hosts.flatMap(({ name }) => this.#rows.get(name)?.element ?? []);
        const isSame = elements.every((element, place) => element === this.#body.children[place]);
        if (!isSame || elements.length !== this.#body.children.length)
            this.#body.replaceChildren(...elements);
        const stuck = hosts.flatMap(({ name, stuck: users }) =>
            users.map(({ user, message }) => [text.stuck(user, name), message]),
        );
        const key = JSON.stringify(stuck);
        if (this.#stuck.dataset.key === key) return;
        this.#stuck.dataset.key = key;
        this.#stuck.replaceChildren(
            ...stuck.map(([who, why]) => el('li', {}, `${who} `, el('span', { lang: 'en' }, why))),
        );
    }

    /** Drain a host, or activate it. */
    async #change(/** @type {HostRow} */ row) {
        const { name, state, users } = row.host;
        const isActive = state === 'active';
        const { label, ask, about } = text.drain;
        if (isBusy(row.button)) return;
        if (isActive && !(await confirmed({ title: ask(name), about: about(figure(users)), label }))) return;
        say(this.#problem, '');
        busy(row.button, isActive ? label : text.activate);
        try {
            await call('POST', `v1/hosts/${name}/${isActive ? 'drain' : 'activate'}`);
        } catch (error) {
            explain(this.#problem, asProblem(error));
        } finally {
            idle(row.button, row.label);
        }
        await this.#look();
    }
}

/** One host. */
class HostRow {
    /** @type {FleetHost} */
    host = { name: '', address: '', state: '', alive: false, users: 0, capacity: 0, version: '', stuck: [] };
    #cells = Array.from({ length: 6 }, () => el('td'));
    element = el('tr', {}, ...this.#cells);
    button;

    /** @param {(row: HostRow) => void} onChange */
    constructor(onChange) {
        this.button = el('button.button', { type: 'button', onclick: () => onChange(this) });
        this.#cells[5].append(this.button);
    }

    /** What the button does. */
    get label() {
        return this.host.state === 'active' ? text.drain.label : text.activate;
    }

    show(/** @type {FleetHost} */ host) {
        this.host = host;
        const { name, address, state, alive, users, capacity, version } = host;
        const { states } = text;
        const known = /** @type {keyof typeof states} */ (alive ? state : 'silent');
        const said = [
            name,
            states[known] ?? state,
            text.users(figure(users), figure(capacity)),
            address,
            version,
        ];
        for (const [place, words] of said.entries()) say(this.#cells[place], words);
        if (alive) delete this.#cells[1].dataset.severity;
        else this.#cells[1].dataset.severity = 'bad';
        this.button.hidden = !rights.isAdmin || !alive;
        if (!isBusy(this.button)) say(this.button, this.label);
        this.button.setAttribute('aria-label', `${this.label} ${name}`);
    }
}

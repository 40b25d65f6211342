/**
 * The table of all users. A row is made once and then changed where it differs, so that 500 cost little.
 *
 * Rows are grids with roles, not a <table>: the browser leaves out rows that are off screen
 * (content-visibility), which it does not do for those of a table.
 */

import { now } from './api.mjs';
import { el, icon, say } from './dom.mjs';
import { age, bytes, moment, percent } from './format.mjs';
import { phoneText } from './phone.mjs';
import { ORDER, conditionOf, matches, processWords } from './states.mjs';

const COLUMNS = {
    user: 'User',
    port: 'Port',
    process: 'Process',
    session: 'Session',
    since: 'Since',
    memory: 'Memory',
    cpu: 'CPU',
    restarts: 'Restarts',
};

class Row {
    constructor(
        /** @type {string} */ name,
        /** @type {import('./types').RowActions} */ { onOpen, onConnect, connectAddress },
    ) {
        this.name = el('button.name', { type: 'button', onclick: () => onOpen(name) }, name);
        this.port = el('span');
        this.process = el('span.dot');
        this.word = el('span.pill');
        this.about = el('span.about');
        this.since = el('time');
        this.memory = el('span');
        this.cpu = el('span');
        this.restarts = el('span');
        this.link = el(
            'a.open',
            {
                href: connectAddress(name),
                target: '_blank',
                rel: 'noopener',
                'aria-label': `Connect page of ${name}`,
                title: 'Connect page',
                onclick: (/** @type {Event} */ event) => onConnect(event, name),
            },
            icon('open'),
        );
        const cell = (/** @type {string} */ kind, /** @type {(Node|string)[]} */ ...children) =>
            el(`div.${kind}`, { role: 'cell' }, ...children);
        this.element = el(
            'div.row',
            { role: 'row', 'data-user': name },
            cell('user', this.name),
            cell('port', this.port),
            cell('process', this.process),
            cell('session', this.word, this.about),
            cell('since', this.since),
            cell('memory', this.memory),
            cell('cpu', this.cpu),
            cell('restarts', this.restarts),
            cell('link', this.link),
        );
    }

    show(/** @type {import('./types').User} */ user) {
        const { process, session } = user;
        const condition = conditionOf(user);
        const [group, word] = processWords(process.state);
        say(this.port, String(user.port));
        say(this.process, word);
        mark(this.process, group);
        say(this.word, condition.bySession ? condition.word : '');
        mark(this.word, condition.group);
        mark(this.element, condition.group);
        say(this.about, aboutOf(condition, session));
        if (this.about.title !== (condition.message ?? '')) this.about.title = condition.message ?? '';
        say(this.since, age(condition.since, now()));
        if (this.since.dateTime !== condition.since) {
            this.since.dateTime = condition.since;
            this.since.title = moment(condition.since);
        }
        say(this.memory, user.memory === null ? '–' : bytes(user.memory));
        say(this.cpu, user.cpu === null ? '–' : percent(user.cpu));
        say(this.restarts, String(process.restarts));
        this.restarts.classList.toggle('some', process.restarts > 0);
    }
}

function mark(/** @type {HTMLElement} */ element, /** @type {string} */ group) {
    if (element.dataset.group !== group) element.dataset.group = group;
}

/** Who is linked, or what is wrong, or nothing. */
function aboutOf(
    /** @type {ReturnType<typeof conditionOf>} */ { group, word, message },
    /** @type {import('./types').Session|null} */ session,
) {
    if (group === 'linked' && session)
        return [session.name, session.phone_number && phoneText(session.phone_number)]
            .filter(Boolean)
            .join(' · ');
    return message === null || message === word ? '' : message;
}

export class UsersTable {
    query = '';
    group = /** @type {string|null} */ (null);
    column = 'port';
    descending = false;
    /** @type {Map<string, Row>} */
    #rows = new Map();
    #headers = new Map();
    /** @type {string|null} */
    #selected = null;
    #actions;
    #body = el('div.rows', { role: 'rowgroup' });
    #nothing;

    /**
     * @param {HTMLElement} place
     * @param {import('./types').TableActions} actions
     */
    constructor(place, actions) {
        this.#actions = actions;
        for (const [column, label] of Object.entries(COLUMNS)) {
            const button = el(
                'button',
                { type: 'button', onclick: () => this.sortBy(column) },
                label,
                icon('up'),
            );
            this.#headers.set(column, el(`div.${column}`, { role: 'columnheader' }, button));
        }
        const last = el('div.link', { role: 'columnheader' }, el('span.unseen', {}, 'Connect page'));
        this.#nothing = el(
            'p.nothing',
            { hidden: true },
            'No user matches. ',
            el('button.button.text', { type: 'button', onclick: actions.onClear }, 'Show all'),
        );
        place.append(
            el(
                'div.table',
                { role: 'table', 'aria-label': 'Users' },
                el(
                    'div',
                    { role: 'rowgroup' },
                    el('div.row.head', { role: 'row' }, ...this.#headers.values(), last),
                ),
                this.#body,
            ),
            this.#nothing,
        );
    }

    get columns() {
        return COLUMNS;
    }

    sortBy(/** @type {string} */ column, descending = column === this.column ? !this.descending : false) {
        this.column = column;
        this.descending = descending;
        this.#actions.onSort();
    }

    select(/** @type {string|null} */ name) {
        this.#rows.get(this.#selected ?? '')?.element.removeAttribute('aria-current');
        this.#selected = name;
        this.#rows.get(name ?? '')?.element.setAttribute('aria-current', 'true');
    }

    /** Show these users, as far as they are looked for. @returns {number} how many that are */
    show(/** @type {Map<string, import('./types').User>} */ users) {
        for (const [name, row] of this.#rows) {
            if (users.has(name)) continue;
            row.element.remove();
            this.#rows.delete(name);
        }
        const wanted = [...users.values()].filter(
            (user) =>
                (this.group === null || conditionOf(user).group === this.group) &&
                (this.query === '' || matches(user, this.query)),
        );
        const direction = this.descending ? -1 : 1;
        const order = ORDER[this.column];
        wanted.sort((a, b) => direction * order(a, b) || ORDER.port(a, b));
        this.#place(wanted.map((user) => this.#row(user)));
        for (const [column, header] of this.#headers) {
            if (column === this.column)
                header.setAttribute('aria-sort', this.descending ? 'descending' : 'ascending');
            else header.removeAttribute('aria-sort');
        }
        this.#nothing.hidden = wanted.length > 0 || users.size === 0;
        return wanted.length;
    }

    #row(/** @type {import('./types').User} */ user) {
        let row = this.#rows.get(user.user);
        if (row === undefined) {
            row = new Row(user.user, this.#actions);
            this.#rows.set(user.user, row);
            if (user.user === this.#selected) row.element.setAttribute('aria-current', 'true');
        }
        row.show(user);
        return row.element;
    }

    /** Put the rows in order, moving as few as possible, and keep the focus where it was. */
    #place(/** @type {Element[]} */ elements) {
        const focused = /** @type {HTMLElement|null} */ (document.activeElement);
        const wanted = new Set(elements);
        for (const element of [...this.#body.children]) if (!wanted.has(element)) element.remove();
        let next = this.#body.firstElementChild;
        for (const element of elements) {
            if (element === next) next = element.nextElementSibling;
            else this.#body.insertBefore(element, next);
        }
        if (focused !== document.activeElement && focused?.isConnected)
            focused.focus({ preventScroll: true });
    }
}

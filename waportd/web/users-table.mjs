/**
 * The table of all users. A row is made once and then changed where it differs, so that 500 cost little.
 *
 * Rows are grids with roles, not a <table>: the browser leaves out rows that are off screen
 * (content-visibility), which it does not do for those of a table.
 */

import { now } from './api.mjs';
import { el, icon, say } from './dom.mjs';
import { age, bytes, figure, moment, percent } from './format.mjs';
import { phoneText } from './phone.mjs';
import { ORDER, conditionOf, matches, stateWords } from './states.mjs';
import { dashboardText as text } from './texts.mjs';

/** Where the head of the table is not shown, as in dashboard.css. */
const NARROW = matchMedia('(max-width: 620px)');

class Row {
    constructor(
        /** @type {string} */ name,
        /** @type {import('./types').RowActions} */ { onOpen, onSelect, onConnect, connectAddress },
    ) {
        this.choice = el('input', {
            type: 'checkbox',
            tabindex: '-1',
            'aria-label': text.bulk.select(name),
            onclick: (/** @type {MouseEvent} */ { shiftKey }) =>
                onSelect(name, this.choice.checked, shiftKey),
        });
        this.name = el(
            'button.name',
            { type: 'button', tabindex: '-1', onclick: () => onOpen(name), title: name },
            name,
        );
        this.port = el('span');
        this.host = el('span');
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
                tabindex: '-1',
                'aria-label': text.table.connectOf(name),
                title: text.table.connect,
                onclick: (/** @type {Event} */ event) => onConnect(event, name),
            },
            icon('open'),
        );
        const cell = (/** @type {string} */ kind, /** @type {(Node|string)[]} */ ...children) =>
            el(`div.${kind}`, { role: 'gridcell' }, ...children);
        this.element = el(
            'div.row',
            { role: 'row', 'data-user': name },
            cell('choice', el('label', {}, this.choice)),
            cell('user', this.name),
            cell('port', this.port),
            cell('host', this.host),
            cell('process', this.process),
            cell('session', this.word, this.about),
            cell('since', this.since),
            cell('memory', this.memory),
            cell('cpu', this.cpu),
            cell('restarts', this.restarts),
            cell('link', this.link),
        );
    }

    show(/** @type {import('./types').User} */ user, /** @type {boolean} */ isSelected) {
        const { process, session } = user;
        this.choice.checked = isSelected;
        this.element.classList.toggle('selected', isSelected);
        const condition = conditionOf(user);
        const [group, word] = stateWords(process.state);
        say(this.port, String(user.port));
        say(this.host, user.host ?? '');
        say(this.process, word);
        mark(this.process, group);
        say(this.word, condition.word);
        // The column of the process says the same, where there is room for it.
        const isSaid = condition.word === word;
        if (this.word.classList.contains('of-process') !== isSaid)
            this.word.classList.toggle('of-process', isSaid);
        mark(this.word, condition.group);
        mark(this.element, condition.group);
        const linked = linkedAs(condition, session);
        const about = linked ?? saidOf(user.summary);
        say(this.about, about);
        // What the daemon says is English; names are of any language.
        const lang = linked === null ? 'en' : '';
        if (this.about.lang !== lang) this.about.lang = lang;
        // It is cut where it has no room.
        if (this.about.title !== about) this.about.title = about;
        say(this.since, age(condition.since, now()));
        const since = condition.since ?? '';
        if (this.since.dateTime !== since) {
            this.since.dateTime = since;
            this.since.title = since && moment(since);
        }
        say(this.memory, user.memory === null ? '–' : bytes(user.memory));
        say(this.cpu, user.cpu === null ? '–' : percent(user.cpu));
        say(this.restarts, figure(process.restarts));
        this.restarts.classList.toggle('some', process.restarts > 0);
    }
}

function mark(/** @type {HTMLElement} */ element, /** @type {string} */ group) {
    if (element.dataset.group !== group) element.dataset.group = group;
}

/** Who is linked; null where nobody is. */
function linkedAs(
    /** @type {ReturnType<typeof conditionOf>} */ { group },
    /** @type {import('./types').Session|null} */ session,
) {
    if (group !== 'linked' || !session) return null;
    return [session.name, session.phone_number && phoneText(session.phone_number)]
        .filter(Boolean)
        .join(' · ');
}

/** What is said of the state, unless that is its own word. */
const saidOf = (/** @type {import('./types').User['summary']} */ { state, message }) =>
    message === null || message === state.replaceAll('_', ' ') ? '' : message;

/** What can be pressed in a row, from left to right. @returns {HTMLElement[]} */
const controlsOf = (/** @type {Element|null|undefined} */ row) => {
    const all = /** @type {NodeListOf<HTMLElement>|undefined} */ (row?.querySelectorAll('input, button, a'));
    return [...(all ?? [])].filter(isShown);
};

/** Columns that have no room are not shown. */
const isShown = (/** @type {Element} */ one) => one.getClientRects().length > 0;

/** The checkbox of a row, or its name: where the keyboard begins. @returns {HTMLElement|undefined} */
const startOf = (/** @type {Element|null|undefined} */ row, isChoice = false) =>
    row?.querySelector(isChoice ? 'input' : '.name') ?? undefined;

export class UsersTable {
    query = '';
    group = /** @type {string|null} */ (null);
    /** The host whose users are shown; null for those of all. */
    host = /** @type {string|null} */ (null);
    column = 'port';
    descending = false;
    /** The users that are shown, in their order. @type {string[]} */
    shown = [];
    /** @type {Map<string, Row>} */
    #rows = new Map();
    #headers = new Map();
    /** @type {string|null} */
    #opened = null;
    #actions;
    /** What Tab stops at. @type {HTMLElement|null} */
    #stop = null;
    #head;
    #all;
    #body = el('div.rows', { role: 'rowgroup' });
    #nothing;

    /**
     * @param {HTMLElement} place
     * @param {import('./types').TableActions} actions
     */
    constructor(place, actions) {
        this.#actions = actions;
        for (const [column, label] of Object.entries(text.table.columns)) {
            const button = el(
                'button',
                { type: 'button', tabindex: '-1', onclick: () => this.sortBy(column) },
                label,
                icon('up'),
            );
            this.#headers.set(column, el(`div.${column}`, { role: 'columnheader' }, button));
        }
        this.#all = el('input', {
            type: 'checkbox',
            tabindex: '-1',
            'aria-label': text.bulk.shown,
            onclick: () => actions.onSelectAll(this.#all.checked),
        });
        const choice = el('div.choice', { role: 'columnheader' }, el('label', {}, this.#all));
        const last = el('div.link', { role: 'columnheader' }, el('span.unseen', {}, text.table.connect));
        this.#nothing = el(
            'p.nothing',
            { hidden: true },
            `${text.table.nothing} `,
            el('button.button.text', { type: 'button', onclick: actions.onClear }, text.table.all),
        );
        this.#head = el('div.row.head', { role: 'row' }, choice, ...this.#headers.values(), last);
        const grid = el(
            'div.table',
            {
                role: 'grid',
                'aria-label': text.table.title,
                onkeydown: (/** @type {KeyboardEvent} */ event) => this.#onKey(event),
                onfocusin: (/** @type {FocusEvent} */ event) =>
                    this.#setStop(/** @type {HTMLElement} */ (event.target)),
            },
            el('div', { role: 'rowgroup' }, this.#head),
            this.#body,
        );
        place.append(grid, this.#nothing);
        // Where the head is not shown it cannot be the tab stop.
        NARROW.addEventListener('change', () => this.#setStop(null));
    }

    sortBy(/** @type {string} */ column, descending = column === this.column ? !this.descending : false) {
        this.column = column;
        this.descending = descending;
        this.#actions.onSort();
    }

    /** Mark the user whose panel is open. */
    mark(/** @type {string|null} */ name) {
        this.#rows.get(this.#opened ?? '')?.element.removeAttribute('aria-current');
        this.#opened = name;
        this.#rows.get(name ?? '')?.element.setAttribute('aria-current', 'true');
    }

    /** Move the focus to the place where Tab stops, or to a user. */
    focus(/** @type {string|null} */ name = null) {
        const row = this.#rows.get(name ?? '')?.element;
        (row?.isConnected ? startOf(row) : this.#stop)?.focus();
    }

    /** Make this the one place of the table that Tab stops at; the first row where it is null or gone. */
    #setStop(/** @type {HTMLElement|null} */ wanted) {
        const stop = wanted?.isConnected ? wanted : this.#firstStop();
        if (stop === this.#stop) return;
        if (this.#stop) this.#stop.tabIndex = -1;
        this.#stop = stop;
        if (stop) stop.tabIndex = 0;
    }

    /** @returns {HTMLElement|null} */
    #firstStop() {
        return startOf(this.#body.firstElementChild) ?? this.#headers.get(this.column).firstElementChild;
    }

    /** Arrows move between rows and what is in them, Home and End to the first row and the last. */
    #onKey(/** @type {KeyboardEvent} */ event) {
        const { key, target, altKey, ctrlKey, metaKey, shiftKey } = event;
        if (altKey || ctrlKey || metaKey || shiftKey) return;
        const element = /** @type {HTMLElement} */ (target);
        const row = element.closest('.row');
        const isChoice = element.matches('input');
        const column = controlsOf(row).indexOf(element);
        const next = /** @type {Record<string, () => HTMLElement|undefined>} */ ({
            ArrowDown: () => this.#below(row, column, isChoice),
            ArrowUp: () => this.#above(row, column, isChoice),
            ArrowLeft: () => controlsOf(row)[column - 1],
            ArrowRight: () => controlsOf(row)[column + 1],
            Home: () => startOf(this.#body.firstElementChild, isChoice),
            End: () => startOf(this.#body.lastElementChild, isChoice),
        });
        if (!(key in next)) return;
        // The page stays, at the edge of the table, too.
        event.preventDefault();
        next[key]()?.focus();
    }

    #below(/** @type {Element|null} */ row, /** @type {number} */ column, /** @type {boolean} */ isChoice) {
        if (row === this.#head) return startOf(this.#body.firstElementChild, isChoice);
        return controlsOf(row?.nextElementSibling)[column];
    }

    #above(/** @type {Element|null} */ row, /** @type {number} */ column, /** @type {boolean} */ isChoice) {
        if (row === this.#head) return undefined;
        const above = row?.previousElementSibling;
        if (above) return controlsOf(above)[column];
        if (NARROW.matches) return undefined;
        return isChoice ? this.#all : this.#headers.get(this.column).firstElementChild;
    }

    /**
     * Show these users, as far as they are looked for.
     *
     * @param {Map<string, import('./types').User>} users
     * @param {import('./selection.mjs').Selection} selection
     */
    show(users, selection) {
        for (const [name, row] of this.#rows) {
            if (users.has(name)) continue;
            row.element.remove();
            this.#rows.delete(name);
        }
        const wanted = [...users.values()].filter(
            (user) =>
                (this.group === null || conditionOf(user).group === this.group) &&
                (this.host === null || user.host === this.host) &&
                (this.query === '' || matches(user, this.query)),
        );
        const direction = this.descending ? -1 : 1;
        const order = ORDER[this.column];
        wanted.sort((a, b) => direction * order(a, b) || ORDER.port(a, b));
        this.shown = wanted.map(({ user }) => user);
        this.#place(wanted.map((user) => this.#row(user, selection.has(user.user))));
        for (const [column, header] of this.#headers) {
            if (column === this.column)
                header.setAttribute('aria-sort', this.descending ? 'descending' : 'ascending');
            else header.removeAttribute('aria-sort');
        }
        const selected = this.shown.filter((name) => selection.has(name)).length;
        this.#all.checked = selected > 0 && selected === wanted.length;
        this.#all.indeterminate = selected > 0 && selected < wanted.length;
        this.#nothing.hidden = wanted.length > 0 || users.size === 0;
        this.#setStop(this.#stop);
    }

    #row(/** @type {import('./types').User} */ user, /** @type {boolean} */ isSelected) {
        let row = this.#rows.get(user.user);
        if (row === undefined) {
            row = new Row(user.user, this.#actions);
            this.#rows.set(user.user, row);
            if (user.user === this.#opened) row.element.setAttribute('aria-current', 'true');
        }
        row.show(user, isSelected);
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

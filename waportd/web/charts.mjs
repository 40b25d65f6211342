/** The last hours as charts: a dialog of the dashboard. All charts mark the same time. */

import { asProblem, call } from './api.mjs';
import { Chart } from './chart.mjs';
import { nearest, thinned } from './charts-geometry.mjs';
import { el, say } from './dom.mjs';
import { bytes, figure, hourAndMinute, moment } from './format.mjs';
import { inWords } from './saying.mjs';
import { dashboardText } from './texts.mjs';

const REFRESH_MS = 60_000;
/** The daemon takes its first sample some seconds after its start. */
const SOON_MS = 5000;
const HOUR_MS = 3_600_000;
/** Minutes from one row of the table to the next, by the hours that are shown. */
const BETWEEN_ROWS = /** @type {Record<number, number>} */ ({ 1: 1, 6: 5, 24: 15 });

const { charts: text, page } = dashboardText;

const count = (/** @type {number} */ value) => figure(value);
const processors = (/** @type {number} */ value) => figure(value, value < 10 && value % 1 !== 0 ? 2 : 0);

/** A figure, and how its line looks: a colour and a kind of dashes. */
const line = (
    /** @type {import('./types').Figure} */ name,
    /** @type {string} */ dashes,
    /** @type {string} */ colour,
) => ({ name, kind: `${dashes} ${colour}` });

/** @type {import('./types').ChartOf[]} */
const CHARTS = [
    {
        name: 'users',
        lines: [
            line('linked', 'first', 'good'),
            line('asleep', 'second', 'work'),
            line('idle', 'third', 'plain'),
        ],
        write: count,
        whole: true,
    },
    {
        // On a scale of their own: one problem among hundreds of users would not be seen.
        name: 'attention',
        lines: [
            line('trouble', 'first', 'bad'),
            line('waiting', 'second', 'warn'),
            line('working', 'third', 'work'),
        ],
        write: count,
        whole: true,
    },
    {
        name: 'messages',
        lines: [
            line('delivered', 'first', 'good'),
            line('queued', 'second', 'warn'),
            line('undelivered', 'third', 'bad'),
        ],
        write: count,
        whole: true,
    },
    {
        name: 'memory',
        lines: [line('servers_memory', 'first', 'good'), line('host_memory', 'second', 'work')],
        write: bytes,
        whole: false,
        most: ({ memory_total }) => memory_total,
    },
    {
        name: 'processor',
        lines: [line('servers_cpu', 'first', 'good'), line('load', 'second', 'work')],
        write: processors,
        whole: false,
    },
    { name: 'restarts', lines: [line('restarts', 'first', 'bad')], write: count, whole: true },
];

/** Figures of what happened since the sample before: those of a longer time are added up. */
const SUMMED = ['delivered', 'undelivered', 'restarts'];

export class ChartsDialog {
    #dialog;
    #charts = CHARTS.map((about) => new Chart(about, (at) => this.#point(at)));
    #periods;
    #slider = el('input', { type: 'range', min: '0', 'aria-label': text.time });
    #time = el('output');
    #note = el('p.quiet', { role: 'status' });
    #body;
    #details = el('details', { ontoggle: () => this.#fillTable() }, el('summary', {}, text.table));
    #hours = 6;
    #history = /** @type {import('./types').History|null} */ (null);
    #times = /** @type {number[]} */ ([]);
    /** The latest request: after two quick ones, only the answer to the later one counts. */
    #asked = 0;
    #timer = 0;

    /** @param {HTMLDialogElement} dialog */
    constructor(dialog) {
        this.#dialog = dialog;
        this.#periods = text.periods.map(({ hours, label }) =>
            el(
                'button.button',
                {
                    type: 'button',
                    value: hours,
                    'aria-pressed': String(hours === this.#hours),
                    onclick: () => this.#choose(hours),
                },
                label,
            ),
        );
        this.#slider.addEventListener('input', () => this.#mark());
        this.#body = el(
            'div.charts',
            { hidden: true },
            el('label.time', {}, this.#slider, this.#time),
            el('div.all', {}, ...this.#charts.map(({ element }) => element)),
            this.#details,
        );
        dialog.replaceChildren(
            el(
                'div.heading',
                {},
                el('h2', { id: 'charts-title' }, text.title),
                el('div.periods', { role: 'group', 'aria-label': text.period }, ...this.#periods),
            ),
            this.#note,
            this.#body,
            el(
                'p.buttons',
                {},
                el('button.button', { type: 'button', onclick: () => dialog.close() }, page.close),
            ),
        );
        dialog.addEventListener('close', () => clearInterval(this.#timer));
    }

    open() {
        this.#dialog.showModal();
        clearInterval(this.#timer);
        this.#timer = setInterval(() => document.hidden || this.#ask(), REFRESH_MS);
        this.#ask();
    }

    #choose(/** @type {number} */ hours) {
        this.#hours = hours;
        for (const one of this.#periods)
            one.setAttribute('aria-pressed', String(Number(one.value) === hours));
        this.#ask();
    }

    async #ask() {
        this.#asked += 1;
        const asked = this.#asked;
        const hours = this.#hours;
        if (this.#history === null) say(this.#note, text.reading);
        try {
            const history = await call('GET', 'v1/history', { query: { hours } });
            if (asked === this.#asked) this.#show(history);
        } catch (error) {
            if (asked !== this.#asked) return;
            this.#note.replaceChildren(`${text.failed} `, inWords(asProblem(error)));
        }
    }

    #show(/** @type {import('./types').History} */ history) {
        const isAtEnd = this.#history === null || Number(this.#slider.value) >= this.#times.length - 1;
        const before = this.#times[Number(this.#slider.value)];
        this.#history = history;
        this.#times = history.times.map((time) => Date.parse(time));
        const last = this.#times.length - 1;
        this.#body.hidden = last < 0;
        if (last < 0) {
            say(this.#note, text.none);
            setTimeout(() => this.#dialog.open && this.#ask(), SOON_MS);
            return;
        }
        const to = this.#times[last];
        const isYoung = Date.parse(history.since) > to - this.#hours * HOUR_MS + history.step_s * 1000;
        say(this.#note, isYoung ? text.since(moment(history.since)) : '');
        for (const chart of this.#charts) chart.show(history, this.#times, this.#hours, to);
        this.#slider.max = String(last);
        this.#slider.value = String(isAtEnd ? last : nearest(this.#times, before));
        this.#mark();
        this.#fillTable();
    }

    /** Mark the time that the slider is at. */
    #mark() {
        const index = Number(this.#slider.value);
        const time = hourAndMinute(this.#times[index]);
        say(this.#time, time);
        for (const chart of this.#charts) chart.mark(index);
        const said = /** @type {import('./types').Figure[]} */ (['linked', 'waiting', 'trouble']).map(
            (name) => {
                const value = this.#history?.[name][index] ?? null;
                return `${text.figures[name]} ${value === null ? '–' : count(value)}`;
            },
        );
        this.#slider.setAttribute('aria-valuetext', [time, ...said].join(', '));
    }

    #point(/** @type {number} */ at) {
        if (this.#times.length === 0) return;
        this.#slider.value = String(nearest(this.#times, at));
        this.#mark();
    }

    /** Write the table, if it is open: it has a thousand cells. */
    #fillTable() {
        const [summary] = this.#details.children;
        const history = this.#history;
        if (!this.#details.open || history === null) {
            this.#details.replaceChildren(summary);
            return;
        }
        const every = BETWEEN_ROWS[this.#hours];
        const times = thinned(this.#times, every, false);
        const all = CHARTS.flatMap(({ lines, write }) =>
            lines.map(({ name }) => ({
                title: text.figures[name],
                cells: thinned(history[name], every, SUMMED.includes(name)).map((value) =>
                    value === null ? '–' : write(value),
                ),
            })),
        );
        const rows = times.map((at, row) =>
            el(
                'tr',
                {},
                el('th', { scope: 'row' }, hourAndMinute(at ?? 0)),
                ...all.map(({ cells }) => el('td', {}, cells[row])),
            ),
        );
        const head = [text.time, ...all.map(({ title }) => title)];
        this.#details.replaceChildren(
            summary,
            el('p.quiet', {}, text.rows(figure(every))),
            el(
                'div.changes',
                { tabindex: '0', role: 'region', 'aria-label': text.table },
                el(
                    'table',
                    {},
                    el('thead', {}, el('tr', {}, ...head.map((title) => el('th', { scope: 'col' }, title)))),
                    el('tbody', {}, ...rows),
                ),
            ),
        );
    }
}

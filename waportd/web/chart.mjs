/** One chart: lines over time, their numbers at a time that somebody points at, and the same in words. */

import {
    HEIGHT,
    PLOT,
    WIDTH,
    extremes,
    lineThrough,
    marksUpTo,
    tidy,
    timesBetween,
    xOf,
    yOf,
} from './charts-geometry.mjs';
import { el, say } from './dom.mjs';
import { hourAndMinute } from './format.mjs';
import { dashboardText } from './texts.mjs';

const SVG = 'http://www.w3.org/2000/svg';
const MISSING = '–';

const { charts: text } = dashboardText;

/** Make an element of a drawing. @returns {any} */
function draw(
    /** @type {string} */ tag,
    /** @type {Record<string, string|number>} */ attributes,
    /** @type {(Node|string)[]} */ ...children
) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
    element.append(...children);
    return element;
}

/** A line as in the chart, for the legend. @param {string} kind */
const sampleOf = (kind) =>
    draw(
        'svg',
        { viewBox: '0 0 26 8', class: 'sample', 'aria-hidden': 'true' },
        draw('path', { d: 'M2 4H24', class: `line ${kind}` }),
    );

export class Chart {
    #about;
    #drawing;
    #cursor = draw('g', { class: 'cursor' });
    #values = /** @type {HTMLElement[]} */ ([]);
    #columns = /** @type {import('./types').Column[]} */ ([]);
    #times = /** @type {number[]} */ ([]);
    #frame = { from: 0, to: 1, top: 1 };

    /**
     * @param {import('./types').ChartOf} about
     * @param {(at: number) => void} onPoint is called with the time that somebody points at, in milliseconds
     */
    constructor(about, onPoint) {
        this.#about = about;
        this.#drawing = draw('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', class: 'plot' });
        const point = (/** @type {PointerEvent} */ { clientX }) => {
            const { left, width } = this.#drawing.getBoundingClientRect();
            const { from, to } = this.#frame;
            const x = ((clientX - left) / width) * WIDTH;
            onPoint(from + ((x - PLOT.left) / (PLOT.right - PLOT.left)) * (to - from));
        };
        for (const kind of ['pointermove', 'pointerdown']) this.#drawing.addEventListener(kind, point);
        const legend = about.lines.map(({ name, kind }) => {
            const value = el('b', {}, MISSING);
            this.#values.push(value);
            return el('li', {}, sampleOf(kind), el('span', {}, text.figures[name]), value);
        });
        /** The whole of it. @type {HTMLElement} */
        this.element = el(
            'section.chart',
            {},
            el('h3', {}, text.titles[about.name]),
            el('ul', {}, ...legend),
            this.#drawing,
        );
    }

    /**
     * Draw what was measured.
     *
     * @param {import('./types').History} history
     * @param {number[]} times those of the history, in milliseconds
     * @param {number} hours how many are shown
     * @param {number} to where they end, in milliseconds
     */
    show(history, times, hours, to) {
        const { lines, whole, most, write } = this.#about;
        this.#times = times;
        this.#columns = lines.map(({ name }) => history[name]);
        const highest = Math.max(0, ...this.#columns.map((column) => extremes(column).most ?? 0));
        const from = to - hours * 3_600_000;
        const frame = { from, to, top: most?.(history) ?? tidy(highest, whole) };
        this.#frame = frame;
        const { left, right, bottom } = PLOT;
        const numbers = marksUpTo(frame.top, whole).flatMap((mark) => {
            const y = yOf(mark, frame);
            return [
                draw('path', { d: `M${left} ${y}H${right}`, class: 'rule' }),
                draw('text', { x: left - 6, y: y + 4, class: 'amount' }, write(mark)),
            ];
        });
        const moments = timesBetween(from, to, hours).flatMap((at) => {
            const x = xOf(at, frame);
            // Words at the very edge would be cut off.
            const isRoomy = x > left + 12 && x < right - 12;
            return [
                draw('path', { d: `M${x} ${bottom}v4`, class: 'rule' }),
                ...(isRoomy ? [draw('text', { x, y: HEIGHT - 4, class: 'moment' }, hourAndMinute(at))] : []),
            ];
        });
        const drawn = this.#columns.map((column, index) =>
            draw('path', { d: lineThrough(times, column, frame), class: `line ${lines[index].kind}` }),
        );
        this.#drawing.replaceChildren(...numbers, ...moments, ...drawn, this.#cursor);
        this.#drawing.setAttribute('aria-label', this.#summary());
    }

    /** Mark a sample in the drawing, and write its numbers. */
    mark(/** @type {number} */ index) {
        const x = xOf(this.#times[index], this.#frame);
        const dots = this.#columns.flatMap((column, line) => {
            const value = column[index];
            const { kind } = this.#about.lines[line];
            return value === null
                ? []
                : [draw('circle', { cx: x, cy: yOf(value, this.#frame), r: 3, class: kind })];
        });
        this.#cursor.replaceChildren(draw('path', { d: `M${x} ${PLOT.top}V${PLOT.bottom}` }), ...dots);
        this.#values.forEach((place, line) => say(place, this.#written(this.#columns[line][index])));
    }

    /** The chart in words: what a person sees at a glance. */
    #summary() {
        const lines = this.#about.lines.map(({ name }, line) => {
            const { now, least, most } = extremes(this.#columns[line]);
            const [a, b, c] = [now, least, most].map((value) => this.#written(value));
            return text.summary(text.figures[name], a, b, c);
        });
        return `${text.titles[this.#about.name]}. ${lines.join(' ')}`;
    }

    #written(/** @type {number|null} */ value) {
        return value === null ? MISSING : this.#about.write(value);
    }
}

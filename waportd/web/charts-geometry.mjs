/** Where the points of a chart lie, what stands at its axes, and what it says in figures. Pure. */

/** @typedef {import('./types').Column} Column */

/** What a chart shows: from when to when, in milliseconds, and up to which number. */
/** @typedef {{from: number, to: number, top: number}} Frame */

export const WIDTH = 320;
export const HEIGHT = 132;
/** Where the lines are drawn: beside it there are the numbers, below it the times. */
export const PLOT = { left: 46, right: WIDTH - 6, top: 8, bottom: HEIGHT - 20 };

const TIDY = [1, 2, 4, 6, 8, 10];

/**
 * The least tidy number that is not below another one. Its half is as tidy.
 *
 * @param {number} most
 * @param {boolean} whole whether there are whole numbers only
 */
export function tidy(most, whole) {
    if (most <= 0 || (whole && most <= 1)) return 1;
    const power = 10 ** Math.floor(Math.log10(most));
    return TIDY.map((one) => one * power).find((one) => one >= most * 0.999_999) ?? 10 * power;
}

/** The numbers at the side of a chart that goes up to another one. */
export const marksUpTo = (/** @type {number} */ top, /** @type {boolean} */ whole) =>
    whole && top < 2 ? [0, top] : [0, top / 2, top];

/** Minutes from one time at the lower side to the next, by the hours that are shown. */
const BETWEEN = /** @type {Record<number, number>} */ ({ 1: 15, 6: 60, 24: 240 });

/**
 * The times at the lower side of a chart, in milliseconds: round ones of the visitor's day.
 *
 * @param {number} from
 * @param {number} to
 * @param {number} hours
 */
export function timesBetween(from, to, hours) {
    const between = BETWEEN[hours];
    const at = new Date(from);
    at.setHours(0, 0, 0, 0);
    const times = [];
    // By the clock on the wall, which may be set within the day.
    for (; at.getTime() <= to; at.setMinutes(at.getMinutes() + between))
        if (at.getTime() >= from) times.push(at.getTime());
    return times;
}

const short = (/** @type {number} */ number) => String(Math.round(number * 10) / 10);

export const xOf = (/** @type {number} */ at, /** @type {Frame} */ { from, to }) =>
    PLOT.left + ((at - from) / (to - from)) * (PLOT.right - PLOT.left);

export const yOf = (/** @type {number} */ value, /** @type {Frame} */ { top }) =>
    PLOT.bottom - (Math.min(value, top) / top) * (PLOT.bottom - PLOT.top);

/**
 * The line through the values, as the `d` of a path. It has a gap where a value is missing.
 *
 * @param {number[]} times
 * @param {Column} values
 * @param {Frame} frame
 */
export function lineThrough(times, values, frame) {
    let line = '';
    values.forEach((value, index) => {
        if (value === null) return;
        const isFirst = index === 0 || values[index - 1] === null;
        const isLast = index === values.length - 1 || values[index + 1] === null;
        line += `${isFirst ? 'M' : 'L'}${short(xOf(times[index], frame))} ${short(yOf(value, frame))}`;
        // One alone is a dot.
        if (isFirst && isLast) line += 'h0';
    });
    return line;
}

/** The index of the sample that is nearest to a time. */
export function nearest(/** @type {number[]} */ times, /** @type {number} */ at) {
    const step = times.length > 1 ? (times[times.length - 1] - times[0]) / (times.length - 1) : 1;
    return Math.max(0, Math.min(times.length - 1, Math.round((at - times[0]) / step)));
}

/** The newest, the least and the greatest of some values; null where none is known. */
export function extremes(/** @type {Column} */ values) {
    const known = values.filter((value) => value !== null);
    if (known.length === 0) return { now: null, least: null, most: null };
    // A day has more values than a call may have arguments in every browser.
    const [least, most] = known.reduce(
        ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
        [Infinity, -Infinity],
    );
    return { now: values[values.length - 1], least, most };
}

/**
 * Every so many values from the newest on: the value itself, or the sum of those since the one before.
 *
 * @param {Column} values
 * @param {number} every
 * @param {boolean} summed
 * @returns {Column}
 */
export function thinned(values, every, summed) {
    const kept = [];
    for (let end = values.length; end > 0; end -= every) {
        const known = values.slice(Math.max(0, end - every), end).filter((value) => value !== null);
        const sum = known.length ? known.reduce((all, value) => all + value, 0) : null;
        kept.push(summed ? sum : values[end - 1]);
    }
    return kept;
}

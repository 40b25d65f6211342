'use strict';

/** The charts of the dashboard: where points lie, and what stands at the axes. */

const assert = require('node:assert');
const path = require('node:path');
const { before, test } = require('node:test');

const WEB = path.resolve(__dirname, '../../waportd/web');
const HOUR = 3_600_000;
const FRAME = { from: 0, to: HOUR, top: 10 };

let charts;

before(async () => {
    globalThis.document = { baseURI: 'http://localhost/' };
    charts = await import(path.join(WEB, 'charts-geometry.mjs'));
});

test('a chart goes up to a tidy number, whose half is tidy', () => {
    const tidy = (most, whole = true) => charts.tidy(most, whole);
    for (const [most, top] of [
        [0, 1],
        [1, 1],
        [2, 2],
        [3, 4],
        [5, 6],
        [7, 8],
        [9, 10],
        [11, 20],
        [60, 60],
        [61, 80],
        [1000, 1000],
        [1001, 2000],
    ])
        assert.equal(tidy(most), top, String(most));
    assert.equal(tidy(0.3, false).toFixed(3), '0.400');
    assert.equal(tidy(1.2, false), 2);
    assert.deepEqual(charts.marksUpTo(1, true), [0, 1]);
    assert.deepEqual(charts.marksUpTo(1, false), [0, 0.5, 1]);
    assert.deepEqual(charts.marksUpTo(8, true), [0, 4, 8]);
});

test('the times at the axis are round ones of the day', () => {
    const from = new Date(2026, 10, 30, 9, 7).getTime();
    const read = (hours) =>
        charts.timesBetween(from, from + hours * HOUR, hours).map((at) => {
            const time = new Date(at);
            return time.getHours() * 100 + time.getMinutes();
        });
    assert.deepEqual(read(1), [915, 930, 945, 1000]);
    assert.deepEqual(read(6), [1000, 1100, 1200, 1300, 1400, 1500]);
    assert.deepEqual(read(24), [1200, 1600, 2000, 0, 400, 800]);
});

test('a line has a gap where a value is missing, and one value alone is a dot', () => {
    const times = [0, 0.25, 0.5, 0.75, 1].map((part) => part * HOUR);
    const { left, right, top, bottom } = charts.PLOT;
    const line = charts.lineThrough(times, [0, 10, null, 5, null], FRAME);
    const quarter = (right - left) / 4;
    const middle = (top + bottom) / 2;
    assert.equal(line, `M${left} ${bottom}L${left + quarter} ${top}M${left + 3 * quarter} ${middle}h0`);
    assert.equal(charts.lineThrough(times, [null, null, null, null, null], FRAME), '');
});

test('what is pointed at is the nearest sample, at the ends, too', () => {
    const times = [100, 160, 220];
    for (const [at, index] of [
        [-50, 0],
        [129, 0],
        [131, 1],
        [219, 2],
        [9999, 2],
    ])
        assert.equal(charts.nearest(times, at), index, String(at));
    assert.equal(charts.nearest([100], 500), 0);
});

test('the summary has the newest, the least and the most of what is known', () => {
    assert.deepEqual(charts.extremes([3, null, 1, 2]), { now: 2, least: 1, most: 3 });
    assert.deepEqual(charts.extremes([3, null]), { now: null, least: 3, most: 3 });
    assert.deepEqual(charts.extremes([null]), { now: null, least: null, most: null });
    assert.deepEqual(charts.extremes([]), { now: null, least: null, most: null });
});

test('a row of the table has the value of its time, or the sum since the row before', () => {
    const values = [1, 2, 3, 4, null, 6, 7];
    assert.deepEqual(charts.thinned(values, 3, false), [7, 4, 1]);
    assert.deepEqual(charts.thinned(values, 3, true), [13, 9, 1]);
    assert.deepEqual(charts.thinned([null, null], 2, true), [null]);
    assert.deepEqual(charts.thinned(values, 1, true), [...values].reverse());
});

'use strict';

/**
 * Preloaded into a server: its clocks and its timers run as many times as fast as FAST_CLOCK says. Servers
 * that follow each other have one time of day if they have the same FAST_CLOCK_SINCE, from which on it runs
 * fast. In the folder FAST_CLOCK_LINES, if there is one, each line that a server prints gets its moment, in
 * seconds since the epoch; the journal gives a line the moment at which it came to it, which may be later for
 * one server than for another.
 */

const { appendFileSync } = require('node:fs');

const speed = Number(process.env.FAST_CLOCK);
const folder = process.env.FAST_CLOCK_LINES;
if (folder) {
    const real = Date.now;
    const write = process.stdout.write.bind(process.stdout);
    process.stdout.write = (/** @type {any} */ text, /** @type {any[]} */ ...rest) => {
        appendFileSync(`${folder}/${process.env.PORT ?? process.pid}`, `${real() / 1000} ${text}`);
        return write(text, ...rest);
    };
}
for (const clock of [Date, performance]) {
    const now = clock.now.bind(clock);
    const started = clock === Date ? Number(process.env.FAST_CLOCK_SINCE ?? now()) : now();
    // Node 18's performance.now cannot be assigned.
    Object.defineProperty(clock, 'now', { value: () => started + (now() - started) * speed });
}

/** @type {Record<string, any>} */
const timers = global;
for (const name of ['setTimeout', 'setInterval']) {
    const set = timers[name];
    /** @param {Function} work @param {number} ms @param {unknown[]} rest */
    timers[name] = (work, ms, ...rest) => set(work, ms / speed, ...rest);
}

'use strict';

/** How much a session keeps on disk, measured when nobody waits for it: once it is ready, then every hour. */

const { timestamp } = require('./state');

const HOUR_MS = 3_600_000;
/** A session that is ready again and again is not measured each time. */
const FRESH_MS = 60_000;

class Growth {
    #storage;
    #safekeeping;
    #state;
    #measuring = false;
    #measuredAt = -Infinity;
    /** @type {NodeJS.Timeout|undefined} */
    #timer;

    /**
     * @param {object} parts
     * @param {import('./storage').Storage} parts.storage
     * @param {import('./safekeeping').Safekeeping} parts.safekeeping
     * @param {import('./state').SessionState} parts.state the figures become `storage` of its document
     */
    constructor({ storage, safekeeping, state }) {
        this.#storage = storage;
        this.#safekeeping = safekeeping;
        this.#state = state;
    }

    /** @param {number} intervalMs between two measurements, whatever the session does */
    start(intervalMs = HOUR_MS) {
        this.#state.on('state', (name) => {
            if (name === 'ready' && performance.now() - this.#measuredAt >= FRESH_MS) this.#measure();
        });
        this.#timer = setInterval(() => this.#measure(), intervalMs).unref();
    }

    close() {
        clearInterval(this.#timer);
    }

    async #measure() {
        // One is enough on a slow disk.
        if (this.#measuring) return;
        this.#measuring = true;
        const [sizes, times] = await Promise.all([this.#storage.sizes(), this.#safekeeping.times()]);
        this.#measuring = false;
        this.#measuredAt = performance.now();
        // It may have been deleted meanwhile.
        if (this.#state.name === 'logged_out') return;
        this.#state.update({ storage: { ...sizes, ...times, measured_at: timestamp(Date.now()) } });
        // A copy that was made while the sizes were measured had no place to show its time.
        await this.#safekeeping.showTimes();
    }
}

module.exports = { Growth };

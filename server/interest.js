'use strict';

/** Whether somebody wants a code: decides whether a browser is opened, and whether the server is needed. */
class Demand {
    /** By the monotonic clock: the other one can be set. */
    #asked = performance.now();
    /** @type {NodeJS.Timeout|undefined} */
    #timer;

    /** Somebody asks. @returns {number} for how long nobody had, in milliseconds */
    ask() {
        const { silence } = this;
        this.#asked = performance.now();
        return silence;
    }

    /** How long ago somebody asked, in milliseconds; the start counts. */
    get silence() {
        return performance.now() - this.#asked;
    }

    /**
     * Call `onIdle` once nobody has asked for `limitMs`, unless `isNeeded()`: then look again later.
     *
     * @param {number} limitMs
     * @param {() => boolean} isNeeded
     * @param {() => void} onIdle
     */
    whenIdle(limitMs, isNeeded, onIdle) {
        const left = limitMs - this.silence;
        this.#timer = setTimeout(
            () => {
                if (this.silence >= limitMs && !isNeeded()) onIdle();
                else this.whenIdle(limitMs, isNeeded, onIdle);
            },
            left > 0 ? left : limitMs / 10,
        );
    }

    close() {
        clearTimeout(this.#timer);
    }
}

module.exports = { Demand };

'use strict';

/**
 * The turn in which a linked session opens a browser, or loads its page anew: few of a host do at a time.
 * What wakes many at once (a scan of all ports) or befalls all (pages crash, no browser starts, servers are
 * killed) would have all of them do so at the same moment, and it takes much of a host. The daemon, which
 * knows all of them, gives the turns. Where no daemon is heard, none is waited for.
 */

/** A daemon that never gives a turn is waited for as long as the longest pause between two tries. */
const LIMIT_MS = 300_000;

/** What is said while a limit of the host leaves no room for one more browser. */
const LIMITS = {
    max_running: 'waiting for its turn to start the browser: as many run as limits.max_running allows',
    min_available_memory:
        'waiting for its turn to start the browser: the host has less memory left than ' +
        'limits.min_available_memory keeps free',
};

class Turn {
    #state;
    /** How long a daemon is waited for that is not heard, in milliseconds. */
    #patience;
    #followers = 0;
    /** Until when, by the monotonic clock, a daemon may be heard where none is. */
    #heardBy;
    /** Whether it may still come before it is asked for, as where the daemon has started this server. */
    #mayBeEarly = true;
    #isEarly = false;
    /** @type {(() => void)|null} */
    #work = null;
    /** @type {NodeJS.Timeout|undefined} */
    #timer;

    /**
     * @param {import('./state').SessionState} state shows `turn`: `awaited`, `taken` or null
     * @param {number} patience seconds that a daemon is waited for; 0: nobody gives turns
     */
    constructor(state, patience) {
        this.#state = state;
        this.#patience = patience * 1000;
        // Nobody follows a server that systemd takes for starting.
        this.#heardBy = patience === 0 ? 0 : Infinity;
    }

    /** From now on a daemon may be heard: systemd knows that this server is up. */
    expect() {
        this.#heardBy = performance.now() + this.#patience;
        this.#watch();
    }

    get isAwaited() {
        return this.#work !== null;
    }

    /** The daemon listens, and tells when it comes. @returns {() => void} to be called at the end of that */
    follow() {
        this.#followers += 1;
        this.#watch();
        return () => {
            this.#followers -= 1;
            this.#heardBy = performance.now() + this.#patience;
            this.#watch();
        };
    }

    /** Do `work` when it is this session's turn, which lasts until `end`. @param {() => void} work */
    take(work) {
        const isThere = this.#isEarly;
        this.forgo();
        this.#work = work;
        if (isThere || this.#limit <= 0) {
            this.come();
            return;
        }
        this.#state.update({ turn: 'awaited' });
        this.#watch();
    }

    /** It is there; harmless where it is not waited for. */
    come() {
        const work = this.#work;
        if (work === null) {
            this.#isEarly = this.#mayBeEarly;
            return;
        }
        this.#forget();
        this.#state.update({ turn: 'taken' });
        work();
    }

    /**
     * It is still to come: the daemon has said so, and is waited for as long as at first.
     *
     * @returns {boolean} whether anybody waits for it
     */
    hold() {
        this.#watch();
        return this.isAwaited;
    }

    /** The start of this server needs none: one that came before is not there for what comes later. */
    forgo() {
        this.#mayBeEarly = false;
        this.#isEarly = false;
    }

    /** It is over, or not waited for any more. */
    end() {
        this.#forget();
        this.#state.update({ turn: null });
    }

    get #limit() {
        return this.#followers > 0 ? LIMIT_MS : this.#heardBy - performance.now();
    }

    #watch() {
        clearTimeout(this.#timer);
        if (this.isAwaited && this.#limit < Infinity) {
            this.#timer = setTimeout(() => this.come(), this.#limit);
        }
    }

    #forget() {
        clearTimeout(this.#timer);
        this.#work = null;
    }
}

module.exports = { LIMITS, Turn };

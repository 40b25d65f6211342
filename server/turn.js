'use strict';

/**
 * The turn in which a linked session opens a browser, or reloads its page: few on a host do so at a time.
 * Events that wake many at once (a scan of all ports) or affect all (pages crash, no browser starts, servers
 * are killed) would have all of them do so at the same moment, a heavy load on the host. The daemon, which
 * knows all of them, gives the turns. If no daemon is heard, a session does not wait.
 */

/** How long to wait for a daemon that never gives a turn: the longest pause between two tries. */
const LIMIT_MS = 300_000;

/** The message while a limit of the host leaves no room for one more browser. */
const LIMITS = {
    max_running: 'waiting for its turn to start the browser: as many run as limits.max_running allows',
    min_available_memory:
        'waiting for its turn to start the browser: the host has less memory left than ' +
        'limits.min_available_memory keeps free',
};

class Turn {
    #state;
    /** How long to wait for a daemon that is not heard, in milliseconds. */
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
        // Nobody follows a server that is still starting for systemd.
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

    /** The daemon listens, and says when the turn comes. @returns {() => void} to call when that ends */
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

    /** The turn is there; harmless if nothing waits for it. */
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
     * The turn is still to come: the daemon has said so, and the full wait begins again.
     *
     * @returns {boolean} whether anybody waits for it
     */
    hold() {
        this.#watch();
        return this.isAwaited;
    }

    /** The start of this server needs no turn: one that came early does not count for later work. */
    forgo() {
        this.#mayBeEarly = false;
        this.#isEarly = false;
    }

    /** The turn is over, or no longer needed. */
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

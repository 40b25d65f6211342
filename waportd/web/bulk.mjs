/** The same for many users: who is concerned, and doing it, few at a time. No page: tests run it alone. */

import { asProblem } from './api.mjs';

/** @typedef {import('./types').User} User */
/** @typedef {import('./api.mjs').Problem} Problem */

/** What can be done to many, in the order of its buttons, and to which: as `waportctl` does with `--all`. */
export const CONCERNS = /** @type {Record<import('./types').BulkAction, (user: User) => boolean>} */ ({
    start: ({ process }) => process.state !== 'running' && process.state !== 'starting',
    restart: ({ process }) => process.state === 'running',
    stop: ({ desired, process }) => desired === 'running' || process.state !== 'stopped',
    logout: ({ linked }) => linked,
    delete: () => true,
});

const AT_A_TIME = 4;
/** Seconds, where a refusal does not say when to come back. */
const PAUSE_S = 5;

/** Does something to many users, and keeps how far that is. */
export class Run {
    /** @type {string[]} */
    done = [];
    /** Who failed, and why. @type {Map<string, Problem>} */
    failed = new Map();
    /** Those that were not tried. @type {string[]} */
    left;
    /** How many there are. */
    count;
    /** Why no other is tried: it would be the same for them. @type {Problem|null} */
    ended = null;
    stopped = false;
    /** When it continues, in milliseconds since the epoch; null where it does not wait. */
    waitsUntil = /** @type {number|null} */ (null);
    #act;
    #onChange;
    /** @type {Promise<void>|null} */
    #pause = null;
    /** Ends the pause. */
    #resume = () => {};

    /**
     * @param {string[]} names
     * @param {(user: string) => Promise<unknown>} act does it to one
     * @param {(run: Run) => void} onChange
     */
    constructor(names, act, onChange) {
        this.left = [...names];
        this.count = names.length;
        this.#act = act;
        this.#onChange = onChange;
    }

    /** Try no others. What has begun ends. */
    stop() {
        this.stopped = true;
        this.#resume();
        this.#onChange(this);
    }

    /** Resolves when all were tried, or no other is. */
    async finish() {
        await Promise.all(Array.from({ length: AT_A_TIME }, () => this.#work()));
        return this;
    }

    async #work() {
        while (!this.stopped && this.ended === null) {
            if (this.waitsUntil !== null) {
                await (this.#pause ??= this.#waitUntil(this.waitsUntil));
                continue;
            }
            const name = this.left.shift();
            if (name === undefined) return;
            try {
                await this.#act(name);
                this.done.push(name);
            } catch (error) {
                this.#note(name, asProblem(error));
            }
            this.#onChange(this);
        }
    }

    #note(/** @type {string} */ name, /** @type {Problem} */ problem) {
        if (problem.status === 429) {
            // All wait: the limit is that of the caller.
            this.waitsUntil = Date.now() + 1000 * (problem.retryAfter ?? PAUSE_S);
            this.left.unshift(name);
        } else if (problem.unreachable || problem.refused) {
            this.ended = problem;
            this.left.unshift(name);
        } else this.failed.set(name, problem);
    }

    #waitUntil(/** @type {number} */ time) {
        return new Promise((/** @type {(nothing: void) => void} */ resolve) => {
            const over = () => {
                clearTimeout(timer);
                this.waitsUntil = null;
                this.#pause = null;
                this.#onChange(this);
                resolve();
            };
            const timer = setTimeout(over, Math.max(0, time - Date.now()));
            this.#resume = over;
        });
    }
}

/** The users that the caller may see, as they are now: from the event stream, and what they use. */

import { asProblem, call, userPath } from './api.mjs';
import { ProcessorShares } from './processor.mjs';
import { rights } from './rights.mjs';
import { Stream } from './stream.mjs';

/** Memory and CPU cost the daemon milliseconds for each user, so only an open page asks, and not often. */
const MEASURE_MS = 10_500;

/** @typedef {import('./types').User} User */

export class LiveUsers {
    /** With the latest figures in `memory` (bytes) and `cpu` (share of a processor). */
    users = /** @type {Map<string, User>} */ (new Map());
    /** Whether all are known. */
    complete = false;
    /** Those that the stream has named since it began again; null once it has named all. */
    #named = /** @type {Set<string>|null} */ (new Set());
    #shares = new ProcessorShares();
    #lost = false;
    #listeners;
    /** @type {Stream|null} */
    #stream = null;

    /**
     * @param {object} listeners
     * @param {() => void} listeners.onChange
     * @param {() => void} listeners.onLive events come, also again
     * @param {(problem: import('./api.mjs').Problem|null) => void} listeners.onLost
     * @param {(problem: import('./api.mjs').Problem) => void} listeners.onRefused trying again is useless
     * @param {(host: import('./types').Host, alarm: import('./types').Alarm|null) => void} listeners.onHost
     */
    constructor(listeners) {
        this.#listeners = listeners;
        document.addEventListener('visibilitychange', () => this.#measure());
        setInterval(() => this.#measure(), MEASURE_MS);
    }

    /** Follow all users, or the one that the caller has a token for. */
    start() {
        this.stop();
        this.#named = new Set();
        const { user } = rights;
        this.#stream = new Stream(user === null ? 'v1/events' : userPath(user, 'events'), {
            on: {
                user: (/** @type {User} */ document) => this.#take(document),
                deleted: (/** @type {{user: string}} */ { user: name }) => {
                    this.users.delete(name);
                    this.#listeners.onChange();
                },
                reset: () => {
                    this.#named = new Set();
                },
                complete: () => this.#complete(),
            },
            onLive: () => {
                this.#lost = false;
                this.#listeners.onLive();
            },
            onLost: (_, problem) => {
                this.#lost = true;
                this.#listeners.onLost(problem);
            },
            onRefused: (problem) => {
                if (user !== null && problem.status === 404) this.#miss();
                else this.#listeners.onRefused(problem);
            },
        });
        this.#stream.start();
    }

    /** Forget all. */
    stop() {
        this.#stream?.stop();
        this.#stream = null;
        this.#lost = false;
        this.complete = false;
        this.users.clear();
    }

    /** Try now to reach a daemon that is lost. */
    hurry() {
        this.#stream?.hurry();
    }

    #take(/** @type {User} */ user) {
        const { memory = null, cpu = null } = this.users.get(user.user) ?? {};
        const runs = user.process.pid !== null;
        this.users.set(user.user, { ...user, memory: runs ? memory : null, cpu: runs ? cpu : null });
        this.#named?.add(user.user);
        // A stream of one user has named all with that one.
        if (rights.user !== null && !this.complete) this.#complete();
        this.#listeners.onChange();
    }

    #complete() {
        // A user who was deleted meanwhile is not named again.
        for (const name of this.#named === null ? [] : [...this.users.keys()])
            if (!this.#named?.has(name)) this.users.delete(name);
        this.#named = null;
        this.complete = true;
        this.#listeners.onChange();
        this.#measure();
    }

    /** The one user has no server: nothing can be followed until there is one. */
    #miss() {
        this.#stream = null;
        this.users.clear();
        this.complete = true;
        this.#listeners.onLive();
        this.#listeners.onChange();
    }

    async #measure() {
        if (document.hidden || !this.complete || this.#lost) return;
        if (this.#stream === null) {
            this.start();
            return;
        }
        const before = new Map(this.users);
        try {
            const documents = await this.#measured();
            const at = performance.now();
            for (const { user: name, memory, cpu, summary, session } of documents) {
                const user = this.users.get(name);
                if (user === undefined) continue;
                const share = this.#shares.note(name, cpu?.seconds ?? null, at);
                const measured = { ...user, memory: memory?.bytes ?? null, cpu: share };
                // Counts of messages, and how long they wait, make no event. An event since is newer.
                const isNewest = user === before.get(name);
                this.users.set(name, isNewest ? { ...measured, summary, session } : measured);
            }
            this.#listeners.onChange();
        } catch (error) {
            const problem = asProblem(error);
            if (problem.refused) this.#listeners.onRefused(problem);
            // The stream reports anything else.
        }
    }

    /** The documents with what they use; what the host has goes to its listener. @returns {Promise<any[]>} */
    async #measured() {
        if (rights.user !== null) return [await call('GET', userPath(rights.user))];
        const [{ alarm }, host, { users }] = await Promise.all([
            call('GET', 'v1/health'),
            call('GET', 'v1/host'),
            call('GET', 'v1/users', { query: { usage: 'true' } }),
        ]);
        if (this.complete) this.#listeners.onHost(host, alarm);
        return users;
    }
}

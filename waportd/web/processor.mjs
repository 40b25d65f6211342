/** How busy users keep a processor, from how long they had it. Pure. */

/** The daemon measures every ten seconds at most and answers the same in between. */
const SAME_MS = 12_000;

export class ProcessorShares {
    #before = new Map();

    /**
     * Note for how many seconds a user's server has had a processor, or null where none runs.
     *
     * @param {number} at when that is so, in milliseconds
     * @returns {?number} its share of one processor since it was measured before; null where it was not
     */
    note(/** @type {string} */ user, /** @type {number|null} */ seconds, at) {
        const before = this.#before.get(user);
        if (seconds === null) {
            this.#before.delete(user);
            return null;
        }
        if (before?.seconds === seconds && at - before.at < SAME_MS) return before.share;
        // A restarted server counts from zero.
        const comparable = before !== undefined && before.seconds <= seconds;
        const share = comparable ? (seconds - before.seconds) / ((at - before.at) / 1000) : null;
        this.#before.set(user, { seconds, at, share });
        return share;
    }
}

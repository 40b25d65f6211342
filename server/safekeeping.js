'use strict';

/** When the login is copied (snapshots.js), and when a copy takes its place. */

const { profileHolders } = require('./browser');
const { messageOf, withLimit } = require('./errors');
const { timestamp } = require('./state');

/** How long after it became ready a session is first copied. */
const FIRST_MS = 60_000;
/** How long until the next check of a session that is not ready when its copy is due. */
const AGAIN_MS = 60_000;
/** How long a server that ends waits for a last copy: systemd limits the time of the whole stop. */
const LAST_LIMIT_MS = 3_000;
const LINKING = ['qr', 'pairing', 'passkey_required'];
const CONNECTED = ['ready', 'disconnected'];

/** @typedef {import('./snapshots').Snapshot} Snapshot */
/** @typedef {import('./browser_run').BrowserRun} BrowserRun */

class Safekeeping {
    #makeSnapshots;
    /** @type {import('./snapshots').Snapshots|null} */
    #made = null;
    #profile;
    #state;
    #log;
    #interval;
    /** Whether the login that is there now has connected. */
    #isGood = false;

    /**
     * @param {object} parts
     * @param {() => import('./snapshots').Snapshots} parts.makeSnapshots called when the first is wanted: a
     *   server that starts has no time for that
     * @param {string} parts.profile
     * @param {import('./state').SessionState} parts.state its `storage` shows the times
     * @param {import('./types').Log} parts.log
     * @param {number} parts.interval seconds between two copies; 0 = no automatic copies
     */
    constructor({ makeSnapshots, profile, state, log, interval }) {
        this.#makeSnapshots = makeSnapshots;
        this.#profile = profile;
        this.#state = state;
        this.#log = log;
        this.#interval = interval * 1000;
        state.on('state', (now, before) => {
            // It is of another phone, or of an earlier login of this one.
            if (now === 'authenticated' && LINKING.includes(before)) this.erase();
        });
    }

    get #snapshots() {
        this.#made ??= this.#makeSnapshots();
        return this.#made;
    }

    /** The session is ready: from now on its login is copied, as long as this browser runs. */
    ready(/** @type {BrowserRun} */ run) {
        this.#isGood = true;
        if (this.#interval > 0 && !run.awaits('snapshot')) {
            this.#later(run, Math.min(FIRST_MS, this.#interval));
        }
    }

    #later(/** @type {BrowserRun} */ run, /** @type {number} */ ms) {
        run.after('snapshot', ms, async () => {
            const isReady = this.#state.name === 'ready';
            if (isReady) await this.#tried(() => this.take(run));
            this.#later(run, isReady ? this.#interval : AGAIN_MS);
        });
    }

    /**
     * Copy the login now.
     *
     * @param {BrowserRun|null} run the browser that writes it; null = none does
     * @returns {Promise<Snapshot|null>} null = there is nothing to copy
     * @throws {Error} it cannot be copied
     */
    async take(run) {
        const snapshot = await this.#snapshots.take(
            run === null ? (work) => this.#atRest(work) : (work) => run.standStill(work),
        );
        // It has been good for a while: were it damaged now, that would be another time.
        await this.#snapshots.confirm();
        await this.showTimes();
        return snapshot;
    }

    /** The newest copy; null = there is none. */
    newest() {
        return this.#snapshots.newest();
    }

    /** The browser is closed, and the server ends: what was written since the last copy is copied. */
    async close() {
        if (!this.#isGood || this.#interval === 0 || !CONNECTED.includes(this.#state.name)) return;
        await this.#tried(() => withLimit(this.take(null), LAST_LIMIT_MS, 'a last snapshot'));
    }

    /**
     * No login was found where one should be: have the newest copy take its place, if that was not tried yet.
     *
     * @returns {Promise<Snapshot|null>} what took its place
     */
    async restoreNewest() {
        this.#isGood = false;
        return this.#tried(async () => {
            const snapshot = await this.#snapshots.restore();
            if (snapshot === null) return null;
            const time = timestamp(snapshot.at);
            this.#log.warning('the login was damaged; a snapshot takes its place', { of: time });
            await this.showTimes();
            return snapshot;
        });
    }

    /** Have the document say of when the copies are, where it says how large they are. */
    async showTimes() {
        const times = await this.times();
        const { storage } = this.#state.document();
        if (storage === null) return;
        const { snapshot_at: snapshotAt, restored_at: restoredAt } = storage;
        if (snapshotAt === times.snapshot_at && restoredAt === times.restored_at) return;
        this.#state.update({ storage: { ...storage, ...times } });
    }

    /** As the document has them: of when the newest copy is, and when one took the place of the login. */
    async times() {
        const { at, restoredAt } = await this.#snapshots.times();
        return {
            snapshot_at: at === null ? null : timestamp(at),
            restored_at: restoredAt === null ? null : timestamp(restoredAt),
        };
    }

    /** Delete all copies: their login is deleted. Waits for a copy that is being made. */
    async erase() {
        this.#isGood = false;
        await this.#tried(() => this.#snapshots.forget());
    }

    /** @type {<Result>(work: () => Promise<Result>) => Promise<Result>} */
    async #atRest(work) {
        const holders = await profileHolders(this.#profile);
        if (holders.length > 0) throw new Error(`a browser uses the profile (process ${holders.join(', ')})`);
        return work();
    }

    /**
     * A failure is retried at the next scheduled time. Until then the session works as before.
     *
     * @template Result
     * @param {() => Promise<Result>} work
     * @returns {Promise<Result|null>}
     */
    async #tried(work) {
        try {
            return await work();
        } catch (error) {
            this.#log.warning('no snapshot of the login', { reason: messageOf(error) });
            return null;
        }
    }
}

module.exports = { Safekeeping };

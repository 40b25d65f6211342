'use strict';

/**
 * The session's state machine and the one document of it that everybody is shown.
 *
 * The table says which state may follow which. An event that comes too late (a code after the login, a login
 * after the logout) asks for a transition that is not in the table and is refused, so no other module has to
 * guard against it.
 */

const { EventEmitter } = require('node:events');

const contract = require('./contract.json');
const { BUNDLED } = require('./engine');

/** @typedef {import('./types').StateName} StateName */

/** @param {StateName} state */
const anyBut = (state) =>
    /** @type {StateName[]} */ (Object.keys(contract.session_states)).filter((other) => other !== state);

/** @type {Record<StateName, StateName[]>} */
const NEXT = {
    generating: anyBut('generating'),
    qr: anyBut('qr'),
    pairing: anyBut('pairing'),
    passkey_required: anyBut('passkey_required'),
    authenticated: ['ready', 'disconnected', 'logged_out', 'error', 'generating'],
    ready: ['disconnected', 'logged_out', 'error'],
    disconnected: ['ready', 'authenticated', 'generating', 'logged_out', 'error'],
    qr_timeout: ['generating', 'logged_out', 'error'],
    error: ['generating', 'authenticated', 'ready', 'logged_out', 'disconnected'],
    logged_out: [],
};

/** What a state shows by default: nothing of the state before it stays. */
const CLEAN = {
    ...{ cause: null, hint: null, qr: null, expires_at: null },
    ...{ pairing: null, passkey: null, progress: null },
};

/** The document's `upstream` before WhatsApp's page was seen. @type {import('./types').Upstream} */
const UNSEEN = {
    build: null,
    library: null,
    engine: BUNDLED,
    pinned: null,
    ok: true,
    checked: [],
    missing: [],
    shims: {},
};

const timestamp = (/** @type {number} */ ms) => new Date(ms).toISOString();

/**
 * Emits `change` with the document, at most once per turn of the event loop, and `state` with (new, old) at
 * once.
 */
class SessionState extends EventEmitter {
    /** Never changed, but replaced by another one. @type {Readonly<import('./types').SessionDocument>} */
    #document;
    /** When something in it expires, in milliseconds since the epoch. */
    #expires = Infinity;
    #version = 1;
    #announced = false;
    /** @type {NodeJS.Timeout|undefined} */
    #expiry;

    /**
     * @param {object} identity
     * @param {number} identity.port
     * @param {string|null} identity.user
     * @param {number} identity.attempts
     * @param {Partial<import('./types').Upstream>} [identity.upstream] what is known before a browser runs of
     *   what WhatsApp's page meets here: `library`, `engine`, `pinned`
     */
    constructor({ port, user, attempts, upstream = {} }) {
        super();
        this.setMaxListeners(0);
        this.#document = Object.freeze({
            port,
            user,
            state: 'generating',
            since: timestamp(Date.now()),
            message: 'starting',
            ...CLEAN,
            attempt: 0,
            attempts,
            ready: false,
            linked: false,
            phone_number: null,
            pushname: null,
            platform: null,
            browser: null,
            upstream: { ...UNSEEN, ...upstream },
            turn: null,
            storage: null,
            journal: null,
            webhook: {
                ...{ queued: 0, delivered: 0, failed: 0, dropped: 0, undelivered: 0 },
                ...{ oldest_at: null, error: null, error_at: null },
            },
        });
    }

    get name() {
        return this.#document.state;
    }

    /** Counts changes; the id of the events that carry the document. */
    get version() {
        return this.#version;
    }

    /**
     * Return the whole document: the same object until something changes. A code that has expired is never in
     * it, however late its timer runs.
     */
    document() {
        if (Date.now() >= this.#expires) this.#dropExpired();
        return this.#document;
    }

    allows(/** @type {import('./types').StateName} */ state) {
        return NEXT[this.name].includes(state);
    }

    /**
     * Enter a state, or renew the present one, and show `fields` with it.
     *
     * @param {import('./types').StateName} state
     * @param {Partial<import('./types').SessionDocument>} fields
     * @returns {boolean} false, and nothing changed, when the table does not allow it
     */
    enter(state, fields) {
        const before = this.name;
        if (!(state in NEXT)) throw new TypeError(`no such state: ${state}`);
        if (state !== before && !this.allows(state)) return false;
        const since = state === before ? this.#document.since : timestamp(Date.now());
        this.#apply({ ...CLEAN, ...fields, state, since, ready: state === 'ready' });
        if (state !== before) this.emit('state', state, before);
        return true;
    }

    /**
     * Show `fields` without touching the state.
     *
     * @param {Partial<import('./types').SessionDocument>} fields
     */
    update(fields) {
        const names = /** @type {(keyof import('./types').SessionDocument)[]} */ (Object.keys(fields));
        const changed = names.some((name) => this.#document[name] !== fields[name]);
        if (changed) this.#apply(fields);
    }

    /**
     * Call `onExpiry` when the code that is shown now expires; a transition before that cancels it.
     *
     * @param {number} ms since the epoch
     * @param {() => void} onExpiry
     */
    expireAt(ms, onExpiry) {
        clearTimeout(this.#expiry);
        this.#expiry = setTimeout(onExpiry, Math.max(0, ms - Date.now()));
        this.#expiry.unref();
    }

    #dropExpired() {
        const { expires_at: until, pairing } = this.#document;
        const isOver = (/** @type {string} */ time) => Date.parse(time) <= Date.now();
        this.#show({
            ...(until !== null && isOver(until) ? { qr: null, expires_at: null } : {}),
            ...(pairing !== null && isOver(pairing.expires_at) ? { pairing: null } : {}),
        });
    }

    #show(/** @type {Partial<import('./types').SessionDocument>} */ fields) {
        this.#document = Object.freeze({ ...this.#document, ...fields });
        const { expires_at: until, pairing } = this.#document;
        const times = [until, pairing?.expires_at]
            .map((time) => Date.parse(time ?? ''))
            .filter(Number.isFinite);
        this.#expires = Math.min(...times);
    }

    #apply(/** @type {Partial<import('./types').SessionDocument>} */ fields) {
        if ('state' in fields) clearTimeout(this.#expiry);
        this.#show(fields);
        this.#version += 1;
        if (this.#announced) return;
        this.#announced = true;
        setImmediate(() => {
            this.#announced = false;
            this.emit('change', this.document());
        });
    }
}

/**
 * Show enough of a phone number to recognise it, not enough to use it: +55…99.
 *
 * @param {string|null} number
 */
function maskPhone(number) {
    return number && number.length > 4 ? `+${number.slice(0, 2)}…${number.slice(-2)}` : '+…';
}

const STATES = Object.keys(NEXT);

module.exports = { STATES, SessionState, UNSEEN, maskPhone, timestamp };

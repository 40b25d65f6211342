'use strict';

/**
 * Decides what to do about trouble, so that no state lasts for ever without a shown cause and a next try.
 *
 * Two tables. `PLAN`: how long each state of WhatsApp's connection may last in each phase of the session,
 * and what is tried then. `ROUNDS`: what comes next when a try did not help, and the pause before it. A
 * linked session never stops trying. docs/server.md shows both.
 */

const { EXIT } = require('./exit');

/**
 * What can be tried, the mildest first: wait for WhatsApp's page to recover, ask it (or the site) again,
 * reload the page, open a new browser in this process, end the process so that systemd starts another.
 */
const STEPS = ['wait', 'ask', 'reload', 'browser', 'process'];

const STATES = {
    opening: ['generating'],
    linking: ['qr', 'pairing'],
    passkey: ['passkey_required'],
    loading: ['authenticated'],
    linked: ['ready', 'disconnected'],
    /** No browser runs: what comes next is a time that is shown, or somebody who asks. */
    resting: ['qr_timeout', 'error', 'logged_out'],
};

/**
 * `limit`: seconds, or the name of the limit that holds: `start` and `ready` as configured, `code` = as long
 * as the code is valid, `passkey` = as passkey.js gives each stage, `pause` = as `ROUNDS` says. null = it may
 * last. `cause`: what is shown then.
 */
/**
 * @typedef {ReturnType<typeof rule>} Rule
 *
 * @typedef {Record<keyof typeof STATES, Rule>} Row
 */

/**
 * @param {number|string|null} limit
 * @param {string[]} tries
 * @param {string|null} cause
 */
const rule = (limit, tries, cause = null) => Object.freeze({ limit, tries: Object.freeze(tries), cause });

const GOAL = rule(null, []);
const REST = rule('pause', ['browser']);
const OPENS = rule('start', ['wait', 'browser', 'process'], 'upstream_silent');
const SHOWS = rule('code', ['wait', 'ask', 'reload', 'browser'], 'upstream_silent');
const ASKS = rule(15, ['ask', 'reload', 'browser'], 'upstream_silent');
/** WhatsApp's connection state says nothing in this phase: the screen does. */
const PASSKEY = rule('passkey', ['wait', 'ask', 'reload', 'browser'], 'passkey_failed');
const LINKS = rule('ready', ['wait', 'browser'], 'upstream_silent');
const LOADS = rule('ready', ['wait', 'reload', 'browser', 'process'], 'never_ready');
const LOST = rule(60, ['wait', 'ask', 'reload', 'browser', 'process'], 'connection_lost');
const ODD = rule(10, ['wait', 'ask', 'reload', 'browser', 'process'], 'connection_lost');
const UNPAIRED = rule(10, ['wait', 'ask', 'reload', 'browser', 'process'], 'unpaired');
const refused = (/** @type {string} */ cause) => rule(0, ['browser', 'process'], cause);

/**
 * @param {Rule} opening
 * @param {Rule} linking
 * @param {Rule} loading
 * @param {Rule} linked
 * @param {Rule} passkey
 * @returns {Row}
 */
const row = (opening, linking, loading, linked, passkey = PASSKEY) => ({
    ...{ opening, linking, passkey, loading, linked, resting: REST },
});
const everywhere = (/** @type {Rule} */ one) => row(one, one, one, one, one);

/**
 * WhatsApp's connection state × phase. `none`: the page has reported none; `other`: one not known here.
 *
 * @type {Record<string, Row>}
 */
const PLAN = {
    none: row(OPENS, SHOWS, LOADS, LOADS),
    OPENING: row(OPENS, SHOWS, LOADS, LOST),
    PAIRING: row(LINKS, LINKS, LOADS, LOST),
    UNPAIRED: row(OPENS, SHOWS, UNPAIRED, UNPAIRED),
    UNPAIRED_IDLE: row(ASKS, ASKS, UNPAIRED, UNPAIRED),
    CONNECTED: row(LOADS, LOADS, LOADS, GOAL, LOADS),
    TIMEOUT: row(OPENS, SHOWS, LOADS, LOST),
    UNLAUNCHED: row(OPENS, SHOWS, LOADS, ODD),
    CONFLICT: everywhere(refused('conflict')),
    PROXYBLOCK: everywhere(refused('proxy_blocked')),
    TOS_BLOCK: everywhere(refused('account_blocked')),
    SMB_TOS_BLOCK: everywhere(refused('account_blocked')),
    DEPRECATED_VERSION: everywhere(refused('version_refused')),
    SCREEN_LOCKED: everywhere(refused('screen_locked')),
    other: row(OPENS, SHOWS, LOADS, LOST),
};

/** Seconds of pause before each try, and the try; the last of them again and again. */
const ROUNDS = [
    { pause: 0, step: 'reload' },
    { pause: 0, step: 'browser' },
    { pause: 5, step: 'browser' },
    { pause: 15, step: 'browser' },
    { pause: 30, step: 'browser' },
    { pause: 60, step: 'browser' },
    { pause: 100, step: 'browser' },
    { pause: 100, step: 'process' },
    { pause: 100, step: 'browser' },
];
const LAST = { pause: 300, step: 'browser' };
/** In the long run one try of so many is a new process. */
const PROCESS_EVERY = 6;

/** From this round on a linked session that only lost its page or connection is shown as in `error`. */
const SERIOUS = 4;
/**
 * How long a session must be ready to undo one round, in milliseconds. Short: a later failure is new trouble,
 * after a try that helped.
 */
const EASE_MS = 15_000;
/** How many browsers in an hour may follow each other quickly; each further one after the last pause. */
const QUICK_STARTS = 9;
/** How many times in an hour the page is reloaded; after that, another browser is tried. */
const RELOADS = 20;
/** As a note may have it: a timer of node that is longer than 24 days is over at once. */
const MOST_ROUNDS = 100_000;
const HOUR_MS = 3_600_000;

/**
 * Kinds of trouble. `from`: the first round that can help, for a linked session and for one that is not;
 * `exit`: how the process ends where a new one is to help; `error`: shown as such from the beginning;
 * `stays`: no new one can help.
 */
const TROUBLES = {
    page_hung: { from: [0, 0], exit: EXIT.pageHung },
    page_crashed: { from: [0, 0], exit: EXIT.pageHung },
    page_lost: { from: [1, 1], exit: EXIT.pageHung },
    never_ready: { from: [0, 0], exit: EXIT.neverReady },
    connection: { from: [0, 0], exit: EXIT.disconnected },
    login_missing: { from: [1, 1], exit: EXIT.disconnected },
    browser_lost: { from: [1, 1], exit: EXIT.browserLost },
    no_code: { from: [1, 1], exit: EXIT.pageHung },
    no_start: { from: [2, 4], exit: EXIT.browserLost, error: true },
    /** Another process has no more room on the disk, and nowhere to read what was tried before it. */
    no_room: { from: [2, 4], exit: EXIT.browserLost, error: true, stays: true },
    refused: { from: [4, 4], exit: EXIT.disconnected, error: true },
};

/** Return the phase that one of our states belongs to. */
function phaseOf(/** @type {import('./types').StateName} */ state) {
    const phases = /** @type {(keyof typeof STATES)[]} */ (Object.keys(STATES));
    return phases.find((phase) => STATES[phase].includes(state)) ?? 'resting';
}

/**
 * Return what may last how long, and what is tried then: a rule of `PLAN`.
 *
 * @param {string|null} connection
 * @param {import('./types').StateName} state
 */
function ruleFor(connection, state) {
    const name = connection ?? 'none';
    return PLAN[isKnown(name) ? name : 'other'][phaseOf(state)];
}

/** Return whether a state of WhatsApp's connection is one of those in the table. */
function isKnown(/** @type {string|null} */ connection) {
    return Object.hasOwn(PLAN, connection ?? '');
}

/** Return whether WhatsApp refuses the session in this state of its connection, whatever ours is. */
function isRefusal(/** @type {string} */ connection) {
    return isKnown(connection) && PLAN[connection].linked.limit === 0;
}

/** Return whether a reload of the page helps a linked session against such trouble. */
function isOfPage(/** @type {import('./types').Trouble} */ kind) {
    return TROUBLES[kind].from[0] === 0;
}

/** Return `{pause, step}` of a round, counted from 0. */
function roundOf(/** @type {number} */ number) {
    if (number < ROUNDS.length) return ROUNDS[number];
    const isLast = (number - ROUNDS.length) % PROCESS_EVERY === PROCESS_EVERY - 1;
    return isLast ? { ...LAST, step: 'process' } : LAST;
}

const lastHour = (/** @type {number[]} */ times) =>
    times.filter((time) => performance.now() - time < HOUR_MS);

/** Counts what went wrong and says what comes next. Times by the monotonic clock, in milliseconds. */
class Recovery {
    /** The round that comes next; 0 = all is well. */
    round = 0;
    /** @type {number[]} */
    #starts = [];
    /** @type {number[]} */
    #reloads = [];
    /** @type {number|null} */
    #readySince = null;

    /** The session is ready. */
    ready() {
        this.#readySince ??= performance.now();
    }

    /** In how many milliseconds of being ready the next round is the first again. */
    get calmIn() {
        return Math.max(
            0,
            this.round * EASE_MS - (performance.now() - (this.#readySince ?? performance.now())),
        );
    }

    /** A session that is not linked shows its code: earlier trouble is over. */
    calm() {
        this.round = 0;
    }

    /** A browser starts. */
    started() {
        this.#starts = [...lastHour(this.#starts), performance.now()];
    }

    /**
     * In how many milliseconds somebody who asks may have another browser: at once, unless trouble has taken
     * as many as may follow each other quickly.
     */
    get askedIn() {
        if (this.round === 0 || lastHour(this.#starts).length < QUICK_STARTS) return 0;
        return Math.max(0, this.#starts[this.#starts.length - 1] + LAST.pause * 1000 - performance.now());
    }

    /** Whether the current trouble has lasted for a while. */
    get serious() {
        return this.round > SERIOUS;
    }

    /**
     * Decide what comes next.
     *
     * @param {import('./types').Trouble} kind
     * @param {{linked: boolean, page: boolean}} now `page`: there is one that can be reloaded
     * @returns {{step: string, pause: number, error: boolean, exit: number}} pause in milliseconds
     */
    next(kind, { linked, page }) {
        /** @type {{from: number[], exit: number, error?: boolean, stays?: boolean}} */
        const { from, exit, error = false, stays = false } = TROUBLES[kind];
        if (this.#readySince !== null) {
            const eased = Math.floor((performance.now() - this.#readySince) / EASE_MS);
            this.round = Math.max(0, this.round - eased);
            this.#readySince = null;
        }
        this.#reloads = lastHour(this.#reloads);
        const canReload = page && this.#reloads.length < RELOADS;
        const number = Math.max(this.round, from[linked ? 0 : 1], canReload ? 0 : 1);
        this.round = number + 1;
        let { step, pause } = roundOf(number);
        // Only a linked session must not depend on this process; a person who wants a code asks again.
        if (step === 'process' && (stays || !linked)) step = 'browser';
        if (step === 'reload') this.#reloads.push(performance.now());
        else if (lastHour(this.#starts).length >= QUICK_STARTS) pause = LAST.pause;
        return { step, pause: pause * 1000, error: error || !linked || number >= SERIOUS, exit };
    }

    /** What the next process has to know, to continue the count. */
    note() {
        const starts = lastHour(this.#starts).map((time) => performance.now() - time);
        return { at: Date.now(), round: this.round, starts };
    }

    /**
     * Continue the count of the process before this one; an old note is ignored.
     *
     * @param {any} note as `note` gave it, if nothing has happened to it on the disk
     */
    resume(note) {
        const age = Number.isFinite(note?.at) ? Date.now() - note.at : NaN;
        if (!(age >= 0 && age < HOUR_MS) || !Number.isInteger(note.round) || !Array.isArray(note.starts)) {
            return;
        }
        this.round = Math.min(Math.max(0, note.round), MOST_ROUNDS);
        /** @type {number[]} */
        const starts = note.starts.filter((/** @type {number} */ ago) => Number.isFinite(ago) && ago >= 0);
        this.#starts = starts.map((ago) => performance.now() - ago - age);
    }
}

module.exports = {
    PLAN,
    ROUNDS,
    LAST,
    PROCESS_EVERY,
    STATES,
    STEPS,
    TROUBLES,
    Recovery,
    isKnown,
    isOfPage,
    isRefusal,
    roundOf,
    ruleFor,
};

/** The states of a user's server in words, and in the few groups that a person looks for. Pure. */

import { AT_REST } from './contract.mjs';

/** @typedef {typeof import('../../server/contract.json')} Contract */

export const GROUPS = {
    linked: 'Linked',
    waiting: 'Waiting for a person',
    working: 'In progress',
    trouble: 'Problems',
    idle: 'Idle',
};

/** @typedef {[group: import('./types').Group, word: string]} Words */

const SESSION = /** @type {Record<string, Words>} */ (
    /** @satisfies {Record<keyof Contract['session_states'], Words>} */ ({
        generating: ['working', 'getting a code'],
        qr: ['waiting', 'code shown'],
        pairing: ['waiting', 'pairing'],
        authenticated: ['working', 'loading'],
        ready: ['linked', 'linked'],
        disconnected: ['working', 'reconnecting'],
        qr_timeout: ['idle', 'no scan'],
        logged_out: ['idle', 'logged out'],
        passkey_required: ['trouble', 'passkey required'],
        error: ['trouble', 'error'],
    })
);

const PROCESS = /** @type {Record<string, Words>} */ (
    /** @satisfies {Record<keyof Contract['process_states'], Words>} */ ({
        stopped: ['idle', 'stopped'],
        starting: ['working', 'starting'],
        running: ['linked', 'running'],
        stopping: ['working', 'stopping'],
        failed: ['trouble', 'failed'],
        crash_loop: ['trouble', 'crash loop'],
    })
);

/** @returns {Words} */
const other = (/** @type {string} */ state) => ['working', state];

/** Group and word of a process state; a state of a newer daemon is shown as it is called. */
export const processWords = (/** @type {string} */ state) => PROCESS[state] ?? other(state);

/** Words for what is wrong where the state does not say it. @type {Record<string, Words>} */
const CAUSE = {
    not_answering: ['trouble', 'not answering'],
    undelivered: ['trouble', 'not delivered'],
};

/**
 * What matters of a user's server now, as the daemon has summed it up, in words and with its group.
 *
 * @param {Pick<import('./types').User, 'process'|'summary'>} user
 * @returns {import('./types').Condition & {group: import('./types').Group, word: string, bySession: boolean}}
 */
export function conditionOf({ process, summary }) {
    const { state, cause, message, hint, since } = summary;
    // A server that runs and has not said anything yet is `starting`.
    const bySession = process.state === 'running' || !(state in PROCESS);
    const [group, word] = CAUSE[cause ?? ''] ?? stateWords(state, cause);
    return { group, word, since, message, hint, bySession };
}

/**
 * A passkey that is only wanted is no trouble: it waits for a person.
 *
 * @param {string} state
 * @param {string|null} cause
 * @returns {Words}
 */
function stateWords(state, cause) {
    if (state === 'passkey_required' && cause === null) return ['waiting', 'passkey wanted'];
    return SESSION[state] ?? processWords(state);
}

/** What may be done to it now. */
export function actionsFor(/** @type {import('./types').User} */ { process, linked }) {
    const down = AT_REST.includes(process.state);
    return [...(down ? ['start'] : ['restart', 'stop']), ...(linked || !down ? ['logout'] : []), 'delete'];
}

/** Return whether typed text matches a user: user, port, phone, name or words of its state. */
export function matches(/** @type {import('./types').User} */ user, /** @type {string} */ typed) {
    const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
    const { session, process } = user;
    const { word, message } = conditionOf(user);
    const about = [
        user.user,
        user.port,
        user.unit,
        session?.phone_number,
        session?.name,
        process.state,
        word,
        message,
    ]
        .filter((part) => part !== null && part !== undefined)
        .join('\n')
        .toLowerCase();
    return words.every((/** @type {string} */ part) => about.includes(part));
}

/** What a session keeps on disk. @type {(keyof import('./types').Sizes)[]} */
const KINDS = ['login', 'cache', 'journal', 'snapshots'];

/** How much a user's session keeps on disk: bytes, or -1 where it was not measured. */
const sizeOf = (/** @type {import('./types').User} */ { storage }) =>
    storage === null ? -1 : KINDS.reduce((bytes, kind) => bytes + storage[kind], 0);

/**
 * What all sessions keep on disk: bytes of each of `KINDS`, and who keeps the most.
 *
 * @returns {?(import('./types').Sizes & {largest: import('./types').User})} null where none was measured
 */
export function diskOf(/** @type {Iterable<import('./types').User>} */ users) {
    const measured = [...users].filter(({ storage }) => storage !== null);
    if (measured.length === 0) return null;
    const sum = (/** @type {keyof import('./types').Sizes} */ kind) =>
        measured.reduce((bytes, { storage }) => bytes + (storage?.[kind] ?? 0), 0);
    const largest = measured.reduce((most, user) => (sizeOf(user) > sizeOf(most) ? user : most));
    const [login, cache, journal, snapshots] = KINDS.map(sum);
    return { login, cache, journal, snapshots, largest };
}

const natural = new Intl.Collator('en', { numeric: true });

/** How two users are ordered by a column; the port decides between equals. */
export const ORDER = /** @type {Record<string, import('./types').Order>} */ ({
    user: (a, b) => natural.compare(a.user, b.user),
    port: (a, b) => a.port - b.port,
    process: (a, b) => natural.compare(a.process.state, b.process.state),
    session: (a, b) => rank(a) - rank(b) || natural.compare(conditionOf(a).word, conditionOf(b).word),
    since: (a, b) => Date.parse(conditionOf(b).since) - Date.parse(conditionOf(a).since),
    memory: (a, b) => (b.memory ?? -1) - (a.memory ?? -1),
    cpu: (a, b) => (b.cpu ?? -1) - (a.cpu ?? -1),
    restarts: (a, b) => b.process.restarts - a.process.restarts,
});

/** Problems first: sorting by state is for finding them. */
const RANK = ['trouble', 'waiting', 'working', 'linked', 'idle'];
const rank = (/** @type {import('./types').User} */ user) => RANK.indexOf(conditionOf(user).group);

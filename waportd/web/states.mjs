/** The states of a user's server in words, and in the few groups that a person looks for. Pure. */

import { AT_REST, GROUPS } from './contract.mjs';
import { dashboardText as text } from './texts.mjs';

/** @typedef {import('./types').Group} Group */

const GROUP_OF = new Map(
    /** @type {[Group, string[]][]} */ (Object.entries(GROUPS)).flatMap(([group, states]) =>
        states.map((state) => [state, group]),
    ),
);

/** A state in words; one of a newer daemon is shown as it is called. */
const wordOf = (/** @type {string} */ state) =>
    /** @type {Record<string, string>} */ (text.states)[state] ?? state;

/** Group and word of a state. @returns {[group: Group, word: string]} */
export const stateWords = (/** @type {string} */ state) => [GROUP_OF.get(state) ?? 'working', wordOf(state)];

/** What is wrong where the state does not say it. */
const CAUSES = ['not_answering', 'undelivered'];

/**
 * What matters of a user's server now, as the daemon has summed it up, in words.
 *
 * @param {Pick<import('./types').User, 'summary'>} user
 * @returns {import('./types').Condition & {group: Group, word: string}}
 */
export function conditionOf({ summary: { state, group, cause, since, message, hint } }) {
    const { conditions } = text;
    const known = /** @type {'not_answering'|'undelivered'} */ (cause);
    let word = wordOf(state);
    if (CAUSES.includes(known)) word = conditions[known];
    else if (group === 'asleep') word = conditions.asleep;
    else if (group === 'waiting' && state === 'passkey_required') word = conditions.passkey_wanted;
    return { group, word, since, message, hint };
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
        user.host,
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

/** Since when a user is in the present state; 0 where nobody knows: the host does not answer. */
const beganAt = (/** @type {import('./types').User} */ user) =>
    Date.parse(conditionOf(user).since ?? '') || 0;

const natural = new Intl.Collator(undefined, { numeric: true });

/** How two users are ordered by a column; the port decides between equals. */
export const ORDER = /** @type {Record<string, import('./types').Order>} */ ({
    user: (a, b) => natural.compare(a.user, b.user),
    port: (a, b) => a.port - b.port,
    host: (a, b) => natural.compare(a.host ?? '', b.host ?? ''),
    process: (a, b) => natural.compare(a.process.state, b.process.state),
    session: (a, b) => rank(a) - rank(b) || natural.compare(conditionOf(a).word, conditionOf(b).word),
    since: (a, b) => beganAt(b) - beganAt(a),
    memory: (a, b) => (b.memory ?? -1) - (a.memory ?? -1),
    cpu: (a, b) => (b.cpu ?? -1) - (a.cpu ?? -1),
    restarts: (a, b) => b.process.restarts - a.process.restarts,
});

/** Problems first: sorting by state is for finding them. */
const RANK = ['trouble', 'waiting', 'working', 'linked', 'asleep', 'idle'];
const rank = (/** @type {import('./types').User} */ user) => RANK.indexOf(conditionOf(user).group);

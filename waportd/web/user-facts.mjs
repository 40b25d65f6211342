/** What is known of a user's server, as names with values. Pure, but for the list that shows them. */

import { el } from './dom.mjs';
import { bytes, diskText, figure, moment, percent } from './format.mjs';
import { phoneText } from './phone.mjs';
import { stateWords } from './states.mjs';
import { dashboardText as text } from './texts.mjs';

/** @typedef {[label: string, value: string]} Fact */

/** Those that there are. */
export const known = (/** @type {(Fact|false)[]} */ facts) =>
    /** @type {Fact[]} */ (facts.filter((fact) => fact !== false));

/** What the server talks to, and which features that does not have any more. @returns {Fact[]} */
function upstreamFacts(/** @type {import('./types').Upstream|null|undefined} */ upstream) {
    if (!upstream) return [];
    const { facts: words } = text;
    const { build, library, engine, pinned, missing } = upstream;
    const features = [...new Set(missing.map(({ feature }) => feature))];
    /** @type {(Fact|false)[]} */
    const facts = [
        build !== null && [words.build, pinned === null ? build : words.pinned(build, pinned)],
        library !== null && [words.library, `whatsapp-web.js ${library} (${engine})`],
        features.length > 0 && [words.missing, features.join(', ')],
    ];
    return known(facts);
}

/** Which version of whatsapp-web.js the next start takes, where that is another one, or the user's own. */
function nextEngine(/** @type {import('./types').User} */ { engine, own_engine: own, session }) {
    const runs = session?.upstream?.engine ?? engine;
    if (!own && runs === engine) return null;
    return own ? text.facts.ownEngine(engine) : engine;
}

/** The messages' deliveries since the server started. @returns {Fact[]} */
function messageFacts(/** @type {import('./types').Webhook|null|undefined} */ webhook) {
    if (!webhook) return [];
    const { facts: words } = text;
    const { delivered, queued, undelivered, dropped, error, oldest_at: oldest } = webhook;
    const waiting = figure(queued);
    const parts = [
        words.delivered(figure(delivered)),
        queued > 0 &&
            (oldest === null ? words.waiting(waiting) : words.waitingSince(waiting, moment(oldest))),
        undelivered > 0 && words.undelivered(figure(undelivered)),
        dropped > 0 && words.lost(figure(dropped)),
    ];
    /** @type {(Fact|false)[]} */
    const facts = [[words.messages, parts.filter(Boolean).join(', ')], error !== null && [words.app, error]];
    return known(facts);
}

/**
 * Of when the newest copy of the login is, and whether one took the place of a damaged login.
 *
 * @returns {Fact[]}
 */
function snapshotFacts(/** @type {import('./types').User['storage']} */ storage) {
    const { snapshot_at: copied, restored_at: restored } = storage ?? {};
    /** @type {(Fact|false)[]} */
    const facts = [
        Boolean(copied) && [text.facts.copied, moment(copied ?? '')],
        Boolean(restored) && [text.facts.replaced, text.facts.byCopy(moment(restored ?? ''))],
    ];
    return known(facts);
}

/** Whose phone is linked. */
function phoneFact(/** @type {import('./types').User} */ { session, linked }) {
    if (session?.phone_number)
        return [session.name, phoneText(session.phone_number)].filter(Boolean).join(' · ');
    return linked ? text.facts.linked : text.facts.notLinked;
}

/** @returns {Fact[]} */
export function factsOf(/** @type {import('./types').User} */ user) {
    const { session, process, storage } = user;
    const { facts: words } = text;
    const engine = nextEngine(user);
    const isReady = session?.state === 'ready' && process.pid !== null;
    /** @type {(Fact|false)[]} */
    const all = [
        [words.phone, phoneFact(user)],
        user.linked_at !== null && [words.linkedSince, moment(user.linked_at)],
        isReady && session.since !== null && [words.connected, moment(session.since)],
        [words.port, user.note === null ? String(user.port) : `${user.port} (${user.note})`],
        [words.unit, user.unit],
        user.host !== null && [words.host, user.host],
        ...upstreamFacts(session?.upstream),
        engine !== null && [words.engine, engine],
        [
            words.process,
            [stateWords(process.state)[1], process.pid && `pid ${process.pid}`].filter(Boolean).join(', '),
        ],
        [words.restarts, figure(process.restarts)],
        [words.memory, user.memory === null ? '–' : bytes(user.memory)],
        [words.cpu, user.cpu === null ? '–' : percent(user.cpu)],
        storage !== null && [words.disk, `${diskText(storage)} (${moment(storage.measured_at)})`],
        ...snapshotFacts(storage),
        ...messageFacts(session?.webhook),
        Boolean(session?.last_message_at) && [words.lastMessage, moment(session?.last_message_at ?? '')],
        [words.created, moment(user.created_at)],
    ];
    return known(all);
}

/** Show facts in a list, if they differ from those that it shows. */
export function showFacts(/** @type {HTMLElement} */ place, /** @type {Fact[]} */ facts) {
    const key = JSON.stringify(facts);
    if (place.dataset.key === key) return;
    place.dataset.key = key;
    place.replaceChildren(
        ...facts.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))),
    );
}

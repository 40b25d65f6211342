/** What is known of one user, what can be done to it, and what its server says. */

import { now, userPath } from './api.mjs';
import { el, icon, say, sayWithCode } from './dom.mjs';
import { age, bytes, diskText, explained, figure, moment, percent, timeOfDay } from './format.mjs';
import { phoneText } from './phone.mjs';
import { actionsFor, conditionOf, processWords } from './states.mjs';
import { Stream } from './stream.mjs';
import { dashboardText as text } from './texts.mjs';

const LINES = 200;
const MOST_LINES = 1_000;

/** syslog(3): 3 is an error, 4 a warning, 7 debugging. */
const severity = (/** @type {number} */ priority) =>
    priority <= 3 ? 'bad' : priority === 4 ? 'warn' : priority === 7 ? 'quiet' : null;

/** The journal of a user's server, followed for as long as it is shown. */
class LogTail {
    element = el('div.log', { tabindex: '0', role: 'region', 'aria-label': text.panel.log });
    #list = el('ol', { lang: 'en' });
    #note = el('p.quiet', {}, text.panel.reading);
    #stream;

    constructor(/** @type {string} */ user) {
        this.element.append(this.#note, this.#list);
        this.#stream = new Stream(
            userPath(user, 'logs'),
            {
                on: { log: (line) => this.#add(line) },
                onLive: () => this.#list.childElementCount || say(this.#note, text.panel.silent),
                onLost: (_, problem) => this.#explain(problem),
                onRefused: (problem) => this.#explain(problem),
            },
            { lines: LINES, follow: 'true' },
        );
        this.#stream.start();
    }

    stop() {
        this.#stream.stop();
    }

    #explain(/** @type {import('./api.mjs').Problem|null} */ problem) {
        if (problem) say(this.#note, explained(problem));
        this.#note.hidden = !problem;
    }

    #add(/** @type {import('./types').LogLine} */ { time, priority, source, message }) {
        this.#note.hidden = true;
        const { scrollTop, scrollHeight, clientHeight } = this.element;
        const atEnd = scrollTop + clientHeight >= scrollHeight - 8;
        this.#list.append(
            el(
                'li',
                { 'data-severity': severity(priority) },
                el('time', { datetime: time, title: moment(time) }, timeOfDay(time)),
                el('span', {}, source === 'server' ? null : el('i', {}, `${source}: `), message),
            ),
        );
        while (this.#list.childElementCount > MOST_LINES) this.#list.firstElementChild.remove();
        if (atEnd) this.element.scrollTop = this.element.scrollHeight;
    }
}

export class UserPanel {
    #element;
    #actions;
    /** @type {any} */
    #name = null;
    /** @type {LogTail|null} */
    #log = null;
    /** What changes in it, from its opening on. @type {any} */
    #parts = null;
    /** @type {string|null} */
    #busy = null;

    /**
     * @param {HTMLElement} element
     * @param {import('./types').PanelActions} actions
     */
    constructor(element, actions) {
        this.#element = element;
        this.#actions = actions;
        element.addEventListener('keydown', (event) => {
            if (event.key === 'Escape') actions.onClose();
        });
    }

    get user() {
        return this.#name;
    }

    close() {
        this.#log?.stop();
        this.#log = null;
        this.#name = null;
        this.#element.hidden = true;
        this.#element.replaceChildren();
    }

    /** Show another user, and take the focus there. */
    open(/** @type {import('./types').User} */ user) {
        this.close();
        this.#name = user.user;
        this.#busy = null;
        this.#log = new LogTail(user.user);
        const heading = el('h2', { tabindex: '-1' }, user.user);
        this.#parts = {
            pill: el('span.pill'),
            since: el('span.quiet'),
            message: el('p', { lang: 'en' }),
            hint: el('p.quiet', { lang: 'en' }),
            problem: el('p.problem', { role: 'alert' }),
            buttons: el('p.buttons'),
            facts: el('dl.facts'),
        };
        const { pill, since, message, hint, problem, buttons, facts } = this.#parts;
        this.#element.replaceChildren(
            el(
                'header',
                {},
                heading,
                pill,
                since,
                el(
                    'button.close',
                    { type: 'button', 'aria-label': text.page.close, onclick: this.#actions.onClose },
                    icon('close'),
                ),
            ),
            el('div.finding', {}, message, hint),
            buttons,
            problem,
            facts,
            el(
                'div.heading',
                {},
                el('h3', {}, text.panel.log),
                el(
                    'button.button.text',
                    { type: 'button', onclick: () => this.#actions.onChanges(user.user) },
                    text.changes.title,
                ),
            ),
            this.#log.element,
        );
        this.#element.hidden = false;
        this.show(user);
        heading.focus({ preventScroll: true });
    }

    /** Show what has changed. */
    show(/** @type {import('./types').User} */ user) {
        const { pill, since, message, hint, buttons, facts } = this.#parts;
        const condition = conditionOf(user);
        say(pill, condition.word);
        pill.dataset.group = condition.group;
        say(since, text.panel.since(age(condition.since, now())));
        message.parentElement.dataset.group = condition.group;
        sayWithCode(message, condition.message ?? '');
        sayWithCode(hint, condition.hint ?? '');
        this.#showButtons(buttons, user);
        showFacts(facts, user);
    }

    #showButtons(/** @type {HTMLElement} */ place, /** @type {import('./types').User} */ user) {
        const actions = actionsFor(user);
        const key = `${actions} ${this.#busy}`;
        if (place.dataset.key === key) return;
        place.dataset.key = key;
        const active = /** @type {HTMLElement|null} */ (document.activeElement);
        const focused = place.contains(active) ? active?.dataset.action : null;
        place.replaceChildren(
            el(
                'a.button.primary',
                {
                    href: this.#actions.connectAddress(user.user),
                    target: '_blank',
                    rel: 'noopener',
                    onclick: (/** @type {Event} */ event) => this.#actions.onConnect(event, user.user),
                },
                text.panel.connect,
                icon('open'),
            ),
            ...actions.map((action) =>
                el(
                    'button',
                    {
                        class: `button${['logout', 'delete'].includes(action) ? ' danger' : ''}`,
                        type: 'button',
                        'data-action': action,
                        disabled: this.#busy !== null,
                        onclick: () => this.#act(action, user.user),
                    },
                    this.#busy === action ? el('span.spinner', { 'aria-hidden': 'true' }) : null,
                    /** @type {Record<string, import('./types').ActionWords>} */ (text.actions)[action].label,
                ),
            ),
        );
        if (!focused) return;
        const same = place.querySelector(`[data-action="${focused}"]:enabled`);
        /** @type {HTMLElement|null} */ (same ?? this.#element.querySelector('h2'))?.focus();
    }

    async #act(/** @type {string} */ action, /** @type {string} */ name) {
        const { problem } = this.#parts;
        say(problem, '');
        const failure = await this.#actions.onAction(action, name, (busy) => {
            if (this.#name === name) this.#busy = busy ? action : null;
        });
        if (failure && this.#name === name) say(problem, explained(failure));
    }
}

/** @typedef {[label: string, value: string]} Fact */

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

/** Those that there are. */
const known = (/** @type {(Fact|false)[]} */ facts) =>
    /** @type {Fact[]} */ (facts.filter((fact) => fact !== false));

/** Whose phone is linked. */
function phoneFact(/** @type {import('./types').User} */ { session, linked }) {
    if (session?.phone_number)
        return [session.name, phoneText(session.phone_number)].filter(Boolean).join(' · ');
    return linked ? text.facts.linked : text.facts.notLinked;
}

function showFacts(/** @type {HTMLElement} */ place, /** @type {import('./types').User} */ user) {
    const { session, process, storage } = user;
    const { facts: words } = text;
    const engine = nextEngine(user);
    /** @type {(Fact|false)[]} */
    const all = [
        [words.phone, phoneFact(user)],
        [words.port, user.note === null ? String(user.port) : `${user.port} (${user.note})`],
        [words.unit, user.unit],
        ...upstreamFacts(session?.upstream),
        [
            words.process,
            [processWords(process.state)[1], process.pid && `pid ${process.pid}`].filter(Boolean).join(', '),
        ],
        [words.restarts, figure(process.restarts)],
        [words.memory, user.memory === null ? '–' : bytes(user.memory)],
        storage !== null && [words.disk, `${diskText(storage)} (${moment(storage.measured_at)})`],
        ...snapshotFacts(storage),
        [words.cpu, user.cpu === null ? '–' : percent(user.cpu)],
        [words.created, moment(user.created_at)],
        user.memory_max !== null && [words.limit, bytes(user.memory_max)],
        engine !== null && [words.engine, engine],
        user.own_webhook && [words.webhook, words.ownWebhook],
        ...messageFacts(session?.webhook),
        !user.autostart && [words.autostart, words.off],
    ];
    const facts = known(all);
    const key = JSON.stringify(facts);
    if (place.dataset.key === key) return;
    place.dataset.key = key;
    place.replaceChildren(
        ...facts.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))),
    );
}

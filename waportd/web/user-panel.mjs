/** One user: what is known of it, what can be done to it, how it is linked, and what its server says. */

import { now } from './api.mjs';
import { el, icon, say, sayWithCode } from './dom.mjs';
import { age } from './format.mjs';
import { LinkSection } from './link-section.mjs';
import { LogView } from './log-view.mjs';
import { openHostMove } from './host-move-dialog.mjs';
import { openMove } from './move-dialog.mjs';
import { rights } from './rights.mjs';
import { explain } from './saying.mjs';
import { actionsFor, conditionOf } from './states.mjs';
import { dashboardText as text } from './texts.mjs';
import { DANGERS } from './user-actions.mjs';
import { factsOf, showFacts } from './user-facts.mjs';
import { openSettings, settingsOf } from './user-settings.mjs';

export class UserPanel {
    #element;
    #actions;
    /** @type {any} */
    #name = null;
    /** Its document, as it was shown last. @type {any} */
    #user = null;
    /** @type {LogView|null} */
    #log = null;
    /** @type {LinkSection|null} */
    #link = null;
    /** @type {HTMLDialogElement|null} */
    #dialog = null;
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
    }

    get user() {
        return this.#name;
    }

    close() {
        this.#log?.stop();
        this.#log = null;
        this.#link?.close();
        this.#link = null;
        this.#dialog?.close();
        this.#dialog = null;
        this.#name = null;
        this.#element.hidden = true;
        this.#element.replaceChildren();
    }

    /** Show another user, and take the focus there. */
    open(/** @type {import('./types').User} */ user) {
        this.close();
        this.#name = user.user;
        this.#busy = null;
        this.#link = new LinkSection(user, this.#actions);
        const changes = el(
            'button.button.text',
            { type: 'button', onclick: () => this.#actions.onChanges(user.user) },
            text.page.changes,
        );
        this.#log = new LogView(user.user, changes);
        const heading = el('h2', { tabindex: '-1' }, user.user);
        this.#parts = {
            pill: el('span.pill'),
            since: el('span.quiet'),
            message: el('p', { lang: 'en' }),
            hint: el('p.quiet', { lang: 'en' }),
            problem: el('p.problem', { role: 'alert' }),
            buttons: el('p.buttons'),
            facts: el('dl.facts'),
            settings: el('dl.facts.of-settings'),
            done: el('p.quiet.done', { role: 'status' }),
            change: this.#opener(text.settings.change, openSettings),
            move: this.#opener(text.move.open, openMove),
            hostMove: this.#opener(text.hostMove.open, openHostMove),
            changes,
        };
        const {
            pill,
            since,
            message,
            hint,
            problem,
            buttons,
            facts,
            settings,
            done,
            change,
            move,
            hostMove,
        } = this.#parts;
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
            this.#link.element,
            group('facts', text.panel.facts, facts),
            group(
                'settings',
                text.settings.title,
                settings,
                el('p.buttons', {}, change, move, hostMove),
                done,
            ),
            this.#log.element,
        );
        this.#element.hidden = false;
        this.#element.scrollTop = 0;
        this.show(user);
        heading.focus({ preventScroll: true });
    }

    /** Show what has changed. */
    show(/** @type {import('./types').User} */ user) {
        this.#user = user;
        const { pill, since, message, hint, buttons, facts, settings, change, move, hostMove, changes } =
            this.#parts;
        const condition = conditionOf(user);
        say(pill, condition.word);
        pill.dataset.group = condition.group;
        say(since, condition.since === null ? '' : text.panel.since(age(condition.since, now())));
        const finding = message.parentElement;
        finding.dataset.group = condition.group;
        // Who is linked stands below.
        const isSaid = user.summary.state === 'ready' && condition.hint === null;
        sayWithCode(message, isSaid ? '' : (condition.message ?? ''));
        sayWithCode(hint, condition.hint ?? '');
        finding.hidden = finding.textContent === '';
        this.#showButtons(buttons, user);
        this.#link?.show(user);
        showFacts(facts, factsOf(user));
        showFacts(settings, settingsOf(user));
        change.hidden = !rights.mayChange;
        // In a fleet a port does not change.
        move.hidden = !rights.isAdmin || user.host !== null;
        hostMove.hidden = !rights.isAdmin || user.host === null;
        changes.hidden = !rights.isAdmin;
    }

    #showButtons(/** @type {HTMLElement} */ place, /** @type {import('./types').User} */ user) {
        const actions = rights.mayChange ? actionsFor(user) : [];
        const key = `${actions} ${this.#busy} ${rights.mayLink} ${user.linked}`;
        if (place.dataset.key === key) return;
        place.dataset.key = key;
        const active = /** @type {HTMLElement|null} */ (document.activeElement);
        const focused = place.contains(active) ? active?.dataset.action : null;
        place.replaceChildren(
            ...(rights.mayLink ? [this.#connectPage(user)] : []),
            ...actions.map((action) =>
                el(
                    'button',
                    {
                        class: `button${DANGERS.includes(action) ? ' danger' : ''}`,
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

    /** What a user without a phone needs first. */
    #connectPage(/** @type {import('./types').User} */ { user, linked }) {
        return el(
            linked ? 'a.button' : 'a.button.primary',
            {
                href: this.#actions.connectAddress(user),
                target: '_blank',
                rel: 'noopener',
                'data-action': 'connect',
                onclick: (/** @type {Event} */ event) => this.#actions.onConnect(event, user),
            },
            text.panel.connect,
            icon('open'),
        );
    }

    /** A button that opens a dialog about the user. */
    #opener(/** @type {string} */ label, /** @type {typeof openMove} */ openDialog) {
        const onclick = () => {
            const { done } = this.#parts;
            say(done, '');
            this.#dialog = openDialog(this.#user, (words) => say(done, words));
        };
        return el('button.button', { type: 'button', onclick }, label);
    }

    async #act(/** @type {string} */ action, /** @type {string} */ name) {
        const { problem } = this.#parts;
        say(problem, '');
        const failure = await this.#actions.onAction(action, name, (busy) => {
            if (this.#name === name) this.#busy = busy ? action : null;
        });
        if (failure && this.#name === name) explain(problem, failure);
    }
}

/** A part of the panel with its heading. */
const group = (
    /** @type {string} */ name,
    /** @type {string} */ title,
    /** @type {HTMLElement[]} */ ...children
) =>
    el(
        'div.group',
        { role: 'group', 'aria-labelledby': `${name}-title` },
        el('div.heading', {}, el('h3', { id: `${name}-title` }, title)),
        ...children,
    );

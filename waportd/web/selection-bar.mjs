/** What can be done to the users that are selected: a bar below the list, for as long as there are any. */

import { CONCERNS } from './bulk.mjs';
import { el, icon, say } from './dom.mjs';
import { figure } from './format.mjs';
import { dashboardText } from './texts.mjs';
import { DANGERS } from './user-actions.mjs';

/** @typedef {import('./types').BulkAction} BulkAction */

const { actions, bulk: text } = dashboardText;

export class SelectionBar {
    #element;
    #count = el('p', { role: 'status' });
    #all = el('button.button.text', { type: 'button' });

    /**
     * @param {HTMLElement} element
     * @param {object} listeners
     * @param {(action: BulkAction) => void} listeners.onAction
     * @param {() => void} listeners.onAll select all that are shown
     * @param {() => void} listeners.onClear
     */
    constructor(element, { onAction, onAll, onClear }) {
        this.#element = element;
        this.#all.addEventListener('click', onAll);
        element.append(
            this.#count,
            this.#all,
            el(
                'button.close',
                { type: 'button', 'aria-label': text.clear, title: text.clear, onclick: onClear },
                icon('close'),
            ),
            el(
                'div.buttons',
                {},
                .../** @type {BulkAction[]} */ (Object.keys(CONCERNS)).map((action) =>
                    el(
                        'button',
                        {
                            class: `button${DANGERS.includes(action) ? ' danger' : ''}`,
                            type: 'button',
                            'data-action': action,
                            onclick: () => onAction(action),
                        },
                        actions[action].label,
                    ),
                ),
            ),
        );
    }

    /** @param {{selected: string[], shown: string[]}} users */
    show({ selected, shown }) {
        this.#element.hidden = selected.length === 0;
        if (selected.length === 0) return;
        const chosen = new Set(selected);
        const seen = shown.filter((name) => chosen.has(name)).length;
        const hidden = selected.length - seen;
        const count = text.selected(figure(selected.length));
        say(this.#count, hidden === 0 ? count : `${count}, ${text.hidden(figure(hidden))}`);
        say(this.#all, text.all(figure(shown.length)));
        this.#all.hidden = seen === shown.length;
    }
}

/** What the dashboard says of what happens: at a place of its own, or in the notice above the page. */

import { byId, el, say } from './dom.mjs';
import { explained } from './format.mjs';
import { dashboardText as text } from './texts.mjs';

/** Say something in the language of the page. */
export function sayHere(/** @type {HTMLElement} */ place, /** @type {string} */ words) {
    place.lang = text.language;
    say(place, words);
}

/** Say what went wrong, in the language that there are words in. */
export function explain(
    /** @type {HTMLElement} */ place,
    /** @type {import('./api.mjs').Problem} */ problem,
) {
    sayHere(place, explained(problem));
    if (problem.status !== 0) place.lang = 'en';
}

/** What went wrong, to stand among other words. @returns {HTMLElement} */
export function inWords(/** @type {import('./api.mjs').Problem} */ problem) {
    const words = el('span');
    explain(words, problem);
    return words;
}

/** Say something above the page, until it is closed. */
export function notify(/** @type {(Node|string)[]} */ ...parts) {
    byId('notice').firstElementChild.replaceChildren(...parts);
    byId('notice').hidden = false;
}

/** Say above the page what went wrong. */
export const notifyOf = (/** @type {import('./api.mjs').Problem} */ problem) => notify(inWords(problem));

/** Close it, and forget what it said: that may be a link which opens a page. */
export function closeNotice() {
    byId('notice').hidden = true;
    byId('notice').firstElementChild.replaceChildren();
}

/** What several views of the connect page are made of. */

import { now } from './api.mjs';
import { el, say, spinner } from './dom.mjs';

const COPIED_MS = 2_000;

export const button = (
    /** @type {string} */ label,
    /** @type {(() => unknown)|null} */ onclick = null,
    kind = 'button text',
) => el('button', { class: kind, type: 'button', onclick }, label);

/** Text in <angle brackets> is what another screen shows. */
export const marked = (/** @type {string} */ line) =>
    line
        .split(/<(.+?)>/)
        .map((/** @type {string} */ part, /** @type {number} */ index) =>
            index % 2 ? el('strong', {}, part) : part,
        );

/** A list of steps. */
export const steps = (/** @type {string[]} */ list) =>
    el('ol.steps', {}, ...list.map((/** @type {string} */ line) => el('li', {}, ...marked(line))));

/** The place of a code that is not there yet. */
export function skeleton() {
    const corner = () => el('i');
    return el('div.skeleton', { 'aria-hidden': 'true' }, corner(), corner(), corner(), spinner());
}

/** A code for people's eyes: eight letters in boxes, spelled for screen readers. */
export class Letters {
    element = el('p.letters', { role: 'img' });
    #label;
    /** @type {string|null} */
    #code = null;

    constructor(/** @type {string} */ label) {
        this.#label = label;
    }

    /** @returns {boolean} whether this is another code than before */
    show(/** @type {string} */ code) {
        if (code === this.#code) return false;
        this.#code = code;
        this.element.replaceChildren(
            ...[...code].map((letter) => el(letter === '-' ? 'i' : 'b', {}, letter)),
        );
        const spelled = [...code.replace('-', '')].join(' ');
        this.element.setAttribute('aria-label', `${this.#label}: ${spelled}`);
        return true;
    }
}

/**
 * Put a text into the clipboard, and say so on the button for a moment.
 *
 * @returns {Promise<boolean>} false where that is not allowed: an embedding page has to grant it, and a page
 *   without TLS has no clipboard
 */
export async function copy(
    /** @type {string} */ text,
    /** @type {HTMLElement} */ pressed,
    /** @type {{copied: string, announcer: HTMLElement}} */ { copied, announcer },
) {
    try {
        await navigator.clipboard.writeText(text);
    } catch {
        return false;
    }
    const label = pressed.textContent;
    say(announcer, copied);
    if (label === copied) return true;
    say(pressed, copied);
    setTimeout(() => say(pressed, label), COPIED_MS);
    return true;
}

/** How long something is valid: a bar that runs out, and words that are not announced. */
export class Timer {
    bar = el('div.bar', { 'aria-hidden': 'true' }, el('div'));
    words = el('span');
    #say;
    /** When it ends, in milliseconds since the epoch. @type {number|null} */
    #until = null;

    /** @param {(seconds: number) => string} words */
    constructor(words) {
        this.#say = words;
    }

    get over() {
        return this.#until !== null && this.#until <= now();
    }

    /** @param {?string} until when it ends; null for now */
    run(until) {
        this.#until = until === null ? 0 : Date.parse(until);
        const left = Math.max(0, this.#until - now());
        const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
        const line = this.bar.firstChild;
        for (const animation of line.getAnimations()) animation.cancel();
        line.animate([{ transform: 'scaleX(1)' }, { transform: 'scaleX(0)' }], {
            duration: left,
            fill: 'forwards',
            easing: still ? `steps(${Math.max(1, Math.round(left / 5000))})` : 'linear',
        });
    }

    tick() {
        if (this.#until !== null)
            say(this.words, this.#say(Math.max(0, Math.ceil((this.#until - now()) / 1000))));
    }
}

/** What is needed wherever a phone is linked: a code to scan, its time, buttons. To type: typed-code.mjs. */

import { asProblem, now, send, userPath } from './api.mjs';
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

/** The code to scan, drawn sharply. It does not outlive its time, even if nothing is heard any more. */
export class CodePicture {
    element;
    #user;
    #timer;
    /** What is drawn. @type {string|null} */
    #code = null;

    /**
     * @param {string} user
     * @param {string} label
     * @param {Timer} timer
     */
    constructor(user, label, timer) {
        this.#user = user;
        this.#timer = timer;
        this.element = el('div.code', { role: 'img', 'aria-label': label }, skeleton());
    }

    show(/** @type {Pick<import('./types').CodeDocument, 'qr'|'expires_at'>} */ { qr, expires_at: end }) {
        const code = Date.parse(end) > now() ? qr : null;
        if (code === this.#code) return;
        this.#code = code;
        this.#timer.run(code === null ? null : end);
        if (code === null) this.element.replaceChildren(skeleton());
        else this.#draw(code);
    }

    tick() {
        this.#timer.tick();
        if (this.#code !== null && this.#timer.over) this.leave();
    }

    /** Show no code any more. */
    leave() {
        this.#code = null;
        this.element.replaceChildren(skeleton());
    }

    /** Fit the picture into its place again. */
    fit() {
        const svg = this.element.querySelector('svg');
        if (svg) svg.replaceWith(sharp(svg, this.element));
    }

    /** Draw the present code. One that comes too late is not drawn. */
    async #draw(/** @type {string} */ code) {
        const isWanted = () => this.#code === code;
        try {
            const headers = { Accept: 'image/svg+xml' };
            const query = { format: 'svg' };
            const answer = await send('GET', userPath(this.#user, 'qr'), { query, headers });
            const parser = new DOMParser();
            const { documentElement: picture } = parser.parseFromString(await answer.text(), 'image/svg+xml');
            if (isWanted() && picture.nodeName === 'svg')
                this.element.replaceChildren(sharp(picture, this.element));
        } catch (error) {
            // Without a code any more there is a newer event on its way.
            if (asProblem(error).status !== 409 && isWanted())
                setTimeout(() => isWanted() && this.#draw(code), 1_000);
        }
    }
}

/** Make a picture as large as its place allows with every module a whole number of the screen's pixels. */
function sharp(/** @type {Element} */ picture, /** @type {HTMLElement} */ place) {
    const svg = /** @type {SVGSVGElement} */ (document.importNode(picture, true));
    svg.setAttribute('shape-rendering', 'crispEdges');
    svg.setAttribute('aria-hidden', 'true');
    const moved = /** @type {SVGGraphicsElement|null} */ (svg.querySelector('[transform]'));
    const scale = moved?.transform.baseVal.consolidate()?.matrix.a ?? 1;
    const modules = svg.viewBox.baseVal.width / scale;
    const room = Math.max(1, place.clientWidth - 16) * devicePixelRatio;
    const side = (Math.max(1, Math.floor(room / modules)) * modules) / devicePixelRatio;
    svg.setAttribute('width', String(side));
    svg.setAttribute('height', String(side));
    return svg;
}

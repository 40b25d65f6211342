/** The views of the connect page for a code that is typed on the phone, in place of one to scan. */

import { call, now, userPath } from './api.mjs';
import { button, steps } from './connect-pieces.mjs';
import { hasCodeElsewhere, viewOf } from './connect-view.mjs';
import { el, icon, say } from './dom.mjs';
import { NumberForm, TypedCode } from './typed-code.mjs';

export class PairingViews {
    #text;
    #page;
    /** What was typed. */
    #phone;

    /**
     * @param {import('./types').Texts} text the words of the page
     * @param {object} page
     * @param {string} page.user
     * @param {import('./types').ConnectFacts} page.facts
     * @param {(news: Partial<import('./types').ConnectFacts>) => void} page.learn
     * @param {() => Promise<void>} page.ensure have the user's server run
     * @param {() => {element: HTMLElement, update: () => void}} page.ahead
     * @param {HTMLElement} page.announcer
     */
    constructor(text, page) {
        this.#text = text;
        this.#page = page;
        this.#phone = text.phone.prefix;
    }

    /** The views by kind. */
    get views() {
        return {
            phone: () => this.#asking(),
            pairing: () => this.#shown(),
            elsewhere: () => this.#elsewhere(),
        };
    }

    #asking() {
        const { ahead: makeAhead, facts, learn, user } = this.#page;
        const form = new NumberForm({
            user,
            words: this.#text.phone,
            problems: this.#text.pairingProblems,
            number: this.#phone,
            onInput: (number) => {
                this.#phone = number;
                // What happens elsewhere does not take the form from somebody who types.
                learn({ numberHere: true });
            },
            onCode: (code) => learn({ pairing: { ...code, since: null }, codeReplaced: false }),
        });
        const other = el('p.note');
        const ahead = makeAhead();
        const boxes = el(
            'p.letters.empty',
            { 'aria-hidden': 'true' },
            ...[...'bbbbibbbb'].map((tag) => el(tag)),
        );
        return {
            words: [form.element, other, ahead.element, el('p.alternative', {}, this.#scanButton())],
            figure: [boxes],
            update: () => {
                ahead.update();
                say(other, hasCodeElsewhere(facts) ? this.#text.phone.replaces : '');
            },
            tick: () => form.tick(),
        };
    }

    /** The code that this page asked for. */
    #shown() {
        const { ahead: makeAhead, announcer, facts } = this.#page;
        const code = new TypedCode(this.#text.pairing, announcer);
        const ahead = makeAhead();
        return {
            words: [
                steps(this.#text.pairing.steps),
                ahead.element,
                el('p.alternative', {}, this.#numberButton(this.#text.pairing.other), this.#scanButton()),
            ],
            figure: code.element,
            update: () => {
                ahead.update();
                if (facts.pairing !== null) code.show(facts.pairing);
            },
            tick: () => code.tick(),
        };
    }

    /** A code that was asked for elsewhere is shown there, and valid until somebody here wants another. */
    #elsewhere() {
        const { scan, number, note } = this.#text.elsewhere;
        return {
            words: [
                el('p.actions', {}, this.#scanButton(scan, 'button'), this.#numberButton(number, 'button')),
                el('p.note', {}, note),
            ],
            figure: [el('div.badge.work', {}, icon('open'))],
        };
    }

    #numberButton(/** @type {string} */ label, kind = 'button text') {
        const news = { byPhone: true, numberHere: true, pairing: null };
        return button(label, () => this.#page.learn(news), kind);
    }

    #scanButton(label = this.#text.phone.byScan, kind = 'button text') {
        return button(label, () => this.#scanInstead(), kind);
    }

    /** Back to the camera. Where no code to scan is being made, one is asked for. */
    async #scanInstead() {
        const { ensure, facts, learn, user } = this.#page;
        if (facts.pairing !== null || facts.qr?.status === 'pairing') {
            try {
                await call('DELETE', userPath(user, 'pairing-code'));
            } catch {
                return; // what is wrong shows in the session, or as a lost connection
            }
        }
        learn({ byPhone: false, numberHere: false, codeReplaced: false, pairing: null });
        if (viewOf({ ...facts, now: now() }).kind === 'timeout') ensure();
    }
}

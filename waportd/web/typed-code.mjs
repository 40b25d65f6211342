/** A code to type on the phone: the form for the number, and the code with its time. Loaded on demand. */

import { asProblem, call, userPath } from './api.mjs';
import { Timer, button, copy } from './connect-pieces.mjs';
import { busy, el, idle, isBusy, say } from './dom.mjs';
import { phoneOf, phoneText } from './phone.mjs';

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

/** A code to type on the phone: for which number, how long it is valid, and a button to copy it. */
export class TypedCode {
    element;
    #words;
    #letters;
    #number = el('p.number');
    #timer;
    #code = '';

    /**
     * @param {Omit<import('./types').Texts['pairing'], 'steps'|'other'>} words
     * @param {HTMLElement} announcer
     */
    constructor(words, announcer) {
        this.#words = words;
        this.#letters = new Letters(words.code);
        this.#timer = new Timer((left) => words.left(Math.floor(left / 60), left % 60));
        const copyCode = async () => {
            const isDone = await copy(this.#code, pressed, { copied: words.copied, announcer });
            if (!isDone) getSelection()?.selectAllChildren(this.#letters.element);
        };
        const pressed = button(words.copy, copyCode, 'button');
        const timer = el('div.timer', {}, this.#timer.bar, el('p', {}, this.#timer.words));
        this.element = [this.#number, this.#letters.element, timer, pressed];
    }

    show(/** @type {import('./types').AskedCode} */ { code, number, expires_at: end }) {
        this.#code = code;
        say(this.#number, this.#words.number(phoneText(number)));
        if (this.#letters.show(code)) this.#timer.run(end);
    }

    tick() {
        this.#timer.tick();
    }
}

/** @typedef {{words: (seconds: number) => string, at: number}} Countdown what is said until a time */

/** Asks for a phone number, and gets the code for it. */
export class NumberForm {
    element;
    #ask;
    #field;
    #problem = el('p.problem', { id: 'phone-problem', role: 'alert' });
    #page;
    /** @type {Countdown|null} */
    #countdown = null;

    /**
     * @param {object} page
     * @param {string} page.user
     * @param {Omit<import('./types').Texts['phone'], 'byScan'|'replaces'>} page.words
     * @param {import('./types').Texts['pairingProblems']} page.problems
     * @param {string} page.number what was typed before
     * @param {(number: string) => void} page.onInput
     * @param {(code: import('./types').AskedCode) => void} page.onCode
     */
    constructor(page) {
        this.#page = page;
        const { words } = page;
        this.#field = el('input.field', {
            id: 'phone',
            type: 'tel',
            autocomplete: 'tel',
            inputmode: 'tel',
            maxlength: '32',
            required: true,
            'aria-describedby': 'phone-help phone-problem',
            value: page.number,
            oninput: () => {
                page.onInput(this.#field.value);
                this.#complain(null);
            },
        });
        this.#ask = el('button.button.primary', { type: 'submit' }, words.ask);
        this.element = el(
            'form.number-form',
            {
                novalidate: true,
                onsubmit: (/** @type {SubmitEvent} */ event) => {
                    event.preventDefault();
                    if (!isBusy(this.#ask)) this.#submit();
                },
            },
            el('label', { for: 'phone' }, words.label),
            this.#field,
            el('p.note', { id: 'phone-help' }, words.help),
            this.#problem,
            this.#ask,
        );
    }

    tick() {
        if (this.#countdown === null) return;
        const left = Math.max(0, Math.ceil((this.#countdown.at - Date.now()) / 1000));
        if (left > 0) say(this.#problem, this.#countdown.words(left));
        else this.#complain(null);
    }

    #complain(/** @type {string|null} */ words, /** @type {Countdown|null} */ until = null) {
        this.#countdown = until;
        say(this.#problem, words ?? '');
        this.tick();
        this.#field.setAttribute('aria-invalid', String(words !== null && until === null));
        if (words !== null) this.#field.focus();
    }

    async #submit() {
        const { user, words, problems, onCode } = this.#page;
        const { value: typed } = this.#field;
        const number = phoneOf(typed, words.prefix.replace(/\D/g, ''));
        this.#complain(number === null ? (/^\s*\+?\s*0/.test(typed) ? words.zero : words.invalid) : null);
        if (number === null) return;
        busy(this.#ask, words.asking);
        try {
            const body = { phone: number };
            const { code, expires_at } = await call('POST', userPath(user, 'pairing-code'), { body });
            onCode({ code, expires_at, number });
        } catch (error) {
            const { cause, code, retryAfter } = asProblem(error);
            const all = /** @type {import('./types').ProblemWords} */ (problems);
            const known = all[cause ?? ''] ?? all[code ?? ''] ?? all.other;
            if (typeof known !== 'function') this.#complain(known);
            else this.#complain('', { words: known, at: Date.now() + (retryAfter ?? 60) * 1000 });
        } finally {
            idle(this.#ask, words.ask);
        }
    }
}

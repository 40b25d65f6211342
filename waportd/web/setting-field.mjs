/** One option of a user in a form: as configured, in one of few words, or a value of its own. */

import { el, say } from './dom.mjs';
import { inWords } from './saying.mjs';
import { dashboardText } from './texts.mjs';

const { settings: text } = dashboardText;

/** What stands for a value that is set and is not shown. */
export const KEPT = Symbol('kept');

/**
 * What a value of its own is edited with.
 *
 * @typedef {object} Editor
 * @property {HTMLElement} element
 * @property {HTMLElement} control what takes the focus
 * @property {() => string} written what is there, to compare
 * @property {() => unknown} value as the API takes it
 */

/**
 * A line of text.
 *
 * @param {string} id
 * @param {string} written
 * @param {object} attributes
 * @param {(written: string) => unknown} read
 * @returns {Editor}
 */
export function line(id, written, attributes, read) {
    const element = el('input.field', {
        id,
        autocomplete: 'off',
        spellcheck: 'false',
        maxlength: '2048',
        ...attributes,
        value: written,
    });
    return {
        element,
        control: element,
        written: () => element.value.trim(),
        value: () => read(element.value.trim()),
    };
}

/**
 * Some of few words.
 *
 * @param {Record<string, string>} words
 * @param {readonly string[]} chosen
 * @param {string} label
 * @returns {Editor}
 */
export function checks(words, chosen, label) {
    const boxes = Object.keys(words).map((value) =>
        el('input', { type: 'checkbox', value, checked: chosen.includes(value) }),
    );
    const value = () => boxes.filter(({ checked }) => checked).map((box) => box.value);
    return {
        element: el(
            'div.checks',
            { role: 'group', 'aria-label': label },
            ...boxes.map((box) => el('label', {}, box, words[box.value])),
        ),
        control: boxes[0],
        written: () => value().join(' '),
        value,
    };
}

export class SettingField {
    element;
    name;
    #choice;
    #editor;
    /** @type {Record<string, unknown>} */
    #fixed;
    #before;
    #help;
    #problem;

    /**
     * @param {object} option
     * @param {string} option.name as the API has it
     * @param {unknown} option.value now: null as configured, `KEPT` where it is not shown
     * @param {Record<string, unknown>} [option.fixed] values that have a word
     * @param {(id: string, attributes: object) => Editor} option.edit makes the editor of other values
     * @param {() => void} option.onChange
     */
    constructor({ name, value, fixed = {}, edit, onChange }) {
        const all = /** @type {Record<string, import('./types').OptionWords>} */ (text.options);
        const { label, key, values, help } = all[name];
        const id = `set-${name}`;
        this.name = name;
        this.#fixed = { default: null, ...fixed };
        const known = Object.keys(this.#fixed).find((word) => this.#fixed[word] === value);
        const now = value === KEPT ? 'kept' : (known ?? 'own');
        const option = (/** @type {string} */ word, /** @type {string} */ words) =>
            el('option', { value: word, selected: word === now }, words);
        this.#choice = el(
            'select.field',
            { id, 'aria-describedby': `${id}-problem`, onchange: () => this.#onChoice() },
            option('default', text.default),
            ...Object.keys(fixed).map((word) => option(word, values[word])),
            value === KEPT ? option('kept', text.kept) : null,
            option('own', value === KEPT ? text.replaced : text.own),
        );
        const attributes = { 'aria-label': label, 'aria-describedby': `${id}-help ${id}-problem` };
        this.#editor = edit(`${id}-own`, attributes);
        this.#help = el('p.quiet', { id: `${id}-help` }, help);
        this.#problem = el('p.problem', { id: `${id}-problem`, role: 'alert' });
        this.element = el(
            'div.setting',
            { oninput: onChange },
            el('label', { for: id }, label, ' ', el('code', {}, key)),
            this.#choice,
            this.#editor.element,
            this.#help,
            this.#problem,
        );
        this.#before = this.#state;
        this.#showEditor();
    }

    /** The value that is to be set; undefined where nothing was changed. */
    get changed() {
        if (this.#state === this.#before) return undefined;
        const { value: choice } = this.#choice;
        return choice === 'own' ? this.#editor.value() : this.#fixed[choice];
    }

    /** Say what is wrong with it. */
    complain(/** @type {import('./api.mjs').Problem|null} */ problem) {
        const control = this.#choice.value === 'own' ? this.#editor.control : this.#choice;
        for (const one of [this.#choice, this.#editor.control]) one.removeAttribute('aria-invalid');
        if (problem === null) {
            say(this.#problem, '');
            return;
        }
        this.#problem.replaceChildren(`${text.refused} `, inWords(problem));
        control.setAttribute('aria-invalid', 'true');
        control.focus();
    }

    get #state() {
        const { value: choice } = this.#choice;
        return choice === 'own' ? `own ${this.#editor.written()}` : choice;
    }

    #onChoice() {
        this.complain(null);
        this.#showEditor();
    }

    #showEditor() {
        const isOwn = this.#choice.value === 'own';
        this.#editor.element.hidden = !isOwn;
        this.#help.hidden = !isOwn;
    }
}

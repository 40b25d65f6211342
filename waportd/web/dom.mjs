/** Makes elements. Text only ever becomes text: nothing here parses markup. */

/**
 * @param {string} tag with classes: `p.quiet`
 * @param {object} attributes `onclick` and its like become listeners, true an empty attribute, null and
 *   false none
 * @param {...(Node|string|null)} children
 * @returns {any} the element, of the kind that its tag says
 */
export function el(tag, attributes = {}, ...children) {
    const [name, ...classes] = tag.split('.');
    const element = document.createElement(name);
    if (classes.length) element.className = classes.join(' ');
    for (const [key, value] of Object.entries(attributes)) {
        if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
        else if (value !== null && value !== undefined && value !== false)
            element.setAttribute(key, value === true ? '' : value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
}

/** An element of the page's own document, of the kind that it has there. @returns {any} */
export const byId = (/** @type {string} */ id) => document.getElementById(id);

/** Have the browser save a text as a file. */
export function save(/** @type {string} */ name, /** @type {string} */ type, /** @type {string} */ content) {
    const href = URL.createObjectURL(new Blob([content], { type }));
    el('a', { href, download: name }).click();
    // The browser has begun to read it when the next task runs.
    setTimeout(() => URL.revokeObjectURL(href));
}

/** Set an element's text if it differs: the same text is not laid out or announced again. */
export function say(/** @type {Element} */ element, /** @type {string} */ text) {
    if (element.textContent !== text) element.textContent = text;
}

/** Write a text in which `commands` stand between backticks. */
export function sayWithCode(/** @type {HTMLElement} */ place, /** @type {string} */ text) {
    if (place.dataset.text === text) return;
    place.dataset.text = text;
    place.replaceChildren(
        ...text
            .split('`')
            .map((/** @type {string} */ part, /** @type {number} */ index) =>
                index % 2 ? el('code', {}, part) : part,
            ),
    );
}

/** A field with a secret, to be copied. Not as an attribute: that would be part of the page's source. */
export function secretField(/** @type {string} */ label, /** @type {string} */ secret) {
    const field = el('input.field', { readonly: true, 'aria-label': label });
    field.value = secret;
    return field;
}

export const spinner = () => el('span.spinner', { 'aria-hidden': 'true' });

/** Have a button turn and do nothing. A disabled one would lose the focus of a keyboard user. */
export function busy(/** @type {HTMLElement} */ pressed, /** @type {string} */ words) {
    pressed.setAttribute('aria-disabled', 'true');
    pressed.replaceChildren(spinner(), words);
}

export function idle(/** @type {HTMLElement} */ pressed, /** @type {string} */ words) {
    pressed.removeAttribute('aria-disabled');
    pressed.replaceChildren(words);
}

export const isBusy = (/** @type {HTMLElement} */ pressed) => pressed.hasAttribute('aria-disabled');

const SVG = 'http://www.w3.org/2000/svg';

const ICONS = {
    check: 'M5 12.5l4.5 4.5L19 7.5',
    alert: 'M12 6v7.5M12 17.5v.1',
    key: 'M12 12a4 4 0 1 1-8 0a4 4 0 0 1 8 0M12 12h8.5v3.5M16.5 12v2.5',
    pause: 'M9 7v10M15 7v10',
    open: 'M10 5H5v14h14v-5M13 5h6v6M19 5l-9 9',
    close: 'M6 6l12 12M18 6L6 18',
    up: 'M6 14l6-6 6 6',
};

/** Return an icon drawn in the colour of the text. */
export function icon(/** @type {keyof typeof ICONS} */ name) {
    const svg = document.createElementNS(SVG, 'svg');
    const path = document.createElementNS(SVG, 'path');
    const drawing = { viewBox: '0 0 24 24', class: 'icon', 'aria-hidden': 'true' };
    for (const [key, value] of Object.entries(drawing)) svg.setAttribute(key, value);
    path.setAttribute('d', ICONS[name]);
    svg.append(path);
    return svg;
}

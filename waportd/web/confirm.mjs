/** A question before something is done: a dialog with two buttons. */

import { byId, say } from './dom.mjs';

/**
 * Ask.
 *
 * @param {object} question
 * @param {string} question.title
 * @param {string} question.about what happens then
 * @param {string} question.label of the button that agrees
 * @param {boolean} [question.danger] something gets lost
 * @returns {Promise<boolean>} whether the person agrees
 */
export function confirmed({ title, about, label, danger = false }) {
    const dialog = byId('confirm');
    const yes = byId('confirm-yes');
    say(byId('confirm-title'), title);
    say(byId('confirm-text'), about);
    say(yes, label);
    yes.className = `button ${danger ? 'danger' : 'primary'}`;
    dialog.returnValue = '';
    dialog.showModal();
    return new Promise((resolve) => {
        dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
    });
}

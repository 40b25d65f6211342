/** A dialog with a form. It is made for one use: what was typed into it goes with it. */

import { asProblem } from './api.mjs';
import { busy, el, idle, isBusy, say } from './dom.mjs';
import { explain, notifyOf, sayHere } from './saying.mjs';
import { dashboardText } from './texts.mjs';

/**
 * Open it. Who opened it by a button is there again when it closes.
 *
 * @param {object} form
 * @param {string} form.title
 * @param {Node[]} form.parts between the title and the buttons
 * @param {string} form.action the button that sends it
 * @param {string} form.working what that says meanwhile
 * @param {(complain: (words: string) => void) => Promise<boolean>} form.send true: done. Throws a Problem
 * @param {(problem: import('./api.mjs').Problem) => boolean} [form.place] shows one beside a field, if it can
 * @returns {HTMLDialogElement}
 */
export function openForm({ title, parts, action, working, send, place = () => false }) {
    const problemLine = el('p.problem', { id: 'form-problem', role: 'alert' });
    const pressed = el('button.button.primary', { type: 'submit' }, action);
    const submit = async (/** @type {SubmitEvent} */ event) => {
        event.preventDefault();
        if (isBusy(pressed)) return;
        say(problemLine, '');
        busy(pressed, working);
        try {
            const complain = (/** @type {string} */ words) => sayHere(problemLine, words);
            if (await send(complain)) dialog.close();
        } catch (error) {
            const problem = asProblem(error);
            // A person who has closed it meanwhile looks at something else.
            if (!dialog.isConnected) notifyOf(problem);
            else if (!place(problem)) explain(problemLine, problem);
        } finally {
            idle(pressed, action);
        }
    };
    const { cancel } = dashboardText.page;
    const dialog = el(
        'dialog.form-dialog',
        { 'aria-labelledby': 'form-title', onclose: () => dialog.remove() },
        el(
            'form',
            { novalidate: true, onsubmit: submit },
            el('h2', { id: 'form-title' }, title),
            ...parts,
            problemLine,
            el(
                'p.buttons',
                {},
                el('button.button', { type: 'button', onclick: () => dialog.close() }, cancel),
                pressed,
            ),
        ),
    );
    document.body.append(dialog);
    dialog.showModal();
    return dialog;
}

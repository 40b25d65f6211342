/** The dialog that gives a new user a server. */

import { asProblem, call, userPath } from './api.mjs';
import { busy, byId, idle, isBusy, say } from './dom.mjs';
import { explain, notify, sayHere } from './saying.mjs';
import { dashboardText as text } from './texts.mjs';

export class CreateDialog {
    #opener;
    #onCreated;

    /**
     * @param {HTMLElement} opener the button that opens it, and turns while the server starts
     * @param {(user: string) => void} onCreated
     */
    constructor(opener, onCreated) {
        this.#opener = opener;
        this.#onCreated = onCreated;
        byId('create-cancel').addEventListener('click', () => byId('create').close());
        byId('create-form').addEventListener('submit', (/** @type {SubmitEvent} */ event) => {
            event.preventDefault();
            this.#create();
        });
    }

    open() {
        if (isBusy(this.#opener)) return;
        byId('create-form').reset();
        say(byId('create-problem'), '');
        byId('create').showModal();
    }

    async #create() {
        const pressed = byId('create-submit');
        if (isBusy(pressed)) return;
        const name = byId('create-user').value.trim();
        const problemLine = byId('create-problem');
        sayHere(problemLine, '');
        for (const one of [pressed, this.#opener]) busy(one, text.create.busy);
        try {
            await call('PUT', userPath(name || ' '), { query: { wait: 'none' } });
            // A person who has closed it meanwhile looks at something else.
            if (byId('create').open) this.#onCreated(name);
            byId('create').close();
        } catch (error) {
            const problem = asProblem(error);
            if (problem.status === 400) sayHere(problemLine, text.create.invalid);
            else explain(problemLine, problem);
            if (!byId('create').open) notify(problemLine.textContent);
            byId('create-user').focus();
        } finally {
            idle(pressed, text.create.action);
            idle(this.#opener, text.page.newUser);
        }
    }
}

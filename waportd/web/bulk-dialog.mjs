/** The dialog in which something is done to many users: to which, how far it is, and what has failed. */

import { CONCERNS, Run } from './bulk.mjs';
import { busy, el, isBusy, say } from './dom.mjs';
import { figure, timeOfDay } from './format.mjs';
import { inWords } from './saying.mjs';
import { dashboardText } from './texts.mjs';
import { DANGERS, act } from './user-actions.mjs';

/** @typedef {import('./types').BulkAction} BulkAction */

const { actions, bulk: text, page, table } = dashboardText;

const button = (
    /** @type {string} */ label,
    /** @type {(() => void)|null} */ onclick,
    /** @type {Record<string, any>} */ attributes = {},
) => el('button.button', { type: 'button', onclick, ...attributes }, label);

export class BulkDialog {
    #dialog;
    #title = el('h2', { id: 'bulk-title' });
    #body = el('div.bulk');
    /** What a screen reader hears of it; figures that change all the time are not among that. */
    #status = el('p', { role: 'status' });
    #buttons = el('p.buttons');
    #onDone;
    /** @type {Run|null} */
    #run = null;

    /**
     * @param {HTMLDialogElement} dialog
     * @param {(users: string[]) => void} onDone the users that it was done to
     */
    constructor(dialog, onDone) {
        this.#dialog = dialog;
        this.#onDone = onDone;
        dialog.replaceChildren(this.#title, this.#body, this.#status, this.#buttons);
        dialog.addEventListener('cancel', (event) => {
            // Closed while it works, it would continue unseen.
            if (this.#run === null) return;
            event.preventDefault();
            this.#run.stop();
        });
        dialog.addEventListener('close', () => {
            this.#run?.stop();
            this.#run = null;
            this.#clear();
        });
        addEventListener('beforeunload', (event) => {
            if (this.#run !== null) event.preventDefault();
        });
    }

    /** Show who would be changed, and who would not and why. */
    open(/** @type {BulkAction} */ action, /** @type {import('./types').User[]} */ users) {
        const words = text.verbs[action];
        const concerned = users.filter(CONCERNS[action]);
        const others = users.filter((user) => !concerned.includes(user));
        const names = concerned.map(({ user }) => user);
        const count = figure(names.length);
        const linked = concerned.filter((user) => user.linked).length;
        const isNone = names.length === 0;
        const isDanger = DANGERS.includes(action) && !isNone;
        this.#clear();
        say(this.#title, isNone ? text.nobody : words.ask(count));
        const confirmation = isDanger ? new Confirmation(names.length) : null;
        const begin = () => {
            if (confirmation === null || confirmation.isGiven()) this.#begin(action, names);
        };
        this.#body.replaceChildren(
            ...[
                el(
                    'div.names',
                    { tabindex: '0', role: 'region', 'aria-label': table.title },
                    isNone ? null : el('p', {}, names.join(', ')),
                    !('others' in words) || others.length === 0
                        ? null
                        : el(
                              'p.quiet',
                              {},
                              `${words.others(figure(others.length), figure(users.length))}: ` +
                                  others.map(({ user }) => user).join(', '),
                          ),
                ),
                isNone ? null : el('p', {}, words.text(count)),
                action === 'delete' && linked > 0 ? el('p', {}, text.linked(figure(linked))) : null,
                confirmation?.form(begin) ?? null,
            ].filter((part) => part !== null),
        );
        this.#buttons.replaceChildren(
            button(isNone ? page.close : page.cancel, () => this.#dialog.close(), { autofocus: !isDanger }),
            ...(isNone
                ? []
                : [
                      button(actions[action].label, begin, {
                          class: `button ${isDanger ? 'danger' : 'primary'}`,
                      }),
                  ]),
        );
        if (!this.#dialog.open) this.#dialog.showModal();
    }

    async #begin(/** @type {BulkAction} */ action, /** @type {string[]} */ names) {
        const bar = el('progress', { max: names.length, value: 0, 'aria-labelledby': 'bulk-title' });
        const count = el('p.quiet');
        const stop = button(text.stop, () => this.#run?.stop());
        const show = (/** @type {Run} */ run) => {
            const tried = run.done.length + run.failed.size;
            bar.value = tried;
            say(count, text.progress(figure(tried), figure(run.count)));
            if (run.stopped && !isBusy(stop)) busy(stop, text.stop);
            if (run.stopped) say(this.#status, text.stopping);
            else if (run.waitsUntil === null) say(this.#status, text.begun(figure(run.count)));
            else say(this.#status, text.waits(timeOfDay(new Date(run.waitsUntil).toISOString())));
        };
        const run = new Run(names, (user) => act(action, user), show);
        this.#run = run;
        say(this.#title, text.verbs[action].title);
        this.#body.replaceChildren(bar, count);
        this.#buttons.replaceChildren(stop);
        show(run);
        stop.focus();
        await run.finish();
        this.#onDone(run.done);
        // Closed meanwhile, and perhaps opened again for something else.
        if (this.#run !== run) return;
        this.#run = null;
        this.#finish(action, run);
    }

    /** Show the result, and offer what is left to do. */
    #finish(/** @type {BulkAction} */ action, /** @type {Run} */ run) {
        const { done, failed, left, ended, count } = run;
        this.#body.replaceChildren(
            ...(ended === null ? [] : [el('p.problem', {}, inWords(ended))]),
            ...(failed.size === 0
                ? []
                : [
                      el(
                          'ul.names',
                          { tabindex: '0', 'aria-label': text.failed(figure(failed.size)) },
                          ...[...failed].map(([user, problem]) =>
                              el('li', {}, el('strong', {}, user), ' ', inWords(problem)),
                          ),
                      ),
                  ]),
        );
        say(
            this.#status,
            [
                text.done(figure(done.length), figure(count)),
                failed.size > 0 && text.failed(figure(failed.size)),
                left.length > 0 && text.left(figure(left.length)),
            ]
                .filter(Boolean)
                .join(' '),
        );
        const close = button(page.close, () => this.#dialog.close());
        this.#buttons.replaceChildren(
            ...(left.length === 0 ? [] : [button(text.resume, () => this.#begin(action, left))]),
            ...(failed.size === 0 ? [] : [button(text.retry, () => this.#begin(action, [...failed.keys()]))]),
            close,
        );
        close.focus();
    }

    #clear() {
        this.#body.replaceChildren();
        this.#buttons.replaceChildren();
        say(this.#status, '');
    }
}

/** The number of users, which a person types before something gets lost. */
class Confirmation {
    #count;
    #field = el('input.field', {
        id: 'bulk-count',
        inputmode: 'numeric',
        autocomplete: 'off',
        autofocus: true,
        'aria-describedby': 'bulk-problem',
    });
    #problem = el('p.problem', { id: 'bulk-problem', role: 'alert' });

    constructor(/** @type {number} */ count) {
        this.#count = count;
    }

    form(/** @type {() => void} */ onGiven) {
        return el(
            'form',
            {
                novalidate: true,
                onsubmit: (/** @type {SubmitEvent} */ event) => {
                    event.preventDefault();
                    onGiven();
                },
            },
            el('label', { for: 'bulk-count' }, text.type(figure(this.#count))),
            this.#field,
            this.#problem,
        );
    }

    isGiven() {
        if (this.#field.value.replace(/[\s.,]/g, '') === String(this.#count)) return true;
        say(this.#problem, text.mistyped(figure(this.#count)));
        this.#field.setAttribute('aria-invalid', 'true');
        this.#field.focus();
        return false;
    }
}

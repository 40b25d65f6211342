/** The tokens of the API: a dialog that lists, makes and revokes them, and revokes all connect links. */

import { asProblem, call } from './api.mjs';
import { confirmed } from './confirm.mjs';
import { copy } from './connect-pieces.mjs';
import { busy, el, idle, isBusy, say, secretField } from './dom.mjs';
import { moment } from './format.mjs';
import { rights } from './rights.mjs';
import { explain, sayHere } from './saying.mjs';
import { dashboardText } from './texts.mjs';

/** @typedef {import('./types').Token} Token */

const DAY_S = 86_400;

const { tokens: text, page } = dashboardText;

export class TokensDialog {
    #dialog;
    #title = el('h2', { id: 'tokens-title', tabindex: '-1' }, page.tokens);
    #list = el('ul.tokens');
    #note = el('p.quiet', { role: 'status' });
    #problem = el('p.problem', { role: 'alert' });
    #form;
    #secret = new Secret();
    /** The latest request: after two quick ones, only the answer to the later one counts. */
    #asked = 0;

    /** @param {HTMLDialogElement} dialog */
    constructor(dialog) {
        this.#dialog = dialog;
        this.#form = new TokenForm((wish) => this.#create(wish));
        dialog.replaceChildren(
            this.#title,
            el('p.quiet', {}, text.about),
            this.#list,
            this.#note,
            this.#problem,
            this.#secret.element,
            this.#form.element,
            el(
                'p.buttons',
                {},
                el(
                    'button.button.danger',
                    { type: 'button', onclick: () => this.#revokeLinks() },
                    text.links.label,
                ),
                el('button.button', { type: 'button', onclick: () => dialog.close() }, page.close),
            ),
        );
        dialog.addEventListener('close', () => {
            this.#secret.forget();
            this.#list.replaceChildren();
        });
    }

    open() {
        say(this.#note, text.reading);
        say(this.#problem, '');
        this.#form.reset();
        this.#dialog.showModal();
        this.#read('');
    }

    /** Show the tokens that there are, and say what has happened. */
    async #read(/** @type {string} */ news) {
        this.#asked += 1;
        const asked = this.#asked;
        try {
            const { tokens } = await call('GET', 'v1/tokens');
            if (asked !== this.#asked || !this.#dialog.open) return;
            this.#list.replaceChildren(
                ...tokens.reverse().map((/** @type {Token} */ token) => this.#item(token)),
            );
            say(this.#note, news || (tokens.length === 0 ? text.none : ''));
        } catch (error) {
            say(this.#note, '');
            explain(this.#problem, asProblem(error));
        }
    }

    #item(/** @type {Token} */ token) {
        const { id, name, scope, created_at, last_used_at, expires_at } = token;
        return el(
            'li',
            {},
            el(
                'div',
                {},
                el('strong', {}, name),
                ' ',
                el('span.pill', {}, scopeText(scope)),
                ' ',
                id === rights.token ? el('span.quiet', {}, text.own) : null,
            ),
            el(
                'p.quiet',
                {},
                el('code', {}, id),
                ` · ${text.created(moment(created_at))} · `,
                last_used_at === null ? text.unused : text.used(moment(last_used_at)),
                ' · ',
                expires_at === null ? text.endless : text.ends(moment(expires_at)),
            ),
            el(
                'button.button.danger',
                { type: 'button', 'aria-label': text.revoke.of(name), onclick: () => this.#revoke(token) },
                text.revoke.label,
            ),
        );
    }

    async #create(/** @type {{name: string, scope: string, ttl?: number}} */ wish) {
        say(this.#problem, '');
        this.#secret.forget();
        try {
            const { token } = await call('POST', 'v1/tokens', { body: wish });
            // In a dialog that was closed meanwhile nobody sees it.
            if (!this.#dialog.open) return;
            this.#form.reset();
            this.#secret.show(wish.name, token);
            await this.#read('');
        } catch (error) {
            explain(this.#problem, asProblem(error));
        }
    }

    async #revoke(/** @type {Token} */ { id, name }) {
        const { ask, text: about, own, label, done } = text.revoke;
        const isSure = await confirmed({
            title: ask(name),
            about: id === rights.token ? `${about} ${own}` : about,
            label,
            danger: true,
        });
        if (isSure) await this.#do(`v1/tokens/${id}`, done(name));
    }

    async #revokeLinks() {
        const { ask, text: about, label, done } = text.links;
        if (await confirmed({ title: ask, about, label, danger: true }))
            await this.#do('v1/connect-links', done);
    }

    async #do(/** @type {string} */ path, /** @type {string} */ news) {
        sayHere(this.#problem, '');
        try {
            await call('DELETE', path);
            await this.#read(news);
            // The button that was pressed may be gone.
            this.#title.focus();
        } catch (error) {
            explain(this.#problem, asProblem(error));
        }
    }
}

/** What a token allows, in words. */
function scopeText(/** @type {string} */ scope) {
    const [kind, user] = scope.split(/:(.*)/s);
    const words = text.scopes[/** @type {keyof typeof text.scopes} */ (kind)];
    return user === undefined ? (words ?? scope) : text.oneUser(user);
}

/** What a new token is to be. */
class TokenForm {
    #name = el('input.field', { autocomplete: 'off', spellcheck: 'false', maxlength: '64', required: true });
    #scope = el(
        'select.field',
        { onchange: () => this.#showUser() },
        ...Object.entries(text.scopes).map(([scope, label]) => el('option', { value: scope }, label)),
    );
    #user = el('input.field', { autocomplete: 'off', spellcheck: 'false', maxlength: '64', required: true });
    #ttl = el(
        'select.field',
        {},
        ...text.create.periods.map(({ days, label }) => el('option', { value: days * DAY_S }, label)),
    );
    #userLabel = el('label', { hidden: true }, text.create.user, this.#user);
    #submit = el('button.button.primary', { type: 'submit' }, text.create.action);
    element;

    /** @param {(wish: {name: string, scope: string, ttl?: number}) => Promise<void>} onSubmit */
    constructor(onSubmit) {
        this.element = el(
            'form.filters',
            {
                onsubmit: async (/** @type {SubmitEvent} */ event) => {
                    event.preventDefault();
                    if (isBusy(this.#submit)) return;
                    busy(this.#submit, text.create.busy);
                    try {
                        await onSubmit(this.#wish());
                    } finally {
                        idle(this.#submit, text.create.action);
                    }
                },
            },
            el('h3', {}, text.create.title),
            el('label', {}, text.create.name, this.#name),
            el('label', {}, text.create.scope, this.#scope),
            this.#userLabel,
            el('label', {}, text.create.ttl, this.#ttl),
            this.#submit,
        );
    }

    reset() {
        this.element.reset();
        this.#showUser();
    }

    #showUser() {
        const isOfUser = this.#scope.value === 'user';
        this.#userLabel.hidden = !isOfUser;
        this.#user.required = isOfUser;
    }

    #wish() {
        const scope = this.#scope.value;
        const ttl = Number(this.#ttl.value);
        return {
            name: this.#name.value.trim(),
            scope: scope === 'user' ? `user:${this.#user.value.trim()}` : scope,
            ...(ttl === 0 ? {} : { ttl }),
        };
    }
}

/** A token that was just made: shown until the dialog closes, and never again. */
class Secret {
    element = el('div.secret', { hidden: true });
    #note = el('p', { role: 'status' });

    show(/** @type {string} */ name, /** @type {string} */ token) {
        const field = secretField(text.secret.title(name), token);
        const pressed = el(
            'button.button.primary',
            {
                type: 'button',
                onclick: async () => {
                    const { copied, byHand } = text.secret;
                    if (await copy(token, pressed, { copied, announcer: this.#note })) return;
                    say(this.#note, byHand);
                    field.select();
                },
            },
            text.secret.copy,
        );
        this.element.replaceChildren(
            el('h3', {}, text.secret.title(name)),
            el('p', {}, text.secret.once),
            el('div.copied', {}, field, pressed),
            this.#note,
        );
        this.element.hidden = false;
        pressed.focus();
    }

    forget() {
        this.element.hidden = true;
        this.element.replaceChildren();
        say(this.#note, '');
    }
}

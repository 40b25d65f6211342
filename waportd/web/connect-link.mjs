/** A link to a user's connect page, made when somebody wants to copy or send it. A secret until it ends. */

import { asProblem, call, userPath } from './api.mjs';
import { copy } from './connect-pieces.mjs';
import { busy, el, idle, isBusy, say, secretField } from './dom.mjs';
import { moment } from './format.mjs';
import { explain } from './saying.mjs';
import { dashboardText } from './texts.mjs';

const { connectLink: text } = dashboardText;

/**
 * Where the link leads: to the address that the configuration names, else to where this page itself is.
 *
 * @param {string} url the link, relative where the daemon was called over its unix socket
 * @param {string} path the same without the host
 * @param {string} page the address of this page
 */
export function linkAddress(url, path, page) {
    const given = new URL(url, page);
    // Behind a proxy the daemon does not know that it is called over https, or below which path.
    return given.host === new URL(page).host ? new URL(path.replace(/^\//, ''), page).href : given.href;
}

export class ConnectLink {
    element;
    #user;
    #time = el(
        'select.field',
        { id: 'link-time' },
        ...text.times.map(({ seconds, label }) => el('option', { value: seconds }, label)),
    );
    #copy = el('button.button', { type: 'button', onclick: () => this.#onCopy() }, text.copy);
    #send = el('button.button', { type: 'button', onclick: () => this.#onSend() }, text.send);
    #state = el('p.quiet', { role: 'status' });
    #problem = el('p.problem', { role: 'alert' });
    #byHand = el('div.by-hand');

    constructor(/** @type {string} */ user) {
        this.#user = user;
        this.element = el(
            'div.connect-link',
            {},
            el('p.quiet', {}, text.about),
            el(
                'div.row-of-controls',
                {},
                el('label', { for: 'link-time' }, text.valid),
                this.#time,
                this.#copy,
                'share' in navigator ? this.#send : null,
            ),
            this.#state,
            this.#byHand,
            this.#problem,
        );
    }

    async #onCopy() {
        const link = await this.#make(this.#copy, text.copy);
        if (link === null) return;
        const isDone = await copy(link, this.#copy, { copied: text.copied, announcer: el('p') });
        if (isDone) return;
        const field = secretField(text.byHand, link);
        this.#byHand.replaceChildren(el('p', {}, text.byHand), field);
        field.focus();
        field.select();
    }

    async #onSend() {
        const link = await this.#make(this.#send, text.send);
        // A person who closes the browser's window for it does not want to send it.
        if (link !== null) await navigator.share({ url: link }).catch(() => {});
    }

    /** Make a link. @returns {Promise<string|null>} null where that failed, which is said */
    async #make(/** @type {HTMLElement} */ pressed, /** @type {string} */ label) {
        if (isBusy(pressed)) return null;
        for (const place of [this.#state, this.#problem]) say(place, '');
        this.#byHand.replaceChildren();
        busy(pressed, text.working);
        try {
            const body = { ttl: Number(this.#time.value) };
            const made = await call('POST', userPath(this.#user, 'connect-link'), { body });
            say(this.#state, text.until(moment(made.expires_at)));
            return linkAddress(made.url, made.path, document.baseURI);
        } catch (error) {
            explain(this.#problem, asProblem(error));
            return null;
        } finally {
            idle(pressed, label);
        }
    }
}

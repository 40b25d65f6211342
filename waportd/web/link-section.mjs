/**
 * How a phone is linked from the dashboard. A code is a secret on a screen that others may see: it is shown
 * when somebody asks for it, and goes when it was used, when its time is over, and with the panel.
 */

import { asProblem, call, now, userPath } from './api.mjs';
import { ConnectLink } from './connect-link.mjs';
import { CodePicture, Timer, button, skeleton } from './connect-pieces.mjs';
import { el, icon, say, spinner } from './dom.mjs';
import { explained } from './format.mjs';
import { pairingAfter, stepOf } from './link-step.mjs';
import { phoneText } from './phone.mjs';
import { rights } from './rights.mjs';
import { Stream } from './stream.mjs';
import { dashboardText } from './texts.mjs';
import { NumberForm, TypedCode } from './typed-code.mjs';

const { linking: text } = dashboardText;

const TICK_MS = 500;
/** In which a server that is asked for codes says that it makes some. */
const NEW_MS = 3_000;

/** @typedef {Partial<typeof NOTHING> & {parts: Node[]}} Part */

/** What a part need not have. */
const NOTHING = { update: () => {}, tick: () => {}, fit: () => {}, leave: () => {} };

export class LinkSection {
    element;
    #actions;
    /** @type {import('./types').User} */
    #user;
    #place = el('div.linking');
    #announcer = el('p.unseen', { role: 'status' });
    #title = el('h3', { id: 'link-title', tabindex: '-1' }, text.title);
    /** @type {'scan'|'phone'|null} */
    #wish = null;
    /** @type {import('./types').CodeDocument|null} */
    #qr = null;
    /** @type {(import('./types').AskedCode & {since: string|null})|null} */
    #pairing = null;
    /** When it was asked for, in milliseconds. */
    #askedAt = 0;
    /** Why the server could not be started. @type {import('./api.mjs').Problem|null} */
    #problem = null;
    #typed = text.phone.prefix;
    /** @type {string|null} */
    #step = null;
    #part = NOTHING;
    #stream;
    /** @type {number|undefined} */
    #ticking;
    #fit = () => this.#part.fit();

    /**
     * @param {import('./types').User} user
     * @param {Pick<import('./types').PanelActions, 'onConnect'|'connectAddress'>} actions
     */
    constructor(user, actions) {
        this.#user = user;
        this.#actions = actions;
        this.#stream = new Stream(userPath(user.user, 'events'), {
            on: {
                qr: (document_) => {
                    this.#qr = document_;
                    this.#render();
                },
            },
            onRefused: (problem) => this.#fail(problem),
        });
        this.element = el(
            'div.group',
            { role: 'group', 'aria-labelledby': 'link-title' },
            el('div.heading', {}, this.#title),
            this.#place,
            new ConnectLink(user.user).element,
            this.#announcer,
        );
        this.show(user);
    }

    /** Show what has changed. */
    show(/** @type {import('./types').User} */ user) {
        this.#user = user;
        this.element.hidden = !rights.mayLink;
        if (!rights.mayLink) this.close();
        this.#render();
    }

    /** Let the code go, and ask for no other one. */
    close() {
        this.#wish = null;
        this.#qr = null;
        this.#pairing = null;
        this.#problem = null;
        this.#typed = text.phone.prefix;
        this.#part.leave();
        clearInterval(this.#ticking);
        removeEventListener('resize', this.#fit);
        this.#stream.stop();
        this.#stream.forget();
    }

    // ---- what is asked for ----------------------------------------------------------------------

    #ask(/** @type {'scan'|'phone'} */ wish) {
        this.close();
        this.#wish = wish;
        this.#askedAt = Date.now();
        this.#ticking = setInterval(() => this.#render(), TICK_MS);
        addEventListener('resize', this.#fit);
        this.#stream.start();
        this.#render();
        if (wish === 'scan') this.#start();
    }

    /** Have the server run, and make codes. */
    async #start() {
        this.#problem = null;
        try {
            await call('POST', userPath(this.#user.user, 'start'), { query: { wait: 'none' } });
        } catch (error) {
            this.#fail(asProblem(error));
        }
    }

    /** Codes to scan in place of the one to type, even if another window asked for that. */
    async #scanInstead() {
        try {
            await call('DELETE', userPath(this.#user.user, 'pairing-code'));
        } catch {
            return; // what is wrong shows in the state of the user
        }
        this.#ask('scan');
    }

    #fail(/** @type {import('./api.mjs').Problem} */ problem) {
        if (this.#wish === null) return;
        this.#problem = problem;
        this.#render();
    }

    #hide() {
        this.close();
        this.#render();
    }

    // ---- what is shown --------------------------------------------------------------------------

    #render() {
        if (this.#pairing !== null) this.#pairing = pairingAfter(this.#pairing, this.#user.session, now());
        const facts = { user: this.#user, wish: this.#wish, qr: this.#qr, pairing: this.#pairing };
        const isNew = Date.now() - this.#askedAt < NEW_MS;
        const step = stepOf({ ...facts, failed: this.#problem !== null, isNew });
        if (step === 'linked' && this.#wish !== null) this.close();
        if (step !== this.#step) this.#replace(step);
        this.#part.update();
        this.#part.tick();
    }

    #replace(/** @type {import('./link-step.mjs').Step} */ step) {
        const isFirst = this.#step === null;
        // Those who work in it continue in what takes its place.
        const isAtWork = this.#place.contains(document.activeElement);
        this.#step = step;
        this.#part.leave();
        const { parts, ...hooks } = this.#partOf(step);
        this.#part = { ...NOTHING, ...hooks };
        this.#place.replaceChildren(...parts);
        this.#place.dataset.step = step;
        if (isAtWork) (this.#place.querySelector('input, button, a') ?? this.#title).focus();
        const said = /** @type {any} */ ({ ...text, code: text.shown, linking: text.answered });
        if (!isFirst) say(this.#announcer, said[step] ?? '');
    }

    /** @returns {Part} */
    #partOf(/** @type {import('./link-step.mjs').Step} */ step) {
        const hide = () => button(text.hide, () => this.#hide(), 'button');
        const scan = (/** @type {string} */ label) =>
            button(label, () => (step === 'elsewhere' ? this.#scanInstead() : this.#ask('scan')), 'button');
        const byPhone = () => button(text.byPhone, () => this.#ask('phone'), 'button');
        const line = (/** @type {string} */ words, /** @type {HTMLElement[]} */ ...buttons) => ({
            parts: [el('p.quiet', {}, words), el('p.buttons', {}, ...buttons)],
        });
        switch (step) {
            case 'linked':
                return this.#linkedPart();
            case 'closed':
                return line(text.by, scan(text.scan), byPhone());
            case 'linking':
                return { parts: [el('p', {}, spinner(), ` ${text.answered}`)] };
            case 'passkey':
                return line(text.passkey, this.#connectButton());
            case 'elsewhere':
                return line(text.elsewhere, scan(text.scanInstead), hide());
            case 'timeout':
                return line(text.timeout, scan(text.again), hide());
            case 'preparing':
                return {
                    parts: [
                        el('p.quiet', {}, text.preparing),
                        el('div.code', {}, skeleton()),
                        el('p.buttons', {}, hide()),
                    ],
                };
            case 'code':
                return this.#codePart(hide(), byPhone());
            case 'number':
                return this.#numberPart(hide(), scan(text.scan));
            case 'typed':
                return this.#typedPart(hide());
            default:
                return this.#troublePart(scan(text.retry), hide());
        }
    }

    /** @returns {Part} */
    #linkedPart() {
        const words = el('p');
        return {
            parts: [words],
            update: () => {
                const { name, phone_number: number } = this.#user.session ?? {};
                const who = [name, number && phoneText(number)].filter(Boolean).join(' · ');
                say(words, who === '' ? text.linked : text.linkedAs(who));
            },
        };
    }

    /** @returns {Part} */
    #codePart(/** @type {HTMLElement[]} */ ...buttons) {
        const timer = new Timer(text.left);
        const attempt = el('span');
        const picture = new CodePicture(this.#user.user, text.code, timer);
        return {
            parts: [
                el('p.quiet', {}, text.shown),
                picture.element,
                el('div.timer', {}, timer.bar, el('p', {}, timer.words, attempt)),
                el('p.buttons', {}, ...buttons),
            ],
            update: () => {
                if (this.#qr === null) return;
                const { attempt: count, attempts } = this.#qr;
                say(attempt, count > 1 ? text.attempt(count, attempts) : '');
                picture.show(this.#qr);
            },
            tick: () => picture.tick(),
            fit: () => picture.fit(),
            leave: () => picture.leave(),
        };
    }

    /** @returns {Part} */
    #numberPart(/** @type {HTMLElement[]} */ ...buttons) {
        const form = new NumberForm({
            user: this.#user.user,
            words: text.phone,
            problems: text.problems,
            number: this.#typed,
            onInput: (number) => {
                this.#typed = number;
            },
            onCode: (code) => {
                // Somebody may have closed this meanwhile.
                if (this.#wish !== 'phone') return;
                this.#pairing = { ...code, since: null };
                this.#render();
            },
        });
        return { parts: [form.element, el('p.buttons', {}, ...buttons)], tick: () => form.tick() };
    }

    /** @returns {Part} */
    #typedPart(/** @type {HTMLElement} */ hide) {
        const code = new TypedCode(text.pairing, this.#announcer);
        const other = () => {
            this.#pairing = null;
            this.#render();
        };
        return {
            parts: [
                el('p.quiet', {}, text.typed),
                ...code.element,
                el('p.buttons', {}, button(text.pairing.other, other, 'button'), hide),
            ],
            update: () => this.#pairing && code.show(this.#pairing),
            tick: () => code.tick(),
        };
    }

    /** @returns {Part} */
    #troublePart(/** @type {HTMLElement[]} */ ...buttons) {
        const why = el('span');
        return {
            parts: [el('p.problem', {}, text.trouble, ' ', why), el('p.buttons', {}, ...buttons)],
            update: () => {
                if (this.#problem?.status === 0) why.removeAttribute('lang');
                else why.lang = 'en';
                const { message, hint } = this.#qr ?? { message: '', hint: '' };
                const said = [message, hint].filter(Boolean).join('. ');
                say(why, this.#problem === null ? said : explained(this.#problem));
            },
        };
    }

    /** The passkey is a matter between its owner, their browser and the connect page. */
    #connectButton() {
        const { user } = this.#user;
        return el(
            'a.button',
            {
                href: this.#actions.connectAddress(user),
                target: '_blank',
                rel: 'noopener',
                onclick: (/** @type {Event} */ event) => this.#actions.onConnect(event, user),
            },
            dashboardText.panel.connect,
            icon('open'),
        );
    }
}

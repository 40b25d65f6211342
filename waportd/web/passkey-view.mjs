/**
 * The steps of the connect page at which WhatsApp wants the passkey of the account: the person's own browser
 * signs, with the help of an extension or of a script, and what was signed goes to the daemon.
 */

import { Problem, asProblem, call, send, userPath } from './api.mjs';
import { Timer, button, copy, marked, steps } from './connect-pieces.mjs';
import { busy, el, icon, idle, isBusy, say, spinner } from './dom.mjs';
import { NotSigned, findHelper, serveButton, sign } from './passkey-helper.mjs';
import { credentialOf, fillIn } from './passkey-snippet.mjs';
import { Letters } from './typed-code.mjs';

const LOOK_AGAIN_MS = 2_000;
const EXTENSIONS = 'assets/passkey-extensions.json';
const SNIPPET = 'assets/snippet.js';

const isFirefox = CSS.supports('-moz-appearance', 'none');
const isFramed = window.top !== window;
const touch = matchMedia('(pointer: coarse)');
/** A phone or its like: no browser there takes the extension. Windows and ChromeOS may be touched, too. */
const isPhone = () => touch.matches && !/Windows|CrOS/.test(navigator.userAgent);

export class PasskeyViews {
    #text;
    #words;
    #page;
    /** @type {import('./types').Helper[]} */
    #extensions = [];
    /** @type {import('./types').Helper|null} */
    #helper = null;
    /** @type {Promise<void>|null} */
    #looking = null;
    /** @type {((answer: any) => void)|null} */
    #onToolbar = null;

    /**
     * @param {import('./types').Texts} text the words of the page
     * @param {object} page
     * @param {string} page.user
     * @param {() => ?import('./types').Passkey} page.passkey what WhatsApp wants now
     * @param {() => void} page.render show what has changed
     * @param {() => Promise<void>} page.ensure have the user's server run
     * @param {HTMLElement} page.announcer
     */
    constructor(text, page) {
        this.#text = text;
        this.#words = text.passkey;
        this.#page = page;
    }

    /** Look for an extension, now and for as long as there is none. */
    async start() {
        serveButton(
            () => this.#optionsNow(),
            (answer) => this.#onToolbar?.(answer),
        );
        touch.addEventListener('change', () => this.#page.render());
        try {
            this.#extensions = (await call('GET', EXTENSIONS)).extensions;
        } catch {
            return; // there is the way without one
        }
        await this.#look();
        setInterval(() => this.#helper || document.hidden || this.#look(), LOOK_AGAIN_MS);
    }

    /** @returns {Promise<void>} once it is known whether there is one */
    #look() {
        this.#looking ??= (async () => {
            this.#helper = await findHelper(this.#extensions);
            this.#looking = null;
            this.#page.render();
        })();
        return this.#looking;
    }

    /** Have the extension sign what is asked for now. @param {AbortSignal} signal */
    async #sign(signal) {
        const options = this.#optionsNow();
        if (this.#helper === null || options === null) throw new NotSigned('closed');
        return sign(this.#helper, options, signal);
    }

    #optionsNow() {
        const passkey = this.#page.passkey();
        return passkey?.stage === 'asked' ? passkey.options : null;
    }

    /** How a person can sign here. */
    get #way() {
        if (isPhone() && this.#helper === null) return 'elsewhere';
        if (isFramed) return 'frame';
        if (this.#helper !== null) return 'helper';
        return this.#installable.length > 0 ? 'install' : 'none';
    }

    get #installable() {
        return this.#extensions
            .map(({ url, firefox = null, own }) => ({ url: (isFirefox ? firefox : url) ?? '', own }))
            .filter(({ url }) => url !== '');
    }

    // ---- before the scan ------------------------------------------------------------------------

    /** Fill a line before the scan: what the last step may need. It has `update()`. */
    ahead(/** @type {HTMLElement} */ element) {
        /** @type {string|null} */
        let way = null;
        const update = () => {
            if (this.#way === way) return;
            way = this.#way;
            const words = this.#words.ahead;
            const content = /** @type {Record<string, () => Node[]>} */ ({
                elsewhere: () => [el('p.note', {}, words.elsewhere, ' ', this.#linkButton())],
                helper: () => [el('p.note', {}, words.helper)],
                install: () => [el('details', {}, el('summary', {}, words.install), ...this.#installation())],
            });
            element.replaceChildren(...(content[way]?.() ?? []));
        };
        update();
        return { update };
    }

    // ---- the steps ------------------------------------------------------------------------------

    /** The views by kind. */
    get views() {
        return {
            'passkey-opening': () => this.#waiting(),
            passkey: () => this.#asking(),
            'passkey-given': () => this.#waiting(),
            'passkey-code': () => this.#comparing(),
            'passkey-failed': () => this.#failed(),
        };
    }

    #waiting() {
        const problem = problemLine();
        return {
            words: [problem, el('p.alternative', {}, this.#endButton(this.#words.startOver, problem))],
            figure: [el('div.badge.work', {}, spinner())],
        };
    }

    #failed() {
        const problem = problemLine();
        return {
            words: [
                el(
                    'p.actions',
                    {},
                    button(this.#words.again, () => this.#page.ensure(), 'button primary'),
                    this.#endButton(this.#words.startOver, problem, 'button'),
                ),
                problem,
            ],
            figure: [el('div.badge.bad', {}, icon('alert'))],
        };
    }

    #comparing() {
        const letters = new Letters(this.#words.code);
        const timer = this.#timer();
        const problem = problemLine();
        const yes = button(this.#words.same, () => confirm(), 'button primary');
        const confirm = async () => {
            if (isBusy(yes)) return;
            busy(yes, this.#words.sending);
            say(problem, '');
            try {
                await this.#call('POST', 'confirm', { code: this.#page.passkey()?.code });
            } catch (error) {
                idle(yes, this.#words.same);
                say(problem, this.#explain(error));
            }
        };
        return {
            words: [
                el('p.actions', {}, yes, this.#endButton(this.#words.different, problem, 'button')),
                problem,
                el('p.note', {}, this.#words.meaning(location.host)),
            ],
            figure: [letters.element, el('div.timer', {}, timer.bar, el('p', {}, timer.words))],
            update: () => {
                const { code = null, expires_at = null } = this.#page.passkey() ?? {};
                if (code === null || !letters.show(code)) return;
                idle(yes, this.#words.same);
                timer.run(expires_at);
            },
            tick: () => timer.tick(),
        };
    }

    #asking() {
        const action = el('div.ways');
        const problem = problemLine();
        const timer = this.#timer();
        const manual = this.#manual();
        /** @type {string|null} */
        let way = null;
        /** @type {string|null} */
        let request = null;
        /** @type {AbortController|null} */
        let signing = null;
        /** @type {object|null} */
        let unsent = null;

        const stopSigning = () => {
            signing?.abort();
            signing = null;
            unsent = null;
        };
        const use = async (
            /** @type {HTMLElement} */ pressed,
            /** @type {(signal: AbortSignal) => Promise<object>} */ obtain,
        ) => {
            if (signing !== null) return;
            const mine = new AbortController();
            signing = mine;
            say(problem, '');
            busy(pressed, this.#words.signing);
            try {
                // What did not get through is not signed again.
                unsent ??= await obtain(mine.signal);
                if (mine.signal.aborted) return;
                busy(pressed, this.#words.sending);
                await this.#call('POST', null, unsent);
                return; // the next view comes with the next event
            } catch (error) {
                if (mine.signal.aborted) return;
                if (!(error instanceof Problem && error.unreachable)) unsent = null;
                say(problem, this.#explain(error));
                // It may be gone altogether.
                if (error instanceof NotSigned && error.reason === 'closed') await this.#look();
            }
            signing = null;
            idle(pressed, this.#words.action);
        };
        const another = this.#linkButton('button text', 'another');
        const useHelper = (/** @type {HTMLElement} */ pressed) =>
            use(pressed, (/** @type {AbortSignal} */ signal) => this.#sign(signal));
        const toolbar = button(''); // not shown: the browser's own
        this.#onToolbar = (answer) => use(toolbar, async () => answer());

        const content = /** @type {Record<string, () => Node[]>} */ ({
            helper: () => [this.#action(useHelper)],
            frame: () => [
                el('p', {}, this.#words.framed),
                el(
                    'a.button.primary',
                    { href: location.href, target: '_blank', rel: 'noopener' },
                    this.#words.openTab,
                    icon('open'),
                ),
            ],
            elsewhere: () => [el('p', {}, this.#words.elsewhere), this.#linkButton('button primary')],
            install: () => [el('p', {}, this.#words.install.title), ...this.#installation()],
            none: () => [el('p', {}, this.#words.none)],
        });
        return {
            words: [
                action,
                problem,
                el('p.note', {}, this.#words.meaning(location.host)),
                manual.element,
                el('p.alternative', {}, this.#endButton(this.#words.stop, problem), another),
            ],
            figure: [
                el('div.badge.work', {}, icon('key')),
                el('div.timer', {}, timer.bar, el('p', {}, timer.words)),
            ],
            update: () => {
                const { options = null, expires_at = null } = this.#page.passkey() ?? {};
                if (options === null) return;
                if (request !== options.challenge) {
                    if (request !== null) {
                        stopSigning();
                        way = null;
                        say(problem, this.#words.repeated);
                    }
                    request = options.challenge;
                    timer.run(expires_at);
                    manual.fill(options);
                }
                if (way === this.#way || signing !== null) return;
                const held = action.contains(document.activeElement);
                way = this.#way;
                action.replaceChildren(...content[way]());
                another.hidden = manual.element.hidden = way === 'elsewhere';
                if (held) action.querySelector('button, a')?.focus();
            },
            tick: () => timer.tick(),
            leave: () => {
                stopSigning();
                this.#onToolbar = null;
            },
        };
    }

    #timer() {
        return new Timer((seconds) => this.#words.left(Math.ceil(seconds / 60)));
    }

    #action(/** @type {(pressed: HTMLElement) => unknown} */ onPress) {
        const pressed = button(this.#words.action, () => onPress(pressed), 'button primary');
        return el('p', {}, pressed);
    }

    /** The way without an extension, folded. */
    #manual() {
        const words = this.#words.manual;
        const script = el('textarea.field.snippet', {
            readonly: true,
            rows: '4',
            spellcheck: 'false',
            'aria-label': words.script,
        });
        const copyScript = button(
            words.copy,
            async () => {
                if (!(await this.#copy(script.value, copyScript))) script.select();
            },
            'button',
        );
        const problem = problemLine('result-problem');
        const result = el('textarea.field', {
            id: 'result',
            rows: '3',
            required: true,
            spellcheck: 'false',
            autocomplete: 'off',
            'aria-describedby': 'result-problem',
            oninput: () => complain(''),
        });
        const complain = (/** @type {string} */ why) => {
            say(problem, why);
            result.setAttribute('aria-invalid', String(why !== ''));
            if (why !== '') result.focus();
        };
        const submit = el('button.button', { type: 'submit' }, words.send);
        const form = el(
            'form',
            {
                novalidate: true,
                onsubmit: async (/** @type {SubmitEvent} */ event) => {
                    event.preventDefault();
                    const credential = credentialOf(result.value);
                    complain(credential === null ? words.broken : '');
                    if (credential === null || isBusy(submit)) return;
                    busy(submit, this.#words.sending);
                    try {
                        await this.#call('POST', null, credential);
                        result.value = '';
                    } catch (error) {
                        idle(submit, words.send);
                        complain(this.#explain(error));
                    }
                },
            },
            el('label', { for: 'result' }, words.result),
            result,
            problem,
            submit,
        );
        const element = el(
            'details.manual',
            {},
            el('summary', {}, words.title),
            el('p.warning', {}, words.warning),
            script,
            copyScript,
            steps(words.steps),
            form,
        );
        /** @type {string|null} */
        let source = null;
        const fill = async (/** @type {import('./types').PasskeyOptions} */ options) => {
            idle(submit, words.send);
            try {
                source ??= await (await send('GET', SNIPPET, { headers: { Accept: '*/*' } })).text();
            } catch {
                return; // the lost connection shows, and the next request brings it
            }
            script.value = fillIn(source, options);
        };
        return { element, fill };
    }

    // ---- pieces ---------------------------------------------------------------------------------

    /** How to come by an extension. */
    #installation() {
        const words = this.#words.install;
        const list = this.#installable.map(({ url, own }) => {
            const isZip = url.endsWith('.zip');
            const label = own ? words.get : words.other(new URL(url, document.baseURI).host);
            const link = isZip
                ? el('a.button', { href: url, download: true }, label)
                : el('a.button', { href: url, target: '_blank', rel: 'noopener' }, label, icon('open'));
            return el(
                'div.way',
                {},
                link,
                isZip ? steps(isFirefox ? words.unpackFirefox : words.unpack) : null,
            );
        });
        return [...list, el('p.note', {}, ...marked(isFirefox ? words.firefox : words.noticed))];
    }

    /** A button that hands the link of this page to another device. */
    #linkButton(kind = 'button text', /** @type {'another'|null} */ label = null) {
        const canShare = label === null && typeof navigator.share === 'function';
        const words = label ? this.#words[label] : canShare ? this.#words.share : this.#words.copyLink;
        const pressed = button(
            words,
            async () => {
                if (canShare && (await share())) return;
                if (!(await this.#copy(location.href, pressed))) showLink();
            },
            kind,
        );
        const showLink = () => {
            const field = el('input.field', {
                readonly: true,
                value: location.href,
                'aria-label': this.#words.copyLink,
            });
            pressed.replaceWith(field);
            field.select();
        };
        return pressed;
    }

    /** A button that ends the step: back to codes. */
    #endButton(/** @type {string} */ label, /** @type {HTMLElement} */ problem, kind = 'button text') {
        const pressed = button(
            label,
            async () => {
                if (isBusy(pressed)) return;
                busy(pressed, label);
                say(problem, '');
                try {
                    await this.#call('DELETE');
                } catch (error) {
                    // It has ended already: have a code made.
                    if (asProblem(error).code === 'no_passkey_request') await this.#page.ensure();
                    else say(problem, this.#explain(error));
                    idle(pressed, label);
                }
            },
            kind,
        );
        return pressed;
    }

    #copy(/** @type {string} */ text, /** @type {HTMLElement} */ pressed) {
        return copy(text, pressed, { copied: this.#text.pairing.copied, announcer: this.#page.announcer });
    }

    #call(
        /** @type {string} */ method,
        /** @type {string|null} */ part = null,
        /** @type {object|undefined} */ body = undefined,
    ) {
        return call(method, userPath(this.#page.user, 'passkey', ...(part ? [part] : [])), { body });
    }

    #explain(/** @type {unknown} */ error) {
        if (error instanceof NotSigned)
            return /** @type {Record<string, string>} */ (this.#words.unsigned)[error.reason];
        const { code, refused, retryAfter, unreachable } = asProblem(error);
        if (refused) return this.#text.views.refused.text;
        const words = /** @type {import('./types').ProblemWords} */ (this.#words.problems);
        const known = words[code ?? ''] ?? (unreachable ? words.unreachable : words.other);
        return typeof known === 'function' ? known(retryAfter ?? 60) : known;
    }
}

/** Let a person send the link of this page. @returns {Promise<boolean>} false where that is not allowed */
const share = () =>
    navigator.share({ title: document.title, url: location.href }).then(
        () => true,
        (error) => error.name === 'AbortError', // thought better of it
    );

const problemLine = (/** @type {string|null} */ id = null) => el('p.problem', { id, role: 'alert' });

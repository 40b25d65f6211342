'use strict';

/** WhatsApp's request for a passkey, in its page: its screen, and its call of the browser, which is held. */

/** @typedef {Element & {disabled?: boolean}} Pressable */

/**
 * Runs in each document of the main frame, after `prepareDocument`. Takes the place of
 * `navigator.credentials.get()` where a passkey is asked for, and makes `window.waportd.passkeys`:
 *
 * - `isThere()`: whether the page shows its screen
 * - `read()`: what is on it: `{card, button, failed, code}`, or null
 * - `spot(name)`: where its button of a name can be clicked, or null
 * - `spotOf(element)`: the same of an element
 * - `isAtIt(name)`: whether the page has disabled that button: it does already what that is for
 * - `act(name)`: calls what the page's own button calls; false = it has not got that
 * - `outline()`: roles and test ids of what can be pressed, without a word of their texts
 *
 * It calls `window.waportdTell(proof, document, what, …)` with `passkey_screen` (it has come), `passkey_call`
 * (number, options as JSON, milliseconds), which is answered with `{credential}` or `{error}`, and
 * `passkey_over` (number, why): the page waits for that answer no longer.
 *
 * @param {string} proof by which the server knows that it is called from here
 */
function preparePasskeys(proof) {
    const own = window.waportd;
    if (window !== window.top || own === undefined || own.passkeys !== undefined) return;
    /** @param {string} what @param {unknown[]} more */
    const report = (what, ...more) => window.waportdTell(proof, own.document, what, ...more);

    const LOOK_MS = 500;
    /** The longest that a call may last, in milliseconds. */
    const CALL_MS = 600_000;
    const PRESSABLE = 'button, [role="button"], [role$="dialog"], [data-testid^="shortcake_"]';
    /** @type {Record<string, string>} */
    const CARDS = {
        prompt: 'passkey_prompt_card',
        waiting: 'waiting_for_phone_card',
        code: 'code_matching_card',
    };

    /**
     * @template Result
     * @param {() => Result} work
     */
    const attempt = (work) => {
        try {
            return work() ?? null;
        } catch {
            return null;
        }
    };
    const load = (/** @type {string} */ module) => attempt(() => window.require(module));

    // ---- the screen ------------------------------------------------------------------------------

    /**
     * @param {string} name
     * @returns {Pressable|null}
     */
    const at = (name) => document.querySelector(`[data-testid="shortcake_${name}"]`);
    const isDrawn = (/** @type {Element} */ element) => element.getClientRects().length > 0;
    const isThere = () =>
        [...document.querySelectorAll('[data-testid^="shortcake_"]')].some(isDrawn) ||
        // Before the page has reported its build, no module is loaded.
        (window.Debug?.VERSION !== undefined &&
            attempt(() => load('WAWebAltDeviceLinkingApi').getPairingType()) === 'SHORTCAKE_PASSKEY');
    const isDisabled = (/** @type {Pressable} */ element) =>
        element.disabled === true || element.getAttribute('aria-disabled') === 'true';

    const codeIn = (/** @type {unknown} */ text) => {
        const letters = String(text ?? '')
            .replace(/[^0-9a-z]/gi, '')
            .toUpperCase();
        return letters.length === 8 ? `${letters.slice(0, 4)}-${letters.slice(4)}` : null;
    };
    const codeOn = () =>
        codeIn(at('verification_code_display')?.textContent) ??
        codeIn(attempt(() => load('WAWebShortcakeLinkingApi').getVerificationCode()));
    /** Whether the server knows that the screen is there. */
    let isTold = false;
    /** @returns {import('./types').PasskeyScreen|null} */
    const read = () => {
        isTold = isThere();
        if (!isTold) return null;
        const card = Object.keys(CARDS).find((name) => at(CARDS[name]) !== null) ?? null;
        const button = at('passkey_continue_button');
        const alert = at('passkey_prompt_card')?.querySelector('[role="alert"]') ?? null;
        return {
            card,
            button: button && (isDisabled(button) ? 'disabled' : 'enabled'),
            failed: alert !== null,
            code: card === 'code' ? codeOn() : null,
        };
    };

    const spotOf = (/** @type {Pressable} */ element) => {
        if (isDisabled(element)) return null;
        element.scrollIntoView({ block: 'center', inline: 'center', behavior: 'instant' });
        const { left, top, width, height } = element.getBoundingClientRect();
        if (width === 0 || height === 0) return null;
        const [x, y] = [left + width / 2, top + height / 2];
        // Something in front of it would be pressed instead.
        return element.contains(document.elementFromPoint(x, y)) ? { x, y } : null;
    };
    const spot = (/** @type {string} */ name) => {
        const button = at(name);
        return button && spotOf(button);
    };
    const isAtIt = (/** @type {string} */ name) => {
        const button = at(name);
        return button !== null && isDisabled(button);
    };
    const act = (/** @type {string} */ name) => {
        const work = load('WAWebShortcakeLinkingAction')?.[name];
        if (typeof work !== 'function') return false;
        // It ends when the step does.
        Promise.resolve(attempt(() => work())).catch(() => {});
        return true;
    };
    const outline = () =>
        [...document.querySelectorAll(PRESSABLE)]
            .map((each) => {
                const role = each.getAttribute('role') ?? each.localName;
                return [role, each.getAttribute('data-testid')].filter(Boolean).join('#');
            })
            .join(' ')
            .slice(0, 500);

    own.passkeys = { isThere, read, spot, spotOf, isAtIt, act, outline };

    const looking = setInterval(() => {
        // After the login none is needed, and hundreds of idle pages need no timer.
        if (window.Debug?.VERSION !== undefined) {
            const state = attempt(() => load('WAWebSocketModel').Socket.state);
            if (state === 'CONNECTED') clearInterval(looking);
        }
        const isNow = isThere();
        if (isNow && !isTold) report('passkey_screen');
        isTold = isNow;
    }, LOOK_MS);

    // ---- the call --------------------------------------------------------------------------------

    /** @type {(value: unknown) => value is BufferSource} */
    const isBytes = (value) =>
        ArrayBuffer.isView(value) || Object.prototype.toString.call(value) === '[object ArrayBuffer]';
    const toText = (/** @type {BufferSource} */ source) => {
        const bytes = ArrayBuffer.isView(source)
            ? new Uint8Array(source.buffer, source.byteOffset, source.byteLength)
            : new Uint8Array(source);
        const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
        return text.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
    };
    const toBytes = (/** @type {string} */ text) => {
        const plain = text.replaceAll('-', '+').replaceAll('_', '/');
        return Uint8Array.from(atob(plain), (character) => character.charCodeAt(0)).buffer;
    };
    /**
     * Options as JSON, as `PublicKeyCredential.parseRequestOptionsFromJSON()` takes them.
     *
     * @param {unknown} value
     * @returns {unknown}
     */
    const asJson = (value) => {
        if (isBytes(value)) return toText(value);
        if (Array.isArray(value)) return value.map(asJson);
        if (typeof value !== 'object' || value === null) return value;
        return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, asJson(each)]));
    };

    /**
     * An object of a class of the browser's, with members of its own.
     *
     * @param {{prototype: object}} Class
     * @param {object} members
     */
    const make = (Class, members) => {
        const made = Object.create(Class.prototype);
        for (const [name, value] of Object.entries(members)) {
            const enumerable = typeof value !== 'function';
            Object.defineProperty(made, name, { value, enumerable, configurable: true });
        }
        return made;
    };
    /** @param {import('./credential').Credential} credential */
    const build = ({ id, authenticatorAttachment, response }) => {
        const { clientDataJSON, authenticatorData, signature, userHandle } = response;
        /** @type {Record<string, string>} */
        const fields = { clientDataJSON, authenticatorData, signature };
        if (userHandle !== null) fields.userHandle = userHandle;
        return make(window.PublicKeyCredential, {
            id,
            rawId: toBytes(id),
            type: 'public-key',
            authenticatorAttachment,
            response: make(window.AuthenticatorAssertionResponse, {
                clientDataJSON: toBytes(clientDataJSON),
                authenticatorData: toBytes(authenticatorData),
                signature: toBytes(signature),
                userHandle: userHandle === null ? null : toBytes(userHandle),
            }),
            getClientExtensionResults: () => ({}),
            toJSON: () => ({
                id,
                rawId: id,
                type: 'public-key',
                ...(authenticatorAttachment !== null && { authenticatorAttachment }),
                response: { ...fields },
                clientExtensionResults: {},
            }),
        });
    };

    const refusal = (/** @type {string} */ name) =>
        new window.DOMException(
            'The operation either timed out or was not allowed. See: ' +
                'https://www.w3.org/TR/webauthn-2/#sctn-privacy-considerations-client.',
            name,
        );

    let calls = 0;
    /** Ends the call that is held: of two the newer one counts. */
    let supersede = () => {};
    /** @param {PublicKeyCredentialRequestOptions} publicKey @param {AbortSignal|undefined} signal */
    const hold = (publicKey, signal) =>
        new Promise((resolve, reject) => {
            calls += 1;
            const id = calls;
            const options = {
                .../** @type {object} */ (asJson(publicKey)),
                rpId: publicKey.rpId ?? window.location.hostname,
            };
            const limit = Math.min(publicKey.timeout ?? CALL_MS, CALL_MS);
            const listening = new AbortController();
            /** @type {ReturnType<typeof setTimeout>|null} */
            let timer = null;
            /**
             * @param {(value: any) => void} settle
             * @param {unknown} value
             * @param {string|null} why what the server does not know yet
             */
            const end = (settle, value, why = null) => {
                if (listening.signal.aborted) return;
                listening.abort();
                clearTimeout(timer ?? undefined);
                if (why !== null) report('passkey_over', id, why);
                settle(value);
            };
            const refuse = (/** @type {string} */ why) => end(reject, refusal('NotAllowedError'), why);
            timer = setTimeout(refuse, limit, 'timeout');
            supersede();
            supersede = () => refuse('superseded');
            const abort = () => end(reject, signal?.reason, 'aborted');
            signal?.addEventListener('abort', abort, { signal: listening.signal });
            report('passkey_call', id, options, limit).then(
                ({ credential, error }) => {
                    if (error === undefined) end(resolve, build(credential));
                    else end(reject, refusal(error));
                },
                () => {
                    // Then its time limit ends it.
                },
            );
        });

    const container = window.CredentialsContainer?.prototype;
    const real = container?.get;
    if (typeof real !== 'function') return;
    /** @this {CredentialsContainer} */
    const get = async function get(/** @type {CredentialRequestOptions|undefined} */ options = undefined) {
        const { publicKey, mediation = '', signal } = options ?? {};
        const isOurs = publicKey && !['conditional', 'silent'].includes(mediation);
        if (!isOurs || !isBytes(publicKey.challenge)) return real.call(this, options);
        signal?.throwIfAborted();
        return hold(publicKey, signal);
    };
    Object.defineProperty(container, 'get', {
        value: get,
        writable: true,
        enumerable: true,
        configurable: true,
    });
}

module.exports = { preparePasskeys };

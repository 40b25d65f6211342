/**
 * The step between scan and login in which WhatsApp wants the passkey of the account: a screen with one card,
 * whose "Continue" asks the browser for it.
 */

import { linking } from './session.mjs';
import { pause, tell, traits, uplink } from './site.mjs';

/** Word for "Continue" and heading, by language; the page speaks the browser's. */
const WORDS = {
    en: ['Continue', 'Quick security check with your passkey'],
    pt: ['Continuar', 'Verificação de segurança rápida com sua chave de acesso'],
    es: ['Continuar', 'Control de seguridad rápido con tu clave de acceso'],
    de: ['Weiter', 'Schnelle Sicherheitsüberprüfung mit deinem Passkey'],
    ja: ['続ける', 'パスキーによるセキュリティチェック'],
};

const fromB64Url = (text) => {
    const plain = text.replaceAll('-', '+').replaceAll('_', '/');
    return Uint8Array.from(atob(plain), (character) => character.charCodeAt(0));
};
const toB64Url = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer)))
        .replaceAll('+', '-')
        .replaceAll('/', '_')
        .replace(/=+$/, '');

/** What this build looks like, and the letters shown. */
const now = { look: 'usual', stage: null, letters: null };
const shown = document.createElement('div');
shown.style.cssText = 'position: fixed; inset: 0; background: white';

function element(name, testid, ...children) {
    const made = document.createElement(name);
    if (testid && now.look !== 'anonymous') made.dataset.testid = `shortcake_${testid}`;
    made.append(...children);
    return made;
}

/** A button that reports each press to the site: who presses what is looked at. */
function button(testid, text, pressed, { disabled = false } = {}) {
    const made = element('button', testid, text);
    made.disabled = disabled;
    made.addEventListener('click', ({ isTrusted }) => {
        tell('passkey-pressed', { button: testid ?? text, trusted: isTrusted });
        pressed?.();
    });
    return made;
}

function card(testid, ...children) {
    const [, heading] = WORDS[traits.language];
    if (now.look === 'anonymous') delete shown.dataset.testid;
    else shown.dataset.testid = 'shortcake_passkey_screen';
    const made = element('div', testid, element('h1', null, heading), ...children);
    const cancel = button('cancel_button', '×', close);
    cancel.setAttribute('aria-label', 'Cancel');
    shown.replaceChildren(made, cancel);
    document.body.append(shown);
}

/** The button of the card, in the shapes that it may have some day. */
function continueButtons(disabled) {
    const [word] = WORDS[traits.language];
    const unnamed = () => {
        const made = button('passkey_continue_button', word, ask, { disabled });
        delete made.dataset.testid;
        return made;
    };
    switch (now.look) {
        case 'renamed':
            return [unnamed()];
        case 'twins':
            return [unnamed(), unnamed()];
        case 'missing':
            return [button(null, 'Create passkey'), button(null, 'Log out')];
        default:
            return [button('passkey_continue_button', word, ask, { disabled })];
    }
}

function promptCard({ busy = false, alert = false } = {}) {
    now.stage = busy ? 'asked' : 'prompt';
    const told = element('p', null, '!');
    told.setAttribute('role', 'alert');
    card('passkey_prompt_card', ...(alert ? [told] : []), ...continueButtons(busy));
}

/** Asks the browser for the passkey, with a challenge that the site makes again each time. */
async function ask() {
    promptCard({ busy: true });
    try {
        const options = await uplink('passkey-options');
        const credential = await navigator.credentials.get({
            publicKey: {
                ...options,
                challenge: fromB64Url(options.challenge),
                allowCredentials: options.allowCredentials.map((one) => ({ ...one, id: fromB64Url(one.id) })),
            },
        });
        if (credential.type !== 'public-key') throw new Error('not a public key');
        const { clientDataJSON, authenticatorData, signature, userHandle } = credential.response;
        now.stage = 'waiting';
        card('waiting_for_phone_card', button('waiting_continue_button', '', null, { disabled: true }));
        await uplink('passkey', {
            id: credential.id,
            rawId: toB64Url(credential.rawId),
            clientDataJSON: toB64Url(clientDataJSON),
            authenticatorData: toB64Url(authenticatorData),
            signature: toB64Url(signature),
            userHandle: userHandle && toB64Url(userHandle),
        });
    } catch (error) {
        console.warn(error);
        if (!shown.isConnected) return;
        tell('passkey-none');
        promptCard({ alert: true });
    }
}

/** Eight letters to compare with the phone. */
export function compare({ letters }) {
    Object.assign(now, { stage: 'code', letters });
    const display = element('p', 'verification_code_display', letters);
    card('code_matching_card', display, button('code_confirm_button', 'OK', confirm));
}

const confirm = () => tell('passkey-confirmed');

/** `look`: see README.md. `ask`: `once` = without a click, `click`; null = as this shape of the page does. */
export async function openPasskey({ look, ask: when }) {
    now.look = look;
    linking.setPairingType('SHORTCAKE_PASSKEY');
    promptCard();
    if (when === 'click' || (when === null && traits.passkey_screen)) return;
    await pause(0);
    await ask();
}

/** The site wants another round, with another challenge. */
export const askAgain = () => promptCard();

export function failed() {
    promptCard({ alert: true });
}

/** Ends the step without a login: back to codes. */
async function close() {
    closePasskey();
    await uplink('passkey-cancelled');
}

export function closePasskey() {
    Object.assign(now, { stage: null, letters: null });
    shown.remove();
    linking.setPairingType('QR_CODE');
}

/** What the page's own screen calls, and what it reads. */
export const actions = {
    startShortcakePasskeyPairing: ask,
    confirmShortcakeVerificationCode: confirm,
    cancelShortcakePasskeyPairing: close,
};
export const stages = {
    getVerificationCode: () => now.letters,
    getShortcakeLinkingStage: () => now.stage,
};

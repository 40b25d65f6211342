/**
 * The step between scan and login in which WhatsApp wants the passkey of the account: a screen with one card,
 * whose "Continue" asks the browser for it.
 */

import { linking } from './session.mjs';
import { pause, traits, uplink } from './site.mjs';

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
const toB64Url = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replace(/=+$/, '');

function element(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
}

const shown = document.createElement('div');
shown.dataset.testid = 'shortcake_passkey_screen';
shown.style.cssText = 'position: fixed; inset: 0; background: white';

function card(testid, ...children) {
    const [, heading] = WORDS[traits.language];
    const made = element('div', { 'data-testid': testid }, element('h1', {}, heading), ...children);
    const cancel = element('button', { 'data-testid': 'shortcake_cancel_button' }, '×');
    cancel.addEventListener('click', close);
    shown.replaceChildren(made, cancel);
    document.body.append(shown);
}

function promptCard({ busy = false, alert = false } = {}) {
    const [word] = WORDS[traits.language];
    const button = element('button', { 'data-testid': 'shortcake_passkey_continue_button' }, word);
    button.disabled = busy;
    button.addEventListener('click', ask);
    card('shortcake_passkey_prompt_card', ...(alert ? [element('p', { role: 'alert' }, '!')] : []), button);
}

/** Asks the browser for the passkey, with a challenge that the site makes anew each time. */
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
        card('shortcake_waiting_for_phone_card', waitingButton());
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
        if (shown.isConnected) promptCard({ alert: true });
    }
}

function waitingButton() {
    const button = element('button', { 'data-testid': 'shortcake_waiting_continue_button' });
    button.disabled = true;
    return button;
}

/** Eight letters to compare with the phone. */
export function compare({ letters }) {
    const button = element('button', { 'data-testid': 'shortcake_code_confirm_button' }, 'OK');
    button.addEventListener('click', () => uplink('passkey-confirmed'));
    const display = element('p', { 'data-testid': 'shortcake_verification_code_display' }, letters);
    card('shortcake_code_matching_card', display, button);
}

export async function openPasskey() {
    linking.setPairingType('SHORTCAKE_PASSKEY');
    promptCard();
    if (traits.passkey_screen) return;
    await pause(0);
    await ask();
}

export function failed() {
    promptCard({ alert: true });
}

/** Ends the step without a login: back to codes. */
async function close() {
    closePasskey();
    await uplink('passkey-cancelled');
}

export function closePasskey() {
    shown.remove();
    linking.setPairingType('QR_CODE');
}

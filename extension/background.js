/** Has a person use the passkey of their WhatsApp account for the page on which they link their phone. */
'use strict';

const CARD = 'https://web.whatsapp.com/#linking-helper';

/**
 * A request: who asks, for what, the tab of its card, and what ends it.
 *
 * @typedef {{origin: string, wish: object, card: Promise<ChromeTab>, end: (answer: object) => void}} Asked
 */

/** The one request that there may be. @type {Asked|null} */
let current = null;

const failed = (/** @type {string} */ error) => ({ ok: false, error });

/**
 * The part of a site's wish that reaches the passkey; null if the wish is not for WhatsApp's.
 * Never `extensions`: by `prf` any site could learn a secret that other things are encrypted with.
 */
function wishOf(/** @type {any} */ options) {
    const { challenge, rpId, allowCredentials, userVerification, timeout, hints } = options ?? {};
    const wish = { challenge, rpId, allowCredentials, userVerification, timeout, hints };
    const isOne = rpId === 'whatsapp.com' && typeof challenge === 'string' && challenge !== '';
    return isOne && JSON.stringify(wish).length <= 8192 ? wish : null;
}

/** Ask the person, and return the answer. `port`, if there is one, ends with the page that asks. */
async function serve(
    /** @type {unknown} */ options,
    /** @type {ChromeSender} */ { frameId, origin = '', tab },
    /** @type {ChromePort|null} */ port = null,
) {
    const wish = wishOf(options);
    const gone = new Promise((resolve) => port?.onDisconnect.addListener(resolve));
    // Only the page that the person looks at, and no frame in it. `tab` shows its state when the port began.
    if (!wish || frameId !== 0 || !tab || !/^https?:\/\//.test(origin)) return failed('bad_request');
    const { active } = await chrome.tabs.get(tab.id).catch(() => ({ active: false }));
    if (!active) return failed('bad_request');
    if (current) return failed('busy');
    const card = chrome.tabs.create({ url: CARD, openerTabId: tab.id });
    const answer = await new Promise((resolve) => {
        current = { origin, wish, card, end: resolve };
        card.catch(() => resolve(failed('failed')));
        gone.then(() => resolve(failed('closed')));
    });
    current = null;
    await card.then(({ id }) => chrome.tabs.remove(id)).catch(() => {});
    await chrome.tabs.update(tab.id, { active: true }).catch(() => {});
    return answer;
}

/** What the card says: its buttons, and its beats. null if it is not the card of the one request. */
async function onCard(/** @type {string} */ type, /** @type {number|undefined} */ tabId) {
    const request = current;
    if (tabId === undefined || !request || (await request.card).id !== tabId) return null;
    if (type === 'cancel') request.end(failed('refused'));
    // It fails where the document goes away meanwhile.
    if (type === 'use') signIn(tabId, request.wish).then(request.end, () => request.end(failed('closed')));
    return { origin: request.origin };
}

/** In the page's own world: there password managers offer their passkeys, too. */
async function signIn(/** @type {number} */ tabId, /** @type {object} */ wish) {
    const where = { target: { tabId }, world: 'MAIN', injectImmediately: true };
    const [{ result }] = await chrome.scripting.executeScript({ ...where, func: getAssertion, args: [wish] });
    return result ?? failed('failed');
}

/** Runs on web.whatsapp.com. Writes as `toJSON` does, which password managers' objects do not always have. */
async function getAssertion(/** @type {PublicKeyCredentialRequestOptionsJSON} */ wish) {
    const text = (/** @type {ArrayBuffer} */ bytes) =>
        btoa(String.fromCharCode(...new Uint8Array(bytes)))
            .replaceAll('+', '-')
            .replaceAll('/', '_')
            .replaceAll('=', '');
    try {
        const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(wish);
        const credential = /** @type {PublicKeyCredential} */ (
            await navigator.credentials.get({ publicKey })
        );
        const { id, rawId, type, authenticatorAttachment } = credential;
        const response = /** @type {Record<string, any>} */ (credential.response);
        const names = ['clientDataJSON', 'authenticatorData', 'signature', 'userHandle'];
        const fields = names.filter((name) => response[name]).map((name) => [name, text(response[name])]);
        const assertion = { id, rawId: text(rawId), type, response: Object.fromEntries(fields) };
        const attachment = authenticatorAttachment ? { authenticatorAttachment } : {};
        return { ok: true, assertion: { ...assertion, ...attachment, clientExtensionResults: {} } };
    } catch (error) {
        const { name } = /** @type {Error} */ (error);
        return { ok: false, error: name === 'NotAllowedError' ? 'not_allowed' : 'failed' };
    }
}

/** A page's port. Messages on it that are no wish are beats: each keeps this worker alive. */
function onPort(/** @type {ChromePort} */ port) {
    port.onMessage.addListener(async (message) => {
        if (message?.type !== 'sign') return;
        const answer = await serve(message.options, port.sender, port);
        try {
            port.postMessage(answer);
        } catch {
            // The page has gone.
        }
    });
}

chrome.runtime.onMessage.addListener(({ type }, { tab }, answer) => {
    onCard(type, tab?.id).then(answer, () => answer(null));
    return true;
});
chrome.tabs.onRemoved.addListener(async (id) => {
    const request = current;
    if (request && (await request.card).id === id) request.end(failed('closed'));
});
if (chrome.action) {
    // Firefox lets no page call: its button begins, and page.js asks the page, with a port from within.
    chrome.action.onClicked.addListener(({ id }) => {
        chrome.scripting.executeScript({ target: { tabId: id }, files: ['page.js'] }).catch(() => {});
    });
    chrome.runtime.onConnect.addListener(onPort);
} else {
    chrome.runtime.onConnectExternal.addListener(onPort);
    chrome.runtime.onMessageExternal.addListener((message, sender, answer) => {
        if (message?.type === 'waha-passkey-ping') answer({ ok: true });
        else if (message?.type !== 'waha-passkey-sign') answer(failed('bad_request'));
        else serve(message.challenge, sender).then(answer);
        return true;
    });
}

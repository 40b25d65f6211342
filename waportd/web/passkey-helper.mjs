/**
 * Finds the extension that has a person's passkey sign on WhatsApp's own site, and asks it.
 *
 * No page of another origin can do that itself: a passkey signs for the site it was made on. Chromium passes
 * messages from any page to an extension that wants them; in Firefox the extension's button begins.
 */

const PING_MS = 1_000;
/** Chromium ends an extension's worker that hears nothing for 30 s. */
const BEAT_MS = 20_000;

/** Why an extension signed nothing, in its words. */
const REASONS = new Set(['busy', 'refused', 'closed', 'not_allowed', 'bad_request']);

/** Nothing was signed. `reason`: busy, refused, closed, not_allowed, bad_request or failed. */
export class NotSigned extends Error {
    constructor(/** @type {string} */ reason) {
        super(`nothing was signed: ${reason}`);
        this.reason = REASONS.has(reason) ? reason : 'failed';
    }
}

const runtime = () => globalThis.chrome?.runtime;

/**
 * Return the first of these extensions that is installed and answers.
 *
 * @param {import('./types').Helper[]} extensions
 * @returns {Promise<?import('./types').Helper>} null where there is none
 */
export async function findHelper(extensions) {
    for (const extension of extensions) {
        const answer = await ask(extension.id, { type: 'waha-passkey-ping' }, AbortSignal.timeout(PING_MS));
        if (answer?.ok === true) return extension;
    }
    return null;
}

/**
 * Have a person sign.
 *
 * @param {{id: string, own: boolean}} helper an extension that was found
 * @param {object} options PublicKeyCredentialRequestOptionsJSON
 * @param {AbortSignal} signal the request is over: the extension closes what it has opened
 * @returns {Promise<object>} the credential, as its `toJSON()` writes it
 * @throws {NotSigned}
 */
export async function sign({ id, own }, options, signal) {
    const answer = own
        ? await askByPort(id, options, signal)
        : await ask(id, { type: 'waha-passkey-sign', challenge: options }, signal);
    return assertionOf(answer ?? { ok: false, error: 'closed' });
}

function assertionOf(/** @type {import('./types').Signed} */ { ok, assertion, error }) {
    if (ok !== true) throw new NotSigned(error ?? 'failed');
    if (assertion === null || typeof assertion !== 'object') throw new NotSigned('failed');
    return assertion;
}

/** Send one message, and return the answer; null where none comes. */
function ask(/** @type {string} */ id, /** @type {object} */ message, /** @type {AbortSignal} */ signal) {
    return new Promise((resolve) => {
        signal.addEventListener('abort', () => resolve(null));
        try {
            runtime().sendMessage(id, message, (/** @type {import('./types').Signed|null} */ answer) => {
                heedError();
                resolve(answer ?? null);
            });
        } catch {
            resolve(null); // no extension takes messages here, or the id is none
        }
    });
}

/** Ask by a channel that stays open for as long as a person takes. */
function askByPort(
    /** @type {string} */ id,
    /** @type {object} */ options,
    /** @type {AbortSignal} */ signal,
) {
    return new Promise((resolve) => {
        let port;
        try {
            port = runtime().connect(id, { name: 'waportd-passkey' });
        } catch {
            resolve(null);
            return;
        }
        const beat = setInterval(() => port.postMessage({ type: 'beat' }), BEAT_MS);
        const end = (/** @type {import('./types').Signed|null} */ answer) => {
            clearInterval(beat);
            port.disconnect();
            resolve(answer);
        };
        port.onMessage.addListener(end);
        port.onDisconnect.addListener(() => {
            heedError();
            end(null);
        });
        signal.addEventListener('abort', () => end(null));
        port.postMessage({ type: 'sign', options });
    });
}

/** Chromium complains about an error that is not read. */
const heedError = () => runtime()?.lastError;

/**
 * Serve Firefox' extension, whose button a person presses on this page.
 *
 * @param {() => ?object} optionsNow what is to be signed; null for nothing
 * @param {(answer: () => object) => void} onAnswer `answer()` returns the credential or throws NotSigned
 */
export function serveButton(optionsNow, onAnswer) {
    addEventListener('message', ({ source, origin, data }) => {
        if (source !== window || origin !== location.origin || data?.source !== 'waportd-passkey') return;
        if (data.type === 'ask') {
            const answer = { source: 'waportd-connect', type: 'passkey', options: optionsNow() };
            window.postMessage(answer, location.origin);
        } else if (data.type === 'answer') onAnswer(() => assertionOf(data));
    });
}

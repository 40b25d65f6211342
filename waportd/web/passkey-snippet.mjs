/** The way without an extension: a script for the console of WhatsApp's site, and what comes back. Pure. */

/** Fill the options of a request into the source of snippet.js. */
export const fillIn = (/** @type {string} */ source, /** @type {object} */ options) =>
    source.replace('__OPTIONS__', () => JSON.stringify(options));

/**
 * Read what a person copied: the snippet's text (base64url of JSON), or JSON.
 *
 * @returns {?object} a credential; null where it is none, or not whole
 */
export function credentialOf(/** @type {string} */ text) {
    // Consoles put what they show between quotes, mail breaks lines.
    const bare = text.trim().replace(/^(['"`])(.*)\1$/s, '$2');
    try {
        const credential = JSON.parse(bare.startsWith('{') ? bare : decode(bare));
        return isCredential(credential) ? credential : null;
    } catch {
        return null;
    }
}

const isCredential = (/** @type {any} */ value) =>
    typeof value?.id === 'string' && value.response instanceof Object;

function decode(/** @type {string} */ base64url) {
    const base64 = base64url.replace(/\s+/g, '').replace(/-/g, '+').replace(/_/g, '/');
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
}

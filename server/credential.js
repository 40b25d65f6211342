'use strict';

/**
 * Checks whether a credential from a person's browser answers the passkey request of WhatsApp's page, as far
 * as possible without the account's public key, which only WhatsApp has.
 */

const { createHash } = require('node:crypto');

const { reason } = require('./session_errors');

const ORIGIN = 'https://web.whatsapp.com';
/** Bits of the authenticator's data: a person was there, and was verified. */
const USER_PRESENT = 1;
const USER_VERIFIED = 4;
/** Position of those bits, after the hash of the site. */
const FLAGS_AT = 32;

const TEXT = /^[\w-]+$/;

/**
 * An answer that was checked: bytes as base64url.
 *
 * @typedef {object} Credential
 * @property {string} id
 * @property {string|null} authenticatorAttachment
 * @property {{clientDataJSON: string, authenticatorData: string, signature: string,
 *   userHandle: string|null}} response
 */

/**
 * Bytes as base64url without padding, so many of them.
 *
 * @param {unknown} text
 * @param {number} least
 * @param {number} most
 * @throws {SessionError} `passkey_malformed`
 */
function readBytes(text, least, most) {
    if (typeof text !== 'string' || !TEXT.test(text)) throw reason.passkey('passkey_malformed');
    const bytes = Buffer.from(text, 'base64url');
    const isWhole = bytes.toString('base64url') === text;
    if (!isWhole || bytes.length < least || bytes.length > most) throw reason.passkey('passkey_malformed');
    return bytes;
}

/**
 * Return what the browser says it signed.
 *
 * @param {Buffer} bytes
 * @returns {Record<string, unknown>}
 * @throws {SessionError} `passkey_malformed`
 */
function readClientData(bytes) {
    try {
        const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
        const data = JSON.parse(text);
        if (typeof data === 'object' && data !== null && !Array.isArray(data)) return data;
    } catch {
        // Reported below.
    }
    throw reason.passkey('passkey_malformed');
}

/**
 * Check a credential, and rebuild it from the checked values, with the original bytes.
 *
 * @param {any} given `PublicKeyCredential.toJSON()`
 * @param {{challenge: string, rpId: string, allowCredentials?: {id: string}[], userVerification?: string}}
 *   options those of the page's call, as JSON
 * @returns {Credential}
 * @throws {SessionError} `passkey_malformed`, `passkey_wrong_origin` and others
 */
function checkCredential(given, options) {
    const { type, id, rawId, response, authenticatorAttachment: attachment = null } = given ?? {};
    const isKind = type === 'public-key' && id === rawId && typeof response === 'object' && response !== null;
    const isAttached = [null, 'platform', 'cross-platform'].includes(attachment);
    if (!isKind || !isAttached) throw reason.passkey('passkey_malformed');
    readBytes(id, 1, 1023);
    const { clientDataJSON, authenticatorData, signature, userHandle = null } = response;
    const data = readBytes(authenticatorData, 37, 4096);
    const client = readClientData(readBytes(clientDataJSON, 20, 4096));
    readBytes(signature, 8, 2048);
    if (userHandle !== null) readBytes(userHandle, 1, 64);

    if (client.origin !== ORIGIN || client.crossOrigin === true) throw reason.passkey('passkey_wrong_origin');
    if (client.type !== 'webauthn.get') throw reason.passkey('passkey_wrong_type');
    if (client.challenge !== options.challenge) throw reason.passkey('passkey_wrong_challenge');
    const site = createHash('sha256').update(options.rpId).digest();
    if (!data.subarray(0, FLAGS_AT).equals(site)) throw reason.passkey('passkey_wrong_site');
    const wanted = USER_PRESENT | (options.userVerification === 'required' ? USER_VERIFIED : 0);
    if ((data[FLAGS_AT] & wanted) !== wanted) throw reason.passkey('passkey_not_verified');
    const allowed = options.allowCredentials ?? [];
    if (allowed.length > 0 && !allowed.some((each) => each.id === id)) {
        throw reason.passkey('passkey_not_allowed');
    }
    return {
        id,
        authenticatorAttachment: attachment,
        response: { clientDataJSON, authenticatorData, signature, userHandle },
    };
}

module.exports = { checkCredential };

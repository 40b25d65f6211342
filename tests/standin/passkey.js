/** The passkeys of the phones: what WhatsApp asks for, what an authenticator answers, what is accepted. */
'use strict';

const crypto = require('node:crypto');

const SITE = 'whatsapp.com';
const ORIGIN = 'https://web.whatsapp.com';
const USER_PRESENT = 1;
const USER_VERIFIED = 4;

const sha256 = (bytes) => crypto.createHash('sha256').update(bytes).digest();
const b64 = (bytes) => Buffer.from(bytes).toString('base64url');
const bytes = (text) => Buffer.from(text, 'base64url');

class Passkeys {
    #keys = new Map();

    #of(phone) {
        if (!this.#keys.has(phone)) {
            const pair = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
            this.#keys.set(phone, { id: crypto.randomBytes(16), ...pair });
        }
        return this.#keys.get(phone);
    }

    /** The private key of a phone's passkey as PKCS #8, and its id, for an authenticator of the browser. */
    export(phone) {
        const { id, privateKey } = this.#of(phone);
        const der = privateKey.export({ type: 'pkcs8', format: 'der' });
        return { credentialId: b64(id), privateKey: der.toString('base64'), rpId: SITE };
    }

    /** What the page hands to the browser; each time with a new challenge. */
    options(phone, timeout) {
        return {
            challenge: b64(crypto.randomBytes(32)),
            rpId: SITE,
            allowCredentials: [{ type: 'public-key', id: b64(this.#of(phone).id) }],
            userVerification: 'required',
            timeout,
        };
    }

    /** Answer as the phone's authenticator does; `wrong` signs something else. */
    sign(phone, { challenge, rpId }, { origin = ORIGIN, uv = true, wrong = false }) {
        const { id, privateKey } = this.#of(phone);
        const client = { type: 'webauthn.get', challenge, origin, crossOrigin: false };
        const clientDataJSON = Buffer.from(JSON.stringify(client));
        const flags = USER_PRESENT | (uv ? USER_VERIFIED : 0);
        const authenticatorData = Buffer.concat([sha256(rpId), Buffer.from([flags, 0, 0, 0, 0])]);
        const due = Buffer.concat([authenticatorData, sha256(clientDataJSON)]);
        const signed = wrong ? Buffer.from('something else') : due;
        return {
            type: 'public-key',
            id: b64(id),
            rawId: b64(id),
            authenticatorAttachment: 'platform',
            clientExtensionResults: {},
            response: {
                clientDataJSON: b64(clientDataJSON),
                authenticatorData: b64(authenticatorData),
                signature: b64(crypto.sign('sha256', signed, privateKey)),
                userHandle: b64(phone),
            },
        };
    }

    /** Whether what the page brings answers `challenge` and is signed by the passkey of `phone`. */
    verify(phone, challenge, { id, clientDataJSON, authenticatorData, signature }) {
        const known = this.#of(phone);
        const client = JSON.parse(bytes(clientDataJSON));
        const data = bytes(authenticatorData);
        const signed = Buffer.concat([data, sha256(bytes(clientDataJSON))]);
        const flags = USER_PRESENT | USER_VERIFIED;
        return (
            id === b64(known.id) &&
            client.type === 'webauthn.get' &&
            client.challenge === challenge &&
            client.origin === ORIGIN &&
            data.subarray(0, 32).equals(sha256(SITE)) &&
            (data[32] & flags) === flags &&
            crypto.verify('sha256', signed, known.publicKey, bytes(signature))
        );
    }
}

module.exports = { Passkeys };

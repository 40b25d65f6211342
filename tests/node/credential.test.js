'use strict';

const assert = require('node:assert/strict');
const { createHash } = require('node:crypto');
const { describe, it } = require('node:test');

const { checkCredential } = require('../../server/credential');
const { SessionError } = require('../../server/errors');

const b64 = (/** @type {string|Uint8Array} */ bytes) => Buffer.from(bytes).toString('base64url');
const OPTIONS = {
    challenge: b64(Buffer.alloc(32, 1)),
    rpId: 'whatsapp.com',
    allowCredentials: [{ type: 'public-key', id: b64('the passkey') }],
    userVerification: 'required',
};
const CLIENT = {
    type: 'webauthn.get',
    challenge: OPTIONS.challenge,
    origin: 'https://web.whatsapp.com',
    crossOrigin: false,
};
const site = (/** @type {string} */ name) => createHash('sha256').update(name).digest();
const data = ({ rpId = 'whatsapp.com', flags = 5, more = 0 } = {}) =>
    b64(Buffer.concat([site(rpId), Buffer.from([flags, 0, 0, 0, 0]), Buffer.alloc(more)]));
const client = (changes = {}) => b64(JSON.stringify({ ...CLIENT, ...changes }));

/** @param {Record<string, unknown>} [changes] of a credential, or of its response */
function credential({ response = {}, ...changes } = {}) {
    return {
        type: 'public-key',
        id: b64('the passkey'),
        rawId: b64('the passkey'),
        clientExtensionResults: {},
        response: {
            clientDataJSON: client(),
            authenticatorData: data(),
            signature: b64(Buffer.alloc(70, 2)),
            userHandle: b64('somebody'),
            .../** @type {object} */ (response),
        },
        ...changes,
    };
}
const given = (/** @type {object} */ response) => credential({ response });

const REFUSED = {
    passkey_malformed: {
        nothing: undefined,
        null: null,
        text: 'credential',
        list: [],
        'an empty object': {},
        'another type': credential({ type: 'password' }),
        'no response': { ...credential(), response: null },
        'another rawId': credential({ rawId: b64('another') }),
        'an id that is too long': credential({ id: b64(Buffer.alloc(1024)), rawId: b64(Buffer.alloc(1024)) }),
        'an empty id': credential({ id: '', rawId: '' }),
        'an id that is no text': credential({ id: 7, rawId: 7 }),
        'padded text': given({ signature: `${b64(Buffer.alloc(70))}==` }),
        'text of Base64': given({ signature: Buffer.alloc(60, 251).toString('base64') }),
        'text with bits left over': given({ signature: `${b64(Buffer.alloc(9))}B` }),
        'a signature that is too short': given({ signature: b64('short') }),
        'a signature that is too long': given({ signature: b64(Buffer.alloc(2049)) }),
        'no signature': given({ signature: undefined }),
        'authenticator data that are too short': given({ authenticatorData: b64(Buffer.alloc(36)) }),
        'authenticator data that are too long': given({ authenticatorData: data({ more: 4096 }) }),
        'a user handle that is too long': given({ userHandle: b64(Buffer.alloc(65)) }),
        'an empty user handle': given({ userHandle: '' }),
        'client data that are no JSON': given({ clientDataJSON: b64('{"type": "webauthn.get",') }),
        'client data that are a list': given({ clientDataJSON: b64(JSON.stringify(['webauthn.get', 'x'])) }),
        'client data that are no UTF-8': given({
            clientDataJSON: b64(Buffer.from('{"type":"webauthn.get\xff"}', 'latin1')),
        }),
        'client data with a mark before them': given({
            clientDataJSON: b64(`\ufeff${JSON.stringify(CLIENT)}`),
        }),
        'client data that are too long': given({ clientDataJSON: client({ more: 'x'.repeat(4096) }) }),
        'an attachment that there is not': credential({ authenticatorAttachment: 'remote' }),
    },
    passkey_wrong_origin: {
        'another site': given({ clientDataJSON: client({ origin: 'https://web.whatsapp.com.example' }) }),
        'the apex': given({ clientDataJSON: client({ origin: 'https://whatsapp.com' }) }),
        'another scheme': given({ clientDataJSON: client({ origin: 'http://web.whatsapp.com' }) }),
        'a port': given({ clientDataJSON: client({ origin: 'https://web.whatsapp.com:8443' }) }),
        'an extension': given({ clientDataJSON: client({ origin: 'chrome-extension://abcdef' }) }),
        'no origin': given({ clientDataJSON: client({ origin: undefined }) }),
        'a frame of another site': given({ clientDataJSON: client({ crossOrigin: true }) }),
    },
    passkey_wrong_type: { 'a new passkey': given({ clientDataJSON: client({ type: 'webauthn.create' }) }) },
    passkey_wrong_challenge: {
        'another challenge': given({ clientDataJSON: client({ challenge: b64(Buffer.alloc(32, 2)) }) }),
        none: given({ clientDataJSON: client({ challenge: undefined }) }),
    },
    passkey_wrong_site: {
        'the host': given({ authenticatorData: data({ rpId: 'web.whatsapp.com' }) }),
        another: given({ authenticatorData: data({ rpId: 'example.com' }) }),
    },
    passkey_not_verified: {
        'present only': given({ authenticatorData: data({ flags: 1 }) }),
        'verified only': given({ authenticatorData: data({ flags: 4 }) }),
        neither: given({ authenticatorData: data({ flags: 0 }) }),
    },
    passkey_not_allowed: { 'another passkey': credential({ id: b64('another'), rawId: b64('another') }) },
};

describe('a credential', () => {
    it('that is right is rebuilt from what was checked', () => {
        const { response, id } = credential();
        const extra = { ...credential(), extra: 'x', response: { ...response, extra: 'x' } };
        assert.deepEqual(checkCredential(extra, OPTIONS), { id, authenticatorAttachment: null, response });
        const { userHandle } = checkCredential(given({ userHandle: undefined }), OPTIONS).response;
        assert.equal(userHandle, null);
        const attached = credential({ authenticatorAttachment: 'cross-platform' });
        assert.equal(checkCredential(attached, OPTIONS).authenticatorAttachment, 'cross-platform');
    });

    it('keeps its bytes as they came, however they are written', () => {
        const spaced = b64(JSON.stringify(CLIENT, null, 3));
        const taken = checkCredential(given({ clientDataJSON: spaced }), OPTIONS);
        assert.equal(taken.response.clientDataJSON, spaced);
    });

    for (const [cause, cases] of Object.entries(REFUSED)) {
        for (const [what, wrong] of Object.entries(cases)) {
            it(`is refused as ${cause}: ${what}`, () => {
                assert.throws(
                    () => checkCredential(wrong, OPTIONS),
                    (error) => {
                        assert.ok(error instanceof SessionError);
                        assert.equal(error.cause, cause);
                        const text = `${error.message} ${error.hint}`;
                        for (const secret of [CLIENT.challenge, b64('the passkey'), b64('another')]) {
                            assert.ok(!text.includes(secret));
                        }
                        return true;
                    },
                );
            });
        }
    }

    it('need not be verified, or one of a list, where WhatsApp does not want it', () => {
        const present = given({ authenticatorData: data({ flags: 1 }) });
        for (const userVerification of ['preferred', 'discouraged', undefined]) {
            assert.ok(checkCredential(present, { ...OPTIONS, userVerification }));
        }
        const another = credential({ id: b64('another'), rawId: b64('another') });
        for (const allowCredentials of [[], undefined]) {
            assert.ok(checkCredential(another, { ...OPTIONS, allowCredentials }));
        }
    });
});

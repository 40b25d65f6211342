'use strict';

/** What becomes of codes, told by a page that behaves as no stand-in can be made to. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { Linking } = require('../../server/linking');
const { SessionState } = require('../../server/state');

/** A run of the browser until a phone is linked. */
function linking() {
    const run = { phone: null, closed: false, client: {}, cancel() {}, after() {}, awaits: () => false };
    const state = new SessionState({ port: 1, user: null, attempts: 5 });
    const made = new Linking({
        run,
        state,
        config: { qrMaxRetries: 5, qrLifetime: [60, 20], readyTimeout: 100, startTimeout: 100 },
        log: { info() {}, warning() {} },
        session: { login: { note() {}, known: false } },
        attempt: 0,
    });
    return { state, linking: made };
}

describe('a passkey', () => {
    it('that is asked for again and again is shown once', () => {
        const { state, linking: codes } = linking();
        codes.qr('2@a,b,c,d');
        codes.passkey(true);
        assert.equal(state.name, 'passkey_required');
        const { version } = state;
        for (let probes = 0; probes < 3; probes += 1) codes.passkey(true);
        assert.equal(state.version, version);
    });

    it('is shown again to the next phone that answers', () => {
        const { state, linking: codes } = linking();
        codes.qr('2@a,b,c,d');
        codes.passkey(true);
        codes.socket('UNPAIRED');
        assert.notEqual(state.name, 'passkey_required');
        codes.qr('2@e,f,g,h');
        codes.passkey(true);
        assert.equal(state.name, 'passkey_required');
    });
});

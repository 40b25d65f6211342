'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { describe, it } = require('node:test');

const { SessionState, maskPhone, timestamp } = require('../../server/state');
const { isQr } = require('../../server/phase_linking');

const newState = () => new SessionState({ port: 5002, user: '2', attempts: 5 });

describe('the session state', () => {
    it('refuses what comes too late: a code after the login, anything after the logout', () => {
        const state = newState();
        assert.ok(state.enter('qr', { message: 'scan', qr: 'a,b,c,d,e' }));
        assert.ok(state.enter('authenticated', { message: 'linked' }));
        assert.equal(state.enter('qr', { message: 'scan', qr: 'x' }), false);
        assert.equal(state.document().qr, null);
        assert.ok(state.enter('ready', { message: 'ready' }));
        assert.equal(state.enter('authenticated', { message: 'late' }), false);
        assert.ok(state.enter('logged_out', { message: 'out' }));
        for (const name of /** @type {const} */ (['generating', 'qr', 'ready', 'error']))
            assert.equal(state.enter(name, {}), false);
        assert.throws(() => state.enter(/** @type {any} */ ('nonsense'), {}), TypeError);
    });

    it('keeps nothing of the state before it', () => {
        const state = newState();
        state.enter('error', { message: 'no', cause: 'browser_missing', hint: 'install one' });
        state.enter('generating', { message: 'again' });
        const { cause, hint, qr, pairing, progress } = state.document();
        assert.deepEqual([cause, hint, qr, pairing, progress], [null, null, null, null, null]);
    });

    it('never shows a code that has expired, even before its timer runs', () => {
        const state = newState();
        const past = timestamp(Date.now() - 1);
        state.enter('qr', { message: 'scan', qr: 'a,b,c,d,e', expires_at: past });
        assert.deepEqual([state.document().qr, state.document().expires_at], [null, null]);
        state.enter('pairing', { message: 'type', pairing: { code: 'A', phone: '1', expires_at: past } });
        assert.equal(state.document().pairing, null);
    });

    it('says since when, and renews a state without changing that', async () => {
        const state = newState();
        state.enter('qr', { message: 'code 1' });
        const { since } = state.document();
        await new Promise((resolve) => {
            setImmediate(resolve);
        });
        while (timestamp(Date.now()) === since) await Promise.resolve();
        state.enter('qr', { message: 'code 2' });
        assert.deepEqual([state.document().since, state.document().message], [since, 'code 2']);
    });

    it('announces several changes of one moment once, with the whole document', async () => {
        const state = newState();
        /** @type {ReturnType<typeof state.document>[]} */
        const documents = [];
        state.on('change', (document) => documents.push(document));
        const changed = once(state, 'change');
        state.enter('qr', { message: 'code 1' });
        state.update({ linked: true });
        state.update({ linked: true });
        await changed;
        assert.equal(documents.length, 1);
        assert.deepEqual([documents[0].state, documents[0].linked], ['qr', true]);
        assert.equal(state.version, 3);
    });
});

describe('what is shown of secrets and codes', () => {
    it('masks phone numbers', () => {
        assert.equal(maskPhone('5511999998888'), '+55…88');
        assert.equal(maskPhone(null), '+…');
        assert.equal(maskPhone('123'), '+…');
    });

    it('distinguishes a code from what only looks like one', () => {
        assert.ok(isQr('2@abc,key,key,secret,1'));
        for (const text of [
            'undefined,key,key,secret,1',
            '2@abc,,key,secret,1',
            '2@abc',
            '',
            undefined,
            null,
        ]) {
            assert.equal(isQr(/** @type {any} */ (text)), false, String(text));
        }
    });
});

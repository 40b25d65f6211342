'use strict';

/** The call of the browser for a passkey, held and answered, as a page sees it; in a real browser. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { open, openLinked, site } = require('./support/client');
const { PHONE } = require('./support/session');
const { whenFound, within } = require('./support/process');

const CHALLENGE = Buffer.alloc(32, 9).toString('base64url');

/** Runs in the page: calls, and says what happened to it. */
async function call(name, { mediation, timeout, abort } = {}) {
    const controller = new AbortController();
    if (abort === 'before') controller.abort();
    if (abort === 'later') setTimeout(() => controller.abort(new Error('by the page')), 50);
    const publicKey = {
        challenge: new Uint8Array(32).fill(9),
        rpId: 'whatsapp.com',
        allowCredentials: [
            { type: 'public-key', id: new Uint8Array([1, 2, 3]).buffer, transports: ['internal'] },
        ],
        userVerification: 'required',
        extensions: { prf: { eval: { first: new Uint8Array([4, 5]) } } },
        timeout,
    };
    try {
        window[name] = await navigator.credentials.get({ publicKey, mediation, signal: controller.signal });
        return 'answered';
    } catch (error) {
        const isOfPage = error instanceof window.DOMException;
        return { name: error.name, code: error.code, isOfPage, text: error.message };
    }
}

/** Open a page of which the next call is reported. */
async function openPage(t) {
    const standin = await site(t);
    const client = await open(t, { standin });
    const calls = [];
    const over = [];
    let heard = () => {};
    client.on('passkey_call', (each) => {
        calls.push(each);
        heard();
    });
    client.on('passkey_over', (...told) => over.push(told));
    await client.initialize();
    const page = client.pupPage;
    const next = () => {
        const count = calls.length;
        return within(
            new Promise((resolve) => {
                heard = () => calls.length > count && resolve(calls.at(-1));
                heard();
            }),
            'a call',
        );
    };
    return { standin, client, page, next, over };
}

describe("a page's call for a passkey", () => {
    it('is passed on whole, and answered with what the browser would give', async (t) => {
        const { standin, page, next } = await openPage(t);
        const coming = next();
        const done = page.evaluate(call, 'first', { timeout: 60_000 });
        const { options, limitMs, answer } = await coming;
        assert.deepEqual(options, {
            challenge: CHALLENGE,
            rpId: 'whatsapp.com',
            allowCredentials: [{ type: 'public-key', id: 'AQID', transports: ['internal'] }],
            userVerification: 'required',
            extensions: { prf: { eval: { first: 'BAU' } } },
            timeout: 60_000,
        });
        assert.equal(limitMs, 60_000);
        const given = await standin.command('approve', { phone: PHONE, options });
        const { id, authenticatorAttachment, response } = given;
        answer({ id, authenticatorAttachment, response });
        assert.equal(await done, 'answered');
        const seen = await page.evaluate(() => {
            const { first, PublicKeyCredential, Credential, AuthenticatorAssertionResponse } = window;
            const names = ['clientDataJSON', 'authenticatorData', 'signature', 'userHandle'];
            return {
                isCredential: first instanceof PublicKeyCredential && first instanceof Credential,
                isAssertion: first.response instanceof AuthenticatorAssertionResponse,
                tag: String(first),
                areBytes: [first.rawId, ...names.map((name) => first.response[name])].every(
                    (each) => each instanceof ArrayBuffer,
                ),
                extensions: first.getClientExtensionResults(),
                json: JSON.parse(JSON.stringify(first)),
                plain: first.toJSON(),
                keys: Object.keys(first),
                globals: Object.keys(window).filter((name) => /passkey/i.test(name)),
                name: navigator.credentials.get.name,
                length: navigator.credentials.get.length,
            };
        });
        assert.deepEqual(seen, {
            isCredential: true,
            isAssertion: true,
            tag: '[object PublicKeyCredential]',
            areBytes: true,
            extensions: {},
            json: given,
            plain: given,
            keys: ['id', 'rawId', 'type', 'authenticatorAttachment', 'response'],
            globals: [],
            name: 'get',
            length: 0,
        });

        const coming2 = next();
        const done2 = page.evaluate(call, 'second');
        const second = await coming2;
        assert.equal(second.limitMs, 600_000, 'the longest that there is');
        second.answer({ id, authenticatorAttachment: null, response: { ...response, userHandle: null } });
        assert.equal(await done2, 'answered');
        const json = await page.evaluate(() => window.second.toJSON());
        assert.ok(!('userHandle' in json.response) && !('authenticatorAttachment' in json));
        assert.equal(await page.evaluate(() => window.second.response.userHandle), null);
    });

    it('ends as the browser ends it: late, aborted, refused, or for a newer one', async (t) => {
        const { page, next, over } = await openPage(t);
        const notAllowed = { name: 'NotAllowedError', code: 0, isOfPage: true };
        const end = async (wish) => {
            const { text, ...error } = await page.evaluate(call, 'none', wish);
            return { ...error, ...(text === 'by the page' && { text }) };
        };
        assert.deepEqual(await end({ timeout: 50 }), notAllowed);
        assert.deepEqual(over.at(-1)[1], 'timeout');
        const before = over.length;
        assert.deepEqual(await end({ abort: 'before' }), { name: 'AbortError', code: 20, isOfPage: true });
        assert.equal(over.length, before, 'it was never told');
        const aborted = await end({ abort: 'later' });
        assert.deepEqual(aborted, { name: 'Error', isOfPage: false, text: 'by the page' });
        assert.deepEqual(over.at(-1)[1], 'aborted');

        let coming = next();
        const refused = end({});
        (await coming).refuse('NotAllowedError');
        assert.deepEqual(await refused, notAllowed);

        coming = next();
        const older = end({});
        const { id } = await coming;
        coming = next();
        const newer = end({});
        const second = await coming;
        assert.deepEqual(await older, notAllowed);
        assert.deepEqual(over.at(-1), [id, 'superseded']);
        second.refuse('SecurityError');
        assert.equal((await newer).name, 'SecurityError');
    });

    it("is the browser's own where nobody has to answer it, and in frames", async (t) => {
        const { page, client } = await openPage(t);
        let told = 0;
        client.on('passkey_call', () => {
            told += 1;
        });
        const other = await page.evaluate(async () => {
            const caught = ({ name }) => name;
            const { credentials } = navigator;
            const frame = document.body.appendChild(document.createElement('iframe'));
            const inFrame = frame.contentWindow.CredentialsContainer?.prototype.get ?? null;
            return {
                password: await credentials.get({ password: true }).catch(caught),
                nothing: await credentials.get().catch(caught),
                broken: await credentials.get({ publicKey: {} }).catch(caught),
                isFramesOwn: inFrame === null || String(inFrame).includes('[native code]'),
            };
        });
        assert.equal(other.broken, 'TypeError');
        assert.equal(other.isFramesOwn, true);
        // A conditional one is never answered here: it waits for somebody who types.
        const silent = page.evaluate(call, 'none', { mediation: 'conditional', abort: 'later' });
        await silent;
        assert.equal(told, 0);
    });
});

describe("the look for a passkey's screen", () => {
    /** Runs in the page: how often something is looked for in it, and how long that takes, in so many ms. */
    const count = async (ms) => {
        let looks = 0;
        const { querySelectorAll } = window.Document.prototype;
        window.Document.prototype.querySelectorAll = function counted(...args) {
            looks += 1;
            return querySelectorAll.apply(this, args);
        };
        await new Promise((resolve) => {
            setTimeout(resolve, ms);
        });
        window.Document.prototype.querySelectorAll = querySelectorAll;
        return looks;
    };
    const SOME_MS = 1_200;

    it('takes nothing for it that is not drawn, and reads its code wherever that stands', async (t) => {
        const standin = await site(t);
        const client = await open(t, { standin });
        await client.initialize();
        const seen = await client.pupPage.evaluate(() => {
            const { passkeys } = window.waportd;
            const screen = document.body.appendChild(document.createElement('div'));
            screen.innerHTML =
                '<div data-testid="shortcake_passkey_screen" hidden>' +
                '<div data-testid="shortcake_code_matching_card">' +
                '<p data-testid="shortcake_verification_code_display"></p></div></div>';
            const hidden = passkeys.read();
            screen.firstChild.hidden = false;
            const display = screen.querySelector('p');
            const codes = ['ABCD1234', ' abcd - 1234\n', '<b>ABCD</b><i>1234</i>', 'ABCD', ''].map((html) => {
                display.innerHTML = html;
                return passkeys.read().code;
            });
            return { hidden, codes };
        });
        assert.equal(seen.hidden, null);
        assert.deepEqual(seen.codes, ['ABCD-1234', 'ABCD-1234', 'ABCD-1234', null, null]);
    });

    it('costs next to nothing before a login, and nothing after it', async (t) => {
        const standin = await site(t);
        const waiting = await open(t, { standin });
        await waiting.initialize();
        assert.ok((await waiting.pupPage.evaluate(count, SOME_MS)) >= 2, 'it is looked for');
        const took = await waiting.pupPage.evaluate(() => {
            for (let left = 10_000; left > 0; left -= 1) document.body.append(document.createElement('p'));
            const began = performance.now();
            window.waportd.passkeys.read();
            return performance.now() - began;
        });
        assert.ok(took < 10, `${took} ms in a page of 10,000 elements`);
        await waiting.destroy();

        const linked = await openLinked(t, standin);
        const isQuiet = async () => (await linked.pupPage.evaluate(count, SOME_MS)) === 0;
        await whenFound(isQuiet, 'nobody to look any more');
    });
});

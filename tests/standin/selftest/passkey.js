/** The step between scan and login in which WhatsApp wants a passkey. */
'use strict';

const assert = require('node:assert/strict');
const { createPrivateKey } = require('node:crypto');
const { describe } = require('node:test');
const {
    PHONE,
    TODAY,
    drawnCode,
    eventually,
    inTime,
    ok,
    openPage,
    pages,
    stateOf,
    synced,
    test,
    withTraits,
} = require('./support');

describe('a passkey', () => {
    /** Puts an authenticator of the phone's into a page, which answers at once. */
    const approve = async (page, wish = {}) => {
        await page.exposeFunction('approve', (options) => ok('approve', { phone: PHONE, options, ...wish }));
        await page.evaluate(() => {
            const b64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)))
                .replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
            const bytes = (text) => Uint8Array.from(
                atob(text.replaceAll('-', '+').replaceAll('_', '/')),
                (character) => character.charCodeAt(0),
            ).buffer;
            window.challenges = [];
            navigator.credentials.get = async ({ publicKey }) => {
                window.challenges.push(b64(publicKey.challenge));
                const { challenge, rpId } = { ...publicKey, challenge: b64(publicKey.challenge) };
                const { response, ...credential } = await window.approve({ challenge, rpId });
                return {
                    ...credential,
                    rawId: bytes(credential.rawId),
                    response: Object.fromEntries(
                        Object.entries(response).map(([name, text]) => [name, bytes(text)]),
                    ),
                };
            };
        });
    };
    const at = (testid) => `[data-testid=shortcake_${testid}]`;
    const pairingType = (page) => page.evaluate(() => (
        window.require('WAWebAltDeviceLinkingApi').getPairingType()
    ));
    const asked = async (wish = {}) => {
        const page = await openPage();
        await ok('passkey', wish);
        assert.equal((await ok('scan', { qr: await drawnCode(page), phone: PHONE })).passkey, true);
        await inTime(page.waitForSelector(at('passkey_screen')), 'the screen');
        return page;
    };

    test('is asked for by a screen in any language, after a click; codes go on behind it', async () => {
        for (const [language, word] of [['en', 'Continue'], ['de', 'Weiter']]) {
            await withTraits({ language }, async () => {
                const page = await openPage();
                await approve(page);
                await ok('passkey', {});
                await ok('scan', { qr: await drawnCode(page), phone: PHONE });
                if (TODAY) {
                    const found = page.waitForSelector(at('passkey_continue_button'));
                    const button = await inTime(found, 'the button');
                    assert.equal(await button.evaluate(({ textContent }) => textContent), word);
                    assert.equal(await pairingType(page), 'SHORTCAKE_PASSKEY');
                    assert.equal(await stateOf(page), 'UNPAIRED');
                    assert.deepEqual(await page.evaluate('window.challenges'), []);
                    await button.click();
                }
                await page.evaluate(() => (
                    window.require('WAWebSocketModel').Socket.on('change:hasSynced', () => {})
                ));
                await inTime(synced(page), 'the login');
                assert.equal(await page.$(at('passkey_screen')), null);
                assert.equal((await page.evaluate('window.challenges')).length, 1);
            });
        }
    });

    test('a wrong answer fails the card, and the next try has another challenge', async () => {
        await withTraits({ passkey_screen: true }, async () => {
            const page = await asked();
            await approve(page, { wrong: true });
            for (let turn = 1; turn <= 2; turn += 1) {
                await page.click(at('passkey_continue_button'));
                await eventually(() => page.evaluate((n) => window.challenges.length === n, turn), 'a try');
                await inTime(page.waitForSelector('[role=alert]'), 'the failure');
            }
            const [first, second] = await page.evaluate('window.challenges');
            assert.notEqual(first, second);
            const [{ passkey }] = await pages();
            assert.equal(passkey, 'failed');
            await page.click(at('cancel_button'));
            await eventually(async () => await pairingType(page) === 'QR_CODE', 'codes again');
            await eventually(async () => (await pages())[0].ref, 'a code');
        });
    });

    test('compare: eight letters, and a button; silent: nothing ever comes', async () => {
        await withTraits({ passkey_screen: true }, async () => {
            const page = await asked({ compare: true });
            await approve(page);
            await page.click(at('passkey_continue_button'));
            const found = page.waitForSelector(at('verification_code_display'));
            const display = await inTime(found, 'the letters');
            const letters = await display.evaluate(({ textContent }) => textContent);
            assert.match(letters, /^[1-9A-Z]{4}-[1-9A-Z]{4}$/);
            await page.click(at('code_confirm_button'));
            await eventually(async () => (await pages())[0].state === 'CONNECTED', 'the login');
            await ok('logout', { phone: PHONE });
            const other = await asked({ silent: true });
            await approve(other);
            await other.click(at('passkey_continue_button'));
            await inTime(other.waitForSelector(at('waiting_for_phone_card')), 'the wait');
            assert.equal((await pages()).filter(({ passkey }) => passkey === 'given').length, 1);
        });
    });

    test('the key can be put into an authenticator of the browser', async () => {
        const { credentialId, privateKey, rpId } = await ok('passkey-key', { phone: PHONE });
        assert.equal(rpId, 'whatsapp.com');
        assert.ok(createPrivateKey({ key: Buffer.from(privateKey, 'base64'), format: 'der', type: 'pkcs8' }));
        const answer = await ok('approve', { phone: PHONE, options: { challenge: 'AAAA', rpId } });
        assert.equal(answer.id, credentialId);
    });
});

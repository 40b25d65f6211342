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
            const b64 = (bytes) =>
                btoa(String.fromCharCode(...new Uint8Array(bytes)))
                    .replaceAll('+', '-')
                    .replaceAll('/', '_')
                    .replace(/=+$/, '');
            const bytes = (text) =>
                Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (character) =>
                    character.charCodeAt(0),
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
    const pairingType = (page) =>
        page.evaluate(() => window.require('WAWebAltDeviceLinkingApi').getPairingType());
    const asked = async (wish = {}) => {
        const page = await openPage();
        await ok('passkey', wish);
        assert.equal((await ok('scan', { qr: await drawnCode(page), phone: PHONE })).passkey, true);
        await inTime(page.waitForSelector(at('passkey_screen')), 'the screen');
        return page;
    };

    test('is asked for by a screen in any language, after a click; codes continue behind it', async () => {
        for (const [language, word] of [
            ['en', 'Continue'],
            ['de', 'Weiter'],
        ]) {
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
                await page.evaluate(() =>
                    window.require('WAWebSocketModel').Socket.on('change:hasSynced', () => {}),
                );
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
            const [{ passkey, passkeyAsked, passkeyPressed }] = await pages();
            assert.deepEqual([passkey, passkeyAsked], ['failed', 2]);
            const press = { button: 'passkey_continue_button', trusted: true };
            assert.deepEqual(passkeyPressed, [press, press]);
            await page.click(at('cancel_button'));
            await eventually(async () => (await pairingType(page)) === 'QR_CODE', 'codes again');
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

    test('after the answer the page has limits: it fails, and asks again', async () => {
        await withTraits({ passkey_screen: true }, async () => {
            const page = await asked({ silent: true, limit: 300 });
            await approve(page);
            await page.click(at('passkey_continue_button'));
            await inTime(page.waitForSelector(at('waiting_for_phone_card')), 'the wait');
            await inTime(page.waitForSelector('[role=alert]'), 'the failure');
            await page.click(at('passkey_continue_button'));
            await eventually(() => page.evaluate('window.challenges.length === 2'), 'another challenge');
        });
    });

    test('several rounds, options that do not come, and letters that the page confirms', async () => {
        await withTraits({ passkey_screen: true }, async () => {
            const page = await asked({ fails: 1, again: 1, compare: true, agrees: 200 });
            await approve(page);
            await page.click(at('passkey_continue_button'));
            await inTime(page.waitForSelector('[role=alert]'), 'the failure');
            for (let round = 1; round <= 2; round += 1) {
                const found = page.waitForSelector(`${at('passkey_continue_button')}:enabled`);
                await (await inTime(found, 'the button')).click();
                const isAsked = () => page.evaluate((n) => window.challenges.length === n, round);
                await eventually(isAsked, 'a round');
            }
            await eventually(async () => (await pages())[0].state === 'CONNECTED', 'the login');
        });
    });

    test('comes after a pairing code, asks at once where it is set to, and a reload ends it', async () => {
        const page = await openPage();
        await drawnCode(page);
        await page.evaluate(async (number) => {
            const api = window.require('WAWebAltDeviceLinkingApi');
            await api.initializeAltDeviceLinking();
            await api.startAltLinkingFlow(number, true);
        }, PHONE);
        await ok('passkey', { ask: 'once' });
        const [{ pairingCode }] = await pages();
        assert.equal((await ok('pair', { code: pairingCode, phone: PHONE })).passkey, true);
        await eventually(async () => (await pages())[0].passkeyAsked === 1, 'the call');
        await page.reload();
        await eventually(async () => {
            // While it loads there is none.
            const [{ ref, passkey } = {}] = await pages();
            return ref && passkey === null;
        }, 'a code');
    });

    test('looks otherwise where it is set to', async () => {
        const names = (page) => page.$$eval('button', (all) => all.map(({ textContent }) => textContent));
        const named = '[data-testid^=shortcake_] button[data-testid]';
        const ids = (page) => page.$$eval(named, (all) => all.length);
        await withTraits({ passkey_screen: true }, async () => {
            const seen = {};
            for (const look of ['renamed', 'anonymous', 'twins', 'missing']) {
                const page = await openPage();
                await ok('passkey', { look });
                await ok('scan', { qr: await drawnCode(page), phone: PHONE });
                await eventually(async () => (await pairingType(page)) === 'SHORTCAKE_PASSKEY', 'the screen');
                seen[look] = [await names(page), await ids(page)];
                await page.evaluate(() =>
                    window.require('WAWebShortcakeLinkingAction').cancelShortcakePasskeyPairing(),
                );
                await eventually(async () => (await pairingType(page)) === 'QR_CODE', 'the end');
                await page.close();
            }
            assert.deepEqual(seen, {
                renamed: [['Continue', '×'], 1],
                anonymous: [['Continue', '×'], 0],
                twins: [['Continue', 'Continue', '×'], 1],
                missing: [['Create passkey', 'Log out', '×'], 1],
            });
        });
        await assert.rejects(ok('passkey', { colour: 'red' }), /no such option/);
    });

    test('the key can be put into an authenticator of the browser', async () => {
        const { credentialId, privateKey, rpId } = await ok('passkey-key', { phone: PHONE });
        assert.equal(rpId, 'whatsapp.com');
        assert.ok(createPrivateKey({ key: Buffer.from(privateKey, 'base64'), format: 'der', type: 'pkcs8' }));
        const answer = await ok('approve', { phone: PHONE, options: { challenge: 'AAAA', rpId } });
        assert.equal(answer.id, credentialId);
    });
});

'use strict';

/** Which button is pressed on screens that WhatsApp may show some day, and which never; in a real browser. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { open, site } = require('./support/client');

const HEADING = '<h1>Confirm with your passkey</h1>';
const ID = 'data-testid="shortcake_passkey_continue_button"';
const AWAY = 'style="position: absolute; top: 4000px"';
const OVER = '<div style="position: fixed; inset: 0; background: white"></div>';

/** [what, page, what is pressed (null = nothing), and how] */
const SCREENS = [
    ['the usual one', `<button ${ID} id="it">Continue</button><button>Other</button>`, 'it', 'button'],
    ['one with other words', `${HEADING}<button ${ID} id="it">Los geht's</button>`, 'it', 'button'],
    ['no test id', `${HEADING}<button id="it">Continue</button><button>Cancel</button>`, 'it', 'tree'],
    ['a div as a button', `${HEADING}<div role="button" tabindex="0" id="it">Continue</div>`, 'it', 'tree'],
    ['a label', `${HEADING}<button aria-label="Continue" id="it">→</button>`, 'it', 'tree'],
    ['Portuguese', '<p>Use sua chave de acesso</p><button id="it">Continuar</button>', 'it', 'tree'],
    ['Japanese', '<p>パスキーを使用</p><button id="it">続ける</button>', 'it', 'tree'],
    ['far below', `${HEADING}<button id="it" ${AWAY}>Continue</button>`, 'it', 'tree'],
    [
        'a dialog before a page',
        `${HEADING}<button>Continue</button><div role="dialog" aria-label="passkey" style="position: fixed;
        inset: 0; background: white"><p>passkey</p><button id="it">Continue</button></div>`,
        'it',
        'tree',
    ],
    [
        'a twin that is hidden',
        `${HEADING}<button hidden>Continue</button><button id="it">Continue</button>`,
        'it',
        'tree',
    ],
    ['one that is covered', `${HEADING}<button>Continue</button>${OVER}`, null],
    ['one that is covered, by its test id', `${HEADING}<button ${ID}>Continue</button>${OVER}`, null],
    ['one that is disabled', `${HEADING}<button disabled>Continue</button>`, null],
    ['one that says so', `${HEADING}<div role="button" aria-disabled="true">Continue</div>`, null],
    ['two of it', `${HEADING}<button>Continue</button><button>Continue</button>`, null],
    ['no word of a passkey', '<h1>Use WhatsApp on this computer</h1><button>Continue</button>', null],
    ['longer words', `${HEADING}<button>Continue and log out</button>`, null],
    ['other buttons', `${HEADING}<button>Create passkey</button><button>Log out</button>`, null],
];

describe('of a screen for passkeys', () => {
    it('the one button that continues is pressed, however it is made, and no other', async (t) => {
        const client = await open(t, { standin: await site(t) });
        await client.initialize();
        const { pupPage: page } = client;
        for (const [what, html, wanted, way = null] of SCREENS) {
            await page.evaluate((content) => {
                window.pressed = [];
                document.body.innerHTML = content;
                document.body.onclick = ({ target, isTrusted }) => {
                    window.pressed.push([target.id, isTrusted]);
                };
            }, html);
            const told = await client.pressPasskey('continue');
            const pressed = await page.evaluate(() => window.pressed.slice(0));
            const expected = wanted === null ? [] : [[wanted, true]];
            assert.deepEqual({ way: told.way, pressed }, { way, pressed: expected }, what);
            for (const word of ['Continue', 'passkey', 'Log out']) {
                assert.ok(!(told.outline ?? '').replaceAll('shortcake_passkey', '').includes(word), what);
            }
        }
    });

    it('what a button calls is not called where the page has disabled it: it is at it already', async (t) => {
        const client = await open(t, { standin: await site(t) });
        await client.initialize();
        const { pupPage: page } = client;
        const press = async (name, id, disabled) => {
            await page.evaluate(
                (testId, isDisabled) => {
                    window.called = [];
                    const { require } = window;
                    window.require = (module) =>
                        module === 'WAWebShortcakeLinkingAction'
                            ? new Proxy({}, { get: (_, action) => () => window.called.push(action) })
                            : require(module);
                    document.body.innerHTML = `<button data-testid="shortcake_${testId}">→</button>`;
                    document.body.firstChild.disabled = isDisabled;
                    if (!isDisabled) document.body.firstChild.hidden = true;
                },
                id,
                disabled,
            );
            const { way } = await client.pressPasskey(name);
            return [way, await page.evaluate(() => window.called)];
        };
        const [begin, confirm] = ['startShortcakePasskeyPairing', 'confirmShortcakeVerificationCode'];
        assert.deepEqual(await press('continue', 'passkey_continue_button', true), ['page', []]);
        assert.deepEqual(await press('confirm', 'code_confirm_button', true), ['page', []]);
        assert.deepEqual(await press('continue', 'passkey_continue_button', false), ['module', [begin]]);
        assert.deepEqual(await press('confirm', 'code_confirm_button', false), ['module', [confirm]]);
        const cancel = ['module', ['cancelShortcakePasskeyPairing']];
        assert.deepEqual(await press('cancel', 'cancel_button', true), cancel);
    });
});

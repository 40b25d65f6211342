'use strict';

/**
 * Presses the buttons of WhatsApp's passkey screen as a person does, and no others: by their test ids;
 * "Continue", without a test id, by its text for screen readers; else the function it calls is called.
 */

/**
 * @typedef {import('puppeteer').Protocol.Accessibility.AXNode} Node
 *
 * @typedef {import('puppeteer').CDPSession} Devtools
 */

/**
 * By which test id each button is known, and which function of the page it calls; `isNamed`: also by its
 * name; `isOnce`: what it does must not be done twice.
 *
 * @type {Record<
 *     import('./types').PasskeyButton,
 *     { id: string; action: string; isNamed?: boolean; isOnce?: boolean }
 * >}
 */
const BUTTONS = {
    continue: {
        ...{ id: 'passkey_continue_button', action: 'startShortcakePasskeyPairing' },
        ...{ isNamed: true, isOnce: true },
    },
    confirm: { id: 'code_confirm_button', action: 'confirmShortcakeVerificationCode', isOnce: true },
    cancel: { id: 'cancel_button', action: 'cancelShortcakePasskeyPairing' },
};

/** "Continue", and what a passkey is called, where a screen reader of some language says it. */
const CONTINUE = new RegExp(
    '^(continue|continuar|weiter|fortfahren|continuer|continua|doorgaan|fortsätt|fortsæt|fortsett|jatka|' +
        'kontynuuj|pokračovat|pokračovať|folytatás|continuă|devam( et)?|продолжить|продовжити|lanjutkan|' +
        'teruskan|tiếp tục|ดำเนินการต่อ|متابعة|המשך|जारी रखें|続ける|続行|继续|繼續|계속)$',
    'i',
);
const PASSKEY = new RegExp(
    "passkey|(chave|clave|llave|clé|cheie) d[e’']? ?acc?(es+o|ès|es)|toegangssleutel|" +
        'ключ(ом|а|у|і)? доступ|パスキー|패스키|通行密[钥鑰]|密码密钥|密碼金鑰|kunci sandi|مفتاح المرور',
    'i',
);

/** The nodes of the newest dialog, or of the page where there is none. @param {Node[]} nodes */
function partOf(nodes) {
    const dialog = nodes.filter((node) => /dialog$/i.test(node.role?.value ?? '') && !node.ignored).at(-1);
    if (dialog === undefined) return nodes;
    const byId = new Map(nodes.map((node) => [node.nodeId, node]));
    /** @type {Node[]} */
    const part = [];
    const take = (/** @type {Node|undefined} */ node) => {
        if (node === undefined) return;
        part.push(node);
        (node.childIds ?? []).forEach((id) => take(byId.get(id)));
    };
    take(dialog);
    return part;
}

const nameOf = (/** @type {Node} */ node) => String(node.name?.value ?? '').trim();
const isDisabled = (/** @type {Node} */ { properties = [] }) =>
    properties.some(({ name, value }) => name === 'disabled' && value.value === true);

/**
 * Return the place of the one button that says "Continue" beside a word for passkey, or null.
 *
 * @param {Devtools} devtools
 */
async function findNamed(devtools) {
    const { nodes } = await devtools.send('Accessibility.getFullAXTree');
    const part = partOf(nodes).filter((node) => !node.ignored);
    if (!part.some((node) => PASSKEY.test(nameOf(node)))) return null;
    const buttons = part.filter(
        (node) => node.role?.value === 'button' && !isDisabled(node) && CONTINUE.test(nameOf(node)),
    );
    const spots = [];
    for (const { backendDOMNodeId: backendNodeId } of buttons) {
        const { object } = await devtools.send('DOM.resolveNode', { backendNodeId });
        const { result } = await devtools.send('Runtime.callFunctionOn', {
            objectId: object.objectId,
            functionDeclaration: 'function () { return window.waportd.passkeys.spotOf(this); }',
            returnByValue: true,
        });
        await devtools.send('Runtime.releaseObject', { objectId: /** @type {string} */ (object.objectId) });
        if (result.value) spots.push(result.value);
    }
    return spots.length === 1 ? spots[0] : null;
}

/**
 * Press a button.
 *
 * @param {object} page
 * @param {(work: (...args: any[]) => unknown, ...args: unknown[]) => Promise<any>} page.evaluate
 * @param {{click: (x: number, y: number) => Promise<void>}} page.mouse
 * @param {Devtools} page.devtools
 * @param {import('./types').PasskeyButton} name
 * @returns {Promise<{way: string|null, outline: string|null}>} how it was pressed: `button`, `tree` or
 *   `module`, or by the `page` itself; null = it was not found, and `outline` says what is there
 */
async function press({ evaluate, mouse, devtools }, name) {
    const { id, action, isNamed = false, isOnce = false } = BUTTONS[name];
    const spot = await evaluate((/** @type {string} */ each) => window.waportd.passkeys.spot(each), id);
    if (spot !== null) {
        await mouse.click(spot.x, spot.y);
        return { way: 'button', outline: null };
    }
    if (
        isOnce &&
        (await evaluate((/** @type {string} */ each) => window.waportd.passkeys.isAtIt(each), id))
    ) {
        return { way: 'page', outline: null };
    }
    const named = isNamed ? await findNamed(devtools) : null;
    if (named !== null) {
        await mouse.click(named.x, named.y);
        return { way: 'tree', outline: null };
    }
    if (await evaluate((/** @type {string} */ each) => window.waportd.passkeys.act(each), action)) {
        return { way: 'module', outline: null };
    }
    return { way: null, outline: await evaluate(() => window.waportd.passkeys.outline()) };
}

module.exports = { press };

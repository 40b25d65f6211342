/**
 * The page of the stand-in: what whatsapp-web.js finds in WhatsApp Web, and no more. This module starts it
 * and follows what the site says to it.
 */

import { changeContact, mergeChat, receive, takeOlder } from './chats.mjs';
import { crash, frames, hang, pushState, reloadAfter } from './faults.mjs';
import { encodeB64 } from './ids.mjs';
import { breakMember, delayMember, installRequire, loadLazy, withhold } from './modules.mjs';
import { askAgain, closePasskey, compare, failed, openPasskey } from './passkey.mjs';
import { hasLogin, keys, openProfile } from './profile.mjs';
import { drawAlways } from './screen.mjs';
import { told } from './sending.mjs';
import { Conn, Socket, ban, enter, leave, setProgress, sync, tidyAddress } from './session.mjs';
import { config, pageId, pause, tell, traits } from './site.mjs';
import { begin, carry } from './weight.mjs';

const RECONNECT_MS = 1000;

/** What comes with the screen of a passkey. */
const SHORTCAKE = ['WAWebShortcakeLinkingAction', 'WAWebShortcakeLinkingApi'];

let refused = false;

/** What the site says to the page, one after another; the next waits for what one returns. */
const commands = {
    ref({ ref }) {
        Conn.set({ ref });
        Socket.set({ state: 'UNPAIRED' });
    },
    // The reference stays where it is, though nobody can scan it any more.
    idle: () => Socket.set({ state: 'UNPAIRED_IDLE' }),
    state: ({ state }) => Socket.set({ state }),
    async login({ chats, offline, ready, ...login }) {
        closePasskey();
        if (!ready) withhold('WAWebSyncGatingUtils');
        await enter(login);
        if (config.weight) await carry();
        for (const chat of chats) mergeChat(chat);
        Socket.set({ state: 'CONNECTED', stream: 'CONNECTED' });
        for (const message of offline) receive(message);
        sync();
    },
    logout: ({ reason }) => leave(reason),
    passkey(wish) {
        for (const module of SHORTCAKE) loadLazy({ module });
        openPasskey(wish);
    },
    'passkey-again': askAgain,
    'passkey-failed': failed,
    'passkey-compare': compare,
    chats: ({ chats }) => chats.forEach(mergeChat),
    loading: ({ percent }) => setProgress(percent),
    message: receive,
    older: takeOlder,
    contact: changeContact,
    ...told,
    ban(told402) {
        refused = true;
        ban(told402);
    },
    /** This build is refused: the page stops its connection, says nothing, and may load itself again. */
    refused({ reload }) {
        refused = true;
        if (reload !== null) reloadAfter({ ms: reload });
    },
    traits: (given) => Object.assign(traits, given.traits),
    break: breakMember,
    delay: delayMember,
    load: loadLazy,
    hang,
    crash,
    frames,
    'push-state': pushState,
    'reload-after': reloadAfter,
};

/** Does what one line says. A command that fails is reported to the site; the next ones still count. */
async function follow(line) {
    const { seq, type, ...command } = JSON.parse(line);
    let error;
    try {
        await commands[type](command);
    } catch (thrown) {
        console.warn(thrown);
        error = String(thrown);
    }
    if (seq !== undefined) tell('done', { seq, error });
}

/** Follows the downlink until the site closes it: one JSON command a line. */
async function followDownlink() {
    const { noise, identity, adv } = keys;
    const hello = {
        id: pageId,
        noise: encodeB64(noise),
        identity: encodeB64(identity),
        adv: encodeB64(adv),
        hasLogin: await hasLogin(),
    };
    const answer = await fetch('/downlink', { method: 'POST', body: JSON.stringify(hello) });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const pieces = [];
    for (;;) {
        const { done, value } = await reader.read();
        if (done || refused) return;
        if (!value.includes('\n')) {
            pieces.push(value);
            continue;
        }
        const lines = (pieces.splice(0).join('') + value).split('\n');
        pieces.push(lines.pop());
        for (const line of lines) await follow(line);
    }
}

async function stayConnected() {
    tidyAddress();
    await openProfile();
    while (!refused) {
        try {
            await followDownlink();
        } catch (error) {
            console.warn(error);
        }
        if (refused) return;
        Socket.set({ state: 'OPENING', stream: 'DISCONNECTED' });
        await pause(RECONNECT_MS);
    }
}

installRequire();
drawAlways();
if (config.weight) begin();
if (traits.debug) window.Debug = { VERSION: traits.build };
window.addEventListener('load', stayConnected);

/** The session: connection state, codes, login, sync, logout. */

import { Emitter, defineModel } from './models.mjs';
import { createWid, encodeB64, me } from './ids.mjs';
import { clearProfile, keepLogin, keys } from './profile.mjs';
import { pause, tell, traits, uplink } from './site.mjs';

let heard;
const syncHeard = new Promise((resolve) => {
    heard = resolve;
});

export const Socket = new (class extends defineModel([], ['state', 'stream', 'hasSynced']) {
    async logout() {
        await uplink('unlink');
        // whatsapp-web.js closes the browser as soon as this has returned.
        setTimeout(leave, 1000);
    }

    reconnect() {}
})({ state: 'OPENING', stream: 'DISCONNECTED' });

export const Conn = new (defineModel(['ref', 'wid', 'pushname', 'platform', 'battery', 'plugged']))();

export const Stream = new (class extends defineModel([], ['mode', 'info', 'available']) {
    get displayInfo() {
        return Socket.hasSynced ? 'NORMAL' : 'CONNECTING';
    }

    markAvailable() {
        this.set({ available: true });
    }

    markUnavailable() {
        this.set({ available: false });
    }
})({ mode: 'QR', info: 'NORMAL' });

export const Cmd = new Emitter();

/** Between the page and what keeps its connection, which may be a worker. */
export const BackendEventBus = new Emitter();
BackendEventBus.triggerRefreshQR = () => BackendEventBus.trigger('refresh_qr');
BackendEventBus.listen('refresh_qr', () => tell('refresh'));

/** Starts the connection of the main thread again, which is the wrong one while a worker has it. */
export function refreshQR() {
    if (!traits.comms_in_worker) tell('refresh');
}

const modeOf = { UNPAIRED: 'QR', UNPAIRED_IDLE: 'QR', CONFLICT: 'CONFLICT', PROXYBLOCK: 'PROXYBLOCK' };

Socket.listen('change', () => {
    const { state, hasSynced } = Socket;
    Stream.set({ mode: modeOf[state] ?? (hasSynced ? 'MAIN' : me.phone ? 'SYNCING' : Stream.mode) });
    tell('state', { state, synced: Boolean(hasSynced) });
});

// ---- who listens: a second injection into one document is seen here ------------------------------

const listened = {};
const labels = new Map([
    [Socket, 'Socket'],
    [Conn, 'Conn'],
    [Cmd, 'Cmd'],
]);
for (const [emitter, label] of labels) {
    emitter.watch((names) => {
        for (const name of names) {
            const what = `${label} ${name}`;
            listened[what] = (listened[what] ?? 0) + 1;
            if (what === 'Socket change:hasSynced') heard();
        }
        queueMicrotask(() => tell('listened', { listened }));
    });
}
export const listeners = () => listened;

// ---- codes ----------------------------------------------------------------------------------------

export const DEVICE_PLATFORM = '1';

/** The text of the code that is shown, as the page draws it. */
export const codeText = () =>
    [
        Conn.ref,
        encodeB64(keys.noise),
        encodeB64(keys.identity),
        encodeB64(keys.adv),
        DEVICE_PLATFORM,
        ...(traits.help_part ? ['https://faq.whatsapp.com/r/ld'] : []),
    ].join(',');

const pairing = { type: 'QR_CODE', initialized: false };

export const linking = {
    getPairingType: () => pairing.type,
    setPairingType(type) {
        pairing.type = type;
    },
    async initializeAltDeviceLinking() {
        Object.assign(pairing, { type: 'ALT_DEVICE_LINKING', initialized: true });
    },
    async initializeQRLinking() {
        Object.assign(pairing, { type: 'QR_CODE', initialized: false });
    },
    // eslint-disable-next-line no-unused-vars -- the library gives two, and the page's own takes two
    async startAltLinkingFlow(phone, push) {
        if (!pairing.initialized) throw new Error('alt pairing: not initialized');
        pairing.initialized = false;
        return (await uplink('pairing-code', { phone })).code;
    },
};

// ---- login ----------------------------------------------------------------------------------------

let offlineProgress = null;

export function getOfflineDeliveryProgress() {
    if (offlineProgress === null) throw new Error('the offline handler is not initialized');
    return offlineProgress;
}

export function setProgress(percent) {
    offlineProgress = percent;
    Cmd.trigger('offline_progress_update_from_bridge');
}

/** The account is known from here on: keys of messages can be made. */
export async function enter({ account, lid }) {
    await keepLogin(account);
    if (me.phone) return;
    Object.assign(me, { phone: createWid(`${account.phone}@c.us`), lid: createWid(lid) });
    Conn.set({ wid: me.phone, pushname: account.name, platform: 'android' });
}

/** The real page does not wait until anybody listens for the end of the sync. */
export async function sync() {
    if (Socket.hasSynced) return;
    if (traits.sync_waits) await syncHeard;
    for (const percent of traits.progress) setProgress(percent);
    if (traits.sync_ms > 0) await pause(traits.sync_ms);
    if (me.phone) Socket.set({ hasSynced: true });
}

/**
 * This device is no longer linked, or gives its login up (`reason` 0 to 3): forget everything, then load
 * again at the address that the real page uses.
 */
export async function leave(reason) {
    Cmd.trigger('logout_from_bridge');
    if (traits.unset_synced) Socket.unset('hasSynced');
    await clearProfile();
    const why = Number.isInteger(reason) ? `&logout_reason=${reason}` : '';
    const texts = reason === 3 ? '&logout_message_header=Account&logout_message_subtext=locked' : '';
    location.assign(`/?post_logout=1${why}${texts}`);
}

/** After a logout the page takes the reason out of its address, without loading itself again. */
export function tidyAddress() {
    if (traits.replace_state && location.search.includes('post_logout')) {
        history.replaceState(null, '', '/');
    }
}

/** The account is banned for a time: reported to anyone who listens, and the connection ends; no logout. */
export function ban({ code, expire }) {
    const told = { banned: true, code, expire, message: undefined, url: undefined };
    BackendEventBus.trigger('account_temporarily_banned', told);
    Cmd.trigger('account_temporarily_banned_from_bridge', told);
    Socket.set({ state: 'OPENING' });
}

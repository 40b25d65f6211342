'use strict';

/** Runs in WhatsApp's page to find the state of its session. */

/**
 * Runs in the page: WhatsApp's connection, whether there is a login, and whether its account is loaded.
 *
 * @returns {{state: string|null, login: boolean, loaded: boolean}}
 */
function connection() {
    const { Socket } = window.require('WAWebSocketModel');
    /**
     * @template Result
     * @param {() => Result} work
     */
    const attempt = (work) => {
        try {
            return work() ?? null;
        } catch {
            // Then the connection decides.
            return null;
        }
    };
    const mode = attempt(() => window.require('WAWebStreamModel').Stream.mode);
    const me = attempt(() => {
        const { getMaybeMePnUser, getMaybeMeLidUser } = window.require('WAWebUserPrefsMeUser');
        return getMaybeMePnUser() ?? getMaybeMeLidUser();
    });
    const state = Socket.state ?? null;
    const loaded = Socket.hasSynced === true || (mode === 'MAIN' && state === 'CONNECTED');
    return { state, login: me !== null, loaded };
}

/**
 * Runs in the page: what can be seen of its progress without changing it, in no language.
 *
 * @returns {import('./types').Look}
 */
function look() {
    const loaded = window.Debug?.VERSION !== undefined;
    /**
     * @template Result
     * @param {() => Result} work
     */
    const attempt = (work) => {
        try {
            return (loaded ? work() : null) ?? null;
        } catch {
            return null;
        }
    };
    return {
        loaded,
        state: attempt(() => window.require('WAWebSocketModel').Socket.state),
        mode: attempt(() => window.require('WAWebStreamModel').Stream.mode),
        synced: attempt(() => window.require('WAWebSocketModel').Socket.hasSynced) === true,
        passkey: attempt(() => window.waportd.passkeys.isThere()) === true,
        // A browser that WhatsApp does not take gets a page without any of its modules.
        refused:
            document.readyState === 'complete' &&
            location.protocol === 'https:' &&
            window.Debug === undefined &&
            typeof window.require !== 'function',
    };
}

module.exports = { connection, look };

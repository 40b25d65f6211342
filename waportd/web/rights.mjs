/**
 * What this page's caller may do, as GET /v1/caller says. It only decides which buttons there are: the API
 * checks each call.
 */

/** Nothing, until it is known. @type {import('./types').Caller} */
const NOBODY = { scope: 'none', user: null, token: null, name: null };

let caller = NOBODY;

export const rights = {
    /** Start, stop, restart, log out, delete, change settings. */
    get mayChange() {
        return caller.scope === 'admin' || caller.scope === 'user';
    },

    /** See codes, and make pairing codes and connect links. */
    get mayLink() {
        return caller.scope === 'admin' || caller.scope === 'user';
    },

    /** Calls that concern all users: to create and move users, tokens, the list of changes. */
    get isAdmin() {
        return caller.scope === 'admin';
    },

    /** Look at users: a token for metrics does not. */
    get seesUsers() {
        return caller.scope !== 'none' && caller.scope !== 'metrics';
    },

    /** The id of the token; null: none is needed here. */
    get token() {
        return caller.token;
    },

    /** The one user that the token is for; null: all. */
    get user() {
        return caller.user;
    },

    /** Take over what the daemon says of the caller. */
    take(/** @type {import('./types').Caller} */ document) {
        caller = document;
    },

    forget() {
        caller = NOBODY;
    },
};

'use strict';

/** Why there is no session, in words: each reason with its cause code and the way out. */

const path = require('node:path');

const { SessionError, messageOf } = require('./errors');
const { ruleFor } = require('./recovery');

const CHECK_NETWORK = "check this host's Internet connection, firewall and proxy";

const BY_ITSELF = 'nothing to do: it is tried again by itself';

const LINK_AGAIN = 'ask for a code to link a phone again';
const STILL_LISTED = `${LINK_AGAIN}; the phone may still list this device: remove it there`;

/** @typedef {[message: string, hint: string]} Words */

/**
 * What the numbers mean that WhatsApp's page gives for a logout.
 *
 * @type {Record<string|number, Words>}
 */
const LOGOUTS = {
    none: ['logged out on the phone', LINK_AGAIN],
    0: ["logged out: WhatsApp's page could not use what it had stored here", STILL_LISTED],
    1: ["logged out: WhatsApp's page could not bring the account up to date", STILL_LISTED],
    2: ["logged out: WhatsApp's page did not get the chats of the account in time", STILL_LISTED],
    3: [
        'logged out: WhatsApp has locked this account',
        'open WhatsApp on the phone: it says why; then ask for a code',
    ],
};

/** What WhatsApp's refusals mean, and the way out. @type {Record<string, Words>} */
const REFUSALS = {
    conflict: [
        'this session is open in another place',
        'stop the other server or browser that uses a copy of it; or log out and link the phone again',
    ],
    proxy_blocked: [
        'WhatsApp does not accept connections from this network',
        'take another network or proxy for this user',
    ],
    account_blocked: [
        'WhatsApp has blocked this account for breaking its terms',
        'open WhatsApp on the phone: it says why, and lets you ask for a review',
    ],
    version_refused: [
        'WhatsApp does not accept this version of its page any more',
        'a newer page is loaded by itself; unset instances.web_version if it is set, or take another engine',
    ],
    screen_locked: [
        "WhatsApp's page is locked with a password",
        'log out and link the phone again: the lock cannot be opened from here',
    ],
};

const SAME_CARD = 'open the page with the code anew, and confirm again: what is asked for has changed';

/** What goes wrong with passkeys, and the way out. */
const PASSKEYS = {
    passkey_failed: [
        'WhatsApp did not accept the passkey, or got none in time',
        'take the passkey of the account that is being linked, and keep WhatsApp open on the phone',
    ],
    passkey_button_missing: [
        'WhatsApp wants a passkey, and the button of its page that leads there is not found',
        'use a newer version of waportd: the page has changed, and the log tells what is on it',
    ],
    no_passkey_request: ['WhatsApp does not want a passkey just now', 'see GET /session'],
    passkey_given: ['the passkey was given already', 'wait: the phone, and then WhatsApp, have the word'],
    no_passkey_code: ['WhatsApp shows no code to confirm just now', 'see GET /session'],
    passkey_code_changed: ['WhatsApp shows another code by now', 'compare that one with the phone'],
    passkey_malformed: [
        'this is not the JSON of a credential',
        'hand over what PublicKeyCredential.toJSON() gives, as it is',
    ],
    passkey_wrong_origin: [
        'the passkey was used on another site than https://web.whatsapp.com',
        'use it on that site only: an answer of any other is void',
    ],
    passkey_wrong_challenge: ['this is the answer to another request, or to an older one', SAME_CARD],
    passkey_wrong_type: ['this is no answer to a login with a passkey', SAME_CARD],
    passkey_wrong_site: ['this passkey is for another site than WhatsApp', SAME_CARD],
    passkey_not_verified: [
        'the person was not verified',
        'unlock the passkey by fingerprint, face or PIN when the browser asks for it',
    ],
    passkey_not_allowed: [
        'this passkey is none that WhatsApp wants',
        'take the passkey of the account that is being linked',
    ],
};

const dateTime = (/** @type {number} */ ms) =>
    `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`;

const PROXY_SETTING = '(instances.proxy, or `waportctl proxy USER`; WAPORTD_PROXY when run by hand)';

/** What is wrong with the proxy: the words are Chromium's, or HTTP's. */
const proxyAuth = (/** @type {string} */ words) =>
    new SessionError(
        'proxy_auth',
        `the proxy wants a name and a password, or other ones (${words})`,
        `give it the right ones ${PROXY_SETTING}`,
    );
const proxyUnreachable = (/** @type {string} */ words) =>
    new SessionError(
        'proxy_unreachable',
        `the proxy cannot be reached (${words})`,
        `check that it runs, its host and its port ${PROXY_SETTING}`,
    );
const proxyRefused = (/** @type {string} */ words) =>
    new SessionError(
        'proxy_refused',
        `the proxy does not let the browser through to web.whatsapp.com (${words})`,
        `see what it allows, and whether it reaches web.whatsapp.com; or take another ${PROXY_SETTING}`,
    );
/** Chromium says nothing else of a SOCKS proxy that wants a login, and of one that does not lead there. */
const socksRefused = (/** @type {string} */ words) =>
    new SessionError(
        'proxy_refused',
        `the SOCKS proxy does not let the browser through to web.whatsapp.com (${words})`,
        'if it wants a name and a password, it cannot be used, since browsers give SOCKS proxies none: ' +
            'take one for HTTP; else see what it allows, and whether it reaches web.whatsapp.com ' +
            PROXY_SETTING,
    );
const proxyUnusable = (/** @type {string} */ words) =>
    new SessionError(
        'proxy_refused',
        `the browser cannot use a proxy of this kind (${words})`,
        'it takes http, https, socks5 and socks4, and a name and a password only from the setting ' +
            PROXY_SETTING,
    );

const reason = {
    alreadyLinked: () =>
        new SessionError('already_linked', 'a phone is linked already', 'log it out first: POST /disconnect'),
    notConnected: () =>
        new SessionError('not_connected', 'WhatsApp is not connected', 'link a phone first: see GET /qr'),
    /** @param {string} user @param {unknown} other whom the caller means */
    otherUser: (user, other) => {
        const isId = typeof other === 'string' && /^[\w.@-]{1,64}$/.test(other);
        const named = isId ? `user ${other}` : 'another user';
        return new SessionError(
            'other_user',
            `this is the server of user ${user}, not of ${named}`,
            "call the port of that user's own server, which waportd tells: GET /v1/users/{user}",
        );
    },
    superseded: () =>
        new SessionError('superseded', 'a code for another phone was asked for meanwhile', 'ask again'),
    scanInstead: () =>
        new SessionError('superseded', 'a code to scan was asked for meanwhile', 'scan it, or ask again'),
    stopping: () => new SessionError('stopping', 'the server is stopping', 'ask again in a moment'),
    /** @param {{message: string, hint: string|null}} document what is shown of the session */
    notNow: ({ message, hint }) =>
        new SessionError(
            'not_connected',
            `WhatsApp is not connected: ${message}`,
            hint ?? 'ask again in a moment: see GET /session',
        ),
    pairingLimited: (/** @type {string} */ until) =>
        new SessionError(
            'pairing_limited',
            `WhatsApp was asked for pairing codes too often and gives none for now; not before ${until} UTC`,
            'wait until then, or scan a QR code: asking again makes the wait longer',
        ),
    pairingRefused: () =>
        new SessionError(
            'pairing_refused',
            'WhatsApp gave no pairing code for this number',
            'check the number and its country code; after several tries wait an hour, or use the QR code',
        ),
    authFailure: () =>
        new SessionError(
            'auth_failure',
            'WhatsApp refused the stored login',
            'log out (POST /disconnect) and link the phone again',
        ),
    httpError: (/** @type {number} */ status) =>
        status === 407
            ? proxyAuth('HTTP 407')
            : new SessionError(
                  'upstream_unreachable',
                  `web.whatsapp.com answered HTTP ${status}`,
                  'wait, or check the proxy between this host and the Internet',
              ),
    noAnswer: (/** @type {number} */ seconds) =>
        new SessionError(
            'upstream_unreachable',
            `web.whatsapp.com did not answer in ${seconds} s`,
            CHECK_NETWORK,
        ),
    linkStalled: (/** @type {number} */ seconds) =>
        new SessionError(
            'upstream_silent',
            `the phone answered, but linking did not finish in ${seconds} s`,
            'ask for a new code, and keep WhatsApp open on the phone meanwhile',
        ),

    /** @param {keyof typeof PASSKEYS} cause */
    passkey: (cause) => {
        const [message, hint] = PASSKEYS[cause];
        return new SessionError(cause, message, hint);
    },

    perhapsSent: () =>
        new SessionError(
            'perhaps_sent',
            "WhatsApp's page did not say what became of the message: it may have been sent",
            'look into the chat before sending it again',
        ),
    perhapsDone: () =>
        new SessionError(
            'perhaps_done',
            "WhatsApp's page did not say what became of it: it may have been done",
            'look at the group before doing it again',
        ),
    /**
     * @param {string|null} build
     * @param {import('./types').Upstream['missing'][0]} lost
     */
    upstreamChanged: (build, { feature, module, member, found }) =>
        new SessionError(
            'upstream_changed',
            `WhatsApp Web ${build} has changed: ${feature} needs ` +
                `${[module, member].filter(Boolean).join('.')}, which is not there (${found})`,
            'use a newer version of waportd, or another engine (waportctl engine); see docs/operations.md',
        ),

    pageHung: () => new SessionError('page_hung', "WhatsApp's page does not answer any more", BY_ITSELF),
    pageCrashed: (/** @type {string} */ words) =>
        new SessionError('page_crashed', `WhatsApp's page crashed (${words})`, BY_ITSELF),
    pageLost: (/** @type {string} */ words) =>
        new SessionError('page_lost', `WhatsApp's page did not come back: ${words}`, BY_ITSELF),
    browserLost: () => new SessionError('browser_lost', 'the browser ended unexpectedly', BY_ITSELF),
    /**
     * @param {number} seconds
     * @param {string|null} obstacle what the page threw, if it did
     */
    neverReady: (seconds, obstacle) =>
        new SessionError(
            'never_ready',
            `linked, but not ready in ${seconds} s: WhatsApp Web has changed, or the profile is damaged` +
                `${obstacle === null ? '' : ` (${obstacle})`}`,
            'it is tried again; if it stays so, take another engine (waportctl engine list), or log out ' +
                'and link the phone again',
        ),
    loginMissing: () =>
        new SessionError(
            'login_missing',
            "WhatsApp's page shows a code although a phone is linked, and says nothing of a logout",
            'it is tried again before the login is given up; see Linked devices on the phone',
        ),
    noCode: () => new SessionError('upstream_silent', "WhatsApp's page gives no new code", BY_ITSELF),

    /**
     * Why a linked session is not connected, by the state of WhatsApp's own connection.
     *
     * @param {string|null} connection
     */
    connectionLost: (connection) =>
        ruleFor(connection, 'disconnected').cause === 'unpaired'
            ? new SessionError(
                  'unpaired',
                  `WhatsApp says that this device is not linked (${connection}), but nothing of a logout`,
                  'see Linked devices on the phone: if this one is not there, log out and link again',
              )
            : new SessionError(
                  'connection_lost',
                  `the connection to WhatsApp is lost (${connection}), and the page does not mend it`,
                  BY_ITSELF,
              ),

    /** Why WhatsApp does not want the session, by the state of its connection. @param {string} connection */
    refused: (connection) => {
        const cause = /** @type {string} */ (ruleFor(connection, 'disconnected').cause);
        const [message, hint] = REFUSALS[cause];
        return new SessionError(cause, `${message} (${connection})`, hint);
    },

    /**
     * Why the page was logged out: `{message, hint}`.
     *
     * @param {number|null} number WhatsApp's own; null = it gave none, as for a logout on the phone
     * @param {string|null} words what WhatsApp says to people about it, in their language
     */
    loggedOut: (number, words) => {
        const other = [`logged out by WhatsApp (reason ${number})`, LINK_AGAIN];
        const [message, hint] = LOGOUTS[number ?? 'none'] ?? other;
        return { message: words === null ? message : `${message} (${words})`, hint };
    },

    /** @param {number|null} until when the ban ends, in milliseconds since the epoch, if that is known */
    banned: (until) =>
        new SessionError(
            'account_banned',
            `WhatsApp has banned this account${until === null ? ' for a time' : ` until ${dateTime(until)}`}`,
            'open WhatsApp on the phone: it says why; send less, and nothing to people who did not ask',
        ),

    /**
     * What is wrong with the way to the site; null = nothing.
     *
     * @param {{error?: string|null, status?: number|null}} found Chromium's name of it, or the number of HTTP
     */
    unreachable: ({ error = null, status = null }) => {
        if (error !== null) return reason.of(error);
        return status !== null && status >= 400 ? reason.httpError(status) : null;
    },

    /**
     * @param {string} what it does
     * @param {string|null} next path of the browser that is taken the next time, if there is another
     * @param {boolean} refused WhatsApp does not take this browser
     */
    silent: (what, next, refused) =>
        next === null
            ? new SessionError(
                  refused ? 'browser_refused' : 'upstream_silent',
                  `web.whatsapp.com ${what}`,
                  'try another browser (instances.browser; WAPORTD_BROWSER when run by hand), or look at ' +
                      'https://web.whatsapp.com from this host',
              )
            : new SessionError(
                  refused ? 'browser_refused' : 'upstream_silent',
                  `web.whatsapp.com ${what}; the next start uses ${path.basename(next)}`,
                  'nothing to do: another browser is tried',
              ),

    /**
     * Turn what the library or the browser throws (also plain strings) into a reason.
     *
     * @param {unknown} error
     */
    of(error) {
        const text = messageOf(error);
        const network = text.match(/net::(ERR_[A-Z0-9_]+)/)?.[1];
        if (network === undefined) {
            return new SessionError(
                'upstream_silent',
                `WhatsApp's page cannot be used: ${text.split('\n')[0].slice(0, 200)}`,
                'WhatsApp may have changed its page: look for a newer version of this server',
            );
        }
        if (/PROXY_AUTH|AUTH_CREDENTIALS|UNSUPPORTED_AUTH/.test(network)) return proxyAuth(network);
        if (network === 'ERR_PROXY_CONNECTION_FAILED') return proxyUnreachable(network);
        if (network === 'ERR_NO_SUPPORTED_PROXIES') return proxyUnusable(network);
        if (/SOCKS/.test(network)) return socksRefused(network);
        if (/PROXY|TUNNEL/.test(network)) return proxyRefused(network);
        let hint = CHECK_NETWORK;
        if (/NAME_NOT_RESOLVED|DNS/.test(network)) {
            hint = "check this host's DNS: it cannot resolve web.whatsapp.com";
        } else if (/CERT|SSL/.test(network)) {
            hint = 'check the clock of this host, and any proxy that opens TLS connections';
        }
        const message = `web.whatsapp.com cannot be reached (${network})`;
        return new SessionError('upstream_unreachable', message, hint);
    },
};

module.exports = { PASSKEYS, reason };

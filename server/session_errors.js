'use strict';

/** Why there is no session, as text: each reason with its cause code and how to fix it. */

const path = require('node:path');

const { SessionError, messageOf } = require('./errors');
const { ruleFor } = require('./recovery');

const CHECK_NETWORK = "check this host's Internet connection, firewall and proxy";

const BY_ITSELF = 'nothing to do: it is retried automatically';

const LINK_AGAIN = 'ask for a code to link a phone again';
const STILL_LISTED = `${LINK_AGAIN}; the phone may still list this device: remove it there`;

/** @typedef {[message: string, hint: string]} Words */

/**
 * Meanings of the numbers that WhatsApp's page gives for a logout.
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

/** What WhatsApp's refusals mean, and how to fix them. @type {Record<string, Words>} */
const REFUSALS = {
    conflict: [
        'this session is open in another place',
        'stop the other server or browser that uses a copy of it; or log out and link the phone again',
    ],
    proxy_blocked: [
        'WhatsApp does not accept connections from this network',
        'use another network or proxy for this user',
    ],
    account_blocked: [
        'WhatsApp has blocked this account for breaking its terms',
        'open WhatsApp on the phone: it says why, and lets you ask for a review',
    ],
    version_refused: [
        'WhatsApp no longer accepts this version of its page',
        'a newer page is loaded automatically; unset instances.web_version if set, or use another engine',
    ],
    screen_locked: [
        "WhatsApp's page is locked with a password",
        'log out and link the phone again: the lock cannot be opened from here',
    ],
};

const SAME_CARD = 'reload the page with the code and confirm again: the request has changed';

/** What goes wrong with passkeys, and how to fix it. */
const PASSKEYS = {
    passkey_failed: [
        'WhatsApp did not accept the passkey, or got none in time',
        'use the passkey of the account that is being linked, and keep WhatsApp open on the phone',
    ],
    passkey_button_missing: [
        'WhatsApp wants a passkey, but the button for it was not found on its page',
        'use a newer version of waportd: the page has changed, and the log shows what is on it',
    ],
    no_passkey_request: ['WhatsApp does not want a passkey just now', 'see GET /session'],
    passkey_given: ['the passkey was given already', 'wait for the phone, and then for WhatsApp'],
    no_passkey_code: ['WhatsApp shows no code to confirm just now', 'see GET /session'],
    passkey_code_changed: ['WhatsApp now shows another code', 'compare the new code with the phone'],
    passkey_malformed: [
        'this is not the JSON of a credential',
        'send the unchanged output of PublicKeyCredential.toJSON()',
    ],
    passkey_wrong_origin: [
        'the passkey was used on another site than https://web.whatsapp.com',
        'use it on that site only: answers from other sites are not valid',
    ],
    passkey_wrong_challenge: ['this answers another request, or an older one', SAME_CARD],
    passkey_wrong_type: ['this is not an answer to a passkey login', SAME_CARD],
    passkey_wrong_site: ['this passkey is for another site than WhatsApp', SAME_CARD],
    passkey_not_verified: [
        'the person was not verified',
        'unlock the passkey by fingerprint, face or PIN when the browser asks for it',
    ],
    passkey_not_allowed: [
        'this is not one of the passkeys that WhatsApp accepts',
        'use the passkey of the account that is being linked',
    ],
};

const dateTime = (/** @type {number} */ ms) =>
    `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`;

const PROXY_SETTING = '(instances.proxy, or `waportctl proxy USER`; WAPORTD_PROXY when run by hand)';

/** What is wrong with the proxy, in Chromium's or HTTP's words. */
const proxyAuth = (/** @type {string} */ words) =>
    new SessionError(
        'proxy_auth',
        `the proxy wants a name and a password, or different ones (${words})`,
        `set the right ones ${PROXY_SETTING}`,
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
        `check its rules, and whether it reaches web.whatsapp.com; or use another proxy ${PROXY_SETTING}`,
    );
/** Chromium reports the same error for a SOCKS proxy that wants a login and for one that blocks the site. */
const socksRefused = (/** @type {string} */ words) =>
    new SessionError(
        'proxy_refused',
        `the SOCKS proxy does not let the browser through to web.whatsapp.com (${words})`,
        'if it wants a name and a password, it cannot be used, since browsers send none to SOCKS proxies: ' +
            'use an HTTP proxy; else check its rules, and whether it reaches web.whatsapp.com ' +
            PROXY_SETTING,
    );
const proxyUnusable = (/** @type {string} */ words) =>
    new SessionError(
        'proxy_refused',
        `the browser cannot use a proxy of this kind (${words})`,
        'use http, https, socks5 or socks4, and give a name and a password only in the setting ' +
            PROXY_SETTING,
    );

const reason = {
    alreadyLinked: () =>
        new SessionError('already_linked', 'a phone is linked already', 'log it out first: POST /disconnect'),
    notConnected: () =>
        new SessionError('not_connected', 'WhatsApp is not connected', 'link a phone first: see GET /qr'),
    /** @param {string} user @param {unknown} other the user that the caller means */
    otherUser: (user, other) => {
        const isId = typeof other === 'string' && /^[\w.@-]{1,64}$/.test(other);
        const named = isId ? `user ${other}` : 'another user';
        return new SessionError(
            'other_user',
            `this is the server of user ${user}, not of ${named}`,
            "call the port of that user's own server, which waportd reports: GET /v1/users/{user}",
        );
    },
    superseded: () =>
        new SessionError('superseded', 'a code for another phone was requested meanwhile', 'ask again'),
    scanInstead: () =>
        new SessionError('superseded', 'a code to scan was requested meanwhile', 'scan it, or ask again'),
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
            `too many pairing codes were requested; WhatsApp gives no more before ${until} UTC`,
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
            "WhatsApp's page did not confirm the message: it may have been sent",
            'check the chat before sending it again',
        ),
    perhapsDone: () =>
        new SessionError(
            'perhaps_done',
            "WhatsApp's page did not confirm the change: it may have been made",
            'check the group before you try again',
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

    pageHung: () => new SessionError('page_hung', "WhatsApp's page no longer answers", BY_ITSELF),
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
            'it is retried; if it keeps failing, use another engine (waportctl engine list), or log out ' +
                'and link the phone again',
        ),
    loginMissing: () =>
        new SessionError(
            'login_missing',
            "WhatsApp's page shows a code although a phone is linked, and reports no logout",
            'it is retried before the login is given up; see Linked devices on the phone',
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
                  `WhatsApp says that this device is not linked (${connection}), but reports no logout`,
                  'see Linked devices on the phone: if this one is not there, log out and link again',
              )
            : new SessionError(
                  'connection_lost',
                  `the connection to WhatsApp is lost (${connection}), and the page does not restore it`,
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
     * @param {number|null} number WhatsApp's own; null = none was given, as for a logout on the phone
     * @param {string|null} words WhatsApp's text about it for people, in their language
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
     * Why the site cannot be reached; null = it can.
     *
     * @param {{error?: string|null, status?: number|null}} found Chromium's error name, or the HTTP status
     */
    unreachable: ({ error = null, status = null }) => {
        if (error !== null) return reason.of(error);
        return status !== null && status >= 400 ? reason.httpError(status) : null;
    },

    /**
     * @param {string} what it does
     * @param {string|null} next path of the browser for the next start, if there is another
     * @param {boolean} refused WhatsApp does not accept this browser
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
                'WhatsApp may have changed its page: check for a newer version of this server',
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

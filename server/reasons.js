'use strict';

/** Why there is no session, in words: each reason with its cause code and the way out. */

const path = require('node:path');

const { SessionError } = require('./errors');
const { ruleFor } = require('./recovery');

const CHECK_NETWORK = "check this host's Internet connection, firewall and proxy";

const BY_ITSELF = 'nothing to do: it is tried again by itself';

const LINK_AGAIN = 'ask for a code to link a phone again';
const STILL_LISTED = `${LINK_AGAIN}; the phone may still list this device: remove it there`;

/** What the numbers mean that WhatsApp's page gives for a logout. */
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

/** What WhatsApp's refusals mean, and the way out. */
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

const dateTime = (ms) => `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`;

const proxyRefused = (words) =>
    new SessionError(
        'proxy_refused',
        `the proxy does not let the browser through to web.whatsapp.com (${words})`,
        "check the proxy's address, user name and password for this user",
    );

const reason = {
    alreadyLinked: () =>
        new SessionError('already_linked', 'a phone is linked already', 'log it out first: POST /disconnect'),
    notConnected: () =>
        new SessionError('not_connected', 'WhatsApp is not connected', 'link a phone first: see GET /qr'),
    superseded: () =>
        new SessionError('superseded', 'a code for another phone was asked for meanwhile', 'ask again'),
    scanInstead: () =>
        new SessionError('superseded', 'a code to scan was asked for meanwhile', 'scan it, or ask again'),
    stopping: () => new SessionError('stopping', 'the server is stopping', 'ask again in a moment'),
    /** @param {{message: string, hint: string|null}} picture what is shown of the session */
    notNow: ({ message, hint }) =>
        new SessionError(
            'not_connected',
            `WhatsApp is not connected: ${message}`,
            hint ?? 'ask again in a moment: see GET /session',
        ),
    pairingLimited: (until) =>
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
    httpError: (status) =>
        status === 407
            ? proxyRefused('HTTP 407: it wants a user name and a password, or other ones')
            : new SessionError(
                  'upstream_unreachable',
                  `web.whatsapp.com answered HTTP ${status}`,
                  'wait, or check the proxy between this host and the Internet',
              ),
    noAnswer: (seconds) =>
        new SessionError(
            'upstream_unreachable',
            `web.whatsapp.com did not answer in ${seconds} s`,
            CHECK_NETWORK,
        ),
    linkStalled: (seconds) =>
        new SessionError(
            'upstream_silent',
            `the phone answered, but linking did not finish in ${seconds} s`,
            'ask for a new code; if WhatsApp on the phone asks for a passkey, remove the passkey there first',
        ),

    perhapsSent: () =>
        new SessionError(
            'perhaps_sent',
            "WhatsApp's page did not say what became of the message: it may have been sent",
            'look into the chat before sending it again',
        ),
    /** @param {{feature: string, module: string, member: string, found: string}} lost */
    upstreamChanged: (build, { feature, module, member, found }) =>
        new SessionError(
            'upstream_changed',
            `WhatsApp Web ${build} has changed: ${feature} needs ` +
                `${[module, member].filter(Boolean).join('.')}, which is not there (${found})`,
            'use a newer version of waportd, or another engine (waportctl engine); see docs/operations.md',
        ),

    pageHung: () => new SessionError('page_hung', "WhatsApp's page does not answer any more", BY_ITSELF),
    pageCrashed: (words) =>
        new SessionError('page_crashed', `WhatsApp's page crashed (${words})`, BY_ITSELF),
    pageLost: (words) =>
        new SessionError('page_lost', `WhatsApp's page did not come back: ${words}`, BY_ITSELF),
    browserLost: () => new SessionError('browser_lost', 'the browser ended unexpectedly', BY_ITSELF),
    /** @param {string|null} obstacle what the page threw, if it did */
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

    /** Why a linked session is not connected, by the state of WhatsApp's own connection. */
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

    /** Why WhatsApp does not want the session, by the state of its connection. */
    refused: (connection) => {
        const { cause } = ruleFor(connection, 'disconnected');
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
     * @param {{error: string|null, status: number|null}} found Chromium's name of it, or the number of HTTP
     */
    unreachable: ({ error = null, status = null }) => {
        if (error !== null) return reason.of(error);
        return status !== null && status >= 400 ? reason.httpError(status) : null;
    },

    /**
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

    /** Turn what the library or the browser throws (also plain strings) into a reason. */
    of(error) {
        const text = String(error?.message ?? error);
        const network = text.match(/net::(ERR_[A-Z0-9_]+)/)?.[1];
        if (network === undefined) {
            return new SessionError(
                'upstream_silent',
                `WhatsApp's page cannot be used: ${text.split('\n')[0].slice(0, 200)}`,
                'WhatsApp may have changed its page: look for a newer version of this server',
            );
        }
        if (/PROXY|TUNNEL|AUTH_CREDENTIALS|UNSUPPORTED_AUTH/.test(network)) return proxyRefused(network);
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

module.exports = { reason };

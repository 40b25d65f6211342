'use strict';

/** Why there is no session, in words: each reason with its cause code and the way out. */

const path = require('node:path');

const { SessionError } = require('./errors');

const CHECK_NETWORK = "check this host's Internet connection, firewall and proxy";

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
        new SessionError(
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

    /** @param {string|null} next path of the browser that is taken the next time, if there is another */
    silent: (what, next) =>
        next === null
            ? new SessionError(
                  'upstream_silent',
                  `web.whatsapp.com ${what}`,
                  'try another browser (instances.browser; WAPORTD_BROWSER when run by hand), or look at ' +
                      'https://web.whatsapp.com from this host',
              )
            : new SessionError(
                  'upstream_silent',
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

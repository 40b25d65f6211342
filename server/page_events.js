'use strict';

/**
 * Passes events of the browser and its page to the part that they concern: the phase before the login, the
 * one after it, or the session.
 */

const {
    describeAck,
    describeCall,
    describeEdit,
    describeMessage,
    describeReaction,
    describeRevoke,
} = require('./describe');
const { SessionError, messageOf } = require('./errors');
const { Linked } = require('./phase_linked');
const { Linking, isQr } = require('./phase_linking');
const { reason } = require('./session_errors');

/** @typedef {import('./types').WhatsAppEvent} WhatsAppEvent */

/** The result of a probe: the state of the connection, or what is shown. */
/** @typedef {string|import('./types').Look|null} Seen */

/** States in which the connection is that of a linked session. */
const LINKED = ['authenticated', 'ready', 'disconnected'];

/**
 * Have everything reported that happens to messages, and calls.
 *
 * @param {import('./types').SessionClient} client
 * @param {import('./types').RunEvents['onEvent']} notify takes each event, as in describe.js
 */
function hear(client, notify) {
    /** @param {string} name @param {(...args: any[]) => WhatsAppEvent|null} describe */
    const on = (name, describe) =>
        client.on(name, (...args) => {
            const event = describe(...args);
            if (event !== null) notify(event, client);
        });
    on('message_create', (message) => describeMessage(message));
    on('message_ack', (message, ack) => describeAck(message, ack));
    on('message_edit', (message, body, previous) => describeEdit(message, body, previous));
    on('message_revoke_everyone', (message) => describeRevoke(message));
    on('message_revoke_me', (message) => describeRevoke(message, { everyone: false }));
    on('message_reaction', (reaction) => describeReaction(reaction));
    on('call', (call) => describeCall(call));
}

/** Listens to one run of the browser until that is closed, and has its two phases. */
class Watch {
    /** The state of its codes and of its login. */
    linking;
    linked;
    run;

    #state;
    #log;
    #session;
    /** Whether the page that is loaded now has said that it has no login. */
    #loginNeeded = false;

    /**
     * @param {import('./types').RunParts} parts
     * @param {number} attempt how many codes a run before this one has shown
     */
    constructor(parts, attempt) {
        this.run = parts.run;
        this.linking = new Linking({ ...parts, attempt });
        this.linked = new Linked(parts);
        this.#state = parts.state;
        this.#log = parts.log;
        this.#session = parts.session;
    }

    start() {
        const run = this.run;
        const session = this.#session;
        /**
         * @template {keyof import('./types').PageEvents} Name
         * @param {Name} event
         * @param {(...args: import('./types').PageEvents[Name]) => void} listener
         */
        const on = (event, listener) =>
            run.client.on(event, (...args) => {
                if (!run.closed) listener(...args);
            });
        on('browser', (...opened) => this.#opened(...opened));
        on('http_error', (status) => session.failed(reason.httpError(status)));
        on('document', () => this.#documentBegan());
        on('login_needed', () => {
            this.#loginNeeded = true;
        });
        on('qr', (text) => this.#codeCame(text));
        on('code', (code) => this.#pairingCodeCame(code));
        on('pairing_failed', (error) => session.unpaired(error));
        on('socket', (connection) => this.#connectionChanged(connection));
        on('passkey_screen', () => this.linking.passkey.begin());
        on('passkey_call', (call) => this.linking.passkey.called(call));
        on('passkey_over', (id, why) => this.linking.passkey.over(id, why));
        on('login_found', () => this.#loginFound('login found, WhatsApp is loading'));
        on('authenticated', () => this.#loginFound('linked, WhatsApp is loading'));
        on('loading_screen', (percent) => this.linked.loading(percent));
        on('ready', () => this.#ready());
        on('logout', (why, words) => session.loggedOut(why, words));
        on('upstream', (upstream) => this.#pageSeen(upstream));
        on('load_failed', (error) => {
            this.#log.warning('WhatsApp is not made ready', { reason: messageOf(error) });
            this.linked.notMade(error);
        });
        on('check_failed', (error) =>
            this.#log.warning('what the page has is not known', { reason: messageOf(error) }),
        );
        on('banned', (ban) => session.trouble('refused', reason.banned(ban.until)));
        on('auth_failure', () => session.failed(reason.authFailure()));
        on('failed', (error) => {
            if (error instanceof SessionError) session.failed(error);
            else session.trouble('page_lost', reason.pageLost(messageOf(error)));
        });
        hear(run.client, session.onEvent);
    }

    /**
     * @param {import('node:events').EventEmitter} browser
     * @param {import('node:events').EventEmitter} page
     * @param {string|null} version
     */
    #opened(browser, page, version) {
        const run = this.run;
        const gone = () => this.#session.trouble('browser_lost', reason.browserLost());
        const pid = run.opened(browser, version, gone);
        this.#log.info('browser started', { path: run.path, pid });
        const message = this.#state.name === 'generating' ? { message: 'loading WhatsApp Web' } : {};
        this.#state.update({ ...message, browser: { path: run.path, running: true } });
        browser.on('disconnected', gone);
        page.on('error', (error) => {
            if (!run.reloading) this.#session.trouble('page_crashed', reason.pageCrashed(error.message));
        });
        page.on('response', () => {
            run.answered = true;
        });
    }

    /**
     * Which of the used parts the page has; logged once for each build.
     *
     * @param {import('./types').PageEvents['upstream'][0]} upstream
     */
    #pageSeen(upstream) {
        const before = this.#state.document().upstream;
        this.#state.update({ upstream: { ...before, ...upstream } });
        const { build, ok, missing } = upstream;
        if (before.build === build && before.missing.length === missing.length) return;
        const lost = missing.map(({ feature, module, member }) => `${feature}: ${module} ${member}`.trim());
        this.#log[ok ? 'info' : 'warning']('WhatsApp Web', { build, missing: lost.slice(0, 20).join(', ') });
    }

    #documentBegan() {
        this.#loginNeeded = false;
        this.run.connection = null;
        this.linking.reloads();
        this.linked.reloads();
    }

    /** A code or a login has come: from now on the page itself is probed. */
    #started() {
        const run = this.run;
        run.cancel('start');
        this.#session.succeeded();
        if (run.answeredAt > 0) return;
        run.probe({
            ask: () => (this.#session.login.linked ? run.client.getState() : run.client.look()),
            loads: () => this.linked.loads,
            onSeen: (seen) => this.#seen(/** @type {Seen} */ (seen)),
            onBusy: () => this.linked.busy(),
            onHung: (kind) => {
                const why = kind === 'browser_lost' ? reason.browserLost() : reason.pageHung();
                this.#session.trouble(kind, why);
            },
        });
    }

    /** The page has reported its connection's state, or all that it shows: an event may have been missed. */
    #seen(/** @type {Seen} */ seen) {
        if (typeof seen !== 'string' && seen?.passkey) this.linking.passkey.begin();
        const connection = typeof seen === 'string' ? seen : seen?.state;
        if (typeof connection === 'string' && connection !== this.run.connection) {
            this.#connectionChanged(connection);
        }
    }

    #codeCame(/** @type {string} */ text) {
        if (!isQr(text)) {
            this.#log.warning('the page gave something that is not a code');
        } else if (this.#isLoggedIn('a code')) {
            // The page has no login, or says so: first find out why.
        } else {
            this.#started();
            this.linking.qr(text);
        }
    }

    #pairingCodeCame(/** @type {string} */ code) {
        if (this.#isLoggedIn('a pairing code')) return;
        this.#started();
        this.#session.paired(this.linking.pairingCode(code));
    }

    /** Return whether there is a login although the page gives codes. Only what the page found counts. */
    #isLoggedIn(/** @type {string} */ what) {
        const { login } = this.#session;
        if (login.known === true) {
            if (!this.#loginNeeded) {
                this.#log.warning(`ignored: the page gave ${what}, and had found a login`);
                return true;
            }
            if (this.#session.loginMissing()) return true;
        }
        login.set(false);
        return false;
    }

    #connectionChanged(/** @type {string} */ connection) {
        this.#log.debug('connection', { state: connection });
        this.run.connection = connection;
        if (this.run.unlinking) return;
        // Only a logged-in page is connected; the library reports a login when all of it is loaded.
        if (connection === 'CONNECTED' && !LINKED.includes(this.#state.name)) {
            this.#loginFound('linked, WhatsApp is loading');
        }
        if (LINKED.includes(this.#state.name)) this.linked.socket(connection);
        else this.linking.socket(connection);
    }

    #loginFound(/** @type {string} */ message) {
        if (this.run.unlinking) return;
        this.#session.login.set(true);
        this.#started();
        this.#session.linked();
        this.linking.linked();
        this.linked.found(message);
    }

    #ready() {
        this.#session.login.set(true);
        this.#started();
        this.#session.linked();
        this.linking.linked();
        this.linked.ready();
    }
}

module.exports = { Watch, hear };

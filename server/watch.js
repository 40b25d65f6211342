'use strict';

/** What the browser and its page tell, and whom it concerns: linking, the linked session, or its end. */

const { SessionError } = require('./errors');
const { PASSKEY, isQr } = require('./linking');
const { reason } = require('./reasons');

/** States in which the connection is that of a linked session. */
const LINKED = ['authenticated', 'ready', 'disconnected'];

/** Listens to one run of the browser until that is closed. */
class Watch {
    #run;
    #state;
    #log;
    #session;
    /** Whether the page that is loaded now has said that it has no login. */
    #loginNeeded = false;

    /**
     * @param {object} options
     * @param {import('./run').BrowserRun} options.run
     * @param {object} options.session what is decided there: that the run `failed`, is in `trouble`, is
     *   `loggedOut` or `linked`, has `succeeded` so far, has a pairing code (`paired`) or none (`unpaired`),
     *   got a message (`onMessage`), shows a code where a login should be (`loginMissing`); and its `login`
     */
    constructor({ run, state, log, session }) {
        this.#run = run;
        this.#state = state;
        this.#log = log;
        this.#session = session;
    }

    start() {
        const run = this.#run;
        const session = this.#session;
        const on = (event, listener) =>
            run.client.on(event, (...args) => {
                if (!run.closed) listener(...args);
            });
        on('browser', (browser, page) => this.#opened(browser, page));
        on('http_error', (status) => session.failed(reason.httpError(status)));
        on('document', () => this.#documentBegan());
        on('login_needed', () => {
            this.#loginNeeded = true;
        });
        on('qr', (text) => this.#codeCame(text));
        on('code', (code) => this.#pairingCodeCame(code));
        on('pairing_failed', (error) => session.unpaired(error));
        on('socket', (connection) => this.#connectionChanged(connection));
        on('passkey', (isWanted) => run.linking.passkey(isWanted));
        on('login_found', () => this.#loginFound('login found, WhatsApp is loading'));
        on('authenticated', () => this.#loginFound('linked, WhatsApp is loading'));
        on('loading_screen', (percent) => run.linked.loading(percent));
        on('ready', () => this.#ready());
        on('message', (message) => session.onMessage(message));
        on('logout', (why, words) => session.loggedOut(why, words));
        on('upstream', (upstream) => this.#pageSeen(upstream));
        on('load_failed', (error) => {
            this.#log.warning('WhatsApp is not made ready', { reason: error?.message ?? error });
            run.linked.notMade(error);
        });
        on('check_failed', (error) =>
            this.#log.warning('what the page has is not known', { reason: error?.message ?? error }),
        );
        on('banned', (ban) => session.trouble('refused', reason.banned(ban.until)));
        on('auth_failure', () => session.failed(reason.authFailure()));
        on('failed', (error) => {
            if (error instanceof SessionError) session.failed(error);
            else session.trouble('page_lost', reason.pageLost(error?.message ?? error));
        });
    }

    #opened(browser, page) {
        const run = this.#run;
        run.browser = browser;
        const child = browser.process();
        this.#log.info('browser started', { path: run.path, pid: child?.pid });
        const message = this.#state.name === 'generating' ? { message: 'loading WhatsApp Web' } : {};
        this.#state.update({ ...message, browser: { path: run.path, running: true } });
        const gone = () => this.#session.trouble('browser_lost', reason.browserLost());
        browser.on('disconnected', gone);
        // Debian's wrapper script stays the browser's parent: without it, nobody reaps or kills the browser.
        child?.once('exit', gone);
        page.on('error', (error) => {
            if (!run.reloading) this.#session.trouble('page_crashed', reason.pageCrashed(error.message));
        });
        page.on('response', () => {
            run.answered = true;
        });
    }

    /** What the page has of what is used; the log tells it once for each build. */
    #pageSeen(upstream) {
        const before = this.#state.picture().upstream;
        this.#state.update({ upstream: { ...before, ...upstream } });
        const { build, ok, missing } = upstream;
        if (before.build === build && before.missing.length === missing.length) return;
        const lost = missing.map(({ feature, module, member }) => `${feature}: ${module} ${member}`.trim());
        this.#log[ok ? 'info' : 'warning']('WhatsApp Web', { build, missing: lost.slice(0, 20).join(', ') });
    }

    #documentBegan() {
        this.#loginNeeded = false;
        this.#run.connection = null;
        this.#run.linking.reloads();
        this.#run.linked.reloads();
    }

    /** A code or a login has come: from now on the page itself is probed. */
    #started() {
        const run = this.#run;
        run.cancel('start');
        this.#session.succeeded();
        if (run.answeredAt > 0) return;
        run.probe({
            ask: () => (this.#session.login.linked ? run.client.getState() : run.client.look()),
            onSeen: (seen) => this.#seen(seen),
            onBusy: () => run.linked.busy(),
            onHung: (kind) => {
                const why = kind === 'browser_lost' ? reason.browserLost() : reason.pageHung();
                this.#session.trouble(kind, why);
            },
        });
    }

    /** The page has told its connection's state, or all that it shows: an event may have been missed. */
    #seen(seen) {
        if (seen?.pairing_type === PASSKEY) this.#run.linking.passkey(true);
        const connection = typeof seen === 'string' ? seen : seen?.state;
        if (typeof connection === 'string' && connection !== this.#run.connection) {
            this.#connectionChanged(connection);
        }
    }

    #codeCame(text) {
        if (!isQr(text)) {
            this.#log.warning('the page gave something that is not a code');
        } else if (this.#isLoggedIn('a code')) {
            // The page has no login, or says so: what became of it is found out first.
        } else {
            this.#started();
            this.#run.linking.qr(text);
        }
    }

    #pairingCodeCame(code) {
        if (this.#isLoggedIn('a pairing code')) return;
        this.#started();
        this.#session.paired(this.#run.linking.pairingCode(code));
    }

    /** Tell whether there is a login although the page gives codes. Only what the page found counts. */
    #isLoggedIn(what) {
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

    #connectionChanged(connection) {
        this.#log.debug('connection', { state: connection });
        this.#run.connection = connection;
        if (this.#run.unlinking) return;
        // Only what is logged in is connected; the library tells of a login when all of it is loaded.
        if (connection === 'CONNECTED' && !LINKED.includes(this.#state.name)) {
            this.#loginFound('linked, WhatsApp is loading');
        }
        if (LINKED.includes(this.#state.name)) this.#run.linked.socket(connection);
        else this.#run.linking.socket(connection);
    }

    #loginFound(message) {
        if (this.#run.unlinking) return;
        this.#session.login.set(true);
        this.#started();
        this.#session.linked();
        this.#run.linked.found(message);
    }

    #ready() {
        this.#session.login.set(true);
        this.#started();
        this.#session.linked();
        this.#run.linked.ready();
    }
}

module.exports = { Watch };

'use strict';

/** What the browser and its page tell, and whom it concerns: linking, the linked session, or its end. */

const { EXIT } = require('./exit');
const { isQr } = require('./linking');
const { reason } = require('./reasons');

/** States in which the connection is that of a linked session. */
const LINKED = ['authenticated', 'ready', 'disconnected'];

/** Listens to one run of the browser until that is closed. */
class Watch {
    #run;
    #state;
    #log;
    #session;

    /**
     * @param {object} options
     * @param {import('./run').BrowserRun} options.run
     * @param {object} options.session what is decided there: that the run `failed`, is one to `lose`, is
     *   `loggedOut` or `linked`, has `succeeded` so far, has a pairing code (`paired`) or none (`unpaired`),
     *   got a message (`onMessage`); and its `login`
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
        on('logout', () => session.loggedOut());
        on('document', () => run.linked.reloads());
        on('upstream', (upstream) => this.#pageSeen(upstream));
        on('load_failed', (error) =>
            this.#log.warning('WhatsApp is not made ready', { reason: error?.message ?? error }),
        );
        on('disconnected', (why) => {
            if (why === 'LOGOUT') session.loggedOut();
            else session.lose(EXIT.disconnected, `disconnected by WhatsApp (${why})`);
        });
        on('auth_failure', () => session.failed(reason.authFailure()));
        on('failed', (error) => {
            const text = `WhatsApp's page did not come back: ${error?.message ?? error}`;
            const isMended = error?.cause !== 'upstream_changed';
            if (session.login.linked && isMended) session.lose(EXIT.pageHung, text);
            else session.failed(error);
        });
    }

    #opened(browser, page) {
        const run = this.#run;
        const lose = (code, text) => {
            if (!run.closed) this.#session.lose(code, text);
        };
        run.browser = browser;
        const child = browser.process();
        this.#log.info('browser started', { path: run.path, pid: child?.pid });
        this.#state.update({ message: 'loading WhatsApp Web', browser: { path: run.path, running: true } });
        const gone = () => lose(EXIT.browserLost, 'the browser ended unexpectedly');
        browser.on('disconnected', gone);
        // Debian's wrapper script stays the browser's parent: without it, nobody reaps or kills the browser.
        child?.once('exit', gone);
        page.on('error', (error) => lose(EXIT.pageHung, `WhatsApp's page crashed (${error.message})`));
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

    /** A code or a login has come: from now on the page itself is probed. */
    #started() {
        const run = this.#run;
        run.cancel('start');
        this.#session.succeeded();
        if (run.answeredAt > 0) return;
        run.probe({
            look: () => run.linking.answered && !this.#session.login.linked,
            onSeen: (seen) => {
                if (seen.pairing_type === 'SHORTCAKE_PASSKEY') run.linking.passkey(true);
            },
            onHung: () => {
                this.#session.lose(EXIT.pageHung, "WhatsApp's page does not answer any more");
            },
        });
    }

    #codeCame(text) {
        const { login } = this.#session;
        if (!isQr(text)) {
            this.#log.warning('the page gave something that is not a code');
        } else if (login.known === true) {
            // A page that shows a code has no login any more, whatever our note says.
            this.#session.loggedOut();
        } else {
            login.set(false);
            this.#started();
            this.#run.linking.qr(text);
        }
    }

    #pairingCodeCame(code) {
        this.#session.login.set(false);
        this.#started();
        this.#session.paired(this.#run.linking.pairingCode(code));
    }

    #connectionChanged(connection) {
        this.#log.debug('connection', { state: connection });
        if (!LINKED.includes(this.#state.name)) this.#run.linking.socket(connection);
        else if (!this.#run.unlinking) this.#run.linked.socket(connection);
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
        this.#run.linked.ready();
    }
}

module.exports = { Watch };

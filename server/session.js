'use strict';

/**
 * The life of the WhatsApp session: when a browser is opened, what its events mean, when it is closed, and
 * which trouble is waited out here and which ends the process so that systemd starts it afresh.
 *
 * A browser runs only for a stored login or while somebody asks for a code. Trouble that a restart cannot
 * mend (no browser, site unreachable, profile unusable) becomes state `error` and is tried again; trouble
 * that it can mend (browser lost, page hung) ends the process with a code of its own.
 */

const { BrowserChoice, browserEnvironment, browserVersion, findBrowsers } = require('./browser');
const { SessionError, withLimit } = require('./errors');
const { Linking, isQr } = require('./linking');
const { reason } = require('./reasons');
const { BrowserRun } = require('./run');
const { maskPhone, timestamp } = require('./state');

/** Exit codes, as the unit file knows them. */
const EXIT = {
    stopped: 0,
    unexpected: 1,
    configuration: 2,
    loggedOut: 10,
    browserLost: 11,
    pageHung: 12,
    neverReady: 13,
    disconnected: 14,
};

/** A `/qr` that comes after so long without any is a person, not a forgotten tab. */
const QUIET_MS = 60_000;
const RETRY_FIRST_MS = 30_000;
const RETRY_MAX_MS = 600_000;
const PAIRING_LIMIT_MS = 60_000;
const UNLINK_LIMIT_MS = 10_000;

/** Connection states in which WhatsApp Web goes on by itself; the others end a linked session. */
const PASSING = new Set(['CONNECTED', 'OPENING', 'PAIRING', 'TIMEOUT']);

/** What puppeteer throws at calls whose browser, or page, goes away. */
const BROWSER_GONE = /Target closed|Session closed|Connection closed/i;
const PAGE_GONE = /Target closed|Session closed|Connection closed|detached|context was destroyed/i;

const WAITING = 'waiting until somebody asks for a code';

class Session {
    #config;
    #storage;
    #state;
    #log;
    #onMessage;
    #end;
    #loadLibrary;
    #choice;
    #run = null;
    #closing = Promise.resolve();
    /** Whether the profile holds a login: true, false, or 'unknown' until a page has shown it. */
    #login = false;
    #loginRead = false;
    #noted = Promise.resolve();
    #ending = false;
    #lastAsked = Date.now();
    #failures = 0;
    #retryAt = 0;
    #retryTimer = null;
    #idleTimer = null;
    #pairing = null;

    /**
     * @param {object} options
     * @param {(code: number, why: string) => void} options.end finish the process
     * @param {() => Promise<{SessionClient: Function}>} options.loadLibrary called when the library is needed
     * @param {(message: object) => void} options.onMessage takes each incoming message of the library
     */
    constructor({ config, storage, state, log, end, loadLibrary, onMessage }) {
        this.#config = config;
        this.#storage = storage;
        this.#state = state;
        this.#log = log;
        this.#end = end;
        this.#loadLibrary = loadLibrary;
        this.#onMessage = onMessage;
        this.#choice = new BrowserChoice(config.stateDirectory);
    }

    get linked() {
        return this.#login !== false;
    }

    get opening() {
        return this.#run !== null && this.#run.linking.attempt === 0 && !this.linked;
    }

    get retries() {
        return this.#failures;
    }

    /** Tell whether WhatsApp's page is there and its modules can be called. */
    get initialized() {
        return this.#run !== null && this.#run.probedAt > 0;
    }

    /** Tell whether all that should answer does: the condition of the watchdog's ping. */
    get alive() {
        return this.#run === null || this.#run.probeIsFresh;
    }

    // ---- what others ask for --------------------------------------------------------------------

    /** Learn whether a login is stored. What stands in the way of that is told when a browser is opened. */
    async restore() {
        await this.#readLogin().catch((error) => this.#log.error(error.message, { cause: error.cause }));
    }

    /** Have the browser tell its version ahead of time (a fifth of a second); trouble is told when needed. */
    async warmUp() {
        const path = await this.#choice.pick(await findBrowsers(this.#config.browser));
        await browserVersion(path, browserEnvironment(this.#storage.cacheDirectory));
    }

    /** Begin: open a browser if a login is stored (or may be), else wait to be asked. */
    start() {
        this.#armIdle();
        if (this.#run !== null) return;
        if (this.linked || !this.#loginRead) this.#open();
        else this.#rest(WAITING);
    }

    /** Somebody looks for a code. Opens a browser unless that somebody may be a tab left open. */
    ask() {
        const quiet = Date.now() - this.#lastAsked > QUIET_MS;
        this.#lastAsked = Date.now();
        if (this.#run !== null || this.#ending) return;
        const wanted = {
            generating: true,
            qr_timeout: quiet,
            passkey_required: quiet,
            error: Date.now() >= this.#retryAt,
        };
        if (wanted[this.#state.name]) this.#open();
    }

    /** Somebody asks for a code right now. Does nothing when a browser runs already. */
    askNow() {
        this.#lastAsked = Date.now();
        if (this.#run === null && !this.#ending) this.#open();
    }

    /**
     * Get a pairing code for a phone. A code of the same phone that is still valid is given again.
     *
     * @param {string} phone digits with country code
     * @returns {Promise<{code: string, expires_at: string}>}
     * @throws {SessionError} `already_linked`, or why there is no session
     * @throws {TimeLimitError} after 60 s
     */
    async requestPairingCode(phone) {
        this.#lastAsked = Date.now();
        if (this.linked || this.#ending) throw reason.alreadyLinked();
        if (this.#pairing?.phone !== phone) {
            this.#pairing?.reject(reason.superseded());
            if (this.#run !== null) this.#close(this.#run);
            this.#pairing = this.#newPairing(phone);
            this.#open(phone);
        }
        return withLimit(this.#pairing.promise, PAIRING_LIMIT_MS, 'the pairing code');
    }

    /**
     * Unlink the phone, delete the session, and end the process with its own code.
     *
     * @returns {Promise<string>} what was done, in a sentence
     */
    async logout() {
        const run = this.#run;
        let told = false;
        if (run !== null && this.linked && this.initialized && !this.#ending) {
            run.unlinking = true;
            try {
                await withLimit(run.client.unlink(), UNLINK_LIMIT_MS, 'unlinking');
                told = true;
            } catch (error) {
                // The page goes away while it answers: that is how a logout looks from outside.
                told = PAGE_GONE.test(error.message);
                this.#log.warning('unlinking was not confirmed', { reason: error.message });
            }
        }
        const message =
            told || !this.linked
                ? 'logged out; the session is deleted'
                : 'the session is deleted here, but the phone could not be told: remove the device there';
        await this.#finishLogout(message);
        return message;
    }

    /**
     * Work with the library while the session is ready.
     *
     * @throws {SessionError} `not_connected`
     * @throws {TimeLimitError}
     */
    async use(work, limitMs, what) {
        if (this.#state.name !== 'ready') throw reason.notConnected();
        return withLimit(work(this.#run.client), limitMs, what);
    }

    /** Tell whether an error comes from a browser that is being closed, and means nothing. */
    expects(error) {
        const dying = this.#run === null || this.#run.closed || this.#ending;
        return dying && PAGE_GONE.test(String(error?.message ?? error));
    }

    /**
     * Close the browser and keep the login. Resolves when the last of its processes is gone, or after 8 s.
     */
    async close() {
        this.#ending = true;
        clearTimeout(this.#retryTimer);
        clearTimeout(this.#idleTimer);
        this.#pairing?.reject(reason.stopping());
        if (this.#run !== null) this.#close(this.#run);
        await Promise.all([this.#closing, this.#noted]);
    }

    // ---- opening and closing a browser ----------------------------------------------------------

    #open(phone = null) {
        if (this.#ending) return;
        clearTimeout(this.#retryTimer);
        const run = new BrowserRun({
            config: this.#config,
            storage: this.#storage,
            choice: this.#choice,
            log: this.#log,
            phone,
        });
        run.linking = new Linking({
            run,
            config: this.#config,
            state: this.#state,
            log: this.#log,
            session: {
                giveUp: () => {
                    this.#pairing = null;
                    this.#close(run);
                },
                failed: (error) => this.#failed(run, error),
                silent: () => this.#silent(run),
                note: (login) => this.#note(login),
            },
        });
        this.#run = run;
        this.#state.enter('generating', { message: 'starting the browser', attempt: 0 });
        this.#drive(run).catch((error) => this.#failed(run, error));
    }

    async #drive(run) {
        await this.#closing;
        if (!this.#loginRead) await this.#readLogin();
        // Whoever asks right after the start comes before the library is loaded.
        const { SessionClient } = await this.#loadLibrary();
        await run.prepare(SessionClient);
        if (this.#login === false) await this.#storage.noteLogin(false);
        if (run.closed) return;
        this.#state.update({ browser: { path: run.path, running: false } });
        this.#watch(run);
        run.after('start', this.#config.startTimeout * 1000, () => this.#silent(run));
        await run.launch();
    }

    #close(run) {
        if (this.#run === run) this.#run = null;
        this.#closing = Promise.all([this.#closing, run.close()]).then(() => {
            const { browser } = this.#state.picture();
            if (this.#run === null && browser?.running) {
                this.#state.update({ browser: { ...browser, running: false } });
            }
        });
        return this.#closing;
    }

    // ---- what the browser and the page tell -----------------------------------------------------

    #watch(run) {
        const on = (event, listener) =>
            run.client.on(event, (...args) => {
                if (!run.closed) listener(...args);
            });
        on('browser', (browser, page) => this.#browserOpened(run, browser, page));
        on('http_error', (status) => this.#failed(run, reason.httpError(status)));
        on('qr', (text) => this.#codeCame(run, text));
        on('code', (code) => this.#pairingCodeCame(run, code));
        on('pairing_failed', (error) => this.#pairingFailed(run, error));
        on('socket', (state) => this.#socketChanged(run, state));
        on('passkey', () => run.linking.passkey());
        on('login_found', () => this.#loginFound(run, 'login found, WhatsApp is loading'));
        on('authenticated', () => this.#loginFound(run, 'linked, WhatsApp is loading'));
        on('loading_screen', (percent) => this.#loading(run, percent));
        on('ready', () => this.#ready(run));
        on('message', (message) => this.#onMessage(message));
        on('logout', () => this.#loggedOut(run));
        on('disconnected', (why) => {
            if (why === 'LOGOUT') this.#loggedOut(run);
            else this.#lose(run, EXIT.disconnected, `disconnected by WhatsApp (${why})`);
        });
        on('auth_failure', () => this.#failed(run, reason.authFailure()));
        on('failed', (error) => {
            const text = `WhatsApp's page did not come back: ${error?.message ?? error}`;
            if (this.linked) this.#lose(run, EXIT.pageHung, text);
            else this.#failed(run, error);
        });
    }

    #browserOpened(run, browser, page) {
        run.browser = browser;
        const pid = browser.process()?.pid;
        this.#log.info('browser started', { path: run.path, pid });
        this.#state.update({ message: 'loading WhatsApp Web', browser: { path: run.path, running: true } });
        const gone = () => {
            if (!run.closed) this.#lose(run, EXIT.browserLost, 'the browser ended unexpectedly');
        };
        browser.on('disconnected', gone);
        // Debian's wrapper script stays the browser's parent: without it, nobody reaps or kills the browser.
        browser.process()?.once('exit', gone);
        page.on('error', (error) => {
            if (!run.closed) this.#lose(run, EXIT.pageHung, `WhatsApp's page crashed (${error.message})`);
        });
        page.on('response', () => {
            run.answered = true;
        });
        page.on('framenavigated', (frame) => {
            if (run.closed || frame !== page.mainFrame()) return;
            if (frame.url().includes('post_logout=1')) this.#loggedOut(run);
            else if (this.#state.name === 'ready') {
                run.reloading = true;
                this.#state.enter('disconnected', { message: 'WhatsApp Web loads its page again' });
                this.#expectReady(run);
            }
        });
    }

    /** A code or a login has come: from now on the page itself is probed. */
    #started(run) {
        run.cancel('start');
        this.#failures = 0;
        if (run.probedAt === 0) this.#probe(run);
    }

    #codeCame(run, text) {
        if (!isQr(text)) {
            this.#log.warning('the page gave something that is not a code');
            return;
        }
        if (this.#login === true) {
            // A page that shows a code has no login any more, whatever our note says.
            this.#loggedOut(run);
            return;
        }
        this.#setLogin(false);
        this.#started(run);
        run.linking.qr(text);
    }

    #pairingCodeCame(run, code) {
        this.#setLogin(false);
        this.#started(run);
        this.#pairing?.resolve(run.linking.pairingCode(code));
    }

    #pairingFailed(run, error) {
        this.#log.warning('WhatsApp gave no pairing code', { reason: error?.message ?? error });
        this.#pairing?.reject(reason.pairingRefused());
        this.#close(run);
        this.#rest(WAITING);
    }

    #socketChanged(run, state) {
        this.#log.debug('connection', { state });
        const now = this.#state.name;
        if (['authenticated', 'ready', 'disconnected'].includes(now))
            this.#linkedSocketChanged(run, state, now);
        else run.linking.socket(state);
    }

    #linkedSocketChanged(run, state, now) {
        if (run.unlinking) return;
        if (!PASSING.has(state)) {
            this.#lose(run, EXIT.disconnected, `disconnected by WhatsApp (${state})`);
        } else if (now === 'ready' && state !== 'CONNECTED') {
            this.#state.enter('disconnected', {
                message: `connection to WhatsApp lost (${state}), reconnecting`,
            });
        } else if (now === 'disconnected' && state === 'CONNECTED' && run.info !== null && !run.reloading) {
            this.#state.enter('ready', { message: run.info });
        }
    }

    #loginFound(run, message) {
        if (run.unlinking) return;
        this.#setLogin(true);
        this.#started(run);
        this.#pairing = null;
        if (this.#state.enter('authenticated', { message })) this.#expectReady(run);
    }

    #expectReady(run) {
        run.after('ready', this.#config.readyTimeout * 1000, () =>
            this.#lose(run, EXIT.neverReady, `linked, but not ready in ${this.#config.readyTimeout} s`),
        );
    }

    #loading(run, percent) {
        const progress = Math.max(0, Math.min(100, Math.round(Number(percent) || 0)));
        if (this.#state.name !== 'authenticated') {
            if (this.#state.name === 'pairing') this.#state.update({ progress });
            return;
        }
        // Slow is not dead: a big account takes its time, and it shows that it moves.
        this.#state.update({ progress, message: `linked, WhatsApp is loading (${progress} %)` });
        this.#expectReady(run);
    }

    #ready(run) {
        run.cancel('ready');
        run.reloading = false;
        const info = run.client.info ?? {};
        const phone = info.wid?.user ?? null;
        const name = info.pushname ? ` (${info.pushname})` : '';
        run.info = `linked as ${maskPhone(phone)}${name}, ready`;
        this.#setLogin(true);
        this.#started(run);
        this.#state.enter('ready', {
            message: run.info,
            phone_number: phone,
            pushname: info.pushname ?? null,
            platform: info.platform ?? null,
        });
    }

    #probe(run) {
        run.probe({
            look: () => run.linking.answered && !this.linked,
            onSeen: (seen) => {
                if (seen.passkey) run.linking.passkey();
            },
            onHung: () => {
                const { probeInterval } = this.#config;
                this.#lose(run, EXIT.pageHung, `WhatsApp's page has not answered for ${probeInterval} s`);
            },
        });
    }

    // ---- endings --------------------------------------------------------------------------------

    /** What only a fresh start can mend: show it, and end the process. */
    #lose(run, code, message) {
        if (run.closed || this.#ending) return;
        this.#ending = true;
        this.#state.enter('disconnected', { message, hint: 'the server restarts by itself' });
        this.#close(run);
        this.#end(code, message);
    }

    async #silent(run) {
        const limit = this.#config.startTimeout;
        const seen = run.answered ? await withLimit(run.client.look(), 3000, 'a look').catch(() => ({})) : {};
        if (run.closed) return;
        if (!run.answered) {
            this.#failed(run, reason.noAnswer(limit));
            return;
        }
        const browser = run.path.split('/').at(-1);
        const what = seen.refused ? `refuses ${browser}` : `gave neither code nor login in ${limit} s`;
        const next =
            run.linking.attempt > 0 || this.#login === true
                ? null
                : await this.#choice
                      .passOn(run.candidates, run.path, `web.whatsapp.com ${what}`)
                      .catch(() => null);
        if (next !== null)
            this.#log.warning('the next start uses another browser', { path: next, instead_of: run.path });
        this.#failed(run, reason.silent(what, next));
    }

    /** What a restart would not mend: close the browser, tell why, and try again later. */
    async #failed(run, error) {
        if (run.closed || this.#ending) return;
        if (run.browser !== null && BROWSER_GONE.test(error?.message)) {
            this.#lose(run, EXIT.browserLost, 'the browser ended unexpectedly');
            return;
        }
        run.mute();
        const why = error instanceof SessionError ? error : await this.#explain(run, error);
        if (this.#run !== run) return;
        this.#close(run);
        this.#settleError(why);
    }

    #explain(run, error) {
        return run.browser !== null || run.client === null ? reason.of(error) : run.diagnose();
    }

    #settleError(error) {
        const delay = Math.min(RETRY_FIRST_MS * 2 ** this.#failures, RETRY_MAX_MS);
        this.#failures += 1;
        this.#retryAt = Date.now() + delay;
        this.#pairing?.reject(error);
        const at = timestamp(this.#retryAt).slice(11, 19);
        this.#state.enter('error', {
            message: `${error.message}; next try at ${at} UTC`,
            cause: error.cause,
            hint: error.hint,
        });
        this.#retryTimer = setTimeout(() => this.#retry(error), delay);
    }

    #retry(error) {
        if (this.#run !== null || this.#ending) return;
        if (this.linked || Date.now() - this.#lastAsked <= QUIET_MS) this.#open();
        else this.#state.update({ message: `${error.message}; next try when somebody asks for a code` });
    }

    #loggedOut(run) {
        if (run.unlinking || this.#ending) return;
        if (!this.linked) return;
        this.#finishLogout('logged out on the phone; the session is deleted').catch((error) =>
            this.#log.error('the logout did not finish', { reason: error.message }),
        );
    }

    /** Close the browser, delete what it kept, and only then end: never delete under a living browser. */
    async #finishLogout(message) {
        if (this.#ending) return;
        this.#ending = true;
        clearTimeout(this.#retryTimer);
        clearTimeout(this.#idleTimer);
        this.#log.info('logging out');
        this.#state.enter('logged_out', {
            message,
            hint: 'ask for a code to link a phone again',
            linked: false,
            phone_number: null,
            pushname: null,
            platform: null,
        });
        const erased = (async () => {
            if (this.#run !== null) await this.#close(this.#run);
            else await this.#closing;
            await this.#noted;
            await this.#storage.erase();
        })();
        this.#closing = erased.catch(() => {});
        try {
            await erased;
        } catch (error) {
            const text = `logged out, but the session is not deleted: ${error.message}`;
            this.#state.update({ message: text, cause: error.cause, hint: error.hint });
            throw new SessionError(error.cause, text, error.hint);
        } finally {
            this.#end(EXIT.loggedOut, this.#state.picture().message);
        }
    }

    #rest(message) {
        this.#state.enter('generating', { message, attempt: 0 });
    }

    async #readLogin() {
        this.#login = await this.#storage.login();
        this.#loginRead = true;
        this.#state.update({ linked: this.linked });
    }

    #setLogin(login) {
        if (login === this.#login) return;
        this.#login = login;
        this.#state.update({ linked: this.linked });
        this.#note(login);
    }

    /** Write down what a start after a crash has to know of the login; one note after the other. */
    #note(login) {
        this.#noted = this.#noted
            .then(() => this.#storage.noteLogin(login))
            .catch((error) => this.#log.error(error.message, { cause: error.cause }));
    }

    #armIdle() {
        const left = this.#lastAsked + this.#config.idleTimeout * 1000 - Date.now();
        this.#idleTimer = setTimeout(
            () => {
                const asked = Date.now() - this.#lastAsked < this.#config.idleTimeout * 1000;
                if (asked || this.linked || this.#ending) this.#armIdle();
                else
                    this.#end(
                        EXIT.stopped,
                        `idle: nobody asked for a code for ${this.#config.idleTimeout} s`,
                    );
            },
            Math.max(1000, left),
        );
    }

    #newPairing(phone) {
        const pairing = { phone };
        pairing.promise = new Promise((resolve, reject) => {
            pairing.resolve = resolve;
            pairing.reject = (error) => {
                if (this.#pairing === pairing) this.#pairing = null;
                reject(error);
            };
        });
        pairing.promise.catch(() => {});
        return pairing;
    }
}

module.exports = { EXIT, Session };

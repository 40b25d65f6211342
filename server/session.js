'use strict';

/**
 * The life of the WhatsApp session: when a browser is opened, when it is closed, and which trouble is waited
 * out here and which ends the process so that systemd starts it afresh. What the browser tells comes through
 * watch.js; what a code becomes is in linking.js, what a login becomes in linked.js.
 *
 * A browser runs only for a stored login or while somebody asks for a code. Trouble that a restart cannot
 * mend (no browser, site unreachable, profile unusable) becomes state `error` and is tried again; trouble
 * that it can mend (browser lost, page hung) ends the process with a code of its own.
 */

const { BrowserChoice, browserEnvironment, browserVersion, findBrowsers } = require('./browser');
const { Demand } = require('./demand');
const { SessionError, withLimit } = require('./errors');
const { EXIT } = require('./exit');
const { Linked } = require('./linked');
const { Linking, PairingRequest } = require('./linking');
const { Login } = require('./login');
const { reason } = require('./reasons');
const { BrowserRun } = require('./run');
const { timestamp } = require('./state');
const { Watch } = require('./watch');

/** A `/qr` that comes after so long without any is a person, not a forgotten tab. */
const QUIET_MS = 60_000;
const RETRY_FIRST_MS = 30_000;
const RETRY_MAX_MS = 600_000;
const PAIRING_LIMIT_MS = 60_000;
const UNLINK_LIMIT_MS = 10_000;

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
    #login;
    #settled = false;
    /** Whether a browser is to be opened once that may be. */
    #wanted = false;
    #run = null;
    #closing = Promise.resolve();
    #ending = false;
    #demand = new Demand();
    #failures = 0;
    #retryAt = 0;
    #retryTimer = null;
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
        this.#login = new Login({ storage, log, onChange: (linked) => state.update({ linked }) });
    }

    get linked() {
        return this.#login.linked;
    }

    get opening() {
        return this.#run !== null && this.#run.linking.attempt === 0 && !this.linked;
    }

    get retries() {
        return this.#failures;
    }

    /** Tell whether WhatsApp's page is there and its modules can be called. */
    get initialized() {
        return this.#run !== null && this.#run.answeredAt > 0;
    }

    /** Tell whether all that should answer does: the condition of the watchdog's ping. */
    get alive() {
        return this.#run === null || this.#run.pageAnswers;
    }

    // ---- what others ask for --------------------------------------------------------------------

    /** Learn whether a login is stored. What stands in the way of that is told when a browser is opened. */
    async restore() {
        await this.#login.read().catch((error) => this.#log.error(error.message, { cause: error.cause }));
    }

    /** Have the browser tell its version ahead of time (a fifth of a second); trouble is told when needed. */
    async warmUp() {
        const path = await this.#choice.pick(await findBrowsers(this.#config.browser));
        await browserVersion(path, browserEnvironment(this.#storage.cacheDirectory));
    }

    /** From here on a browser may be opened, and is if somebody has asked: until now others came first. */
    settle() {
        this.#settled = true;
        if (this.#wanted) this.#open(this.#pairing?.phone);
    }

    /** Begin: open a browser if a login is stored (or may be), else wait to be asked. */
    start() {
        const limit = this.#config.idleTimeout;
        this.#demand.whenIdle(
            limit * 1000,
            () => this.linked || this.#ending,
            () => this.#end(EXIT.stopped, `idle: nobody asked for a code for ${limit} s`),
        );
        if (this.#run !== null) return;
        if (this.linked || !this.#login.isRead) this.#open();
        else this.#rest(WAITING);
    }

    /** Somebody looks for a code. Opens a browser unless that somebody may be a tab left open. */
    ask() {
        const quiet = this.#demand.ask() > QUIET_MS;
        if (this.#run !== null || this.#ending) return;
        const wanted = {
            generating: true,
            qr_timeout: quiet,
            passkey_required: quiet,
            error: performance.now() >= this.#retryAt,
        };
        if (wanted[this.#state.name]) this.#open();
    }

    /** Somebody asks for a code right now. Does nothing when a browser runs already. */
    askNow() {
        this.#demand.ask();
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
        this.#demand.ask();
        if (this.#ending) throw reason.stopping();
        if (this.linked && this.#login.isRead) throw reason.alreadyLinked();
        if (this.#pairing?.phone !== phone) this.#startOver(reason.superseded(), phone);
        return withLimit(this.#pairing.code, PAIRING_LIMIT_MS, 'the pairing code');
    }

    /** Go from the pairing code, asked for or shown, back to codes to scan: unless the phone has answered. */
    scanInstead() {
        this.#demand.ask();
        if (this.#pairing === null || this.#ending || this.#run?.linking.answered) return;
        this.#startOver(reason.scanInstead());
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
        this.#demand.close();
        this.#refusePairing(reason.stopping());
        if (this.#run !== null) this.#close(this.#run);
        await Promise.all([this.#closing, this.#login.noted]);
    }

    // ---- opening and closing a browser ----------------------------------------------------------

    #open(phone = null) {
        if (this.#ending) return;
        if (!this.#settled) {
            this.#wanted = true;
            return;
        }
        clearTimeout(this.#retryTimer);
        const run = new BrowserRun({
            config: this.#config,
            storage: this.#storage,
            choice: this.#choice,
            log: this.#log,
            phone,
        });
        const session = this.#handle(run);
        const shared = { run, config: this.#config, state: this.#state, log: this.#log, session };
        run.linking = new Linking(shared);
        run.linked = new Linked(shared);
        run.watch = new Watch(shared);
        this.#run = run;
        this.#state.enter('generating', { message: 'starting the browser', attempt: 0 });
        this.#drive(run).catch((error) => this.#failed(run, error));
    }

    /** What a run may decide, and tell, about the session. */
    #handle(run) {
        return {
            login: this.#login,
            onMessage: this.#onMessage,
            failed: (error) => this.#failed(run, error),
            silent: () => this.#silent(run),
            lose: (code, why) => this.#lose(run, code, why),
            loggedOut: () => this.#loggedOut(run),
            succeeded: () => {
                this.#failures = 0;
            },
            linked: () => {
                this.#pairing = null;
            },
            paired: (code) => this.#pairing?.resolve(code),
            unpaired: (error) => this.#unpaired(run, error),
            giveUp: () => {
                this.#pairing = null;
                this.#close(run);
            },
        };
    }

    /** Go on with another browser, for the pairing code of a phone or for codes to scan. */
    #startOver(why, phone = null) {
        this.#refusePairing(why);
        if (this.#run !== null) this.#close(this.#run);
        if (phone !== null) this.#pairing = new PairingRequest(phone);
        this.#open(phone);
    }

    #refusePairing(error) {
        this.#pairing?.reject(error);
        this.#pairing = null;
    }

    async #drive(run) {
        await this.#closing;
        if (!this.#login.isRead) await this.#login.read();
        // Whoever asks right after the start comes before the library is loaded: that blocks everything else.
        await run.prepare();
        if (!this.linked) await this.#storage.noteLogin(false);
        const { SessionClient } = await this.#loadLibrary();
        run.makeClient(SessionClient);
        if (run.closed) return;
        this.#state.update({ browser: { path: run.path, running: false } });
        run.watch.start();
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
            run.linking.attempt > 0 || this.#login.known === true
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
        if (error?.cause === 'profile_missing') {
            this.#lose(run, EXIT.unexpected, error.message);
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

    #unpaired(run, error) {
        this.#log.warning('WhatsApp gave no pairing code', { reason: error?.message ?? error });
        this.#refusePairing(reason.pairingRefused());
        this.#close(run);
        this.#rest(WAITING);
    }

    #settleError(error) {
        const delay = Math.min(RETRY_FIRST_MS * 2 ** this.#failures, RETRY_MAX_MS);
        this.#failures += 1;
        this.#retryAt = performance.now() + delay;
        this.#refusePairing(error);
        const at = timestamp(Date.now() + delay).slice(11, 19);
        this.#state.enter('error', {
            message: `${error.message}; next try at ${at} UTC`,
            cause: error.cause,
            hint: error.hint,
        });
        this.#retryTimer = setTimeout(() => this.#retry(error), delay);
    }

    #retry(error) {
        if (this.#run !== null || this.#ending) return;
        if (this.linked || this.#demand.silence <= QUIET_MS) this.#open();
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
        this.#demand.close();
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
            await this.#login.noted;
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
}

module.exports = { Session };

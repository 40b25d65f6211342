'use strict';

/**
 * The life of the WhatsApp session: when a browser is opened, when it is closed, and what is done about
 * trouble. What the browser tells comes through watch.js; what a code becomes is in linking.js, what a login
 * becomes in linked.js; what is tried against trouble, and when, in recovery.js.
 *
 * A browser runs only for a stored login or while somebody asks for a code. Trouble is mended in this process
 * as long as that helps: the page is loaded anew, then another browser opened, after growing pauses. Only
 * when that has failed for minutes the process ends, so that systemd starts another.
 */

const { setTimeout: pause } = require('node:timers/promises');

const { BrowserChoice, browserEnvironment, browserVersion, findBrowsers } = require('./browser');
const { Demand } = require('./demand');
const { BROWSER_GONE, PAGE_CRASHED, PAGE_GONE, SessionError, withLimit } = require('./errors');
const { EXIT } = require('./exit');
const { Linked } = require('./linked');
const { Linking, PairingRequest } = require('./linking');
const { Login } = require('./login');
const { reason } = require('./reasons');
const { Recovery } = require('./recovery');
const { BrowserRun } = require('./run');
const { timestamp } = require('./state');
const { Watch } = require('./watch');

/** A `/qr` that comes after so long without any is a person, not a forgotten tab. */
const QUIET_MS = 60_000;
const PAIRING_LIMIT_MS = 60_000;
/** How long no pairing code is asked for after WhatsApp has said that it was asked too often; then twice. */
const PAIRING_PAUSE_MS = 300_000;
const PAIRING_PAUSE_MAX_MS = 3_600_000;
/** So long a call waits for a session that comes back, and so much of its time is left for its work. */
const BACK_LIMIT_MS = 10_000;
const WORK_LEFT_MS = 2_000;
/** After so long it is known what became of a page that went away under a call. */
const GONE_MS = 300;
/** So many times in a row a page has to show a code before a login that it should have is given up. */
const MISSING_LOGINS = 3;
const UNLINK_LIMIT_MS = 10_000;
const LOOK_LIMIT_MS = 3_000;

/** How WhatsApp's server, not its page, says that it was asked too often. */
const TOO_OFTEN = /\b429\b|rate-?_?over-?_?limit|too.?many/i;

const WAITING = 'waiting until somebody asks for a code';
const ASK_FOR_CODE = 'ask for a code to link a phone again';

/** The time of day in so many milliseconds, in UTC. */
const clockTime = (ms) => timestamp(Date.now() + ms).slice(11, 19);

/** What is shown of a reason while something is tried. */
const explain = ({ message, cause, hint }, next) => ({ message: `${message}; ${next}`, cause, hint });

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
    /** Whether it was decided if a browser is opened. */
    #begun = false;
    /** Whether a browser is to be opened once that may be. */
    #wanted = false;
    #run = null;
    #closing = Promise.resolve();
    #ending = false;
    #demand = new Demand();
    #recovery = new Recovery();
    /** What is being mended. */
    #why = null;
    #retryAt = 0;
    #retryTimer = null;
    #pairing = null;
    #pairingPause = PAIRING_PAUSE_MS;
    #pairingFrom = 0;
    #missingLogins = 0;
    /** Why a browser did not start, and which: to hear that, it is started once more. */
    #diagnosis = { path: null, why: null };

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
        return this.#recovery.round;
    }

    /** Tell whether WhatsApp's page is there and its modules can be called. */
    get initialized() {
        return this.#run !== null && this.#run.answeredAt > 0;
    }

    /** Tell whether all that should answer does: the condition of the watchdog's ping. */
    get alive() {
        return this.#run === null || this.#run.probed;
    }

    // ---- what others ask for --------------------------------------------------------------------

    /** Learn whether a login is stored. What stands in the way of that is told when a browser is opened. */
    async restore() {
        await this.#login.read().catch((error) => this.#log.error(error.message, { cause: error.cause }));
        this.#recovery.resume(this.#storage.trouble());
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
        this.#begun = true;
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
        const wait = this.#pairingFrom - performance.now();
        if (wait > 0) throw reason.pairingLimited(clockTime(wait));
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
     * Work with the library while the session is ready. A linked session that is away for a moment (its page
     * loads again, or the connection is lost) is waited for.
     *
     * @param {(client: object, leftMs: number) => Promise<any>} work
     * @param {number} limitMs for waiting and work together
     * @param {{isReading: boolean}} options whether the work changes nothing: if its page goes away under it,
     *   it is done once more in the next one
     * @throws {SessionError} `not_connected`
     * @throws {TimeLimitError}
     */
    async use(work, limitMs, what, { isReading = false } = {}) {
        const end = performance.now() + limitMs;
        const left = () => end - performance.now();
        for (let first = true; ; first = false) {
            await this.#untilReady(Math.min(BACK_LIMIT_MS, left() - WORK_LEFT_MS));
            const run = this.#run;
            try {
                return await withLimit(
                    run.working(() => work(run.client, left())),
                    left(),
                    what,
                );
            } catch (error) {
                if (!isReading || !first || !PAGE_GONE.test(error?.message)) throw error;
                await pause(GONE_MS);
            }
        }
    }

    /** Wait until the session is ready, as long as it may come back in that time. @throws {SessionError} */
    async #untilReady(limitMs) {
        if (this.#state.name === 'ready' && this.#run !== null) return;
        if (!this.linked) throw reason.notConnected();
        const end = performance.now() + limitMs;
        const comesBack = () =>
            this.linked && !this.#ending && (!this.#begun || this.#run !== null || this.#retryAt < end);
        let look;
        const decided = new Promise((resolve) => {
            look = () => {
                if (this.#state.name === 'ready' || !comesBack()) resolve();
            };
        });
        this.#state.on('state', look);
        look();
        await withLimit(decided, limitMs, 'a session that comes back').catch(() => {});
        this.#state.off('state', look);
        if (this.#state.name !== 'ready' || this.#run === null) throw reason.notNow(this.#state.picture());
    }

    /**
     * Tell whether an error that nobody waits for comes from a page, or browser, that has gone: what that
     * means is found out, and mended, elsewhere.
     */
    expects(error) {
        return PAGE_GONE.test(String(error?.message ?? error));
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

    #open(phone = null, attempt = 0) {
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
        run.linking = new Linking({ ...shared, attempt });
        run.linked = new Linked(shared);
        run.watch = new Watch(shared);
        this.#run = run;
        this.#retryAt = 0;
        if (this.#isRecovering) this.#state.update({ message: `${this.#why.message}; trying again now` });
        else this.#state.enter('generating', { message: 'starting the browser', attempt });
        this.#drive(run).catch((error) => this.#failed(run, error));
    }

    /** What a run may decide, and tell, about the session. */
    #handle(run) {
        return {
            login: this.#login,
            onMessage: this.#onMessage,
            failed: (error) => this.#failed(run, error),
            silent: () => this.#silent(run),
            trouble: (kind, why) => this.#trouble(run, kind, why),
            reload: () => this.#reload(run),
            loggedOut: (why, words) => this.#loggedOut(run, why, words),
            loginMissing: () => this.#loginMissing(run),
            succeeded: () => {
                if (!this.linked) this.#recovery.calm();
            },
            linked: () => {
                this.#pairing = null;
                this.#missingLogins = 0;
            },
            ready: () => {
                this.#recovery.ready();
                this.#why = null;
                run.after('calm', this.#recovery.calmIn, () => this.#forgetTrouble());
            },
            paired: (code) => {
                this.#pairing?.give(code);
                this.#pairingPause = PAIRING_PAUSE_MS;
            },
            unpaired: (error) => this.#unpaired(run, error),
            giveUp: () => {
                this.#pairing = null;
                this.#close(run);
            },
            serious: () => this.#recovery.serious,
        };
    }

    /** Whether a linked session is being brought back: what it shows stays until it has a login again. */
    get #isRecovering() {
        return this.#why !== null && this.linked && ['disconnected', 'error'].includes(this.#state.name);
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
        this.#recovery.started();
        await run.launch().catch((error) => {
            // The library was still at its first page when that was given up for another one.
            if (run.era === 0) throw error;
        });
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

    /** Something is wrong with a run: show it, and do what recovery.js says. */
    #trouble(run, kind, why) {
        if (run.closed || run.unlinking || this.#ending) return;
        const { linked } = this;
        this.#why = why;
        const next = this.#recovery.next(kind, { linked, page: run.browser !== null });
        if (next.step === 'reload') {
            this.#reload(run, why);
            return;
        }
        const { attempt } = run.linking;
        this.#close(run);
        this.#refusePairing(why);
        if (next.pause === 0 && (linked || this.#demand.silence <= QUIET_MS)) {
            this.#show(next, linked, explain(why, 'opening another browser'));
            this.#open(null, attempt);
            return;
        }
        const what = next.step === 'process' ? 'the server starts anew' : 'next try';
        const text = `${what} at ${clockTime(next.pause)} UTC`;
        this.#retryAt = performance.now() + next.pause;
        this.#show(next, true, explain(why, text));
        this.#retryTimer = setTimeout(() => this.#retry(next, why, attempt), next.pause);
    }

    /** Show trouble if it `lasts`, and have it logged: a change of the state is logged by itself. */
    #show({ error }, lasts, fields) {
        const before = this.#state.name;
        if (lasts) this.#state.enter(error ? 'error' : 'disconnected', fields);
        if (this.#state.name === before) this.#log.warning(fields.message, { cause: fields.cause });
    }

    #retry({ step, exit }, why, attempt) {
        if (this.#run !== null || this.#ending) return;
        if (step === 'process' && this.linked) this.#leave(exit, why.message);
        else if (this.linked || this.#wasAsked) this.#open(null, attempt);
        else this.#state.update({ message: `${why.message}; next try when somebody asks for a code` });
    }

    /** Whether somebody asked shortly before the next try was due, however late its timer runs. */
    get #wasAsked() {
        return this.#demand.silence - (performance.now() - this.#retryAt) <= QUIET_MS;
    }

    /** Load the page anew in the same browser; why, if something was wrong with it. */
    async #reload(run, why = null) {
        if (run.closed || run.reloading) return;
        run.linking.reloads();
        if (why !== null) {
            this.#log.warning(why.message, { cause: why.cause, next: 'its page is loaded anew' });
            run.linked.reloads(explain(why, 'loading its page anew').message, why);
        }
        try {
            await run.reload();
        } catch (error) {
            if (error instanceof SessionError) this.#failed(run, error);
            else this.#trouble(run, 'page_lost', why ?? reason.pageLost(error?.message ?? error));
        }
    }

    /** The session was ready for long enough: the next process has nothing to go on with. */
    #forgetTrouble() {
        if (this.#state.name !== 'ready') return;
        this.#storage
            .forgetTrouble()
            .catch((error) => this.#log.warning(error.message, { cause: error.cause }));
    }

    /** End the process, so that systemd starts another: it goes on where this one stopped. */
    #leave(code, message) {
        this.#ending = true;
        this.#state.enter('disconnected', { message, hint: 'the server restarts by itself' });
        if (this.#run !== null) this.#close(this.#run);
        this.#storage.noteTrouble(this.#recovery.note()).then(
            () => this.#end(code, message),
            (error) => {
                this.#log.warning(error.message, { cause: error.cause });
                this.#end(code, message);
            },
        );
    }

    /**
     * A page has found no login where one should be. That alone deletes nothing: a disk that was full is
     * enough for it.
     *
     * @returns {boolean} whether it is looked at again; false = the login is given up
     */
    #loginMissing(run) {
        this.#missingLogins += 1;
        if (this.#missingLogins >= MISSING_LOGINS) {
            this.#log.error('the login is given up; its profile is kept', { cause: 'login_missing' });
            this.#state.enter('generating', { message: 'the login is gone; waiting for a code' });
            return false;
        }
        this.#trouble(run, 'login_missing', reason.loginMissing());
        return true;
    }

    async #silent(run) {
        const limit = this.#config.startTimeout;
        const look = () => withLimit(run.client.look(), LOOK_LIMIT_MS, 'a look').catch(() => ({}));
        const seen = run.answered ? await look() : {};
        if (run.closed) return;
        if (!run.answered) {
            this.#failed(run, reason.noAnswer(limit));
            return;
        }
        const browser = run.path.split('/').at(-1);
        const refused = seen.refused === true;
        const what = refused ? `refuses ${browser}` : `gave neither code nor login in ${limit} s`;
        const next =
            run.linking.attempt > 0 || this.#login.known === true
                ? null
                : await this.#choice
                      .passOn(run.candidates, run.path, `web.whatsapp.com ${what}`)
                      .catch(() => null);
        if (next !== null)
            this.#log.warning('the next start uses another browser', { path: next, instead_of: run.path });
        const kind = run.linking.attempt > 0 ? 'no_code' : 'no_start';
        this.#failed(run, reason.silent(what, next, refused), kind);
    }

    /** A run could not be started, or not to its end: tell why, and try again. */
    async #failed(run, error, kind = 'no_start') {
        if (run.closed || this.#ending) return;
        if (run.browser !== null && BROWSER_GONE.test(error?.message)) {
            this.#trouble(run, 'browser_lost', reason.browserLost());
            return;
        }
        if (PAGE_CRASHED.test(error?.message)) {
            this.#trouble(run, 'page_crashed', reason.pageCrashed(error.message));
            return;
        }
        if (error?.cause === 'profile_missing') {
            // Only systemd can make the folder anew.
            this.#leave(EXIT.unexpected, error.message);
            return;
        }
        run.hush();
        const why = error instanceof SessionError ? error : await this.#explain(run, error);
        if (this.#run === run) this.#trouble(run, kind, why);
    }

    async #explain(run, error) {
        if (run.browser !== null || run.client === null) return reason.of(error);
        if (this.#diagnosis.path !== run.path) {
            this.#diagnosis = { path: run.path, why: await run.diagnose() };
        }
        return this.#diagnosis.why;
    }

    #unpaired(run, error) {
        const words = String(error?.message ?? error);
        this.#log.warning('WhatsApp gave no pairing code', { reason: words });
        let why = reason.pairingRefused();
        if (TOO_OFTEN.test(words)) {
            this.#pairingFrom = performance.now() + this.#pairingPause;
            why = reason.pairingLimited(clockTime(this.#pairingPause));
            this.#pairingPause = Math.min(2 * this.#pairingPause, PAIRING_PAUSE_MAX_MS);
        }
        this.#refusePairing(why);
        this.#close(run);
        this.#state.enter('generating', {
            message: `${why.message}; ${WAITING}`,
            attempt: 0,
            cause: why.cause,
            hint: why.hint,
        });
    }

    #loggedOut(run, why, words) {
        if (run.unlinking || this.#ending) return;
        if (!this.linked) return;
        const { message, hint } = reason.loggedOut(why, words);
        this.#finishLogout(`${message}; the session is deleted`, hint).catch((error) =>
            this.#log.error('the logout did not finish', { reason: error.message }),
        );
    }

    /** Close the browser, delete what it kept, and only then end: never delete under a living browser. */
    async #finishLogout(message, hint = ASK_FOR_CODE) {
        if (this.#ending) return;
        this.#ending = true;
        clearTimeout(this.#retryTimer);
        this.#demand.close();
        this.#log.info('logging out');
        this.#state.enter('logged_out', {
            message,
            hint,
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

'use strict';

/**
 * The life of the WhatsApp session: when a browser is opened, when it is closed, and what is done about
 * trouble. Events of the browser come through page_events.js, which has the phases before and after the
 * login: phase_linking.js and phase_linked.js. recovery.js decides what is tried against trouble, and when;
 * retry.js has the next try. pairing.js has the callers that wait for a pairing code.
 *
 * A browser runs only for a stored login or while somebody asks for a code. Trouble is handled in this
 * process as long as that helps: the page is reloaded, then another browser opened, after growing pauses.
 * Only when that has failed for minutes does the process end, so that systemd starts another.
 */

const { setTimeout: pause } = require('node:timers/promises');

const { BrowserChoice } = require('./browser');
const { BrowserVersions } = require('./browser_version');
const { Demand } = require('./interest');
const { describeSession } = require('./describe');
const {
    BROWSER_GONE,
    PAGE_CRASHED,
    PAGE_GONE,
    SessionError,
    codeOf,
    explain,
    messageOf,
    withLimit,
} = require('./errors');
const { EXIT } = require('./exit');
const { Login } = require('./stored_login');
const { Pairing } = require('./pairing');
const { reason } = require('./session_errors');
const { Recovery, isOfPage } = require('./recovery');
const { Retry, clockTime } = require('./retry');
const { BrowserRun } = require('./browser_run');
const { LIMITS, Turn } = require('./turn');
const { Watch } = require('./page_events');

/** A `/qr` that comes after so long without any is a person, not a forgotten tab. */
const QUIET_MS = 60_000;
/** How long a call waits for a session that comes back, and how much of its time is left for its work. */
const BACK_LIMIT_MS = 10_000;
const WORK_LEFT_MS = 2_000;
/** After so long it is known what happened to a page that went away during a call. */
const GONE_MS = 300;
/** How many times in a row a page must show a code before the login that it should have is given up. */
const MISSING_LOGINS = 3;
const LOOK_LIMIT_MS = 3_000;

const WAITING = 'waiting until somebody asks for a code';
const WAITS_FOR_TURN = 'waiting for its turn to start the browser: not all sessions start at once';
const TRIES_IN_TURN = 'waiting for its turn to try again';
const ASK_FOR_CODE = 'ask for a code to link a phone again';
const NOT_DELETED = { cause: 'profile_error', hint: 'delete the folder of this session' };

class Session {
    #config;
    #storage;
    #safekeeping;
    #erase;
    #state;
    #log;
    #onEvent;
    #end;
    #loadLibrary;
    #startBrowser;
    #choice;
    #versions;
    /** Called when the first browser is started, or nobody wants one, or it cannot be. */
    #begunFirst = () => {};
    #login;
    #settled = false;
    /** Whether it was decided if a browser is opened. */
    #begun = false;
    /** Whether a browser is to be opened once that may be. */
    #wanted = false;
    /** The browser that runs, with who listens to it. @type {Watch|null} */
    #watch = null;
    /** @type {Promise<unknown>} */
    #closing = Promise.resolve();
    #ending = false;
    #demand = new Demand();
    #turn;
    #recovery = new Recovery();
    /** The trouble that is being handled. @type {SessionError|null} */
    #why = null;
    /** The next try, while no browser runs because of trouble. */
    #retry = new Retry((next) => this.#tryAgain(next));
    #pairing = new Pairing();
    #missingLogins = 0;
    /**
     * @param {object} options
     * @param {import('./types').Config} options.config
     * @param {import('./storage').Storage} options.storage
     * @param {import('./safekeeping').Safekeeping} options.safekeeping
     * @param {import('./state').SessionState} options.state
     * @param {import('./types').Log} options.log
     * @param {import('./types').StartBrowser} options.startBrowser
     * @param {() => Promise<void>} options.erase delete what is kept of the session
     * @param {(code: number, why: string) => void} options.end finish the process
     * @param {() => Promise<{SessionClient: import('./types').SessionClientClass}>} options.loadLibrary
     *   called when the library is needed
     * @param {import('./types').RunEvents['onEvent']} options.onEvent takes what happens (describe.js),
     *   with the client that can be asked about its people
     */
    constructor({
        config,
        storage,
        safekeeping,
        erase,
        state,
        log,
        end,
        loadLibrary,
        startBrowser,
        onEvent,
    }) {
        this.#config = config;
        this.#storage = storage;
        this.#safekeeping = safekeeping;
        this.#erase = erase;
        this.#state = state;
        this.#log = log;
        this.#end = end;
        this.#loadLibrary = loadLibrary;
        this.#onEvent = onEvent;
        this.#choice = new BrowserChoice(config.stateDirectory);
        this.#versions = new BrowserVersions(storage.authDirectory);
        this.#startBrowser = startBrowser;
        this.#turn = new Turn(state, config.turnWait);
        state.on('state', () => onEvent(describeSession(state.document()), null));
        this.#login = new Login({ storage, log, onChange: (linked) => state.update({ linked }) });
    }

    get linked() {
        return this.#login.linked;
    }

    get #run() {
        return this.#watch?.run ?? null;
    }

    /** The codes of the running browser. */
    get #linking() {
        return this.#watch?.linking ?? null;
    }

    /** How many codes the browser that runs has shown. */
    get #attempt() {
        return this.#linking?.attempt ?? 0;
    }

    get opening() {
        return this.#run !== null && this.#attempt === 0 && !this.linked;
    }

    get retries() {
        return this.#recovery.round;
    }

    /** Return whether WhatsApp's page is there and its modules can be called. */
    get initialized() {
        return this.#run !== null && this.#run.answeredAt > 0;
    }

    /** Return whether all that should answer does: the condition of the watchdog's ping. */
    get alive() {
        return this.#run === null || this.#run.probed;
    }

    // ---- what others ask for --------------------------------------------------------------------

    /** Find out whether a login is stored. An error in that is reported when a browser is opened. */
    async restore() {
        await this.#login.read().catch((error) => this.#log.error(error.message, { cause: error.cause }));
        this.#recovery.resume(this.#storage.trouble());
    }

    /**
     * From here on a browser may be opened, and is if somebody has asked: until now others came first.
     *
     * @returns {Promise<void>} resolves when that one is started, or cannot be
     */
    settle() {
        this.#settled = true;
        if (!this.#wanted) return Promise.resolve();
        return new Promise((resolve) => {
            this.#begunFirst = resolve;
            this.#open(this.#pairing.phone);
        });
    }

    /** Begin: open a browser if a login is stored (or may be), else wait to be asked. */
    start() {
        const limit = this.#config.idleTimeout;
        this.#demand.whenIdle(
            limit * 1000,
            () => this.linked || this.#ending || Boolean(this.#linking?.step),
            () => this.#end(EXIT.stopped, `idle: nobody asked for a code for ${limit} s`),
        );
        this.#begun = true;
        // Somebody has asked already, and may have failed: that remains shown.
        const isTried = this.#run !== null || this.#retry.isSet;
        if (!isTried && (this.linked || !this.#login.isRead)) {
            this.#state.enter('generating', { message: WAITS_FOR_TURN, attempt: 0 });
            this.#turn.take(() => this.#open());
            return;
        }
        this.#turn.forgo();
        if (!isTried) this.#rest(WAITING);
    }

    /** systemd knows that this server is up, and so may a daemon, which gives turns. */
    known() {
        this.#turn.expect();
    }

    /** It is this session's turn to start its browser. */
    begin() {
        this.#turn.come();
    }

    /** A limit of the host leaves no room for its browser: its turn is still to come. */
    wait(/** @type {keyof typeof LIMITS} */ limit) {
        if (!this.#turn.hold()) return;
        const message = LIMITS[limit];
        this.#state.update({ message: this.#why === null ? message : `${this.#why.message}; ${message}` });
    }

    /** A listener will say when its turn comes. @returns {() => void} to be called at the end */
    followTurns() {
        return this.#turn.follow();
    }

    /** Somebody looks for a code. Opens a browser unless that somebody may be a tab left open. */
    ask() {
        const quiet = this.#demand.ask() > QUIET_MS;
        this.#linking?.step?.followed();
        if (this.#run !== null || this.#ending) return;
        /** @type {Partial<Record<import('./types').StateName, boolean>>} */
        const wanted = {
            generating: !this.#turn.isAwaited,
            qr_timeout: quiet,
            error: performance.now() >= this.#retry.at && !this.#turn.isAwaited,
        };
        if (wanted[this.#state.name]) this.#open();
    }

    /**
     * Somebody asks for a code right now. Does nothing if a browser runs already. If many have failed, the
     * next try only comes sooner.
     */
    askNow() {
        this.#demand.ask();
        this.#linking?.step?.followed();
        if (this.#run !== null || this.#ending) return;
        const wait = this.#recovery.askedIn;
        if (wait === 0 || !this.#retry.isSet) this.#open();
        else this.#hasten(wait);
    }

    /**
     * Get a pairing code for a phone. A code of the same phone that is still valid is given again. It ends
     * a passkey step: somebody starts over.
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
        this.#pairing.check();
        if (this.#pairing.phone !== phone || this.#linking?.step) {
            this.#refuseIfHeld();
            this.#startOver(reason.superseded(), phone);
        }
        return this.#pairing.code();
    }

    /** Go from the pairing code, asked for or shown, back to codes to scan: unless the phone has answered. */
    scanInstead() {
        this.#demand.ask();
        if (this.#pairing.phone === null || this.#ending || this.#linking?.answered) return;
        this.#scanInstead();
    }

    #scanInstead() {
        const why = this.#why;
        const wait = this.#askedIn;
        if (wait === 0 || why === null) {
            this.#startOver(reason.scanInstead());
            return;
        }
        this.#pairing.refuse(reason.scanInstead());
        if (this.#run !== null) this.#close(this.#run);
        this.#tryLater({ step: 'browser', exit: EXIT.browserLost, error: true, pause: wait }, why, 0);
    }

    /**
     * Follow the step in which WhatsApp wants a passkey.
     *
     * @returns {import('./passkey').PasskeyStep|null} null = it wants none
     */
    followPasskey() {
        this.#demand.ask();
        const step = this.#linking?.step ?? null;
        if (step === null || this.#ending) return null;
        step.followed();
        return step;
    }

    /**
     * Unlink the phone, delete the session, and end the process with its own code.
     *
     * @returns {Promise<string>} what was done, in a sentence
     */
    async logout() {
        const run = this.#run;
        let unlinked = false;
        if (run !== null && this.linked && this.initialized && !this.#ending) {
            unlinked = await run.unlink();
        }
        const message =
            unlinked || !this.linked
                ? 'logged out; the session is deleted'
                : 'the session is deleted here, but the phone could not be notified: remove the device there';
        await this.#finishLogout(message);
        return message;
    }

    /**
     * Work with the library while the session is ready. A linked session that is away for a moment (its page
     * reloads, or the connection is lost) gets time to come back.
     *
     * @template Result
     * @param {(client: import('./types').SessionClient, leftMs: number) => Promise<Result>} work
     * @param {number} limitMs for waiting and work together
     * @param {string} what that is, for the error after the limit
     * @param {object} [options]
     * @param {boolean} [options.isReading] whether the work changes nothing: if its page goes away under it,
     *   it is done once more in the next one
     * @returns {Promise<Result>}
     * @throws {SessionError} `not_connected`
     * @throws {TimeLimitError}
     */
    async use(work, limitMs, what, { isReading = false } = {}) {
        const end = performance.now() + limitMs;
        const left = () => end - performance.now();
        for (let first = true; ; first = false) {
            const run = await this.#untilReady(Math.min(BACK_LIMIT_MS, left() - WORK_LEFT_MS));
            try {
                return await withLimit(
                    run.working(() => work(run.client, left())),
                    left(),
                    what,
                );
            } catch (error) {
                if (!isReading || !first || !PAGE_GONE.test(messageOf(error))) throw error;
                await pause(GONE_MS);
            }
        }
    }

    /**
     * Wait until the session is ready, as long as it may come back in that time.
     *
     * @param {number} limitMs
     * @returns {Promise<BrowserRun>} what runs then
     * @throws {SessionError}
     */
    async #untilReady(limitMs) {
        if (this.#state.name === 'ready' && this.#run !== null) return this.#run;
        if (!this.linked) throw reason.notConnected();
        const end = performance.now() + limitMs;
        const comesBack = () =>
            this.linked && !this.#ending && (!this.#begun || this.#run !== null || this.#retry.at < end);
        let look = () => {};
        const decided = new Promise((resolve) => {
            look = () => {
                if (this.#state.name === 'ready' || !comesBack()) resolve(undefined);
            };
        });
        this.#state.on('state', look);
        look();
        await withLimit(decided, limitMs, 'a session that comes back').catch(() => {});
        this.#state.off('state', look);
        if (this.#state.name === 'ready' && this.#run !== null) return this.#run;
        throw reason.notNow(this.#state.document());
    }

    /**
     * Return whether an unhandled error comes from a page, or browser, that has gone: that is diagnosed and
     * handled elsewhere.
     *
     * @param {unknown} error
     */
    expects(error) {
        return PAGE_GONE.test(messageOf(error));
    }

    /**
     * Close the browser and keep the login. Resolves when the last of its processes is gone, or after 8 s.
     */
    async close() {
        this.#ending = true;
        this.#retry.clear();
        this.#turn.end();
        this.#demand.close();
        this.#pairing.refuse(reason.stopping());
        if (this.#run !== null) this.#close(this.#run);
        await Promise.all([this.#closing, this.#login.noted]);
        await this.#safekeeping.close();
    }

    /**
     * Copy the login, for a backup.
     *
     * @returns {Promise<import('./snapshots').Snapshot>} of now, if the session is ready, else the newest
     * @throws {SessionError} `not_connected`: there is none
     */
    async snapshot() {
        const snapshot = (await this.#copyNow()) ?? (await this.#safekeeping.newest());
        if (snapshot !== null) return snapshot;
        throw this.linked ? reason.notNow(this.#state.document()) : reason.notConnected();
    }

    /** Copy the login as it is now; null = there is none, or no browser that stands still meanwhile. */
    async #copyNow() {
        const run = this.#run;
        if (this.#state.name !== 'ready' || run === null) return null;
        try {
            return await this.#safekeeping.take(run);
        } catch (error) {
            if (run.isUp && codeOf(error) !== 'ESRCH') throw error;
            return null; // it has died meanwhile
        }
    }

    // ---- opening and closing a browser ----------------------------------------------------------

    /** @param {string|null} [phone] */
    #open(phone = null, attempt = 0) {
        if (this.#ending) return;
        if (!this.#settled) {
            this.#wanted = true;
            return;
        }
        this.#retry.clear();
        // A session that somebody asks for waits for no turn.
        if (this.#turn.isAwaited) this.#turn.end();
        const run = new BrowserRun({
            config: this.#config,
            storage: this.#storage,
            choice: this.#choice,
            versions: this.#versions,
            startBrowser: this.#startBrowser,
            log: this.#log,
            phone,
        });
        const session = this.#eventsOf(run);
        const parts = { run, config: this.#config, state: this.#state, log: this.#log, session };
        this.#watch = new Watch(parts, attempt);
        // Now: one that is missing, or does not start, has been tried, too.
        this.#recovery.started();
        const why = this.#isRecovering ? this.#why : null;
        if (why !== null) this.#state.update({ message: `${why.message}; trying again now` });
        else this.#state.enter('generating', { message: 'starting the browser', attempt });
        this.#drive(this.#watch)
            .catch((error) => this.#failed(run, error))
            .finally(() => this.#begunFirst());
    }

    /**
     * Load WhatsApp's page: for a linked session in its turn, for a person who asks for a code at once.
     *
     * @param {() => void} work
     */
    #inTurn(work) {
        if (this.linked) this.#turn.take(work);
        else work();
    }

    #openAgain(/** @type {number} */ attempt) {
        this.#inTurn(() => this.#open(null, attempt));
        if (!this.#turn.isAwaited || this.#why === null) return;
        this.#state.update({ message: `${this.#why.message}; ${TRIES_IN_TURN}` });
    }

    /** What a run may decide, and report, about the session. @returns {import('./types').RunEvents} */
    #eventsOf(/** @type {BrowserRun} */ run) {
        return {
            login: this.#login,
            onEvent: this.#onEvent,
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
                this.#pairing.forget();
                this.#missingLogins = 0;
            },
            ready: () => {
                this.#recovery.ready();
                this.#turn.end();
                this.#why = null;
                this.#safekeeping.ready(run);
                run.after('calm', this.#recovery.calmIn, () => this.#forgetTrouble());
            },
            paired: (code) => this.#pairing.give(code),
            unpaired: (error) => this.#unpaired(run, error),
            phoneAnswered: () => this.#demand.ask(),
            isFollowed: (ms) => this.#demand.silence <= ms,
            scanAgain: () => this.#scanInstead(),
            giveUp: () => {
                this.#pairing.forget();
                this.#close(run);
            },
            serious: () => this.#recovery.serious,
        };
    }

    /** Whether a linked session is being brought back: what it shows stays until it has a login again. */
    get #isRecovering() {
        return this.#why !== null && this.linked && ['disconnected', 'error'].includes(this.#state.name);
    }

    /** Continue with another browser, for the pairing code of a phone or for codes to scan. */
    #startOver(/** @type {SessionError} */ why, /** @type {string|null} */ phone = null) {
        this.#pairing.refuse(why);
        if (this.#run !== null) this.#close(this.#run);
        if (phone !== null) this.#pairing.ask(phone);
        this.#open(phone);
    }

    async #drive(/** @type {Watch} */ watch) {
        const { run } = watch;
        await this.#closing;
        // The last look before the login is given up is at a copy.
        if (this.#missingLogins === MISSING_LOGINS - 1) await this.#safekeeping.restoreNewest();
        if (!this.#login.isRead) await this.#login.read();
        // A call right after the start is answered before the library is loaded: that blocks all else.
        await run.start();
        this.#begunFirst();
        if (!this.linked) {
            this.#turn.end();
            await this.#storage.noteLogin(false);
        }
        const { SessionClient } = await this.#loadLibrary();
        run.makeClient(SessionClient);
        if (run.closed) return;
        this.#state.update({ browser: { path: run.path, running: false } });
        watch.start();
        run.after('start', this.#config.startTimeout * 1000, () => this.#silent(run));
        await run.load().catch((error) => {
            // The library was still at its first page when that was given up for another one.
            if (run.era === 0) throw error;
        });
    }

    #close(/** @type {BrowserRun} */ run) {
        if (this.#run === run) this.#watch = null;
        this.#closing = Promise.all([this.#closing, run.close()]).then(() => {
            const { browser } = this.#state.document();
            if (this.#run === null && browser?.running) {
                this.#state.update({ browser: { ...browser, running: false } });
            }
        });
        return this.#closing;
    }

    // ---- endings --------------------------------------------------------------------------------

    /** Something is wrong with a run: show it, and do what recovery.js says. */
    #trouble(
        /** @type {BrowserRun} */ run,
        /** @type {import('./types').Trouble} */ kind,
        /** @type {SessionError} */ why,
    ) {
        if (run.closed || run.unlinking || this.#ending) return;
        // Its page is reloaded as soon as it is its turn.
        if (this.#turn.isAwaited && isOfPage(kind)) return;
        const { linked } = this;
        this.#why = why;
        this.#turn.end();
        const next = this.#recovery.next(kind, { linked, page: run.browser !== null });
        if (next.step === 'reload') {
            this.#inTurn(() => this.#reload(run, why));
            if (this.#turn.isAwaited) this.#show(next, true, explain(why, TRIES_IN_TURN));
            return;
        }
        const attempt = this.#attempt;
        this.#close(run);
        this.#pairing.refuse(why);
        if (next.pause === 0 && (linked || this.#demand.silence <= QUIET_MS)) {
            this.#show(next, linked, explain(why, 'opening another browser'));
            this.#openAgain(attempt);
            return;
        }
        this.#tryLater(next, why, attempt);
    }

    /**
     * Have the next try after its pause, and show when it comes.
     *
     * @param {ReturnType<Recovery['next']>} next
     * @param {SessionError} why
     * @param {number} attempt
     */
    #tryLater({ step, exit, error, pause: ms }, why, attempt) {
        const due = this.#retry.set({ step, exit, why, attempt }, ms);
        this.#show({ error }, true, explain(why, due));
    }

    /** Have the next try in so many milliseconds, if it would come later. */
    #hasten(/** @type {number} */ ms) {
        const message = this.#retry.hasten(ms);
        if (message !== null) this.#state.update({ message });
    }

    /** In how many milliseconds another browser may be opened for somebody who asks. */
    get #askedIn() {
        return this.#why === null ? 0 : this.#recovery.askedIn;
    }

    /** @throws {SessionError} why no browser may be opened yet, and when one may */
    #refuseIfHeld() {
        const wait = this.#askedIn;
        if (wait === 0 || this.#why === null) return;
        this.#hasten(wait);
        const { cause, message, hint } = this.#why;
        throw new SessionError(cause, `${message}; ask again at ${clockTime(wait)} UTC`, hint);
    }

    /**
     * Show trouble if it `lasts`, and have it logged: a change of the state is logged automatically.
     *
     * @param {{error: boolean}} next
     * @param {boolean} lasts
     * @param {import('./types').Shown} fields
     */
    #show({ error }, lasts, fields) {
        const before = this.#state.name;
        if (lasts) this.#state.enter(error ? 'error' : 'disconnected', fields);
        if (this.#state.name === before) this.#log.warning(fields.message, { cause: fields.cause });
    }

    #tryAgain(/** @type {import('./types').NextTry} */ { step, exit, why, attempt }) {
        if (this.#run !== null || this.#ending) return;
        if (step === 'process' && this.linked) this.#leave(exit, why.message);
        else if (this.linked || this.#wasAsked) this.#openAgain(attempt);
        else this.#state.update({ message: `${why.message}; next try when somebody asks for a code` });
    }

    /** Whether somebody asked shortly before the next try was due, however late its timer runs. */
    get #wasAsked() {
        return this.#demand.silence - (performance.now() - this.#retry.at) <= QUIET_MS;
    }

    /**
     * Reload the page in the same browser.
     *
     * @param {BrowserRun} run
     * @param {SessionError|null} why what was wrong with it, if something was
     */
    async #reload(run, why = null) {
        if (run.closed || run.reloading) return;
        this.#linking?.reloads();
        if (why !== null) {
            this.#log.warning(why.message, { cause: why.cause, next: 'its page is reloaded' });
            this.#watch?.linked.reloads(explain(why, 'reloading its page').message, why);
        }
        try {
            await run.reload();
        } catch (error) {
            if (error instanceof SessionError) this.#failed(run, error);
            else this.#trouble(run, 'page_lost', why ?? reason.pageLost(messageOf(error)));
        }
    }

    /** The session was ready for long enough: the next process has nothing to continue. */
    #forgetTrouble() {
        if (this.#state.name !== 'ready') return;
        this.#storage
            .forgetTrouble()
            .catch((error) => this.#log.warning(error.message, { cause: error.cause }));
    }

    /**
     * End the process, so that systemd starts another: it continues where this one stopped.
     *
     * @param {number} code
     * @param {string} message
     */
    #leave(code, message) {
        this.#ending = true;
        this.#state.enter('disconnected', { message, hint: 'the server restarts automatically' });
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
     * @param {BrowserRun} run
     * @returns {boolean} whether it is looked at again; false = the login is given up
     */
    #loginMissing(run) {
        this.#missingLogins += 1;
        if (this.#missingLogins >= MISSING_LOGINS) {
            this.#log.error('the login is given up; its profile is kept', { cause: 'login_missing' });
            this.#turn.end();
            this.#state.enter('generating', { message: 'the login is gone; waiting for a code' });
            return false;
        }
        this.#trouble(run, 'login_missing', reason.loginMissing());
        return true;
    }

    async #silent(/** @type {BrowserRun} */ run) {
        const limit = this.#config.startTimeout;
        const look = () => withLimit(run.client.look(), LOOK_LIMIT_MS, 'a look').catch(() => null);
        const seen = run.answered ? await look() : null;
        if (run.closed) return;
        if (!run.answered) {
            this.#failed(run, reason.noAnswer(limit));
            return;
        }
        const browser = run.path.split('/').at(-1);
        const refused = seen?.refused === true;
        const what = refused ? `refuses ${browser}` : `gave neither code nor login in ${limit} s`;
        const next =
            this.#attempt > 0 || this.#login.known === true
                ? null
                : await this.#choice
                      .passOn(run.candidates, run.path, `web.whatsapp.com ${what}`)
                      .catch(() => null);
        if (next !== null)
            this.#log.warning('the next start uses another browser', { path: next, instead_of: run.path });
        const kind = this.#attempt > 0 ? 'no_code' : 'no_start';
        this.#failed(run, reason.silent(what, next, refused), kind);
    }

    /** A run could not be started, or its start not finished: report why, and try again. */
    async #failed(
        /** @type {BrowserRun} */ run,
        /** @type {any} */ error,
        /** @type {import('./types').Trouble} */ kind = 'no_start',
    ) {
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
            // Only systemd can recreate the folder.
            this.#leave(EXIT.unexpected, error.message);
            return;
        }
        run.hush();
        const why = error instanceof SessionError ? error : await this.#explain(run, error);
        if (this.#run === run) this.#trouble(run, why.cause === 'disk_full' ? 'no_room' : kind, why);
    }

    /** @param {BrowserRun} run @param {unknown} error */
    async #explain(run, error) {
        if (run.browser !== null || run.client === null) return reason.of(error);
        return run.diagnose();
    }

    /** @param {BrowserRun} run @param {unknown} error */
    #unpaired(run, error) {
        const words = messageOf(error);
        this.#log.warning('WhatsApp gave no pairing code', { reason: words });
        const why = this.#pairing.refusal(words);
        this.#pairing.refuse(why);
        this.#close(run);
        this.#state.enter('generating', {
            message: `${why.message}; ${WAITING}`,
            attempt: 0,
            cause: why.cause,
            hint: why.hint,
        });
    }

    /** @param {BrowserRun} run @param {number|null} why @param {string|null} words */
    #loggedOut(run, why, words) {
        if (run.unlinking || this.#ending) return;
        if (!this.linked) return;
        const { message, hint } = reason.loggedOut(why, words);
        this.#finishLogout(`${message}; the session is deleted`, hint).catch((error) =>
            this.#log.error('the logout did not finish', { reason: error.message }),
        );
    }

    /**
     * Close the browser, delete what it kept, and only then end: never delete under a living browser.
     *
     * @param {string} message
     * @param {string} hint
     */
    async #finishLogout(message, hint = ASK_FOR_CODE) {
        if (this.#ending) return;
        this.#ending = true;
        this.#retry.clear();
        this.#turn.end();
        this.#demand.close();
        this.#log.info('logging out');
        this.#state.enter('logged_out', {
            message,
            hint,
            linked: false,
            phone_number: null,
            pushname: null,
            platform: null,
            storage: null,
        });
        const erased = (async () => {
            if (this.#run !== null) await this.#close(this.#run);
            else await this.#closing;
            await this.#login.noted;
            await this.#erase();
        })();
        this.#closing = erased.catch(() => {});
        try {
            await erased;
        } catch (error) {
            const text = `logged out, but the session is not deleted: ${messageOf(error)}`;
            const known = error instanceof SessionError ? error : NOT_DELETED;
            const why = new SessionError(known.cause, text, known.hint);
            this.#state.update({ message: text, cause: why.cause, hint: why.hint });
            throw why;
        } finally {
            this.#end(EXIT.loggedOut, this.#state.document().message);
        }
    }

    #rest(/** @type {string} */ message) {
        this.#state.enter('generating', { message, attempt: 0 });
    }
}

module.exports = { Session };

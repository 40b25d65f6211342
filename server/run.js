'use strict';

/**
 * One browser with WhatsApp's page in it: how it comes to life, is probed, and goes away to its last process.
 */

const { setTimeout: pause } = require('node:timers/promises');

const browsers = require('./browser');
const { SessionError, TimeLimitError, withLimit } = require('./errors');
const { reason } = require('./reasons');

const CLOSE_LIMIT_MS = 4_000;
const GONE_LIMIT_MS = 3_000;
const CLOCK_SLACK_MS = 2_000;
const LAUNCH_END_LIMIT_MS = 1_000;
/** How long a page may be silent, in probe intervals; and while it loads, or works for us. */
const PATIENCE = 3;
const PATIENCE_AT_WORK = 12;
/** After so much of a probe interval without an answer one looks whether the page's process lives. */
const LOOK_AFTER = 0.25;
/** How much later than the probing the watchdog takes a page for hung: recovery in here comes first. */
const WATCHDOG_SLACK_MS = 60_000;
/** How long the page may take to be loaded anew until the library is in it again. */
const RELOAD_LIMIT_MS = 60_000;

class BrowserRun {
    /** The browser's path, and all that could have been taken. */
    path = null;
    candidates = [];
    client = null;
    /** Set once the page is there. */
    browser = null;
    /** Whether the site has answered at all. */
    answered = false;
    unlinking = false;
    /** What becomes of its codes. @type {import('./linking').Linking} */
    linking = null;
    /** What becomes of its login. @type {import('./linked').Linked} */
    linked = null;
    /** Who listens to it. @type {import('./watch').Watch} */
    watch = null;
    closed = false;
    /** When the page last answered, by the monotonic clock in milliseconds; 0 = it is not probed yet. */
    answeredAt = 0;
    /** WhatsApp's connection state, as the page last told it; null before it has. */
    connection = null;
    /** Whether the page is being loaded anew by us. */
    reloading = false;

    #config;
    #storage;
    #choice;
    #log;
    #args = [];
    #identity = null;
    #env;
    #abort = new AbortController();
    #launch = Promise.resolve();
    #gone = null;
    #timers = new Map();
    #work = new Set();
    #era = 0;
    #drew = false;
    /** When the page was asked last. */
    #askedAt = 0;

    /** @param {string|null} phone whose pairing code is wanted; null = QR codes */
    constructor({ config, storage, choice, log, phone }) {
        this.#config = config;
        this.#storage = storage;
        this.#choice = choice;
        this.#log = log;
        this.#env = browsers.browserEnvironment(storage.cacheDirectory);
        this.phone = phone;
    }

    /**
     * Choose the browser, and make the profile fit for it: all that can be done before the library is loaded.
     *
     * @throws {SessionError} why that cannot be
     */
    async prepare() {
        this.candidates = await browsers.findBrowsers(this.#config.browser);
        this.path = await this.#choice.pick(this.candidates);
        const [version] = await Promise.all([
            browsers.browserVersion(this.path, this.#env),
            this.#storage.prepare().then(() => this.#awaitFreeProfile()),
        ]);
        this.#identity = browsers.identity(version);
        this.#args = browsers.browserArguments(this.path, {
            cacheDirectory: this.#storage.cacheDirectory,
            userAgent: this.#identity.userAgent,
            extra: this.#config.browserArgs,
        });
        if (!this.closed) this.#log.info('starting the browser', { path: this.path, version });
    }

    /** Make the client that will start the browser. */
    makeClient(SessionClient) {
        this.client = new SessionClient({
            clientId: this.#config.clientId,
            dataPath: this.#storage.authDirectory,
            executablePath: this.path,
            args: [...this.#args],
            identity: this.#identity,
            env: this.#env,
            signal: this.#abort.signal,
            phone: this.phone,
            startLimitMs: this.#config.startTimeout * 1000,
            pinned: this.#config.webVersion,
        });
    }

    /** Start the browser and load the page; resolves when the page waits for a login or has one. */
    launch() {
        this.#launch = this.client.initialize();
        return this.#launch;
    }

    /** Start (or start again) a named timer; none of them outlives the run. */
    after(name, ms, work) {
        this.cancel(name);
        if (this.closed) return;
        const timer = setTimeout(() => {
            this.#timers.delete(name);
            work();
        }, ms);
        this.#timers.set(name, timer);
    }

    cancel(name) {
        clearTimeout(this.#timers.get(name));
        this.#timers.delete(name);
    }

    /** How often the page was loaded anew by us: what was asked before says nothing of it. */
    get era() {
        return this.#era;
    }

    /** Tell whether a timer of that name runs. */
    awaits(name) {
        return this.#timers.has(name);
    }

    /**
     * Do work in the page, and know that it does: it may be silent for longer meanwhile. The page goes on
     * with it however long the caller waits.
     */
    working(work) {
        const one = { since: performance.now() };
        this.#work.add(one);
        const done = work();
        const end = () => this.#work.delete(one);
        done.then(end, end);
        return done;
    }

    /** Tell whether the page answers, as far as that is known: while it loads other limits hold. */
    get pageAnswers() {
        return this.answeredAt === 0 || this.#silence < this.#silenceLimit;
    }

    /** Tell whether the probing works: the condition of the watchdog's ping. */
    get probed() {
        return this.answeredAt === 0 || this.#silence < this.#silenceLimit + WATCHDOG_SLACK_MS;
    }

    get #silence() {
        return performance.now() - this.answeredAt;
    }

    /**
     * How long the page may give no answer, or nothing but errors, in milliseconds. Only work that began
     * before the silence excuses it: whoever calls a page that hangs does not make it busy.
     */
    get #silenceLimit() {
        const busy =
            this.reloading ||
            this.linked?.loads === true ||
            [...this.#work].some(({ since }) => since <= this.#askedAt);
        return (busy ? PATIENCE_AT_WORK : PATIENCE) * this.#interval;
    }

    get #interval() {
        return this.#config.probeInterval * 1000;
    }

    /**
     * Ask the page for a sign of life, again and again until the run ends. One question at a time: a page
     * that was busy answers it when it goes on.
     *
     * @param {() => Promise<any>} ask asks the page
     * @param {(seen: any) => void} onSeen takes what it answers
     * @param {() => void} onBusy called each interval in which it does not answer
     * @param {(kind: string) => void} onHung called with `page_hung`, or `browser_lost` where the browser has
     *   lost the processes that draw its pages; ends the probing
     */
    probe({ ask, onSeen, onBusy, onHung }) {
        if (this.answeredAt === 0) {
            this.answeredAt = performance.now();
            this.#look();
        }
        this.after('probe', this.#interval, async () => {
            const verdict = await this.#question(ask, onBusy);
            if (this.closed || verdict === null) return;
            if (verdict.hung) onHung(verdict.hung);
            else {
                if (!verdict.error) onSeen(verdict.seen);
                this.probe({ ask, onSeen, onBusy, onHung });
            }
        });
    }

    /** Ask once. @returns {Promise<{seen?, error?, hung?}|null>} null: it does not matter any more */
    async #question(ask, onBusy) {
        const era = this.#era;
        this.#askedAt = performance.now();
        const answer = ask().then(
            (seen) => ({ seen }),
            (error) => ({ error }),
        );
        for (let looked = false; ;) {
            const patience = looked ? this.#interval : this.#interval * LOOK_AFTER;
            const asked = performance.now();
            const got = await withLimit(answer, patience, 'an answer').catch(() => null);
            if (this.closed || era !== this.#era) return null;
            // A host that stood still says nothing about the page.
            const stoodStill = performance.now() - asked > patience + CLOCK_SLACK_MS;
            if (stoodStill || (got !== null && !got.error)) this.answeredAt = performance.now();
            if (got !== null) return got.error && !this.pageAnswers ? { hung: 'page_hung' } : got;
            if (!looked && (await this.#hasLostProcesses())) return { hung: 'browser_lost' };
            if (!this.pageAnswers) return { hung: 'page_hung' };
            if (looked) onBusy();
            looked = true;
        }
    }

    /** Tell whether the processes that draw the browser's pages were there, and are not any more. */
    async #hasLostProcesses() {
        const group = this.browser?.process()?.pid;
        return this.#drew && group !== undefined && !(await browsers.groupDraws(group));
    }

    /** The page is there: remember whether the processes that draw it can be seen. */
    async #look() {
        const group = this.browser?.process()?.pid;
        this.#drew = group !== undefined && (await browsers.groupDraws(group));
    }

    /**
     * Ask the page what it shows, and the site whether it can be reached.
     *
     * @returns {Promise<{seen: object|null, fault: SessionError|null}>} `seen`: see the client's `look()`,
     *   null = it does not answer; `fault`: why the site cannot be reached, null = it can, as far as is known
     */
    async ask() {
        const limit = this.#interval;
        const [seen, fault] = await Promise.all([
            withLimit(this.client.look(), limit, 'a look at the page').catch(() => null),
            withLimit(this.client.reach(), limit, 'the site').then(
                (found) => reason.unreachable(found),
                (error) => (error instanceof TimeLimitError ? reason.noAnswer(limit / 1000) : null),
            ),
        ]);
        return { seen, fault };
    }

    /**
     * Load the page anew, in the same browser.
     *
     * @throws {Error} it does not come back
     */
    async reload() {
        this.cancel('probe');
        this.#era += 1;
        this.answeredAt = 0;
        this.reloading = true;
        try {
            await withLimit(this.client.reload(), RELOAD_LIMIT_MS, "to load WhatsApp's page anew");
        } finally {
            this.reloading = false;
        }
    }

    /** Nothing is waited for any more: what went wrong is being found out. */
    hush() {
        for (const name of [...this.#timers.keys()]) this.cancel(name);
    }

    /** Stop listening: from now on nothing that the browser says or does counts. */
    mute() {
        this.closed = true;
        this.hush();
    }

    /**
     * Close the browser, politely and then by force. Resolves when its last process is gone, or after 8 s.
     */
    close() {
        this.mute();
        this.#gone ??= this.#reap();
        return this.#gone;
    }

    /** Tell why a browser did not start. @returns {Promise<SessionError>} */
    async diagnose() {
        this.#abort.abort();
        return browsers.diagnose(this.path, this.#args, this.#storage.profile, this.#env);
    }

    async #awaitFreeProfile() {
        let holders = [];
        for (const end = performance.now() + GONE_LIMIT_MS; performance.now() < end; await pause(50)) {
            holders = await browsers.profileHolders(this.#storage.profile);
            if (holders.length === 0) return;
        }
        throw new SessionError(
            'profile_locked',
            `another browser uses this session's profile (process ${holders.join(', ')})`,
            `end it: kill ${holders.join(' ')}; the session then starts by itself`,
        );
    }

    async #reap() {
        // The library knows the browser a moment before it tells.
        const browser = this.client?.pupBrowser ?? null;
        const group = browser?.process()?.pid;
        if (browser !== null) {
            await withLimit(this.client.destroy(), CLOSE_LIMIT_MS, 'closing the browser').catch((error) =>
                this.#log.warning('the browser is killed', { reason: error.message }),
            );
        }
        this.#abort.abort();
        await withLimit(this.#launch, LAUNCH_END_LIMIT_MS, 'the end of the start').catch(() => {});
        for (
            const end = performance.now() + GONE_LIMIT_MS;
            group !== undefined && performance.now() < end;
            await pause(20)
        ) {
            if (!(await browsers.groupLives(group))) break;
        }
    }
}

module.exports = { BrowserRun };

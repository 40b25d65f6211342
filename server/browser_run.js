'use strict';

/**
 * One browser with WhatsApp's page in it: how it comes to life, is probed, and goes away to its last process.
 */

const { setTimeout: pause } = require('node:timers/promises');

const browsers = require('./browser');
const { browserArguments, describeWay, identity } = require('./browser_arguments');
const { PAGE_GONE, SessionError, TimeLimitError, messageOf, withLimit } = require('./errors');
const { reason } = require('./session_errors');

const CLOSE_LIMIT_MS = 4_000;
const UNLINK_LIMIT_MS = 10_000;
const GONE_LIMIT_MS = 3_000;
const CLOCK_SLACK_MS = 2_000;
const LAUNCH_END_LIMIT_MS = 1_000;
/** How long a page may be silent, in probe intervals; and while it loads, or works for us. */
const PATIENCE_INTERVALS = 3;
const PATIENCE_AT_WORK_INTERVALS = 12;
/** After so much of a probe interval without an answer one looks whether the page's process lives. */
const LOOK_AFTER_INTERVALS = 0.25;
/** How much later than the probing the watchdog takes a page for hung: recovery in here comes first. */
const WATCHDOG_SLACK_MS = 60_000;
/**
 * How long a reload of the page may take until the library is in it again: less than a turn lasts. A page
 * whose new process is killed never reports it; then another browser is tried.
 */
const RELOAD_LIMIT_MS = 25_000;

/** What a run has once it was started: nobody asks before. @type {any} */
const NOT_YET = null;

class BrowserRun {
    /** The browser's path, and all that could have been taken. */
    path = '';
    /** @type {string[]} */
    candidates = [];
    /** @type {import('./types').SessionClient} there once the browser was started, and the library loaded */
    client = NOT_YET;
    /** Set once the page is there. @type {import('node:events').EventEmitter|null} */
    browser = null;
    /** Whether the site has answered at all. */
    answered = false;
    unlinking = false;
    closed = false;
    /** When the page last answered, by the monotonic clock in milliseconds; 0 = it is not probed yet. */
    answeredAt = 0;
    /** WhatsApp's connection state, as the page last reported it; null before. @type {string|null} */
    connection = null;
    /** Whether we are reloading the page. */
    reloading = false;

    #config;
    #storage;
    #choice;
    #log;
    #env;
    /** The browser's processes. @type {import('./types').BrowserProcess|null} */
    #process = null;
    #startBrowser;
    #versions;
    #loading = Promise.resolve();
    /** @type {Promise<void>|null} */
    #gone = null;
    /** @type {Map<string, NodeJS.Timeout>} */
    #timers = new Map();
    /** @type {Set<{since: number}>} */
    #work = new Set();
    #era = 0;
    #drew = false;
    /** When the page was asked last. */
    #askedAt = 0;
    /** Returns whether the page loads itself or the account. */
    #loads = () => false;

    /** @param {import('./types').RunOptions} options */
    constructor({ config, storage, choice, versions, startBrowser, log, phone }) {
        this.#config = config;
        this.#storage = storage;
        this.#choice = choice;
        this.#versions = versions;
        this.#startBrowser = startBrowser;
        this.#log = log;
        this.#env = browsers.browserEnvironment(storage.cacheDirectory);
        this.phone = phone;
    }

    /**
     * Choose the browser, make the profile fit for it, and start it: all that can be done before the library
     * is loaded.
     *
     * @throws {SessionError} why that cannot be
     */
    async start() {
        this.candidates = await browsers.findBrowsers(this.#config.browser);
        this.path = await this.#choice.pick(this.candidates);
        const [version] = await Promise.all([
            this.#versions.of(this.path, this.#env),
            this.#prepareFolders(),
        ]);
        const args = browserArguments(this.path, {
            cacheDirectory: this.#storage.cacheDirectory,
            userAgent: identity(version).userAgent,
            extra: this.#config.browserArgs,
            proxy: this.#config.proxy,
        });
        if (this.closed) return;
        const proxy = describeWay(args, this.#env);
        this.#log.info('starting the browser', { path: this.path, version, proxy });
        this.#process = this.#startBrowser(this.path, args, this.#storage.profile, this.#env);
    }

    /** Make the client that takes the browser over. */
    makeClient(/** @type {import('./types').SessionClientClass} */ SessionClient) {
        this.client = new SessionClient({
            clientId: this.#config.clientId,
            dataPath: this.#storage.authDirectory,
            process: this.#process,
            identity,
            phone: this.phone,
            startLimitMs: this.#config.startTimeout * 1000,
            pinned: this.#config.webVersion,
            proxy: this.#config.proxy,
        });
    }

    /** Load the page; resolves when it waits for a login or has one. */
    load() {
        const ended = this.#running.ended.then(() => {
            throw new Error('Target closed: the browser has ended');
        });
        this.#loading = Promise.race([this.client.initialize(), ended]);
        return this.#loading;
    }

    /**
     * The browser answers. Its first process, such as Debian's wrapper script, is the parent of all others:
     * without it nothing reaps or kills them.
     *
     * @param {import('node:events').EventEmitter} browser
     * @param {string|null} version as the browser reports it
     * @param {() => void} onGone called when its first process has ended
     * @returns {number|undefined} its process id
     */
    opened(browser, version, onGone) {
        this.browser = browser;
        this.#running.ended.then(onGone);
        this.#correctVersion(version).catch((error) => this.#log.warning(error.message));
        return this.#running.pid;
    }

    /** The browser's processes, of which there are some. */
    get #running() {
        if (this.#process === null) throw new Error('no browser was started');
        return this.#process;
    }

    async #correctVersion(/** @type {string|null} */ version) {
        if (version === null || !(await this.#versions.correct(this.path, version))) return;
        this.#log.info('the browser is of another version than before', { path: this.path, version });
    }

    /**
     * Start (or start again) a named timer; none of them outlives the run.
     *
     * @param {string} name
     * @param {number} ms
     * @param {() => void} work
     */
    after(name, ms, work) {
        this.cancel(name);
        if (this.closed) return;
        const timer = setTimeout(() => {
            this.#timers.delete(name);
            work();
        }, ms);
        this.#timers.set(name, timer);
    }

    cancel(/** @type {string} */ name) {
        clearTimeout(this.#timers.get(name));
        this.#timers.delete(name);
    }

    /** How often we reloaded the page: questions asked before a reload say nothing about it. */
    get era() {
        return this.#era;
    }

    /** Return whether a timer of that name runs. */
    awaits(/** @type {string} */ name) {
        return this.#timers.has(name);
    }

    /**
     * Do work in the page, and note it: the page may be silent for longer meanwhile. The page continues the
     * work however long the caller waits.
     *
     * @template Result
     * @param {() => Promise<Result>} work
     */
    working(work) {
        const one = { since: performance.now() };
        this.#work.add(one);
        const done = work();
        const end = () => this.#work.delete(one);
        done.then(end, end);
        return done;
    }

    /** Return whether the page answers, as far as that is known: while it loads other limits hold. */
    get pageAnswers() {
        return this.answeredAt === 0 || this.#silence < this.#silenceLimit;
    }

    /** Return whether the probing works: the condition of the watchdog's ping. */
    get probed() {
        return this.answeredAt === 0 || this.#silence < this.#silenceLimit + WATCHDOG_SLACK_MS;
    }

    get #silence() {
        return performance.now() - this.answeredAt;
    }

    /**
     * How long the page may give no answer, or nothing but errors, in milliseconds. Only work that began
     * before the silence excuses it: a call to a page that hangs does not make it busy.
     */
    get #silenceLimit() {
        const busy =
            this.reloading || this.#loads() || [...this.#work].some(({ since }) => since <= this.#askedAt);
        return (busy ? PATIENCE_AT_WORK_INTERVALS : PATIENCE_INTERVALS) * this.#interval;
    }

    get #interval() {
        return this.#config.probeInterval * 1000;
    }

    /**
     * Probe the page repeatedly until the run ends. One question at a time: a page that was busy answers it
     * when it continues.
     *
     * @param {import('./types').Probing} how
     */
    probe({ ask, loads, onSeen, onBusy, onHung }) {
        this.#loads = loads;
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
                this.probe({ ask, loads, onSeen, onBusy, onHung });
            }
        });
    }

    /**
     * Ask once.
     *
     * @param {import('./types').Probing['ask']} ask
     * @param {import('./types').Probing['onBusy']} onBusy
     * @returns {Promise<{seen?: any, error?: any, hung?: 'page_hung'|'browser_lost'}|null>} null: it does not
     *   matter any more
     */
    async #question(ask, onBusy) {
        const era = this.#era;
        this.#askedAt = performance.now();
        /** @type {Promise<{seen?: unknown, error?: any}>} */
        const answer = ask().then(
            (seen) => ({ seen }),
            (error) => ({ error }),
        );
        for (let looked = false; ;) {
            const patience = looked ? this.#interval : this.#interval * LOOK_AFTER_INTERVALS;
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

    /** Return whether the processes that draw the browser's pages were there, and are not any more. */
    async #hasLostProcesses() {
        const group = this.#process?.pid;
        return this.#drew && group !== undefined && !(await browsers.groupDraws(group));
    }

    /** The page is there: remember whether the processes that draw it can be seen. */
    async #look() {
        const group = this.#process?.pid;
        this.#drew = group !== undefined && (await browsers.groupDraws(group));
    }

    /**
     * Ask the page what it shows, and the site whether it can be reached.
     *
     * @returns {Promise<{seen: import('./types').Look|null, fault: SessionError|null}>} `seen`: see the
     *   client's `look()`, null = it does not answer; `fault`: why the site cannot be reached, null = it
     *   can, as far as is known
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
     * Reload the page, in the same browser.
     *
     * @throws {Error} it does not come back
     */
    async reload() {
        this.cancel('probe');
        this.#era += 1;
        this.answeredAt = 0;
        this.reloading = true;
        try {
            await withLimit(this.client.reload(), RELOAD_LIMIT_MS, "reloading WhatsApp's page");
        } finally {
            this.reloading = false;
        }
    }

    /** Have the page unlink the phone. @returns {Promise<boolean>} whether the phone was notified */
    async unlink() {
        this.unlinking = true;
        try {
            await withLimit(this.client.unlink(), UNLINK_LIMIT_MS, 'unlinking');
            return true;
        } catch (error) {
            this.#log.warning('unlinking was not confirmed', { reason: messageOf(error) });
            // The page goes away while it answers: that is how a logout looks from outside.
            return PAGE_GONE.test(messageOf(error));
        }
    }

    /**
     * Do work while the browser's processes stand still: what they keep on disk is of one moment then.
     *
     * @template Result
     * @param {() => Promise<Result>} work
     * @returns {Promise<Result>}
     * @throws {Error} there is no browser any more
     */
    standStill(work) {
        if (!this.isUp) throw new Error('the browser has gone');
        return browsers.whileStopped(/** @type {number} */ (this.#process?.pid), work);
    }

    /** Whether there is a browser that can stand still. */
    get isUp() {
        return this.#process?.pid !== undefined && !this.closed;
    }

    /** Stop waiting: the cause of the failure is being determined. */
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

    /** Return why a browser did not start. @returns {Promise<SessionError>} */
    diagnose() {
        return this.#running.explain();
    }

    async #prepareFolders() {
        await this.#storage.prepare();
        await this.#awaitFreeProfile();
        if (await this.#storage.trimCache()) this.#log.info('the cache was over its limit and was emptied');
    }

    async #awaitFreeProfile() {
        /** @type {number[]} */
        let holders = [];
        for (const end = performance.now() + GONE_LIMIT_MS; performance.now() < end; await pause(50)) {
            holders = await browsers.profileHolders(this.#storage.profile);
            if (holders.length === 0) return;
        }
        throw new SessionError(
            'profile_locked',
            `another browser uses this session's profile (process ${holders.join(', ')})`,
            `end it: kill ${holders.join(' ')}; the session then starts automatically`,
        );
    }

    async #reap() {
        // The library has the browser a moment before it reports it.
        const browser = this.client?.pupBrowser ?? null;
        const group = this.#process?.pid;
        // A stopped browser cannot close cleanly.
        if (browser !== null && !this.client.standsStill) {
            await withLimit(this.client.destroy(), CLOSE_LIMIT_MS, 'closing the browser').catch((error) =>
                this.#log.warning('the browser is killed', { reason: error.message }),
            );
        }
        this.#process?.kill();
        await withLimit(this.#loading, LAUNCH_END_LIMIT_MS, 'the end of the start').catch(() => {});
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

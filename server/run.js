'use strict';

/**
 * One browser with WhatsApp's page in it: how it comes to life, is probed, and goes away to its last process.
 */

const { setTimeout: pause } = require('node:timers/promises');

const browsers = require('./browser');
const { SessionError, TimeLimitError, withLimit } = require('./errors');

const CLOSE_LIMIT_MS = 4_000;
const GONE_LIMIT_MS = 3_000;
const CLOCK_SLACK_MS = 2_000;
const LAUNCH_END_LIMIT_MS = 1_000;

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
        if (!this.closed) this.#timers.set(name, setTimeout(work, ms));
    }

    cancel(name) {
        clearTimeout(this.#timers.get(name));
        this.#timers.delete(name);
    }

    /** Tell whether the page answers, as far as that is known: while it loads other limits hold. */
    get pageAnswers() {
        return this.answeredAt === 0 || performance.now() - this.answeredAt < this.#silenceLimit;
    }

    /** How long a page may give nothing but errors, in milliseconds: one that navigates does for a while. */
    get #silenceLimit() {
        return 3 * this.#config.probeInterval * 1000;
    }

    /**
     * Ask the page for a sign of life, again and again until the run ends.
     *
     * @param {() => boolean} look whether to ask for what the page shows, and not just for a sign
     * @param {(seen: object) => void} onSeen takes what it shows
     * @param {() => void} onHung called when no answer came within the probe interval, or nothing but errors
     *   for three of them; ends the probing
     */
    probe({ look, onSeen, onHung }) {
        const limit = this.#config.probeInterval * 1000;
        if (this.answeredAt === 0) this.answeredAt = performance.now();
        this.after('probe', limit, async () => {
            const asked = performance.now();
            const ask = async () => (look() ? this.client.look() : this.client.pupPage.evaluate('({})'));
            const answer = withLimit(ask(), limit, "an answer of WhatsApp's page");
            const { seen, error } = await answer.then(
                (shown) => ({ seen: shown }),
                (reason) => ({ error: reason }),
            );
            if (this.closed) return;
            // A host that stood still says nothing about the page.
            const stoodStill = performance.now() - asked > limit + CLOCK_SLACK_MS;
            if (error === undefined || stoodStill) this.answeredAt = performance.now();
            if (error === undefined) onSeen(seen);
            else if (!this.pageAnswers || (error instanceof TimeLimitError && !stoodStill)) {
                onHung();
                return;
            }
            this.probe({ look, onSeen, onHung });
        });
    }

    /** Stop listening: from now on nothing that the browser says or does counts. */
    mute() {
        this.closed = true;
        for (const name of [...this.#timers.keys()]) this.cancel(name);
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

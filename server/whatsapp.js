'use strict';

/**
 * whatsapp-web.js, unmodified, made safe to depend on: every promise it leaves unhandled is handled here, it
 * never deletes a profile, it injects once into each document, and it reports more than its own events do.
 * engine.js decides its version.
 *
 * The names of page functions (`onAuthAppStateChangedEvent`, …) and the order in which hooks and methods are
 * called are those of the pinned version's src/Client.js.
 */

const { randomBytes } = require('node:crypto');
const { once } = require('node:events');
const { setTimeout: pause } = require('node:timers/promises');

const { prepareDocument } = require('./compatibility');
const { DOCUMENT_GONE, TimeLimitError, messageOf, withLimit } = require('./errors');
const { preparePasskeys } = require('./passkey_page');
const passkeyScreen = require('./passkey_screen');
const { withCalls } = require('./page_calls');
const { pinPage } = require('./pinned');
const { logInToProxy } = require('./proxy_login');
const { reason } = require('./session_errors');
const { connection, look } = require('./session_page');
const { inspect, isCore, missingOf, wantedOf } = require('./surface_check');
const { CHANGE_LIMIT_MS, DOWNLOAD_LIMIT_MS, REQUEST_LIMIT_MS, Turns } = require('./turns');

/**
 * @typedef {import('./engine').Library} Library
 *
 * @typedef {import('./engine').LibraryClass} LibraryClass
 *
 * @typedef {import('./types').WhatsAppObject} WhatsAppObject
 *
 * @typedef {{name: string}} LoadedDocument distinguished from others by our name for it
 *
 * @typedef {(work: ((...args: any[]) => any)|string, ...args: unknown[]) => Promise<any>} Evaluate
 *
 * @typedef {(...args: any[]) => any} Heard what the library does when the page reports something
 */

const SITE = 'https://web.whatsapp.com/';
const REFERER = 'https://whatsapp.com/';
/** How much longer than a start any question to the browser may take, in milliseconds. */
const PROTOCOL_SLACK_MS = 120_000;
/** How long a page that was logged out may take until it is loaded again, and says why, in milliseconds. */
const LEAVING_MS = 5_000;
/** How much of WhatsApp's text about a logout is shown, in characters. */
const MAX_WORDS_CHARACTERS = 200;
/** How long each way of asking for new codes may take to bring one, in milliseconds. */
const NEW_CODES_MS = 3_000;
/** By so much of the time for a start a new browser's first page, which is empty, has to be there. */
const OPENS_AFTER = 1 / 3;
/** How long a page may take for a sign of life, and then for its end, before it is reloaded. */
const SIGN_MS = 2_000;
/** How long a browser whose page gives none may take for a sign of its own, in milliseconds. */
const BROWSER_SIGN_MS = 5_000;
/** When the logged-in screen is checked after `ready`, in milliseconds: again if it lacks something. */
const MAIN_CHECKS_MS = [2_000, 10_000, 60_000];
/** When a page that lacks an essential part is checked again, in milliseconds. */
const BOOT_CHECKS_MS = [500, 1_500, 4_000];

/** Bytes of a file that are read from the browser at a time. */
const PIECE_BYTES = 64 * 1024;

/**
 * Events for which the library asks the page for a whole chat, by the function that the page calls.
 *
 * @type {Record<string, string>}
 */
const CHAT_EVENTS = {
    onChatUnreadCountEvent: 'unread_count',
    onRemoveChatEvent: 'chat_removed',
    onArchiveChatEvent: 'chat_archived',
};

/** Events that count even if their document has gone since. */
const HAPPENINGS = new Set([
    'onAddMessageEvent',
    'onChangeMessageTypeEvent',
    'onEditMessageEvent',
    'onIncomingCall',
    'onMessageAckEvent',
    'onReaction',
    'onRemoveMessageEvent',
]);

/** Our error for work in a document that has gone: one of `DOCUMENT_GONE`. */
const ANOTHER_DOCUMENT = 'another document is loaded';

/** What a page has once it was taken: nobody asks before. @type {any} */
const NOT_YET = null;

/**
 * Make code for the page run in one document only, with errors that have a text.
 *
 * @param {((...args: any[]) => any)|string} work
 * @param {LoadedDocument|null} document null = the current one
 */
function guarded(work, document) {
    const guard =
        document === null
            ? ''
            : `if (window.waportd?.document !== '${document.name}') throw new Error('${ANOTHER_DOCUMENT}');`;
    const source = typeof work === 'string' ? `async () => (${work})` : `${work}`;
    const made = () => {};
    made.toString = () =>
        `async (...args) => { ${guard} try { return await (${source})(...args); } ` +
        'catch (error) { throw window.waportd?.explain(error) ?? error; } }';
    return made;
}

/**
 * Keeps the profile. The library's own strategy deletes it while the browser still runs, after which a new
 * login looks fine and is lost at the next start; here the owner of the browser deletes the profile once the
 * browser is gone.
 *
 * @param {LibraryClass} LocalAuth
 * @returns {LibraryClass}
 */
const keptAuthOf = (LocalAuth) =>
    class KeptAuth extends LocalAuth {
        #loginNeeded;

        /** @param {{clientId: string, dataPath: string}} options @param {() => void} loginNeeded */
        constructor(options, loginNeeded) {
            super(options);
            this.#loginNeeded = loginNeeded;
        }

        async onAuthenticationNeeded() {
            this.#loginNeeded();
            return super.onAuthenticationNeeded();
        }

        async logout() {}
    };

/**
 * One run of the library in one browser. Each event is of the document that is loaded now; what comes from
 * one before it is dropped. Beyond the library's events it emits
 *
 * - `browser` (browser, page, version): the page is there, before anything is loaded; `version` is the
 *   browser's own, or null
 * - `http_error` (status): the site answered, but not with its page
 * - `document`: another document began to load in the main frame; changes within one and frames are none
 * - `login_needed` / `login_found`: whether the profile holds a login
 * - `socket` (state): WhatsApp's own connection state, before and after the login
 * - `logout` (why, words): the page was logged out; WhatsApp's number for why it did that itself, null =
 *   somebody unlinked it; and what WhatsApp says about it, or null
 * - `banned` ({code, until}): WhatsApp bans the account for a while; `until` in milliseconds, or null
 * - `passkey_screen`: the page shows the screen on which WhatsApp wants a passkey
 * - `passkey_call` ({id, options, limitMs, answer, refuse}): the page asks the browser for a passkey; it
 *   waits for `answer(credential)` or `refuse(name of an error)`, so many milliseconds at most
 * - `passkey_over` (id, why): the page waits for that answer no longer: `timeout`, `aborted`, `superseded`
 * - `failed` (error): injection into a page that was loaded again failed
 * - `load_failed` (error): there is a login, and the library cannot be made ready
 * - `check_failed` (error): what the page of a ready session has could not be looked at
 * - `pairing_failed` (error): WhatsApp gave no pairing code
 *
 * @param {Omit<Library, 'LocalAuth'> & {KeptAuth: LibraryClass}} library
 */
const sessionClientOf = ({ Client, KeptAuth, connect, PipeTransport }) =>
    class SessionClient extends withCalls(Client) {
        /**
         * Calls that keep the page busy, and downloads, which keep the network busy and nobody else waiting.
         */
        turns = new Turns();
        downloads = new Turns(DOWNLOAD_LIMIT_MS);
        /** What the phone is asked for, which takes as long as the phone does. */
        requests = new Turns(REQUEST_LIMIT_MS);
        /** What others see of this account, except messages. */
        changes = new Turns(CHANGE_LIMIT_MS);
        /** Whether the browser gave no sign of life when it was asked for one. */
        standsStill = false;

        #process;
        #identity;
        #limitMs;
        #pinned;
        #proxy;
        /** The document that is loaded now, and the one whose work continues. */
        /** @type {LoadedDocument|null} */
        #document = null;
        /** @type {LoadedDocument|null} */
        #bound = null;
        /** The document of the newest injection, and what it found. */
        /** @type {{document: LoadedDocument, needed: boolean, loaded: boolean}|null} */
        #injection = null;
        /** @type {Promise<void>|null} */
        #injecting = null;
        #started = false;
        #reloading = false;
        #last = Promise.resolve();
        /** @type {Evaluate} */
        #evaluate = NOT_YET;
        /** The library's own function for a login that is loaded. */
        /** @type {Heard|null} */
        #makeReady = null;
        /**
         * Whether the page has reported a logout without any other sign yet, and when that is checked.
         */
        #isLeaving = false;
        /** @type {NodeJS.Timeout|undefined} */
        #leaving;
        /** The session for commands to the browser itself. @type {import('puppeteer').CDPSession} */
        #devtools = NOT_YET;
        /** @type {string|undefined} */
        #frame;
        /** @type {import('./types').PageEvents['upstream'][0]|null} */
        #upstream = null;
        /** @type {NodeJS.Timeout|undefined} */
        #nextCheck;
        /** New codes that are being asked for. */
        /** @type {Promise<void>|null} */
        #refreshing = null;

        /** @param {import('./types').SessionClientOptions} options */
        constructor(options) {
            const loginNeeded = () => {
                if (this.#injection !== null) this.#injection.needed = true;
                if (this.#isLeaving) this.#left(null, null);
                this.emit('login_needed');
            };
            super({
                authStrategy: new KeptAuth(
                    { clientId: options.clientId, dataPath: options.dataPath },
                    loginNeeded,
                ),
                webVersionCache: { type: 'none' },
                userAgent: false,
                authTimeoutMs: options.startLimitMs,
                qrMaxRetries: 0,
                // Pairing hangs unless it is asked for before the page is loaded.
                pairWithPhoneNumber: {
                    phoneNumber: options.phone ?? '',
                    showNotification: true,
                    intervalMs: 3_600_000,
                },
            });
            this.#process = options.process;
            this.#identity = options.identity;
            this.#limitMs = options.startLimitMs;
            this.#pinned = options.pinned ?? null;
            this.#proxy = options.proxy ?? null;
        }

        /** Return whether the page works for somebody: a page that is busy is not dead. */
        get busy() {
            return this.turns.busy || this.downloads.busy;
        }

        /**
         * Take the browser over, and load the page; resolves when the library is in it. The library's own
         * starts its browser, which runs by now, and takes navigations of any frame for its own.
         */
        async initialize() {
            const { write, read } = /** @type {import('./types').BrowserProcess} */ (this.#process).pipe;
            this.pupBrowser = await connect({
                transport: new PipeTransport(write, read),
                protocolTimeout: this.#limitMs + PROTOCOL_SLACK_MS,
                defaultViewport: null,
            });
            const limit = this.#limitMs * OPENS_AFTER;
            await withLimit(this.#takePage(), limit, "the browser's page").catch((error) => {
                throw error instanceof TimeLimitError ? reason.pageHung() : error;
            });
            if (this.#pinned !== null) await pinPage(this.pupPage, this.#pinned);
            await this.pupPage.goto(SITE, { waitUntil: 'load', timeout: 0, referer: REFERER });
            await this.#begin();
        }

        /** If a page ends before anybody listens, nobody learns of it, and the page never answers. */
        async #takePage() {
            const isPage = (/** @type {import('puppeteer').Target} */ target) => target.type() === 'page';
            const first = await this.pupBrowser.waitForTarget(isPage, { timeout: this.#limitMs });
            this.pupPage = /** @type {import('puppeteer').Page} */ (await first.page());
            const crashed = new Promise((_, reject) => {
                this.pupPage.once('error', reject);
            });
            await Promise.race([this.#prepare(this.pupBrowser, this.pupPage), crashed]);
        }

        /** @param {import('puppeteer').Browser} browser @param {import('puppeteer').Page} page */
        async #prepare(browser, page) {
            const version = (await browser.version()).match(/\d+(\.\d+){1,3}/)?.[0] ?? null;
            // The browser's own flag says the same, but for what goes with it.
            if (version !== null) await page.setUserAgent(this.#identity(version));
            page.on('response', (response) => {
                const request = response.request();
                const main = request.isNavigationRequest() && request.frame() === page.mainFrame();
                if (main && response.status() >= 400) this.emit('http_error', response.status());
            });
            this.#evaluate = page.evaluate.bind(page);
            /** @type {Evaluate} */
            const evaluate = (work, ...args) =>
                typeof work === 'string' && this.#bound === null
                    ? this.#evaluate(work)
                    : this.#evaluate(guarded(work, this.#bound), ...args);
            Object.assign(page, { evaluate });
            const expose = page.exposeFunction.bind(page);
            // Frames have the function, too, but not the proof.
            const proof = randomBytes(16).toString('hex');
            /** @param {string} given @param {string} document @param {string} what @param {any[]} more */
            const report = (given, document, what, ...more) =>
                given === proof ? this.#received(document, what, more) : undefined;
            await expose('waportdTell', report);
            /** @param {string} name @param {Heard} heard */
            const exposeFunction = (name, heard) => {
                if (name === 'onAppStateHasSyncedEvent') this.#makeReady = heard;
                return expose(name, (/** @type {any[]} */ ...args) => this.#heard(name, heard, args));
            };
            Object.assign(page, { exposeFunction });
            await page.evaluateOnNewDocument(prepareDocument, proof);
            await page.evaluateOnNewDocument(preparePasskeys, proof);
            // Now: a page that hangs takes nothing that is opened later.
            this.#devtools = await page.createCDPSession();
            await logInToProxy(this.#devtools, this.#proxy, this.#pinned !== null);
            this.#frame = (await this.#devtools.send('Page.getFrameTree')).frameTree.frame.id;
            this.emit('browser', browser, page, version);
        }

        // ---- what the page reports -------------------------------------------------------------------

        /**
         * The page calls our function.
         *
         * @param {string} document the name of its document
         * @param {string} what
         * @param {any[]} args
         * @returns {Promise<object>|undefined} what it waits for, if it does
         */
        #received(document, what, [value, ...more]) {
            if (what === 'document') {
                this.#documentBegan(document, value);
            } else if (document !== this.#document?.name) {
                return undefined;
            } else if (what === 'passkey_call') {
                return this.#hold(value, more[0], more[1]);
            } else if (['passkey_screen', 'passkey_over'].includes(what)) {
                this.emit(what, value, ...more);
            } else if (what === 'banned') {
                this.emit('banned', readBan(value, more[0]));
            } else if (what === 'changed') {
                this.#lookAtLogin();
            }
            return undefined;
        }

        /**
         * The page asks for a passkey. An answer to a document that has gone is lost with it.
         *
         * @param {string} id
         * @param {any} options
         * @param {number} limitMs
         * @returns {Promise<{credential: object}|{error: string}>}
         */
        #hold(id, options, limitMs) {
            return new Promise((resolve) => {
                const answer = (/** @type {object} */ credential) => resolve({ credential });
                const refuse = (/** @type {string} */ error) => resolve({ error });
                const isHeard = this.emit('passkey_call', { id, options, limitMs, answer, refuse });
                if (!isHeard) refuse('NotAllowedError');
            });
        }

        /**
         * The page calls one of the library's functions. Three of them are ours to answer.
         *
         * @param {string} name
         * @param {Heard} heard
         * @param {any[]} args
         */
        #heard(name, heard, args) {
            const isNow = this.#injection !== null && this.#injection.document === this.#document;
            if (!isNow && !HAPPENINGS.has(name)) return undefined;
            if (name in CHAT_EVENTS && this.listenerCount(CHAT_EVENTS[name]) === 0) return undefined;
            switch (name) {
                // The library's own throws in node (it calls window), so that no code follows the last one.
                case 'onAuthAppStateChangedEvent':
                    this.emit('socket', ...args);
                    // Its screen may have come before its connection.
                    if (args[0] === 'CONNECTED') this.#lookAtLogin();
                    return undefined;
                // Any change is a login for the library, also the one that a logout makes.
                case 'onAppStateHasSyncedEvent':
                    this.#lookAtLogin();
                    return undefined;
                // It waits for a navigation, and takes each that follows for a logout.
                case 'onLogoutEvent':
                    this.#isLeaving = true;
                    this.#awaitLeaving();
                    return undefined;
                // A message that the library cannot read still counts.
                case 'onAddMessageEvent':
                    try {
                        return heard(...args);
                    } catch {
                        this.emit('message_create', { rawData: args[0] });
                        return undefined;
                    }
                // It closes the browser in most states.
                case 'onAppStateChangedEvent':
                    return undefined;
                default:
                    return heard(...args);
            }
        }

        /** @param {string} name @param {string} address */
        #documentBegan(name, address) {
            const { searchParams } = new URL(address);
            this.#document = { name };
            clearTimeout(this.#nextCheck);
            clearTimeout(this.#leaving);
            this.#leaving = undefined;
            if (searchParams.has('post_logout')) {
                const why = searchParams.get('logout_reason') ?? '';
                const said = [...searchParams].filter(([key]) => key.startsWith('logout_message_'));
                const words = said.map(([, text]) => text.slice(0, MAX_WORDS_CHARACTERS)).join(': ');
                this.#left(/^\d{1,3}$/.test(why) ? Number(why) : null, words || null);
            }
            if (!this.#started) return;
            this.emit('document');
            this.#injecting = this.#injectInto(this.#document);
            this.#injecting.catch((error) => {
                if (!this.#reloading) this.emit('failed', error);
            });
        }

        #awaitLeaving() {
            this.#leaving ??= setTimeout(() => this.#lookIfLeft(), LEAVING_MS).unref();
        }

        /**
         * The page reported a logout and was not reloaded: it is one if the page shows that it no longer has
         * a login. A connection that is lost meanwhile, or an account that still loads, shows neither.
         */
        async #lookIfLeft() {
            const document = this.#document;
            const seen = await this.#evaluate(look).catch(() => null);
            if (document !== this.#document) return;
            this.#leaving = undefined;
            if (seen === null) return;
            const { state, synced } = seen;
            if (/^UNPAIRED/.test(state) || (this.#injection?.loaded && state !== null && !synced)) {
                this.#left(null, null);
            } else if (synced && state === 'CONNECTED') {
                this.#isLeaving = false;
                this.#lookAtLogin();
            } else {
                this.#awaitLeaving();
            }
        }

        /** @param {number|null} why @param {string|null} words */
        #left(why, words) {
            this.#isLeaving = false;
            this.emit('logout', why, words);
        }

        // ---- injection -------------------------------------------------------------------------------

        /** The first document is there. Later ones report themselves. */
        async #begin() {
            this.#started = true;
            if (this.#document === null) throw new Error('the page does not report its document');
            await this.#injectInto(this.#document);
        }

        /**
         * Do work in one document, after what was begun before it: the library's functions are made of
         * several steps, and the page may reload between two of them. Work left undone by a document that
         * has gone is no error.
         *
         * @param {LoadedDocument} document
         * @param {() => Promise<void>} work
         * @returns {Promise<void>}
         */
        #alone(document, work) {
            const turn = this.#last.then(async () => {
                if (document !== this.#document) return;
                this.#bound = document;
                try {
                    await work();
                } catch (error) {
                    const isGone = document !== this.#document || DOCUMENT_GONE.test(messageOf(error));
                    if (!isGone) throw error;
                } finally {
                    this.#bound = null;
                }
            });
            this.#last = turn.catch(() => {});
            return turn;
        }

        #injectInto(/** @type {LoadedDocument} */ document) {
            return this.#alone(document, async () => {
                this.#injection = { document, needed: false, loaded: false };
                await super.inject();
                if (document !== this.#document) return;
                // A phone that was quick, a sync that was over before the library listened.
                const { state, login } = await this.pupPage.evaluate(connection);
                // A connection that is refused does not ask for a login, and is none.
                if (this.#injection.needed || !login) this.emit('socket', state);
                else this.emit('login_found');
                this.#lookAtLogin();
            });
        }

        /**
         * Let the library make itself ready, once in a document, if the state of the page is that of a login.
         */
        #lookAtLogin() {
            const injection = this.#injection;
            // A page is seen to change before the library is put into its first document.
            if (injection === null) return;
            const looked = this.#alone(injection.document, async () => {
                if (injection.loaded || this.#leaving !== undefined || this.#makeReady === null) return;
                if (!(await this.pupPage.evaluate(connection)).loaded) return;
                injection.loaded = true;
                this.#isLeaving = false;
                await this.#makeReady();
                this.#checkMain(injection.document, MAIN_CHECKS_MS);
            });
            looked.catch((error) => this.emit('load_failed', error));
        }

        /** Called by the library once its utilities are loaded, before it listens to messages. */
        async attachEventListeners() {
            await this.pupPage.evaluate(() => window.waportd.main());
            return super.attachEventListeners();
        }

        // ---- what the page has -----------------------------------------------------------------------

        /** Called by the library when the page has reported its build, before anything else is done. */
        async getWWebVersion() {
            return this.#bound === null ? super.getWWebVersion() : this.#checkBoot();
        }

        /** See that the page has what no session can do without. @throws {SessionError} `upstream_changed` */
        async #checkBoot() {
            for (const wait of [...BOOT_CHECKS_MS, null]) {
                const { build, missing } = await this.#check('boot');
                const lost = missing.find(isCore);
                if (lost === undefined) return build;
                if (wait === null) throw reason.upstreamChanged(build, lost);
                await pause(wait);
            }
            return undefined;
        }

        /** @param {LoadedDocument} document @param {number[]} waits */
        #checkMain(document, [wait, ...later]) {
            if (wait === undefined) return;
            this.#nextCheck = setTimeout(() => {
                this.#alone(document, async () => {
                    const { missing } = await this.#check('main');
                    if (missing.length > 0) this.#checkMain(document, later);
                }).catch((error) => this.emit('check_failed', error));
            }, wait);
            this.#nextCheck.unref();
        }

        /** Check what the page has, and report changes. @param {'boot'|'main'} part */
        async #check(part) {
            /** @type {ReturnType<typeof inspect>} */
            const seen = await this.pupPage.evaluate(inspect, wantedOf(part));
            const missing = missingOf(part, seen);
            const checked = part === 'main' ? ['boot', 'main'] : ['boot'];
            const shims = { ...seen.shims };
            if (part === 'main') shims.synced = this.#makeReady === null ? 'absent' : 'applied';
            const upstream = { build: seen.build, ok: missing.length === 0, checked, missing, shims };
            // Data on the rest of a build stays valid while the page is reloaded.
            const last = this.#upstream;
            const knewMore =
                last !== null && last.build === seen.build && last.checked.length > checked.length;
            if (knewMore && missing.length === 0) return upstream;
            if (JSON.stringify(upstream) !== JSON.stringify(this.#upstream)) {
                this.#upstream = upstream;
                this.emit('upstream', upstream);
            }
            return upstream;
        }

        // ---- what is asked of the page ---------------------------------------------------------------

        /** Called unwatched by the library when the page is ready to give a code. */
        async requestPairingCode(/** @type {any[]} */ ...args) {
            const document = this.#document;
            try {
                return await super.requestPairingCode(...args);
            } catch (error) {
                if (document === this.#document) this.emit('pairing_failed', error);
                return undefined;
            }
        }

        /**
         * Return what the page shows.
         *
         * @returns {Promise<import('./types').Look>} whether its modules are there;
         *   WhatsApp's words for its connection and its screen; whether the account is loaded; whether a
         *   passkey is wanted; whether WhatsApp does not take this browser
         */
        async look() {
            const seen = await this.#evaluate(look);
            if (seen.synced && this.#injection?.loaded === false) this.#lookAtLogin();
            return seen;
        }

        /**
         * Reload the page in this browser, whatever state it is in; resolves when the library is injected
         * into it.
         *
         * @throws {Error} what the browser, or the library, has against it
         */
        async reload() {
            this.#reloading = true;
            try {
                const sign = this.#evaluate('true').catch(() => false);
                // One that hangs, or has crashed, would keep its process, and with it every page of the site.
                if (!(await Promise.race([sign, pause(SIGN_MS, false)]))) {
                    // A stopped browser cannot bring a page back.
                    await this.#signOfBrowser();
                    await this.#endPage();
                }
                await this.pupPage.goto(SITE, { waitUntil: 'load', timeout: this.#limitMs });
                await this.#injecting;
            } finally {
                this.#reloading = false;
            }
        }

        async #signOfBrowser() {
            try {
                await withLimit(this.pupBrowser.version(), BROWSER_SIGN_MS, 'a sign of the browser');
            } catch (error) {
                this.standsStill = error instanceof TimeLimitError;
                throw error;
            }
        }

        async #endPage() {
            const ended = new Promise((resolve) => {
                this.pupPage.once('error', resolve);
            });
            // It is never answered.
            this.#devtools.send('Page.crash').catch(() => {});
            await Promise.race([ended, pause(SIGN_MS)]);
        }

        /**
         * Return whether the site can be reached from this browser, whatever its page does:
         * `{error, status}`, Chromium's error name and the HTTP status; each may be null.
         */
        async reach() {
            const { resource } = await this.#devtools.send('Network.loadNetworkResource', {
                frameId: this.#frame,
                url: SITE,
                options: { disableCache: true, includeCredentials: false },
            });
            if (resource.stream) await this.#devtools.send('IO.close', { handle: resource.stream });
            return { error: resource.netErrorName ?? null, status: resource.httpStatusCode ?? null };
        }

        /**
         * Have the page ask WhatsApp for a new batch of codes, in each way that it has, until a code comes.
         * Calls in the meantime wait for the same codes.
         *
         * @throws {Error} none came
         */
        refreshQr() {
            this.#refreshing ??= this.#askForCodes().finally(() => {
                this.#refreshing = null;
            });
            return this.#refreshing;
        }

        async #askForCodes() {
            for (const way of [0, 1, 2]) {
                if (await this.#codesCame(way)) return;
            }
            throw new Error('the page gives no new codes');
        }

        async #codesCame(/** @type {number} */ way) {
            const waiting = new AbortController();
            const came = once(/** @type {any} */ (this), 'qr', { signal: waiting.signal }).then(
                () => true,
                () => false,
            );
            try {
                const asked = await this.#evaluate(
                    (/** @type {number} */ each) => window.waportd.newCodes(each),
                    way,
                );
                return asked && (await Promise.race([came, pause(NEW_CODES_MS, false)]));
            } finally {
                waiting.abort();
            }
        }

        /** Return what WhatsApp's passkey screen shows, or null: see passkey_page.js. */
        passkeyScreen() {
            return this.#evaluate(() => window.waportd.passkeys.read());
        }

        /**
         * Press a button of that screen: see passkey_screen.js.
         *
         * @param {import('./types').PasskeyButton} name
         */
        pressPasskey(name) {
            const { mouse } = this.pupPage;
            return passkeyScreen.press({ evaluate: this.#evaluate, mouse, devtools: this.#devtools }, name);
        }

        /**
         * Read a file that is open, in pieces: the browser gives them past the page, which would have to make
         * a text of each.
         *
         * @param {string} ticket
         */
        async *readFile(ticket) {
            const expression = `window.waportd.files.get(${JSON.stringify(ticket)}).blob`;
            const { result } = await this.#devtools.send('Runtime.evaluate', { expression });
            const objectId = /** @type {string} */ (result.objectId);
            const { uuid } = await this.#devtools.send('IO.resolveBlob', { objectId });
            const handle = `blob:${uuid}`;
            try {
                for (let isEnd = false; !isEnd;) {
                    const { data, eof, base64Encoded } = await this.#devtools.send('IO.read', {
                        handle,
                        size: PIECE_BYTES,
                    });
                    isEnd = eof;
                    if (data !== '') yield Buffer.from(data, base64Encoded ? 'base64' : 'utf8');
                }
            } finally {
                // The browser may be gone.
                this.#devtools.send('IO.close', { handle }).catch(() => {});
                this.#devtools.send('Runtime.releaseObject', { objectId }).catch(() => {});
            }
        }

        /** Unlink this device: the phone forgets it, the page logs out. */
        unlink() {
            return this.#evaluate(() => window.require('WAWebSocketModel').Socket.logout());
        }
    };

/**
 * Read what the page knows of a ban: a code, and its end as seconds from now or as a time.
 *
 * @param {WhatsAppObject} given
 * @param {WhatsAppObject} more
 */
function readBan(given, more) {
    const {
        code,
        expiry,
        expire = expiry,
        expires = expire,
    } = typeof given === 'object' && given !== null ? given : { code: given, expires: more };
    const seconds = Number(expires);
    let until = null;
    if (seconds > 1e12) until = seconds;
    else if (seconds > 1e9) until = seconds * 1000;
    else if (seconds > 0) until = Date.now() + seconds * 1000;
    return { code: code ?? null, until };
}

/**
 * Make the client of sessions from the classes of a library.
 *
 * @param {Library} library as `loadEngine` gives it
 */
const createSessionClient = ({ LocalAuth, ...library }) =>
    sessionClientOf({ ...library, KeptAuth: keptAuthOf(LocalAuth) });

module.exports = { createSessionClient };

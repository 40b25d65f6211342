'use strict';

/**
 * whatsapp-web.js, unmodified, made safe to depend on: every promise it leaves unwatched is watched here, it
 * never deletes a profile, it injects once into each document, and it tells more than its own events do.
 * Which version it is, engine.js decides.
 *
 * The names of page functions (`onAuthAppStateChangedEvent`, …) and the order in which hooks and methods are
 * called are those of the pinned version's src/Client.js.
 */

const { randomBytes } = require('node:crypto');
const { once } = require('node:events');
const { setTimeout: pause } = require('node:timers/promises');

const { isHeadlessShell } = require('./browser');
const chatsPage = require('./chats_page');
const { prepareDocument } = require('./compatibility');
const { DOCUMENT_GONE, withLimit } = require('./errors');
const { pinPage } = require('./pinned');
const { reason } = require('./reasons');
const { inspect, isCore, missingOf, wantedOf } = require('./surface_check');
const { DOWNLOAD_LIMIT_MS, Turns } = require('./turns');

const SITE = 'https://web.whatsapp.com/';
/** How long a page that was logged out may take until it is loaded again, and says why, in milliseconds. */
const LEAVING_MS = 5_000;
/** So much of what WhatsApp says about a logout is told, in characters. */
const MAX_WORDS = 200;
/** How long each way of asking for new codes may take to bring one, in milliseconds. */
const NEW_CODES_MS = 3_000;
/** How long a page may take for a sign of life, and then for its end, before it is loaded anew. */
const SIGN_MS = 2_000;
/** How long a browser whose page gives none may take for a sign of its own, in milliseconds. */
const BROWSER_SIGN_MS = 5_000;
/** When the screen of a login is looked at after `ready`, in milliseconds: again if it lacks something. */
const MAIN_CHECKS_MS = [2_000, 10_000, 60_000];
/** When a page that lacks what no session can do without is looked at again, in milliseconds. */
const BOOT_CHECKS_MS = [500, 1_500, 4_000];

/** What we throw at work in a document that has gone: one of `DOCUMENT_GONE`. */
const ANOTHER_DOCUMENT = 'another document is loaded';

/** Runs in the page: WhatsApp's connection, whether there is a login, and whether its account is loaded. */
function connection() {
    const { Socket } = window.require('WAWebSocketModel');
    const attempt = (work) => {
        try {
            return work() ?? null;
        } catch {
            // Then the connection has to tell.
            return null;
        }
    };
    const mode = attempt(() => window.require('WAWebStreamModel').Stream.mode);
    const me = attempt(() => {
        const { getMaybeMePnUser, getMaybeMeLidUser } = window.require('WAWebUserPrefsMeUser');
        return getMaybeMePnUser() ?? getMaybeMeLidUser();
    });
    const state = Socket.state ?? null;
    const loaded = Socket.hasSynced === true || (mode === 'MAIN' && state === 'CONNECTED');
    return { state, login: me !== null, loaded };
}

/** Runs in the page: what can be seen of its progress without changing it, in no language. */
function look() {
    const loaded = window.Debug?.VERSION !== undefined;
    const attempt = (work) => {
        try {
            return (loaded ? work() : null) ?? null;
        } catch {
            return null;
        }
    };
    return {
        loaded,
        state: attempt(() => window.require('WAWebSocketModel').Socket.state),
        mode: attempt(() => window.require('WAWebStreamModel').Stream.mode),
        synced: attempt(() => window.require('WAWebSocketModel').Socket.hasSynced) === true,
        pairing_type: attempt(() => window.require('WAWebAltDeviceLinkingApi').getPairingType()),
        // A browser that WhatsApp does not take gets a page without any of its modules.
        refused:
            document.readyState === 'complete' &&
            location.protocol === 'https:' &&
            window.Debug === undefined &&
            typeof window.require !== 'function',
    };
}

/** Make what runs in the page run in one document only, and its errors tell something. */
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
 * login looks fine and is lost at the next start; whoever owns the browser deletes the profile once the
 * browser is gone.
 */
const keptAuthOf = (LocalAuth) => class KeptAuth extends LocalAuth {
    #hooks;
    #page = null;

    constructor(options, hooks) {
        super(options);
        this.#hooks = hooks;
    }

    async afterBrowserInitialized() {
        if (this.#page === this.client.pupPage) return;
        this.#page = this.client.pupPage;
        await this.#hooks.pageOpened(this.client.pupBrowser, this.#page);
    }

    async onAuthenticationNeeded() {
        this.#hooks.loginNeeded();
        return super.onAuthenticationNeeded();
    }

    async logout() {}
};

/**
 * One run of the library in one browser. Each event is of the document that is loaded now; what comes from
 * one before it is dropped. Beyond the library's events it emits
 *
 * - `browser` (browser, page): the page is there, before anything is loaded
 * - `http_error` (status): the site answered, but not with its page
 * - `document`: another document began to load in the main frame; changes within one and frames are none
 * - `login_needed` / `login_found`: whether the profile holds a login
 * - `socket` (state): WhatsApp's own connection state, before and after the login
 * - `logout` (why, words): the page was logged out; WhatsApp's number for why it did that itself, null =
 *   somebody unlinked it; and what WhatsApp says about it, or null
 * - `banned` ({code, until}): WhatsApp bans the account for a while; `until` in milliseconds, or null
 * - `passkey` (isWanted): the page asks for a passkey, because WhatsApp wants one of the phone that has
 *   answered, or (false) perhaps only as an offer of its own
 * - `failed` (error): injection into a page that was loaded again failed
 * - `load_failed` (error): there is a login, and the library cannot be made ready
 * - `check_failed` (error): what the page of a ready session has could not be looked at
 * - `pairing_failed` (error): WhatsApp gave no pairing code
 */
const sessionClientOf = (Client, KeptAuth) => class SessionClient extends Client {
    /** Calls that keep the page busy, and downloads, which keep the network busy and nobody else waiting. */
    turns = new Turns();
    downloads = new Turns(DOWNLOAD_LIMIT_MS);

    #limitMs;
    #pinned;
    /** The document that is loaded now, and the one whose work goes on. */
    #document = null;
    #bound = null;
    /** What the newest injection is into, and found. */
    #injection = null;
    #injecting = null;
    #started = false;
    #reloading = false;
    #last = Promise.resolve();
    #evaluate;
    /** The library's own function for a login that is loaded. */
    #makeReady = null;
    /** Whether the page has told of a logout of which there is no other sign yet, and when that is sought. */
    #isLeaving = false;
    #leaving = null;
    /** What the browser is asked past the page. */
    #devtools = null;
    #frame = null;
    #upstream = null;
    #nextCheck = null;

    /**
     * @param {{clientId, dataPath, executablePath, args, identity, env, signal, phone, startLimitMs, pinned}}
     *   options `signal` kills the browser, even while it starts; `phone` asks for pairing codes instead of
     *   QR; `pinned` is the file of a pinned page, or null
     */
    constructor(options) {
        const hooks = {
            pageOpened: (browser, page) => this.#pageOpened(browser, page, options.identity),
            loginNeeded: () => {
                this.#injection.needed = true;
                if (this.#isLeaving) this.#left(null, null);
                this.emit('login_needed');
            },
        };
        super({
            authStrategy: new KeptAuth({ clientId: options.clientId, dataPath: options.dataPath }, hooks),
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
            puppeteer: {
                executablePath: options.executablePath,
                headless: isHeadlessShell(options.executablePath) ? 'shell' : true,
                // Over a TCP port any local user could take the session over; with the pipe the browser also
                // ends when this process does.
                pipe: true,
                handleSIGINT: false,
                handleSIGTERM: false,
                handleSIGHUP: false,
                args: options.args,
                env: options.env,
                signal: options.signal,
                timeout: options.startLimitMs,
                protocolTimeout: options.startLimitMs + 120_000,
                defaultViewport: null,
            },
        });
        this.#limitMs = options.startLimitMs;
        this.#pinned = options.pinned ?? null;
    }

    /** Tell whether the page works for somebody: a page that is busy is not dead. */
    get busy() {
        return this.turns.busy || this.downloads.busy;
    }

    async #pageOpened(browser, page, identity) {
        await page.setUserAgent(identity);
        page.on('response', (response) => {
            const request = response.request();
            const main = request.isNavigationRequest() && request.frame() === page.mainFrame();
            if (main && response.status() >= 400) this.emit('http_error', response.status());
        });
        this.#evaluate = page.evaluate.bind(page);
        page.evaluate = (work, ...args) =>
            typeof work === 'string' && this.#bound === null
                ? this.#evaluate(work)
                : this.#evaluate(guarded(work, this.#bound), ...args);
        const expose = page.exposeFunction.bind(page);
        // Frames have the function, too, but not the proof.
        const proof = randomBytes(16).toString('hex');
        await expose('waportdTell', (given, document, what, ...more) => {
            if (given === proof) this.#told(document, what, more);
        });
        page.exposeFunction = (name, heard) => {
            if (name === 'onAppStateHasSyncedEvent') this.#makeReady = heard;
            return expose(name, (...args) => this.#heard(name, heard, args));
        };
        await page.evaluateOnNewDocument(prepareDocument, proof);
        // Now: a page that hangs takes nothing that is opened later.
        this.#devtools = await page.createCDPSession();
        this.#frame = (await this.#devtools.send('Page.getFrameTree')).frameTree.frame.id;
        this.emit('browser', browser, page);
    }

    // ---- what the page tells ---------------------------------------------------------------------

    /** The page calls one of our functions. */
    #told(document, what, [value, ...more]) {
        if (what === 'document') {
            this.#documentBegan(document, value);
        } else if (document !== this.#document?.name) {
            return;
        } else if (what === 'passkey') {
            this.emit('passkey', value);
        } else if (what === 'banned') {
            this.emit('banned', readBan(value, ...more));
        } else if (what === 'changed') {
            this.#lookAtLogin();
        }
    }

    /** The page calls one of the library's functions. Three of them are ours to answer. */
    #heard(name, heard, args) {
        const isNow = this.#injection !== null && this.#injection.document === this.#document;
        // A message is one, wherever it was heard.
        if (!isNow && name !== 'onAddMessageEvent') return undefined;
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
            // It closes the browser in most states.
            case 'onAppStateChangedEvent':
                return undefined;
            default:
                return heard(...args);
        }
    }

    #documentBegan(name, address) {
        const { searchParams } = new URL(address);
        this.#document = { name };
        clearTimeout(this.#nextCheck);
        clearTimeout(this.#leaving);
        this.#leaving = null;
        if (searchParams.has('post_logout')) {
            const why = searchParams.get('logout_reason') ?? '';
            const said = [...searchParams].filter(([key]) => key.startsWith('logout_message_'));
            const words = said.map(([, text]) => text.slice(0, MAX_WORDS)).join(': ');
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
     * The page told of a logout and was not loaded again: it is one if the page shows that it has no login
     * any more. A connection that is lost meanwhile, or an account that still loads, tells neither.
     */
    async #lookIfLeft() {
        const document = this.#document;
        const seen = await this.#evaluate(look).catch(() => null);
        if (document !== this.#document) return;
        this.#leaving = null;
        if (seen === null) return;
        const { state, synced } = seen;
        if (/^UNPAIRED/.test(state) || (this.#injection.loaded && state !== null && !synced)) {
            this.#left(null, null);
        } else if (synced && state === 'CONNECTED') {
            this.#isLeaving = false;
            this.#lookAtLogin();
        } else {
            this.#awaitLeaving();
        }
    }

    #left(why, words) {
        this.#isLeaving = false;
        this.emit('logout', why, words);
    }

    /** The library takes any navigation of any frame to such an address for a logout. */
    emit(event, ...args) {
        if (event === 'disconnected' && args[0] === 'LOGOUT') return false;
        return super.emit(event, ...args);
    }

    // ---- injection -------------------------------------------------------------------------------

    /** Called by the library at first, and at each navigation of any frame. Documents tell of themselves. */
    async inject() {
        if (this.#started) return;
        this.#started = true;
        if (this.#document === null) throw new Error('the page does not tell of its document');
        await this.#injectInto(this.#document);
    }

    /**
     * Do work in one document, after what was begun before it: the library's functions are made of several
     * steps, and the page may load itself again between two of them. What a document that has gone leaves
     * undone is no error.
     */
    #alone(document, work) {
        const turn = this.#last.then(async () => {
            if (document !== this.#document) return;
            this.#bound = document;
            try {
                await work();
            } catch (error) {
                const isGone = document !== this.#document || DOCUMENT_GONE.test(error?.message ?? error);
                if (!isGone) throw error;
            } finally {
                this.#bound = null;
            }
        });
        this.#last = turn.catch(() => {});
        return turn;
    }

    #injectInto(document) {
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

    /** Let the library make itself ready, once in a document, if the state of the page is that of a login. */
    #lookAtLogin() {
        const injection = this.#injection;
        // A page is seen to change before the library is put into its first document.
        if (injection === null) return;
        const looked = this.#alone(injection.document, async () => {
            if (injection.loaded || this.#leaving !== null || this.#makeReady === null) return;
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

    /**
     * Called by the library before it loads the page. Nothing is cached; the library's version would keep a
     * listener with an unwatched promise.
     */
    async initWebVersionCache() {
        if (this.#pinned !== null) await pinPage(this.pupPage, this.#pinned);
    }

    // ---- what the page has -----------------------------------------------------------------------

    /** Called by the library when the page has told its build, before anything else is done with it. */
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

    /** Look at what the page has, and tell it if that is news. */
    async #check(part) {
        const seen = await this.pupPage.evaluate(inspect, wantedOf(part));
        const missing = missingOf(part, seen);
        const checked = part === 'main' ? ['boot', 'main'] : ['boot'];
        const shims = { ...seen.shims };
        if (part === 'main') shims.synced = this.#makeReady === null ? 'absent' : 'applied';
        const upstream = { build: seen.build, ok: missing.length === 0, checked, missing, shims };
        // What is known of the rest of a build stays known while the page is loaded again.
        const last = this.#upstream;
        const knewMore = last?.build === seen.build && last.checked.length > checked.length;
        if (knewMore && missing.length === 0) return upstream;
        if (JSON.stringify(upstream) !== JSON.stringify(this.#upstream)) {
            this.#upstream = upstream;
            this.emit('upstream', upstream);
        }
        return upstream;
    }

    // ---- what is asked of the page ---------------------------------------------------------------

    /** Called unwatched by the library when the page is ready to give a code. */
    async requestPairingCode(...args) {
        const document = this.#document;
        try {
            return await super.requestPairingCode(...args);
        } catch (error) {
            if (document === this.#document) this.emit('pairing_failed', error);
            return undefined;
        }
    }

    /**
     * Tell what the page shows.
     *
     * @returns {Promise<{loaded, state, mode, synced, pairing_type, refused}>} whether its modules are there;
     *   WhatsApp's words for its connection, its screen and how a phone links; whether the account is loaded;
     *   whether WhatsApp does not take this browser
     */
    async look() {
        const seen = await this.#evaluate(look);
        if (seen.synced && this.#injection?.loaded === false) this.#lookAtLogin();
        return seen;
    }

    /**
     * Load the page anew in this browser, whatever state it is in; resolves when the library is injected into
     * it.
     *
     * @throws {Error} what the browser, or the library, has against it
     */
    async reload() {
        this.#reloading = true;
        try {
            const sign = this.#evaluate('true').catch(() => false);
            // One that hangs, or has crashed, would keep its process, and with it every page of the site.
            if (!(await Promise.race([sign, pause(SIGN_MS, false)]))) {
                // Of a browser that stands still no page comes back.
                await withLimit(this.pupBrowser.version(), BROWSER_SIGN_MS, 'a sign of the browser');
                await this.#endPage();
            }
            await this.pupPage.goto(SITE, { waitUntil: 'load', timeout: this.#limitMs });
            await this.#injecting;
        } finally {
            this.#reloading = false;
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
     * Tell whether the site can be reached from this browser, whatever its page does: `{error, status}`,
     * Chromium's name of what is wrong, and the number of the answer; each may be null.
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
     *
     * @throws {Error} none came
     */
    async refreshQr() {
        for (const way of [0, 1, 2]) {
            const waiting = new AbortController();
            const came = once(this, 'qr', { signal: waiting.signal }).then(
                () => true,
                () => false,
            );
            const asked = await this.#evaluate((each) => window.waportd.newCodes(each), way);
            const isThere = asked && (await Promise.race([came, pause(NEW_CODES_MS, false)]));
            waiting.abort();
            if (isThere) return;
        }
        throw new Error('the page gives no new codes');
    }

    /** Tell chats, newest first: `{chats, total}`. */
    listChats(limit, offset) {
        return this.pupPage.evaluate(chatsPage.listChats, limit, offset);
    }

    /** Tell the id by which the page knows a chat, or null. */
    findChat(id) {
        return this.pupPage.evaluate(chatsPage.findChat, id);
    }

    /** Tell the ids of own messages in a chat with this text, not older than a time in seconds. */
    async findSent(chat, text, since) {
        const known = await this.findChat(chat);
        return known === null ? [] : this.pupPage.evaluate(chatsPage.findSent, known, text, since);
    }

    /** Unlink this device: the phone forgets it, the page logs out. */
    unlink() {
        return this.#evaluate(() => window.require('WAWebSocketModel').Socket.logout());
    }
};

/** Read what the page was told of a ban: a code, and its end as seconds from now or as a time. */
function readBan(told, more) {
    const { code, expiry, expire = expiry, expires = expire } =
        typeof told === 'object' && told !== null ? told : { code: told, expires: more };
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
 * @param {{Client: Function, LocalAuth: Function}} library as `loadEngine` gives it
 */
const createSessionClient = ({ Client, LocalAuth }) => sessionClientOf(Client, keptAuthOf(LocalAuth));

module.exports = { createSessionClient };

'use strict';

/**
 * whatsapp-web.js, unmodified, made safe to depend on: every promise it leaves unwatched is watched here, it
 * never deletes a profile, and it tells more than its own events do. Which version it is, engine.js decides.
 *
 * The names of page functions (`onAuthAppStateChangedEvent`, `onLogoutEvent`) and the call order of the
 * strategy's hooks are those of the pinned version's src/Client.js.
 */

const { setTimeout: pause } = require('node:timers/promises');

const { isHeadlessShell } = require('./browser');
const { pinPage } = require('./pinned');

/** How long what the page told on its own may take to arrive, in milliseconds. */
const HEARD_MS = 2_000;
/** How long a page that loads itself again is left alone, in milliseconds. */
const SETTLE_MS = 100;

/** Runs in the page before its own scripts: WhatsApp asks for a passkey through WebAuthn. */
function reportPasskeyRequests() {
    const credentials = navigator.credentials;
    if (!credentials?.get) return;
    const get = credentials.get.bind(credentials);
    credentials.get = (options) => {
        if (options?.publicKey) window.waportdPasskeyRequested?.();
        return get(options);
    };
}

/** Runs in the page: WhatsApp's connection, and whether the account is loaded. */
function connection() {
    const { Socket } = window.require('WAWebSocketModel');
    return { state: Socket.state ?? null, synced: Boolean(Socket.hasSynced) };
}

/** Runs in the page: what can be seen of its progress without changing it. */
function look() {
    const visible = document.body?.innerText ?? '';
    return {
        loaded: window.Debug?.VERSION !== undefined,
        state:
            window.Debug?.VERSION === undefined
                ? null
                : (window.require('WAWebSocketModel').Socket.state ?? null),
        passkey: /passkey/i.test(visible),
        refused: /works with (Google )?Chrome|update (Google )?Chrome/i.test(visible),
    };
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
 * One run of the library in one browser. Beyond the library's events it emits
 *
 * - `browser` (browser, page): the page is there, before anything is loaded
 * - `http_error` (status): the site answered, but not with its page
 * - `login_needed` / `login_found`: whether the profile holds a login
 * - `socket` (state): WhatsApp's own connection state, before and after the login
 * - `logout`: the page was logged out
 * - `passkey`: the page asks for a passkey
 * - `failed` (error): injection into a page that was loaded again failed
 * - `pairing_failed` (error): WhatsApp gave no pairing code
 */
const sessionClientOf = (Client, KeptAuth) => class SessionClient extends Client {
    #first = true;
    #needed = false;
    #synced = false;
    #pinned;

    /**
     * @param {{clientId, dataPath, executablePath, args, identity, env, signal, phone, startLimitMs, pinned}}
     *   options `signal` kills the browser, even while it starts; `phone` asks for pairing codes instead of
     *   QR; `pinned` is the file of a pinned page, or null
     */
    constructor(options) {
        const hooks = {
            pageOpened: (browser, page) => this.#pageOpened(browser, page, options.identity),
            loginNeeded: () => {
                this.#needed = true;
                this.emit('login_needed');
            },
        };
        super({
            authStrategy: new KeptAuth({ clientId: options.clientId, dataPath: options.dataPath }, hooks),
            webVersionCache: { type: 'none' },
            userAgent: false,
            authTimeoutMs: options.startLimitMs,
            qrMaxRetries: 0,
            evalOnNewDoc: reportPasskeyRequests,
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
        this.#pinned = options.pinned ?? null;
    }

    async #pageOpened(browser, page, identity) {
        this.on('authenticated', () => {
            this.#synced = true;
        });
        await page.setUserAgent(identity);
        page.on('response', (response) => {
            const request = response.request();
            const main = request.isNavigationRequest() && request.frame() === page.mainFrame();
            if (main && response.status() >= 400) this.emit('http_error', response.status());
        });
        // The library leaves functions alone that the page already has. Its own version of the first one
        // throws in node (it calls window) so that no code follows the last one; of the second it waits for a
        // navigation.
        await page.exposeFunction('onAuthAppStateChangedEvent', (state) => this.emit('socket', state));
        await page.exposeFunction('onLogoutEvent', () => this.emit('logout'));
        await page.exposeFunction('waportdPasskeyRequested', () => this.emit('passkey'));
        this.emit('browser', browser, page);
    }

    /** Called by the library at first and after each navigation; the latter unwatched. */
    async inject() {
        const first = this.#first;
        this.#first = false;
        this.#needed = false;
        this.#synced = false;
        try {
            await this.#injectSteadily();
        } catch (error) {
            if (first) throw error;
            this.emit('failed', error);
            return;
        }
        if (!this.#needed) this.emit('login_found');
        this.#catchUp().catch((error) => this.emit('failed', error));
    }

    /**
     * A page that loads itself again while it is being worked on (it does so after a logout) is waited for.
     */
    async #injectSteadily() {
        for (;;) {
            try {
                await super.inject();
                return;
            } catch (error) {
                if (!/context was destroyed|Cannot find context/i.test(error?.message)) throw error;
                await pause(SETTLE_MS);
            }
        }
    }

    /**
     * Tell what happened in the page before the library listened: a phone that was quick, a login that was
     * loaded already, of which the library would never hear (`authenticated`, never `ready`).
     */
    async #catchUp() {
        const { state, synced } = await this.pupPage.evaluate(connection);
        if (this.#needed) this.emit('socket', state);
        if (!synced) return;
        await pause(HEARD_MS);
        if (!this.#synced) await this.pupPage.evaluate(() => window.onAppStateHasSyncedEvent());
    }

    /** Called unwatched by the library when the page is ready to give a code. */
    async requestPairingCode(...args) {
        try {
            return await super.requestPairingCode(...args);
        } catch (error) {
            this.emit('pairing_failed', error);
            return undefined;
        }
    }

    /**
     * Called by the library before it loads the page. Nothing is cached; the library's version would keep a
     * listener with an unwatched promise.
     */
    async initWebVersionCache() {
        if (this.#pinned !== null) await pinPage(this.pupPage, this.#pinned);
    }

    /** Tell what the page shows: `{loaded, state, passkey, refused}`. */
    look() {
        return this.pupPage.evaluate(look);
    }

    /** Have the page ask WhatsApp for a new batch of codes, as its own button does. */
    refreshQr() {
        return this.pupPage.evaluate(() => window.require('WAWebCmd').Cmd.refreshQR());
    }

    /** Unlink this device: the phone forgets it, the page logs out. */
    unlink() {
        return this.pupPage.evaluate(() => window.require('WAWebSocketModel').Socket.logout());
    }
};

/**
 * Make the client of sessions from the classes of a library.
 *
 * @param {{Client: Function, LocalAuth: Function}} library as `loadEngine` gives it
 */
const createSessionClient = ({ Client, LocalAuth }) => sessionClientOf(Client, keptAuthOf(LocalAuth));

module.exports = { createSessionClient };

'use strict';

/**
 * Looks at WhatsApp Web as a session does, up to its first code, and reports what it found: the part of
 * `waportctl doctor --upstream` that needs a browser. Nobody logs in. Asked and ended as answer.js says, it
 * writes one line of JSON:
 *
 * - `browser`: `{path, version}`, or null
 * - `reached`: the site answered with a page for this browser
 * - `upstream`: as in `GET /session`
 * - `code`: `{ms, shown, parts, differing}`, or null: how long it took from the start of the loading, whether
 *   the page shows the same one (null = the page does not say what it shows), of how many parts the two are,
 *   and which of them differ, from 1. The codes themselves are not shown
 * - `error`: `{cause, message, hint}`, or null
 */

const { setTimeout: pause } = require('node:timers/promises');

const { answer } = require('./answer');
const { BrowserVersions } = require('./browser_version');
const { describeEngine, loadEngine } = require('./engine');
const { SessionError, withLimit } = require('./errors');
const { BrowserProcess } = require('./launch');
const { isQr } = require('./phase_linking');
const { reason } = require('./session_errors');
const { BrowserRun } = require('./browser_run');
const { UNSEEN } = require('./state');
const { Storage } = require('./storage');

/** From the browser's first page until there is a code, in milliseconds. */
const CODE_LIMIT_MS = 60_000;
const LOOK_LIMIT_MS = 5_000;
/** How long the page may take to draw the code that it has given, in milliseconds. */
const DRAWN_LIMIT_MS = 5_000;
const POLL_MS = 100;

const SILENT = { error() {}, warning() {}, info() {}, debug() {} };

/** Runs in the page: the text of the code that it draws; null where it does not say. */
function drawnCode() {
    /** @type {HTMLElement|null} */
    const code = window.document.querySelector('[data-ref]');
    return code?.dataset.ref ?? null;
}

/** Return how two codes differ, without their content. @param {string} given @param {string} drawn */
function compareCodes(given, drawn) {
    const [ours, shown] = [given, drawn].map((text) => text.split(','));
    const places = Array.from({ length: Math.max(ours.length, shown.length) }, (_, index) => index);
    return {
        shown: given === drawn,
        parts: { given: ours.length, shown: shown.length },
        differing: places.filter((index) => ours[index] !== shown[index]).map((index) => index + 1),
    };
}

const described = (
    /** @type {{cause?: string, message: string, hint?: string|null}} */ { cause, message, hint },
) => ({ cause: cause ?? 'failed', message, hint: hint ?? null });

const noCode = () =>
    new SessionError(
        'no_code',
        `web.whatsapp.com gave no code within ${CODE_LIMIT_MS / 1000} s`,
        'look at https://web.whatsapp.com from this host; WhatsApp may have changed its page',
    );

/**
 * The result.
 *
 * @typedef {object} Found
 * @property {{path: string, version: string}|null} browser
 * @property {boolean} reached
 * @property {import('./types').Upstream|null} upstream
 * @property {({ms: number} & Compared)|null} code
 * @property {ReturnType<typeof described>|null} error
 *
 * @typedef {{shown: boolean|null, parts: {given: number, shown: number}|null, differing: number[]}} Compared
 */

/** One look at the site: what is known of it so far, and a browser. */
class Look {
    #run;
    #config;
    /** @type {Found} */
    #found = { browser: null, reached: false, upstream: null, code: null, error: null };
    #code = '';

    constructor(/** @type {import('./types').Config} */ config) {
        // However long a session may wait: somebody sits there.
        this.#config = { ...config, startTimeout: CODE_LIMIT_MS / 1000 };
        this.#found.upstream = {
            ...UNSEEN,
            ...describeEngine(config.engine),
            pinned: config.webVersion,
        };
        this.#run = new BrowserRun({
            config: this.#config,
            storage: new Storage(config),
            // No session has found out yet that the first one is of no use.
            choice: { pick: async ([first]) => first },
            versions: new BrowserVersions(null),
            startBrowser: (...args) => new BrowserProcess(...args),
            log: { ...SILENT, info: (_, fields) => this.#took(/** @type {any} */ (fields)) },
            phone: null,
        });
    }

    #took(/** @type {{path: string, version: string}} */ { path: file, version }) {
        this.#found.browser = { path: file, version };
    }

    /** @param {Promise<never>} givenUp rejects when the caller has gone */
    async take(givenUp) {
        try {
            await Promise.race([this.#untilCode(), givenUp]);
        } catch (error) {
            this.#found.error = await Promise.race([this.#explain(error), givenUp]);
        }
        return this.#found;
    }

    close() {
        return this.#run.close();
    }

    async #untilCode() {
        const run = this.#run;
        await run.start();
        const library = loadEngine(this.#config.engine);
        const { createSessionClient } = require('./whatsapp');
        run.makeClient(createSessionClient(library));
        const { client } = run;
        let began = 0;
        /** @type {Promise<void>} */
        const loading = new Promise((resolve) => {
            client.once('browser', (browser, page, version) => {
                run.opened(browser, version, () => {});
                began = performance.now();
                /** @param {import('puppeteer').HTTPResponse} response */
                const heard = (response) => this.#answered(response, page);
                page.on('response', heard);
                resolve();
            });
        });
        /** @type {Promise<number>} */
        const code = new Promise((resolve) => {
            client.on('qr', (text) => {
                this.#code = text;
                if (isQr(text)) resolve(performance.now() - began);
            });
        });
        /** @type {Promise<never>} */
        const failed = new Promise((_, reject) => {
            client.on('http_error', (status) => reject(reason.httpError(status)));
            client.on('failed', reject);
            client.on('upstream', (upstream) => {
                const before = /** @type {import('./types').Upstream} */ (this.#found.upstream);
                this.#found.upstream = { ...before, ...upstream };
            });
            // The library leaves some of its promises unwatched.
            process.on('unhandledRejection', reject);
            run.load().catch(reject);
        });
        failed.catch(() => {});
        await Promise.race([loading, failed]);
        const ms = await withLimit(Promise.race([code, failed]), CODE_LIMIT_MS, 'a code');
        this.#found.code = { ms: Math.round(ms), ...(await this.#compare()) };
    }

    /** @param {import('puppeteer').HTTPResponse} response @param {import('puppeteer').Page} page */
    #answered(response, page) {
        const request = response.request();
        if (!request.isNavigationRequest() || request.frame() !== page.mainFrame()) return;
        if (response.status() < 400) this.#found.reached = true;
    }

    /** Compare what we would have people scan with what the page shows, which may be drawn a moment later. */
    async #compare() {
        /** @type {Compared} */
        let compared = { shown: null, parts: null, differing: [] };
        for (const end = performance.now() + DRAWN_LIMIT_MS; performance.now() < end; await pause(POLL_MS)) {
            const asked = this.#run.client.pupPage.evaluate(drawnCode);
            const drawn = await withLimit(asked, LOOK_LIMIT_MS, 'the code on the page');
            if (drawn === null) continue;
            compared = compareCodes(this.#code, drawn);
            if (compared.shown) break;
        }
        return compared;
    }

    async #explain(/** @type {any} */ error) {
        const run = this.#run;
        if (error instanceof SessionError) return described(error);
        if (run.client !== null && run.browser === null) return described(await run.diagnose());
        const refused = await this.#refusal();
        return described(refused ?? (error.name === 'TimeLimitError' ? noCode() : reason.of(error)));
    }

    /** Return whether it is this browser that the site does not want. */
    async #refusal() {
        if (this.#run.browser === null) return null;
        const asked = this.#run.client.look();
        const seen = await withLimit(asked, LOOK_LIMIT_MS, 'the page').catch(() => null);
        if (!seen?.refused) return null;
        this.#found.reached = false;
        return new SessionError(
            'browser_refused',
            'web.whatsapp.com does not take this browser',
            'update it, or try another one (instances.browser)',
        );
    }
}

answer(async (config, givenUp) => {
    const look = new Look(config);
    try {
        return await look.take(givenUp);
    } finally {
        await look.close();
    }
});

'use strict';

/**
 * Starts the browsers that a session could take, each with an empty page, until one starts: the part of
 * `waportctl doctor` that needs a browser. Nothing is loaded from anywhere. Asked and ended as answer.js
 * says, it writes one line of JSON:
 *
 * - `tried`: `{path, version, error}` of each, best first; the last one works, or none does
 * - `error`: why none was tried
 *
 * where each `error` is `{message, hint}`, or null.
 */

const { answer } = require('./answer');
const browsers = require('./browser');
const { browserArguments, identity } = require('./browser_arguments');
const { browserVersion } = require('./browser_version');
const { Storage } = require('./storage');

const wordsOf = (/** @type {{message: string, hint?: string|null}} */ { message, hint }) => ({
    message,
    hint: hint ?? null,
});

/**
 * @param {string} file
 * @param {import('./types').Config} config
 * @param {Storage} storage
 * @param {AbortSignal} signal
 */
async function tryBrowser(file, config, storage, signal) {
    const env = browsers.browserEnvironment(storage.cacheDirectory);
    let version = null;
    try {
        version = await browserVersion(file, env);
        const args = browserArguments(file, {
            cacheDirectory: storage.cacheDirectory,
            userAgent: identity(version).userAgent,
            extra: config.browserArgs,
            proxy: config.proxy,
        });
        await browsers.tryOut(file, args, storage.profile, env, signal);
        return { path: file, version, error: null };
    } catch (error) {
        return { path: file, version, error: wordsOf(/** @type {Error & {hint?: string}} */ (error)) };
    }
}

answer(async (config, givenUp) => {
    const abort = new AbortController();
    /** @type {Awaited<ReturnType<typeof tryBrowser>>[]} */
    const tried = [];
    const work = async () => {
        const storage = new Storage(config);
        await storage.prepare();
        for (const file of await browsers.findBrowsers(config.browser)) {
            if (abort.signal.aborted) break;
            tried.push(await tryBrowser(file, config, storage, abort.signal));
            if (tried.at(-1)?.error === null) break;
        }
        return { tried, error: null };
    };
    const working = work().catch((error) => ({ tried, error: wordsOf(error) }));
    try {
        return await Promise.race([working, givenUp]);
    } finally {
        abort.abort();
        await working;
    }
});

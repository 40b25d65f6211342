'use strict';

/** The version of a browser: asked once, and remembered across restarts. */

const fs = require('node:fs/promises');
const path = require('node:path');

const { failure, run } = require('./browser');
const { readJson, replaceFile } = require('./disk');

const LIMIT_MS = 15_000;

/**
 * A program as it was when it was asked, and its answer.
 *
 * @typedef {{path: string, mtime: number, size: number, version: string, [name: string]: unknown}} Known
 */

/**
 * Ask a browser for its version.
 *
 * @param {string} file
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<string>} such as `156.0.8078.79`
 * @throws {SessionError} `browser_failed`: it cannot be run
 */
async function browserVersion(file, env) {
    const result = await run(file, ['--version'], env, LIMIT_MS);
    const version = result.stdout.match(/\d+(\.\d+){1,3}/)?.[0];
    if (result.error || version === undefined) throw failure(file, result);
    return version;
}

class BrowserVersions {
    #file;
    /** @type {Known|null} */
    #known = null;
    #isRead = false;

    /** @param {string|null} directory where it is remembered, once that is there; null = nowhere */
    constructor(directory) {
        this.#file = directory === null ? null : path.join(directory, 'browser_version.json');
    }

    /**
     * Return a browser's version. It is asked again only once its program has changed: asking takes a tenth
     * of its start time.
     *
     * @param {string} file
     * @param {NodeJS.ProcessEnv} env
     * @throws {SessionError} `browser_failed`: it cannot be run
     */
    async of(file, env) {
        if (!this.#isRead && this.#file !== null) this.#known = readJson(this.#file);
        this.#isRead = true;
        const now = await describe(file);
        const known = this.#known;
        const isSame = Object.entries(now).every(([name, value]) => known?.[name] === value);
        const version = known?.version ?? '';
        if (isSame && /^\d+(\.\d+){1,3}$/.test(version)) return version;
        return this.#note({ ...now, version: await browserVersion(file, env) });
    }

    /**
     * Take over what a running browser says: what is asked may be a script that runs a program of its choice.
     *
     * @param {string} file
     * @param {string} version
     * @returns {Promise<boolean>} whether it is another version than the known one
     */
    async correct(file, version) {
        if (this.#known?.version === version) return false;
        await this.#note({ ...(await describe(file)), version });
        return true;
    }

    async #note(/** @type {Known} */ known) {
        this.#known = known;
        // Without it the next start takes longer.
        if (this.#file !== null) await replaceFile(this.#file, `${JSON.stringify(known)}\n`).catch(() => {});
        return known.version;
    }
}

async function describe(/** @type {string} */ file) {
    const { mtimeMs, size } = await fs.stat(file);
    return { path: file, mtime: mtimeMs, size };
}

module.exports = { BrowserVersions, browserVersion };

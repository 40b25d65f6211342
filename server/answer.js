'use strict';

/**
 * Answers waportctl's questions about this host's browsers: a program that reads one line of JSON from
 * standard input, the environment variables of a session, and writes one line of JSON. It does not use its
 * own environment: anybody may read that of a unit, and the variables may hold a proxy's password. Its
 * folder, with its own profile, is deleted before it answers, when it is ended, or when standard input ends
 * because the caller has gone.
 */

const fs = require('node:fs/promises');
const os = require('node:os');
const path = require('node:path');
const { createInterface } = require('node:readline');

const { messageOf } = require('./errors');
const { readConfig } = require('./config');

/** Resolves with the first line of standard input; `ended` rejects when that ends, or a signal comes. */
function listen() {
    const lines = createInterface({ input: process.stdin });
    /** @type {Promise<string>} */
    const first = new Promise((resolve) => {
        lines.once('line', resolve);
    });
    /** @type {Promise<never>} */
    const ended = new Promise((_, reject) => {
        const end = (/** @type {string} */ why) => reject(new Error(why));
        lines.once('close', () => end('the caller has gone'));
        for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => end(signal));
        process.on('uncaughtException', (error) => end(messageOf(error)));
    });
    ended.catch(() => {});
    return { first, ended };
}

/**
 * Run such a program, and end the process.
 *
 * @param {(config: import('./types').Config, givenUp: Promise<never>) => Promise<object>} work finds the
 *   answer, and leaves nothing running when it is done; `givenUp` rejects when the caller has gone
 */
async function answer(work) {
    process.umask(0o077);
    const { first, ended } = listen();
    const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'doctor-'));
    // The browser's sockets and settings, too, go with it. A short name: a socket's has 107 bytes at most.
    Object.assign(process.env, { HOME: folder, TMPDIR: folder });
    const cleanUp = () => fs.rm(folder, { recursive: true, force: true, maxRetries: 4 });
    try {
        const given = JSON.parse(await Promise.race([first, ended]));
        const places = { PORT: '1', STATE_DIRECTORY: folder, CACHE_DIRECTORY: folder };
        const found = await work(readConfig({ ...given, ...places }, [], folder), ended);
        await cleanUp();
        process.stdout.write(`${JSON.stringify(found)}\n`, () => process.exit(0));
    } catch (error) {
        await cleanUp();
        process.stderr.write(`${messageOf(error)}\n`, () => process.exit(1));
    }
}

module.exports = { answer };

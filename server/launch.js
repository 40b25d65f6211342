'use strict';

/** Starts a browser that is driven over a pipe: of a TCP port any local user could take the session over. */

const { spawn } = require('node:child_process');

const { failure, killGroup } = require('./browser');

/**
 * @typedef {import('node:stream').Readable} Readable
 * @typedef {import('node:stream').Writable} Writable
 * @typedef {[stdin: null, stdout: null, stderr: Readable, write: Writable, read: Readable]} Pipes
 */

/** How much of what a browser says last is kept, in characters. */
const MAX_SAID_CHARACTERS = 16_384;

/**
 * A browser with an empty page. It leads a process group of its own, and ends with this process: its pipe
 * breaks.
 */
class BrowserProcess {
    #file;
    #child;
    #pipe;
    #said = '';
    /** How it ended; null = it runs. @type {import('./browser').End|null} */
    #end = null;
    #killed = false;
    /** Resolves when nobody can say any more on its behalf. */
    #silent;

    /**
     * @param {string} file
     * @param {string[]} args all of them, but those of the profile and the pipe
     * @param {string} profile
     * @param {NodeJS.ProcessEnv} env
     */
    constructor(file, args, profile, env) {
        this.#file = file;
        const all = [...args, `--user-data-dir=${profile}`, '--remote-debugging-pipe', 'about:blank'];
        const child = spawn(file, all, {
            ...{ env, detached: true },
            stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
        });
        this.#child = child;
        const [, , stderr, write, read] = /** @type {Pipes} */ (/** @type {unknown} */ (child.stdio));
        this.#pipe = { write, read };
        stderr.setEncoding('utf8').on('data', (text) => {
            this.#said = (this.#said + text).slice(-MAX_SAID_CHARACTERS);
        });
        this.#silent = new Promise((resolve) => {
            stderr.once('close', resolve);
        });
        // Its end shows the result.
        for (const pipe of [stderr, write, read]) pipe.on('error', () => {});
        /** Resolves when its first process has ended, or was never there. */
        this.ended = new Promise((resolve) => {
            this.#child.once('error', resolve);
            this.#child.once('exit', (code, signal) => resolve({ killed: this.#killed, signal, code }));
        }).then((end) => {
            this.#end = end;
        });
    }

    /** Its process id, which is that of its group; undefined where it could not be started. */
    get pid() {
        return this.#child.pid;
    }

    /** The ends of its pipe: `{write, read}`. */
    get pipe() {
        return this.#pipe;
    }

    /** End it with all of its group. */
    kill() {
        this.#killed ||= this.#end === null;
        killGroup(this.pid);
    }

    /** Return why it did not start; ends it. @returns {Promise<import('./errors').SessionError>} */
    async explain() {
        this.kill();
        await Promise.all([this.ended, this.#silent]);
        return failure(this.#file, { error: this.#end, stderr: this.#said });
    }
}

module.exports = { BrowserProcess };

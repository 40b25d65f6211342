'use strict';

/**
 * What a session keeps on disk: the browser profile that holds the login, the browser's cache, and a note on
 * whether a login is in the profile (a profile alone does not show it: an unscanned one has the same files).
 */

const { existsSync, readdirSync } = require('node:fs');
const fs = require('node:fs/promises');
const os = require('node:os');
const path = require('node:path');

const { makeFolder, readJson, replaceFile } = require('./disk');
const { SessionError, codeOf } = require('./errors');

const MIN_FREE_BYTES = 32 * 1024 * 1024;

/** The folder of the journal and of files that are being sent, next to the login. */
const MESSAGES = 'messages';
/** Copies of the login, and the login that one of them has replaced (snapshots.js). */
const SNAPSHOTS = 'snapshots';
const DAMAGED = 'damaged-login';

/** A browser's cache has some thousand files. */
const MAX_FILES = 50_000;

const isFull = (/** @type {NodeJS.ErrnoException} */ error) =>
    error.code === 'ENOSPC' || error.code === 'EDQUOT';

/** @param {NodeJS.ErrnoException} error @param {string} directory */
function storageError(error, directory) {
    if (isFull(error)) {
        return new SessionError(
            'disk_full',
            `no space left on the disk that holds ${directory}`,
            'free some space on that disk; the session then restarts automatically',
        );
    }
    if (error.code === 'ENOENT') {
        return new SessionError(
            'profile_missing',
            `the session folder ${directory} was deleted`,
            'the server restarts automatically, and systemd recreates the folder',
        );
    }
    return new SessionError(
        'profile_error',
        `cannot use the session folder ${directory}: ${error.message}`,
        'check that the folder exists, is a folder, and belongs to the user this server runs as',
    );
}

/** Yield the entries of a folder of any size. One that goes away meanwhile is no error. */
async function* entriesOf(/** @type {string} */ folder) {
    try {
        yield* await fs.opendir(folder);
    } catch {
        // It is gone, or may not be read.
    }
}

/**
 * Add up the lengths of the files below a folder. Links are not followed, and the folders `without` are left
 * out; a file with several names counts once. It stops at more bytes or entries than the limits, and returns
 * what it has found so far.
 *
 * @param {string} folder
 * @param {number} maxBytes
 * @param {number} maxFiles
 * @param {string[]} without
 * @returns {Promise<{bytes: number, isOver: boolean}>}
 */
async function weigh(folder, maxBytes, maxFiles, without = /** @type {string[]} */ ([])) {
    const folders = [folder];
    let bytes = 0;
    let files = 0;
    const named = new Set();
    while (folders.length > 0) {
        const here = /** @type {string} */ (folders.pop());
        for await (const entry of entriesOf(here)) {
            const where = path.join(here, entry.name);
            if (without.includes(where)) continue;
            if (entry.isDirectory()) folders.push(where);
            else {
                const { size, nlink, ino } = await fs
                    .lstat(where)
                    .catch(() => ({ size: 0, nlink: 1, ino: 0 }));
                if (!named.has(ino)) bytes += size;
                if (nlink > 1) named.add(ino);
            }
            files += 1;
            if (bytes > maxBytes || files > maxFiles) return { bytes, isOver: true };
        }
    }
    return { bytes, isOver: false };
}

/**
 * Delete what is in a folder, and then the folder, if it may be deleted; `kept` stays to the last.
 *
 * @param {string} directory
 * @param {string|null} kept
 */
async function empty(directory, kept = null) {
    for (const name of await fs.readdir(directory).catch(() => [])) {
        if (name === kept) continue;
        await fs.rm(path.join(directory, name), { recursive: true, force: true, maxRetries: 4 });
    }
    if (kept) await fs.rm(path.join(directory, kept), { force: true });
    await fs.rmdir(directory).catch(() => {});
}

class Storage {
    #auth;
    #cache;
    #cacheMax;
    #maxFiles;
    #note;
    #trouble;
    /** @type {Promise<unknown>} */
    #last = Promise.resolve();

    /**
     * @param {{authDirectory: string, cacheDirectory: string, clientId: string, cacheMax?: number,
     *   maxFiles?: number}} config `cacheMax`: bytes that the cache may have when a browser starts;
     *   `maxFiles`: so many files of a folder are examined for its size
     */
    constructor({ authDirectory, cacheDirectory, clientId, cacheMax = Infinity, maxFiles = MAX_FILES }) {
        this.#auth = authDirectory;
        this.#cache = cacheDirectory;
        this.#cacheMax = cacheMax;
        this.#maxFiles = maxFiles;
        this.#note = path.join(authDirectory, 'login.json');
        this.#trouble = path.join(authDirectory, 'trouble.json');
        this.profile = path.join(authDirectory, `session-${clientId}`);
    }

    get authDirectory() {
        return this.#auth;
    }

    get cacheDirectory() {
        return this.#cache;
    }

    /**
     * Return what is known of the stored login: true, false, or `'unknown'` for a profile that another
     * program left here. A deletion that a crash interrupted is finished first.
     *
     * @throws {SessionError} it is not known: an unreadable note is not a missing one
     */
    async login() {
        await this.#guard(() => {
            try {
                readdirSync(this.#auth);
            } catch (error) {
                if (codeOf(error) !== 'ENOENT') throw error;
            }
        });
        const note = readJson(this.#note);
        if (note?.erase === true) {
            await this.erase();
            return false;
        }
        const hasProfile = existsSync(this.profile);
        if (typeof note?.linked === 'boolean') return note.linked && hasProfile;
        return hasProfile ? 'unknown' : false;
    }

    /**
     * Write down whether the profile holds a login: true, false, or 'unknown'.
     *
     * @param {boolean|'unknown'} linked
     * @throws {SessionError}
     */
    async noteLogin(linked) {
        await this.#guard(async () => {
            if (linked === 'unknown') {
                await fs.rm(this.#note, { force: true });
                return;
            }
            await makeFolder(this.#auth);
            await replaceFile(this.#note, JSON.stringify({ linked }));
        });
    }

    /** Return what the process before this one wrote down of its trouble; null = nothing that can be read. */
    trouble() {
        return readJson(this.#trouble);
    }

    /**
     * Write down what the next process has to know of the trouble of this one.
     *
     * @param {object} note
     * @throws {SessionError}
     */
    async noteTrouble(note) {
        await this.#guard(async () => {
            await makeFolder(this.#auth);
            await replaceFile(this.#trouble, JSON.stringify(note));
        });
    }

    /**
     * Delete what was written down of the trouble: it is over.
     *
     * @throws {SessionError}
     */
    async forgetTrouble() {
        await this.#guard(() => fs.rm(this.#trouble, { force: true }));
    }

    /**
     * Make the folders fit for a browser: there, private, writable, with space left, and not locked by
     * another host.
     *
     * Only call it while no browser uses the profile. Chromium refuses a profile whose lock names another
     * host (a restored backup, a renamed machine); the caller owns the profile, so such a lock is stale by
     * definition.
     *
     * @throws {SessionError} `disk_full`, `profile_missing` or `profile_error`
     */
    async prepare() {
        await this.#guard(async () => {
            await makeFolder(this.#auth);
            await makeFolder(this.profile);
            await makeFolder(this.#cache);
            await fs.chmod(this.#auth, 0o700);
            await fs.chmod(this.#cache, 0o700);
            const { bavail, bsize } = await fs.statfs(this.#auth);
            if (bavail * bsize < MIN_FREE_BYTES)
                throw Object.assign(new Error('disk full'), { code: 'ENOSPC' });
            // Proves that files can be made here; an unwritable profile makes Chromium die without a reason.
            await replaceFile(path.join(this.#auth, '.writable'), '');
            await fs.rm(path.join(this.#auth, '.writable'));
            await this.#removeForeignLock();
        });
    }

    /**
     * Empty the cache if it has outgrown its limit; return whether it had. Only call it while no browser uses
     * the profile. The login is not in there, and the browser fetches again what it misses.
     *
     * @returns {Promise<boolean>}
     * @throws {SessionError}
     */
    async trimCache() {
        return this.#guard(async () => {
            if (this.#cacheMax === Infinity) return false;
            if (!(await weigh(this.#cache, this.#cacheMax, this.#maxFiles)).isOver) return false;
            await empty(this.#cache);
            await makeFolder(this.#cache);
            return true;
        });
    }

    /**
     * Measure what is kept: the bytes of all files of the login, with its profile, of the cache, of the
     * journal of messages, and of copies of the login. Of more than 50,000 files in one of them only so many
     * count. May be called at any time.
     *
     * @returns {Promise<{login: number, cache: number, journal: number, snapshots: number}>}
     */
    async sizes() {
        const [journal, snapshots, damaged] = [MESSAGES, SNAPSHOTS, DAMAGED].map((name) =>
            path.join(this.#auth, name),
        );
        const bytesIn = async (/** @type {string} */ folder, /** @type {string[]} */ without = []) =>
            (await weigh(folder, Infinity, this.#maxFiles, without)).bytes;
        return {
            login: await bytesIn(this.#auth, [journal, snapshots, damaged]),
            cache: await bytesIn(this.#cache),
            journal: await bytesIn(journal),
            snapshots: (await bytesIn(snapshots)) + (await bytesIn(damaged)),
        };
    }

    async #removeForeignLock() {
        const target = await fs.readlink(path.join(this.profile, 'SingletonLock')).catch(() => null);
        if (target === null) return;
        const host = target.slice(0, target.lastIndexOf('-'));
        if (host === os.hostname()) return;
        for (const name of ['SingletonLock', 'SingletonCookie', 'SingletonSocket']) {
            await fs.rm(path.join(this.profile, name), { force: true });
        }
    }

    /**
     * Delete the login and the cache. The note is written before the login is touched and removed last, so
     * that an interrupted deletion is finished by the next `login()` and never leaves half a session that
     * looks whole. On a full disk the note cannot be written, and deleting is all the more wanted.
     *
     * @throws {SessionError}
     */
    async erase() {
        await this.#guard(async () => {
            await empty(this.#cache);
            await makeFolder(this.#auth);
            await replaceFile(this.#note, JSON.stringify({ linked: false, erase: true })).catch((error) => {
                if (!isFull(error)) throw error;
            });
            await empty(this.#auth, path.basename(this.#note));
        });
    }

    /**
     * One thing after the other: a run of the browser may begin before an earlier one noticed its end.
     *
     * @template Result
     * @param {() => Result|Promise<Result>} work
     * @returns {Promise<Result>}
     */
    async #guard(work) {
        const done = this.#last.then(work);
        this.#last = done.catch(() => {});
        try {
            return await done;
        } catch (error) {
            throw error instanceof SessionError
                ? error
                : storageError(/** @type {NodeJS.ErrnoException} */ (error), this.#auth);
        }
    }
}

module.exports = { DAMAGED, MESSAGES, SNAPSHOTS, Storage };

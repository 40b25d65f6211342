'use strict';

/**
 * Copies of the login, each of one moment and whole. A login that Chromium finds damaged is replaced by the
 * newest; `waportctl backup` includes it.
 *
 * A login is in two folders of the profile, databases that the browser writes all the time (LevelDB). Each
 * file is copied while it does. Then its processes are paused for some milliseconds, while the files that
 * have changed since are copied: this is the state that a killed browser leaves, and LevelDB is made for
 * that. A file that has not changed since the snapshot before is a hard link to that one's copy, to which
 * nobody writes. (Never to the browser's own file: LevelDB would continue writing to it.)
 *
 * A snapshot is a folder `snapshots/NUMBER` beside the profile, with the files and a description of each: its
 * size and SHA-256. It gets its name, by a rename, when all of it is on the disk.
 */

const { createHash } = require('node:crypto');
const { constants } = require('node:fs');
const fs = require('node:fs/promises');
const path = require('node:path');

const { readJson, replaceFile, sync } = require('./disk');
const { codeOf } = require('./errors');
const { DAMAGED, SNAPSHOTS } = require('./storage');

/** The parts of the profile with the login. The rest of it is caches and settings. */
const FOLDERS = ['Default/IndexedDB', 'Default/Local Storage'];
/** Files that LevelDB recreates, or that only inform people. */
const LEFT_OUT = new Set(['LOCK', 'LOG', 'LOG.old']);
const DESCRIPTION = 'snapshot.json';
const UNFINISHED = 'new';
const RESTORED = 'restored.json';
const VERSION = 1;
/**
 * A file that was written shortly before it was copied is copied again: the times of files grow in steps, so
 * that it may have changed since and look the same.
 */
const STEP_MS = 1_000;
/** More are not needed: another call within this time, in milliseconds, gets the existing one. */
const FRESH_MS = 10_000;
const MAX_FILES = 50_000;

/**
 * @typedef {{size: number, mtimeMs: number, ino: number}} Seen how a file of the browser looked
 * @typedef {Seen & {sha256: string}} Described a file of a snapshot: of which of the browser's it is a copy
 * @typedef {<Result>(work: () => Promise<Result>) => Promise<Result>} StandStill
 * @typedef {object} Snapshot
 * @property {string} folder
 * @property {number} at when the login was like that, in milliseconds since the epoch
 * @property {number} bytes
 * @property {Record<string, Described>} files by their path in the profile
 */

/** Copy a file, at no cost where the file system can share its blocks. */
const copyFile = (/** @type {string} */ from, /** @type {string} */ to) =>
    fs.copyFile(from, to, constants.COPYFILE_FICLONE);

async function hashOf(/** @type {string} */ file) {
    const hash = createHash('sha256');
    const handle = await fs.open(file);
    try {
        for await (const chunk of handle.createReadStream()) hash.update(chunk);
    } finally {
        await handle.close();
    }
    return hash.digest('hex');
}

/** Return the files below a folder of the profile, by their path in it, as they look now. */
async function look(/** @type {string} */ profile, /** @type {string} */ folder) {
    /** @type {Map<string, Seen>} */
    const found = new Map();
    const folders = [folder];
    for (let here = folders.pop(); here !== undefined; here = folders.pop()) {
        const entries = await fs.readdir(path.join(profile, here), { withFileTypes: true }).catch(() => []);
        for (const entry of entries) {
            const name = path.join(here, entry.name);
            if (entry.isDirectory()) folders.push(name);
            else if (entry.isFile() && !LEFT_OUT.has(entry.name)) {
                // LevelDB deletes and renames meanwhile: a file that has gone belongs to no login.
                const stat = await fs.lstat(path.join(profile, name)).catch(() => null);
                if (stat !== null) {
                    found.set(name, { size: stat.size, mtimeMs: stat.mtimeMs, ino: stat.ino });
                }
            }
        }
        if (found.size > MAX_FILES) throw new Error(`a login of more than ${MAX_FILES} files`);
    }
    return found;
}

/** Return all files of the login as they look now. */
async function lookAtAll(/** @type {string} */ profile) {
    const parts = await Promise.all(FOLDERS.map((folder) => look(profile, folder)));
    return new Map(parts.flatMap((part) => [...part]));
}

const isSame = (/** @type {Seen|undefined} */ one, /** @type {Seen} */ other) =>
    one !== undefined && one.size === other.size && one.mtimeMs === other.mtimeMs && one.ino === other.ino;

/** Read the description of a snapshot; null where it is none. @returns {Promise<Snapshot|null>} */
async function describe(/** @type {string} */ folder) {
    try {
        const { version, at, files } = JSON.parse(await fs.readFile(path.join(folder, DESCRIPTION), 'utf8'));
        if (version !== VERSION || !Number.isFinite(at)) return null;
        /** @type {Described[]} */
        const all = Object.values(files);
        return { folder, at, files, bytes: all.reduce((sum, { size }) => sum + size, 0) };
    } catch {
        return null;
    }
}

class Snapshots {
    #folder;
    #auth;
    #profile;
    #keep;
    /** @type {Promise<Snapshot|null>|null} */
    #taking = null;

    /**
     * @param {{authDirectory: string, profile: string}} storage
     * @param {number} keep how many are kept
     */
    constructor({ authDirectory, profile }, keep) {
        this.#auth = authDirectory;
        this.#folder = path.join(authDirectory, SNAPSHOTS);
        this.#profile = profile;
        this.#keep = keep;
    }

    /** The newest snapshot; null = there is none. @returns {Promise<Snapshot|null>} */
    async newest() {
        for (const number of (await this.#numbers()).reverse()) {
            const snapshot = await describe(path.join(this.#folder, String(number)));
            if (snapshot !== null) return snapshot;
        }
        return null;
    }

    /**
     * Of when the newest snapshot is (null = there is none), and when one replaced the login (null = never):
     * in milliseconds since the epoch.
     *
     * @returns {Promise<{at: number|null, restoredAt: number|null}>}
     */
    async times() {
        const [newest, note] = await Promise.all([this.newest(), this.#note()]);
        return { at: newest?.at ?? null, restoredAt: note?.at ?? null };
    }

    /**
     * Copy the login. Two who ask at the same time get the same copy, as does who asks within ten seconds.
     *
     * @param {StandStill} standStill does work while no browser writes
     * @returns {Promise<Snapshot|null>} null = there is nothing to copy
     * @throws {Error} the disk does not take it, or the browser has gone; what there was before stays
     */
    take(standStill) {
        this.#taking ??= this.#take(standStill).finally(() => {
            this.#taking = null;
        });
        return this.#taking;
    }

    /** @param {StandStill} standStill */
    async #take(standStill) {
        const before = await this.newest();
        if (before !== null && Math.abs(Date.now() - before.at) < FRESH_MS) return before;
        const place = path.join(this.#folder, UNFINISHED);
        const began = Date.now();
        const seen = await lookAtAll(this.#profile);
        if (seen.size === 0) return null;
        await fs.mkdir(this.#folder, { recursive: true, mode: 0o700 });
        await fs.rm(place, { recursive: true, force: true });
        for (const [name, file] of seen) {
            const isKnown = isSame(before?.files[name], file) && file.mtimeMs < (before?.at ?? 0) - STEP_MS;
            if (before !== null && isKnown) await this.#link(before.folder, place, name);
            else await this.#copy(place, name).catch(this.#passOver(seen, name));
        }
        const { at, files } = await standStill(() => this.#finish(place, seen, began - STEP_MS));
        if (files.size === 0) return null;
        return this.#publish(place, at, files, before);
    }

    /**
     * Copy what has changed, and drop what has gone.
     *
     * @param {string} place
     * @param {Map<string, Seen>} copied how the files looked before they were copied
     * @param {number} since what was written after that is copied again
     */
    async #finish(place, copied, since) {
        const files = await lookAtAll(this.#profile);
        const at = Date.now();
        for (const [name, file] of files) {
            if (!isSame(copied.get(name), file) || file.mtimeMs >= since) {
                await fs.rm(path.join(place, name), { force: true });
                await this.#copy(place, name);
            }
        }
        for (const name of copied.keys()) {
            if (!files.has(name)) await fs.rm(path.join(place, name), { force: true });
        }
        return { at, files };
    }

    /**
     * Describe a copy, and give it its name once it is on the disk.
     *
     * @param {string} place
     * @param {number} at
     * @param {Map<string, Seen>} seen
     * @param {Snapshot|null} before
     */
    async #publish(place, at, seen, before) {
        /** @type {Record<string, Described>} */
        const files = {};
        for (const [name, file] of seen) {
            const copy = path.join(place, name);
            const { size, ino } = await fs.lstat(copy);
            if (size !== file.size) throw new Error(`${name} was not copied whole`);
            const known = before?.files[name];
            const isLinked =
                before !== null &&
                known !== undefined &&
                ino === (await fs.lstat(path.join(before.folder, name)).catch(() => null))?.ino;
            if (!isLinked) await sync(copy);
            files[name] = { ...file, sha256: isLinked ? known.sha256 : await hashOf(copy) };
        }
        const description = path.join(place, DESCRIPTION);
        await fs.writeFile(description, JSON.stringify({ version: VERSION, at, files }), { mode: 0o600 });
        await sync(description);
        const numbers = await this.#numbers();
        const name = path.join(this.#folder, String((numbers.at(-1) ?? 0) + 1));
        await fs.rename(place, name);
        await sync(this.#folder);
        for (const old of numbers.slice(0, Math.max(0, numbers.length + 1 - this.#keep))) {
            await fs.rm(path.join(this.#folder, String(old)), { recursive: true, force: true });
        }
        return describe(name);
    }

    /**
     * Replace the login with the newest intact snapshot, while no browser runs: once, until `confirm` says
     * that a login was good. The old login is set aside.
     *
     * @returns {Promise<Snapshot|null>} null = there is none, or it did not help before
     * @throws {Error} the disk does not take it
     */
    async restore() {
        if ((await this.#note())?.confirmed === false) return null;
        for (const number of (await this.#numbers()).reverse()) {
            const snapshot = await describe(path.join(this.#folder, String(number)));
            if (snapshot === null || !(await this.isWhole(snapshot))) continue;
            const place = path.join(this.#folder, UNFINISHED);
            await fs.rm(place, { recursive: true, force: true });
            for (const name of Object.keys(snapshot.files)) {
                await this.#copy(place, name, snapshot.folder);
                await sync(path.join(place, name));
            }
            await this.#writeNote({ at: Date.now(), confirmed: false });
            await this.#exchange(place);
            return snapshot;
        }
        return null;
    }

    /** Have these folders take the place of those of the login. */
    async #exchange(/** @type {string} */ place) {
        const aside = path.join(this.#auth, DAMAGED);
        await fs.rm(aside, { recursive: true, force: true });
        for (const folder of FOLDERS) {
            const [from, to, kept] = [place, this.#profile, aside].map((each) => path.join(each, folder));
            await fs.mkdir(path.dirname(kept), { recursive: true, mode: 0o700 });
            await fs.mkdir(path.dirname(to), { recursive: true, mode: 0o700 });
            await fs.rename(to, kept).catch((error) => {
                if (codeOf(error) !== 'ENOENT') throw error;
            });
            await fs.rename(from, to).catch((error) => {
                if (codeOf(error) !== 'ENOENT') throw error;
            });
        }
        await fs.rm(place, { recursive: true, force: true });
    }

    /** The login that took the place of another is good: the next that is damaged may be replaced, too. */
    async confirm() {
        const note = await this.#note();
        if (note?.confirmed !== false) return;
        await this.#writeNote({ ...note, confirmed: true });
        await fs.rm(path.join(this.#auth, DAMAGED), { recursive: true, force: true });
    }

    /** Delete all: they are of another login. */
    async forget() {
        await this.#taking?.catch(() => {});
        await fs.rm(this.#folder, { recursive: true, force: true });
    }

    /** Return whether each file of a snapshot is what it was, to the byte. */
    async isWhole(/** @type {Snapshot} */ { folder, files }) {
        for (const [name, { size, sha256 }] of Object.entries(files)) {
            const file = path.join(folder, name);
            const stat = await fs.lstat(file).catch(() => null);
            if (stat === null || !stat.isFile() || stat.size !== size) return false;
            if ((await hashOf(file).catch(() => null)) !== sha256) return false;
        }
        return true;
    }

    /** The note from when a snapshot replaced the login. */
    async #note() {
        /** @type {{at: number, confirmed: boolean}|null} */
        const note = readJson(path.join(this.#folder, RESTORED));
        return Number.isFinite(note?.at) ? note : null;
    }

    #writeNote(/** @type {{at: number, confirmed: boolean}} */ note) {
        return replaceFile(path.join(this.#folder, RESTORED), JSON.stringify(note));
    }

    /** The numbers of the snapshots, the oldest first. */
    async #numbers() {
        const names = await fs.readdir(this.#folder).catch(() => []);
        return names
            .filter((name) => /^[1-9]\d{0,14}$/.test(name))
            .map(Number)
            .sort((one, other) => one - other);
    }

    async #copy(/** @type {string} */ place, /** @type {string} */ name, from = this.#profile) {
        const to = path.join(place, name);
        await fs.mkdir(path.dirname(to), { recursive: true, mode: 0o700 });
        await copyFile(path.join(from, name), to);
    }

    async #link(/** @type {string} */ from, /** @type {string} */ place, /** @type {string} */ name) {
        const to = path.join(place, name);
        await fs.mkdir(path.dirname(to), { recursive: true, mode: 0o700 });
        // A copy that somebody has taken away is no loss: the browser's file is there.
        await fs.link(path.join(from, name), to).catch(() => this.#copy(place, name));
    }

    /** A file that went away before it was copied is checked again while the browser is paused. */
    #passOver(/** @type {Map<string, Seen>} */ seen, /** @type {string} */ name) {
        return (/** @type {unknown} */ error) => {
            if (codeOf(error) !== 'ENOENT') throw error;
            seen.delete(name);
        };
    }
}

module.exports = { Snapshots };

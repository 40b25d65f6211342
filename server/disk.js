'use strict';

/** Folders, and files that outlive a power loss: what each module needs that keeps something on the disk. */

const { readFileSync } = require('node:fs');
const fs = require('node:fs/promises');
const path = require('node:path');

const { codeOf } = require('./errors');

/**
 * Make a folder, unless it exists, in an existing one. Not `recursive`: if the parent was deleted and is
 * still mounted, node would try for ever.
 *
 * @param {string} folder
 */
async function makeFolder(folder) {
    try {
        await fs.mkdir(folder, { mode: 0o700 });
    } catch (error) {
        if (codeOf(error) !== 'EEXIST' || !(await fs.stat(folder)).isDirectory()) throw error;
    }
}

/** Make a folder, and the one that it is in. @param {string} folder */
async function makeBoth(folder) {
    await makeFolder(folder).catch(async (error) => {
        if (codeOf(error) !== 'ENOENT') throw error;
        await makeFolder(path.dirname(folder));
        await makeFolder(folder);
    });
}

/** Have a file, or the names in a folder, outlive a power loss from now on. @param {string} place */
async function sync(place) {
    const handle = await fs.open(place, 'r');
    try {
        await handle.sync();
    } finally {
        await handle.close();
    }
}

/**
 * Replace a small file so that a crash leaves the old or the new text, never half of it.
 *
 * @param {string} file
 * @param {string} text
 */
async function replaceFile(file, text) {
    const temporary = `${file}.new`;
    const handle = await fs.open(temporary, 'w', 0o600);
    try {
        await handle.writeFile(text);
        await handle.sync();
    } finally {
        await handle.close();
    }
    await fs.rename(temporary, file);
}

/**
 * Read a small file at once: what a server that starts waits for takes 2 ms longer by node's threads.
 *
 * @param {string} file
 * @returns {any} null = there is none that can be read
 */
function readJson(file) {
    try {
        return JSON.parse(readFileSync(file, 'utf8'));
    } catch {
        return null;
    }
}

module.exports = { makeBoth, makeFolder, readJson, replaceFile, sync };

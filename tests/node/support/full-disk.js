'use strict';

/** Run on a disk of a few pages: fills it, and prints what the storage says and what it can still erase. */

const fs = require('node:fs');
const path = require('node:path');

const { Storage } = require('../../../server/storage');

/** @param {string} disk */
async function main(disk) {
    const storage = new Storage({
        authDirectory: path.join(disk, '.wwebjs_auth_5002'),
        cacheDirectory: path.join(disk, '.wwebjs_cache_5002'),
        clientId: 'waportd_5002',
    });
    fs.mkdirSync(storage.profile, { recursive: true });
    fs.writeFileSync(path.join(storage.profile, 'Cookies'), 'x');
    const filler = fs.openSync(path.join(disk, 'filler'), 'w');
    try {
        for (;;) fs.writeSync(filler, Buffer.alloc(4096));
    } catch (error) {
        if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOSPC') throw error;
    }
    const causeOf = (/** @type {Promise<unknown>} */ work) =>
        work.then(
            () => null,
            ({ cause }) => cause,
        );
    const prepared = await causeOf(storage.prepare());
    const noted = await causeOf(storage.noteLogin(true));
    await storage.erase();
    process.stdout.write(JSON.stringify({ prepared, noted, left: fs.readdirSync(disk) }));
}

main(process.argv[2]);

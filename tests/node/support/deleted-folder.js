'use strict';

/** Run with a folder that was deleted and is still mounted, as a server's: prints what the storage says. */

const path = require('node:path');

const { Storage } = require('../../../server/storage');

async function main(/** @type {string} */ folder) {
    const storage = new Storage({
        authDirectory: path.join(folder, '.wwebjs_auth_5002'),
        cacheDirectory: path.join(folder, '.wwebjs_cache_5002'),
        clientId: 'waportd_5002',
    });
    const causeOf = (/** @type {Promise<unknown>} */ work) =>
        work.then(
            () => null,
            ({ cause }) => cause,
        );
    const prepared = await causeOf(storage.prepare());
    const noted = await causeOf(storage.noteLogin(true));
    process.stdout.write(JSON.stringify({ prepared, noted }));
}

main(process.argv[2]);

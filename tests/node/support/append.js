'use strict';

/** Appends events to a journal until it is killed, and says which of them were reported as on disk. */

const { Journal } = require('../../../server/journal');
const { event, quiet } = require('./journal');

/**
 * @param {string} directory
 * @param {string} name
 */
async function main(directory, name) {
    const journal = await Journal.open({
        directory,
        maxAge: 86_400,
        maxBytes: 1024 * 1024,
        log: quiet,
    });
    const one = async (/** @type {number} */ index) => {
        const id = `${name}-${index}`;
        const { cursor } = await journal.append(event(id));
        // Not by a stream: what was reported has left this process.
        require('node:fs').writeSync(1, `${id}\n`);
        journal.settle(cursor, 'delivered');
    };
    for (let index = 0; ; index += 5) {
        await Promise.all([0, 1, 2, 3, 4].map((each) => one(index + each)));
    }
}

main(process.argv[2], process.argv[3]);

'use strict';

/** Run on a disk of a few pages: fills it under a journal, makes room again, and prints what was seen. */

const fs = require('node:fs');
const path = require('node:path');

const { Journal } = require('../../../server/journal');
const { event, idsOf, listening, readAll } = require('./journal');
const { whenFound } = require('./process');

/** @param {string} file */
function fill(file) {
    const filler = fs.openSync(file, 'w');
    for (const size of [4096, 1]) {
        try {
            for (;;) fs.writeSync(filler, Buffer.alloc(size));
        } catch (error) {
            if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'ENOSPC') throw error;
        }
    }
    fs.closeSync(filler);
}

/** @param {string} disk */
async function main(disk) {
    const log = listening();
    const directory = path.join(disk, 'auth', 'messages');
    const options = { directory, maxAge: 86_400, maxBytes: 2 ** 20, log };
    const journal = await Journal.open({ ...options, retryMs: 20 });
    const first = await journal.append(event('before'));
    const filler = path.join(disk, 'filler');
    fill(filler);
    /** @type {string[]} */
    const seen = [];
    journal.on('append', (entry) => seen.push(entry.cursor));
    // More than the page that the file has already.
    const large = 'x'.repeat(6000);
    const one = await journal.append(event('full-1', { large }));
    await journal.append(event('full-2', { large }));
    const again = await journal.append(event('full-1', { large }));
    journal.settle(one.cursor, 'delivered');
    journal.amend(one.cursor, { phone: '1' });
    const during = {
        error: journal.counts.error,
        read: idsOf(await readAll(journal)),
        after: idsOf((await journal.read({ after: first.cursor })).entries),
        pending: idsOf((await journal.pending()).entries),
        isRepeated: again.cursor === one.cursor && !again.isNew,
        told: seen.length,
    };
    fs.rmSync(filler);
    await whenFound(async () => journal.counts.error === null, 'the disk to be written again');
    await journal.append(event('after'));
    const { counts } = journal;
    await journal.close();
    const reopened = await Journal.open(options);
    const entries = await readAll(reopened);
    const phones = entries.map((entry) => entry.event.phone ?? null);
    const pending = idsOf((await reopened.pending()).entries);
    await reopened.close();
    process.stdout.write(
        JSON.stringify({ during, counts, after: idsOf(entries), phones, pending, log: log.lines }),
    );
}

main(process.argv[2]);

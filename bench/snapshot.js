'use strict';

/**
 * What a snapshot costs: `node snapshot.js FOLDER MIB` makes a login of MIB mebibytes, with a process that
 * writes into it as a browser does, copies it as a server does, and prints as JSON for each round how long
 * that process stood still for a first snapshot, for one more after a chat has changed, and for a copy of all
 * files as they are (milliseconds), and how many bytes the second one copied.
 */

const { spawn } = require('node:child_process');
const { randomBytes } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

const { whileStopped } = require('../server/browser');
const { Snapshots } = require('../server/snapshots');

const MIB = 1024 * 1024;
const TABLE_BYTES = 2 * MIB;
const LOG_BYTES = 3 * MIB;
/** A chat that has changed: so much is added to the log of the database. */
const CHANGE_BYTES = 60_000;
const DATABASE = 'Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb';

const [folder, size] = process.argv.slice(2);
const profile = path.join(folder, 'session');
const log = path.join(profile, DATABASE, '000900.log');

/** Writes 20 times a second, some kilobytes each time, as long as it lives. */
const WRITER = `
    const fs = require('node:fs');
    setInterval(() => fs.appendFileSync(process.argv[1], Buffer.alloc(2_000, 7)), 50);
`;

function makeLogin() {
    const tables = Math.max(1, Math.round((Number(size) * MIB - LOG_BYTES) / TABLE_BYTES));
    fs.mkdirSync(path.dirname(log), { recursive: true });
    fs.mkdirSync(path.join(profile, 'Default/Local Storage/leveldb'), { recursive: true });
    const then = new Date(Date.now() - 3_600_000);
    for (let number = 0; number < tables; number += 1) {
        const file = path.join(profile, DATABASE, `${String(number).padStart(6, '0')}.ldb`);
        fs.writeFileSync(file, randomBytes(TABLE_BYTES));
        fs.utimesSync(file, then, then);
    }
    fs.writeFileSync(log, randomBytes(LOG_BYTES));
}

/** Make the newest snapshot too old to be given to the next caller. */
function age({ folder: place }) {
    const file = path.join(place, 'snapshot.json');
    const description = JSON.parse(fs.readFileSync(file, 'utf8'));
    fs.writeFileSync(file, JSON.stringify({ ...description, at: description.at - 60_000 }));
}

async function main() {
    makeLogin();
    const writer = spawn(process.execPath, ['-e', WRITER, log], { detached: true, stdio: 'ignore' });
    const group = /** @type {number} */ (writer.pid);
    let stood = 0;
    const standStill = async (work) => {
        const began = performance.now();
        const done = await whileStopped(group, work);
        stood = performance.now() - began;
        return done;
    };
    try {
        const snapshots = new Snapshots({ authDirectory: folder, profile }, 2);
        await snapshots.forget();
        const first = await snapshots.take(standStill);
        const rounds = { first: stood };
        age(first);
        fs.appendFileSync(log, randomBytes(CHANGE_BYTES));
        const second = await snapshots.take(standStill);
        rounds.next = stood;
        rounds.copied = Object.keys(second.files)
            .map((name) => fs.statSync(path.join(second.folder, name)))
            .reduce((bytes, { nlink, size: length }) => bytes + (nlink === 1 ? length : 0), 0);
        await standStill(() => fs.promises.cp(profile, path.join(folder, 'plain'), { recursive: true }));
        rounds.plain = stood;
        process.stdout.write(`${JSON.stringify(rounds)}\n`);
    } finally {
        process.kill(-group, 'SIGKILL');
    }
}

main();

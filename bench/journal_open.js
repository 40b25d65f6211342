'use strict';

/**
 * What a large journal costs: `node journal_open.js make FOLDER COUNT` writes one of so many messages, all
 * delivered; `node journal_open.js open FOLDER` prints the milliseconds that it takes to open it, and what
 * that leaves in memory, in bytes.
 */

const { describeMessage } = require('../server/describe');
const { Journal } = require('../server/journal');

const AT_ONCE = 500;
const log = { error: console.error, warning: console.error, info() {}, debug() {} };

const [what, directory, count] = process.argv.slice(2);

function event(number) {
    const from = `${5521900000000 + (number % 500)}@c.us`;
    const id = `false_${from}_${String(number).padStart(32, '0')}`;
    const timestamp = Math.floor(Date.now() / 1000);
    const body = `message ${number}: how are you, and at what time do you open on Saturdays?`;
    const to = '5511999990001@c.us';
    return describeMessage({ id, from, to, body, fromMe: false, timestamp, type: 'chat' });
}

async function make(journal) {
    for (let begin = 0; begin < Number(count); begin += AT_ONCE) {
        const numbers = Array.from({ length: AT_ONCE }, (_, index) => begin + index);
        const entries = await Promise.all(numbers.map((number) => journal.append(event(number))));
        for (const { cursor } of entries) journal.settle(cursor, 'delivered');
    }
}

async function main() {
    const before = process.memoryUsage().rss;
    const began = performance.now();
    const journal = await Journal.open({ directory, maxAge: 1e7, maxBytes: 1e9, log });
    const ms = performance.now() - began;
    if (what === 'make') {
        await make(journal);
        await journal.close();
        return;
    }
    const { entries } = journal.counts;
    console.log(JSON.stringify({ ms, entries, memory: process.memoryUsage().rss - before }));
    process.exit();
}

main();

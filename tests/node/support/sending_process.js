'use strict';

/**
 * A process that sends, before a page that is a file: who has it fork asks by message for a text to be sent,
 * with the text as its key, or for a message to be sent on, and may kill it at any moment.
 *
 *     fork(sending_process.js, [directory])
 */

const { randomBytes } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

const { readRecipient } = require('../../../server/numbers');
const { readMessage } = require('../../../server/outgoing');
const { Sending } = require('../../../server/sending');
const { Sends } = require('../../../server/sends');

const [, , directory] = process.argv;
const site = path.join(directory, 'site');
const log = { error() {}, warning() {}, info() {}, debug() {} };

/** As long as a page may take for a step, in milliseconds. */
const some = () => new Promise((resolve) => setTimeout(resolve, Math.random() * 8));

const isThere = (/** @type {string} */ id) => fs.readFileSync(site, 'utf8').includes(`${id} = `);
/** What stands for a copy of a message: all are alike. */
const FORWARD = 'a copy';
const copies = () =>
    fs
        .readFileSync(site, 'utf8')
        .split('\n')
        .filter((line) => line.endsWith(` = ${FORWARD}`))
        .map((line) => line.split(' = ')[0]);
/** @typedef {import('../../../server/sending_page').Place} Place */

const page = {
    async prepareSend(/** @type {import('../../../server/types').Recipient} */ { likely: [chat] }) {
        await some();
        return { chat, id: `true_${chat}_${randomBytes(8).toString('hex')}` };
    },
    /** @param {Place} where @param {{text: string}} what */
    async handOver({ id }, { text }) {
        await some();
        if (!isThere(id)) fs.appendFileSync(site, `${id} = ${text}\n`);
        await some();
        return { id, ack: 1, type: 'chat' };
    },
    awaitAck: async (/** @type {string} */ id) => ({ id, ack: 1 }),
    async copiesOf() {
        await some();
        return copies();
    },
    /**
     * @param {string} _id
     * @param {Place} where
     * @param {import('../../../server/sending_page').Begun|null} begun
     */
    async forward(_id, { chat }, begun) {
        await some();
        const known = begun && copies().find((each) => !begun.others.includes(each));
        if (known) return { id: known, ack: 1, type: 'chat' };
        const id = `true_${chat}_${randomBytes(8).toString('hex')}`;
        fs.appendFileSync(site, `${id} = ${FORWARD}\n`);
        await some();
        return { id, ack: 1, type: 'chat' };
    },
};
const use = (/** @type {Function} */ work) => work(page, 10_000);
const sends = new Sends({ directory: path.join(directory, 'messages'), log });
/** What is of no use here is left out. @type {any} */
const parts = { session: { use }, sends, spool: {}, log, rate: 0, mediaFromPrivate: false };
const sending = new Sending(parts);

process.on('message', async ({ key, isForward }) => {
    if (isForward) {
        const to = readRecipient('5511988887777');
        const forwarded = await sending.forward('false_1@c.us_A', to, { key, print: 'of that' });
        process.send?.({ key, told: forwarded });
        return;
    }
    const message = readMessage({ to: '5511988887777', text: key }, null);
    process.send?.({ key, told: await sending.send(message, { key, print: key }) });
});
process.on('disconnect', () => process.exit());
process.on('SIGTERM', () => process.exit());

#!/usr/bin/env node
/**
 * Stand-in for WhatsApp Web: the site (HTTPS) and the phones (HTTP control interface) in one process.
 *
 * The site serves page/, which gives the unmodified whatsapp-web.js the modules it calls. The control
 * interface does what a person with a phone does: scan a code, type a pairing code, unlink a device, write a
 * message; and it makes site and page misbehave on demand. README.md lists both, and what is not faithful.
 */
'use strict';

const fs = require('node:fs');
const { parseArgs } = require('node:util');
const { Site } = require('./site');
const { SHAPE_NAMES } = require('./traits');

function readOptions() {
    const { values } = parseArgs({
        options: {
            data: { type: 'string' },
            'https-port': { type: 'string', default: '0' },
            'control-port': { type: 'string', default: '0' },
            'refs-ttl': { type: 'string', default: '60000,20000' },
            shape: { type: 'string', default: 'today' },
            seed: { type: 'string', default: '1' },
            proxy: { type: 'string' },
            weight: { type: 'string' },
            'watch-parent': { type: 'boolean', default: false },
        },
    });
    if (!values.data) throw new Error('--data DIR is missing: the directory for the list of linked devices');
    const refsTtl = values['refs-ttl'].split(',').map(Number);
    if (refsTtl.length !== 2 || !refsTtl.every((ttl) => ttl > 0)) {
        throw new Error('--refs-ttl must be two numbers of milliseconds, as in 60000,20000');
    }
    if (!SHAPE_NAMES.includes(values.shape)) throw new Error(`--shape must be one of ${SHAPE_NAMES}`);
    if (!/^[1-9]\d*$/.test(values.seed)) throw new Error('--seed must be a whole number from 1 on');
    if (values.proxy && !values.proxy.includes(':')) throw new Error('--proxy must be USER:PASSWORD');
    if (values.weight !== undefined && !/^[1-9]\d*$/.test(values.weight)) {
        throw new Error('--weight must be a number of chats, from 1 on');
    }
    return {
        dataDir: values.data,
        refsTtl,
        shape: values.shape,
        seed: Number(values.seed),
        proxy: values.proxy,
        chats: values.weight === undefined ? null : Number(values.weight),
        httpsPort: Number(values['https-port']),
        controlPort: Number(values['control-port']),
        watchParent: values['watch-parent'],
    };
}

async function main() {
    const options = readOptions();
    fs.mkdirSync(options.dataDir, { recursive: true, mode: 0o700 });
    const site = new Site(options);
    await site.listen(options.httpsPort, options.controlPort);
    const stop = () => process.exit(0);
    process.on('SIGTERM', stop).on('SIGINT', stop);
    if (options.watchParent) {
        const parent = process.ppid;
        setInterval(() => process.ppid === parent || stop(), 500);
    }
    console.log(JSON.stringify(site.description));
}

main().catch((error) => {
    console.error(`standin: ${error.message}`);
    process.exit(1);
});

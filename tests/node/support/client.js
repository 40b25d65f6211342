'use strict';

/** The client of sessions in a real browser before the stand-in, without a server around it. */

const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

const browsers = require('../../../server/browser');
const { browserArguments, identity } = require('../../../server/browser_arguments');
const { browserVersion } = require('../../../server/browser_version');
const { loadEngine } = require('../../../server/engine');
const { BrowserProcess } = require('../../../server/launch');
const { createSessionClient } = require('../../../server/whatsapp');
const { scratch, within } = require('./process');
const { PHONE } = require('./session');
const { startStandIn } = require('./standin');

/** @typedef {import('node:test').TestContext} TestContext */
/** @typedef {import('./standin').StandIn} StandIn */
/** @typedef {Awaited<ReturnType<typeof open>>} Client */

/**
 * Make a client, of the library or of what a test puts in its place; its browser ends before its folder.
 *
 * @param {TestContext} t
 * @param {{standin: Pick<StandIn, 'env'>, Client?: ReturnType<typeof loadEngine>['Client']}} options
 */
async function open(t, { standin, Client }) {
    const library = loadEngine(null);
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'client-'));
    const [executablePath] = await browsers.findBrowsers('auto');
    const env = browsers.browserEnvironment(folder);
    const version = await browserVersion(executablePath, env);
    const args = browserArguments(executablePath, {
        cacheDirectory: folder,
        userAgent: identity(version).userAgent,
        extra: JSON.parse(standin.env.WAPORTD_BROWSER_ARGS),
    });
    const SessionClient = createSessionClient({ ...library, ...(Client && { Client }) });
    const process = new BrowserProcess(executablePath, args, path.join(folder, 'profile'), env);
    const client = new SessionClient({
        clientId: 'test',
        dataPath: path.join(folder, 'auth'),
        process,
        identity,
        phone: null,
        startLimitMs: 20_000,
        pinned: null,
        proxy: null,
    });
    t.after(async () => {
        await client.destroy();
        process.kill();
        await process.ended;
        fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
    });
    return client;
}

/** @param {TestContext} t @param {string[]} args */
async function site(t, ...args) {
    const standin = await startStandIn(scratch(t), ['--shape', 'today', ...args]);
    t.after(() => standin.stop());
    return standin;
}

/** @type {(client: import('node:events').EventEmitter, event: string) => Promise<any[]>} */
const waitFor = (client, event) => within(once(client, event), event);

/** Open a client that shows a code: `{client, qr}`. @param {TestContext} t @param {StandIn} standin */
async function openCode(t, standin) {
    const client = await open(t, { standin });
    const code = waitFor(client, 'qr');
    await client.initialize();
    const [qr] = await code;
    return { client, qr };
}

/**
 * Open a client and have a phone scan its code; returns when it is ready.
 *
 * @param {TestContext} t
 * @param {StandIn} standin
 */
async function openLinked(t, standin) {
    const { client, qr } = await openCode(t, standin);
    const ready = waitFor(client, 'ready');
    await standin.command('scan', { qr, phone: PHONE });
    await ready;
    return client;
}

module.exports = { open, openCode, openLinked, site, waitFor };

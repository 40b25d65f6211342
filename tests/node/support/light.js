'use strict';

/** Servers without a browser (tests/light_server.js), linked. */

const path = require('node:path');

const { ROOT, startServer } = require('./process');

const SCRIPT = path.join(ROOT, 'tests/light_server.js');

/**
 * Start one, and link it unless it is.
 *
 * @param {import('node:test').TestContext} t
 * @param {Parameters<typeof startServer>[1]} [options]
 */
async function startLinked(t, options) {
    const server = await startServer(t, { script: SCRIPT, ...options });
    await server.get('/qr');
    const events = server.follow();
    const { state } = await events.until(({ state: name }) => ['qr', 'ready'].includes(name), 'a state');
    if (state === 'qr') server.kill('SIGUSR2');
    await events.until('ready');
    return server;
}

module.exports = { startLinked };

'use strict';

/** What exists only for speed or memory can be turned off, and a server does the same without it. */

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const path = require('node:path');
const { describe, it } = require('node:test');

const { ROOT, freePort, scratch, startServer } = require('./support/process');

const SCRIPT = path.join(ROOT, 'tests/light_server.js');

/** What a start asks of V8 and of the clock. Run in a process of its own: it is decided as it is loaded. */
const ASKED = `
    const flags = [];
    require('node:v8').setFlagsFromString = (flag) => flags.push(flag);
    const timers = require('node:timers/promises');
    const pauses = [];
    timers.setTimeout = async (ms) => void pauses.push(ms);
    const startup = require('./server/startup');
    const never = new Promise(() => {});
    require('./server/nursery').loadSmall(() => {});
    startup
        .letFirstCallsPass(Promise.resolve())
        .then(() => startup.loadBesideBrowser(never))
        .then(() => process.stdout.write(JSON.stringify({ flags: flags.length, pauses: pauses.length })));
`;

/** @param {string} without */
function asked(without) {
    const env = { ...process.env, WAPORTD_WITHOUT: without };
    return JSON.parse(execFileSync(process.execPath, ['-e', ASKED], { cwd: ROOT, env, encoding: 'utf8' }));
}

describe('each is off where it is turned off', () => {
    it('all', () => {
        const on = asked('');
        assert.ok(on.flags > 0);
        assert.ok(on.pauses > 0);
        assert.deepEqual(asked('start_order v8'), { flags: 0, pauses: 0 });
    });
    it('the settings of V8', () => assert.equal(asked('v8').flags, 0));
    it('the order of a start', () => assert.equal(asked('start_order').pauses, 0));
});

for (const without of ['start_order', 'v8']) {
    it(`shows a code, is linked, and sends without ${without}`, async (t) => {
        const options = { script: SCRIPT, directory: scratch(t), port: await freePort() };
        const server = await startServer(t, { ...options, env: { WAPORTD_WITHOUT: without } });
        const page = server.follow();
        assert.equal((await server.get('/qr')).json.status, 'generating');
        await page.until('qr');
        server.kill('SIGUSR2');
        await page.until('ready');
        const { json: sent } = await server.post('/send', { phone: '+55 11 98888-7777', message: 'at nine' });
        assert.ok(sent.messageId);
        server.kill('SIGTERM');
        assert.equal(await server.exit(), 0);
    });
}

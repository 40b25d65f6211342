/** Faults and habits of site and page, and the process of the stand-in. */
'use strict';

const assert = require('node:assert/strict');
const { spawn, spawnSync } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');
const { createInterface } = require('node:readline');
const { describe } = require('node:test');
const { COMMANDS } = require('../commands');
const { TRAITS } = require('../traits');
const {
    PHONE,
    SCRIPT,
    baseline,
    drawnCode,
    emitted,
    eventually,
    inTime,
    linked,
    linkedPage,
    makeClient,
    ok,
    openPage,
    pages,
    phone,
    root,
    shown,
    site,
    startStandin,
    stateOf,
    test,
    withTraits,
} = require('./support');

describe('faults', () => {
    test('hang: the page answers nothing any more', async () => {
        const { client } = await linked();
        await ok('hang', { phone: PHONE });
        const answerWithin = (milliseconds) =>
            Promise.race([
                client.getState(),
                new Promise((resolve) => {
                    setTimeout(resolve, milliseconds, 'silence');
                }),
            ]);
        await eventually(async () => (await answerWithin(2000)) === 'silence', 'silence of the page');
    });

    test('hang with an end: the page is busy for so long', async () => {
        const page = await openPage();
        await drawnCode(page);
        const began = performance.now();
        await ok('hang', { ms: 600 });
        await eventually(async () => {
            await stateOf(page);
            return performance.now() - began >= 600;
        }, 'the end');
        assert.ok(performance.now() - began < 5000);
        assert.equal(await stateOf(page), 'UNPAIRED');
    });

    test('frames, push-state, reload-after: navigations, of which one is a new document', async () => {
        const page = await openPage();
        await drawnCode(page);
        const [{ id: first }] = await pages();
        const navigations = { main: 0, frames: 0 };
        page.on('framenavigated', (frame) => {
            navigations[frame === page.mainFrame() ? 'main' : 'frames'] += 1;
        });
        // Slow enough for a busy host: a frame that is gone before it is loaded reports no navigation.
        await ok('frames', { count: 2, every: 300, times: 3 });
        await eventually(() => navigations.frames >= 6, 'the frames');
        assert.equal(navigations.main, 0);
        await ok('push-state', { times: 2 });
        await eventually(() => navigations.main === 3, 'the changes of the address');
        assert.equal((await pages())[0].id, first, 'the document is the same');
        await ok('reload-after', { ms: 50 });
        const other = async () => ![undefined, first].includes((await pages())[0]?.id);
        await eventually(other, 'another document');
    });

    test('injections into a document are counted', async () => {
        const { client } = await linked();
        const count = async () => (await pages())[0].injections;
        assert.equal(await count(), 1);
        await ok('push-state', {});
        // The library takes each change of the address for a new document.
        await eventually(async () => (await count()) === 3, 'two more injections');
        const { listened } = (await pages())[0];
        assert.ok(listened['Socket change:state'] >= 3, JSON.stringify(listened));
        assert.equal(await client.getState(), 'CONNECTED');
    });

    test('any state of the connection', async () => {
        const page = await openPage();
        await drawnCode(page);
        for (const state of ['PROXYBLOCK', 'TOS_BLOCK', 'DEPRECATED_VERSION']) {
            await ok('state', { state });
            await eventually(async () => (await stateOf(page)) === state, state);
        }
    });

    test('a browser that is refused gets a page without modules, in its language', async () => {
        await ok('refuse-browser', {});
        const texts = [];
        for (const language of ['en', 'pt']) {
            await withTraits({ language }, async () => {
                const page = await openPage();
                const bare = await page.evaluate(() => [typeof window.Debug, typeof window.require]);
                assert.deepEqual(bare, ['undefined', 'undefined']);
                texts.push(await page.evaluate('document.body.innerText'));
            });
        }
        await ok('refuse-browser', { on: false });
        assert.match(texts[0], /works with Google Chrome/);
        assert.match(texts[1], /funciona com o Google Chrome/);
    });

    test('a build that is refused: silence, and perhaps a reload', async () => {
        await ok('refuse-build', { reload: 300 });
        const page = await openPage();
        const loads = [];
        page.on('load', () => loads.push(1));
        await eventually(() => loads.length >= 2, 'the page to load itself again');
        assert.equal(await stateOf(page), 'OPENING');
        assert.equal(await page.evaluate(() => window.require('WAWebConnModel').Conn.ref), undefined);
        await ok('refuse-build', { on: false });
        await drawnCode(page);
    });

    test('ban: reported with code and time, and no logout', async () => {
        const page = await linkedPage('5511999990031');
        await page.evaluate(() => {
            window.bans = [];
            const { BackendEventBus } = window.require('WAWebBackendEventBus');
            BackendEventBus.on('account_temporarily_banned', (ban) => window.bans.push(ban));
            const { Cmd } = window.require('WAWebCmd');
            Cmd.on('account_temporarily_banned_from_bridge', (ban) => window.bans.push(ban));
        });
        await ok('ban', { phone: '5511999990031', code: 106, expire: 7200 });
        const bans = await eventually(async () => {
            const seen = await page.evaluate('window.bans');
            return seen.length === 2 && seen;
        }, 'the ban');
        assert.deepEqual(
            bans.map(({ banned, code, expire }) => [banned, code, expire]),
            [
                [true, 106, 7200],
                [true, 106, 7200],
            ],
        );
        assert.equal(await stateOf(page), 'OPENING');
        await ok('ban', { phone: '5511999990031', on: false });
        await page.reload();
        await eventually(async () => (await stateOf(page)) === 'CONNECTED', 'the login');
    });

    test('a proxy that asks for a password', async () => {
        const behind = await startStandin(path.join(root, 'proxied'), '--proxy', 'ana:secret');
        const at = { browserArgs: behind.proxyArgs };
        const without = makeClient({ at, authTimeoutMs: 1000 });
        const statuses = [];
        without.client.authStrategy.afterBrowserInitialized = async () => {
            without.client.pupPage.on('response', (response) => statuses.push(response.status()));
        };
        await without.start().initialized;
        assert.deepEqual(statuses, [407]);
        await without.close();
        const credentials = { username: 'ana', password: 'secret' };
        const through = makeClient({ at, proxyAuthentication: credentials }).start();
        await through.event('qr');
        await through.close();
        await behind.stop();
    });

    test('traits are known by name, and shown', async () => {
        assert.equal((await phone('set', { no_such_trait: 1 })).status, 400);
        assert.deepEqual(await shown('traits'), baseline);
    });

    test('crash: the renderer ends, the browser stays', async () => {
        const { client } = await linked();
        const crashed = emitted(client.pupPage, 'error');
        await ok('crash', { phone: PHONE });
        assert.match(String(await crashed), /Page crashed/);
        assert.ok(client.pupBrowser.isConnected());
    });

    test('unreachable: refused at load; a linked page is cut off and comes back', async () => {
        const { client } = await linked();
        await ok('unreachable', { on: true });
        await eventually(
            async () => (await client.getState()) === 'OPENING',
            'the linked page to be cut off',
        );
        const other = makeClient().start();
        assert.match(String(await other.initialized), /ERR_CONNECTION_REFUSED/);
        await ok('unreachable', { on: false });
        await eventually(async () => (await client.getState()) === 'CONNECTED', 'the linked page to be back');
    });

    test('silent: neither code nor login, until it speaks again', async () => {
        await ok('silent', {});
        const { client, event, names } = makeClient().start();
        await eventually(async () => (await pages()).length === 1, 'the page to be open');
        assert.equal(await client.getState(), 'OPENING');
        assert.ok(!names().includes('qr'));
        await ok('silent', { on: false });
        await event('qr');
    });

    test('no-debug: auth timeout', async () => {
        await ok('no-debug', {});
        const { initialized } = makeClient({ authTimeoutMs: 1000 }).start();
        assert.equal(await initialized, 'auth timeout');
        await ok('no-debug', { on: false });
    });
});

describe('the process', () => {
    test('--watch-parent: it ends with the process that started it', async () => {
        const args = [SCRIPT, '--data', path.join(root, 'orphan'), '--watch-parent'];
        const spawnIt = `spawn(process.execPath, ${JSON.stringify(args)}, { stdio: 'inherit' })`;
        const parent = spawn(process.execPath, ['-e', `require('node:child_process').${spawnIt}`], {
            stdio: ['ignore', 'pipe', 'inherit'],
        });
        const lines = createInterface({ input: parent.stdout });
        await inTime(once(lines, 'line'), 'the line of JSON');
        const closed = once(lines, 'close');
        parent.kill('SIGKILL');
        await inTime(closed, 'the stand-in to end and with it its stdout');
    });

    test('README.md names every command, and every trait with its values', () => {
        const text = fs.readFileSync(path.join(__dirname, '..', 'README.md'), 'utf8');
        for (const name of Object.keys(COMMANDS)) {
            assert.match(text, new RegExp(`^\\| .*\`${name}\`.* \\|`, 'm'), name);
        }
        for (const [name, [today, april, meaning]] of Object.entries(TRAITS)) {
            const [first, second] = [today, april].map((value) => `\`${JSON.stringify(value)}\``);
            assert.ok(text.includes(`\n| \`${name}\` | ${first} | ${second} | ${meaning} |\n`), name);
        }
    });

    test('it listens on loopback only, and keeps no key on disk', async () => {
        const sockets = fs.readFileSync('/proc/net/tcp', 'utf8') + fs.readFileSync('/proc/net/tcp6', 'utf8');
        for (const port of [site().https, site().control]) {
            const hex = port.toString(16).toUpperCase().padStart(4, '0');
            const addresses = [...sockets.matchAll(new RegExp(`([0-9A-F]+):${hex} [0-9A-F]+:0000 0A`, 'g'))];
            assert.deepEqual(
                addresses.map(([, address]) => address),
                ['0100007F'],
            );
        }
        const kept = fs.readdirSync(path.join(root, 'data'));
        assert.deepEqual(kept, ['state.json']);
        assert.equal(fs.statSync(path.join(root, 'data', 'state.json')).mode & 0o777, 0o600);
    });

    test('wrong options are refused with the reason', () => {
        const run = (...args) => spawnSync(process.execPath, [SCRIPT, ...args]);
        assert.match(String(run().stderr), /--data DIR is missing/);
        const wrong = run('--data', root, '--refs-ttl', '5');
        assert.equal(wrong.status, 1);
        assert.match(String(wrong.stderr), /--refs-ttl must be two numbers/);
        assert.match(String(run('--data', root, '--shape', 'x').stderr), /--shape must be one of today,/);
        assert.match(String(run('--data', root, '--seed', '0').stderr), /--seed must be a whole number/);
        assert.match(String(run('--data', root, '--proxy', 'x').stderr), /--proxy must be USER:PASSWORD/);
    });
});

'use strict';

/** Which library runs: the bundled one, another engine, or none that can; and a pinned page. */

const assert = require('node:assert/strict');
const { execFileSync, spawnSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');

const puppeteer = require('puppeteer');

const { findBrowsers } = require('../../server/browser');
const { browserArguments, isHeadlessShell } = require('../../server/browser_arguments');
const { MEMBERS, describeEngine, loadEngine } = require('../../server/engine');
const { pinPage } = require('../../server/pinned');
const { makeEngine } = require('./support/engine');
const { ROOT, scratch, startServer } = require('./support/process');
const { startStandIn } = require('./support/standin');

const PROGRAM = path.join(ROOT, 'server', 'engine.js');
const BUNDLED = require('whatsapp-web.js/package.json').version;
const PHONE = '5511999998888';

const library = (engine) => path.join(engine, 'node_modules', 'whatsapp-web.js');

function refusal(engine) {
    try {
        loadEngine(engine);
    } catch (error) {
        assert.equal(error.cause, 'engine_missing');
        assert.match(error.hint, /waportctl engine/);
        return error.message;
    }
    assert.fail('it was loaded');
}

describe('an engine', () => {
    it('is the bundled one where no other is named', () => {
        assert.deepEqual(describeEngine(null), { engine: 'bundled', library: BUNDLED });
        const { Client, LocalAuth, engine, library: version } = loadEngine(null);
        assert.deepEqual([engine, version], ['bundled', BUNDLED]);
        assert.equal(Client, require('whatsapp-web.js/src/Client'));
        assert.equal(LocalAuth, require('whatsapp-web.js/src/authStrategies/LocalAuth'));
    });

    it('is loaded from its own folder, beside the bundled one', (t) => {
        const folder = makeEngine(scratch(t), '1.99.0');
        assert.deepEqual(describeEngine(folder), { engine: '1.99.0', library: '1.99.0' });
        const loaded = loadEngine(folder);
        assert.deepEqual([loaded.engine, loaded.library], ['1.99.0', '1.99.0']);
        assert.notEqual(loaded.Client, loadEngine(null).Client);
        assert.ok(require.cache[path.join(library(folder), 'src', 'Client.js')]);
    });

    it('runs with the puppeteer that it brings', (t) => {
        const folder = makeEngine(scratch(t), '1.99.1');
        const own = path.join(folder, 'node_modules', 'puppeteer');
        fs.unlinkSync(own);
        fs.mkdirSync(own);
        const core = path.join(ROOT, 'node_modules', 'puppeteer-core');
        fs.symlinkSync(core, path.join(folder, 'node_modules', 'puppeteer-core'));
        fs.writeFileSync(path.join(own, 'package.json'), '{"name":"puppeteer","version":"99.0.0"}');
        fs.writeFileSync(path.join(own, 'index.js'), 'module.exports = require("puppeteer-core");');
        loadEngine(folder);
        assert.ok(require.cache[path.join(own, 'index.js')]);
    });

    it('is loaded by its index where it keeps its classes elsewhere', (t) => {
        const folder = makeEngine(scratch(t), '3.0.0');
        const source = path.join(library(folder), 'src');
        fs.renameSync(path.join(source, 'Client.js'), path.join(source, 'TheClient.js'));
        const index = path.join(library(folder), 'index.js');
        fs.writeFileSync(index, fs.readFileSync(index, 'utf8').replace('./src/Client', './src/TheClient'));
        assert.equal(loadEngine(folder).Client.name, 'Client');
    });

    it('is refused with the reason where it cannot be loaded', (t) => {
        const directory = scratch(t);
        const gone = path.join(directory, '1.0.0');
        assert.deepEqual(describeEngine(gone), { engine: '1.0.0', library: null });
        assert.match(refusal(gone), /^engine 1\.0\.0 \(.*\) cannot be loaded: there is no whatsapp-web\.js/);

        const bad = makeEngine(directory, '1.1.0');
        fs.writeFileSync(path.join(library(bad), 'src', 'Client.js'), 'class {');
        assert.match(refusal(bad), /cannot be loaded: .*Unexpected token/);

        const poor = makeEngine(directory, '1.2.0');
        const client = path.join(library(poor), 'src', 'Client.js');
        fs.appendFileSync(client, '\ndelete Client.prototype.requestPairingCode;');
        assert.match(refusal(poor), /its library has no Client\.requestPairingCode$/);

        const alone = makeEngine(directory, '1.3.0');
        fs.unlinkSync(path.join(alone, 'node_modules', 'mime'));
        assert.match(refusal(alone), /Cannot find module 'mime'/);

        const odd = makeEngine(directory, '1.4.0');
        fs.writeFileSync(path.join(library(odd), 'src', 'Client.js'), 'throw null;');
        assert.match(refusal(odd), /cannot be loaded: null/);
    });

    it('must have every method of the library that is called or replaced here', () => {
        const read = (name) => fs.readFileSync(path.join(ROOT, 'server', name), 'utf8');
        const all = fs.readdirSync(path.join(ROOT, 'server')).map(read).join('\n');
        const found = [
            ...all.matchAll(/\b(?:client|super)\.(\w+)\(/g),
            ...`${read('whatsapp.js')}${read('page_calls.js')}`.matchAll(/^ +(?:async )?(\w+)\(.*\) \{$/gm),
        ].map(([, member]) => member);
        const { Client, LocalAuth } = loadEngine(null);
        const isTheirs = (member) =>
            [Client, LocalAuth].some(({ prototype }) => Object.hasOwn(prototype, member));
        const used = new Set(found.filter((member) => member !== 'constructor' && isTheirs(member)));
        assert.ok(used.size >= 8, [...used].join());
        const known = Object.values(MEMBERS).flat();
        assert.deepEqual(
            [...used].filter((member) => !known.includes(member)),
            [],
        );
    });

    it('can be looked at by a program', (t) => {
        const directory = scratch(t);
        const folder = makeEngine(directory, '1.99.2');
        const output = execFileSync(process.execPath, [PROGRAM, folder], { encoding: 'utf8' });
        assert.deepEqual(JSON.parse(output), { engine: '1.99.2', library: '1.99.2' });
        const none = path.join(directory, 'none');
        const { status, stdout } = spawnSync(process.execPath, [PROGRAM, none], { encoding: 'utf8' });
        assert.equal(status, 1);
        assert.match(JSON.parse(stdout).error, /^engine none /);
    });
});

describe('a server', () => {
    it('says which library runs, before a browser does', async (t) => {
        const directory = scratch(t);
        const folder = makeEngine(directory, '1.99.3');
        const server = await startServer(t, { directory, env: { WAPORTD_ENGINE: folder } });
        const { upstream } = (await server.get('/session')).json;
        assert.deepEqual(upstream, {
            build: null,
            library: '1.99.3',
            engine: '1.99.3',
            pinned: null,
            ok: true,
            checked: [],
            missing: [],
            shims: {},
        });
        const other = await startServer(t);
        const { library: version, engine } = (await other.get('/session')).json.upstream;
        assert.deepEqual([version, engine], [BUNDLED, 'bundled']);
    });

    it('explains that its engine is missing, lives on, and takes it once it is there', async (t) => {
        const directory = scratch(t);
        const folder = path.join(directory, '1.99.4');
        const env = { WAPORTD_ENGINE: folder, WAPORTD_BROWSER_ARGS: '[]' };
        const server = await startServer(t, { directory, env });
        const events = server.follow();
        assert.equal((await server.get('/session')).json.upstream.library, null);
        await server.post('/qr/new');
        const { cause, message, hint } = await events.until('error');
        assert.equal(cause, 'engine_missing');
        assert.match(message, /^engine 1\.99\.4 .* cannot be loaded: there is no whatsapp-web\.js in it/);
        assert.match(hint, /waportctl engine/);
        assert.equal((await server.get('/health')).status, 200);
        makeEngine(directory, '1.99.4');
        const seen = events.documents.length;
        await server.post('/qr/new');
        await events.until(({ browser }) => browser !== null, 'a browser', { from: seen });
        server.kill('SIGTERM');
        assert.equal(await server.exit(), 0);
    });
});

describe('before the stand-in', () => {
    let site;
    let folder;

    before(async () => {
        folder = fs.mkdtempSync(path.join(require('node:os').tmpdir(), 'standin-'));
        site = await startStandIn(folder);
    });

    after(() => {
        site?.stop();
        if (folder) fs.rmSync(folder, { recursive: true, force: true });
    });

    /** Keep the site's start page, as somebody does on a good day, with another title than it has. */
    async function keptPage(directory) {
        const html = await site.startPage();
        const file = path.join(directory, 'page.html');
        fs.writeFileSync(file, html.replace(/<title>.*?<\/title>/, '<title>kept – ação</title>'));
        assert.match(fs.readFileSync(file, 'utf8'), /<title>kept/);
        return file;
    }

    it('a phone is linked with another engine', async (t) => {
        const directory = scratch(t);
        const engine = makeEngine(directory, '1.99.5');
        const server = await startServer(t, { directory, env: { ...site.env, WAPORTD_ENGINE: engine } });
        const events = server.follow();
        await server.post('/qr/new');
        const { qr } = await events.until('qr');
        await site.command('scan', { qr, phone: PHONE, name: 'Ana' });
        const { upstream } = await events.until('ready');
        assert.equal(upstream.engine, '1.99.5');
        assert.equal((await server.post('/disconnect')).status, 200);
    });

    it('a pinned page comes in place of the start page, and of nothing else', async (t) => {
        const directory = scratch(t);
        const file = await keptPage(directory);
        const [executablePath] = await findBrowsers('auto');
        const browser = await puppeteer.launch({
            executablePath,
            headless: isHeadlessShell(executablePath) ? 'shell' : true,
            pipe: true,
            args: browserArguments(executablePath, {
                cacheDirectory: directory,
                userAgent: 'Mozilla/5.0 (test)',
                extra: JSON.parse(site.env.WAPORTD_BROWSER_ARGS),
            }),
        });
        try {
            const page = await browser.newPage();
            await pinPage(page, file);
            for (const address of ['https://web.whatsapp.com/', 'https://web.whatsapp.com/?post_logout=1']) {
                const response = await page.goto(address);
                assert.deepEqual([response.status(), await page.title()], [200, 'kept – ação'], address);
            }
            const script = await page.evaluate(() => fetch('/page.js').then((answer) => answer.text()));
            assert.doesNotMatch(script, /<title>kept/);
            const framed = await page.evaluate(`new Promise((resolve) => {
                const frame = document.createElement('iframe');
                frame.src = '/?frame';
                frame.onload = () => resolve(frame.contentDocument.title);
                document.body.append(frame);
            })`);
            assert.equal(framed, 'WhatsApp');
            await page.reload();
            assert.equal(await page.title(), 'kept – ação');
        } finally {
            await browser.close();
        }
    });

    it('a pinned page gives a code on a day when the one of the site does not', async (t) => {
        const directory = scratch(t);
        const file = await keptPage(directory);
        await site.command('no-debug');
        try {
            const server = await startServer(t, { env: { ...site.env, WAPORTD_WEB_VERSION: file } });
            const events = server.follow();
            await server.post('/qr/new');
            const { upstream } = await events.until('qr');
            assert.equal(upstream.pinned, file);
        } finally {
            await site.command('no-debug', { on: false });
        }
    });

    it('a pinned page that cannot be read is an error that says so', async (t) => {
        const env = { ...site.env, WAPORTD_WEB_VERSION: '/nonexistent/page.html' };
        const server = await startServer(t, { env });
        const events = server.follow();
        await server.post('/qr/new');
        const { cause, message } = await events.until('error');
        assert.equal(cause, 'pinned_page_missing');
        assert.match(message, /ENOENT.*\/nonexistent\/page\.html/);
    });
});

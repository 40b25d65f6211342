'use strict';

/** What `waportctl doctor --upstream` looks at: a page as it is known, changed ones, and none at all. */

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');
const { after, before, beforeEach, describe, it } = require('node:test');

const { ROOT, processesOf, scratch, whenFound, within } = require('./support/process');
const { startStandIn } = require('./support/standin');

const PROGRAM = path.join(ROOT, 'server', 'upstream.js');
const FAST = path.join(ROOT, 'tests', 'node', 'support', 'fast-clock.js');
const LIMIT_MS = 60_000;

let site;
let folder;

before(async () => {
    folder = scratch({ after });
    site = await startStandIn(folder, ['--shape', 'today']);
});
after(() => site.stop());

/** One run of the program, with a folder for what it keeps. */
class Look {
    said = '';
    #child;

    constructor(t, { env = {}, told = {} } = {}) {
        this.folder = scratch(t);
        this.#child = spawn(process.execPath, [PROGRAM], {
            env: { PATH: process.env.PATH, TMPDIR: this.folder, ...env },
            stdio: ['pipe', 'pipe', 'inherit'],
        });
        this.#child.stdout.setEncoding('utf8').on('data', (text) => {
            this.said += text;
        });
        this.#child.stdin.write(`${JSON.stringify({ ...site.env, ...told })}\n`);
        this.closed = once(this.#child, 'close').then(([code]) => code);
        t.after(() => this.#child.kill('SIGKILL'));
    }

    /** Do as who asked and went away. */
    hangUp() {
        this.#child.stdin.end();
    }

    kill(signal) {
        this.#child.kill(signal);
    }

    /** Resolves with what it found, once it has ended and nothing of it is left. */
    async found() {
        assert.equal(await this.end(), 0);
        return JSON.parse(this.said);
    }

    /** Resolves with its exit status, once nothing of it is left. */
    async end() {
        const status = await within(this.closed, 'the end of the look', LIMIT_MS);
        assert.deepEqual(fs.readdirSync(this.folder), []);
        assert.deepEqual(processesOf(this.folder), []);
        return status;
    }

    /** Resolves once its browser shows a page. */
    async untilOpen() {
        await whenFound(async () => (await site.pages()).length > 0, 'the page', LIMIT_MS);
    }
}

describe('a look at the page', () => {
    beforeEach(() => site.command('break', { on: false }));

    it('finds the page as it is known, and prints no code', async (t) => {
        const look = new Look(t);
        const { browser, reached, upstream, code, error } = await look.found();
        assert.match(browser.version, /^\d+\./);
        assert.equal(reached, true);
        assert.equal(error, null);
        assert.deepEqual(
            [upstream.ok, upstream.missing, upstream.checked, upstream.engine, upstream.pinned],
            [true, [], ['boot'], 'bundled', null],
        );
        assert.match(upstream.build, /^2\.3000\./);
        assert.equal(upstream.library, require('whatsapp-web.js/package.json').version);
        assert.equal(upstream.shims.new_codes, 'applied');
        assert.equal(code.shown, true);
        assert.deepEqual([code.parts, code.differing], [{ given: 5, shown: 5 }, []]);
        assert.ok(code.ms > 0 && code.ms < LIMIT_MS, code.ms);
        // Keys are 32 bytes in base64.
        assert.doesNotMatch(look.said, /[A-Za-z0-9+/]{42}/);
    });

    it('leaves no device at the site', async (t) => {
        await new Look(t).found();
        assert.deepEqual(await site.pages(), []);
        const devices = path.join(folder, 'state.json');
        if (fs.existsSync(devices)) assert.doesNotMatch(fs.readFileSync(devices, 'utf8'), /phone/);
    });

    it('says that the page shows another code, and in which parts', async (t) => {
        await site.command('set', { help_part: true });
        t.after(() => site.command('set', { help_part: false }));
        const { code } = await new Look(t).found();
        assert.equal(code.shown, false);
        assert.deepEqual([code.parts, code.differing], [{ given: 5, shown: 6 }, [6]]);
    });

    it('continues to the code where a feature lacks something that linking does without', async (t) => {
        const module = 'WAWebAltDeviceLinkingApi';
        await site.command('break', { module, member: 'startAltLinkingFlow' });
        const { upstream, code, error } = await new Look(t).found();
        assert.deepEqual([upstream.ok, error, code.shown], [false, null, true]);
        assert.deepEqual(new Set(upstream.missing.map(({ feature }) => feature)), new Set(['pairing']));
    });

    it('says what linking lacks', async (t) => {
        await site.command('break', { module: 'WAWebConnModel', member: 'Conn.on' });
        const { reached, upstream, code, error } = await new Look(t).found();
        assert.deepEqual([reached, code, error.cause], [true, null, 'upstream_changed']);
        assert.match(error.message, /link needs WAWebConnModel\.Conn\.on/);
        assert.ok(upstream.missing.some(({ feature }) => feature === 'link'));
    });

    it('says that the site is not reached', async (t) => {
        await site.command('unreachable');
        t.after(() => site.command('unreachable', { on: false }));
        const { reached, upstream, error } = await new Look(t).found();
        assert.deepEqual([reached, upstream.build, error.cause], [false, null, 'upstream_unreachable']);
        assert.ok(error.hint);
    });

    it('distinguishes a browser that the site refuses from a page that changed', async (t) => {
        await site.command('refuse-browser');
        await site.command('set', { language: 'ja' });
        t.after(() => site.command('refuse-browser', { on: false }));
        t.after(() => site.command('set', { language: 'en' }));
        const env = { NODE_OPTIONS: `--require ${FAST}`, FAST_CLOCK: '10' };
        const { reached, error } = await new Look(t, { env }).found();
        assert.deepEqual([reached, error.cause], [false, 'browser_refused']);
    });

    it('says that no code comes', async (t) => {
        await site.command('silent');
        t.after(() => site.command('silent', { on: false }));
        const env = { NODE_OPTIONS: `--require ${FAST}`, FAST_CLOCK: '10' };
        const { reached, code, error } = await new Look(t, { env }).found();
        assert.deepEqual([reached, code, error.cause], [true, null, 'no_code']);
    });

    it('says what is wrong with the browser, or the engine', async (t) => {
        const browser = await new Look(t, { told: { WAPORTD_BROWSER: '/nowhere/chromium' } }).found();
        assert.deepEqual([browser.reached, browser.error.cause], [false, 'browser_missing']);
        const engine = await new Look(t, { told: { WAPORTD_ENGINE: '/nowhere/1.0.0' } }).found();
        assert.deepEqual([engine.reached, engine.error.cause], [false, 'engine_missing']);
        assert.equal(engine.upstream.engine, '1.0.0');
    });
});

describe('a look that nobody waits for any more', () => {
    before(() => site.command('silent'));
    after(() => site.command('silent', { on: false }));

    for (const [what, endBy] of [
        ['whose asker went away', (look) => look.hangUp()],
        ['that is told to end', (look) => look.kill('SIGTERM')],
        ['that is interrupted', (look) => look.kill('SIGINT')],
    ]) {
        it(`${what} leaves neither browser nor profile`, async (t) => {
            const look = new Look(t);
            await look.untilOpen();
            assert.notDeepEqual(fs.readdirSync(look.folder), []);
            endBy(look);
            assert.equal(await look.end(), 1);
            assert.equal(look.said, '');
        });
    }
});

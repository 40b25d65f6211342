'use strict';

/** What `waportctl doctor` starts: real browsers, and ones that fail in the ways that browsers do. */

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');

const { findBrowsers } = require('../../server/browser');
const { ROOT, processesOf, scratch, whenFound, within } = require('./support/process');

const PROGRAM = path.join(ROOT, 'server', 'browser_trial.js');
const LIMIT_MS = 60_000;

/** One run of the program, with a folder for what it keeps. */
class Trial {
    said = '';
    #child;

    constructor(t, told, { PATH = process.env.PATH, before = [] } = {}) {
        this.folder = scratch(t);
        const [command, ...args] = [...before, process.execPath, PROGRAM];
        this.#child = spawn(command, args, {
            env: { PATH, TMPDIR: this.folder },
            stdio: ['pipe', 'pipe', 'inherit'],
        });
        this.#child.stdout.setEncoding('utf8').on('data', (text) => {
            this.said += text;
        });
        this.#child.stdin.write(`${JSON.stringify(told)}\n`);
        this.closed = once(this.#child, 'close').then(([code]) => code);
        t.after(() => this.#child.kill('SIGKILL'));
    }

    hangUp() {
        this.#child.stdin.end();
    }

    /** Resolves with its exit status, once nothing of it is left. */
    async end() {
        const status = await within(this.closed, 'the end of the trial', LIMIT_MS);
        assert.deepEqual(fs.readdirSync(this.folder), []);
        assert.deepEqual(processesOf(this.folder), []);
        return status;
    }

    async found() {
        assert.equal(await this.end(), 0);
        return JSON.parse(this.said);
    }
}

/** Make a browser that prints its version, and does this when it is to show a page. */
function pretend(folder, name, script) {
    const file = path.join(folder, name);
    const version = 'case "$*" in *--version*) echo Chromium 150.0.7000.1; exit;; esac';
    fs.writeFileSync(file, `#!/bin/sh\n${version}\n${script}\n`, { mode: 0o755 });
    return file;
}

const FATAL = 'echo "[1:1:1/2.3:FATAL:zygote_host_impl_linux.cc(128)] No usable sandbox!" >&2; kill -TRAP $$';

describe('a trial of the browsers', () => {
    it('starts each real one as a session does, and leaves nothing', async (t) => {
        for (const file of await findBrowsers('auto')) {
            const { tried, error } = await new Trial(t, { WAPORTD_BROWSER: file }).found();
            assert.equal(error, null);
            assert.deepEqual([tried.length, tried[0].path, tried[0].error], [1, file, null]);
            assert.match(tried[0].version, /^\d+\.\d/);
        }
    });

    it('fails where nobody may make namespaces, without advice that cannot help', async (t) => {
        // A namespace that admits one more in it, and in that one a trial.
        const outer = ['unshare', '--user', '--map-root-user', 'sh', '-c'];
        const inner = 'exec unshare --user --map-user=1000 "$@"';
        const limit = `echo 1 > /proc/sys/user/max_user_namespaces && ${inner}`;
        const { tried } = await new Trial(t, {}, { before: [...outer, limit, 'sh'] }).found();
        assert.deepEqual(
            tried.map(({ path: file }) => file),
            await findBrowsers('auto'),
        );
        for (const { error } of tried) {
            assert.match(error.message, /does not start: No usable sandbox!$/);
            assert.match(error.hint, /waportctl doctor/);
        }
    });

    it('fails where a browser that prints its version does not start', async (t) => {
        const file = pretend(scratch(t), 'chromium', FATAL);
        const { tried } = await new Trial(t, { WAPORTD_BROWSER: file }).found();
        assert.equal(tried.length, 1);
        assert.match(tried[0].error.message, /No usable sandbox/);
    });

    it('fails where one ends well and shows no page', async (t) => {
        const file = pretend(scratch(t), 'chromium', 'exit 0');
        const { tried } = await new Trial(t, { WAPORTD_BROWSER: file }).found();
        assert.match(tried[0].error.message, /does not start: no reason given/);
        assert.match(tried[0].error.hint, /sudo waportctl doctor/);
    });

    it('takes one for good that has shown its page, and crashes when it ends', async (t) => {
        const file = pretend(scratch(t), 'chromium', 'echo "<html></html>"; kill -TRAP $$');
        const { tried } = await new Trial(t, { WAPORTD_BROWSER: file }).found();
        assert.equal(tried[0].error, null);
    });

    it('continues to the next one, and ends with the first that starts', async (t) => {
        const folder = scratch(t);
        const bad = pretend(folder, 'chromium-headless-shell', FATAL);
        const good = pretend(folder, 'chromium', 'echo "<html></html>"');
        pretend(folder, 'google-chrome', 'exit 9');
        const { tried } = await new Trial(t, {}, { PATH: `${folder}:${process.env.PATH}` }).found();
        assert.deepEqual(
            tried.map((one) => [one.path, one.error === null]),
            [
                [bad, false],
                [good, true],
            ],
        );
    });

    it('gets the arguments of a session', async (t) => {
        const file = pretend(scratch(t), 'chromium', '[ "${*#*--last}" = "$*" ] || echo "<html>"');
        const told = { WAPORTD_BROWSER: file, WAPORTD_BROWSER_ARGS: '["--last"]' };
        assert.equal((await new Trial(t, told).found()).tried[0].error, null);
        assert.notEqual((await new Trial(t, { WAPORTD_BROWSER: file }).found()).tried[0].error, null);
    });

    it('says that there is none', async (t) => {
        const { tried, error } = await new Trial(t, { WAPORTD_BROWSER: '/nowhere/chromium' }).found();
        assert.deepEqual(tried, []);
        assert.match(error.message, /not an executable file/);
    });

    it('leaves no browser when nobody waits for it any more', async (t) => {
        const file = pretend(scratch(t), 'chromium', 'sleep 1000 & touch "$HOME/up"; wait');
        const trial = new Trial(t, { WAPORTD_BROWSER: file });
        const isUp = (name) => fs.existsSync(path.join(trial.folder, name, 'up'));
        await whenFound(async () => fs.readdirSync(trial.folder).some(isUp), 'the start of the browser');
        trial.hangUp();
        assert.equal(await trial.end(), 1);
        assert.equal(trial.said, '');
    });
});

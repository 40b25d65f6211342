'use strict';

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');

const browsers = require('../../server/browser');
const { scratch } = require('./support/process');

/** Make executables of these names in a folder, and return their paths. */
function install(folder, names, script = '#!/bin/sh\necho Chromium 150.0.7000.1\n') {
    return names.map((name) => {
        const file = path.join(folder, name);
        fs.writeFileSync(file, script, { mode: 0o755 });
        return file;
    });
}

describe('the choice of a browser', () => {
    it('is the lightest that is installed', async (t) => {
        const folder = scratch(t);
        const [chrome, chromium] = install(folder, ['google-chrome', 'chromium']);
        const found = await browsers.findBrowsers('auto', folder);
        assert.ok(found.indexOf(chromium) < found.indexOf(chrome));
        assert.ok(found.includes(chrome));
    });

    it('is the configured one, by path or by name, and no other', async (t) => {
        const folder = scratch(t);
        const [file] = install(folder, ['my-browser']);
        assert.deepEqual(await browsers.findBrowsers(file, ''), [file]);
        assert.deepEqual(await browsers.findBrowsers('my-browser', folder), [file]);
        fs.chmodSync(file, 0o644);
        for (const wanted of [file, 'my-browser', path.join(folder, 'none'), folder]) {
            await assert.rejects(browsers.findBrowsers(wanted, folder), { cause: 'browser_missing' });
        }
    });

    it('passes on to the next one, and remembers that as long as it is installed', async (t) => {
        const folder = scratch(t);
        const choice = new browsers.BrowserChoice(folder);
        assert.equal(await choice.pick(['/a', '/b']), '/a');
        assert.equal(await choice.passOn(['/a', '/b'], '/a', 'silent'), '/b');
        assert.equal(await new browsers.BrowserChoice(folder).pick(['/a', '/b']), '/b');
        assert.equal(await choice.pick(['/a']), '/a');
        assert.equal(await choice.passOn(['/a', '/b'], '/b', 'silent'), '/a');
        assert.equal(await choice.passOn(['/a'], '/a', 'silent'), null);
    });
});

describe('a browser', () => {
    it('is asked for its version before it is used, and says why it cannot run', async (t) => {
        const folder = scratch(t);
        const [good] = install(folder, ['good']);
        assert.equal(await browsers.browserVersion(good, {}), '150.0.7000.1');
        const [bad] = install(folder, ['bad'], '#!/bin/sh\necho "cannot open libnss3.so" >&2\nexit 127\n');
        await assert.rejects(browsers.browserVersion(bad, {}), (error) => {
            assert.equal(error.cause, 'browser_failed');
            assert.match(error.message, /libnss3/);
            return true;
        });
        for (const [end, told] of [
            ['exit 21', /^\S+ does not start: it ended with exit code 21$/],
            ['kill -KILL $$', /^\S+ does not start: it was ended by SIGKILL$/],
        ]) {
            const [mute] = install(folder, [end.replaceAll(/\W/g, '')], `#!/bin/sh\n${end}\n`);
            await assert.rejects(browsers.browserVersion(mute, {}), { message: told });
            await assert.rejects(
                browsers.diagnose(mute, ['--proxy-server=secret'], '/p', {}).then((error) => {
                    throw error;
                }),
                { message: told },
            );
        }
    });

    it('keeps its sandbox, and says that it is an ordinary browser of its version', () => {
        for (const file of ['/usr/bin/chromium', '/usr/bin/chromium-headless-shell']) {
            const identity = browsers.identity('150.0.7000.1');
            const options = { cacheDirectory: '/c', userAgent: identity.userAgent, extra: ['--last'] };
            const args = browsers.browserArguments(file, options);
            assert.ok(!args.some((arg) => /no-sandbox|remote-debugging|single-process|no-zygote/.test(arg)));
            assert.match(identity.userAgent, /Chrome\/150\.0\.0\.0 /);
            assert.doesNotMatch(identity.userAgent, /Headless/);
            assert.equal(args.at(-1), '--last');
        }
    });

    it('does not get the variables of the server', () => {
        const env = {
            PATH: '/bin',
            PORT: '1',
            NOTIFY_SOCKET: '/x',
            WAPORTD_USER: '2',
            LISTEN_FDS: '1',
            HOME: '/h',
            DBUS_SESSION_BUS_ADDRESS: 'unix:path=/run/user/1000/bus',
        };
        assert.deepEqual(browsers.browserEnvironment('/cache', env), {
            PATH: '/bin',
            HOME: '/h',
            XDG_CACHE_HOME: '/cache',
            XDG_CONFIG_HOME: '/cache',
            DBUS_SESSION_BUS_ADDRESS: 'disabled:',
            DBUS_SYSTEM_BUS_ADDRESS: 'disabled:',
        });
    });

    it('is found by the profile it uses, and by its process group', async (t) => {
        const profile = path.join(scratch(t), 'profile');
        const args = ['-c', 'echo up; read line', 'sh', `--user-data-dir=${profile}`];
        const child = spawn('sh', args, { detached: true, stdio: ['pipe', 'pipe', 'inherit'] });
        t.after(() => child.kill());
        await once(child.stdout, 'data');
        assert.deepEqual(await browsers.profileHolders(profile), [child.pid]);
        assert.deepEqual(await browsers.profileHolders(`${profile}-other`), []);
        assert.equal(await browsers.groupLives(child.pid), true);
        const exited = once(child, 'exit');
        child.stdin.end();
        await exited;
        assert.equal(await browsers.groupLives(child.pid), false);
    });
});

'use strict';

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');

const browsers = require('../../server/browser');
const { browserArguments, describeWay, identity } = require('../../server/browser_arguments');
const { BrowserVersions, browserVersion } = require('../../server/browser_version');
const { BrowserProcess } = require('../../server/launch');
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
        assert.equal(await browserVersion(good, {}), '150.0.7000.1');
        const [bad] = install(folder, ['bad'], '#!/bin/sh\necho "cannot open libnss3.so" >&2\nexit 127\n');
        await assert.rejects(browserVersion(bad, {}), (error) => {
            assert.equal(error.cause, 'browser_failed');
            assert.match(error.message, /libnss3/);
            return true;
        });
        for (const [end, told] of [
            ['exit 21', /^\S+ does not start: it ended with exit code 21$/],
            ['kill -KILL $$', /^\S+ does not start: it was ended by SIGKILL$/],
        ]) {
            const [mute] = install(folder, [end.replaceAll(/\W/g, '')], `#!/bin/sh\n${end}\n`);
            await assert.rejects(browserVersion(mute, {}), { message: told });
            const process = new BrowserProcess(mute, ['--proxy-server=secret'], '/p', {});
            await process.ended;
            assert.match((await process.explain()).message, told);
        }
    });

    it('is quoted with what it ended of, not with what its parts say of its end', async (t) => {
        const said = [
            '[1:1:0100/000000.1:ERROR:dbus/bus.cc(405)] Failed to connect to the bus',
            '[7:7:0100/000000.2:FATAL:zygote_host_impl_linux.cc(128)] No usable sandbox!',
            '[9:9:0100/000000.3:ERROR:zygote_linux.cc(662)] write: Broken pipe (32)',
        ];
        const script = `#!/bin/sh\n${said.map((line) => `echo '${line}' >&2\n`).join('')}exit 134\n`;
        const [file] = install(scratch(t), ['chromium'], script);
        const process = new BrowserProcess(file, [], '/p', {});
        await process.ended;
        const { message, hint } = await process.explain();
        assert.match(message, /does not start: No usable sandbox!$/);
        assert.match(hint, /user namespaces/);
    });

    it('keeps its sandbox, and says that it is an ordinary browser of its version', () => {
        for (const file of ['/usr/bin/chromium', '/usr/bin/chromium-headless-shell']) {
            const { userAgent } = identity('150.0.7000.1');
            const options = { cacheDirectory: '/c', userAgent, extra: ['--last'] };
            const args = browserArguments(file, options);
            assert.ok(!args.some((arg) => /no-sandbox|remote-debugging|single-process|no-zygote/.test(arg)));
            assert.match(userAgent, /Chrome\/150\.0\.0\.0 /);
            assert.doesNotMatch(userAgent, /Headless/);
            assert.equal(args.at(-1), '--last');
        }
    });

    it('gets features in one flag of each kind: of several it takes the last', () => {
        const extra = ['--enable-features=Ours', '--disable-features=Theirs,Others', '--other'];
        const args = browserArguments('/usr/bin/chromium-headless-shell', {
            cacheDirectory: '/c',
            userAgent: 'x',
            extra,
        });
        const of = (kind) => args.filter((arg) => arg.startsWith(`--${kind}-features=`));
        assert.match(of('enable').join(' '), /^--enable-features=NetworkServiceInProcess2,Ours$/);
        assert.match(of('disable').join(' '), /^--disable-features=Translate,\S+,Theirs,Others$/);
        assert.equal(args.at(-1), '--other');
    });

    it('is asked for its version once, unless its program is another one or says so itself', async (t) => {
        const folder = scratch(t);
        const asked = path.join(folder, 'asked');
        const program = (version) => `#!/bin/sh\necho . >> ${asked}\necho Chromium ${version}\n`;
        const times = () => fs.readFileSync(asked, 'utf8').split('.').length - 1;
        const [file] = install(folder, ['chromium'], program('150.0.7000.1'));
        const versions = () => new BrowserVersions(folder);
        assert.equal(await versions().of(file, {}), '150.0.7000.1');
        assert.equal(await versions().of(file, {}), '150.0.7000.1');
        assert.equal(times(), 1);
        install(folder, ['chromium'], program('151.0.7100.20'));
        assert.equal(await versions().of(file, {}), '151.0.7100.20');
        assert.equal(times(), 2);
        // A script that runs what it likes.
        const running = versions();
        await running.of(file, {});
        assert.equal(await running.correct(file, '151.0.7100.20'), false);
        assert.equal(await running.correct(file, '152.0.7200.3'), true);
        assert.equal(await versions().of(file, {}), '152.0.7200.3');
        assert.equal(times(), 2);
        fs.writeFileSync(path.join(folder, 'browser_version.json'), 'not JSON');
        assert.equal(await versions().of(file, {}), '151.0.7100.20');
        assert.equal(await new BrowserVersions(null).of(file, {}), '151.0.7100.20');
        assert.equal(times(), 4);
    });

    it('that runs is ended with all that it has started', async (t) => {
        const folder = scratch(t);
        const script = '#!/bin/sh\nsleep 60 &\necho says something >&2\nwait\n';
        const [file] = install(folder, ['chromium'], script);
        const process = new BrowserProcess(file, [], path.join(folder, 'profile'), {});
        assert.equal(await browsers.groupLives(process.pid), true);
        const why = await process.explain();
        assert.match(why.message, /does not start: (says something|no answer in time)$/);
        assert.equal(await browsers.groupLives(process.pid), false);
    });

    it('that cannot be started says so', async () => {
        const process = new BrowserProcess('/nowhere/chromium', [], '/p', {});
        await process.ended;
        assert.match((await process.explain()).message, /does not start: ENOENT$/);
    });

    it('says which proxy it takes, and no login', () => {
        const env = { HTTPS_PROXY: 'http://ana:SECRET@proxy:3128' };
        for (const [args, given, said] of [
            [[], {}, 'none'],
            [[], { ALL_PROXY: 'socks5://proxy:1080' }, 'socks5://proxy:1080'],
            [[], env, 'http://proxy:3128'],
            [['--no-proxy-server'], env, 'none'],
            [['--proxy-server=direct://'], env, 'none'],
            [['--proxy-server=other:1', '--proxy-server=https://me:SE@CRET@last:2'], env, 'https://last:2'],
            [['--proxy-server=me:SECRET@last:2'], {}, 'last:2'],
            [['--proxy-pac-url=http://host/proxy.pac'], {}, 'http://host/proxy.pac'],
        ])
            assert.equal(describeWay(args, given), said);
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

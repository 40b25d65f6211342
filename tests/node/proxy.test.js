'use strict';

/** Sessions behind a proxy: its login, what is wrong with it, and who gets to see the password. */

const assert = require('node:assert/strict');
const { EventEmitter } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');

const { logInToProxy } = require('../../server/proxy_login');
const { processesOf, scratch } = require('./support/process');
const { browserOf, start } = require('./support/session');
const { startStandIn } = require('./support/standin');

const PASSWORD = 'p@ss/w0rd';
const LOGIN = `ana:${encodeURIComponent(PASSWORD)}`;

let standin;
let folder;

before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
    standin = await startStandIn(folder, ['--proxy', `ana:${PASSWORD}`]);
});

after(() => {
    standin?.stop();
    if (folder) fs.rmSync(folder, { recursive: true, force: true });
});

/** Without the argument that leads the browser through the proxy: that is up to the setting. */
const argumentsOf = ({ proxyEnv }) => {
    const all = JSON.parse(proxyEnv.WAPORTD_BROWSER_ARGS);
    return all.filter((each) => !each.startsWith('--proxy-server='));
};
const portOf = ({ proxyEnv }) => proxyEnv.WAPORTD_BROWSER_ARGS.match(/--proxy-server=http:[^":]*:(\d+)/)[1];

/** Start a server whose browser takes that proxy; `args` come before all others. */
async function startBehind(t, proxy, { args = [], env = {} } = {}) {
    const all = JSON.stringify([...args, ...argumentsOf(standin)]);
    const server = await start(t, standin, {
        env: { WAPORTD_BROWSER_ARGS: all, WAPORTD_PROXY: proxy, ...env },
    });
    const events = server.follow();
    await server.post('/qr/new');
    return { server, events };
}

describe('behind a proxy', () => {
    it('a code comes with its login, which only the server and its browser know', async (t) => {
        const proxy = `http://${LOGIN}@127.0.0.1:${portOf(standin)}`;
        // The setting wins over what stands among the arguments.
        const { server, events } = await startBehind(t, proxy, { args: ['--proxy-server=127.0.0.1:9'] });
        const { qr } = await events.until('qr');
        assert.ok(qr);
        const logged = server.output.match(/starting the browser .*proxy="?([^"\s]+)/)[1];
        assert.equal(logged, `http://127.0.0.1:${portOf(standin)}`);
        const encoded = Buffer.from(`ana:${PASSWORD}`).toString('base64');
        const secrets = [PASSWORD, encodeURIComponent(PASSWORD), encoded];
        const told = [server.output, (await server.get('/session')).text, JSON.stringify(events.documents)];
        const processes = processesOf(server.directory).map(Number);
        assert.ok(processes.includes(Number(browserOf(server))));
        for (const pid of processes) {
            const command = fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1');
            told.push(command);
            const isBrowser = /--(user-data-dir|type)=/.test(command);
            if (isBrowser) told.push(fs.readFileSync(`/proc/${pid}/environ`, 'latin1'));
        }
        for (const text of told) {
            for (const secret of secrets) assert.ok(!text.includes(secret), text.slice(0, 200));
        }
    });

    for (const [what, login] of [
        ['another password', 'ana:wr0ng@'],
        ['no login', ''],
    ]) {
        it(`${what} is said to be what is wrong`, async (t) => {
            const { events, server } = await startBehind(t, `http://${login}127.0.0.1:${portOf(standin)}`);
            const { cause, message, hint } = await events.until('error');
            assert.equal(cause, 'proxy_auth', message);
            assert.match(message, /wants a name and a password/);
            assert.match(hint, /waportctl proxy USER/);
            assert.doesNotMatch(server.output + message + hint, /ana|wr0ng/);
        });
    }

    it('from a variable, its login is not taken, of which doctor warns', async (t) => {
        const named = { https_proxy: `http://${LOGIN}@127.0.0.1:${portOf(standin)}` };
        const { events } = await startBehind(t, 'auto', { env: named });
        const { cause, message } = await events.until('error');
        assert.equal(cause, 'proxy_auth', message);
    });

    it('that is not there, that is said', async (t) => {
        const { events } = await startBehind(t, `http://${LOGIN}@127.0.0.1:9`);
        const { cause, message } = await events.until('error');
        assert.equal(cause, 'proxy_unreachable', message);
    });

    it('that does not lead to the site, that is said', async (t) => {
        const proxy = http.createServer().listen(0, '127.0.0.1');
        proxy.on('connect', (_, client) => client.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n'));
        t.after(() => proxy.close());
        await new Promise((resolve) => {
            proxy.once('listening', resolve);
        });
        const { events } = await startBehind(t, `http://127.0.0.1:${proxy.address().port}`);
        const { cause, message } = await events.until('error');
        assert.equal(cause, 'proxy_refused', message);
    });

    it('a pinned page comes, too', async (t) => {
        const page = path.join(scratch(t), 'page.html');
        fs.writeFileSync(page, await standin.startPage());
        const proxy = `http://${LOGIN}@127.0.0.1:${portOf(standin)}`;
        const { events } = await startBehind(t, proxy, { env: { WAPORTD_WEB_VERSION: page } });
        await events.until('qr');
    });

    it('none is taken where the setting says so', async (t) => {
        const args = ['--proxy-server=127.0.0.1:9', ...JSON.parse(standin.env.WAPORTD_BROWSER_ARGS)];
        const env = { WAPORTD_BROWSER_ARGS: JSON.stringify(args), WAPORTD_PROXY: 'none' };
        const server = await start(t, standin, { env });
        const events = server.follow();
        await server.post('/qr/new');
        await events.until('qr');
    });
});

describe('the password of a proxy', () => {
    /** What Chromium gets when it asks, as the DevTools protocol has it. */
    async function answers(...challenges) {
        const devtools = new EventEmitter();
        const sent = [];
        devtools.send = async (method, parameters) => sent.push({ method, ...parameters });
        await logInToProxy(devtools, { server: 'http://p:1', username: 'ana', password: 'secret' }, false);
        sent.length = 0;
        for (const [requestId, source] of challenges) {
            devtools.emit('Fetch.authRequired', { requestId, authChallenge: { source } });
        }
        return sent.map(({ requestId, authChallengeResponse }) => [requestId, authChallengeResponse]);
    }
    const given = { response: 'ProvideCredentials', username: 'ana', password: 'secret' };
    const none = { response: 'CancelAuth' };

    it('is given to no site that asks for one', async () => {
        assert.deepEqual(await answers(['1', 'Server'], ['2', 'Proxy']), [
            ['1', none],
            ['2', given],
        ]);
    });

    it('is given once for each request', async () => {
        assert.deepEqual(await answers(['1', 'Proxy'], ['1', 'Proxy'], ['2', 'Proxy']), [
            ['1', given],
            ['1', none],
            ['2', given],
        ]);
    });
});

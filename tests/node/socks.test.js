'use strict';

/** Sessions behind a SOCKS proxy: what Chromium can do there, and what is said of what it cannot. */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');

const { Socks } = require('../standin/socks');
const { within } = require('./support/process');
const { link, start } = require('./support/session');
const { startStandIn } = require('./support/standin');

let standin;
let folder;

before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
    standin = await startStandIn(folder);
});

after(() => {
    standin?.stop();
    if (folder) fs.rmSync(folder, { recursive: true, force: true });
});

/** Start a proxy, and a server whose environment names it. */
async function startBehind(t, environment, options = {}) {
    const [, sitePort] = standin.env.WAPORTD_BROWSER_ARGS.match(/127\.0\.0\.1:(\d+)/);
    const socks = new Socks({ sitePort: Number(sitePort), ...options });
    t.after(() => socks.close());
    const server = await start(t, standin, { env: environment(`127.0.0.1:${await socks.listen()}`) });
    const events = server.follow();
    await server.post('/qr/new');
    return { events, socks };
}

const asArgument = (proxy) => {
    const all = [`--proxy-server=${proxy}`, ...JSON.parse(standin.env.WAPORTD_BROWSER_ARGS)];
    return { WAPORTD_BROWSER_ARGS: JSON.stringify(all) };
};

describe('behind a SOCKS proxy', () => {
    it('of version 5 a phone is linked, and the proxy looks up the names', async (t) => {
        const { events, socks } = await startBehind(t, (at) => ({ WAPORTD_PROXY: `socks5://${at}` }));
        await link(standin, events);
        assert.deepEqual([...new Set(socks.asked)], ['5 web.whatsapp.com:443']);
    });

    it('of version 4 a code comes, and the host looks up the names', async (t) => {
        const { events, socks } = await startBehind(t, (at) => ({ WAPORTD_PROXY: `socks4://${at}` }));
        await events.until('qr');
        assert.deepEqual([...new Set(socks.asked)], ['4 127.0.0.1:443']);
    });

    it('that wants a login, it is said that none is given', async (t) => {
        const settings = (at) => ({ WAPORTD_PROXY: `socks5://${at}` });
        const { events, socks } = await startBehind(t, settings, { login: 'ana:secret' });
        const { cause, message, hint } = await events.until('error');
        assert.equal(cause, 'proxy_refused', message);
        assert.match(hint, /wants a name and a password, it cannot be used/);
        assert.deepEqual(socks.offered[0], [0], 'no other way than without a login');
    });

    it('that does not lead to the site, that is said', async (t) => {
        const { events } = await startBehind(t, (at) => ({ WAPORTD_PROXY: `socks5://${at}` }), { reply: 2 });
        const { cause, message } = await events.until('error');
        assert.equal(cause, 'proxy_refused', message);
        assert.match(message, /the SOCKS proxy does not let the browser through/);
    });

    it('that is not there, that is said', async (t) => {
        const { events } = await startBehind(t, () => ({ WAPORTD_PROXY: 'socks5://127.0.0.1:9' }));
        const { cause, message } = await events.until('error');
        assert.equal(cause, 'proxy_unreachable', message);
    });

    for (const kind of ['socks5h://', 'socks5://ana:secret@']) {
        it(`it is said that ${kind} among the arguments is of no use`, async (t) => {
            const { events } = await startBehind(t, (at) => asArgument(`${kind}${at}`));
            const { cause, message, hint } = await events.until('error');
            assert.equal(cause, 'proxy_refused', message);
            assert.match(message, /cannot use a proxy of this kind/);
            assert.doesNotMatch(message + hint, /secret/);
        });
    }

    it('from a variable, Chromium takes it for one of HTTP, of which doctor warns', async (t) => {
        const { socks } = await startBehind(t, (at) => ({ all_proxy: `socks5://${at}` }));
        const byte = await within(socks.firstByte, 'the browser');
        assert.equal(String.fromCharCode(byte), 'C', 'as in CONNECT');
    });
});

'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');

const { ConfigError, readConfig } = require('../../server/config');
const { scratch } = require('./support/process');

/** Variables whose values may be secret. */
const SECRET = ['WAPORTD_WEBHOOK_URL', 'WAPORTD_WEBHOOK_SECRETS', 'WAPORTD_WEBHOOK_HEADERS', 'WAPORTD_PROXY'];
const WHSEC = `whsec_${'aGlkZGVu'.repeat(4)}`;

const read = (env = {}, args = /** @type {string[]} */ ([])) => readConfig(env, args, '/srv');

/** @param {NodeJS.ProcessEnv} env @param {string[]} args */
function problemsOf(env, args = []) {
    try {
        read(env, args);
    } catch (error) {
        assert.ok(error instanceof ConfigError);
        return error.problems;
    }
    return [];
}

describe('the configuration', () => {
    it('has a default for everything', () => {
        const config = read();
        assert.equal(config.port, 5001);
        assert.equal(config.clientId, 'waportd_5001');
        assert.equal(config.authDirectory, '/srv/.wwebjs_auth_5001');
        assert.equal(config.cacheDirectory, '/srv/.wwebjs_cache_5001');
        assert.equal(config.webhookUrl?.href, 'http://localhost:5002/webhook');
        assert.equal(config.label, 'port 5001');
        assert.deepEqual(config.qrLifetime, [60, 20]);
        assert.ok(Object.isFrozen(config));
    });

    it('takes the webhook by the former name of its variable, unless the new one is there', () => {
        const former = { FLASK_WEBHOOK_URL: 'http://localhost:1/former' };
        assert.equal(read(former).webhookUrl?.href, 'http://localhost:1/former');
        assert.equal(read({ ...former, WAPORTD_WEBHOOK_URL: '' }).webhookUrl, null);
        assert.deepEqual(problemsOf({ FLASK_WEBHOOK_URL: 'secret' }).length, 1);
        assert.doesNotMatch(problemsOf({ FLASK_WEBHOOK_URL: 'secret' })[0], /secret/);
    });

    it('continues with a login under the former prefix, where there is none of today', (t) => {
        const folder = scratch(t);
        const clientId = (env = {}) => read({ PORT: '5002', STATE_DIRECTORY: folder, ...env }).clientId;
        const link = (/** @type {string} */ prefix) =>
            fs.mkdirSync(path.join(folder, `.wwebjs_auth_5002/session-${prefix}_5002`), { recursive: true });
        assert.equal(clientId(), 'waportd_5002');
        link('ylada_bot');
        assert.equal(clientId(), 'ylada_bot_5002');
        assert.equal(clientId({ WAPORTD_CLIENT_ID_PREFIX: 'mine' }), 'mine_5002');
        link('waportd');
        assert.equal(clientId(), 'waportd_5002');
    });

    it('takes the port from PORT, else from the argument', () => {
        assert.equal(read({ PORT: '5003' }, ['5002']).port, 5003);
        assert.equal(read({}, ['5002']).port, 5002);
    });

    it('refuses a port that is not a whole number from 1 to 65535, wherever it comes from', () => {
        for (const port of [
            '',
            '0',
            '65536',
            '-1',
            '5001.5',
            '0x1389',
            '1e3',
            ' 5001',
            'abc',
            '99999999999',
        ]) {
            assert.match(problemsOf({ PORT: port })[0], /^PORT is .*; allowed: a port/, JSON.stringify(port));
            assert.match(problemsOf({}, [port])[0], /^argument is .*; allowed: a port/, JSON.stringify(port));
        }
    });

    it('puts folders where systemd says, the first of several', () => {
        const config = read({
            PORT: '5002',
            STATE_DIRECTORY: '/var/lib/a:/var/lib/b',
            CACHE_DIRECTORY: '/var/cache/a',
        });
        assert.equal(config.authDirectory, '/var/lib/a/.wwebjs_auth_5002');
        assert.equal(config.cacheDirectory, '/var/cache/a/.wwebjs_cache_5002');
    });

    it('reads every variable', () => {
        const config = read({
            WAPORTD_USER: '2_1',
            WAPORTD_WEBHOOK_URL: '',
            WAPORTD_CLIENT_ID_PREFIX: 'bot',
            WAPORTD_BROWSER: '/usr/bin/chromium',
            WAPORTD_BROWSER_ARGS: '["--a", "--b"]',
            WAPORTD_PROXY: 'none',
            WAPORTD_ENGINE: '/var/lib/waportd-engines/1.34.6',
            WAPORTD_COMPILED: '/var/lib/waportd-engines/compiled',
            WAPORTD_WEB_VERSION: '/srv/page.html',
            WAPORTD_QR_MAX_RETRIES: '3',
            WAPORTD_QR_LIFETIME: '30,10',
            WAPORTD_IDLE_TIMEOUT: '5',
            WAPORTD_CACHE_MAX: '2097152',
            WAPORTD_MEDIA_MAX: '1048576',
        });
        assert.equal(config.mediaMax, 1_048_576);
        assert.equal(config.cacheMax, 2_097_152);
        assert.equal(read({ WAPORTD_MEDIA_MAX: '0' }).mediaMax, Infinity);
        assert.equal(config.label, 'user 2_1');
        assert.equal(config.webhookUrl, null);
        assert.equal(config.clientId, 'bot_5001');
        assert.deepEqual(config.browserArgs, ['--a', '--b']);
        assert.equal(config.engine, '/var/lib/waportd-engines/1.34.6');
        assert.equal(config.compiled, '/var/lib/waportd-engines/compiled');
        assert.equal(config.webVersion, '/srv/page.html');
        assert.equal(config.proxy?.server, null);
        assert.deepEqual([config.qrMaxRetries, config.idleTimeout], [3, 5]);
        assert.deepEqual(config.qrLifetime, [30, 10]);
    });

    it('knows what happens to messages', () => {
        const plain = read();
        assert.deepEqual([plain.webhookSecrets, plain.webhookHeaders], [[], {}]);
        assert.deepEqual(plain.webhookEvents, ['message']);
        assert.deepEqual([plain.webhookTimeout, plain.webhookRetry], [30, 86_400]);
        assert.deepEqual(plain.ignore, ['status']);
        assert.deepEqual([plain.journalAge, plain.journalSize], [604_800, 67_108_864]);
        assert.deepEqual([plain.defaultCountry, plain.mediaFromPrivate, plain.sendRate], [null, false, 0]);
        const config = read({
            WAPORTD_WEBHOOK_SECRETS: `${WHSEC},${WHSEC}AA==`,
            WAPORTD_WEBHOOK_HEADERS: '{"Authorization": "Bearer x"}',
            WAPORTD_WEBHOOK_EVENTS: 'message,message.ack',
            WAPORTD_IGNORE: '',
            WAPORTD_DEFAULT_COUNTRY: '55',
            WAPORTD_MEDIA_FROM_PRIVATE: 'true',
            WAPORTD_SEND_RATE: '20',
        });
        assert.deepEqual(config.webhookSecrets, [WHSEC, `${WHSEC}AA==`]);
        assert.deepEqual(config.webhookHeaders, { Authorization: 'Bearer x' });
        assert.deepEqual([config.webhookEvents, config.ignore], [['message', 'message.ack'], []]);
        assert.deepEqual([config.defaultCountry, config.mediaFromPrivate, config.sendRate], ['55', true, 20]);
        assert.equal(read({ WAPORTD_DEFAULT_COUNTRY: '' }).defaultCountry, null);
    });

    it('refuses secrets and headers that are none', () => {
        const bad = {
            WAPORTD_WEBHOOK_SECRETS: ['x', `${WHSEC},`, `${WHSEC}x`, Array(3).fill(WHSEC).join(), 'whsec_'],
            WAPORTD_WEBHOOK_HEADERS: ['', '[]', 'null', '"x"', '{"a b": "c"}', '{"a": ["b"]}'],
        };
        for (const [name, values] of Object.entries(bad))
            for (const value of values) assert.equal(problemsOf({ [name]: value }).length, 1, value);
    });

    it('names every unusable value at once, and what is allowed', () => {
        const bad = {
            PORT: 'x',
            WAPORTD_USER: '../etc',
            WAPORTD_WEBHOOK_URL: 'file:///etc/passwd',
            WAPORTD_CLIENT_ID_PREFIX: 'a b',
            WAPORTD_BROWSER: '',
            WAPORTD_BROWSER_ARGS: '["--a", 1]',
            WAPORTD_PROXY: 'http://',
            WAPORTD_ENGINE: '1.34.6',
            WAPORTD_WEB_VERSION: './page.html',
            WAPORTD_QR_MAX_RETRIES: '0',
            WAPORTD_QR_LIFETIME: '60',
            WAPORTD_START_TIMEOUT: '1.5',
            WAPORTD_READY_TIMEOUT: 'soon',
            WAPORTD_PROBE_INTERVAL: '-1',
            WAPORTD_IDLE_TIMEOUT: '',
            WAPORTD_CACHE_MAX: '-1',
            WAPORTD_MEDIA_MAX: '64M',
            WAPORTD_WEBHOOK_SECRETS: 'whsec_short',
            WAPORTD_WEBHOOK_HEADERS: '{"X": 1}',
            WAPORTD_WEBHOOK_EVENTS: 'message,Call',
            WAPORTD_WEBHOOK_TIMEOUT: '0',
            WAPORTD_WEBHOOK_RETRY: '1d',
            WAPORTD_IGNORE: 'groups,groups',
            WAPORTD_JOURNAL_AGE: '',
            WAPORTD_JOURNAL_SIZE: '0',
            WAPORTD_DEFAULT_COUNTRY: '+55',
            WAPORTD_MEDIA_FROM_PRIVATE: 'yes',
            WAPORTD_SEND_RATE: '601',
        };
        const problems = problemsOf(bad);
        assert.equal(problems.length, Object.keys(bad).length);
        for (const [name, value] of Object.entries(bad)) {
            const shown = SECRET.includes(name) ? 'not usable' : JSON.stringify(value);
            const problem = problems.find((each) => each.startsWith(`${name} is ${shown};`));
            assert.match(problem ?? '', /; allowed: ./, name);
        }
    });

    it('repeats no value that may hold a token or a password', () => {
        for (const name of SECRET) {
            for (const value of ['ftp://ana:hidden@h/', 'hidden', 'http://hidden@', 'http://%z:hidden@p:1']) {
                const problems = problemsOf({ [name]: value });
                assert.doesNotMatch(problems.join(), /hidden/, `${name} ${value}`);
            }
        }
    });

    it('distinguishes the login of a proxy from what the browser gets on its command line', () => {
        const read1 = (/** @type {string} */ text) => read({ WAPORTD_PROXY: text }).proxy;
        assert.equal(read({}).proxy, null);
        assert.equal(read1('auto'), null);
        assert.equal(read1(''), null);
        assert.deepEqual(read1('none'), { server: null, username: null, password: null });
        const login = { username: 'ana:b', password: 'p@ss/%' };
        const named = read1('http://ana%3Ab:p%40ss%2F%25@proxy:3128');
        assert.deepEqual(named, { server: 'http://proxy:3128', ...login });
        const plain = read1('socks5://[::1]:1080');
        assert.deepEqual(plain, { server: 'socks5://[::1]:1080', username: null, password: null });
        for (const bad of ['proxy:3128', 'ftp://p:1', 'socks5://a:b@p:1', 'http://p:1/x', 'http://p:1?x']) {
            assert.equal(problemsOf({ WAPORTD_PROXY: bad }).length, 1, bad);
        }
    });
});

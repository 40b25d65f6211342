'use strict';

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { ConfigError, readConfig } = require('../../server/config');

const read = (env = {}, args = []) => readConfig(env, args, '/srv');

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
        assert.equal(config.clientId, 'ylada_bot_5001');
        assert.equal(config.authDirectory, '/srv/.wwebjs_auth_5001');
        assert.equal(config.cacheDirectory, '/srv/.wwebjs_cache_5001');
        assert.equal(config.webhookUrl.href, 'http://localhost:5002/webhook');
        assert.equal(config.label, 'port 5001');
        assert.deepEqual(config.qrLifetime, [60, 20]);
        assert.ok(Object.isFrozen(config));
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
            FLASK_WEBHOOK_URL: '',
            WAPORTD_CLIENT_ID_PREFIX: 'bot',
            WAPORTD_BROWSER: '/usr/bin/chromium',
            WAPORTD_BROWSER_ARGS: '["--a", "--b"]',
            WAPORTD_ENGINE: '/var/lib/waportd-engines/1.34.6',
            WAPORTD_WEB_VERSION: '/srv/page.html',
            WAPORTD_QR_MAX_RETRIES: '3',
            WAPORTD_QR_LIFETIME: '30,10',
            WAPORTD_IDLE_TIMEOUT: '5',
        });
        assert.equal(config.label, 'user 2_1');
        assert.equal(config.webhookUrl, null);
        assert.equal(config.clientId, 'bot_5001');
        assert.deepEqual(config.browserArgs, ['--a', '--b']);
        assert.equal(config.engine, '/var/lib/waportd-engines/1.34.6');
        assert.equal(config.webVersion, '/srv/page.html');
        assert.deepEqual([config.qrMaxRetries, config.idleTimeout], [3, 5]);
        assert.deepEqual(config.qrLifetime, [30, 10]);
    });

    it('names every unusable value at once, and what is allowed', () => {
        const bad = {
            PORT: 'x',
            WAPORTD_USER: '../etc',
            FLASK_WEBHOOK_URL: 'file:///etc/passwd',
            WAPORTD_CLIENT_ID_PREFIX: 'a b',
            WAPORTD_BROWSER: '',
            WAPORTD_BROWSER_ARGS: '["--a", 1]',
            WAPORTD_ENGINE: '1.34.6',
            WAPORTD_WEB_VERSION: './page.html',
            WAPORTD_QR_MAX_RETRIES: '0',
            WAPORTD_QR_LIFETIME: '60',
            WAPORTD_START_TIMEOUT: '1.5',
            WAPORTD_READY_TIMEOUT: 'soon',
            WAPORTD_PROBE_INTERVAL: '-1',
            WAPORTD_IDLE_TIMEOUT: '',
        };
        const problems = problemsOf(bad);
        assert.equal(problems.length, Object.keys(bad).length);
        for (const name of Object.keys(bad)) {
            const problem = problems.find((each) =>
                each.startsWith(`${name} is ${JSON.stringify(bad[name])}`),
            );
            assert.match(problem ?? '', /; allowed: ./, name);
        }
    });
});

'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');

const { Notifier, listenFds, takeVariables, watchdogInterval } = require('../../server/systemd');
const { receiver } = require('./support/notify');
const { scratch, whenFound } = require('./support/process');

/** @type {string[]} */
const warnings = [];
const log = {
    error() {},
    warning: (/** @type {string} */ text) => warnings.push(text),
    info() {},
    debug() {},
};

describe('descriptors from systemd', () => {
    it('are taken, all of them, when they are meant for this process', () => {
        assert.deepEqual(listenFds({ LISTEN_FDS: '2', LISTEN_PID: '42' }, 42), [3, 4]);
    });

    it('are left alone otherwise', () => {
        for (const env of [
            {},
            { LISTEN_FDS: '1' },
            { LISTEN_FDS: '1', LISTEN_PID: '41' },
            { LISTEN_FDS: 'x', LISTEN_PID: '42' },
        ]) {
            assert.deepEqual(listenFds(env, 42), []);
        }
    });

    it('and all that systemd says is hidden from children', () => {
        const env = {
            LISTEN_FDS: '1',
            LISTEN_PID: '1',
            NOTIFY_SOCKET: '/x',
            WATCHDOG_USEC: '5',
            PATH: '/bin',
        };
        assert.equal(takeVariables(env).NOTIFY_SOCKET, '/x');
        assert.deepEqual(env, { PATH: '/bin' });
    });

    it('as for the watchdog: it is pinged twice in its time', () => {
        assert.equal(watchdogInterval({ WATCHDOG_USEC: '20000000' }), 10_000);
        assert.equal(watchdogInterval({ WATCHDOG_USEC: '20000000', WATCHDOG_PID: '1' }, 42), null);
        assert.equal(watchdogInterval({}), null);
    });
});

describe('notifications', () => {
    it('reach systemd', async (t) => {
        const { socket, lines, until } = await receiver(t);
        const notifier = new Notifier(socket, log);
        await notifier.send({ READY: 1, STATUS: 'user 2: starting' });
        await until('READY=1');
        assert.ok(lines.some((line) => line.includes('STATUS=user 2: starting')));
    });

    it('that come while one is under way are merged: the last word counts', async (t) => {
        const { socket, lines, until } = await receiver(t);
        const notifier = new Notifier(socket, log);
        for (let n = 0; n < 50; n += 1)
            notifier.send({ STATUS: `step ${n}`, ...(n === 7 ? { READY: 1 } : {}) });
        await until('step 49');
        assert.ok(lines.filter((line) => line.includes('STATUS')).length <= 3);
        assert.ok(
            lines.some((line) => line.includes('READY=1')),
            'nothing else is lost',
        );
    });

    it('carry no assignment that comes from outside', async (t) => {
        const { socket, lines, until } = await receiver(t);
        await new Notifier(socket, log).send({ STATUS: 'linked as Ana\nMAINPID=1\u2028x' });
        await until('STATUS');
        assert.ok(lines.every((line) => !line.includes('|MAINPID')));
    });

    it('that the server is ready is said until it is heard, with what is known by then', async (t) => {
        const { socket, lines, until } = await receiver(t);
        const folder = scratch(t);
        const [once, twice] = ['once', 'twice'].map((name) => path.join(folder, name));
        const program = `#!/bin/sh
            if [ -e ${twice} ]; then exec /usr/bin/systemd-notify "$@"; fi
            if [ -e ${once} ]; then touch ${twice}; exit 1; fi
            touch ${once}; kill -KILL $$
        `;
        fs.writeFileSync(path.join(folder, 'systemd-notify'), program, { mode: 0o755 });
        const before = process.env.PATH;
        t.after(() => {
            process.env.PATH = before;
        });
        process.env.PATH = `${folder}:${before}`;
        const notifier = new Notifier(socket, log);
        const told = notifier.send({ READY: 1, STATUS: 'starting' });
        await whenFound(async () => fs.existsSync(once), 'a first try');
        notifier.send({ STATUS: 'waiting' });
        await told;
        await until('READY=1');
        assert.deepEqual(
            lines.filter((line) => line.includes('READY')),
            ['READY=1|STATUS=waiting'],
        );
    });

    it('never fail the server', async () => {
        warnings.length = 0;
        const notifier = new Notifier('/nowhere/notify', log);
        await notifier.send({ STATUS: 'starting' });
        await notifier.send({ STATUS: 'again' });
        assert.equal(warnings.length, 1, 'said once');
        await new Notifier(undefined, log).send({ READY: 1 });
    });
});

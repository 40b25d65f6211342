'use strict';

/** Whole sessions before a stand-in: the real server, the real library and a real browser. */

const assert = require('node:assert/strict');
const fs = require('node:fs');

const { processesOf, startServer } = require('./process');

const PHONE = '5511999998888';

/**
 * @typedef {import('node:test').TestContext} TestContext
 *
 * @typedef {NonNullable<Parameters<typeof startServer>[1]>} Options
 *
 * @typedef {import('./process').Server} Server
 *
 * @typedef {{env: object, command: (name: string, body?: object) => Promise<any>}} Standin see standin.js
 *
 * @typedef {ReturnType<import('./process').Server['follow']>} Follower
 */

/**
 * Start a server whose browser meets a stand-in.
 *
 * @param {TestContext} t
 * @param {Standin} site
 * @param {Options} options
 */
function start(t, site, { env = {}, ...options } = {}) {
    return startServer(t, { ...options, env: { ...site.env, WAPORTD_USER: '2', ...env } });
}

/**
 * Have a phone scan the code that a server shows; returns when it is ready.
 *
 * @param {Standin} site
 * @param {Follower} events
 */
async function link(site, events, phone = PHONE) {
    const { qr } = await events.until('qr');
    await site.command('scan', { qr, phone, name: 'Ana' });
    return events.until('ready');
}

/**
 * Start a server and have a phone scan its code; returns when it is ready.
 *
 * @param {TestContext} t
 * @param {Standin} site
 * @param {Options} options
 */
async function startLinked(t, site, options = {}) {
    const server = await start(t, site, options);
    const events = server.follow();
    await server.post('/qr/new');
    await link(site, events);
    return { server, events };
}

/** The browser's own process: the one that uses the profile, is of no special type, and no wrapper script. */
function browserOf(/** @type {Server} */ server) {
    const pid = processesOf(server.directory).find((each) => {
        // A running Chromium has rewritten its arguments as one string.
        const command = fs.readFileSync(`/proc/${each}/cmdline`, 'latin1').replaceAll('\0', ' ');
        return / --user-data-dir=/.test(command) && !/^\S*sh | --type=/.test(command);
    });
    assert.ok(pid, 'a browser runs');
    return pid;
}

/**
 * The processes of a server's browser of one type: `renderer`, or `zygote`, which makes the others.
 *
 * @param {Server} server
 * @param {string} type
 */
function partsOf(server, type) {
    const starts = [...server.output.matchAll(/browser started .*pid=(\d+)/g)];
    const [, group] = starts[starts.length - 1];
    return fs.readdirSync('/proc').filter((pid) => {
        try {
            const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
            const [, , each] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
            const command = fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1');
            return each === group && command.includes(`--type=${type}`);
        } catch {
            return false;
        }
    });
}

module.exports = { PHONE, browserOf, link, partsOf, start, startLinked };

'use strict';

/** Whole sessions before a stand-in: the real server, the real library and a real browser. */

const { startServer } = require('./process');

const PHONE = '5511999998888';

/** Start a server whose browser meets a stand-in. */
function start(t, site, { env = {}, ...options } = {}) {
    return startServer(t, { ...options, env: { ...site.env, WAPORTD_USER: '2', ...env } });
}

/** Have a phone scan the code that a server shows; returns when it is ready. */
async function link(site, events, phone = PHONE) {
    const { qr } = await events.until('qr');
    await site.command('scan', { qr, phone, name: 'Ana' });
    return events.until('ready');
}

/** Start a server and have a phone scan its code; returns when it is ready. */
async function startLinked(t, site, options = {}) {
    const server = await start(t, site, options);
    const events = server.follow();
    await server.post('/qr/new');
    await link(site, events);
    return { server, events };
}

module.exports = { PHONE, link, start, startLinked };

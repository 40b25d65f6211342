/** A proxy that asks for a password, before it leads whatever it is asked for to the site. */
'use strict';

const http = require('node:http');
const net = require('node:net');
const { listen } = require('./http');

/**
 * @param {string} login `user:password`
 * @param {number} sitePort where every tunnel ends
 * @returns {Promise<number>} its port
 */
async function startProxy(login, sitePort) {
    const expected = `Basic ${Buffer.from(login).toString('base64')}`;
    const proxy = http.createServer((request, response) => response.writeHead(405).end());
    proxy.on('connect', (request, client) => {
        client.on('error', () => client.destroy());
        if (request.headers['proxy-authorization'] !== expected) {
            const asked = 'Proxy-Authenticate: Basic realm="stand-in"\r\nContent-Length: 0\r\n';
            client.end(`HTTP/1.1 407 Proxy Authentication Required\r\n${asked}\r\n`);
            return;
        }
        const site = net.connect(sitePort, '127.0.0.1', () => {
            client.write('HTTP/1.1 200 Connection Established\r\n\r\n');
            site.pipe(client).pipe(site);
        });
        site.on('error', () => client.destroy());
        client.on('close', () => site.destroy());
    });
    return listen(proxy, 0);
}

module.exports = { startProxy };

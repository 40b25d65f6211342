/** A SOCKS proxy, 4 and 5 (RFC 1928, RFC 1929), that leads all it is asked for to one port of this host. */
'use strict';

const net = require('node:net');
const { once } = require('node:events');

const NO_LOGIN = 0;
const LOGIN = 2;
const NONE_FITS = 0xff;
const DONE_5 = Buffer.from([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
const DONE_4 = Buffer.from([0, 90, 0, 0, 0, 0, 0, 0]);

/** Reads so many bytes at a time of a connection. */
class Reader {
    #socket;
    #kept = Buffer.alloc(0);

    constructor(socket) {
        this.#socket = socket;
    }

    async take(count) {
        while (this.#kept.length < count) {
            const more = this.#socket.read();
            if (more === null) await once(this.#socket, 'readable', { signal: AbortSignal.timeout(20_000) });
            else this.#kept = Buffer.concat([this.#kept, more]);
        }
        const taken = this.#kept.subarray(0, count);
        this.#kept = this.#kept.subarray(count);
        return taken;
    }

    /** Read a text that ends with a zero. */
    async text() {
        const bytes = [];
        for (let [byte] = await this.take(1); byte !== 0; [byte] = await this.take(1)) bytes.push(byte);
        return Buffer.from(bytes).toString('latin1');
    }

    /** Return what was read ahead. */
    rest() {
        return this.#kept;
    }
}

class Socks {
    /** What was asked for: `5 web.whatsapp.com:443`. */
    asked = [];
    /** The first byte of the first connection: the version of SOCKS, unless it is something else. */
    firstByte;
    /** Which ways to log in each client of SOCKS 5 has offered. */
    offered = [];
    #login;
    #sitePort;
    #reply;
    #server;
    #heard;

    /**
     * @param {{login?: ?string, sitePort: number, reply?: number}} options `login`: `name:password` that a
     *   client of SOCKS 5 has to give; `reply`: its answer to each request
     */
    constructor({ login = null, sitePort, reply = 0 }) {
        let heard;
        this.firstByte = new Promise((resolve) => {
            heard = resolve;
        });
        this.#heard = heard;
        this.#login = login;
        this.#sitePort = sitePort;
        this.#reply = reply;
        this.#server = net.createServer((client) => {
            client.on('error', () => client.destroy());
            this.#serve(client).catch(() => client.destroy());
        });
    }

    async listen() {
        this.#server.listen(0, '127.0.0.1');
        await once(this.#server, 'listening');
        return this.#server.address().port;
    }

    close() {
        this.#server.close();
    }

    async #serve(client) {
        const reader = new Reader(client);
        const [version] = await reader.take(1);
        this.#heard(version);
        const speak = { 4: () => this.#four(reader), 5: () => this.#five(client, reader) }[version];
        const done = (await speak?.()) ?? null;
        if (done === null) {
            client.end();
            return;
        }
        const site = net.connect(this.#sitePort, '127.0.0.1', () => {
            client.write(done);
            site.write(reader.rest());
            site.pipe(client);
            client.pipe(site);
        });
        site.on('error', () => client.destroy());
        client.on('close', () => site.destroy());
    }

    async #five(client, reader) {
        const [count] = await reader.take(1);
        const ways = [...(await reader.take(count))];
        this.offered.push(ways);
        const way = this.#login === null ? NO_LOGIN : LOGIN;
        const fits = ways.includes(way);
        client.write(Buffer.from([5, fits ? way : NONE_FITS]));
        if (!fits) return null;
        if (way === LOGIN && !(await this.#logIn(client, reader))) return null;
        const [, , , kind] = await reader.take(4);
        const length = kind === 1 ? 4 : kind === 4 ? 16 : (await reader.take(1))[0];
        const host = await reader.take(length);
        const port = (await reader.take(2)).readUInt16BE();
        this.asked.push(`5 ${kind === 3 ? host.toString('latin1') : [...host].join('.')}:${port}`);
        if (this.#reply === 0) return DONE_5;
        client.write(Buffer.from([5, this.#reply, ...DONE_5.subarray(2)]));
        return null;
    }

    async #logIn(client, reader) {
        const field = async () => (await reader.take((await reader.take(1))[0])).toString('latin1');
        await reader.take(1);
        const given = `${await field()}:${await field()}`;
        client.write(Buffer.from([1, given === this.#login ? 0 : 1]));
        return given === this.#login;
    }

    async #four(reader) {
        const head = await reader.take(7);
        await reader.text();
        this.asked.push(`4 ${[...head.subarray(3)].join('.')}:${head.readUInt16BE(1)}`);
        return DONE_4;
    }
}

module.exports = { Socks };

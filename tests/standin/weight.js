/**
 * What makes the page as heavy as the real one: its code, style and pictures, a worker, a service worker and
 * a socket. All of it is made from a fixed seed, without meaning; README.md has the amounts, and where they
 * are from. page/weight.mjs is the other half, in the page.
 */
'use strict';

const crypto = require('node:crypto');
const zlib = require('node:zlib');

/** Modules of the code: those that the page loads before the login, with it, and in its worker. */
const MODULES = { boot: 7_000, main: 13_000, worker: 2_500 };
const MODULES_PER_FILE = 650;
/** Of so many modules of a file one is run when the file is loaded; the others wait, as text. */
const RUN_ONE_OF = 3;
const RULES_OF_STYLE = 9_000;
const PICTURES = { count: 40, pixels: 96 };
const SHEETS = { count: 4, pixels: 512 };
/** The site sends something on each socket so often: receipts, presence, what is typed. */
const SOCKET_INTERVAL_MS = 15_000;
const SOCKET_BYTES = 200;
const SOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
const BMP_HEADER_BYTES = 54;

/** Numbers from 0 to below 1, the same after each start (mulberry32). */
function randomFrom(seed) {
    let state = seed;
    return () => {
        state = (state + 0x6d2b79f5) | 0;
        let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
        mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
        return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
    };
}

/**
 * What an account with so many chats has, for the page; the share that depends on the chats is here alone.
 *
 * @param {number} chats
 */
function weightOf(chats) {
    return {
        chats,
        contacts: 500 + 2 * chats,
        participants: 30,
        /** Chats that were open lately, and how many of their messages the page has in memory. */
        recent: Math.min(50, chats),
        messagesOfRecent: 30,
        /** Messages of each chat in the database: of the first hundred chats, and of the others. */
        stored: [60, 20],
        files: { boot: filesOf('boot'), main: filesOf('main') },
        pictures: PICTURES.count,
        sheets: SHEETS.count,
        rules: RULES_OF_STYLE,
    };
}

const filesOf = (part) =>
    Array.from(
        { length: Math.ceil(MODULES[part] / MODULES_PER_FILE) },
        (_, index) => `/weight/${part}-${index}.js`,
    );

// ---- code -----------------------------------------------------------------------------------------

/** How a file begins: modules register their function, which runs when it is first asked for. */
const LOADER = `globalThis.standinCode ??= (() => {
    const known = new Map(), made = new Map();
    const get = (id) => {
        if (!made.has(id)) { const it = {}; made.set(id, it); known.get(id)?.(get, it); }
        return made.get(id);
    };
    return { define: (id, make) => known.set(id, make), get };
})();`;

function nameFrom(random) {
    const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';
    return Array.from({ length: 3 + random() * 9 }, () => letters[Math.floor(random() * 52)]).join('');
}

/** Some 220 characters that do a little of everything: objects, lists, loops, texts. */
function functionFrom(random, name) {
    const [a, b, c, d] = Array.from({ length: 4 }, () => nameFrom(random));
    const number = Math.floor(random() * 1e6);
    return (
        `function ${name}(e,t){var n=e&&e.length||${number % 29},r={${a}:"${b} ${number}",${c}:n,${d}:[]};` +
        `for(var o=0;o<n;o++){if(o%3===1)r.${d}.push(t?o*${number}:"${nameFrom(random)}"+o);` +
        `else r["${a}"+o%4]=t||null}return t===${number}?r.${d}.concat(r.${a}):r}`
    );
}

function moduleFrom(random, id) {
    const names = Array.from({ length: 2 + random() * 4 }, () => `_${nameFrom(random)}`);
    const needs = id > 400 ? Math.floor(random() * 400) : null;
    const table = Array.from(
        { length: 2 + random() * 6 },
        () => `${nameFrom(random)}:["${nameFrom(random)}",${Math.floor(random() * 999)}]`,
    );
    return (
        `standinCode.define(${id},function(n,e){"use strict";${needs === null ? '' : `var d=n(${needs});`}` +
        `${names.map((name) => functionFrom(random, name)).join('')}e.table={${table}};` +
        `e.calls=[${names}];e.made=e.calls.map(function(f){return f([1,2,3],e)})});\n`
    );
}

/** The code of a file: modules from one number to another, and at its end what runs some of them. */
function codeOf(first, last) {
    const modules = [];
    const random = randomFrom(1000 + first + last);
    for (let id = first; id < last; id++) modules.push(moduleFrom(random, id));
    const run = `for(let id=${first};id<${last};id+=${RUN_ONE_OF})standinCode.get(id);\n`;
    return `${LOADER}\n${modules.join('')}${run}`;
}

/** The code of a file of the page. */
function pageCode(part, index) {
    const begin = part === 'boot' ? 0 : MODULES.boot;
    const first = begin + index * MODULES_PER_FILE;
    return codeOf(first, Math.min(first + MODULES_PER_FILE, begin + MODULES[part]));
}

/** What keys of others the worker holds, and that it answers. */
const WORKER = `
const bytes = (count) => crypto.getRandomValues(new Uint8Array(count));
const keys = () => ({ id: Math.random(), pair: [bytes(32), bytes(32)], signature: bytes(64) });
const own = Array.from({ length: 812 }, keys);
const sessions = new Map();
onmessage = ({ data: { contacts } }) => {
    for (let index = sessions.size; index < contacts; index++)
        sessions.set(index, { root: bytes(32), chains: [keys(), keys()], base: bytes(33), pending: null });
    postMessage({ own: own.length, sessions: sessions.size });
};
`;

/** It keeps the code of the page and answers for it. */
const SERVICE_WORKER = `
const kept = caches.open('code');
const isCode = (request) => request.method === 'GET' && new URL(request.url).pathname.startsWith('/weight/');
const fetched = async (request) => {
    const cache = await kept;
    const found = await cache.match(request);
    if (found) return found;
    const answer = await fetch(request);
    if (answer.ok) await cache.put(request, answer.clone());
    return answer;
};
addEventListener('install', () => skipWaiting());
addEventListener('activate', (event) => event.waitUntil(clients.claim()));
addEventListener('fetch', (event) => {
    if (isCode(event.request)) event.respondWith(fetched(event.request));
});
`;

// ---- style and pictures ---------------------------------------------------------------------------

/** One rule for each property and value, as the page's build makes them. */
function style() {
    const random = randomFrom(77);
    const properties = ['margin-top', 'padding-left', 'width', 'max-height', 'flex-basis', 'line-height'];
    return Array.from({ length: RULES_OF_STYLE }, (_, index) => {
        const property = properties[index % properties.length];
        return `.x${index.toString(36)}{${property}:${Math.floor(random() * 400)}px}\n`;
    }).join('');
}

/** A picture that no encoder can make small: rows of coloured noise, as BMP. */
function picture(pixels, seed) {
    const random = randomFrom(seed);
    const body = Buffer.alloc(pixels * pixels * 3);
    for (let at = 0; at < body.length; at++) body[at] = random() * 256;
    const header = Buffer.alloc(BMP_HEADER_BYTES);
    header.write('BM');
    header.writeUInt32LE(BMP_HEADER_BYTES + body.length, 2);
    header.writeUInt32LE(BMP_HEADER_BYTES, 10);
    header.writeUInt32LE(40, 14);
    header.writeInt32LE(pixels, 18);
    header.writeInt32LE(pixels, 22);
    header.writeUInt16LE(1, 26);
    header.writeUInt16LE(24, 28);
    header.writeUInt32LE(body.length, 34);
    return Buffer.concat([header, body]);
}

// ---- what is served -------------------------------------------------------------------------------

class Weight {
    #files = new Map();
    #sockets = new Set();

    /** @param {number} chats how many the account has */
    constructor(chats) {
        this.config = weightOf(chats);
    }

    /** Return an answer for the path, as http.js wants it; null where there is nothing. */
    serve(pathname) {
        if (pathname === '/service-worker.js')
            return {
                type: 'text/javascript',
                body: SERVICE_WORKER,
                headers: { 'Cache-Control': 'no-cache' },
            };
        if (!pathname.startsWith('/weight/')) return null;
        if (!this.#files.has(pathname)) this.#files.set(pathname, make(pathname.slice('/weight/'.length)));
        return this.#files.get(pathname);
    }

    /** Open the page's socket (RFC 6455). What comes on it is not read. */
    connect(request, socket) {
        const key = request.headers['sec-websocket-key'];
        const accept = crypto.createHash('sha1').update(`${key}${SOCKET_GUID}`).digest('base64');
        socket.write(
            'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
                `Sec-WebSocket-Accept: ${accept}\r\n\r\n`,
        );
        const frame = () => {
            const head = Buffer.from([0x82, 126, SOCKET_BYTES >> 8, SOCKET_BYTES & 255]);
            socket.write(Buffer.concat([head, crypto.randomBytes(SOCKET_BYTES)]));
        };
        const timer = setInterval(frame, SOCKET_INTERVAL_MS);
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
            clearInterval(timer);
            this.#sockets.delete(socket);
        });
        socket.resume();
    }

    /** Cut all sockets: the site cannot be reached any more. */
    disconnect() {
        for (const socket of this.#sockets) socket.destroy();
    }
}

const code = (text) => ({
    type: 'text/javascript',
    body: zlib.gzipSync(text, { level: 1 }),
    headers: { 'Content-Encoding': 'gzip', ...KEPT },
});
const image = (pixels, seed) => ({ type: 'image/bmp', body: picture(pixels, seed), headers: KEPT });
const KEPT = { 'Cache-Control': 'public, max-age=31536000, immutable' };

function make(name) {
    if (name === 'style.css') return { type: 'text/css', body: style(), headers: KEPT };
    if (name === 'worker.js') return code(codeOf(0, MODULES.worker) + WORKER);
    const [, part, number] = name.match(/^(boot|main|picture|sheet)-(\d+)\.(?:js|bmp)$/) ?? [];
    if (part === 'picture') return image(PICTURES.pixels, 10_000 + Number(number));
    if (part === 'sheet') return image(SHEETS.pixels, 20_000 + Number(number));
    return part === undefined ? null : code(pageCode(part, Number(number)));
}

module.exports = { Weight, weightOf };

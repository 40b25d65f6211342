#!/usr/bin/env node
/**
 * Stand-in for WhatsApp Web: the site (HTTPS) and the phones (HTTP control interface) in one process.
 *
 * The site serves page.js, which gives the unmodified whatsapp-web.js the modules it calls. The control
 * interface does what a person with a phone does: scan a code, type a pairing code, unlink a device, write a
 * message; and it makes the site misbehave on demand. README.md lists both, and what is not faithful.
 */
'use strict';

const { execFileSync } = require('node:child_process');
const crypto = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { IMAGE, chatsOf, lidOf } = require('./chats');

/** Codes that the site hands to one page before it goes idle (whatsapp-web.js sees six). */
const REFS_PER_PAGE = 6;
/** Milliseconds a pairing code is valid: the interval at which whatsapp-web.js asks for a new one. */
const PAIRING_CODE_TTL = 180_000;
/** Letters of a pairing code: Crockford's base 32 without 0, as WhatsApp uses. */
const PAIRING_ALPHABET = '123456789ABCDEFGHJKLMNPQRSTVWXYZ';
const MAX_BODY_BYTES = 64 * 1024;

class HttpError extends Error {
    constructor(status, message) {
        super(message);
        this.status = status;
    }
}

/** Linked devices by noise key, in memory and in `file`, so that a restarted stand-in still knows them. */
class Devices {
    constructor(file) {
        this.file = file;
        this.byNoise = new Map(fs.existsSync(file) ? Object.entries(JSON.parse(fs.readFileSync(file, 'utf8'))) : []);
    }

    get(noise) {
        return this.byNoise.get(noise) ?? null;
    }

    link(noise, account) {
        this.byNoise.set(noise, account);
        this.save();
    }

    unlink(noise) {
        this.byNoise.delete(noise);
        this.save();
    }

    /** Noise keys of all devices linked to `phone`. */
    of(phone) {
        return [...this.byNoise].filter(([, account]) => account.phone === phone).map(([noise]) => noise);
    }

    save() {
        const draft = `${this.file}.new`;
        fs.writeFileSync(draft, JSON.stringify(Object.fromEntries(this.byNoise), null, 2), { mode: 0o600 });
        fs.renameSync(draft, this.file);
    }
}

/** A page that is open in some browser right now, seen from the site: its keys, its code, its downlink. */
class Page {
    constructor({ id, noise, identity, adv, hasLogin }, downlink) {
        Object.assign(this, { id, noise, identity, adv, hasLogin, downlink });
        this.state = 'OPENING';
        this.synced = false;
        this.ref = null;
        this.refsLeft = 0;
        this.pairing = null;
    }

    send(command) {
        this.downlink.write(`${JSON.stringify(command)}\n`);
    }

    /** Hands out a fresh series of codes, each valid for its share of `ttl` = [first, later] milliseconds. */
    startRefs(ttl) {
        this.refsLeft = REFS_PER_PAGE;
        this.nextRef(ttl, ttl[0]);
    }

    /** Replaces the code; after the last one the page goes idle and no code is valid any more. */
    nextRef(ttl, lifetime = ttl[1]) {
        this.stopRefs();
        if (this.refsLeft === 0) {
            this.send({ type: 'idle' });
            return;
        }
        this.refsLeft -= 1;
        this.ref = `2@${crypto.randomBytes(66).toString('base64')}`;
        this.send({ type: 'ref', ref: this.ref });
        this.refTimer = setTimeout(() => this.nextRef(ttl), lifetime);
    }

    stopRefs() {
        clearTimeout(this.refTimer);
        this.ref = null;
    }

    /** Makes the code that has to be typed on `phone` to link this page. */
    makePairingCode(phone) {
        const letters = Array.from({ length: 8 }, () => PAIRING_ALPHABET[crypto.randomInt(PAIRING_ALPHABET.length)]);
        this.pairing = { phone, code: letters.join(''), expires: Date.now() + PAIRING_CODE_TTL };
        return this.pairing.code;
    }
}

class Standin {
    constructor({ dataDir, refsTtl }) {
        this.refsTtl = refsTtl;
        this.devices = new Devices(path.join(dataDir, 'state.json'));
        this.pages = new Map();
        this.sent = [];
        this.chats = new Map();
        this.nextLink = null;
        this.silent = false;
        this.debug = true;
        const { key, cert, spki } = makeCertificate();
        this.spki = spki;
        this.site = https.createServer({ key, cert }, answering((request) => this.serveSite(request)));
        this.control = http.createServer(answering((request) => this.serveControl(request)));
        // An open downlink is idle most of the time; the default of five minutes for a request is no limit here.
        this.site.requestTimeout = 0;
    }

    async listen(httpsPort, controlPort) {
        this.httpsPort = await listen(this.site, httpsPort);
        this.controlPort = await listen(this.control, controlPort);
    }

    /** What a server needs to know, printed as one line of JSON. */
    get description() {
        return {
            https: this.httpsPort,
            control: this.controlPort,
            spki: this.spki,
            browserArgs: [
                `--host-resolver-rules=MAP web.whatsapp.com 127.0.0.1:${this.httpsPort},`
                    + 'MAP * ~NOTFOUND,EXCLUDE 127.0.0.1',
                `--ignore-certificate-errors-spki-list=${this.spki}`,
            ],
        };
    }

    // ---- the site ----------------------------------------------------------------------------------------

    async serveSite(request) {
        const { pathname } = new URL(request.url, 'https://web.whatsapp.com');
        switch (`${request.method} ${pathname}`) {
            case 'GET /':
                return { type: 'text/html', body: indexHtml(this.debug) };
            case 'GET /page.js':
                return { type: 'text/javascript', body: fs.readFileSync(path.join(__dirname, 'page.js')) };
            case `GET ${IMAGE.directPath}`:
                return { type: IMAGE.mimetype, body: IMAGE.bytes };
            case 'POST /downlink':
                return { stream: await this.openDownlink(await readJson(request)) };
            case 'POST /uplink':
                return { json: this.onUplink(await readJson(request)) ?? {} };
            default:
                throw new HttpError(404, 'no such resource');
        }
    }

    /** A page has opened its connection: the answer stays open and carries one JSON command a line. */
    openDownlink(hello) {
        return (response) => {
            const page = new Page(hello, response);
            for (const other of this.pages.values()) {
                // Two connections of one device: the newer one wins, the older is told so.
                if (other.noise === page.noise) other.send({ type: 'state', state: 'CONFLICT' });
            }
            this.pages.set(page.id, page);
            response.on('close', () => {
                page.stopRefs();
                this.pages.delete(page.id);
            });
            if (!this.silent) this.welcome(page);
        };
    }

    /** First words of the site to a page: log in, log out (no longer linked), or here is a code. */
    welcome(page) {
        const account = this.devices.get(page.noise);
        if (account) this.logIn(page, account);
        else if (page.hasLogin) page.send({ type: 'logout' });
        else page.startRefs(this.refsTtl);
    }

    logIn(page, account, { ready = true } = {}) {
        page.hasLogin = true;
        page.send({ type: 'login', account, lid: lidOf(account.phone), chats: this.chatsOf(account.phone), ready });
    }

    chatsOf(phone) {
        if (!this.chats.has(phone)) this.chats.set(phone, chatsOf(phone));
        return this.chats.get(phone);
    }

    /** What a page tells or asks the site; the answer is a JSON object. */
    onUplink({ page: id, type, ...fields }) {
        const page = this.pages.get(id);
        if (!page) throw new HttpError(409, 'this page has no open downlink');
        switch (type) {
            case 'state':
                page.state = fields.state;
                page.synced = fields.synced;
                return {};
            case 'refresh':
                page.startRefs(this.refsTtl);
                return {};
            case 'pairing-code':
                return { code: page.makePairingCode(fields.phone) };
            case 'unlink':
                this.devices.unlink(page.noise);
                return {};
            case 'message': {
                const { phone } = this.requireAccount(page);
                const { chat, ...message } = fields.message;
                this.sent.push({ phone, to: chat, body: message.body, id: message.id, t: message.t });
                this.store(phone, { id: chat }, message);
                return { ack: 1 };
            }
            default:
                throw new HttpError(400, `no such message type: ${type}`);
        }
    }

    /** Keeps a message in the history of `phone`, so that it is still there after a reload. */
    store(phone, { id, name = id.split('@')[0] }, message) {
        const chats = this.chatsOf(phone);
        let chat = chats.find((known) => known.id === id);
        if (!chat) {
            chat = { id, name, unread: 0, messages: [] };
            chats.push(chat);
        }
        chat.messages.push(message);
        return chat;
    }

    requireAccount(page) {
        const account = this.devices.get(page.noise);
        if (!account) throw new HttpError(409, 'this page is not linked');
        return account;
    }

    // ---- the phones, and the faults of the site -------------------------------------------------------------

    async serveControl(request) {
        const { pathname } = new URL(request.url, 'http://127.0.0.1');
        if (request.method === 'GET' && pathname === '/pages') return { json: this.describePages() };
        if (request.method === 'GET' && pathname === '/sent') return { json: this.sent };
        const command = request.method === 'POST' ? COMMANDS[pathname.slice(1)] : undefined;
        if (!command) throw new HttpError(404, `no such command; POST one of: ${Object.keys(COMMANDS).join(', ')}`);
        return { json: (await command(this, await readJson(request))) ?? { ok: true } };
    }

    describePages() {
        return [...this.pages.values()].map(({ id, ref, noise, state, synced, pairing }) => ({
            id,
            ref,
            phone: this.devices.get(noise)?.phone ?? null,
            state,
            synced,
            noise,
            pairingCode: pairing && pairing.expires > Date.now() ? pairing.code : null,
        }));
    }

    /**
     * The live page that a command is about: given by `page` (id), `phone` (linked to it), `qr` (its text, also
     * after it was scanned), `port` (of the server whose page it is), or, with none of them, the only one.
     */
    async find({ page: id, phone, qr, port }) {
        if (port !== undefined) return this.find(await askServer(port));
        const noise = qr === undefined ? undefined : parseQr(qr).noise;
        const found = [...this.pages.values()].filter((page) => (
            (id === undefined || page.id === id)
            && (noise === undefined || page.noise === noise)
            && (phone === undefined || this.devices.get(page.noise)?.phone === phone)
        ));
        if (found.length === 1) return found[0];
        throw new HttpError(found.length ? 409 : 404, `${found.length || 'no'} live pages match; see GET /pages`);
    }

    /** The phone accepts `page` as its linked device, or does what `nextLink` says instead. */
    link(page, { phone, name = 'Ana' }) {
        requirePhone(phone);
        const outcome = this.nextLink;
        this.nextLink = null;
        page.stopRefs();
        page.pairing = null;
        page.send({ type: 'state', state: 'PAIRING' });
        if (outcome === 'refuse') {
            page.startRefs(this.refsTtl);
            throw new HttpError(403, 'the phone says: could not link device');
        }
        if (outcome === 'passkey') {
            page.send({ type: 'passkey' });
            return { passkey: true };
        }
        this.devices.link(page.noise, { phone, name });
        this.logIn(page, { phone, name }, { ready: outcome !== 'stay-authenticated' });
        return { page: page.id };
    }

    async setReachable(reachable) {
        if (reachable === this.site.listening) return;
        if (reachable) {
            await listen(this.site, this.httpsPort);
            return;
        }
        this.site.close();
        this.site.closeAllConnections();
        await once(this.site, 'close');
    }
}

/** Control commands: name → (stand-in, body) → reply. README.md describes them. */
const COMMANDS = {
    async scan(standin, { qr, port, ...phone }) {
        const text = qr ?? (port === undefined ? undefined : (await askServer(port)).qr);
        const claimed = parseQr(text);
        const page = [...standin.pages.values()].find(({ ref }) => ref === claimed.ref);
        if (!page) throw new HttpError(410, 'this code is not valid now: expired, already used or never issued');
        if (page.noise !== claimed.noise || page.identity !== claimed.identity || page.adv !== claimed.adv) {
            throw new HttpError(403, 'the keys in this code are not those of the page that its ref was given to');
        }
        return standin.link(page, phone);
    },
    pair(standin, { code, phone, name }) {
        requirePhone(phone);
        const typed = String(code).replaceAll('-', '').toUpperCase();
        const page = [...standin.pages.values()].find(({ pairing }) => pairing?.code === typed);
        if (!page || page.pairing.expires < Date.now()) throw new HttpError(410, 'this pairing code is not valid now');
        if (page.pairing.phone !== phone) throw new HttpError(403, 'this pairing code is for another phone number');
        return standin.link(page, { phone, name });
    },
    async rotate(standin, body) {
        unlinked(standin, await standin.find(body)).nextRef(standin.refsTtl);
    },
    async expire(standin, body) {
        const page = unlinked(standin, await standin.find(body));
        page.refsLeft = 0;
        page.nextRef(standin.refsTtl);
    },
    /** Unlinks in the phone's list of linked devices; works for a page that is not open, too. */
    async logout(standin, body) {
        const { phone } = body.phone ? body : standin.requireAccount(await standin.find(body));
        const noises = standin.devices.of(phone);
        if (noises.length === 0) throw new HttpError(404, 'no device is linked to this phone');
        for (const noise of noises) standin.devices.unlink(noise);
        for (const page of standin.pages.values()) if (noises.includes(page.noise)) page.send({ type: 'logout' });
    },
    async message(standin, { body, from, name = from, lid = false, group, ...address }) {
        const { phone } = standin.requireAccount(await standin.find(address));
        const sender = lid ? lidOf(from) : `${from}@c.us`;
        const message = {
            id: crypto.randomBytes(16).toString('hex').toUpperCase(),
            author: group ? sender : undefined,
            sender: name,
            body,
            t: Math.floor(Date.now() / 1000),
        };
        const chat = standin.store(phone, { id: group ?? sender, name }, message);
        for (const page of standin.pages.values()) {
            if (standin.devices.get(page.noise)?.phone !== phone) continue;
            page.send({ type: 'message', chat: { id: chat.id, name: chat.name }, message });
        }
        return { id: message.id };
    },
    async loading(standin, { percent, ...address }) {
        (await standin.find(address)).send({ type: 'loading', percent });
    },
    async unreachable(standin, { on = true }) {
        await standin.setReachable(!on);
    },
    silent(standin, { on = true }) {
        standin.silent = on;
        if (on) return;
        for (const page of standin.pages.values()) if (!page.ref && page.state === 'OPENING') standin.welcome(page);
    },
    'no-debug': (standin, { on = true }) => {
        standin.debug = !on;
    },
};
for (const outcome of ['refuse', 'passkey', 'stay-authenticated']) {
    COMMANDS[outcome] = (standin, { on = true }) => {
        standin.nextLink = on ? outcome : null;
    };
}
for (const state of ['CONFLICT', 'UNPAIRED']) {
    COMMANDS[state.toLowerCase()] = async (standin, body) => {
        (await standin.find(body)).send({ type: 'state', state });
    };
}
for (const type of ['hang', 'crash']) {
    COMMANDS[type] = async (standin, body) => {
        (await standin.find(body)).send({ type });
    };
}

function unlinked(standin, page) {
    if (standin.devices.get(page.noise)) throw new HttpError(409, 'this page is linked and shows no code');
    return page;
}

function requirePhone(phone) {
    if (!/^\d{8,15}$/.test(phone ?? '')) throw new HttpError(400, '"phone" must be 8 to 15 digits');
}

/** Fields of a QR text: `ref,noise,identity,adv,platform`. */
function parseQr(text) {
    const fields = String(text).split(',');
    if (fields.length !== 5) throw new HttpError(400, `not the text of a WhatsApp Web code (${fields.length} fields)`);
    const [ref, noise, identity, adv, platform] = fields;
    return { ref, noise, identity, adv, platform };
}

/** The code or the phone number of the server on `port`, asked for through its public API. */
async function askServer(port) {
    const ask = async (route) => {
        try {
            const url = `http://127.0.0.1:${port}${route}`;
            return await (await fetch(url, { signal: AbortSignal.timeout(10_000) })).json();
        } catch (error) {
            throw new HttpError(502, `the server on port ${port} does not answer GET ${route}: ${error.message}`);
        }
    };
    const { qr } = await ask('/qr');
    if (qr) return { qr };
    const { phone_number: phone } = await ask('/status');
    if (phone) return { phone: phone.replace(/\D/g, '') };
    throw new HttpError(404, `the server on port ${port} shows no code and has no linked phone`);
}

/** A key and a self-signed certificate, made by openssl through pipes: neither is ever written to disk. */
function makeCertificate() {
    const pem = execFileSync('openssl', [
        'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30',
        '-subj', '/CN=web.whatsapp.com', '-addext', 'subjectAltName=DNS:web.whatsapp.com',
        '-keyout', '-',
    ], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    const block = (label) => pem.match(new RegExp(`-----BEGIN ${label}-----[^]*?-----END ${label}-----\n`))[0];
    const cert = block('CERTIFICATE');
    const der = new crypto.X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' });
    return { key: block('PRIVATE KEY'), cert, spki: crypto.createHash('sha256').update(der).digest('base64') };
}

function indexHtml(debug) {
    return '<!doctype html><meta charset="utf-8"><title>WhatsApp</title>'
        + `<body><p id="screen"></p><script src="/page.js" data-debug="${debug}"></script>`;
}

/** Wraps a handler that returns {json}, {type, body} or {stream} into a request listener; errors become JSON. */
function answering(handle) {
    return async (request, response) => {
        try {
            const { json, type, body, stream } = await handle(request);
            if (stream) {
                response.writeHead(200, { 'Content-Type': 'application/x-ndjson', 'Cache-Control': 'no-store' });
                response.flushHeaders();
                stream(response);
                return;
            }
            response.writeHead(200, { 'Content-Type': type ?? 'application/json', 'Cache-Control': 'no-store' });
            response.end(body ?? JSON.stringify(json));
        } catch (error) {
            if (!(error instanceof HttpError)) console.error(error);
            response.writeHead(error.status ?? 500, { 'Content-Type': 'application/json' });
            response.end(JSON.stringify({ error: error.message }));
        }
    };
}

async function readJson(request) {
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) {
        text += chunk;
        if (text.length > MAX_BODY_BYTES) throw new HttpError(413, `more than ${MAX_BODY_BYTES} bytes`);
    }
    try {
        return text === '' ? {} : JSON.parse(text);
    } catch (error) {
        throw new HttpError(400, `the body is not JSON: ${error.message}`);
    }
}

async function listen(server, port) {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return server.address().port;
}

function readOptions() {
    const { values } = parseArgs({
        options: {
            data: { type: 'string' },
            'https-port': { type: 'string', default: '0' },
            'control-port': { type: 'string', default: '0' },
            'refs-ttl': { type: 'string', default: '60000,20000' },
            'watch-parent': { type: 'boolean', default: false },
        },
    });
    if (!values.data) throw new Error('--data DIR is missing: the directory for the list of linked devices');
    const refsTtl = values['refs-ttl'].split(',').map(Number);
    if (refsTtl.length !== 2 || !refsTtl.every((ttl) => ttl > 0)) {
        throw new Error('--refs-ttl must be two numbers of milliseconds, as in 60000,20000');
    }
    return {
        dataDir: values.data,
        refsTtl,
        httpsPort: Number(values['https-port']),
        controlPort: Number(values['control-port']),
        watchParent: values['watch-parent'],
    };
}

async function main() {
    const options = readOptions();
    fs.mkdirSync(options.dataDir, { recursive: true, mode: 0o700 });
    const standin = new Standin(options);
    await standin.listen(options.httpsPort, options.controlPort);
    const stop = () => process.exit(0);
    process.on('SIGTERM', stop).on('SIGINT', stop);
    if (options.watchParent) {
        const parent = process.ppid;
        setInterval(() => process.ppid === parent || stop(), 500);
    }
    console.log(JSON.stringify(standin.description));
}

main().catch((error) => {
    console.error(`standin: ${error.message}`);
    process.exit(1);
});

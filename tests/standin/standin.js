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
const { COMMANDS } = require('./commands');
const { HttpError, answering, listen, readJson } = require('./http');

/** Codes that the site hands out before a page goes idle: as many as WhatsApp sends at once. */
const REFS_PER_PAGE = 6;
/** Milliseconds a pairing code is valid: the interval at which whatsapp-web.js asks for a new one. */
const PAIRING_CODE_TTL = 180_000;
/** Letters of a pairing code: Crockford's base 32 without 0, as WhatsApp uses. */
const PAIRING_ALPHABET = '123456789ABCDEFGHJKLMNPQRSTVWXYZ';

/** Linked devices by noise key, in memory and in `file`, so that a restarted stand-in still knows them. */
class Devices {
    constructor(file) {
        this.file = file;
        const saved = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : {};
        this.byNoise = new Map(Object.entries(saved));
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
        const letter = () => PAIRING_ALPHABET[crypto.randomInt(PAIRING_ALPHABET.length)];
        const code = Array.from({ length: 8 }, letter).join('');
        this.pairing = { phone, code, expires: Date.now() + PAIRING_CODE_TTL };
        return code;
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

    // ---- the site -------------------------------------------------------------------------------

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
                return { stream: this.openDownlink(await readJson(request)) };
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
        const { phone } = account;
        page.send({ type: 'login', account, lid: lidOf(phone), chats: this.chatsOf(phone), ready });
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

    // ---- the control interface ------------------------------------------------------------------

    async serveControl(request) {
        const { pathname } = new URL(request.url, 'http://127.0.0.1');
        if (request.method === 'GET' && pathname === '/pages') return { json: this.describePages() };
        if (request.method === 'GET' && pathname === '/sent') return { json: this.sent };
        const command = request.method === 'POST' ? COMMANDS[pathname.slice(1)] : undefined;
        if (!command) throw new HttpError(404, `no such command; POST one of ${Object.keys(COMMANDS)}`);
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

/** A key and a self-signed certificate, made by openssl through pipes: neither is ever written to disk. */
function makeCertificate() {
    const pem = execFileSync('openssl', [
        'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '30',
        '-subj', '/CN=web.whatsapp.com', '-addext', 'subjectAltName=DNS:web.whatsapp.com',
        '-keyout', '-',
    ], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    const block = (label) => pem.match(new RegExp(`-----BEGIN ${label}-[^]*?-END ${label}-----\n`))[0];
    const cert = block('CERTIFICATE');
    const der = new crypto.X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' });
    const spki = crypto.createHash('sha256').update(der).digest('base64');
    return { key: block('PRIVATE KEY'), cert, spki };
}

function indexHtml(debug) {
    return '<!doctype html><meta charset="utf-8"><title>WhatsApp</title>'
        + `<body><p id="screen"></p><script src="/page.js" data-debug="${debug}"></script>`;
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

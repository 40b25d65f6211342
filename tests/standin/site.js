/** The site: what a browser loads, what its pages say and hear, and what is known of each account. */
'use strict';

const { execFileSync } = require('node:child_process');
const crypto = require('node:crypto');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const path = require('node:path');
const { chatsOf, lidOf } = require('./chats');
const { COMMANDS } = require('./commands');
const { askGroup } = require('./groups');
const { HttpError, answering, listen, readJson } = require('./http');
const { Media } = require('./media');
const { Devices, Page, eightLetters } = require('./pages');
const { Passkeys } = require('./passkey');
const { startProxy } = require('./proxy');
const { modulesOf, namesOf, traitsOf } = require('./traits');
const { Weight } = require('./weight');

/** So many older messages a phone hands over at a time. */
const OLDER_AT_ONCE = 50;

const PAGE = path.join(__dirname, 'page');
const PAGE_FILES = fs.readdirSync(PAGE);

/** What the site says to browsers that it does not want, in the browser's language. */
const REFUSALS = {
    en: 'WhatsApp works with Google Chrome 85+',
    pt: 'O WhatsApp funciona com o Google Chrome 85+',
    es: 'WhatsApp funciona con Google Chrome 85+',
    de: 'WhatsApp funktioniert mit Google Chrome ab Version 85',
    ja: 'WhatsAppはGoogle Chrome 85以降で動作します',
};

class Site {
    constructor({ dataDir, refsTtl, shape, seed, proxy, chats }) {
        this.refsTtl = refsTtl;
        this.seed = seed;
        this.proxyLogin = proxy;
        this.traits = traitsOf(shape);
        this.modules = modulesOf(shape);
        this.devices = new Devices(path.join(dataDir, 'state.json'));
        this.media = new Media();
        this.passkeys = new Passkeys();
        this.weight = chats === null ? null : new Weight(chats);
        this.pages = new Map();
        this.sent = [];
        this.signals = [];
        this.chats = new Map();
        /** Id of a person or group → path of their picture. */
        this.pictures = new Map();
        /** Messages that wait for the next login of a phone, to be handled before its sync has ended. */
        this.offline = new Map();
        /** Noise keys of devices that are never ready. */
        this.neverReady = new Set();
        /** Phone → `{code, expire}` of those that are banned for a time. */
        this.bans = new Map();
        this.breaks = [];
        this.delays = [];
        this.nextLink = null;
        this.silent = false;
        this.refusesBrowser = false;
        this.refusedBuild = null;
        this.refusesPairing = false;
        const { key, cert, spki } = makeCertificate();
        this.spki = spki;
        this.site = https.createServer(
            { key, cert },
            answering((request) => this.serveSite(request)),
        );
        this.site.on('upgrade', (request, socket) => {
            if (this.weight && request.url === '/weight/socket') this.weight.connect(request, socket);
            else socket.destroy();
        });
        this.control = http.createServer(answering((request) => this.serveControl(request)));
    }

    async listen(httpsPort, controlPort) {
        this.httpsPort = await listen(this.site, httpsPort);
        this.controlPort = await listen(this.control, controlPort);
        if (this.proxyLogin) this.proxyPort = await startProxy(this.proxyLogin, this.httpsPort);
    }

    /** What a server needs to know, printed as one line of JSON. */
    get description() {
        const trust = `--ignore-certificate-errors-spki-list=${this.spki}`;
        const rules = `MAP web.whatsapp.com 127.0.0.1:${this.httpsPort},MAP * ~NOTFOUND,EXCLUDE 127.0.0.1`;
        const described = {
            https: this.httpsPort,
            control: this.controlPort,
            spki: this.spki,
            browserArgs: [`--host-resolver-rules=${rules}`, trust],
        };
        if (!this.proxyPort) return described;
        const through = `--proxy-server=http://127.0.0.1:${this.proxyPort}`;
        return { ...described, proxy: this.proxyPort, proxyArgs: [through, trust] };
    }

    // ---- what a browser loads -------------------------------------------------------------------

    async serveSite(request) {
        const { pathname, searchParams } = new URL(request.url, 'https://web.whatsapp.com');
        switch (`${request.method} ${pathname}`) {
            case 'GET /':
                return { type: 'text/html', body: this.refusesBrowser ? this.refusal() : this.indexHtml() };
            case 'GET /frame':
                return { type: 'text/html', body: '<!doctype html><title>frame</title>' };
            case 'GET /hang':
                return { stream: endingAfter(searchParams.get('ms')) };
            case 'POST /upload':
                return { json: await this.media.take(request) };
            case 'POST /downlink':
                return { stream: this.openDownlink(await readJson(request)) };
            case 'POST /uplink':
                return { json: (await this.onUplink(await readJson(request))) ?? {} };
        }
        const [, folder, name] = pathname.split('/');
        if (request.method === 'GET' && folder === 'media') return this.media.serve(pathname);
        if (request.method === 'GET' && folder === 'page' && PAGE_FILES.includes(name)) {
            return { type: 'text/javascript', body: fs.readFileSync(path.join(PAGE, name)) };
        }
        const heavy = request.method === 'GET' && this.weight?.serve(pathname);
        if (heavy) return heavy;
        throw new HttpError(404, 'no such resource');
    }

    indexHtml() {
        const config = {
            traits: this.traits,
            names: namesOf(this.seed, this.traits),
            modules: this.modules,
            breaks: this.breaks,
            delays: this.delays,
            weight: this.weight?.config ?? null,
        };
        const preload = PAGE_FILES.map((name) => `<link rel="modulepreload" href="/page/${name}">`);
        return (
            `<!doctype html><html lang="${this.traits.language}"><meta charset="utf-8">` +
            `<title>WhatsApp</title>${preload.join('')}${this.heavyHead()}<body><p id="screen"></p>` +
            `<script id="standin" type="application/json">${asScript(config)}</script>` +
            '<script type="module" src="/page/main.mjs"></script>'
        );
    }

    /** The code that a heavy page loads before anything else, and its style. */
    heavyHead() {
        if (!this.weight) return '';
        const scripts = this.weight.config.files.boot.map((src) => `<script src="${src}"></script>`);
        return `<link rel="stylesheet" href="/weight/style.css">${scripts.join('')}`;
    }

    refusal() {
        const { language } = this.traits;
        return (
            `<!doctype html><html lang="${language}"><meta charset="utf-8"><title>WhatsApp Web</title>` +
            `<body><h1>${REFUSALS[language]}</h1><a href="https://www.google.com/chrome/">Chrome</a>`
        );
    }

    // ---- what a page hears --------------------------------------------------------------------

    /** A page has opened its connection: the answer stays open and carries one JSON command a line. */
    openDownlink(hello) {
        return (response) => {
            const page = new Page(hello, response);
            for (const other of this.pages.values()) {
                // Two connections of one device: the newer one wins, the older one hears of it.
                if (other.noise === page.noise && other.id !== page.id) {
                    other.send({ type: 'state', state: 'CONFLICT' });
                }
            }
            this.pages.set(page.id, page);
            response.on('close', () => {
                if (this.pages.get(page.id) === page) this.pages.delete(page.id);
            });
            // What has changed since the page was served.
            page.send({ type: 'traits', traits: this.traits });
            if (!this.silent) this.welcome(page);
        };
    }

    /** First words of the site to a page: not this build, banned, log in, log out, or here is a code. */
    welcome(page) {
        const account = this.devices.get(page.noise);
        const ban = this.bans.get(account?.phone);
        if (this.refusedBuild) page.send({ type: 'refused', ...this.refusedBuild });
        else if (ban) page.send({ type: 'ban', ...ban });
        else if (account) this.logIn(page, account);
        else if (page.hasLogin) page.send({ type: 'logout' });
        else page.startRefs(this.refsTtl);
    }

    logIn(page, account, { ready = !this.neverReady.has(page.noise) } = {}) {
        page.hasLogin = true;
        const { phone } = account;
        const offline = this.offline.get(phone) ?? [];
        this.offline.delete(phone);
        const chats = this.chatsOf(phone).map((chat) => ({ ...chat, older: Boolean(chat.older) }));
        page.send({ type: 'login', account, lid: lidOf(phone), chats, offline, ready });
        for (const { chat, message } of offline) this.keep(phone, chat, message);
    }

    /** The phone takes `page` as its device. */
    complete(page, { phone, name, ready }) {
        page.stopRefs();
        page.pairing = null;
        this.devices.link(page.noise, { phone, name });
        this.logIn(page, { phone, name }, { ready });
    }

    // ---- what a page says -----------------------------------------------------------------------

    /** What a page reports to the site, or asks it; the answer is a JSON object. */
    onUplink({ page: id, type, ...fields }) {
        const page = this.pages.get(id);
        if (!page) throw new HttpError(409, 'this page has no open downlink');
        const handler = UPLINK[type];
        if (!handler) throw new HttpError(400, `no such message type: ${type}`);
        return handler(this, page, fields);
    }

    /** The id under which a page knows the owner of a number. */
    idOf(phone) {
        return this.traits.lid_chats ? lidOf(phone) : `${phone}@c.us`;
    }

    chatsOf(phone) {
        if (!this.chats.has(phone))
            this.chats.set(
                phone,
                chatsOf(phone, (number) => this.idOf(number)),
            );
        return this.chats.get(phone);
    }

    /** Keeps a message in the history of `phone`, so that it is still there after a reload. */
    keep(phone, { id, name = id.split('@')[0] }, message) {
        const chats = this.chatsOf(phone);
        let chat = chats.find((known) => known.id === id);
        if (!chat) {
            chat = { id, name, unread: 0, messages: [] };
            chats.push(chat);
        }
        chat.messages.push(message);
        if (!message.fromMe) chat.unread += 1;
        return chat;
    }

    /** A kept message of `phone`, by its id. */
    find(phone, id) {
        for (const chat of this.chatsOf(phone)) {
            const message = chat.messages.find((each) => each.id === id);
            if (message) return { chat, message };
        }
        throw new HttpError(404, `no message ${id} on this phone`);
    }

    requireAccount(page) {
        const account = this.devices.get(page.noise);
        if (!account) throw new HttpError(409, 'this page is not linked');
        return account;
    }

    // ---- the control interface ------------------------------------------------------------------

    async serveControl(request) {
        const { pathname } = new URL(request.url, 'http://127.0.0.1');
        const name = pathname.slice(1);
        if (request.method === 'GET' && SHOWN[name]) return { json: SHOWN[name](this) };
        const command = request.method === 'POST' ? COMMANDS[name] : undefined;
        if (!command) throw new HttpError(404, `no such command; POST one of ${Object.keys(COMMANDS)}`);
        return { json: (await command(this, await readJson(request))) ?? { ok: true } };
    }

    async setReachable(reachable) {
        if (reachable === this.site.listening) return;
        if (reachable) {
            await listen(this.site, this.httpsPort);
            return;
        }
        this.site.close();
        this.site.closeAllConnections();
        this.weight?.disconnect();
        await once(this.site, 'close');
    }
}

/** JSON that may stand inside a script element. */
const asScript = (value) => JSON.stringify(value).replaceAll('<', '\\u003c');

/** What `GET` of the control interface shows. */
const SHOWN = {
    pages: (site) => [...site.pages.values()].map((page) => page.describe(site.devices.get(page.noise))),
    sent: (site) => site.sent,
    signals: (site) => site.signals,
    traits: (site) => site.traits,
};

/** Type of an uplink → (site, page, fields) → answer; none stands for {}. */
const UPLINK = {
    state(site, page, { state, synced }) {
        Object.assign(page, { state, synced });
    },
    listened(site, page, { listened }) {
        page.listened = listened;
    },
    done(site, page, fields) {
        page.answered(fields);
    },
    refresh(site, page) {
        if (!site.devices.get(page.noise)) page.startRefs(site.refsTtl);
    },
    'pairing-code': (site, page, { phone }) => {
        if (site.refusesPairing) throw new HttpError(429, 'rate-overlimit');
        return { code: page.makePairingCode(phone) };
    },
    unlink(site, page) {
        site.devices.unlink(page.noise);
    },
    message(site, page, { message: { chat, directPath, author, ...message } }) {
        const { phone } = site.requireAccount(page);
        if (site.traits.refuse_sends) return { ack: -1 };
        const t = Math.floor(Date.now() / 1000);
        const sha256 = site.media.digest(directPath);
        const record = { phone, to: chat, ...message, t: message.t ?? t, ...(sha256 && { sha256 }) };
        delete record.fromMe;
        site.sent.push(record);
        site.keep(phone, { id: chat }, { ...message, author, directPath });
        return site.traits.mute_sends ? {} : { ack: 1 };
    },
    act(site, page, { kind, chat, id, ...fields }) {
        const { phone } = site.requireAccount(page);
        site.sent.push({ phone, to: chat, type: kind, id, ...fields, t: Math.floor(Date.now() / 1000) });
        const kept = site.find(phone, id);
        if (kind === 'edit') kept.message.body = fields.body;
        if (kind === 'revoke') Object.assign(kept.message, { type: 'revoked', body: undefined });
    },
    signal(site, page, fields) {
        const { phone } = site.requireAccount(page);
        site.signals.push({ phone, ...fields });
        // A chat that the page has only just made has no message yet.
        const chat = site.chatsOf(phone).find(({ id }) => id === fields.chat);
        if (fields.kind === 'seen' && chat) chat.unread = 0;
    },
    group: (site, page, wish) => askGroup(site, site.requireAccount(page).phone, wish),
    picture: (site, page, { id }) => ({ path: site.pictures.get(id) }),
    /** The phone hands over the newest of the messages that it has kept to itself, when it gets to it. */
    older(site, page, { chat: id }) {
        const { phone } = site.requireAccount(page);
        const chat = site.chatsOf(phone).find((each) => each.id === id);
        if (!chat?.older) return;
        setTimeout(() => {
            const messages = chat.older.splice(-OLDER_AT_ONCE);
            chat.messages.unshift(...messages);
            page.send({ type: 'older', chat: id, messages, more: chat.older.length > 0 });
            if (chat.older.length === 0) delete chat.older;
        }, site.traits.older_ms);
    },
    reupload(site, page, { directPath }) {
        site.media.restore(directPath);
    },

    // ---- a passkey is waited for ----------------------------------------------------------------

    'passkey-pressed': (site, page, { button, trusted }) => {
        page.passkey?.pressed.push({ button, trusted });
    },
    /** A new challenge each time; the limits of the step begin once it is answered. */
    'passkey-options': (site, page) => {
        const asked = passkeyOf(page);
        clearTimeout(asked.limiting);
        if (asked.fails > 0) {
            asked.fails -= 1;
            asked.stage = 'failed';
            throw new HttpError(503, 'no options just now');
        }
        const options = site.passkeys.options(asked.phone, asked.timeout);
        asked.challenge = options.challenge;
        asked.asked += 1;
        asked.stage = 'asked';
        return options;
    },
    /** The page's own call has ended with nothing. */
    'passkey-none': (site, page) => {
        if (page.passkey) page.passkey.stage = 'failed';
    },
    passkey(site, page, credential) {
        const asked = passkeyOf(page);
        const { challenge } = asked;
        asked.challenge = null;
        if (challenge === null || !site.passkeys.verify(asked.phone, challenge, credential)) {
            failPasskey(page);
            return;
        }
        if (asked.again > 0) {
            asked.again -= 1;
            asked.stage = 'opened';
            page.send({ type: 'passkey-again' });
            return;
        }
        asked.stage = 'given';
        limitPasskey(page);
        if (asked.silent) return;
        if (!asked.compare) {
            completePasskey(site, page);
            return;
        }
        asked.stage = 'compare';
        const letters = eightLetters();
        asked.letters = `${letters.slice(0, 4)}-${letters.slice(4)}`;
        limitPasskey(page);
        page.send({ type: 'passkey-compare', letters: asked.letters });
        // The page confirms automatically while it still has the key of the scan.
        if (asked.agrees === null) return;
        asked.agreeing = setTimeout(() => completePasskey(site, page), asked.agrees);
    },
    'passkey-confirmed': (site, page) => completePasskey(site, page),
    'passkey-cancelled': (site, page) => {
        page.endPasskey();
        page.pairing = null;
        page.startRefs(site.refsTtl);
    },
};

function passkeyOf(page) {
    if (page.passkey === null) throw new HttpError(409, 'no passkey is waited for');
    return page.passkey;
}

/** The page gives each part of the step after the answer so long; its card then shows that it failed. */
function limitPasskey(page) {
    const asked = page.passkey;
    clearTimeout(asked.limiting);
    if (asked.limit === null) return;
    asked.limiting = setTimeout(() => {
        if (page.passkey === asked) failPasskey(page);
    }, asked.limit);
}

function failPasskey(page) {
    clearTimeout(page.passkey.limiting);
    clearTimeout(page.passkey.agreeing);
    page.passkey.stage = 'failed';
    page.send({ type: 'passkey-failed' });
}

function completePasskey(site, page) {
    const { phone, name } = passkeyOf(page);
    page.endPasskey();
    site.complete(page, { phone, name });
}

/** A key and a self-signed certificate, made by openssl through pipes: neither is ever written to disk. */
/** Keeps an answer open for some milliseconds, for ever when there is no number of them. */
function endingAfter(ms) {
    return (response) => {
        if (ms) setTimeout(() => response.end(), Number(ms)).unref();
    };
}

function makeCertificate() {
    const pem = execFileSync(
        'openssl',
        [
            'req',
            '-x509',
            '-newkey',
            'ec',
            '-pkeyopt',
            'ec_paramgen_curve:prime256v1',
            '-nodes',
            '-days',
            '30',
            '-subj',
            '/CN=web.whatsapp.com',
            '-addext',
            'subjectAltName=DNS:web.whatsapp.com',
            '-keyout',
            '-',
        ],
        { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const block = (label) => pem.match(new RegExp(`-----BEGIN ${label}-[^]*?-END ${label}-----\n`))[0];
    const cert = block('CERTIFICATE');
    const der = new crypto.X509Certificate(cert).publicKey.export({ type: 'spki', format: 'der' });
    const spki = crypto.createHash('sha256').update(der).digest('base64');
    return { key: block('PRIVATE KEY'), cert, spki };
}

module.exports = { Site };

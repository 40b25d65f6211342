#!/usr/bin/env node
'use strict';

/**
 * whatsapp_server.js without a browser: the same program, with a few lines in place of whatsapp-web.js. For
 * tests and measurements with more servers than a host has memory for browsers (`instances.script`).
 *
 *     node tests/light_server.js [PORT]
 *
 * Codes come at once and change as WhatsApp's do. SIGUSR2 is the phone: it scans the code that is on show, or
 * unlinks the account that is linked. SIGUSR1 is WhatsApp: it changes its page so that nobody gets in any
 * more, and the next time back. Whoever is written to writes the same back.
 */

const { randomBytes } = require('node:crypto');
const { EventEmitter } = require('node:events');
const fs = require('node:fs/promises');
const path = require('node:path');

// A browser is looked for and asked for its version before the library starts it. This one answers quickly.
process.env.WAPORTD_BROWSER = '/bin/true';

const { reason } = require('../server/reasons');
const { Turns } = require('../server/turns');
const { run } = require('../whatsapp_server');

/** Milliseconds that WhatsApp shows the first code and each later one. */
const CODES_MS = [60_000, 20_000];

const BUILD = '2.3000.1';
const LOST = { feature: 'link', module: 'WAWebConnModel', member: 'Conn.on', found: 'undefined' };

let hasChanged = false;
/** Loads the page anew, if there is one. */
let reload = () => {};
process.on('SIGUSR1', () => {
    hasChanged = !hasChanged;
    reload();
});

/** What a phone does now. Before there is a code, and after the end, nothing. */
let touch = () => {};
process.on('SIGUSR2', () => touch());

const key = () => randomBytes(32).toString('base64');

/** What server/whatsapp.js knows of a page, as far as the server without a browser asks for it. */
class LightPage extends EventEmitter {
    mainFrame() {
        return this;
    }

    async evaluate() {
        return {};
    }
}

class LightBrowser extends EventEmitter {
    process() {
        return undefined;
    }
}

/** Takes the place of server/whatsapp.js' SessionClient: the same options, calls and events. */
class LightClient extends EventEmitter {
    pupBrowser = new LightBrowser();
    pupPage = new LightPage();
    info = undefined;
    turns = new Turns();
    downloads = new Turns();
    #login;
    #phone;
    #timer = null;
    #codes = 0;
    /** Messages by chat, for as long as the process lives. */
    #chats = new Map();

    constructor({ clientId, dataPath, phone }) {
        super();
        this.#login = path.join(dataPath, `session-${clientId}`, 'login');
        this.#phone = phone;
    }

    async initialize() {
        this.emit('browser', this.pupBrowser, this.pupPage);
        this.pupPage.emit('response');
        reload = () => {
            const error = this.#lookAtPage();
            if (error !== null) this.emit('failed', error);
        };
        const changed = this.#lookAtPage();
        if (changed !== null) throw changed;
        touch = () => this.#touched();
        const number = await fs.readFile(this.#login, 'utf8').catch(() => null);
        if (number !== null) {
            this.emit('login_found');
            this.#linked(number);
        } else if (this.#phone !== null) {
            this.emit('code', randomBytes(4).toString('hex').toUpperCase());
        } else {
            this.#nextCode();
        }
    }

    async destroy() {
        clearTimeout(this.#timer);
        touch = () => {};
        reload = () => {};
    }

    async getState() {
        return this.info === undefined ? 'UNPAIRED' : 'CONNECTED';
    }

    async look() {
        return { loaded: true, state: await this.getState(), refused: false };
    }

    async refreshQr() {
        this.#nextCode();
    }

    async unlink() {
        await fs.rm(this.#login, { force: true });
    }

    async sendMessage(chat, body) {
        const sent = this.#keep(chat, body, true);
        this.emit('message', this.#keep(chat, body, false));
        return sent;
    }

    async listChats(limit, offset) {
        const all = [...this.#chats].map(([id, messages]) => {
            const { body, timestamp } = messages.at(-1);
            return { id, isGroup: false, lastMessage: body, t: timestamp, pinned: false, isArchived: false };
        });
        const chats = all.sort((one, other) => other.t - one.t).slice(offset, offset + limit);
        return { chats, total: all.length };
    }

    async findChat(id) {
        return this.#chats.has(id) ? id : null;
    }

    async findSent(chat, body, since) {
        const isIt = (message) => message.fromMe && message.body === body && message.timestamp >= since;
        return (this.#chats.get(chat) ?? []).filter(isIt).map(({ id }) => id);
    }

    async getChatById(id) {
        return this.#chats.has(id) ? this.#chat(id) : null;
    }

    async getMessageById() {
        return undefined;
    }

    /** Tell what the page lacks; return what that means. */
    #lookAtPage() {
        const missing = hasChanged ? [LOST] : [];
        this.emit('upstream', { build: BUILD, ok: !hasChanged, checked: ['boot'], missing, shims: {} });
        return hasChanged ? reason.upstreamChanged(BUILD, LOST) : null;
    }

    #chat(id) {
        const messages = this.#chats.get(id);
        return {
            fetchMessages: async ({ limit }) => messages.slice(-limit),
        };
    }

    #keep(chat, body, fromMe) {
        const message = {
            id: `${fromMe}_${chat}_${randomBytes(8).toString('hex').toUpperCase()}`,
            from: fromMe ? `${this.info.wid.user}@c.us` : chat,
            body,
            fromMe,
            timestamp: Math.floor(Date.now() / 1000),
            type: 'chat',
            client: this,
        };
        this.#chats.set(chat, [...(this.#chats.get(chat) ?? []), message]);
        return message;
    }

    #nextCode() {
        this.emit('qr', [`2@${key()}`, key(), key(), key(), '1'].join(','));
        const [first, later] = CODES_MS;
        this.#timer = setTimeout(() => this.#nextCode(), this.#codes === 0 ? first : later);
        this.#codes += 1;
    }

    #linked(number) {
        this.info = { wid: { user: number }, pushname: `Ana of ${number.slice(-6)}`, platform: 'android' };
        this.emit('socket', 'CONNECTED');
        this.emit('ready');
    }

    async #touched() {
        if (this.info !== undefined) {
            await this.unlink();
            this.emit('logout');
            return;
        }
        clearTimeout(this.#timer);
        const number = this.#phone ?? '5511999990001';
        await fs.writeFile(this.#login, number);
        this.emit('socket', 'PAIRING');
        this.emit('authenticated');
        this.#linked(number);
    }
}

run(() => ({ SessionClient: LightClient }));

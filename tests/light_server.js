#!/usr/bin/env node
'use strict';

/**
 * whatsapp_server.js without a browser: the same program, with a few lines in place of whatsapp-web.js. For
 * tests and measurements with more servers than a host has memory for browsers (`instances.script`).
 *
 *     node tests/light_server.js [PORT]
 *
 * Codes come at once and change as WhatsApp's do. SIGUSR2 is the phone: it scans the code that is shown, or
 * unlinks the account that is linked. SIGUSR1 is WhatsApp: it changes its page so that nobody gets in any
 * more, and the next time back. A person who is written to writes the same back.
 */

const { randomBytes } = require('node:crypto');
const { EventEmitter } = require('node:events');
const fs = require('node:fs/promises');
const path = require('node:path');

// A browser is looked for and asked for its version before the library starts it. This one answers quickly.
process.env.WAPORTD_BROWSER = '/bin/true';

const { reason } = require('../server/session_errors');
const { Turns } = require('../server/turns');
const { run } = require('../whatsapp_server');

/** Where a browser keeps its login in the profile: what copies the login finds it there. */
const LOGIN = 'Default/IndexedDB/login';
/** Milliseconds that WhatsApp shows the first code and each later one. */
const CODES_MS = [60_000, 20_000];

const BUILD = '2.3000.1';
const LOST = { feature: 'link', module: 'WAWebConnModel', member: 'Conn.on', found: 'undefined' };

let hasChanged = false;
/** Loads the page again, if there is one. */
let reload = () => {};
process.on('SIGUSR1', () => {
    hasChanged = !hasChanged;
    reload();
});

/** What a phone does now. Before there is a code, and after the end, nothing. */
let touch = () => {};
process.on('SIGUSR2', () => touch());

const newId = () => randomBytes(8).toString('hex').toUpperCase();
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

/** Takes the place of server/launch.js' BrowserProcess: there is none, and it ends as little. */
const NO_PROCESS = { pid: undefined, ended: new Promise(() => {}), kill() {} };

/** Takes the place of server/whatsapp.js' SessionClient: the same options, calls and events. */
class LightClient extends EventEmitter {
    pupBrowser = new EventEmitter();
    pupPage = new LightPage();
    info = undefined;
    turns = new Turns();
    downloads = new Turns();
    requests = new Turns();
    changes = new Turns();
    #login;
    #phone;
    #timer = null;
    #codes = 0;
    /** Messages by chat, for as long as the process lives. */
    #chats = new Map();

    constructor({ clientId, dataPath, phone }) {
        super();
        this.#login = path.join(dataPath, `session-${clientId}`, LOGIN);
        this.#phone = phone;
    }

    async initialize() {
        this.emit('browser', this.pupBrowser, this.pupPage, null);
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

    async lookUp([id]) {
        return { exists: true, id, lid: null };
    }

    async prepareSend({ likely: [chat] }) {
        return { chat, id: `true_${chat}_${newId()}` };
    }

    async handOver({ chat, id }, { text }) {
        if ((await this.awaitAck(id)) === null) {
            this.emit('message_create', this.#keep(chat, text, true, id));
            this.emit('message_create', this.#keep(chat, text, false));
        }
        return this.awaitAck(id);
    }

    async awaitAck(id) {
        const isSent = [...this.#chats.values()].flat().some((message) => message.id === id);
        return isSent ? { id, ack: 1, type: 'chat' } : null;
    }

    async listChats(known) {
        const count = [...this.#chats.values()].reduce((sum, messages) => sum + messages.length, 0);
        if (known === `${count}`) return { stamp: known, chats: null };
        const chats = [...this.#chats.keys()].map((id) => this.#described(id));
        return { stamp: `${count}`, chats: chats.sort((one, other) => other.t - one.t) };
    }

    async readChat(id) {
        return this.#chats.has(id) ? this.#described(id) : null;
    }

    async findChat(id) {
        return this.#chats.has(id) ? id : null;
    }

    async changedChats(since) {
        return [...this.#chats].filter(([, all]) => all.at(-1).timestamp >= since).map(([id]) => id);
    }

    async messagesSince(chat, since) {
        return this.#chats.get(chat).flatMap(({ id, timestamp }) => (timestamp >= since ? [id] : []));
    }

    async messagesOf(ids) {
        return [...this.#chats.values()].flat().filter(({ id }) => ids.includes(id));
    }

    async readHistory(id, limit, before) {
        const all = this.#chats.get(id);
        if (all === undefined) return null;
        const end = before === null ? all.length : all.findIndex((message) => message.id === before);
        const start = Math.max(0, end - limit);
        return { messages: all.slice(start, end), hasMore: start > 0, hasEarlier: null };
    }

    async askForEarlier(id) {
        return this.#chats.has(id) ? { asked: false, hasEarlier: null } : null;
    }

    async listGroups() {
        return [];
    }

    async readGroup() {
        return null;
    }

    async listContacts() {
        return { contacts: [], total: 0 };
    }

    async readContact() {
        return null;
    }

    async openPicture() {
        return { problem: 'none' };
    }

    async openFile() {
        return { problem: 'none' };
    }

    async closeFile() {}

    /** Say what the page lacks; return what that means. */
    #lookAtPage() {
        const missing = hasChanged ? [LOST] : [];
        this.emit('upstream', { build: BUILD, ok: !hasChanged, checked: ['boot'], missing, shims: {} });
        return hasChanged ? reason.upstreamChanged(BUILD, LOST) : null;
    }

    #described(id) {
        const { body, timestamp } = this.#chats.get(id).at(-1);
        return { id, isGroup: false, lastMessage: body, t: timestamp, pinned: false, isArchived: false };
    }

    #keep(chat, body, fromMe, id = `${fromMe}_${chat}_${newId()}`) {
        const message = {
            id,
            from: fromMe ? `${this.info.wid.user}@c.us` : chat,
            to: fromMe ? chat : `${this.info.wid.user}@c.us`,
            body,
            fromMe,
            timestamp: Math.floor(Date.now() / 1000),
            type: 'chat',
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
        await fs.mkdir(path.dirname(this.#login), { recursive: true });
        await fs.writeFile(this.#login, number);
        this.emit('socket', 'PAIRING');
        this.emit('authenticated');
        this.#linked(number);
    }
}

/** Run a server whose library is one class. */
const runLight = (SessionClient) =>
    run(
        () => ({ SessionClient }),
        () => NO_PROCESS,
    );

if (require.main === module) runLight(LightClient);

module.exports = { LightClient, runLight };

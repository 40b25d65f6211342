'use strict';

/** The client of sessions before a page and a library that do what a test says, in that very order. */

const assert = require('node:assert/strict');
const { EventEmitter, once } = require('node:events');
const { describe, it } = require('node:test');

const { createSessionClient } = require('../../server/whatsapp');
const { within } = require('./support/process');

/** A page that answers what is asked with `answers`, by a word in the asking code. */
class Page extends EventEmitter {
    exposed = {};

    constructor(answers) {
        super();
        this.answers = answers;
    }

    setUserAgent() {}

    async goto(address) {
        this.exposed.waportdTell(this.proof, 'first', 'document', address);
    }

    async exposeFunction(name, work) {
        this.exposed[name] = work;
    }

    async evaluateOnNewDocument(work, proof) {
        this.proof = proof;
    }

    async createCDPSession() {
        return { send: async () => ({ frameTree: { frame: { id: 'F' } } }) };
    }

    async evaluate(work) {
        const word = Object.keys(this.answers).find((each) => String(work).includes(each));
        return word === undefined ? undefined : this.answers[word]();
    }
}

class LocalAuth {
    setup(client) {
        this.client = client;
    }
}

const READY = 'onAppStateHasSyncedEvent';
const CHATS = {
    onChatUnreadCountEvent: 'unread_count',
    onRemoveChatEvent: 'chat_removed',
    onArchiveChatEvent: 'chat_archived',
};

/** Start a client in a document; `made` names the functions of the library that were called. */
async function begin(answers) {
    const made = [];
    class Client extends EventEmitter {
        constructor({ authStrategy }) {
            super();
            this.authStrategy = authStrategy;
            authStrategy.setup(this);
        }

        async inject() {
            for (const name of ['onAuthAppStateChangedEvent', READY, ...Object.keys(CHATS)]) {
                await this.pupPage.exposeFunction(name, () => made.push(name));
            }
            await this.pupPage.exposeFunction('onAddMessageEvent', () => {
                throw new TypeError('a message that the library cannot read');
            });
        }
    }
    const page = new Page(answers);
    const browser = {
        version: async () => 'HeadlessChrome/150.0.7000.1',
        waitForTarget: async () => ({ page: async () => page }),
    };
    const library = { Client, LocalAuth, connect: async () => browser, PipeTransport: class {} };
    const SessionClient = createSessionClient(library);
    const process = { pipe: {} };
    const client = new SessionClient({ process, identity: (version) => version, startLimitMs: 1000 });
    await client.initialize();
    return { client, exposed: page.exposed, made };
}

/** Until all that was begun in the page has ended. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('a login', () => {
    it('is found where its screen came before its connection', async () => {
        let loaded = false;
        const connection = () => ({ state: 'OPENING', login: true, loaded });
        const { exposed, made } = await begin({ hasSynced: connection });
        await settled();
        loaded = true;
        exposed.onAuthAppStateChangedEvent('OPENING');
        await settled();
        assert.equal(made.length, 0);
        exposed.onAuthAppStateChangedEvent('CONNECTED');
        await settled();
        assert.equal(made.length, 1);
    });

    it('is none the worse for a look at its page that fails', async () => {
        const { client } = await begin({
            hasSynced: () => ({ state: 'CONNECTED', login: true, loaded: true }),
            shims: () => {
                throw new Error('the page does not tell');
            },
        });
        client.on('load_failed', (error) => assert.fail(error));
        const [error] = await within(once(client, 'check_failed'), 'the look');
        assert.match(error.message, /does not tell/);
    });
});

describe('a message that the library cannot read', () => {
    it('is one all the same, in whichever document it was heard', async () => {
        const { client, exposed } = await begin({
            hasSynced: () => ({ state: 'OPENING', login: true, loaded: false }),
        });
        exposed.waportdTell(client.pupPage.proof, 'second', 'document', 'https://web.whatsapp.com/');
        const heard = [];
        client.on('message_create', (message) => heard.push(message));
        exposed.onAddMessageEvent({ type: 'chat' });
        assert.deepEqual(heard, [{ rawData: { type: 'chat' } }]);
    });
});

describe('what the page says about chats', () => {
    for (const [name, event] of Object.entries(CHATS)) {
        it(`costs nothing while nobody listens to ${event}`, async () => {
            const { client, exposed, made } = await begin({
                hasSynced: () => ({ state: 'OPENING', login: true, loaded: false }),
            });
            exposed[name]({ id: 'a chat' });
            assert.deepEqual(made, []);
            client.on(event, () => {});
            exposed[name]({ id: 'a chat' });
            assert.deepEqual(made, [name]);
        });
    }
});

describe('new codes', () => {
    it('are asked for once by those who ask at once, and leave nobody waiting', async () => {
        const asked = [];
        const { client } = await begin({
            hasSynced: () => ({ state: 'UNPAIRED_IDLE', login: false, loaded: false }),
            newCodes: () => {
                asked.push('codes');
                setImmediate(() => client.emit('qr', 'a,b,c,d'));
                return true;
            },
        });
        await Promise.all([client.refreshQr(), client.refreshQr()]);
        assert.equal(asked.length, 1);
        await client.refreshQr();
        assert.equal(asked.length, 2, 'and asked for again later');
        assert.equal(client.listenerCount('qr'), 0);
    });

    it('leave nobody waiting where the page goes away', async () => {
        const { client } = await begin({
            hasSynced: () => ({ state: 'UNPAIRED_IDLE', login: false, loaded: false }),
            newCodes: () => {
                throw new Error('Target closed');
            },
        });
        await assert.rejects(client.refreshQr(), /Target closed/);
        assert.equal(client.listenerCount('qr'), 0);
    });
});

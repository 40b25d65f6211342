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

/** Start a client in a document; `made` counts how often the library was made ready. */
async function begin(answers) {
    const made = [];
    class Client extends EventEmitter {
        constructor({ authStrategy }) {
            super();
            this.authStrategy = authStrategy;
            authStrategy.setup(this);
            this.pupPage = new Page(answers);
        }

        async inject() {
            for (const name of ['onAuthAppStateChangedEvent', 'onAppStateHasSyncedEvent']) {
                await this.pupPage.exposeFunction(name, () => made.push(name));
            }
        }
    }
    const SessionClient = createSessionClient({ Client, LocalAuth });
    const client = new SessionClient({ executablePath: '/usr/bin/chromium', startLimitMs: 1000 });
    await client.authStrategy.afterBrowserInitialized();
    const { exposed, proof } = client.pupPage;
    exposed.waportdTell(proof, 'first', 'document', 'https://web.whatsapp.com/');
    await client.inject();
    return { client, exposed, made };
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

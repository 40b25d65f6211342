'use strict';

/** The client of sessions alone: a real browser, the stand-in, and the library or what a test puts there. */

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { after, before, describe, it } = require('node:test');
const MessageMedia = require('whatsapp-web.js/src/structures/MessageMedia');
const { setTimeout: pause } = require('node:timers/promises');

const { loadEngine } = require('../../server/engine');
const { serialized } = require('../../server/ids');
const { open, openCode, openLinked, site, waitFor } = require('./support/client');
const { whenFound, within } = require('./support/process');
const { PHONE } = require('./support/session');

let library;

before(() => {
    library = loadEngine(null);
});

after(() => {
    library = undefined;
});

describe('work that the library does in several steps', () => {
    /** Does its first step in one document and the second in the next one, as far as it may. */
    function twoSteps(attempts) {
        return class TwoSteps extends library.Client {
            async inject() {
                const document = await this.pupPage.evaluate(() => window.waportd.document);
                const attempt = { document, ended: 'done' };
                attempts.push(attempt);
                try {
                    if (attempts.length === 1) {
                        const next = once(this, 'document');
                        await this.pupPage.evaluate(() => {
                            setTimeout(() => location.reload());
                        });
                        await next;
                    }
                    await this.pupPage.evaluate(async () => {
                        // As the library does: before that the page has no modules.
                        while (window.Debug?.VERSION === undefined) {
                            await new Promise((resolve) => setTimeout(resolve, 10));
                        }
                        window.steps = (window.steps ?? 0) + 1;
                    });
                } catch (error) {
                    attempt.ended = error.message;
                    throw error;
                }
            }
        };
    }

    it('never continues in the document that took the place of the first', async (t) => {
        const attempts = [];
        const client = await open(t, { standin: await site(t), Client: twoSteps(attempts) });
        const failures = [];
        client.on('failed', (error) => failures.push(error));
        const told = waitFor(client, 'socket');
        await client.initialize();
        await told;
        assert.deepEqual(
            attempts.map(({ ended }) => ended),
            ['another document is loaded', 'done'],
        );
        assert.notEqual(attempts[0].document, attempts[1].document);
        assert.equal(await client.pupPage.evaluate(() => window.steps), 1);
        assert.deepEqual(failures, [], 'a document that has gone is no failure');
    });
});

describe('a page', () => {
    it('is loaded again on demand, and has the library again after it', async (t) => {
        const standin = await site(t);
        const { client } = await openCode(t, standin);
        const documents = [];
        client.on('document', () => documents.push(true));
        const again = waitFor(client, 'qr');
        await client.reload();
        await again;
        assert.equal(documents.length, 1);
        await standin.command('push-state', { times: 2 });
        await standin.command('frames', { count: 2, every: 20, times: 3 });
        await pause(300);
        assert.equal(documents.length, 1, 'changes within it, and frames, are no documents');
        const [{ injections }] = await standin.pages();
        assert.equal(injections, 1);
    });

    it('says why it was logged out', async (t) => {
        for (const reason of [undefined, 0, 2, 3]) {
            const standin = await site(t);
            const client = await openLinked(t, standin);
            const told = [];
            for (const event of ['logout', 'authenticated', 'ready', 'disconnected']) {
                client.on(event, (...what) => told.push([event, ...what]));
            }
            const next = waitFor(client, 'qr');
            await standin.command('logout', { phone: PHONE, reason });
            await next;
            const words = reason === 3 ? 'Account: locked' : null;
            assert.deepEqual(told, [['logout', reason ?? null, words]], `reason ${reason}`);
            await client.destroy();
        }
    });

    it('is not logged out by a word alone, nor by a frame', async (t) => {
        const standin = await site(t);
        const client = await openLinked(t, standin);
        const told = [];
        client.on('logout', () => told.push('logout'));
        client.on('document', () => told.push('document'));
        await client.pupPage.evaluate(() => {
            const frame = document.createElement('iframe');
            document.body.append(frame);
            frame.contentWindow.waportdTell?.('', 'x', 'document', `${location.origin}/?post_logout=1`);
            window.waportdTell('', 'x', 'document', `${location.origin}/?post_logout=1`);
            window.require('WAWebCmd').Cmd.trigger('logout_from_bridge');
            window.history.pushState(null, '', '/?post_logout=1&logout_reason=0');
            window.history.replaceState(null, '', '/');
        });
        await pause(6000);
        assert.deepEqual(told, []);
        await client.reload();
        assert.deepEqual(told, ['document'], 'nor by what is loaded after it');
    });

    it('is not logged out by a word while its connection is lost, but where its login is gone', async (t) => {
        const standin = await site(t);
        const client = await openLinked(t, standin);
        const told = [];
        client.on('logout', (...what) => told.push(what));
        const show = (fields) =>
            client.pupPage.evaluate((all) => window.require('WAWebSocketModel').Socket.set(all), fields);
        await show({ state: 'OPENING' });
        await client.pupPage.evaluate(() => window.require('WAWebCmd').Cmd.trigger('logout_from_bridge'));
        await pause(6000);
        assert.deepEqual(told, [], 'while it is lost');
        await show({ state: 'CONNECTED', hasSynced: null });
        await pause(6000);
        assert.deepEqual(told, [[null, null]], 'the login is gone');
    });

    it('has no login where its connection is refused before it has one', async (t) => {
        const standin = await site(t);
        await standin.command('silent');
        const client = await open(t, { standin });
        const told = [];
        client.on('login_found', () => told.push('login_found'));
        const refused = waitFor(client, 'socket');
        const started = client.initialize();
        // Until the page listens to the stand-in.
        const refuse = () => standin.command('state', { state: 'PROXYBLOCK' }).then(() => true);
        await whenFound(() => refuse().catch(() => false), 'a page that listens');
        assert.deepEqual(await refused, ['PROXYBLOCK']);
        await started;
        assert.deepEqual(told, []);
    });

    it('says that the account is banned for a while', async (t) => {
        const standin = await site(t);
        const client = await openLinked(t, standin);
        const banned = waitFor(client, 'banned');
        await standin.command('ban', { phone: PHONE, code: 102, expire: 7200 });
        const [{ code: number, until }] = await banned;
        assert.equal(number, 102);
        assert.ok(Math.abs(until - Date.now() - 7_200_000) < 60_000);
    });

    it('is seen without a word of its language', async (t) => {
        const standin = await site(t);
        const { client, qr } = await openCode(t, standin);
        const { loaded, state, synced, refused, passkey } = await client.look();
        assert.deepEqual(
            { loaded, state, synced, refused },
            { loaded: true, state: 'UNPAIRED', synced: false, refused: false },
        );
        assert.equal(passkey, false);
        await standin.command('set', { language: 'ja' });
        await standin.command('passkey');
        const asked = waitFor(client, 'passkey_screen');
        await standin.command('scan', { qr, phone: PHONE });
        await asked;
        assert.equal((await client.look()).passkey, true);
    });

    it('that refuses the browser is known by what it has not got', async (t) => {
        const standin = await site(t);
        await standin.command('refuse-browser');
        const client = await open(t, { standin });
        const opened = waitFor(client, 'browser');
        client.initialize().catch(() => {});
        await opened;
        let seen = {};
        for (let tries = 0; !seen.refused && tries < 400; tries += 1) {
            await pause(50);
            seen = await client.look().catch(() => ({}));
        }
        assert.deepEqual([seen.loaded, seen.refused], [false, true]);
    });

    it('that gives no code in any way is said to give none', async (t) => {
        const standin = await site(t, '--refs-ttl', '200,200');
        const client = await open(t, { standin });
        const idle = new Promise((resolve) => {
            client.on('socket', (state) => state === 'UNPAIRED_IDLE' && resolve());
        });
        await client.initialize();
        await within(idle, 'the end of the codes');
        await standin.command('silent');
        for (const [module, member] of [
            ['WAWebBackendEventBus', 'BackendEventBus.triggerRefreshQR'],
            ['WAWebLaunchSocketUtils', 'refreshQR'],
        ]) {
            await standin.command('break', { module, member });
        }
        await assert.rejects(client.refreshQr(), /gives no new codes/);
        await standin.command('break', { on: false });
    });
});

for (const [shape, seed] of [
    ['today', '1'],
    ['today', '2'],
    ['today', '3'],
    ['2026-04', '1'],
]) {
    it(`the library does what it can in the page of ${shape} with the names of build ${seed}`, async (t) => {
        const standin = await site(t, '--shape', shape, '--seed', seed);
        const today = shape === 'today';
        await standin.command('set', { download_needs_mimetype: today });
        const client = await openLinked(t, standin);
        /** What came to the site; the page hands on what it has automatically. */
        const arrived = (isIt, what) =>
            whenFound(async () => (await standin.sent()).find((each) => isIt(each)), what);
        const ofThis = (key) => arrived(({ id }) => serialized(key).includes(id), 'the message');

        // Files, whose model carries an id of its own.
        const { chats } = await client.listChats(null);
        const { id: chat } = chats.find(({ isGroup }) => !isGroup);
        const data = Buffer.from('a picture').toString('base64');
        const picture = new MessageMedia('image/png', data, 'a.png');
        const sent = await client.sendMessage(chat, picture, { caption: 'look' });
        const file = await ofThis(sent.id);
        assert.deepEqual([file.type, file.caption], ['image', 'look']);

        // A text under an id that was chosen for it, handed over several times: it is there once.
        const { phone } = chats.find(({ id }) => id === chat);
        const byNumber = phone === null ? chat : `${phone}@c.us`;
        const where = await client.prepareSend({ known: [byNumber], likely: [byNumber] });
        assert.equal(where.chat, chat);
        const words = { text: 'once', options: { mentionedJidList: [] } };
        const handOver = () => client.handOver(where, words, null);
        for (const each of await Promise.all([handOver(), handOver()])) assert.equal(each.id, where.id);
        assert.equal((await handOver()).id, where.id);
        assert.ok((await client.awaitAck(where.id, 5_000)).ack >= 1);
        assert.equal((await standin.sent()).filter(({ body }) => body === 'once').length, 1);
        const unknown = { chat, id: where.id.replace('3EB0', '3EB1') };
        assert.equal(await client.awaitAck(unknown.id, 0), null);
        for (const nobody of ['5511900000000@c.us', '1005511900000000@lid']) {
            const told = await client.prepareSend({ known: [nobody], likely: [nobody] });
            assert.equal(told.code, 'not_on_whatsapp', nobody);
        }

        // A stranger's file that the site has no more, and an answer to it.
        const heard = waitFor(client, 'message');
        const from = { phone: PHONE, from: '5511944443333' };
        await standin.command('message', { ...from, type: 'image', size: 500, expired: true });
        const [message] = await heard;
        assert.match(message.id._serialized, /^false_.+@/);
        const media = await message.downloadMedia();
        assert.equal(Buffer.from(media.data, 'base64').length, 500);
        const answer = await message.reply('thank you');
        const reply = await ofThis(answer.id);
        assert.equal(reply.body, 'thank you');
        assert.equal(answer._data.quotedStanzaID, message.id.id, 'it quotes what it answers');
        await message.react('👍');
        const isReaction = ({ type, id }) => type === 'reaction' && id === message.id.id;
        await arrived(isReaction, 'the reaction');
        assert.equal((await standin.sent()).filter(isReaction).length, 1);

        // A chat that cannot be read in full, among others.
        await standin.command('chats', { phone: PHONE, count: 4, groups: 4, broken: 2 });
        assert.equal((await client.getChats()).length, (await client.listChats(null)).chats.length);
        const lookUp = () => window.require('WAWebCollections').Msg.getMessagesById([undefined]);
        await client.pupPage.evaluate(lookUp);
    });
}

describe('an error of the page', () => {
    it('that has no text gets one, without anybody’s words in it', async (t) => {
        const client = await open(t, { standin: await site(t) });
        await client.initialize();
        const fault = () => {
            class Refused extends Error {}
            Object.defineProperty(Refused, 'name', { value: 'e' });
            const error = new Refused();
            Object.assign(error, { name: 'e', status: 429, code: 'rate-limit', text: 'what somebody wrote' });
            throw error;
        };
        await assert.rejects(client.pupPage.evaluate(fault), ({ message }) => {
            assert.match(message, /without a text \(e\).*status=429.*code=rate-limit.*page 2\.3000\./);
            assert.doesNotMatch(message, /somebody/);
            return true;
        });
        const told = client.pupPage.evaluate(() => {
            throw new Error('a text of its own');
        });
        await assert.rejects(told, /^Error: a text of its own$/m);
    });
});

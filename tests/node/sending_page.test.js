'use strict';

/** What runs in the page to send, in pages that no stand-in can be made to be. */

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');
const vm = require('node:vm');

const sendingPage = require('../../server/sending_page');

/** A page whose account is 5511@c.us, with chats that are made by being asked for. */
function openPage({ sendMessage, modules = {} } = {}) {
    const wid = (text) => ({
        _serialized: text,
        isGroup: () => text.endsWith('@g.us'),
        isLid: () => text.endsWith('@lid'),
        toString: () => text,
    });
    const me = wid('5511@c.us');
    class MsgKey {
        constructor({ to, id, participant }) {
            Object.assign(this, { fromMe: true, remote: to, id });
            this._serialized = ['true', to, id, participant].filter((part) => part !== undefined).join('_');
        }

        static newId = async () => '3EB0';
    }
    const messages = new Map();
    const chats = new Map();
    const Msg = {
        get: (key) => messages.get(key),
        getMessagesById: async () => ({ messages: [] }),
    };
    const all = {
        WAWebCollections: { Msg, Chat: { get: (id) => chats.get(String(id)) }, GroupMetadata: {} },
        WAWebMsgKey: MsgKey,
        WAWebWidFactory: { createWid: wid, asUserWidOrThrow: (id) => id },
        WAWebUserPrefsMeUser: { getMaybeMePnUser: () => me, getMaybeMeLidUser: () => wid('7@lid') },
        WAWebApiContact: { getCurrentLid: () => null, getPhoneNumber: () => null },
        WAWebQueryExistsJob: { queryWidExists: async () => null },
        WAWebMsgReply: { canReplyMsg: () => true },
        ...modules,
    };
    const window = {
        waportd: {},
        setTimeout,
        require(name) {
            if (!Object.hasOwn(all, name)) throw new Error(`Requiring unknown module "${name}"`);
            return all[name];
        },
    };
    window.window = window;
    const take = (message) => messages.set(message.id._serialized, { ack: 0, type: 'chat', ...message });
    const getChat = async (id) => {
        if (!chats.has(id)) chats.set(id, { id: wid(id) });
        return chats.get(id);
    };
    const send = sendMessage ?? (async (chat, body, { extraOptions }) => take({ body, ...extraOptions }));
    window.WWebJS = { getChat, sendMessage: (...args) => send(...args, take) };
    const context = vm.createContext(window);
    const run = (work, ...args) => vm.runInContext(`(${work})`, context)(...args);
    return { run, messages, chats, take, wid, all };
}

const plain = (value) => JSON.parse(JSON.stringify(value));
const WHERE = { chat: '5512@c.us', id: 'true_5512@c.us_A' };
const what = (more) => ({ text: 'x', options: {}, ...more });

describe('a message', () => {
    it('has the id that was chosen for it, whatever the library makes', async () => {
        const page = openPage();
        const told = await page.run(sendingPage.handOver, WHERE, what(), null);
        assert.deepEqual(plain(told), { id: WHERE.id, ack: 0, type: 'chat' });
        assert.deepEqual([...page.messages.keys()], [WHERE.id]);
    });

    it('is handed over once, however often and in whatever order that is asked for', async () => {
        let finish;
        let times = 0;
        const page = openPage({
            sendMessage: async (chat, body, { extraOptions }, take) => {
                times += 1;
                await new Promise((resolve) => {
                    finish = resolve;
                });
                take(extraOptions);
            },
        });
        const both = [1, 2].map(() => page.run(sendingPage.handOver, WHERE, what(), null));
        while (finish === undefined) await new Promise(setImmediate);
        finish();
        const [one, other] = plain(await Promise.all(both));
        assert.deepEqual(one, other);
        await page.run(sendingPage.handOver, WHERE, what(), null);
        assert.equal(times, 1);
    });

    it('is handed over once though its chat has another id by now', async () => {
        let times = 0;
        const page = openPage({
            sendMessage: async (chat, body, { extraOptions }, take) => {
                times += 1;
                take(extraOptions);
            },
        });
        page.chats.set(WHERE.chat, { id: page.wid('77@lid') });
        for (let calls = 0; calls < 2; calls += 1) {
            const told = await page.run(sendingPage.handOver, WHERE, what(), null);
            assert.equal(told.id, 'true_77@lid_A');
        }
        assert.equal(times, 1);
    });

    it('that the page took before something failed is reported as taken', async () => {
        const page = openPage({
            sendMessage: async (chat, body, { extraOptions }, take) => {
                take(extraOptions);
                throw new Error('unresolved dependencies: WAWebX');
            },
        });
        const linked = what({ options: { linkPreview: true } });
        const told = await page.run(sendingPage.handOver, WHERE, linked, null);
        assert.equal(told.id, WHERE.id);
        assert.equal(page.messages.size, 1);
    });

    it('needs no preview of a link while the page cannot make one', async () => {
        const asked = [];
        const page = openPage({
            sendMessage: async (chat, body, { linkPreview, extraOptions }, take) => {
                asked.push(linkPreview);
                if (linkPreview) throw new Error('Requiring unknown module "WAWebLinkPreviewChatAction"');
                take(extraOptions);
            },
        });
        await page.run(sendingPage.handOver, WHERE, what({ options: { linkPreview: true } }), null);
        assert.deepEqual(asked, [true, undefined]);
        assert.equal(page.messages.size, 1);
        const broken = openPage({
            sendMessage: async () => {
                throw new Error('a fault of another part');
            },
        });
        const told = await broken.run(sendingPage.handOver, WHERE, what(), null);
        assert.deepEqual(plain(told), { error: 'a fault of another part' });
    });

    it('does not go out without what it answers', async () => {
        const page = openPage();
        const quoting = (quote) => page.run(sendingPage.handOver, WHERE, what({ quote }), null);
        assert.equal((await quoting('false_5512@c.us_Q')).code, 'no_such_message');
        const id = { _serialized: 'false_5512@c.us_Q' };
        page.messages.set(id._serialized, { id, unsafe: () => null });
        page.all.WAWebMsgReply.canReplyMsg = () => false;
        assert.equal((await quoting(id._serialized)).code, 'refused');
        assert.equal(page.messages.size, 1);
        page.all.WAWebMsgReply.canReplyMsg = () => true;
        assert.equal((await quoting(id._serialized)).id, WHERE.id);
    });

    it('to a group is from the member that the group knows, once the page knows the group', async () => {
        const page = openPage();
        const id = page.wid('120363@g.us');
        const group = { id, groupMetadata: undefined };
        page.chats.set('120363@g.us', group);
        const update = async () => {
            group.groupMetadata = { isLidAddressingMode: true };
        };
        page.all.WAWebCollections.WAWebGroupMetadataCollection = { update };
        const to = { known: ['120363@g.us'], likely: ['120363@g.us'] };
        const where = await page.run(sendingPage.prepareSend, to);
        assert.deepEqual(plain(where), { chat: '120363@g.us', id: 'true_120363@g.us_3EB0_7@lid' });
    });
});

describe('a message that is sent on', () => {
    /** A page with a message to send on, whose copies come as the page's own forwarding makes them. */
    function forwardingPage({ forwardMessages } = {}) {
        const page = openPage();
        const { Msg, Chat } = page.all.WAWebCollections;
        const inChat = [];
        const heard = new Set();
        const byId = (id) => inChat.find((each) => each.id._serialized === id) ?? page.messages.get(id);
        Object.assign(Msg, {
            get: byId,
            on: (_name, hear) => heard.add(hear),
            off: (_name, hear) => heard.delete(hear),
        });
        const earlier = [];
        const chat = { id: page.wid('5512@c.us'), msgs: { getModelsArray: () => inChat } };
        page.chats.set('5512@c.us', chat);
        Chat.get = (id) => page.chats.get(String(id));
        page.all.WAWebChatLoadMessages = {
            async loadEarlierMsgs() {
                const loaded = earlier.splice(0);
                inChat.unshift(...loaded);
                return loaded;
            },
        };
        const add = (id, more) => {
            const key = { _serialized: `true_5512@c.us_${id}`, fromMe: true, remote: chat.id };
            const message = { id: key, type: 'chat', body: 'x', isForwarded: true, ack: 1, t: 1000, ...more };
            inChat.push(message);
            for (const hear of heard) hear(message);
            return message;
        };
        let made = 0;
        page.all.WAWebChatForwardMessage = {
            forwardMessages: forwardMessages ?? (async () => add(`N${(made += 1)}`)),
        };
        page.take({ id: { _serialized: 'false_5513@c.us_O' }, body: 'x' });
        const forward = async (begun = null, ticket = 'T') => {
            const where = { chat: '5512@c.us', id: ticket };
            return plain(await page.run(sendingPage.forward, 'false_5513@c.us_O', where, begun));
        };
        const copies = (since) =>
            page.run(sendingPage.copiesOf, 'false_5513@c.us_O', '5512@c.us', since).then(plain);
        return { page, add, earlier, inChat, forward, copies };
    }
    const idOf = (name) => `true_5512@c.us_${name}`;

    it('is looked for among what this account sent on, by what is in it', async () => {
        const { add, copies, earlier, inChat } = forwardingPage();
        add('older', { t: 10 });
        add('A');
        earlier.push(...inChat.splice(0));
        add('not forwarded', { isForwarded: false });
        add('another kind', { type: 'image' });
        add('other words', { body: 'y' });
        add('received', { id: { _serialized: 'r', fromMe: false } });
        add('B');
        assert.deepEqual(await copies(500), [idOf('A'), idOf('B')]);
    });

    it('is sent on at first, and again only where its copy is not there', async () => {
        const { add, forward, inChat } = forwardingPage();
        add('before');
        const first = await forward();
        assert.deepEqual(first, { id: idOf('N1'), ack: 1, type: 'chat' });
        const others = [idOf('before')];
        assert.deepEqual(await forward({ since: 500, others }), first);
        assert.equal(inChat.length, 2);
        others.push(idOf('N1'));
        assert.equal((await forward({ since: 500, others })).id, idOf('N2'));
    });

    it('is sent on once by calls at the same time, and a fault is reported', async () => {
        const { forward, inChat } = forwardingPage();
        const [one, other] = await Promise.all([forward(), forward()]);
        assert.deepEqual(one, other);
        assert.equal(inChat.length, 1);
        const forwardMessages = async () => {
            throw new Error('a fault of another part');
        };
        const broken = forwardingPage({ forwardMessages });
        assert.deepEqual(await broken.forward(), { error: 'a fault of another part' });
    });
});

describe('the person that a message is for', () => {
    const to = (known, likely = known) => ({ known, likely });

    it('is looked for among the chats first, and then at WhatsApp, best first', async () => {
        const asked = [];
        const queryWidExists = async (wid) => {
            asked.push(String(wid));
            return String(wid) === '551@c.us' ? { wid } : null;
        };
        const page = openPage({ modules: { WAWebQueryExistsJob: { queryWidExists } } });
        const both = to(['9@c.us', '559@c.us', '551@c.us'], ['559@c.us', '551@c.us']);
        const found = await page.run(sendingPage.prepareSend, both);
        assert.equal(found.chat, '551@c.us');
        assert.deepEqual(asked, ['559@c.us', '551@c.us']);
        page.chats.set('9@c.us', { id: page.wid('9@c.us') });
        const known = await page.run(sendingPage.prepareSend, to(['9@c.us', '551@c.us'], ['551@c.us']));
        assert.equal(known.chat, '9@c.us');
        assert.equal(asked.length, 2, 'nobody is asked for who is known');
    });

    it('is reported where there is nobody', async () => {
        const page = openPage();
        const code = async (...ids) => (await page.run(sendingPage.prepareSend, to(ids))).code;
        assert.equal(await code('5512@c.us'), 'not_on_whatsapp');
        assert.equal(await code('120363@g.us'), 'no_such_chat');
        page.run('() => { window.WWebJS.getChat = async () => { throw new Error("No LID for user"); }; }');
        assert.equal(await code('77@lid'), 'not_on_whatsapp');
    });
});

'use strict';

/** What is put into each document, in pages that no stand-in can be made to be. */

const assert = require('node:assert/strict');
const { webcrypto } = require('node:crypto');
const { EventEmitter } = require('node:events');
const { describe, it } = require('node:test');
const vm = require('node:vm');

const { prepareDocument } = require('../../server/compatibility');

/** A document whose modules are `modules`; the second one is the list of what it reported to the server. */
function openDocument(t, modules) {
    const told = [];
    const timers = [];
    const window = {
        crypto: webcrypto,
        navigator: {},
        location: { href: 'https://web.whatsapp.com/' },
        setInterval: (...args) => timers.push(setInterval(...args)),
        clearInterval,
        waportdTell: (proof, document, what, ...more) => told.push([what, ...more]),
        require(name) {
            if (!Object.hasOwn(modules, name)) throw new Error(`Requiring unknown module "${name}"`);
            return modules[name];
        },
    };
    window.window = window;
    window.top = window;
    t.after(() => timers.forEach(clearInterval));
    vm.runInNewContext(`(${prepareDocument})('proof')`, window);
    told.length = 0;
    return { window, told };
}

describe('a document', () => {
    it('is listened to once each part of it can be loaded', (t) => {
        const modules = {};
        const { window, told } = openDocument(t, modules);
        window.Debug = { VERSION: '2' };
        const Stream = new EventEmitter();
        const BackendEventBus = new EventEmitter();
        modules.WAWebStreamModel = { Stream };
        window.waportd.boot();
        modules.WAWebBackendEventBus = { BackendEventBus };
        window.waportd.boot();
        window.waportd.boot();
        Stream.emit('change:mode');
        assert.deepEqual(told, [['changed']]);
        BackendEventBus.emit('account_temporarily_banned', 101, 3600);
        assert.deepEqual(told.slice(1), [['banned', 101, 3600]]);
    });

    it('reports a ban once, whichever of its events there are', (t) => {
        const ban = { banned: true, code: 101, expire: 3600, message: undefined, url: undefined };
        const [BackendEventBus, Cmd] = [new EventEmitter(), new EventEmitter()];
        const bus = { WAWebBackendEventBus: { BackendEventBus } };
        const cmd = { WAWebCmd: { Cmd } };
        for (const modules of [bus, cmd, { ...bus, ...cmd }]) {
            BackendEventBus.removeAllListeners();
            Cmd.removeAllListeners();
            const { window, told } = openDocument(t, modules);
            window.Debug = { VERSION: '2' };
            Cmd.emit('account_temporarily_banned_from_bridge', { ...ban, banned: false });
            assert.deepEqual(told, [], 'no ban');
            for (let times = 0; times < 2; times += 1) {
                BackendEventBus.emit('account_temporarily_banned', ban);
                Cmd.emit('account_temporarily_banned_from_bridge', ban);
            }
            assert.deepEqual(told, [['banned', ban]]);
        }
    });
});

describe('a model of a message', () => {
    const wid = (text) => {
        const [user, server] = text.split('@');
        return { user, server, _serialized: text };
    };
    const modulesOf = ({ contacts = {}, api = {} } = {}) => ({
        WAWebWidFactory: { createWid: wid },
        WAWebUserPrefsMeUser: {
            getMaybeMePnUser: () => wid('5511999998888@c.us'),
            getMaybeMeLidUser: () => null,
        },
        WAWebApiContact: {
            getPhoneNumber: ({ user }) => (user === '77' ? wid('5521977770009@c.us') : undefined),
            getCurrentLid: ({ user }) => (user === '5511' ? wid('78@lid') : undefined),
            ...api,
        },
        WAWebCollections: {
            Chat: { get: (id) => ({ '1@g.us': { formattedTitle: 'Family' } })[id._serialized] },
            Contact: { get: (id) => contacts[id._serialized] },
        },
    });
    const message = {
        id: { fromMe: false, remote: wid('1@g.us'), id: 'A', toString: () => 'false_1@g.us_A_77@lid' },
        from: wid('1@g.us'),
        author: wid('77@lid'),
        quotedParticipant: wid('5511@c.us'),
        mentionedJidList: ['79@lid'],
        type: 'chat',
        body: 'words',
    };
    function modelled(t, modules, getMessageModel = ({ body }) => ({ body })) {
        const { window } = openDocument(t, modules);
        window.WWebJS = { getMessageModel };
        for (let times = 0; times < 2; times += 1) window.waportd.main();
        return JSON.parse(JSON.stringify(window.WWebJS.getMessageModel(message)));
    }

    it('comes with what the page knows of its people and its chat', (t) => {
        const contacts = {
            '77@lid': { name: 'Davi' },
            '79@lid': { pushname: 'Eva', phoneNumber: wid('55@c.us') },
        };
        const unknown = { phone: null, lid: null, name: null };
        assert.deepEqual(modelled(t, modulesOf({ contacts })), {
            body: 'words',
            waportd: {
                chat: 'Family',
                me: ['5511999998888@c.us'],
                people: {
                    '77@lid': { phone: '5521977770009', lid: '77@lid', name: 'Davi' },
                    '1@g.us': unknown,
                    '5511@c.us': { ...unknown, lid: '78@lid' },
                    '79@lid': { phone: '55', lid: '79@lid', name: 'Eva' },
                },
            },
        });
    });

    it('is made all the same where the page knows nothing, or has other modules', (t) => {
        assert.equal(modelled(t, {}).body, 'words');
        const fault = () => {
            throw new Error('a fault of the page');
        };
        const faulty = { getPhoneNumber: fault, getCurrentLid: fault };
        const { chat, people } = modelled(t, modulesOf({ api: faulty })).waportd;
        assert.deepEqual([chat, people['77@lid'].phone], ['Family', null]);
        const late = { getPhoneNumber: async () => wid('1@c.us') };
        assert.equal(modelled(t, modulesOf({ api: late })).waportd.people['77@lid'].phone, null);
    });

    it('is what there is of it where the page cannot say all', (t) => {
        const model = modelled(t, modulesOf(), () => {
            throw new Error('a fault of the page');
        });
        assert.equal(model.id._serialized, 'false_1@g.us_A_77@lid');
        assert.deepEqual([model.from, model.author, model.body], ['1@g.us', '77@lid', 'words']);
        assert.equal(model.waportd.chat, 'Family');
    });
});

describe('a repair', () => {
    /** A class whose instances have their text under a name, and say it as the page's build does. */
    function withText(field, { me = () => true } = {}) {
        return {
            [field]: class {
                constructor({ id }) {
                    if (!me()) throw new Error('me is undefined');
                    this.id = id;
                    this[field] = `true_0@c.us_${id}`;
                }
            },
        }[field];
    }

    /** Say the text of an identifier, in the words of the build. */
    function saying(Class, toString) {
        Object.defineProperty(Class.prototype, 'toString', { value: toString });
        return Class;
    }

    const collection = (models) => ({ getModelsArray: () => models });

    /** The modules around the keys of a page. */
    const around = (MsgKey, more = {}) => ({
        WAWebMsgKey: MsgKey,
        WAWebUserPrefsMeUser: { getMaybeMePnUser: () => null, getMaybeMeLidUser: () => ({}) },
        WAWebWidFactory: { createWid: (text) => ({ _serialized: text }) },
        WAWebCollections: { Msg: collection([]), Chat: collection([]) },
        ...more,
    });

    const KEYS = {
        _serialized: saying(withText('_serialized'), function toString() {
            return this._serialized;
        }),
        $1: saying(withText('$1'), function toString() {
            return this.$1;
        }),
        'k-2': saying(withText('k-2'), function toString() {
            return this['k-2'];
        }),
    };

    for (const [field, MsgKey] of Object.entries(KEYS)) {
        it(`finds the text of a key in ${field}, and gives it to keys that were there before`, (t) => {
            const old = new MsgKey({ id: 'OLD' });
            const Msg = collection([{ id: old }]);
            const Chat = collection([{ lastReceivedKey: old }, {}]);
            const modules = around(MsgKey, { WAWebCollections: { Msg, Chat } });
            const { window } = openDocument(t, modules);
            window.Debug = { VERSION: '2' };
            for (let times = 0; times < 2; times += 1) {
                window.waportd.main();
                const is = field === '_serialized' ? 'not needed' : 'applied';
                assert.equal(window.waportd.shims.message_keys, is);
                assert.deepEqual({ ...old }._serialized, 'true_0@c.us_OLD');
                const key = new MsgKey({ id: 'NEW' });
                assert.equal({ ...key }._serialized, 'true_0@c.us_NEW', 'in a copy, too');
                assert.equal(key[field], 'true_0@c.us_NEW', 'the page still has its own');
                assert.equal(JSON.parse(JSON.stringify(key))._serialized, 'true_0@c.us_NEW');
            }
        });
    }

    it('finds it in the page’s code where nobody is logged in yet', (t) => {
        let isLoggedIn = false;
        const MsgKey = saying(withText('$3', { me: () => isLoggedIn }), function toString() {
            return this.$3;
        });
        const { window } = openDocument(t, around(MsgKey));
        window.Debug = { VERSION: '2' };
        assert.equal(window.waportd.shims.message_keys, 'applied');
        isLoggedIn = true;
        assert.equal(new MsgKey({ id: 'A' })._serialized, 'true_0@c.us_A');
    });

    it('says that it failed where a key has its text nowhere, and completes models of messages', (t) => {
        const MsgKey = class {
            constructor({ id }) {
                this.id = id;
            }

            toString() {
                return ['true', '0@c.us', this.id].join('_');
            }
        };
        const quoted = new MsgKey({ id: 'QUOTED' });
        const message = { id: new MsgKey({ id: 'A' }), quotedMsgKey: quoted };
        const Msg = collection([message]);
        const modules = around(MsgKey, { WAWebCollections: { Msg, Chat: collection([]) } });
        const { window } = openDocument(t, modules);
        const plain = ({ id, quotedMsgKey }) => ({ id: { ...id }, quotedMsgKey: { ...quotedMsgKey } });
        window.WWebJS = { getMessageModel: plain };
        window.Debug = { VERSION: '2' };
        for (let times = 0; times < 2; times += 1) {
            window.waportd.main();
            const { message_keys: keys, models } = window.waportd.shims;
            assert.deepEqual([keys, models], ['failed', 'applied']);
        }
        const model = window.WWebJS.getMessageModel(message);
        assert.deepEqual(
            [model.id._serialized, model.quotedMsgKey._serialized],
            ['true_0@c.us_A', 'true_0@c.us_QUOTED'],
        );
    });

    it('lets the library hear of calls, and of messages, where their collection has no map', (t) => {
        const mapOf = (window) => vm.runInContext('Map', window);
        /** As the library does it. */
        const hearCalls = (window, calls, heard) => {
            const isMap = (field) => calls[field] instanceof mapOf(window);
            const map = calls[Object.keys(calls).find(isMap)];
            const set = map.set.bind(map);
            map.set = (id, call) => {
                heard.push(call);
                return set(id, call);
            };
        };
        const calls = new EventEmitter();
        const { window } = openDocument(t, { WAWebCallCollection: calls });
        const heard = [];
        assert.throws(() => hearCalls(window, calls, heard), TypeError);
        window.waportd.main();
        hearCalls(window, calls, heard);
        window.waportd.main();
        assert.equal(window.waportd.shims.calls, 'applied');
        calls.emit('add', { id: 'C' });
        assert.deepEqual(heard, [{ id: 'C' }]);
        const whole = new EventEmitter();
        const other = openDocument(t, { WAWebCallCollection: whole }).window;
        whole.$1 = new (mapOf(other))();
        other.waportd.main();
        assert.equal(other.waportd.shims.calls, 'not needed');
    });

    it('gives ids of people their text, wherever the build has it', (t) => {
        /** As the page's, whose prototype has a method of the name under which a key has its text. */
        const widsWith = (field) => {
            class Wid {
                constructor(text) {
                    if (field !== null) Object.defineProperty(this, field, { value: text, enumerable: true });
                    this.text = () => text;
                }

                toString() {
                    return this.text();
                }
            }
            Wid.prototype.$1 = () => 'for logs';
            return { createWid: (text) => new Wid(text) };
        };
        for (const [field, told] of [
            ['_serialized', 'not needed'],
            ['$1', 'applied'],
            ['w2', 'applied'],
            [null, 'failed'],
        ]) {
            const WAWebWidFactory = widsWith(field);
            const { window } = openDocument(t, around(KEYS._serialized, { WAWebWidFactory }));
            window.Debug = { VERSION: '2' };
            window.waportd.boot();
            assert.equal(window.waportd.shims.wids, told, String(field));
            if (field === null) continue;
            const wid = WAWebWidFactory.createWid('5511@c.us');
            assert.equal(wid._serialized, '5511@c.us', field);
            assert.equal(Object.getPrototypeOf(wid).$1(), 'for logs', 'what the page has there stays');
        }
    });

    it('asks for new codes in the way that the page has', (t) => {
        const asked = [];
        const ask = (name) => () => asked.push(name);
        const bus = { WAWebBackendEventBus: { BackendEventBus: { triggerRefreshQR: ask('bus') } } };
        const socket = { WAWebLaunchSocketUtils: { refreshQR: ask('socket') } };
        const own = { WAWebCmd: { Cmd: { refreshQR: ask('own') } } };
        for (const [modules, told, way] of [
            [{}, 'absent', null],
            [{ WAWebCmd: { Cmd: {} } }, 'absent', null],
            [own, 'not needed', 'own'],
            [{ WAWebCmd: { Cmd: {} }, ...socket }, 'applied', 'socket'],
            [{ WAWebCmd: { Cmd: {} }, ...socket, ...bus }, 'applied', 'bus'],
        ]) {
            const { window } = openDocument(t, modules);
            window.Debug = { VERSION: '2' };
            window.waportd.boot();
            assert.equal(window.waportd.shims.new_codes, told);
            asked.length = 0;
            modules.WAWebCmd?.Cmd.refreshQR?.();
            assert.deepEqual(asked, way === null ? [] : [way]);
        }
    });

    it('is made once in a document, and is absent where there is nothing to repair', (t) => {
        const main = {
            models: 'absent',
            calls: 'absent',
            media_id: 'absent',
            download_type: 'absent',
            strangers_media: 'absent',
            lookups: 'absent',
        };
        const empty = openDocument(t, {}).window;
        empty.waportd.main();
        const { shims } = empty.waportd;
        const boot = { message_keys: 'absent', wids: 'absent', new_codes: 'absent' };
        assert.deepEqual({ ...shims }, { ...boot, ...main });

        const downloadManager = { downloadAndMaybeDecrypt: async () => {} };
        class Message {}
        Message.prototype.downloadMedia = async () => {};
        const Msg = { ...collection([]), modelClass: Message, getMessagesById: async () => {} };
        const modules = around(KEYS.$1, {
            WAWebDownloadManager: { downloadManager },
            WAWebCollections: { Msg, Chat: collection([]) },
        });
        const { window } = openDocument(t, modules);
        window.WWebJS = { processMediaData: async () => {}, getChatModel: async () => {} };
        const made = () => [
            window.WWebJS.processMediaData,
            window.WWebJS.getChatModel,
            downloadManager.downloadAndMaybeDecrypt,
            Message.prototype.downloadMedia,
            Msg.getMessagesById,
        ];
        const before = made();
        window.Debug = { VERSION: '2' };
        window.waportd.main();
        const once = made();
        assert.ok(once.every((each, n) => each !== before[n]));
        window.waportd.main();
        assert.deepEqual(made(), once, 'nothing is put over what was put there');
    });

    it('never throws into the page, whatever that does', (t) => {
        const fault = () => {
            throw new Error('a fault of the page');
        };
        const hostile = new Proxy(fault, { get: fault, has: fault, ownKeys: fault, set: fault });
        const modules = new Proxy(
            {},
            {
                getOwnPropertyDescriptor: () => ({ value: hostile, configurable: true }),
                get: () => hostile,
            },
        );
        const { window } = openDocument(t, modules);
        window.Debug = { VERSION: '2' };
        window.WWebJS = hostile;
        window.waportd.boot();
        window.waportd.main();
        const known = new Set(['absent', 'not needed', 'applied', 'failed']);
        for (const [shim, told] of Object.entries(window.waportd.shims)) assert.ok(known.has(told), shim);
        assert.equal(window.Debug.VERSION, '2');
    });
});

'use strict';

/** What is put into each document, in pages that no stand-in can be made to be. */

const assert = require('node:assert/strict');
const { webcrypto } = require('node:crypto');
const { EventEmitter } = require('node:events');
const { describe, it } = require('node:test');
const vm = require('node:vm');

const { prepareDocument } = require('../../server/compatibility');

/** A document whose modules are `modules`; `told` holds what it told to the server. */
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

    it('tells once of a ban, whichever of its events there are', (t) => {
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

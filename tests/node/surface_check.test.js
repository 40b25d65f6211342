'use strict';

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');
const vm = require('node:vm');

const { FEATURES, MODULES, SHAPES } = require('../../server/surface');
const { inspect, isCore, missingOf, wantedOf } = require('../../server/surface_check');

/** What a member of some kind is in a page. */
function valueOf(kind) {
    const [word, length] = kind.split('/');
    if (word === 'any') return undefined;
    if (word === 'string') return 'text';
    if (word === 'object') return {};
    const value = () => assert.fail('the check calls nothing');
    Object.defineProperty(value, 'length', { value: Number(length ?? 0) });
    return value;
}

function put(module, path, value) {
    const members = path.split('.');
    const last = members.pop();
    const owner = members.reduce((within, member) => (within[member] ??= {}), module);
    owner[last] = value;
}

/** The modules of a page that has all of one shape, but what is taken from it. */
function pageOf({ shape = 'today', without = {}, change = {}, parts = ['boot', 'main', 'lazy'] } = {}) {
    const differences = SHAPES[shape];
    const modules = new Map();
    for (const [name, { when, members }] of Object.entries(MODULES)) {
        if (!parts.includes(when) || without[name] === true) continue;
        const all = { ...members, ...differences[name]?.members, ...change[name] };
        const module = ['class', 'function'].includes(all['']) ? function module() {} : {};
        for (const [path, kind] of Object.entries(all)) {
            if (path === '' || kind === null || without[name]?.includes(path)) continue;
            put(module, path, valueOf(kind));
        }
        modules.set(name, module);
    }
    return modules;
}

function look(part, modules, shims = {}) {
    const window = {
        Debug: { VERSION: '2.3000.1' },
        waportd: { shims },
        require(name) {
            if (!modules.has(name)) throw new Error(`Requiring unknown module "${name}"`);
            return modules.get(name);
        },
    };
    const context = { window, performance, wanted: wantedOf(part) };
    return JSON.parse(vm.runInNewContext(`JSON.stringify((${inspect})(wanted))`, context));
}

const missing = (part, page, shims) => missingOf(part, look(part, pageOf(page), shims));

describe('the check of what the page has', () => {
    it('finds nothing missing in a page of either shape, and calls nothing there', () => {
        for (const shape of Object.keys(SHAPES)) {
            assert.deepEqual(missing('boot', { shape, parts: ['boot'] }), []);
            assert.deepEqual(missing('main', { shape, parts: ['boot', 'main'] }), []);
        }
    });

    it('names feature, module, member and what is there instead', () => {
        const { build, shims } = look('boot', pageOf(), { wids: 'not needed' });
        assert.deepEqual([build, shims], ['2.3000.1', { wids: 'not needed' }]);
        assert.deepEqual(missing('boot', { without: { WAWebPrepRawMedia: ['prepRawMedia'] } }), [
            { feature: 'media_out', module: 'WAWebPrepRawMedia', member: 'prepRawMedia', found: 'undefined' },
        ]);
        assert.deepEqual(missing('boot', { without: { WAWebPrepRawMedia: true } }), [
            {
                feature: 'media_out',
                module: 'WAWebPrepRawMedia',
                member: 'prepRawMedia',
                found: 'no such module',
            },
        ]);
        const [{ found }] = missing('boot', { change: { WAWebPrepRawMedia: { prepRawMedia: 'string' } } });
        assert.equal(found, 'string');
    });

    it('looks at the number of arguments where their position matters', () => {
        const change = { WAWebSendReactionMsgAction: { sendReactionToMsg: 'function/1' } };
        assert.deepEqual(missing('main', { change }), [
            {
                feature: 'react',
                module: 'WAWebSendReactionMsgAction',
                member: 'sendReactionToMsg',
                found: 'function/1',
            },
        ]);
    });

    it('does not ask before the login for what comes with its screen', () => {
        assert.deepEqual(missing('boot', { parts: ['boot'] }), []);
        const late = missing('main', { parts: ['boot'] });
        assert.ok(late.some(({ feature }) => feature === 'react'));
        assert.ok(late.every(({ module }) => MODULES[module].when === 'main'));
    });

    it('knows without which members no session works', () => {
        for (const [module, member] of [
            ['WAWebConnModel', 'Conn.on'],
            ['WAWebSocketModel', 'Socket.hasSynced'],
            ['WAWebCollections', 'Msg.on'],
            ['WAWebSendMsgChatAction', 'addAndSendMsgToChat'],
        ]) {
            const lost = missing('boot', { without: { [module]: [member] } });
            assert.ok(lost.some(isCore), `${module}.${member}`);
        }
        assert.ok(!missing('boot', { without: { WAWebPrepRawMedia: true } }).some(isCore));
        assert.deepEqual(
            missing('boot', {}, { message_keys: 'failed' }).map(({ feature, module }) => [feature, module]),
            [['receive', 'WAWebMsgKey']],
        );
    });

    it('notices the loss of each member that a feature uses', () => {
        for (const [feature, { uses }] of Object.entries(FEATURES)) {
            for (const [module, members] of Object.entries(uses)) {
                if (feature === 'page' || MODULES[module].when === 'lazy') continue;
                for (const member of members) {
                    if (member === 'prototype.toString') continue; // every object has one
                    const without = { [module]: member === '' ? true : [member] };
                    const lost = missing('main', { without });
                    const isTold = lost.some((each) => each.feature === feature && each.member === member);
                    assert.ok(isTold, `${feature}: ${module} ${member}`);
                }
            }
        }
    });
});

'use strict';

const assert = require('node:assert/strict');
const { describe, it } = require('node:test');

const { FEATURES, MODULES, SHAPES } = require('../../server/surface');

const KIND = /^(any|object|string|class|function(\/\d+)?)$/;
const NAMES = [
    'link',
    'pairing',
    'passkey',
    'login',
    'ready',
    'receive',
    'send',
    'media_in',
    'media_out',
    'chats',
    'history',
    'earlier',
    'people',
    'pictures',
    'reply',
    'react',
    'edit',
    'delete',
    'groups',
    'group_participants',
    'group_info',
    'group_leave',
    'group_create',
    'events',
    'typing',
    'page',
];
const CORE = ['link', 'login', 'ready', 'receive', 'send'];

describe('the description of the page', () => {
    it('gives each module a time, and each member a path and a kind', () => {
        for (const [module, { when, members, ...rest }] of Object.entries(MODULES)) {
            assert.match(module, /^WA\w+$/);
            assert.ok(['boot', 'main', 'lazy'].includes(when), `${module}: ${when}`);
            assert.deepEqual(rest, {}, module);
            assert.ok(Object.keys(members).length > 0, module);
            for (const [member, kind] of Object.entries(members)) {
                assert.match(member, /^(\w+(\.\w+)*)?$/, module);
                assert.match(kind, KIND, `${module}.${member}`);
            }
        }
    });

    it('names its features, and which of them a session cannot do without', () => {
        assert.deepEqual(Object.keys(FEATURES), NAMES);
        const core = NAMES.filter((name) => FEATURES[name].core);
        assert.deepEqual(core, CORE);
    });

    it('lists under features what is described, all of it, each once a feature', () => {
        const used = new Set();
        for (const [feature, { uses }] of Object.entries(FEATURES)) {
            for (const [module, members] of Object.entries(uses)) {
                assert.equal(new Set(members).size, members.length, `${feature}: ${module}`);
                for (const member of members) {
                    assert.ok(member in (MODULES[module]?.members ?? {}), `${feature}: ${module}.${member}`);
                    used.add(`${module}.${member}`);
                }
            }
        }
        const described = Object.entries(MODULES).flatMap(([module, { members }]) =>
            Object.keys(members).map((member) => `${module}.${member}`),
        );
        assert.deepEqual(
            described.filter((each) => !used.has(each)),
            [],
        );
    });

    it('needs no lazy module for what a session cannot do without', () => {
        const modules = CORE.flatMap((name) => Object.keys(FEATURES[name].uses));
        assert.deepEqual(
            modules.filter((module) => MODULES[module].when === 'lazy'),
            [],
        );
    });

    it('describes other shapes as differences that are some', () => {
        assert.deepEqual(Object.keys(SHAPES), ['today', '2026-04']);
        for (const [module, { when, members }] of Object.entries(SHAPES['2026-04'])) {
            assert.equal(when === undefined, module in MODULES, module);
            for (const [member, kind] of Object.entries(members)) {
                const today = MODULES[module]?.members[member];
                if (kind === null) assert.ok(today, `${module}.${member} is not there today either`);
                else assert.match(kind, KIND);
                assert.notEqual(kind, today, `${module}.${member} is the same today`);
            }
        }
    });
});

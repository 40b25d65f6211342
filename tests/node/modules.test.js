'use strict';

/** What needs what: the node modules that are shipped, and the modules of the server among each other. */

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { it } = require('node:test');

const ROOT = path.join(__dirname, '..', '..');
const FOLDER = `node_modules${path.sep}`;

/** All that a server loads. Run in a process of its own: this one has loaded more. */
const LOADED = `
    require('./whatsapp_server.js');
    require('./server/engine').loadEngine(null);
    require('./server/numbers').loadPlans();
    process.stdout.write(JSON.stringify(Object.keys(require.cache)));
`;

/**
 * The module that a file belongs to, as package-lock.json names it; null for our own files.
 *
 * @param {string} file
 */
function moduleOf(file) {
    const place = path.relative(ROOT, file);
    const end = place.lastIndexOf(FOLDER) + FOLDER.length;
    if (end < FOLDER.length) return null;
    const [scope, name] = place.slice(end).split(path.sep);
    return place.slice(0, end) + (scope.startsWith('@') ? `${scope}/${name}` : scope);
}

it('ships each module that a server loads, and no other', () => {
    // What a server loads later, with a browser, is none: session.test.js.
    const files = JSON.parse(execFileSync(process.execPath, ['-e', LOADED], { cwd: ROOT, encoding: 'utf8' }));
    // `debug` takes a colour module of the linters' where there is one; no package has that.
    const { packages } = JSON.parse(fs.readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8'));
    const loaded = new Set(
        files.map(moduleOf).filter((/** @type {string|null} */ name) => name !== null && !packages[name].dev),
    );
    const listed = fs
        .readFileSync(path.join(ROOT, 'tools', 'shipped-modules.txt'), 'utf8')
        .split('\n')
        .filter((line) => line !== '' && !line.startsWith('#'));
    assert.deepEqual(listed, [...loaded].sort());
});

it('has no module of the server that needs one by which it is needed', () => {
    const folder = path.join(ROOT, 'server');
    const needs = new Map();
    for (const file of fs.readdirSync(folder).filter((name) => name.endsWith('.js'))) {
        const text = fs.readFileSync(path.join(folder, file), 'utf8');
        // A type counts as well: who knows another's class depends on it.
        const found = text.matchAll(/\b(?:require|import)\('\.\/([a-z_]+)'\)/g);
        needs.set(
            file.slice(0, -3),
            [...found].map(([, name]) => name),
        );
    }
    assert.ok(needs.get('session').includes('browser_run'), 'what a module needs is found');
    const done = new Set();
    /** @param {string} name @param {string[]} way */
    const follow = (name, way) => {
        assert.ok(!way.includes(name), `a circle: ${[...way, name].join(' > ')}`);
        if (done.has(name)) return;
        for (const next of needs.get(name) ?? []) follow(next, [...way, name]);
        done.add(name);
    };
    for (const name of needs.keys()) follow(name, []);
});

'use strict';

/** A library that is loaded from its compiled form is the same library, and what does not fit is not used. */

const assert = require('node:assert/strict');
const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');

const { ROOT, scratch } = require('./support/process');
const { link, start } = require('./support/session');
const { startStandIn } = require('./support/standin');

const ENGINE_JS = path.join(ROOT, 'server/engine.js');
const FILE = `bundled-${process.version}.code`;

/** Load the bundled library in a process of its own; `flags` are for node. */
function loaded(compiled, { flags = [], env = {} } = {}) {
    const program = `
        const { loadEngine, MEMBERS } = require(${JSON.stringify(ENGINE_JS)});
        const { compiled, library, Client, connect } = loadEngine(null, ${JSON.stringify(compiled)});
        const files = Object.keys(require.cache).filter((file) => file.includes('node_modules')).length;
        const all = MEMBERS.Client.every((name) => typeof Client.prototype[name] === 'function');
        console.log(JSON.stringify({ compiled, library, files, all, connect: typeof connect }));
    `;
    const told = execFileSync(process.execPath, [...flags, '-e', program], {
        env: { PATH: process.env.PATH, ...env },
        encoding: 'utf8',
    });
    return JSON.parse(told);
}

/** A folder with what a file of the compiled library becomes by `change`. */
function changed(t, file, change) {
    const folder = scratch(t);
    fs.writeFileSync(path.join(folder, FILE), change(fs.readFileSync(file)));
    return folder;
}

describe('a compiled library', () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'compiled-'));
    const file = path.join(folder, FILE);

    after(() => fs.rmSync(folder, { recursive: true }));
    before(() => {
        fs.writeFileSync(file, execFileSync(process.execPath, [ENGINE_JS, '--compile'], { maxBuffer: 1e8 }));
    });

    it('is used, and is the same', () => {
        const plain = loaded(null);
        const fast = loaded(folder);
        assert.deepEqual(fast, { ...plain, compiled: true });
        assert.equal(plain.compiled, false);
        assert.ok(plain.all);
    });

    it('is not used if it is cut short, of other packages, or not ours at all', (t) => {
        const inText = (bytes) => bytes.subarray(0, 100_000);
        const inCode = (bytes) => bytes.subarray(0, bytes.length - 1000);
        const ofOthers = (bytes) => {
            const copy = Buffer.from(bytes);
            const at = copy.indexOf(process.versions.v8);
            copy.write('0', at);
            return copy;
        };
        for (const change of [inText, inCode, ofOthers, () => Buffer.alloc(0), () => Buffer.from('{}{}{}')]) {
            const { compiled, all } = loaded(changed(t, file, change));
            assert.equal(compiled, false, change.name);
            assert.ok(all, 'loaded from the files of the library');
        }
    });

    it('is not used by a V8 that is set otherwise, or where it is turned off', () => {
        assert.equal(loaded(folder, { flags: ['--stack-size=900'] }).compiled, false);
        assert.equal(loaded(folder, { env: { WAPORTD_WITHOUT: 'compiled' } }).compiled, false);
    });

    it('serves a whole session', async (t) => {
        const site = await startStandIn(scratch(t));
        t.after(() => site.stop());
        const server = await start(t, site, { env: { WAPORTD_COMPILED: folder } });
        const events = server.follow();
        await server.post('/qr/new');
        await link(site, events);
        const sent = await server.post('/send', { phone: '+55 11 98888-7777', message: 'at nine' });
        assert.equal(sent.status, 200);
        assert.match(server.output, /library loaded.* compiled=true/);
    });
});

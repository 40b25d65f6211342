'use strict';

const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { describe, it } = require('node:test');
const { promisify } = require('node:util');

const { SessionError } = require('../../server/errors');
const { Storage } = require('../../server/storage');
const { scratch } = require('./support/process');

/** @param {import('node:test').TestContext} t */
function newStorage(t) {
    const directory = scratch(t);
    const config = {
        authDirectory: path.join(directory, '.wwebjs_auth_5002'),
        cacheDirectory: path.join(directory, '.wwebjs_cache_5002'),
        clientId: 'waportd_5002',
    };
    return { storage: new Storage(config), again: () => new Storage(config), directory, ...config };
}

const mode = (/** @type {string} */ file) => (fs.statSync(file).mode & 0o777).toString(8);

describe('the storage', () => {
    it('knows whether a login is stored, and when it cannot know', async (t) => {
        const { storage, again } = newStorage(t);
        assert.equal(await storage.login(), false);
        await storage.noteLogin(true);
        assert.equal(await again().login(), false, 'no profile, no login');
        await storage.prepare();
        assert.equal(await again().login(), true);
        await storage.noteLogin(false);
        assert.equal(await again().login(), false);
        await storage.noteLogin('unknown');
        assert.equal(
            await again().login(),
            'unknown',
            'a profile of another program, or of a crash while linking',
        );
    });

    it('does not take a login that it cannot read for none', async (t) => {
        const { storage, authDirectory } = newStorage(t);
        fs.writeFileSync(authDirectory, 'a file, not a folder');
        await assert.rejects(storage.login(), { cause: 'profile_error' });
    });

    it('is private, also where another program made it', async (t) => {
        const { storage, authDirectory, cacheDirectory } = newStorage(t);
        fs.mkdirSync(authDirectory, { mode: 0o755 });
        await storage.prepare();
        await storage.noteLogin(true);
        assert.deepEqual([mode(authDirectory), mode(cacheDirectory)], ['700', '700']);
        assert.equal(mode(path.join(authDirectory, 'login.json')), '600');
    });

    it('empties a cache that has outgrown its limit, and never touches the login', async (t) => {
        const { authDirectory, cacheDirectory, clientId, directory } = newStorage(t);
        const within = new Storage({ authDirectory, cacheDirectory, clientId, cacheMax: 3000 });
        const over = new Storage({ authDirectory, cacheDirectory, clientId, cacheMax: 2999 });
        const off = new Storage({ authDirectory, cacheDirectory, clientId, cacheMax: Infinity });
        await within.prepare();
        await within.noteLogin(true);
        const login = path.join(within.profile, 'Default', 'IndexedDB');
        fs.mkdirSync(login, { recursive: true });
        fs.writeFileSync(path.join(login, 'keys'), Buffer.alloc(10_000, 1));
        fs.writeFileSync(path.join(directory, 'elsewhere'), Buffer.alloc(10_000, 1));
        const deep = path.join(cacheDirectory, 'Default', 'Cache');
        fs.mkdirSync(deep, { recursive: true });
        fs.writeFileSync(path.join(deep, 'one'), Buffer.alloc(2000, 1));
        fs.writeFileSync(path.join(cacheDirectory, 'two'), Buffer.alloc(1000 - 9, 1));
        fs.symlinkSync('elsewhere', path.join(cacheDirectory, 'link'));
        assert.equal(await off.trimCache(), false);
        assert.equal(await within.trimCache(), false, 'as much as it may have; of a link its own length');
        assert.ok(fs.existsSync(path.join(deep, 'one')));

        assert.equal(await over.trimCache(), true);
        assert.deepEqual(fs.readdirSync(cacheDirectory), []);
        assert.equal(mode(cacheDirectory), '700');
        assert.equal(fs.statSync(path.join(login, 'keys')).size, 10_000);
        assert.equal(fs.statSync(path.join(directory, 'elsewhere')).size, 10_000);
        assert.equal(await over.login(), true);
        assert.equal(await over.trimCache(), false);
    });

    it('measures login, cache and journal, each alone, and nothing that links lead to', async (t) => {
        const { storage, cacheDirectory, directory } = newStorage(t);
        assert.deepEqual(await storage.sizes(), { login: 0, cache: 0, journal: 0, snapshots: 0 });
        await storage.prepare();
        fs.mkdirSync(path.join(storage.profile, 'Default'));
        fs.mkdirSync(path.join(storage.authDirectory, 'messages'));
        fs.writeFileSync(path.join(storage.authDirectory, 'messages', 'some.log'), Buffer.alloc(400));
        fs.writeFileSync(path.join(storage.profile, 'Default', 'keys'), Buffer.alloc(10_000));
        fs.writeFileSync(path.join(cacheDirectory, 'one'), Buffer.alloc(2000));
        fs.writeFileSync(path.join(directory, 'elsewhere'), Buffer.alloc(50_000));
        fs.symlinkSync(directory, path.join(cacheDirectory, 'all'));
        fs.symlinkSync('/', path.join(storage.profile, 'root'));
        const links = directory.length + 1;
        assert.deepEqual(await storage.sizes(), {
            login: 10_000 + 1,
            cache: 2000 + links - 1,
            journal: 400,
            snapshots: 0,
        });
    });

    it('measures copies of the login apart, and what they share once', async (t) => {
        const { storage } = newStorage(t);
        await storage.prepare();
        for (const number of ['1', '2']) {
            fs.mkdirSync(path.join(storage.authDirectory, 'snapshots', number), { recursive: true });
        }
        const [first, second] = ['1', '2'].map((number) =>
            path.join(storage.authDirectory, 'snapshots', number, 'table'),
        );
        fs.writeFileSync(first, Buffer.alloc(3_000));
        fs.linkSync(first, second);
        fs.mkdirSync(path.join(storage.authDirectory, 'damaged-login'));
        fs.writeFileSync(path.join(storage.authDirectory, 'damaged-login', 'table'), Buffer.alloc(500));
        assert.deepEqual(await storage.sizes(), { login: 0, cache: 0, journal: 0, snapshots: 3_500 });
    });

    it('does not count files without end', async (t) => {
        const { storage, ...config } = newStorage(t);
        await storage.prepare();
        for (let number = 0; number < 60; number += 1)
            fs.writeFileSync(path.join(config.cacheDirectory, `${number}`), '1');
        const few = new Storage({ ...config, maxFiles: 40 });
        assert.deepEqual(await few.sizes(), { login: 0, cache: 41, journal: 0, snapshots: 0 });
    });

    it('can be prepared again before an earlier time is done, and leaves nothing of that', async (t) => {
        const { storage, authDirectory } = newStorage(t);
        await Promise.all(Array.from({ length: 20 }, () => storage.prepare()));
        assert.deepEqual(fs.readdirSync(authDirectory), ['session-waportd_5002']);
    });

    it('drops the lock of another host and keeps that of its own', async (t) => {
        const { storage } = newStorage(t);
        await storage.prepare();
        const lock = path.join(storage.profile, 'SingletonLock');
        fs.symlinkSync(`${os.hostname()}-1`, lock);
        await storage.prepare();
        assert.equal(fs.readlinkSync(lock), `${os.hostname()}-1`);
        fs.rmSync(lock);
        fs.symlinkSync('some-other-host-1', lock);
        fs.writeFileSync(path.join(storage.profile, 'SingletonCookie'), '');
        await storage.prepare();
        assert.deepEqual(fs.readdirSync(storage.profile), []);
    });

    it('erases everything of the session and nothing beside it', async (t) => {
        const { storage, directory } = newStorage(t);
        fs.writeFileSync(path.join(directory, '.browser'), '{}');
        await storage.prepare();
        await storage.noteLogin(true);
        fs.writeFileSync(path.join(storage.profile, 'Cookies'), 'x');
        await storage.erase();
        assert.deepEqual(fs.readdirSync(directory), ['.browser']);
    });

    it('finishes a deletion that a crash interrupted', async (t) => {
        const { storage, again, authDirectory, directory } = newStorage(t);
        await storage.prepare();
        fs.writeFileSync(path.join(authDirectory, 'login.json'), '{"linked":false,"erase":true}');
        assert.equal(await again().login(), false);
        assert.deepEqual(fs.readdirSync(directory), []);
    });

    it('says that the disk is full, and can still erase what is there', async (t) => {
        // A small disk of its own, in a namespace of its own: an ordinary user may have both.
        const mount = 'mount -t tmpfs -o size=1m tmpfs "$1" && shift && exec "$@"';
        const inside = path.join(__dirname, 'support', 'full-disk.js');
        const args = ['-Urm', 'sh', '-ec', mount, 'sh', scratch(t), process.execPath, inside];
        const { stdout } = await promisify(execFile)('unshare', [...args, args[5]]);
        assert.deepEqual(JSON.parse(stdout), { prepared: 'disk_full', noted: 'disk_full', left: ['filler'] });
    });

    it('says that its folder was deleted while it is mounted, and does not wait for ever', async (t) => {
        const mount = 'mkdir "$1" "$1.gone"; mount --bind "$1.gone" "$1"; rmdir "$1.gone"; shift; exec "$@"';
        const inside = path.join(__dirname, 'support', 'deleted-folder.js');
        const folder = path.join(scratch(t), 'session');
        const args = ['-Urm', 'sh', '-ec', mount, 'sh', folder, process.execPath, inside, folder];
        const { stdout } = await promisify(execFile)('unshare', args, { timeout: 20_000 });
        assert.deepEqual(JSON.parse(stdout), { prepared: 'profile_missing', noted: 'profile_missing' });
    });

    it('says what is wrong with a folder that cannot be used', async (t) => {
        const { storage, authDirectory } = newStorage(t);
        fs.writeFileSync(authDirectory, 'a file');
        await assert.rejects(storage.prepare(), (error) => {
            assert.ok(error instanceof SessionError);
            assert.equal(error.cause, 'profile_error');
            assert.ok(error.message.includes(authDirectory) && error.hint);
            return true;
        });
    });
});

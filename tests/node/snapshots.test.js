'use strict';

/** Snapshots of a login on the disk, and what happens to one that is torn. */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { it } = require('node:test');

const { Snapshots } = require('../../server/snapshots');
const { scratch } = require('./support/process');

const DATABASE = 'Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb';
const LOCAL = 'Default/Local Storage/leveldb';
const HOUR_MS = 3_600_000;

/** A profile with a login in it. */
function profileOf(t) {
    const authDirectory = path.join(scratch(t), 'auth');
    const profile = path.join(authDirectory, 'session-x_1');
    const files = {
        [`${DATABASE}/CURRENT`]: 'MANIFEST-000001\n',
        [`${DATABASE}/MANIFEST-000001`]: 'manifest',
        [`${DATABASE}/000003.log`]: 'log',
        [`${DATABASE}/000005.ldb`]: 'table',
        [`${DATABASE}/LOCK`]: '',
        [`${DATABASE}/LOG`]: 'what LevelDB says',
        [`${LOCAL}/000003.log`]: 'local',
        'Default/Preferences': '{}',
        'Default/Cache/f_1': 'a picture',
    };
    for (const [name, text] of Object.entries(files)) write(profile, name, text);
    return { authDirectory, profile };
}

/** Write a file as one that was written an hour ago. */
function write(profile, name, text) {
    const file = path.join(profile, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text);
    const then = (Date.now() - HOUR_MS) / 1000;
    fs.utimesSync(file, then, then);
}

const read = (folder, name) => fs.readFileSync(path.join(folder, name), 'utf8');
const atRest = (work) => work();

/** Have the newest snapshot be older than those that are given again. */
function age(snapshot) {
    const file = path.join(snapshot.folder, 'snapshot.json');
    const description = JSON.parse(fs.readFileSync(file, 'utf8'));
    fs.writeFileSync(file, JSON.stringify({ ...description, at: description.at - 60_000 }));
}

it('holds the login, and nothing else', async (t) => {
    const storage = profileOf(t);
    const snapshots = new Snapshots(storage, 2);
    assert.equal(await snapshots.newest(), null);
    const taken = await snapshots.take(atRest);
    assert.deepEqual(
        Object.keys(taken.files).sort(),
        ['000003.log', '000005.ldb', 'CURRENT', 'MANIFEST-000001']
            .map((name) => `${DATABASE}/${name}`)
            .concat(`${LOCAL}/000003.log`)
            .sort(),
    );
    assert.equal(read(taken.folder, `${DATABASE}/000003.log`), 'log');
    assert.ok(await snapshots.isWhole(taken));
    assert.deepEqual(await snapshots.newest(), taken);
    assert.equal(fs.statSync(path.dirname(taken.folder)).mode & 0o077, 0);
});

it('holds what is there while the browser stands still, not what was there before', async (t) => {
    const storage = profileOf(t);
    const snapshots = new Snapshots(storage, 2);
    const taken = await snapshots.take((work) => {
        fs.appendFileSync(path.join(storage.profile, DATABASE, '000003.log'), ', and more');
        write(storage.profile, `${DATABASE}/000007.ldb`, 'newer');
        fs.rmSync(path.join(storage.profile, DATABASE, '000005.ldb'));
        return work();
    });
    assert.equal(read(taken.folder, `${DATABASE}/000003.log`), 'log, and more');
    assert.equal(read(taken.folder, `${DATABASE}/000007.ldb`), 'newer');
    assert.ok(!fs.existsSync(path.join(taken.folder, DATABASE, '000005.ldb')));
    assert.ok(await snapshots.isWhole(taken));
});

it('copies again what was written in the moment in which it was copied, and looks the same', async (t) => {
    const storage = profileOf(t);
    const file = path.join(storage.profile, DATABASE, '000003.log');
    fs.writeFileSync(file, 'one');
    const { atime, mtime } = fs.statSync(file);
    const taken = await new Snapshots(storage, 2).take((work) => {
        fs.writeFileSync(file, 'two');
        fs.utimesSync(file, atime, mtime);
        return work();
    });
    assert.equal(read(taken.folder, `${DATABASE}/000003.log`), 'two');
});

it('shares with the one before what has not changed, and never with the browser', async (t) => {
    const storage = profileOf(t);
    const snapshots = new Snapshots(storage, 2);
    const first = await snapshots.take(atRest);
    age(first);
    fs.appendFileSync(path.join(storage.profile, DATABASE, '000003.log'), ', and more');
    const second = await snapshots.take(atRest);
    const inode = (folder, name) => fs.statSync(path.join(folder, DATABASE, name)).ino;
    assert.equal(inode(second.folder, '000005.ldb'), inode(first.folder, '000005.ldb'));
    assert.notEqual(inode(second.folder, '000005.ldb'), inode(storage.profile, '000005.ldb'));
    assert.notEqual(inode(second.folder, '000003.log'), inode(first.folder, '000003.log'));
    assert.equal(read(first.folder, `${DATABASE}/000003.log`), 'log');
});

it('keeps so many, and those the newest', async (t) => {
    const storage = profileOf(t);
    const snapshots = new Snapshots(storage, 2);
    for (const text of ['a', 'b', 'c']) {
        write(storage.profile, `${LOCAL}/000003.log`, text);
        age(await snapshots.take(atRest));
    }
    const kept = fs.readdirSync(path.join(storage.authDirectory, 'snapshots')).sort();
    assert.deepEqual(kept, ['2', '3']);
});

it('is one and the same for all who ask at once', async (t) => {
    const snapshots = new Snapshots(profileOf(t), 2);
    const taken = await Promise.all([snapshots.take(atRest), snapshots.take(atRest)]);
    assert.equal(taken[0].folder, taken[1].folder);
    assert.equal((await snapshots.take(atRest)).folder, taken[0].folder);
});

it('is none where the copy fails: the one before stays', async (t) => {
    const storage = profileOf(t);
    const snapshots = new Snapshots(storage, 2);
    const first = await snapshots.take(atRest);
    age(first);
    const gone = () => Promise.reject(new Error('the browser has gone'));
    await assert.rejects(snapshots.take(gone), /the browser has gone/);
    assert.equal((await snapshots.newest()).folder, first.folder);
    fs.rmSync(path.join(storage.profile, 'Default'), { recursive: true });
    assert.equal(await snapshots.take(atRest), null);
    assert.equal((await snapshots.newest()).folder, first.folder);
});

it('takes the place of a damaged login, once, until a login was good', async (t) => {
    const storage = profileOf(t);
    const snapshots = new Snapshots(storage, 2);
    await snapshots.take(atRest);
    fs.rmSync(path.join(storage.profile, DATABASE), { recursive: true });
    write(storage.profile, `${DATABASE}/CURRENT`, 'empty');
    const restored = await snapshots.restore();
    assert.equal(read(storage.profile, `${DATABASE}/000003.log`), 'log');
    assert.equal(read(storage.profile, 'Default/Preferences'), '{}');
    assert.equal(read(storage.authDirectory, `damaged-login/${DATABASE}/CURRENT`), 'empty');
    assert.ok(restored.at <= Date.now());
    assert.notEqual((await snapshots.times()).restoredAt, null);
    // The browser writes in its own files.
    fs.writeFileSync(path.join(storage.profile, DATABASE, '000003.log'), 'overwritten');
    assert.ok(await snapshots.isWhole(restored));
    assert.equal(await snapshots.restore(), null);
    await snapshots.confirm();
    assert.ok(!fs.existsSync(path.join(storage.authDirectory, 'damaged-login')));
    assert.notEqual(await snapshots.restore(), null);
});

for (const [what, harm] of Object.entries({
    'a byte of it has changed': (folder) =>
        fs.writeFileSync(path.join(folder, DATABASE, '000003.log'), 'lag'),
    'a file of it is shorter': (folder) => fs.writeFileSync(path.join(folder, DATABASE, '000003.log'), 'l'),
    'a file of it is gone': (folder) => fs.rmSync(path.join(folder, DATABASE, '000003.log')),
    'its description is half': (folder) => fs.writeFileSync(path.join(folder, 'snapshot.json'), '{"version'),
    'its description is gone': (folder) => fs.rmSync(path.join(folder, 'snapshot.json')),
})) {
    it(`is not used if ${what}: the one before it is`, async (t) => {
        const storage = profileOf(t);
        const snapshots = new Snapshots(storage, 2);
        age(await snapshots.take(atRest));
        write(storage.profile, `${DATABASE}/000003.log`, 'law');
        const second = await snapshots.take(atRest);
        harm(second.folder);
        const restored = await snapshots.restore();
        assert.equal(read(storage.profile, `${DATABASE}/000003.log`), 'log');
        assert.notEqual(restored.folder, second.folder);
    });
}

it('is forgotten with the login it is of', async (t) => {
    const storage = profileOf(t);
    const snapshots = new Snapshots(storage, 2);
    await snapshots.take(atRest);
    await snapshots.forget();
    assert.deepEqual(await snapshots.times(), { at: null, restoredAt: null });
    assert.equal(await snapshots.restore(), null);
});

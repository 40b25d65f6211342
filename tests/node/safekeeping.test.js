'use strict';

/** Real sessions whose login is copied while they run, and one that is damaged: the copy takes its place. */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');

const { Snapshots } = require('../../server/snapshots');
const { freePort, scratch, whenFound } = require('./support/process');
const { browserOf, link, ...whole } = require('./support/session');
const { startStandIn } = require('./support/standin');

const TEXT = { phone: '5511977770001', message: 'good morning' };
const PHONE = '5511999998888';

let standin;
let standinFolder;

before(async () => {
    standinFolder = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
    standin = await startStandIn(standinFolder, ['--shape', 'today']);
});

after(() => {
    standin?.stop();
    if (standinFolder) fs.rmSync(standinFolder, { recursive: true, force: true });
});

/** A place for a session that is started several times. */
async function place(t) {
    return { directory: scratch(t), port: await freePort() };
}

const authOf = ({ directory, port }) => path.join(directory, `.wwebjs_auth_${port}`);
const profileOf = (session) => path.join(authOf(session), `session-waportd_${session.port}`);
const snapshotsOf = (session) =>
    new Snapshots({ authDirectory: authOf(session), profile: profileOf(session) }, 2);

async function stop(server) {
    server.kill('SIGTERM');
    assert.equal(await server.exit(12_000), 0);
}

/** Have the databases be what a disk makes of them that has lost a block of each file. */
function damage(session) {
    const folder = path.join(profileOf(session), 'Default/IndexedDB');
    for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || !/^(CURRENT|MANIFEST|\d)/.test(entry.name)) continue;
        const file = path.join(entry.parentPath ?? entry.path, entry.name);
        fs.writeFileSync(file, Buffer.alloc(fs.statSync(file).size, 0xa5));
    }
}

describe('the login of a session', () => {
    it('is copied while it runs: the session stays ready, and the copy is whole', async (t) => {
        const session = await place(t);
        const { server, events } = await whole.startLinked(t, standin, session);
        const from = events.documents.length;
        const asked = Date.now();
        const taken = await server.post('/snapshot');
        assert.equal(taken.status, 200, taken.text);
        assert.ok(Date.parse(taken.json.snapshot_at) >= asked, taken.text);
        assert.ok(taken.json.bytes > 0);
        const again = await server.post('/snapshot');
        assert.deepEqual(again.json, taken.json, 'who asks soon again gets the same');
        const sent = await server.post('/send', TEXT);
        assert.equal(sent.status, 200, sent.text);
        assert.ok(events.documents.slice(from).every(({ state }) => state === 'ready'));
        const snapshots = snapshotsOf(session);
        assert.ok(await snapshots.isWhole(await snapshots.newest()));
        await events.until(({ storage }) => storage?.snapshot_at === taken.json.snapshot_at, 'its time');
    });

    it('is copied automatically, and once more when the server stops', async (t) => {
        const session = await place(t);
        const env = { WAPORTD_SNAPSHOT_INTERVAL: '1' };
        const { server } = await whole.startLinked(t, standin, { ...session, env });
        const snapshots = snapshotsOf(session);
        const first = await whenFound(() => snapshots.newest(), 'a first snapshot');
        await server.post('/send', TEXT);
        // It is of now as long as it is no older than what is given again.
        const file = path.join(first.folder, 'snapshot.json');
        const description = JSON.parse(fs.readFileSync(file, 'utf8'));
        fs.writeFileSync(file, JSON.stringify({ ...description, at: 0 }));
        await stop(server);
        const last = await snapshots.newest();
        assert.notEqual(last.folder, first.folder);
        assert.ok(await snapshots.isWhole(last));
    });

    it('is not copied where that is off, not even when the server stops', async (t) => {
        const session = await place(t);
        const env = { WAPORTD_SNAPSHOT_INTERVAL: '0' };
        const { server } = await whole.startLinked(t, standin, { ...session, env });
        await stop(server);
        assert.equal(await snapshotsOf(session).newest(), null);
    });

    it('is replaced by its copy where it is damaged: nobody scans again', async (t) => {
        const session = await place(t);
        const linked = await whole.startLinked(t, standin, session);
        await stop(linked.server);
        assert.notEqual(await snapshotsOf(session).newest(), null, 'a last copy');
        damage(session);
        const server = await whole.start(t, standin, session);
        const events = server.follow();
        const { phone_number: phone } = await events.until('ready', 'ready again', { limit: 60_000 });
        assert.equal(phone, PHONE);
        assert.ok(
            events.documents.every(({ qr }) => qr === null),
            'no code was shown',
        );
        assert.match(server.output, /the login was damaged; a snapshot takes its place of=20/);
        const { storage } = await events.until(({ storage: kept }) => kept?.restored_at, 'that it is told');
        assert.ok(Date.parse(storage.restored_at) > Date.now() - 120_000);
        const sent = await server.post('/send', TEXT);
        assert.equal(sent.status, 200, sent.text);
    });

    it('is given up where the copy is of no use either: a code is shown, and the profile kept', async (t) => {
        const session = await place(t);
        const linked = await whole.startLinked(t, standin, session);
        await stop(linked.server);
        damage(session);
        const { folder } = await snapshotsOf(session).newest();
        fs.rmSync(path.join(folder, 'Default/IndexedDB'), { recursive: true });
        const server = await whole.start(t, standin, session);
        const events = server.follow();
        await server.post('/qr/new');
        await events.until('qr', 'a code', { limit: 60_000 });
        assert.ok(fs.existsSync(profileOf(session)));
        assert.doesNotMatch(server.output, /a snapshot takes its place/);
    });

    it('leaves no copy behind when somebody logs out, not even one that is being made', async (t) => {
        const session = await place(t);
        const { server } = await whole.startLinked(t, standin, session);
        const [, left] = await Promise.all([server.post('/snapshot'), server.post('/disconnect')]);
        assert.equal(left.status, 200, left.text);
        assert.equal(await server.exit(12_000), 10);
        assert.ok(!fs.existsSync(path.join(authOf(session), 'snapshots')));
    });

    it('is not kept for the next phone', async (t) => {
        const session = await place(t);
        const { server } = await whole.startLinked(t, standin, session);
        await server.post('/snapshot');
        const old = await snapshotsOf(session).newest();
        await stop(server);
        // As after a login that was given up.
        fs.rmSync(profileOf(session), { recursive: true });
        const next = await whole.start(t, standin, session);
        const events = next.follow();
        await next.post('/qr/new');
        await link(standin, events, '5511999997777');
        assert.ok(browserOf(next) > 0);
        await whenFound(async () => !fs.existsSync(old.folder), 'the end of the old copies');
    });
});

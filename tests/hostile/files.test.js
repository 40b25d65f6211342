'use strict';

/** What a user's server finds on its disk and in its environment: damaged, doubled, of others, or made up. */

const assert = require('node:assert/strict');
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

const { ConfigError, VARIABLES, readConfig } = require('../../server/config');
const { SessionError } = require('../../server/errors');
const { Journal, JournalError } = require('../../server/journal');
const { crc32 } = require('../../server/records');
const { Recovery } = require('../../server/recovery');
const { Sends } = require('../../server/sends');
const { Storage } = require('../../server/storage');
const { event } = require('../node/support/journal');
const { fuzz } = require('./fuzz');

const quiet = { error() {}, warning() {}, info() {}, debug() {} };
const SECRET = 'Zx9-never-to-be-seen';
const HOUR_MS = 3_600_000;

const top = fs.mkdtempSync('/tmp/waportd-fuzz-');
process.once('exit', () => fs.rmSync(top, { recursive: true, force: true }));
let folders = 0;
const newFolder = () => {
    folders += 1;
    return path.join(top, String(folders));
};

// ---- the journal ------------------------------------------------------------------------------------

const EVENTS = 40;
const OPTIONS = { maxAge: 86_400, maxBytes: 1 << 20, log: quiet, segmentBytes: 1500 };
const original = newFolder();
const events = Array.from({ length: EVENTS }, (_, index) => event(`${index}`));
const originals = new Map(events.map((each) => [each.event_id, each]));

/** Have a journal of some segments, of which each kind of record is in one. */
async function writeOriginal() {
    const journal = await Journal.open({ ...OPTIONS, directory: path.join(original, 'messages') });
    const entries = [];
    for (const each of originals.values()) entries.push(await journal.append(each));
    entries.forEach(({ cursor }, index) => index % 3 === 0 && journal.settle(cursor, 'delivered'));
    journal.settle(entries[1].cursor, 'undelivered');
    journal.amend(entries[2].cursor, { phone: '5511' });
    await journal.advance({ from: 1 });
    await journal.close();
}

/** A record that is whole, of whatever is in it, as the series of these files has it. */
function record(series, value) {
    const json = Buffer.from(JSON.stringify(value));
    const name = Buffer.from(series, 'latin1');
    const sum = crc32(json, 0, json.length, crc32(name, 0, name.length));
    const head = `${sum.toString(16).padStart(8, '0')} ${json.length} `;
    return Buffer.concat([Buffer.from(head), json, Buffer.from('\n')]);
}

const odd = (chance) => {
    const number = () => chance.pick([1, 5, -1, 'x', null]);
    return chance.pick([
        () => ({ entry: number(), at: number(), event: chance.pick([event('odd'), {}, null]) }),
        () => ({ settle: number(), state: chance.pick([0, 1, 2, 3, 9, 'x']) }),
        () => ({ amend: number(), members: chance.json() }),
        () => ({ mark: chance.json(), last: number() }),
        () => chance.json(),
    ])();
};

/** Ways in which a folder of files comes to harm. Each names what it does to which file. */
const HARMS = ['damage', 'cut', 'double', 'swap', 'remove', 'folder', 'foreign', 'place', 'append', 'empty'];
const harms = (chance) =>
    Array.from({ length: 1 + chance.upTo(3) }, () => ({
        what: chance.pick(HARMS),
        file: chance.upTo(1000),
        other: chance.upTo(1000),
        records: chance.some(3, () => odd(chance)),
    }));

/** A folder in the place of another series' file once kept all that came after it from the disk. */
const FOLDER_OF_OTHERS = [{ what: 'place', file: 0, other: 0, records: [] }];

function harm(directory, { what, file, other, records }, chance) {
    const names = fs.readdirSync(directory).sort();
    if (names.length === 0) return;
    const [one, two] = [file, other].map((index) => path.join(directory, names[index % names.length]));
    if (!fs.statSync(one).isFile() || !fs.statSync(two).isFile()) return;
    const bytes = fs.readFileSync(one);
    const [, number, series, kind] = /(\d+)-(\w+)\.(\w+)$/.exec(one) ?? [];
    const copy = path.join(directory, `${String(other).padStart(8, '0')}-${series}.${kind}`);
    const foreign = path.join(directory, `${number}-${'a'.repeat(8)}.log`);
    const more = () => Buffer.concat(records.map((each) => record(series ?? 'x', each)));
    const work = {
        damage: () => fs.writeFileSync(one, chance.damaged(bytes)),
        cut: () => fs.truncateSync(one, chance.upTo(bytes.length)),
        double: () => fs.writeFileSync(copy, bytes),
        swap: () => fs.copyFileSync(two, one),
        remove: () => fs.rmSync(one),
        folder: () => fs.rmSync(one) ?? fs.mkdirSync(one),
        foreign: () => fs.writeFileSync(foreign, bytes),
        place: () => fs.existsSync(foreign) || fs.mkdirSync(foreign),
        append: () => fs.appendFileSync(one, more()),
        empty: () => fs.truncateSync(one, 0),
    };
    try {
        work[what]();
    } catch (error) {
        // Its place is that of a folder by now.
        if (error.code !== 'EISDIR') throw error;
    }
}

/** Read all there is, as a web app does that fetches. */
async function readAll(journal) {
    const entries = [];
    let position = null;
    for (let pages = 0; ; pages += 1) {
        assert.ok(pages < 500, 'reading has no end');
        const page = await journal.read({ after: position, limit: 7 });
        entries.push(...page.entries);
        if (!page.more) return entries;
        position = page.next;
    }
}

fuzz('a journal that came to harm is read as far as it is whole, and written on', {
    times: 25,
    before: writeOriginal,
    make: harms,
    examples: [FOLDER_OF_OTHERS],
    async check(all, chance) {
        const directory = path.join(newFolder(), 'messages');
        fs.cpSync(path.join(original, 'messages'), directory, { recursive: true });
        for (const each of all) harm(directory, each, chance);
        const journal = await Journal.open({ ...OPTIONS, directory });
        try {
            for (const { event: found } of await readAll(journal)) {
                const { phone, ...rest } = found ?? {};
                const known = originals.get(found?.event_id);
                if (known === undefined || all.some(({ what }) => what === 'append')) continue;
                assert.deepEqual(rest, known, 'an event is another one');
                assert.ok(phone === undefined || phone === '5511');
            }
            for (const state of ['pending', 'undelivered']) await journal[state]({ limit: 5 });
            await journal.has('message:1');
            await journal.reopen({ all: true });
            for (const count of ['entries', 'bytes', 'pending', 'undelivered']) {
                assert.ok(journal.counts[count] >= 0, `${count}: ${journal.counts[count]}`);
            }
            const { cursor, isNew } = await journal.append(event('after'));
            assert.ok(isNew);
            assert.equal((await journal.get(cursor)).event.event_id, 'message:after');
            assert.equal((await readAll(journal)).at(-1).event.event_id, 'message:after');
            assert.equal((await journal.append(event('after'))).cursor, cursor, 'it is one');
            await journal.close();
            const again = await Journal.open({ ...OPTIONS, directory });
            assert.equal((await again.get(cursor))?.event.event_id, 'message:after', 'it is kept');
            await again.close();
        } finally {
            await journal.close();
            fs.rmSync(path.dirname(directory), { recursive: true, force: true });
        }
    },
});

fuzz('any text is a cursor of the journal, or refused as one that is gone', {
    times: 200,
    make: (chance) => chance.pick([chance.text(), chance.json(), `${chance.text()}-${chance.upTo(9)}`]),
    async check(cursor) {
        const journal = new Journal({ ...OPTIONS, directory: path.join(top, 'none') });
        await journal.load();
        const refused = (error) => assert.ok(error instanceof JournalError, error.stack);
        await journal.read({ after: cursor }).catch(refused);
        assert.equal(await journal.get(cursor), null);
        journal.settle(cursor, 'delivered');
        assert.deepEqual(await journal.reopen({ cursor }), []);
        await journal.close();
    },
});

// ---- other files ------------------------------------------------------------------------------------

fuzz('sends of which a file is damaged are known as far as it is whole, and kept on', {
    times: 20,
    make: (chance) => ({ seed: chance.upTo(99), lines: chance.some(3, () => chance.json()) }),
    async check({ lines }, chance) {
        const directory = path.join(newFolder(), 'messages');
        const sends = new Sends({ directory, log: quiet });
        for (const key of ['a', 'b', 'constructor']) {
            await sends.begin({ key, print: 'p', chat: '1@c.us', id: `true_1@c.us_${key}` });
        }
        await sends.close();
        const file = path.join(directory, 'sends');
        const whole = lines.map((each) => {
            const text = JSON.stringify(each);
            return `${createHash('sha256').update(text).digest('hex').slice(0, 12)} ${text}\n`;
        });
        const bytes = fs.readFileSync(file);
        const kept = chance.once(2) ? chance.damaged(bytes) : bytes;
        fs.writeFileSync(file, Buffer.concat([kept, Buffer.from(whole.join(''))]));
        const again = new Sends({ directory, log: quiet });
        for (const key of ['a', 'b', 'constructor', '__proto__', 'x']) {
            const found = again.find(key);
            if (found?.print !== undefined) assert.equal(typeof found, 'object');
        }
        again.copies();
        again.has('true_1@c.us_a');
        await again.begin({ key: 'new', print: 'p', chat: '1@c.us', id: 'true_1@c.us_new' });
        await again.close();
        assert.equal(new Sends({ directory, log: quiet }).find('new').id, 'true_1@c.us_new');
        fs.rmSync(path.dirname(directory), { recursive: true, force: true });
    },
});

const note = (chance) =>
    chance.pick([
        () => chance.bytes(40),
        () => JSON.stringify(chance.json()),
        () => JSON.stringify(chance.shaped({ linked: (each) => each.pick([true, false, 'unknown']) })),
        () =>
            JSON.stringify(
                chance.shaped({
                    at: () => Date.now() - chance.upTo(HOUR_MS),
                    round: (each) => each.pick([0, 3, 40, 2 ** 53, 1e300]),
                    starts: (each) => each.some(4, () => each.pick([0, 1e9, -1e9, 1e308, 'x'])),
                }),
            ),
    ])();

fuzz('whatever stands in the notes of a session, it is a login, none, or unknown, and waits for no year', {
    times: 50,
    make: (chance) => ({
        login: note(chance),
        trouble: note(chance),
        hasProfile: chance.once(2),
        isFolder: chance.once(9),
    }),
    async check({ login, trouble, hasProfile, isFolder }) {
        const folder = newFolder();
        const authDirectory = path.join(folder, 'auth');
        fs.mkdirSync(path.join(authDirectory, hasProfile ? 'session-x' : 'other'), { recursive: true });
        if (isFolder) fs.mkdirSync(path.join(authDirectory, 'login.json'));
        else fs.writeFileSync(path.join(authDirectory, 'login.json'), login);
        fs.writeFileSync(path.join(authDirectory, 'trouble.json'), trouble);
        const cacheDirectory = path.join(folder, 'cache');
        const storage = new Storage({ authDirectory, cacheDirectory, clientId: 'x' });
        assert.ok([true, false, 'unknown'].includes(await storage.login()));
        const recovery = new Recovery();
        recovery.resume(storage.trouble());
        const { pause: next } = recovery.next('no_start', { linked: true, page: false });
        for (const pause of [recovery.askedIn, next]) {
            assert.ok(pause >= 0 && pause <= HOUR_MS, `a pause of ${pause} ms`);
        }
        recovery.ready();
        // Longer than a timer of node can be, it would be over at once.
        assert.ok(recovery.calmIn < 2 ** 31, `calm in ${recovery.calmIn} ms`);
        const refused = (error) => assert.ok(error instanceof SessionError, error.stack);
        await storage.noteLogin(true).catch(refused);
        fs.rmSync(folder, { recursive: true, force: true });
    },
});

// ---- the environment --------------------------------------------------------------------------------

const KEYS = Object.keys(VARIABLES);
const VALUES = [
    ...['5002', 'true', 'a,b', '60,20', '/usr/bin/x', '{"a":"b"}', '["--x"]', 'http://u:p@h:1', 'none'],
    ...['[]', '{}', '{"__proto__":"x"}', '{"a":1}', 'message,call', 'groups', `whsec_${'A'.repeat(32)}`],
];
const SECRETS = KEYS.filter((key) => /WEBHOOK_(URL|SECRETS|HEADERS)|PROXY/.test(key));

fuzz('any environment is a configuration, or an error that names each variable and no secret', {
    times: 400,
    make: (chance) => {
        const value = () => (chance.once(2) ? chance.pick(VALUES) : chance.text(30));
        const keys = chance.some(6, () => chance.pick(KEYS));
        const env = Object.fromEntries(keys.map((key) => [key, value()]));
        for (const key of SECRETS) if (chance.once(4)) env[key] = `${SECRET}${chance.text(20)}`;
        return { env, args: chance.some(1, () => chance.text(8)) };
    },
    check({ env, args }) {
        try {
            const config = readConfig(env, args, '/x');
            assert.ok(config.port >= 1 && config.port <= 65_535);
            for (const folder of [config.authDirectory, config.cacheDirectory]) {
                assert.ok(folder.startsWith('/x/.wwebjs_'), folder);
            }
            assert.ok(Object.values(config).every((value) => value !== undefined));
        } catch (error) {
            assert.ok(error instanceof ConfigError, error.stack);
            const named = new Set(error.problems.map((line) => line.split(' ')[0]));
            for (const name of named) assert.ok(name in env || name === 'argument', name);
            assert.ok(!error.message.includes(SECRET), 'a secret is repeated');
        }
    },
});

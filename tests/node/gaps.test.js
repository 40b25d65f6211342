'use strict';

/** Messages that come while nobody listens: each is in the journal once, whatever the page said of it. */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { after, before, describe, it } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');

const { Journal } = require('../../server/journal');
const { quiet, readAll } = require('./support/journal');
const { freePort, scratch, whenFound } = require('./support/process');
const { PHONE, browserOf, link, partsOf, start } = require('./support/session');
const { startStandIn } = require('./support/standin');

const CARLA = '5511977770001';
const DAVI = '5521977770009';
/** As long as it may be: what an account has from before is no older. */
const AGE = '31622400';

let folder;
let standin;

before(async () => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
    standin = await startStandIn(folder);
});

after(() => {
    standin?.stop();
    if (folder) fs.rmSync(folder, { recursive: true, force: true });
});

/** What a server's journal has of messages, or other events, as others see it. */
async function journaled({ directory, port }, events = ['message', 'message.sent'], wordsOf = (e) => e.body) {
    const place = path.join(directory, `.wwebjs_auth_${port}`, 'messages');
    const journal = await Journal.open({ directory: place, maxAge: 1e9, maxBytes: 1e9, log: quiet });
    const entries = await readAll(journal, { events });
    await journal.close();
    return entries.map(({ event }) => (event.recovered ? `${wordsOf(event)} *` : wordsOf(event)));
}

/** Wait for a message in the journal, and return what is there then. */
async function untilTold(server, body) {
    return whenFound(
        async () => {
            const told = await journaled(server);
            return told.some((each) => each.startsWith(body)) && told;
        },
        () => `${body} in the journal; the server's output:\n${server.output}`,
    );
}

const say = (phone, body, more = {}) =>
    standin.command('message', { phone, from: CARLA, name: 'Carla', body, ...more });

/** Start a server and have a phone scan its code; `phone` is of this test only. */
async function linked(t, phone, options = {}) {
    const env = { WAPORTD_JOURNAL_AGE: AGE };
    const server = await start(t, standin, { env, ...options });
    const events = server.follow();
    await server.post('/qr/new');
    await link(standin, events, phone);
    return { server, events };
}

const again = async (t, { directory, port }) => {
    const server = await start(t, standin, { directory, port, env: { WAPORTD_JOURNAL_AGE: AGE } });
    const events = server.follow();
    await events.until('ready');
    return { server, events };
};

describe('a message that came', () => {
    it('while the phone was linked is reported, and nothing that was there before', async (t) => {
        const phone = PHONE.replace(/.$/, '1');
        await standin.command('set', { sync_ms: 1500 });
        t.after(() => standin.command('set', { sync_ms: 0 }));
        const server = await start(t, standin, { env: { WAPORTD_JOURNAL_AGE: AGE } });
        const events = server.follow();
        await server.post('/qr/new');
        const { qr } = await events.until('qr');
        await standin.command('scan', { qr, phone, name: 'Ana' });
        await events.until('authenticated');
        const [page] = await standin.pages();
        assert.equal(page.synced, false);
        await say(phone, 'during the login', { offline: false });
        await events.until('ready');
        await untilTold(server, 'during the login');
        await say(phone, 'after it');
        assert.deepEqual(await untilTold(server, 'after it'), ['during the login *', 'after it']);
    });

    it('while the server was stopped, or killed, is reported once', async (t) => {
        const phone = PHONE.replace(/.$/, '2');
        const options = { directory: scratch(t), port: await freePort() };
        const { server } = await linked(t, phone, options);
        await say(phone, 'heard');
        await untilTold(server, 'heard');
        server.kill('SIGTERM');
        assert.equal(await server.exit(), 0);
        const kept = await say(phone, 'while it was stopped');
        assert.equal(kept.taken, false);
        await say(phone, 'and as news', { offline: true });
        const { server: second } = await again(t, options);
        await untilTold(second, 'while it was stopped');
        assert.deepEqual(await untilTold(second, 'and as news'), [
            'heard',
            'while it was stopped *',
            'and as news *',
        ]);
        second.kill('SIGKILL');
        await second.exit();
        await whenFound(async () => (await standin.pages()).every((each) => each.phone !== phone), 'its end');
        await say(phone, 'while it was killed');
        await say(phone, 'of somebody else', { from: DAVI, name: 'Davi' });
        const { server: third } = await again(t, options);
        await untilTold(third, 'while it was killed');
        await untilTold(third, 'of somebody else');
        await say(phone, 'heard again');
        const told = await untilTold(third, 'heard again');
        assert.deepEqual(
            told.filter((body) => body !== 'of somebody else *'),
            ['heard', 'while it was stopped *', 'and as news *', 'while it was killed *', 'heard again'],
        );
        assert.equal(told.length, 6);
    });

    it('has its reactions read back, too, those that were heard and those that were not', async (t) => {
        const phone = PHONE.replace(/.$/, '5');
        const options = { directory: scratch(t), port: await freePort() };
        const { server } = await linked(t, phone, options);
        const { id } = await say(phone, 'what do you think?');
        const reactions = async (place) => {
            const all = await journaled(place, ['message.reaction'], ({ reaction }) => reaction);
            return all.sort();
        };
        const react = (from, text) => standin.command('change', { phone, kind: 'reaction', id, from, text });
        await untilTold(server, 'what do you think?');
        await react(CARLA, '👍');
        await whenFound(async () => (await reactions(server)).length === 1, 'the reaction that is heard');
        server.kill('SIGTERM');
        assert.equal(await server.exit(), 0);
        await react(DAVI, '😀');
        const { server: second } = await again(t, options);
        await whenFound(async () => (await reactions(second)).length > 1, 'the one that was not');
        await say(phone, 'heard again');
        await untilTold(second, 'heard again');
        assert.deepEqual(await reactions(second), ['👍', '😀 *']);
    });

    it('while the page was loaded again is reported once, and before the next of its chat', async (t) => {
        const phone = PHONE.replace(/.$/, '3');
        const { server, events } = await linked(t, phone);
        await say(phone, 'heard');
        await untilTold(server, 'heard');
        await standin.command('set', { sync_ms: 1500 });
        t.after(() => standin.command('set', { sync_ms: 0 }));
        const from = events.documents.length;
        const [{ id }] = (await standin.pages()).filter((each) => each.phone === phone);
        await standin.command('reload-after', { phone, ms: 0 });
        const loads = async () =>
            (await standin.pages()).find((each) => each.phone === phone && each.id !== id && !each.synced);
        await whenFound(loads, 'another page');
        for (const index of [1, 2, 3]) await say(phone, `during the load ${index}`);
        await events.untilBack('the session', { from });
        await say(phone, 'right after it');
        const told = await untilTold(server, 'right after it');
        assert.deepEqual(told, [
            'heard',
            'during the load 1 *',
            'during the load 2 *',
            'during the load 3 *',
            'right after it',
        ]);
    });

    it('at any time is reported once and in its order, whatever ends or is lost', async (t) => {
        const phone = PHONE.replace(/.$/, '4');
        const options = { directory: scratch(t), port: await freePort() };
        let { server, events } = await linked(t, phone, options);
        const people = [CARLA, DAVI, '5521988880002'];
        const sent = [];
        let isOver = false;
        const sending = (async () => {
            while (!isOver) {
                const from = people[sent.length % people.length];
                const body = `${people.indexOf(from)} ${sent.length}`;
                sent.push(body);
                await say(phone, body, { from });
                await pause(70);
            }
        })();
        const restart = async (signal) => {
            server.kill(signal);
            await server.exit();
            await pause(Math.random() * 500);
            ({ server, events } = await again(t, options));
        };
        const back = async (work) => {
            const from = events.documents.length;
            await work();
            await events.untilBack('the session', { from, limit: 60_000 });
        };
        const troubles = [
            () => restart('SIGTERM'),
            () => restart('SIGKILL'),
            () => back(() => standin.command('reload-after', { phone, ms: 0 })),
            () => back(() => process.kill(browserOf(server), 'SIGKILL')),
            () =>
                back(() => {
                    for (const pid of partsOf(server, 'renderer')) process.kill(Number(pid), 'SIGKILL');
                }),
            () =>
                back(async () => {
                    await standin.command('unreachable', { on: true });
                    await pause(1000);
                    await standin.command('unreachable', { on: false });
                }),
        ];
        for (const trouble of troubles) {
            await pause(500 + Math.random() * 500);
            await trouble();
        }
        isOver = true;
        await sending;
        const told = await whenFound(
            async () => {
                const seen = await journaled(server);
                return seen.length >= sent.length && seen;
            },
            () => `${sent.length} messages; the server's output:\n${server.output}`,
        );
        const bodies = told.map((body) => body.replace(' *', ''));
        const of = (all, index) => all.filter((body) => body.startsWith(`${index} `));
        for (const index of people.keys()) assert.deepEqual(of(bodies, index), of(sent, index));
        assert.ok(told.filter((body) => body.endsWith('*')).length > 20, 'some came in a gap');
    });
});

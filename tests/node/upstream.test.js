'use strict';

/**
 * Whole sessions before WhatsApp Web's page as it is today, as it was in April 2026, and as it may be some
 * day: other generated names, parts that are gone.
 */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { describe, it } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');

const { whenFound } = require('./support/process');
const { PHONE, link, start, startLinked } = require('./support/session');
const { startStandIn } = require('./support/standin');

/** A stand-in of its own, so that faults stay with the test that asked for them. */
async function site(t, ...args) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
    const standin = await startStandIn(folder, args);
    t.after(() => {
        standin.stop();
        fs.rmSync(folder, { recursive: true, force: true });
    });
    return standin;
}

async function everyMessage(server, chat) {
    const found = [];
    for (let cursor = ''; cursor !== null;) {
        const query = `limit=50&before=${encodeURIComponent(cursor)}`;
        const page = await server.get(`/chats/${encodeURIComponent(chat)}/messages?${query}`);
        const { status, json, text } = page;
        assert.equal(status, 200, text);
        found.unshift(...json.messages);
        cursor = json.nextCursor;
    }
    return found;
}

/** What came to the site with that text, once something has. */
function arrivals(standin, text) {
    const look = async () => {
        const arrived = (await standin.sent()).filter(({ body }) => body === text);
        return arrived.length > 0 ? arrived : null;
    };
    return whenFound(look, 'the text');
}

const ID = /^(true|false)_[^_]+@[a-z.]+_[0-9A-F]+(_[^_]+@[a-z.]+)?$/;
const isText = (id) => typeof id === 'string' && ID.test(id);

for (const [shape, seed] of [
    ['today', '1'],
    ['today', '2'],
    ['today', '3'],
    ['2026-04', '1'],
]) {
    describe(`the page of ${shape} with the names of build ${seed}`, () => {
        it('links, lists, reads, downloads and sends', async (t) => {
            const standin = await site(t, '--shape', shape, '--seed', seed);
            const { server, events } = await startLinked(t, standin);
            assert.deepEqual(events.states.slice(-2), ['authenticated', 'ready']);

            const { chats } = (await server.get('/chats')).json;
            assert.ok(chats.length >= 3);
            const people = chats.filter(({ isGroup }) => !isGroup);
            assert.ok(
                people.every(({ phone }) => /^55\d{11}$/.test(phone)),
                JSON.stringify(people),
            );
            if (shape === 'today') assert.ok(people.every(({ id }) => id.endsWith('@lid')));
            assert.ok(chats.every(({ name, timestamp }) => name !== '' && timestamp > 1e12));

            for (const none of ['5511900000001@c.us', '1@nowhere.example']) {
                const answer = await server.get(`/chats/${encodeURIComponent(none)}/messages`);
                assert.equal(answer.status, 404, answer.text);
            }
            assert.equal((await server.get('/chats')).json.total, chats.length, 'reading made none');
            const byNumber = `${people[0].phone}@c.us`;
            assert.equal((await server.get(`/chats/${encodeURIComponent(byNumber)}/messages`)).status, 200);

            const messages = [];
            for (const { id } of chats) messages.push(...(await everyMessage(server, id)));
            assert.ok(
                messages.every(({ id }) => isText(id)),
                messages.find(({ id }) => !isText(id))?.id,
            );
            assert.equal(new Set(messages.map(({ id }) => id)).size, messages.length);

            await standin.command('set', { download_needs_mimetype: shape === 'today' });
            const { mediaUrl } = messages.find(({ hasMedia }) => hasMedia);
            const media = await server.get(mediaUrl);
            assert.equal(media.status, 200, media.text);
            assert.match(media.headers['content-type'], /^image\//);

            for (const phone of ['5511977770001', '5511955554444']) {
                const sent = await server.post('/send', { phone, message: `for ${phone}` });
                assert.equal(sent.status, 200, sent.text);
                assert.ok(isText(sent.json.messageId), sent.json.messageId);
                // The page has it, and hands it on to the site automatically.
                const arrived = await arrivals(standin, `for ${phone}`);
                assert.equal(arrived.length, 1, 'once');
                assert.ok(sent.json.messageId.includes(arrived[0].id));
            }
            const unknown = await server.post('/send', { phone: '5511977770000', message: 'nobody' });
            assert.notEqual(unknown.status, 200);
            assert.match(unknown.text, /not on WhatsApp/);

            const seen = await events.until(
                ({ upstream }) => upstream.checked.includes('main'),
                'the page to be checked',
            );
            const { missing, ok, shims, build, library, engine } = seen.upstream;
            assert.deepEqual({ missing, ok, engine }, { missing: [], ok: true, engine: 'bundled' });
            assert.match(build, /^2\.3000\.\d+$/);
            assert.match(library, /^\d+\.\d+\.\d+$/);
            const today = shape === 'today';
            assert.equal(shims.message_keys, today ? 'applied' : 'not needed');
            assert.equal(shims.new_codes, today ? 'applied' : 'not needed');
            assert.equal(shims.wids, 'not needed');
            assert.ok(!Object.values(shims).includes('failed'), JSON.stringify(shims));
            assert.equal((server.output.match(/build=/g) ?? []).length, 1, 'one line in the log');
        });

        it('is injected into once, whatever frames and addresses do', async (t) => {
            const standin = await site(t, '--shape', shape, '--seed', seed);
            const server = await start(t, standin);
            const events = server.follow();
            await server.post('/qr/new');
            const { upstream } = await events.until('qr');
            const told = shape === 'today' ? 'applied' : 'not needed';
            assert.equal(upstream.shims.message_keys, told, 'known before there is any key');
            await standin.command('frames', { count: 3, every: 50, times: 4 });
            await standin.command('push-state', { times: 3 });
            await link(standin, events);
            await standin.command('frames', { count: 2, every: 50, times: 3 });
            await standin.command('push-state', { times: 3 });
            await server.get('/chats');
            const [before] = await standin.pages();
            assert.equal(before.injections, 1, JSON.stringify(before.listened));
            const states = events.states.filter((state) => state !== 'pairing');
            assert.deepEqual(states, ['generating', 'qr', 'authenticated', 'ready']);

            await standin.command('reload-after', { ms: 0 });
            const from = events.documents.length;
            await events.until('disconnected', 'the page to be loaded again', { from });
            await events.untilBack('the page to be back', { from });
            const [after] = await standin.pages();
            assert.notEqual(after.id, before.id);
            assert.equal(after.injections, 1, JSON.stringify(after.listened));
            const sent = await server.post('/send', { phone: '5511977770001', message: 'after it' });
            assert.equal(sent.status, 200, sent.text);
        });

        it('links by the pairing code that it gave first, whatever frames and addresses do', async (t) => {
            const standin = await site(t, '--shape', shape, '--seed', seed);
            const server = await start(t, standin);
            const events = server.follow();
            const { json } = await server.post('/pairing-code', { phone: PHONE });
            await standin.command('frames', { count: 3, every: 50, times: 30 });
            // They continue for 1.5 s, in which the library begins to listen for them.
            await pause(2000);
            await standin.command('push-state', { times: 3 });
            const [{ pairingCode }] = await standin.pages();
            assert.equal(pairingCode, json.code.replace('-', ''), 'the site takes it still');
            await standin.command('pair', { code: json.code, phone: PHONE, name: 'Ana' });
            await events.until('ready');
            const codes = events.documents.map(({ pairing }) => pairing?.code).filter(Boolean);
            assert.deepEqual([...new Set(codes)], [json.code], 'no other code took its place');
            const [{ injections }] = await standin.pages();
            assert.equal(injections, 1);
        });

        it('logs out once, and a logout is no login', async (t) => {
            const standin = await site(t, '--shape', shape, '--seed', seed);
            const { server, events } = await startLinked(t, standin);
            const from = events.documents.length;
            await standin.command('logout', { phone: PHONE });
            assert.equal(await server.exit(), 10);
            // What else is said of it while it is still ready (sizes, the page's parts) may come just now.
            const told = events.documents.slice(from).map(({ state }) => state);
            const after = told.slice(told.findIndex((state) => state !== 'ready'));
            assert.ok(!after.includes('authenticated') && !after.includes('ready'), told.join());
            assert.equal(events.last.state, 'logged_out');
            assert.equal((server.output.match(/logging out/g) ?? []).length, 1);
        });
    });
}

describe('a page that loads itself again and again', () => {
    it('is never injected into twice, at whatever moment it does, and is ready in the end', async (t) => {
        const standin = await site(t);
        const { server, events } = await startLinked(t, standin);
        const seen = new Map();
        const look = async () => {
            const pages = await standin.pages();
            for (const { id, injections } of pages) seen.set(id, Math.max(seen.get(id) ?? 0, injections));
            return pages;
        };
        for (const ms of [0, 10, 20, 40, 60, 80, 100, 130, 160, 200, 250, 300]) {
            const [page] = await whenFound(async () => {
                const pages = await look();
                return pages.length > 0 ? pages : null;
            }, 'a page');
            // It may be gone a moment later.
            await standin.command('reload-after', { page: page.id, ms }).catch(() => {});
            const isGone = async () => (await look()).every(({ id }) => id !== page.id);
            await whenFound(isGone, 'the page to load itself again');
        }
        assert.ok(seen.size > 6, 'it has loaded itself');
        const isWhole = async () => {
            const [page, ...more] = await look();
            return page?.injections === 1 && more.length === 0;
        };
        await whenFound(isWhole, 'the last page to be injected into');
        const sent = await server.post('/send', { phone: '5511977770001', message: 'once' });
        assert.equal(sent.status, 200, sent.text);
        assert.equal((await standin.sent()).filter(({ body }) => body === 'once').length, 1);
        await events.until('ready', 'ready in the end', { from: events.documents.length - 1 });
        await look();
        assert.ok(
            [...seen.values()].every((count) => count <= 1),
            JSON.stringify([...seen]),
        );
    });
});

describe('a page that gives no more codes', () => {
    for (const worker of [false, true]) {
        it(`is asked for more, with its connection in ${worker ? 'a worker' : 'the page'}`, async (t) => {
            const standin = await site(t, '--refs-ttl', '300,300');
            await standin.command('set', { comms_in_worker: worker });
            const env = { WAPORTD_QR_MAX_RETRIES: '14', WAPORTD_QR_LIFETIME: '1,1' };
            const server = await start(t, standin, { env });
            const events = server.follow();
            await server.post('/qr/new');
            await events.until('qr_timeout', 'two batches of six codes, and two more');
            assert.equal(new Set(events.documents.map(({ qr }) => qr).filter(Boolean)).size, 14);
        });
    }
});

describe('a text', () => {
    it('whose chat was being looked for while the page loaded itself again is sent once', async (t) => {
        const standin = await site(t);
        const { server, events } = await startLinked(t, standin);
        await standin.command('set', { find_ms: 1500 });
        const from = events.documents.length - 1;
        const answer = server.post('/send', { phone: '5511955556666', message: 'once more' });
        await standin.command('reload-after', { ms: 300 });
        const { status, text } = await answer;
        assert.equal(status, 200, text);
        await events.untilBack('the page to be back', { from });
        assert.equal((await arrivals(standin, 'once more')).length, 1);
    });
});

describe('a login', () => {
    it('is ready though the sync never shows more than 99 per cent', async (t) => {
        const standin = await site(t);
        await standin.command('set', { progress: [0, 50, 99] });
        const { events } = await startLinked(t, standin);
        assert.equal(events.last.state, 'ready');
    });

    it('that needs a passkey is noticed though the code that was scanned is the last one', async (t) => {
        const standin = await site(t);
        const server = await start(t, standin, { env: { WAPORTD_QR_MAX_RETRIES: '1' } });
        const events = server.follow();
        await server.post('/qr/new');
        const { qr } = await events.until('qr');
        await standin.command('passkey');
        await standin.command('scan', { qr, phone: PHONE });
        await events.until('passkey_required');
        assert.ok(!events.states.includes('qr_timeout'), String(events.states));
    });

    it('that needs a passkey is noticed in every language, without a click', async (t) => {
        const standin = await site(t);
        await standin.command('set', { language: 'ja' });
        const server = await start(t, standin);
        const events = server.follow();
        await server.post('/qr/new');
        const { qr } = await events.until('qr');
        await standin.command('passkey');
        await standin.command('scan', { qr, phone: PHONE });
        await events.until('passkey_required');
    });
});

describe('a page that has changed', () => {
    it('is the cause where no session works without what is gone', async (t) => {
        const standin = await site(t);
        await standin.command('break', { module: 'WAWebUserPrefsMeUser', member: 'getMaybeMePnUser' });
        const server = await start(t, standin);
        const events = server.follow();
        await server.post('/qr/new');
        const { cause, message, hint, upstream } = await events.until('error');
        assert.equal(cause, 'upstream_changed');
        assert.match(message, /^WhatsApp Web 2\.3000\.\d+ has changed: ready needs /);
        assert.match(message, /WAWebUserPrefsMeUser\.getMaybeMePnUser, which is not there/);
        assert.match(hint, /engine/);
        assert.equal(upstream.ok, false);
        assert.ok(upstream.missing.some(({ feature }) => feature === 'ready'));
    });

    it('refuses only the feature that needs what is gone', async (t) => {
        const standin = await site(t);
        await standin.command('break', { module: 'WAWebChatLoadMessages' });
        const { server, events } = await startLinked(t, standin);
        const { chats } = (await server.get('/chats')).json;
        const { status, json } = await server.get(`/chats/${encodeURIComponent(chats[0].id)}/messages`);
        assert.deepEqual([status, json.code, json.cause], [501, 'upstream_changed', 'upstream_changed']);
        assert.match(json.error, /history needs WAWebChatLoadMessages\.loadEarlierMsgs/);
        assert.ok(json.hint);
        assert.equal((await server.post('/send', { phone: PHONE, message: 'it works' })).status, 200);
        const { missing } = events.last.upstream;
        assert.deepEqual([...new Set(missing.map(({ feature }) => feature))], ['history']);
    });

    it('refuses what needs a part that it loses, or never loads, later', async (t) => {
        const standin = await site(t);
        const { server, events } = await startLinked(t, standin);
        const isChecked = ({ upstream }) => upstream.checked.includes('main');
        const { upstream } = await events.until(isChecked, 'the page to be checked');
        assert.equal(upstream.ok, true);
        const { chats } = (await server.get('/chats')).json;
        await standin.command('break', { module: 'WAWebChatLoadMessages' });
        const { status, json } = await server.get(`/chats/${encodeURIComponent(chats[0].id)}/messages`);
        assert.deepEqual([status, json.code, json.cause], [501, 'upstream_changed', 'upstream_changed']);
        assert.match(json.error, /needs WAWebChatLoadMessages, .*no such module/);
        assert.ok(json.hint);
        assert.equal((await server.post('/send', { phone: PHONE, message: 'it works' })).status, 200);
    });

    it('refuses pairing codes where it has no more what makes them', async (t) => {
        const standin = await site(t);
        const gone = { module: 'WAWebAltDeviceLinkingApi', member: 'startAltLinkingFlow' };
        await standin.command('break', gone);
        const server = await start(t, standin);
        const { status, json } = await server.post('/pairing-code', { phone: PHONE });
        assert.deepEqual([status, json.cause], [501, 'upstream_changed']);
        assert.match(json.error, /pairing needs WAWebAltDeviceLinkingApi\.startAltLinkingFlow/);
    });

    it('that comes late with a part is not taken for one without it', async (t) => {
        const standin = await site(t);
        await standin.command('delay', { module: 'WAWebChatLoadMessages', ms: 4000 });
        const { events } = await startLinked(t, standin);
        const isWhole = ({ upstream }) => upstream.ok && upstream.checked.includes('main');
        await events.until(isWhole, 'the page to be whole');
    });
});

describe('an account with 5,000 chats', () => {
    it('lists them in seconds, once for everybody who asks, and by pages', async (t) => {
        const standin = await site(t);
        await standin.command('chats', { phone: PHONE, count: 5000, groups: 500, broken: 50 });
        // As on a slow core: the page is busy for half a minute before it is ready.
        if (process.env.WAPORTD_FAULTS === 'all') await standin.command('set', { chat_cost_ms: 1 });
        const server = await start(t, standin);
        const events = server.follow();
        await server.post('/qr/new');
        const { qr } = await events.until('qr');
        await standin.command('scan', { qr, phone: PHONE });
        await events.until('ready', 'the large account', { limit: 60_000 });
        const began = Date.now();
        const answers = await Promise.all(Array.from({ length: 10 }, () => server.get('/chats')));
        const took = Date.now() - began;
        assert.ok(took < 8000, `${took} ms`);
        for (const { status, text } of answers) assert.equal(status, 200, text.slice(0, 300));
        const [{ json: all }] = answers;
        assert.ok(all.total >= 5000);
        assert.equal(all.chats.length, all.total);
        const page = (await server.get('/chats?limit=7&offset=1000')).json;
        assert.deepEqual(page.chats, all.chats.slice(1000, 1007));
        assert.equal(page.total, all.total);
        for (const { id } of all.chats.filter(({ isGroup }) => isGroup).slice(0, 30)) {
            const { status, text } = await server.get(`/chats/${encodeURIComponent(id)}/messages`);
            assert.equal(status, 200, text);
        }
    });
});

'use strict';

/** Events fetched rather than posted: page by page, waiting, and as a stream. */

const assert = require('node:assert/strict');
const http = require('node:http');
const { once } = require('node:events');
const { describe, it } = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');

const { HttpServer } = require('../../server/http');
const { MessageRoutes } = require('../../server/message_routes');
const { event, newPlace, quiet } = require('./support/journal');
const { freePort, request, whenFound, within } = require('./support/process');

const KINDS = ['message', 'message.ack', 'call'];

/** A server with nothing but a journal. */
async function serve(t, { callerOf = async () => 0, delivery = {}, maxBytes, ...options } = {}) {
    const place = newPlace(t, maxBytes === undefined ? {} : { maxBytes });
    const journal = await place.open();
    const routes = [];
    const messages = new MessageRoutes({ journal, delivery, kinds: KINDS, callerOf, ...options });
    messages.addTo((method, path, about, handle) => routes.push({ method, path, about, handle }));
    const port = await freePort();
    const all = { first: routes, all: () => routes };
    const server = new HttpServer({ routes: all, log: quiet, judge: async () => null });
    await server.listen({ host: '127.0.0.1', port });
    t.after(() => {
        messages.close();
        return server.close();
    });
    let last = 0;
    const append = (members = {}) => {
        last += 1;
        return journal.append(event(`${last}`, { n: last, ...members }));
    };
    const appendMany = async (count, members) => {
        for (let left = count; left > 0; left -= 1) await append(members);
    };
    const get = async (query = '') => (await request(port, 'GET', `/messages${query}`)).json;
    return { journal, messages, port, append, appendMany, get };
}

/** Read a stream; `until(count)` resolves with its events so far once there are so many. */
function follow(t, port, { query = '', headers = {} } = {}) {
    let text = '';
    let look = () => {};
    const target = `/messages${query}`;
    const sent = http.get({ port, path: target, headers: { Accept: 'text/event-stream', ...headers } });
    const began = once(sent, 'response').catch(() => {});
    const ended = new Promise((resolve) => {
        sent.on('error', resolve);
        sent.on('response', (response) => {
            response.setEncoding('utf8').on('data', (chunk) => {
                text += chunk;
                look();
            });
            response.on('error', resolve);
            response.on('close', resolve);
        });
    });
    t.after(() => sent.destroy());
    const events = () =>
        text
            .split('\n\n')
            .slice(0, -1)
            .map((block) => Object.fromEntries(block.split('\n').map((line) => line.split(/: (.*)/s))))
            .filter(({ data }) => data !== undefined)
            .map(({ id, event: name, data }) => ({ id, name, data: JSON.parse(data) }));
    return {
        began,
        ended,
        events,
        close: () => sent.destroy(),
        until: (count) =>
            within(
                new Promise((resolve) => {
                    look = () => events().length >= count && resolve(events());
                    look();
                }),
                () => `${count} events; there are ${events().length}`,
            ),
    };
}

const numbersOf = ({ messages }) => messages.map(({ n }) => n);
const range = (first, last) => Array.from({ length: last - first + 1 }, (_, n) => first + n);

describe('events by the page', () => {
    it('are all there, in order, with cursors to continue with', async (t) => {
        const { appendMany, get } = await serve(t);
        await appendMany(250);
        const seen = [];
        let query = '';
        for (let more = true; more;) {
            const page = await get(query);
            seen.push(...numbersOf(page));
            assert.ok(page.messages.length <= 100);
            ({ more } = page);
            query = `?after=${page.next}`;
        }
        assert.deepEqual(seen, range(1, 250));
        const [first, second] = (await get('?limit=2')).messages;
        assert.deepEqual([first.event, first.event_id], ['message', 'message:1']);
        assert.deepEqual(numbersOf(await get(`?after=${first.cursor}&limit=1`)), [second.n]);
    });

    it('are those that are asked for', async (t) => {
        const { append, get } = await serve(t);
        await append({ chat: { id: 'b@g.us' } });
        await append({ event: 'message.ack' });
        await append({ event: 'call', chat: { id: 'b@g.us' } });
        assert.deepEqual(numbersOf(await get('?events=message.ack,call')), [2, 3]);
        assert.deepEqual(numbersOf(await get(`?chat=${encodeURIComponent('b@g.us')}`)), [1, 3]);
        const none = await get('?after=newest');
        assert.deepEqual([none.messages, none.more], [[], false]);
        await append();
        assert.deepEqual(numbersOf(await get(`?after=${none.next}`)), [4]);
    });

    it('are those that the webhook has not taken yet, or not at all', async (t) => {
        const { journal, append, get } = await serve(t);
        const entries = [await append(), await append({ event: 'call' }), await append(), await append()];
        journal.settle(entries[0].cursor, 'delivered');
        for (const { cursor } of [entries[1], entries[3]]) journal.settle(cursor, 'undelivered');
        assert.deepEqual(numbersOf(await get('?state=undelivered')), [2, 4]);
        assert.deepEqual(numbersOf(await get('?state=undelivered&events=call')), [2]);
        assert.deepEqual(numbersOf(await get('?state=pending')), [3]);
        const page = await get('?state=undelivered&limit=1');
        assert.deepEqual([numbersOf(page), page.more], [[2], true]);
        const rest = await get(`?state=undelivered&after=${page.next}`);
        assert.deepEqual([numbersOf(rest), rest.more], [[4], false]);
        await journal.reopen({ cursor: entries[3].cursor });
        assert.deepEqual(numbersOf(await get('?state=undelivered')), [2]);
    });

    it('are waited for', async (t) => {
        const { append, get } = await serve(t);
        await append();
        const { next } = await get();
        const waiting = get(`?after=${next}&timeout=30&events=message`);
        await append({ event: 'message.ack' });
        await append();
        assert.deepEqual(numbersOf(await within(waiting, 'the event')), [3]);
        const began = performance.now();
        const page = await get(`?after=${next}&events=call&timeout=1`);
        assert.ok(performance.now() - began >= 990);
        assert.deepEqual([page.messages, page.more], [[], false]);
        await append({ event: 'call' });
        assert.deepEqual(numbersOf(await get(`?after=${page.next}`)), [4], 'nothing is passed over');
    });

    it('are waited for by the name that a timeout had before, for one release', async (t) => {
        const { get } = await serve(t);
        const began = performance.now();
        await get('?wait=1');
        assert.ok(performance.now() - began >= 990);
    });

    it('are refused for what is no query', async (t) => {
        const { port, append } = await serve(t);
        await append();
        const limits = ['limit=0', 'limit=1001', 'limit=x', 'timeout=61', 'timeout=-1', 'timeout=1&wait=1'];
        const states = ['state=delivered', 'state=read', 'state=', 'state=pending&timeout=1'];
        for (const query of [...limits, ...states, 'events=nothing', 'events=']) {
            const { status, json } = await request(port, 'GET', `/messages?${query}`);
            assert.deepEqual([status, json.code], [400, 'bad_request'], query);
        }
    });

    it('are gone where the cursor is of another journal, or of what was dropped', async (t) => {
        const { port, journal, append, appendMany, get } = await serve(t, { maxBytes: 256 * 1024 });
        const first = await append();
        await appendMany(400, { body: 'x'.repeat(2_000) });
        for (const cursor of [first.cursor, 'other-5', 'nonsense']) {
            const { status, json } = await request(port, 'GET', `/messages?after=${cursor}`);
            assert.deepEqual([status, json.code], [410, 'cursor_gone'], cursor);
            assert.match(json.hint, /without a cursor/);
        }
        assert.ok((await get()).messages[0].n > 1);
        await journal.erase();
    });

    it('are waited for by so many of one caller, and of all', async (t) => {
        let caller = 0;
        const { port, get, messages } = await serve(t, { callerOf: async () => caller });
        const wait = () => request(port, 'GET', '/messages?timeout=30').catch(() => {});
        const waiting = range(1, 32).map(wait);
        const refused = async (pattern) => {
            const answer = await request(port, 'GET', '/messages?timeout=30');
            if (answer.status !== 503) return null;
            assert.equal(answer.headers['retry-after'], '5');
            assert.match(answer.json.error, pattern);
            return answer.json.code;
        };
        assert.equal(await whenFound(() => refused(/32 of one caller/), 'a refusal'), 'busy');
        assert.deepEqual((await get()).messages, [], 'who does not wait is answered');
        caller = 1;
        waiting.push(...range(1, 32).map(wait));
        caller = 2;
        assert.equal(await whenFound(() => refused(/64 wait/), 'a refusal'), 'busy');
        messages.close();
        await Promise.all(waiting);
    });

    it('keep no place for one who went away', async (t) => {
        const { port, append } = await serve(t);
        // The server sees a moment later than the client that a connection ended: there is room for that.
        for (let round = 0; round < 8; round += 1) {
            const readers = range(1, 10).map(() => follow(t, port));
            await append();
            await Promise.all(readers.map((reader) => reader.until(1)));
            readers.forEach((reader) => reader.close());
            await Promise.all(readers.map(({ ended }) => ended));
        }
        const last = follow(t, port);
        assert.equal((await last.until(8)).length, 8);
    });
});

describe('a stream of events', () => {
    it('begins with the oldest, continues as they come, and continues after the last one seen', async (t) => {
        const { port, append, appendMany } = await serve(t);
        await appendMany(50);
        const reader = follow(t, port);
        await reader.until(50);
        await append({ event: 'message.ack' });
        const events = await reader.until(51);
        assert.deepEqual(
            events.map(({ data }) => data.n),
            range(1, 51),
        );
        assert.deepEqual([events[49].name, events[50].name], ['message', 'message.ack']);
        assert.ok(events.every(({ id, data }) => id === data.cursor));
        reader.close();
        await appendMany(3);
        const headers = { 'Last-Event-ID': events[48].id };
        const again = await follow(t, port, { headers, query: '?after=nonsense' }).until(5);
        assert.deepEqual(
            again.map(({ data }) => data.n),
            range(50, 54),
            'the header wins',
        );
    });

    it('has only what is asked for, and from now on where that is asked for', async (t) => {
        const { port, append, appendMany } = await serve(t);
        await appendMany(30);
        const reader = follow(t, port, { query: '?after=newest&events=call' });
        await within(reader.began, 'the stream');
        await append();
        await append({ event: 'call' });
        assert.deepEqual(
            (await reader.until(1)).map(({ data }) => data.n),
            [32],
        );
    });

    it('has events of every state', async (t) => {
        const { port } = await serve(t);
        const headers = { Accept: 'text/event-stream' };
        const asked = request(port, 'GET', '/messages?state=undelivered', { headers });
        const { status, json } = await within(asked, 'the refusal', 2_000);
        assert.deepEqual([status, json.code], [400, 'bad_request']);
    });

    it('says that a cursor is gone, and begins with the oldest', async (t) => {
        const { port, appendMany } = await serve(t);
        await appendMany(2);
        const [reset, ...events] = await follow(t, port, { query: '?after=other-1' }).until(3);
        assert.deepEqual([reset.name, reset.data], ['reset', { code: 'cursor_gone' }]);
        assert.deepEqual(
            events.map(({ data }) => data.n),
            [1, 2],
        );
    });

    it('is closed to a reader that takes nothing, and costs little until then', async (t) => {
        const { port, journal, appendMany } = await serve(t, { readLimitMs: 500 });
        await appendMany(300, { body: 'x'.repeat(100_000) });
        let seen = 0;
        const read = journal.read.bind(journal);
        journal.read = async (options) => {
            const page = await read(options);
            seen += page.entries.length;
            return page;
        };
        const sent = http.get({ port, path: '/messages', headers: { Accept: 'text/event-stream' } });
        t.after(() => sent.destroy());
        const [response] = await once(sent, 'response');
        response.on('error', () => {});
        // Between the two ends the kernel holds some megabytes.
        let before = -1;
        const stands = async () => {
            await pause(1_000);
            const isSame = seen === before;
            before = seen;
            return isSame;
        };
        await whenFound(stands, 'a stream that stands still');
        assert.ok(seen > 0 && seen < 150, `${seen} of 300 events were read`);
        response.resume();
        const closed = new Promise((resolve) => {
            response.on('close', resolve);
        });
        await within(closed, 'the end of the stream');
        assert.ok(!response.complete, 'it was broken off');
    });

    it('ends with the server', async (t) => {
        const { port, messages, append } = await serve(t);
        await append();
        const reader = follow(t, port);
        await reader.until(1);
        messages.close();
        await within(reader.ended, 'the end of the stream');
    });
});

describe('what the webhook did not take', () => {
    it('is tried again when somebody says which, or all', async (t) => {
        const asked = [];
        const redeliver = async (which) => asked.push(which);
        const { port } = await serve(t, { delivery: { redeliver } });
        const post = (body) => request(port, 'POST', '/messages/redeliver', { body });
        assert.deepEqual((await post({ all: true })).json, { redelivered: 1 });
        assert.deepEqual((await post({ cursor: 'a-1', user_id: '2' })).json, { redelivered: 2 });
        assert.deepEqual(asked, [{ all: true }, { cursor: 'a-1' }]);
        const both = { all: true, cursor: 'a-1' };
        for (const body of [{}, { all: false }, { cursor: '' }, { cursor: 5 }, both, { al: 1 }]) {
            const { status, json } = await post(body);
            assert.deepEqual([status, json.code], [400, 'bad_request'], JSON.stringify(body));
        }
        assert.equal(asked.length, 2);
    });
});

'use strict';

/** Files of messages: with a page of the test's own, and through a real browser from a real page. */

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const { describe, it } = require('node:test');

const { openMedia } = require('../../server/media');
const { openFile, closeFile } = require('../../server/media_page');
const { Turns } = require('../../server/turns');
const { Collection, inPage, pageOf } = require('./support/page');
const { request, within } = require('./support/process');
const { PHONE, startLinked } = require('./support/session');
const { startStandIn } = require('./support/standin');

const MOST = 1000;
const ID = 'false_1@c.us_A';
const forEver = () => new AbortController().signal;

/** A page with one message that has a file, as its sender describes it and as it comes. */
function clientWith(described, data = Buffer.from('data')) {
    const client = { downloads: new Turns(), downloaded: 0, now: 0, most: 0, aborted: 0 };
    const downloadAndMaybeDecrypt = async ({ signal }) => {
        client.downloaded += 1;
        client.now += 1;
        client.most = Math.max(client.most, client.now);
        try {
            return await (typeof data === 'function' ? data(signal) : data);
        } finally {
            client.now -= 1;
        }
    };
    const msg = { id: ID, directPath: '/x', mediaData: { mediaStage: 'RESOLVED' }, ...described };
    const Msg = new Collection(described === null ? [] : [msg]);
    Msg.getMessagesById = async () => ({ messages: [] });
    const downloadManager = { downloadAndMaybeDecrypt };
    const window = pageOf({ Msg }, { WAWebDownloadManager: { downloadManager } });
    client.window = window;
    client.openFile = (...args) => inPage(window, openFile, ...args);
    client.closeFile = async (ticket) => inPage(window, closeFile, ticket);
    client.readFile = async function* readFile(ticket) {
        yield Buffer.from(await window.waportd.files.get(ticket).blob.arrayBuffer());
    };
    return client;
}

/** Read a file as a caller would: `{headers, bytes}`. */
async function read(client, most = MOST) {
    const { headers, pieces, close } = await openMedia(client, ID, most, forEver());
    const bytes = [];
    for await (const piece of pieces()) bytes.push(piece);
    close();
    return { headers, bytes: Buffer.concat(bytes) };
}

describe('media', () => {
    it('is never run by the browser that shows it', async () => {
        const data = Buffer.from('<script>');
        for (const mimetype of ['text/html', 'image/svg+xml', 'nonsense', undefined, 'text/html\r\nX: y']) {
            const { headers } = await read(clientWith({ mimetype, filename: 'a"\r\nb.html' }, data));
            assert.match(headers['Content-Disposition'], /^attachment; filename\*=UTF-8''[A-Za-z0-9%._-]+$/);
            assert.match(headers['Content-Security-Policy'], /sandbox/);
            assert.match(headers['Content-Type'], /^[\w.+/-]+$/);
        }
        const { headers, bytes } = await read(clientWith({ mimetype: 'image/png' }, data));
        assert.equal(headers['Content-Disposition'], 'inline');
        assert.equal(headers['Content-Length'], 8);
        assert.equal(bytes.toString(), '<script>');
    });

    it('with a name or type that no header can have is read all the same', async () => {
        const half = await read(clientWith({ mimetype: 'image/png', filename: 'a\ud800.png' }));
        assert.equal(half.headers['Content-Disposition'], "inline; filename*=UTF-8''a%EF%BF%BD.png");
        const long = await read(
            clientWith({ mimetype: `image/${'x'.repeat(20_000)}`, filename: 'é'.repeat(20_000) }),
        );
        assert.equal(long.headers['Content-Type'], 'application/octet-stream');
        assert.ok(long.headers['Content-Disposition'].length < 2_000);
    });

    it('that is not there is 404', async () => {
        const none = { status: 404, body: { error: 'no such message, or no media in it', code: 'no_media' } };
        await assert.rejects(read(clientWith(null)), none);
        await assert.rejects(read(clientWith({ directPath: undefined })), none);
        await assert.rejects(openMedia(clientWith({}), 'x', MOST, forEver()), none);
        const gone = (error) => error.status === 404 && error.body.code === 'media_gone';
        for (const stage of ['REUPLOADING', 'FETCHING', 'ERROR_MISSING']) {
            const mediaData = { mediaStage: stage };
            await assert.rejects(read(clientWith({ mediaData, downloadMedia: async () => {} })), gone, stage);
        }
        const lost = clientWith({}, async () => {
            throw Object.assign(new Error(''), { status: 404 });
        });
        await assert.rejects(read(lost), gone);
        assert.equal(lost.window.waportd.files.size, 0);
        const failing = clientWith({}, async () => {
            throw new Error('a fault');
        });
        await assert.rejects(read(failing), /a fault/);
        assert.equal(failing.window.waportd.files.size, 0);
    });

    it('that has expired is asked for again', async () => {
        const mediaData = { mediaStage: 'NEED_POKE' };
        const downloadMedia = async () => {
            mediaData.mediaStage = 'RESOLVED';
        };
        assert.equal((await read(clientWith({ mediaData, downloadMedia }))).bytes.toString(), 'data');
    });
});

describe('media that is too large', () => {
    const refused = (error) => {
        assert.equal(error.status, 413);
        assert.equal(error.body.code, 'too_large');
        assert.match(error.body.hint, /instances\.media_max/);
        return true;
    };

    it('is not downloaded where its sender says so', async () => {
        for (const size of [MOST + 1, String(MOST + 1)]) {
            const client = clientWith({ size });
            await assert.rejects(read(client), refused);
            assert.equal(client.downloaded, 0);
        }
    });

    it('is not handed on where its sender lies, or says nothing', async () => {
        for (const described of [{ size: 1 }, { size: 'x' }, {}]) {
            const client = clientWith(described, Buffer.alloc(MOST + 1));
            await assert.rejects(read(client), refused);
            assert.equal(client.window.waportd.files.size, 0);
            const { bytes } = await read(clientWith(described, Buffer.alloc(MOST)));
            assert.equal(bytes.length, MOST);
        }
    });

    it('may be turned off', async () => {
        const { bytes } = await read(clientWith({ size: MOST + 1 }, Buffer.alloc(MOST + 1)), Infinity);
        assert.equal(bytes.length, MOST + 1);
    });

    it('is one at a time, whatever its size', async () => {
        const client = clientWith({ size: 10 }, async () => {
            await new Promise(setImmediate);
            return Buffer.from('x');
        });
        await Promise.all([1, 2, 3].map(() => read(client)));
        assert.deepEqual([client.downloaded, client.most], [3, 1]);
        const first = await openMedia(client, ID, MOST, forEver());
        const second = openMedia(client, ID, MOST, forEver());
        await new Promise(setImmediate);
        assert.equal(client.downloaded, 4, 'the next one comes when the one before is closed');
        first.close();
        (await second).close();
        assert.equal(client.downloaded, 5);
        await new Promise(setImmediate);
        assert.equal(client.window.waportd.files.size, 0);
    });

    it('is given up when nobody wants it any more', async () => {
        const client = clientWith(
            {},
            (signal) =>
                new Promise((_, reject) => {
                    signal.addEventListener('abort', () => {
                        client.aborted += 1;
                        reject(new Error('aborted'));
                    });
                }),
        );
        const callers = [new AbortController(), new AbortController()];
        const opened = callers.map(({ signal }) => openMedia(client, ID, MOST, signal));
        await new Promise(setImmediate);
        for (const caller of callers) caller.abort();
        for (const each of opened) await assert.rejects(each);
        assert.deepEqual([client.downloaded, client.aborted], [1, 1], 'the second was never begun');
        assert.equal(client.downloads.busy, false);
    });
});

const MIB = 1024 * 1024;
/** Bytes that a server may need more than before it, whatever the size of a file. */
const MORE = 32 * MIB;
const SIZE = Number(process.env.WAPORTD_MEDIA_MIB ?? 64) * MIB;

/** What the stand-in makes a file of. */
const hashOf = (size) => {
    const chunk = Buffer.alloc(64 * 1024, 'media of the stand-in ');
    const hash = crypto.createHash('sha256');
    for (let left = size; left > 0; left -= chunk.length) hash.update(chunk.subarray(0, left));
    return hash.digest('hex');
};

/** Most memory that a process has used so far, in bytes; and make it begin again with what it uses now. */
const peakOf = (pid) =>
    1024 * Number(fs.readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmHWM:\s+(\d+)/)[1]);
const resetPeak = (pid) => fs.writeFileSync(`/proc/${pid}/clear_refs`, '5');

/** Read a file, at most so many bytes of it: `{status, headers, size, hash}`. */
function download(server, id, { until = Infinity } = {}) {
    const asked = { host: '127.0.0.1', port: server.port, path: `/media/${encodeURIComponent(id)}` };
    return new Promise((resolve, reject) => {
        const asking = http.get(asked, (response) => {
            const hash = crypto.createHash('sha256');
            let size = 0;
            const { statusCode: status, headers } = response;
            const end = () => resolve({ status, headers, size, hash: hash.digest('hex') });
            response.on('data', (chunk) => {
                size += chunk.length;
                hash.update(chunk);
                if (size < until) return;
                response.removeAllListeners('end');
                asking.destroy();
                end();
            });
            response.on('end', end);
            response.on('error', reject);
        });
        asking.on('error', (error) => (until === Infinity ? reject(error) : undefined));
    });
}

for (const shape of ['today', '2026-04']) {
    describe(`media in the page of ${shape}`, () => {
        it('is read piece by piece, whole, in little memory, or given up', async (t) => {
            const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
            const standin = await startStandIn(folder, ['--shape', shape]);
            t.after(() => {
                standin.stop();
                fs.rmSync(folder, { recursive: true, force: true });
            });
            await standin.command('set', { download_needs_mimetype: shape === 'today' });
            const env = { WAPORTD_MEDIA_MAX: String(SIZE) };
            const { server } = await startLinked(t, standin, { env });
            const from = '5511977770001';
            const receive = async (wish) => {
                const { id } = await standin.command('message', { phone: PHONE, from, ...wish });
                const { chats } = (await server.get('/chats?limit=1')).json;
                const page = `/chats/${encodeURIComponent(chats[0].id)}/messages?limit=1`;
                const [{ id: whole }] = (await server.get(page)).json.messages;
                assert.ok(whole.includes(id), whole);
                return whole;
            };
            const small = await receive({ type: 'document', size: 10, filename: 'ação.pdf' });
            const { status, headers, hash } = await download(server, small);
            assert.deepEqual([status, hash], [200, hashOf(10)]);
            assert.equal(headers['content-length'], '10');
            assert.equal(headers['content-disposition'], "attachment; filename*=UTF-8''a%C3%A7%C3%A3o.pdf");
            const head = await request(server.port, 'HEAD', `/media/${encodeURIComponent(small)}`);
            assert.deepEqual([head.status, head.headers['content-length']], [200, '10']);

            const large = await receive({ type: 'video', size: SIZE });
            resetPeak(server.pid);
            const before = peakOf(server.pid);
            const whole = await within(download(server, large), 'the large file', 120_000);
            const more = peakOf(server.pid) - before;
            t.diagnostic(`${SIZE / MIB} MiB read, ${(more / MIB).toFixed(1)} MiB more in node`);
            assert.deepEqual([whole.status, whole.size, whole.hash], [200, SIZE, hashOf(SIZE)]);
            assert.ok(more < MORE, `${more / MIB} MiB`);

            // Who goes away holds up nobody.
            const part = await download(server, large, { until: MIB });
            assert.ok(part.size < SIZE);
            assert.equal((await within(download(server, small), 'the next one', 10_000)).status, 200);

            const larger = await receive({ type: 'video', size: SIZE + 1 });
            const refused = await server.get(`/media/${encodeURIComponent(larger)}`);
            assert.deepEqual([refused.status, refused.json.code], [413, 'too_large']);
            const expired = await receive({ type: 'image', size: 500, expired: true });
            assert.equal((await download(server, expired)).size, 500);
            const text = await receive({ body: 'no file' });
            assert.equal((await server.get(`/media/${encodeURIComponent(text)}`)).json.code, 'no_media');

            // One after the other, in what little memory one takes.
            const again = await Promise.all([small, large, small].map((id) => download(server, id)));
            assert.deepEqual(
                again.map(({ size }) => size),
                [10, SIZE, 10],
            );
        });
    });
}

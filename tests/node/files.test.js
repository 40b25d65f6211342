'use strict';

/** Files that come with a message: as parts of a body, and by URL. */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const http = require('node:http');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const { describe, it } = require('node:test');
const { setTimeout: wait } = require('node:timers/promises');

const { boundaryOf, readParts, textOf } = require('../../server/multipart');
const { fetchMedia, isPublic } = require('../../server/remote_media');
const { Spool } = require('../../server/spool');
const { scratch } = require('./support/process');

const has = (status, code) => (error) => {
    assert.deepEqual([error.status, error.body?.code], [status, code], error.message);
    return true;
};

describe('multipart/form-data', () => {
    const BOUNDARY = 'x7';
    /** Read a body that comes in pieces of so many bytes: `[name, filename, type, text]` of each part. */
    async function read(text, piece) {
        const bytes = Buffer.from(text, 'latin1');
        async function* pieces() {
            for (let at = 0; at < bytes.length; at += piece) yield bytes.subarray(at, at + piece);
        }
        const parts = [];
        for await (const { name, filename, type, chunks } of readParts(pieces(), BOUNDARY)) {
            parts.push([name, filename, type, await textOf(chunks, 10_000)]);
        }
        return parts;
    }
    const part = (head, body) => `--x7\r\nContent-Disposition: form-data; ${head}\r\n\r\n${body}\r\n`;
    const typed = 'name="image"; filename="a \\"b\\" %22c.png"\r\nContent-Type: image/png';

    it('is read alike in whatever pieces it comes', async () => {
        const data = '\r\n--x\r\n--y7 --x7\r\n-';
        const bodyOf = (text) => `words\r\n${part('name=message', '{}')}${part(typed, text)}--x7--\r\nrest`;
        for (let piece = 1; piece < 60; piece += 1) {
            assert.deepEqual(await read(bodyOf(data), piece), [
                ['message', undefined, undefined, '{}'],
                ['image', 'a "b" "c.png', 'image/png', data],
            ]);
        }
        const torn = read(bodyOf('\r\n--x7 within a part'), 7);
        await assert.rejects(torn, has(400, 'bad_request'));
    });

    it('may have empty parts, and ones that nobody reads', async () => {
        assert.deepEqual(await read(`${part('name=a', '')}--x7--`, 5), [['a', undefined, undefined, '']]);
        assert.deepEqual(await read('--x7--\r\n', 5), []);
        async function* whole() {
            yield Buffer.from(`${part('name=a', '1')}${part('name=b', '2')}--x7--`);
        }
        const names = [];
        for await (const { name } of readParts(whole(), BOUNDARY)) names.push(name);
        assert.deepEqual(names, ['a', 'b']);
    });

    it('that is cut off, or is none, is refused', async () => {
        const whole = `${part('name=a', 'text')}--x7--`;
        for (let length = 0; length < whole.length; length += 1) {
            await assert.rejects(read(whole.slice(0, length), 9), has(400, 'bad_request'), `${length} bytes`);
        }
        await assert.rejects(read(part('filename=a', 'x') + '--x7--', 9), has(400, 'bad_request'));
        await assert.rejects(read(part('name=a', 'x').repeat(9) + '--x7--', 9), has(400, 'bad_request'));
        await assert.rejects(read(part(`name=${'a'.repeat(9000)}`, 'x'), 99), has(413, 'too_large'));
    });

    it('is known by its content type', () => {
        assert.equal(boundaryOf('multipart/form-data; boundary=x7'), 'x7');
        assert.equal(boundaryOf('Multipart/Form-Data; charset=utf-8; boundary="a b"'), 'a b');
        for (const other of [undefined, 'application/json', 'multipart/mixed; boundary=x7']) {
            assert.equal(boundaryOf(other), null);
        }
        assert.throws(() => boundaryOf('multipart/form-data'), has(400, 'bad_request'));
        assert.throws(() => boundaryOf('multipart/form-data; x'), has(400, 'bad_request'));
    });
});

describe('a file', () => {
    const spoolIn = (t, most = 1000) => new Spool({ directory: path.join(scratch(t), 'sending'), most });

    it('is on disk for as long as it is needed, and for nobody else to read', async (t) => {
        const spool = spoolIn(t);
        const file = await spool.keep([Buffer.from('one '), Buffer.from('two')], 'text/plain');
        assert.equal(fs.readFileSync(file.path, 'utf8'), 'one two');
        assert.equal(fs.statSync(file.path).mode & 0o777, 0o600);
        assert.deepEqual([file.size, file.type], [7, 'text/plain']);
        assert.equal((await spool.keep([Buffer.from('one two')])).print, file.print);
        await spool.drop(file);
        await spool.drop(file);
        assert.ok(!fs.existsSync(file.path));
    });

    it('of an earlier process is gone', async (t) => {
        const spool = spoolIn(t);
        const file = await spool.keep([Buffer.from('x')]);
        const next = new Spool({ directory: path.dirname(file.path), most: 10 });
        await next.keep([Buffer.from('y')]);
        assert.equal(fs.readdirSync(path.dirname(file.path)).length, 1);
    });

    it('of an earlier process is gone before anything else is sent', async (t) => {
        const { path: file } = await spoolIn(t).keep([Buffer.from('x')]);
        const next = new Spool({ directory: path.dirname(file), most: 10 });
        for (let tries = 0; fs.existsSync(file) && tries < 1000; tries += 1) await wait(10);
        assert.ok(!fs.existsSync(file));
        assert.equal(next.most, 10);
    });

    it('finds no room where others have taken it, and finds it again when they are gone', async (t) => {
        const spool = spoolIn(t, 10);
        const files = [];
        for (let nth = 0; nth < 4; nth += 1) files.push(await spool.keep([Buffer.alloc(9)]));
        await spool.drop(await spool.keep([Buffer.alloc(4)]));
        await assert.rejects(spool.keep([Buffer.alloc(4), Buffer.alloc(1)]), (error) => {
            assert.equal(error.headers['Retry-After'], '5');
            return has(503, 'busy')(error);
        });
        await spool.drop(files[0]);
        await spool.drop(files[0]);
        await spool.keep([Buffer.alloc(10)]);
        await assert.rejects(spool.keep([Buffer.alloc(4)]), has(503, 'busy'));
        assert.equal(fs.readdirSync(path.dirname(files[0].path)).length, 4);
    });

    it('that is too large is refused while it comes, and leaves nothing', async (t) => {
        const spool = spoolIn(t, 10);
        let given = 0;
        function* endless() {
            for (;;) {
                given += 1;
                yield Buffer.alloc(4);
            }
        }
        await assert.rejects(spool.keep(endless()), has(413, 'too_large'));
        assert.equal(given, 3);
        const file = await spool.keep([Buffer.alloc(10)]);
        assert.deepEqual(fs.readdirSync(path.dirname(file.path)), [path.basename(file.path)]);
    });

    it('has the type that its sender says, or its first bytes', async (t) => {
        const spool = spoolIn(t);
        const typeOf = async (text, said) => (await spool.keep([Buffer.from(text, 'latin1')], said)).type;
        assert.equal(await typeOf('\xff\xd8\xff\xe0', undefined), 'image/jpeg');
        assert.equal(await typeOf('\x89PNG\r\n\x1a\n', 'application/octet-stream'), 'image/png');
        assert.equal(await typeOf('RIFF\0\0\0\0WEBPVP8', ''), 'image/webp');
        assert.equal(await typeOf(`OggS${'\0'.repeat(24)}OpusHead`, undefined), 'audio/ogg; codecs=opus');
        assert.equal(await typeOf('\0\0\0\x20ftypisom', undefined), 'video/mp4');
        assert.equal(await typeOf('%PDF-1.7', undefined), 'application/pdf');
        for (const none of [undefined, 'nonsense', 'text/html\0', `text/${'x'.repeat(200)}`, 'a/b; é']) {
            assert.equal(await typeOf('words', none), 'application/octet-stream');
        }
        assert.equal(await typeOf('\xff\xd8\xff\xe0', 'image/x-own'), 'image/x-own');
    });
});

describe('an address', () => {
    it('is one of the Internet, or none that may be asked', () => {
        for (const address of ['8.8.8.8', '200.1.2.3', '2606:4700::1111', '2a00:1450:4001::1']) {
            assert.ok(isPublic(address), address);
        }
        for (const address of [
            '0.0.0.0',
            '10.1.2.3',
            '100.64.0.1',
            '127.0.0.1',
            '127.255.255.254',
            '169.254.169.254',
            '172.16.0.1',
            '172.31.255.255',
            '192.168.1.1',
            '198.18.0.1',
            '224.0.0.1',
            '255.255.255.255',
            '::',
            '::1',
            '::ffff:127.0.0.1',
            '::ffff:8.8.8.8',
            '64:ff9b::7f00:1',
            '2002:7f00:1::',
            '2001:db8::1',
            'fc00::1',
            'fd12::1',
            'fe80::1',
            'fe80::1%lo',
            'ff02::1',
            'example.org',
            '',
        ]) {
            assert.ok(!isPublic(address), address);
        }
    });
});

describe('a file by URL', () => {
    /** A site with these answers by path; returns its address, and the paths that were asked for. */
    async function siteWith(t, answers) {
        const asked = [];
        const server = http.createServer((request, response) => {
            asked.push(request.url);
            answers[request.url](response);
        });
        await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
        t.after(() => {
            server.closeAllConnections();
            server.close();
        });
        return { asked, port: server.address().port };
    }
    const keep = async (chunks, type) => {
        const all = [];
        for await (const chunk of chunks) all.push(chunk);
        return { text: Buffer.concat(all).toString(), type };
    };
    const fetch = (url, more) => fetchMedia(url, { most: 100, mayBePrivate: true, keep, ...more });
    const words = (response) => {
        response.writeHead(200, { 'Content-Type': 'text/plain' });
        response.end('words');
    };
    const to = (location) => (response) => response.writeHead(302, { Location: location }).end();

    it('is fetched, through redirects, with its type and name', async (t) => {
        const { port } = await siteWith(t, { '/a': to('/b%20c.txt?d'), '/b%20c.txt?d': words });
        const file = await fetch(`http://127.0.0.1:${port}/a`);
        assert.deepEqual(file, { text: 'words', type: 'text/plain', name: 'b c.txt' });
    });

    it('is refused where it leads to this host, whatever it is called', async (t) => {
        const { port, asked } = await siteWith(t, { '/': words });
        const hosts = ['127.0.0.1', 'localhost', '127.1', '2130706433', '0x7f.1', '[::1]', '[::ffff:7f00:1]'];
        for (const host of hosts) {
            const url = `http://${host}:${port}/`;
            await assert.rejects(fetch(url, { mayBePrivate: false }), has(422, 'media_refused'), url);
        }
        assert.deepEqual(asked, []);
    });

    it('is refused where its name stands for this host', async (t) => {
        const { port, asked } = await siteWith(t, { '/': words });
        const { lookup } = require('node:dns');
        t.mock.method(require('node:dns'), 'lookup', (name, options, done) => {
            if (name === 'rebinding.example') return done(null, [{ address: '127.0.0.1', family: 4 }]);
            if (name === 'half.example') {
                return done(null, [
                    { address: '8.8.8.8', family: 4 },
                    { address: '127.0.0.1', family: 4 },
                ]);
            }
            return lookup(name, options, done);
        });
        for (const name of ['rebinding.example', 'half.example']) {
            const url = `http://${name}:${port}/`;
            await assert.rejects(fetch(url, { mayBePrivate: false }), has(422, 'media_refused'), name);
        }
        assert.deepEqual(asked, []);
    });

    it('is refused where it leads to a public address that is this host itself', async (t) => {
        const own = { eth0: [{ address: '8.8.4.4' }, { address: '2a00:1450:4001::1' }] };
        t.mock.method(os, 'networkInterfaces', () => own);
        t.mock.method(require('node:dns'), 'lookup', (_, options, done) => {
            done(null, [{ address: '8.8.4.4', family: 4 }]);
        });
        for (const host of ['8.8.4.4', '[2a00:1450:4001:0::1]', 'own.example']) {
            const url = `http://${host}:9/`;
            await assert.rejects(fetch(url, { mayBePrivate: false }), has(422, 'media_refused'), url);
        }
    });

    it('comes to an end where the answer changes the protocol', { timeout: 10_000 }, async (t) => {
        const head = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n';
        const server = net.createServer((socket) => socket.once('data', () => socket.write(head)));
        await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
        t.after(() => server.close());
        await assert.rejects(
            fetch(`http://127.0.0.1:${server.address().port}/`),
            has(422, 'media_not_fetched'),
        );
    });

    it('is connected to at the address that was looked at, and again at each redirect', async (t) => {
        const answers = { '/': words };
        const { port, asked } = await siteWith(t, answers);
        answers['/away'] = to(`http://later.example:${port}/`);
        const looked = [];
        const addresses = { 'first.example': '127.0.0.1', 'later.example': '127.0.0.1' };
        t.mock.method(require('node:dns'), 'lookup', (name, options, done) => {
            looked.push(name);
            done(null, options.all ? [{ address: addresses[name], family: 4 }] : addresses[name], 4);
        });
        await fetch(`http://first.example:${port}/away`);
        assert.deepEqual(looked, ['first.example', 'later.example'], 'each name once');
        assert.deepEqual(asked, ['/away', '/']);
    });

    it('has its limits', async (t) => {
        const { port } = await siteWith(t, {
            '/announced': (response) => response.writeHead(200, { 'Content-Length': 101 }).flushHeaders(),
            '/endless': (response) => {
                const more = () => response.write('x'.repeat(60)) && setImmediate(more);
                more();
            },
            '/gone': (response) => response.writeHead(404).end(),
            '/cut': (response) => {
                response.writeHead(200, { 'Content-Length': 50 }).write('x');
                setTimeout(() => response.destroy(), 20);
            },
            '/round': to('/round'),
            '/file': to('file:///etc/passwd'),
        });
        const at = (target) => fetch(`http://127.0.0.1:${port}${target}`);
        await assert.rejects(at('/announced'), has(413, 'too_large'));
        await assert.rejects(at('/endless'), has(413, 'too_large'));
        for (const target of ['/gone', '/cut', '/round', '/file']) {
            await assert.rejects(at(target), has(422, 'media_not_fetched'), target);
        }
        for (const url of ['file:///etc/passwd', 'nothing', 'ftp://x/', '']) {
            await assert.rejects(fetch(url), has(400, 'bad_request'), url);
        }
        await assert.rejects(fetch('http://127.0.0.1:1/?token=secret'), (error) => {
            assert.doesNotMatch(JSON.stringify([error.message, error.body]), /secret/);
            return has(422, 'media_not_fetched')(error);
        });
    });
});

'use strict';

/** What callers of a user's server send: it is understood, or refused by an error that repeats no secret. */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');

const { HttpError } = require('../../server/http');
const { boundaryOf, readParts, textOf } = require('../../server/multipart');
const { readId, readNumber, readRecipient } = require('../../server/numbers');
const outgoing = require('../../server/outgoing');
const { startLinked } = require('../node/support/light');
const { request } = require('../node/support/process');
const { fuzz } = require('./fuzz');

/** In what is sent here and there, and in no answer that is an error. */
const SECRET = 'Zx9-never-to-be-seen';
const TO = '5511988887777';

const oneOf =
    (...all) =>
    (chance) =>
        chance.pick(all);
const listOf =
    (make, most = 3) =>
    (chance) =>
        chance.some(most, () => make(chance));
const shape = (makers) => (chance) => chance.shaped(makers);
const text = (chance) => (chance.once(4) ? SECRET : chance.text(40));
const whom = oneOf(
    ...[TO, `+${TO}`, `${TO}@c.us`, '1@g.us', 'a@constructor', 'status@broadcast', '9'.repeat(101), 5, '+'],
);
const messageId = oneOf(`true_${TO}@c.us_A`, `false_1@g.us_B_${TO}@c.us`, SECRET, '');
const place = oneOf('http://127.0.0.1:9/', 'aGk=', 'data:image/png;base64,aGk=', 'a.png');
const file = (chance) =>
    chance.shaped({
        [chance.pick(['url', 'data', 'file'])]: place,
        type: oneOf('image/png', 'audio/ogg; codecs=opus', 'x', SECRET),
        name: text,
        caption: text,
    });
const contact = shape({
    name: text,
    phone: whom,
    vcard: oneOf('BEGIN:VCARD\nFN:a\nEND:VCARD', 'BEGIN:VCARD'),
});
const KINDS = {
    text,
    image: file,
    video: file,
    document: file,
    voice: file,
    sticker: file,
    location: shape({ latitude: oneOf(1, 91, '1'), longitude: oneOf(1, -181), name: text, address: text }),
    contact: (chance) => (chance.once(2) ? contact(chance) : listOf(contact)(chance)),
    poll: shape({ question: text, options: listOf(text, 13), multiple: oneOf(true, 'x') }),
};
const message = (chance) => {
    const kind = chance.pick(Object.keys(KINDS));
    const more = chance.shaped({ quote: messageId, mentions: listOf(whom), link_preview: oneOf(true) });
    const odd = chance.once(6) ? JSON.parse(chance.objectText(1)) : {};
    return { ...odd, ...(chance.once(2) ? more : {}), to: whom(chance), [kind]: KINDS[kind](chance) };
};

const small = shape({
    text,
    mentions: listOf(whom),
    reaction: oneOf('👍', '', 'ab'),
    to: whom,
    on: oneOf(true),
    action: oneOf('add', 'remove', 'x'),
    subject: text,
    description: text,
    participants: listOf(whom),
    cursor: text,
    all: oneOf(true),
});

/** Fail unless it reads what was given, or refuses it by an error for people that repeats nothing secret. */
function assertRead(read) {
    try {
        JSON.stringify(read());
    } catch (error) {
        assert.ok(error instanceof HttpError, error.stack);
        assert.ok([400, 413].includes(error.status), `status ${error.status}`);
        assert.ok(!JSON.stringify(error.body).includes(SECRET), 'a secret is repeated');
        assert.ok(JSON.stringify(error.body).length < 1000, 'the error is long');
    }
}

fuzz('any body of a call that sends is read, or refused', {
    times: 600,
    make: (chance) => ({
        message: message(chance),
        small: small(chance),
        country: chance.pick([null, '55', '1']),
    }),
    check({ message: given, small: other, country }) {
        assertRead(() => outgoing.readMessage(given, country));
        assertRead(() => outgoing.readEdit(other, country));
        assertRead(() => outgoing.readReaction(other));
        assertRead(() => outgoing.readForward(other, country));
        assertRead(() => outgoing.readSignal(other));
    },
});

const written = (chance) => chance.some(20, () => chance.pick([...'+0123456789 ()-@.'])).join('');

fuzz('any text is a number, an id, or neither', {
    times: 600,
    make: (chance) => ({
        given: chance.pick([whom, text, written])(chance),
        country: chance.pick([null, '55', '52', '1', '999']),
    }),
    check({ given, country }) {
        assertRead(() => {
            const { known, likely } = readRecipient(given, country);
            for (const id of [...known, ...likely]) assert.notEqual(readId(id), null, id);
            return known;
        });
        assertRead(() => {
            const { known } = readNumber(String(given), country);
            for (const digits of known) assert.match(digits, /^[1-9]\d{4,16}$/);
            return known;
        });
        assert.equal(readId('a@constructor'), null);
    },
    examples: [{ given: 'a@constructor', country: null }],
});

const BOUNDARY = 'x7';
const NAMES = ['message', 'image', 'document', 'constructor', '__proto__', 'a"b', '', '\\"'];

/** A body of multipart/form-data, nearly right. */
function multipart(chance) {
    const parts = chance.some(10, () => {
        const name = chance.pick(NAMES);
        const filename = chance.pick(['a.png', '../../x', '%22', '%zz', '\\']);
        const named = chance.once(2) ? `; filename="${filename}"` : '';
        const type = chance.once(2) ? `\r\nContent-Type: ${chance.pick(['image/png', '', SECRET])}` : '';
        const said = name === 'message' ? JSON.stringify(message(chance)) : chance.text(60);
        const head = `Content-Disposition: form-data; name="${name}"${named}${type}`;
        return `--${BOUNDARY}\r\n${head}\r\n\r\n${said}\r\n`;
    });
    const whole = Buffer.from(`${chance.once(6) ? 'words\r\n' : ''}${parts.join('')}--${BOUNDARY}--\r\n`);
    return chance.once(2) ? chance.damaged(whole) : whole;
}

async function readAll(chunks) {
    const found = [];
    try {
        for await (const part of readParts(chunks, BOUNDARY)) {
            // Some are left: the next part begins all the same.
            const content = part.name === 'document' ? null : await textOf(part.chunks, 5000);
            found.push([part.name, part.filename, part.type, content]);
        }
    } catch (error) {
        assert.ok(error instanceof HttpError, error.stack);
        found.push(error.body.error);
    }
    return found;
}

fuzz('the parts of a body do not depend on where the network cuts it, whatever is in it', {
    times: 100,
    make: multipart,
    async check(bytes, chance) {
        async function* come(chunks) {
            yield* chunks;
        }
        const whole = await readAll(come([bytes]));
        assert.deepEqual(await readAll(come(chance.cut(bytes))), whole);
        assert.deepEqual(await readAll(come([...bytes].map((byte) => Buffer.from([byte])))), whole);
        assertRead(() => boundaryOf(`multipart/form-data; ${chance.text(40)}`));
    },
    examples: [Buffer.from(''), Buffer.from(`--${BOUNDARY}--`), Buffer.from(`--${BOUNDARY}\r\n`.repeat(3))],
});

/** Ids and cursors in paths and queries: right, nearly right, and anything. */
const inUrl = (value) => encodeURIComponent(Buffer.from(String(value)).toString());
const segment = (chance) => inUrl(chance.pick([whom, messageId, text])(chance));
const SERIES = 'abcdefgh';
const cursor = oneOf(`${SERIES}-1`, `${SERIES}-${'9'.repeat(16)}`, '-1', '', `${SECRET}-1`, 'é', '0');
const QUERIES = {
    after: cursor,
    before: messageId,
    wait: oneOf('0', '-1', 'x', '1e9'),
    limit: oneOf('1', '0', '99999999999', 'NaN'),
    offset: oneOf('0', '-1', '1.5'),
    state: oneOf('pending', 'undelivered', 'x'),
    events: oneOf('message', 'message,call', 'x', ''),
    chat: segment,
    for: oneOf('me', 'all', 'x'),
};

const SCRIPT = path.join(__dirname, 'willing_server.js');

let server;
let paths;

const target = (chance) => {
    const [method, pattern] = chance.pick(paths);
    const filled = pattern.replace(/\{\w+\}/g, () => segment(chance) || 'x');
    const query = Object.entries(QUERIES).flatMap(([name, make]) =>
        chance.once(4) ? [`${name}=${inUrl(make(chance))}`] : [],
    );
    return [method, query.length === 0 ? filled : `${filled}?${query.join('&')}`];
};

function body(chance) {
    const kind = chance.upTo(5);
    if (kind === 0) return [chance.once(2) ? chance.json() : small(chance), {}];
    const type = { 'Content-Type': `multipart/form-data; boundary=${BOUNDARY}` };
    if (kind === 1) return [multipart(chance), type];
    if (kind === 2) return [chance.damaged(Buffer.from(JSON.stringify(message(chance)))), {}];
    if (kind === 3) return [{ phone: whom(chance), message: text(chance), user_id: text(chance) }, {}];
    return [message(chance), {}];
}

/** What node's own client sends as a header. */
const VISIBLE = /^[ -~]*$/;
/** Paths that are left out: those end the session or the process, or are followed without an end. */
const APART = /^\/(disconnect|events|qr|pairing-code)/;

fuzz('no call of any path fails a server, takes its memory, or has a secret come back', {
    times: 250,
    async before(t) {
        server = await startLinked(t, { script: SCRIPT, env: { WAPORTD_MEDIA_MAX: '100000' } });
        const { json } = await server.get('/');
        paths = json.endpoints
            .map((each) => (typeof each === 'string' ? each : `${each.method} ${each.path}`).split(' '))
            .filter(([, pattern]) => !APART.test(pattern));
        assert.ok(paths.length > 20, 'there are paths to try');
    },
    make: (chance) => ({
        call: target(chance),
        body: body(chance),
        headers: chance.shaped({
            'Idempotency-Key': oneOf('k1', 'k2', 'a b', 'x'.repeat(256)),
            'Last-Event-ID': (each) => cursor(each).replace(/[^\x20-\x7e]/g, ''),
            Accept: oneOf('application/json', '*/*', ''),
        }),
    }),
    async check({ call: [method, where], body: [sent, type], headers }) {
        const names = Object.entries({ ...type, ...headers }).filter(([, value]) => VISIBLE.test(value));
        const has = ['POST', 'PATCH', 'PUT'].includes(method);
        const given = Buffer.isBuffer(sent) ? sent : Buffer.from(JSON.stringify(sent));
        const options = { body: has ? given : undefined, headers: Object.fromEntries(names) };
        const answer = await request(server.port, method, where, options).catch(({ code }) => {
            // Who is hung up on while he still sends may not get to read why.
            assert.match(code, /^(ECONNRESET|EPIPE)$/);
            return { status: 400, json: { error: '' }, text: '' };
        });
        // 503 says what is missing: there is no WhatsApp behind this page.
        assert.ok(answer.status < 500 || answer.status === 503, `${answer.status} ${answer.text}`);
        if (answer.status >= 400) {
            assert.equal(typeof answer.json?.error, 'string', answer.text);
            assert.ok(!answer.text.includes(SECRET), `a secret is repeated: ${answer.text}`);
        }
        const said = fs.readFileSync(`/proc/${server.pid}/status`, 'utf8');
        assert.ok(Number(/VmRSS:\s+(\d+)/.exec(said)[1]) < 400_000, 'it takes more than 400 MB');
        const { status } = await request(server.port, 'GET', '/health');
        assert.equal(status, 200, 'a valid call next to it');
    },
});

'use strict';

/**
 * WhatsApp wants a passkey: whole sessions with the unmodified library, before a page that makes real
 * requests and verifies real signatures.
 */

const assert = require('node:assert/strict');
const path = require('node:path');
const { describe, it } = require('node:test');

const { ROOT, scratch, whenFound } = require('./support/process');
const { PHONE, browserOf, link, start } = require('./support/session');
const { startStandIn } = require('./support/standin');

/** Slow enough for a browser, and fast enough for limits of minutes. */
const SPEED = 30;
const FAST = {
    FAST_CLOCK: String(SPEED),
    NODE_OPTIONS: `--require ${path.join(ROOT, 'tests', 'node', 'support', 'fast-clock.js')}`,
    WAPORTD_START_TIMEOUT: '1200',
    WAPORTD_PROBE_INTERVAL: '400',
};

async function site(t, ...args) {
    const standin = await startStandIn(scratch(t), args);
    t.after(() => standin.stop());
    return standin;
}

/** Start a server that shows a code: `{server, events}`. */
async function startCode(t, standin, env = {}) {
    const server = await start(t, standin, { env });
    const events = server.follow();
    await server.post('/qr/new');
    await events.until('qr');
    return { server, events };
}

/** Where the events of a server will continue. */
const mark = (events) => events.documents.length;
const inStage = (stage) => (document) => document.passkey?.stage === stage;

/** Have a phone scan the code that is shown, for whose account WhatsApp wants a passkey. */
async function scan({ standin, server, wish = {} }) {
    await standin.command('passkey', wish);
    const { qr } = (await server.get('/session')).json;
    assert.deepEqual(await standin.command('scan', { qr, phone: PHONE }), { passkey: true });
}

/** The same, until the page's request is shown: its options. */
async function ask({ standin, server, events, wish }) {
    const from = mark(events);
    await scan({ standin, server, wish });
    const { state, passkey } = await events.until(inStage('asked'), 'the request', { from });
    assert.equal(state, 'passkey_required');
    return passkey.options;
}

/** What the phone's authenticator answers. */
const approve = (standin, options, wish) => standin.command('approve', { phone: PHONE, options, ...wish });

async function give({ standin, server, options }) {
    const answer = await server.post('/passkey', await approve(standin, options));
    assert.equal(answer.status, 202, answer.text);
    return answer.json;
}

/** Nothing of what is secret may be in what a server says to its log. */
function assertNothingTold(server, ...secrets) {
    for (const secret of secrets.flat()) {
        assert.ok(secret.length >= 8);
        assert.ok(!server.output.includes(secret), `the log has ${secret}`);
    }
}
const secretsOf = (options, { id, response }) => [
    options.challenge,
    ...options.allowCredentials.map((each) => each.id),
    id,
    ...Object.values(response),
];

for (const [shape, seed] of [
    ['today', '1'],
    ['today', '3'],
    ['2026-04', '2'],
]) {
    describe(`a passkey on the page of ${shape} with the names of build ${seed}`, () => {
        it('links within 3 s after the answer, and is in no log', async (t) => {
            const standin = await site(t, '--shape', shape, '--seed', seed);
            const { server, events } = await startCode(t, standin);
            const none = await server.get('/passkey');
            assert.deepEqual([none.status, none.json.code], [409, 'no_passkey_request']);
            const began = Date.now();
            const options = await ask({ standin, server, events });
            assert.ok(Date.now() - began < 3000, 'the request is there at once');
            assert.equal(options.rpId, 'whatsapp.com');
            assert.equal(options.userVerification, 'required');
            assert.equal(options.timeout, 600_000);
            assert.match(options.challenge, /^[\w-]{43}$/);
            const { json } = await server.get('/passkey');
            assert.deepEqual(json.options, options);
            const left = Date.parse(json.expires_at) - Date.now();
            assert.ok(left > 590_000 && left <= 600_000, `${left} ms`);
            const [{ passkeyPressed: pressed }] = await standin.pages();
            const press = { button: 'passkey_continue_button', trusted: true };
            assert.deepEqual(pressed, shape === 'today' ? [press] : []);

            const credential = await approve(standin, options);
            const given = await server.post('/passkey', credential);
            const answered = Date.now();
            assert.equal(given.status, 202, given.text);
            assert.deepEqual([given.json.stage, given.json.options], ['given', null]);
            const { passkey } = await events.until('ready');
            assert.ok(Date.now() - answered < 3000, `${Date.now() - answered} ms`);
            assert.equal(passkey, null);
            const waiting = events.documents.find(inStage('given'));
            assert.deepEqual([waiting.state, waiting.hint], ['pairing', null]);
            assert.equal((await server.get('/passkey')).status, 409);
            assertNothingTold(server, secretsOf(options, credential));
        });

        it('is not wanted of every account, and then nothing is pressed', async (t) => {
            const standin = await site(t, '--shape', shape, '--seed', seed);
            const { server, events } = await startCode(t, standin);
            await link(standin, events);
            assert.ok(events.documents.every(({ passkey }) => passkey === null));
            assert.doesNotMatch(server.output, /passkey/);
        });
    });
}

describe('an answer', () => {
    it('that is not the right one is refused, and the request continues', async (t) => {
        const standin = await site(t);
        const { server, events } = await startCode(t, standin);
        const options = await ask({ standin, server, events, wish: { compare: true } });
        const right = await approve(standin, options);
        const changed = (name, value) => ({ ...right, response: { ...right.response, [name]: value } });
        const told = (data) => Buffer.from(JSON.stringify(data)).toString('base64url');
        const { challenge } = options;
        const client = { type: 'webauthn.get', challenge, origin: 'https://web.whatsapp.com' };
        const other = { ...options, challenge: Buffer.alloc(32, 7).toString('base64url') };
        const foreign = { ...right, id: 'AAAA', rawId: 'AAAA' };
        const elsewhere = { origin: 'https://whatsapp.com.example' };
        const cases = [
            ['passkey_wrong_origin', await approve(standin, options, elsewhere)],
            ['passkey_wrong_challenge', await approve(standin, other)],
            ['passkey_wrong_type', changed('clientDataJSON', told({ ...client, type: 'webauthn.create' }))],
            ['passkey_wrong_site', await approve(standin, { ...options, rpId: 'web.whatsapp.com' })],
            ['passkey_not_verified', await approve(standin, options, { uv: false })],
            ['passkey_not_allowed', foreign],
            ['passkey_malformed', { ...right, type: 'password' }],
            ['passkey_malformed', {}],
            ['passkey_malformed', 'not JSON'],
        ];
        for (const [code, credential] of cases) {
            const { status, json } = await server.post('/passkey', credential);
            assert.deepEqual([status, json.code, json.cause], [400, code, code]);
            assert.ok(json.error && json.hint);
        }
        const long = await server.post('/passkey', { ...right, more: 'x'.repeat(8192) });
        assert.equal(long.status, 413);
        assert.deepEqual((await server.get('/passkey')).json.options, options, 'it goes on');
        const junk = await server.post('/passkey/confirm', 'not JSON');
        assert.deepEqual([junk.status, junk.json.error], [400, 'the body is not JSON']);
        const early = await server.post('/passkey/confirm', { code: 'AAAA-AAAA' });
        assert.deepEqual([early.status, early.json.code], [409, 'no_passkey_code']);

        assert.equal((await server.post('/passkey', right)).status, 202);
        const again = await server.post('/passkey', right);
        assert.deepEqual([again.status, again.json.code], [409, 'passkey_given']);
        const { state, passkey } = await events.until(inStage('code'));
        assert.equal(state, 'passkey_required');
        assert.match(passkey.code, /^[1-9A-Z]{4}-[1-9A-Z]{4}$/);
        assert.ok(Date.parse(passkey.expires_at) - Date.now() > 125_000, 'longer than the page waits');
        const wrong = await server.post('/passkey/confirm', { code: 'AAAA-AAAA' });
        assert.deepEqual([wrong.status, wrong.json.code], [409, 'passkey_code_changed']);
        const [{ passkeyPressed: before }] = await standin.pages();
        assert.ok(!before.some(({ button }) => button === 'code_confirm_button'), 'not unasked');
        assert.equal((await server.post('/passkey/confirm', { code: passkey.code })).status, 202);
        await events.until('ready');
        assertNothingTold(server, secretsOf(options, right), passkey.code);
    });

    it('whose signature is wrong fails, and is asked for again with another challenge', async (t) => {
        const standin = await site(t);
        const { server, events } = await startCode(t, standin);
        const options = await ask({ standin, server, events, wish: { again: 1, fails: 1 } });
        const failed = events.documents.find(inStage('failed'));
        assert.equal(failed.cause, 'passkey_failed', 'no options came at first');
        const from = mark(events);
        const wrong = await approve(standin, options, { wrong: true });
        assert.equal((await server.post('/passkey', wrong)).status, 202);
        const { state, cause, hint } = await events.until(inStage('failed'), 'the failure', { from });
        assert.deepEqual([state, cause], ['passkey_required', 'passkey_failed']);
        assert.ok(hint);
        const late = await server.post('/passkey', wrong);
        assert.deepEqual([late.status, late.json.code], [409, 'no_passkey_request']);
        const isNext = (before) => (document) =>
            document.passkey?.options && document.passkey.options.challenge !== before.challenge;
        const second = await events.until(isNext(options), 'another challenge', { from });
        const repeated = await server.post('/passkey', await approve(standin, options));
        assert.equal(repeated.json.code, 'passkey_wrong_challenge');
        const between = mark(events);
        await give({ standin, server, options: second.passkey.options });
        const isThird = (document) => isNext(options)(document) && isNext(second.passkey.options)(document);
        const third = await events.until(isThird, 'a further round', { from: between });
        await give({ standin, server, options: third.passkey.options });
        await events.until('ready');
    });
});

describe('the step for a passkey', () => {
    it('keeps codes, and uses none up, however long it lasts', async (t) => {
        const standin = await site(t, '--refs-ttl', '3000,800');
        const env = {
            WAPORTD_QR_MAX_RETRIES: '1',
            WAPORTD_QR_LIFETIME: '3,3',
            // Less than all codes take to go by, and more than a busy machine takes to the first question.
            WAPORTD_IDLE_TIMEOUT: '4',
        };
        const server = await start(t, standin, { env });
        // Who looks for their passkey asks for nothing meanwhile: the server stays.
        const tab = setInterval(() => server.get('/qr').catch(() => {}), 200);
        t.after(() => clearInterval(tab));
        const events = server.follow();
        await events.until('qr');
        const options = await ask({ standin, server, events });
        clearInterval(tab);
        const isIdle = async () => (await standin.pages())[0].state === 'UNPAIRED_IDLE';
        await whenFound(isIdle, 'all codes to have gone by behind the screen');
        const { json: document } = await server.get('/session');
        assert.deepEqual([document.state, document.passkey.options], ['passkey_required', options]);
        assert.equal(document.qr, null);
        assert.ok(await isIdle(), 'no other codes were asked for');
        for (const [method, target] of [
            ['GET', '/qr'],
            ['POST', '/qr/new'],
            ['GET', '/passkey'],
        ]) {
            await server.call(method, target);
        }
        assert.deepEqual((await server.get('/passkey')).json.options, options, 'who looks ends nothing');
        await give({ standin, server, options });
        await events.until('ready');
        assert.ok(!events.states.includes('qr_timeout'));
    });

    it('ends where the page is loaded again, or somebody cancels, and codes come at once', async (t) => {
        const standin = await site(t);
        const { server, events } = await startCode(t, standin);
        const first = await ask({ standin, server, events });
        let from = mark(events);
        await standin.command('reload-after', { ms: 0 });
        const { passkey } = await events.until('qr', 'codes after the reload', { from });
        assert.equal(passkey, null);
        assert.equal((await server.post('/passkey', await approve(standin, first))).status, 409);

        const second = await ask({ standin, server, events });
        assert.notEqual(second.challenge, first.challenge);
        from = mark(events);
        assert.equal((await server.delete('/passkey')).status, 204);
        assert.notEqual((await server.get('/session')).json.state, 'passkey_required');
        await events.until('qr', 'codes after the cancel', { from });
        assert.equal((await server.delete('/passkey')).status, 409);
        const [{ passkey: stage }] = await standin.pages();
        assert.equal(stage, null, 'the page was told');

        const third = await ask({ standin, server, events, wish: { compare: true } });
        await give({ standin, server, options: third });
        await events.until(inStage('code'));
        from = mark(events);
        assert.equal((await server.delete('/passkey')).status, 204, 'the letters are others');
        await events.until('qr', 'codes after the letters', { from });
        const { qr } = (await server.get('/session')).json;
        await standin.command('scan', { qr, phone: PHONE, name: 'Ana' });
        await events.until('ready');
    });

    it('ends with its browser, and codes come in another one', async (t) => {
        const standin = await site(t);
        const { server, events } = await startCode(t, standin);
        await ask({ standin, server, events });
        const from = mark(events);
        process.kill(browserOf(server), 'SIGKILL');
        const { passkey } = await events.until('qr', 'codes in another browser', { from });
        assert.equal(passkey, null);
        assert.equal((await server.get('/passkey')).json.code, 'no_passkey_request');
    });

    it('comes after a pairing code, too, and a number that is typed again ends it', async (t) => {
        const standin = await site(t);
        const server = await start(t, standin);
        const events = server.follow();
        const typed = async () => {
            const { json } = await server.post('/pairing-code', { phone: PHONE });
            await standin.command('passkey');
            await standin.command('pair', { code: json.code, phone: PHONE });
            const asked = await events.until(inStage('asked'), 'the request', { from: mark(events) });
            return { code: json.code, options: asked.passkey.options };
        };
        const first = await typed();
        const second = await typed();
        assert.notEqual(second.code, first.code);
        await give({ standin, server, options: second.options });
        await events.until('ready');
    });

    it('goes back from a pairing code to codes to scan where somebody cancels', async (t) => {
        const standin = await site(t);
        const server = await start(t, standin);
        const events = server.follow();
        const { json } = await server.post('/pairing-code', { phone: PHONE });
        await standin.command('passkey');
        await standin.command('pair', { code: json.code, phone: PHONE });
        await events.until(inStage('asked'));
        assert.equal((await server.delete('/passkey')).status, 204);
        await events.until('qr');
    });

    it('asks three times automatically, and then shows codes', async (t) => {
        const standin = await site(t);
        const { server, events } = await startCode(t, standin);
        await ask({ standin, server, events, wish: { timeout: 300 } });
        const from = events.documents.findIndex(inStage('opening'));
        await events.until('qr', 'codes', { from });
        const seen = events.documents.slice(from);
        const challenges = seen.map(({ passkey }) => passkey?.options?.challenge).filter(Boolean);
        assert.equal(new Set(challenges).size, 3);
        const [{ passkey, ref }] = await standin.pages();
        assert.deepEqual([passkey, Boolean(ref)], [null, true]);
        const { cause } = seen.findLast(({ state }) => state === 'generating');
        assert.equal(cause, 'passkey_failed');
    });

    it('has longer limits than the page, and ends where nothing follows an answer', async (t) => {
        const standin = await site(t);
        const { server, events } = await startCode(t, standin, FAST);
        const options = await ask({ standin, server, events, wish: { silent: true, limit: null } });
        const { expires_at: until } = await give({ standin, server, options });
        const given = await events.until(inStage('given'));
        const limit = Date.parse(until) - Date.parse(given.since);
        // The clock is fast: what a busy host takes between the two looks like seconds.
        assert.ok(limit >= 130_000 && limit < 136_000, `${limit} ms`);
        const from = mark(events);
        const failed = await events.until(inStage('failed'), 'the failure', { from });
        assert.equal(failed.cause, 'passkey_failed');
        const { cause, message } = await events.until('generating', 'the end', { from });
        assert.equal(cause, 'passkey_failed');
        assert.match(message, /waiting for the next code/);
        await events.until('qr', 'codes', { from });
    });
});

describe('the button', () => {
    it('is found where the page has changed, if it is the only one', async (t) => {
        const standin = await site(t);
        const { server, events } = await startCode(t, standin);
        for (const [look, way] of [
            ['renamed', 'tree'],
            ['anonymous', 'tree'],
            ['twins', 'module'],
        ]) {
            await ask({ standin, server, events, wish: { look } });
            assert.ok(server.output.includes(`pressed=continue way=${way}`), `${look}: ${server.output}`);
            const [{ passkeyPressed: pressed }] = await standin.pages();
            const press = { button: 'passkey_continue_button', trusted: true };
            assert.deepEqual(pressed, way === 'tree' ? [press] : [], look);
            const from = mark(events);
            await server.delete('/passkey');
            await events.until('qr', 'codes', { from });
        }
    });

    it('that is missing is reported, and no other is pressed', async (t) => {
        const standin = await site(t);
        const gone = { module: 'WAWebShortcakeLinkingAction', member: 'startShortcakePasskeyPairing' };
        await standin.command('break', gone);
        const { server, events } = await startCode(t, standin);
        await scan({ standin, server, wish: { look: 'missing' } });
        const { state, cause, message, passkey } = await events.until(inStage('failed'));
        assert.deepEqual([state, cause], ['passkey_required', 'passkey_button_missing']);
        assert.match(message, /codes again at \d\d:\d\d:\d\d UTC/);
        assert.deepEqual(passkey, { stage: 'failed', options: null, expires_at: null, code: null });
        const [{ passkeyPressed: pressed }] = await standin.pages();
        assert.deepEqual(pressed, []);
        const line = server.output.match(/.*a button for the passkey is missing.*/)[0];
        assert.match(line, /shortcake_passkey_screen/);
        assert.doesNotMatch(line, /Create|Log out/);
        const from = mark(events);
        await server.delete('/passkey');
        await events.until('qr', 'codes', { from });
    });
});

'use strict';

/** The pages' modules that need no page: what is shown of which state, words, figures, and the stream. */

const assert = require('node:assert');
const { once } = require('node:events');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { after, before, test } = require('node:test');
const vm = require('node:vm');

const contract = require('../../server/contract.json');

const ROOT = path.resolve(__dirname, '../..');
const NOW = Date.parse('2026-01-01T12:00:00Z');
const at = (seconds) => new Date(NOW + seconds * 1000).toISOString();

const web = {};
/** The words of each page in each of its languages. */
const words = { connect: {}, dashboard: {} };
/** Have the dashboard's modules use the words of a language. */
const speak = (language) => web.fill(web.dashboardText, words.dashboard[language]);
const LANGUAGES = { connect: ['en', 'pt-BR', 'es'], dashboard: ['en', 'pt-BR'] };
const stored = new Map();

before(async () => {
    // What the modules expect of a page around them.
    globalThis.location = new URL('http://localhost/connect?user=2&expires=9&signature=s%2Fg');
    globalThis.document = Object.assign(new EventTarget(), { baseURI: 'http://localhost/', hidden: false });
    const page = new EventTarget();
    globalThis.addEventListener = page.addEventListener.bind(page);
    globalThis.dispatchEvent = page.dispatchEvent.bind(page);
    globalThis.sessionStorage = {
        getItem: (key) => stored.get(key) ?? null,
        setItem: (key, value) => stored.set(key, value),
        removeItem: (key) => stored.delete(key),
    };
    const load = (name) => import(path.join(ROOT, 'waportd/web', `${name}.mjs`));
    const pure = ['connect-view', 'texts', 'states', 'format', 'phone', 'processor', 'passkey-snippet'];
    for (const name of ['api', 'stream', 'passkey-helper', ...pure]) Object.assign(web, await load(name));
    for (const [which, languages] of Object.entries(LANGUAGES))
        for (const language of languages)
            words[which][language] = (await load(`${which}-texts.${language}`)).words;
    speak('en');
});

// ---- the connect page's views ---------------------------------------------------------------------

const QR = {
    status: 'generating',
    qr: null,
    expires_at: null,
    attempt: 0,
    message: 'm',
    cause: null,
    hint: null,
};
const view = (qr, facts = {}) =>
    web.viewOf({
        user: { session: null },
        qr: { ...QR, ...qr },
        problem: null,
        pairing: null,
        byPhone: false,
        numberHere: false,
        codeReplaced: false,
        deleted: false,
        now: NOW,
        ...facts,
    }).kind;
const code = { status: 'qr', qr: 'text', expires_at: at(20), attempt: 1 };
const pairing = { code: 'ABCD-EFGH', expires_at: at(60) };

test('each state has a view of its own', () => {
    const kinds = {
        starting: 'preparing',
        generating: 'preparing',
        stopping: 'stopping',
        authenticated: 'linking',
        ready: 'linked',
        disconnected: 'reconnecting',
        qr_timeout: 'timeout',
        passkey_required: 'passkey-stuck',
        logged_out: 'logged-out',
        error: 'error',
        failed: 'failed',
        crash_loop: 'failed',
        'something new': 'error',
    };
    for (const [status, kind] of Object.entries(kinds)) assert.equal(view({ status }), kind, status);
    assert.equal(view({ status: 'stopped', hint: 'start it' }), 'stopped');
    assert.equal(view({ status: 'stopped' }), 'idle');
    assert.equal(view({ status: 'failed', cause: 'limit_reached' }), 'busy');
    assert.equal(view(code), 'code');
    assert.equal(view({}, { user: null, qr: null }), 'preparing');
    assert.equal(view({}, { deleted: true }), 'deleted');
});

test('between two codes the page stays as it is, and a browser that starts again is reported', () => {
    assert.equal(view({ attempt: 1 }), 'code');
    assert.equal(view({ attempt: 0 }), 'preparing');
});

test('a number in place of a scan is asked for only where nothing is linked', () => {
    assert.equal(view(code, { byPhone: true }), 'phone');
    assert.equal(view({ status: 'qr_timeout' }, { byPhone: true }), 'phone');
    assert.equal(view({ status: 'ready' }, { byPhone: true }), 'linked');
    assert.equal(view({ status: 'error' }, { byPhone: true }), 'error');
});

test('a pairing code is shown to who asked for it, for as long as it is valid', () => {
    const waiting = { status: 'pairing', hint: 'on the phone: …' };
    assert.equal(view(waiting, { pairing }), 'pairing');
    assert.equal(view({}, { pairing }), 'pairing');
    assert.equal(view(waiting, { pairing, now: NOW + 61_000 }), 'phone');
    assert.equal(view({ status: 'pairing' }, { pairing }), 'linking');
    assert.equal(view({ status: 'qr_timeout' }, { pairing, byPhone: true }), 'phone');
});

test('a page says that a code was asked for elsewhere, unless its visitor wants one here', () => {
    const waiting = { status: 'pairing', hint: 'on the phone: …' };
    assert.equal(view(waiting), 'elsewhere');
    assert.equal(view(waiting, { byPhone: true }), 'elsewhere');
    assert.equal(view(waiting, { byPhone: true, numberHere: true }), 'phone');
    assert.equal(view({ status: 'pairing' }, { numberHere: true }), 'linking');
});

test('a pairing code is lost to a page when the session waits for another one, and not before', () => {
    const THEN = at(-30);
    const news = (qr, since, facts = {}) =>
        web.pairingAfter({
            ...{ user: { session: { since } }, qr: { ...QR, ...qr }, codeReplaced: false, numberHere: true },
            ...{ pairing: { ...pairing, since: THEN }, now: NOW, ...facts },
        });
    const waiting = { status: 'pairing', hint: 'on the phone: …' };
    const kept = ({ pairing: one, codeReplaced }) => [one !== null, codeReplaced];
    assert.deepEqual(kept(news(waiting, THEN)), [true, false]);
    assert.deepEqual(kept(news({ status: 'pairing' }, THEN)), [true, false], 'the phone has answered');
    assert.deepEqual(kept(news(waiting, at(-1))), [false, true], 'another code, of which nothing was heard');
    assert.deepEqual(kept(news({ status: 'generating' }, at(-1))), [false, true]);
    assert.deepEqual(kept(news(code, at(-1))), [false, true]);
    // Its end, or its purpose, is not its loss.
    for (const status of ['qr_timeout', 'authenticated', 'ready', 'passkey_required'])
        assert.deepEqual(kept(news({ status }, at(-1))), [false, false], status);
    assert.deepEqual(kept(news(code, at(-1), { now: NOW + 61_000 })), [false, false]);
    // The answer with the code may come before the news of it.
    const fresh = { pairing: { ...pairing, since: null } };
    assert.deepEqual(kept(news({ status: 'generating' }, at(-1), fresh)), [true, false]);
    assert.equal(news({ status: 'generating' }, at(-1), fresh).numberHere, true);
    assert.equal(news(waiting, THEN, fresh).pairing.since, THEN);
    assert.equal(news(waiting, THEN, fresh).numberHere, false);
    assert.deepEqual(kept(news({ status: 'ready' }, at(-1), fresh)), [false, false]);
    assert.deepEqual(kept(news(waiting, THEN, { pairing: null })), [false, false]);
});

test('the page leads back where the daemon vouches for it, else within its own site', () => {
    const { returnAddress } = web;
    const PAGE = 'https://app.example.com/whatsapp/connect?user=2';
    assert.equal(returnAddress('https://other.example/a', '/b', PAGE), 'https://other.example/a');
    assert.equal(returnAddress(undefined, '/settings?a=b#c', PAGE), 'https://app.example.com/settings?a=b#c');
    assert.equal(returnAddress(undefined, 'https://app.example.com/', PAGE), 'https://app.example.com/');
    assert.equal(returnAddress(undefined, 'back', PAGE), 'https://app.example.com/whatsapp/back');
    for (const asked of [
        ...[null, '', 'https://evil.example/', '//evil.example/', '\\\\evil.example/', '/\\evil.example'],
        ...[
            'http://app.example.com/',
            'https://app.example.com:8443/',
            'https://app.example.com@evil.example',
        ],
        ...['javascript:alert(1)', 'data:text/html,x', 'blob:https://app.example.com/1', 'https://'],
        ...['JavaScript:alert(1)', ' javascript:alert(1)', 'java\nscript:alert(1)', 'vbscript:x', 'file:///'],
        ...['https://name@app.example.com/', 'https://name:word@app.example.com/', '//evil@app.example.com/'],
        ...['https://app.example.com./', 'https://app.example.com.evil.example/', 'https:\\\\evil.example'],
        ...[
            '\t//evil.example/',
            '///evil.example/',
            'https:///evil.example',
            'https://xn--pp-9ja.example.com/',
        ],
        ...['HTTP://APP.EXAMPLE.COM/', 'wss://app.example.com/', 'https://evil.example\\@app.example.com/'],
    ])
        assert.equal(returnAddress(undefined, asked, PAGE), null, asked);
});

test('each stage of a passkey has a view of its own', () => {
    const asked = (stage, status = 'passkey_required') => view({ status, passkey: { stage } });
    assert.equal(asked('opening'), 'passkey-opening');
    assert.equal(asked('asked'), 'passkey');
    assert.equal(asked('given', 'pairing'), 'passkey-given');
    assert.equal(asked('code'), 'passkey-code');
    assert.equal(asked('failed'), 'passkey-failed');
    assert.equal(asked('something new'), 'passkey-stuck');
    // Nothing can be done, or the daemon is an older one that says nothing of it.
    assert.equal(view({ status: 'passkey_required', passkey: null }), 'passkey-stuck');
    assert.equal(view({ status: 'passkey_required' }), 'passkey-stuck');
    // The step goes before a number that was to be typed, and before a code that is still valid.
    const meanwhile = { byPhone: true, pairing };
    assert.equal(view({ status: 'passkey_required', passkey: { stage: 'asked' } }, meanwhile), 'passkey');
    assert.equal(view({ status: 'pairing', passkey: { stage: 'given' } }, meanwhile), 'passkey-given');
});

test('what an answer refuses is shown, and an answer that is missing is not taken for one', () => {
    const told = (status, problemCode = 'x') =>
        view(code, { problem: new web.Problem({ status, code: problemCode, detail: 'd' }) });
    assert.equal(told(401), 'refused');
    assert.equal(told(403), 'refused');
    const ready = {
        problem: new web.Problem({ status: 403, code: 'link_expired' }),
        user: { session: { state: 'ready' } },
    };
    assert.equal(view({ status: 'ready' }, ready), 'linked');
    assert.equal(told(403, 'link_expired'), 'expired');
    const ended = { problem: new web.Problem({ status: 403, code: 'link_expired', detail: 'd' }) };
    assert.equal(view({ status: 'pairing' }, ended), 'expired-linking');
    assert.equal(view({ status: 'authenticated' }, ended), 'expired-linking');
    assert.equal(view({}, { ...ended, user: null, qr: null }), 'expired');
    assert.equal(told(400), 'bad-address');
    assert.equal(told(503, 'limit_reached'), 'busy');
    assert.equal(told(503, 'ports_exhausted'), 'busy');
    assert.equal(told(429), 'busy');
    assert.equal(told(502, 'server_failed'), 'failed');
    assert.equal(told(0, null), 'code');
    assert.equal(told(502, null), 'code');
    assert.equal(told(503, 'restarting'), 'code');
});

test('there is something to say about every view', () => {
    const source = fs.readFileSync(path.join(ROOT, 'waportd/web/connect-view.mjs'), 'utf8');
    const kinds = [...source.matchAll(/(?:return|kind =|view\(|: |\?) ?'([a-z-]+)'/g)].map(
        ([, kind]) => kind,
    );
    assert.ok(kinds.length > 15, kinds.join());
    for (const kind of kinds) assert.ok(words.connect.en.views[kind]?.title, kind);
});

test('each reason why nothing was signed has words', () => {
    const reasons = ['busy', 'refused', 'closed', 'not_allowed', 'bad_request', 'failed'];
    assert.deepEqual(Object.keys(words.connect.en.passkey.unsigned), reasons);
    for (const reason of reasons) assert.equal(new web.NotSigned(reason).reason, reason);
    for (const reason of ['something new', undefined, '__proto__'])
        assert.equal(new web.NotSigned(reason).reason, 'failed');
});

test('each refusal of what was signed has words', () => {
    const source = fs.readFileSync(path.join(ROOT, 'waportd/server_client.py'), 'utf8');
    const codes = new Set([...source.matchAll(/"((?:no_)?passkey_[a-z_]+)"/g)].map(([, one]) => one));
    codes.delete('passkey_required');
    assert.ok(codes.size > 10, [...codes].join());
    for (const one of codes) assert.ok(words.connect.en.passkey.problems[one], one);
});

test('nobody is advised to remove a passkey', () => {
    for (const name of fs.readdirSync(path.join(ROOT, 'waportd/web')).filter((one) => /mjs$/.test(one))) {
        const source = fs.readFileSync(path.join(ROOT, 'waportd/web', name), 'utf8');
        assert.doesNotMatch(
            source,
            /remove the passkey|remova a chave|(quita|elimina|borra) la llave/i,
            name,
        );
    }
});

test('minutes are counted as people do', () => {
    const { en, 'pt-BR': pt, es } = words.connect;
    const said = (texts) => [10, 2, 1, 0].map((minutes) => texts.passkey.left(minutes));
    assert.deepEqual(said(en).slice(0, 3), ['10 minutes left', '2 minutes left', 'The last minute']);
    assert.deepEqual(said(pt).slice(0, 2), ['Restam 10 minutos', 'Restam 2 minutos']);
    assert.deepEqual(said(es).slice(0, 3), [
        'Quedan 10 minutos',
        'Quedan 2 minutos',
        'Queda menos de 1 minuto',
    ]);
    assert.match(said(en)[3], /time is up/);
});

test('the causes that have words of their own exist', () => {
    const folders = ['server', 'waportd', 'waportd/api', 'waportd/systemd'].map((name) =>
        path.join(ROOT, name),
    );
    const sources = folders.flatMap((folder) =>
        fs
            .readdirSync(folder)
            .filter((name) => /\.(js|py)$/.test(name))
            .map((name) => fs.readFileSync(path.join(folder, name), 'utf8')),
    );
    const { causes, pairingProblems } = words.connect.en;
    for (const cause of [...Object.keys(causes), ...Object.keys(pairingProblems)]) {
        if (cause === 'other') continue;
        assert.ok(
            sources.some((text) => text.includes(`'${cause}'`) || text.includes(`"${cause}"`)),
            cause,
        );
    }
});

test('phone numbers are read as people write them', () => {
    const { phoneOf, phoneText } = web;
    for (const text of ['+55 11 99999-8888', '55 (11) 99999.8888', '5511999998888']) {
        assert.equal(phoneOf(text), '+5511999998888');
        assert.equal(phoneOf(text, '55'), '+5511999998888');
    }
    for (const text of ['', '+55', '011 99999-8888', '+55 11 99999 888x', '1234567', '1'.repeat(16)]) {
        assert.equal(phoneOf(text), null, text);
        assert.equal(phoneOf(text, '55'), null, text);
    }
    // Without a country code it is of this one, and nowhere of another one.
    assert.equal(phoneOf('11 99999-8888', '55'), '+5511999998888');
    assert.equal(phoneOf('(11) 3333-4444', '55'), '+551133334444');
    assert.equal(phoneOf('+1 202 555 0123', '55'), '+12025550123');
    assert.equal(phoneOf('+47 1234 5678', '55'), '+4712345678');
    assert.equal(phoneOf('202 555 0123'), null);
    assert.equal(phoneOf('1 202 555 0123'), '+12025550123');
    assert.equal(phoneText('5511999990001'), '+55 11 99999-0001');
    assert.equal(phoneText('12025550123'), '+12025550123');
});

// ---- passkeys ---------------------------------------------------------------------------------------

const OWN = { id: 'own', url: 'assets/passkey-extension.zip', own: true };
const OTHER = { id: 'other', url: 'https://store.example/', own: false };
const OPTIONS = { challenge: 'Y2hhbGxlbmdl', rpId: 'whatsapp.com', allowCredentials: [], timeout: 600_000 };
const CREDENTIAL = { id: 'aWQ', rawId: 'aWQ', type: 'public-key', response: { signature: 'c2ln' } };

/** A browser with these extensions: by id what one answers to a message, and what it does on a channel. */
function withExtensions(t, extensions) {
    const ports = [];
    const runtime = {
        lastError: undefined,
        sendMessage: (id, message, done) => {
            if (id === 'broken') throw new TypeError('invalid extension id');
            setImmediate(() => {
                const answer = extensions[id]?.answer?.(message);
                if (answer !== 'silence') done(answer);
            });
        },
        connect: (id, { name }) => {
            assert.equal(name, 'waportd-passkey');
            const port = { heard: [], onMessage: [], onDisconnect: [], isOpen: true };
            ports.push(port);
            setImmediate(() => extensions[id] ?? port.onDisconnect.forEach((tell) => tell(port)));
            const listeners = (list) => ({ addListener: (tell) => list.push(tell) });
            return {
                onMessage: listeners(port.onMessage),
                onDisconnect: listeners(port.onDisconnect),
                disconnect: () => (port.isOpen = false),
                postMessage: (message) => {
                    port.heard.push(message);
                    const answer = (said) => port.onMessage.forEach((tell) => tell(said));
                    extensions[id]?.port?.(message, answer);
                },
            };
        },
    };
    globalThis.chrome = { runtime };
    t.after(() => delete globalThis.chrome);
    return ports;
}

const never = () => new AbortController().signal;
const pong = ({ type }) => (type === 'waha-passkey-ping' ? { ok: true } : undefined);

test('the first extension that answers is taken, and none where none does', async (t) => {
    assert.equal(await web.findHelper([OWN, OTHER]), null, 'a browser without any');
    withExtensions(t, { own: { answer: pong }, other: { answer: pong }, rude: { answer: () => 'hello' } });
    assert.equal(await web.findHelper([OWN, OTHER]), OWN);
    assert.equal(await web.findHelper([{ id: 'gone' }, { id: 'broken' }, { id: 'rude' }, OTHER]), OTHER);
    assert.equal(await web.findHelper([]), null);
});

test('the own extension signs over a channel that is kept alive', async (t) => {
    const beats = new Set();
    t.mock.method(globalThis, 'setInterval', (tell, ms) => {
        assert.equal(ms, 20_000);
        beats.add(tell);
        return tell;
    });
    t.mock.method(globalThis, 'clearInterval', (tell) => beats.delete(tell));
    let answer;
    const ports = withExtensions(t, { own: { port: (_, tell) => (answer = tell) } });
    const signed = web.sign(OWN, OPTIONS, never());
    assert.deepEqual(ports[0].heard, [{ type: 'sign', options: OPTIONS }]);
    for (let beat = 0; beat < 3; beat += 1) for (const tell of beats) tell();
    assert.deepEqual(ports[0].heard.slice(1), Array(3).fill({ type: 'beat' }));
    answer({ ok: true, assertion: CREDENTIAL });
    assert.equal(await signed, CREDENTIAL);
    assert.equal(ports[0].isOpen, false);
    assert.equal(beats.size, 0, 'no beat after the end');
});

test('another extension signs with one message', async (t) => {
    const answers = (message) => {
        assert.deepEqual(message, { type: 'waha-passkey-sign', challenge: OPTIONS });
        return { ok: true, assertion: CREDENTIAL };
    };
    withExtensions(t, { other: { answer: answers } });
    assert.equal(await web.sign(OTHER, OPTIONS, never()), CREDENTIAL);
});

test('why nothing was signed is said in the words of the contract', async (t) => {
    const says = (answer) => ({ port: (message, tell) => message.type === 'sign' && tell(answer) });
    const reason = async (extensions, helper = OWN) => {
        withExtensions(t, extensions);
        const error = await web.sign(helper, OPTIONS, never()).catch((thrown) => thrown);
        assert.ok(error instanceof web.NotSigned, String(error));
        return error.reason;
    };
    assert.equal(await reason({ own: says({ ok: false, error: 'refused' }) }), 'refused');
    assert.equal(await reason({ own: says({ ok: false, error: 'NotAllowedError: …' }) }), 'failed');
    assert.equal(await reason({ own: says({ ok: true, assertion: 'text' }) }), 'failed');
    assert.equal(await reason({}), 'closed', 'removed meanwhile');
    assert.equal(await reason({}, OTHER), 'closed');
    const wordy = { answer: () => ({ ok: false, error: 'any words' }) };
    assert.equal(await reason({ other: wordy }, OTHER), 'failed');
    delete globalThis.chrome;
    await assert.rejects(web.sign(OWN, OPTIONS, never()), { reason: 'closed' });
});

test("a request that is over ends the extension's channel", async (t) => {
    const ports = withExtensions(t, { own: {} });
    const over = new AbortController();
    const signed = web.sign(OWN, OPTIONS, over.signal);
    over.abort();
    await assert.rejects(signed, { reason: 'closed' });
    assert.equal(ports[0].isOpen, false);
});

test('the snippet holds the options, whatever is in them, and is a script', () => {
    const source = fs.readFileSync(path.join(ROOT, 'waportd/web/snippet.js'), 'utf8');
    assert.equal(source.split('__OPTIONS__').length, 2, 'once');
    const tricky = { ...OPTIONS, text: '$& $1 \u2028 `${x}` </script> \'"' };
    const script = web.fillIn(source, tricky);
    assert.ok(script.includes(JSON.stringify(tricky)));
    assert.doesNotThrow(() => new vm.Script(script));
    assert.ok(script.length < 3_000);
});

test('what a person copied is read as text or as JSON, and not unless it is whole', () => {
    const json = JSON.stringify({ ...CREDENTIAL, name: 'Ação' });
    const text = Buffer.from(json).toString('base64url');
    const whole = JSON.parse(json);
    const broken = text.replace(/.{40}/g, '$&\r\n  ');
    const copied = [text, json, `'${text}'`, `  "${text}"\n`, broken, JSON.stringify(whole, null, 4)];
    for (const one of copied) assert.deepEqual(web.credentialOf(one), whole, one);
    const cut = [text.slice(0, -5), text.slice(4), json.slice(0, -1)];
    const wrong = ['', 'x', ...cut, '{}', 'null', '[]', '"text"', '{"id": "x", "response": null}'];
    for (const one of wrong) assert.equal(web.credentialOf(one), null, one);
});

// ---- the dashboard's words and figures --------------------------------------------------------------

const process_ = {
    state: 'running',
    since: at(-60),
    message: 'p',
    cause: null,
    hint: null,
    pid: 1,
    restarts: 0,
};
const session = { state: 'ready', since: at(-5), message: 's', cause: null, hint: null, answering: true };
const user = (changes = {}) => ({
    user: '2',
    port: 5002,
    unit: 'whatsapp@5002.service',
    host: null,
    memory: null,
    cpu: null,
    storage: null,
    summary: {
        ...{ state: 'ready', group: 'linked', since: at(-5), message: 's', cause: null, hint: null },
        ...changes.summary,
    },
    linked: false,
    process: { ...process_, ...changes.process },
    session: changes.session === null ? null : { ...session, ...changes.session },
});

test('what all sessions keep on disk is summed up, and whose is the largest', () => {
    const { diskOf, diskText } = web;
    const keeping = (login, cache, journal, snapshots = 0) => ({
        storage: { login, cache, journal, snapshots, measured_at: at(0) },
    });
    const one = user();
    const two = { ...one, ...keeping(5, 1, 2) };
    const three = { ...one, ...keeping(4, 1, 1, 3) };
    assert.equal(diskOf([]), null);
    assert.equal(diskOf([one]), null, 'nothing was measured');
    assert.deepEqual(diskOf(new Map(Object.entries([one, two, three])).values()), {
        login: 9,
        cache: 2,
        journal: 3,
        snapshots: 3,
        largest: three,
    });
    const text = '3.0 GB login, 200 MB cache, 7.0 MB journal, 0 B snapshots';
    assert.equal(diskText(keeping(3 * 2 ** 30, 200 * 2 ** 20, 7 * 2 ** 20).storage), text);
});

test('every state has a word, and that of a process a group', () => {
    const wordOf = (state) => web.conditionOf(user({ summary: { state } })).word;
    const { states } = web.dashboardText;
    for (const state of Object.keys(contract.session_states)) assert.equal(wordOf(state), states[state]);
    for (const state of Object.keys(contract.process_states)) {
        const [group, word] = web.stateWords(state);
        assert.equal(word, states[state]);
        assert.ok(contract.groups[group].includes(state), state);
    }
    assert.equal(wordOf('new_one'), 'new_one');
});

test('what is wrong has words of its own where the state does not say it', () => {
    const summed = (cause) => web.conditionOf(user({ summary: { cause } })).word;
    for (const cause of contract.causes.daemon) assert.notEqual(summed(cause), 'linked', cause);
    assert.equal(summed('of a newer daemon'), 'linked');
});

test('group, message, hint and time are those of the summary', () => {
    const said = { group: 'trouble', message: 'gone', hint: 'fix it', since: at(-7) };
    const failed = web.conditionOf(user({ summary: { ...said, state: 'failed', cause: 'killed' } }));
    assert.deepEqual(failed, { ...said, word: 'failed' });
});

test('who waits for a person with a passkey, and who is only asleep, has words of its own', () => {
    const word = (state, group) => web.conditionOf(user({ summary: { state, group } })).word;
    assert.equal(word('passkey_required', 'waiting'), 'passkey wanted');
    assert.notEqual(word('passkey_required', 'trouble'), 'passkey wanted');
    assert.equal(word('stopped', 'asleep'), 'asleep');
    assert.equal(word('stopped', 'idle'), 'stopped');
    assert.ok(web.matches(user({ summary: { state: 'stopped', group: 'asleep' } }), 'asleep'));
});

test('only what makes sense is offered', () => {
    assert.deepEqual(web.actionsFor(user()), ['restart', 'stop', 'logout', 'delete']);
    const down = user({ process: { state: 'failed' } });
    assert.deepEqual(web.actionsFor({ ...down, linked: false }), ['start', 'delete']);
    assert.deepEqual(web.actionsFor({ ...down, linked: true }), ['start', 'logout', 'delete']);
});

test('users are found by what is known of them', () => {
    const ana = user({ session: { name: 'Ana Souza', phone_number: '5511999990001' } });
    for (const typed of ['2', '5002', 'ana', 'SOUZA linked', '99999', 'running'])
        assert.ok(web.matches(ana, typed), typed);
    for (const typed of ['bia', 'ana stopped', '5003']) assert.ok(!web.matches(ana, typed), typed);
});

test('numbers among names are ordered as numbers', () => {
    const names = ['10', '2', '2_10', '2_9', '1'].map((name, index) => ({
        ...user(),
        user: name,
        port: index,
    }));
    names.sort(web.ORDER.user);
    assert.deepEqual(
        names.map((one) => one.user),
        ['1', '2', '2_9', '2_10', '10'],
    );
});

test('figures are short', () => {
    const { bytes, age, percent } = web;
    assert.deepEqual([0, 999, 231 << 20, 1500 << 20, 32 * 2 ** 30].map(bytes), [
        '0 B',
        '999 B',
        '231 MB',
        '1.5 GB',
        '32 GB',
    ]);
    const ages = [0, 59, 60, 3599, 3600, 47 * 3600, 48 * 3600].map((seconds) => age(at(-seconds), NOW));
    assert.deepEqual(ages, ['0 s', '59 s', '1 min', '59 min', '1 h', '47 h', '2 d']);
    assert.equal(age(at(5), NOW), '0 s');
    assert.deepEqual([0.0034, 0.12, 1.18].map(percent), ['0.3%', '12%', '118%']);
});

test('figures, times and states are in the language of the dashboard', (t) => {
    const { bytes, diskText, figure, moment, percent, timeOfDay } = web;
    t.after(() => speak('en'));
    const time = '2026-03-09T18:04:05';
    const said = () => [
        bytes(1500 << 20),
        figure(12345),
        percent(0.034),
        timeOfDay(time),
        moment(time),
        diskText({ login: 1, cache: 2, journal: 3, snapshots: 4 }),
        web.stateWords('stopped')[1],
    ];
    const english = said();
    assert.deepEqual(english.slice(0, 4), ['1.5 GB', '12,345', '3.4%', '18:04:05']);
    assert.match(english[4], /^Mar 9, 2026, 18:04:05$/);
    assert.deepEqual(english.slice(5), ['1 B login, 2 B cache, 3 B journal, 4 B snapshots', 'stopped']);
    speak('pt-BR');
    const portuguese = said();
    assert.deepEqual(portuguese.slice(0, 4), ['1,5 GB', '12.345', '3,4%', '18:04:05']);
    assert.match(portuguese[4], /^9 de mar\. de 2026,? 18:04:05$/);
    assert.equal(portuguese[6], 'parado');
});

test('how busy a processor is follows from two measurements, not from one that came twice', () => {
    const shares = new web.ProcessorShares();
    assert.equal(shares.note('1', 20, 0), null);
    assert.equal(shares.note('1', 20, 2_000), null);
    assert.equal(shares.note('1', 25, 10_000), 0.5);
    assert.equal(shares.note('1', 25, 14_000), 0.5);
    // Nothing was used in so long a time.
    assert.equal(shares.note('1', 25, 30_000), 0);
    // Started again, and stopped.
    assert.equal(shares.note('1', 1, 40_000), null);
    assert.equal(shares.note('1', 2, 50_000), 0.1);
    assert.equal(shares.note('1', null, 60_000), null);
    assert.equal(shares.note('1', 3, 70_000), null);
});

// ---- the stream -------------------------------------------------------------------------------------

test('events come out alike wherever the stream is cut', () => {
    const text =
        'retry: 2000\n\n:\n\nid: e-1\nevent: user\ndata: {"a":1}\n\nid: e-2\r\ndata: x\r\ndata:y\r\n\r\n';
    const wanted = [
        { name: 'user', data: '{"a":1}' },
        { name: 'message', data: 'x\ny' },
    ];
    for (let cut = 0; cut <= text.length; cut += 1) {
        const parser = new web.EventParser();
        const events = [...parser.push(text.slice(0, cut)), ...parser.push(text.slice(cut))];
        assert.deepEqual(events, wanted, `cut at ${cut}`);
        assert.equal(parser.lastId, 'e-2');
        assert.equal(parser.retry, 2000);
    }
});

/** A daemon that answers as the test says, and keeps what it was asked. */
async function serve(answer) {
    const asked = [];
    const server = http.createServer((request, response) => {
        asked.push(request);
        answer(request, response, asked.length);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    globalThis.document.baseURI = `http://127.0.0.1:${server.address().port}/below/connect`;
    after(() => server.close());
    return { asked, close: () => server.closeAllConnections() };
}

const begin = (response) => response.writeHead(200, { 'Content-Type': 'text/event-stream' });

/** Follow a stream; return what happens, and a promise for the next thing that happens. */
function follow(names, query) {
    const told = [];
    let wake = () => {};
    const tell = (...what) => {
        told.push(what);
        wake();
    };
    const stream = new web.Stream(
        'v1/events',
        {
            on: Object.fromEntries(names.map((name) => [name, (data) => tell(name, data)])),
            onLive: () => tell('live'),
            onLost: (wait, problem) => tell('lost', problem?.status ?? null),
            onRefused: (problem) => tell('refused', problem.code),
        },
        query,
    );
    const until = async (count) => {
        while (told.length < count) await new Promise((resolve) => (wake = resolve));
        return told;
    };
    stream.start();
    after(() => stream.stop());
    return { stream, until };
}

test('a stream that ends is continued where it ended', { timeout: 20_000 }, async () => {
    stored.set('waportd-token', 'secret');
    const { asked } = await serve((request, response, count) => {
        begin(response).write(`retry: 50\n\nid: e-${count}\nevent: user\ndata: {"n":${count}}\n\n`);
        if (count < 3) response.end();
    });
    const { until } = follow(['user'], { follow: 'true' });
    const round = (n) => [['live'], ['user', { n }], ['lost', null]];
    assert.deepEqual(await until(8), [...round(1), ...round(2), ['live'], ['user', { n: 3 }]]);
    stored.clear();
    assert.deepEqual(
        asked.map((request) => request.headers['last-event-id']),
        [undefined, 'e-1', 'e-2'],
    );
    // Below the prefix of the page, with the link's signature, and with the token that was typed in.
    assert.equal(asked[0].url, '/below/v1/events?follow=true&expires=9&signature=s%2Fg');
    assert.equal(asked[0].headers.authorization, 'Bearer secret');
    assert.equal(asked[0].headers.accept, 'text/event-stream');
});

test(
    'a daemon that does not answer is asked again, one that refuses is not',
    { timeout: 20_000 },
    async () => {
        const { asked } = await serve((request, response, count) => {
            response.writeHead(count === 1 ? 503 : 401, { 'Content-Type': 'application/problem+json' });
            response.end(JSON.stringify({ code: count === 1 ? 'restarting' : 'unauthorized', detail: 'no' }));
        });
        const { stream, until } = follow([]);
        assert.deepEqual(await until(2), [
            ['lost', 503],
            ['refused', 'unauthorized'],
        ]);
        stream.hurry();
        assert.equal(asked.length, 2);
    },
);

test('a page that nobody sees lets go, and continues when it is seen', { timeout: 20_000 }, async () => {
    const { asked } = await serve((request, response, count) => {
        begin(response).write(`id: e-${count}\nevent: user\ndata: {}\n\n`);
    });
    const { until } = follow(['user']);
    await until(2);
    web.Stream.hiddenFor = 1;
    const look = (hidden) => {
        globalThis.document.hidden = hidden;
        globalThis.document.dispatchEvent(new Event('visibilitychange'));
    };
    look(true);
    await once(asked[0].socket, 'close');
    look(false);
    // Of the pause nothing is reported.
    assert.deepEqual(await until(4), [['live'], ['user', {}], ['live'], ['user', {}]]);
    assert.equal(asked[1].headers['last-event-id'], 'e-1');
});

test(
    'a page that is left lets go at once, and continues when one comes back',
    { timeout: 20_000 },
    async () => {
        const { asked } = await serve((request, response, count) => {
            begin(response).write(`id: e-${count}\nevent: user\ndata: {}\n\n`);
        });
        const { until } = follow(['user']);
        await until(2);
        globalThis.dispatchEvent(new Event('pageshow'));
        globalThis.dispatchEvent(new Event('pagehide'));
        await once(asked[0].socket, 'close');
        globalThis.dispatchEvent(new Event('pageshow'));
        assert.deepEqual(await until(4), [['live'], ['user', {}], ['live'], ['user', {}]]);
        assert.equal(asked.length, 2);
        assert.equal(asked[1].headers['last-event-id'], 'e-1');
    },
);

test('half an event that was cut off is not passed on', { timeout: 20_000 }, async () => {
    await serve((request, response, count) => {
        begin(response);
        if (count === 1) {
            response.write('id: e-1\nevent: user\ndata: {"whole":tr', () => response.destroy());
        } else response.write('id: e-1\nevent: user\ndata: {"whole":true}\n\n');
    });
    const { until } = follow(['user']);
    const told = await until(4);
    assert.deepEqual(
        told.map(([what]) => what),
        ['live', 'lost', 'live', 'user'],
    );
    assert.deepEqual(told[3][1], { whole: true });
});

test('a clock that is wrong is corrected by the daemon', async () => {
    const ahead = 3_600_000;
    await serve((request, response) => {
        response.sendDate = false;
        response.writeHead(200, { Date: new Date(Date.now() + ahead).toUTCString() }).end('{}');
    });
    await web.call('GET', 'v1/host');
    assert.ok(Math.abs(web.now() - Date.now() - ahead) < 2_000);
});

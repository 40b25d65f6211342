'use strict';

/** The modules of a user's panel that need no page: steps of linking, facts, options, lines of the log. */

const assert = require('node:assert');
const path = require('node:path');
const { before, test } = require('node:test');

const contract = require('../../server/contract.json');

const ROOT = path.resolve(__dirname, '../..');
const NOW = Date.parse('2026-01-01T12:00:00Z');
const at = (seconds) => new Date(NOW + seconds * 1000).toISOString();

const web = {};
const words = {};

before(async () => {
    // What the modules expect of a page around them.
    globalThis.location = new URL('http://localhost/');
    globalThis.document = Object.assign(new EventTarget(), { baseURI: 'http://localhost/', hidden: false });
    const load = (name) => import(path.join(ROOT, 'waportd/web', `${name}.mjs`));
    for (const language of ['pt-BR', 'en'])
        words[language] = (await load(`dashboard-texts.${language}`)).words;
    const modules = [
        'link-step',
        'connect-link',
        'log-lines',
        'user-facts',
        'user-settings',
        'setting-field',
    ];
    for (const name of modules) Object.assign(web, await load(name));
});

// ---- linking ------------------------------------------------------------------------------------------

const QR = { status: 'generating', qr: null, attempt: 0, hint: 'h' };
const step = (state, facts = {}) => {
    const { linked = false, hint = 'h', qr = null, ...others } = facts;
    const user = { linked, summary: { state, hint } };
    return web.stepOf({
        user,
        wish: null,
        pairing: null,
        failed: false,
        isNew: false,
        ...others,
        qr: qr && { ...QR, status: state, ...qr },
    });
};

test('nothing is shown before somebody asks for it', () => {
    const states = Object.keys({ ...contract.session_states, ...contract.process_states });
    const open = ['authenticated', 'ready', 'passkey_required'];
    for (const state of states.filter((one) => !open.includes(one)))
        assert.equal(step(state), 'closed', state);
    assert.equal(step('pairing', { hint: null }), 'linking');
    assert.equal(step('authenticated'), 'linking');
    assert.equal(step('passkey_required'), 'passkey');
    assert.equal(step('ready'), 'linked');
    // With a login, whether its server runs or not.
    assert.equal(step('stopped', { linked: true }), 'linked');
});

test('a code to scan is shown to those who asked for it', () => {
    const scan = (state, qr = {}) => step(state, { wish: 'scan', qr });
    assert.equal(step('qr', { wish: 'scan' }), 'preparing');
    assert.equal(scan('generating'), 'preparing');
    assert.equal(scan('starting'), 'preparing');
    assert.equal(scan('qr', { attempt: 1 }), 'code');
    // Between two codes it stays as it is.
    assert.equal(scan('generating', { attempt: 1 }), 'code');
    assert.equal(scan('qr_timeout'), 'timeout');
    assert.equal(scan('pairing'), 'elsewhere');
    assert.equal(scan('ready'), 'linked');
    assert.equal(scan('passkey_required'), 'passkey');
    for (const state of ['error', 'failed', 'stopped', 'crash_loop', 'logged_out', 'something new'])
        assert.equal(scan(state), 'trouble', state);
    assert.equal(step('stopped', { wish: 'scan', failed: true }), 'trouble');
    // Just asked for, the daemon says what was before.
    for (const state of ['qr_timeout', 'stopped', 'failed'])
        assert.equal(step(state, { wish: 'scan', qr: {}, isNew: true }), 'preparing', state);
    assert.equal(step('qr', { wish: 'scan', qr: {}, isNew: true }), 'code');
    assert.equal(step('stopped', { wish: 'scan', failed: true, isNew: true }), 'trouble');
});

test('a number is asked for whatever the server does, and its code takes the place of the form', () => {
    const pairing = { expires_at: at(60) };
    for (const state of ['stopped', 'qr', 'pairing', 'qr_timeout', 'error'])
        assert.equal(step(state, { wish: 'phone' }), 'number', state);
    assert.equal(step('pairing', { wish: 'phone', pairing, qr: {} }), 'typed');
    assert.equal(step('pairing', { wish: 'phone', pairing, qr: { hint: null } }), 'linking');
    assert.equal(step('ready', { wish: 'phone', pairing, qr: {} }), 'linked');
});

test('a code to type goes with its time, its use, and another code', () => {
    const asked = { code: 'ABCD-EFGH', number: '+5511999990001', expires_at: at(60), since: null };
    const session = (state, since) => ({ state, since });
    // The answer may come before the news.
    assert.deepEqual(web.pairingAfter(asked, session('qr', at(-9)), NOW), asked);
    const known = web.pairingAfter(asked, session('pairing', at(1)), NOW);
    assert.deepEqual(known, { ...asked, since: at(1) });
    assert.equal(web.pairingAfter(known, session('pairing', at(1)), NOW), known);
    assert.equal(web.pairingAfter(known, session('pairing', at(20)), NOW), null);
    assert.equal(web.pairingAfter(known, session('qr', at(20)), NOW), null);
    assert.equal(web.pairingAfter(known, null, NOW), null);
    assert.equal(web.pairingAfter(known, session('pairing', at(1)), NOW + 60_000), null);
});

test('a connect link leads to where the configuration says, else to where the page is', () => {
    const linkPath = '/connect?user=2&expires=9&signature=s';
    const address = (url, page) => web.linkAddress(url, linkPath, page);
    const public_ = `https://wa.example.com${linkPath}`;
    assert.equal(address(public_, 'http://127.0.0.1:8080/'), public_);
    // Over the unix socket there is no address, and a proxy may add a path and TLS.
    assert.equal(address(linkPath, 'https://app.example.com/wa/'), `https://app.example.com/wa${linkPath}`);
    assert.equal(
        address(`http://app.example.com${linkPath}`, 'https://app.example.com/wa/'),
        `https://app.example.com/wa${linkPath}`,
    );
});

// ---- the log ------------------------------------------------------------------------------------------

test('a line does not repeat whose log it is in', () => {
    assert.equal(web.withoutName('user 2: listening', '2'), 'listening');
    assert.equal(web.withoutName('user 2: listening', '22'), 'user 2: listening');
    assert.equal(web.withoutName('Started user 2: it', '2'), 'Started user 2: it');
});

test('what is looked for is found whatever its case, and is no pattern', () => {
    const found = (text, query) => web.pieces(text, query).map((one) => (one.isHit ? [one.text] : one.text));
    assert.deepEqual(found('a Port and a port', 'port'), ['a ', ['Port'], ' and a ', ['port']]);
    assert.deepEqual(found('aaaa', 'aa'), [['aa'], ['aa']]);
    assert.deepEqual(found('x.y (z) [1] a-b c\\d', '.y (z) [1] a-b c\\d'), ['x', ['.y (z) [1] a-b c\\d']]);
    assert.deepEqual(found('AÇÃO', 'ção'), ['A', ['ÇÃO']]);
    assert.deepEqual(found('nothing', 'x'), ['nothing']);
    assert.deepEqual(found('', 'x'), ['']);
    assert.deepEqual(found('all', ''), ['all']);
    // Each character of it can be looked for.
    for (const one of '\\^$.*+?()[]{}|/-#,:= ')
        assert.deepEqual(found(`a${one}b`, one), ['a', [one], 'b'], one);
});

test('a file of lines has one line each, with its time and how bad it is', () => {
    const line = (message, priority = 6, source = 'server') => ({ time: at(0), priority, source, message });
    const all = [line('user 2: one'), line('two\n  more', 3, 'systemd'), line('three', 9)];
    assert.equal(
        web.asText(all, '2'),
        '2026-01-01T12:00:00.000Z info server: one\n' +
            '2026-01-01T12:00:00.000Z error systemd: two more\n' +
            '2026-01-01T12:00:00.000Z 9 server: three\n',
    );
    assert.equal(web.fileName('2_1', NOW), 'waportd-2_1-2026-01-01T120000Z.txt');
});

test('days are those of the visitor', () => {
    assert.equal(web.dayOf(at(0)), web.dayOf(at(1)));
    assert.notEqual(web.dayOf(at(0)), web.dayOf(at(86_400)));
});

// ---- facts and options --------------------------------------------------------------------------------

const USER = {
    user: '2',
    port: 5002,
    unit: 'whatsapp@5002.service',
    note: null,
    linked: false,
    linked_at: null,
    autostart: true,
    created_at: at(0),
    engine: 'bundled',
    own_engine: false,
    own_webhook: false,
    own_webhook_secret: false,
    webhook_events: null,
    ignore: null,
    default_country: null,
    send_rate: null,
    memory_max: null,
    proxy: 'auto',
    own_proxy: false,
    storage: null,
    memory: null,
    cpu: null,
    process: { state: 'running', pid: 7, restarts: 0 },
    session: null,
};

test('since when a phone is connected is a fact only while it is', () => {
    const facts = (user) => Object.fromEntries(web.factsOf({ ...USER, ...user }));
    const session = { state: 'ready', since: at(0), name: 'Ana', phone_number: '5511999990001' };
    assert.ok('Connected since' in facts({ session }));
    assert.equal(facts({ session }).Phone, 'Ana · +55 11 99999-0001');
    assert.ok(!('Linked since' in facts({ session })));
    assert.match(facts({ linked: true, linked_at: at(0) })['Linked since'], /2026/);
    assert.ok(!('Connected since' in facts({ session: { ...session, state: 'disconnected' } })));
    const stopped = { state: 'stopped', pid: null, restarts: 0 };
    assert.ok(!('Connected since' in facts({ session, process: stopped })));
});

test('options that a user has of its own are shown, and no secret', () => {
    assert.deepEqual(web.settingsOf(USER), [['Autostart', 'on']]);
    const own = {
        autostart: false,
        memory_max: 512 << 20,
        own_engine: true,
        engine: '1.99.0',
        own_proxy: true,
        proxy: 'http://ana:***@proxy:3128',
        own_webhook: true,
        own_webhook_secret: true,
        webhook_events: ['message', 'call'],
        ignore: [],
        default_country: '',
        send_rate: 0,
    };
    assert.deepEqual(web.settingsOf({ ...USER, ...own }), [
        ['Autostart', 'off'],
        ['Memory limit', '512 MB'],
        ['Engine', '1.99.0'],
        ['Proxy', 'http://ana:***@proxy:3128'],
        ['Webhook address', 'its own'],
        ['Webhook secret', 'its own'],
        ['Events for the webhook', 'Messages received, Calls'],
        ['Chats that are ignored', 'nothing'],
        ['Country of numbers without code', 'None'],
        ['Messages a minute', 'No limit'],
    ]);
});

test('there are words for all events and chats that the contract has', () => {
    for (const { settings } of Object.values(words)) {
        assert.deepEqual(Object.keys(settings.events), Object.keys(contract.events));
        assert.deepEqual(Object.keys(settings.ignored), Object.keys(contract.ignored));
    }
});

'use strict';

/** The words of the pages: the same in every language, all in their files, and one language a visit. */

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { gzipSync } = require('node:zlib');

const ts = require('typescript');

const WEB = path.resolve(__dirname, '../../waportd/web');
const LANGUAGES = { connect: ['en', 'pt-BR', 'es'], dashboard: ['en', 'pt-BR'] };

const read = (name) => fs.readFileSync(path.join(WEB, name), 'utf8');
const load = async (page, language) => (await import(path.join(WEB, `${page}-texts.${language}.mjs`))).words;

/** All leaves of a table of words, by their paths. */
const leaves = (node, name = '') =>
    typeof node === 'object'
        ? Object.entries(node).flatMap(([key, value]) => leaves(value, `${name}.${key}`))
        : [[name, node]];

/** What is filled in, as digits: they compare as numbers do, and are in no text. */
const FILLED = ['7001', '7002', '7003', '7004'];
const said = (leaf) => (typeof leaf === 'function' ? leaf(...FILLED) : String(leaf));

/** What a text has that other languages have, too: what is filled in, and what another screen shows. */
function fixed(leaf) {
    const text = said(leaf);
    const marks = [...text.matchAll(/<(.+?)>/g)].map(([, mark]) => mark);
    return {
        filled: FILLED.filter((one) => text.includes(one)),
        marks: marks.length,
        // Addresses, keys, and what is typed word for word.
        verbatim: marks.filter((mark) => /[/.:]|^F12$|^allow pasting$/.test(mark)),
        ends: /…$/.test(text),
    };
}

for (const [page, [first, ...others]] of Object.entries(LANGUAGES)) {
    for (const language of others) {
        test(`the ${page} page says in ${language} all that it says in English`, async () => {
            const english = leaves(await load(page, first));
            const all = new Map(leaves(await load(page, language)));
            assert.deepEqual(
                [...all].map(([name]) => name),
                english.map(([name]) => name),
            );
            for (const [name, leaf] of english) {
                const there = all.get(name);
                assert.equal(typeof there, typeof leaf, name);
                // A number begins with a country code only where most have the same one.
                if (!name.endsWith('.phone.prefix')) assert.equal(there !== '', leaf !== '', name);
                assert.deepEqual(fixed(there), fixed(leaf), name);
            }
        });

        test(`nothing of the ${page} page is left in English in ${language}`, async () => {
            const english = new Map(leaves(await load(page, first)));
            for (const [name, leaf] of leaves(await load(page, language)))
                if (/\p{L}+ \p{L}+ \p{L}+/u.test(said(leaf)))
                    assert.notEqual(said(leaf), said(english.get(name)), name);
        });
    }

    test(`each file of words of the ${page} page is of a language that is tried here`, () => {
        const files = fs.readdirSync(WEB).filter((name) => name.startsWith(`${page}-texts.`));
        assert.deepEqual(files, [first, ...others].map((one) => `${page}-texts.${one}.mjs`).sort());
    });
}

test('a word that counts is right for one, too', async () => {
    const { host } = await load('dashboard', 'en');
    assert.equal(host.room('1'), '1 more session');
    assert.equal(host.room('2'), '2 more sessions');
    assert.equal((await load('dashboard', 'pt-BR')).host.room('1'), 'mais 1 sessão');
});

test('the name of a column stands within a sentence as it is written there', async () => {
    for (const [language, sentence] of [
        ['en', 'Sort by port, Sort by CPU'],
        ['pt-BR', 'Ordenar por porta, Ordenar por CPU'],
    ]) {
        const { table } = (await import(path.join(WEB, `dashboard-texts.${language}.mjs`))).words;
        const { port, cpu } = table.columns;
        assert.equal([port, cpu].map(table.sortBy).join(', '), sentence);
    }
});

test('dashboard.html names words that there are', async () => {
    const words = new Map(leaves(await load('dashboard', 'en')));
    const named = [...read('dashboard.html').matchAll(/ data-(?:say|label|hint)="([^"]+)"/g)];
    assert.ok(named.length > 25, String(named.length));
    for (const [, name] of named) assert.equal(typeof words.get(`.${name}`), 'string', name);
});

// ---- where words may stand ----------------------------------------------------------------------------

/** A name, a command, and a key: the same in every language. */
const NAMES = ['waportd', 'WhatsApp', /^curl /, '?'];
const isName = (text) => NAMES.some((name) => (name instanceof RegExp ? name.test(text) : name === text));

for (const page of ['connect', 'dashboard'])
    test(`${page}.html has no text but in elements that name its language`, () => {
        const html = read(`${page}.html`).replace(/<!--.*?-->/gs, '');
        const spans = [...html.matchAll(/<span lang="([\w-]+)">[^<]+<\/span>/g)].map(([, tag]) => tag);
        const rounds = spans.length / LANGUAGES[page].length;
        assert.deepEqual(spans, Array.from({ length: rounds }, () => LANGUAGES[page]).flat());
        assert.ok(rounds >= 1);
        const rest = html.replace(/<span lang="[\w-]+">[^<]+<\/span>/g, '');
        const texts = [...rest.matchAll(/>([^<]*[^<\s][^<]*)</g)].map(([, text]) => text.trim());
        const attributes = [...rest.matchAll(/ (?:title|placeholder|aria-label|alt)="([^"]+)"/g)];
        assert.deepEqual(
            [...texts, ...attributes.map(([, text]) => text)].filter((text) => !isName(text)),
            [],
        );
    });

/** Where a literal is no text that a person sees. */
const NOT_SHOWN = [
    /^(?:[.#[]|@|\(|:root)/, // selectors, media queries
    /^(?:button|input|a|button, a|input, button, a|input, select)$/,
    /^button (?:primary|text|danger)$/,
    /^(?:GET|PUT|POST|PATCH|DELETE)$/,
    /^(?:Arrow(?:Up|Down|Left|Right)|Home|End|Enter|Escape)$/, // of KeyboardEvent.key
    /^(?:Accept|Authorization|Content-Type|Date|Last-Event-ID|Retry-After|Bearer)$/,
    /^(?:AbortError|WhatsApp Web|whatsapp-web\.js|\(WhatsApp Web)$/,
    /^(?:Windows|CrOS)$/,
    /^[MmLlHhVvCcAa\d\s.,-]+$/, // drawings
    /^(?:B|KB|MB|GB|TB)$/,
    /^dialog\[open\]$/,
];

/** What a connect page's administrator sees below "details", and programmers in the console: English. */
const DETAILS = [
    'the daemon does not answer',
    'the address names no user',
    'the link has expired',
    'answered ',
    'nothing was signed: ',
    'open ',
];

/** Units, which are the same in every language. */
const UNITS = /^(?:s|min|h|d|pid)$/;

const isShownTo = (text) => {
    const bare = text.trim();
    if (DETAILS.includes(text) || UNITS.test(bare) || NOT_SHOWN.some((one) => one.test(bare))) return false;
    return /\p{L}/u.test(bare);
};

/** The literals of a module that look like words for people. */
function wordsIn(name, text = read(name)) {
    const found = [];
    const source = ts.createSourceFile(name, text, ts.ScriptTarget.ES2022, true, ts.ScriptKind.JS);
    const isCallOf = (node, names) =>
        ts.isCallExpression(node) && ts.isIdentifier(node.expression) && names.includes(node.expression.text);
    /** Whether it is shown as it is: a child of an element, or said, or an attribute that is read out. */
    const isChild = (node) => {
        let top = node;
        while (
            ts.isConditionalExpression(top.parent) ||
            ts.isTemplateSpan(top.parent) ||
            ts.isTemplateExpression(top.parent)
        )
            top = top.parent;
        const { parent } = top;
        if (isCallOf(parent, ['el'])) return parent.arguments.indexOf(top) >= 2;
        if (isCallOf(parent, ['say', 'sayHere', 'sayWithCode', 'notify', 'busy', 'idle', 'button']))
            return (
                parent.arguments.indexOf(top) >= (parent.expression.text === 'notify' ? 0 : 1) &&
                !/^button(?: [a-z]+)*$/.test(node.text)
            );
        return (
            ts.isPropertyAssignment(parent) &&
            /^(?:aria-label|title|placeholder|label|alt)$/.test(parent.name.text ?? '')
        );
    };
    const visit = (node) => {
        if (ts.isImportDeclaration(node)) return;
        if (
            ts.isStringLiteral(node) ||
            ts.isNoSubstitutionTemplateLiteral(node) ||
            ts.isTemplateHead(node) ||
            ts.isTemplateMiddleOrTemplateTail(node)
        ) {
            const isKey = ts.isPropertyAssignment(node.parent) && node.parent.name === node;
            const many = /\p{L}{2,},? \p{L}{2,}/u.test(node.text);
            const capital = /^\s*\p{Lu}\p{Ll}/u.test(node.text);
            const isReference =
                /^aria-/.test(node.parent.name?.text ?? '') && / [a-z]+-problem$/.test(node.text);
            if (!isKey && !isReference && isShownTo(node.text) && (many || capital || isChild(node)))
                found.push(node.text);
        }
        ts.forEachChild(node, visit);
    };
    visit(source);
    return found;
}

test('no module has words for people but those of the texts', () => {
    const modules = fs.readdirSync(WEB).filter((name) => /\.mjs$/.test(name) && !/-texts\./.test(name));
    assert.ok(modules.length > 15);
    for (const name of modules) assert.deepEqual(wordsIn(name), [], name);
    // The search itself finds what there is.
    assert.ok(wordsIn('connect-texts.en.mjs').length > 100);
    for (const written of [
        "el('p', {}, 'closed')",
        "el('p', { 'aria-label': 'closed' })",
        "el('p', {}, `${count} users`)",
        "el('p', {}, isOpen ? 'open' : null)",
        "say(place, 'closed')",
        "busy(pressed, 'starting')",
        "const LABELS = { stop: 'Stop' }",
        "const text = 'no limit known'",
    ])
        assert.equal(wordsIn('x.mjs', written).length, 1, written);
});

test('the script for the console speaks the languages of the connect page', () => {
    const script = read('snippet.js');
    assert.match(script, /pt: \['Usar minha chave de acesso'/);
    assert.match(script, /es: \['Usar mi llave de acceso'/);
});

// ---- the browser extension -----------------------------------------------------------------------------

const LOCALES = path.resolve(WEB, '../../extension/_locales');
const messages = (language) =>
    JSON.parse(fs.readFileSync(path.join(LOCALES, language.replace('-', '_'), 'messages.json'), 'utf8'));

test('the browser extension speaks the languages of the connect page', () => {
    const languages = LANGUAGES.connect.map((language) => language.replace('-', '_')).sort();
    assert.deepEqual(fs.readdirSync(LOCALES).sort(), languages);
    const english = messages('en');
    for (const language of LANGUAGES.connect.slice(1)) {
        const all = messages(language);
        assert.deepEqual(Object.keys(all), Object.keys(english), language);
        for (const [name, { message }] of Object.entries(english)) {
            const there = all[name].message;
            assert.match(there, /\p{L}/u, `${language} ${name}`);
            // A word may be the same in two languages, a sentence is not.
            if (/\p{L}+ \p{L}+ \p{L}+/u.test(message)) assert.notEqual(there, message, `${language} ${name}`);
            assert.equal(/[.:?]$/.exec(there)?.[0], /[.:?]$/.exec(message)?.[0], `${language} ${name}`);
        }
    }
});

test('the browser extension names things as the connect page does', async () => {
    for (const language of LANGUAGES.connect) {
        const { passkey } = await load('connect', language);
        assert.equal(messages(language).use.message, passkey.action, language);
    }
});

test('the browser extension shows no words but those of its languages', () => {
    const folder = path.dirname(LOCALES);
    const named = new Set();
    for (const name of [
        'card.js',
        'background.js',
        'firefox/page.js',
        'manifest.json',
        'firefox/manifest.json',
    ]) {
        const source = fs.readFileSync(path.join(folder, name), 'utf8');
        for (const [, one, other] of source.matchAll(/__MSG_(\w+)__|\bsay\('(\w+)'\)/g))
            named.add(one ?? other);
        for (const [, type] of source.matchAll(/'(use|cancel)'/g)) named.add(type);
    }
    assert.deepEqual([...named].sort(), Object.keys(messages('en')).sort());
});

// ---- how much is loaded --------------------------------------------------------------------------------

/** The modules that a file imports at its beginning. */
const imports = (name) => [...read(name).matchAll(/from '\.\/([^']+)'/g)].map(([, next]) => next);

/** The modules that a file imports when they are needed; in types, a name follows. */
const importsLater = (name) =>
    [...read(name).matchAll(/import\('\.\/([^']+\.mjs)'\)(?!\.[A-Z])/g)].map(([, next]) => next);

/** The files that a page loads when it is opened in a language. */
function loadedBy(page, language) {
    const html = read(`${page}.html`).replace('-texts.en.mjs', `-texts.${language}.mjs`);
    const names = new Set([...html.matchAll(/(?:href|src)="assets\/([^"]+)"/g)].map(([, name]) => name));
    for (const name of names) for (const next of imports(name)) names.add(next);
    return [`${page}.html`, ...names];
}

for (const language of LANGUAGES.connect)
    test(`the connect page loads the words of one language, ${language}, and is small`, () => {
        const files = loadedBy('connect', language);
        const texts = files.filter((name) => /-texts\./.test(name));
        assert.deepEqual(texts, [`connect-texts.${language}.mjs`]);
        // As the daemon sends them.
        const sent = (name) => gzipSync(fs.readFileSync(path.join(WEB, name))).length;
        const bytes = files.reduce((sum, name) => sum + sent(name), 0);
        assert.ok(files.length <= 12, `${files.length} files: ${files}`);
        assert.ok(bytes <= 30_000, `${bytes} bytes`);
    });

/** The modules that a page's document names. */
const namedBy = (page) =>
    [...read(`${page}.html`).matchAll(/(?:href|src)="assets\/([^"]+\.mjs)"/g)].map(([, name]) => name);

const modulesOf = (page) => loadedBy(page, 'en').filter((name) => name.endsWith('.mjs'));

test('the dashboard asks for all modules of the list at once, and for the others later', () => {
    const named = namedBy('dashboard');
    assert.deepEqual([...named].sort(), modulesOf('dashboard').sort());
    const files = loadedBy('dashboard', 'pt-BR');
    const sent = (name) => gzipSync(fs.readFileSync(path.join(WEB, name))).length;
    const bytes = files.reduce((sum, name) => sum + sent(name), 0);
    assert.ok(files.length <= 30, `${files.length} files: ${files}`);
    assert.ok(bytes <= 52_000, `${bytes} bytes`);
    const later = importsLater('dashboard.mjs');
    assert.ok(later.includes('user-panel.mjs') && later.includes('charts.mjs'), String(later));
    for (const name of later) assert.ok(!named.includes(name), name);
});

test('the connect page asks for all modules of the first code at once', () => {
    const named = namedBy('connect');
    assert.deepEqual([...named].sort(), modulesOf('connect').sort());
    // What comes later is no part of that.
    const later = importsLater('connect.mjs');
    assert.ok(later.includes('connect-pairing.mjs') && later.includes('passkey-view.mjs'), String(later));
    // Each is asked for with all that it imports.
    for (const name of later)
        for (const next of imports(name)) assert.ok([...named, ...later].includes(next), `${name}: ${next}`);
    for (const name of later) assert.ok(!named.includes(name), name);
});

'use strict';

/** docs/server.md says what the code does, and tests/README.md what the tests do. */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');

const { VARIABLES } = require('../../server/config');
const contract = require('../../server/contract.json');
const { PLAN, roundOf } = require('../../server/recovery');
const { MessageRoutes } = require('../../server/message_routes');
const { addMessagingRoutes } = require('../../server/messaging');
const { createRoutes } = require('../../server/routes');
const { SessionState } = require('../../server/state');
const { ROOT } = require('./support/process');

const text = fs.readFileSync(path.join(ROOT, 'docs', 'server.md'), 'utf8');

/** The cells of the table rows that begin with a code or number. */
const rows = text
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) => line.slice(2).split(/ \| | \|$/));
const row = (first) => rows.find(([cell]) => cell === first || cell === `\`${first}\``);

/** A rule of recovery.js, as the table shows it. */
function cellOf({ limit, tries, cause }) {
    if (limit === null) return 'for good';
    const named = { start: '*start*', ready: '*ready*', code: '*code*', passkey: '*passkey*' };
    const known = { ...named, 0: 'no time' };
    const steps = tries.filter((each) => each !== 'wait').join(', ');
    return `${known[limit] ?? `${limit} s`}: ${steps}; \`${cause}\``;
}

/** The row of a try, by its number: rows name one, a range, or what lies beyond. */
function tried(number) {
    return rows.find(([cell, pause]) => {
        const range = cell.match(/^(\d+)(?: to (\d+))?$/);
        if (range === null || !/^(none|\d+ s)$/.test(pause)) return false;
        const [, first, last = first] = range;
        return number >= first && number <= last;
    });
}

describe('the reference of the server', () => {
    it('has a section for each endpoint, and for no other', () => {
        const parts = { messages: new MessageRoutes({}), sends: {} };
        const routes = createRoutes({ addRest: (tools) => addMessagingRoutes(tools, parts) }).all();
        const endpoints = routes.map((route) => `### \`${route.method} ${route.path}\``);
        const sections = text.split('\n').filter((line) => /^### `[A-Z]+ \//.test(line));
        assert.deepEqual([...sections].sort(), [...endpoints].sort());
        for (const endpoint of endpoints) assert.ok(text.includes(`| [${endpoint.slice(4)}](#`), endpoint);
    });

    it('names each variable with its default', () => {
        for (const [name, [, fallback]] of Object.entries(VARIABLES)) {
            const shown = row(name)?.[1].replaceAll('`', '');
            assert.equal(shown, fallback || 'none', name);
        }
    });

    it('names each exit code', () => {
        for (const code of Object.values(contract.exit_codes)) assert.ok(row(String(code)), String(code));
    });

    it('names each field of the document', () => {
        const document = new SessionState({ port: 5002, user: null, attempts: 5 }).document();
        for (const field of Object.keys(document))
            assert.ok(
                rows.some(([cell]) => cell.split(', ').includes(`\`${field}\``)),
                field,
            );
    });

    it('shows what is tried as it is tried', () => {
        const cells = Object.entries(PLAN).map(([name, phases]) => [
            { none: 'not known yet', other: 'any other' }[name] ?? `\`${name}\``,
            ...['opening', 'linking', 'passkey', 'loading', 'linked'].map((phase) => cellOf(phases[phase])),
        ]);
        for (const [name, ...expected] of cells) {
            const shown = rows.find((each) => each.length > 5 && each[0].split(', ').includes(name));
            assert.deepEqual(shown?.slice(1, 6), expected, name);
        }
        const tries = Array.from({ length: 16 }, (_, number) => roundOf(number));
        for (const [number, { pause, step }] of tries.entries()) {
            const shown = tried(number + 1);
            const expected = [pause === 0 ? 'none' : `${pause} s`, step];
            assert.deepEqual(shown?.slice(1, 3), expected, `try ${number + 1}`);
        }
    });

    it('names each cause', () => {
        const { session, answer } = contract.causes;
        for (const cause of [...session, ...answer]) assert.ok(text.includes(`\`${cause}\``), cause);
    });

    it('says what each state of a session means', () => {
        const shown = text.slice(text.indexOf('\n## States\n')).split('\n');
        for (const [state, meaning] of Object.entries(contract.session_states))
            assert.ok(
                shown.some((line) => line.startsWith(`| \`${state}\` | ${meaning} |`)),
                state,
            );
    });
});

/** What the names of a file's tests look like; where one is made of parts, any part fits. */
function testsOf(file) {
    const code = fs.readFileSync(file, 'utf8');
    const python = code.matchAll(/^ *(?:async )?def (test_\w+)/gm);
    if (file.endsWith('.py')) return Array.from(python, ([, name]) => name);
    const quoted = code.matchAll(/\b(?:it|test)\(\s*(['"`])((?:\\.|(?!\1)[^\\])*)\1/g);
    return Array.from(quoted, ([, , name]) => name.replace(/\\(['"`])/g, '$1'));
}

const PART = /\$\{[^}]*\}/;
const escaped = (words) => words.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
const isNamed = (name, made) => new RegExp(`^${made.split(PART).map(escaped).join('.+')}$`).test(name);

describe('the list of what the real page does', () => {
    const folder = path.join(ROOT, 'tests');
    const whole = fs.readFileSync(path.join(folder, 'README.md'), 'utf8');
    const list = whole.slice(whole.indexOf("## What WhatsApp's real page does"));
    const NAMED = /\]\(([\w./-]+\.(?:py|js))\): (.*?)(?=<br>| \||, and in$|\.$)/gm;

    it('names tests that exist', () => {
        const named = [...list.matchAll(NAMED)];
        assert.ok(named.length > 80, `${named.length} tests`);
        for (const [, file, name] of named) {
            const isThere = testsOf(path.join(folder, file)).some((made) => isNamed(name, made));
            assert.ok(isThere, `${file} has no test "${name}"`);
        }
    });

    it('has a test for everything', () => {
        const lines = list.split('\n').filter((line) => /^\| .* \|$/.test(line));
        const entries = lines.filter((line) => !line.endsWith('| Tests |'));
        const without = entries.filter((line) => !/\]\([\w./-]+\.(py|js)\)/.test(line));
        assert.ok(entries.length > 40);
        assert.deepEqual(without, []);
    });
});

describe('the migration guide', () => {
    const read = (name) => fs.readFileSync(path.join(ROOT, 'docs', name), 'utf8');

    it('names calls of the daemon that there are', () => {
        const known = new Set([...read('api.md').matchAll(/^### `([A-Z]+ \S+)`$/gm)].map(([, call]) => call));
        const lines = read('migration.md')
            .split('\n')
            .filter((line) => line.startsWith('| '));
        const named = lines
            .map((line) => line.split(' | ').at(-1))
            .flatMap((cell) => [...cell.matchAll(/`(GET|PUT|POST|PATCH|DELETE) (…\S*|\/v1\S*)`/g)])
            .map(([, method, target]) => `${method} ${target.replace('…', '/v1/users/{user}')}`);
        assert.ok(named.length > 30, `${named.length}`);
        assert.deepEqual(
            named.filter((call) => !known.has(call)),
            [],
        );
    });
});

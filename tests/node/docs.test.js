'use strict';

/** docs/server.md says what the code does. */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');

const { VARIABLES } = require('../../server/config');
const { EXIT } = require('../../server/exit');
const { PLAN, roundOf } = require('../../server/recovery');
const { createRoutes } = require('../../server/routes');
const { SessionState } = require('../../server/state');
const { ROOT } = require('./support/process');

const text = fs.readFileSync(path.join(ROOT, 'docs', 'server.md'), 'utf8');
const source = ['run', 'reasons', 'storage', 'browser', 'routes', 'session', 'engine', 'pinned']
    .map((name) => fs.readFileSync(path.join(ROOT, 'server', `${name}.js`), 'utf8'))
    .join('\n');

/** The cells of the table rows that begin with a code or number. */
const rows = text
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) => line.slice(2).split(/ \| | \|$/));
const row = (first) => rows.find(([cell]) => cell === first || cell === `\`${first}\``);

/** A rule of recovery.js, as the table shows it. */
function cellOf({ limit, tries, cause }) {
    if (limit === null) return 'for good';
    const known = { start: '*start*', ready: '*ready*', code: '*code*', 0: 'no time' };
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
        const endpoints = createRoutes({}).map((route) => `### \`${route.method} ${route.path}\``);
        const sections = text.split('\n').filter((line) => /^### `[A-Z]+ \//.test(line));
        assert.deepEqual([...sections].sort(), [...endpoints].sort());
        for (const endpoint of endpoints) assert.ok(text.includes(`| [${endpoint.slice(4)}](#`), endpoint);
    });

    it('names each variable with its default', () => {
        for (const [name, [, fallback]] of Object.entries(VARIABLES)) {
            const shown = row(name)?.[1].replaceAll('`', '');
            assert.equal(shown, fallback ?? 'none', name);
        }
    });

    it('names each exit code', () => {
        for (const code of Object.values(EXIT)) assert.ok(row(String(code)), String(code));
    });

    it('names each field of the picture', () => {
        const picture = new SessionState({ port: 5002, user: null, attempts: 5 }).picture();
        for (const field of Object.keys(picture))
            assert.ok(
                rows.some(([cell]) => cell.split(', ').includes(`\`${field}\``)),
                field,
            );
    });

    it('shows what is tried as it is tried', () => {
        const cells = Object.entries(PLAN).map(([name, phases]) => [
            { none: 'not told yet', other: 'any other' }[name] ?? `\`${name}\``,
            ...['opening', 'linking', 'loading', 'linked'].map((phase) => cellOf(phases[phase])),
        ]);
        for (const [name, ...expected] of cells) {
            const shown = rows.find((each) => each.length > 5 && each[0].split(', ').includes(name));
            assert.deepEqual(shown?.slice(1, 5), expected, name);
        }
        const tries = Array.from({ length: 16 }, (_, number) => roundOf(number));
        for (const [number, { pause, step }] of tries.entries()) {
            const shown = tried(number + 1);
            const expected = [pause === 0 ? 'none' : `${pause} s`, step];
            assert.deepEqual(shown?.slice(1, 3), expected, `try ${number + 1}`);
        }
    });

    it('names each cause', () => {
        const causes = new Set(
            [...source.matchAll(/new SessionError\(\s*'([a-z_]+)'/g)].map(([, cause]) => cause),
        );
        assert.ok(causes.size > 10);
        for (const cause of causes) assert.ok(text.includes(`\`${cause}\``), cause);
    });
});

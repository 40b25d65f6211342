'use strict';

/** server/contract.json is what this server does: what stands there is used, and nothing else is. */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');
const { describe, it } = require('node:test');

const { VARIABLES } = require('../../server/config');
const contract = require('../../server/contract.json');
const { EXIT } = require('../../server/exit');
const { PLAN } = require('../../server/recovery');
const { PASSKEYS } = require('../../server/session_errors');
const { STATES } = require('../../server/state');

const SERVER = path.join(__dirname, '..', '..', 'server');
const DOCS = path.join(__dirname, '..', '..', 'docs');
const WEB = path.join(__dirname, '..', '..', 'waportd', 'web');

const source = fs
    .readdirSync(SERVER)
    .filter((name) => name.endsWith('.js'))
    .map((name) => fs.readFileSync(path.join(SERVER, name), 'utf8'))
    .join('\n');

/** All causes that this server gives: of its errors, of what it recovers from, and of passkeys. */
function causes() {
    const thrown = [...source.matchAll(/new SessionError\(\s*(?:\w+ \? '(\w+)' : )?'(\w+)'/g)];
    const rules = Object.values(PLAN).flatMap((phases) => Object.values(phases));
    return new Set([
        ...thrown.flatMap(([, first, second]) => (first ? [first, second] : [second])),
        ...rules.map(({ cause }) => cause).filter((cause) => cause !== null),
        ...Object.keys(PASSKEYS),
    ]);
}

describe('the contract', () => {
    it('has each cause that this server gives, and no other', () => {
        const { session, answer } = contract.causes;
        assert.deepEqual([...causes()].sort(), [...session, ...answer].sort());
    });

    it('has each state of a session, exit code and variable, and no other', () => {
        assert.deepEqual([...STATES].sort(), Object.keys(contract.session_states).sort());
        assert.deepEqual(Object.values(EXIT), Object.values(contract.exit_codes));
        assert.deepEqual(['PORT', ...Object.keys(VARIABLES)], Object.keys(contract.variables));
    });

    it('takes the defaults of all variables, and no number beyond their limits', () => {
        const variables = /** @type {Record<string, any>} */ (contract.variables);
        for (const [name, [, fallback, parse]] of Object.entries(VARIABLES)) {
            if (fallback !== null) assert.notEqual(parse(fallback), undefined, name);
            const { range, by_hand: limits = range } = variables[name];
            if (limits === undefined) continue;
            const [least, most] = limits;
            const written = (/** @type {number} */ number) =>
                fallback?.includes(',') ? `${number},${number}` : `${number}`;
            for (const number of [least, most]) assert.notEqual(parse(written(number)), undefined, name);
            for (const number of [least - 1, most + 1])
                assert.equal(parse(written(number)), undefined, `${name}=${number}`);
        }
    });

    it('has the states at which the example for Node ends', async () => {
        const { idle, trouble } = contract.groups;
        const example = fs.readFileSync(path.join(DOCS, 'examples', 'client.js'), 'utf8');
        const [, ends] = example.match(/ENDS = new Set\(\[(.*)\]\)/) ?? assert.fail('no ENDS');
        // An error is retried automatically, and the users of a host that is gone go to others.
        const passing = ['error', 'unreachable'];
        const lasting = [...idle, ...trouble].filter((state) => !passing.includes(state));
        assert.deepEqual(ends.split(', ').sort(), lasting.map((state) => `'${state}'`).sort());
    });

    it('has each cause that the pages have words for', async () => {
        const known = new Set(Object.values(contract.causes).flat());
        for (const language of ['en', 'pt-BR', 'es']) {
            const { causes: named } = (await import(path.join(WEB, `connect-texts.${language}.mjs`))).words;
            assert.ok(Object.keys(named).length > 5);
            for (const cause of Object.keys(named)) assert.ok(known.has(cause), `${language}: ${cause}`);
        }
    });
});

'use strict';

/**
 * Checks whether WhatsApp's page has the parts that are used (server/surface.js): inspected, never called, in
 * one pass of some milliseconds. `boot` is what is there before the login, `main` that and what comes with
 * the logged-in screen; parts that are loaded on first use are not checked.
 */

const { FEATURES, MODULES, SHAPES } = require('./surface');

/**
 * What was seen of a page: its build, the results of its repairs, how long the check took, and what was
 * found, per module: the kind of each member that was checked, null = there is no such module.
 *
 * @typedef {object} Seen
 * @property {string} build
 * @property {Record<string, string>} shims
 * @property {Record<string, string[]|null>} found
 * @property {number} ms
 */

/** The modules that a part checks. */
const PARTS = { boot: ['boot'], main: ['boot', 'main'] };

/**
 * Runs in the page: what is there of modules and their members, once it is repaired.
 *
 * @param {Object<string, string[]>} wanted members of modules, as paths; '' = the module itself
 * @returns {Seen} `found` has, per module, the kind of each member: `undefined` = it is
 *   not there, `unset` = it is, without a value, `function/2` = one of two arguments, else JavaScript's word;
 *   null = there is no such module. `ms` is how long it took
 */
function inspect(wanted) {
    window.waportd?.boot?.();
    const { VERSION: build } = window.Debug;
    const began = performance.now();
    /** @param {any} module @param {string} path */
    const kindOf = (module, path) => {
        /** @type {any} */
        let owner = { '': module };
        let value = module;
        for (const member of path === '' ? [''] : path.split('.')) {
            if (path !== '') owner = value;
            if (owner === null || owner === undefined || !(member in Object(owner))) return 'undefined';
            value = owner[member];
        }
        if (value === undefined) return 'unset';
        return typeof value === 'function' ? `function/${value.length}` : typeof value;
    };
    /** @param {string} name @param {string[]} members */
    const inside = (name, members) => {
        /** @type {any} */
        let module;
        try {
            module = window.require(name);
        } catch {
            // It is not loaded, or something that it needs is not.
        }
        if (module === undefined || module === null) return null;
        return members.map((path) => {
            try {
                return kindOf(module, path);
            } catch {
                return 'undefined';
            }
        });
    };
    /** @type {Seen['found']} */
    const found = {};
    for (const [name, members] of Object.entries(wanted)) found[name] = inside(name, members);
    return { build, shims: { ...window.waportd?.shims }, found, ms: performance.now() - began };
}

const membersOf = (/** @type {{members: object}} */ { members }) => Object.keys(members);

/**
 * Return the members that `inspect` checks for a part: all of its modules, and those of other page shapes.
 *
 * @param {keyof typeof PARTS} part
 */
function wantedOf(part) {
    /** @type {Record<string, string[]>} */
    const wanted = {};
    for (const [name, module] of Object.entries(MODULES)) {
        if (PARTS[part].includes(module.when)) wanted[name] = membersOf(module);
    }
    for (const [name, { members }] of Object.values(SHAPES).flatMap(Object.entries)) {
        if (wanted[name]) wanted[name] = [...new Set([...wanted[name], ...Object.keys(members)])];
    }
    return wanted;
}

/** @param {string|null} kind null fits nothing @param {string} found */
function fits(kind, found) {
    if (kind === 'any') return found !== 'undefined';
    if (kind === 'object') return found === 'object' || found.startsWith('function/');
    if (kind === 'class' || kind === 'function') return found.startsWith('function/');
    return kind === found;
}

/**
 * Return whether an older shape of the page has something else in the place of a member, which is there.
 *
 * @param {string} name of the module
 * @param {string} member
 * @param {Record<string, string>} kinds what was found of its members
 */
function hasOther(name, member, kinds) {
    return Object.values(SHAPES).some((shape) => {
        const members = shape[name]?.members ?? {};
        if (members[member] !== null) return false;
        const instead = Object.entries(members).filter(([, kind]) => kind !== null);
        return instead.length > 0 && instead.every(([other, kind]) => fits(kind, kinds[other]));
    });
}

/**
 * Return what is missing.
 *
 * @param {keyof typeof PARTS} part
 * @param {Pick<Seen, 'found'|'shims'>} seen what `inspect` gave for it
 * @returns {{feature: string, module: string, member: string, found: string}[]}
 */
function missingOf(part, { found, shims }) {
    const wanted = wantedOf(part);
    const missing = [];
    for (const [feature, { uses }] of Object.entries(FEATURES)) {
        for (const [module, members] of Object.entries(uses)) {
            if (wanted[module] === undefined) continue;
            const kinds = Object.fromEntries(
                wanted[module].map((member, n) => [member, found[module]?.[n] ?? 'no such module']),
            );
            for (const member of members) {
                const kind = MODULES[module].members[member];
                if (fits(kind, kinds[member]) || hasOther(module, member, kinds)) continue;
                missing.push({ feature, module, member, found: kinds[member] });
            }
        }
    }
    if (shims.message_keys === 'failed') {
        const member = '_serialized';
        missing.push({ feature: 'receive', module: 'WAWebMsgKey', member, found: 'undefined' });
    }
    // An optional member that only the injection uses is no loss.
    return missing.filter(({ feature }) => feature !== 'page');
}

const isCore = (/** @type {{feature: string}} */ { feature }) => FEATURES[feature].core;

module.exports = { inspect, isCore, missingOf, wantedOf };

'use strict';

/**
 * Which whatsapp-web.js runs: the bundled one, or that of an engine's folder, which is what
 * `npm install whatsapp-web.js@VERSION` makes there. An engine brings all that its library needs, puppeteer
 * included: a library is tested by its makers with the puppeteer that it names, and an upgrade of this server
 * must not put another one under it.
 *
 *     node server/engine.js FOLDER
 *
 * loads one as a server would, and prints its name and version as JSON, or what is wrong with it (exit status
 * 1): how `waportctl engine install` looks at it before any server may use it.
 *
 *     node server/engine.js --compile [FOLDER]
 *
 * prints it compiled (compiled.js); without a folder the bundled one.
 */

const { readFileSync } = require('node:fs');
const { createRequire } = require('node:module');
const path = require('node:path');

const { compile, useCompiled } = require('./compiled');
const { SessionError, messageOf } = require('./errors');
const { loadSmall } = require('./nursery');
const shortcuts = require('./shortcuts');

const { bundled_engine: BUNDLED } = require('./contract.json');
const LIBRARY = 'whatsapp-web.js';

/** What server/whatsapp.js and server/chats.js call or replace. */
const MEMBERS = {
    Client: [
        'initialize',
        'inject',
        'attachEventListeners',
        'requestPairingCode',
        'getContactLidAndPhone',
        'getState',
        'getWWebVersion',
        'destroy',
    ],
    LocalAuth: ['setup', 'onAuthenticationNeeded', 'logout', 'destroy'],
};

/**
 * Classes of the library: what is in them, its version decides.
 *
 * @typedef {new (...options: any[]) => any} LibraryClass
 *
 * @typedef {object} ClientParts
 * @property {import('puppeteer').Browser} pupBrowser
 * @property {import('puppeteer').Page} pupPage
 * @property {() => Promise<string|null>} getState
 * @property {() => Promise<void>} destroy
 * @property {(ids: string[]) => Promise<{lid?: string, pn?: string}[]>} getContactLidAndPhone
 *
 * @typedef {import('node:events').EventEmitter & ClientParts & {[member: string]: any}} LibraryClient
 *
 * @typedef {new (...options: any[]) => LibraryClient} ClientClass
 */

/**
 * What is used of a library, and of the puppeteer that it names.
 *
 * @typedef {object} Library
 * @property {ClientClass} Client
 * @property {LibraryClass} LocalAuth
 * @property {typeof import('puppeteer').connect} connect
 * @property {new (
 *     write: import('node:stream').Writable,
 *     read: import('node:stream').Readable,
 * ) => import('puppeteer').ConnectionTransport} PipeTransport
 */

const folderOf = (/** @type {string|null} */ engine) =>
    engine === null
        ? path.dirname(require.resolve(`${LIBRARY}/package.json`))
        : path.join(engine, 'node_modules', LIBRARY);

/**
 * Return what is known of an engine without loading it.
 *
 * @param {string|null} engine absolute path of its folder; null = bundled
 * @returns {{engine: string, library: string|null}} its name, and the version of its library; null if it has
 *   none
 */
function describeEngine(engine) {
    const name = engine === null ? BUNDLED : path.basename(engine);
    try {
        const { version } = JSON.parse(readFileSync(path.join(folderOf(engine), 'package.json'), 'utf8'));
        return { engine: name, library: typeof version === 'string' ? version : null };
    } catch {
        return { engine: name, library: null };
    }
}

/**
 * Load the classes of a library. Takes about half a second.
 *
 * Not by the library's index, which loads another 300 files (RemoteAuth with its archivers): a third of the
 * time until a browser can start, and 8 MiB. Where another version keeps them elsewhere, the index it is.
 *
 * @param {string} folder
 * @returns {Pick<Library, 'Client'|'LocalAuth'>}
 */
function classesOf(folder) {
    const load = (/** @type {string} */ file) => require(path.join(folder, file));
    try {
        require.resolve(path.join(folder, 'src/Client'));
        require.resolve(path.join(folder, 'src/authStrategies/LocalAuth'));
    } catch {
        const { Client, LocalAuth } = require(folder);
        return { Client, LocalAuth };
    }
    return { Client: load('src/Client'), LocalAuth: load('src/authStrategies/LocalAuth') };
}

/**
 * Load what drives the browser: the puppeteer that the library names, and at once what it would load only
 * when there is a browser. An upgrade may have replaced the files by then.
 *
 * @param {string} folder
 * @returns {Pick<Library, 'connect'|'PipeTransport'>}
 */
function driverOf(folder) {
    const puppeteer = createRequire(path.join(folder, 'package.json'));
    const { connect } = puppeteer('puppeteer');
    const core = createRequire(puppeteer.resolve('puppeteer'));
    const { PipeTransport } = core('puppeteer-core/internal/node/PipeTransport.js');
    createRequire(core.resolve('puppeteer-core'))('debug');
    if (typeof connect !== 'function' || typeof PipeTransport !== 'function')
        throw new Error('its puppeteer cannot take a browser over');
    return { connect, PipeTransport };
}

const missingOf = (/** @type {Record<string, any>} */ classes) =>
    Object.entries(MEMBERS).flatMap(([name, members]) =>
        members
            .filter((member) => typeof classes[name]?.prototype?.[member] !== 'function')
            .map((member) => `${name}.${member}`),
    );

/**
 * Load an engine's library.
 *
 * @param {string|null} engine absolute path of its folder; null = bundled
 * @param {string|null} compiled where engines lie compiled; null = nowhere
 * @returns {Library & {engine: string, library: string, compiled: boolean}}
 * @throws {SessionError} `engine_missing`: why it cannot be used
 */
function loadEngine(engine, compiled = null) {
    const described = describeEngine(engine);
    if (described.library === null) throw unusable(engine, `there is no ${LIBRARY} in it`);
    const folder = folderOf(engine);
    const isCompiled =
        shortcuts.compiled &&
        compiled !== null &&
        useCompiled(folder, path.join(compiled, `${described.engine}-${process.version}.code`));
    const load = () => ({ ...classesOf(folder), ...driverOf(folder) });
    let loaded;
    try {
        // V8 takes no code that was made with other flags than it has now.
        loaded = isCompiled ? load() : loadSmall(load);
    } catch (error) {
        throw unusable(engine, messageOf(error));
    }
    const missing = missingOf(loaded);
    if (missing.length > 0) throw unusable(engine, `its library has no ${missing.join(', ')}`);
    return { ...loaded, engine: described.engine, library: described.library, compiled: isCompiled };
}

/** @param {string|null} engine @param {string} why */
function unusable(engine, why) {
    const [what, hint] =
        engine === null
            ? ['the bundled whatsapp-web.js', 'install waportd again']
            : [
                  `engine ${path.basename(engine)} (${engine})`,
                  '`waportctl engine list` shows those that are there; `waportctl engine use bundled` goes ' +
                      'back to the bundled one',
              ];
    const reason = String(why).split('\n')[0].slice(0, 300);
    return new SessionError('engine_missing', `${what} cannot be loaded: ${reason}`, hint);
}

/** Load an engine as a server does, and return it compiled. @param {string|null} engine */
const compileEngine = (engine) => compile(folderOf(engine), () => loadEngine(engine));

/** @param {string[]} args */
function main(args) {
    const isCompiling = args[0] === '--compile';
    const [folder] = isCompiling ? args.slice(1) : args;
    try {
        if (isCompiling) {
            process.stdout.write(compileEngine(folder === undefined ? null : path.resolve(folder)));
            return;
        }
        const { engine, library } = loadEngine(path.resolve(folder));
        process.stdout.write(`${JSON.stringify({ engine, library })}\n`);
    } catch (error) {
        process.stdout.write(`${JSON.stringify({ error: messageOf(error) })}\n`);
        process.exitCode = 1;
    }
}

if (require.main === module) main(process.argv.slice(2));

module.exports = { BUNDLED, MEMBERS, describeEngine, loadEngine };

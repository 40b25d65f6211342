'use strict';

/**
 * An engine's library, compiled: all its modules as one script, with the code that V8 has made of it. A
 * server that has it loads the library in half the time: it looks for no files, and compiles nothing.
 *
 * It is made by those who may change the library, too (`waportctl engine compile`), for one version of node.
 * A server that cannot use it loads the library from its files: docs/decisions/013-compiled-library.md.
 */

const { createHash } = require('node:crypto');
const { readFileSync } = require('node:fs');
const Module = require('node:module');
const path = require('node:path');
const vm = require('node:vm');

/** @type {any} What is used of it is old, has no types, and is what other loaders use. */
const Loader = Module;
/** In front of the head: how long that is. */
const SIZE_BYTES = 4;
/** Beside the library: what says of which versions all of it is. */
const MARKS = ['.package-lock.json', 'whatsapp-web.js/package.json', 'puppeteer-core/package.json'];
/** What stack traces call the script. */
const NAME = 'compiled library';

/**
 * What the file of one library begins with.
 *
 * @typedef {object} Head
 * @property {string} made what it was made of: see `madeOf`
 * @property {number} text how many bytes the script has; the code follows it
 * @property {Record<string, Record<string, string>>} resolved module → what it asks for → the file of that
 */

/** Name what a compiled library depends on: node, and the versions of all packages. @param {string} folder */
function madeOf(folder) {
    const packages = path.dirname(folder);
    const hash = createHash('sha256');
    for (const file of MARKS) {
        try {
            hash.update(readFileSync(path.join(packages, file)));
        } catch {
            hash.update('none');
        }
    }
    return [process.version, process.versions.v8, process.arch, folder, hash.digest('hex')].join(' ');
}

/** The script of these modules: an object of functions, by file. @param {Map<string, string>} sources */
const scriptOf = (sources) => {
    const functions = [...sources].map(
        ([file, source]) =>
            `${JSON.stringify(file)}:function(exports,require,module,__filename,__dirname){` +
            `${source.replace(/^#!.*/, '')}\n}`,
    );
    return `({${functions.join(',\n')}})`;
};

/**
 * Load a library from its files, and return it compiled.
 *
 * @param {string} folder of the library
 * @param {() => unknown} load
 */
function compile(folder, load) {
    /** @type {Map<string, string>} */
    const sources = new Map();
    /** @type {Head['resolved']} */
    const resolved = {};
    const { _resolveFilename: resolve } = Loader;
    const { _compile: compileModule } = Loader.prototype;
    Loader._resolveFilename = function (
        /** @type {string} */ request,
        /** @type {any} */ parent,
        /** @type {any[]} */ ...rest
    ) {
        const found = resolve.call(this, request, parent, ...rest);
        if (parent?.filename && rest[1] === undefined) (resolved[parent.filename] ??= {})[request] = found;
        return found;
    };
    Loader.prototype._compile = function (
        /** @type {string} */ source,
        /** @type {string} */ name,
        /** @type {any[]} */ ...rest
    ) {
        sources.set(name, source);
        return compileModule.call(this, source, name, ...rest);
    };
    try {
        load();
    } finally {
        Loader._resolveFilename = resolve;
        Loader.prototype._compile = compileModule;
    }
    const text = Buffer.from(scriptOf(sources));
    // V8 compiles a function when it is first called: what a start calls is to be in the code.
    for (const name of sources.keys()) delete require.cache[name];
    const script = new vm.Script(text.toString(), { filename: NAME });
    use({ functions: script.runInThisContext(), resolved });
    load();
    const code = script.createCachedData();
    const head = Buffer.from(JSON.stringify({ made: madeOf(folder), text: text.length, resolved }));
    const size = Buffer.alloc(SIZE_BYTES);
    size.writeUInt32LE(head.length);
    return Buffer.concat([size, head, text, code]);
}

/**
 * Have a library be loaded from its compiled form, if there is one that was made of it, and for this node.
 *
 * @param {string} folder of the library
 * @param {string} file
 * @returns {boolean} whether it will be
 */
function useCompiled(folder, file) {
    try {
        return isUsed(folder, readFileSync(file));
    } catch {
        return false;
    }
}

/** @param {string} folder @param {Buffer} bytes */
function isUsed(folder, bytes) {
    const begin = SIZE_BYTES + bytes.readUInt32LE();
    /** @type {Head} */
    const { made, text, resolved } = JSON.parse(bytes.toString('utf8', SIZE_BYTES, begin));
    if (made !== madeOf(folder)) return false;
    const end = begin + text;
    const cachedData = bytes.subarray(end);
    const script = new vm.Script(bytes.toString('utf8', begin, end), { filename: NAME, cachedData });
    if (script.cachedDataRejected) return false;
    use({ functions: script.runInThisContext(), resolved });
    return true;
}

/** @param {{functions: Record<string, Function>, resolved: Head['resolved']}} compiled */
function use({ functions, resolved }) {
    const { _resolveFilename: resolve } = Loader;
    const { '.js': fromFile } = Loader._extensions;
    Loader._resolveFilename = function (
        /** @type {string} */ request,
        /** @type {any} */ parent,
        /** @type {any[]} */ ...rest
    ) {
        const known = rest[1] === undefined ? resolved[parent?.filename]?.[request] : undefined;
        return known ?? resolve.call(this, request, parent, ...rest);
    };
    Loader._extensions['.js'] = (/** @type {any} */ module, /** @type {string} */ filename) => {
        if (!Object.hasOwn(functions, filename)) return fromFile(module, filename);
        const required = (/** @type {string} */ request) => module.require(request);
        required.resolve = (/** @type {string} */ request, /** @type {any} */ options) =>
            Loader._resolveFilename(request, module, false, options);
        required.main = process.mainModule;
        required.extensions = Loader._extensions;
        required.cache = Loader._cache;
        const { exports } = module;
        functions[filename].call(exports, exports, required, module, filename, path.dirname(filename));
    };
}

module.exports = { compile, useCompiled };

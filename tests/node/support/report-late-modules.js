'use strict';

/** Preloaded into a server: names each file that is loaded after the server has loaded its library. */

/** What of it is not documented is in no types. @type {any} */
const Module = require('node:module');

const load = Module._load;
let complete = false;

/** @param {string} request @param {unknown} parent @param {unknown[]} rest */
Module._load = function report(request, parent, ...rest) {
    if (complete && !Module.isBuiltin(request)) {
        const file = Module._resolveFilename(request, parent);
        if (!(file in Module._cache)) process.stderr.write(`late module: ${file}\n`);
    }
    const loaded = load.call(this, request, parent, ...rest);
    if (request.endsWith('/server/whatsapp')) complete = true;
    return loaded;
};

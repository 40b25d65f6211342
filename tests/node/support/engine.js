'use strict';

/** Other engines than the bundled one: copies of its library that call themselves another version. */

const fs = require('node:fs');
const path = require('node:path');

const { ROOT } = require('./process');

const MODULES = path.join(ROOT, 'node_modules');

/**
 * Make an engine's folder, as `npm install` does. What its library depends on is that of the checkout.
 *
 * @param {string} directory where to put it
 * @param {string} version the engine's name, and what its library says about itself
 * @returns {string} the folder
 */
function makeEngine(directory, version) {
    const folder = path.join(directory, version);
    const modules = path.join(folder, 'node_modules');
    fs.cpSync(path.join(MODULES, 'whatsapp-web.js'), path.join(modules, 'whatsapp-web.js'), {
        recursive: true,
    });
    const file = path.join(modules, 'whatsapp-web.js', 'package.json');
    const description = { ...JSON.parse(fs.readFileSync(file, 'utf8')), version };
    fs.writeFileSync(file, JSON.stringify(description));
    for (const name of Object.keys(description.dependencies)) {
        fs.symlinkSync(path.join(MODULES, name), path.join(modules, name));
    }
    return folder;
}

module.exports = { makeEngine };

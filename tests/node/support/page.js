'use strict';

/** As much of WhatsApp's page as its functions here need, without a browser. */

const { Blob } = require('node:buffer');
const vm = require('node:vm');

/** What is not JavaScript's own, but every page has. */
const GLOBALS = { AbortController, Blob, performance, setTimeout };

/** What has an id. @typedef {{id: any, [member: string]: any}} Model */

/** A collection of the page: models by the text of their id, in the order in which they came. */
class Collection {
    /** @type {Map<string, Model>} */
    #models = new Map();
    /** @type {(() => void)[]} */
    #listeners = [];

    /** @param {Model[]} models */
    constructor(models = []) {
        for (const model of models) this.add(model);
    }

    add(/** @type {Model} */ model) {
        this.#models.set(String(model.id?._serialized ?? model.id), model);
        this.changed();
    }

    changed() {
        for (const listener of this.#listeners) listener();
    }

    get(/** @type {any} */ id) {
        return this.#models.get(String(id?._serialized ?? id));
    }

    getModelsArray() {
        return [...this.#models.values()];
    }

    /** @param {string} events @param {() => void} listener */
    on(events, listener) {
        this.#listeners.push(listener);
    }
}

const wid = (/** @type {string} */ text) => {
    const [user, server] = text.split('@');
    return { user, server, _serialized: text, toString: () => text };
};

/**
 * A window with some modules.
 *
 * @param {object} collections those that are not empty
 * @param {object} modules others than the collections and what ids need
 */
function pageOf(collections = {}, modules = {}) {
    /** @type {Record<string, object>} */
    const known = {
        WAWebCollections: {
            Chat: new Collection(),
            Msg: new Collection(),
            Contact: new Collection(),
            WAWebNewsletterCollection: new Collection(),
            ...collections,
        },
        WAWebWidFactory: { createWid: wid },
        WAWebApiContact: { getCurrentLid: () => undefined, getPhoneNumber: () => undefined },
        ...modules,
    };
    const require = (/** @type {string} */ name) => {
        if (name in known) return known[name];
        throw new Error(`Requiring unknown module "${name}"`);
    };
    return {
        require,
        waportd: { document: 'one' },
        WWebJS: { getMessageModel: (/** @type {Model} */ message) => message },
    };
}

/**
 * Run a function of the page there.
 *
 * @param {object} window
 * @param {Function} work
 * @param {unknown[]} args
 */
function inPage(window, work, ...args) {
    return vm.runInNewContext(`(${work})(...args)`, { ...GLOBALS, window, args });
}

module.exports = { Collection, inPage, pageOf, wid };

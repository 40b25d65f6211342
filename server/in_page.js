'use strict';

/** Helpers shared by functions that run in WhatsApp's page. */

/** @typedef {import('./types').WhatsAppObject} WhatsAppObject */

/**
 * Make a function that has others with it: its source is all that the page gets.
 *
 * @template {Function} Work
 * @param {Work} work
 * @param {Function[]} parts
 * @returns {Work}
 */
function withParts(work, ...parts) {
    const made = () => {};
    made.toString = () => `(...args) => { ${parts.join('\n')} return (${work})(...args); }`;
    return /** @type {any} */ (made);
}

/**
 * @template Result
 * @param {() => Result} work
 */
function attempt(work) {
    try {
        return work() ?? null;
    } catch {
        return null;
    }
}

/** The text of an id, or of a message's key. @param {WhatsAppObject} id @returns {string} */
function textOf(id) {
    return id._serialized ?? String(id);
}

/**
 * The ids under which WhatsApp may know a chat, whose own is one of them; none where it is no id.
 *
 * @param {string} id
 */
function idsOf(id) {
    const wid = attempt(() => window.require('WAWebWidFactory').createWid(id));
    if (wid === null) return [];
    const others = ['getCurrentLid', 'getPhoneNumber'].map((of) =>
        attempt(() => window.require('WAWebApiContact')[of](wid)),
    );
    return [wid, ...others].filter((each) => each !== null);
}

/**
 * A chat that there is, whichever of its ids is given; or null. None is made, and nobody is asked.
 *
 * @param {string} id
 * @returns {WhatsAppObject}
 */
function chatBy(id) {
    const { Chat, WAWebNewsletterCollection } = window.require('WAWebCollections');
    for (const known of idsOf(id)) {
        const chat = Chat.get(known) ?? attempt(() => WAWebNewsletterCollection.get(known));
        if (chat) return chat;
    }
    return null;
}

module.exports = { attempt, chatBy, idsOf, textOf, withParts };

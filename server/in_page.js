'use strict';

/** What functions that run in WhatsApp's page share. */

/** Make a function that has others with it: its source is all that the page gets. */
function withParts(work, ...parts) {
    const made = () => {};
    made.toString = () => `(...args) => { ${parts.join('\n')} return (${work})(...args); }`;
    return made;
}

function attempt(work) {
    try {
        return work() ?? null;
    } catch {
        return null;
    }
}

/** The text of an id, or of a message's key. */
function textOf(id) {
    return id._serialized ?? String(id);
}

/** The ids under which WhatsApp may know a chat, whose own is one of them; none where it is no id. */
function idsOf(id) {
    const wid = attempt(() => window.require('WAWebWidFactory').createWid(id));
    if (wid === null) return [];
    const others = ['getCurrentLid', 'getPhoneNumber'].map((of) =>
        attempt(() => window.require('WAWebApiContact')[of](wid)),
    );
    return [wid, ...others].filter((each) => each !== null);
}

/** A chat that there is, whichever of its ids is given; or null. None is made, and nobody is asked. */
function chatBy(id) {
    const { Chat, WAWebNewsletterCollection } = window.require('WAWebCollections');
    for (const known of idsOf(id)) {
        const chat = Chat.get(known) ?? attempt(() => WAWebNewsletterCollection.get(known));
        if (chat) return chat;
    }
    return null;
}

module.exports = { attempt, chatBy, idsOf, textOf, withParts };

'use strict';

/** The paths of people. */

const contacts = require('./contacts');
const { openPicture } = require('./media');
const { sendFile, whenGone } = require('./media_routes');
const { DOWNLOAD_LIMIT_MS } = require('./turns');

const LIMIT_MS = 9_000;

/** @typedef {import('./types').SessionClient} SessionClient */

/**
 * @param {object} options
 * @param {import('./types').AddRoute} options.add
 * @param {import('./types').OnSession} options.onSession
 * @param {number} options.mediaMax bytes of a picture that are read at most
 */
function addContactRoutes({ add, onSession, mediaMax }) {
    add('GET', '/contacts', 'people, those with a saved name first (?limit, ?offset)', ({ query }) => {
        const page = { limit: query.get('limit'), offset: query.get('offset') };
        const work = (/** @type {SessionClient} */ client) => contacts.listContacts(client, page);
        return onSession('people', work, LIMIT_MS, 'listing contacts');
    });

    add('GET', '/contacts/{id}', 'one person', ({ params }) => {
        const work = (/** @type {SessionClient} */ client) => contacts.readContact(client, params.id);
        return onSession('people', work, LIMIT_MS, 'reading a contact');
    });

    add('GET', '/contacts/{id}/picture', 'the picture of a person or group', async (call) => {
        const gone = whenGone(call.response);
        const work = (/** @type {SessionClient} */ client) =>
            openPicture(client, call.params.id, mediaMax, gone);
        await sendFile(call, await onSession('pictures', work, DOWNLOAD_LIMIT_MS, 'reading a picture'));
    });
}

module.exports = { addContactRoutes };

'use strict';

/** The paths of chats and their messages. */

const chats = require('./chats');
const { REQUEST_LIMIT_MS } = require('./turns');

const CHATS_LIMIT_MS = 9_000;

/**
 * @param {object} options
 * @param {Function} options.add registers a route: (method, path, about, handle)
 * @param {Function} options.onSession works with the session: (feature, work, limit, what)
 */
function addChatRoutes({ add, onSession }) {
    add('GET', '/chats', 'chats, newest first (?limit, ?offset)', ({ query }) => {
        const page = { limit: query.get('limit'), offset: query.get('offset') };
        const work = (client) => chats.listChats(client, page);
        return onSession('chats', work, CHATS_LIMIT_MS, 'listing chats');
    });

    add('GET', '/chats/{id}', 'one chat', ({ params }) => {
        const work = (client) => chats.readChat(client, params.id);
        return onSession('chats', work, CHATS_LIMIT_MS, 'reading a chat');
    });

    add(
        'GET',
        '/chats/{id}/messages',
        'messages of a chat, oldest first (?limit, ?before)',
        ({ params, query }) => {
            const page = { limit: query.get('limit'), before: query.get('before') };
            const work = (client) => chats.listMessages(client, params.id, page);
            return onSession('history', work, CHATS_LIMIT_MS, 'reading messages');
        },
    );

    add('POST', '/chats/{id}/earlier', 'have the phone hand over older messages', ({ params }) => {
        const work = (client) => chats.askForEarlier(client, params.id);
        return onSession('earlier', work, REQUEST_LIMIT_MS, 'asking for earlier messages');
    });
}

module.exports = { addChatRoutes };

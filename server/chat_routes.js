'use strict';

/** The paths of chats and their messages. */

const chats = require('./chats');
const { REQUEST_LIMIT_MS } = require('./turns');

const CHATS_LIMIT_MS = 9_000;

/** @typedef {import('./types').SessionClient} SessionClient */

/** @param {Pick<import('./types').RouteTools, 'add'|'onSession'>} tools */
function addChatRoutes({ add, onSession }) {
    add('GET', '/chats', 'chats, newest first (?limit, ?offset)', ({ query }) => {
        const page = { limit: query.get('limit'), offset: query.get('offset') };
        const work = (/** @type {SessionClient} */ client) => chats.listChats(client, page);
        return onSession('chats', work, CHATS_LIMIT_MS, 'listing chats');
    });

    add('GET', '/chats/{id}', 'one chat', ({ params }) => {
        const work = (/** @type {SessionClient} */ client) => chats.readChat(client, params.id);
        return onSession('chats', work, CHATS_LIMIT_MS, 'reading a chat');
    });

    add(
        'GET',
        '/chats/{id}/messages',
        'messages of a chat, oldest first (?limit, ?before)',
        ({ params, query }) => {
            const page = { limit: query.get('limit'), before: query.get('before') };
            const work = (/** @type {SessionClient} */ client) => chats.listMessages(client, params.id, page);
            return onSession('history', work, CHATS_LIMIT_MS, 'reading messages');
        },
    );

    add('POST', '/chats/{id}/earlier', 'ask the phone for older messages', ({ params }) => {
        const work = (/** @type {SessionClient} */ client) => chats.askForEarlier(client, params.id);
        return onSession('earlier', work, REQUEST_LIMIT_MS, 'asking for earlier messages');
    });
}

module.exports = { addChatRoutes };

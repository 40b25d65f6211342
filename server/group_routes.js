'use strict';

/** The paths of groups. */

const groups = require('./groups');
const { CHANGE_LIMIT_MS } = require('./turns');

const READ_MS = 9_000;

/** @typedef {(client: import('./types').SessionClient, leftMs: number) => Promise<object>} Work */

/** @param {Pick<import('./types').RouteTools, 'add'|'onSession'>} tools */
function addGroupRoutes({ add, onSession }) {
    add('GET', '/groups', 'groups, by name (?limit, ?offset)', ({ query }) => {
        const page = { limit: query.get('limit'), offset: query.get('offset') };
        return onSession('groups', (client) => groups.listGroups(client, page), READ_MS, 'listing groups');
    });

    add('GET', '/groups/{id}', 'one group, with its participants', ({ params }) => {
        /** @type {Work} */
        const work = (client) => groups.readGroup(client, params.id);
        return onSession('groups', work, READ_MS, 'reading a group');
    });

    /** @type {(feature: string, what: string, work: Work) => Promise<object>} */
    const changing = (feature, what, work) => onSession(feature, work, CHANGE_LIMIT_MS, what);

    add('POST', '/groups', 'make a group {"subject", "participants"}', ({ body }) => {
        /** @type {Work} */
        const work = (client, leftMs) => groups.createGroup(client, body, leftMs);
        return changing('group_create', 'making a group', work);
    });

    add(
        'POST',
        '/groups/{id}/participants',
        'add, remove, promote or demote people {"action", "participants"}',
        ({ params, body }) => {
            /** @type {Work} */
            const work = (client, leftMs) => groups.changeParticipants(client, params.id, body, leftMs);
            return changing('group_participants', 'changing participants', work);
        },
    );

    add('PATCH', '/groups/{id}', 'change a group {"subject", "description"}', ({ params, body }) => {
        /** @type {Work} */
        const work = (client, leftMs) => groups.changeGroup(client, params.id, body, leftMs);
        return changing('group_info', 'changing a group', work);
    });

    add('DELETE', '/groups/{id}', 'leave a group', ({ params }) => {
        /** @type {Work} */
        const work = (client, leftMs) => groups.leaveGroup(client, params.id, leftMs);
        return changing('group_leave', 'leaving a group', work);
    });
}

module.exports = { addGroupRoutes };

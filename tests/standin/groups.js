/** Groups as the site keeps them: who is in one, who of them are admins, its name and description. */
'use strict';

const crypto = require('node:crypto');

/** Owners of numbers that end so let nobody add them to groups. */
const ADDS_NOBODY = /0403$/;
const FORBIDDEN = 403;
const NOT_FOUND = 404;
const CONFLICT = 409;
const OK = 200;

const describe = ({ participants, admins = [], name, description, descriptionId }) => ({
    participants,
    admins,
    name,
    description,
    descriptionId,
});

/** What somebody's number is, by the id of a device or account. */
const numberOf = (jid) => jid.split('@')[0];

function add(site, chat, jids) {
    return jids.map((jid) => {
        const id = jid.endsWith('@lid') ? jid : site.idOf(numberOf(jid));
        let code = OK;
        if (chat.participants.includes(id)) code = CONFLICT;
        else if (ADDS_NOBODY.test(numberOf(jid))) code = FORBIDDEN;
        else chat.participants.push(id);
        return { id, code };
    });
}

/** What an admin may do: (site, group, wish) → what is reported of it. */
const CHANGES = {
    add: (site, chat, { ids }) => ({ added: add(site, chat, ids) }),
    remove(site, chat, { ids }) {
        chat.participants = chat.participants.filter((each) => !ids.includes(each));
        chat.admins = (chat.admins ?? []).filter((each) => !ids.includes(each));
    },
    promote(site, chat, { ids }) {
        chat.admins = [...new Set([...(chat.admins ?? []), ...ids])];
    },
    demote(site, chat, { ids }) {
        chat.admins = (chat.admins ?? []).filter((each) => !ids.includes(each));
    },
    subject(site, chat, { subject }) {
        chat.name = subject;
    },
    describe(site, chat, { description, id, before }) {
        if (before !== chat.descriptionId) return { status: CONFLICT };
        Object.assign(chat, { description, descriptionId: id });
        return {};
    },
};

/**
 * Do what a page of `phone` asks about groups.
 *
 * @param {{kind: string, chat: string}} wish `read`, `create`, `leave`, or one of `CHANGES`
 * @returns {object} with a `status` where it is refused
 */
function askGroup(site, phone, { kind, chat: id, ...wish }) {
    const me = site.idOf(phone);
    if (kind === 'create') {
        const made = `1203639${crypto.randomInt(1e9, 1e10)}@g.us`;
        const own = { participants: [me], admins: [me] };
        const chat = { id: made, name: wish.subject, unread: 0, messages: [], ...own };
        const added = add(site, chat, wish.ids);
        site.chatsOf(phone).push(chat);
        return { chat, added };
    }
    const chat = site.chatsOf(phone).find((each) => each.id === id);
    if (!chat) return { status: NOT_FOUND };
    chat.participants ??= [];
    if (kind === 'read') return describe(chat);
    if (kind === 'leave') return CHANGES.remove(site, chat, { ids: [me] }) ?? {};
    if (!(chat.admins ?? []).includes(me)) return { status: FORBIDDEN };
    return CHANGES[kind](site, chat, wish) ?? {};
}

module.exports = { askGroup };

'use strict';

/** What runs in WhatsApp's page for chats and messages. */

/**
 * Runs in the page: chats, newest first, in few words. Nothing is asked of WhatsApp for it, and one chat that
 * cannot be read leaves the others alone.
 *
 * @param {number} limit how many
 * @param {number} offset after how many
 */
function listChats(limit, offset) {
    const { Chat, Msg } = window.require('WAWebCollections');
    const attempt = (work) => {
        try {
            return work() ?? null;
        } catch {
            return null;
        }
    };
    const text = (id) => id?._serialized ?? String(id);
    /** The number of somebody whom WhatsApp names by another id, where this page knows it. */
    const numberOf = (chat) =>
        attempt(() => window.require('WAWebApiContact').getPhoneNumber(chat.id).user) ??
        attempt(() => chat.contact.phoneNumber.user);
    const words = (msg) => {
        if (msg === null) return '';
        if (msg.directPath) return msg.caption || '';
        // The body of a location is a picture.
        if (msg.type === 'location') return msg.loc || '';
        return msg.body || msg.pollName || msg.eventName || '';
    };
    const lastOf = (chat) => {
        const all = chat.msgs?.getModelsArray?.() ?? [];
        const key = chat.lastReceivedKey;
        return (key && Msg.get(text(key))) ?? all[all.length - 1] ?? null;
    };
    const described = (chat) => {
        const id = text(chat.id);
        const isGroup = id.endsWith('@g.us');
        return {
            id,
            name: attempt(() => chat.formattedTitle || chat.name),
            phone: id.endsWith('@lid') ? numberOf(chat) : null,
            isGroup,
            unreadCount: attempt(() => chat.unreadCount),
            lastMessage: attempt(() => words(lastOf(chat))),
            t: attempt(() => chat.t),
            pinned: attempt(() => Boolean(chat.pin)) ?? false,
            isArchived: attempt(() => Boolean(chat.archive)) ?? false,
        };
    };
    const times = new Map(Chat.getModelsArray().map((chat) => [chat, attempt(() => chat.t) ?? 0]));
    const sorted = [...times.keys()].sort((one, other) => times.get(other) - times.get(one));
    const chats = sorted.slice(offset, offset + limit).map((chat) => attempt(() => described(chat)));
    return { chats: chats.filter((chat) => chat !== null), total: sorted.length };
}

/** Runs in the page: the id of a chat that there is, also where WhatsApp names it by another id; or null. */
function findChat(id) {
    const { Chat } = window.require('WAWebCollections');
    const attempt = (work) => {
        try {
            return work() ?? null;
        } catch {
            return null;
        }
    };
    const wid = attempt(() => window.require('WAWebWidFactory').createWid(id));
    if (wid === null) return null;
    const others = ['getCurrentLid', 'getPhoneNumber'].map((of) =>
        attempt(() => window.require('WAWebApiContact')[of](wid)),
    );
    for (const known of [wid, ...others]) {
        const chat = known === null ? null : Chat.get(known);
        if (chat) return chat.id._serialized ?? String(chat.id);
    }
    return null;
}

/** Runs in the page: the ids of own messages in a chat with a text since some time, newest first. */
function findSent(chat, text, since) {
    const idOf = (id) => id._serialized ?? String(id);
    const isIt = ({ id, t, body }) => id?.fromMe && t >= since && body === text && idOf(id.remote) === chat;
    const all = window.require('WAWebCollections').Msg.getModelsArray().filter(isIt);
    return all.sort((one, other) => other.t - one.t).map(({ id }) => idOf(id));
}

module.exports = { findChat, findSent, listChats };

'use strict';

/** What runs in WhatsApp's page for chats and messages. */

const { attempt, chatBy, idsOf, textOf, withParts } = require('./in_page');

/** @typedef {import('./types').WhatsAppObject} WhatsAppObject */

/**
 * A summary of a chat. If a chat cannot be read in full, it has what can be read.
 *
 * @typedef {object} PageChat
 * @property {string} id
 * @property {string|null} name
 * @property {string|null} phone
 * @property {boolean} isGroup
 * @property {number|null} unreadCount
 * @property {string|null} lastMessage
 * @property {number|null} t seconds
 * @property {boolean} pinned
 * @property {boolean} isArchived
 */

/** @param {WhatsAppObject} chat @returns {PageChat} */
function described(chat) {
    const { Msg } = window.require('WAWebCollections');
    const media = new Set(['image', 'video', 'audio', 'ptt', 'document', 'sticker', 'ptv']);
    const nobodys = new Set([
        'e2e_notification',
        'notification',
        'notification_template',
        'gp2',
        'protocol',
        'ciphertext',
    ]);
    /** The number of somebody that WhatsApp names by another id, if this page knows it. */
    const numberOf = () =>
        attempt(() => window.require('WAWebApiContact').getPhoneNumber(chat.id).user) ??
        attempt(() => chat.contact.phoneNumber.user);
    const words = (/** @type {WhatsAppObject} */ msg) => {
        if (msg === null) return '';
        // The body of a picture or a place is a thumbnail.
        if (media.has(msg.type)) return msg.caption || '[Mídia]';
        if (msg.type === 'location') return msg.loc || '[Localização]';
        if (msg.type === 'vcard') return msg.vcardFormattedName || '[Contato]';
        if (msg.type === 'multi_vcard') return '[Contato]';
        return msg.body || msg.pollName || msg.eventName || '';
    };
    const last = () => {
        const all = chat.msgs?.getModelsArray?.() ?? [];
        const key = chat.lastReceivedKey;
        const newest = (key && Msg.get(textOf(key))) ?? all[all.length - 1] ?? null;
        if (newest === null || !nobodys.has(newest.type)) return newest;
        return all.filter((/** @type {WhatsAppObject} */ { type }) => !nobodys.has(type)).pop() ?? null;
    };
    const id = textOf(chat.id);
    return {
        id,
        name: attempt(() => chat.formattedTitle || chat.name),
        phone: /@(hosted\.)?lid$/.test(id) ? numberOf() : null,
        isGroup: id.endsWith('@g.us'),
        unreadCount: attempt(() => chat.unreadCount),
        lastMessage: attempt(() => words(last())),
        t: attempt(() => chat.t),
        pinned: attempt(() => Boolean(chat.pin)) ?? false,
        isArchived: attempt(() => Boolean(chat.archive)) ?? false,
    };
}

/**
 * Runs in the page: all chats, newest first. Nothing is asked of WhatsApp for it, and one chat that cannot be
 * read leaves the others alone. One without an id is none: nobody could do anything with it.
 *
 * @param {string|null} known the `stamp` of an earlier answer
 * @returns {{stamp: string, chats: PageChat[]|null}} null: nothing has changed since
 */
function listChats(known) {
    const collections = window.require('WAWebCollections');
    const own = window.waportd;
    if (own.chatChanges === undefined) {
        own.chatChanges = 0;
        const count = () => {
            own.chatChanges += 1;
        };
        const listened = { Chat: 'add remove change', Msg: 'add remove change', Contact: 'add change' };
        for (const [name, events] of Object.entries(listened)) {
            attempt(() => collections[name].on(events, count));
        }
    }
    const stamp = `${own.document} ${own.chatChanges}`;
    if (stamp === known) return { stamp, chats: null };
    /** @type {Map<WhatsAppObject, number>} */
    const times = new Map();
    for (const chat of collections.Chat.getModelsArray()) times.set(chat, attempt(() => chat.t) ?? 0);
    const timeOf = (/** @type {WhatsAppObject} */ chat) => times.get(chat) ?? 0;
    const sorted = [...times.keys()].sort((one, other) => timeOf(other) - timeOf(one));
    const chats = sorted.map((chat) => attempt(() => described(chat))).filter((chat) => chat !== null);
    return { stamp, chats: chats.filter(({ id }) => id.includes('@')) };
}

/**
 * Runs in the page: a chat that there is, also where WhatsApp names it by another id; or null.
 *
 * @param {string} id
 */
function readChat(id) {
    const chat = chatBy(id);
    return chat === null ? null : described(chat);
}

/** Runs in the page: the id of a chat that there is; or null. @param {string} id */
function findChat(id) {
    const chat = chatBy(id);
    return chat === null ? null : textOf(chat.id);
}

/**
 * Whether the phone has messages from before those that this device has; null if that is not known. The
 * numbers are the page's own: 0 and 4 = it has, 1 = it has not, 2 = they are still being handed over, 3 = the
 * phone has reported nothing about this chat.
 *
 * @param {WhatsAppObject} chat
 */
function hasEarlier(chat) {
    const transfer = chat.endOfHistoryTransferType;
    return [0, 4].includes(transfer) ? true : [undefined, null, 2, 3].includes(transfer) ? null : false;
}

/**
 * Runs in the page: one page of a chat's messages, oldest first, or null where there is no such chat.
 *
 * @param {string} id any id of the chat
 * @param {number} limit how many
 * @param {string|null} before the id of a message, or a time in milliseconds; null = the newest ones
 * @param {number} most how many of the newest messages may be looked through
 * @returns {Promise<{messages: WhatsAppObject[]|null, hasMore: boolean, hasEarlier: boolean|null}|null>} the
 *   library's models; null = there is no message of that id
 */
async function readHistory(id, limit, before, most) {
    const chat = chatBy(id);
    if (chat === null) return null;
    const isMessage = (/** @type {WhatsAppObject} */ msg) => !msg.isNotification;
    /** @returns {WhatsAppObject[]} */
    const inOrder = () => {
        const all = chat.msgs.getModelsArray().filter(isMessage);
        return all.sort(
            (/** @type {WhatsAppObject} */ one, /** @type {WhatsAppObject} */ other) => one.t - other.t,
        );
    };
    /** Where the page ends; -1 = not among these. */
    const cut = (/** @type {WhatsAppObject[]} */ all) => {
        if (before === null) return all.length;
        const isTime = /^\d+$/.test(before);
        /** @type {(msg: WhatsAppObject) => boolean} */
        const isIt = isTime ? ({ t }) => t * 1000 >= Number(before) : (msg) => textOf(msg.id) === before;
        const index = all.findIndex(isIt);
        return index < 0 && isTime ? all.length : index;
    };
    /** What is known of a message that the library cannot make a model of. */
    const bare = (/** @type {WhatsAppObject} */ { id: key, type, t, from, to, author }) => {
        const text = (/** @type {WhatsAppObject} */ wid) => (wid ? textOf(wid) : undefined);
        const names = { fromMe: key.fromMe, remote: text(key.remote), id: key.id, _serialized: text(key) };
        return { id: names, type, t, from: text(from), to: text(to), author: text(author) };
    };
    for (;;) {
        const all = inOrder();
        const end = cut(all);
        const start = Math.max(0, end - limit);
        // Those of one second have an order among them only once all of them are there.
        const isWhole = end > limit && all[0].t < all[start].t;
        if (!isWhole && all.length < most) {
            if ((await loadMore(chat)) > 0) continue;
        }
        const model = (/** @type {WhatsAppObject} */ msg) =>
            attempt(() => window.WWebJS.getMessageModel(msg)) ?? bare(msg);
        const messages = end < 0 ? null : all.slice(start, end).map(model);
        return { messages, hasMore: start > 0, hasEarlier: hasEarlier(chat) };
    }
}

/**
 * Load older messages of a chat that this device has.
 *
 * @param {WhatsAppObject} chat
 * @returns {Promise<number>} how many
 */
async function loadMore(chat) {
    const loaded = await window.require('WAWebChatLoadMessages').loadEarlierMsgs({ chat });
    return loaded?.length ?? 0;
}

/**
 * Runs in the page: have the phone hand over messages from before those that this device has.
 *
 * @param {string} id any id of the chat
 * @param {number} most so many messages of a chat are loaded at most; no more are asked for
 * @returns {Promise<{asked: boolean, hasEarlier: boolean|null}|null>} null = there is no such chat
 */
async function askForEarlier(id, most) {
    const chat = chatBy(id);
    if (chat === null) return null;
    const enough = () => chat.msgs.getModelsArray().length >= most;
    // Messages loaded after this came from the phone.
    while (!enough() && (await loadMore(chat)) > 0);
    const asked = hasEarlier(chat) === true && !enough();
    if (asked) {
        const { sendPeerDataOperationRequest } = window.require('WAWebSendNonMessageDataRequest');
        // 3: messages of one chat, on demand. The chat shows the result.
        await sendPeerDataOperationRequest(3, { chatId: chat.id });
    }
    return { asked, hasEarlier: hasEarlier(chat) };
}

/** Runs in the page: load what has come from the phone. @param {string} id */
async function loadEarlier(id) {
    const chat = chatBy(id);
    if (chat === null) return { arrived: 0, hasEarlier: null };
    return { arrived: await loadMore(chat), hasEarlier: hasEarlier(chat) };
}

module.exports = {
    askForEarlier: withParts(askForEarlier, attempt, textOf, idsOf, chatBy, hasEarlier, loadMore),
    findChat: withParts(findChat, attempt, textOf, idsOf, chatBy),
    listChats: withParts(listChats, attempt, textOf, described),
    loadEarlier: withParts(loadEarlier, attempt, textOf, idsOf, chatBy, hasEarlier, loadMore),
    readHistory: withParts(readHistory, attempt, textOf, idsOf, chatBy, hasEarlier, loadMore),
    readChat: withParts(readChat, attempt, textOf, idsOf, chatBy, described),
};

'use strict';

/** What runs in WhatsApp's page to find messages that were not reported. */

const { textOf, withParts } = require('./in_page');

/** @typedef {import('./types').WhatsAppObject} WhatsAppObject */

/**
 * Runs in the page: the ids of chats in which something happened since a time, the newest first. One that
 * cannot be read leaves the others alone.
 *
 * @param {number} since seconds
 */
function changedChats(since) {
    /** @type {{id: string, t: number}[]} */
    const changed = [];
    for (const chat of window.require('WAWebCollections').Chat.getModelsArray()) {
        try {
            if (chat.t >= since) changed.push({ id: chat.id._serialized ?? String(chat.id), t: chat.t });
        } catch {
            // Even that cannot be read.
        }
    }
    return changed.sort((one, other) => other.t - one.t).map(({ id }) => id);
}

/**
 * Runs in the page: the ids of messages of a chat since a time, oldest first. Earlier ones are loaded as long
 * as they are wanted, and come. Of those with the same second, what is loaded earlier is earlier.
 *
 * @param {string} id the page's own id of the chat
 * @param {number} since seconds
 * @param {{most: number, waitMs: number}} limits the newest so many; how long one load may take
 */
async function messagesSince(id, since, { most, waitMs }) {
    const chat = window.require('WAWebCollections').Chat.get(id);
    if (!chat) return [];
    const { msgs } = chat;
    const { loadEarlierMsgs } = window.require('WAWebChatLoadMessages');
    /** @returns {Promise<null>} */
    const late = () => new Promise((resolve) => setTimeout(resolve, waitMs, null));
    const isWanted = (/** @type {WhatsAppObject} */ { t }) => t >= since;
    /** @type {WhatsAppObject[]} */
    let all = msgs.getModelsArray().slice();
    while (all.every(isWanted) && all.length < most) {
        const loaded = await Promise.race([loadEarlierMsgs({ chat }), late()]);
        if (!loaded?.length) break;
        all = [...loaded, ...all];
    }
    const known = new Set(all);
    all.push(...msgs.getModelsArray().filter((/** @type {WhatsAppObject} */ message) => !known.has(message)));
    const found = all.filter(isWanted).sort((one, other) => one.t - other.t);
    return found.slice(-most).map((message) => message.id._serialized ?? String(message.id));
}

/**
 * Runs in the page: messages, as the library reports them. Missing or unreadable ones are left out.
 *
 * @param {string[]} ids
 */
function messagesOf(ids) {
    const { Msg } = window.require('WAWebCollections');
    return ids.flatMap((id) => {
        try {
            return [window.WWebJS.getMessageModel(Msg.get(id))];
        } catch {
            return [];
        }
    });
}

/**
 * Runs in the page: the reactions to messages, each as the library reports a new one. Those that the page
 * does not know are left out.
 *
 * @param {string[]} ids
 */
async function reactionsOf(ids) {
    const { Reactions } = window.require('WAWebCollections');
    const keyOf = (/** @type {WhatsAppObject} */ key) => ({
        fromMe: key.fromMe,
        remote: textOf(key.remote),
        id: key.id,
        participant: key.participant && textOf(key.participant),
        _serialized: textOf(key),
    });
    const all = [];
    for (const id of ids) {
        try {
            const found = await Reactions.find(id);
            for (const { senders } of found?.reactions?.serialize() ?? []) {
                for (const { msgKey, parentMsgKey, senderUserJid, reactionText, timestamp } of senders) {
                    const [key, msgId] = [msgKey, parentMsgKey].map(keyOf);
                    const senderId = textOf(senderUserJid);
                    const at = timestamp / 1000;
                    all.push({ id: key, msgId, senderId, reaction: reactionText, timestamp: at });
                }
            }
        } catch {
            // The others are reported.
        }
    }
    return all;
}

module.exports = {
    changedChats,
    messagesOf,
    messagesSince,
    reactionsOf: withParts(reactionsOf, textOf),
};

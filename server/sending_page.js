'use strict';

/** Functions that run in WhatsApp's page to send, and to change what was sent. */

const { attempt, chatBy, idsOf, textOf, withParts } = require('./in_page');
const { messagesSince } = require('./missed_page');

/** @typedef {import('./types').WhatsAppObject} WhatsAppObject */

/**
 * The status of a message: WhatsApp's number; -1 = refused, 0 = not at the server yet. No id: it is a copy
 * whose id the page does not report.
 *
 * @typedef {{id: string|null, ack: number, type: string, code?: undefined, error?: undefined}} Sent
 */

/** Why a message is not there, or not handed over: a cause, or the words of an error. */
/** @typedef {{code: string, error?: undefined}} Refusal */
/** @typedef {{error: string, code?: undefined}} Failure */
/** @typedef {Sent|Refusal|Failure} Given */

/** A chat, and a message in it that is to be. */
/** @typedef {{chat: string, id: string, code?: undefined}} Place */

/** Whether somebody is on WhatsApp. @typedef {{exists: boolean, id: string|null, lid: string|null}} Found */

/** When a message was first forwarded, in seconds, and copies that do not come from that. */
/** @typedef {{since: number, others: string[]}} Begun */

/**
 * A message as `WWebJS.sendMessage` takes it.
 *
 * @typedef {object} What
 * @property {string} text
 * @property {Record<string, any>} options
 * @property {object} [extra] members of the message itself
 * @property {{mimetype: string, filename?: string}} [media] what the file is
 * @property {string} [quote] the id of a message
 */

/**
 * The message with this key, loaded or not; undefined where the page has none.
 *
 * @param {string} key
 * @returns {Promise<WhatsAppObject>}
 */
async function messageOf(key) {
    const { Msg } = window.require('WAWebCollections');
    return Msg.get(key) ?? (await Msg.getMessagesById([key]))?.messages?.[0];
}

/**
 * How far a message has come.
 *
 * @param {WhatsAppObject} msg
 * @returns {Sent & {id: string}}
 */
function stateOf(msg) {
    return { id: textOf(msg.id), ack: msg.ack ?? 0, type: msg.type };
}

/**
 * The first of the ids under which WhatsApp knows somebody, as an id of the page; null = none of them.
 *
 * @param {string[]} ids
 * @returns {Promise<WhatsAppObject>}
 */
async function askFor(ids) {
    for (const id of ids) {
        const wid = window.require('WAWebWidFactory').createWid(id);
        const found = await window.require('WAWebQueryExistsJob').queryWidExists(wid);
        if (found?.wid) return found.wid;
    }
    return null;
}

/**
 * Runs in the page: who has a number: `{exists, id, lid}`, ids by number and by LID, null where not known.
 *
 * @param {string[]} ids best first
 * @returns {Promise<Found>}
 */
async function lookUp(ids) {
    const wid = await askFor(ids);
    if (wid === null) return { exists: false, id: null, lid: null };
    const other = (/** @type {string} */ of) =>
        attempt(() => textOf(window.require('WAWebApiContact')[of](wid)));
    const isLid = wid.isLid();
    return {
        exists: true,
        id: isLid ? other('getPhoneNumber') : textOf(wid),
        lid: isLid ? textOf(wid) : other('getCurrentLid'),
    };
}

/**
 * Runs in the page: find the chat that a message is for, and choose the message's id.
 *
 * @param {{known: string[], likely: string[]}} to see numbers.js
 * @returns {Promise<Place|Refusal>} the ids of both, or why there are none
 */
async function prepareSend({ known, likely }) {
    let chat = known.map((id) => chatBy(id)).find((each) => each !== null);
    if (!chat) {
        const isPerson = /@(c\.us|lid|hosted|hosted\.lid|bot)$/.test(likely[0]);
        if (!isPerson && !likely[0].endsWith('@newsletter')) return { code: 'no_such_chat' };
        const isNumber = likely[0].endsWith('@c.us');
        const wid = isNumber ? await askFor(likely) : window.require('WAWebWidFactory').createWid(likely[0]);
        if (wid === null) return { code: 'not_on_whatsapp' };
        try {
            chat = await window.WWebJS.getChat(textOf(wid), { getAsModel: false });
        } catch (error) {
            // The page's words for somebody that WhatsApp does not know.
            if (!/No LID/i.test(String(error))) throw error;
        }
        if (!chat) return { code: isPerson ? 'not_on_whatsapp' : 'no_such_chat' };
    }
    await completeGroup(chat);
    const id = await window.require('WAWebMsgKey').newId();
    return { chat: textOf(chat.id), id: textOf(keyIn(chat, id)) };
}

/**
 * The sender id in a group depends on the group's data, which the page may not have loaded yet.
 *
 * @param {WhatsAppObject} chat
 */
async function completeGroup(chat) {
    if (!chat.id.isGroup() || chat.groupMetadata) return;
    const collections = window.require('WAWebCollections');
    const { WAWebGroupMetadataCollection: groups = collections.GroupMetadata } = collections;
    try {
        await groups.update(chat.id);
    } catch {
        // Then use what is known.
    }
}

/** The key of an own message with this id. @param {WhatsAppObject} chat @param {string} id */
function keyIn(chat, id) {
    const { getMaybeMeLidUser, getMaybeMePnUser } = window.require('WAWebUserPrefsMeUser');
    const isGroup = chat.id.isGroup();
    const byLid = isGroup ? chat.groupMetadata?.isLidAddressingMode : chat.id.isLid();
    const from = (byLid ? getMaybeMeLidUser() : getMaybeMePnUser()) ?? getMaybeMePnUser();
    const participant = isGroup ? window.require('WAWebWidFactory').asUserWidOrThrow(from) : undefined;
    const MsgKey = window.require('WAWebMsgKey');
    return new MsgKey({ from, to: chat.id, id, participant, selfDir: 'out' });
}

/**
 * Runs in the page: send a message under the id that was chosen for it. Another call gets its outcome: a
 * message that is in the page, or on its way, is not sent again.
 *
 * @param {Place} where as `prepareSend` gave it
 * @param {What} what
 * @param {HTMLInputElement|null} input holds the file
 * @returns {Promise<Given>}
 */
async function handOver({ chat, id }, what, input) {
    return once(id, () => give(chat, id, what, input));
}

/**
 * Do work, or wait for what is under way under the same id.
 *
 * @param {string} id
 * @param {() => Promise<Given>} work
 * @returns {Promise<Given>}
 */
function once(id, work) {
    const underWay = (window.waportd.underWay ??= new Map());
    if (!underWay.has(id)) {
        const done = work().catch((error) => {
            // Returned, not thrown: other errors thrown in a page say nothing about the message.
            const { message } = window.waportd.explain?.(error) ?? error;
            return { error: String(message) };
        });
        underWay.set(
            id,
            done.finally(() => underWay.delete(id)),
        );
    }
    return underWay.get(id);
}

/**
 * @param {string} chatId
 * @param {string} id
 * @param {What} what
 * @param {HTMLInputElement|null} input
 * @returns {Promise<Given>}
 */
async function give(chatId, id, { text, options, extra, media, quote }, input) {
    const before = await messageOf(id);
    if (before) return stateOf(before);
    const chat = await window.WWebJS.getChat(chatId, { getAsModel: false });
    if (!chat) return { code: 'no_such_chat' };
    await completeGroup(chat);
    const key = keyIn(chat, id.split('_')[2]);
    // WhatsApp may know the chat by another id by now.
    const same = await messageOf(textOf(key));
    if (same) return stateOf(same);
    /** @type {WhatsAppObject} */
    const given = { ...options };
    /** @type {WhatsAppObject} */
    const more = { ...extra, id: key };
    if (quote !== undefined) {
        const quoted = await messageOf(quote);
        if (!quoted) return { code: 'no_such_message' };
        if (!window.require('WAWebMsgReply').canReplyMsg(quoted.unsafe())) return { code: 'refused' };
        given.quotedMessageId = textOf(quoted.id);
    }
    if (media !== undefined) {
        const { files } = /** @type {HTMLInputElement & {files: FileList}} */ (input);
        const file = new window.File([files[0]], media.filename ?? '', { type: media.mimetype });
        given.media = await asSent(file, media, given);
        // The library does not report it for stickers.
        more.mimetype = given.media.mimetype;
    }
    const send = (/** @type {object} */ other) =>
        window.WWebJS.sendMessage(chat, text, { ...given, ...other, extraOptions: more });
    const taken = () => window.require('WAWebCollections').Msg.get(textOf(key));
    try {
        await send({});
    } catch (error) {
        if (!taken()) {
            // The part that makes previews of links comes late; the text needs none.
            if (!given.linkPreview) throw error;
            await send({ linkPreview: undefined });
        }
    }
    // A channel's message is in no list by which it is found.
    return stateOf(taken() ?? { id: key, ack: 0, type: 'chat' });
}

/**
 * A file as the library takes it. A sticker is a picture of one type.
 *
 * @param {File} file
 * @param {{mimetype: string, filename?: string}} media
 * @param {WhatsAppObject} options
 */
async function asSent(file, { mimetype, filename }, { sendMediaAsSticker }) {
    if (!sendMediaAsSticker || mimetype === 'image/webp') return { file, mimetype, filename };
    const webp = await window.require('WAWebImageUtils').toWebpSticker(file);
    return { file: new window.File([webp], 'sticker.webp', { type: 'image/webp' }), mimetype: 'image/webp' };
}

/**
 * Runs in the page: the status of a message, once it is at the server or refused, or so many milliseconds
 * later; null = the page has no such message.
 *
 * @param {string} id
 * @param {number} ms
 */
async function awaitAck(id, ms) {
    const msg = await messageOf(id);
    if (!msg) return null;
    if ((msg.ack ?? 0) !== 0 || ms === 0) return stateOf(msg);
    await new Promise((resolve) => {
        const look = () => {
            if ((msg.ack ?? 0) === 0) return;
            msg.off('change:ack', look);
            resolve(undefined);
        };
        msg.on('change:ack', look);
        setTimeout(() => {
            msg.off('change:ack', look);
            resolve(undefined);
        }, ms);
    });
    return stateOf(msg);
}

/**
 * Runs in the page: change a message, or have somebody know that one writes. Returns `{}`, or `{code}` where
 * WhatsApp does not allow it, or has not got the message or chat.
 *
 * @param {string} id
 * @param {string} text
 * @param {string[]} mentions
 * @returns {Promise<{code?: string}>}
 */
async function edit(id, text, mentions) {
    const msg = await messageOf(id);
    if (!msg) return { code: 'no_such_message' };
    const { canEditText, canEditCaption } = window.require('WAWebMsgActionCapability');
    if (!msg.id.fromMe || !(canEditText(msg) || canEditCaption(msg))) return { code: 'refused' };
    await window.WWebJS.editMessage(msg, text, { mentionedJidList: mentions });
    return {};
}

/** @param {string} id @param {boolean} forAll @returns {Promise<{code?: string}>} */
async function remove(id, forAll) {
    const msg = await messageOf(id);
    if (!msg) return { code: 'no_such_message' };
    const { Chat } = window.require('WAWebCollections');
    const chat = Chat.get(msg.id.remote) ?? (await Chat.find(msg.id.remote));
    const { canSenderRevokeMsg, canAdminRevokeMsg } = window.require('WAWebMsgActionCapability');
    const { Cmd } = window.require('WAWebCmd');
    const list = { list: [msg], type: 'message' };
    if (!forAll) {
        await Cmd.sendDeleteMsgs(chat, list, true);
        return {};
    }
    if (!canSenderRevokeMsg(msg) && !canAdminRevokeMsg(msg)) return { code: 'refused' };
    await Cmd.sendRevokeMsgs(chat, list, { clearMedia: true });
    return {};
}

/** @param {string} id @param {string} reaction @returns {Promise<{code?: string}>} */
async function react(id, reaction) {
    const msg = await messageOf(id);
    if (!msg) return { code: 'no_such_message' };
    await window.require('WAWebSendReactionMsgAction').sendReactionToMsg(msg, reaction);
    return {};
}

/**
 * Runs in the page: forward a message. The page chooses the id of the copy: null if it does not report it.
 *
 * @param {string} id
 * @param {Place} where as `prepareSend` gave it; another call with the same
 *   `id` while it is under way gets its outcome
 * @param {Begun|null} begun it was begun before, at `since` (seconds) or later:
 *   the copy is searched for first; the `others` are not copies
 * @returns {Promise<Given>} as `handOver`
 */
async function forward(id, where, begun) {
    return once(where.id, () => sendOn(id, where.chat, begun));
}

/**
 * @param {string} id
 * @param {string} to
 * @param {Begun|null} begun
 * @returns {Promise<Given>}
 */
async function sendOn(id, to, begun) {
    const msg = await messageOf(id);
    if (!msg) return { code: 'no_such_message' };
    const { Msg } = window.require('WAWebCollections');
    if (begun !== null) {
        const copies = await copiesOf(id, to, begun.since);
        const known = copies.find((each) => !begun.others.includes(each));
        if (known !== undefined) return stateOf(Msg.get(known));
    }
    const { forwardMessages } = window.require('WAWebChatForwardMessage');
    const chat = await window.WWebJS.getChat(to, { getAsModel: false });
    if (!chat) return { code: 'no_such_chat' };
    /** @type {WhatsAppObject} */
    let copy = null;
    const look = (/** @type {WhatsAppObject} */ added) => {
        const isCopy = added.id.fromMe && textOf(added.id.remote) === to && added.type === msg.type;
        if (isCopy && added.isForwarded) copy ??= added;
    };
    Msg.on('add', look);
    try {
        const wish = { chat, msgs: [msg], multicast: true, includeCaption: true, appendedText: undefined };
        await forwardMessages(wish);
    } catch (error) {
        if (copy === null) throw error;
    } finally {
        Msg.off('add', look);
    }
    return copy === null ? { id: null, ack: 0, type: msg.type } : stateOf(copy);
}

/**
 * Runs in the page: the ids of a message's copies in a chat, by what they hold, since a time in seconds.
 *
 * @param {string} id
 * @param {string} to
 * @param {number} since
 * @returns {Promise<string[]>}
 */
async function copiesOf(id, to, since) {
    const msg = await messageOf(id);
    if (!msg) return [];
    const { Msg } = window.require('WAWebCollections');
    const inIt = (/** @type {WhatsAppObject} */ { type, filehash, body, caption, lat, lng }) =>
        JSON.stringify([type, filehash ?? body, caption, lat, lng]);
    const all = await messagesSince(to, since, { most: 1_000, waitMs: 2_000 });
    return all.filter((/** @type {string} */ each) => {
        const other = Msg.get(each);
        return other?.id.fromMe && other.isForwarded && inIt(other) === inIt(msg);
    });
}

/** A sign of activity that the other side sees. @typedef {'typing'|'recording'|'stop'|'seen'} Sign */

/** @param {Sign} what @param {string[]} ids @returns {Promise<{code?: string}>} */
async function signal(what, ids) {
    const chat = ids.map((id) => chatBy(id)).find((each) => each !== null);
    if (!chat) return { code: 'no_such_chat' };
    if (what === 'seen') await window.WWebJS.sendSeen(textOf(chat.id));
    else await window.WWebJS.sendChatstate(what, textOf(chat.id));
    return {};
}

const CHAT = [attempt, idsOf, textOf, chatBy];
const MESSAGE = [textOf, messageOf, stateOf];
const COPIES = [...MESSAGE, messagesSince, copiesOf];

module.exports = {
    awaitAck: withParts(awaitAck, ...MESSAGE),
    copiesOf: withParts(copiesOf, ...COPIES),
    edit: withParts(edit, ...MESSAGE),
    forward: withParts(forward, ...COPIES, once, sendOn),
    handOver: withParts(handOver, ...MESSAGE, once, completeGroup, keyIn, asSent, give),
    lookUp: withParts(lookUp, attempt, textOf, askFor),
    prepareSend: withParts(prepareSend, ...CHAT, askFor, completeGroup, keyIn),
    react: withParts(react, ...MESSAGE),
    remove: withParts(remove, ...MESSAGE),
    signal: withParts(signal, ...CHAT),
};

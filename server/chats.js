'use strict';

/**
 * Chats and messages: what the library returns, in the shapes that the web app reads. Times in milliseconds.
 */

const { withLimit } = require('./errors');
const { HttpError } = require('./http');

const PAGE_DEFAULT = 100;
const PAGE_MAX = 1000;
/** How far back a page of messages may lie; each page loads everything after it. */
const HISTORY_MAX = 10_000;
const NUMBER_LIMIT_MS = 3_000;

const CHAT_ID = /^[A-Za-z0-9._:-]{1,64}@[a-z.]{1,32}$/;
const MEDIA_TYPE = /^[a-z0-9.+-]+\/[a-z0-9.+-]+(;\s*[a-z0-9.+-]+=[a-z0-9.+-]+)*$/i;
/** Types that a browser shows without running anything in them. */
const SHOWN_INLINE = /^(image\/(png|jpeg|gif|webp)|video\/|audio\/)/i;
/** Entries of a chat that nobody wrote. */
const NOT_WRITTEN = new Set([
    'e2e_notification',
    'notification',
    'notification_template',
    'gp2',
    'protocol',
    'ciphertext',
]);

const serialized = (id) => (typeof id === 'string' ? id : (id?._serialized ?? null));
const milliseconds = (unixSeconds) => (Number.isFinite(unixSeconds) ? unixSeconds * 1000 : null);
const userPart = (id) => serialized(id)?.split('@')[0].split(':')[0] ?? null;

function describeChat(chat) {
    const id = serialized(chat.id);
    const isGroup = Boolean(chat.isGroup);
    return {
        id,
        name: chat.name || userPart(id),
        phone: isGroup || !id.endsWith('@c.us') ? null : userPart(id),
        isGroup,
        unreadCount: chat.unreadCount ?? 0,
        lastMessage: chat.lastMessage?.body ?? '',
        timestamp: milliseconds(chat.timestamp),
        pinned: Boolean(chat.pinned),
        isArchived: Boolean(chat.archived),
    };
}

function describeMessage(message) {
    const id = serialized(message.id);
    return {
        id,
        body: message.body ?? '',
        from: message.author ?? message.from ?? null,
        fromMe: Boolean(message.fromMe),
        timestamp: milliseconds(message.timestamp),
        type: message.type ?? null,
        hasMedia: Boolean(message.hasMedia),
        mediaUrl: message.hasMedia ? `/media/${encodeURIComponent(id)}` : null,
        messageId: id,
        contactName: message._data?.notifyName ?? null,
    };
}

/**
 * Return the phone number behind an id; null when WhatsApp does not tell it. Most people are named by another
 * id than their number by now, `…@lid`, whose digits are nobody's number.
 */
async function phoneOf(client, id) {
    if (!id.endsWith('@lid')) return userPart(id);
    const asked = client.getContactLidAndPhone([id]);
    const [known] = await withLimit(asked, NUMBER_LIMIT_MS, 'the number of a sender').catch(() => []);
    return userPart(known?.pn);
}

/** Return the body of a webhook call for an incoming message; null for what nobody wrote. */
async function describeIncoming(message, { user, port }) {
    if (message.isStatus || NOT_WRITTEN.has(message.type)) return null;
    const body = message.body ?? '';
    return {
        from: message.from,
        phone: await phoneOf(message.client, serialized(message.author ?? message.from)),
        body,
        message: body,
        timestamp: milliseconds(message.timestamp),
        user_id: user,
        port,
    };
}

async function listChats(client) {
    const chats = (await client.getChats()).map(describeChat);
    chats.sort((one, other) => (other.timestamp ?? 0) - (one.timestamp ?? 0));
    return { success: true, chats, total: chats.length };
}

function pageSize(text) {
    if (text === null || text === '') return PAGE_DEFAULT;
    if (!/^[1-9]\d{0,8}$/.test(text)) throw new HttpError(400, 'limit must be a whole number from 1 to 1000');
    return Math.min(Number(text), PAGE_MAX);
}

/** Return where a page ends: before the message whose id or time (milliseconds) is given. */
function cut(messages, before) {
    if (before === null || before === '') return messages.length;
    if (/^\d+$/.test(before)) {
        const index = messages.findIndex((each) => milliseconds(each.timestamp) >= Number(before));
        return index < 0 ? messages.length : index;
    }
    return messages.findIndex((each) => serialized(each.id) === before);
}

/**
 * Return one page of a chat, oldest first.
 *
 * @param {{limit: string|null, before: string|null}} page `before` is a `nextCursor` or a time (milliseconds)
 * @throws {HttpError} 400 or 404
 */
async function listMessages(client, chatId, page) {
    const limit = pageSize(page.limit);
    if (!CHAT_ID.test(chatId)) throw new HttpError(400, 'not the id of a chat');
    const chat = await client.getChatById(chatId);
    if (!chat) throw new HttpError(404, 'no such chat');

    // The library gives the newest messages only, so an older page means asking for more until it is among
    // them.
    for (let wanted = limit + 1; ; wanted = Math.min(wanted * 4, HISTORY_MAX)) {
        const messages = await chat.fetchMessages({ limit: wanted });
        messages.sort((one, other) => one.timestamp - other.timestamp);
        const end = cut(messages, page.before);
        const exhausted = messages.length < wanted || wanted >= HISTORY_MAX;
        if (end <= limit && !exhausted) continue;
        if (end < 0)
            throw new HttpError(400, 'before is neither a time nor the id of a message of this chat');
        const start = Math.max(0, end - limit);
        const found = messages.slice(start, end).map(describeMessage);
        return {
            success: true,
            messages: found,
            total: found.length,
            hasMore: start > 0,
            nextCursor: start > 0 ? found[0].id : null,
        };
    }
}

/** Return `{bytes, headers}` of a message's media. @throws {HttpError} 404 */
async function readMedia(client, messageId) {
    const missing = () => new HttpError(404, 'no such message, or no media in it');
    const message = await client.getMessageById(messageId).catch((error) => {
        if (/Invalid serialized message id/.test(error.message)) throw missing();
        throw error;
    });
    const media = await message?.downloadMedia();
    if (!media?.data) throw missing();
    const type = MEDIA_TYPE.test(media.mimetype ?? '') ? media.mimetype : 'application/octet-stream';
    const disposition = SHOWN_INLINE.test(type) ? 'inline' : 'attachment';
    const name = media.filename
        ? `; filename*=UTF-8''${encodeURIComponent(media.filename).replace(/['()*]/g, escape)}`
        : '';
    const bytes = Buffer.from(media.data, 'base64');
    return {
        bytes,
        // The sender chooses type and content: nothing of it may run in the browser that shows it.
        headers: {
            'Content-Type': type,
            'Content-Length': bytes.length,
            'Content-Disposition': disposition + name,
            'Cache-Control': 'private, no-store',
            'X-Content-Type-Options': 'nosniff',
            'Content-Security-Policy': "default-src 'none'; sandbox",
        },
    };
}

/** Return the chat id that a phone number or id stands for. @throws {HttpError} 400 */
function recipient(phone) {
    const text = String(phone).trim();
    if (CHAT_ID.test(text)) return text;
    const digits = text.replace(/[\s().+-]/g, '');
    if (!/^\d{5,20}$/.test(digits))
        throw new HttpError(400, 'phone is neither a phone number nor the id of a chat');
    return `${digits}@c.us`;
}

/** Send a text; return the message's id. */
async function sendText(client, chatId, text) {
    let sent;
    try {
        sent = await client.sendMessage(chatId, text, { sendSeen: false });
    } catch (error) {
        // WhatsApp addresses some people by another id than their number, and has to be asked for it first.
        if (!/No LID/i.test(error.message)) throw error;
        const known = await client.getNumberId(chatId);
        if (known === null) throw new Error('this number is not on WhatsApp', { cause: error });
        sent = await client.sendMessage(serialized(known), text, { sendSeen: false });
    }
    const id = serialized(sent?.id);
    if (id === null) throw new Error('WhatsApp did not accept the message');
    return id;
}

module.exports = { describeIncoming, listChats, listMessages, readMedia, recipient, sendText };

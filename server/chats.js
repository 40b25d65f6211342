'use strict';

/**
 * Chats and messages: what the library returns, in the shapes that the web app reads. Times in milliseconds.
 */

const { PAGE_GONE, withLimit } = require('./errors');
const { HttpError } = require('./http');
const { reason } = require('./reasons');

const PAGE_DEFAULT = 100;
const PAGE_MAX = 1000;
const CHATS_MAX = 100_000;
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

/**
 * Return the text of an id, whatever shape the page gave it: the member that holds it has had several names,
 * so it is told by its parts; null where there is none.
 */
function serialized(id) {
    if (typeof id === 'string') return id;
    if (typeof id !== 'object' || id === null) return null;
    if (typeof id._serialized === 'string') return id._serialized;
    if (typeof id.user === 'string' && typeof id.server === 'string') return `${id.user}@${id.server}`;
    if (typeof id.id !== 'string') return null;
    const remote = serialized(id.remote);
    const begin = `${Boolean(id.fromMe)}_${remote}_${id.id}`;
    const held = Object.values(id).find((value) => typeof value === 'string' && value.startsWith(begin));
    if (held !== undefined) return held;
    if (remote === null) return null;
    const participant = serialized(id.participant);
    return participant === null ? begin : `${begin}_${participant}`;
}

const milliseconds = (unixSeconds) => (Number.isFinite(unixSeconds) ? unixSeconds * 1000 : null);
const userPart = (id) => serialized(id)?.split('@')[0].split(':')[0] ?? null;

/** `phone` and `timestamp` are never null: the web app works with them as text and number. */
function describeChat({ id, name, phone, isGroup, unreadCount, lastMessage, t, pinned, isArchived }) {
    const number = phone ?? (id.endsWith('@lid') ? '' : userPart(id).replace(/\D/g, ''));
    return {
        id,
        name: name || userPart(id),
        phone: number,
        isGroup,
        unreadCount: unreadCount ?? 0,
        lastMessage,
        timestamp: milliseconds(t) ?? 0,
        pinned,
        isArchived,
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
 * Return the phone number behind an id; null when WhatsApp does not tell it, or there is no id. Most people
 * are named by another id than their number by now, `…@lid`, whose digits are nobody's number.
 */
async function phoneOf(client, id) {
    if (!id?.endsWith('@lid')) return userPart(id);
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

/** Read a number of a query. @throws {HttpError} 400 */
function wholeNumber(text, name, least, usual) {
    if (text === null || text === '') return usual;
    const value = /^\d{1,9}$/.test(text) ? Number(text) : -1;
    if (value < least) throw new HttpError(400, `${name} must be a whole number from ${least}`);
    return value;
}

/**
 * Return chats, newest first.
 *
 * @param {{limit: string|null, offset: string|null}} page how many, after how many; all unless given
 * @throws {HttpError} 400
 */
async function listChats(client, { limit, offset }) {
    const many = Math.min(wholeNumber(limit, 'limit', 1, CHATS_MAX), CHATS_MAX);
    const first = wholeNumber(offset, 'offset', 0, 0);
    const { chats, total } = await client.turns.take(`chats ${many} ${first}`, () =>
        client.listChats(many, first),
    );
    return { success: true, chats: chats.map(describeChat), total };
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
    return client.turns.take(`messages ${chatId} ${limit} ${page.before}`, () =>
        readMessages(client, chatId, limit, page.before),
    );
}

async function readMessages(client, chatId, limit, before) {
    // The library would make the chat, where there is none.
    const known = await client.findChat(chatId);
    const chat = known === null ? undefined : await client.getChatById(known);
    if (!chat) throw new HttpError(404, 'no such chat');

    // The library gives the newest messages only, so an older page means asking for more until it is among
    // them.
    for (let wanted = limit + 1; ; wanted = Math.min(wanted * 4, HISTORY_MAX)) {
        const messages = await chat.fetchMessages({ limit: wanted });
        messages.sort((one, other) => one.timestamp - other.timestamp);
        const end = cut(messages, before);
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
    const media = await client.downloads.take(messageId, async () => {
        const message = await client.getMessageById(messageId).catch((error) => {
            if (/Invalid serialized message id/.test(error.message)) throw missing();
            throw error;
        });
        return message?.downloadMedia();
    });
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

/** What is thrown where a part of the page is not loaded (yet). */
const NOT_LOADED = /Requiring unknown module|unresolved dependenc/i;

/**
 * Hand a text over; return what the library knows of the message. It is handed over again only where the page
 * has taken nothing: what is thrown after that says nothing about the part that was wanted.
 *
 * @param {() => Promise<string|null|undefined>} taken tells what the page has taken, as in `sendText`
 */
async function handOver(client, chatId, text, taken, options = { sendSeen: false }) {
    try {
        return await client.sendMessage(chatId, text, { ...options });
    } catch (error) {
        // The part that makes previews of links comes late; the text needs none.
        const isEarly = NOT_LOADED.test(error.message) && options.linkPreview === undefined;
        // WhatsApp addresses some people by another id than their number, and has to be asked for it first.
        const isUnknown = /No LID/i.test(error.message);
        if ((!isEarly && !isUnknown) || (await taken()) !== null) throw error;
        if (isEarly) return handOver(client, chatId, text, taken, { ...options, linkPreview: false });
        const known = await client.getNumberId(chatId);
        if (known === null) throw new Error('this number is not on WhatsApp', { cause: error });
        return client.sendMessage(serialized(known), text, { ...options });
    }
}

/** The texts that are on their way now. Equal ones to one chat look alike in the page. */
const underWay = new Set();

/**
 * Send a text; return the message's id. What the page has taken is never told as not sent: whoever repeats it
 * would send it twice.
 *
 * @throws {SessionError} `perhaps_sent`
 */
async function sendText(client, chatId, text) {
    /** `others`: ids of messages like it; `isAlike`: there may be more, whose ids are not known. */
    const own = { chatId, text, others: new Set(), isAlike: false };
    underWay.add(own);
    const since = Math.floor(Date.now() / 1000) - 1;
    /** Ids of messages like it that came since; undefined = the page does not tell. */
    const look = () => client.findSent(chatId, text, since).catch(() => undefined);
    const rivals = () =>
        [...underWay].filter((one) => one !== own && one.chatId === chatId && one.text === text);
    /** The id of what the page has taken; null = nothing; undefined = that is not known. */
    const taken = async () => {
        const found = (await look())?.filter((id) => !own.others.has(id));
        if (found?.length === 0) return null;
        return own.isAlike || rivals().length > 0 ? undefined : found?.[0];
    };
    const answer = (id) => {
        for (const one of rivals()) one.others.add(id);
        return id;
    };
    let failure = null;
    try {
        const before = await look();
        for (const id of before ?? []) own.others.add(id);
        if (before === undefined) own.isAlike = true;
        try {
            const id = serialized((await handOver(client, chatId, text, taken))?.id);
            if (id !== null) return answer(id);
        } catch (error) {
            failure = error;
        }
        const found = await taken();
        if (typeof found === 'string') return answer(found);
        if (failure !== null && found === null && !PAGE_GONE.test(failure.message)) throw failure;
        for (const one of rivals()) one.isAlike = true;
        throw reason.perhapsSent();
    } finally {
        underWay.delete(own);
    }
}

module.exports = {
    NOT_LOADED,
    describeIncoming,
    listChats,
    listMessages,
    readMedia,
    recipient,
    sendText,
    serialized,
};

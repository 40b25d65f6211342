'use strict';

/**
 * Chats and messages: what the library returns, in the shapes that the web app reads. Times in milliseconds.
 */

const { setTimeout: pause } = require('node:timers/promises');

const { milliseconds } = require('./content');
const contract = require('./contract.json');
const { describeEntry } = require('./describe');
const { readChatId } = require('./given_ids');
const { HttpError } = require('./http');
const { chatType, isLid, userPart } = require('./ids');
const { readPage } = require('./query');

const PAGE_DEFAULT = 100;
const { page: PAGE_MAX } = contract.limits;
const CHATS_MAX = 100_000;
/** How far back a page of messages may be; each page loads everything after it. */
const HISTORY_MAX = 10_000;
/** How long the phone may take to hand over older messages, and how often is looked, in milliseconds. */
const EARLIER_MS = 8_000;
const EARLIER_LOOK_MS = 250;
/** How long a list of chats is kept, in milliseconds, if the page reports no change. */
const LIST_MS = 30_000;

/** @typedef {import('./types').SessionClient} SessionClient */
/** @typedef {import('./chats_page').PageChat} PageChat */

/**
 * `phone` and `timestamp` are never null: the web app works with them as text and number. It takes the digits
 * of a group's id for its number, too; those of a person's are one only if WhatsApp names them by it.
 *
 * @param {PageChat} chat
 */
function describeChat({ id, name, phone, isGroup, unreadCount, lastMessage, t, pinned, isArchived }) {
    const digits = isLid(id) || id.endsWith('@bot') ? '' : (userPart(id) ?? '').replace(/\D/g, '');
    return {
        id,
        type: chatType(id),
        name: name || userPart(id),
        phone: phone ?? digits,
        isGroup,
        unreadCount: unreadCount ?? 0,
        lastMessage,
        timestamp: milliseconds(t) ?? 0,
        pinned,
        isArchived,
    };
}

/**
 * By client: the last list of its page, for as long as that may be kept.
 *
 * @type {WeakMap<SessionClient, {stamp: string, chats: PageChat[]}>}
 */
const lists = new WeakMap();

/**
 * Return all chats as the page lists them, newest first. It lists them only if something has changed since
 * the last time: with thousands of chats the list keeps it busy.
 *
 * @param {SessionClient} client
 */
async function allChats(client) {
    const kept = lists.get(client);
    const { stamp, chats } = await client.listChats(kept?.stamp ?? null);
    // It says so only if it was given the stamp of the kept list.
    if (chats === null) return kept?.chats ?? [];
    const list = { stamp, chats: chats.filter(({ id }) => chatType(id) !== 'status') };
    lists.set(client, list);
    setTimeout(() => {
        if (lists.get(client) === list) lists.delete(client);
    }, LIST_MS).unref();
    return list.chats;
}

/**
 * Return chats, newest first.
 *
 * @param {SessionClient} client
 * @param {import('./types').GivenPage} page how many, after how many; all unless given
 * @throws {HttpError} 400
 */
async function listChats(client, page) {
    const { many, first } = readPage(page, CHATS_MAX, CHATS_MAX);
    const all = await client.turns.take('chats', () => allChats(client));
    return { success: true, chats: all.slice(first, first + many).map(describeChat), total: all.length };
}

const noSuchChat = () => new HttpError(404, 'no such chat', { code: 'no_such_chat' });

/**
 * Return one chat, as in the list. Reading does not create one.
 *
 * @param {SessionClient} client
 * @param {string} chatId
 * @throws {HttpError} 400 or 404
 */
async function readChat(client, chatId) {
    const id = readChatId(chatId);
    const chat = await client.turns.take(`chat ${id}`, () => client.readChat(id));
    if (chat === null) throw noSuchChat();
    return describeChat(chat);
}

/** @param {string|null} text */
function pageSize(text) {
    if (text === null || text === '') return PAGE_DEFAULT;
    if (!/^[1-9]\d{0,8}$/.test(text)) throw new HttpError(400, 'limit must be a whole number from 1 to 1000');
    return Math.min(Number(text), PAGE_MAX);
}

/**
 * Return one page of a chat, oldest first. Reading marks nothing as seen, and makes no chat.
 *
 * @param {SessionClient} client
 * @param {string} chatId
 * @param {{limit: string|null, before: string|null}} page `before` is a `nextCursor` or a time (milliseconds)
 * @throws {HttpError} 400 or 404
 */
async function listMessages(client, chatId, page) {
    const limit = pageSize(page.limit);
    const before = page.before || null;
    const id = readChatId(chatId);
    const read = () => client.readHistory(id, limit, before, HISTORY_MAX);
    const found = await client.turns.take(`messages ${id} ${limit} ${before}`, read);
    if (found === null) throw noSuchChat();
    if (found.messages === null) {
        throw new HttpError(400, 'before is neither a time nor the id of a message of this chat', {
            code: 'bad_cursor',
        });
    }
    const messages = found.messages.map(describeEntry);
    return {
        success: true,
        messages,
        total: messages.length,
        hasMore: found.hasMore,
        nextCursor: found.hasMore ? messages[0].id : null,
        hasEarlier: found.hasEarlier,
    };
}

/**
 * Ask the phone for older messages of a chat, and wait for them for a while. Later ones are still read by
 * `listMessages`.
 *
 * @param {SessionClient} client
 * @param {string} chatId
 * @returns {Promise<{requested: boolean, arrived: number, hasEarlier: boolean|null}>}
 * @throws {HttpError} 400 or 404
 */
async function askForEarlier(client, chatId) {
    const id = readChatId(chatId);
    return client.requests.take(id, async () => {
        const end = performance.now() + EARLIER_MS;
        const answer = await client.turns.take(`ask ${id}`, () => client.askForEarlier(id, HISTORY_MAX));
        if (answer === null) throw noSuchChat();
        let { hasEarlier } = answer;
        let arrived = 0;
        while (answer.asked && arrived === 0 && performance.now() < end) {
            await pause(EARLIER_LOOK_MS);
            ({ arrived, hasEarlier } = await client.turns.take(`load ${id}`, () => client.loadEarlier(id)));
        }
        return { requested: answer.asked, arrived, hasEarlier };
    });
}

module.exports = {
    askForEarlier,
    listChats,
    listMessages,
    readChat,
};

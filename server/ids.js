'use strict';

/**
 * WhatsApp's ids of people, chats and messages: their texts, whatever shape the page gives them, what kind of
 * chat one names, and which of them have a phone number in them.
 */

/**
 * Kinds of chats, by the part of their id after the at sign. Unlisted ones are people. No prototype: ids are
 * texts from others, and that part may be `constructor`.
 */
const CHATS = /** @type {Record<string, import('./types').ChatType|null>} */ ({
    __proto__: null,
    'g.us': 'group',
    newsletter: 'channel',
    broadcast: 'broadcast',
});
const STATUS = 'status@broadcast';
/** Servers whose ids begin with a phone number; 0 is WhatsApp itself. */
const NUMBERED = ['c.us', 's.whatsapp.net', 'hosted'];
const LIDS = ['lid', 'hosted.lid'];
const NUMBER = /^[1-9]\d{4,14}$/;

/**
 * Return the text of an id, whatever shape the page gave it: the member that holds it has had several names,
 * so it is recognised by its parts; null if there is none.
 *
 * @param {import('./types').WhatsAppObject} id
 * @returns {string|null}
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

const userPart = (/** @type {unknown} */ id) => serialized(id)?.split('@')[0].split(':')[0] ?? null;
const serverPart = (/** @type {unknown} */ id) => serialized(id)?.split('@')[1] ?? null;

/**
 * Return the id of a person or chat without the device that it may name, as chats have it; or null.
 *
 * @param {unknown} id
 */
function plainId(id) {
    const text = serialized(id);
    if (!text) return null;
    const server = serverPart(text);
    return server === null ? text : `${userPart(text)}@${server === 's.whatsapp.net' ? 'c.us' : server}`;
}

/**
 * Return what an id names; null where there is no id.
 *
 * @param {unknown} id
 * @returns {import('./types').ChatType|null}
 */
function chatType(id) {
    const text = plainId(id);
    if (text === null) return null;
    return text === STATUS ? 'status' : (CHATS[serverPart(text) ?? ''] ?? 'person');
}

const isLid = (/** @type {unknown} */ id) => LIDS.includes(serverPart(id) ?? '');

/**
 * Return the phone number in a person's id, digits with country code; null where none is in it.
 *
 * @param {unknown} id
 */
function numberIn(id) {
    if (!NUMBERED.includes(serverPart(id) ?? '')) return null;
    const user = userPart(id);
    return user !== null && NUMBER.test(user) ? user : null;
}

module.exports = { chatType, isLid, numberIn, plainId, serialized, userPart };

'use strict';

/**
 * Turns the library's data on a message, a reaction, a call, … into an event: one object of plain values, in
 * the shape that docs/server.md describes member by member. Pure functions. One happening has one `event_id`,
 * whether it is received, received again, or read back from the history of its chat.
 *
 * What the page itself knows of the people and the chat comes with a message (`waportd`, compatibility.js).
 * A number is given only if an id contains it or WhatsApp has given it: the digits of other ids are not
 * numbers.
 */

const { createHash } = require('node:crypto');

const content = require('./content');
const { chatType, isLid, numberIn, plainId, serialized } = require('./ids');

/**
 * @typedef {import('./types').WhatsAppObject} WhatsAppObject
 * @typedef {import('./types').WhatsAppEvent} WhatsAppEvent
 * @typedef {import('./types').Person} Person
 */

/** WhatsApp's numbers for how far a message has come. The page may have anything in their place. */
const ACKS = /** @type {Record<string, string|null|undefined>} */ ({
    __proto__: null,
    '-1': 'error',
    0: 'pending',
    1: 'server',
    2: 'device',
    3: 'read',
    4: 'played',
});

const ackOf = (/** @type {unknown} */ value) => ACKS[String(content.number(value))];

/** A report that comes so long after the event, in milliseconds, is late. */
const LATE_MS = 60_000;

/** A unique id of what happened, which reveals nothing of it; without a dot, which signatures split at. */
const eventId = (/** @type {unknown[]} */ ...parts) =>
    createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);

/** The page's data; a message of the library keeps it. */
const dataOf = (/** @type {WhatsAppObject} */ message) => message.rawData ?? message._data ?? message;

/** @typedef {{chat: unknown, me: unknown[]|null, people: Record<string, WhatsAppObject>}} Known */

/**
 * What the page knows of a message's people and chat: `{chat, me, people}`, as far as it reported. People are
 * looked up by ids, which are texts from others: there is no member that the page did not give.
 *
 * @param {WhatsAppObject} data
 * @returns {Known}
 */
const knownOf = ({ waportd }) => ({
    chat: waportd?.chat,
    me: Array.isArray(waportd?.me) ? waportd.me : null,
    people: { __proto__: null, ...waportd?.people },
});
const NOTHING = knownOf({});

/**
 * @param {WhatsAppObject} id
 * @param {Pick<Known, 'people'>} known
 * @param {string|null} name
 * @returns {Person}
 */
function person(id, { people } = NOTHING, name = null) {
    const own = plainId(id);
    if (own === null || chatType(own) !== 'person') return { id: own, phone: null, lid: null, name };
    const known = people[String(serialized(id))] ?? people[own] ?? {};
    return {
        id: own,
        phone: numberIn(own) ?? content.text(known.phone),
        lid: isLid(own) ? own : content.text(known.lid),
        name: name ?? content.text(known.name),
    };
}

/** Who is who in a message: texts of ids, or null. @param {WhatsAppObject} message */
function partiesOf(message) {
    const data = dataOf(message);
    const key = data.id ?? {};
    const fromMe = Boolean(key.fromMe ?? message.fromMe);
    const from = serialized(data.from ?? message.from);
    const chat = serialized(key.remote) ?? (fromMe ? serialized(data.to) : from);
    // In a group, and of a status, that is the group; a channel names nobody else.
    const author = serialized(data.author) ?? serialized(key.participant);
    const isOne = fromMe || ['person', 'channel', 'broadcast'].includes(chatType(from) ?? '');
    return { fromMe, from, chat, sender: author ?? (isOne ? from : null) };
}

const describeChat = (
    /** @type {WhatsAppObject} */ id,
    /** @type {Known|undefined} */ known = undefined,
) => ({
    id: plainId(id),
    type: chatType(id),
    name: content.text(known?.chat),
});

/**
 * The message that is answered, as far as the answer carries it: `{id, sender, body, type}`; or null.
 *
 * @param {WhatsAppObject} data
 * @param {ReturnType<typeof partiesOf>} parties
 * @param {Known} known
 */
function quotedOf(data, { chat, fromMe, from }, known) {
    const { quotedMsg, quotedParticipant } = data;
    const stanza = content.text(data.quotedStanzaID);
    if (!quotedMsg && stanza === null) return null;
    const by = serialized(quotedParticipant);
    const isOwn = known.me ? known.me.includes(plainId(by)) : fromMe === (by === from);
    // If the page does not say so, only one of the two people in a chat is known.
    const isTold = known.me ?? (chatType(chat) === 'person' && isLid(by) === isLid(from));
    const key = [isOwn, chat, stanza, ...(chatType(chat) === 'group' ? [by] : [])];
    return {
        id: isTold && by !== null && stanza !== null ? key.join('_') : null,
        sender: person(by, known),
        body: quotedMsg ? content.wordsOf(quotedMsg) : '',
        type: content.text(quotedMsg?.type),
    };
}

/**
 * Describe a message, except its text and times: the same in an event and in the history.
 *
 * @param {WhatsAppObject} message
 */
function membersOf(message) {
    const data = dataOf(message);
    const known = knownOf(data);
    const parties = partiesOf(message);
    const id = serialized(data.id);
    const type = content.text(data.type);
    const media = content.mediaOf(data, id);
    const chat = describeChat(parties.chat, known);
    return {
        id,
        type,
        chat,
        isGroup: chat.type === 'group',
        fromMe: parties.fromMe,
        ephemeral: Boolean(data.isEphemeral || (content.number(data.ephemeralDuration) ?? 0) > 0),
        forwarded: Boolean(data.isForwarded || (content.number(data.forwardingScore) ?? 0) > 0),
        sender: person(parties.sender, known, parties.fromMe ? null : content.text(data.notifyName)),
        quoted: quotedOf(data, parties, known),
        mentions: content.list(data.mentionedJidList).map((each) => {
            const { id: mentioned, phone } = person(each, known);
            return { id: mentioned, phone };
        }),
        hasMedia: media !== null,
        media,
        mimetype: media?.type ?? null,
        filename: media?.name ?? null,
        size: media?.size ?? null,
        mediaUrl: media?.url ?? null,
        location: content.locationOf(data),
        contacts: content.contactsOf(data),
        poll: content.pollOf(data),
        edited_at: content.editedAt(data),
        ...content.ofKind(data),
    };
}

/**
 * Describe an existing message, for an event about it.
 *
 * @template {import('./types').EventName} Name
 * @template {number|null} Time
 * @param {Name} event
 * @param {WhatsAppObject} message
 * @param {{timestamp: Time, recovered: boolean}} when
 */
function about(event, message, { timestamp, recovered }) {
    const data = dataOf(message);
    const parties = partiesOf(message);
    const known = knownOf(data);
    const chat = describeChat(parties.chat, known);
    return {
        event,
        timestamp,
        id: serialized(data.id),
        type: content.text(data.type),
        chat,
        isGroup: chat.type === 'group',
        fromMe: parties.fromMe,
        recovered,
        sender: person(parties.sender, known, content.text(data.notifyName)),
    };
}

/**
 * Describe a message that came (`message`), that was sent, here or on the phone (`message.sent`), or of which
 * only its revocation is there.
 *
 * @param {WhatsAppObject} message of the library, heard or read back
 * @param {{recovered?: boolean, now?: number}} options whether it was read back; milliseconds
 * @returns {WhatsAppEvent|null} null where it is none that somebody sent
 */
function describeMessage(message, { recovered = false, now = Date.now() } = {}) {
    const data = dataOf(message);
    if (data.type === 'revoked') return describeRevoke(message, { recovered, now });
    const { from, chat } = partiesOf(message);
    if (content.isTechnical(data) || chat?.endsWith('@call')) return null;
    const members = membersOf(message);
    const { id, fromMe, sender } = members;
    const body = content.wordsOf(data);
    const timestamp = content.milliseconds(data.t ?? message.timestamp);
    return {
        from,
        phone: sender.phone,
        body,
        message: body,
        timestamp,
        event: fromMe ? 'message.sent' : 'message',
        event_id: id === null ? eventId('message', chat, sender.id, timestamp, body) : eventId('message', id),
        recovered,
        ...members,
    };
}

/**
 * Describe a message for the history of its chat, whatever it is. `contactName` is the name in a contact card
 * that it holds.
 *
 * @param {WhatsAppObject} message
 */
function describeEntry(message) {
    const data = dataOf(message);
    const { id, ...members } = membersOf(message);
    return {
        id,
        body: content.wordsOf(data),
        from: partiesOf(message).from,
        timestamp: content.milliseconds(data.t ?? message.timestamp),
        messageId: id,
        contactName: members.contacts?.[0]?.name ?? null,
        phone: members.sender.phone,
        ack: ackOf(data.ack) ?? null,
        ...members,
    };
}

/**
 * Describe the status of a message from this account.
 *
 * @param {WhatsAppObject} message
 * @param {unknown} ack
 * @returns {WhatsAppEvent|null} null for other messages: that this account read one is no news
 */
function describeAck(message, ack, { recovered = false, now = Date.now() } = {}) {
    const described = about('message.ack', message, { timestamp: now, recovered });
    if (!described.fromMe || ackOf(ack) === undefined) return null;
    return { ...described, event_id: eventId('ack', described.id, ack), ack: ackOf(ack) };
}

/**
 * Describe an edit.
 *
 * @param {WhatsAppObject} message
 * @param {string} body the words that it has now
 * @param {string|null|undefined} previous the words before, where they are known
 * @returns {WhatsAppEvent|null} null where something else of the message changed
 */
function describeEdit(message, body, previous, { recovered = false, now = Date.now() } = {}) {
    const data = dataOf(message);
    const at = content.editedAt(data);
    const hadWords = typeof previous === 'string' && previous !== '';
    // A picture that is drawn, or a message that could not be read before, changes its text, too.
    if (content.isTechnical(data) || content.wordsOf(data) !== body || previous === body) return null;
    if (at === null && !hadWords) return null;
    const described = about('message.edited', message, { timestamp: at ?? now, recovered });
    return {
        ...described,
        event_id: eventId('edited', described.id, at ?? body),
        body,
        previous: hadWords ? previous : null,
        edited_at: at ?? now,
    };
}

/**
 * Describe that a message was deleted.
 *
 * @param {WhatsAppObject} message as it is now: where everybody lost it, without what it held
 * @param {object} [options]
 * @param {boolean} [options.everyone] false = only this account
 * @param {boolean} [options.recovered]
 * @param {number} [options.now]
 * @returns {WhatsAppEvent}
 */
function describeRevoke(message, { everyone = true, recovered = false, now = Date.now() } = {}) {
    const data = dataOf(message);
    const described = about('message.revoked', message, { timestamp: now, recovered });
    const id = (everyone && serialized(data.protocolMessageKey)) || described.id;
    const revoker = data.revokeSender ?? (everyone ? described.sender.id : null);
    return {
        ...described,
        event_id: eventId('revoked', id, everyone),
        id,
        everyone,
        by: revoker === null ? null : person(revoker, knownOf(data)),
    };
}

/**
 * Describe all events of a message that is read back: that it came or was sent, that it was edited, its
 * status, or that it was deleted.
 *
 * @param {WhatsAppObject} message of the library, or as the page gave it
 * @returns {WhatsAppEvent[]} each the same as it was heard, or would have been
 */
function describeReadBack(message, { now = Date.now() } = {}) {
    const data = dataOf(message);
    const how = { recovered: true, now };
    const isUnderWay = data.ack === 0;
    return [
        describeMessage(message, how),
        content.editedAt(data) === null ? null : describeEdit(message, content.wordsOf(data), null, how),
        isUnderWay || content.isTechnical(data) ? null : describeAck(message, data.ack, how),
    ].filter((event) => event !== null);
}

/**
 * Describe a reaction; `reaction` is '' if it was removed. `id` is the message that it is for. While the page
 * loads an account's history it reports the reactions in it, too: they count as recovered.
 *
 * @param {WhatsAppObject} reaction
 * @returns {WhatsAppEvent & {timestamp: number}}
 */
function describeReaction(reaction, { recovered = false, now = Date.now() } = {}) {
    const key = reaction.id ?? {};
    const target = reaction.msgId ?? {};
    const chat = describeChat(serialized(target.remote) ?? serialized(key.remote));
    const isOne = chat.type !== 'group' && !key.fromMe;
    const sender = person(
        serialized(reaction.senderId) ?? serialized(key.participant) ?? (isOne ? chat.id : null),
    );
    const at = content.time(reaction.timestamp) ?? 0;
    const timestamp = at > 0 ? Math.round(at) : now;
    const id = serialized(target);
    const text = content.text(reaction.reaction) ?? '';
    return {
        event: 'message.reaction',
        // By its own key: the person may have another id when it is read back.
        event_id: eventId('reaction', id, content.text(key.id) ?? sender.id, text, at > 0 ? timestamp : null),
        timestamp,
        id,
        chat,
        isGroup: chat.type === 'group',
        fromMe: Boolean(key.fromMe),
        recovered: recovered || now - timestamp > LATE_MS,
        sender,
        reaction: text,
    };
}

/**
 * Describe a call.
 *
 * @param {WhatsAppObject} call
 * @returns {WhatsAppEvent|null} null where it is an own one
 */
function describeCall(call, { now = Date.now() } = {}) {
    if (call.fromMe) return null;
    const from = person(call.from);
    const id = serialized(call.id);
    const [video, group] = [Boolean(call.isVideo), Boolean(call.isGroup)];
    return {
        event: 'call',
        event_id: eventId('call', id, from.id),
        timestamp: content.milliseconds(call.timestamp) ?? now,
        chat: describeChat(call.from),
        isGroup: group,
        fromMe: false,
        recovered: false,
        sender: from,
        call: { id, from: from.id, phone: from.phone, video, group },
    };
}

/**
 * Describe that the session has another state.
 *
 * @param {import('./types').SessionDocument} document as in state.js; the codes in it stay there
 * @returns {WhatsAppEvent}
 */
function describeSession({ state, since, cause, message }) {
    return {
        event: 'session',
        event_id: eventId('session', state, since),
        timestamp: Date.parse(since),
        recovered: false,
        session: { state, cause, message },
    };
}

/**
 * Return the id of an event's sender, if WhatsApp has to be asked for the number; else null.
 *
 * @param {Pick<WhatsAppEvent, 'sender'|'by'>} event
 */
function unknownSender({ sender, by }) {
    const of = by === undefined ? sender : by;
    return of?.phone === null && isLid(of.id) ? of.id : null;
}

/**
 * Return the members of an event that change when the number of its sender is known.
 *
 * @param {WhatsAppEvent} event
 * @param {string|null} id
 * @param {string} phone
 */
function withNumber({ event, sender, by, call }, id, phone) {
    /** @type {Partial<Pick<WhatsAppEvent, 'sender'|'by'|'call'>> & {phone?: string}} */
    const members = {};
    if (sender?.id === id) members.sender = { ...sender, phone };
    if (by?.id === id) members.by = { ...by, phone };
    if (call?.from === id) members.call = { ...call, phone };
    if (members.sender && (event === 'message' || event === 'message.sent')) members.phone = phone;
    return members;
}

module.exports = {
    describeAck,
    describeCall,
    describeEdit,
    describeEntry,
    describeMessage,
    describeReaction,
    describeReadBack,
    describeRevoke,
    describeSession,
    unknownSender,
    withNumber,
};

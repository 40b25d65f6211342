'use strict';

/** Ids as callers give them: read, or refused with a reason. */

const { HttpError } = require('./http');
const { chatType, plainId } = require('./ids');

const ID = /^[A-Za-z0-9._:-]{1,64}@[a-z.]{1,32}$/;

/**
 * @param {string} why
 * @param {string} [hint]
 */
const refused = (why, hint) => new HttpError(400, why, { code: 'bad_id', ...(hint && { hint }) });

/**
 * Read the id of a chat: of a person without their device, and by the name that WhatsApp Web has for its
 * server. Whether there is such a chat is another question.
 *
 * @param {string} text
 * @throws {HttpError} 400 `bad_id`: it is none, or that of a call
 */
function readChatId(text) {
    if (!ID.test(text)) {
        const hint = 'ids end in @c.us, @lid, @g.us, …; GET /numbers/{number} returns the id of a number';
        throw refused('not the id of a chat', hint);
    }
    if (text.endsWith('@call')) throw refused('the id of a call names no chat');
    return /** @type {string} */ (plainId(text));
}

/**
 * Read the id of a person, or of another kind of chat.
 *
 * @param {import('./types').ChatType[]} kinds
 * @param {string} text
 * @throws {HttpError} 400 `bad_id`: it is that of something else
 */
function readIdOf(kinds, text) {
    const id = readChatId(text);
    const kind = chatType(id);
    if (kind === null || !kinds.includes(kind)) throw refused(`not the id of a ${kinds.join(' or ')}`);
    return id;
}

module.exports = { readChatId, readIdOf };

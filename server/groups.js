'use strict';

/** Groups: read, and changed as far as WhatsApp's page can. */

const { PAGE_GONE, TimeLimitError, messageOf, withLimit } = require('./errors');
const { readIdOf } = require('./given_ids');
const { HttpError } = require('./http');
const { readPage } = require('./query');
const { reason } = require('./session_errors');

const GROUPS_MAX = 100_000;
const MAX_NAME_CHARACTERS = 100;
const MAX_DESCRIPTION_CHARACTERS = 2048;
/** The most people to add, remove, … with one call: each takes a while. */
const MAX_PEOPLE = 20;
/** @type {('add'|'remove'|'promote'|'demote')[]} */
const ACTIONS = ['add', 'remove', 'promote', 'demote'];
/** A call has this much time beyond its own limit, which reports more. */
const REST_MS = 500;

/** @typedef {import('./types').SessionClient} SessionClient */
/** @typedef {import('./types').JsonObject} JsonObject */
/** @typedef {import('./groups_page').Participant} Participant */

const noSuchGroup = () => new HttpError(404, 'no such group', { code: 'no_such_group' });
const bad = (/** @type {string} */ text) => new HttpError(400, text, { code: 'bad_request' });
const refused = (/** @type {string} */ text, code = 'refused') => new HttpError(422, text, { code });

const readGroupId = (/** @type {string} */ text) => readIdOf(['group'], text);

/**
 * Refuse what a call does not know: who sends it thinks that it does something.
 *
 * @param {JsonObject} body
 * @param {string[]} members
 * @throws {HttpError} 400
 */
function onlyKnown(body, ...members) {
    const unknown = Object.keys(body).find((each) => !members.includes(each) && each !== 'user_id');
    if (unknown !== undefined) throw bad(`there is no member ${JSON.stringify(unknown.slice(0, 50))}`);
}

/**
 * @param {unknown} value
 * @param {string} name
 * @param {number} most characters
 */
function readText(value, name, most) {
    if (typeof value !== 'string' || value.trim() === '') throw bad(`${name} must be a text`);
    if ([...value].length > most) throw bad(`${name} is longer than ${most} characters`);
    return value;
}

/**
 * Read the people that a call is about: numbers with country code, or ids.
 *
 * @param {unknown} value
 * @throws {HttpError} 400
 */
function readPeople(value) {
    if (!Array.isArray(value) || value.length === 0) throw bad('participants must be numbers or ids');
    if (value.length > MAX_PEOPLE) throw bad(`there are more than ${MAX_PEOPLE} participants`);
    const ids = value.map((each) => {
        if (!['string', 'number'].includes(typeof each)) throw bad('each participant is a number or an id');
        const digits = `${each}`.replace(/[\s().+-]/g, '');
        return /^\d{5,15}$/.test(digits) ? `${digits}@c.us` : readIdOf(['person'], `${each}`);
    });
    return [...new Set(ids)];
}

/**
 * Change something, once: an unknown outcome is reported as such, so that nobody repeats it blindly.
 *
 * @template Result
 * @param {SessionClient} client
 * @param {() => Promise<Result>} work
 * @param {number} limitMs
 * @returns {Promise<Result>}
 * @throws {SessionError} `perhaps_done`
 */
async function change(client, work, limitMs) {
    try {
        return await withLimit(client.changes.take(Symbol('change'), work), limitMs - REST_MS, 'a change');
    } catch (error) {
        const isUnknown = error instanceof TimeLimitError || PAGE_GONE.test(messageOf(error));
        throw isUnknown ? reason.perhapsDone() : error;
    }
}

/**
 * Return groups, by name.
 *
 * @param {SessionClient} client
 * @param {import('./types').GivenPage} page
 * @throws {HttpError} 400
 */
async function listGroups(client, page) {
    const { many, first } = readPage(page, GROUPS_MAX, GROUPS_MAX);
    const all = await client.turns.take('groups', () => client.listGroups());
    return { groups: all.slice(first, first + many), total: all.length };
}

/**
 * Return a group with its participants.
 *
 * @param {SessionClient} client
 * @param {string} givenId
 * @throws {HttpError} 400 or 404
 */
async function readGroup(client, givenId) {
    const id = readGroupId(givenId);
    const found = await client.turns.take(`group ${id}`, () => client.readGroup(id));
    if (found === null) throw noSuchGroup();
    return found;
}

/**
 * Add people, remove them, make them admins, or end that.
 *
 * @param {SessionClient} client
 * @param {string} givenId
 * @param {JsonObject} body
 * @param {number} limitMs
 * @returns {Promise<{participants: Participant[]}>}
 * @throws {HttpError} 400, 404, 422 `not_admin`
 */
async function changeParticipants(client, givenId, body, limitMs) {
    const id = readGroupId(givenId);
    onlyKnown(body, 'action', 'participants');
    const action = ACTIONS.find((each) => each === body.action);
    if (action === undefined) throw bad(`action must be one of ${ACTIONS.join(', ')}`);
    const people = readPeople(body.participants);
    const work = () => client.changeParticipants(id, action, people);
    const result = await change(client, work, limitMs);
    if (result.problem === 'none') throw noSuchGroup();
    if (result.problem === 'not_admin') throw refused('this account is not a group admin', 'not_admin');
    return { participants: result.participants };
}

/**
 * Make a group.
 *
 * @param {SessionClient} client
 * @param {JsonObject} body
 * @param {number} limitMs
 * @returns {Promise<{id: string, name: string, participants: Participant[]}>}
 * @throws {HttpError} 400; 422 `not_on_whatsapp`: nobody of them is there
 */
async function createGroup(client, body, limitMs) {
    onlyKnown(body, 'subject', 'participants');
    const name = readText(body.subject, 'subject', MAX_NAME_CHARACTERS);
    const people = readPeople(body.participants);
    const { id, participants } = await change(client, () => client.makeGroup(name, people), limitMs);
    if (id === null) {
        throw refused('none of them is on WhatsApp: no group was created', 'not_on_whatsapp');
    }
    return { id, name, participants };
}

/**
 * Give a group another name or description.
 *
 * @param {SessionClient} client
 * @param {string} givenId
 * @param {JsonObject} body
 * @param {number} limitMs
 * @throws {HttpError} 400, 404 or 422
 */
async function changeGroup(client, givenId, body, limitMs) {
    const id = readGroupId(givenId);
    onlyKnown(body, 'subject', 'description');
    const { subject, description } = body;
    if (subject === undefined && description === undefined) throw bad('subject or description is needed');
    const changed = {
        name: subject === undefined ? undefined : readText(subject, 'subject', MAX_NAME_CHARACTERS),
        // An empty one is none.
        description:
            description === undefined || description === ''
                ? description
                : readText(description, 'description', MAX_DESCRIPTION_CHARACTERS),
    };
    const work = () => client.changeGroup(id, changed);
    const problem = await change(client, work, limitMs);
    if (problem === 'none') throw noSuchGroup();
    if (problem === 'refused') throw refused('WhatsApp does not let this account change the group');
    return { id, ...Object.fromEntries(Object.entries(changed).filter(([, value]) => value !== undefined)) };
}

/**
 * Leave a group.
 *
 * @param {SessionClient} client
 * @param {string} givenId
 * @param {number} limitMs
 * @throws {HttpError} 400 or 404
 */
async function leaveGroup(client, givenId, limitMs) {
    const id = readGroupId(givenId);
    if ((await change(client, () => client.leaveGroup(id), limitMs)) === 'none') throw noSuchGroup();
    return { id, left: true };
}

module.exports = { changeGroup, changeParticipants, createGroup, leaveGroup, listGroups, readGroup };

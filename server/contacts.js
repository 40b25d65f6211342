'use strict';

/** People, as far as WhatsApp's page knows them. Nothing is asked of WhatsApp for it. */

const contract = require('./contract.json');
const { readIdOf } = require('./given_ids');
const { HttpError } = require('./http');
const { readPage } = require('./query');

const PAGE_DEFAULT = 100;
const { page: PAGE_MAX } = contract.limits;

/**
 * Return people, those with a saved name first.
 *
 * @param {import('./types').SessionClient} client
 * @param {{limit: string|null, offset: string|null}} page
 * @returns {Promise<{contacts: object[], total: number}>}
 * @throws {HttpError} 400
 */
async function listContacts(client, page) {
    const { many, first } = readPage(page, PAGE_DEFAULT, PAGE_MAX);
    return client.turns.take(`contacts ${many} ${first}`, () => client.listContacts(many, first));
}

/**
 * Return what is known of somebody.
 *
 * @param {import('./types').SessionClient} client
 * @param {string} givenId
 * @throws {HttpError} 400 or 404
 */
async function readContact(client, givenId) {
    const id = readIdOf(['person'], givenId);
    const contact = await client.turns.take(`contact ${id}`, () => client.readContact(id));
    if (contact !== null) return contact;
    throw new HttpError(404, 'no contact has that id', {
        code: 'no_such_contact',
        hint: 'GET /numbers/{number} asks WhatsApp whether a number is there',
    });
}

module.exports = { listContacts, readContact };

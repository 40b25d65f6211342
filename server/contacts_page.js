'use strict';

/** What runs in WhatsApp's page for people, and for pictures of chats. */

const { attempt, chatBy, idsOf, textOf, withParts } = require('./in_page');
const { keepFile, openFiles } = require('./media_page');

/** @typedef {import('./types').WhatsAppObject} WhatsAppObject */

/** The models of somebody: one for each id by which the page knows them. @param {string} id */
function contactsBy(id) {
    const { Contact } = window.require('WAWebCollections');
    return [...new Set(idsOf(id).map((each) => attempt(() => Contact.get(each))))].filter(Boolean);
}

/**
 * @typedef {object} PageContact
 * @property {string} id
 * @property {string|null} name
 * @property {string|null} pushname
 * @property {string|null} number
 * @property {string|null} lid
 * @property {boolean} is_business
 * @property {boolean} blocked
 */

/**
 * Return what is known of a person, who may have two models.
 *
 * @param {WhatsAppObject[]} contacts
 * @returns {PageContact}
 */
function person(contacts) {
    const { Blocklist } = window.require('WAWebCollections');
    const getters = window.require('WAWebContactGetters');
    const ids = contacts.flatMap((contact) => idsOf(textOf(contact.id))).map(textOf);
    /** @type {(read: (contact: WhatsAppObject) => any) => any} */
    const first = (read) => contacts.map((each) => attempt(() => read(each))).find((value) => value) ?? null;
    const numbered = ids.find((each) => /@(c\.us|hosted)$/.test(each));
    return {
        id: textOf(contacts[0].id),
        name: first(getters.getName),
        pushname: first(getters.getPushname) ?? first(getters.getVerifiedName),
        number: numbered?.split('@')[0] ?? first((contact) => contact.phoneNumber.user),
        lid: ids.find((each) => /@(hosted\.)?lid$/.test(each)) ?? null,
        is_business: first((contact) => contact.isBusiness || getters.getIsEnterprise(contact)) !== null,
        blocked:
            first((contact) => contact.isContactBlocked) !== null ||
            ids.some((each) => attempt(() => Blocklist.get(each)) !== null),
    };
}

/**
 * Runs in the page: people, those with a saved name first. A person with a number and another id counts once;
 * unreadable ones are left out; groups, channels, lists and this account do not count.
 *
 * @param {number} limit
 * @param {number} offset
 */
function listContacts(limit, offset) {
    const { Contact } = window.require('WAWebCollections');
    const { getIsMe } = window.require('WAWebContactGetters');
    /** @type {Map<string, WhatsAppObject[]>} */
    const people = new Map();
    for (const contact of Contact.getModelsArray()) {
        attempt(() => {
            const id = textOf(contact.id);
            const isPerson = /@(c\.us|lid|hosted|hosted\.lid|bot)$/.test(id) && id !== '0@c.us';
            if (!isPerson || getIsMe(contact)) return;
            const key = idsOf(id).map(textOf).sort()[0] ?? id;
            people.set(key, [...(people.get(key) ?? []), contact]);
        });
    }
    const all = [...people.values()]
        .map((contacts) => attempt(() => person(contacts)))
        .filter((each) => each !== null);
    const rank = (/** @type {PageContact} */ { name, pushname }) =>
        (name ? `0${name}` : pushname ? `1${pushname}` : '2').toLowerCase();
    const ranks = new Map(all.map((each) => [each, `${rank(each)}\n${each.id}`]));
    all.sort((one, other) => (String(ranks.get(one)) < String(ranks.get(other)) ? -1 : 1));
    return { contacts: all.slice(offset, offset + limit), total: all.length };
}

/** Runs in the page: somebody that it knows, by any of their ids; or null. @param {string} id */
function readContact(id) {
    const contacts = contactsBy(id);
    return contacts.length === 0 ? null : person(contacts);
}

/**
 * Runs in the page: download the picture of a person or group, as `openFile` does the file of a message.
 *
 * @param {string} id
 * @param {number|null} most bytes
 * @param {string} ticket
 * @returns {Promise<import('./media_page').Download>} its problem is `none` where there is no picture, or
 *   this account may not see it
 */
async function openPicture(id, most, ticket) {
    const { requestProfilePicFromServer } = window.require('WAWebContactProfilePicThumbBridge');
    const whose = chatBy(id) ?? contactsBy(id)[0] ?? { id: idsOf(id)[0] };
    let address;
    try {
        const picture = await requestProfilePicFromServer(whose);
        address = picture?.eurl ?? picture?.imgFull ?? picture?.img;
    } catch (error) {
        // Errors of some builds have no name: 401 = not for this account, 404 = there is none.
        const { status = 0 } = /** @type {{status?: number}} */ (error ?? {});
        if (![401, 403, 404].includes(status)) throw error;
    }
    if (!address) return { problem: 'none' };
    return keepFile(ticket, most, async (signal) => {
        const answer = await fetch(address, { signal });
        if (!answer.ok) throw Object.assign(new Error(`the picture: ${answer.status}`), { status: 404 });
        return { data: await answer.arrayBuffer(), type: answer.headers.get('content-type'), name: null };
    });
}

const PERSON = [attempt, textOf, idsOf, person];

module.exports = {
    listContacts: withParts(listContacts, ...PERSON),
    openPicture: withParts(openPicture, attempt, textOf, idsOf, chatBy, contactsBy, openFiles, keepFile),
    readContact: withParts(readContact, ...PERSON, contactsBy),
};

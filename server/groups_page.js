'use strict';

/** What runs in WhatsApp's page for groups. */

const { attempt, chatBy, idsOf, textOf, withParts } = require('./in_page');

/** @typedef {import('./types').WhatsAppObject} WhatsAppObject */

/**
 * @typedef {object} PageGroup
 * @property {string} id
 * @property {string|null} name
 * @property {number|null} participants how many
 * @property {boolean|null} is_admin whether this account is one
 * @property {boolean} only_admins_send
 */

/**
 * @typedef {object} PageMember
 * @property {string} id
 * @property {string|null} number
 * @property {string|null} lid
 * @property {string|null} name
 * @property {boolean} is_admin
 */

/**
 * The outcome for one of the people that a change is about.
 *
 * @typedef {object} Participant
 * @property {string} id as it was given
 * @property {'done'|'unchanged'|'failed'} outcome
 * @property {string|null} code
 */

/**
 * The outcome of a change, or why there was none: `none` = there is no such group.
 *
 * @typedef {{problem: 'none'}|{problem: 'not_admin'}|{problem: null, participants: Participant[]}} Changed
 */

/** @param {number} ms */
function wait(ms) {
    return new Promise((resolve) => setTimeout(resolve, ms));
}

/** A group that there is, by its id; or null. @param {string} id @returns {WhatsAppObject} */
function groupBy(id) {
    const chat = chatBy(id);
    return chat !== null && textOf(chat.id).endsWith('@g.us') ? chat : null;
}

/** Ask WhatsApp for what a group is now. @param {WhatsAppObject} chat */
async function refresh(chat) {
    const { GroupMetadata, WAWebGroupMetadataCollection } = window.require('WAWebCollections');
    await (GroupMetadata ?? WAWebGroupMetadataCollection).update(chat.id);
}

/**
 * Whether this account is an admin of a group; null if the page does not say.
 *
 * @param {WhatsAppObject} chat
 * @returns {boolean|null}
 */
function isAdmin(chat) {
    return attempt(() => chat.groupMetadata.participants.iAmAdmin()) ?? attempt(() => chat.iAmAdmin());
}

/** A group in few words. @param {WhatsAppObject} chat @returns {PageGroup} */
function group(chat) {
    const groupMetadata = attempt(() => chat.groupMetadata) ?? {};
    const count = attempt(() => groupMetadata.participants.getModelsArray().length);
    return {
        id: textOf(chat.id),
        name: attempt(() => chat.formattedTitle || chat.name || groupMetadata.subject),
        participants: count || (attempt(() => groupMetadata.size) ?? null),
        is_admin: isAdmin(chat),
        only_admins_send: attempt(() => Boolean(groupMetadata.announce)) ?? false,
    };
}

/** Runs in the page: all groups, by name. Nothing is asked of WhatsApp for it. @returns {PageGroup[]} */
function listGroups() {
    const { Chat } = window.require('WAWebCollections');
    const isGroup = (/** @type {WhatsAppObject} */ chat) => attempt(() => textOf(chat.id).endsWith('@g.us'));
    /** @type {WhatsAppObject[]} */
    const chats = Chat.getModelsArray();
    const all = chats.filter(isGroup).map((chat) => attempt(() => group(chat)));
    const rank = (/** @type {PageGroup} */ { name, id }) => `${name ?? ''}\n${id}`.toLowerCase();
    return all.filter((each) => each !== null).sort((one, other) => (rank(one) < rank(other) ? -1 : 1));
}

/**
 * Runs in the page: a group with its participants, as WhatsApp has it now; as the page knew it before if
 * WhatsApp does not answer, for example when asked too often (`is_current`). null = no such group.
 *
 * @param {string} id
 */
async function readGroup(id) {
    const chat = groupBy(id);
    if (chat === null) return null;
    let current = true;
    try {
        await refresh(chat);
    } catch {
        current = false;
    }
    const { Contact } = window.require('WAWebCollections');
    const getters = window.require('WAWebContactGetters');
    /** @type {(each: WhatsAppObject) => PageMember} */
    const member = (each) => {
        const ids = idsOf(textOf(each.id)).map(textOf);
        const contact = ids.map((one) => attempt(() => Contact.get(one))).find(Boolean) ?? null;
        return {
            id: textOf(each.id),
            number: ids.find((one) => /@(c\.us|hosted)$/.test(one))?.split('@')[0] ?? null,
            lid: ids.find((one) => /@(hosted\.)?lid$/.test(one)) ?? null,
            name: contact && attempt(() => getters.getName(contact) || getters.getPushname(contact)),
            is_admin: Boolean(each.isAdmin || each.isSuperAdmin),
        };
    };
    const groupMetadata = chat.groupMetadata ?? {};
    const { owner, creation, desc } = groupMetadata;
    /** @type {WhatsAppObject[]|null} */
    const members = attempt(() => groupMetadata.participants.getModelsArray());
    return {
        ...group(chat),
        description: desc || null,
        owner: owner ? textOf(owner) : null,
        created_at: Number.isFinite(creation) ? creation * 1000 : null,
        participants:
            members?.map((each) => attempt(() => member(each))).filter((each) => each !== null) ?? null,
        is_current: current,
    };
}

/** The id by which WhatsApp knows somebody, or null. @param {string} id @returns {Promise<WhatsAppObject>} */
async function registered(id) {
    const [wid] = idsOf(id);
    const found = wid && (await window.require('WAWebQueryExistsJob').queryWidExists(wid));
    return found?.wid ?? null;
}

/** The code of WhatsApp's server → ours. @param {number} status */
function codeOf(status) {
    /** @type {Record<number, string>} */
    const codes = { 403: 'invite_only', 404: 'not_on_whatsapp', 408: 'left_recently', 419: 'group_full' };
    return codes[status] ?? 'refused';
}

/**
 * Runs in the page: add people to a group, remove them, or make them admins or not.
 *
 * @param {string} id
 * @param {'add'|'remove'|'promote'|'demote'} action
 * @param {string[]} ids any ids of people
 * @returns {Promise<Changed>} outcomes: `done`, `unchanged` (so it was before), `failed`
 */
async function changeParticipants(id, action, ids) {
    const chat = groupBy(id);
    if (chat === null) return { problem: 'none' };
    await refresh(chat);
    if (isAdmin(chat) === false) return { problem: 'not_admin' };
    /** The page's own table of them: `get` by id, and what this account may do with one. @returns {any} */
    const members = () => chat.groupMetadata.participants;
    /** @type {(given: string) => WhatsAppObject} */
    const memberOf = (given) =>
        idsOf(given)
            .map((one) => members().get(textOf(one)))
            .find(Boolean) ?? null;
    /** @type {Map<string, Participant>} */
    const outcomes = new Map();
    /** @type {(given: string, outcome: Participant['outcome'], code?: string|null) => unknown} */
    const note = (given, outcome, code = null) => outcomes.set(given, { id: given, outcome, code });
    const isDone = /** @type {Record<typeof action, (given: string) => boolean>} */ ({
        add: (given) => memberOf(given) !== null,
        remove: (given) => memberOf(given) === null,
        promote: (given) => Boolean(memberOf(given)?.isAdmin || memberOf(given)?.isSuperAdmin),
        demote: (given) => memberOf(given) !== null && !memberOf(given).isAdmin,
    })[action];

    const open = [];
    for (const given of ids) {
        if (isDone(given)) note(given, 'unchanged');
        else if (action !== 'add' && memberOf(given) === null) note(given, 'failed', 'not_member');
        else open.push(given);
    }
    if (action === 'add') {
        for (const [index, given] of open.entries()) {
            // As a person would: many at once look like something else.
            if (index > 0) await wait(300);
            const wid = await registered(given);
            if (wid === null) {
                note(given, 'failed', 'not_on_whatsapp');
                continue;
            }
            const number = idsOf(textOf(wid)).find((one) => textOf(one).endsWith('@c.us')) ?? wid;
            const { code } = await window.WWebJS.getAddParticipantsRpcResult(chat.id, number);
            if (code === 200) note(given, 'done');
            else if (code === 409) note(given, 'unchanged');
            else note(given, 'failed', codeOf(code));
        }
    } else if (open.length > 0) {
        const may = { remove: 'canRemove', promote: 'canPromote', demote: 'canDemote' }[action];
        const allowed = open.filter((given) => attempt(() => members()[may](memberOf(given))) !== false);
        const work = window.require('WAWebModifyParticipantsGroupAction')[`${action}Participants`];
        if (allowed.length > 0) await work(chat, allowed.map(memberOf));
        // It does not report the outcome for each.
        await refresh(chat);
        for (const given of open) {
            if (isDone(given)) note(given, 'done');
            else note(given, 'failed', 'refused');
        }
    }
    return {
        problem: null,
        participants: ids.map((given) => /** @type {Participant} */ (outcomes.get(given))),
    };
}

/**
 * Runs in the page: make a group.
 *
 * @param {string} name
 * @param {string[]} ids
 * @returns {Promise<{id: string|null, participants: Participant[]}>} as `changeParticipants`; no id where
 *   nobody of them is on WhatsApp
 */
async function createGroup(name, ids) {
    // It is loaded when a person opens the dialog. Without it nothing is asked or changed.
    const job = window.require('WAWebGroupCreateJob');
    /** @type {Map<string, WhatsAppObject>} */
    const found = new Map();
    for (const given of ids) found.set(given, await registered(given));
    const known = [...found.values()].filter((wid) => wid !== null);
    /** @type {(code: string) => Omit<Participant, 'id'>} */
    const failed = (code) => ({ outcome: 'failed', code });
    let made = null;
    if (known.length > 0) {
        const settings = {
            title: name,
            addressingModeOverride: 'lid',
            announce: false,
            ephemeralDuration: 0,
            memberAddMode: false,
            membershipApprovalMode: false,
            restrict: false,
        };
        made = await job.createGroup(
            settings,
            known.map((wid) => ({ phoneNumber: wid })),
        );
    }
    /** @type {(wid: WhatsAppObject) => Omit<Participant, 'id'>} */
    const outcomeOf = (wid) => {
        if (wid === null) return failed('not_on_whatsapp');
        const names = new Set(idsOf(textOf(wid)).map(textOf));
        const entry = made.participants.find((/** @type {WhatsAppObject} */ { wid: each }) =>
            names.has(textOf(each)),
        );
        const status = Number(entry?.error ?? 200);
        return status === 200 ? { outcome: 'done', code: null } : failed(codeOf(status));
    };
    const participants = ids.map((given) => ({ id: given, ...outcomeOf(found.get(given)) }));
    return { id: made === null ? null : textOf(made.wid), participants };
}

/**
 * Runs in the page: give a group a name, a description, or both.
 *
 * @param {string} id
 * @param {{name?: string, description?: string}} changes
 * @returns {Promise<string|null>} `none` = there is no such group; `refused` by WhatsApp; null = done
 */
async function changeGroup(id, { name, description }) {
    const chat = groupBy(id);
    if (chat === null) return 'none';
    const { setGroupSubject, setGroupDescription } = window.require('WAWebGroupModifyInfoJob');
    try {
        if (name !== undefined) await setGroupSubject(chat.id, name);
        if (description !== undefined) {
            // It names the description that it takes the place of.
            await refresh(chat);
            const { descId } = chat.groupMetadata;
            const newId = await window.require('WAWebMsgKey').newId();
            // Older pages take four arguments, newer ones one object.
            const one = { groupWid: chat.id, desc: description, newDescId: newId, prevDescId: descId };
            const four = [chat.id, description, newId, descId];
            await setGroupDescription(...(setGroupDescription.length > 1 ? four : [one]));
        }
    } catch (error) {
        const { status = 0 } = /** @type {{status?: number}} */ (error ?? {});
        if (status >= 400 && status < 500 && status !== 429) return 'refused';
        throw error;
    }
    return null;
}

/**
 * Runs in the page: leave a group.
 *
 * @param {string} id
 * @returns {Promise<string|null>} `none` = there is no such group
 */
async function leaveGroup(id) {
    const chat = groupBy(id);
    if (chat === null) return 'none';
    await window.require('WAWebExitGroupAction').sendExitGroup(chat);
    return null;
}

const GROUP = [attempt, textOf, idsOf, chatBy, groupBy];

module.exports = {
    changeGroup: withParts(changeGroup, ...GROUP, refresh),
    changeParticipants: withParts(changeParticipants, ...GROUP, refresh, isAdmin, registered, codeOf, wait),
    createGroup: withParts(createGroup, attempt, textOf, idsOf, registered, codeOf),
    leaveGroup: withParts(leaveGroup, ...GROUP),
    listGroups: withParts(listGroups, attempt, textOf, isAdmin, group),
    readGroup: withParts(readGroup, ...GROUP, refresh, isAdmin, group),
};

/** Groups: who is in them, and what this account may change. */

import { Chat, Refused, addChat } from './chats.mjs';
import { createWid, isMe } from './ids.mjs';
import { Collection, defineModel, spare } from './models.mjs';
import { traits, uplink } from './site.mjs';

const Participant = defineModel(['id', 'isAdmin', 'isSuperAdmin'], spare(6));

class Participants extends Collection {
    iAmAdmin() {
        return this.getModelsArray().some(({ id, isAdmin }) => isMe(id) && isAdmin);
    }

    canRemove({ id }) {
        return this.iAmAdmin() && !isMe(id);
    }

    canPromote({ isAdmin }) {
        return this.iAmAdmin() && !isAdmin;
    }

    canDemote({ id, isAdmin }) {
        return this.iAmAdmin() && isAdmin && !isMe(id);
    }

    /** Takes what the site says of who is in the group. */
    become(ids, admins) {
        for (const known of this.getModelsArray()) if (!ids.includes(String(known.id))) this.remove(known);
        for (const id of ids) {
            const isAdmin = admins.includes(id);
            const known = this.get(id);
            if (known) known.set({ isAdmin });
            else this.add(new Participant({ id: createWid(id), isAdmin, isSuperAdmin: false }));
        }
    }
}

export class GroupMetadata extends defineModel([
    'id',
    'subject',
    'desc',
    'descId',
    'owner',
    'creation',
    'announce',
    'isLidAddressingMode',
    'participants',
    'size',
]) {
    static of({ id, name, description, descriptionId, participants = [], admins = [] }) {
        const lids = participants.some((each) => each.endsWith('@lid'));
        const known = { announce: false, creation: 1_767_000_000, isLidAddressingMode: lids };
        const made = new GroupMetadata({ id, ...known, participants: new Participants() });
        made.become({ name, description, descriptionId, participants, admins });
        return made;
    }

    become({ name, description, descriptionId, participants, admins }) {
        this.participants.become(participants, admins);
        const size = participants.length;
        this.set({ subject: name, desc: description, descId: descriptionId, size });
    }

    serialize() {
        return { ...super.serialize(), participants: this.participants.serialize() };
    }
}

/** What a page asks about a group; what WhatsApp's server refuses is thrown. */
async function ask(kind, wid, wish) {
    const told = await uplink('group', { kind, chat: wid && String(wid), ...wish });
    if (told.status) throw Object.assign(new Refused(), { name: 'e', status: told.status });
    return told;
}

async function updateGroup(wid) {
    const chat = Chat.get(wid);
    if (chat?.broken) throw Object.assign(new Refused(), { name: 'e', status: 429 });
    if (!chat?.groupMetadata) return;
    const told = await ask('read', wid, {});
    chat.groupMetadata.become(told);
    chat.set({ name: told.name, formattedTitle: told.name });
}

export const GroupMetadataCollection = { update: updateGroup };
export const queryAndUpdateGroupMetadataById = ({ id }) => updateGroup(createWid(id));

class ActionError extends Error {}

/** An action of the screen: all or none of them, and nobody learns what happened to each. */
const action = (kind, allowed) => async (chat, participants) => {
    const { participants: all } = chat.groupMetadata;
    if (participants.some((each) => !all[allowed](each))) throw new ActionError();
    await ask(kind, chat.id, { ids: participants.map(({ id }) => String(id)) });
};

export const participantsAction = {
    removeParticipants: action('remove', 'canRemove'),
    promoteParticipants: action('promote', 'canPromote'),
    demoteParticipants: action('demote', 'canDemote'),
};

export const widToJid = { widToGroupJid: (wid) => wid.toJid(), widToUserJid: (wid) => wid.toJid() };

const GROUP_MIXIN =
    'addParticipantsParticipantAddedOrNonRegisteredWaUserParticipantErrorLidResponseMixinGroup';

export async function sendAddParticipantsRPC({ participantArgs, iqTo }) {
    const ids = participantArgs.map(({ participantJid }) => participantJid);
    const { added } = await ask('add', iqTo, { ids });
    const told = ({ code }) => {
        const error = code === 200 ? undefined : { name: 'Error', value: { error: String(code) } };
        return { [GROUP_MIXIN]: { value: { addParticipantsParticipantMixins: error } } };
    };
    return { name: 'AddParticipantsResponseSuccess', value: { addParticipant: added.map(told) } };
}

const setGroupSubject = (wid, subject) => ask('subject', wid, { subject });
const describeGroup = (wid, description, id, before) => ask('describe', wid, { description, id, before });

/** Today's build takes one object, earlier ones four arguments. */
export const modifyInfo = {
    setGroupSubject,
    setGroupDescription: traits.one_description
        ? ({ desc, groupWid, newDescId, prevDescId }) => describeGroup(groupWid, desc, newDescId, prevDescId)
        : (wid, description, id, before) => describeGroup(wid, description, id, before),
};

export const sendExitGroup = ({ id }) => ask('leave', id, {});

export async function createGroup({ title }, people) {
    const ids = people.map(({ phoneNumber }) => phoneNumber.toJid());
    const { chat, added } = await ask('create', null, { subject: title, ids });
    const { id: wid } = addChat(chat);
    const told = ({ id, code }) => ({ wid: createWid(id), error: code === 200 ? undefined : String(code) });
    return { wid, subject: title, participants: added.map(told) };
}

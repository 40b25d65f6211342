/** Contacts, chats and messages of the account. */

import { Collection, defineModel } from './models.mjs';
import {
    MsgKey,
    createWid,
    isRegistered,
    me,
    toLid,
    toPhone,
} from './ids.mjs';
import { Media, expiredMedia } from './media.mjs';
import { config, pause, traits } from './site.mjs';

/** Messages of a chat that are loaded at start, and that each `loadEarlierMsgs` adds. */
const MESSAGES_PER_LOAD = 10;

/** What `serialize` of a message lists. */
const MESSAGE_PROPS = `
    ack author body broadcast businessOwnerJid buttons caption clientUrl deprecatedMms3Url description
    directPath duration dynamicReplyButtons encFilehash eventDescription eventEndTime eventLocation
    eventName eventStartTime filehash filename forwardingScore from groupMentions hasReaction height id
    invis inviteCode inviteCodeExp inviteGrp inviteGrpName isForwarded isGif isNewMsg isViewOnce kind
    lat latestEditMsgKey latestEditSenderTimestampMs links list listResponse lng loc mediaKey
    mediaKeyTimestamp mentionedJidList messageSecret mimetype notifyName orderId pageCount
    pollInvalidated pollName pollOptions pollSelectableOptionsCount productId protocolMessageKey
    quotedMsg quotedParticipant quotedStanzaID recipients recvFresh selectedButtonId selectedIndex self
    size star streamingSidecar subtype t templateParams thumbnail title to token type uploadhash
    vcardFormattedName vcardList waveform width
`.trim().split(/\s+/);
/** Attributes of these names are ids, which the site gives as text. */
const WIDS = ['author', 'quotedParticipant', 'recipients', 'mentionedJidList', 'templateParams'];

export class MsgModel extends defineModel(MESSAGE_PROPS, ['expired']) {
    unsafe() {
        return this;
    }

    /** What a reply carries of the message it answers. */
    msgContextInfo() {
        return {
            quotedMsg: { type: this.type, body: this.body, caption: this.caption },
            quotedStanzaID: this.id.id,
            quotedParticipant: this.author ?? this.from,
        };
    }

    get isNotification() {
        return ['e2e_notification', 'notification', 'notification_template', 'gp2'].includes(this.type);
    }

    /**
     * Asks for media that is not there any more; of strangers only when a person wants it. Not to be found in
     * messages without media.
     */
    async downloadMedia({ rmrReason, isUserInitiated } = {}) {
        const trusted = this.id.fromMe || Contact.get(this.author ?? this.from)?.name !== undefined;
        if (rmrReason !== undefined && !trusted && !isUserInitiated) return;
        if (this.expired) await expiredMedia(this.directPath);
        this.mediaData.mediaStage = 'RESOLVED';
    }
}

class ChatModel extends defineModel([
    'id',
    'name',
    'formattedTitle',
    'unreadCount',
    'archive',
    'pin',
    't',
    'isReadOnly',
    'isLocked',
    'muteExpiration',
    'lastReceivedKey',
]) {
    msgs = new Collection();

    serialize() {
        spend(traits.chat_cost_ms);
        return { ...super.serialize(), msgs: this.msgs.serialize() };
    }
}

const ContactModel = defineModel(
    ['id', 'name', 'shortName', 'pushname', 'phoneNumber', 'isBusiness', 'type'],
    ['isContactBlocked', 'isEnterprise'],
);
const GroupMetadata = defineModel([
    'id',
    'subject',
    'announce',
    'isLidAddressingMode',
    'participants',
    'size',
]);

export const Msg = Object.assign(new Collection(), { modelClass: MsgModel });
export const Chat = new Collection();
export const Contact = new Collection();
export const Blocklist = new Collection();
export const BusinessProfile = new Collection();
export const WAWebNewsletterCollection = new Collection();

/** Every message this page knows, loaded into its chat or not, by the text of its key. */
const history = new Map();
/** Messages of a chat that are not loaded yet, oldest first. */
const earlier = new WeakMap();

/** Keeps the page busy: models of the real page are heavy. */
function spend(milliseconds) {
    const end = performance.now() + milliseconds;
    while (performance.now() < end);
}

// ---- contacts -------------------------------------------------------------------------------------

/** The contact of `wid`: `name` is what the user saved, `pushname` what the contact calls itself. */
export function addContact(wid, { name, pushname } = {}) {
    const known = Contact.get(wid);
    if (known && pushname) known.set({ pushname });
    return known ?? Contact.add(new ContactModel({
        id: wid,
        name,
        pushname,
        phoneNumber: wid.isLid() ? toPhone(wid) : undefined,
        isBusiness: false,
        isContactBlocked: false,
    }))[0];
}

Contact.find = async (id) => Contact.get(id) ?? addContact(createWid(id));
BusinessProfile.find = async () => ({});

// ---- groups ---------------------------------------------------------------------------------------

/** As the errors of a build without names: one letter, no text. */
const RefusedByServer = { e: class extends Error {} }.e;
Object.defineProperty(RefusedByServer, 'name', { value: 'e' });

async function updateGroup(wid) {
    if (!Chat.get(wid)?.broken) return;
    throw Object.assign(new RefusedByServer(), { name: 'e', status: 429 });
}

export const GroupMetadataCollection = { update: updateGroup };
export const queryAndUpdateGroupMetadataById = ({ id }) => updateGroup(createWid(id));

// ---- chats ----------------------------------------------------------------------------------------

/** The id that a chat with this user has here: accounts of today know people by their LID. */
const inChats = (wid) => (traits.lid_chats ? toLid(wid) : wid);

export function addChat({ id, name, saved, unread = 0, archived, pinned, broken, ...rest }) {
    const wid = createWid(id);
    spend(traits.chat_cost_ms);
    const chat = new ChatModel({
        id: wid,
        name,
        formattedTitle: name,
        unreadCount: unread,
        archive: Boolean(archived),
        pin: pinned ? 1 : 0,
        isReadOnly: false,
        isLocked: false,
        mute: { expiration: 0 },
        muteExpiration: 0,
        broken,
    });
    if (wid.isGroup()) {
        const participants = (rest.participants ?? []).map((member) => ({
            id: createWid(member),
            isAdmin: false,
            isSuperAdmin: false,
        }));
        const lids = participants.some((member) => member.id.isLid());
        chat.groupMetadata = new GroupMetadata({
            id: wid,
            subject: name,
            announce: false,
            isLidAddressingMode: lids,
            participants,
            size: participants.length,
        });
    } else {
        addContact(wid, { name: saved ? name : undefined });
    }
    Chat.add(chat);
    earlier.set(chat, (rest.messages ?? []).map((message) => toMsg(chat, message)));
    for (const msg of loadEarlier(chat)) show(chat, msg);
    return chat;
}

/** A chat as the site describes it: made, or brought up to date with what came while the page was cut off. */
export function mergeChat(described) {
    const chat = Chat.get(described.id);
    if (!chat) return addChat(described);
    for (const message of described.messages) {
        const msg = toMsg(chat, message);
        if (msg) show(chat, msg);
    }
    chat.set({ unreadCount: described.unread });
    return chat;
}

export async function findOrCreateLatestChat(wid) {
    const known = Chat.get(wid) ?? Chat.get(inChats(wid));
    if (known) return { chat: known, created: false };
    await pause(traits.find_ms);
    if (!isRegistered(wid)) throw new Error('No LID for user');
    const id = String(inChats(wid));
    return { chat: Chat.get(id) ?? addChat({ id, name: toPhone(wid).user }), created: true };
}

Chat.find = async (id) => (await findOrCreateLatestChat(createWid(id))).chat;

function loadEarlier(chat) {
    return earlier.get(chat).splice(-MESSAGES_PER_LOAD);
}

export async function loadEarlierMsgs({ chat }) {
    const msgs = loadEarlier(chat);
    for (const msg of msgs) show(chat, msg);
    return msgs;
}

// ---- messages -------------------------------------------------------------------------------------

const asWids = (value) => (Array.isArray(value) ? value.map(createWid) : createWid(value));

/** A message as the site describes it → as WhatsApp Web models it; null when it is known already. */
function toMsg(chat, { id, fromMe = false, author, sender, type = 'chat', quoted, ...fields }) {
    const participant = author && createWid(author);
    const mine = chat.id.isLid() ? me.lid : me.phone;
    const key = new MsgKey({ fromMe, remote: chat.id, id, participant });
    if (history.has(String(key))) return null;
    if (!fromMe && !chat.id.isGroup()) addContact(chat.id, { pushname: sender });
    if (!fromMe && participant) addContact(participant, { pushname: sender });
    const attributes = { ...fields };
    for (const name of WIDS) if (fields[name]) attributes[name] = asWids(fields[name]);
    const answered = quoted && findById(quoted);
    if (answered) Object.assign(attributes, answered.msgContextInfo());
    const msg = new MsgModel({
        ack: fromMe ? 2 : 1,
        isNewMsg: false,
        ...attributes,
        id: key,
        from: fromMe ? mine : chat.id,
        to: fromMe ? chat.id : mine,
        author: participant,
        notifyName: sender,
        type,
    });
    if (msg.directPath) withMedia(msg);
    history.set(String(key), msg);
    return msg;
}

function withMedia(msg) {
    msg.mediaObject = {};
    msg.mediaData = new Media({ type: msg.type, mimetype: msg.mimetype, mediaStage: 'NEED_POKE' });
}

/** Loads a message into its chat; a new one is announced to whoever listens. */
function show(chat, msg) {
    chat.msgs.add(msg);
    Msg.add(msg);
    if (!chat.lastReceivedKey || msg.t >= chat.t) chat.set({ lastReceivedKey: msg.id, t: msg.t });
}

export function receive({ chat: { id, name }, message }) {
    const chat = Chat.get(id) ?? addChat({ id, name });
    const msg = toMsg(chat, message);
    if (!msg) return;
    msg.set({ isNewMsg: true, recvFresh: true });
    show(chat, msg);
    if (!msg.id.fromMe) chat.set({ unreadCount: chat.unreadCount + 1 });
}

/** Takes a message that this page sends into its chat. */
export function addOwn(chat, attributes) {
    const msg = new MsgModel(attributes);
    if (!(msg.id instanceof MsgKey)) throw new Error(`Model id: ${msg.id} is of the wrong type`);
    if (msg.directPath) withMedia(msg);
    history.set(String(msg.id), msg);
    show(chat, msg);
    return msg;
}

/** The message whose id, without chat and sender, is this one. */
export const findById = (id) => [...history.values()].find((msg) => msg.id.id === id);

export const chatOf = (msg) => Chat.get(msg.id.remote);

export function forget(msg) {
    history.delete(String(msg.id));
    chatOf(msg).msgs.remove(msg);
    Msg.remove(msg);
}

const isKeyText = (text) => typeof text === 'string' && /^(true|false)_[^_]+@[^_]+_[^_]+/.test(text);

Msg.getMessagesById = async (ids) => {
    const wrong = ids.some((id) => !(id instanceof MsgKey || isKeyText(id)));
    if (wrong && traits.strict_lookups) {
        throw new DOMException('The parameter is not a valid key.', 'DataError');
    }
    return { messages: ids.map((id) => history.get(String(id))).filter(Boolean) };
};

/** The message that another one quotes, as far as that carries it. */
export function getQuotedMsgObj(msg) {
    if (!msg?.quotedMsg) return null;
    const remote = msg.id.remote;
    return findById(msg.quotedStanzaID) ?? new MsgModel({
        ...msg.quotedMsg,
        id: new MsgKey({ fromMe: false, remote, id: msg.quotedStanzaID }),
        from: msg.quotedParticipant,
        to: remote,
    });
}

/** Calls are kept in a map whose name the build generates. */
export const calls = Object.assign(new Collection(), { [config.names.calls]: new Map() });

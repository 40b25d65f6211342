/** Contacts, chats and messages of the account. */

import { GroupMetadata } from './groups.mjs';
import { Collection, defineModel, spare } from './models.mjs';
import { MsgKey, createWid, isRegistered, me, numberOf, toLid, toPhone } from './ids.mjs';
import { Media, expiredMedia } from './media.mjs';
import { config, pause, traits, uplink } from './site.mjs';

/** Messages of a chat that are loaded at start, and that each `loadEarlierMsgs` adds. */
const MESSAGES_PER_LOAD = 10;

/** Whether the phone has messages of a chat that it has not handed over. */
const MORE_ON_PHONE = 0;
const NO_MORE_ON_PHONE = 1;
const MORE_ON_PHONE_AFTER_REQUEST = 4;
/** What a device may ask its phone for: messages of one chat. */
const HISTORY_ON_DEMAND = 3;

/** What `serialize` of a message lists. */
const MESSAGE_PROPS = `
    ack author body broadcast businessOwnerJid buttons caption clientUrl comment deprecatedMms3Url
    description directPath duration dynamicReplyButtons encFilehash ephemeralDuration eventDescription
    eventEndTime eventLocation eventName eventStartTime filehash filename footer forwardingScore from
    groupMentions hasReaction height id invis inviteCode inviteCodeExp inviteGrp inviteGrpName
    isForwarded isGif isLive isNewMsg isViewOnce itemCount kind lat latestEditMsgKey
    latestEditSenderTimestampMs links list listResponse lng loc mediaKey mediaKeyTimestamp
    mentionedJidList messageSecret mimetype notifyName orderId orderTitle pageCount pollInvalidated
    pollName pollOptions pollSelectableOptionsCount productId protocolMessageKey quotedMsg
    quotedParticipant quotedStanzaID recipients recvFresh revokeSender selectedButtonId selectedIndex
    self shareDuration size star streamingSidecar subtype t templateParams thumbnail title to token type
    uploadhash vcardFormattedName vcardList waveform width
`
    .trim()
    .split(/\s+/);
/** Attributes of these names are ids, which the site gives as text. */
const WIDS = [
    'author',
    'quotedParticipant',
    'recipients',
    'mentionedJidList',
    'templateParams',
    'revokeSender',
];

export class MsgModel extends defineModel(MESSAGE_PROPS, ['expired', 'reactions']) {
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

class ChatModel extends defineModel(
    [
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
        'endOfHistoryTransferType',
    ],
    spare(60),
) {
    msgs = new Collection();

    serialize() {
        spend(traits.chat_cost_ms);
        return { ...super.serialize(), msgs: this.msgs.serialize() };
    }
}

const ContactModel = defineModel(
    ['id', 'name', 'shortName', 'pushname', 'phoneNumber', 'isBusiness', 'type'],
    ['isContactBlocked', 'isEnterprise', ...spare(40)],
);
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
    return (
        known ??
        Contact.add(
            new ContactModel({
                id: wid,
                name,
                pushname,
                phoneNumber: wid.isLid() ? numberOf(wid) : undefined,
                isBusiness: false,
                isContactBlocked: false,
            }),
        )[0]
    );
}

Contact.find = async (id) => Contact.get(id) ?? addContact(createWid(id));
BusinessProfile.find = async () => ({});

/** What the site says of somebody. */
export function changeContact({ id, known: { name, pushname, business, blocked } }) {
    const contact = addContact(createWid(id), { name, pushname });
    contact.set({
        ...(name !== undefined && { name }),
        ...(business !== undefined && { isBusiness: business }),
        ...(blocked !== undefined && { isContactBlocked: blocked }),
    });
}

export async function requestProfilePicFromServer({ id }) {
    const { path } = await uplink('picture', { id: String(id) });
    if (!path) throw Object.assign(new Refused(), { name: 'e', status: 404 });
    return { id, eurl: new URL(path, location.href).href };
}

// ---- errors ---------------------------------------------------------------------------------------

/** As the errors of a build without names: one letter, no text. */
export const Refused = { e: class extends Error {} }.e;
Object.defineProperty(Refused, 'name', { value: 'e' });

// ---- chats ----------------------------------------------------------------------------------------

/** The id that a chat with this user has here: accounts of today know people by their LID. */
const inChats = (wid) => (traits.lid_chats ? toLid(wid) : wid);

/** What is read of a chat throws, as of one whose model is damaged. */
function damage(chat) {
    for (const name of ['name', 'formattedTitle', 't', 'unreadCount', 'lastReceivedKey', 'archive']) {
        const get = () => {
            throw new Refused();
        };
        Object.defineProperty(chat, name, { get, configurable: true });
    }
}

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
        endOfHistoryTransferType: rest.older ? MORE_ON_PHONE : NO_MORE_ON_PHONE,
        broken,
    });
    if (wid.isGroup()) {
        chat.groupMetadata = GroupMetadata.of({ ...rest, id: wid, name });
    } else {
        addContact(wid, { name: saved ? name : undefined });
    }
    Chat.add(chat);
    earlier.set(
        chat,
        (rest.messages ?? []).map((message) => toMsg(chat, message)),
    );
    for (const msg of loadEarlier(chat)) show(chat, msg);
    if (rest.unreadable) damage(chat);
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
    // A chat has its messages in the order in which they are shown.
    for (const msg of [...msgs].reverse()) show(chat, msg, { at: 0 });
    return msgs;
}

/** Asks the phone for something; the result comes later. */
export async function sendPeerDataOperationRequest(type, { chatId }) {
    if (type === HISTORY_ON_DEMAND) await uplink('older', { chat: String(chatId) });
}

/** The phone hands over older messages of a chat: they are stored, and in no one's view yet. */
export function takeOlder({ chat: id, messages, more }) {
    const chat = Chat.get(id);
    const made = messages.map((message) => toMsg(chat, message)).filter(Boolean);
    earlier.set(chat, [...made, ...earlier.get(chat)]);
    chat.set({ endOfHistoryTransferType: more ? MORE_ON_PHONE_AFTER_REQUEST : NO_MORE_ON_PHONE });
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

/** Loads a message into its chat; a new one is announced to anyone who listens. */
function show(chat, msg, options) {
    chat.msgs.add(msg, options);
    Msg.add(msg);
    const isLast = !chat.lastReceivedKey || (options?.at !== 0 && msg.t >= chat.t);
    if (isLast) chat.set({ lastReceivedKey: msg.id, t: msg.t });
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
    return (
        findById(msg.quotedStanzaID) ??
        new MsgModel({
            ...msg.quotedMsg,
            id: new MsgKey({ fromMe: false, remote, id: msg.quotedStanzaID }),
            from: msg.quotedParticipant,
            to: remote,
        })
    );
}

/** Calls are kept in a map whose name the build generates. */
export const calls = Object.assign(new Collection(), { [config.names.calls]: new Map() });

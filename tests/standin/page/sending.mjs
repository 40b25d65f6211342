/** What this page sends: messages, reactions, edits, deletions, signals; and what the site says of them. */

import { MsgKey, createWid, isMe, me, toPhone } from './ids.mjs';
import { Msg, addOwn, calls, chatOf, findById, forget } from './chats.mjs';
import { Cmd } from './session.mjs';
import { config, tell, uplink } from './site.mjs';

/** What the site gets of a message: enough for a test to see what would have reached the other side. */
const TOLD = `
    type body caption t mimetype filename size directPath isGif isViewOnce lat lng loc quotedStanzaID
    mentionedJidList pollName pollOptions vcardFormattedName
`
    .trim()
    .split(/\s+/);

const described = (msg) =>
    Object.fromEntries(
        TOLD.filter((name) => msg[name] !== undefined).map((name) => [name, plain(msg[name])]),
    );
const plain = (value) => (Array.isArray(value) ? value.map((each) => each?._serialized ?? each) : value);

export function addAndSendMsgToChat(chat, attributes) {
    const added = Promise.resolve(attributes).then((given) => addOwn(chat, given));
    const sent = added.then(async (msg) => {
        const author = msg.id.participant && String(msg.id.participant);
        const message = { chat: String(chat.id), id: msg.id.id, fromMe: true, author, ...described(msg) };
        const { ack } = await uplink('message', { message });
        // A site that says nothing of it: the page waits, for ever.
        if (ack === undefined) await new Promise(() => {});
        if (ack < 0 || ack > msg.ack) msg.set({ ack });
        return { messageSendResult: ack < 0 ? 'ERROR_UNKNOWN' : 'OK', t: msg.t };
    });
    // A page that is cut off sends later; nobody watches this promise.
    sent.catch(() => {});
    return [added, sent];
}

/** Sends what changes a message that is there. */
const act = (kind, msg, fields) =>
    uplink('act', { kind, chat: String(msg.id.remote), id: msg.id.id, ...fields });

// ---- reactions ------------------------------------------------------------------------------------

/** The tables that add-ons of messages are written to; whatsapp-web.js listens by wrapping these. */
export const reactionTableMode = { bulkUpsert: async () => {} };
export const pollVoteTableMode = { bulkUpsert: async () => {} };

function addonOf(msg, from, id) {
    const group = msg.id.remote.isGroup();
    const remote = msg.id.remote;
    const key = { fromMe: isMe(from), remote, id, participant: group ? from : undefined };
    return { id: new MsgKey(key), from, author: group ? from : undefined };
}

function reacted(msg, from, { id, text, t }) {
    keepReaction(msg, { from: String(from), key: id, text, t });
    return reactionTableMode.bulkUpsert([
        {
            ...addonOf(msg, from, id),
            reactionParentKey: msg.id,
            reactionText: text,
            reactionTimestamp: t * 1000,
            orphan: 0,
            read: false,
            ack: 1,
        },
    ]);
}

/** What the page knows of reactions: one of each person. It may have heard of them earlier. */
function keepReaction(msg, reaction) {
    const others = (msg.reactions ?? []).filter(({ from }) => from !== reaction.from);
    msg.set({ hasReaction: true, reactions: [...others, reaction] });
}

export const Reactions = {
    async find(id) {
        const msg = Msg.get(id);
        const byText = new Map();
        for (const { from, key, text, t } of (msg?.reactions ?? []).filter((each) => each.text !== '')) {
            const { id: msgKey } = addonOf(msg, createWid(from), key);
            const sender = { msgKey, parentMsgKey: msg.id, senderUserJid: from, reactionText: text };
            byText.set(text, [...(byText.get(text) ?? []), { ...sender, timestamp: t * 1000 }]);
        }
        const all = [...byText].map(([aggregateEmoji, senders]) => ({ aggregateEmoji, senders }));
        return { reactions: { length: all.length, serialize: () => all } };
    },
};

const now = () => Math.floor(Date.now() / 1000);
const meIn = (msg) => (msg.id.remote.isLid() ? me.lid : me.phone);

export async function sendReactionToMsg(msg, text) {
    const id = await MsgKey.newId();
    await act('reaction', msg, { text });
    await reacted(msg, meIn(msg), { id, text, t: now() });
}

// ---- edits and deletions --------------------------------------------------------------------------

const EDITABLE_S = 15 * 60;

export const canEditText = (msg) => msg.id.fromMe && msg.type === 'chat' && now() - msg.t < EDITABLE_S;
export const canEditCaption = (msg) => Boolean(msg.id.fromMe && msg.directPath && now() - msg.t < EDITABLE_S);
export const canSenderRevokeMsg = (msg) => msg.id.fromMe;
export const canAdminRevokeMsg = () => false;
export const canReplyMsg = (msg) => Boolean(msg.id && chatOf(msg));

function edited(msg, text) {
    const t = Date.now();
    msg.set({ [msg.directPath ? 'caption' : 'body']: text, latestEditSenderTimestampMs: t });
}

function revoked(msg, by) {
    const gone = { type: 'revoked', body: undefined, caption: undefined, protocolMessageKey: msg.id };
    msg.set({ ...gone, revokeSender: by });
}

// eslint-disable-next-line no-unused-vars -- the page's own takes three
export async function sendMessageEdit(msg, text, options) {
    if (!canEditText(msg) && !canEditCaption(msg)) throw new Error('Cannot edit message');
    await act('edit', msg, { body: text });
    edited(msg, text);
}

// These fire events of the screen, which does the work; before the login nobody is there to do it.
Cmd.sendRevokeMsgs = function sendRevokeMsgs(chat, messages, options) {
    Cmd.trigger('send_revoke_msgs', chat, messages, options);
};
Cmd.sendDeleteMsgs = function sendDeleteMsgs(chat, messages, clearMedia) {
    Cmd.trigger('send_delete_msgs', chat, messages, clearMedia);
};

export function openMainScreen() {
    Cmd.listen('send_revoke_msgs', (_, { list }) =>
        list.forEach(async (msg) => {
            await act('revoke', msg, {});
            revoked(msg, meIn(msg));
        }),
    );
    Cmd.listen('send_delete_msgs', (_, { list }) => list.forEach(forget));
}

// ---- signals --------------------------------------------------------------------------------------

const signal = (kind) => async (wid) => {
    await uplink('signal', { kind, chat: wid && String(wid) });
};
export const chatStates = {
    sendChatStateComposing: signal('composing'),
    sendChatStateRecording: signal('recording'),
    sendChatStatePaused: signal('paused'),
};
export const presence = {
    sendPresenceAvailable: signal('available'),
    sendPresenceUnavailable: signal('unavailable'),
};

export async function sendSeen({ chat }) {
    chat.set({ unreadCount: 0 });
    await signal('seen')(chat.id);
}

export const forwardMessages = ({ chat, msgs }) =>
    Promise.all(
        msgs.map(async (msg) => {
            const from = chat.id.isLid() ? me.lid : me.phone;
            const id = new MsgKey({ fromMe: true, remote: chat.id, id: await MsgKey.newId() });
            const copy = { ...msg.serialize(), id, from, to: chat.id, author: undefined, t: now(), ack: 0 };
            await addAndSendMsgToChat(chat, {
                ...copy,
                isForwarded: true,
                forwardingScore: 1,
                isNewMsg: true,
            })[1];
        }),
    );

// ---- what the site says --------------------------------------------------------------------------

function known(id) {
    const msg = findById(id);
    if (!msg) throw new Error(`no message ${id} in this page`);
    return msg;
}

export const told = {
    ack: ({ id, ack }) => known(id).set({ ack }),
    edit: ({ id, body }) => edited(known(id), body),
    revoke: ({ id, by }) => revoked(known(id), by && createWid(by)),
    delete: ({ id }) => forget(known(id)),
    reaction: ({ id, from, text, key, t }) => reacted(known(id), createWid(from), { id: key, text, t }),
    vote: ({ id, from, options, key, t }) =>
        pollVoteTableMode.bulkUpsert([
            {
                ...addonOf(known(id), createWid(from), key),
                pollUpdateParentKey: known(id).id,
                selectedOptionLocalIds: options,
                t: t * 1000,
            },
        ]),
    call({ id, from, video, group }) {
        const call = {
            id,
            peerJid: createWid(from),
            isVideo: Boolean(video),
            isGroup: Boolean(group),
            canHandleLocally: true,
            outgoing: false,
            webClientShouldHandle: false,
            participants: [],
        };
        calls[config.names.calls]?.set(id, call);
        calls.trigger('add', call);
    },
};

export const handlePlaceholderMsgsSeen = async (msgs) => {
    await tell('signal', { kind: 'resend', chat: String(msgs[0].id.remote) });
};

export function vcardFromContactModel(contact) {
    const { user } = toPhone(contact.id);
    const name = contact.name ?? contact.pushname ?? `+${user}`;
    const vcard = `BEGIN:VCARD\nVERSION:3.0\nFN:${name}\nTEL;type=CELL;waid=${user}:+${user}\nEND:VCARD`;
    return { displayName: name, vcard };
}

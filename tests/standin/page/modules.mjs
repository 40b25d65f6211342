/**
 * The modules that `window.require` gives: exactly those of the description that the site serves, made of
 * what stands here, each from its time on.
 */

import * as chats from './chats.mjs';
import * as groups from './groups.mjs';
import * as ids from './ids.mjs';
import * as media from './media.mjs';
import * as passkey from './passkey.mjs';
import * as sending from './sending.mjs';
import * as session from './session.mjs';
import { keys } from './profile.mjs';
import { config, pause, traits } from './site.mjs';

const findLinks = (text) => (text?.match(/\bhttps?:\/\/\S+/g) ?? []).map((href) => ({ href }));
const nobody = () => {};

const { Socket, Stream, Cmd, Conn, BackendEventBus, refreshQR, linking } = session;
const { createWid, createWidFromWidLike, asUserWidOrThrow, me, toLid, toPhone } = ids;

/** All that any shape has: each value a module, or a part of one. */
const implementations = {
    WAWebSocketModel: { Socket },
    WAWebStreamModel: { Stream },
    WAWebOfflineHandler: {
        OfflineMessageHandler: { getOfflineDeliveryProgress: session.getOfflineDeliveryProgress },
    },
    WAWebCmd: { Cmd },
    WAWebConnModel: { Conn },
    WAWebBackendEventBus: { BackendEventBus },
    WAWebLaunchSocketUtils: { refreshQR },
    WAWebCommsGating: { isCommsInWorker: () => traits.comms_in_worker },
    WABase64: { encodeB64: ids.encodeB64 },
    WAWebCompanionRegClientUtils: { DEVICE_PLATFORM: session.DEVICE_PLATFORM },
    WAWebAdvSignatureApi: {},
    WAWebUserPrefsInfoStore: {
        waNoiseInfo: { get: async () => ({ staticKeyPair: { pubKey: keys.noise } }) },
    },
    WAWebSignalStoreApi: {
        waSignalStore: {
            getRegistrationInfo: async () => ({ identityKeyPair: { pubKey: keys.identity } }),
        },
    },
    WAWebUserPrefsMultiDevice: { getADVSecretKey: () => ids.encodeB64(keys.adv) },
    WAWebAltDeviceLinkingApi: linking,
    WAWebShortcakeLinkingAction: passkey.actions,
    WAWebShortcakeLinkingApi: passkey.stages,
    WAWebSyncGatingUtils: { isPlaceholderMessageResendEnabled: () => false },
    WAWebCallCollection: chats.calls,
    WAWebMiscBrowserUtils: { info: () => ({ os: 'Linux', name: 'Chrome' }) },

    WAWebUserPrefsMeUser: { getMaybeMePnUser: () => me.phone, getMaybeMeLidUser: () => me.lid },
    WAWebWidFactory: { createWid, createWidFromWidLike, asUserWidOrThrow },
    WAWebApiContact: {
        getCurrentLid: toLid,
        getPhoneNumber: ids.numberOf,
        getAlternateUserWid: (wid) => (wid.isLid() ? toPhone(wid) : toLid(wid)),
    },
    WAWebLidMigrationUtils: { toPn: toPhone },
    WAWebQueryExistsJob: {
        async queryWidExists(wid) {
            await pause(traits.find_ms);
            ids.ask(wid);
            const known = ids.registered(wid);
            return known && { wid: known, biz: false };
        },
    },
    WAWebContactGetters: {
        getIsMe: ({ id }) => ids.isMe(id),
        getIsUser: ({ id }) => id.isUser(),
        getIsGroup: ({ id }) => id.isGroup(),
        getIsWAContact: ({ id }) => ids.isRegistered(id),
        getUserid: ({ id }) => id.user,
        getVerifiedName: nobody,
        getVerifiedLevel: nobody,
        getStatusMute: () => false,
        getName: ({ name }) => name,
        getShortName: ({ shortName }) => shortName,
        getPushname: ({ pushname }) => pushname,
        getIsEnterprise: () => false,
    },
    WAWebFrontendContactGetters: { getIsMyContact: ({ name }) => Boolean(name) },
    WAWebContactProfilePicThumbBridge: { requestProfilePicFromServer: chats.requestProfilePicFromServer },
    WAWebFrontendVcardUtils: { vcardFromContactModel: sending.vcardFromContactModel },

    WAWebCollections: {
        Msg: chats.Msg,
        Chat: chats.Chat,
        Contact: chats.Contact,
        Blocklist: chats.Blocklist,
        BusinessProfile: chats.BusinessProfile,
        Reactions: sending.Reactions,
        WAWebNewsletterCollection: chats.WAWebNewsletterCollection,
        WAWebGroupMetadataCollection: groups.GroupMetadataCollection,
        GroupMetadata: groups.GroupMetadataCollection,
    },
    WAWebMsgKey: ids.MsgKey,
    WALinkify: { findLinks, findLink: (text) => findLinks(text)[0] },
    WAWebChatGetters: {
        getIsNewsletter: ({ id }) => id.isNewsletter(),
        getIsBroadcast: ({ id }) => id.isBroadcast(),
    },
    WAWebFindChatAction: { findOrCreateLatestChat: chats.findOrCreateLatestChat },
    WAWebChatLoadMessages: { loadEarlierMsgs: chats.loadEarlierMsgs },
    WAWebSendNonMessageDataRequest: { sendPeerDataOperationRequest: chats.sendPeerDataOperationRequest },
    WAWebUpdateUnreadChatAction: { sendSeen: sending.sendSeen },
    WAWebGetEphemeralFieldsMsgActionsUtils: { getEphemeralFields: () => ({}) },
    WAWebSendMsgChatAction: { addAndSendMsgToChat: sending.addAndSendMsgToChat },
    WAWebLinkPreviewChatAction: { getLinkPreview: async () => null },
    WAWebQuotedMsgModelUtils: { getQuotedMsgObj: chats.getQuotedMsgObj },
    WAWebMsgActionCapability: {
        canSenderRevokeMsg: sending.canSenderRevokeMsg,
        canAdminRevokeMsg: sending.canAdminRevokeMsg,
        canEditText: sending.canEditText,
        canEditCaption: sending.canEditCaption,
    },
    WAWebMsgReply: { canReplyMsg: sending.canReplyMsg },
    WAWebSendReactionMsgAction: { sendReactionToMsg: sending.sendReactionToMsg },
    WAWebSendMessageEditAction: { sendMessageEdit: sending.sendMessageEdit },
    WAWebAddonReactionTableMode: { reactionTableMode: sending.reactionTableMode },
    WAWebAddonPollVoteTableMode: { pollVoteTableMode: sending.pollVoteTableMode },
    WAWebChatForwardMessage: { forwardMessages: sending.forwardMessages },
    WAWebBackendJobsCommon: { mediaTypeFromProtobuf: nobody },
    WAWebE2EProtoUtils: { typeAttributeFromProtobuf: () => 'text' },
    WAWebNonMessageDataRequestPlaceholderMessageResendUtils: {
        handlePlaceholderMsgsSeen: sending.handlePlaceholderMsgsSeen,
    },

    WAWebDownloadManager: { downloadManager: media.downloadManager },
    WAWebMediaOpaqueData: media.OpaqueData,
    WAWebPrepRawMedia: { prepRawMedia: media.prepRawMedia },
    WAWebMediaStorage: { getOrCreateMediaObject: media.getOrCreateMediaObject },
    WAWebMmsMediaTypes: { msgToMediaType: media.msgToMediaType, castToV4: media.castToV4 },
    WAWebMediaDataUtils: { shouldUseMediaCache: media.shouldUseMediaCache },
    WAWebMediaInMemoryBlobCache: { InMemoryMediaBlobCache: media.InMemoryMediaBlobCache },
    WAWebMediaMmsV4Upload: { uploadMedia: media.uploadMedia },
    WAWebUploadManager: { encryptAndUpload: media.encryptAndUpload },
    WAWebStartMediaUploadQpl: { startMediaUploadQpl: media.startMediaUploadQpl },
    WAWebImageUtils: { toWebpSticker: media.toWebpSticker },

    WAWebGroupQueryJob: { queryAndUpdateGroupMetadataById: groups.queryAndUpdateGroupMetadataById },
    WAWebWidToJid: groups.widToJid,
    WAWebModifyParticipantsGroupAction: groups.participantsAction,
    WASmaxGroupsAddParticipantsRPC: { sendAddParticipantsRPC: groups.sendAddParticipantsRPC },
    WAWebGroupModifyInfoJob: groups.modifyInfo,
    WAWebExitGroupAction: { sendExitGroup: groups.sendExitGroup },
    WAWebGroupCreateJob: { createGroup: groups.createGroup },
    WAWebChatStateBridge: sending.chatStates,
    WAWebPresenceChatAction: sending.presence,
};

const firstSegment = (member) => member.split('.')[0];

/** A module as described: a value itself, or of a table only the parts that the description has. */
function build(name, members) {
    const whole = implementations[name];
    const parts = new Set(Object.keys(members).map(firstSegment));
    const isTable = Object.getPrototypeOf(whole) === Object.prototype;
    return isTable ? Object.fromEntries(Object.entries(whole).filter(([part]) => parts.has(part))) : whole;
}

// What only another shape has is no part of this one's Cmd.
if ('Cmd.refreshQR' in config.modules.WAWebCmd.members)
    Cmd.refreshQR = () => BackendEventBus.triggerRefreshQR();

const loaded = new Map();
const withheld = new Set();

function load(name) {
    const { members } = config.modules[name];
    loaded.set(name, build(name, members));
    for (const fault of config.breaks) if (fault.module === name) breakMember(fault);
    for (const fault of config.delays) if (fault.module === name && fault.member) delayMember(fault);
}

/** Loads all modules of one time, those of the `delays` later. */
function loadAll(when) {
    for (const [name, described] of Object.entries(config.modules)) {
        if (described.when !== when) continue;
        const late = config.delays.find((delay) => delay.module === name && !delay.member);
        if (late) setTimeout(load, late.ms, name);
        else load(name);
    }
}

/** Loads a module that is fetched on its first use only. */
export const loadLazy = ({ module }) => load(module);

/** One module missing at the ready stage is all it takes: authenticated, never ready, no error. */
export const withhold = (name) => withheld.add(name);

// ---- what WhatsApp may change some day ------------------------------------------------------------

function holderOf(module, member) {
    const path = member.split('.');
    const last = path.pop();
    const holder = path.reduce((from, part) => from?.[part], loaded.get(module));
    return [holder, last];
}

function hide(holder, name, value) {
    Object.defineProperty(holder, name, { value, writable: true, configurable: true, enumerable: false });
}

/** Takes a module or member away, or gives a member another name (`as`) or another value (`value`). */
export function breakMember({ module, member, as, value }) {
    if (!loaded.has(module)) return;
    if (!member) {
        loaded.delete(module);
        return;
    }
    const [holder, name] = holderOf(module, member);
    if (!holder) return;
    if (as) hide(holder, as, holder[name]);
    hide(holder, name, value);
}

/** Has the answers of a function come late. */
export function delayMember({ module, member, ms }) {
    if (!loaded.has(module)) return;
    const [holder, name] = holderOf(module, member);
    const original = holder[name];
    hide(holder, name, async function late(...args) {
        await pause(ms);
        return original.apply(this, args);
    });
}

export function installRequire() {
    window.require = (name) => {
        if (!loaded.has(name) || withheld.has(name)) throw new Error(`Requiring unknown module "${name}"`);
        return loaded.get(name);
    };
    loadAll('boot');
    // Before anybody else hears of it, as the page reports it to the main screen.
    Socket.listen('change:hasSynced', (_, synced) => {
        if (!synced) return;
        loadAll('main');
        sending.openMainScreen();
    });
}

/** Names of all that is made here; a test compares them with the description. */
export const names = Object.keys(implementations);

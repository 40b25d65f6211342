'use strict';

/**
 * @typedef {{when: 'boot'|'main'|'lazy', members: Record<string, string>}} Module
 *
 * @typedef {{core: boolean, uses: Record<string, string[]>}} Feature
 *
 * @typedef {Record<string, {when?: Module['when'], members: Record<string, string|null>}>} Shape
 */

/**
 * The parts of WhatsApp Web's page that are used: modules, their members, and which feature needs which.
 * Data only. The check of the running page reads it, and the stand-in of the tests is made from it, so that
 * both know the same page.
 *
 * - `when`: `boot` = there before the login; `main` = with the logged-in screen; `lazy` = fetched on first
 *   use, until when `window.require` throws.
 * - Members are paths from what `window.require` returns; '' is that itself.
 * - Kinds: any | function | object | string | class. 'function/2' adds `Function.length`, where the position
 *   of an argument matters; only lengths that were seen in the page's own code are given.
 *
 * State of the page: the builds of August 2026 (2.3000.1044822804).
 *
 * @type {Record<string, Module>}
 */
const MODULES = {
    // ---- linking and state -----------------------------------------------------------------------
    WAWebSocketModel: {
        when: 'boot',
        members: {
            'Socket.state': 'any',
            'Socket.hasSynced': 'any',
            'Socket.on': 'function',
            'Socket.off': 'function',
            'Socket.logout': 'function',
            'Socket.reconnect': 'function',
        },
    },
    WAWebStreamModel: {
        when: 'boot',
        members: {
            'Stream.mode': 'any',
            'Stream.displayInfo': 'any',
            'Stream.markAvailable': 'function',
            'Stream.markUnavailable': 'function',
        },
    },
    WAWebOfflineHandler: {
        when: 'boot',
        members: { 'OfflineMessageHandler.getOfflineDeliveryProgress': 'function' },
    },
    WAWebCmd: {
        when: 'boot',
        members: {
            'Cmd.on': 'function',
            'Cmd.sendRevokeMsgs': 'function/3',
            'Cmd.sendDeleteMsgs': 'function',
        },
    },
    WAWebConnModel: {
        when: 'boot',
        members: {
            'Conn.ref': 'any',
            'Conn.on': 'function',
            'Conn.serialize': 'function',
            'Conn.platform': 'any',
        },
    },
    WAWebBackendEventBus: {
        when: 'boot',
        members: { 'BackendEventBus.on': 'function', 'BackendEventBus.triggerRefreshQR': 'function' },
    },
    WAWebLaunchSocketUtils: { when: 'boot', members: { refreshQR: 'function' } },
    WAWebCommsGating: { when: 'boot', members: { isCommsInWorker: 'function' } },
    WABase64: { when: 'boot', members: { encodeB64: 'function' } },
    WAWebCompanionRegClientUtils: { when: 'boot', members: { DEVICE_PLATFORM: 'any' } },
    WAWebAdvSignatureApi: { when: 'boot', members: { '': 'object' } },
    WAWebUserPrefsInfoStore: { when: 'boot', members: { 'waNoiseInfo.get': 'function' } },
    WAWebSignalStoreApi: { when: 'boot', members: { 'waSignalStore.getRegistrationInfo': 'function' } },
    WAWebUserPrefsMultiDevice: { when: 'boot', members: { getADVSecretKey: 'function' } },
    WAWebAltDeviceLinkingApi: {
        when: 'boot',
        members: {
            getPairingType: 'function',
            setPairingType: 'function',
            initializeAltDeviceLinking: 'function',
            initializeQRLinking: 'function',
            startAltLinkingFlow: 'function/2',
        },
    },
    // Read in the page's code, and never called so far: whether they come with the screen is a guess.
    WAWebShortcakeLinkingAction: {
        when: 'lazy',
        members: {
            startShortcakePasskeyPairing: 'function',
            confirmShortcakeVerificationCode: 'function',
            cancelShortcakePasskeyPairing: 'function',
        },
    },
    WAWebShortcakeLinkingApi: {
        when: 'lazy',
        members: { getVerificationCode: 'function', getShortcakeLinkingStage: 'function' },
    },
    WAWebSyncGatingUtils: { when: 'boot', members: { '': 'object' } },
    WAWebCallCollection: { when: 'boot', members: { '': 'object', on: 'function' } },

    // ---- who is who ------------------------------------------------------------------------------
    WAWebUserPrefsMeUser: {
        when: 'boot',
        members: { getMaybeMePnUser: 'function', getMaybeMeLidUser: 'function' },
    },
    WAWebWidFactory: {
        when: 'boot',
        members: { createWid: 'function', createWidFromWidLike: 'function', asUserWidOrThrow: 'function' },
    },
    WAWebApiContact: {
        when: 'boot',
        members: {
            getCurrentLid: 'function',
            getPhoneNumber: 'function',
            getAlternateUserWid: 'function',
        },
    },
    WAWebLidMigrationUtils: { when: 'boot', members: { toPn: 'function' } },
    WAWebQueryExistsJob: { when: 'boot', members: { queryWidExists: 'function' } },
    WAWebContactGetters: {
        when: 'boot',
        members: {
            getIsMe: 'function',
            getIsUser: 'function',
            getIsGroup: 'function',
            getIsWAContact: 'function',
            getUserid: 'function',
            getVerifiedName: 'function',
            getVerifiedLevel: 'function',
            getStatusMute: 'function',
            getName: 'function',
            getShortName: 'function',
            getPushname: 'function',
            getIsEnterprise: 'function',
        },
    },
    WAWebFrontendContactGetters: { when: 'boot', members: { getIsMyContact: 'function' } },
    WAWebContactProfilePicThumbBridge: {
        when: 'boot',
        members: { requestProfilePicFromServer: 'function' },
    },
    WAWebFrontendVcardUtils: { when: 'main', members: { vcardFromContactModel: 'function' } },

    // ---- chats and messages ----------------------------------------------------------------------
    WAWebCollections: {
        when: 'boot',
        members: {
            'Msg.on': 'function',
            'Msg.get': 'function',
            'Msg.getModelsArray': 'function',
            'Msg.getMessagesById': 'function',
            'Msg.modelClass': 'class',
            'Chat.on': 'function',
            'Chat.get': 'function',
            'Chat.find': 'function',
            'Chat.getModelsArray': 'function',
            'Contact.get': 'function',
            'Contact.find': 'function',
            'Contact.getModelsArray': 'function',
            'Blocklist.get': 'function',
            'BusinessProfile.find': 'function',
            'Reactions.find': 'function',
            'WAWebGroupMetadataCollection.update': 'function',
            'WAWebNewsletterCollection.get': 'function',
        },
    },
    WAWebMsgKey: {
        when: 'boot',
        members: {
            '': 'class',
            newId: 'function',
            from: 'function',
            fromString: 'function',
            'prototype.toString': 'function',
        },
    },
    WALinkify: { when: 'boot', members: { findLink: 'function', findLinks: 'function' } },
    WAWebChatGetters: { when: 'boot', members: { getIsNewsletter: 'function', getIsBroadcast: 'function' } },
    WAWebFindChatAction: { when: 'boot', members: { findOrCreateLatestChat: 'function' } },
    WAWebChatLoadMessages: { when: 'boot', members: { loadEarlierMsgs: 'function' } },
    WAWebSendNonMessageDataRequest: { when: 'main', members: { sendPeerDataOperationRequest: 'function/2' } },
    WAWebUpdateUnreadChatAction: { when: 'boot', members: { sendSeen: 'function' } },
    WAWebGetEphemeralFieldsMsgActionsUtils: { when: 'boot', members: { getEphemeralFields: 'function' } },
    WAWebSendMsgChatAction: { when: 'boot', members: { addAndSendMsgToChat: 'function' } },
    WAWebLinkPreviewChatAction: { when: 'main', members: { getLinkPreview: 'function' } },
    WAWebQuotedMsgModelUtils: { when: 'boot', members: { getQuotedMsgObj: 'function' } },
    WAWebMsgActionCapability: {
        when: 'boot',
        members: {
            canSenderRevokeMsg: 'function',
            canAdminRevokeMsg: 'function',
            canEditText: 'function',
            canEditCaption: 'function',
        },
    },
    WAWebMsgReply: { when: 'main', members: { canReplyMsg: 'function' } },
    WAWebSendReactionMsgAction: { when: 'main', members: { sendReactionToMsg: 'function/2' } },
    WAWebSendMessageEditAction: { when: 'main', members: { sendMessageEdit: 'function/3' } },
    WAWebAddonReactionTableMode: {
        when: 'boot',
        members: { 'reactionTableMode.bulkUpsert': 'function' },
    },
    WAWebAddonPollVoteTableMode: {
        when: 'boot',
        members: { 'pollVoteTableMode.bulkUpsert': 'function' },
    },
    WAWebChatForwardMessage: { when: 'lazy', members: { forwardMessages: 'function' } },
    WAWebBackendJobsCommon: { when: 'boot', members: { mediaTypeFromProtobuf: 'function' } },
    WAWebE2EProtoUtils: { when: 'boot', members: { typeAttributeFromProtobuf: 'function' } },
    WAWebNonMessageDataRequestPlaceholderMessageResendUtils: {
        when: 'boot',
        members: { handlePlaceholderMsgsSeen: 'function' },
    },

    // ---- media -----------------------------------------------------------------------------------
    WAWebDownloadManager: {
        when: 'boot',
        members: { 'downloadManager.downloadAndMaybeDecrypt': 'function' },
    },
    WAWebMediaOpaqueData: {
        when: 'boot',
        members: {
            '': 'class',
            createFromData: 'function',
            'prototype.url': 'function',
            'prototype.autorelease': 'function',
            'prototype.formData': 'function',
        },
    },
    WAWebPrepRawMedia: { when: 'boot', members: { prepRawMedia: 'function' } },
    WAWebMediaStorage: { when: 'boot', members: { getOrCreateMediaObject: 'function' } },
    WAWebMmsMediaTypes: { when: 'boot', members: { msgToMediaType: 'function', castToV4: 'function' } },
    WAWebMediaDataUtils: { when: 'boot', members: { shouldUseMediaCache: 'function' } },
    WAWebMediaInMemoryBlobCache: { when: 'boot', members: { 'InMemoryMediaBlobCache.put': 'function' } },
    WAWebMediaMmsV4Upload: { when: 'boot', members: { uploadMedia: 'function' } },
    WAWebUploadManager: { when: 'boot', members: { encryptAndUpload: 'function' } },
    WAWebStartMediaUploadQpl: { when: 'boot', members: { startMediaUploadQpl: 'function' } },
    WAWebImageUtils: { when: 'boot', members: { toWebpSticker: 'function' } },

    // ---- groups, typing --------------------------------------------------------------------------
    WAWebGroupQueryJob: { when: 'boot', members: { queryAndUpdateGroupMetadataById: 'function' } },
    WAWebWidToJid: { when: 'boot', members: { widToGroupJid: 'function', widToUserJid: 'function' } },
    WAWebModifyParticipantsGroupAction: {
        when: 'main',
        members: {
            removeParticipants: 'function',
            promoteParticipants: 'function',
            demoteParticipants: 'function',
        },
    },
    WASmaxGroupsAddParticipantsRPC: { when: 'main', members: { sendAddParticipantsRPC: 'function' } },
    WAWebGroupModifyInfoJob: {
        when: 'main',
        members: { setGroupSubject: 'function', setGroupDescription: 'function' },
    },
    WAWebExitGroupAction: { when: 'main', members: { sendExitGroup: 'function' } },
    WAWebGroupCreateJob: { when: 'lazy', members: { createGroup: 'function' } },
    WAWebChatStateBridge: {
        when: 'boot',
        members: {
            sendChatStateComposing: 'function',
            sendChatStateRecording: 'function',
            sendChatStatePaused: 'function',
        },
    },
    WAWebPresenceChatAction: {
        when: 'boot',
        members: { sendPresenceAvailable: 'function', sendPresenceUnavailable: 'function' },
    },
};

/**
 * What each feature uses. Without one member of a `core` feature a session cannot work; without one of
 * another, that feature is refused and the rest works. `page`: optional, or used by the library's injection,
 * which works without it.
 *
 * @type {Record<string, Feature>}
 */
const FEATURES = {
    link: {
        core: true,
        uses: {
            WAWebSocketModel: ['Socket.state', 'Socket.on', 'Socket.off'],
            WAWebCmd: ['Cmd.on'],
            WAWebConnModel: ['Conn.ref', 'Conn.on'],
            WAWebOfflineHandler: ['OfflineMessageHandler.getOfflineDeliveryProgress'],
            WAWebAltDeviceLinkingApi: ['setPairingType'],
            WABase64: ['encodeB64'],
            WAWebCompanionRegClientUtils: ['DEVICE_PLATFORM'],
            WAWebAdvSignatureApi: [''],
            WAWebUserPrefsInfoStore: ['waNoiseInfo.get'],
            WAWebSignalStoreApi: ['waSignalStore.getRegistrationInfo'],
            WAWebUserPrefsMultiDevice: ['getADVSecretKey'],
        },
    },
    pairing: {
        core: false,
        uses: {
            WAWebAltDeviceLinkingApi: [
                'setPairingType',
                'initializeAltDeviceLinking',
                'initializeQRLinking',
                'startAltLinkingFlow',
            ],
        },
    },
    passkey: {
        core: false,
        uses: {
            WAWebShortcakeLinkingAction: [
                'startShortcakePasskeyPairing',
                'confirmShortcakeVerificationCode',
                'cancelShortcakePasskeyPairing',
            ],
            WAWebShortcakeLinkingApi: ['getVerificationCode', 'getShortcakeLinkingStage'],
        },
    },
    login: { core: true, uses: { WAWebSocketModel: ['Socket.hasSynced', 'Socket.logout'] } },
    ready: {
        core: true,
        uses: {
            WAWebConnModel: ['Conn.serialize'],
            WAWebUserPrefsMeUser: ['getMaybeMePnUser', 'getMaybeMeLidUser'],
            WAWebCollections: ['Msg.on', 'Chat.on'],
            WAWebSyncGatingUtils: [''],
            WAWebCallCollection: [''],
        },
    },
    receive: {
        core: true,
        uses: {
            WAWebCollections: ['Msg.on', 'Msg.get', 'Msg.getMessagesById'],
            WALinkify: ['findLinks'],
            WAWebMsgKey: ['', 'prototype.toString'],
        },
    },
    send: {
        core: true,
        uses: {
            WAWebWidFactory: ['createWid', 'asUserWidOrThrow'],
            WAWebCollections: ['Chat.get', 'Msg.get'],
            WAWebFindChatAction: ['findOrCreateLatestChat'],
            WAWebChatGetters: ['getIsNewsletter', 'getIsBroadcast'],
            WALinkify: ['findLink'],
            WAWebUserPrefsMeUser: ['getMaybeMePnUser', 'getMaybeMeLidUser'],
            WAWebMsgKey: ['', 'newId'],
            WAWebGetEphemeralFieldsMsgActionsUtils: ['getEphemeralFields'],
            WAWebSendMsgChatAction: ['addAndSendMsgToChat'],
            WAWebQueryExistsJob: ['queryWidExists'],
        },
    },
    media_in: {
        core: false,
        uses: {
            WAWebCollections: ['Msg.get', 'Msg.getMessagesById'],
            WAWebDownloadManager: ['downloadManager.downloadAndMaybeDecrypt'],
        },
    },
    media_out: {
        core: false,
        uses: {
            WAWebMediaOpaqueData: [
                '',
                'createFromData',
                'prototype.url',
                'prototype.autorelease',
                'prototype.formData',
            ],
            WAWebPrepRawMedia: ['prepRawMedia'],
            WAWebMediaStorage: ['getOrCreateMediaObject'],
            WAWebMmsMediaTypes: ['msgToMediaType', 'castToV4'],
            WAWebMediaDataUtils: ['shouldUseMediaCache'],
            WAWebMediaInMemoryBlobCache: ['InMemoryMediaBlobCache.put'],
            WAWebMediaMmsV4Upload: ['uploadMedia'],
            WAWebUploadManager: ['encryptAndUpload'],
            WAWebStartMediaUploadQpl: ['startMediaUploadQpl'],
            WAWebImageUtils: ['toWebpSticker'],
        },
    },
    chats: {
        core: false,
        uses: {
            WAWebCollections: ['Chat.getModelsArray', 'Msg.get'],
        },
    },
    history: {
        core: false,
        uses: {
            WAWebCollections: ['Chat.get'],
            WAWebWidFactory: ['createWid'],
            WAWebChatLoadMessages: ['loadEarlierMsgs'],
        },
    },
    earlier: {
        core: false,
        uses: { WAWebSendNonMessageDataRequest: ['sendPeerDataOperationRequest'] },
    },
    people: {
        core: false,
        uses: {
            WAWebCollections: [
                'Contact.get',
                'Contact.find',
                'Contact.getModelsArray',
                'Blocklist.get',
                'BusinessProfile.find',
            ],
            WAWebWidFactory: ['createWid', 'createWidFromWidLike'],
            WAWebApiContact: ['getCurrentLid', 'getPhoneNumber', 'getAlternateUserWid'],
            WAWebQueryExistsJob: ['queryWidExists'],
            WAWebContactGetters: [
                'getIsMe',
                'getIsUser',
                'getIsGroup',
                'getIsWAContact',
                'getUserid',
                'getVerifiedName',
                'getVerifiedLevel',
                'getStatusMute',
                'getName',
                'getShortName',
                'getPushname',
                'getIsEnterprise',
            ],
            WAWebFrontendContactGetters: ['getIsMyContact'],
            WAWebFrontendVcardUtils: ['vcardFromContactModel'],
        },
    },
    pictures: {
        core: false,
        uses: { WAWebContactProfilePicThumbBridge: ['requestProfilePicFromServer'] },
    },
    reply: {
        core: false,
        uses: {
            WAWebCollections: ['Msg.get', 'Msg.getMessagesById'],
            WAWebMsgReply: ['canReplyMsg'],
            WAWebQuotedMsgModelUtils: ['getQuotedMsgObj'],
        },
    },
    react: {
        core: false,
        uses: {
            WAWebSendReactionMsgAction: ['sendReactionToMsg'],
            WAWebAddonReactionTableMode: ['reactionTableMode.bulkUpsert'],
        },
    },
    edit: {
        core: false,
        uses: {
            WAWebSendMessageEditAction: ['sendMessageEdit'],
            WAWebMsgActionCapability: ['canEditText', 'canEditCaption'],
        },
    },
    delete: {
        core: false,
        uses: {
            WAWebCmd: ['Cmd.sendRevokeMsgs', 'Cmd.sendDeleteMsgs'],
            WAWebMsgActionCapability: ['canSenderRevokeMsg', 'canAdminRevokeMsg'],
            WAWebCollections: ['Chat.get', 'Chat.find'],
        },
    },
    groups: {
        core: false,
        uses: {
            WAWebCollections: ['WAWebGroupMetadataCollection.update'],
            WAWebLidMigrationUtils: ['toPn'],
            WAWebGroupQueryJob: ['queryAndUpdateGroupMetadataById'],
        },
    },
    group_participants: {
        core: false,
        uses: {
            WAWebModifyParticipantsGroupAction: [
                'removeParticipants',
                'promoteParticipants',
                'demoteParticipants',
            ],
            WASmaxGroupsAddParticipantsRPC: ['sendAddParticipantsRPC'],
            WAWebWidToJid: ['widToGroupJid', 'widToUserJid'],
            WAWebQueryExistsJob: ['queryWidExists'],
        },
    },
    group_info: {
        core: false,
        uses: { WAWebGroupModifyInfoJob: ['setGroupSubject', 'setGroupDescription'] },
    },
    group_leave: { core: false, uses: { WAWebExitGroupAction: ['sendExitGroup'] } },
    group_create: { core: false, uses: { WAWebGroupCreateJob: ['createGroup'] } },
    /** What is reported of a message besides its text, and of what happens to it later. */
    events: {
        core: false,
        uses: {
            WAWebCollections: ['Chat.get', 'Contact.get', 'Reactions.find'],
            WAWebApiContact: ['getCurrentLid', 'getPhoneNumber'],
            WAWebAddonReactionTableMode: ['reactionTableMode.bulkUpsert'],
            WAWebCallCollection: ['on'],
        },
    },
    typing: {
        core: false,
        uses: {
            WAWebChatStateBridge: ['sendChatStateComposing', 'sendChatStateRecording', 'sendChatStatePaused'],
            WAWebPresenceChatAction: ['sendPresenceAvailable', 'sendPresenceUnavailable'],
            WAWebStreamModel: ['Stream.markAvailable', 'Stream.markUnavailable'],
            WAWebUpdateUnreadChatAction: ['sendSeen'],
        },
    },
    page: {
        core: false,
        uses: {
            WAWebSocketModel: ['Socket.reconnect'],
            WAWebStreamModel: ['Stream.mode', 'Stream.displayInfo'],
            WAWebConnModel: ['Conn.platform'],
            WAWebBackendEventBus: ['BackendEventBus.on', 'BackendEventBus.triggerRefreshQR'],
            WAWebLaunchSocketUtils: ['refreshQR'],
            WAWebCommsGating: ['isCommsInWorker'],
            WAWebAltDeviceLinkingApi: ['getPairingType'],
            WAWebCallCollection: ['on'],
            WAWebCollections: ['Msg.getModelsArray', 'Msg.modelClass', 'WAWebNewsletterCollection.get'],
            WAWebMsgKey: ['from', 'fromString'],
            WAWebAddonPollVoteTableMode: ['pollVoteTableMode.bulkUpsert'],
            WAWebChatForwardMessage: ['forwardMessages'],
            WAWebLinkPreviewChatAction: ['getLinkPreview'],
            WAWebBackendJobsCommon: ['mediaTypeFromProtobuf'],
            WAWebE2EProtoUtils: ['typeAttributeFromProtobuf'],
            WAWebNonMessageDataRequestPlaceholderMessageResendUtils: ['handlePlaceholderMsgsSeen'],
        },
    },
};

/**
 * Other shapes of the page, as differences from `MODULES`: members to add, or null for one that is not there;
 * a module with `when` is one that only this shape has. `2026-04` is the page that version 1.34.7 of the
 * library was written for.
 *
 * @type {Record<string, Shape>}
 */
const SHAPES = {
    today: {},
    '2026-04': {
        WAWebCmd: { members: { 'Cmd.refreshQR': 'function' } },
        WAWebMiscBrowserUtils: { when: 'boot', members: { info: 'function' } },
        WAWebCollections: {
            members: { 'GroupMetadata.update': 'function', 'WAWebGroupMetadataCollection.update': null },
        },
        WAWebSyncGatingUtils: { members: { isPlaceholderMessageResendEnabled: 'function' } },
    },
};

module.exports = { MODULES, FEATURES, SHAPES };

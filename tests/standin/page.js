/**
 * The page of the stand-in: what whatsapp-web.js 1.34.7 finds in WhatsApp Web, and no more.
 *
 * Order of this file: models with events, identifiers, storage in the profile, the session, chats and
 * messages, the table of modules, the connection to the site.
 */
'use strict';

(() => {
    const DEBUG = document.currentScript.dataset.debug === 'true';
    /** Messages of a chat that are loaded at start, and that each `loadEarlierMsgs` adds. */
    const MESSAGES_PER_LOAD = 10;
    const RECONNECT_MS = 1000;

    // ---- models with events, in the manner of Backbone ------------------------------------------

    class Emitter {
        #listeners = [];

        on(names, listener) {
            for (const name of names.split(' ')) this.#listeners.push({ name, listener });
        }

        once(names, listener) {
            const onlyOnce = (...args) => {
                this.off(names, onlyOnce);
                listener(...args);
            };
            this.on(names, onlyOnce);
        }

        off(names, listener) {
            const off = (entry) => entry.listener === listener && names.split(' ').includes(entry.name);
            this.#listeners = this.#listeners.filter((entry) => !off(entry));
        }

        trigger(name, ...args) {
            for (const entry of [...this.#listeners]) if (entry.name === name) entry.listener(...args);
        }
    }

    /** Attributes are plain properties; `set` announces `change:<name>` here and in its collections. */
    class Model extends Emitter {
        #collections = [];

        constructor(attributes) {
            super();
            Object.assign(this, attributes);
        }

        joined(collection) {
            this.#collections.push(collection);
        }

        set(attributes) {
            for (const [name, value] of Object.entries(attributes)) {
                const previous = this[name];
                if (value === previous) continue;
                this[name] = value;
                this.trigger(`change:${name}`, this, value, previous);
            }
            this.trigger('change', this);
        }

        trigger(name, ...args) {
            super.trigger(name, ...args);
            for (const collection of this.#collections) collection.trigger(name, ...args);
        }

        serialize() {
            return { ...this };
        }

        toJSON() {
            return this.serialize();
        }
    }

    class Collection extends Emitter {
        #models = new Map();

        add(model) {
            this.#models.set(String(model.id), model);
            model.joined(this);
            this.trigger('add', model);
            return model;
        }

        get(id) {
            return this.#models.get(String(id));
        }

        getModelsArray() {
            return [...this.#models.values()];
        }
    }

    // ---- identifiers ----------------------------------------------------------------------------

    const randomBytes = (count) => crypto.getRandomValues(new Uint8Array(count));
    const encodeB64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));

    /** Identity of a user, a LID or a group: `user@server`. */
    class Wid {
        constructor(serialized) {
            [this.user, this.server] = serialized.replace('@s.whatsapp.net', '@c.us').split('@');
            this._serialized = `${this.user}@${this.server}`;
        }

        isLid() {
            return this.server === 'lid';
        }

        isGroup() {
            return this.server === 'g.us';
        }

        isUser() {
            return this.server === 'c.us' || this.isLid();
        }

        isStatus() {
            return this._serialized === 'status@broadcast';
        }

        toString() {
            return this._serialized;
        }
    }

    const createWid = (id) => new Wid(typeof id === 'string' ? id : id._serialized);
    const toLid = (wid) => (wid.server === 'c.us' ? new Wid(`100${wid.user}@lid`) : wid);
    const toPhone = (wid) => (wid.isLid() ? new Wid(`${wid.user.slice(3)}@c.us`) : wid);
    /** The stand-in's rule for numbers that have no WhatsApp. */
    const isRegistered = (wid) => !toPhone(wid).user.endsWith('0000');

    class MsgKey {
        constructor({ from, to, id, participant, selfDir }) {
            this.fromMe = selfDir === 'out';
            this.remote = this.fromMe ? to : from;
            this.id = id;
            if (participant) this.participant = participant;
            this._serialized = `${this.fromMe}_${this.remote}_${id}${participant ? `_${participant}` : ''}`;
        }

        static async newId() {
            return `3EB0${randomBytes(9).reduce((hex, byte) => hex + byte.toString(16).padStart(2, '0'), '')}`
                .toUpperCase();
        }

        toString() {
            return this._serialized;
        }
    }

    // ---- keys and login, stored in the browser profile ------------------------------------------

    const settled = (request) => new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
    });

    const profile = {
        async open() {
            const request = indexedDB.open('wawc', 1);
            request.onupgradeneeded = () => request.result.createObjectStore('session');
            this.database = await settled(request);
        },
        get(key) {
            return settled(this.database.transaction('session').objectStore('session').get(key));
        },
        /** Resolves when the value is on disk: a browser killed right after it still has it. */
        put(key, value) {
            const transaction = this.database.transaction('session', 'readwrite', { durability: 'strict' });
            transaction.objectStore('session').put(value, key);
            return new Promise((resolve, reject) => {
                transaction.oncomplete = resolve;
                transaction.onabort = () => reject(transaction.error);
            });
        },
        async clear() {
            this.database.close();
            await settled(indexedDB.deleteDatabase('wawc'));
        },
    };

    let keys;

    async function loadKeys() {
        await profile.open();
        keys = await profile.get('keys');
        if (!keys) {
            keys = { noise: randomBytes(32), identity: randomBytes(32), adv: randomBytes(32) };
            await profile.put('keys', keys);
        }
    }

    // ---- the session ----------------------------------------------------------------------------

    const screen = document.getElementById('screen');
    const pageId = crypto.randomUUID();
    let me = null;
    let withholdReady = false;

    class SocketModel extends Model {
        #listened;
        #syncListened = new Promise((resolve) => {
            this.#listened = resolve;
        });

        /** Resolves when somebody listens for the end of the sync; the real page does not wait for that. */
        untilSyncListened() {
            return this.#syncListened;
        }

        on(names, listener) {
            super.on(names, listener);
            if (names.includes('change:hasSynced')) this.#listened();
        }

        async logout() {
            await uplink('unlink');
            // whatsapp-web.js closes the browser as soon as this has returned.
            setTimeout(leave, 1000);
        }
    }

    const Socket = new SocketModel({ state: 'OPENING', hasSynced: false });
    const Conn = new Model({ ref: undefined, pushname: undefined, platform: undefined });
    const Cmd = new Emitter();
    let offlineProgress = 0;

    Socket.on('change', () => {
        uplink('state', { state: Socket.state, synced: Socket.hasSynced }).catch(() => {});
        screen.textContent = `Stand-in for WhatsApp Web: ${Socket.state}`;
    });
    Cmd.refreshQR = () => uplink('refresh');

    function setProgress(percent) {
        offlineProgress = percent;
        Cmd.trigger('offline_progress_update_from_bridge');
    }

    async function logIn({ account, lid, chats, ready }) {
        await profile.put('login', account);
        withholdReady = !ready;
        if (!me) {
            me = { phone: new Wid(`${account.phone}@c.us`), lid: new Wid(lid) };
            Conn.set({ pushname: account.name, platform: 'android' });
            for (const chat of chats) addChat(chat);
        }
        Socket.set({ state: 'CONNECTED' });
        if (Socket.hasSynced) return;
        await Socket.untilSyncListened();
        for (const percent of [0, 50, 100]) setProgress(percent);
        Socket.set({ hasSynced: true });
    }

    /** This device was unlinked: forget everything, then load again at the address the real page uses. */
    async function leave() {
        Cmd.trigger('logout');
        await profile.clear();
        location.assign('/?post_logout=1&logout_reason=0');
    }

    /** The site wants a passkey: the page asks for one that no browser without its authenticator can give. */
    async function askPasskey() {
        screen.textContent = 'Quick security check with your passkey';
        const publicKey = {
            challenge: randomBytes(32),
            rpId: 'whatsapp.com',
            userVerification: 'required',
            timeout: 600_000,
        };
        await navigator.credentials.get({ publicKey }).catch(() => {});
    }

    /**
     * Ends the renderer process: layout of a tree this deep overflows its native stack. 3,000 levels are
     * enough in Chromium 156; far more only make it slow (attaching them takes quadratic time).
     */
    function crash() {
        let parent = document.body;
        for (let depth = 0; depth < 8000; depth += 1) {
            parent = parent.appendChild(document.createElement('div'));
        }
        return document.body.offsetHeight;
    }

    // ---- chats, contacts and messages -----------------------------------------------------------

    const Msg = new Collection();
    const Chat = new Collection();
    const Contact = new Collection();
    /** Every message this page knows, loaded into its chat or not, by its serialized key. */
    const history = new Map();
    /** Messages of a chat that are not loaded yet, oldest first. */
    const earlier = new WeakMap();

    class ChatModel extends Model {
        serialize() {
            return { ...this, msgs: this.msgs.getModelsArray(), groupMetadata: undefined };
        }
    }

    Msg.getMessagesById = async (ids) => ({
        messages: ids.map((id) => history.get(String(id))).filter(Boolean),
    });

    Contact.find = async (id) => Contact.get(id) ?? addContact(createWid(id));

    /** The contact of `wid`: `name` is what the user saved, `pushname` what the contact calls itself. */
    function addContact(wid, { name, pushname } = {}) {
        const known = Contact.get(wid);
        if (known && pushname) known.set({ pushname });
        return known ?? Contact.add(new Model({
            id: wid,
            name,
            pushname,
            phoneNumber: wid.isLid() ? toPhone(wid) : undefined,
            isBusiness: false,
            isContactBlocked: false,
        }));
    }

    function addChat({ id, name, saved, unread = 0, archived, pinned, participants, messages = [] }) {
        const wid = new Wid(id);
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
            msgs: new Collection(),
        });
        if (wid.isGroup()) {
            chat.groupMetadata = new Model({
                id: wid,
                subject: name,
                announce: false,
                participants: (participants ?? []).map((member) => ({ id: new Wid(member), isAdmin: false })),
            });
        } else {
            addContact(wid, { name: saved ? name : undefined });
        }
        Chat.add(chat);
        const all = messages.map((message) => toMsg(chat, message));
        earlier.set(chat, all);
        for (const msg of loadEarlier(chat)) show(chat, msg);
        return chat;
    }

    function loadEarlier(chat) {
        return earlier.get(chat).splice(-MESSAGES_PER_LOAD);
    }

    /** A message as the site describes it → as WhatsApp Web models it. */
    function toMsg(chat, { id, fromMe = false, author, sender, body, caption, t, image }) {
        const participant = author && new Wid(author);
        const from = fromMe ? me.phone : chat.id;
        const to = fromMe ? chat.id : me.phone;
        if (!fromMe) addContact(participant ?? chat.id, { pushname: sender });
        const msg = new Model({
            id: new MsgKey({ from, to, id, participant, selfDir: fromMe ? 'out' : 'in' }),
            from,
            to,
            author: participant,
            notifyName: sender,
            body,
            caption,
            t,
            ack: fromMe ? 2 : 1,
            type: image ? 'image' : 'chat',
            isNewMsg: false,
            ...image,
        });
        if (image) {
            msg.mediaObject = {};
            msg.mediaData = { mediaStage: 'NEED_POKE' };
            Object.defineProperty(msg, 'downloadMedia', {
                value: async () => {
                    msg.mediaData.mediaStage = 'RESOLVED';
                },
            });
        }
        history.set(String(msg.id), msg);
        return msg;
    }

    /** Loads a message into its chat; a new one is announced to whoever listens. */
    function show(chat, msg) {
        chat.msgs.add(msg);
        Msg.add(msg);
        if (!chat.lastReceivedKey || msg.t >= chat.t) chat.set({ lastReceivedKey: msg.id, t: msg.t });
    }

    function receive({ chat: { id, name }, message }) {
        const chat = Chat.get(id) ?? addChat({ id, name });
        const msg = toMsg(chat, message);
        msg.isNewMsg = true;
        show(chat, msg);
        chat.set({ unreadCount: chat.unreadCount + 1 });
    }

    async function findOrCreateLatestChat(wid) {
        if (!Chat.get(wid) && !isRegistered(wid)) throw new Error('No LID for user');
        return { chat: Chat.get(wid) ?? addChat({ id: String(wid), name: wid.user }) };
    }

    function addAndSendMsgToChat(chat, attributes) {
        const msg = new Model(attributes);
        history.set(String(msg.id), msg);
        show(chat, msg);
        const { id: { id }, body, t } = msg;
        const message = { chat: String(chat.id), id, fromMe: true, body, t };
        const sent = uplink('message', { message }).then(({ ack }) => msg.set({ ack }));
        return [Promise.resolve(msg), sent];
    }

    // ---- modules --------------------------------------------------------------------------------

    const findLinks = (text) => (text?.match(/\bhttps?:\/\/\S+/g) ?? []).map((href) => ({ href }));

    const modules = {
        WAWebSocketModel: { Socket },
        WAWebCmd: { Cmd },
        WAWebConnModel: { Conn },
        WAWebOfflineHandler: { OfflineMessageHandler: { getOfflineDeliveryProgress: () => offlineProgress } },
        WAWebLaunchSocketUtils: { refreshQR: Cmd.refreshQR },
        WAWebAltDeviceLinkingApi: {
            setPairingType() {},
            async initializeAltDeviceLinking() {},
            async initializeQRLinking() {},
            startAltLinkingFlow: async (phone) => (await uplink('pairing-code', { phone })).code,
        },
        WABase64: { encodeB64 },
        WAWebCompanionRegClientUtils: { DEVICE_PLATFORM: '1' },
        WAWebAdvSignatureApi: {},
        WAWebUserPrefsInfoStore: {
            waNoiseInfo: { get: async () => ({ staticKeyPair: { pubKey: keys.noise } }) },
        },
        WAWebSignalStoreApi: {
            waSignalStore: {
                getRegistrationInfo: async () => ({ identityKeyPair: { pubKey: keys.identity } }),
            },
        },
        WAWebUserPrefsMultiDevice: { getADVSecretKey: () => encodeB64(keys.adv) },
        WAWebUserPrefsMeUser: { getMaybeMePnUser: () => me?.phone, getMaybeMeLidUser: () => me?.lid },
        WAWebMiscBrowserUtils: { info: () => ({ os: 'Linux', name: 'Chrome' }) },
        WAWebCollections: {
            Msg,
            Chat,
            Contact,
            GroupMetadata: { update: async () => {} },
            Blocklist: new Collection(),
            WAWebNewsletterCollection: new Collection(),
        },
        WAWebSyncGatingUtils: {},
        WAWebCallCollection: {},
        WALinkify: { findLinks, findLink: (text) => findLinks(text)[0] },
        WAWebWidFactory: { createWid, createWidFromWidLike: createWid, asUserWidOrThrow: createWid },
        WAWebLidMigrationUtils: { toPn: toPhone },
        WAWebApiContact: {
            getCurrentLid: toLid,
            getPhoneNumber: toPhone,
            getAlternateUserWid: (wid) => (wid.isLid() ? toPhone(wid) : toLid(wid)),
        },
        WAWebQueryExistsJob: { queryWidExists: async (wid) => (isRegistered(wid) ? { wid } : null) },
        WAWebContactGetters: {
            getIsMe: ({ id }) => String(id) === String(me.phone) || String(id) === String(me.lid),
            getIsUser: ({ id }) => id.isUser(),
            getIsGroup: ({ id }) => id.isGroup(),
            getIsWAContact: ({ id }) => isRegistered(id),
            getUserid: ({ id }) => id.user,
            getName: ({ name }) => name,
            getShortName: ({ name }) => name,
            getPushname: ({ pushname }) => pushname,
            getVerifiedName() {},
            getVerifiedLevel() {},
            getStatusMute: () => false,
            getIsEnterprise: () => false,
        },
        WAWebFrontendContactGetters: { getIsMyContact: ({ name }) => Boolean(name) },
        WAWebChatGetters: { getIsNewsletter: () => false, getIsBroadcast: () => false },
        WAWebChatLoadMessages: {
            loadEarlierMsgs: async ({ chat }) => {
                const msgs = loadEarlier(chat);
                for (const msg of msgs) show(chat, msg);
                return msgs;
            },
        },
        WAWebDownloadManager: {
            downloadManager: {
                downloadAndMaybeDecrypt: async ({ directPath }) => (await fetch(directPath)).arrayBuffer(),
            },
        },
        WAWebFindChatAction: { findOrCreateLatestChat },
        WAWebStreamModel: { Stream: { markAvailable() {}, markUnavailable() {} } },
        WAWebUpdateUnreadChatAction: { sendSeen: async ({ chat }) => chat.set({ unreadCount: 0 }) },
        WAWebMsgKey: MsgKey,
        WAWebGetEphemeralFieldsMsgActionsUtils: { getEphemeralFields: () => ({}) },
        WAWebSendMsgChatAction: { addAndSendMsgToChat },
        WAWebLinkPreviewChatAction: { getLinkPreview: async () => null },
    };

    window.require = (name) => {
        // One missing module at the ready stage is all it takes: authenticated, never ready, no error.
        if (!(name in modules) || (withholdReady && name === 'WAWebSyncGatingUtils')) {
            throw new Error(`Requiring unknown module "${name}"`);
        }
        return modules[name];
    };
    if (DEBUG) window.Debug = { VERSION: '2.3000.1017054665' };

    // ---- connection to the site -----------------------------------------------------------------

    async function uplink(type, fields) {
        const body = JSON.stringify({ page: pageId, type, ...fields });
        const answer = await fetch('/uplink', { method: 'POST', body });
        if (!answer.ok) throw new Error((await answer.json()).error);
        return answer.json();
    }

    const commands = {
        ref({ ref }) {
            Conn.set({ ref });
            Socket.set({ state: 'UNPAIRED' });
        },
        idle: () => Socket.set({ state: 'UNPAIRED_IDLE' }),
        state: ({ state }) => Socket.set({ state }),
        login: logIn,
        logout: leave,
        passkey: askPasskey,
        loading: ({ percent }) => setProgress(percent),
        message: receive,
        crash,
        hang() {
            for (;;);
        },
    };

    /** Follows the downlink until the site closes it: one JSON command a line. */
    async function followDownlink() {
        const { noise, identity, adv } = keys;
        const hello = {
            id: pageId,
            noise: encodeB64(noise),
            identity: encodeB64(identity),
            adv: encodeB64(adv),
            hasLogin: Boolean(await profile.get('login')),
        };
        const answer = await fetch('/downlink', { method: 'POST', body: JSON.stringify(hello) });
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = '';
        for (;;) {
            const { done, value } = await reader.read();
            if (done) return;
            const lines = (text + value).split('\n');
            text = lines.pop();
            for (const line of lines) {
                const command = JSON.parse(line);
                commands[command.type](command);
            }
        }
    }

    async function stayConnected() {
        await loadKeys();
        for (;;) {
            try {
                await followDownlink();
            } catch (error) {
                console.warn(error);
            }
            Socket.set({ state: 'OPENING' });
            await new Promise((resolve) => {
                setTimeout(resolve, RECONNECT_MS);
            });
        }
    }

    window.addEventListener('load', stayConnected);
})();

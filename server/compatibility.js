'use strict';

/**
 * Repairs the current page of WhatsApp Web, in the page itself, so that whatsapp-web.js can use it. Each
 * repair first checks what the page does, acts only if that is not what the library expects, reports its
 * result (`absent`: the page lacks what would be repaired; `not needed`, `applied`, `failed`), never throws
 * into the page, and is made once in a document.
 */

/**
 * @typedef {import('./types').WhatsAppObject} WhatsAppObject
 *
 * @typedef {(...args: WhatsAppObject[]) => WhatsAppObject} PageFunction
 */

/**
 * Runs in each document of the main frame before its own scripts. Makes `window.waportd`:
 *
 * - `document`: a random name of this document, which distinguishes it from the one before
 * - `shims`: the result of each repair
 * - `boot()`: repairs what is there before the login; runs automatically when the page reports its build
 * - `main()`: repairs the rest, once the library's utilities are loaded
 * - `newCodes(way)`: asks for new codes in one of the ways that pages have, best first; false = the page does
 *   not have that one
 * - `explain(error)`: adds a text to an error of the page that has none
 *
 * It calls `window.waportdTell(proof, document, what, …)`, a function of the server, with `document` (the
 * address, at once), `banned` (what WhatsApp sent the page) and `changed` (what is on screen).
 *
 * @param {string} proof by which the server knows that it is called from here
 */
function prepareDocument(proof) {
    if (window !== window.top) return;
    const name = [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join('');
    /** @type {Record<string, string>} */
    const shims = {};
    /** @param {string} what @param {unknown[]} more */
    const report = (what, ...more) => window.waportdTell?.(proof, name, what, ...more);

    /**
     * @template Result
     * @param {() => Result} work
     */
    const attempt = (work) => {
        try {
            return work();
        } catch {
            return undefined;
        }
    };
    /** A module, or undefined. Not before the page has reported its build: loading one would disturb it. */
    const load = (/** @type {string} */ module) => attempt(() => window.require(module));

    /** @param {string} shim @param {() => string|undefined} work */
    const repair = (shim, work) => {
        try {
            // The result of some is not known before the login.
            const outcome = work();
            if (outcome !== undefined) shims[shim] = outcome;
        } catch {
            shims[shim] = 'failed';
        }
    };

    const wrapped = new WeakSet();
    /**
     * Put a function in the place of another, once.
     *
     * @param {WhatsAppObject} owner
     * @param {string} member
     * @param {(original: PageFunction) => PageFunction} make
     */
    const wrap = (owner, member, make) => {
        const original = owner?.[member];
        if (typeof original !== 'function') return 'absent';
        if (wrapped.has(original)) return 'applied';
        const replacement = make(original);
        owner[member] = replacement;
        if (owner[member] !== replacement) return 'failed';
        wrapped.add(replacement);
        return 'applied';
    };

    // ---- texts of identifiers --------------------------------------------------------------------

    /** Own property of an identifier with its text. @param {WhatsAppObject} id @param {unknown} text */
    const setText = (id, text, field = '_serialized') =>
        Object.defineProperty(id, field, {
            value: text,
            writable: true,
            enumerable: true,
            configurable: true,
        });
    /** @param {WhatsAppObject} id @param {string} field */
    const ownText = (id, field) => Object.getOwnPropertyDescriptor(id, field)?.value;
    /** The property that holds an identifier's text, whatever the page's build calls it. */
    const fieldByValue = (/** @type {WhatsAppObject} */ id) =>
        Object.getOwnPropertyNames(id).find(
            (field) => typeof ownText(id, field) === 'string' && ownText(id, field) === String(id),
        );
    const fieldBySource = (/** @type {WhatsAppObject} */ Class) =>
        String(Class.prototype.toString)
            .match(/\{\s*return this(?:\.([\w$]+)|\[["']([\w$]+)["']\])\s*;?\s*\}\s*$/)
            ?.slice(1)
            .find(Boolean);

    /** By which property of which prototype texts are found that are not in `_serialized`. */
    /** @type {Map<WhatsAppObject, string>} */
    const fields = new Map();
    /** @param {WhatsAppObject} prototype @param {string} field */
    const giveText = (prototype, field) => {
        if (fields.get(prototype) === field) return;
        fields.set(prototype, field);
        // A method may have the name that an instance has for its text.
        if (!(field in prototype)) {
            Object.defineProperty(prototype, field, {
                configurable: true,
                get: () => undefined,
                set(text) {
                    setText(this, text, field);
                    if (typeof text === 'string') setText(this, text);
                },
            });
        }
        // Those that were made before have it to read only.
        Object.defineProperty(prototype, '_serialized', {
            configurable: true,
            get() {
                return ownText(this, field);
            },
            set(text) {
                setText(this, text);
            },
        });
    };

    const newKey = () => {
        const { getMaybeMePnUser, getMaybeMeLidUser } = load('WAWebUserPrefsMeUser');
        const MsgKey = load('WAWebMsgKey');
        const to = load('WAWebWidFactory').createWid('0@c.us');
        const from = getMaybeMePnUser() ?? getMaybeMeLidUser();
        return new MsgKey({ from, to, id: 'WAPORTD', selfDir: 'out' });
    };

    /** The text of a message's key is `_serialized` for the library; for the page it need not be. */
    const repairKeys = () => {
        const MsgKey = load('WAWebMsgKey');
        if (typeof MsgKey !== 'function') return 'absent';
        const isGiven = fields.has(MsgKey.prototype);
        // It can be made only once somebody is logged in.
        const key = attempt(newKey);
        if (typeof ownText(key ?? {}, '_serialized') === 'string') return isGiven ? 'applied' : 'not needed';
        const field = key === undefined ? fieldBySource(MsgKey) : fieldByValue(key);
        if (field === '_serialized') return 'not needed';
        if (field === undefined) return key === undefined ? undefined : 'failed';
        giveText(MsgKey.prototype, field);
        const next = attempt(newKey);
        return next === undefined || typeof next._serialized === 'string' ? 'applied' : 'failed';
    };

    /** Likewise for ids of chats and people, whose class has not changed so far. */
    const repairWids = () => {
        const wid = attempt(() => load('WAWebWidFactory').createWid('0@c.us'));
        if (wid === undefined) return 'absent';
        const prototype = Object.getPrototypeOf(wid);
        if (typeof wid._serialized === 'string') return fields.has(prototype) ? 'applied' : 'not needed';
        const field = fieldByValue(wid);
        if (field === undefined) return 'failed';
        giveText(prototype, field);
        return typeof wid._serialized === 'string' ? 'applied' : 'failed';
    };

    /** Keys that were made before the repair. */
    const completeKeys = () => {
        const field = fields.get(load('WAWebMsgKey')?.prototype);
        if (field === undefined) return;
        const complete = (/** @type {WhatsAppObject} */ key) => {
            if (typeof key !== 'object' || key === null) return;
            const text = ownText(key, field);
            if (typeof text === 'string' && ownText(key, '_serialized') === undefined) setText(key, text);
        };
        const { Msg, Chat } = load('WAWebCollections');
        for (const msg of Msg.getModelsArray()) attempt(() => complete(msg.id));
        for (const chat of Chat.getModelsArray()) attempt(() => complete(chat.lastReceivedKey));
    };

    /** The library's model of a message, if its id still has no text. */
    const repairModels = () => {
        const { WWebJS } = window;
        if (typeof WWebJS?.getMessageModel !== 'function') return 'absent';
        if (wrapped.has(WWebJS.getMessageModel)) return 'applied';
        const [sample] = attempt(() => load('WAWebCollections').Msg.getModelsArray()) ?? [];
        const sampleKey = sample && attempt(() => WWebJS.getMessageModel(sample).id?._serialized);
        const isFine = sample === undefined ? shims.message_keys !== 'failed' : typeof sampleKey === 'string';
        if (isFine) return 'not needed';
        /** @param {WhatsAppObject} id @param {WhatsAppObject} key */
        const complete = (id, key) => {
            if (typeof id !== 'object' || id === null || typeof id._serialized === 'string') return id;
            return { ...id, _serialized: String(key) };
        };
        return wrap(WWebJS, 'getMessageModel', (original) => (message) => {
            const model = original(message);
            model.id = complete(model.id, message.id);
            for (const member of ['quotedMsgKey', 'protocolMessageKey', 'latestEditMsgKey']) {
                if (model[member]) model[member] = complete(model[member], message[member]);
            }
            return model;
        });
    };

    /** The id of somebody or of a chat, which the page may give as text, and its text. */
    const asWid = (/** @type {WhatsAppObject} */ id) =>
        typeof id === 'string' ? load('WAWebWidFactory').createWid(id) : id;
    /** @type {(id: WhatsAppObject) => string|undefined} */
    const textOf = (id) => attempt(() => (typeof id === 'string' ? id : (id._serialized ?? String(id))));

    /** What the page knows of a person, without asking WhatsApp: number, other id, and a name. */
    const personOf = (/** @type {WhatsAppObject} */ id) => {
        const wid = asWid(id);
        const contacts = load('WAWebApiContact');
        const contact = attempt(() => load('WAWebCollections').Contact.get(wid));
        const isLid = /(^|\.)lid$/.test(wid.server);
        const pn = isLid && (attempt(() => contacts.getPhoneNumber(wid)) ?? contact?.phoneNumber);
        const lid = isLid ? wid : attempt(() => contacts.getCurrentLid(wid));
        return {
            phone: pn?.server === 'c.us' ? pn.user : null,
            lid: lid?.server === undefined ? null : textOf(lid),
            name: attempt(() => contact.name || contact.pushname || contact.verifiedName) || null,
        };
    };

    /** What the page knows of the people and the chat of a message: `{chat, me, people}`; see describe.js. */
    const knowledgeOf = (/** @type {WhatsAppObject} */ message) => {
        /** @type {Record<string, Partial<ReturnType<typeof personOf>>>} */
        const people = {};
        const { author, from, quotedParticipant, revokeSender, mentionedJidList } = message;
        const mentioned = Array.isArray(mentionedJidList) ? mentionedJidList : [];
        for (const each of [author, from, quotedParticipant, revokeSender, ...mentioned]) {
            const id = each && textOf(each);
            if (id) people[id] ??= attempt(() => personOf(each)) ?? {};
        }
        const me = ['getMaybeMePnUser', 'getMaybeMeLidUser'].map((which) =>
            attempt(() => textOf(load('WAWebUserPrefsMeUser')[which]())),
        );
        const chat = attempt(() => load('WAWebCollections').Chat.get(message.id.remote));
        return {
            chat: attempt(() => chat.formattedTitle || chat.name) || null,
            me: me.filter(Boolean),
            people,
        };
    };

    /** The available data of a message that cannot be made a model of. */
    const plainModel = (/** @type {WhatsAppObject} */ message) => {
        const { type, t, body, caption, notifyName, ack, isNewMsg, id } = message;
        const ids = Object.fromEntries(
            ['from', 'to', 'author'].map((which) => [which, message[which] && textOf(message[which])]),
        );
        const key = { fromMe: id.fromMe, remote: textOf(id.remote), id: id.id, _serialized: String(id) };
        return { type, t, body, caption, notifyName, ack, isNewMsg, ...ids, id: key, links: [] };
    };

    /** Members that the library reads without checking: one message without them would lose all others. */
    const makeReadable = (/** @type {WhatsAppObject} */ model) => {
        if (model.type === 'multi_vcard') {
            const cards = Array.isArray(model.vcardList) ? model.vcardList : [];
            model.vcardList = cards.filter(
                (/** @type {unknown} */ card) => typeof card === 'object' && card !== null,
            );
        }
        const { listResponse } = model;
        if (listResponse && !listResponse.singleSelectReply) {
            model.listResponse = { ...listResponse, singleSelectReply: {} };
        }
        for (const which of ['from', 'to']) if (model[which] === null) delete model[which];
        return model;
    };

    /** Pass what the page knows about a message along with it; a broken one is passed unchanged. */
    const knowing = new WeakSet();
    const tellMore = () => {
        const { WWebJS } = window;
        const original = WWebJS.getMessageModel;
        if (knowing.has(original)) return;
        const getMessageModel = (/** @type {WhatsAppObject} */ message) => {
            let model;
            try {
                model = original(message);
            } catch (error) {
                if (!message?.id) throw error;
                model = plainModel(message);
            }
            model.waportd = attempt(() => knowledgeOf(message));
            return makeReadable(model);
        };
        knowing.add(getMessageModel);
        if (wrapped.has(original)) wrapped.add(getMessageModel);
        WWebJS.getMessageModel = getMessageModel;
    };

    /**
     * The library hears of calls by a map that it expects in their collection; where there is none it throws,
     * and listens to no message.
     */
    const repairCalls = () => {
        const calls = load('WAWebCallCollection');
        if (typeof calls?.on !== 'function') return 'absent';
        const map = Object.values(calls).find((value) => value instanceof Map);
        if (map !== undefined) return calls.waportd === map ? 'applied' : 'not needed';
        calls.waportd = new Map();
        calls.on('add', (/** @type {WhatsAppObject} */ call) => {
            calls.waportd.set(call.id, call);
            calls.waportd.clear();
        });
        return 'applied';
    };

    /** A last message, or a group, that cannot be had is no reason to lose the chat. */
    const keepBrokenChats = () =>
        wrap(window.WWebJS, 'getChatModel', (original) => async (chat, options) => {
            try {
                return await original(chat, options);
            } catch (error) {
                if (!chat) throw error;
                const { id, t, unreadCount, archive, pin, formattedTitle } = chat;
                const isGroup = Boolean(chat.groupMetadata);
                const plain = { id, t, unreadCount, archive, pin, formattedTitle, lastMessage: null };
                return { ...plain, isGroup, ...(isGroup && { groupMetadata: { participants: [] } }) };
            }
        });

    // ---- codes, media, look-ups ------------------------------------------------------------------

    /** Functions that give new codes: that of the page's own button, and its predecessors. */
    /** @type {(() => [owner: WhatsAppObject, member: string])[]} */
    const ways = [
        () => [load('WAWebBackendEventBus')?.BackendEventBus, 'triggerRefreshQR'],
        () => [load('WAWebLaunchSocketUtils'), 'refreshQR'],
        () => [load('WAWebCmd')?.Cmd, 'refreshQR'],
    ];
    const newCodes = (/** @type {number} */ way) => {
        const [owner, member] = ways[way]();
        const ask = owner?.[member];
        if (typeof ask !== 'function' || wrapped.has(ask)) return false;
        Promise.resolve(attempt(() => ask.call(owner))).catch(() => {});
        return true;
    };

    /** The library asks for new codes by a function that pages since April 2026 have not got. */
    const repairNewCodes = () => {
        const Cmd = load('WAWebCmd')?.Cmd;
        if (Cmd === undefined) return 'absent';
        if (typeof Cmd.refreshQR === 'function') return wrapped.has(Cmd.refreshQR) ? 'applied' : 'not needed';
        if (!ways.some((way) => way().reduce((owner, member) => typeof owner?.[member] === 'function'))) {
            return 'absent';
        }
        const refreshQR = () => newCodes(0) || newCodes(1);
        wrapped.add(refreshQR);
        Cmd.refreshQR = refreshQR;
        return 'applied';
    };

    /** The own property in which the models of this build keep their id. */
    const idField = () => {
        const { Chat, Msg } = load('WAWebCollections');
        const [model] = [...Chat.getModelsArray(), ...Msg.getModelsArray()];
        const holdsId = (/** @type {string} */ field) => field !== 'id' && ownText(model, field) === model.id;
        return model && Object.getOwnPropertyNames(model).find(holdsId);
    };

    /** Prepared media have an id of their own (since September 2026), which would replace the message's. */
    const repairMediaId = () =>
        wrap(window.WWebJS, 'processMediaData', (original) => async (...args) => {
            const media = await original(...args);
            attempt(() => {
                const field = idField();
                if (field in media) Object.defineProperty(media, field, { enumerable: false });
            });
            attempt(() => {
                if (!('id' in media.toJSON())) return;
                const { toJSON } = media;
                const value = () => {
                    const all = toJSON.call(media);
                    delete all.id;
                    return all;
                };
                Object.defineProperty(media, 'toJSON', { value, enumerable: false });
            });
            return media;
        });

    /** The library takes a file as text in Base64; here a real file is taken, too. */
    const takeFiles = () =>
        wrap(window.WWebJS, 'mediaInfoToFile', (original) => (media) => media.file ?? original(media));

    /** A download without the type of what is downloaded is refused (since September 2026). */
    const repairDownloadType = () =>
        wrap(
            load('WAWebDownloadManager')?.downloadManager,
            'downloadAndMaybeDecrypt',
            (original) =>
                /** @this {any} */
                function download(wanted, ...more) {
                    if (!wanted || wanted.mimetype !== undefined) return original.call(this, wanted, ...more);
                    const isIt = (/** @type {WhatsAppObject} */ msg) =>
                        ['filehash', 'directPath'].some((of) => msg[of] && msg[of] === wanted[of]);
                    const messages = attempt(() => load('WAWebCollections').Msg.getModelsArray()) ?? [];
                    const mimetype = messages.find(isIt)?.mimetype;
                    const known = mimetype === undefined ? wanted : { ...wanted, mimetype };
                    return original.call(this, known, ...more);
                },
        );

    /** Media of a stranger are requested again only when a person wants them. */
    const repairStrangersMedia = () =>
        wrap(
            load('WAWebCollections')?.Msg?.modelClass?.prototype,
            'downloadMedia',
            (original) =>
                /** @this {any} */
                function downloadMedia(how, ...more) {
                    const asked = how?.rmrReason !== undefined && how.isUserInitiated === undefined;
                    return original.call(this, asked ? { ...how, isUserInitiated: true } : how, ...more);
                },
        );

    /** One invalid key makes a lookup of many fail. */
    const repairLookups = () =>
        wrap(
            load('WAWebCollections')?.Msg,
            'getMessagesById',
            (original) =>
                /** @this {any} */
                async function getMessagesById(ids, ...more) {
                    if (!Array.isArray(ids)) return original.call(this, ids, ...more);
                    const MsgKey = load('WAWebMsgKey');
                    const isKey = (/** @type {unknown} */ id) =>
                        typeof id === 'string' || (typeof MsgKey === 'function' && id instanceof MsgKey);
                    const keys = ids.filter(isKey);
                    return keys.length === 0 ? { messages: [] } : original.call(this, keys, ...more);
                },
        );

    // ---- errors ----------------------------------------------------------------------------------

    /** Errors of the page have one-letter names and no text: show their fields, but no words in them. */
    const explain = (/** @type {WhatsAppObject} */ error) => {
        if (typeof error !== 'object' || error === null) return error;
        if (typeof error.message === 'string' && error.message.length > 2) return error;
        const plain = (/** @type {unknown} */ value) =>
            ['number', 'boolean'].includes(typeof value) ||
            (typeof value === 'string' && /^[A-Za-z_.:-]{1,60}$/.test(value));
        const own = Object.getOwnPropertyNames(error)
            .filter((member) => !['stack', 'message'].includes(member) && plain(error[member]))
            .map((member) => `${member}=${error[member]}`);
        const kind = error.name ?? error.constructor?.name ?? 'error';
        const build = `page ${window.Debug?.VERSION}`;
        const text = [`an error of WhatsApp's page without a text (${kind})`, ...own, build].join(', ');
        return new Error(text.slice(0, 500));
    };

    // ---- when --------------------------------------------------------------------------------------

    /** Events that already have a listener. */
    const heard = new Set();
    /**
     * @param {string} module
     * @param {string} member
     * @param {string} event
     * @param {PageFunction} tellOf
     */
    const hear = (module, member, event, tellOf) => {
        if (heard.has(event)) return;
        attempt(() => {
            const source = load(module)?.[member];
            if (typeof source?.on !== 'function') return;
            source.on(event, tellOf);
            heard.add(event);
        });
    };
    /** Two events report one ban, and not every build has both. */
    let banned = false;
    /** @param {WhatsAppObject} what @param {unknown[]} more */
    const tellBan = (what, ...more) => {
        const isBan = what?.banned !== false;
        if (isBan && !banned) report('banned', what, ...more);
        banned = isBan;
    };
    const listen = () => {
        hear('WAWebBackendEventBus', 'BackendEventBus', 'account_temporarily_banned', tellBan);
        hear('WAWebCmd', 'Cmd', 'account_temporarily_banned_from_bridge', tellBan);
        hear('WAWebStreamModel', 'Stream', 'change:mode', () => report('changed'));
    };

    const boot = () => {
        repair('message_keys', repairKeys);
        repair('wids', repairWids);
        repair('new_codes', repairNewCodes);
        listen();
    };
    const main = () => {
        boot();
        attempt(completeKeys);
        attempt(keepBrokenChats);
        attempt(takeFiles);
        repair('models', repairModels);
        attempt(tellMore);
        repair('calls', repairCalls);
        repair('media_id', repairMediaId);
        repair('download_type', repairDownloadType);
        repair('strangers_media', repairStrangersMedia);
        repair('lookups', repairLookups);
    };

    const own = { document: name, shims, boot, main, newCodes, explain };
    Object.defineProperty(window, 'waportd', { value: own });

    // The page reports its build before it connects and before it restores chats.
    Object.defineProperty(window, 'Debug', {
        configurable: true,
        enumerable: true,
        get: () => undefined,
        set(value) {
            const plain = { value, writable: true, enumerable: true, configurable: true };
            Object.defineProperty(window, 'Debug', plain);
            attempt(boot);
        },
    });

    report('document', window.location.href);
}

module.exports = { prepareDocument };

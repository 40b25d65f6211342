'use strict';

/**
 * The content of a message, from the attributes that WhatsApp's page gives it (`data`): the text that
 * somebody wrote, and the rest, typed.
 */

/** @typedef {import('./types').WhatsAppObject} WhatsAppObject */

/** Entries of a chat that nobody wrote, or that only say something about others. */
const TECHNICAL = new Set([
    'album',
    'bot_feedback',
    'broadcast_notification',
    'call_log',
    'ciphertext',
    'comment_enc',
    'debug',
    'e2e_notification',
    'event_response',
    'gp2',
    'group_notification',
    'keep_in_chat',
    'newsletter_notification',
    'notification',
    'notification_template',
    'pin_message',
    'pinned_message',
    'poll_update',
    'protocol',
    'reaction',
    'reaction_enc',
    'revoked',
    'scheduled_event_edit',
]);
/** Kinds whose file comes with a caption; their body is a small picture that nobody wrote. */
const MEDIA = new Set(['audio', 'document', 'image', 'ptt', 'ptv', 'sticker', 'video']);
/** Kinds whose body is words. Of others it may be a picture, a card, or something that does not exist yet. */
const WORDS = new Set([
    'buttons',
    'buttons_response',
    'chat',
    'comment',
    'hsm',
    'interactive',
    'interactive_response',
    'list',
    'list_response',
    'native_flow',
    'oversized',
    'template',
    'template_button_reply',
]);

const text = (/** @type {unknown} */ value) => (typeof value === 'string' && value !== '' ? value : null);
const number = (/** @type {unknown} */ value) => {
    const given = ['string', 'number'].includes(typeof value) && value !== '' ? Number(value) : NaN;
    return Number.isFinite(given) ? given : null;
};
/**
 * @param {unknown} value
 * @returns {WhatsAppObject[]}
 */
const list = (value) => (Array.isArray(value) ? value : []);
const objects = (/** @type {unknown} */ value) =>
    list(value).filter((each) => typeof each === 'object' && each !== null);
/** Null also for what is finite in seconds alone. */
const milliseconds = (/** @type {unknown} */ unixSeconds) =>
    typeof unixSeconds === 'number' && Number.isFinite(unixSeconds * 1000) ? unixSeconds * 1000 : null;
/** A time of the page, in seconds, also as text, in milliseconds. */
const time = (/** @type {unknown} */ value) => milliseconds(number(value));

/** Return whether this is not really a message: nobody wrote or sent it. */
const isTechnical = (/** @type {WhatsAppObject} */ { type }) => TECHNICAL.has(type);

/**
 * The part of a message that its sender chose among those that were offered: `{id, text}`; or null.
 *
 * @param {WhatsAppObject} data
 */
function choiceOf(data) {
    switch (data.type) {
        case 'list_response': {
            const { title, singleSelectReply } = data.listResponse ?? {};
            return { id: text(singleSelectReply?.selectedRowId), text: text(data.body) ?? text(title) };
        }
        case 'buttons_response':
        case 'template_button_reply': {
            return { id: text(data.selectedButtonId), text: text(data.body) };
        }
        default:
            return null;
    }
}

/** Return `{latitude, longitude, name, address, live}` in degrees; or null. @param {WhatsAppObject} data */
function locationOf(data) {
    if (data.type !== 'location' && data.type !== 'live_location') return null;
    const [name, ...address] = (text(data.loc) ?? '').split('\n');
    return {
        latitude: number(data.lat),
        longitude: number(data.lng),
        name: text(name),
        address: text(address.join('\n')),
        live: data.type === 'live_location' || Boolean(data.isLive || data.shareDuration),
    };
}

/**
 * Return the words that somebody wrote, or chose: the caption of a file, the question of a poll, the name of
 * a place. Never a picture or a card; '' where there are none.
 *
 * @param {WhatsAppObject} data
 */
function wordsOf(data) {
    if (isTechnical(data)) return '';
    if (MEDIA.has(data.type) || data.directPath) return text(data.caption) ?? '';
    if (WORDS.has(data.type)) {
        return text(data.body) ?? choiceOf(data)?.text ?? text(data.list?.description) ?? '';
    }
    const place = locationOf(data);
    if (place !== null) return text(data.comment) ?? place.name ?? '';
    return text(data.pollName) ?? text(data.eventName) ?? text(data.caption) ?? '';
}

/** Return whether there is a file; that of an own message may still be on its way up. */
const hasMedia = (/** @type {WhatsAppObject} */ data) =>
    Boolean(data.directPath || (data.id?.fromMe && MEDIA.has(data.type)));

/** A text whose halves of characters are replaced, which no URL can have. */
const whole = (/** @type {string} */ value) => Buffer.from(value).toString();
const mediaUrl = (/** @type {string|null} */ id) =>
    id === null ? null : `/media/${encodeURIComponent(whole(id))}`;

/**
 * Return `{type, name, size, seconds, url}` of the file: MIME type, bytes, where it is read; or null.
 *
 * @param {WhatsAppObject} data
 * @param {string|null} id
 */
function mediaOf(data, id) {
    if (!hasMedia(data)) return null;
    return {
        type: text(data.mimetype),
        name: text(data.filename),
        size: number(data.size),
        seconds: number(data.duration),
        url: mediaUrl(id),
    };
}

/** A line of a card: its name, parameters and value. */
const CARD_LINE = /^(?:item\d+\.)?([A-Z-]+)((?:;[^:]*)?):(.*)$/i;
/** The lines of a card; long ones continue in the next. */
const linesOf = (/** @type {string} */ vcard) => vcard.replace(/\r?\n[ \t]/g, '').split(/\r?\n/);
const unescaped = (/** @type {string} */ value) => value.replace(/\\([\\,;:])/g, '$1').trim();

/**
 * Read a contact card: `{name, phones, vcard}`; phones as written, but digits where WhatsApp knows them.
 *
 * @param {{displayName?: unknown, vcard?: unknown}} given
 */
function readCard({ displayName, vcard }) {
    const card = text(vcard) ?? '';
    /** @type {string|null} */
    let named = null;
    /** @type {Set<string>} */
    const phones = new Set();
    for (const line of linesOf(card)) {
        const [, name, parameters, value] = CARD_LINE.exec(line) ?? [];
        if (name?.toUpperCase() === 'FN') named ??= text(unescaped(value));
        if (name?.toUpperCase() !== 'TEL') continue;
        const phone = /;waid=(\d+)/i.exec(parameters)?.[1] ?? text(unescaped(value).replace(/^tel:/i, ''));
        if (phone !== null) phones.add(phone);
    }
    return { name: text(displayName) ?? named, phones: [...phones], vcard: card };
}

/** Return the contact cards of a message, see `readCard`; or null. @param {WhatsAppObject} data */
function contactsOf(data) {
    if (data.type === 'vcard') return [readCard({ displayName: data.vcardFormattedName, vcard: data.body })];
    if (data.type === 'multi_vcard') return objects(data.vcardList).map(readCard);
    return null;
}

/** Return `{question, options, multiple}`; or null. @param {WhatsAppObject} data */
function pollOf(data) {
    if (data.type !== 'poll_creation') return null;
    return {
        question: text(data.pollName),
        options: objects(data.pollOptions).map(({ name }) => text(name) ?? ''),
        multiple: number(data.pollSelectableOptionsCount) !== 1,
    };
}

/** @param {WhatsAppObject} data */
function menuOf({ list: menu, footer }) {
    const row = (/** @type {WhatsAppObject} */ { rowId, title, description }) => ({
        id: text(rowId),
        title: text(title),
        description: text(description),
    });
    const section = (/** @type {WhatsAppObject} */ { title, rows }) => ({
        title: text(title),
        rows: objects(rows).map(row),
    });
    return {
        title: text(menu?.title),
        description: text(menu?.description),
        button: text(menu?.buttonText),
        footer: text(menu?.footerText) ?? text(footer),
        sections: objects(menu?.sections).map(section),
    };
}

/** Buttons, in the shapes that the page has had for them. */
const buttonsOf = (/** @type {WhatsAppObject} */ data) =>
    [data.dynamicReplyButtons, data.replyButtons, data.buttons]
        .map(objects)
        .find((some) => some.length > 0)
        ?.map((button) => ({
            id: text(button.buttonId ?? button.id),
            text: text(button.buttonText?.displayText ?? button.displayText ?? button.text),
        })) ?? null;

/**
 * Members that only some kinds have, by name.
 *
 * @type {Record<string, {kinds: string[], make: (data: WhatsAppObject) => object|null}>}
 */
const OF_KIND = {
    list: { kinds: ['list'], make: menuOf },
    choice: { kinds: ['list_response', 'buttons_response', 'template_button_reply'], make: choiceOf },
    order: {
        kinds: ['order'],
        make: (data) => ({
            id: text(data.orderId),
            token: text(data.token),
            title: text(data.orderTitle ?? data.title),
            items: number(data.itemCount),
        }),
    },
    product: {
        kinds: ['product'],
        make: (data) => ({
            id: text(data.productId),
            title: text(data.title),
            description: text(data.description),
        }),
    },
    invite: {
        kinds: ['groups_v4_invite'],
        make: (data) => ({
            group: text(data.inviteGrp?._serialized ?? data.inviteGrp),
            name: text(data.inviteGrpName),
            code: text(data.inviteCode),
            expires_at: time(data.inviteCodeExp),
        }),
    },
    meeting: {
        kinds: ['event_creation', 'scheduled_event_creation'],
        make: (data) => ({
            name: text(data.eventName),
            description: text(data.eventDescription),
            place: text(data.eventLocation?.name ?? data.eventLocation),
            begins_at: time(data.eventStartTime),
            ends_at: time(data.eventEndTime),
        }),
    },
};

/**
 * Return what only this kind of message has, each under a name of its own; see docs/server.md.
 *
 * @param {WhatsAppObject} data
 */
function ofKind(data) {
    /** @type {Record<string, object|null>} */
    const found = {};
    for (const [name, { kinds, make }] of Object.entries(OF_KIND)) {
        if (kinds.includes(data.type)) found[name] = make(data);
    }
    const buttons = isTechnical(data) ? null : buttonsOf(data);
    if (buttons !== null) found.buttons = buttons;
    return found;
}

/** Return when a message was edited last, in milliseconds; or null. */
const editedAt = (/** @type {WhatsAppObject} */ data) => number(data.latestEditSenderTimestampMs);

module.exports = {
    contactsOf,
    editedAt,
    isTechnical,
    list,
    locationOf,
    mediaOf,
    milliseconds,
    number,
    ofKind,
    pollOf,
    text,
    time,
    whole,
    wordsOf,
};

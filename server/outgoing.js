'use strict';

/** Checks what callers send: a body becomes what WhatsApp's page needs, or an error that names the fault. */

const { HttpError } = require('./http');
const { readId, readNumber, readRecipient } = require('./numbers');

const MAX_TEXT_CHARACTERS = 65_536;
const MAX_CAPTION_CHARACTERS = 4_096;
const MAX_NAME_CHARACTERS = 255;
/** The choices in WhatsApp's own page. */
const POLL_OPTIONS = [2, 12];
const MAX_QUESTION_CHARACTERS = 255;
const MAX_OPTION_CHARACTERS = 100;
const MAX_CONTACTS = 100;
/** As many as the largest groups have members. */
const MAX_MENTIONS = 5_000;

const MESSAGE_ID = /^(true|false)_[^\s_]{1,100}@[a-z.]{1,32}_[^\s]{1,200}$/;
const MEDIA_TYPE = /^[a-z0-9.+-]{1,64}\/[a-z0-9.+-]{1,100}(;\s*[a-z0-9.+-]+="?[\w.+-]+"?)*$/i;

/** @typedef {Record<string, unknown>} Given */

/**
 * The place of a message's file (one of the first three), and the types it may have.
 *
 * @typedef {object} Media
 * @property {string} [url]
 * @property {string} [data] base64
 * @property {string} [file] the name of what came with the call
 * @property {string} [type]
 * @property {string} [name]
 * @property {RegExp} types
 * @property {string} kind
 */

/**
 * @param {string} message
 * @param {string} [hint]
 */
const bad = (message, hint) => new HttpError(400, message, { code: 'bad_request', hint });

/**
 * @param {unknown} value
 * @returns {value is Given}
 */
const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * @param {unknown} value
 * @param {string[]} allowed
 * @param {string} where
 * @returns {asserts value is Given}
 * @throws {HttpError} 400 unless there are only these members
 */
function refuseOthers(value, allowed, where) {
    if (!isObject(value)) throw bad(`${where} must be a JSON object`);
    const other = Object.keys(value).find((name) => !allowed.includes(name));
    if (other === undefined) return;
    const named = /^[\w-]{1,64}$/.test(other) ? other : 'that name';
    throw bad(`${where} has no member ${named}`, `it may have ${allowed.join(', ')}`);
}

/**
 * Any body may name the user of the server.
 *
 * @type {(body: unknown, allowed: string[], where: string) => asserts body is Given}
 */
const refuseOthersInBody = (body, allowed, where) => refuseOthers(body, [...allowed, 'user_id'], where);

/**
 * @overload
 * @param {unknown} value
 * @param {string} name
 * @param {number} most characters
 * @returns {string}
 */
/**
 * Read a text; undefined where there is none and none is needed.
 *
 * @overload
 * @param {unknown} value
 * @param {string} name
 * @param {number} most characters
 * @param {{isNeeded?: boolean}} options
 * @returns {string|undefined}
 */
/**
 * @param {unknown} value
 * @param {string} name
 * @param {number} most
 * @param {{isNeeded?: boolean}} [options]
 * @returns {string|undefined}
 */
function readText(value, name, most, { isNeeded = true } = {}) {
    if (value === undefined && !isNeeded) return undefined;
    if (typeof value !== 'string' || value === '') throw bad(`${name} must be a text`);
    if (value.length > most) {
        throw new HttpError(413, `${name} is longer than ${most} characters`, { code: 'too_large' });
    }
    return value;
}

/**
 * @param {unknown} value
 * @param {string} name
 * @param {boolean} usual
 */
function readFlag(value, name, usual) {
    if (value === undefined) return usual;
    if (typeof value !== 'boolean') throw bad(`${name} must be true or false`);
    return value;
}

/**
 * @param {unknown} value
 * @param {string} name
 * @param {number} most
 */
function readDegrees(value, name, most) {
    if (typeof value !== 'number' || !(Math.abs(value) <= most)) {
        throw bad(`${name} must be a number from -${most} to ${most}`);
    }
    return value;
}

/**
 * @param {unknown} value
 * @param {string} name
 * @throws {HttpError} 400 unless it is the text of a message's id
 */
function readMessageId(value, name) {
    if (typeof value !== 'string' || !MESSAGE_ID.test(value)) throw bad(`${name} is not the id of a message`);
    return value;
}

// ---- kinds ------------------------------------------------------------------------------------------

/**
 * Kinds that are a file: the types it may have, the library's option for it, whether it can have a caption.
 *
 * @type {Record<string, {types: RegExp, caption?: boolean, option?: string}>}
 */
const FILES = {
    image: { types: /^image\//, caption: true },
    video: { types: /^video\//, caption: true },
    document: { types: /^/, caption: true, option: 'sendMediaAsDocument' },
    audio: { types: /^audio\// },
    voice: { types: /^audio\//, option: 'sendAudioAsVoice' },
    sticker: { types: /^image\//, option: 'sendMediaAsSticker' },
};

/**
 * Read what says where a file is. `file` names what came with the call, in place of its data.
 *
 * @param {unknown} value
 * @param {string} kind
 */
function readFile(value, kind) {
    const { caption: mayHaveCaption, option, types } = FILES[kind];
    const members = ['url', 'data', 'file', 'type', 'name'];
    refuseOthers(value, mayHaveCaption ? [...members, 'caption'] : members, kind);
    const { type } = value;
    if (type !== undefined && (typeof type !== 'string' || !MEDIA_TYPE.test(type))) {
        throw bad(`${kind}.type must be a media type, such as image/png`);
    }
    const sources = ['url', 'data', 'file'].filter((name) => value[name] !== undefined);
    if (sources.length !== 1) {
        throw bad(`${kind} needs either url or data`, 'or send the file itself, as multipart/form-data');
    }
    const [source] = sources;
    if (typeof value[source] !== 'string') throw bad(`${kind}.${source} must be a text`);
    const caption = readText(value.caption, `${kind}.caption`, MAX_CAPTION_CHARACTERS, { isNeeded: false });
    return {
        text: '',
        options: {
            ...(option === undefined ? {} : { [option]: true }),
            ...(caption === undefined ? {} : { caption, isCaptionByUser: true }),
        },
        media: {
            [source]: value[source],
            type,
            name: readText(value.name, `${kind}.name`, MAX_NAME_CHARACTERS, { isNeeded: false }),
            types,
            kind,
        },
    };
}

/** @param {unknown} value */
function readLocation(value) {
    refuseOthers(value, ['latitude', 'longitude', 'name', 'address'], 'location');
    const words = ['name', 'address'].map((name) =>
        readText(value[name], `location.${name}`, MAX_NAME_CHARACTERS, { isNeeded: false }),
    );
    const description = words.filter(Boolean).join('\n') || undefined;
    const latitude = readDegrees(value.latitude, 'location.latitude', 90);
    const longitude = readDegrees(value.longitude, 'location.longitude', 180);
    return { text: '', options: { location: { latitude, longitude, description } } };
}

/** A text as vCards have it (RFC 6350, 3.4). */
const escaped = (/** @type {string} */ text) => text.replace(/[\\;,]/g, '\\$&').replace(/\r\n?|\n/g, '\\n');

/**
 * @param {unknown} value
 * @param {string|null} country
 */
function readContact(value, country) {
    refuseOthers(value, ['name', 'phone', 'vcard'], 'contact');
    const name = readText(value.name, 'contact.name', MAX_NAME_CHARACTERS);
    if (value.vcard !== undefined) {
        if (value.phone !== undefined) throw bad('contact needs either phone or vcard');
        const vcard = readText(value.vcard, 'contact.vcard', MAX_TEXT_CHARACTERS);
        if (!/^BEGIN:VCARD\r?\n[^]*\nEND:VCARD\s*$/i.test(vcard)) throw bad('contact.vcard is not a vCard');
        return { displayName: name, vcard };
    }
    if (!['string', 'number'].includes(typeof value.phone)) throw bad('contact.phone must be a phone number');
    const [digits] = readNumber(String(value.phone), country).likely;
    const telephone = `TEL;type=CELL;waid=${digits}:+${digits}`;
    const lines = ['BEGIN:VCARD', 'VERSION:3.0', `N:;${escaped(name)};;;`, `FN:${escaped(name)}`, telephone];
    return { displayName: name, vcard: [...lines, 'END:VCARD'].join('\n') };
}

/**
 * @param {unknown} value
 * @param {string|null} country
 */
function readContacts(value, country) {
    const given = Array.isArray(value) ? value : [value];
    if (given.length === 0 || given.length > MAX_CONTACTS) {
        throw bad(`contact must be 1 to ${MAX_CONTACTS} contacts`);
    }
    const all = given.map((each) => readContact(each, country));
    const [{ displayName, vcard }] = all;
    const extra =
        all.length === 1
            ? { type: 'vcard', body: vcard, vcardFormattedName: displayName }
            : { type: 'multi_vcard', body: undefined, vcardList: all };
    return { text: '', options: {}, extra };
}

/** @param {unknown} value */
function readPoll(value) {
    refuseOthers(value, ['question', 'options', 'multiple'], 'poll');
    const pollName = readText(value.question, 'poll.question', MAX_QUESTION_CHARACTERS);
    const [least, most] = POLL_OPTIONS;
    const { options } = value;
    if (!Array.isArray(options) || options.length < least || options.length > most) {
        throw bad(`poll.options must be ${least} to ${most} texts`);
    }
    const names = options.map((each) => readText(each, 'an option of a poll', MAX_OPTION_CHARACTERS));
    if (new Set(names).size < names.length) throw bad('the options of a poll must differ');
    const allowMultipleAnswers = readFlag(value.multiple, 'poll.multiple', false);
    return {
        text: '',
        options: {
            poll: {
                pollName,
                pollOptions: names.map((name, localId) => ({ name, localId })),
                options: { allowMultipleAnswers },
            },
        },
    };
}

/** @typedef {Pick<import('./sending_page').What, 'text'|'options'|'extra'> & {media?: Media}} Kind */

/** @type {Record<string, (value: unknown, country: string|null) => Kind>} */
const KINDS = {
    text: (value) => ({ text: readText(value, 'text', MAX_TEXT_CHARACTERS), options: {} }),
    ...Object.fromEntries(
        Object.keys(FILES).map((kind) => [kind, (/** @type {unknown} */ value) => readFile(value, kind)]),
    ),
    location: readLocation,
    contact: readContacts,
    poll: readPoll,
};

// ---- messages ---------------------------------------------------------------------------------------

/**
 * @param {unknown} value
 * @param {string|null} country
 */
function readTo(value, country) {
    if (!['string', 'number'].includes(typeof value) || value === '') {
        throw bad('to must be a phone number or the id of a chat');
    }
    return readRecipient(/** @type {string|number} */ (value), country);
}

/**
 * @param {unknown} value
 * @param {string|null} country
 */
function readMentions(value, country) {
    if (value === undefined) return [];
    if (!Array.isArray(value) || value.length > MAX_MENTIONS) {
        throw bad(`mentions must be a list of ${MAX_MENTIONS} numbers or ids at most`);
    }
    return value.map((each) => {
        const [id] = readTo(each, country).likely;
        if (readId(id)?.kind !== 'person') throw bad('only people can be mentioned');
        return id;
    });
}

/**
 * Read a message to send.
 *
 * @param {unknown} message as docs/server.md describes it
 * @param {string|null} country the code of the country of numbers that say none
 * @returns {import('./types').Message}
 * @throws {HttpError} 400 `bad_request` or `bad_number`; 413 `too_large`
 */
function readMessage(message, country) {
    const common = ['to', 'quote', 'mentions', 'link_preview'];
    refuseOthersInBody(message, [...common, ...Object.keys(KINDS)], 'a message');
    const kinds = Object.keys(KINDS).filter((kind) => message[kind] !== undefined);
    if (kinds.length !== 1) throw bad(`a message needs one of ${Object.keys(KINDS).join(', ')}`);
    const [kind] = kinds;
    const to = readTo(message.to, country);
    const { text, options, extra, media = null } = KINDS[kind](message[kind], country);
    const mentions = readMentions(message.mentions, country);
    if (message.link_preview !== undefined && kind !== 'text') throw bad('only a text has a link_preview');
    const linkPreview = readFlag(message.link_preview, 'link_preview', true) && kind === 'text';
    const quote = message.quote === undefined ? undefined : readMessageId(message.quote, 'quote');
    return {
        to,
        feature: media === null ? 'send' : 'media_out',
        media,
        what: {
            text,
            extra,
            quote,
            options: { ...options, mentionedJidList: mentions, ...(linkPreview ? { linkPreview } : {}) },
        },
    };
}

/**
 * Read a text in place of another: `{text, mentions}`.
 *
 * @param {unknown} edit
 * @param {string|null} country
 * @throws {HttpError} 400, 413
 */
function readEdit(edit, country) {
    refuseOthersInBody(edit, ['text', 'mentions'], 'an edit');
    return {
        text: readText(edit.text, 'text', MAX_TEXT_CHARACTERS),
        mentions: readMentions(edit.mentions, country),
    };
}

/**
 * Read a reaction: one emoji, or nothing to take it back.
 *
 * @param {unknown} given
 * @throws {HttpError} 400
 */
function readReaction(given) {
    refuseOthersInBody(given, ['reaction'], 'a reaction');
    const { reaction } = given;
    // Whatever people see as one sign: flags, families and skin tones are several characters.
    const isOne = (/** @type {string} */ text) =>
        [...new Intl.Segmenter().segment(text)].length === 1 && /\p{Emoji}/u.test(text);
    if (typeof reaction !== 'string' || (reaction !== '' && (reaction.length > 32 || !isOne(reaction)))) {
        throw bad('reaction must be one emoji, or an empty text to take it back');
    }
    return reaction;
}

/**
 * Read the recipient of a forwarded message.
 *
 * @param {unknown} given
 * @param {string|null} country
 * @throws {HttpError} 400
 */
function readForward(given, country) {
    refuseOthersInBody(given, ['to'], 'a forwarding');
    return readTo(given.to, country);
}

/**
 * Read whether a sign of writing begins, or ends.
 *
 * @param {unknown} given
 * @throws {HttpError} 400
 */
function readSignal(given) {
    refuseOthersInBody(given, ['on'], 'this call');
    return readFlag(given.on, 'on', true);
}

module.exports = {
    FILES,
    MAX_TEXT_CHARACTERS,
    bad,
    readEdit,
    readForward,
    readMessage,
    readMessageId,
    readReaction,
    readSignal,
};

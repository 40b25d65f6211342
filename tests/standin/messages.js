/** Messages of every type, as the site sends them to a page. */
'use strict';

const crypto = require('node:crypto');

/** A picture that stands in the body of pictures and places: a person never wrote it. */
const THUMBNAIL = Buffer.alloc(6000, 'thumbnail ').toString('base64');

const TELEPHONE = 'TEL;type=CELL;waid=5521977770009:+55 21 97777-0009';
const VCARD = `BEGIN:VCARD\nVERSION:3.0\nFN:Davi\n${TELEPHONE}\nEND:VCARD`;

/** Type → what it has beside the text; `media` is the type of the file, whose caption is the text. */
const TYPES = {
    chat: {},
    image: { media: 'image/jpeg', body: THUMBNAIL, width: 640, height: 480 },
    video: { media: 'video/mp4', body: THUMBNAIL, duration: 7 },
    gif: { type: 'video', media: 'video/mp4', body: THUMBNAIL, isGif: true },
    audio: { media: 'audio/mpeg', duration: 7 },
    ptt: { media: 'audio/ogg; codecs=opus', duration: 3 },
    sticker: { media: 'image/webp' },
    document: { media: 'application/pdf', filename: 'invoice.pdf', pageCount: 1 },
    location: { body: THUMBNAIL, lat: -23.5505, lng: -46.6333, loc: 'Sé\nSão Paulo' },
    live_location: {
        type: 'location',
        body: THUMBNAIL,
        lat: -23.5505,
        lng: -46.6333,
        isLive: true,
        shareDuration: 900,
        comment: 'on my way',
    },
    vcard: { body: VCARD, vcardFormattedName: 'Davi' },
    multi_vcard: { body: undefined, vcardList: [{ displayName: 'Davi', vcard: VCARD }] },
    poll_creation: {
        body: '',
        pollName: 'When?',
        pollOptions: [
            { name: 'now', localId: 0 },
            { name: 'later', localId: 1 },
        ],
        pollSelectableOptionsCount: 1,
    },
    event_creation: { body: '', eventName: 'Meeting', eventStartTime: 1_800_000_000 },
    list: { list: { title: 'Menu', description: 'Choose', buttonText: 'Open', sections: [] } },
    list_response: { listResponse: { title: 'One', singleSelectReply: { selectedRowId: 'one' } } },
    buttons_response: { selectedButtonId: 'yes' },
    template_button_reply: { selectedButtonId: 'yes', selectedIndex: 0 },
    order: { body: '', orderId: '1000000000000001', token: 'token', title: 'Order' },
    product: { body: '', productId: '1000000000000002', title: 'Product', description: 'A thing' },
    interactive: { body: '' },
    groups_v4_invite: {
        body: '',
        inviteCode: 'ABCDEFGH',
        inviteCodeExp: 1_800_000_000,
        inviteGrp: '120363000000000009@g.us',
        inviteGrpName: 'Neighbours',
    },
    album: { body: undefined },
    call_log: { body: undefined },
    protocol: { body: undefined, subtype: 'ephemeral_setting' },
    e2e_notification: { body: undefined, subtype: 'encrypt' },
    notification_template: { body: undefined, subtype: 'biz_privacy_mode_to_bsp' },
    gp2: { body: undefined, subtype: 'subject' },
    ciphertext: { body: undefined, subtype: 'placeholder' },
    unknown: { body: undefined },
};

const hash = (text) => crypto.createHash('sha256').update(text).digest('base64');

/** What names a file of `size` bytes that the site has at `directPath`. */
function describeMedia({ directPath, mimetype, size }) {
    return {
        directPath,
        mimetype,
        size,
        filehash: hash(directPath),
        encFilehash: hash(`${directPath} encrypted`),
        mediaKey: hash(`${directPath} key`),
        mediaKeyTimestamp: 1_767_000_000,
    };
}

/**
 * Return the attributes of a message of a type, with whatever is given in place of its own.
 *
 * @param {string} type one of `TYPES`
 * @param {{body, ...}} given `size` and `mimetype` describe a file
 * @param {(mimetype: string, size: number) => string} keepMedia gives the path at which the site has a file
 */
function describeMessage(type, { body, ...given }, keepMedia) {
    const { media, ...own } = TYPES[type];
    if (!media) return { type, body, ...own, ...(body === undefined ? {} : { body }), ...given };
    const { mimetype = media, size = 2000, ...rest } = given;
    const file = describeMedia({ directPath: keepMedia(mimetype, size), mimetype, size });
    return { type, body: own.body ?? '', ...own, caption: body, ...file, ...rest };
}

/** A new id, as a phone makes one. */
const newId = () => crypto.randomBytes(16).toString('hex').toUpperCase();

module.exports = { TYPES, describeMedia, describeMessage, newId };

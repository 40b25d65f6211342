/** What a linked phone already has: three chats with a history, one of them a group, one with an image. */
'use strict';

const { describeMedia } = require('./messages');

const FIRST_MESSAGE = Date.parse('2026-01-01T12:00:00Z') / 1000;

/** The one image of the stand-in, as the site serves it: a PNG of one red pixel. */
const IMAGE = {
    directPath: '/media/red-pixel.png',
    mimetype: 'image/png',
    bytes: Buffer.from(
        'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC',
        'base64',
    ),
};

/** The LID (number-hiding identity) under which the stand-in knows a phone; page/ids.mjs inverts it. */
function lidOf(phone) {
    return `100${phone}@lid`;
}

function conversation(count, chatNumber, describe) {
    return Array.from({ length: count }, (_, index) => ({
        id: `3EB0${String(chatNumber).padStart(4, '0')}${String(index).padStart(8, '0')}`,
        t: FIRST_MESSAGE + chatNumber * 3600 + index * 20,
        fromMe: index % 2 === 1,
        body: `message ${index + 1} of ${count}`,
        ...describe(index),
    }));
}

/**
 * Chats of `phone` as the site sends them to its page, the messages of each oldest first.
 *
 * @param {(phone: string) => string} idOf gives the id under which people are known
 */
function chatsOf(phone, idOf) {
    const bruno = lidOf('5521988880002');
    const group = '120363000000000001@g.us';
    return [
        {
            id: idOf('5511977770001'),
            name: 'Carla',
            saved: true,
            unread: 2,
            pinned: true,
            messages: conversation(12, 1, () => ({ sender: 'Carla' })),
        },
        {
            id: bruno,
            name: 'Bruno',
            saved: true,
            unread: 0,
            messages: conversation(3, 2, (index) =>
                index === 2
                    ? {
                          sender: 'Bruno',
                          fromMe: false,
                          type: 'image',
                          body: '',
                          caption: 'a red pixel',
                          ...describeMedia({ ...IMAGE, size: IMAGE.bytes.length }),
                      }
                    : { sender: 'Bruno' },
            ),
        },
        {
            id: group,
            name: 'Family',
            unread: 0,
            archived: true,
            participants: [idOf(phone), bruno],
            admins: [idOf(phone)],
            messages: conversation(130, 3, (index) => ({
                sender: 'Bruno',
                author: index % 2 === 1 ? idOf(phone) : bruno,
            })),
        },
    ];
}

/**
 * `count` more chats of one message each, `groups` of them groups, of which `broken` cannot be looked up. The
 * last `unreadable` ones throw when they are read.
 */
function manyChats({ count, groups = 0, broken = 0, unreadable = 0 }, idOf) {
    return Array.from({ length: count }, (_, index) => {
        const person = idOf(`55119${String(80000000 + index)}`);
        const isGroup = index < groups;
        const sender = `Person ${index + 1}`;
        return {
            id: isGroup ? `1203630001${String(index).padStart(8, '0')}@g.us` : person,
            name: isGroup ? `Group ${index + 1}` : sender,
            saved: !isGroup,
            unread: 0,
            broken: isGroup && index < broken,
            unreadable: index >= count - unreadable,
            participants: isGroup ? [person] : undefined,
            messages: [
                {
                    id: `3EB0FFFF${String(index).padStart(8, '0')}`,
                    t: FIRST_MESSAGE + 86_400 + index,
                    sender,
                    author: isGroup ? person : undefined,
                    body: `greetings from ${index + 1}`,
                },
            ],
        };
    });
}

/** `count` messages from before those of a chat, oldest first. */
function olderThan({ messages: [first] }, count) {
    return Array.from({ length: count }, (_, index) => ({
        id: `3EB0EEEE${String(index).padStart(8, '0')}`,
        t: first.t - 60 * (count - index),
        sender: first.sender,
        author: first.author,
        body: `older ${index + 1} of ${count}`,
    }));
}

module.exports = { IMAGE, chatsOf, lidOf, manyChats, olderThan };

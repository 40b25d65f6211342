'use strict';

/** Calls of WhatsApp's page about chats, messages, people, groups and files. */

const chatsPage = require('./chats_page');
const contactsPage = require('./contacts_page');
const groupsPage = require('./groups_page');
const mediaPage = require('./media_page');
const missedPage = require('./missed_page');
const sendingPage = require('./sending_page');

/** @typedef {import('./sending_page').Place} Place */

/**
 * Add the calls to a client of a page.
 *
 * @param {import('./engine').ClientClass} Client has the page as `pupPage`
 */
const withCalls = (Client) =>
    class extends Client {
        /**
         * Return all chats, newest first: `{stamp, chats}`; no chats if nothing has changed since a stamp.
         *
         * @param {string|null} known
         */
        listChats(known) {
            return this.pupPage.evaluate(chatsPage.listChats, known);
        }

        /** Return one chat, by any of its ids, or null. @param {string} id */
        readChat(id) {
            return this.pupPage.evaluate(chatsPage.readChat, id);
        }

        /**
         * Return one page of a chat's messages, as the library's models: see `readHistory` of chats_page.js.
         *
         * @param {string} id
         * @param {number} limit
         * @param {string|null} before
         * @param {number} most
         */
        readHistory(id, limit, before, most) {
            return this.pupPage.evaluate(chatsPage.readHistory, id, limit, before, most);
        }

        /**
         * Have the phone hand over older messages: `{asked, hasEarlier}`; null = there is no such chat.
         *
         * @param {string} id
         * @param {number} most
         */
        askForEarlier(id, most) {
            return this.pupPage.evaluate(chatsPage.askForEarlier, id, most);
        }

        /** Load what has come from the phone: `{arrived, hasEarlier}`. @param {string} id */
        loadEarlier(id) {
            return this.pupPage.evaluate(chatsPage.loadEarlier, id);
        }

        /** Return the id by which the page knows a chat, or null. @param {string} id */
        findChat(id) {
            return this.pupPage.evaluate(chatsPage.findChat, id);
        }

        /**
         * Return the ids of chats in which something happened since a time in seconds, the newest first.
         *
         * @param {number} since
         */
        changedChats(since) {
            return this.pupPage.evaluate(missedPage.changedChats, since);
        }

        /**
         * Return the ids of messages of a chat since a time in seconds, as missed_page.js does.
         *
         * @param {string} chat
         * @param {number} since
         * @param {{most: number, waitMs: number}} limits
         */
        messagesSince(chat, since, limits) {
            return this.pupPage.evaluate(missedPage.messagesSince, chat, since, limits);
        }

        /** Return messages by their ids. @param {string[]} ids */
        messagesOf(ids) {
            return this.pupPage.evaluate(missedPage.messagesOf, ids);
        }

        /** Return the reactions to messages by their ids. @param {string[]} ids */
        reactionsOf(ids) {
            return this.pupPage.evaluate(missedPage.reactionsOf, ids);
        }

        // ---- sending ---------------------------------------------------------------------------------

        /** Return who has a number: see sending_page.js, here and below. @param {string[]} ids */
        lookUp(ids) {
            return this.pupPage.evaluate(sendingPage.lookUp, ids);
        }

        /**
         * Find the chat that a message is for, and choose the message's id.
         *
         * @param {import('./types').Recipient} to
         */
        prepareSend(to) {
            return this.pupPage.evaluate(sendingPage.prepareSend, to);
        }

        /**
         * Hand a message over, unless the page has it already.
         *
         * @param {Place} where
         * @param {import('./sending_page').What} what
         * @param {string|null} file path of its file: the browser reads it from the disk
         */
        async handOver(where, what, file) {
            if (file === null) return this.pupPage.evaluate(sendingPage.handOver, where, what, null);
            const input = await this.pupPage.evaluateHandle(() =>
                Object.assign(document.createElement('input'), { type: 'file' }),
            );
            try {
                await input.uploadFile(file);
                return await this.pupPage.evaluate(sendingPage.handOver, where, what, input);
            } finally {
                await input.dispose().catch(() => {});
            }
        }

        /**
         * Return the status of a message, when it is at the server, or so many milliseconds later.
         *
         * @param {string} id
         * @param {number} ms
         */
        awaitAck(id, ms) {
            return this.pupPage.evaluate(sendingPage.awaitAck, id, ms);
        }

        /** @param {string} id @param {string} text @param {string[]} mentions */
        edit(id, text, mentions) {
            return this.pupPage.evaluate(sendingPage.edit, id, text, mentions);
        }

        /** @param {string} id @param {boolean} isForAll */
        remove(id, isForAll) {
            return this.pupPage.evaluate(sendingPage.remove, id, isForAll);
        }

        /** @param {string} id @param {string} reaction */
        react(id, reaction) {
            return this.pupPage.evaluate(sendingPage.react, id, reaction);
        }

        /** @param {string} id @param {Place} where @param {import('./sending_page').Begun|null} begun */
        forward(id, where, begun) {
            return this.pupPage.evaluate(sendingPage.forward, id, where, begun);
        }

        /** @param {string} id @param {string} chat @param {number} since */
        copiesOf(id, chat, since) {
            return this.pupPage.evaluate(sendingPage.copiesOf, id, chat, since);
        }

        /** @param {import('./sending_page').Sign} what @param {string[]} ids */
        signal(what, ids) {
            return this.pupPage.evaluate(sendingPage.signal, what, ids);
        }

        /** Return people: `{contacts, total}`. @param {number} limit @param {number} offset */
        listContacts(limit, offset) {
            return this.pupPage.evaluate(contactsPage.listContacts, limit, offset);
        }

        /** Return a person, by any of their ids, or null. @param {string} id */
        readContact(id) {
            return this.pupPage.evaluate(contactsPage.readContact, id);
        }

        /** Return groups, by name. */
        listGroups() {
            return this.pupPage.evaluate(groupsPage.listGroups);
        }

        /** Return a group with its participants, or null. @param {string} id */
        readGroup(id) {
            return this.pupPage.evaluate(groupsPage.readGroup, id);
        }

        /**
         * Change groups: see groups_page.js for these.
         *
         * @param {string} id
         * @param {'add'|'remove'|'promote'|'demote'} action
         * @param {string[]} ids
         */
        changeParticipants(id, action, ids) {
            return this.pupPage.evaluate(groupsPage.changeParticipants, id, action, ids);
        }

        /** @param {string} name @param {string[]} ids */
        makeGroup(name, ids) {
            return this.pupPage.evaluate(groupsPage.createGroup, name, ids);
        }

        /** @param {string} id @param {{name?: string, description?: string}} changes */
        changeGroup(id, changes) {
            return this.pupPage.evaluate(groupsPage.changeGroup, id, changes);
        }

        /** @param {string} id */
        leaveGroup(id) {
            return this.pupPage.evaluate(groupsPage.leaveGroup, id);
        }

        /**
         * Have the page download the file of a message: see `openFile` of media_page.js.
         *
         * @param {string} id
         * @param {number|null} most
         * @param {string} ticket
         */
        openFile(id, most, ticket) {
            return this.pupPage.evaluate(mediaPage.openFile, id, most, ticket);
        }

        /**
         * The same of the picture of a person or group.
         *
         * @param {string} id
         * @param {number|null} most
         * @param {string} ticket
         */
        openPicture(id, most, ticket) {
            return this.pupPage.evaluate(contactsPage.openPicture, id, most, ticket);
        }

        /** Let go of a file, or give its download up. @param {string} ticket */
        closeFile(ticket) {
            return this.pupPage.evaluate(mediaPage.closeFile, ticket);
        }
    };

module.exports = { withCalls };

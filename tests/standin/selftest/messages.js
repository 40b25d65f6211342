/** Messages and media in and out, with the unmodified library. */
'use strict';

const assert = require('node:assert/strict');
const { createHash } = require('node:crypto');
const { after, describe } = require('node:test');
const { MessageMedia } = require('whatsapp-web.js');
const { TYPES } = require('../messages');
const {
    DAVI,
    PHONE,
    TODAY,
    closeShared,
    drawnCode,
    eventually,
    idOf,
    inTime,
    keyText,
    linked,
    linkedPage,
    makeClient,
    ok,
    openPage,
    phone,
    shared,
    shown,
    synced,
    test,
    withTraits,
} = require('./support');

/** Davi writes to the phone. */
const hear = (message) => ok('message', { phone: PHONE, from: DAVI, ...message });

describe('messages', () => {
    after(closeShared);

    test('an incoming message, its contact and its chat', async () => {
        const { client, event } = await shared();
        const { id, taken } = await hear({ name: 'Davi', body: 'olá' });
        assert.equal(taken, true);
        const [message] = await event('message');
        assert.equal(message.id.id, id);
        assert.equal(message.body, 'olá');
        assert.equal(message.from, idOf(DAVI));
        assert.equal(message.to, idOf(PHONE));
        assert.equal(message.fromMe, false);
        assert.equal(message.type, 'chat');
        assert.ok(Math.abs(message.timestamp - Date.now() / 1000) < 10);
        const contact = await message.getContact();
        assert.equal(contact.id._serialized, `${DAVI}@c.us`);
        assert.equal(contact.pushname, 'Davi');
        assert.equal(contact.isMyContact, false);
        assert.equal(keyText(message.id), `false_${idOf(DAVI)}_${id}`);
        assert.equal('_serialized' in message.id, !TODAY);
        assert.equal((await client.getMessageById(keyText(message.id))).body, 'olá');
        if (TODAY) {
            // The library looks for the last message of the chat under `undefined`.
            await assert.rejects(message.getChat(), /DataError/);
            return;
        }
        const chat = await message.getChat();
        assert.equal(chat.unreadCount, 1);
        assert.equal(chat.lastMessage.body, 'olá');
    });

    test('a sender known by LID only has a number that can be found out', async () => {
        const { client, event } = await shared();
        await hear({ lid: true, body: 'who am I' });
        const [message] = await event('message');
        assert.match(message.from, /^\d+@lid$/);
        const [{ pn }] = await client.getContactLidAndPhone([message.from]);
        assert.equal(pn, `${DAVI}@c.us`);
        assert.equal((await message.getContact()).id._serialized, pn);
    });

    test('for a page that is not open: kept, and history at the next login', async () => {
        const { profile, close } = await linked('5511999990004');
        await close();
        const to = { phone: '5511999990004', from: DAVI };
        assert.equal((await ok('message', { ...to, body: 'late' })).taken, false);
        assert.equal((await ok('message', { ...to, body: 'later', offline: true })).taken, false);
        assert.equal((await phone('message', { ...to, phone: '5511999990005' })).status, 404);
        const { client, names: seen, event } = makeClient({ profile }).start();
        await event('ready');
        // Both are there; the library hears of neither: the second is new, but comes before it listens.
        const found = await client.pupPage.evaluate((id) => {
            const { Chat } = window.require('WAWebCollections');
            return Chat.get(id)
                .msgs.getModelsArray()
                .map(({ body, isNewMsg }) => [body, isNewMsg]);
        }, idOf(DAVI));
        assert.deepEqual(found, [
            ['late', false],
            ['later', true],
        ]);
        const unread = () =>
            client.pupPage.evaluate(
                (id) => window.require('WAWebCollections').Chat.get(id).unreadCount,
                idOf(DAVI),
            );
        assert.equal(await unread(), 2);
        assert.ok(!seen().includes('message'));
    });

    test('while a login is under way: it comes, and so does what follows', async () => {
        await withTraits({ sync_waits: false, sync_ms: 300 }, async () => {
            const page = await openPage();
            const to = { phone: '5511999990007', from: DAVI };
            await ok('scan', { qr: await drawnCode(page), phone: to.phone });
            assert.equal((await ok('message', { ...to, body: 'quick' })).taken, true);
            await inTime(synced(page), 'the end of the sync');
            assert.equal((await ok('message', { ...to, body: 'and slow' })).taken, true);
            const bodies = await page.evaluate(
                (id) =>
                    window
                        .require('WAWebCollections')
                        .Chat.get(id)
                        .msgs.getModelsArray()
                        .map(({ body }) => body),
                idOf(DAVI),
            );
            assert.deepEqual(bodies, ['quick', 'and slow']);
        });
    });

    test('a command that the page cannot follow fails for who gave it, and the next one works', async () => {
        const { event, events } = await shared();
        assert.equal((await phone('load', { phone: PHONE, module: 'WAWebNobodyKnows' })).status, 504);
        assert.equal((await phone('message', { phone: PHONE, from: 'nobody@nowhere' })).status, 400);
        const seen = events.length;
        await hear({ body: 'still here' });
        assert.equal((await event('message', seen))[0].body, 'still here');
    });

    test('a message in a group names its author', async () => {
        const { event } = await shared();
        const group = '120363000000000001@g.us';
        await hear({ group, body: 'all of you' });
        const [message] = await event('message');
        assert.equal(message.from, group);
        assert.equal(message.author, idOf(DAVI));
        if (!TODAY) assert.equal((await message.getChat()).name, 'Family');
    });

    test('every type of message, with what only that type has', async () => {
        const { event, events } = await shared();
        for (const type of Object.keys(TYPES)) {
            const body = ['vcard', 'location'].includes(type) ? undefined : 'words';
            const { id } = await hear({ type, body });
            const told = { gp2: 'group_update', ciphertext: 'message_ciphertext' }[type] ?? 'message';
            const found = () => events.find(([name, message]) => name === told && message.id.id === id);
            await eventually(found, type);
        }
        const received = events.filter(([name]) => name === 'message').map(([, message]) => message);
        const [of] = [(type) => received.find((message) => message.type === type)];
        assert.deepEqual([of('image').hasMedia, of('image').body], [true, 'words']);
        assert.equal(of('document')._data.filename, 'invoice.pdf');
        assert.deepEqual([of('location').location.latitude, of('location').hasMedia], [-23.5505, false]);
        assert.equal(of('poll_creation').pollName, 'When?');
        assert.match(of('vcard').vCards[0], /waid=5521977770009/);
        assert.equal(of('list_response').selectedRowId, 'one');
        assert.equal(of('order').orderId, '1000000000000001');
        assert.ok(of('gif') === undefined && received.some(({ isGif }) => isGif));
        await event('message');
    });

    test('edit, delete, reaction, vote, every ack, and what was written on the phone', async () => {
        const { client, event, events } = await shared();
        const { id } = await hear({ body: 'first' });
        const change = (kind, more) => ok('change', { phone: PHONE, kind, id, ...more });
        await change('edit', { body: 'second' });
        assert.deepEqual((await event('message_edit')).slice(1), ['second', 'first']);
        await change('reaction', { from: DAVI, text: '👍' });
        const [reaction] = await event('message_reaction');
        assert.deepEqual([reaction.reaction, reaction.senderId], ['👍', idOf(DAVI)]);
        assert.equal(keyText(reaction.msgId), `false_${idOf(DAVI)}_${id}`);
        await change('revoke', {});
        assert.equal((await event('message_revoke_everyone'))[0].type, 'revoked');
        const mine = await ok('message', { phone: PHONE, fromMe: true, to: DAVI, body: 'from the phone' });
        const own = (name) => events.find(([event, message]) => event === name && message.id.id === mine.id);
        const [, message] = await eventually(() => own('message_create'), 'the own message');
        assert.deepEqual([message.fromMe, message.to], [true, idOf(DAVI)]);
        for (const ack of [1, 2, 3, 4, -1]) {
            const seen = events.length;
            await ok('change', { phone: PHONE, kind: 'ack', id: mine.id, ack });
            assert.equal((await event('message_ack', seen))[1], ack);
        }
        await ok('change', { phone: PHONE, kind: 'delete', id: mine.id });
        await event('message_revoke_me');
        const poll = await hear({ type: 'poll_creation' });
        // The library looks the poll up under `undefined`, and the vote is lost for the page as well.
        const choice = { phone: PHONE, kind: 'vote', id: poll.id, from: DAVI, options: [1] };
        const vote = await phone('change', choice);
        assert.equal(vote.status, TODAY ? 504 : 200);
        if (!TODAY) assert.equal((await event('vote_update'))[0].voter._serialized, idOf(DAVI));
        await ok('call', { phone: PHONE, from: DAVI, video: true });
        assert.equal((await event('call'))[0].isVideo, true);
        assert.equal((await phone('change', { phone: PHONE, kind: 'edit', id: 'none' })).status, 404);
        assert.equal(await client.getState(), 'CONNECTED');
    });

    test('sendMessage reaches the stand-in, is acknowledged and stays in the chat', async () => {
        const { client, event, profile, close } = await linked();
        const carla = '5511977770001';
        const text = 'see https://example.org/ok';
        const sent = await client.sendMessage(`${carla}@c.us`, text);
        const [message, ack] = await event('message_ack');
        assert.equal(ack, 1);
        // On today's page the library says nothing of a message that it has sent.
        if (TODAY) assert.equal(sent, undefined);
        else assert.deepEqual(sent.links, [{ link: 'https://example.org/ok', isSuspicious: false }]);
        const key = keyText(message.id);
        assert.ok(key.startsWith(`true_${idOf(carla)}_3EB0`), key);
        const { t, ...record } = (await shown('sent')).at(-1);
        assert.ok(Math.abs(t - Date.now() / 1000) < 10);
        assert.deepEqual(record, {
            phone: PHONE,
            to: idOf(carla),
            type: 'chat',
            body: text,
            id: message.id.id,
            mentionedJidList: [],
        });
        await client.sendMessage('5521900011111@c.us', 'first words');
        await assert.rejects(client.sendMessage('5521900000000@c.us', 'nobody'), /No LID for user/);
        await close();
        const again = makeClient({ profile }).start();
        await again.event('ready');
        assert.equal((await again.client.getMessageById(key)).body, text);
    });

    test('numbers: not on WhatsApp, and with or without the ninth digit of Brazil', async () => {
        const { client } = await shared();
        const found = async (number) => (await client.getNumberId(number))?._serialized ?? null;
        assert.equal(await found('5521900000000'), null);
        assert.equal(await found('5521900011111'), '5521900011111@c.us');
        assert.equal(await found('552187654321'), '5521987654321@c.us', 'Rio has the ninth digit');
        assert.equal(await found('5551987654321'), '555187654321@c.us', 'Porto Alegre has not');
        assert.equal(await found('551133334444'), '551133334444@c.us', 'a landline has none');
        await assert.rejects(client.sendMessage('5551987654321@c.us', 'hello'), /No LID for user/);
    });

    test('mute-sends: the page takes it, the site never acknowledges', async () => {
        const { client, event, events } = await shared();
        await ok('mute-sends', {});
        await client.sendMessage(`${DAVI}@c.us`, 'into the void');
        const [message] = await event('message_create');
        const arrived = async () => (await shown('sent')).at(-1).body === 'into the void';
        await eventually(arrived, 'the site to take it');
        assert.equal(message.ack, 0);
        await ok('mute-sends', { on: false });
        await client.sendMessage(`${DAVI}@c.us`, 'heard again');
        assert.equal((await event('message_ack'))[0].body, 'heard again');
        assert.equal(events.filter(([name]) => name === 'message_ack').length, 1);
    });

    test('getChats, fetchMessages, downloadMedia', async () => {
        const { client } = await linked('5511999990003');
        if (TODAY) {
            await assert.rejects(client.getChats(), /DataError/);
            return;
        }
        const chats = await client.getChats();
        assert.deepEqual(chats.map(({ name }) => name).sort(), ['Bruno', 'Carla', 'Family']);
        const [carla] = chats.filter(({ name }) => name === 'Carla');
        const [family] = chats.filter(({ isGroup }) => isGroup);
        const [bruno] = chats.filter(({ id }) => id.server === 'lid');
        assert.equal(carla.unreadCount, 2);
        assert.equal(carla.pinned, true);
        assert.equal(carla.lastMessage.body, 'message 12 of 12');
        assert.equal(family.archived, true);
        assert.equal(family.participants.length, 2);
        const recent = await family.fetchMessages({ limit: 3 });
        const bodies = ['message 128 of 130', 'message 129 of 130', 'message 130 of 130'];
        assert.deepEqual(
            recent.map(({ body }) => body),
            bodies,
        );
        assert.equal((await family.fetchMessages({ limit: 1000 })).length, 130);
        assert.ok(recent.every(({ author }) => author));
        const image = (await bruno.fetchMessages({ limit: 10 })).find(({ hasMedia }) => hasMedia);
        assert.equal(image.type, 'image');
        assert.equal(image.body, 'a red pixel');
        const media = await image.downloadMedia();
        assert.equal(media.mimetype, 'image/png');
        assert.equal(Buffer.from(media.data, 'base64').subarray(1, 4).toString(), 'PNG');
        assert.equal((await client.getContacts()).length >= 2, true);
    });

    test('many chats: groups among them, of which some cannot be looked up', async () => {
        const { client } = await linked('5511999990006');
        await ok('chats', { phone: '5511999990006', count: 300, groups: 20, broken: 1 });
        const count = () =>
            client.pupPage.evaluate(() => window.require('WAWebCollections').Chat.getModelsArray().length);
        assert.equal(await count(), 303);
        // One letter and no text is all that such an error says.
        const broken = await client.pupPage.evaluate(async () => {
            const { Chat } = window.require('WAWebCollections');
            const group = Chat.getModelsArray().find(({ name }) => name === 'Group 1');
            return window.WWebJS.getChatModel(group).catch(({ name, message }) => ({ name, message }));
        });
        assert.deepEqual(broken, { name: 'e', message: '' });
        await assert.rejects(client.getChats());
        await withTraits({ chat_cost_ms: 2 }, async () => {
            const began = performance.now();
            await client.getChats().catch(() => {});
            assert.ok(performance.now() - began >= 600, 'the page is busy with them');
        });
    });
});

describe('media', () => {
    const pixels = Buffer.alloc(5000, 'pixels');
    const image = new MessageMedia('image/png', pixels.toString('base64'), 'pixels.png');
    const FILE = { directPath: '/media/x', type: 'image', filehash: 'x' };

    /** As the library downloads, without its look-up of the message. */
    const download = (page, wish) =>
        page.evaluate(async (options) => {
            const qpl = { addAnnotations: () => qpl, addPoint: () => qpl };
            const { downloadManager } = window.require('WAWebDownloadManager');
            try {
                const bytes = await downloadManager.downloadAndMaybeDecrypt({ ...options, downloadQpl: qpl });
                return bytes.byteLength;
            } catch (error) {
                return error.status;
            }
        }, wish);
    const lastOf = (page, id) =>
        page.evaluate((chat) => {
            const msg = window.require('WAWebCollections').Chat.get(chat).msgs.getModelsArray().at(-1);
            return { ...msg.serialize(), id: msg.id.id };
        }, id);

    test('in: a file of any size, under the type that the switch asks for', async () => {
        const page = await linkedPage();
        const size = 64 * 1024 * 1024;
        await hear({ type: 'video', size, mimetype: 'video/webm' });
        const { directPath, mimetype, filehash } = await lastOf(page, idOf(DAVI));
        assert.equal(mimetype, 'video/webm');
        assert.ok(filehash);
        assert.equal(await download(page, { ...FILE, directPath }), size);
        await withTraits({ download_needs_mimetype: true }, async () => {
            assert.equal(await download(page, { ...FILE, directPath }), 415);
            assert.equal(await download(page, { ...FILE, directPath, mimetype }), size);
        });
        assert.equal(await download(page, FILE), 404);
    });

    const MIB = process.env.WAPORTD_FAULTS === 'all' ? 300 : 16;
    test(`in and out: ${MIB} MiB`, async () => {
        const page = await linkedPage();
        const size = MIB * 1024 * 1024;
        await hear({ type: 'document', size, mimetype: 'application/zip' });
        const { directPath } = await lastOf(page, idOf(DAVI));
        const back = await page.evaluate(async (path) => {
            const download = async (from) => (await fetch(from)).blob();
            const blob = await download(path);
            const sent = await window.require('WAWebUploadManager').encryptAndUpload({ blob });
            return [blob.size, (await download(sent.directPath)).size];
        }, directPath);
        assert.deepEqual(back, [size, size]);
    });

    test('in: expired, and of a stranger, it is asked for again when a person wants it only', async () => {
        const page = await linkedPage();
        await hear({ type: 'image', expired: true });
        const { directPath } = await lastOf(page, idOf(DAVI));
        const ask = (wish) =>
            page.evaluate(
                async (chat, given) => {
                    const msg = window
                        .require('WAWebCollections')
                        .Chat.get(chat)
                        .msgs.getModelsArray()
                        .at(-1);
                    await msg.downloadMedia(given);
                    return msg.mediaData.mediaStage;
                },
                idOf(DAVI),
                wish,
            );
        assert.equal(await ask({ downloadEvenIfExpensive: true, rmrReason: 1 }), 'NEED_POKE');
        assert.equal(await download(page, { ...FILE, directPath }), 404);
        assert.equal(await ask({ rmrReason: 1, isUserInitiated: true }), 'RESOLVED');
        assert.equal(await download(page, { ...FILE, directPath }), 2000);
    });

    test('out: prepared, uploaded, sent; today the id of the media gets in the way', async () => {
        const { client } = await linked();
        const send = (options) => client.sendMessage(`${DAVI}@c.us`, image, options);
        if (TODAY) {
            await assert.rejects(send({ caption: 'look' }), /Model id: undefined is of the wrong type/);
            await ok('set', { media_id: false });
            await client.pupPage.reload();
            await client.pupPage.waitForFunction(() => window.WWebJS);
            await ok('set', { media_id: true });
        }
        await send({ caption: 'look' });
        await send({ sendMediaAsDocument: true });
        const arrived = async () => (await shown('sent')).at(-1).type === 'document';
        await eventually(arrived, 'both at the site');
        const told = (await shown('sent')).slice(-2);
        assert.deepEqual(
            told.map(({ type, mimetype, size }) => [type, mimetype, size]),
            [
                ['image', 'image/png', 5000],
                ['document', 'image/png', 5000],
            ],
        );
        assert.equal(told[0].caption, 'look');
        const sha256 = createHash('sha256').update(pixels).digest('hex');
        assert.equal(told[0].sha256, sha256);
    });

    test('out: a sticker and a voice note', async () => {
        await withTraits({ media_id: false }, async () => {
            const { client } = await linked();
            const webp = new MessageMedia('image/webp', image.data, 'sticker.webp');
            await client.sendMessage(`${DAVI}@c.us`, webp, { sendMediaAsSticker: true });
            const voice = new MessageMedia('audio/ogg; codecs=opus', image.data, 'voice.ogg');
            await client.sendMessage(`${DAVI}@c.us`, voice, { sendAudioAsVoice: true });
            const told = async () =>
                (await shown('sent'))
                    .slice(-2)
                    .map(({ type }) => type)
                    .join();
            await eventually(async () => (await told()) === 'sticker,ptt', 'both at the site');
        });
    });
});

describe('what is done with a message', () => {
    after(closeShared);

    test('reply, reaction, edit, deletion, forwarding, typing, seen', async () => {
        const { client, event, events } = await shared();
        const { id } = await hear({ body: 'a question' });
        const [message] = await event('message');
        // With today's keys the library has no text to look its messages up by; here it is given one.
        const withText = (each) => Object.assign(each, { id: { ...each.id, _serialized: keyText(each.id) } });
        const lastSent = async () => (await shown('sent')).at(-1);
        await withText(message).reply('an answer');
        await eventually(async () => (await lastSent()).quotedStanzaID === id, 'the answer');
        await message.react('🙂');
        const { type, id: target, text } = await lastSent();
        assert.deepEqual([type, target, text], ['reaction', id, '🙂']);
        const own = () => events.find(([name, created]) => name === 'message_create' && created.fromMe);
        const [, answer] = await eventually(own, 'the own message');
        await client.pupPage.evaluate(async (key) => {
            const msg = window.require('WAWebCollections').Msg.get(key);
            await window.require('WAWebSendMessageEditAction').sendMessageEdit(msg, 'a better answer', {});
        }, keyText(answer.id));
        assert.deepEqual([(await lastSent()).type, (await lastSent()).body], ['edit', 'a better answer']);
        await withText(answer).delete(true);
        await eventually(async () => (await lastSent()).type === 'revoke', 'the deletion');
        const lazy = () => message.forward(`${DAVI}@c.us`);
        await assert.rejects(lazy(), /unknown module "WAWebChatForwardMessage"/);
        await ok('load', { phone: PHONE, module: 'WAWebChatForwardMessage' });
        await lazy();
        await eventually(async () => (await lastSent()).body === 'a question', 'the copy');
        await client.pupPage.evaluate((chat) => window.WWebJS.sendChatstate('typing', chat), idOf(DAVI));
        await client.sendSeen(idOf(DAVI));
        const kinds = (await shown('signals')).slice(-2).map(({ kind, chat }) => [kind, chat]);
        assert.deepEqual(kinds, [
            ['composing', idOf(DAVI)],
            ['seen', idOf(DAVI)],
        ]);
    });
});

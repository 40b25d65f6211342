/** The page itself, without the library: modules, keys, models, codes, sync, logout. */
'use strict';

const assert = require('node:assert/strict');
const { describe } = require('node:test');
const { modulesOf, namesOf } = require('../traits');
const {
    PHONE,
    SEED,
    SHAPE,
    TODAY,
    drawnCode,
    eventually,
    idOf,
    inTime,
    linked,
    linkedPage,
    makeClient,
    names,
    ok,
    openPage,
    phone,
    stateOf,
    synced,
    test,
    usual,
    withTraits,
} = require('./support');

describe('the modules of the page', () => {
    const described = modulesOf(SHAPE);

    /** Runs in a page: what `window.require` gives of the modules that are asked for. */
    const look = (modules) => {
        const at = (value, path) => path.reduce((from, part) => from?.[part], value);
        const kindOf = (value) => (typeof value === 'function' ? `function/${value.length}` : typeof value);
        const own = (value) =>
            Object.entries(Object.getOwnPropertyDescriptors(value))
                .filter(([name, { value: of }]) => typeof of === 'function' && name !== 'constructor')
                .map(([name]) => name);
        return Object.fromEntries(
            Object.entries(modules).map(([name, { members }]) => {
                let module;
                try {
                    module = window.require(name);
                } catch (error) {
                    return [name, error.message];
                }
                const holders = new Set([
                    '',
                    ...Object.keys(members)
                        .filter((each) => each.includes('.'))
                        .map((each) => each.split('.').slice(0, -1).join('.')),
                ]);
                const path = (member) => (member === '' ? [] : member.split('.'));
                return [
                    name,
                    {
                        found: Object.fromEntries(
                            Object.keys(members).map((member) => [member, kindOf(at(module, path(member)))]),
                        ),
                        offered: [...holders]
                            .filter((holder) => !holder.endsWith('prototype'))
                            .flatMap((holder) =>
                                own(at(module, path(holder))).map((each) =>
                                    holder === '' ? each : `${holder}.${each}`,
                                ),
                            ),
                        plain: Object.getPrototypeOf(module) === Object.prototype ? Object.keys(module) : [],
                    },
                ];
            }),
        );
    };
    const agrees = (kind, found) =>
        kind === 'any' ||
        kind === found ||
        (/^(function|class)$/.test(kind) && found.startsWith('function/'));

    test('are exactly those that are described, each at its time', async () => {
        const page = await openPage();
        await drawnCode(page);
        const compare = (seen, there) => {
            for (const [name, { when, members }] of Object.entries(described)) {
                if (!there.includes(when)) {
                    assert.equal(seen[name], `Requiring unknown module "${name}"`, `${name} before its time`);
                    continue;
                }
                assert.equal(typeof seen[name], 'object', `${name}: ${seen[name]}`);
                const { found, offered, plain } = seen[name];
                for (const [member, kind] of Object.entries(members)) {
                    const what = `${name}.${member} is ${found[member]}, not ${kind}`;
                    assert.ok(agrees(kind, found[member]), what);
                }
                const extra = offered.filter((each) => !(each in members));
                assert.deepEqual(extra, [], `${name} offers what is not described`);
                const parts = Object.keys(members).map((member) => member.split('.')[0]);
                assert.deepEqual(
                    plain.filter((part) => !parts.includes(part)),
                    [],
                    name,
                );
            }
        };
        compare(await page.evaluate(look, described), ['boot']);
        await ok('scan', { qr: await drawnCode(page), phone: PHONE });
        await page.evaluate(() => window.require('WAWebSocketModel').Socket.on('change:hasSynced', () => {}));
        await inTime(synced(page), 'the end of the sync');
        compare(await page.evaluate(look, described), ['boot', 'main']);
        for (const [module, { when }] of Object.entries(described)) {
            if (when === 'lazy') await ok('load', { module });
        }
        compare(await page.evaluate(look, described), ['boot', 'main', 'lazy']);
        // And none that only another shape has, though the page could play it.
        const playable = await page.evaluate(async () => (await import('/page/modules.mjs')).names);
        const strange = playable.filter((name) => !(name in described));
        const unknown = await page.evaluate(look, Object.fromEntries(strange.map((each) => [each, {}])));
        for (const name of strange) assert.equal(unknown[name], `Requiring unknown module "${name}"`);
        assert.deepEqual(
            Object.keys(described).filter((name) => !playable.includes(name)),
            [],
        );
    });

    test('break: a member is gone, renamed or something else, now and in later pages', async () => {
        const page = await openPage();
        await drawnCode(page);
        await ok('break', { module: 'WABase64', member: 'encodeB64', as: 'encode' });
        await ok('break', { module: 'WAWebSocketModel', member: 'Socket.logout', value: 7 });
        await ok('break', { module: 'WAWebAdvSignatureApi' });
        assert.equal((await phone('break', { module: 'WAWebNobodyKnows' })).status, 400);
        const kinds = () => {
            const { encodeB64, encode } = window.require('WABase64');
            const { Socket } = window.require('WAWebSocketModel');
            const gone = (() => {
                try {
                    return window.require('WAWebAdvSignatureApi');
                } catch {
                    return 'gone';
                }
            })();
            return [typeof encodeB64, typeof encode, typeof Socket.logout, gone];
        };
        const broken = ['undefined', 'function', 'number', 'gone'];
        assert.deepEqual(await page.evaluate(kinds), broken);
        await page.reload();
        assert.deepEqual(await page.evaluate(kinds), broken);
        await ok('break', { on: false });
        await page.reload();
        assert.deepEqual((await page.evaluate(kinds)).slice(0, 3), ['function', 'undefined', 'function']);
    });

    test('delay: a module is there later, or its answers are', async () => {
        await ok('delay', { module: 'WABase64', ms: 300 });
        await ok('delay', { module: 'WAWebQueryExistsJob', member: 'queryWidExists', ms: 400 });
        const page = await openPage();
        const there = () =>
            page.evaluate(() => {
                try {
                    return Boolean(window.require('WABase64'));
                } catch {
                    return false;
                }
            });
        assert.equal(await there(), false);
        await eventually(there, 'the module');
        const took = await page.evaluate(async () => {
            const { createWid } = window.require('WAWebWidFactory');
            const began = performance.now();
            await window.require('WAWebQueryExistsJob').queryWidExists(createWid('5521977770009@c.us'));
            return performance.now() - began;
        });
        assert.ok(took >= 390, `${took} ms`);
        await ok('delay', { on: false });
    });

    test('Debug is set at once, when the modules are there and nothing has begun', async () => {
        const page = await openPage({ load: false });
        await page.evaluateOnNewDocument(() => {
            Object.defineProperty(window, 'Debug', {
                configurable: true,
                set(value) {
                    const { Socket } = window.require('WAWebSocketModel');
                    window.atDebug = [Socket.state, typeof window.require('WAWebMsgKey')];
                    Object.defineProperty(window, 'Debug', { value, writable: true });
                },
            });
        });
        await page.goto('https://web.whatsapp.com/');
        assert.deepEqual(await page.evaluate('window.atDebug'), ['OPENING', 'function']);
        assert.equal(await page.evaluate('window.Debug.VERSION'), usual.build);
    });
});

describe('keys, ids and models', () => {
    test('a key has its text under a name of the build, and needs an account and ids', async () => {
        const early = await openPage();
        const make = () => {
            const { createWid } = window.require('WAWebWidFactory');
            const MsgKey = window.require('WAWebMsgKey');
            const remote = createWid('5521977770009@c.us');
            try {
                return { ...new MsgKey({ fromMe: true, remote, id: 'ID' }), remote: String(remote) };
            } catch (error) {
                return error.message;
            }
        };
        assert.match(await early.evaluate(make), /me is undefined/);
        const page = await linkedPage();
        const text = 'true_5521977770009@c.us_ID';
        const expected = { fromMe: true, remote: '5521977770009@c.us', id: 'ID', [names.key]: text };
        assert.deepEqual(await page.evaluate(make), expected);
        assert.equal(names.key === '_serialized', !TODAY);
        const texts = await page.evaluate(
            (own, key) => {
                const { createWid } = window.require('WAWebWidFactory');
                const MsgKey = window.require('WAWebMsgKey');
                const [me, group, other] = [own, '1203630@g.us', '5521977770009@lid'].map(createWid);
                const tell = (given) => {
                    try {
                        return String(new MsgKey(given));
                    } catch (error) {
                        return error.message;
                    }
                };
                return [
                    tell({ from: me, to: group, id: 'A', participant: me, selfDir: 'out' }),
                    tell({ from: other, to: me, id: 'B', selfDir: 'in' }),
                    tell({ from: me, to: me, id: 'C', selfDir: 'out' }),
                    tell({ from: own, to: other, id: 'D', selfDir: 'out' }),
                    tell({ id: 'E' }),
                    String(MsgKey.fromString('false_1203630@g.us_F_5521977770009@lid')),
                    typeof me[key],
                ];
            },
            idOf(PHONE),
            names.key,
        );
        assert.deepEqual(texts.slice(0, 3), [
            `true_1203630@g.us_A_${idOf(PHONE)}`,
            'false_5521977770009@lid_B',
            `true_${idOf(PHONE)}_C_out`,
        ]);
        assert.match(texts[3], /not a wid/);
        assert.match(texts[4], /no matching constructor/);
        assert.equal(texts[5], 'false_1203630@g.us_F_5521977770009@lid');
        const servers = ['c.us', 'lid', 'g.us', 'broadcast', 'newsletter', 'bot', 'hosted', 'hosted.lid'];
        const told = await page.evaluate((all) => {
            const { createWid } = window.require('WAWebWidFactory');
            return all
                .map((server) => createWid(`1:2@${server}`))
                .map(({ server, user, device }) => [server, user, device].join(' '));
        }, servers);
        assert.deepEqual(
            told,
            servers.map((server) => `${server} 1 2`),
        );
        // The trap of the real page: an id has a method of the name that a key has its text under.
        assert.equal(texts[6], TODAY ? 'function' : 'string');
    });

    test('rename-keys: pages loaded from then on have other names', async () => {
        const page = await linkedPage();
        const keyOf = () =>
            page.evaluate(() => {
                const [msg] = window.require('WAWebCollections').Msg.getModelsArray();
                return Object.entries(msg.id).find(([, value]) => value === String(msg.id))[0];
            });
        assert.equal(await keyOf(), names.key);
        await ok('rename-keys', { seed: Number(SEED) + 1 });
        await page.reload();
        await page.evaluate(() => window.require('WAWebSocketModel').Socket.on('change:hasSynced', () => {}));
        await inTime(synced(page), 'the end of the sync');
        assert.equal(await keyOf(), namesOf(Number(SEED) + 1, usual).key);
        await ok('rename-keys', { seed: Number(SEED) });
    });

    test('a model keeps attributes in fields of the build, and reports only what changed', async () => {
        const page = await linkedPage();
        const seen = await page.evaluate((field) => {
            const [chat] = window.require('WAWebCollections').Chat.getModelsArray();
            const events = [];
            for (const name of ['change:name', 'change:pin', 'change']) {
                chat.on(name, () => events.push(name));
            }
            chat.set({ name: 'another', pin: chat.pin });
            chat.set({ name: 'another' });
            chat.unset('name');
            const [own, spread] = [Object.keys(chat), Object.keys({ ...chat })];
            return {
                events,
                accessor: 'name' in chat && !Object.hasOwn(chat, 'name'),
                field: own.includes(`${field}name`) && spread.includes(`${field}name`),
                listed: Object.keys(chat.serialize()).includes('name'),
            };
        }, names.field);
        assert.deepEqual(seen, {
            events: ['change:name', 'change', 'change:name', 'change'],
            accessor: true,
            field: true,
            listed: true,
        });
    });

    test('looking for a message by what is no key is refused, where the page does so', async () => {
        const page = await linkedPage();
        const look = (id) =>
            page.evaluate(
                (wanted) =>
                    window
                        .require('WAWebCollections')
                        .Msg.getMessagesById([wanted ?? undefined])
                        .then(
                            ({ messages }) => messages.length,
                            ({ name }) => name,
                        ),
                id,
            );
        assert.equal(await look(null), TODAY ? 'DataError' : 0);
        assert.equal(await look('false_5521977770009@c.us_NONE'), 0);
    });

    test('chats are found under the id that people have here; others are looked up first', async () => {
        const page = await linkedPage();
        const found = await page.evaluate(async (known) => {
            const { createWid } = window.require('WAWebWidFactory');
            const { findOrCreateLatestChat } = window.require('WAWebFindChatAction');
            const { Chat } = window.require('WAWebCollections');
            const carla = createWid('5511977770001@c.us');
            const began = performance.now();
            const nobody = createWid('5521900000000@c.us');
            const error = await findOrCreateLatestChat(nobody).catch((e) => e.message);
            return {
                missed: Chat.get(carla) === undefined,
                there: Chat.get(known) !== undefined,
                same: (await findOrCreateLatestChat(carla)).chat === Chat.get(known),
                error,
                asked: performance.now() - began >= 25,
            };
        }, idOf('5511977770001'));
        assert.deepEqual(found, {
            missed: TODAY,
            there: true,
            same: true,
            error: 'No LID for user',
            asked: TODAY,
        });
    });
});

describe('codes of the page', () => {
    const QUICK = { load: true };
    const button = '[data-testid=link_device_qr_expired_refresh_button]';

    test('an expired code stays where it was, with a button that brings another', async () => {
        const page = await openPage(QUICK);
        const first = await drawnCode(page);
        await ok('expire', { qr: first });
        await inTime(page.waitForSelector(button), 'the button');
        assert.equal(await stateOf(page), 'UNPAIRED_IDLE');
        assert.equal(await drawnCode(page), first);
        const ref = () => page.evaluate(() => window.require('WAWebConnModel').Conn.ref);
        assert.equal(await ref(), first.split(',')[0]);
        await page.click(button);
        await eventually(async () => (await stateOf(page)) === 'UNPAIRED', 'another code');
        assert.notEqual(await ref(), first.split(',')[0]);
    });

    test('comms in a worker: the wrong side starts again, and no code comes', async () => {
        const page = await openPage(QUICK);
        await withTraits({ comms_in_worker: true }, async () => {
            await ok('expire', { qr: await drawnCode(page) });
            await inTime(page.waitForSelector(button), 'the button');
            await page.evaluate(() => window.require('WAWebLaunchSocketUtils').refreshQR());
            const inWorker = () => window.require('WAWebCommsGating').isCommsInWorker();
            assert.equal(await page.evaluate(inWorker), true);
            const round = () => page.evaluate(() => fetch('/frame').then(() => null));
            for (let turn = 0; turn < 5; turn += 1) await round();
            assert.equal(await stateOf(page), 'UNPAIRED_IDLE');
        });
        await page.evaluate(() => window.require('WAWebLaunchSocketUtils').refreshQR());
        await eventually(async () => (await stateOf(page)) === 'UNPAIRED', 'another code');
    });

    test('a sixth part of the drawn code, which a phone takes as well', async () => {
        await withTraits({ help_part: true }, async () => {
            const page = await openPage();
            const text = await drawnCode(page);
            assert.equal(text.split(',').length, 6);
            await ok('scan', { qr: text, phone: PHONE });
        });
    });

    test('refuse-pairing: asked for too often, the page gives no code', async () => {
        await ok('refuse-pairing', {});
        const page = await openPage();
        await drawnCode(page);
        const ask = () =>
            page.evaluate(async () => {
                const api = window.require('WAWebAltDeviceLinkingApi');
                await api.initializeAltDeviceLinking();
                return api.startAltLinkingFlow('5511999990001', true).catch(({ message }) => message);
            });
        assert.equal(await ask(), 'rate-overlimit');
        await ok('refuse-pairing', { on: false });
        assert.match(await ask(), /^[1-9A-Z]{8}$/);
        // A flow needs to be initialized, each one.
        const twice = page.evaluate(() =>
            window.require('WAWebAltDeviceLinkingApi').startAltLinkingFlow('5511999990001', true),
        );
        await assert.rejects(twice, /not initialized/);
    });
});

describe('sync and logout of the page', () => {
    /** Has a page write down events from its first script on. */
    const listening = (page) =>
        page.evaluateOnNewDocument(() => {
            window.heard = [];
            Object.defineProperty(window, 'Debug', {
                configurable: true,
                set(value) {
                    Object.defineProperty(window, 'Debug', { value, writable: true });
                    const { Cmd } = window.require('WAWebCmd');
                    for (const name of ['logout', 'logout_from_bridge']) {
                        Cmd.on(name, () => {
                            window.heard.push(name);
                            window.sessionStorage.heard = JSON.stringify(window.heard);
                        });
                    }
                    window.require('WAWebSocketModel').Socket.on('change:hasSynced', (_, value) => {
                        window.heard.push(value === undefined ? 'unset' : value);
                        window.sessionStorage.heard = JSON.stringify(window.heard);
                    });
                },
            });
        });

    test('the sync waits for no listener, may stay at 99, and says nothing before it begins', async () => {
        await withTraits({ sync_waits: false, progress: [0, 99] }, async () => {
            const page = await openPage();
            const percent = () =>
                page.evaluate(() => {
                    try {
                        const { OfflineMessageHandler } = window.require('WAWebOfflineHandler');
                        return OfflineMessageHandler.getOfflineDeliveryProgress();
                    } catch (error) {
                        return error.message;
                    }
                });
            assert.match(await percent(), /not initialized/);
            await ok('scan', { qr: await drawnCode(page), phone: PHONE });
            await inTime(synced(page), 'the end of the sync');
            assert.equal(await percent(), 99);
            assert.equal(await page.evaluate(() => window.require('WAWebStreamModel').Stream.mode), 'MAIN');
        });
    });

    test('a login that is there is synced before the library listens, which never hears of it', async () => {
        const { profile, close } = await linked();
        await close();
        await withTraits({ sync_waits: false }, async () => {
            const { client, initialized, names: seen } = makeClient({ profile }).start();
            assert.equal(await initialized, null);
            const { state, hasSynced } = await client.pupPage.evaluate(() => {
                const { Socket } = window.require('WAWebSocketModel');
                return { state: Socket.state, hasSynced: Socket.hasSynced };
            });
            assert.deepEqual([state, hasSynced], ['CONNECTED', true]);
            assert.ok(!seen().includes('authenticated'));
        });
    });

    const LOCKED = '&logout_message_header=Account&logout_message_subtext=locked';
    for (const [reason, expected, listed] of [
        [undefined, '?post_logout=1', false],
        [0, '?post_logout=1&logout_reason=0', true],
        [3, `?post_logout=1&logout_reason=3${LOCKED}`, false],
    ]) {
        test(`logout for reason ${reason}: what is reported, and the address`, async () => {
            const page = await openPage({ load: false });
            await listening(page);
            await page.goto('https://web.whatsapp.com/');
            const number = `551199999002${reason ?? 9}`;
            await ok('scan', { qr: await drawnCode(page), phone: number });
            await inTime(synced(page), 'the end of the sync');
            const visited = [];
            page.on('framenavigated', (frame) => visited.push(new URL(frame.url()).search));
            await ok('logout', { phone: number, reason });
            await eventually(() => visited.length === (TODAY ? 2 : 1), 'the way out');
            assert.deepEqual(visited, TODAY ? [expected, ''] : [expected]);
            const heard = JSON.parse(await page.evaluate('sessionStorage.heard'));
            assert.deepEqual(heard, [true, 'logout_from_bridge', ...(TODAY ? ['unset'] : [])]);
            // A device that gives up is still on the phone's list.
            assert.equal((await phone('logout', { phone: number })).status, listed ? 200 : 404);
        });
    }
});

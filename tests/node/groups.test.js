'use strict';

/** Groups: what is asked of the page for a call, and all of it in a real page of today and of April 2026. */

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { describe, it } = require('node:test');

const groups = require('../../server/groups');
const { Turns } = require('../../server/turns');
const { request } = require('./support/process');
const { PHONE, startLinked } = require('./support/session');
const { startStandIn } = require('./support/standin');

const GROUP = '120363000000000001@g.us';
const LIMIT_MS = 5_000;

/** A client that notes what it is asked, and answers so. */
function clientThat(answer) {
    const asked = [];
    const ask =
        (name) =>
        async (...args) => {
            asked.push([name, ...args]);
            return typeof answer === 'function' ? answer(...args) : answer;
        };
    return {
        asked,
        turns: new Turns(),
        changes: new Turns(),
        changeParticipants: ask('changeParticipants'),
        makeGroup: ask('makeGroup'),
        changeGroup: ask('changeGroup'),
        leaveGroup: ask('leaveGroup'),
        listGroups: ask('listGroups'),
        readGroup: ask('readGroup'),
    };
}

describe('calls about groups', () => {
    const people = (participants, action = 'add') => {
        const client = clientThat({ problem: null, participants: [] });
        const changed = groups.changeParticipants(client, GROUP, { action, participants }, LIMIT_MS);
        return changed.then(() => client.asked[0][3]);
    };
    const bad = (code) => (error) => error.status === 400 && error.body.code === code;

    it('take numbers and ids of people, each once', async () => {
        const given = ['+55 (11) 99999-8888', 5511999998888, '5511999998888@s.whatsapp.net', '77:3@lid'];
        assert.deepEqual(await people(given), ['5511999998888@c.us', '77@lid']);
        for (const id of [GROUP, '7@newsletter', 'status@broadcast', '7@broadcast', 'ABC@call', 'Ana']) {
            await assert.rejects(people([id]), bad('bad_id'), id);
        }
        const many = Array.from({ length: 21 }, (_, n) => `55119999900${n}`);
        for (const participants of [undefined, [], 'x', [null], [{}], many]) {
            await assert.rejects(people(participants), bad('bad_request'), JSON.stringify(participants));
        }
        await assert.rejects(people(['5511999998888'], 'ban'), bad('bad_request'));
    });

    it('are refused with what they do not know, or nothing to do', async () => {
        const client = clientThat(null);
        for (const body of [
            {},
            { picture: 'x' },
            { subject: '' },
            { subject: 'x'.repeat(101) },
            { subject: 7 },
            { description: 'x'.repeat(2049) },
        ]) {
            const changed = groups.changeGroup(client, GROUP, body, LIMIT_MS);
            await assert.rejects(changed, bad('bad_request'), JSON.stringify(body));
        }
        for (const id of ['5511999998888@c.us', '77@lid', '7@newsletter', '1@broadcast']) {
            await assert.rejects(groups.readGroup(client, id), bad('bad_id'), id);
            await assert.rejects(groups.leaveGroup(client, id, LIMIT_MS), bad('bad_id'), id);
        }
        const made = groups.createGroup(client, { subject: 'x', participants: ['5511999998888'], a: 1 });
        await assert.rejects(made, bad('bad_request'));
        assert.deepEqual(client.asked, []);
    });

    it('say what is not known to be done', async () => {
        const lost = clientThat(() => Promise.reject(new Error('Execution context was destroyed')));
        await assert.rejects(groups.leaveGroup(lost, GROUP, LIMIT_MS), { cause: 'perhaps_done' });
        const slow = clientThat(() => new Promise(() => {}));
        const body = { subject: 'x', participants: ['5511999998888'] };
        await assert.rejects(groups.createGroup(slow, body, 550), { cause: 'perhaps_done' });
        const failed = clientThat(() => Promise.reject(new Error('a fault before it')));
        await assert.rejects(groups.leaveGroup(failed, GROUP, LIMIT_MS), /a fault before it/);
    });
});

const pathOf = (id, rest = '') => `/groups/${encodeURIComponent(id)}${rest}`;

for (const shape of ['today', '2026-04']) {
    describe(`groups in the page of ${shape}`, () => {
        it('are listed, read, made, changed and left', { timeout: 120_000 }, async (t) => {
            const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'standin-'));
            const standin = await startStandIn(folder, ['--shape', shape]);
            t.after(() => {
                standin.stop();
                fs.rmSync(folder, { recursive: true, force: true });
            });
            await standin.command('chats', { phone: PHONE, count: 3, groups: 3, broken: 1 });
            const { server, events } = await startLinked(t, standin);
            const ask = async (method, target, body) => {
                const headers = { 'Content-Type': 'application/json' };
                const { status, json } = await request(server.port, method, target, { body, headers });
                return { status, ...json };
            };
            const read = (id) => ask('GET', pathOf(id));

            const list = await ask('GET', '/groups');
            assert.deepEqual(
                list.groups.map(({ name, participants, is_admin: isAdmin }) => [name, participants, isAdmin]),
                [
                    ['Family', 2, true],
                    ['Group 1', 1, false],
                    ['Group 2', 1, false],
                    ['Group 3', 1, false],
                ],
            );
            const page = await ask('GET', '/groups?limit=2&offset=1');
            assert.deepEqual(page.groups, list.groups.slice(1, 3));
            assert.equal(page.total, 4);

            const family = await read(GROUP);
            const { participants, ...rest } = family;
            assert.deepEqual([rest.status, rest.name, rest.description], [200, 'Family', null]);
            assert.equal(rest.is_current, true);
            const [me, bruno] = participants;
            assert.deepEqual([me.number, me.is_admin], [PHONE, true]);
            assert.deepEqual([bruno.number, bruno.name, bruno.is_admin], ['5521988880002', 'Bruno', false]);
            const limited = await read(list.groups[1].id);
            assert.deepEqual([limited.status, limited.is_current], [200, false], 'WhatsApp does not tell');
            assert.equal(limited.participants.length, 1, 'what is known of it is told');

            // Nobody but an admin changes who is in a group.
            const notMine = list.groups[2].id;
            const add = { action: 'add', participants: ['5511944440001'] };
            const refused = await ask('POST', pathOf(notMine, '/participants'), add);
            assert.deepEqual([refused.status, refused.code], [422, 'not_admin']);
            const rename = await ask('PATCH', pathOf(notMine), { subject: 'Mine' });
            assert.deepEqual([rename.status, rename.code], [422, 'refused']);

            const change = async (action, ...people) => {
                const body = { action, participants: people };
                const answer = await ask('POST', pathOf(GROUP, '/participants'), body);
                assert.equal(answer.status, 200, answer.error);
                return answer.participants.map(({ outcome, code }) => code ?? outcome);
            };
            const [friend, stranger] = ['5511944440001', '5511944440002'];
            const [shy, nobody] = ['5511944440403', '5511944440000'];
            assert.deepEqual(await change('add', friend, shy, nobody, bruno.id), [
                'done',
                'invite_only',
                'not_on_whatsapp',
                'unchanged',
            ]);
            const promoted = await change('promote', friend, bruno.id, stranger);
            assert.deepEqual(promoted, ['done', 'done', 'not_member']);
            assert.deepEqual(await change('promote', friend), ['unchanged']);
            assert.deepEqual(await change('demote', bruno.id), ['done']);
            assert.deepEqual(await change('remove', me.id), ['refused'], 'who leaves does it by DELETE');
            assert.deepEqual(await change('remove', bruno.id, stranger), ['done', 'unchanged']);
            assert.deepEqual(
                (await read(GROUP)).participants.map(({ number, is_admin: isAdmin }) => [number, isAdmin]),
                [
                    [PHONE, true],
                    [friend, true],
                ],
            );

            const changed = { subject: 'Relatives', description: 'who we are' };
            const answer = await ask('PATCH', pathOf(GROUP), changed);
            const { subject: name, description } = changed;
            assert.deepEqual(answer, { status: 200, id: GROUP, name, description });
            assert.equal((await ask('PATCH', pathOf(GROUP), { description: '' })).status, 200);
            const now = await read(GROUP);
            assert.deepEqual([now.name, now.description], ['Relatives', null]);
            const chats = (await ask('GET', '/chats')).chats;
            assert.equal(chats.find(({ id }) => id === GROUP).name, 'Relatives');

            // What makes groups is loaded when a person opens the dialog.
            const wish = { subject: 'Trip', participants: [friend, shy, nobody] };
            const early = await ask('POST', '/groups', wish);
            assert.deepEqual([early.status, early.code], [501, 'upstream_changed']);
            assert.match(early.error, /WAWebGroupCreateJob/);
            assert.equal(events.last.upstream.missing.length, 0);
            await standin.command('load', { phone: PHONE, module: 'WAWebGroupCreateJob' });
            const made = await ask('POST', '/groups', wish);
            assert.deepEqual([made.status, made.name], [200, 'Trip'], made.error);
            assert.deepEqual(
                made.participants.map(({ id, outcome, code }) => [id.split('@')[0], code ?? outcome]),
                [
                    [friend, 'done'],
                    [shy, 'invite_only'],
                    [nobody, 'not_on_whatsapp'],
                ],
            );
            const trip = await read(made.id);
            assert.deepEqual([trip.status, trip.participants.length, trip.is_admin], [200, 2, true]);
            const none = await ask('POST', '/groups', { subject: 'Nobody', participants: [nobody] });
            assert.deepEqual([none.status, none.code], [422, 'not_on_whatsapp']);

            assert.deepEqual(await ask('DELETE', pathOf(made.id)), { status: 200, id: made.id, left: true });
            assert.equal((await read(made.id)).is_admin, false);
            for (const [method, rest2, body] of [
                ['GET', ''],
                ['DELETE', ''],
                ['PATCH', '', { subject: 'x' }],
                ['POST', '/participants', add],
            ]) {
                const gone = await ask(method, pathOf('120363000000000099@g.us', rest2), body);
                assert.deepEqual([gone.status, gone.code], [404, 'no_such_group'], method);
            }
        });
    });
}

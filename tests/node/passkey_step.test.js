'use strict';

/** When the buttons of WhatsApp's screen for passkeys are pressed, and when never. */

const assert = require('node:assert/strict');
const { createHash } = require('node:crypto');
const { describe, it } = require('node:test');

const { Linking } = require('../../server/phase_linking');
const { SessionState } = require('../../server/state');
const { Clock } = require('./support/clock');

const LOOK_MS = 400;
const MINUTE = 60_000;

const PROMPT = { card: 'prompt', button: 'enabled', failed: false, code: null };
const BUSY = { ...PROMPT, button: 'disabled' };
const FAILED = { ...PROMPT, failed: true };
const WAITING = { card: 'waiting', button: null, failed: false, code: null };
const CODE = { card: 'code', button: null, failed: false, code: 'ABCD-1234' };
const BARE = { card: null, button: null, failed: false, code: null };

/** A session before a page whose screen is `screen`; what is done to that stands in `done`. */
function begin(t, { attempt = 1, phone = null, name = 'qr', ways = {}, reacts = true, most = 5 } = {}) {
    const clock = new Clock();
    t.mock.method(performance, 'now', clock.now);
    t.mock.method(Date, 'now', clock.date);
    const timers = new Map();
    const run = {
        phone,
        closed: false,
        after(what, ms, work) {
            run.cancel(what);
            timers.set(what, clock.after(ms, work));
        },
        cancel(what) {
            timers.get(what)?.();
            timers.delete(what);
        },
    };
    const seen = { screen: PROMPT, done: [], isFollowed: true, run, clock, logged: [] };
    run.client = {
        refreshQr: async () => {},
        passkeyScreen: async () => seen.screen,
        async pressPasskey(button) {
            seen.done.push(button);
            if (button === 'cancel' && reacts) seen.screen = null;
            if (button === 'continue' && reacts) seen.screen = BUSY;
            const { [button]: way = 'button' } = ways;
            return { way, outline: way === null ? 'button#shortcake_other' : null };
        },
    };
    const state = new SessionState({ port: 1, user: null, attempts: 5 });
    const log = (...line) => seen.logged.push(JSON.stringify(line));
    const linking = new Linking({
        run,
        state,
        config: { qrMaxRetries: most, qrLifetime: [60, 20], readyTimeout: 100, startTimeout: 100 },
        log: { info: log, warning: log, debug: log },
        session: {
            login: { note() {}, known: false },
            phoneAnswered: () => seen.done.push('asked'),
            isFollowed: () => seen.isFollowed,
            silent() {},
            reload: () => seen.done.push('reload'),
            scanAgain: () => seen.done.push('scan again'),
        },
        attempt,
    });
    state.enter(name, { message: 'before', qr: '2@a,b,c,d,1' });
    return Object.assign(seen, { state, linking, document: () => state.document() });
}

const pressed = ({ done }) => done.filter((each) => each !== 'asked');

let calls = 0;
/** The page's call, which keeps what it was answered. */
function call(options = {}) {
    calls += 1;
    const made = {
        id: calls,
        options: { challenge: `challenge-${calls}`, rpId: 'whatsapp.com', ...options },
        limitMs: 600_000,
        answered: null,
    };
    made.answer = (credential) => (made.answered = credential);
    made.refuse = (error) => (made.answered = error);
    return made;
}

function credentialFor({ options }) {
    const told = { type: 'webauthn.get', challenge: options.challenge, origin: 'https://web.whatsapp.com' };
    const site = createHash('sha256').update(options.rpId).digest();
    const text = (bytes) => Buffer.from(bytes).toString('base64url');
    return {
        type: 'public-key',
        id: 'AAAA',
        rawId: 'AAAA',
        response: {
            clientDataJSON: text(JSON.stringify(told)),
            authenticatorData: text(Buffer.concat([site, Buffer.from([5, 0, 0, 0, 0])])),
            signature: text('a signature'),
        },
    };
}

describe('"Continue"', () => {
    it('is pressed once for a challenge, however often the screen is seen', async (t) => {
        const seen = begin(t, { reacts: false });
        seen.linking.passkey.begin();
        for (let times = 0; times < 20; times += 1) {
            seen.linking.passkey.begin();
            await seen.clock.pass(LOOK_MS);
        }
        assert.deepEqual(pressed(seen), ['continue']);
        seen.screen = BUSY;
        seen.linking.passkey.called(call());
        await seen.clock.pass(5 * MINUTE);
        assert.deepEqual(pressed(seen), ['continue']);
        assert.equal(seen.document().passkey.stage, 'asked');
    });

    it('is never pressed before a code was there, while linked, or in a page that offers it', async (t) => {
        for (const where of [{ attempt: 0 }, { name: 'authenticated' }, { name: 'qr_timeout' }]) {
            const seen = begin(t, where);
            const asked = call();
            seen.linking.passkey.begin();
            seen.linking.passkey.called(asked);
            await seen.clock.pass(MINUTE);
            assert.deepEqual(seen.done, [], JSON.stringify(where));
            assert.equal(asked.answered, 'NotAllowedError');
            assert.equal(seen.document().passkey, null);
            t.mock.restoreAll();
        }
    });

    it('waits for somebody who is there, and continues when one comes', async (t) => {
        const seen = begin(t);
        seen.isFollowed = false;
        seen.linking.passkey.begin();
        await seen.clock.pass(MINUTE);
        assert.deepEqual(pressed(seen), []);
        assert.equal(seen.document().passkey.stage, 'opening');
        seen.isFollowed = true;
        await seen.clock.pass(LOOK_MS);
        assert.deepEqual(pressed(seen), ['continue']);
    });

    it('is pressed three times without an answer of anybody, and "Cancel" then', async (t) => {
        const seen = begin(t);
        seen.linking.passkey.begin();
        for (let round = 1; round <= 3; round += 1) {
            seen.screen = PROMPT;
            await seen.clock.pass(5_000);
            assert.equal(pressed(seen).length, round);
            const asked = call();
            seen.screen = BUSY;
            seen.linking.passkey.called(asked);
            seen.linking.passkey.over(asked.id, 'timeout');
            seen.screen = FAILED;
            await seen.clock.pass(LOOK_MS);
        }
        assert.deepEqual(
            [seen.document().passkey.stage, seen.document().cause],
            ['failed', 'passkey_failed'],
        );
        assert.match(seen.document().message, /codes again at/, 'it is shown for a moment');
        await seen.clock.pass(6_000);
        assert.deepEqual(pressed(seen), ['continue', 'continue', 'continue', 'cancel']);
        assert.deepEqual([seen.state.name, seen.document().cause], ['generating', 'passkey_failed']);
    });

    it('may be pressed again after each answer of a person', async (t) => {
        const seen = begin(t);
        seen.linking.passkey.begin();
        for (let round = 1; round <= 6; round += 1) {
            await seen.clock.pass(5_000);
            assert.equal(pressed(seen).length, round);
            const asked = call();
            seen.screen = BUSY;
            seen.linking.passkey.called(asked);
            seen.linking.passkey.give(credentialFor(asked));
            assert.equal(seen.state.name, 'pairing');
            seen.screen = FAILED;
        }
        assert.ok(!pressed(seen).includes('cancel'));
    });

    it('is not pressed for a failure that nobody follows: codes come back automatically', async (t) => {
        const seen = begin(t);
        seen.linking.passkey.begin();
        await seen.clock.pass(LOOK_MS);
        seen.isFollowed = false;
        seen.screen = FAILED;
        await seen.clock.pass(MINUTE);
        const { message, cause, passkey } = seen.document();
        assert.deepEqual([cause, passkey.stage], ['passkey_failed', 'failed']);
        assert.match(message, /codes again at \d\d:\d\d:\d\d UTC/);
        await seen.clock.pass(2 * MINUTE);
        assert.deepEqual(pressed(seen), ['continue', 'cancel']);
        assert.equal(seen.state.name, 'generating');
    });

    it('that is not found is reported with what is there, and looked for again by who asks', async (t) => {
        const seen = begin(t, { ways: { continue: null }, reacts: false });
        seen.screen = BARE;
        seen.linking.passkey.begin();
        await seen.clock.pass(MINUTE);
        assert.deepEqual(pressed(seen), ['continue']);
        assert.equal(seen.document().cause, 'passkey_button_missing');
        assert.ok(seen.logged.some((line) => line.includes('shortcake_other')));
        seen.linking.step.followed();
        await seen.clock.pass(LOOK_MS);
        assert.deepEqual(pressed(seen), ['continue', 'continue']);
        assert.equal(seen.document().cause, 'passkey_button_missing');
    });

    it('that is never found is reported as such until codes are back', async (t) => {
        const seen = begin(t, { ways: { continue: null }, reacts: false });
        const causes = new Set();
        seen.state.on('change', ({ cause }) => causes.add(cause));
        seen.screen = BARE;
        seen.linking.passkey.begin();
        for (let times = 0; times < 20; times += 1) {
            await seen.clock.pass(LOOK_MS * 5);
            seen.linking.step?.followed();
        }
        assert.deepEqual([seen.state.name, seen.document().cause], ['generating', 'passkey_button_missing']);
        assert.ok(!causes.has('passkey_failed'));
    });

    it('that the page asks automatically meanwhile does not end its call', async (t) => {
        const seen = begin(t, { reacts: false });
        const asked = call();
        seen.run.client.pressPasskey = async () => {
            seen.screen = BUSY;
            seen.linking.passkey.called(asked);
            return { way: null, outline: '' };
        };
        seen.linking.passkey.begin();
        await seen.clock.pass(MINUTE);
        assert.deepEqual([seen.document().passkey.stage, asked.answered], ['asked', null]);
    });
});

describe('after an answer', () => {
    it('the card that is still there is not pressed at once', async (t) => {
        const seen = begin(t);
        const asked = call();
        seen.linking.passkey.called(asked);
        seen.screen = PROMPT;
        seen.linking.step.give(credentialFor(asked));
        await seen.clock.pass(LOOK_MS);
        seen.screen = WAITING;
        await seen.clock.pass(MINUTE);
        assert.deepEqual([pressed(seen), seen.state.name], [[], 'pairing']);
        seen.screen = PROMPT;
        await seen.clock.pass(5_000);
        assert.deepEqual(pressed(seen), ['continue'], 'WhatsApp wants another one');
    });
});

describe('letters to compare', () => {
    it('are confirmed only by who has named them, once', async (t) => {
        const seen = begin(t);
        seen.linking.passkey.begin();
        seen.screen = CODE;
        await seen.clock.pass(MINUTE);
        assert.deepEqual(pressed(seen), []);
        const { step } = seen.linking;
        for (const wrong of [undefined, '', 'ABCD-1235', { code: 'ABCD-1234' }]) {
            await assert.rejects(step.confirm(wrong), { cause: 'passkey_code_changed' });
        }
        await step.confirm('abcd 1234');
        await seen.clock.pass(MINUTE);
        assert.deepEqual(pressed(seen), ['confirm']);
        assert.deepEqual([seen.state.name, seen.document().passkey.stage], ['pairing', 'given']);
        await assert.rejects(step.confirm('ABCD-1234'), { cause: 'no_passkey_code' });
    });

    it('that change are to be compared again', async (t) => {
        const seen = begin(t);
        seen.linking.passkey.begin();
        seen.screen = CODE;
        await seen.clock.pass(LOOK_MS);
        seen.screen = { ...CODE, code: 'WXYZ-9999' };
        await seen.clock.pass(LOOK_MS);
        await assert.rejects(seen.linking.step.confirm('ABCD-1234'), { cause: 'passkey_code_changed' });
        assert.equal(seen.document().passkey.code, 'WXYZ-9999');
    });

    it('are compared again where the page has changed them since the last look', async (t) => {
        const seen = begin(t);
        seen.linking.passkey.begin();
        seen.screen = CODE;
        await seen.clock.pass(LOOK_MS);
        seen.screen = { ...CODE, code: 'WXYZ-9999' };
        await assert.rejects(seen.linking.step.confirm('ABCD-1234'), { cause: 'passkey_code_changed' });
        assert.deepEqual(pressed(seen), []);
        await seen.clock.pass(LOOK_MS);
        assert.equal(seen.document().passkey.code, 'WXYZ-9999');
    });

    it('are not confirmed where somebody else stops meanwhile', async (t) => {
        const seen = begin(t);
        seen.linking.passkey.begin();
        seen.screen = CODE;
        await seen.clock.pass(LOOK_MS);
        const { step } = seen.linking;
        const confirmed = step.confirm('ABCD-1234');
        const stopped = step.cancel();
        await assert.rejects(confirmed, { cause: 'no_passkey_code' });
        await stopped;
        assert.deepEqual(pressed(seen), ['cancel']);
    });

    it('can be confirmed again where the page did not answer', async (t) => {
        const seen = begin(t);
        seen.linking.passkey.begin();
        seen.screen = CODE;
        await seen.clock.pass(LOOK_MS);
        const { pressPasskey } = seen.run.client;
        seen.run.client.pressPasskey = () => Promise.reject(new Error('Target closed'));
        await assert.rejects(seen.linking.step.confirm('ABCD-1234'), /Target closed/);
        seen.run.client.pressPasskey = pressPasskey;
        await seen.clock.pass(LOOK_MS);
        assert.equal(seen.document().passkey.code, 'ABCD-1234');
        await seen.linking.step.confirm('ABCD-1234');
        assert.deepEqual(pressed(seen), ['confirm']);
    });

    it('whose button is gone stay visible', async (t) => {
        const seen = begin(t, { ways: { confirm: null } });
        seen.linking.passkey.begin();
        seen.screen = CODE;
        await seen.clock.pass(LOOK_MS);
        const left = [];
        seen.state.on('state', (state) => left.push(state));
        const confirmed = seen.linking.step.confirm('ABCD-1234');
        await assert.rejects(seen.linking.step.confirm('ABCD-1234'), { cause: 'no_passkey_code' });
        await assert.rejects(confirmed, { cause: 'passkey_button_missing' });
        await seen.clock.pass(LOOK_MS);
        assert.equal(seen.document().passkey.code, 'ABCD-1234');
        assert.deepEqual(left, [], 'who reads why sees them all the time');
    });
});

describe('the step for a passkey', () => {
    it('begins whatever WhatsApp says of its connection, and lasts whatever that says', async (t) => {
        for (const connection of ['UNPAIRED', 'PAIRING', 'UNPAIRED_IDLE', 'OPENING']) {
            const seen = begin(t);
            seen.linking.socket(connection);
            seen.linking.passkey.begin();
            const asked = call();
            seen.linking.passkey.called(asked);
            for (const later of ['PAIRING', 'UNPAIRED', 'UNPAIRED_IDLE']) seen.linking.socket(later);
            seen.linking.qr('2@e,f,g,h,1');
            await seen.clock.pass(MINUTE);
            const { state, qr, passkey } = seen.document();
            assert.deepEqual([state, qr, passkey.options], ['passkey_required', null, asked.options]);
            t.mock.restoreAll();
        }
    });

    it('never shows the state without the request', async (t) => {
        const seen = begin(t);
        const shown = [];
        seen.state.on('state', () => shown.push(seen.document()));
        seen.linking.passkey.begin();
        seen.screen = FAILED;
        await seen.clock.pass(20 * MINUTE);
        const required = shown.filter(({ state }) => state === 'passkey_required');
        assert.ok(required.length > 0 && required.every(({ passkey }) => passkey !== null));
        assert.equal(seen.document().passkey, null);
        assert.notEqual(seen.state.name, 'passkey_required', 'it does not last');
    });

    it('refuses what is for no site of WhatsApp, and what is too long', (t) => {
        const cases = [
            [{ rpId: 'example.com' }, 'SecurityError'],
            [{ extensions: { long: 'x'.repeat(40_000) } }, 'SecurityError'],
        ];
        for (const [options, error] of cases) {
            const seen = begin(t);
            const asked = call(options);
            seen.linking.passkey.called(asked);
            assert.equal(asked.answered, error);
            assert.notEqual(seen.document().passkey?.stage, 'asked');
            t.mock.restoreAll();
        }
    });

    it('serves the newer of two calls', (t) => {
        const seen = begin(t);
        const [first, second] = [call(), call()];
        seen.linking.passkey.called(first);
        seen.linking.passkey.over(first.id, 'superseded');
        seen.linking.passkey.called(second);
        assert.equal(seen.document().passkey.options, second.options);
        const late = () => seen.linking.step.give(credentialFor(first));
        assert.throws(late, { cause: 'passkey_wrong_challenge' });
        seen.linking.step.give(credentialFor(second));
        assert.equal(second.answered.id, 'AAAA');
        assert.equal(first.answered, null, 'the page has ended that one by itself');
    });

    it('waits for the login where the screen goes after the answer, and not for ever', async (t) => {
        const seen = begin(t);
        const asked = call();
        seen.linking.passkey.called(asked);
        seen.linking.step.give(credentialFor(asked));
        seen.screen = WAITING;
        await seen.clock.pass(MINUTE);
        seen.screen = null;
        await seen.clock.pass(10_000);
        assert.equal(seen.state.name, 'pairing');
        await seen.clock.pass(15_000);
        assert.equal(seen.state.name, 'generating');
    });

    it('ends at once where the page shows codes again', async (t) => {
        const seen = begin(t);
        const asked = call();
        seen.linking.passkey.called(asked);
        seen.linking.step.give(credentialFor(asked));
        seen.screen = null;
        seen.linking.qr('2@e,f,g,h,1');
        await seen.clock.pass(2 * LOOK_MS);
        assert.deepEqual([seen.state.name, seen.document().qr], ['qr', '2@e,f,g,h,1']);
    });

    it('ends where the page goes back to codes and leaves its call behind', async (t) => {
        const seen = begin(t);
        seen.screen = BUSY;
        const asked = call();
        seen.linking.passkey.called(asked);
        await seen.clock.pass(LOOK_MS);
        seen.screen = null;
        await seen.clock.pass(LOOK_MS);
        assert.equal(seen.document().passkey.stage, 'asked', 'it may be drawn anew');
        seen.linking.qr('2@e,f,g,h,1');
        await seen.clock.pass(2 * LOOK_MS);
        assert.deepEqual([seen.state.name, seen.document().qr], ['qr', '2@e,f,g,h,1']);
        assert.equal(seen.linking.step, null);
    });

    it('lasts where the screen is only drawn again while a code comes', async (t) => {
        const seen = begin(t);
        seen.screen = BUSY;
        seen.linking.passkey.called(call());
        await seen.clock.pass(LOOK_MS);
        seen.screen = null;
        seen.linking.qr('2@e,f,g,h,1');
        await seen.clock.pass(600);
        seen.screen = BUSY;
        await seen.clock.pass(MINUTE);
        assert.equal(seen.document().passkey.stage, 'asked');
    });

    it('lasts for a call that has no screen', async (t) => {
        const seen = begin(t);
        seen.screen = null;
        seen.linking.passkey.called(call());
        seen.linking.qr('2@e,f,g,h,1');
        await seen.clock.pass(5 * MINUTE);
        assert.equal(seen.document().passkey.stage, 'asked');
    });

    it('shows no code that is older than its end', async (t) => {
        const seen = begin(t);
        seen.linking.passkey.called(call());
        seen.linking.qr('2@e,f,g,h,1');
        await seen.clock.pass(MINUTE);
        await seen.linking.step.cancel();
        assert.deepEqual([seen.state.name, seen.document().qr], ['generating', null]);
    });

    it('shows no code of before "Cancel", however new', async (t) => {
        const seen = begin(t, { reacts: false });
        seen.linking.passkey.called(call());
        seen.linking.qr('2@e,f,g,h,1');
        await seen.linking.step.cancel();
        assert.deepEqual([seen.state.name, seen.document().qr], ['generating', null]);
        seen.linking.qr('2@e,f,g,h,1');
        assert.equal(seen.document().qr, '2@e,f,g,h,1', 'the page goes on with it');
    });

    it('shows the next code even where there may be only one', async (t) => {
        const seen = begin(t, { most: 1 });
        seen.linking.passkey.called(call());
        await seen.linking.step.cancel();
        seen.linking.qr('2@e,f,g,h,1');
        const { state, attempt } = seen.document();
        assert.deepEqual([state, attempt], ['qr', 1]);
    });

    it('ends with a login, a reload, and a cancelled call is refused', async (t) => {
        const ends = [(seen) => seen.linking.linked(), (seen) => seen.linking.reloads()];
        for (const end of ends) {
            const seen = begin(t);
            seen.linking.passkey.called(call());
            end(seen);
            assert.equal(seen.linking.step, null);
            await seen.clock.pass(5_000);
            assert.deepEqual(pressed(seen), []);
            t.mock.restoreAll();
        }
        const seen = begin(t);
        const asked = call();
        seen.linking.passkey.called(asked);
        await seen.linking.step.cancel();
        assert.equal(asked.answered, 'NotAllowedError');
        assert.deepEqual(pressed(seen), ['cancel']);
    });

    it('does not come back with the call of a press from before "Cancel"', async (t) => {
        const seen = begin(t);
        seen.linking.passkey.begin();
        await seen.clock.pass(LOOK_MS);
        assert.deepEqual([pressed(seen), seen.document().passkey.stage], [['continue'], 'opening']);
        await seen.linking.step.cancel();
        const late = call();
        seen.linking.passkey.called(late);
        assert.deepEqual([late.answered, seen.state.name], ['NotAllowedError', 'generating']);
        // The next phone scans a code of its own.
        seen.linking.qr('2@e,f,g,h,1');
        seen.screen = PROMPT;
        seen.linking.passkey.begin();
        seen.linking.passkey.called(call());
        assert.equal(seen.document().passkey.stage, 'asked');
    });

    it('loads the page again where "Cancel" has no effect', async (t) => {
        const seen = begin(t, { reacts: false });
        seen.linking.passkey.begin();
        await seen.linking.step.cancel();
        await seen.clock.pass(5_000);
        assert.equal(pressed(seen).at(-1), 'reload');
        assert.equal(pressed(seen).filter((each) => each === 'reload').length, 1);
    });

    it('goes back to codes to scan, not to type, where it came after a pairing code', async (t) => {
        const seen = begin(t, { attempt: 0, phone: '5511999998888', name: 'pairing' });
        seen.linking.passkey.called(call());
        await seen.linking.step.cancel();
        assert.deepEqual(pressed(seen), ['scan again']);
    });

    it('logs nothing of options, answers and letters', async (t) => {
        const seen = begin(t);
        const asked = call();
        seen.linking.passkey.called(asked);
        const credential = credentialFor(asked);
        assert.throws(() => seen.linking.step.give({ ...credential, id: 'BBBBBBBB' }));
        seen.linking.step.give(credential);
        seen.screen = CODE;
        await seen.clock.pass(LOOK_MS);
        await seen.linking.step.confirm(CODE.code);
        const text = seen.logged.join('\n');
        assert.ok(text.includes('passkey'));
        const { clientDataJSON, authenticatorData, signature } = credential.response;
        const secrets = [asked.options.challenge, clientDataJSON, authenticatorData, signature];
        for (const secret of [...secrets, CODE.code, 'ABCD']) assert.ok(!text.includes(secret), secret);
    });
});

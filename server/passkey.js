'use strict';

/**
 * The step between a scan (or a typed pairing code) and the login in which WhatsApp wants the passkey of the
 * account: its screen is checked repeatedly, "Continue" pressed, the page's call shown to the owner of the
 * passkey, and the answer of their browser handed to the page.
 *
 * Buttons are pressed only if a person is present: "Continue" once for each challenge, the one that confirms
 * letters only if the person has named them, "Cancel" to go back to codes, and no other.
 */

const { checkCredential } = require('./credential');
const { explain, messageOf } = require('./errors');
const { reason } = require('./session_errors');
const { timestamp } = require('./state');

/** How often the screen is checked. */
const LOOK_MS = 300;
/** How long a person who asked, or scanned, counts as present. */
const FOLLOWED_MS = 300_000;
/**
 * How long the page may take from a press to its call, and how long to draw a card: until then it has no
 * known button, or only the first one after an answer.
 */
const OPENING_MS = 30_000;
const GRACE_MS = 2_000;
/** How long a failure is shown before the next try, and before codes are. */
const RETRY_MS = 2_000;
const SHOWN_MS = 5_000;
/** How often "Continue" is pressed without an answer of a person in between. */
const MOST_PRESSES = 3;
/** The page's own limits end first: 600 s for its call at most, 120 s for each part after the answer. */
const CALL_SLACK_MS = 15_000;
const PART_MS = 135_000;
/** How long a login may take after its screen has gone, and a screen that was cancelled. */
const SETTLE_MS = 20_000;
const CANCEL_MS = 3_000;
/** The site of WhatsApp's passkeys, and the maximum length of shown options. */
const SITES = ['whatsapp.com', 'web.whatsapp.com'];
const MOST_OPTIONS_CHARACTERS = 32_768;

const HINT = 'confirm it in your own browser, on the page that showed the code';
const BACK = 'waiting for the next code';

/**
 * What is shown in each stage.
 *
 * @type {Record<string, import('./types').Shown>}
 */
const WORDS = {
    opening: { message: 'WhatsApp wants the passkey of this account: its request is being opened' },
    asked: { message: 'WhatsApp wants the passkey of this account', hint: HINT },
    given: { message: 'the passkey was given; waiting for the phone' },
    confirmed: { message: 'the code is confirmed; waiting for the phone' },
    code: {
        message: 'WhatsApp shows a code to compare with the one on the phone',
        hint: 'confirm it only if the phone shows the same; else stop, and start over with a new code',
    },
};

/** @typedef {keyof typeof import('./session_errors').PASSKEYS} Cause */

const now = () => performance.now();
/** @param {number} ms in so many milliseconds */
const codesAgain = (ms) => `codes again at ${timestamp(Date.now() + ms).slice(11, 19)} UTC`;

class PasskeyStep {
    /**
     * The stage of the step; null = no passkey is wanted.
     *
     * @type {import('./types').PasskeyStage|null}
     */
    #stage = null;
    /** The page's call that is held. @type {import('./types').PasskeyCall|null} */
    #call = null;
    /** Whether "Continue" was pressed and no challenge came yet; how often since a person's answer. */
    #isPressed = false;
    #presses = 0;
    #isBusy = false;
    #shownAt = 0;
    #failedAt = 0;
    /** Whether the screen was seen, and since when it is gone. */
    #isSeen = false;
    /** @type {number|null} */
    #goneAt = null;
    /** Since when the first card is there again after an answer. @type {number|null} */
    #promptAt = null;
    #isMissing = false;
    #isOver = false;
    /** Why it comes to nothing, if it does. @type {Cause} */
    #cause = 'passkey_failed';
    /** @type {string|null} */
    #code = null;
    /** @type {string|null} */
    #confirmed = null;
    /** Whether the step ended while the page was about to call: that call is ignored. */
    #isLate = false;
    /** When "Cancel" was pressed whose effect is not seen yet. @type {number|null} */
    #leftAt = null;

    #run;
    #config;
    #state;
    #log;
    #session;
    #codes;

    /**
     * @param {import('./types').RunParts & {codes: import('./types').Codes}} parts `codes`: who has the codes
     */
    constructor({ run, config, state, log, session, codes }) {
        this.#run = run;
        this.#config = config;
        this.#state = state;
        this.#log = log;
        this.#session = session;
        this.#codes = codes;
    }

    /** Whether WhatsApp wants a passkey now. */
    get active() {
        return this.#stage !== null;
    }

    // ---- what the page does ----------------------------------------------------------------------

    /** The page shows its screen. */
    begin() {
        if (this.active || this.#leftAt !== null || this.#run.closed) return;
        if (!this.#codes.pauseForPasskey()) return;
        this.#isLate = false;
        this.#presses = 0;
        this.#isSeen = false;
        this.#goneAt = null;
        this.#cause = 'passkey_failed';
        this.#shownAt = now();
        this.#session.phoneAnswered();
        this.#open();
        this.#lookAgain();
    }

    /** The page asks the browser for a passkey, of which there is none here: the call is held. */
    called(/** @type {import('./types').PasskeyCall} */ call) {
        if (!this.active && this.#isLate) {
            this.#isLate = false;
            call.refuse('NotAllowedError');
            return;
        }
        this.begin();
        const { options } = call;
        const isShown =
            SITES.includes(options.rpId) && JSON.stringify(options).length < MOST_OPTIONS_CHARACTERS;
        if (!this.active || !isShown) {
            call.refuse(isShown ? 'NotAllowedError' : 'SecurityError');
            return;
        }
        this.#call?.refuse('NotAllowedError');
        this.#call = call;
        this.#isPressed = false;
        this.#isOver = false;
        this.#enter('asked', { options, limit: call.limitMs });
        this.#within(call.limitMs + CALL_SLACK_MS, () => this.#fail('passkey_failed'));
    }

    /** The page waits for the answer to a call no longer. @param {string} id @param {string} why */
    over(id, why) {
        if (this.#call?.id !== id) return;
        this.#call = null;
        this.#log.info('passkey', { stage: this.#stage, call: why });
        // Of two calls the newer one is shown next.
        if (why !== 'superseded') this.#fail('passkey_failed');
    }

    /** The page was reloaded, or there is a login: stop waiting. */
    drop() {
        this.#stage = null;
        this.#call = null;
        this.#leftAt = null;
        this.#isLate = false;
        this.#run.cancel('passkey');
        this.#run.cancel('passkey_look');
    }

    // ---- what people do --------------------------------------------------------------------------

    /** Somebody is there. */
    followed() {
        if (this.#stage !== 'failed') return;
        this.#isMissing = false;
        this.#look();
    }

    /**
     * Hand a credential to the page.
     *
     * @param {any} credential `PublicKeyCredential.toJSON()`
     * @throws {SessionError} `no_passkey_request`, `passkey_given`, or what is wrong with it: then the
     *   request continues
     */
    give(credential) {
        if (this.#stage === 'given' || this.#stage === 'code') throw reason.passkey('passkey_given');
        if (this.#call === null) throw reason.passkey('no_passkey_request');
        const checked = checkCredential(credential, this.#call.options);
        const call = this.#call;
        this.#call = null;
        this.#presses = 0;
        this.#await('given');
        call.answer(checked);
    }

    /**
     * The phone shows the same letters: confirm that in the page.
     *
     * @param {unknown} code
     * @throws {SessionError} `no_passkey_code`, `passkey_code_changed`, `passkey_button_missing`
     */
    async confirm(code) {
        const isOpen = this.#stage === 'code' && this.#confirmed !== this.#code;
        if (!isOpen) throw reason.passkey('no_passkey_code');
        const letters = String(code ?? '')
            .replace(/[^0-9a-z]/gi, '')
            .toUpperCase();
        if (letters !== this.#code?.replace('-', '')) throw reason.passkey('passkey_code_changed');
        this.#confirmed = this.#code;
        try {
            await this.#pressConfirm();
        } catch (error) {
            this.#confirmed = null;
            throw error;
        }
    }

    /** Press it for the letters that were named: the page may show others since, or somebody has stopped. */
    async #pressConfirm() {
        const screen = await this.#run.client.passkeyScreen();
        if (!this.active || screen?.card !== 'code') throw reason.passkey('no_passkey_code');
        const isSame = this.#stage === 'code' && screen.code === this.#confirmed;
        if (!isSame) throw reason.passkey('passkey_code_changed');
        if (!(await this.#press('confirm'))) throw reason.passkey('passkey_button_missing');
        if (this.#stage === 'code') this.#await('confirmed');
    }

    /** Somebody does not want it: back to codes at once. */
    async cancel() {
        await this.#leave({ message: `the passkey was not given; ${BACK}` });
    }

    // ---- looking at the screen -------------------------------------------------------------------

    #lookAgain() {
        this.#run.after('passkey_look', LOOK_MS, () => this.#look());
    }

    /** Look once, do what it takes, and look again later. */
    async #look() {
        if (this.#isBusy || !this.active) return;
        this.#isBusy = true;
        try {
            const screen = await this.#run.client.passkeyScreen();
            if (!this.active || this.#run.closed) return;
            if (screen === null) this.#gone();
            else if (!this.#isOver) await this.#see(screen);
        } catch (error) {
            // A page that goes away is reported elsewhere.
            this.#log.debug('the screen of a passkey was not seen', {
                reason: messageOf(error),
            });
        } finally {
            this.#isBusy = false;
            if (this.active) this.#lookAgain();
        }
    }

    async #see(/** @type {import('./types').PasskeyScreen} */ { card, button, failed, code }) {
        this.#isSeen = true;
        this.#goneAt = null;
        if (card !== 'prompt') this.#promptAt = null;
        if (card === 'code') this.#compare(code);
        else if (this.#call !== null) return;
        else if (card === 'waiting') {
            if (this.#stage !== 'given') this.#await('given');
        } else if (card === 'prompt' && failed && button !== 'disabled') {
            this.#isPressed = false;
            this.#fail('passkey_failed');
            await this.#tryAgain();
        } else if (card === 'prompt' && button === 'enabled') {
            // After an answer that was right, too: WhatsApp may want another one. Or the card is about to go.
            if (this.#stage === 'given' || this.#stage === 'code') {
                this.#promptAt ??= now();
                if (now() - this.#promptAt <= GRACE_MS) return;
                this.#open();
            }
            if (this.#stage === 'failed') await this.#tryAgain();
            else await this.#continue();
        } else if (button === null) {
            // Perhaps it is still being drawn; and what it does after an answer is not known.
            if (this.#stage === 'opening' && now() - this.#shownAt > GRACE_MS) await this.#continue();
            else if (this.#stage === 'failed') await this.#tryAgain();
        }
    }

    /** The screen has gone: for a login, which follows, or for codes. */
    #gone() {
        this.#goneAt ??= now();
        const since = now() - this.#goneAt;
        const hasCode = this.#codes.codeAge <= since + 2 * LOOK_MS;
        // A call may have no screen of its own. And a page that leaves its screen takes no call back.
        const isLeft = this.#isSeen && hasCode && since >= 3 * LOOK_MS;
        if (this.#call !== null && !isLeft) return;
        const mayFollow = (this.#stage === 'given' || this.#stage === 'code') && since < SETTLE_MS;
        if (mayFollow && !hasCode) return;
        this.#end();
        this.#codes.resume({ message: `WhatsApp does not want the passkey any more; ${BACK}` });
    }

    #compare(/** @type {string|null} */ code) {
        if (code === null || code === this.#confirmed) return;
        if (this.#stage === 'code' && code === this.#code) return;
        this.#code = code;
        this.#enter('code', { code, limit: this.#partMs });
        this.#within(this.#partMs, () => this.#giveUp());
    }

    // ---- pressing --------------------------------------------------------------------------------

    #open() {
        this.#isPressed = false;
        this.#isMissing = false;
        this.#isOver = false;
        this.#confirmed = null;
        this.#enter('opening');
        this.#within(this.#partMs, () => this.#giveUp());
    }

    /** Press "Continue", once for each challenge, for somebody who is there. */
    async #continue() {
        if (this.#isPressed || !this.#session.isFollowed(FOLLOWED_MS)) return;
        if (this.#presses >= MOST_PRESSES) {
            this.#giveUp();
            return;
        }
        this.#isPressed = true;
        this.#presses += 1;
        if (this.#stage !== 'opening') this.#enter('opening');
        this.#within(OPENING_MS, () => this.#fail('passkey_failed'));
        // The page may have asked automatically meanwhile.
        if ((await this.#press('continue')) || this.#stage !== 'opening') return;
        this.#isMissing = true;
        this.#fail('passkey_button_missing');
    }

    async #tryAgain() {
        if (this.#presses >= MOST_PRESSES) this.#giveUp();
        else if (!this.#isMissing && now() - this.#failedAt > RETRY_MS) await this.#continue();
    }

    /**
     * @param {import('./types').PasskeyButton} name
     * @returns {Promise<boolean>} false = there is no such button
     */
    async #press(name) {
        const { way, outline } = await this.#run.client.pressPasskey(name);
        if (way === null) this.#log.warning('a button for the passkey is missing', { button: name, outline });
        else this.#log.info('passkey', { pressed: name, way });
        return way !== null;
    }

    // ---- stages ----------------------------------------------------------------------------------

    get #partMs() {
        return Math.max(this.#config.readyTimeout * 1000, PART_MS);
    }

    /** @param {number} ms @param {() => void} work */
    #within(ms, work) {
        this.#run.after('passkey', ms, work);
    }

    /** Show a stage, and until when it may last. */
    #enter(
        /** @type {import('./types').PasskeyStage|'confirmed'} */ words,
        /** @type {{options?: object, code?: string, limit?: number, shown?: import('./types').Shown}} */
        { options, code, limit, shown = WORDS[words] } = {},
    ) {
        this.#stage = words === 'confirmed' ? 'given' : words;
        // From here on a button was found, or none was needed.
        if (!['opening', 'failed'].includes(words)) this.#cause = 'passkey_failed';
        const until = limit === undefined ? null : timestamp(Date.now() + limit);
        this.#promptAt = null;
        this.#log.info('passkey', { stage: words });
        this.#state.enter(this.#stage === 'given' ? 'pairing' : 'passkey_required', {
            ...shown,
            passkey: {
                stage: this.#stage,
                options: options ?? null,
                expires_at: until,
                code: code ?? null,
            },
        });
    }

    /** The phone, and then WhatsApp, have the word. @param {'given'|'confirmed'} words */
    #await(words) {
        this.#enter(words, { limit: this.#partMs });
        this.#within(this.#partMs, () => this.#giveUp());
    }

    #fail(/** @type {Cause} */ why) {
        if (this.#stage === 'failed' || !this.active) return;
        this.#cause = why;
        this.#call?.refuse('NotAllowedError');
        this.#call = null;
        this.#isPressed = false;
        this.#failedAt = now();
        const goesOn = !this.#isMissing && this.#session.isFollowed(FOLLOWED_MS);
        const next = goesOn ? 'it is asked for again' : codesAgain(this.#partMs);
        this.#enter('failed', { shown: this.#explained(next) });
        this.#within(this.#partMs, () => this.#stop());
    }

    /** Nothing more is tried: that is shown for a moment, and then codes are. */
    #giveUp() {
        this.#isOver = true;
        this.#enter('failed', { shown: this.#explained(codesAgain(SHOWN_MS)) });
        this.#within(SHOWN_MS, () => this.#stop());
    }

    #stop() {
        this.#leave(this.#explained(BACK));
    }

    /** Why it comes to nothing, and what is next. @param {string} next */
    #explained(next) {
        return explain(reason.passkey(this.#cause), next);
    }

    /** The step is over, and its page stays. */
    #end() {
        const isOpening = this.#stage === 'opening';
        this.drop();
        this.#isLate = isOpening;
    }

    /** Back to codes: their page, and what is shown. @param {import('./types').Shown} shown */
    async #leave(shown) {
        const call = this.#call;
        this.#end();
        this.#leftAt = now();
        call?.refuse('NotAllowedError');
        if (this.#run.phone !== null) {
            this.#session.scanAgain();
            return;
        }
        this.#codes.resume(shown, false);
        await this.#seeOff();
    }

    /**
     * Press "Cancel" until the screen has gone; else reload the page. After a call has ended the page redraws
     * its card, perhaps between the two halves of a click.
     */
    async #seeOff() {
        try {
            if (await this.#isGone()) return;
            await this.#press('cancel');
            if (await this.#isGone()) return;
        } catch (error) {
            // A page that goes away is reported elsewhere.
            this.#log.debug('the passkey was not cancelled', { reason: messageOf(error) });
        }
        if (this.#leftAt === null || this.#run.closed) return;
        if (now() - this.#leftAt > CANCEL_MS) this.#session.reload();
        else this.#run.after('passkey_look', LOOK_MS, () => this.#seeOff());
    }

    async #isGone() {
        const isGone = (await this.#run.client.passkeyScreen()) === null;
        if (isGone) this.#leftAt = null;
        return isGone;
    }
}

module.exports = { PasskeyStep };

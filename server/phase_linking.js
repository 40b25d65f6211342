'use strict';

/** From the page to the login: codes and their lifetimes, pairing codes, and what the phone answers. */

const { withLimit } = require('./errors');
const { reason } = require('./session_errors');
const { isRefusal, ruleFor } = require('./recovery');
const { timestamp } = require('./state');

/** The next code replaces one that expires; only if none does for so long is that shown as a state. */
const CODE_GAP_MS = 2_000;
/** After so long without the next code the page is asked for one, and if that brings none, reloaded. */
const ASK_FOR_CODE_MS = 5_000;
const RELOAD_FOR_CODE_MS = Number(ruleFor('UNPAIRED_IDLE', 'qr').limit) * 1000;
/** How long a reloaded page may take for its code, before another browser is used. */
const CODE_AFTER_RELOAD_MS = 30_000;
const LOOK_MS = 3_000;
/** A code that the page made when the step for a passkey had ended came so recently. */
const FRESH_CODE_MS = 1_500;
/** WhatsApp's own validity of a pairing code. */
const PAIRING_CODE_MS = 180_000;

const ASK_AGAIN = 'ask again: start the user again, or reload the page after a minute';

/** Return whether a text is a code, not `undefined,…` or the like, which the page gives before it has one. */
function isQr(/** @type {string} */ text) {
    const fields = String(text).split(',');
    const missing = ['', 'undefined', 'null'];
    return fields.length >= 4 && fields.every((field) => !missing.includes(field));
}

/** What happens in one run of the browser until a phone is linked. */
class Linking {
    /** How many codes were shown, and whether a phone has answered. */
    attempt = 0;
    answered = false;

    #run;
    #config;
    #state;
    #log;
    #session;
    /** @type {string|null} */
    #code = null;
    /** The newest code that came after the phone's answer, and when. @type {string|null} */
    #late = null;
    #lateAt = -Infinity;
    #freshBatch = true;
    /** @type {import('./passkey').PasskeyStep|null} */
    #passkey = null;

    /**
     * @param {import('./types').RunParts & {attempt: number}} parts `attempt`: how many codes a run before
     *   this one has shown
     */
    constructor({ run, config, state, log, session, attempt }) {
        this.attempt = attempt;
        this.#run = run;
        this.#config = config;
        this.#state = state;
        this.#log = log;
        this.#session = session;
    }

    /** The page has a code. */
    qr(/** @type {string} */ text) {
        if (this.answered) {
            // The page has its next code before it says that the phone did not link.
            this.#late = text;
            this.#lateAt = performance.now();
            return;
        }
        if (text === this.#code) return;
        if (this.attempt >= this.#config.qrMaxRetries) {
            this.#codesUsedUp();
            return;
        }
        this.#run.cancel('start');
        this.#run.cancel('code');
        this.#code = text;
        this.attempt += 1;
        const lifetime = this.#config.qrLifetime[this.#freshBatch ? 0 : 1] * 1000;
        this.#freshBatch = false;
        const expires = Date.now() + lifetime;
        const shown = this.#state.enter('qr', {
            message: `waiting for QR scan (code ${this.attempt} of ${this.#config.qrMaxRetries})`,
            hint: 'on the phone: WhatsApp, Linked devices, Link a device',
            qr: text,
            expires_at: timestamp(expires),
            attempt: this.attempt,
        });
        if (shown) this.#state.expireAt(expires + CODE_GAP_MS, () => this.#codeExpired());
    }

    /** The page has a pairing code. @param {string} code @returns {import('./types').PairingCode} */
    pairingCode(code) {
        const text = String(code).replace(/^(.{4})(.{4})$/, '$1-$2');
        const expires = Date.now() + PAIRING_CODE_MS;
        const answer = { code: text, expires_at: timestamp(expires) };
        this.#state.enter('pairing', {
            message: 'waiting for the pairing code to be typed on the phone',
            hint: 'on the phone: WhatsApp, Linked devices, Link with phone number instead',
            pairing: { ...answer, phone: this.#run.phone ?? '' },
        });
        this.#state.expireAt(expires, () => this.#giveUp('the pairing code was not used'));
        return answer;
    }

    /** The page is being reloaded, by its own code or by us: its codes are invalid. */
    reloads() {
        this.#passkey?.drop();
        if (!['qr', 'pairing', 'passkey_required', 'generating'].includes(this.#state.name)) return;
        if (this.attempt === 0 && this.#state.name === 'generating') return;
        this.answered = false;
        this.#late = null;
        this.#freshBatch = true;
        this.#run.cancel('ready');
        this.#state.enter('generating', { message: 'waiting for the next code', attempt: this.attempt });
        this.#run.after('code', CODE_AFTER_RELOAD_MS, () =>
            this.#session.trouble('no_code', reason.noCode()),
        );
    }

    /** WhatsApp's connection state changed, before a login. */
    socket(/** @type {string} */ state) {
        if (isRefusal(state)) this.#session.trouble('refused', reason.refused(state));
        // The states while a passkey is wanted are not known: its screen shows what happens.
        else if (this.step !== null) return;
        else if (state === 'PAIRING') this.#phoneAnswered();
        else if (state === 'UNPAIRED' && this.answered) this.#phoneDidNotLink();
        else if (state === 'UNPAIRED_IDLE' && this.#run.phone === null) this.#askForCode();
    }

    // ---- a passkey -------------------------------------------------------------------------------

    /** The step in which WhatsApp wants a passkey; made, and its parts loaded, when it first does. */
    get passkey() {
        if (this.#passkey === null) {
            const { PasskeyStep } = require('./passkey');
            this.#passkey = new PasskeyStep({
                run: this.#run,
                config: this.#config,
                state: this.#state,
                log: this.#log,
                session: this.#session,
                codes: this,
            });
        }
        return this.#passkey;
    }

    /** That step while it lasts, else null. */
    get step() {
        return this.#passkey?.active === true ? this.#passkey : null;
    }

    /** How long ago a code came that is not shown, in milliseconds. */
    get codeAge() {
        return performance.now() - this.#lateAt;
    }

    /** A login was found. */
    linked() {
        this.#passkey?.drop();
    }

    /**
     * WhatsApp wants a passkey: no code is shown, asked for or counted until `resume`.
     *
     * @returns {boolean} false = it can want none of anybody: nobody had a code to scan or to type
     */
    pauseForPasskey() {
        const wanted = this.#run.phone !== null || this.attempt > 0;
        if (!wanted || !['qr', 'pairing', 'generating'].includes(this.#state.name)) return false;
        this.answered = true;
        this.#late = null;
        this.#lateAt = -Infinity;
        this.#session.login.note('unknown');
        for (const timer of ['start', 'code', 'ready']) this.#run.cancel(timer);
        return true;
    }

    /**
     * The phone did not link, and codes are shown again; `shown` says why.
     *
     * @param {import('./types').Shown} shown
     * @param {boolean} [isOver] whether the page has ended the step: a code that came with that is its next
     *   one
     */
    resume({ message, cause = null, hint = null }, isOver = true) {
        // Somebody was there and scanned: the codes before that do not count as unused.
        this.attempt = Math.min(this.attempt, 1, this.#config.qrMaxRetries - 1);
        this.#log.info('the phone did not link', { cause });
        // One that came before that may have been made with keys that are void by now.
        if (!isOver || this.codeAge > FRESH_CODE_MS) this.#late = null;
        this.#codesAgain({ message, cause, hint });
    }

    #phoneAnswered() {
        const wanted = this.#run.phone !== null || this.attempt > 0;
        if (!wanted || !['qr', 'pairing', 'generating'].includes(this.#state.name)) return;
        this.answered = true;
        this.#session.login.note('unknown');
        this.#state.enter('pairing', { message: 'the phone has answered, linking' });
        const limit = this.#config.readyTimeout;
        this.#run.after('ready', limit * 1000, () => this.#session.failed(reason.linkStalled(limit)));
    }

    #phoneDidNotLink() {
        this.#log.info('the phone did not link');
        this.#codesAgain({ message: 'the phone did not link; waiting for the next code' });
    }

    #codesAgain(/** @type {import('./types').Shown} */ shown) {
        this.answered = false;
        this.#freshBatch = true;
        this.#session.login.note(false);
        this.#run.cancel('ready');
        if (this.#run.phone !== null) {
            this.#giveUp('the phone did not link');
            return;
        }
        this.#awaitCode(shown);
        if (this.#late !== null) this.qr(this.#late);
    }

    #codeExpired() {
        if (this.#run.closed) return;
        if (this.attempt >= this.#config.qrMaxRetries) this.#codesUsedUp();
        else this.#awaitCode({ message: 'waiting for the next code' });
    }

    #awaitCode(/** @type {import('./types').Shown} */ shown) {
        this.#state.enter('generating', { ...shown, attempt: this.attempt });
        this.#run.after('start', this.#config.startTimeout * 1000, () => this.#session.silent());
        this.#run.after('code', ASK_FOR_CODE_MS, () => this.#askForCode());
    }

    /** No further code is shown. No event reports that a scanned one needs a passkey: check for that. */
    async #codesUsedUp() {
        const look = withLimit(this.#run.client.look(), LOOK_MS, 'a look');
        const seen = await look.catch(() => null);
        if (this.#run.closed || this.answered) return;
        if (seen?.passkey) {
            this.passkey.begin();
            return;
        }
        this.#log.info('no code was scanned', { codes: this.attempt });
        this.#giveUp(`codes shown: ${this.attempt}; none was scanned`);
    }

    #giveUp(/** @type {string} */ message) {
        if (this.#run.closed) return;
        this.#state.enter('qr_timeout', { message, hint: ASK_AGAIN });
        this.#session.giveUp();
    }

    /** The page has used up its batch of codes, or gives none: it gets more if it asks, or is reloaded. */
    #askForCode() {
        const run = this.#run;
        if (run.phone !== null || this.answered || this.#session.login.known === true) return;
        this.#freshBatch = true;
        run.cancel('code');
        const asked = withLimit(run.client.refreshQr(), RELOAD_FOR_CODE_MS, 'asking for new codes');
        asked.catch((error) => {
            if (run.closed || run.reloading) return;
            this.#log.warning("no new code; WhatsApp's page is reloaded", { reason: error?.message });
            this.#session.reload();
        });
    }
}

module.exports = { Linking, isQr };

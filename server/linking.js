'use strict';

/** From the page to the login: codes and their lifetimes, pairing codes, and what the phone answers. */

const { withLimit } = require('./errors');
const { reason } = require('./reasons');
const { isRefusal, ruleFor } = require('./recovery');
const { timestamp } = require('./state');

/** The next code replaces one that expires; only if none does for so long is that shown as a state. */
const CODE_GAP_MS = 2_000;
/** After so long without the next code the page is asked for one, and if that brings none, loaded anew. */
const ASK_FOR_CODE_MS = 5_000;
const RELOAD_FOR_CODE_MS = ruleFor('UNPAIRED_IDLE', 'qr').limit * 1000;
/** So long a page that was loaded anew may take for its code, before another browser is taken. */
const CODE_AFTER_RELOAD_MS = 30_000;
/** WhatsApp's own word for linking that needs a passkey. */
const PASSKEY = 'SHORTCAKE_PASSKEY';
const LOOK_MS = 3_000;
/** WhatsApp's own validity of a pairing code. */
const PAIRING_CODE_MS = 180_000;

const ASK_AGAIN = 'ask anew: start the user again, or reload the page after a minute';

/** Tell the text of a code from `undefined,…` and other things that the page hands out before it has one. */
function isQr(text) {
    const fields = String(text).split(',');
    const missing = ['', 'undefined', 'null'];
    return fields.length >= 4 && fields.every((field) => !missing.includes(field));
}

/** Somebody waits for the pairing code of a phone; several may. */
class PairingRequest {
    constructor(phone) {
        this.phone = phone;
        /** Becomes what is answered: `{code, expires_at}`. */
        this.code = new Promise((resolve, reject) => {
            this.resolve = resolve;
            this.reject = reject;
        });
        this.code.catch(() => {});
    }

    /** There is a code: the first, or one that takes its place. */
    give(answer) {
        this.resolve(answer);
        this.code = Promise.resolve(answer);
    }
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
    #code = null;
    #late = null;
    #freshBatch = true;
    #passkeyAsked = false;

    /**
     * @param {object} options
     * @param {import('./run').BrowserRun} options.run
     * @param {object} options.session what is decided there: to `giveUp` this run, that it `failed`, that its
     *   page is `silent`, is to be loaded anew (`reload`) or is in `trouble`; and its `login`
     * @param {number} options.attempt how many codes a run before this one has shown
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
    qr(text) {
        if (this.answered) {
            // The page has its next code before it says that the phone did not link.
            this.#late = text;
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

    /** The page has a pairing code. @returns {{code: string, expires_at: string}} */
    pairingCode(code) {
        const text = String(code).replace(/^(.{4})(.{4})$/, '$1-$2');
        const expires = Date.now() + PAIRING_CODE_MS;
        const answer = { code: text, expires_at: timestamp(expires) };
        this.#state.enter('pairing', {
            message: 'waiting for the pairing code to be typed on the phone',
            hint: 'on the phone: WhatsApp, Linked devices, Link with phone number instead',
            pairing: { ...answer, phone: this.#run.phone },
        });
        this.#state.expireAt(expires, () => this.#giveUp('the pairing code was not used'));
        return answer;
    }

    /** The page is being loaded again, by itself or by us: its codes are void. */
    reloads() {
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
    socket(state) {
        if (isRefusal(state)) this.#session.trouble('refused', reason.refused(state));
        else if (state === 'PAIRING') this.#phoneAnswered();
        else if (state === 'UNPAIRED' && this.answered) this.#phoneDidNotLink();
        else if (state === 'UNPAIRED_IDLE' && this.#run.phone === null) this.#askForCode();
    }

    /**
     * The page asks for a passkey: that concerns a phone that has answered, not the page's own offers.
     *
     * @param {boolean} isWanted WhatsApp wants it, so that a phone has answered
     */
    passkey(isWanted = false) {
        this.#passkeyAsked = true;
        if (isWanted && !this.answered) this.#phoneAnswered();
        if (!this.answered || this.#state.name === 'passkey_required') return;
        this.#state.enter('passkey_required', {
            message: 'WhatsApp asks for a passkey to link this account, which a server cannot give',
            hint: 'on the phone: WhatsApp, Settings, Account, Passkeys: remove it, then ask for a new code',
        });
    }

    #phoneAnswered() {
        const wanted = this.#run.phone !== null || this.attempt > 0;
        if (!wanted || !['qr', 'pairing', 'generating'].includes(this.#state.name)) return;
        this.answered = true;
        this.#session.login.note('unknown');
        this.#state.enter('pairing', { message: 'the phone has answered, linking' });
        this.#run.after('ready', this.#config.readyTimeout * 1000, () => this.#stalled());
        if (this.#passkeyAsked) this.passkey();
    }

    #phoneDidNotLink() {
        this.answered = false;
        this.#passkeyAsked = false;
        this.#freshBatch = true;
        this.#session.login.note(false);
        this.#run.cancel('ready');
        this.#log.info('the phone did not link');
        if (this.#run.phone !== null) {
            this.#giveUp('the phone did not link');
            return;
        }
        this.#awaitCode('the phone did not link; waiting for the next code');
        if (this.#late !== null) this.qr(this.#late);
    }

    #stalled() {
        // Why it stalls is known then, and stays on show; any other reason is an error.
        if (this.#state.name === 'passkey_required') this.#session.giveUp();
        else this.#session.failed(reason.linkStalled(this.#config.readyTimeout));
    }

    #codeExpired() {
        if (this.#run.closed) return;
        if (this.attempt >= this.#config.qrMaxRetries) this.#codesUsedUp();
        else this.#awaitCode('waiting for the next code');
    }

    #awaitCode(message) {
        this.#state.enter('generating', { message, attempt: this.attempt });
        this.#run.after('start', this.#config.startTimeout * 1000, () => this.#session.silent());
        this.#run.after('code', ASK_FOR_CODE_MS, () => this.#askForCode());
    }

    /** No further code is shown. Of a scanned one that needs a passkey no event tells: it is looked for. */
    async #codesUsedUp() {
        const look = withLimit(this.#run.client.look(), LOOK_MS, 'a look');
        const seen = await look.catch(() => null);
        if (this.#run.closed || this.answered) return;
        if (seen?.pairing_type === PASSKEY) {
            this.passkey(true);
            return;
        }
        this.#log.info('no code was scanned', { codes: this.attempt });
        this.#giveUp(`codes shown: ${this.attempt}; none was scanned`);
    }

    #giveUp(message) {
        if (this.#run.closed) return;
        this.#state.enter('qr_timeout', { message, hint: ASK_AGAIN });
        this.#session.giveUp();
    }

    /** The page has used up its batch of codes, or gives none: it gets more if it asks, or is loaded anew. */
    #askForCode() {
        const run = this.#run;
        if (run.phone !== null || this.answered || this.#session.login.known === true) return;
        this.#freshBatch = true;
        run.cancel('code');
        const asked = withLimit(run.client.refreshQr(), RELOAD_FOR_CODE_MS, 'asking for new codes');
        asked.catch((error) => {
            if (run.closed || run.reloading) return;
            this.#log.warning("no new code; WhatsApp's page is loaded anew", { reason: error?.message });
            this.#session.reload();
        });
    }
}

module.exports = { Linking, PASSKEY, PairingRequest, isQr };

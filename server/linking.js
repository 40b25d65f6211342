'use strict';

/** From the page to the login: codes and their lifetimes, pairing codes, and what the phone answers. */

const { withLimit } = require('./errors');
const { reason } = require('./reasons');
const { timestamp } = require('./state');

/** The next code replaces one that expires; only if none does for so long is that shown as a state. */
const CODE_GAP_MS = 2_000;
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
     * @param {object} options.session what is decided there: to `giveUp` this run, that it `failed` or that
     *   its page is `silent`; and its `login`
     */
    constructor({ run, config, state, log, session }) {
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

    /** WhatsApp's connection state changed, before a login. */
    socket(state) {
        if (state === 'PAIRING') this.#phoneAnswered();
        else if (state === 'UNPAIRED' && this.answered) this.#phoneDidNotLink();
        else if (state === 'UNPAIRED_IDLE' && this.#run.phone === null) this.#refresh();
    }

    /**
     * The page asks for a passkey: that concerns a phone that has answered, not the page's own offers.
     *
     * @param {boolean} isWanted WhatsApp wants it, so that a phone has answered
     */
    passkey(isWanted = false) {
        this.#passkeyAsked = true;
        if (isWanted && !this.answered) this.#phoneAnswered();
        if (!this.answered) return;
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
        this.#state.enter('generating', { message });
        this.#run.after('start', this.#config.startTimeout * 1000, () => this.#session.silent());
    }

    #codesUsedUp() {
        this.#log.info('no code was scanned', { codes: this.attempt });
        this.#giveUp(`codes shown: ${this.attempt}; none was scanned`);
    }

    #giveUp(message) {
        if (this.#run.closed) return;
        this.#state.enter('qr_timeout', { message, hint: ASK_AGAIN });
        this.#session.giveUp();
    }

    /** The page has used up its batch of codes: it gets another one if it asks for it. */
    #refresh() {
        this.#freshBatch = true;
        const limit = this.#config.probeInterval * 1000;
        withLimit(this.#run.client.refreshQr(), limit, 'asking for new codes').catch((error) =>
            this.#log.warning('no new codes', { reason: error?.message ?? error }),
        );
    }
}

module.exports = { Linking, PairingRequest, isQr };

'use strict';

/** From the login to `ready`, and what becomes of the connection after it. */

const { EXIT } = require('./exit');
const { maskPhone } = require('./state');

/** Connection states in which WhatsApp Web goes on by itself; the others end a linked session. */
const PASSING = new Set(['CONNECTED', 'OPENING', 'PAIRING', 'TIMEOUT']);

/** What happens in one run of the browser once it has a login. */
class Linked {
    #run;
    #config;
    #state;
    #session;
    /** What `ready` said, and whether the page is being loaded again since. */
    #info = null;
    #reloading = false;

    /**
     * @param {object} options
     * @param {import('./run').BrowserRun} options.run
     * @param {object} options.session `lose` gives up what only a fresh start can mend
     */
    constructor({ run, config, state, session }) {
        this.#run = run;
        this.#config = config;
        this.#state = state;
        this.#session = session;
    }

    /** There is a login; WhatsApp loads the account. */
    found(message) {
        if (this.#state.enter('authenticated', { message })) this.#expectReady();
    }

    loading(percent) {
        const progress = Math.max(0, Math.min(100, Math.round(Number(percent) || 0)));
        if (this.#state.name !== 'authenticated') {
            if (this.#state.name === 'pairing') this.#state.update({ progress });
            return;
        }
        // Slow is not dead: a big account takes its time, and it shows that it moves.
        this.#state.update({ progress, message: `linked, WhatsApp is loading (${progress} %)` });
        this.#expectReady();
    }

    ready() {
        this.#run.cancel('ready');
        this.#reloading = false;
        const info = this.#run.client.info ?? {};
        const phone = info.wid?.user ?? null;
        const name = info.pushname ? ` (${info.pushname})` : '';
        this.#info = `linked as ${maskPhone(phone)}${name}, ready`;
        this.#state.enter('ready', {
            message: this.#info,
            phone_number: phone,
            pushname: info.pushname ?? null,
            platform: info.platform ?? null,
        });
    }

    /** The page is being loaded again. */
    reloads() {
        if (this.#state.name !== 'ready') return;
        this.#reloading = true;
        this.#state.enter('disconnected', { message: 'WhatsApp Web loads its page again' });
        this.#expectReady();
    }

    /** WhatsApp's connection state changed, after a login. */
    socket(connection) {
        const now = this.#state.name;
        if (!PASSING.has(connection)) {
            this.#session.lose(EXIT.disconnected, `disconnected by WhatsApp (${connection})`);
        } else if (now === 'ready' && connection !== 'CONNECTED') {
            this.#state.enter('disconnected', {
                message: `connection to WhatsApp lost (${connection}), reconnecting`,
            });
        } else if (now === 'disconnected' && connection === 'CONNECTED' && this.#isBack) {
            this.#state.enter('ready', { message: this.#info });
        }
    }

    get #isBack() {
        return this.#info !== null && !this.#reloading;
    }

    #expectReady() {
        const limit = this.#config.readyTimeout;
        this.#run.after('ready', limit * 1000, () =>
            this.#session.lose(EXIT.neverReady, `linked, but not ready in ${limit} s`),
        );
    }
}

module.exports = { Linked };

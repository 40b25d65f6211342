'use strict';

/** From the login to `ready`, and the connection after it. */

const { messageOf } = require('./errors');
const { reason } = require('./session_errors');
const { isKnown, isRefusal, ruleFor } = require('./recovery');
const { maskPhone } = require('./state');

/** A site that cannot be reached is asked again after so long, each time twice as long. */
const ASK_FIRST_MS = 15_000;
const ASK_MAX_MS = 60_000;
/** A page that is busy all the time is given so many times the usual limit to become ready. */
const BUSY_LIMITS = 5;

/** What happens in one run of the browser once it has a login. */
class Linked {
    #run;
    #config;
    #state;
    #log;
    #session;
    /** The message of `ready`, until the page is being reloaded. @type {string|null} */
    #info = null;
    #reloading = false;
    /** How far the loading has come, and since when nothing has moved. */
    #progress = -1;
    #movedAt = 0;
    #pause = ASK_FIRST_MS;
    /** What was thrown when the library was to be made ready. @type {string|null} */
    #obstacle = null;

    /** @param {import('./types').RunParts} parts */
    constructor({ run, config, state, log, session }) {
        this.#run = run;
        this.#config = config;
        this.#state = state;
        this.#log = log;
        this.#session = session;
    }

    /**
     * Return whether the page may have much to do: it loads itself or the account, or shows a code, after
     * which it loads an account before it reports that.
     */
    get loads() {
        return this.#reloading || !['ready', 'disconnected'].includes(this.#state.name);
    }

    /** There is a login; WhatsApp loads the account. */
    found(/** @type {string} */ message) {
        // A lasting problem stays shown until it has ended.
        const { cause, hint } = this.#session.serious() ? this.#state.document() : {};
        const shown = { message, cause: cause ?? null, hint: hint ?? null };
        if (!this.#state.enter('authenticated', shown)) return;
        if (!this.#reloading || !this.#run.awaits('ready')) this.#expectReady();
    }

    /** There is a login, and the library could not be made ready: why, in case that stays so. */
    notMade(/** @type {unknown} */ error) {
        this.#obstacle = messageOf(error).split('\n')[0].slice(0, 200);
    }

    loading(/** @type {number} */ percent) {
        const progress = Math.max(0, Math.min(100, Math.round(Number(percent) || 0)));
        if (this.#state.name !== 'authenticated') {
            if (this.#state.name === 'pairing') this.#state.update({ progress });
            return;
        }
        this.#state.update({ progress, message: `linked, WhatsApp is loading (${progress} %)` });
        if (progress <= this.#progress) return;
        // Slow is not dead: a big account takes its time, and it shows that it moves.
        this.#progress = progress;
        this.#expectReady();
    }

    /** The page does not answer just now: it has much to do, or hangs, which is found out elsewhere. */
    busy() {
        const limit = this.#config.readyTimeout * 1000;
        const isOver = performance.now() - this.#movedAt > BUSY_LIMITS * limit;
        if (this.#run.awaits('ready') && !isOver) this.#awaitReady();
    }

    ready() {
        this.#run.cancel('ready');
        this.#run.cancel('connection');
        this.#reloading = false;
        this.#progress = -1;
        this.#obstacle = null;
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
        this.#session.ready();
        // It may have been lost while the account was being loaded; that is not reported again.
        const { connection } = this.#run;
        if (connection !== null && connection !== 'CONNECTED') this.socket(connection);
    }

    /**
     * The page is being reloaded, by its own code or by us; why, if that is known.
     *
     * @param {string} message
     * @param {{cause?: string|null, hint?: string|null}} why
     */
    reloads(message = 'WhatsApp Web loads its page again', { cause = null, hint = null } = {}) {
        if (!['ready', 'disconnected', 'authenticated', 'error'].includes(this.#state.name)) return;
        this.#run.cancel('connection');
        // A page that loads itself again and again gets no more time by that; one that we load does.
        const isFirst = !this.#reloading || cause !== null;
        this.#reloading = true;
        if (isFirst) this.#progress = -1;
        if (this.#state.name === 'error') this.#state.update({ message });
        else if (this.#state.name !== 'disconnected' || cause !== null) {
            this.#state.enter('disconnected', { message, cause, hint });
        }
        if (isFirst || !this.#run.awaits('ready')) this.#expectReady();
    }

    /** WhatsApp's connection state changed, after a login. */
    socket(/** @type {string} */ connection) {
        const now = this.#state.name;
        if (isRefusal(connection)) {
            this.#session.trouble('refused', reason.refused(connection));
            return;
        }
        if (connection === 'CONNECTED') {
            this.#run.cancel('connection');
            this.#pause = ASK_FIRST_MS;
            if (now === 'disconnected' && this.#isBack) {
                this.#state.enter('ready', { message: this.#info ?? 'ready' });
                this.#session.ready();
            }
            return;
        }
        if (now === 'ready' && isKnown(connection)) {
            this.#state.enter('disconnected', {
                message: `connection to WhatsApp lost (${connection}), reconnecting`,
            });
        }
        const { limit } = ruleFor(connection, now) ?? {};
        if (typeof limit === 'number' && !this.#run.awaits('connection')) {
            this.#run.after('connection', limit * 1000, () => this.#ask());
        }
    }

    get #isBack() {
        return this.#info !== null && !this.#reloading;
    }

    /** The connection did not come back: ask the page again, and check whether the site is there. */
    async #ask() {
        const run = this.#run;
        const { seen, fault } = await run.ask();
        if (run.closed || this.#reloading || run.awaits('connection')) return;
        const connection = seen?.state ?? run.connection;
        if (connection === 'CONNECTED' || (!isKnown(connection) && seen?.synced === true)) {
            run.connection = connection;
            this.socket('CONNECTED');
            return;
        }
        const why = fault === null ? reason.connectionLost(connection) : fault;
        if (fault === null) {
            this.#session.trouble('connection', why);
            return;
        }
        // This page connects within seconds once the site can be reached; a new one could not even load.
        const until = new Date(Date.now() + this.#pause).toISOString().slice(11, 19);
        this.#state.update({
            message: `${why.message}; WhatsApp's page keeps trying, and is checked again at ${until} UTC`,
            cause: why.cause,
            hint: why.hint,
        });
        this.#log.warning('not connected', { reason: why.message, connection });
        run.after('connection', this.#pause, () => this.#ask());
        this.#pause = Math.min(2 * this.#pause, ASK_MAX_MS);
    }

    #expectReady() {
        this.#movedAt = performance.now();
        this.#awaitReady();
    }

    #awaitReady() {
        const limit = this.#config.readyTimeout;
        this.#run.after('ready', limit * 1000, () =>
            this.#session.trouble('never_ready', reason.neverReady(limit, this.#obstacle)),
        );
    }
}

module.exports = { Linked };

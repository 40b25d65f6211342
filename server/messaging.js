'use strict';

/**
 * Everything about messages in the server of one user: events are written to the journal, sent to the web
 * app, and read back after a gap; sends are kept by their key. It is made once this server answers: loading
 * its parts takes a fifth of the time until then.
 */

const path = require('node:path');

const { addChatRoutes } = require('./chat_routes');
const { EVENTS } = require('./config');
const { addContactRoutes } = require('./contact_routes');
const { Delivery } = require('./delivery');
const { addGroupRoutes } = require('./group_routes');
const { Incoming } = require('./incoming');
const { Journal } = require('./journal');
const { addMediaRoutes } = require('./media_routes');
const { MessageRoutes } = require('./message_routes');
const { Missed } = require('./missed');
const { addSendRoutes } = require('./send_routes');
const { Sending } = require('./sending');
const { Sends } = require('./sends');
const { Spool } = require('./spool');
const { timestamp } = require('./state');
const { MESSAGES } = require('./storage');
const { Webhook, isOwn } = require('./webhook');

/** The size of the journal changes with each event; it is reported this often. */
const COUNTS_PAUSE_MS = 1_000;

/** What counts as a message, of the events. */
const IS_MESSAGE = ['message', 'message.sent'];

/** Why nothing is delivered where the webhook is this server. */
const OWN_WEBHOOK = 'it names this server itself: no message is handed on';

/** @typedef {import('./types').Config} Config */
/** @typedef {import('./state').SessionState} SessionState */
/** @typedef {{sending: Sending, spool: Spool, country: string|null}} SendParts */

/** Return the webhook, null where there is none. @param {Config} config */
function makeWebhook({ webhookUrl, webhookSecrets, webhookHeaders, webhookTimeout }) {
    if (webhookUrl === null) return null;
    const limitMs = webhookTimeout * 1000;
    return new Webhook({ url: webhookUrl, secrets: webhookSecrets, headers: webhookHeaders, limitMs });
}

/** Show in the document what the journal has. @param {Journal} journal @param {SessionState} state */
function showCounts(journal, state) {
    /** @type {NodeJS.Timeout|null} */
    let timer = null;
    /** @type {number|null} */
    let last = null;
    const text = (/** @type {number|null} */ ms) => (ms === null ? null : timestamp(ms));
    journal.on('append', (/** @type {import('./types').Entry} */ { event, at }) => {
        if (IS_MESSAGE.includes(event.event)) last = at;
    });
    journal.on('change', () => {
        timer ??= setTimeout(() => {
            timer = null;
            const { oldest_at: oldest, pending_at: pending, ...counts } = journal.counts;
            const times = { oldest_at: oldest, pending_at: pending, last_message_at: last };
            const texts = Object.entries(times).map(([name, at]) => [name, text(at)]);
            state.update({ journal: { ...counts, ...Object.fromEntries(texts) } });
        }, COUNTS_PAUSE_MS).unref();
    });
}

/**
 * Add the paths that have to do with messages.
 *
 * @param {import('./types').RouteTools} tools as `createRoutes` gives them
 * @param {object} parts
 * @param {MessageRoutes} parts.messages
 * @param {SendParts} parts.sends see send_routes.js
 * @param {number} parts.mediaMax bytes of media that are read at most
 * @param {() => boolean} parts.isLinked
 */
function addMessagingRoutes({ add, answering, onSession }, { messages, sends, mediaMax, isLinked }) {
    addSendRoutes({ add, answering, ...sends, isLinked });
    addChatRoutes({ add, onSession });
    addContactRoutes({ add, onSession, mediaMax });
    addGroupRoutes({ add, onSession });
    addMediaRoutes({ add, onSession, mediaMax });
    messages.addTo(add);
}

class Messaging {
    #state;
    #journal;
    #delivery;
    #incoming;
    #missed;
    #messages;
    #begun;
    #sends;
    #mediaMax;

    /**
     * @param {object} options
     * @param {Config} options.config
     * @param {SessionState} options.state
     * @param {import('./session').Session} options.session
     * @param {import('./types').Log} options.log
     */
    constructor({ config, state, session, log }) {
        this.#state = state;
        const toItself = config.webhookUrl !== null && isOwn(config.webhookUrl, config.port);
        const webhook = toItself ? null : makeWebhook(config);
        const awaits = (/** @type {import('./types').JournalEvent} */ { event }) =>
            webhook !== null && config.webhookEvents.includes(event);
        const directory = path.join(config.authDirectory, MESSAGES);
        this.#journal = new Journal({
            directory,
            maxAge: config.journalAge,
            maxBytes: config.journalSize,
            log,
            awaits,
        });
        showCounts(this.#journal, state);
        const fault = toItself ? { error: OWN_WEBHOOK, error_at: timestamp(Date.now()) } : {};
        this.#delivery = new Delivery({
            journal: this.#journal,
            webhook,
            awaits,
            retryMs: config.webhookRetry * 1000,
            log,
            onCount: (counts) => state.update({ webhook: { ...counts, ...fault } }),
        });
        if (toItself) {
            state.update({ webhook: { ...this.#delivery.counts, ...fault } });
            log.warning('WAPORTD_WEBHOOK_URL names this server itself: no message is handed on');
        } else if (webhook !== null) {
            // The rest of the URL may be secret.
            log.info('events go to the web app', { host: config.webhookUrl?.host, proxy: 'none' });
        }
        this.#incoming = new Incoming({
            identity: config,
            journal: this.#journal,
            ignore: config.ignore,
            handOn: (entry) => this.#delivery.push(entry),
            log,
        });
        this.#missed = new Missed({
            state,
            journal: this.#journal,
            take: (event, client) => this.#incoming.take(event, client),
            maxAge: config.journalAge,
            maxBytes: config.journalSize,
            log,
        });
        this.#missed.start(session);
        this.#messages = new MessageRoutes({
            journal: this.#journal,
            delivery: this.#delivery,
            kinds: [...EVENTS],
        });
        this.#begun = new Sends({ directory, log });
        const { sendRate: rate, mediaFromPrivate, mediaMax, defaultCountry: country } = config;
        this.#mediaMax = mediaMax;
        const spool = new Spool({ directory: path.join(config.cacheDirectory, 'sending'), most: mediaMax });
        const sending = new Sending({ session, sends: this.#begun, spool, log, rate, mediaFromPrivate });
        this.#sends = { sending, spool, country };
    }

    /** @param {import('./types').RouteTools} tools */
    addRoutes(tools) {
        addMessagingRoutes(tools, {
            messages: this.#messages,
            sends: this.#sends,
            mediaMax: this.#mediaMax,
            isLinked: () => this.#state.document().linked,
        });
    }

    /** Read the journal, and deliver what is in it. */
    start() {
        this.#journal.load().then(() => this.#delivery.start());
    }

    /**
     * Take an event of the session (describe.js), with the client that can be asked about its people.
     *
     * @param {import('./types').WhatsAppEvent} event
     * @param {import('./types').SessionClient|null} client
     */
    take(event, client) {
        return this.#missed.take(event, client);
    }

    /**
     * Delete the stored messages before their folder: later writes would be in a new one. If that fails now,
     * deleting the folder fails, too, and reports why.
     */
    async erase() {
        await this.#journal.erase().catch(() => {});
    }

    /** Nothing more is looked for; what came so far is in the journal. For while the page is there. */
    async settle() {
        await this.#missed.close();
        await this.#incoming.settle();
    }

    /** Stop: what is not delivered stays in the journal. */
    async close() {
        await this.#delivery.close();
        this.#incoming.close();
        this.#messages.close();
        await this.#journal.close();
    }

    /** Nobody sends any more. */
    async end() {
        await this.#begun.close();
    }
}

module.exports = { Messaging, addMessagingRoutes };

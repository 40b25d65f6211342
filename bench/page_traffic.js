'use strict';

/**
 * tests/light_server.js with a page in which messages come as they are wanted. Each line of stdin wants some:
 *
 *     {"messages": 500, "chats": 20, "rate": 25, "slow": 0.1, "journal": true}
 *
 * `rate` is messages a second, 0 = all at once; `slow` of each second go to one more chat, the slow one of
 * web_app.js. Without `journal` each is posted to the web app as soon as it is described, and that is all.
 * A service has no stdin: it wants what the variable TRAFFIC says, once its phone is linked.
 *
 * The body of each is the time at which the page has it: nanoseconds of the monotonic clock.
 */

const { randomBytes } = require('node:crypto');
const { createInterface } = require('node:readline');

const { describeMessage } = require('../server/describe');
const { Webhook } = require('../server/webhook');
const { LightClient, runLight } = require('../tests/light_server');

const TICK_MS = 4;
/** As long as what people write. */
const WORDS = 'x'.repeat(60);

const SLOW_CHAT = 5521999999999;

const webhook = new Webhook({ url: new URL(process.env.WAPORTD_WEBHOOK_URL), limitMs: 30_000 });
let client = null;

class BusyClient extends LightClient {
    constructor(options) {
        super(options);
        this.on('ready', () => {
            const isFirst = client === null;
            client = this;
            if (isFirst && process.env.TRAFFIC) comeAsWanted(JSON.parse(process.env.TRAFFIC));
        });
    }
}

function messageIn(chat) {
    const from = `${chat}@c.us`;
    return {
        id: `false_${from}_${randomBytes(16).toString('hex').toUpperCase()}`,
        from,
        to: `${client.info.wid.user}@c.us`,
        body: `${process.hrtime.bigint()} ${WORDS}`,
        fromMe: false,
        timestamp: Math.floor(Date.now() / 1000),
        type: 'chat',
    };
}

function come(chat, journal) {
    const message = messageIn(chat);
    if (journal) {
        client.emit('message_create', message);
        return;
    }
    const event = describeMessage(message);
    webhook.post(event.event_id, Buffer.from(JSON.stringify(event)));
}

function comeAsWanted({ messages, chats, rate, slow = 0, journal = true }) {
    const began = performance.now();
    let done = 0;
    let slowDone = 0;
    const tick = () => {
        const seconds = (performance.now() - began) / 1000;
        const due = rate === 0 ? messages : Math.min(messages, Math.floor(seconds * rate) + 1);
        for (; done < due; done += 1) come(5521900000000 + (done % chats), journal);
        for (; slowDone < Math.ceil(seconds * slow); slowDone += 1) come(SLOW_CHAT, journal);
        if (done === messages) clearInterval(timer);
    };
    const timer = setInterval(tick, TICK_MS);
    tick();
}

if (!process.env.TRAFFIC) {
    createInterface({ input: process.stdin }).on('line', (line) => comeAsWanted(JSON.parse(line)));
}
runLight(BusyClient);

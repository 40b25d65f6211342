/** The devices that are linked, and the pages that are open, as the site sees them. */
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');

/** Codes that the site hands out before a page goes idle: as many as WhatsApp sends at once. */
const REFS_PER_PAGE = 6;
/** Milliseconds a pairing code is valid: the interval at which whatsapp-web.js asks for a new one. */
const PAIRING_CODE_TTL_MS = 180_000;
/** Letters of a pairing code: Crockford's base 32 without 0, as WhatsApp uses. */
const ALPHABET = '123456789ABCDEFGHJKLMNPQRSTVWXYZ';
/** Milliseconds within which a page does what it is asked to, unless it hangs. */
const ANSWER_MS = 5_000;

function eightLetters() {
    return Array.from({ length: 8 }, () => ALPHABET[crypto.randomInt(ALPHABET.length)]).join('');
}

/** Linked devices by noise key, in memory and in `file`, so that a restarted stand-in still knows them. */
class Devices {
    constructor(file) {
        this.file = file;
        const saved = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : {};
        this.byNoise = new Map(Object.entries(saved));
    }

    get(noise) {
        return this.byNoise.get(noise) ?? null;
    }

    link(noise, account) {
        this.byNoise.set(noise, account);
        this.save();
    }

    unlink(noise) {
        this.byNoise.delete(noise);
        this.save();
    }

    /** Noise keys of all devices linked to `phone`. */
    of(phone) {
        return [...this.byNoise].filter(([, account]) => account.phone === phone).map(([noise]) => noise);
    }

    save() {
        const draft = `${this.file}.new`;
        fs.writeFileSync(draft, JSON.stringify(Object.fromEntries(this.byNoise), null, 2), { mode: 0o600 });
        fs.renameSync(draft, this.file);
    }
}

/** A page that is open in some browser right now, seen from the site: its keys, its code, its downlink. */
class Page {
    #asked = new Map();

    constructor({ id, noise, identity, adv, hasLogin }, downlink) {
        Object.assign(this, { id, noise, identity, adv, hasLogin, downlink });
        this.state = 'OPENING';
        this.synced = false;
        this.listened = {};
        this.ref = null;
        this.refsLeft = 0;
        this.pairing = null;
        this.passkey = null;
        downlink.on('close', () => {
            this.stopRefs();
            this.endPasskey();
            for (const answer of this.#asked.values()) answer(null);
        });
    }

    send(command) {
        this.downlink.write(`${JSON.stringify(command)}\n`);
    }

    /** Resolves with whether the page did it: false when it failed or hangs, null when it is gone. */
    ask(command) {
        const seq = crypto.randomUUID();
        return new Promise((resolve) => {
            const answer = (done) => {
                this.#asked.delete(seq);
                clearTimeout(timer);
                resolve(done);
            };
            const timer = setTimeout(answer, ANSWER_MS, false);
            this.#asked.set(seq, answer);
            this.send({ ...command, seq });
        });
    }

    answered({ seq, error }) {
        this.#asked.get(seq)?.(error === undefined);
    }

    /** Hands out a fresh series of codes, each valid for its share of `ttl` = [first, later] milliseconds. */
    startRefs(ttl) {
        this.refsLeft = REFS_PER_PAGE;
        this.nextRef(ttl, ttl[0]);
    }

    /** Replaces the code; after the last one the page goes idle and no code is valid any more. */
    nextRef(ttl, lifetime = ttl[1]) {
        this.stopRefs();
        if (this.refsLeft === 0) {
            this.send({ type: 'idle' });
            return;
        }
        this.refsLeft -= 1;
        this.ref = `2@${crypto.randomBytes(66).toString('base64')}`;
        this.send({ type: 'ref', ref: this.ref });
        this.refTimer = setTimeout(() => this.nextRef(ttl), lifetime);
    }

    stopRefs() {
        clearTimeout(this.refTimer);
        this.ref = null;
    }

    /** Makes the code that has to be typed on `phone` to link this page. */
    makePairingCode(phone) {
        const code = eightLetters();
        this.pairing = { phone, code, expires: Date.now() + PAIRING_CODE_TTL_MS };
        return code;
    }

    /** Nobody waits for a passkey any more. */
    endPasskey() {
        clearTimeout(this.passkey?.limiting);
        clearTimeout(this.passkey?.agreeing);
        this.passkey = null;
    }

    /** As `GET /pages` shows it. */
    describe(account) {
        return {
            id: this.id,
            ref: this.ref,
            phone: account?.phone ?? null,
            state: this.state,
            synced: this.synced,
            noise: this.noise,
            pairingCode: this.pairing && this.pairing.expires > Date.now() ? this.pairing.code : null,
            passkey: this.passkey?.stage ?? null,
            passkeyAsked: this.passkey?.asked ?? 0,
            passkeyPressed: this.passkey?.pressed ?? [],
            injections: this.listened['Socket change:hasSynced'] ?? 0,
            listened: this.listened,
        };
    }
}

module.exports = { Devices, Page, eightLetters };

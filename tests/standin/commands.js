/** Control commands: what a person does with a phone, and the faults of the site; see README.md. */
'use strict';

const crypto = require('node:crypto');
const { lidOf } = require('./chats');
const { HttpError } = require('./http');

/** Name → (stand-in, body) → reply; no reply stands for {ok: true}. */
const COMMANDS = {
    async scan(standin, { qr, port, ...phone }) {
        const text = qr ?? (port === undefined ? undefined : (await askServer(port)).qr);
        const claimed = parseQr(text);
        const page = [...standin.pages.values()].find(({ ref }) => ref === claimed.ref);
        if (!page) throw new HttpError(410, 'this code is not valid now: expired, used or never issued');
        if (page.noise !== claimed.noise || page.identity !== claimed.identity || page.adv !== claimed.adv) {
            throw new HttpError(403, 'the keys in this code are not those of the page with its ref');
        }
        return link(standin, page, phone);
    },
    pair(standin, { code, phone, name }) {
        requirePhone(phone);
        const typed = String(code).replaceAll('-', '').toUpperCase();
        const page = [...standin.pages.values()].find(({ pairing }) => pairing?.code === typed);
        if (!page || page.pairing.expires < Date.now()) {
            throw new HttpError(410, 'this code is not valid now');
        }
        if (page.pairing.phone !== phone) throw new HttpError(403, 'this code is for another number');
        return link(standin, page, { phone, name });
    },
    async rotate(standin, body) {
        unlinked(standin, await findPage(standin, body)).nextRef(standin.refsTtl);
    },
    async expire(standin, body) {
        const page = unlinked(standin, await findPage(standin, body));
        page.refsLeft = 0;
        page.nextRef(standin.refsTtl);
    },
    /** Unlinks in the phone's list of linked devices; works for a page that is not open, too. */
    async logout(standin, body) {
        const phone = await findPhone(standin, body);
        const noises = standin.devices.of(phone);
        if (noises.length === 0) throw new HttpError(404, 'no device is linked to this phone');
        const pages = pagesOf(standin, phone);
        for (const noise of noises) standin.devices.unlink(noise);
        for (const page of pages) page.send({ type: 'logout' });
    },
    async message(standin, { body, from, name = from, lid = false, group, ...address }) {
        const phone = await findPhone(standin, address);
        const pages = pagesOf(standin, phone);
        if (pages.length === 0) throw new HttpError(404, 'no page of this phone is open');
        const sender = lid ? lidOf(from) : `${from}@c.us`;
        const message = {
            id: crypto.randomBytes(16).toString('hex').toUpperCase(),
            author: group ? sender : undefined,
            sender: name,
            body,
            t: Math.floor(Date.now() / 1000),
        };
        const chat = standin.store(phone, { id: group ?? sender, name }, message);
        for (const page of pages) {
            page.send({ type: 'message', chat: { id: chat.id, name: chat.name }, message });
        }
        return { id: message.id };
    },
    async loading(standin, { percent, ...address }) {
        (await findPage(standin, address)).send({ type: 'loading', percent });
    },
    async unreachable(standin, { on = true }) {
        await standin.setReachable(!on);
    },
    silent(standin, { on = true }) {
        standin.silent = on;
        if (on) return;
        for (const page of standin.pages.values()) {
            if (page.state === 'OPENING' && !page.ref) standin.welcome(page);
        }
    },
    'no-debug': (standin, { on = true }) => {
        standin.debug = !on;
    },
};
for (const outcome of ['refuse', 'passkey', 'stay-authenticated']) {
    COMMANDS[outcome] = (standin, { on = true }) => {
        standin.nextLink = on ? outcome : null;
    };
}
for (const state of ['CONFLICT', 'UNPAIRED']) {
    COMMANDS[state.toLowerCase()] = async (standin, body) => {
        (await findPage(standin, body)).send({ type: 'state', state });
    };
}
for (const type of ['hang', 'crash']) {
    COMMANDS[type] = async (standin, body) => {
        (await findPage(standin, body)).send({ type });
    };
}

/**
 * The live page that a command is about: given by `page` (id), `phone` (linked to it), `qr` (its text,
 * also after it was scanned), `port` (of the server whose page it is), or, with none, the only one.
 */
async function findPage(standin, { page: id, phone, qr, port }) {
    if (port !== undefined) return findPage(standin, await askServer(port));
    const noise = qr === undefined ? undefined : parseQr(qr).noise;
    const candidates = phone === undefined ? [...standin.pages.values()] : pagesOf(standin, phone);
    const found = candidates.filter((page) => (
        (id === undefined || page.id === id) && (noise === undefined || page.noise === noise)
    ));
    if (found.length === 1) return found[0];
    const status = found.length === 0 ? 404 : 409;
    throw new HttpError(status, `${found.length || 'no'} live pages match; see GET /pages`);
}

/** The phone that a command is about: `phone` itself, or the one that the page is linked to. */
async function findPhone(standin, { phone, ...address }) {
    return phone ?? standin.requireAccount(await findPage(standin, address)).phone;
}

/** Live pages of all devices linked to `phone`. */
function pagesOf(standin, phone) {
    return [...standin.pages.values()].filter((page) => standin.devices.get(page.noise)?.phone === phone);
}

/** The phone accepts `page` as its linked device, or does what `nextLink` says instead. */
function link(standin, page, { phone, name = 'Ana' }) {
    requirePhone(phone);
    const outcome = standin.nextLink;
    standin.nextLink = null;
    page.stopRefs();
    page.pairing = null;
    page.send({ type: 'state', state: 'PAIRING' });
    if (outcome === 'refuse') {
        page.startRefs(standin.refsTtl);
        throw new HttpError(403, 'the phone says: could not link device');
    }
    if (outcome === 'passkey') {
        page.send({ type: 'passkey' });
        return { passkey: true };
    }
    standin.devices.link(page.noise, { phone, name });
    standin.logIn(page, { phone, name }, { ready: outcome !== 'stay-authenticated' });
    return { page: page.id };
}

function unlinked(standin, page) {
    if (standin.devices.get(page.noise)) throw new HttpError(409, 'this page is linked and shows no code');
    return page;
}

function requirePhone(phone) {
    if (!/^\d{8,15}$/.test(phone ?? '')) throw new HttpError(400, '"phone" must be 8 to 15 digits');
}

/** Fields of a QR text: `ref,noise,identity,adv,platform`. */
function parseQr(text) {
    const fields = String(text).split(',');
    if (fields.length !== 5) throw new HttpError(400, 'not the text of a WhatsApp Web code');
    const [ref, noise, identity, adv, platform] = fields;
    return { ref, noise, identity, adv, platform };
}

/** The code or the phone number of the server on `port`, asked for through its public API. */
async function askServer(port) {
    const ask = async (route) => {
        try {
            const url = `http://127.0.0.1:${port}${route}`;
            return await (await fetch(url, { signal: AbortSignal.timeout(10_000) })).json();
        } catch (error) {
            throw new HttpError(502, `port ${port} does not answer GET ${route}: ${error.message}`);
        }
    };
    const { qr } = await ask('/qr');
    if (qr) return { qr };
    const { phone_number: phone } = await ask('/status');
    if (phone) return { phone: phone.replace(/\D/g, '') };
    throw new HttpError(404, `the server on port ${port} shows no code and has no linked phone`);
}

module.exports = { COMMANDS };

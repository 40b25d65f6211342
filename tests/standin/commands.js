/** Control commands: what a person does with a phone, and the faults of the site; see README.md. */
'use strict';

const { lidOf, manyChats, olderThan } = require('./chats');
const { HttpError } = require('./http');
const { TYPES, describeMessage, newId } = require('./messages');
const { TRAITS } = require('./traits');

/**
 * How the page and the site behave that want a passkey, with what they do by default: README.md explains it.
 * Times in milliseconds.
 */
const PASSKEY = {
    ask: null,
    timeout: 600_000,
    limit: 120_000,
    again: 0,
    compare: false,
    silent: false,
    agrees: null,
    fails: 0,
    look: 'usual',
};
const ID = /^[\w:.-]+@(c\.us|lid|g\.us|broadcast|newsletter|bot|hosted|hosted\.lid|call)$/;
const now = () => Math.floor(Date.now() / 1000);

/** Name → (site, body) → reply; no reply stands for {ok: true}. */
const COMMANDS = {
    // ---- a person with a phone ------------------------------------------------------------------

    async scan(site, { qr, port, ...phone }) {
        const text = qr ?? (port === undefined ? undefined : (await askServer(port)).qr);
        const claimed = parseQr(text);
        const page = [...site.pages.values()].find(({ ref }) => ref === claimed.ref);
        if (!page) throw new HttpError(410, 'this code is not valid now: expired, used or never issued');
        if (page.noise !== claimed.noise || page.identity !== claimed.identity || page.adv !== claimed.adv) {
            throw new HttpError(403, 'the keys in this code are not those of the page with its ref');
        }
        return link(site, page, phone);
    },
    pair(site, { code, phone, name }) {
        requirePhone(phone);
        const typed = String(code).replaceAll('-', '').toUpperCase();
        const page = [...site.pages.values()].find(({ pairing }) => pairing?.code === typed);
        if (!page || page.pairing.expires < Date.now()) {
            throw new HttpError(410, 'this code is not valid now');
        }
        if (page.pairing.phone !== phone) throw new HttpError(403, 'this code is for another number');
        return link(site, page, { phone, name });
    },
    /**
     * Unlinks in the phone's list of linked devices; works for a page that is not open, too. With a `reason`
     * from 0 to 2 the page gives its login up, of which the phone hears nothing.
     */
    async logout(site, { reason, ...address }) {
        const phone = await findPhone(site, address);
        const noises = requireDevice(site, phone);
        const pages = pagesOf(site, phone);
        if (![0, 1, 2].includes(reason)) for (const noise of noises) site.devices.unlink(noise);
        for (const page of pages) page.send({ type: 'logout', reason });
    },
    /** A message arrives, or with `fromMe` was written on the phone; see `deliver` for closed pages. */
    async message(site, { from, to, name = from, group, lid, fromMe = false, ...rest }) {
        const { offline = false, type = 'chat', page, port, qr, phone: given, ...fields } = rest;
        const phone = await findPhone(site, { phone: given, page, port, qr });
        requireDevice(site, phone);
        if (!(type in TYPES)) throw new HttpError(400, `no such type; one of ${Object.keys(TYPES)}`);
        const other = idOf(site, fromMe ? to : from, lid);
        const mine = site.idOf(phone);
        const keepMedia = (mimetype, size) => site.media.keep(mimetype, size);
        const { expired, ...described } = describeMessage(type, fields, keepMedia);
        const message = {
            id: newId(),
            fromMe,
            author: group ? (fromMe ? mine : other) : undefined,
            sender: fromMe ? undefined : name,
            t: now(),
            ...described,
            expired,
        };
        if (expired) site.media.expire(message.directPath);
        const chat = { id: group ?? other, name };
        return { id: message.id, taken: await deliver(site, phone, chat, message, offline) };
    },
    /** What happens to a message that is there: `ack`, `edit`, `revoke`, `delete`, `reaction`, `vote`. */
    async change(site, { kind, id, from, by, lid, body, text, ack, options, ...address }) {
        const phone = await findPhone(site, address);
        const { message } = site.find(phone, id);
        if (kind === 'edit') message[message.directPath ? 'caption' : 'body'] = body;
        if (kind === 'ack') message.ack = ack;
        if (kind === 'revoke') Object.assign(message, { type: 'revoked', body: undefined });
        const who = from === undefined ? site.idOf(phone) : idOf(site, from, lid);
        const told = { type: kind, id, from: who, body, text, ack, options, key: newId(), t: now() };
        if (kind === 'reaction') {
            message.hasReaction = true;
            message.reactions ??= [];
            message.reactions.push({ from: who, text, key: told.key, t: told.t });
        }
        if (by !== undefined) told.by = idOf(site, by, lid);
        await askAll(pagesOf(site, phone), told);
    },
    async call(site, { from, lid, video, group, ...address }) {
        const pages = pagesOf(site, await findPhone(site, address));
        await askAll(pages, { type: 'call', id: newId(), from: idOf(site, from, lid), video, group });
    },
    /** Gives a phone many chats; an open page has them at once, others with their next login. */
    async chats(site, { phone, ...wish }) {
        requirePhone(phone);
        const chats = manyChats(wish, (number) => site.idOf(number));
        site.chatsOf(phone).push(...chats);
        await askAll(pagesOf(site, phone), { type: 'chats', chats });
    },

    /** What open pages know of somebody; `picture` = how many bytes theirs has, null = there is none. */
    async contact(site, { phone, who, lid, picture, ...known }) {
        requirePhone(phone);
        const id = idOf(site, who, lid);
        if (picture !== undefined) {
            site.pictures.set(id, picture === null ? undefined : site.media.keep('image/jpeg', picture));
        }
        if (Object.keys(known).length > 0) await askAll(pagesOf(site, phone), { type: 'contact', id, known });
    },
    /** A phone has `count` older messages of a chat that it has not handed over; of its next login. */
    older(site, { phone, chat: name, count }) {
        requirePhone(phone);
        const chat = site.chatsOf(phone).find((each) => each.name === name);
        if (!chat) throw new HttpError(404, `no chat of that name: ${name}`);
        chat.older = olderThan(chat, count);
    },

    // ---- a passkey ------------------------------------------------------------------------------

    /** The next scan or pairing has to be confirmed with a passkey; `given` as in `PASSKEY`. */
    passkey(site, { on = true, ...given }) {
        const unknown = Object.keys(given).filter((name) => !(name in PASSKEY));
        if (unknown.length > 0) throw new HttpError(400, `no such option of a passkey: ${unknown}`);
        site.nextLink = on ? { outcome: 'passkey', ...PASSKEY, ...given } : null;
    },
    /** What the authenticator of a phone answers to `options`. */
    approve: (site, { phone, options, ...wish }) => site.passkeys.sign(phone, options, wish),
    'passkey-key': (site, { phone }) => site.passkeys.export(phone),

    // ---- codes ----------------------------------------------------------------------------------

    async rotate(site, body) {
        unlinked(site, await findPage(site, body)).nextRef(site.refsTtl);
    },
    async expire(site, body) {
        const page = unlinked(site, await findPage(site, body));
        page.refsLeft = 0;
        page.nextRef(site.refsTtl);
    },
    refuse(site, { on = true }) {
        site.nextLink = on ? { outcome: 'refuse' } : null;
    },
    'refuse-pairing': (site, { on = true }) => {
        site.refusesPairing = on;
    },

    // ---- the site -------------------------------------------------------------------------------

    async unreachable(site, { on = true }) {
        await site.setReachable(!on);
    },
    silent(site, { on = true }) {
        site.silent = on;
        if (on) return;
        for (const page of site.pages.values()) {
            if (page.state === 'OPENING' && !page.ref) site.welcome(page);
        }
    },
    'no-debug': (site, { on = true }) => {
        site.traits.debug = !on;
    },
    'refuse-browser': (site, { on = true }) => {
        site.refusesBrowser = on;
    },
    /** This build is refused: its pages fall silent, and load again after `reload` milliseconds. */
    'refuse-build': (site, { on = true, code = 405, reload = null }) => {
        site.refusedBuild = on ? { code, reload } : null;
    },
    ban(site, { on = true, phone, code = 101, expire = 3600 }) {
        requirePhone(phone);
        site.bans.delete(phone);
        if (!on) return;
        site.bans.set(phone, { code, expire });
        for (const page of pagesOf(site, phone)) page.send({ type: 'ban', code, expire });
    },
    /** Changes traits: of pages that are open as far as that is possible, of later ones all. */
    set(site, wish) {
        const unknown = Object.keys(wish).filter((name) => !(name in TRAITS));
        if (unknown.length > 0) throw new HttpError(400, `no such trait: ${unknown}; see GET /traits`);
        Object.assign(site.traits, wish);
        return askAll([...site.pages.values()], { type: 'traits', traits: wish });
    },
    'mute-sends': (site, { on = true }) => COMMANDS.set(site, { mute_sends: on }),
    /** Pages loaded from now on have other generated names. */
    'rename-keys': (site, { seed }) => {
        site.seed = seed;
    },
    /**
     * The next link is `authenticated` and never `ready`. A reload fixes it, unless it is `for_good`; then
     * `{"on": false}` does.
     */
    'stay-authenticated': (site, { on = true, for_good: forGood = false }) => {
        site.nextLink = on ? { outcome: 'stay-authenticated', forGood } : null;
        if (!on) site.neverReady.clear();
    },

    // ---- the modules ----------------------------------------------------------------------------

    break: (site, fault) => fail(site, site.breaks, fault, 'break'),
    /** A module is there `ms` later; with a `member` that one answers so much later. */
    delay: (site, fault) => fail(site, site.delays, fault, 'delay'),
    /** Loads a lazy module, as opening its dialog does. */
    async load(site, { module, ...address }) {
        await askAll([await findPage(site, address)], { type: 'load', module });
    },

    // ---- the page -------------------------------------------------------------------------------

    async loading(site, { percent, ...address }) {
        (await findPage(site, address)).send({ type: 'loading', percent });
    },
    async state(site, { state, ...address }) {
        (await findPage(site, address)).send({ type: 'state', state });
    },
};
for (const state of ['CONFLICT', 'UNPAIRED']) {
    COMMANDS[state.toLowerCase()] = (site, body) => COMMANDS.state(site, { ...body, state });
}
/** Faults and habits of a page, with what they are unless given. */
const HABITS = {
    hang: { ms: undefined },
    crash: {},
    frames: { count: 3, every: 100, times: 5 },
    'push-state': { times: 1 },
    'reload-after': { ms: 0 },
};
for (const [type, usual] of Object.entries(HABITS)) {
    COMMANDS[type] = async (site, body) => {
        const wish = Object.fromEntries(Object.keys(usual).map((name) => [name, body[name] ?? usual[name]]));
        (await findPage(site, body)).send({ type, ...wish });
    };
}

/** Adds a fault of the modules, for open and for later pages; `{"on": false}` ends all of a kind. */
function fail(site, faults, { on = true, ...fault }, type) {
    if (!on) {
        faults.length = 0;
        return undefined;
    }
    if (!(fault.module in site.modules)) throw new HttpError(400, `no such module: ${fault.module}`);
    faults.push(fault);
    const live = type === 'break' || fault.member;
    return live ? askAll([...site.pages.values()], { type, ...fault }) : undefined;
}

/** Has all pages do something; fails when one does not. */
async function askAll(pages, command) {
    const done = await Promise.all(pages.map((page) => page.ask(command)));
    if (done.includes(false)) throw new HttpError(504, 'a page did not do it: it failed, or hangs');
}

/**
 * Brings a message to all pages of a phone. When none takes it, it is kept: a page has it at its next login
 * as part of its history; an `offline` one then comes as new, before the sync has ended.
 *
 * @returns {Promise<boolean>} whether a page took it
 */
async function deliver(site, phone, chat, message, offline) {
    if (offline) {
        site.offline.set(phone, [...(site.offline.get(phone) ?? []), { chat, message }]);
        return false;
    }
    const { id, name } = site.keep(phone, chat, message);
    const pages = pagesOf(site, phone);
    const command = { type: 'message', chat: { id, name }, message };
    return (await Promise.all(pages.map((page) => page.ask(command)))).includes(true);
}

/** The id of a person: what it looks like already, else by number, LID or not as the account knows people. */
function idOf(site, who, lid) {
    if (ID.test(who)) return who;
    if (!/^\d{5,20}$/.test(who)) throw new HttpError(400, `neither a number nor an id: ${who}`);
    if (lid === undefined) return site.idOf(who);
    return lid ? lidOf(who) : `${who}@c.us`;
}

/**
 * The live page that a command is about: given by `page` (id), `phone` (linked to it), `qr` (its text,
 * also after it was scanned), `port` (of the server whose page it is), or, with none, the only one.
 */
async function findPage(site, { page: id, phone, qr, port }) {
    if (port !== undefined) return findPage(site, await askServer(port));
    const noise = qr === undefined ? undefined : parseQr(qr).noise;
    const candidates = phone === undefined ? [...site.pages.values()] : pagesOf(site, phone);
    const found = candidates.filter(
        (page) => (id === undefined || page.id === id) && (noise === undefined || page.noise === noise),
    );
    if (found.length === 1) return found[0];
    const status = found.length === 0 ? 404 : 409;
    throw new HttpError(status, `${found.length || 'no'} live pages match; see GET /pages`);
}

/** The phone that a command is about: `phone` itself, or the one that the page is linked to. */
async function findPhone(site, { phone, ...address }) {
    return phone ?? site.requireAccount(await findPage(site, address)).phone;
}

/** Live pages of all devices linked to `phone`. */
function pagesOf(site, phone) {
    return [...site.pages.values()].filter((page) => site.devices.get(page.noise)?.phone === phone);
}

/** The phone accepts `page` as its linked device, or does what `nextLink` says instead. */
function link(site, page, { phone, name = 'Ana' }) {
    requirePhone(phone);
    const { outcome, ...wish } = site.nextLink ?? {};
    site.nextLink = null;
    if (outcome === 'passkey') {
        page.passkey = { stage: 'opened', phone, name, asked: 0, pressed: [], ...wish };
        // As reported of the real page: the connection stays unpaired, and codes continue behind the screen.
        if (site.traits.passkey_state === 'UNPAIRED') page.nextRef(site.refsTtl);
        else page.stopRefs();
        page.pairing = null;
        page.send({ type: 'state', state: site.traits.passkey_state });
        page.send({ type: 'passkey', ask: wish.ask, look: wish.look });
        return { passkey: true };
    }
    page.stopRefs();
    page.pairing = null;
    page.send({ type: 'state', state: 'PAIRING' });
    if (outcome === 'refuse') {
        page.startRefs(site.refsTtl);
        throw new HttpError(403, 'the phone says: could not link device');
    }
    const unready = outcome === 'stay-authenticated';
    if (unready && wish.forGood) site.neverReady.add(page.noise);
    site.complete(page, { phone, name, ready: unready ? false : undefined });
    return { page: page.id };
}

function unlinked(site, page) {
    if (site.devices.get(page.noise)) throw new HttpError(409, 'this page is linked and shows no code');
    return page;
}

function requireDevice(site, phone) {
    const noises = site.devices.of(phone);
    if (noises.length === 0) throw new HttpError(404, 'no device is linked to this phone');
    return noises;
}

function requirePhone(phone) {
    if (!/^\d{8,15}$/.test(phone ?? '')) throw new HttpError(400, '"phone" must be 8 to 15 digits');
}

/** Fields of a QR text: `ref,noise,identity,adv,platform`, and under a switch of the page an address. */
function parseQr(text) {
    const fields = String(text).split(',');
    if (![5, 6].includes(fields.length)) throw new HttpError(400, 'not the text of a WhatsApp Web code');
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

/** Who is who: ids of users, chats and messages, and which numbers have WhatsApp. */

import { config, traits } from './site.mjs';

export const randomBytes = (count) => crypto.getRandomValues(new Uint8Array(count));
export const encodeB64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));
const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

const SERVERS = new Set([
    'c.us',
    'lid',
    'g.us',
    'broadcast',
    'newsletter',
    'bot',
    'hosted',
    'hosted.lid',
    'call',
]);
const USER_SERVERS = new Set(['c.us', 'lid', 'bot', 'hosted', 'hosted.lid']);

/** Identity of a user, a group, a list or a channel: `user@server`; of a device `user:device@server`. */
class Wid {
    constructor(text) {
        const [name, server = ''] = text.replace('@s.whatsapp.net', '@c.us').split('@');
        if (name === '' || !SERVERS.has(server)) throw new Error('wid error: invalid wid');
        const [user, device] = name.split(':');
        this.server = server;
        this.user = user;
        if (device !== undefined) this.device = Number(device);
        this._serialized = `${name}@${server}`;
    }

    isLid() {
        return this.server === 'lid' || this.server === 'hosted.lid';
    }

    isGroup() {
        return this.server === 'g.us';
    }

    isUser() {
        return USER_SERVERS.has(this.server);
    }

    isBroadcast() {
        return this.server === 'broadcast';
    }

    isStatus() {
        return this._serialized === 'status@broadcast';
    }

    isNewsletter() {
        return this.server === 'newsletter';
    }

    equals(other) {
        return other instanceof Wid && other._serialized === this._serialized;
    }

    toLogString() {
        return `…${this.user.slice(-3)}@${this.server}`;
    }

    toJid() {
        return this._serialized.replace('@c.us', '@s.whatsapp.net');
    }

    toString() {
        return this._serialized;
    }
}
// A method of this name is a trap for anyone who looks for the text of a message key under it.
Wid.prototype[config.names.key] = Wid.prototype.toLogString;

export function createWid(id) {
    const text = id instanceof Wid ? id._serialized : id;
    if (typeof text !== 'string') throw new Error('wid error: invalid wid');
    return new Wid(text);
}

export const createWidFromWidLike = (like) => createWid(like?._serialized ?? like);

export function asUserWidOrThrow(wid) {
    if (!wid?.isUser()) throw new Error('wid error: not a user');
    return new Wid(`${wid.user}@${wid.server}`);
}

/** The account that this device is linked to, both ids null before the login. */
export const me = { phone: null, lid: null };
export const isMe = (wid) => [me.phone, me.lid].some((mine) => mine?.equals(wid));

// The stand-in's own rule for the id that hides a number; ../chats.js has its other half.
export const toLid = (wid) => (wid.server === 'c.us' ? new Wid(`100${wid.user}@lid`) : wid);
export const toPhone = (wid) => (wid.server === 'lid' ? new Wid(`${wid.user.slice(3)}@c.us`) : wid);

/** Whose number WhatsApp was asked for. */
const asked = new Set();
export const ask = (wid) => asked.add(String(wid));
/** The number behind a LID as far as this page knows it. */
export const numberOf = (wid) => (traits.numbers_known || asked.has(String(wid)) ? toPhone(wid) : undefined);

/** Mobile numbers of Brazil were given a ninth digit, which WhatsApp's ids have in some areas only. */
const BRAZILIAN = /^55(\d\d)(9?)(\d{8})$/;
const FIRST_AREA_WITHOUT_NINTH_DIGIT = 31;

function asRegistered(user) {
    const [whole, area, , rest] = BRAZILIAN.exec(user) ?? [];
    if (!whole || !/^[6-9]/.test(rest)) return user;
    return area < FIRST_AREA_WITHOUT_NINTH_DIGIT ? `55${area}9${rest}` : `55${area}${rest}`;
}

/** The id under which WhatsApp knows who `wid` stands for; null when nobody is there: numbers in 0000. */
export function registered(wid) {
    if (!wid.isUser()) return wid;
    const { user } = toPhone(wid);
    if (user.endsWith('0000')) return null;
    const known = new Wid(`${asRegistered(user)}@c.us`);
    return wid.isLid() ? toLid(known) : known;
}

export const isRegistered = (wid) => registered(wid)?.equals(wid) ?? false;

/** Key of a message; its text is in a property whose name the build generates. */
export class MsgKey {
    constructor(given) {
        if (!me.phone) throw new Error('MsgKey error: me is undefined');
        const { id, participant } = given;
        const directed = given.from !== undefined && given.to !== undefined;
        if (!id || directed === (given.remote !== undefined && given.fromMe !== undefined)) {
            throw new Error('MsgKey error: no matching constructor');
        }
        const [from, to] = directed ? [given.from, given.to] : [given.remote, given.remote];
        for (const wid of [from, to, participant ?? from]) {
            if (!(wid instanceof Wid)) throw new Error('MsgKey error: something is not a wid');
        }
        const toMyself = directed ? from.equals(to) && isMe(from) : isMe(from);
        if (!directed) this.fromMe = given.fromMe;
        else this.fromMe = toMyself ? given.selfDir === 'out' : isMe(from);
        this.remote = directed && !this.fromMe ? from : to;
        this.id = id;
        if (toMyself) this.self = this.fromMe ? 'out' : 'in';
        if (participant) this.participant = participant;
        const parts = [this.fromMe, this.remote, this.id, this.self, this.participant];
        this[config.names.key] = parts.filter((part) => part !== undefined).join('_');
    }

    static async newId() {
        return `3EB0${hex(randomBytes(9)).toUpperCase()}`;
    }

    static from(given) {
        if (given instanceof MsgKey) return given;
        return typeof given === 'string'
            ? MsgKey.fromString(given)
            : new MsgKey({
                  fromMe: given.fromMe,
                  remote: createWidFromWidLike(given.remote),
                  id: given.id,
                  participant: given.participant && createWidFromWidLike(given.participant),
              });
    }

    static fromString(text) {
        const [fromMe, remote, id, ...rest] = String(text).split('_');
        if (!id || !['true', 'false'].includes(fromMe))
            throw new Error('MsgKey error: not the text of a key');
        const participant = rest.find((part) => part.includes('@'));
        return MsgKey.from({ fromMe: fromMe === 'true', remote, id, participant });
    }

    equals(other) {
        return other instanceof MsgKey && String(other) === String(this);
    }
}
// As in a build, whose code has the name in it: before there is a key, nothing else says it.
MsgKey.prototype.toString = new Function(`return this[${JSON.stringify(config.names.key)}]`);

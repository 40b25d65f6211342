'use strict';

/**
 * Who may call over a connection: somebody on this host and, where the configuration names users, one of
 * them. The kernel shows who owns the other end, in the tables of all TCP sockets (proc_pid_net(5)).
 */

const fs = require('node:fs/promises');
const net = require('node:net');
const os = require('node:os');

const { codeOf, messageOf } = require('./errors');

/** A client with an IPv6 socket that talks to an IPv4 address is only in the second one. */
const TABLES = ['/proc/net/tcp', '/proc/net/tcp6'];
const PIECE_BYTES = 16 * 1024;
const ESTABLISHED = '01';
const STATE_TO_INODE = /^(?<state>\S+) \S+ \S+ \S+ +(?<uid>\d+) +\d+ (?<inode>\d+) /;
/** The kernel hands a table out in pieces, and a row can move from a later to an earlier one meanwhile. */
const LOOKS = 2;

/**
 * Write an address as the tables do: 32-bit words of the host's byte order, IPv4 as one and as mapped.
 *
 * @param {string} address
 */
function tableAddresses(address) {
    const ipv4 = address.replace(/^::ffff:/i, '');
    const bytes = Buffer.alloc(16);
    if (net.isIPv4(ipv4)) {
        bytes.writeUInt16BE(0xffff, 10);
        bytes.set(ipv4.split('.').map(Number), 12);
    } else if (address === '::1') {
        bytes[15] = 1;
    } else {
        return [];
    }
    const words = [0, 4, 8, 12].map((at) =>
        (os.endianness() === 'LE' ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at))
            .toString(16)
            .toUpperCase()
            .padStart(8, '0'),
    );
    return net.isIPv4(ipv4) ? [words[3], words.join('')] : [words.join('')];
}

const tablePort = (/** @type {number} */ port) => port.toString(16).toUpperCase().padStart(4, '0');

/** @typedef {Pick<net.Socket, 'remoteAddress'|'remotePort'|'localAddress'|'localPort'|'destroyed'>} Ends */

/**
 * Return the starts of the caller's row, one for each way of writing it. A connection that has ended has no
 * addresses, and no rows.
 *
 * @param {Ends} socket
 */
function rowStarts({ remoteAddress, remotePort = 0, localAddress, localPort = 0 }) {
    const here = tableAddresses(localAddress ?? '');
    return tableAddresses(remoteAddress ?? '').map(
        (there, index) => ` ${there}:${tablePort(remotePort)} ${here[index]}:${tablePort(localPort)} `,
    );
}

/** Read a table whole; one that this kernel does not have is empty. @param {string} path */
async function readTable(path) {
    // Not readFile: some versions of node take the first piece of such a file for all of it.
    let file;
    try {
        file = await fs.open(path);
    } catch (error) {
        if (codeOf(error) === 'ENOENT') return '';
        throw error;
    }
    try {
        const pieces = [];
        for (;;) {
            const { bytesRead, buffer } = await file.read({ buffer: Buffer.allocUnsafe(PIECE_BYTES) });
            if (bytesRead === 0) return Buffer.concat(pieces).toString('latin1');
            pieces.push(buffer.subarray(0, bytesRead));
        }
    } finally {
        await file.close();
    }
}

/**
 * Return the uid of the owner of the other end of a connection; null when it is not known.
 *
 * Only an established end with an inode has an owner. One that was closed after a request was sent is still
 * in the table, with 0 for both inode and uid: it must not pass for root's.
 *
 * @param {Ends} socket
 */
async function callerUid(socket, tables = TABLES) {
    const starts = rowStarts(socket);
    for (let look = 0; look < LOOKS && !socket.destroyed; look += 1) {
        for (const table of tables) {
            const text = await readTable(table);
            for (const start of starts) {
                const at = text.indexOf(start);
                const row = at < 0 ? null : STATE_TO_INODE.exec(text.slice(at + start.length, at + 200));
                const owner = row?.groups;
                if (owner?.state === ESTABLISHED && owner.inode !== '0' && !socket.destroyed) {
                    return Number(owner.uid);
                }
            }
        }
    }
    return null;
}

/** Callers that a judge has found, by connection. @type {WeakMap<net.Socket, number>} */
const found = new WeakMap();

/** Return the uid at the other end of a connection; undefined where its judge did not look. */
const foundUid = (/** @type {net.Socket} */ socket) => found.get(socket);

/** Return whether the other end of a connection is on this host. @param {net.Socket} socket */
function isLoopbackPeer(socket) {
    const address = socket.remoteAddress ?? '';
    return address === '::1' || /^(::ffff:)?127\./.test(address);
}

/** User ids that systemd gives to services with DynamicUser=, as these servers are (systemd.exec(5)). */
const DYNAMIC = { first: 61184, last: 65519 };
const isDynamic = (/** @type {number} */ uid) => uid >= DYNAMIC.first && uid <= DYNAMIC.last;

/**
 * Make the judge of connections: `judge(socket)` resolves with null, or with the reason why the user at the
 * other end may not call. It never rejects.
 *
 * @param {object} options
 * @param {number[]|null} options.uids who may call; null = every user of this host, save the sessions of
 *   others
 * @param {import('./types').Log} options.log
 * @param {string[]} [options.tables]
 * @param {number} [options.own] the user that this server runs as
 */
function createJudge({ uids, log, tables = TABLES, own = process.getuid?.() ?? -1 }) {
    /** @type {Set<number|'unknown'>} */
    const logged = new Set();
    const refuse = (/** @type {number|'unknown'} */ who, /** @type {string} */ reason) => {
        if (!logged.has(who)) log.warning('a caller is refused', { uid: who, reason });
        logged.add(who);
        return reason;
    };
    return async (/** @type {net.Socket} */ socket) => {
        if (!isLoopbackPeer(socket)) return 'this connection is not from this host';
        // Without users of their own, sessions cannot be distinguished.
        if (uids === null && !isDynamic(own)) return null;
        try {
            const uid = await callerUid(socket, tables);
            if (uid === null) return refuse('unknown', 'who calls is not known: keep the connection open');
            found.set(socket, uid);
            if (uids === null && (uid === own || !isDynamic(uid))) return null;
            if (uids !== null && uids.includes(uid)) return null;
            const rule = uids === null ? 'a service with DynamicUser= has to be' : 'it is not';
            return refuse(uid, `user id ${uid} may not call this server: ${rule} in api.allow_users`);
        } catch (error) {
            return refuse('unknown', `who calls is not known: ${messageOf(error)}`);
        }
    };
}

module.exports = { callerUid, createJudge, foundUid };

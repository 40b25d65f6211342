'use strict';

/**
 * Fetches files that callers name by URL. Otherwise anyone who may send could have this server read what only
 * this host can reach: so only public addresses are used. Each is checked when it is connected to, not
 * before: a name may stand for another address the next time.
 */

const dns = require('node:dns');
const http = require('node:http');
const https = require('node:https');
const net = require('node:net');
const os = require('node:os');

const { codeOf } = require('./errors');
const { HttpError } = require('./http');
const { tooLarge } = require('./spool');

/** In milliseconds: for everything, and without a byte. */
const LIMIT_MS = 60_000;
const SILENCE_MS = 15_000;
const MOST_REDIRECTS = 5;

/** Networks that are not public on the Internet (IANA's registries of special-purpose addresses). */
const NOT_PUBLIC = new net.BlockList();
for (const network of [
    '0.0.0.0/8',
    '10.0.0.0/8',
    '100.64.0.0/10',
    '127.0.0.0/8',
    '169.254.0.0/16',
    '172.16.0.0/12',
    '192.0.0.0/24',
    '192.0.2.0/24',
    '192.88.99.0/24',
    '192.168.0.0/16',
    '198.18.0.0/15',
    '198.51.100.0/24',
    '203.0.113.0/24',
    '224.0.0.0/3',
]) {
    const [address, length] = network.split('/');
    NOT_PUBLIC.addSubnet(address, Number(length), 'ipv4');
}
/** All public ones of IPv6 are in 2000::/3; in these parts of it is nobody, or IPv4 is hidden. */
for (const network of ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20']) {
    const [address, length] = network.split('/');
    NOT_PUBLIC.addSubnet(address, Number(length), 'ipv6');
}
const PUBLIC_V6 = new net.BlockList();
PUBLIC_V6.addSubnet('2000::', 3, 'ipv6');

/** Return whether an address is one of the Internet. @param {string} address */
function isPublic(address) {
    if (net.isIPv4(address)) return !NOT_PUBLIC.check(address, 'ipv4');
    return net.isIPv6(address) && PUBLIC_V6.check(address, 'ipv6') && !NOT_PUBLIC.check(address, 'ipv6');
}

/** The addresses of this host: what it keeps from others behind a firewall, it does not keep from itself. */
const ownAddresses = () =>
    Object.values(os.networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address));

/** @type {(message: string, code: string, hint?: string) => HttpError} */
const failed = (message, code, hint) => new HttpError(422, message, { code, hint });
const refused = () =>
    failed(
        'the URL leads to an address of this host or of a private network',
        'media_refused',
        'send the file itself, or set instances.media_from_private (WAPORTD_MEDIA_FROM_PRIVATE) to true',
    );
/** Its text may contain the URL, and that a token: only the system's code is shown. */
const notFetched = (/** @type {string} */ why) =>
    failed(`the file could not be fetched (${why})`, 'media_not_fetched');

/**
 * Make a `dns.lookup` that gives only addresses that may be asked.
 *
 * @param {(address: string) => boolean} mayBeAsked
 * @returns {net.LookupFunction}
 */
const lookUpOnly = (mayBeAsked) => (name, options, done) => {
    const all = { ...options, all: /** @type {const} */ (true) };
    dns.lookup(name, all, (error, /** @type {import('node:dns').LookupAddress[]} */ addresses) => {
        if (error) return done(error, '');
        if (!addresses.every(({ address }) => mayBeAsked(address))) return done(refused(), '');
        if (options.all) return done(null, addresses);
        return done(null, addresses[0].address, addresses[0].family);
    });
};

/** The name at the end of a path, as far as it is one. @param {URL} url */
function nameOf({ pathname }) {
    try {
        return decodeURIComponent(pathname.split('/').at(-1) ?? '').slice(0, 255) || undefined;
    } catch {
        return undefined;
    }
}

function readUrl(/** @type {string} */ text, /** @type {URL|undefined} */ base = undefined) {
    let url;
    try {
        url = new URL(text, base);
    } catch {
        throw new HttpError(400, 'this is not a URL', { code: 'bad_request' });
    }
    if (['http:', 'https:'].includes(url.protocol)) return url;
    throw new HttpError(400, 'files are fetched by http and https only', { code: 'bad_request' });
}

/**
 * Return where a host redirects to. A fault in that is not the caller's.
 *
 * @param {string} location
 * @param {URL} from
 * @throws {HttpError} 422
 */
function redirected(location, from) {
    try {
        return readUrl(location, from);
    } catch {
        throw notFetched('it redirects to something other than an http or https URL');
    }
}

/**
 * Ask for a URL.
 *
 * @param {URL} url
 * @param {boolean} mayBePrivate
 * @param {AbortSignal} signal
 * @returns {Promise<http.IncomingMessage>}
 */
function ask(url, mayBePrivate, signal) {
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const own = mayBePrivate ? [] : ownAddresses();
    const mayBeAsked = (/** @type {string} */ address) =>
        mayBePrivate || (isPublic(address) && !own.includes(address));
    // An address is not looked up.
    if (net.isIP(host) !== 0 && !mayBeAsked(host)) throw refused();
    const { get } = url.protocol === 'https:' ? https : http;
    const headers = { Accept: '*/*', 'Accept-Encoding': 'identity', 'User-Agent': 'waportd' };
    const lookup = lookUpOnly(mayBeAsked);
    return new Promise((resolve, reject) => {
        const asked = get(url, { agent: false, headers, lookup, signal, timeout: SILENCE_MS }, resolve);
        asked.on('timeout', () => asked.destroy(notFetched(`nothing came for ${SILENCE_MS / 1000} s`)));
        asked.on('error', reject);
        // An answer that changes the protocol is neither an answer nor an error to node.
        asked.on('close', () => reject(notFetched('there was no answer')));
    });
}

/**
 * Yield what comes, until there is too much of it.
 *
 * @param {number} most bytes
 * @param {AsyncIterable<Buffer>} response
 */
async function* upTo(most, response) {
    let size = 0;
    for await (const chunk of response) {
        size += chunk.length;
        if (size > most) throw tooLarge(most);
        yield chunk;
    }
}

/**
 * Fetch a file.
 *
 * @template {{}} File
 * @param {string} text the URL
 * @param {object} options
 * @param {number} options.most bytes
 * @param {boolean} options.mayBePrivate whether addresses of this host and of private networks may be asked
 * @param {(chunks: AsyncIterable<Buffer>, type: string|undefined) => Promise<File>} options.keep takes it
 * @returns {Promise<File & {name: string|undefined}>} what `keep` gives, and `name`, if the URL has one
 * @throws {HttpError} 400 `bad_request`; 413 `too_large`; 422 `media_refused`, `media_not_fetched`
 */
async function fetchMedia(text, { most, mayBePrivate, keep }) {
    const limit = AbortSignal.timeout(LIMIT_MS);
    let url = readUrl(text);
    try {
        for (let redirects = 0; redirects <= MOST_REDIRECTS; redirects += 1) {
            const response = await ask(url, mayBePrivate, limit);
            const { statusCode: status = 0, headers } = response;
            if (status >= 300 && status < 400 && headers.location !== undefined) {
                response.destroy();
                url = redirected(headers.location, url);
                continue;
            }
            try {
                if (status !== 200) throw notFetched(`HTTP ${status}`);
                if (Number(headers['content-length']) > most) throw tooLarge(most);
                return { ...(await keep(upTo(most, response), headers['content-type'])), name: nameOf(url) };
            } finally {
                response.destroy();
            }
        }
        throw notFetched(`more than ${MOST_REDIRECTS} redirects`);
    } catch (error) {
        if (error instanceof HttpError) throw error;
        if (limit.aborted) throw notFetched(`it took longer than ${LIMIT_MS / 1000} s`);
        throw notFetched(codeOf(error) ?? 'the connection failed');
    }
}

module.exports = { fetchMedia, isPublic };

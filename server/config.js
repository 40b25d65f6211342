'use strict';

/**
 * The server's configuration: environment variables and one argument become one frozen object, or one error
 * that names everything that is wrong.
 */

const { existsSync } = require('node:fs');
const path = require('node:path');

const contract = require('./contract.json');

/**
 * A value that cannot be used. `problems` holds one sentence for each variable: its value, unless that may be
 * secret, and what is allowed.
 */
class ConfigError extends Error {
    constructor(/** @type {string[]} */ problems) {
        super(problems.join('\n'));
        this.name = 'ConfigError';
        this.problems = problems;
    }
}

const quote = (/** @type {string|null} */ text) => JSON.stringify(text);

/** @param {string} text @param {number[]} limits */
function wholeNumber(text, [least, most]) {
    if (!/^\d{1,9}$/.test(text)) return undefined;
    const number = Number(text);
    return number >= least && number <= most ? number : undefined;
}

/** Return the items of a JSON array of strings, or undefined. @param {string} text */
function stringArray(text) {
    try {
        const value = JSON.parse(text);
        return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : undefined;
    } catch {
        return undefined;
    }
}

function httpUrl(/** @type {string} */ text) {
    if (text === '') return null;
    try {
        const url = new URL(text);
        return ['http:', 'https:'].includes(url.protocol) ? url : undefined;
    } catch {
        return undefined;
    }
}

/**
 * Return `[first, later]` in seconds: how long the first code of a batch and each further one is valid.
 *
 * @param {string} text
 * @param {number[]} limits
 */
function lifetimes(text, limits) {
    const parts = text.split(',').map((part) => wholeNumber(part.trim(), limits));
    return parts.length === 2 && !parts.includes(undefined) ? parts : undefined;
}

/** Return user ids; null, which is everybody, for nothing. */
function userIds(/** @type {string} */ text) {
    if (text === '') return null;
    const ids = text.split(',').map((id) => (/^\d{1,10}$/.test(id) ? Number(id) : undefined));
    return ids.every((id) => id !== undefined && id < 2 ** 32 - 1) ? ids : undefined;
}

/** Return an absolute path; null for nothing. */
function absolute(/** @type {string} */ text) {
    if (text === '') return null;
    return path.isAbsolute(text) && /^[^\0\n]{1,4096}$/.test(text) ? path.normalize(text) : undefined;
}

/** Return a number of bytes; 0, which is no limit, is Infinity. */
function size(/** @type {string} */ text) {
    if (!/^\d{1,16}$/.test(text)) return undefined;
    return Number(text) || Infinity;
}

/**
 * Return `{server, username, password}`: the proxy for Chromium, and its login, null if there is none.
 * `server` is null for no proxy at all; the whole result is null if the environment decides.
 *
 * @param {string} text
 * @returns {import('./types').ProxyChoice|undefined}
 */
function proxy(text) {
    if (text === '' || text === 'auto') return null;
    if (text === 'none') return { server: null, username: null, password: null };
    try {
        const url = new URL(text);
        if (!/^(https?|socks[45]):$/.test(url.protocol) || !url.hostname) return undefined;
        if (url.search || url.hash || !['', '/'].includes(url.pathname)) return undefined;
        const isNamed = url.username !== '' || url.password !== '';
        // Chromium knows no passwords of SOCKS proxies.
        if (isNamed && !url.protocol.startsWith('http')) return undefined;
        return {
            server: `${url.protocol}//${url.host}`,
            username: isNamed ? decodeURIComponent(url.username) : null,
            password: isNamed ? decodeURIComponent(url.password) : null,
        };
    } catch {
        return undefined;
    }
}

/** Return the words of a list with commas between, each one of `known` and given once. */
const wordsOf = (/** @type {readonly string[]} */ known) => (/** @type {string} */ text) => {
    const words = text === '' ? [] : text.split(',');
    return words.every((word) => known.includes(word)) && new Set(words).size === words.length
        ? Object.freeze(words)
        : undefined;
};

const whole = (/** @type {string} */ pattern) => new RegExp(`^(?:${pattern})$`);

const SECRET = whole(contract.patterns.webhook_secret);

/** Return the secrets of Standard Webhooks, as they are written; the first is the newest. */
function secrets(/** @type {string} */ text) {
    const all = text === '' ? [] : text.split(',');
    const areSecrets = all.length <= contract.limits.webhook_secrets && all.every((one) => SECRET.test(one));
    return areSecrets ? Object.freeze(all) : undefined;
}

/** Return the further headers of a webhook by name, from a JSON object of texts. */
function headers(/** @type {string} */ text) {
    try {
        const all = JSON.parse(text);
        if (all === null || typeof all !== 'object' || Array.isArray(all)) return undefined;
        const isHeader = (/** @type {[string, unknown]} */ [name, value]) =>
            /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/.test(name) && typeof value === 'string' && /^[ -~]*$/.test(value);
        return Object.entries(all).every(isHeader) ? Object.freeze(all) : undefined;
    } catch {
        return undefined;
    }
}

const flag = (/** @type {string} */ text) => (['true', 'false'].includes(text) ? text === 'true' : undefined);
const matching =
    (/** @type {RegExp} */ pattern, /** @type {(text: string) => any} */ read = String) =>
    (/** @type {string} */ text) =>
        pattern.test(text) ? read(text) : undefined;

/** The events that a server reports. */
const EVENTS = Object.freeze(Object.keys(contract.events));

/** Kinds of chats that can be passed over. */
const IGNORED = Object.freeze(Object.keys(contract.ignored));

const some = (/** @type {readonly string[]} */ words) =>
    `some of ${words.join(', ')}, with commas between, or nothing`;
const NUMBER = 'a whole number from {least} to {most}';
const SECONDS = 'whole seconds from {least} to {most}';
const BYTES = 'a whole number of bytes, or 0 for no limit';

/**
 * Each variable: key in the result, parser (undefined = refused), what is allowed. Defaults and limits are in
 * contract.json; a parser gets the limits, too.
 *
 * @type {Record<string, [key: string, parse: (text: string, limits: number[]) => any, allowed: string]>}
 */
const READERS = {
    WAPORTD_USER: [
        'user',
        matching(whole(contract.patterns.user)),
        'a letter or digit, then at most 63 letters, digits or _ . @ -',
    ],
    WAPORTD_ALLOW_UIDS: ['allowUids', userIds, 'numeric user ids with commas between, or nothing'],
    WAPORTD_WEBHOOK_URL: ['webhookUrl', httpUrl, 'an http or https URL, or nothing for no webhook'],
    WAPORTD_WEBHOOK_SECRETS: [
        'webhookSecrets',
        secrets,
        'one or two secrets whsec_… with a comma between, or nothing',
    ],
    WAPORTD_WEBHOOK_HEADERS: ['webhookHeaders', headers, 'a JSON object of texts'],
    WAPORTD_WEBHOOK_EVENTS: ['webhookEvents', wordsOf(EVENTS), some(EVENTS)],
    WAPORTD_WEBHOOK_TIMEOUT: ['webhookTimeout', wholeNumber, SECONDS],
    WAPORTD_WEBHOOK_RETRY: ['webhookRetry', wholeNumber, SECONDS],
    WAPORTD_IGNORE: ['ignore', wordsOf(IGNORED), some(IGNORED)],
    WAPORTD_JOURNAL_AGE: ['journalAge', wholeNumber, SECONDS],
    WAPORTD_JOURNAL_SIZE: [
        'journalSize',
        matching(/^[1-9]\d{0,15}$/, Number),
        'a whole number of bytes, not 0',
    ],
    WAPORTD_DEFAULT_COUNTRY: [
        'defaultCountry',
        (text) => (text === '' ? null : matching(whole(contract.patterns.default_country))(text)),
        'a calling code such as 55, or nothing',
    ],
    WAPORTD_MEDIA_FROM_PRIVATE: ['mediaFromPrivate', flag, 'true or false'],
    WAPORTD_SEND_RATE: ['sendRate', wholeNumber, 'a whole number from {least}, which is no limit, to {most}'],
    WAPORTD_CLIENT_ID_PREFIX: [
        'clientIdPrefix',
        matching(whole(contract.patterns.client_id_prefix)),
        '1 to 64 letters, digits, _ or -',
    ],
    WAPORTD_BROWSER: ['browser', matching(/^[^\0\n]{1,4096}$/), 'auto, or the path or name of a browser'],
    WAPORTD_BROWSER_ARGS: ['browserArgs', stringArray, 'a JSON array of strings'],
    WAPORTD_PROXY: [
        'proxy',
        proxy,
        'auto, none, http://NAME:PASSWORD@HOST:PORT (or https), or socks5://HOST:PORT (or socks4; Chromium ' +
            'gives these no login)',
    ],
    WAPORTD_ENGINE: ['engine', absolute, 'an absolute path, or nothing for the bundled one'],
    WAPORTD_COMPILED: ['compiled', absolute, 'an absolute path, or nothing for none'],
    WAPORTD_WEB_VERSION: ['webVersion', absolute, 'an absolute path, or nothing for no pinned page'],
    WAPORTD_QR_MAX_RETRIES: ['qrMaxRetries', wholeNumber, NUMBER],
    WAPORTD_QR_LIFETIME: [
        'qrLifetime',
        lifetimes,
        'two whole numbers of seconds from {least} to {most}: first,later',
    ],
    WAPORTD_START_TIMEOUT: ['startTimeout', wholeNumber, SECONDS],
    WAPORTD_READY_TIMEOUT: ['readyTimeout', wholeNumber, SECONDS],
    WAPORTD_PROBE_INTERVAL: ['probeInterval', wholeNumber, SECONDS],
    WAPORTD_IDLE_TIMEOUT: ['idleTimeout', wholeNumber, SECONDS],
    WAPORTD_TURN_WAIT: ['turnWait', wholeNumber, SECONDS],
    WAPORTD_SNAPSHOT_INTERVAL: ['snapshotInterval', wholeNumber, `${SECONDS}, 0 for none`],
    WAPORTD_SNAPSHOTS: ['snapshots', wholeNumber, NUMBER],
    WAPORTD_CACHE_MAX: ['cacheMax', size, BYTES],
    WAPORTD_MEDIA_MAX: ['mediaMax', size, BYTES],
};

/**
 * The default and the limits of a variable, which may be wider than those of the key in config.yaml.
 *
 * @param {string} name
 */
function variable(name) {
    /** @type {Record<string, {default: unknown, range?: number[], by_hand?: number[]}>} */
    const all = contract.variables;
    const { default: fallback, range = [], by_hand: limits = range } = all[name];
    return { fallback: fallback === null ? null : String(fallback), limits };
}

/**
 * Each variable: key in the result, default, parser, what is allowed.
 *
 * @type {Record<string, [key: string, fallback: string|null, parse: (text: string) => any, allowed: string]>}
 */
const VARIABLES = Object.fromEntries(
    Object.entries(READERS).map(([name, [key, parse, words]]) => {
        const { fallback, limits } = variable(name);
        const allowed = words.replace('{least}', String(limits[0])).replace('{most}', String(limits[1]));
        return [name, [key, fallback, (/** @type {string} */ text) => parse(text, limits), allowed]];
    }),
);

/** By names of today: what a variable was called before, which is read too. @type {Record<string, string>} */
const EARLIER_NAMES = { WAPORTD_WEBHOOK_URL: contract.variables.WAPORTD_WEBHOOK_URL.earlier_name };

/** Values that no message repeats: a token, or a password, may be in them. */
const HIDDEN = new Set([
    'WAPORTD_WEBHOOK_URL',
    'WAPORTD_WEBHOOK_SECRETS',
    'WAPORTD_WEBHOOK_HEADERS',
    'WAPORTD_PROXY',
]);

/** @param {string|undefined} value @param {string} cwd */
function directory(value, cwd) {
    // systemd lists several directories separated by colons; ours is the first.
    return path.resolve(cwd, value ? value.split(':')[0] : '.');
}

/**
 * The name of the login: what the prefix gives or, where only that is there, what the default was before.
 *
 * @param {string} folder where the login is
 * @param {{clientIdPrefix: string, port: number}} config
 */
function clientIdOf(folder, { clientIdPrefix, port }) {
    const { default: usual, earlier_default: earlier } = contract.variables.WAPORTD_CLIENT_ID_PREFIX;
    const isThere = (/** @type {string} */ prefix) =>
        existsSync(path.join(folder, `session-${prefix}_${port}`));
    const isEarlier = clientIdPrefix === usual && !isThere(usual) && isThere(earlier);
    return `${isEarlier ? earlier : clientIdPrefix}_${port}`;
}

/**
 * Read the configuration.
 *
 * `PORT` wins over the argument, which wins over 5001: the order existing callers rely on.
 *
 * @param {NodeJS.ProcessEnv} env
 * @param {string[]} args the arguments after the script's name
 * @param {string} cwd where folders go when systemd names none
 * @returns {import('./types').Config} times in seconds
 * @throws {ConfigError} naming every unusable value
 */
function readConfig(env, args, cwd) {
    /** @type {string[]} */
    const problems = [];
    /** @type {any} */
    const config = {};

    const { fallback: port, limits: ports } = variable('PORT');
    const [portSource, portText] =
        env.PORT !== undefined ? ['PORT', env.PORT] : ['argument', args[0] ?? /** @type {string} */ (port)];
    config.port = wholeNumber(portText, ports);
    if (config.port === undefined) {
        const allowed = `a port, a whole number from ${ports.join(' to ')}`;
        problems.push(`${portSource} is ${quote(portText)}; allowed: ${allowed}`);
    }

    for (const [name, [key, fallback, parse, allowed]] of Object.entries(VARIABLES)) {
        const text = env[name] ?? env[EARLIER_NAMES[name]] ?? fallback;
        config[key] = text === null ? null : parse(text);
        if (config[key] === undefined) {
            problems.push(`${name} is ${HIDDEN.has(name) ? 'not usable' : quote(text)}; allowed: ${allowed}`);
        }
    }
    if (problems.length > 0) throw new ConfigError(problems);

    const stateDirectory = directory(env.STATE_DIRECTORY, cwd);
    const authDirectory = path.join(stateDirectory, `.wwebjs_auth_${config.port}`);
    const cacheDirectory = directory(env.CACHE_DIRECTORY, cwd);
    return Object.freeze({
        ...config,
        clientId: clientIdOf(authDirectory, config),
        label: config.user === null ? `port ${config.port}` : `user ${config.user}`,
        stateDirectory,
        authDirectory,
        cacheDirectory: path.join(cacheDirectory, `.wwebjs_cache_${config.port}`),
    });
}

module.exports = { ConfigError, EVENTS, VARIABLES, readConfig };

'use strict';

/**
 * What the server is told: environment variables and one argument become one frozen object, or one error that
 * names everything that is wrong.
 */

const path = require('node:path');

/**
 * A value that cannot be used. `problems` holds one sentence for each variable, its value and what is
 * allowed.
 */
class ConfigError extends Error {
    constructor(problems) {
        super(problems.join('\n'));
        this.name = 'ConfigError';
        this.problems = problems;
    }
}

const quote = (text) => JSON.stringify(text);

function wholeNumber(text, min, max) {
    if (!/^\d{1,9}$/.test(text)) return undefined;
    const number = Number(text);
    return number >= min && number <= max ? number : undefined;
}

/** Return the items of a JSON array of strings, or undefined. */
function stringArray(text) {
    try {
        const value = JSON.parse(text);
        return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : undefined;
    } catch {
        return undefined;
    }
}

function httpUrl(text) {
    if (text === '') return null;
    try {
        const url = new URL(text);
        return ['http:', 'https:'].includes(url.protocol) ? url : undefined;
    } catch {
        return undefined;
    }
}

/** Return `[first, later]` in seconds: how long the first code of a batch and each further one is valid. */
function lifetimes(text) {
    const parts = text.split(',').map((part) => wholeNumber(part.trim(), 1, 3600));
    return parts.length === 2 && !parts.includes(undefined) ? parts : undefined;
}

/** Return user ids; null, which is everybody, for nothing. */
function userIds(text) {
    if (text === '') return null;
    const ids = text.split(',').map((id) => (/^\d{1,10}$/.test(id) ? Number(id) : undefined));
    return ids.every((id) => id < 2 ** 32 - 1) ? ids : undefined;
}

/** Return an absolute path; null for nothing. */
function absolute(text) {
    if (text === '') return null;
    return path.isAbsolute(text) && /^[^\0\n]{1,4096}$/.test(text) ? path.normalize(text) : undefined;
}

const matching = (pattern) => (text) => (pattern.test(text) ? text : undefined);
const seconds = (min, max) => (text) => wholeNumber(text, min, max);

/** Each variable: key in the result, default, parser (undefined = refused), what is allowed. */
const VARIABLES = {
    WAPORTD_USER: [
        'user',
        null,
        matching(/^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$/),
        'a letter or digit, then at most 63 letters, digits or _ . @ -',
    ],
    WAPORTD_ALLOW_UIDS: ['allowUids', null, userIds, 'numeric user ids with commas between, or nothing'],
    FLASK_WEBHOOK_URL: [
        'webhookUrl',
        'http://localhost:5002/webhook',
        httpUrl,
        'an http or https URL, or nothing for no webhook',
    ],
    WAPORTD_CLIENT_ID_PREFIX: [
        'clientIdPrefix',
        'ylada_bot',
        matching(/^[A-Za-z0-9_-]{1,64}$/),
        '1 to 64 letters, digits, _ or -',
    ],
    WAPORTD_BROWSER: [
        'browser',
        'auto',
        matching(/^[^\0\n]{1,4096}$/),
        'auto, or the path or name of a browser',
    ],
    WAPORTD_BROWSER_ARGS: ['browserArgs', '[]', stringArray, 'a JSON array of strings'],
    WAPORTD_ENGINE: ['engine', null, absolute, 'an absolute path, or nothing for the bundled one'],
    WAPORTD_WEB_VERSION: ['webVersion', null, absolute, 'an absolute path, or nothing for no pinned page'],
    WAPORTD_QR_MAX_RETRIES: ['qrMaxRetries', '5', seconds(1, 1000), 'a whole number from 1 to 1000'],
    WAPORTD_QR_LIFETIME: [
        'qrLifetime',
        '60,20',
        lifetimes,
        'two whole numbers of seconds from 1 to 3600: first,later',
    ],
    WAPORTD_START_TIMEOUT: ['startTimeout', '90', seconds(1, 3600), 'whole seconds from 1 to 3600'],
    WAPORTD_READY_TIMEOUT: ['readyTimeout', '120', seconds(1, 3600), 'whole seconds from 1 to 3600'],
    WAPORTD_PROBE_INTERVAL: ['probeInterval', '10', seconds(1, 3600), 'whole seconds from 1 to 3600'],
    WAPORTD_IDLE_TIMEOUT: ['idleTimeout', '600', seconds(1, 86400), 'whole seconds from 1 to 86400'],
};

/** Variables that must not be empty strings but mean "not set" when they are absent. */
const optional = (value) => value === undefined || value === null;

function directory(value, cwd) {
    // systemd lists several directories separated by colons; ours is the first.
    return path.resolve(cwd, value ? value.split(':')[0] : '.');
}

/**
 * Read the configuration.
 *
 * `PORT` wins over the argument, which wins over 5001: the order existing callers rely on.
 *
 * @param {NodeJS.ProcessEnv} env
 * @param {string[]} args the arguments after the script's name
 * @param {string} cwd where folders go when systemd names none
 * @returns {Readonly<object>} times in seconds
 * @throws {ConfigError} naming every unusable value
 */
function readConfig(env, args, cwd) {
    const problems = [];
    const config = {};

    const [portSource, portText] =
        env.PORT !== undefined ? ['PORT', env.PORT] : ['argument', args[0] ?? '5001'];
    config.port = wholeNumber(portText, 1, 65535);
    if (config.port === undefined) {
        problems.push(`${portSource} is ${quote(portText)}; allowed: a port, a whole number from 1 to 65535`);
    }

    for (const [name, [key, fallback, parse, allowed]] of Object.entries(VARIABLES)) {
        const text = env[name] ?? fallback;
        config[key] = optional(text) ? null : parse(text);
        if (config[key] === undefined) problems.push(`${name} is ${quote(text)}; allowed: ${allowed}`);
    }
    if (problems.length > 0) throw new ConfigError(problems);

    const stateDirectory = directory(env.STATE_DIRECTORY, cwd);
    const cacheDirectory = directory(env.CACHE_DIRECTORY, cwd);
    return Object.freeze({
        ...config,
        clientId: `${config.clientIdPrefix}_${config.port}`,
        label: config.user === null ? `port ${config.port}` : `user ${config.user}`,
        stateDirectory,
        authDirectory: path.join(stateDirectory, `.wwebjs_auth_${config.port}`),
        cacheDirectory: path.join(cacheDirectory, `.wwebjs_cache_${config.port}`),
    });
}

module.exports = { ConfigError, VARIABLES, readConfig };

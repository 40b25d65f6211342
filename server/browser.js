'use strict';

/** Finds the installed browsers, runs one, and finds its processes. */

const { spawn } = require('node:child_process');
const { constants } = require('node:fs');
const fs = require('node:fs/promises');
const path = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');

const { readJson, replaceFile } = require('./disk');
const { SessionError, TimeLimitError, codeOf } = require('./errors');

/** Lightest first: memory of one waiting session, whole process tree: 213, 352, 352 MiB. */
const AUTO = ['chromium-headless-shell', 'chromium', 'google-chrome'];
/** Somebody waits for it, and a small host takes its time. */
const TRIAL_LIMIT_MS = 45000;
/** Until nothing is left of a program that has ended. */
const GONE_LIMIT_MS = 3000;
const STANDSTILL_LIMIT_MS = 2_000;
const MOST_OUTPUT_CHARACTERS = 1 << 20;
const OWN_VARIABLES =
    /^(PORT|(NOTIFY|LISTEN|WATCHDOG|WAPORTD|FLASK|JOURNAL|INVOCATION|CREDENTIALS|SYSTEMD)_.*)$/;

const INSTALL_HINT =
    'install one (Debian: apt install chromium-headless-shell, or chromium), or name one ' +
    '(instances.browser; WAPORTD_BROWSER when run by hand)';

/**
 * How a program ended, or why it could not be started.
 *
 * @typedef {object} End
 * @property {string} [message]
 * @property {boolean} [killed]
 * @property {string|null} [signal]
 * @property {string|number|null} [code]
 */

async function isExecutable(/** @type {string} */ file) {
    try {
        await fs.access(file, constants.X_OK);
        return (await fs.stat(file)).isFile();
    } catch {
        return false;
    }
}

/** @param {string} name @param {string|undefined} searchPath */
async function lookUp(name, searchPath) {
    const folders = [...new Set([...(searchPath ?? '').split(':'), '/usr/bin'])].filter((each) =>
        path.isAbsolute(each),
    );
    for (const folder of folders) {
        const file = path.join(folder, name);
        if (await isExecutable(file)) return file;
    }
    return null;
}

/**
 * Return the paths of the usable browsers, best first.
 *
 * @param {string} wanted `auto`, a path, or a name to look up
 * @throws {SessionError} `browser_missing`
 */
async function findBrowsers(wanted, searchPath = process.env.PATH) {
    if (wanted.includes('/')) {
        if (await isExecutable(wanted)) return [wanted];
        throw new SessionError(
            'browser_missing',
            `the configured browser ${wanted} is not an executable file`,
            INSTALL_HINT,
        );
    }
    const names = wanted === 'auto' ? AUTO : [wanted];
    const found = [];
    for (const name of names) {
        const file = await lookUp(name, searchPath);
        if (file !== null) found.push(file);
    }
    if (found.length > 0) return found;
    throw new SessionError(
        'browser_missing',
        `no browser is installed (looked for ${names.join(', ')})`,
        INSTALL_HINT,
    );
}

/**
 * Remembers, across restarts, that a browser was found to be of no use here and which one to take instead.
 */
class BrowserChoice {
    #file;

    constructor(/** @type {string} */ stateDirectory) {
        this.#file = path.join(stateDirectory, '.browser');
    }

    /**
     * Return the remembered browser if it is among `browsers`, else the first of them.
     *
     * @param {string[]} browsers
     * @returns {Promise<string>}
     */
    async pick(browsers) {
        const remembered = readJson(this.#file);
        return browsers.includes(remembered?.path) ? remembered.path : browsers[0];
    }

    /**
     * Pass on to the browser after `failed` in the list, and remember that.
     *
     * @param {string[]} browsers
     * @param {string} failed
     * @param {string} reason
     * @returns {Promise<string|null>} its path; null when there is no other
     */
    async passOn(browsers, failed, reason) {
        if (browsers.length < 2) return null;
        const next = browsers[(browsers.indexOf(failed) + 1) % browsers.length];
        await replaceFile(this.#file, `${JSON.stringify({ path: next, instead_of: failed, reason })}\n`);
        return next;
    }
}

/**
 * Run a program to its end, with all that it starts: the leader of a group of its own, none of which is left.
 *
 * @param {string} file
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @param {number} limit in milliseconds
 * @param {AbortSignal} [signal] ends it
 * @returns {Promise<{error: End|null, stdout: string, stderr: string}>} `error` as that of execFile
 */
async function run(file, args, env, limit, signal) {
    const said = { stdout: '', stderr: '' };
    const child = spawn(file, args, { env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const name of /** @type {(keyof typeof said)[]} */ (Object.keys(said))) {
        child[name].setEncoding('utf8').on('data', (/** @type {string} */ text) => {
            if (said[name].length < MOST_OUTPUT_CHARACTERS) said[name] += text;
        });
    }
    let killed = false;
    const kill = () => {
        killed = true;
        killGroup(child.pid);
    };
    const timer = setTimeout(kill, limit);
    signal?.addEventListener('abort', kill);
    if (signal?.aborted) kill();
    /** @type {End|null} */
    const error = await new Promise((resolve) => {
        child.once('error', resolve);
        child.once('close', (code, by) => resolve(code === 0 ? null : { killed, signal: by, code }));
    });
    clearTimeout(timer);
    signal?.removeEventListener('abort', kill);
    for (const end = performance.now() + GONE_LIMIT_MS; performance.now() < end; await pause(20)) {
        if (child.pid === undefined || !(await groupLives(child.pid))) break;
        killGroup(child.pid);
    }
    return { error, ...said };
}

function killGroup(/** @type {number|undefined} */ group) {
    try {
        if (group !== undefined) process.kill(-group, 'SIGKILL');
    } catch (error) {
        if (codeOf(error) !== 'ESRCH') throw error;
    }
}

/**
 * Do work while a process group is stopped.
 *
 * @template Result
 * @param {number} group
 * @param {() => Promise<Result>} work
 * @returns {Promise<Result>}
 * @throws {TimeLimitError} it does not stand still
 * @throws {Error} it has gone
 */
async function whileStopped(group, work) {
    process.kill(-group, 'SIGSTOP');
    try {
        for (const end = performance.now() + STANDSTILL_LIMIT_MS; ; await pause(1)) {
            const own = (await processes()).filter((each) => each.group === group);
            if (own.length > 0 && own.every(({ state }) => state === 'T')) break;
            if (performance.now() > end) throw new TimeLimitError('the browser', STANDSTILL_LIMIT_MS);
        }
        return await work();
    } finally {
        try {
            process.kill(-group, 'SIGCONT');
        } catch {
            // It was killed meanwhile.
        }
    }
}

/**
 * Return the line that says why. A browser's last words are often followed by noise about its own crash: what
 * its other processes say when it has gone, such as "Broken pipe".
 *
 * @param {string} stderr
 */
function lastWords(stderr) {
    const lines = stderr
        .split('\n')
        .map((line) => line.trim())
        .filter(Boolean);
    const errors = lines.filter((line) => /ERROR|error|cannot|No usable|not supported|denied/.test(line));
    const fatal = lines.findLast((line) => line.includes('FATAL'));
    return (
        (fatal ?? errors.at(-1) ?? lines.at(-1) ?? '')
            .replace(/^\[[^\]]*\]\s*/, '')
            // It then recommends the package chromium-sandbox: set-uid, which our units do not allow.
            .replace(/(No usable sandbox!).*/, '$1')
            .slice(0, 300)
    );
}

/** Return how a program ended that said nothing. The message of node holds all of its arguments. */
function ending(/** @type {End|null} */ error) {
    if (error === null) return 'no reason given';
    if (error.killed) return 'no answer in time';
    if (error.signal) return `it was ended by ${error.signal}`;
    return typeof error.code === 'number' ? `it ended with exit code ${error.code}` : String(error.code);
}

/**
 * Return why a browser does not start.
 *
 * @param {string} file
 * @param {object} how
 * @param {End|null} how.error how its program ended
 * @param {string} how.stderr what it said
 */
function failure(file, { error, stderr }) {
    const words = lastWords(stderr) || ending(error);
    const hint = /root without --no-sandbox/.test(words)
        ? "run this server as an ordinary user: the browser's sandbox refuses root"
        : /sandbox|namespace/i.test(words)
          ? 'allow unprivileged user namespaces: waportctl doctor names the setting that forbids them'
          : '`sudo waportctl doctor` starts each browser as a server does, and names one that works';
    return new SessionError('browser_failed', `${file} does not start: ${words}`, hint);
}

/**
 * Start a browser as a session's and end it.
 *
 * @param {string} file
 * @param {string[]} args
 * @param {string} profile
 * @param {NodeJS.ProcessEnv} env
 * @param {AbortSignal} signal gives it up
 * @throws {SessionError} `browser_failed`: it does not start, or draws no page
 */
async function tryOut(file, args, profile, env, signal) {
    const all = [...args, `--user-data-dir=${profile}`, '--dump-dom', 'about:blank'];
    const result = await run(file, all, env, TRIAL_LIMIT_MS, signal);
    // Not by how it ended: one that has drawn its page may still crash at its end, as on a busy host.
    if (!/<html/i.test(result.stdout)) throw failure(file, result);
}

/**
 * Return the environment of a browser: without the server's own variables, so that it cannot speak to systemd
 * in the server's name, and with its own place for files outside its profile (the server's user may have no
 * home).
 *
 * @param {string} cacheDirectory
 * @returns {NodeJS.ProcessEnv}
 */
function browserEnvironment(cacheDirectory, env = process.env) {
    const inherited = Object.entries(env).filter(([name]) => !OWN_VARIABLES.test(name));
    const own = {
        XDG_CACHE_HOME: cacheDirectory,
        XDG_CONFIG_HOME: cacheDirectory,
        // On a session bus Chromium has systemd move it into a scope of its own, out of the unit whose limits
        // and whose end are meant for it. It needs no bus.
        DBUS_SESSION_BUS_ADDRESS: 'disabled:',
        DBUS_SYSTEM_BUS_ADDRESS: 'disabled:',
    };
    return { ...Object.fromEntries(inherited), ...own };
}

async function readProcess(/** @type {number} */ pid) {
    try {
        const stat = await fs.readFile(`/proc/${pid}/stat`, 'latin1');
        // The command name is in parentheses and may hold anything; the fields after it are fixed (proc(5)).
        const [state, , group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return { pid, state, group: Number(group) };
    } catch {
        return null;
    }
}

async function processes() {
    const pids = (await fs.readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
    const all = await Promise.all(pids.map(readProcess));
    return all.flatMap((each) => (each === null || each.state === 'Z' || each.state === 'X' ? [] : [each]));
}

/** Return whether a process group has living members; puppeteer makes each browser the leader of its own. */
async function groupLives(/** @type {number} */ group) {
    return (await processes()).some((each) => each.group === group);
}

/**
 * Return whether a browser's group has a visible process that draws pages, or that can start one. A killed
 * zygote takes its renderers along, and the browser does not notice for minutes.
 */
async function groupDraws(/** @type {number} */ group) {
    const own = (await processes()).filter((each) => each.group === group);
    const commands = await Promise.all(
        own.map(({ pid }) => fs.readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')),
    );
    return commands.some((command) => /--type=(zygote|renderer)/.test(command));
}

/**
 * Return the pids of all browsers that use a profile, also those that this server did not start.
 *
 * A running Chromium has rewritten its command line as one string with spaces; a wrapper script, or a
 * browser that has just started, still has separate arguments.
 *
 * @param {string} profile
 */
async function profileHolders(profile) {
    const holders = await Promise.all(
        (await processes()).map(async ({ pid }) => {
            const text = await fs.readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '');
            const command = `${text.replaceAll('\0', ' ')} `;
            const uses = command.includes(` --user-data-dir=${profile} `) && !command.includes(' --type=');
            return uses ? pid : null;
        }),
    );
    return /** @type {number[]} */ (holders.filter((pid) => pid !== null && pid !== process.pid));
}

module.exports = {
    BrowserChoice,
    browserEnvironment,
    failure,
    findBrowsers,
    groupDraws,
    groupLives,
    killGroup,
    profileHolders,
    run,
    tryOut,
    whileStopped,
};

'use strict';

/** Which browser drives the session, with which arguments, and which processes belong to it. */

const { execFile } = require('node:child_process');
const { constants } = require('node:fs');
const fs = require('node:fs/promises');
const path = require('node:path');

const { SessionError } = require('./errors');
const { readJson, replaceFile } = require('./storage');

/** Lightest first: memory of one waiting session, whole process tree: 213, 352, 352 MiB. */
const AUTO = ['chromium-headless-shell', 'chromium', 'google-chrome'];
const VERSION_LIMIT_MS = 15000;
const OWN_VARIABLES =
    /^(PORT|(NOTIFY|LISTEN|WATCHDOG|WAPORTD|FLASK|JOURNAL|INVOCATION|CREDENTIALS|SYSTEMD)_.*)$/;
const CACHE_BYTES = 64 * 1024 * 1024;

const INSTALL_HINT =
    'install one (Debian: apt install chromium-headless-shell, or chromium), or name one ' +
    '(instances.browser; WAPORTD_BROWSER when run by hand)';

const isHeadlessShell = (file) => /headless[-_]shell/.test(path.basename(file));

async function isExecutable(file) {
    try {
        await fs.access(file, constants.X_OK);
        return (await fs.stat(file)).isFile();
    } catch {
        return false;
    }
}

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

    constructor(stateDirectory) {
        this.#file = path.join(stateDirectory, '.browser');
    }

    /** Return the remembered browser if it is among `browsers`, else the first of them. */
    async pick(browsers) {
        const remembered = readJson(this.#file);
        return browsers.includes(remembered?.path) ? remembered.path : browsers[0];
    }

    /**
     * Pass on to the browser after `failed` in the list, and remember that.
     *
     * @returns {Promise<string|null>} its path; null when there is no other
     */
    async passOn(browsers, failed, reason) {
        if (browsers.length < 2) return null;
        const next = browsers[(browsers.indexOf(failed) + 1) % browsers.length];
        await replaceFile(this.#file, `${JSON.stringify({ path: next, instead_of: failed, reason })}\n`);
        return next;
    }
}

function run(file, args, env, limit) {
    return new Promise((resolve) => {
        execFile(
            file,
            args,
            { env, timeout: limit, killSignal: 'SIGKILL', maxBuffer: 1 << 20 },
            (error, stdout, stderr) => resolve({ error, stdout, stderr }),
        );
    });
}

/**
 * Return the last line that says why: a browser's last words are often followed by noise about its own crash.
 */
function lastWords(stderr) {
    const lines = stderr
        .split('\n')
        .map((line) => line.trim())
        .filter(Boolean);
    const telling = lines.filter((line) =>
        /FATAL|ERROR|error|cannot|No usable|not supported|denied/.test(line),
    );
    return (telling.at(-1) ?? lines.at(-1) ?? '').replace(/^\[[^\]]*\]\s*/, '').slice(0, 300);
}

/** Return how a program ended that said nothing. The message of node holds all of its arguments. */
function ending(error) {
    if (error === null) return 'no reason given';
    if (error.killed) return 'no answer in time';
    if (error.signal) return `it was ended by ${error.signal}`;
    return typeof error.code === 'number' ? `it ended with exit code ${error.code}` : String(error.code);
}

function failure(file, { error, stderr }) {
    const words = lastWords(stderr) || ending(error);
    const hint = /root without --no-sandbox/.test(words)
        ? "run this server as an ordinary user: the browser's sandbox refuses root"
        : /sandbox|namespace/i.test(words)
          ? 'allow unprivileged user namespaces: waportctl doctor names the setting that forbids them'
          : `run ${file} by hand as the same user to see why`;
    return new SessionError('browser_failed', `${file} does not start: ${words}`, hint);
}

const versions = new Map();

/**
 * Ask a browser for its version, once per file and change of that file.
 *
 * @returns {Promise<string>} such as `156.0.8078.79`
 * @throws {SessionError} `browser_failed`: it cannot be run
 */
async function browserVersion(file, env) {
    const key = `${file} ${(await fs.stat(file)).mtimeMs}`;
    if (!versions.has(key)) {
        versions.set(
            key,
            run(file, ['--version'], env, VERSION_LIMIT_MS).then((result) => {
                const version = result.stdout.match(/\d+(\.\d+){1,3}/)?.[0];
                if (result.error || version === undefined) throw failure(file, result);
                return version;
            }),
        );
    }
    try {
        return await versions.get(key);
    } catch (error) {
        versions.delete(key);
        throw error;
    }
}

/**
 * Start a browser that failed once more, to hear its last words, which puppeteer's pipe transport swallows.
 */
async function diagnose(file, args, profile, env) {
    const mode = isHeadlessShell(file) ? '--headless' : '--headless=new';
    const result = await run(
        file,
        [...args, mode, `--user-data-dir=${profile}`, '--dump-dom', 'about:blank'],
        env,
        VERSION_LIMIT_MS,
    );
    return failure(file, result);
}

/**
 * Return the environment of a browser: without what belongs to this server alone, lest it speaks to systemd
 * in the server's name, and with a place of its own for what it keeps outside its profile (the server's user
 * may have no home).
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

/**
 * Say who the browser is, as an ordinary Chromium of its very version does.
 *
 * WhatsApp turns away browsers that it takes for old or headless. The library's default names a Chrome 101 on
 * a Mac: too old one day, and contradicted by everything else the page can see. The flag reaches service
 * workers too, which a page-level override does not; the override reaches the client hints, which the flag
 * does not (both measured).
 */
function identity(version) {
    const major = version.split('.')[0];
    const engine = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)';
    const brands = [
        { brand: 'Chromium', version: major },
        { brand: 'Not)A;Brand', version: '24' },
    ];
    return {
        userAgent: `${engine} Chrome/${major}.0.0.0 Safari/537.36`,
        platform: 'Linux x86_64',
        userAgentMetadata: {
            brands,
            fullVersionList: brands.map((each) => (each.brand === 'Chromium' ? { ...each, version } : each)),
            platform: 'Linux',
            platformVersion: '',
            architecture: 'x86',
            model: '',
            mobile: false,
        },
    };
}

/**
 * Return the arguments of a browser, on top of puppeteer's own. Chromium's sandbox stays as it is.
 *
 * @param {{cacheDirectory: string, userAgent: string, extra: string[]}} options
 */
function browserArguments(file, { cacheDirectory, userAgent, extra }) {
    return [
        '--disable-gpu',
        // Nothing is shown to anybody, so nobody draws in three dimensions: 13 MiB.
        '--disable-software-rasterizer',
        '--lang=en-US',
        '--no-default-browser-check',
        '--disable-component-update',
        '--disable-domain-reliability',
        '--no-pings',
        `--disk-cache-dir=${cacheDirectory}`,
        `--disk-cache-size=${CACHE_BYTES}`,
        `--user-agent=${userAgent}`,
        ...(isHeadlessShell(file)
            ? ['--in-process-gpu', '--enable-features=NetworkServiceInProcess2']
            : [
                  '--disable-features=SpareRendererForSitePerProcess,OmniboxTriggerForNoStatePrefetch,' +
                      'OptimizationGuideModelDownloading,OptimizationHintsFetching',
              ]),
        ...extra,
    ];
}

async function readProcess(pid) {
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
    return all.filter((each) => each !== null && each.state !== 'Z' && each.state !== 'X');
}

/** Tell whether a process group has living members; puppeteer makes each browser the leader of its own. */
async function groupLives(group) {
    return (await processes()).some((each) => each.group === group);
}

/**
 * Tell whether a browser's group has a process that draws pages, or that can make one, as far as they can be
 * seen. A zygote that is killed takes its renderers along, and the browser does not notice for minutes.
 */
async function groupDraws(group) {
    const own = (await processes()).filter((each) => each.group === group);
    const commands = await Promise.all(
        own.map(({ pid }) => fs.readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => '')),
    );
    return commands.some((command) => /--type=(zygote|renderer)/.test(command));
}

/**
 * Return the pids of the browsers, started by whomever, that use a profile.
 *
 * A running Chromium has written its command line anew, as one string with spaces; a wrapper script, or a
 * browser that has just started, still has separate arguments.
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
    return holders.filter((pid) => pid !== null && pid !== process.pid);
}

module.exports = {
    BrowserChoice,
    browserArguments,
    browserEnvironment,
    browserVersion,
    diagnose,
    findBrowsers,
    groupDraws,
    groupLives,
    identity,
    isHeadlessShell,
    profileHolders,
};

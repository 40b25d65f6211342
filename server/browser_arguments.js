'use strict';

/** The arguments of a session's browser, and how it identifies itself. */

const path = require('node:path');

const CACHE_BYTES = 64 * 1024 * 1024;

const isHeadlessShell = (/** @type {string} */ file) => /headless[-_]shell/.test(path.basename(file));

/**
 * Make a browser a program's tool, as puppeteer does: no automatic actions, no windows, no questions, and no
 * page that is slowed down because nobody sees it.
 */
const AUTOMATED = [
    '--allow-pre-commit-input',
    '--disable-background-networking',
    '--disable-background-timer-throttling',
    '--disable-backgrounding-occluded-windows',
    '--disable-breakpad',
    '--disable-client-side-phishing-detection',
    '--disable-component-extensions-with-background-pages',
    '--disable-crash-reporter',
    '--disable-default-apps',
    '--disable-dev-shm-usage',
    '--disable-extensions',
    '--disable-hang-monitor',
    '--disable-infobars',
    '--disable-ipc-flooding-protection',
    '--disable-popup-blocking',
    '--disable-prompt-on-repost',
    '--disable-renderer-backgrounding',
    '--disable-search-engine-choice-screen',
    '--disable-sync',
    '--enable-automation',
    '--force-color-profile=srgb',
    '--hide-scrollbars',
    '--metrics-recording-only',
    '--mute-audio',
    '--no-first-run',
    '--password-store=basic',
    '--use-mock-keychain',
    // Otherwise `navigator.webdriver` reveals it.
    '--disable-blink-features=AutomationControlled',
];
const DISABLED_FEATURES = [
    'Translate',
    'AcceptCHFrame',
    'MediaRouter',
    'OptimizationHints',
    'RenderDocument',
    'PartitionAllocSchedulerLoopQuarantineTaskControlledPurge',
    'ProcessPerSiteUpToMainFrameThreshold',
    'IsolateSandboxedIframes',
];

/**
 * Say who the browser is, as an ordinary Chromium of its very version does.
 *
 * WhatsApp turns away browsers that it takes for old or headless. The library's default names a Chrome 101 on
 * a Mac: too old one day, and contradicted by everything else the page can see. The flag reaches service
 * workers too, which a page-level override does not; the override reaches the client hints, which the flag
 * does not (both measured).
 *
 * @param {string} version
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

function proxyArguments(/** @type {import('./types').ProxyChoice} */ proxy) {
    if (proxy === null) return [];
    return proxy.server === null ? ['--proxy-server=direct://'] : [`--proxy-server=${proxy.server}`];
}

/**
 * Say which way to the site a browser takes, for people: its proxy without the login, or `none`.
 *
 * @param {string[]} args all of its arguments
 * @param {NodeJS.ProcessEnv} env its environment
 */
function describeWay(args, env) {
    const last = (/** @type {string} */ name) =>
        args.findLast((arg) => arg.startsWith(`${name}=`))?.slice(name.length + 1);
    if (args.includes('--no-proxy-server')) return 'none';
    const found = last('--proxy-pac-url') ?? last('--proxy-server') ?? environmentProxy(env);
    if (!found || found === 'direct://') return 'none';
    return found.replace(/^([a-z\d+.-]+:\/\/)?.*@/i, '$1');
}

/** The proxy that Chromium takes from its environment if no argument names one. */
function environmentProxy(/** @type {NodeJS.ProcessEnv} */ env) {
    const names = ['https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'];
    return names.map((name) => env[name]).find(Boolean);
}

/** Join what is said of features into one flag of each kind: of several Chromium takes the last. */
function joinFeatures(/** @type {string[]} */ args) {
    const kinds = ['--enable-features', '--disable-features'];
    const isOne = (/** @type {string} */ arg) => kinds.some((kind) => arg.startsWith(`${kind}=`));
    const joined = kinds.map((kind) => {
        const values = args.filter((arg) => arg.startsWith(`${kind}=`));
        return `${kind}=${values.map((arg) => arg.slice(kind.length + 1)).join(',')}`;
    });
    return [...joined.filter((arg) => !arg.endsWith('=')), ...args.filter((arg) => !isOne(arg))];
}

/**
 * Return the arguments of a browser, but for its profile. Chromium's sandbox stays as it is.
 *
 * @param {string} file
 * @param {object} options
 * @param {string} options.cacheDirectory
 * @param {string} options.userAgent
 * @param {string[]} options.extra
 * @param {import('./types').ProxyChoice} [options.proxy] as config.js reads it
 */
function browserArguments(file, { cacheDirectory, userAgent, extra, proxy = null }) {
    return joinFeatures([
        ...AUTOMATED,
        `--disable-features=${DISABLED_FEATURES.join(',')}`,
        isHeadlessShell(file) ? '--headless' : '--headless=new',
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
            ? [
                  '--in-process-gpu',
                  '--enable-features=NetworkServiceInProcess2',
                  // It would start what runs outside the sandbox, of which nothing is left: 8 MiB.
                  '--no-unsandboxed-zygote',
              ]
            : [
                  '--disable-features=SpareRendererForSitePerProcess,OmniboxTriggerForNoStatePrefetch,' +
                      'OptimizationGuideModelDownloading,OptimizationHintsFetching',
              ]),
        ...extra,
        // The last one wins. The login is not for a command line, which everybody can read.
        ...proxyArguments(proxy),
    ]);
}

module.exports = { browserArguments, describeWay, identity, isHeadlessShell };

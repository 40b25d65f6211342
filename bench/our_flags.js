'use strict';

/** Print how the server of one user starts a browser: `node our_flags.js BROWSER`, as puppeteer's options. */

const { browserArguments, identity, isHeadlessShell } = require('../server/browser_arguments');
const { browserVersion } = require('../server/browser_version');

(async () => {
    const executablePath = process.argv[2];
    const { userAgent } = identity(await browserVersion(executablePath, process.env));
    const args = browserArguments(executablePath, { cacheDirectory: '/CACHE', userAgent, extra: [] });
    const headless = isHeadlessShell(executablePath) ? 'shell' : true;
    const options = { executablePath, headless, pipe: true, defaultViewport: null, args };
    process.stdout.write(JSON.stringify(options));
})();

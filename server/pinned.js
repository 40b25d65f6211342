'use strict';

/**
 * A pinned page: a copy of WhatsApp Web's start page from an earlier day, in place of the site's. First aid
 * for the hours after WhatsApp changed its page. The copy's files still come from the site, and WhatsApp
 * decides how long it keeps the files of an old page and lets it connect.
 */

const fs = require('node:fs/promises');

const { SessionError, messageOf } = require('./errors');

const SITE = 'https://web.whatsapp.com';
const MAX_BYTES = 16 * 1024 * 1024;

async function read(/** @type {string} */ file) {
    try {
        const handle = await fs.open(file);
        try {
            const { size } = await handle.stat();
            if (size > MAX_BYTES) throw new Error('it is larger than 16 MiB');
            return await handle.readFile();
        } finally {
            await handle.close();
        }
    } catch (error) {
        throw new SessionError(
            'pinned_page_missing',
            `the pinned page cannot be read: ${messageOf(error)}`,
            'put it where every user of this host can read it, or take the setting back ' +
                '(instances.web_version; WAPORTD_WEB_VERSION when run by hand)',
        );
    }
}

/**
 * Have a page that is not loaded yet take the main document of web.whatsapp.com from a file. Nothing else is
 * replaced: not what frames load, not what the page itself asks for.
 *
 * The library's own way (webVersionCache) stops every request of the page, and lets the site's page through
 * whenever the address has parameters, as it has after a logout.
 *
 * @param {import('puppeteer').Page} page
 * @param {string} file
 * @throws {SessionError} `pinned_page_missing`
 */
async function pinPage(page, file) {
    const body = (await read(file)).toString('base64');
    const devtools = await page.createCDPSession();
    const main = (await devtools.send('Page.getFrameTree')).frameTree.frame.id;
    devtools.on('Fetch.requestPaused', ({ requestId, frameId }) => {
        const answer =
            frameId === main
                ? devtools.send('Fetch.fulfillRequest', {
                      requestId,
                      responseCode: 200,
                      responseHeaders: [{ name: 'Content-Type', value: 'text/html; charset=utf-8' }],
                      body,
                  })
                : devtools.send('Fetch.continueRequest', { requestId });
        // One that was given up meanwhile.
        answer.catch(() => {});
    });
    await devtools.send('Fetch.enable', {
        patterns: [{ urlPattern: `${SITE}/*`, resourceType: 'Document', requestStage: 'Request' }],
    });
    // If the profile has the site's service worker, that would answer from its cache.
    await devtools.send('Network.enable');
    await devtools.send('Network.setBypassServiceWorker', { bypass: true });
}

module.exports = { pinPage };

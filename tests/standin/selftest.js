/**
 * Proves the stand-in against the unmodified whatsapp-web.js in a real browser: `node --test selftest.js`,
 * on the page of STANDIN_SHAPE with the generated names of STANDIN_SEED. Where the library fails on today's
 * page, a test says how.
 *
 * Needs chromium-headless-shell or chromium (or STANDIN_BROWSER=/path). Started as root, it runs the browser,
 * which refuses its sandbox to root, under an unprivileged uid.
 */
'use strict';

for (const part of ['linking', 'page', 'passkey', 'messages', 'faults', 'weight'])
    require(`./selftest/${part}`);

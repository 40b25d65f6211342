'use strict';

/** Logs the browser in to its proxy. */

/**
 * Answer the proxy of a page that is not loaded yet with a name and a password, once for each request: a
 * proxy that asks again does not take them, and the page then gets its answer, status 407.
 *
 * Chromium asks only about requests that are stopped here: those for documents are enough, since it remembers
 * the login for all that it loads later. The library's own way (proxyAuthentication) stops every request, and
 * would reveal the password to any site that asks for one; here only the proxy is answered.
 *
 * @param {import('puppeteer').CDPSession} devtools of the page
 * @param {import('./types').ProxyChoice} proxy
 * @param {boolean} isPinned documents do not come from the network: others have to be stopped
 */
async function logInToProxy(devtools, proxy, isPinned) {
    if (!proxy?.username && !proxy?.password) return;
    const { username, password } = proxy;
    const asked = new Set();
    // Fails for a request that was given up meanwhile.
    /** @param {Parameters<typeof devtools.send>[0]} command @param {any} values */
    const send = (command, values) => devtools.send(command, values).catch(() => {});
    devtools.on('Fetch.requestPaused', ({ requestId }) => send('Fetch.continueRequest', { requestId }));
    devtools.on('Fetch.authRequired', ({ requestId, authChallenge }) => {
        const mayAnswer = authChallenge.source === 'Proxy' && !asked.has(requestId);
        asked.add(requestId);
        const authChallengeResponse = mayAnswer
            ? { response: 'ProvideCredentials', username, password }
            : { response: 'CancelAuth' };
        send('Fetch.continueWithAuth', { requestId, authChallengeResponse });
    });
    const documents = { urlPattern: '*', resourceType: /** @type {const} */ ('Document') };
    const patterns = isPinned ? [{ urlPattern: '*' }] : [documents];
    await devtools.send('Fetch.enable', { patterns, handleAuthRequests: true });
    // Requests of the site's service worker cannot be stopped: before the login they would fail.
    await devtools.send('Network.enable');
    await devtools.send('Network.setBypassServiceWorker', { bypass: true });
}

module.exports = { logInToProxy };

/** Firefox, when its button is pressed: asks the page for what is to be signed, and brings it the answer. */
'use strict';

(() => {
    /** Longer than a connect page takes to answer. */
    const PATIENCE_MS = 1000;
    const listening = new AbortController();

    const say = (/** @type {object} */ message) =>
        window.postMessage({ source: 'waportd-passkey', ...message }, location.origin);

    function onMessage(/** @type {MessageEvent} */ { source, data }) {
        if (source !== window || data?.source !== 'waportd-connect' || data.type !== 'passkey') return;
        listening.abort();
        const port = chrome.runtime.connect({ name: 'waportd-passkey' });
        const end = (/** @type {object} */ answer) => say({ type: 'answer', ...answer });
        port.onMessage.addListener((answer) => {
            end(answer);
            port.disconnect();
        });
        port.onDisconnect.addListener(() => end({ ok: false, error: 'closed' }));
        port.postMessage({ type: 'sign', options: data.options });
    }

    addEventListener('message', onMessage, { signal: listening.signal });
    setTimeout(() => listening.abort(), PATIENCE_MS);
    say({ type: 'ask' });
})();

/* In place of Chromium's `chrome.runtime`, as a page sees it with an extension. */
(() => {
    const heard = [];
    const listeners = { message: [], disconnect: [] };
    const tell = (kind, what) => listeners[kind].splice(0).forEach((one) => one(what));
    const runtime = {
        sendMessage: (id, message, done) => {
            heard.push({ id, ...message });
            const isPing = message.type === 'waha-passkey-ping';
            if (id !== window.extension.id) setTimeout(done);
            else if (isPing) setTimeout(() => done({ ok: true }));
            else listeners.message.push(done);
        },
        connect: (id, { name }) => ({
            onMessage: { addListener: (one) => listeners.message.push(one) },
            onDisconnect: { addListener: (one) => listeners.disconnect.push(one) },
            disconnect: () => heard.push({ id, type: 'disconnect' }),
            postMessage: (message) => heard.push({ id, name, ...message }),
        }),
    };
    window.extension = {
        id: 'own',
        heard,
        answer: (what) => tell('message', what),
        close: () => tell('disconnect'),
        install: () => Object.assign((window.chrome ??= {}), { runtime }),
        remove: () => delete window.chrome.runtime,
    };
})();

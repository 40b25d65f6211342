/** On the tab that background.js opens: stops WhatsApp's own page, and asks the person. */
'use strict';

/** A worker that hears nothing for 30 s is ended. The asking page is in the background: its timers rest. */
const BEAT_MS = 20_000;
/** How long the card is shown before a click counts: one that was meant for something else lands sooner. */
const ARMED_AFTER_MS = 700;

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Node} parent
 * @param {Name} name
 * @param {string} text
 */
function make(parent, name, text, style = '') {
    const made = parent.appendChild(document.createElement(name));
    made.textContent = text;
    made.style.cssText = style;
    return made;
}

function draw(/** @type {string} */ origin) {
    const say = (/** @type {string} */ key) => chrome.i18n.getMessage(key);
    const host = document.documentElement.appendChild(document.createElement('div'));
    host.style.cssText =
        'all: initial; position: fixed; inset: 0; overflow: auto; color-scheme: light dark;' +
        'background: Canvas; color: CanvasText; font: 16px/1.5 system-ui, sans-serif;';
    host.lang = chrome.i18n.getUILanguage();
    make(document.documentElement, 'title', say('name'));
    const root = host.attachShadow({ mode: 'closed' });
    const card = make(root, 'main', '', 'max-width: 34em; margin: 10vh auto; padding: 1em;');
    make(card, 'h1', say('title'), 'font-size: 1.5em; line-height: 1.25;');
    make(card, 'p', say('asks'));
    make(card, 'p', origin, 'font-weight: bold; overflow-wrap: anywhere;');
    make(card, 'p', say('meaning'));
    const status = make(card, 'p', '');
    status.setAttribute('role', 'status');
    // The asking page may be gone, or may have waited for too long.
    const send = async (/** @type {string} */ type) => {
        if (!(await chrome.runtime.sendMessage({ type }))) status.textContent = say('ended');
    };
    const buttons = ['use', 'cancel'].map((type) => {
        const look = 'font: inherit; padding: 0.6em 1.2em; margin: 0 0.8em 0 0;';
        const button = make(card, 'button', say(type), look);
        button.disabled = true;
        button.addEventListener('click', ({ isTrusted }) => {
            // A page can make clicks of its own, which are not trusted.
            if (!isTrusted) return;
            for (const one of buttons) one.disabled = true;
            status.textContent = type === 'use' ? say('waiting') : '';
            send(type);
        });
        return button;
    });
    setInterval(send, BEAT_MS, 'beat');
    setTimeout(
        () =>
            buttons.forEach((button) => {
                button.disabled = false;
            }),
        ARMED_AFTER_MS,
    );
}

if (location.hash === '#linking-helper') {
    // WhatsApp's page must not start: no second session, and nothing there that could hide or press the card.
    window.stop();
    chrome.runtime.sendMessage({ type: 'card' }).then((request) => {
        if (request) draw(request.origin);
        else location.replace('/');
    });
}

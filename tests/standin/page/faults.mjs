/** Faults and habits of pages, on demand. */

/**
 * Keeps the page from answering, for ever when no end is given. By a request that blocks its thread: a loop
 * would take a processor from all others, too.
 */
export function hang({ ms = '' }) {
    const request = new XMLHttpRequest();
    request.open('GET', `/hang?ms=${ms}`, false);
    request.send();
}

/**
 * Ends the renderer process: layout of a tree this deep overflows its native stack. 3,000 levels are enough
 * in Chromium 156; far more only make it slow (attaching them takes quadratic time).
 */
export function crash() {
    let parent = document.body;
    for (let depth = 0; depth < 8000; depth += 1) {
        parent = parent.appendChild(document.createElement('div'));
    }
    return document.body.offsetHeight;
}

/** Opens frames in the page, and loads each again and again. */
export function frames({ count, every, times }) {
    for (let index = 0; index < count; index += 1) {
        const frame = document.createElement('iframe');
        document.body.append(frame);
        let loads = 0;
        const load = () => {
            loads += 1;
            frame.src = `/frame?${index}-${loads}`;
            if (loads >= times) clearInterval(timer);
        };
        const timer = setInterval(load, every);
        load();
    }
}

/** Changes the address within the document, and back. */
export function pushState({ times }) {
    for (let index = 0; index < times; index += 1) history.pushState(null, '', `/#${index}`);
    history.replaceState(null, '', '/');
}

export function reloadAfter({ ms }) {
    setTimeout(() => location.reload(), ms);
}

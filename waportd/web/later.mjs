/** Parts of the dashboard that its list does not need: loaded after it, or when somebody wants one. */

import { notify } from './saying.mjs';
import { dashboardText as text } from './texts.mjs';

/** @type {(() => Promise<unknown>)[]} */
const parts = [];

/**
 * @template Made
 * @param {() => Promise<Made>} load
 * @returns {(use: (made: Made) => void) => Promise<void>} does something with it as soon as it is there
 */
export function later(load) {
    /** @type {Promise<Made>|null} */
    let loading = null;
    const get = () => {
        loading ??= load().catch((error) => {
            loading = null; // the next one tries again
            throw error;
        });
        return loading;
    };
    parts.push(get);
    return async (use) => {
        let made;
        try {
            made = await get();
        } catch {
            notify(text.unloaded);
            return;
        }
        use(made);
    };
}

/** Load them, once what is shown first is there. What fails is tried again when it is wanted. */
export function loadTheRest() {
    const rest = parts.splice(0);
    if (rest.length > 0) setTimeout(() => Promise.allSettled(rest.map((get) => get())));
}

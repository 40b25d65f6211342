/** What can be done to a user's server: by which call, and after which question. */

import { asProblem, call, userPath } from './api.mjs';
import { confirmed } from './confirm.mjs';
import { dashboardText as text } from './texts.mjs';

/** What loses something, and looks like that. */
export const DANGERS = ['logout', 'delete'];

/** Do it, without a question. */
export const act = (
    /** @type {string} */ action,
    /** @type {string} */ user,
    /** @type {AbortSignal|undefined} */ signal = undefined,
) =>
    action === 'delete'
        ? call('DELETE', userPath(user), { signal })
        : call('POST', userPath(user, action), {
              query: action === 'start' ? { wait: 'none' } : {},
              signal,
          });

/** What is asked before it is done to one user; null where that needs no question. */
function questionOf(
    /** @type {string} */ action,
    /** @type {import('./types').User} */ { user, port, linked },
) {
    const words = /** @type {Record<string, import('./types').ActionWords>} */ (text.actions)[action];
    if (words.ask === undefined) return null;
    const about = (typeof words.text === 'function' ? words.text(port) : words.text) ?? '';
    return {
        title: words.ask(user),
        about: linked && words.linked ? `${about} ${words.linked}` : about,
        label: words.label,
        danger: DANGERS.includes(action),
    };
}

/**
 * Do it to one user, if the person is sure.
 *
 * @param {string} action
 * @param {import('./types').User} user
 * @param {(now: boolean) => void} setBusy called around it
 * @returns {Promise<import('./api.mjs').Problem|null>} null where it was done, or not wanted after all
 */
export async function actIfSure(action, user, setBusy) {
    const question = questionOf(action, user);
    if (question !== null && !(await confirmed(question))) return null;
    setBusy(true);
    try {
        await act(action, user.user);
        return null;
    } catch (error) {
        return asProblem(error);
    } finally {
        setBusy(false);
    }
}
